//! Waiting for a guest's TCP port, or for a command of the user.

use crate::fixture::{Fixture, guest, plan, plan_of, step};
use std::net::{IpAddr, TcpListener};
use vmdeploy_executor::{
    Entry, Event, EventKind, FailureKind, Outcome, ResumeMode, RunOptions, RunReport, RunResult, TookEffect,
    cancellation, resume,
};
use vmdeploy_planner::plan::{Action, Condition, OnFailure, Plan, Step, StepId, Transport, Verb};

fn change(run: &str, steps: Vec<Step>) -> Plan {
    let mut plan = plan_of(run, &[guest(1)], steps);
    plan.changes[0].verb = Verb::Update;
    plan.changes[0].on_failure = OnFailure::Keep;
    plan
}

fn done(report: &RunReport) {
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
}

fn wait_for_port(port: u16, deadline_s: u64) -> Step {
    let wait = Action::Await { guest: guest(1), condition: Condition::Tcp { port } };
    Step { deadline_s, ..step("vm1", "await-port", wait, Transport::Local, &[]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_the_users_is_waited_for_with_the_address_at_hand() {
    let fixture = Fixture::start().await;
    let file = fixture.folder.path().join("seen");
    let script = format!("printf '%s %s' \"$VMDEPLOY_VM\" \"$VMDEPLOY_IP\" > '{}'", file.display());
    let argv = |script: &str| ["sh", "-c", script].map(str::to_owned).to_vec();
    let wait = |argv: Vec<String>, deadline_s: u64| {
        let wait = Action::Await { guest: guest(1), condition: Condition::Command { argv } };
        Step { deadline_s, ..step("vm1", "await", wait, Transport::Local, &[]) }
    };
    let mut plan = plan("r1", 1);
    let mut own = wait(argv(&script), 60);
    own.after.insert(vmdeploy_planner::plan::StepId("vm1/await-address".to_owned()));
    plan.steps.push(own);
    let options = RunOptions { allow_commands: true, ..fixture.options() };
    let report = fixture.try_run(plan, &options).await.0.unwrap();
    done(&report);
    let address = report.vms[0].addresses[0];
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("vm1 {address}"));
    let waited = report.steps.last().unwrap();
    assert!(waited.spans.iter().all(|span| span.end.is_some()), "the report says how long it took");

    let second = fixture.folder.path().join("second");
    let script = format!("test -e '{0}' || {{ touch '{0}'; exit 3; }}", second.display());
    let (report, events) = fixture.try_run(change("r2", vec![wait(argv(&script), 120)]), &options).await;
    done(&report.unwrap());
    let is_said = |event: &Event| match &event.event {
        EventKind::StepProgress { text, .. } => text.contains("exit status: 3"),
        _ => false,
    };
    assert!(events.iter().any(is_said), "a wait tells what it saw");
    let none = vec!["/nonexistent/program".to_owned()];
    let report = fixture.try_run(change("r3", vec![wait(none, 30)]), &options).await.0.unwrap();
    let failure = report.failures().next().unwrap();
    assert!(failure.message.contains("could not be run"), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_does_not_answer_ends_the_wait_at_its_deadline() {
    let fixture = Fixture::start().await;
    done(&fixture.run(plan("r1", 1)).await.0);
    let (report, _) = fixture.run(change("r2", vec![wait_for_port(9, 1)])).await;
    let failure = report.failures().next().unwrap();
    assert_eq!((failure.kind, failure.took_effect), (FailureKind::NotReady, TookEffect::No));
    assert!(failure.message.starts_with("wait for TCP port 9 of VM 201 took longer than 1 s"), "{failure:?}");
    assert!(failure.message.contains("192.0.2."), "it says where it asked: {failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_a_run_waits_for_no_guest() {
    for (transport, run) in [(Transport::Ssh, "r1"), (Transport::Api, "r2")] {
        let fixture = Fixture::with_faults("[{when: {vmid: 201}, do: no-agent}]").await;
        let mut plan = plan(run, 1);
        for step in &mut plan.steps {
            if matches!(step.action, Action::Await { .. }) {
                // Longer than a test may take.
                (step.transport, step.deadline_s) = (transport, 100_000);
            }
        }
        let mut asked = false;
        let conducted = fixture.conducted(plan, |event, switch| {
            if let EventKind::StepProgress { text, .. } = &event.event
                && text.contains("agent does not answer")
            {
                asked = true;
                switch.stop_when_idle();
            }
        });
        let (report, _) = tokio::time::timeout(crate::fixture::PATIENCE, conducted).await.expect("it ends");
        assert!(asked);
        assert_eq!(report.result, RunResult::Unfinished);
        let failure = report.failures().next().unwrap();
        assert_eq!((failure.kind, failure.took_effect), (FailureKind::Interrupted, TookEffect::No));
        // The guest is kept for `resume`.
        fixture.lab.world().with(|world| assert!(world.guests.values().any(|guest| guest.is_running())));
    }
}

/// Kills a run that has found the guest's address and waits for a port of it, and lets the journal tell another address.
///
/// The addresses of the lab's guests do not answer. This one does, by the test.
async fn waits_for_a_port_at(fixture: &Fixture, port: u16, address: IpAddr) {
    let mut plan = plan("r1", 1);
    let mut wait = wait_for_port(port, 120);
    wait.after.insert(StepId("vm1/await-address".to_owned()));
    plan.steps.push(wait);
    let runs = fixture.runs();
    let journal = runs.path().join("r1/journal.jsonl");
    let found = || {
        let records = runs.open("r1").map(|stored| stored.records).unwrap_or_default();
        let addresses = |entry: &Entry| match entry {
            Entry::Succeeded { outcome: Outcome::Addresses { addresses, .. }, .. } => Some(addresses[0]),
            _ => None,
        };
        records.iter().find_map(|record| addresses(&record.entry))
    };
    fixture.killed_when(plan, |_| found().is_some()).await;
    let text = std::fs::read_to_string(&journal).unwrap();
    let found = found().unwrap().to_string();
    assert!(text.contains(&found));
    std::fs::write(&journal, text.replace(&found, &address.to_string())).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_waited_for_until_it_answers() {
    let fixture = Fixture::start().await;
    let address: IpAddr = "127.4.5.6".parse().unwrap();
    let port = TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port();
    waits_for_a_port_at(&fixture, port, address).await;

    let (_switch, stop) = cancellation();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let (options, stored) = (fixture.options(), fixture.runs().open("r1").unwrap());
    let run = resume(stored, ResumeMode::Finish, &fixture.connections, &options, sender, stop);
    // The port is opened when the wait has said that it is closed.
    let open = async {
        let mut listener = None;
        while let Some(event) = receiver.recv().await {
            let EventKind::StepProgress { text, .. } = &event.event else { continue };
            if listener.is_none() && text.contains("Connection refused") {
                assert!(text.starts_with(&format!("{address}:{port}: ")), "{text}");
                listener = Some(TcpListener::bind((address, port)).unwrap());
            }
        }
        listener.expect("the wait says what it sees")
    };
    let (report, listener) = futures::join!(run, open);
    let report = report.unwrap();
    done(&report);
    assert_eq!(report.vms[0].addresses, [address]);
    listener.set_nonblocking(true).unwrap();
    listener.accept().expect("the port was asked");
    let waited = report.steps.last().unwrap();
    assert_eq!(waited.spans.len(), 2, "once in each process");
    assert!(waited.spans.iter().all(|span| span.end.is_some()), "the report says how long it took");
}
