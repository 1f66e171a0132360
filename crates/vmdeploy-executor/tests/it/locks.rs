//! The project's lock on the cluster: renewed, taken over after it expires, and lost.

use crate::fixture::{Fixture, guest, plan, plan_by_api, plan_of, step};
use pve_ssh::command::{Command, files};
use std::path::Path;
use std::time::Duration;
use vmdeploy_executor::{
    Entry, Event, EventKind, ResumeMode, RunError, RunOptions, RunResult, StepState, cancellation, execute,
};
use vmdeploy_planner::plan::{Action, CheckedPlan, Condition, Plan, Step, Transport};

const LOCK: &str = "/etc/pve/priv/lock/vmdeploy-test";

/// Returns options with which the lock is touched all the time.
fn eager(fixture: &Fixture) -> RunOptions {
    RunOptions { keep_lock_every: Duration::from_millis(20), allow_commands: true, ..fixture.options() }
}

/// Makes the lock as another run would have, touched so many seconds ago.
async fn foreign_lock(fixture: &Fixture, age_s: i64) {
    fixture.on_node(&files::mkdir(LOCK)).await;
    age(fixture, age_s).await;
}

async fn age(fixture: &Fixture, age_s: i64) {
    let now: i64 = fixture.on_node(&Command::new("date").arg("+%s")).await.trim().parse().unwrap();
    fixture.on_node(&Command::new("touch").arg("-d").arg(format!("@{}", now - age_s)).arg(LOCK)).await;
}

fn is_there(fixture: &Fixture) -> bool {
    fixture.lab.world().with(|world| world.cluster_files.exists(LOCK))
}

/// A plan that makes a VM, waits for a file on this machine, and then starts the VM.
fn plan_that_waits_for(file: &Path) -> Plan {
    let create = step("vm1", "create", crate::fixture::create_action("r1", &guest(1)), Transport::Api, &[]);
    let argv = ["test", "-e", file.to_str().unwrap()].map(str::to_owned).to_vec();
    let wait = Action::Await { guest: guest(1), condition: Condition::Command { argv } };
    let wait = Step { deadline_s: 120, ..step("vm1", "await", wait, Transport::Local, &["create"]) };
    let start = step("vm1", "start", Action::StartVm { guest: guest(1) }, Transport::Api, &["await"]);
    plan_of("r1", &[guest(1)], vec![create, wait, start])
}

/// Carries out the plan above; `meddle` is done once the run waits, and the file is made when `is_time` says so.
async fn run_with<F: Future<Output = ()>>(
    fixture: &Fixture,
    meddle: impl FnOnce() -> F,
    is_time: impl Fn(&Event) -> bool,
) -> (Result<vmdeploy_executor::RunReport, RunError>, Vec<Event>) {
    let file = fixture.folder.path().join("go-on");
    let (_switch, stop) = cancellation();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let options = eager(fixture);
    let plan = CheckedPlan::new(plan_that_waits_for(&file)).unwrap();
    let run = execute(plan, &fixture.connections, &options, sender, stop);
    let listen = async {
        let (mut events, mut meddle) = (Vec::new(), Some(meddle));
        while let Some(event) = receiver.recv().await {
            let waits = matches!(&event.event, EventKind::StepStarted { step, .. } if step.0 == "vm1/await");
            if let (true, Some(meddle)) = (waits, meddle.take_if(|_| waits)) {
                meddle().await;
            }
            if is_time(&event) {
                std::fs::write(&file, "").unwrap();
            }
            events.push(event);
        }
        events
    };
    futures::join!(run, listen)
}

fn is_note(event: &Event, text: &str) -> bool {
    matches!(&event.event, EventKind::Note { text: said, .. } if said.contains(text))
}

fn kept(fixture: &Fixture) -> Vec<i64> {
    let records = fixture.runs().open("r1").unwrap().records;
    let kept = |entry: &Entry| match entry {
        Entry::Locked { modified_s } => Some(*modified_s),
        _ => None,
    };
    records.iter().filter_map(|record| kept(&record.entry)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_is_kept_while_the_run_goes_on_and_freed_at_its_end() {
    let fixture = Fixture::start().await;
    let folder = fixture.folder.path().to_owned();
    let meddle = || async {
        // Its journal says each time that it was touched; after three, the run may go on.
        fixture.until(|_| kept(&fixture).len() >= 4).await;
        assert!(is_there(&fixture));
        std::fs::write(folder.join("go-on"), "").unwrap();
    };
    let (report, _) = run_with(&fixture, meddle, |_| false).await;
    assert_eq!(report.unwrap().result, RunResult::Done);
    let times = kept(&fixture);
    assert!(times.len() >= 4 && times.is_sorted(), "{times:?}");
    assert!(!is_there(&fixture), "the lock is freed at the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_lock_is_taken_over_and_a_live_one_is_respected() {
    let fixture = Fixture::start().await;
    foreign_lock(&fixture, 110).await;
    let (refused, _) = fixture.try_run(plan("r0", 1), &fixture.options()).await;
    let Err(RunError::ClusterLock { source, .. }) = refused else { panic!("{refused:?}") };
    assert!(source.message.contains("it was last renewed 11"), "{source:?}");
    assert!(source.hint.unwrap().contains("wait for it to end"));
    assert!(fixture.guests().is_empty() && is_there(&fixture));
    age(&fixture, 130).await;
    let (report, _) = fixture.run(plan("r1", 1)).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    assert!(!is_there(&fixture));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_lost_its_lock_begins_nothing_new_and_can_be_resumed() {
    let fixture = Fixture::start().await;
    // Another run keeps it: it is touched at times that this run knows nothing of. It goes on until that is seen, for a
    // single touch could come right between this run's look and its own touch.
    let world = fixture.lab.world();
    let others = std::sync::Mutex::new(None);
    let meddle = || async {
        let other = tokio::spawn(async move {
            loop {
                world.with(|world| {
                    let time = world.now_seconds() - 7;
                    let _ = world.cluster_files.set_mtime(LOCK, time);
                });
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        *others.lock().unwrap() = Some(other);
    };
    let (report, events) = run_with(&fixture, meddle, |event| is_note(event, "another run")).await;
    others.into_inner().unwrap().expect("the run came to its wait").abort();
    let report = report.unwrap();
    assert_eq!(report.result, RunResult::Unfinished, "{:#?}", report.failures().collect::<Vec<_>>());
    assert_eq!(report.exit_code(), 8);
    assert!(report.stopped_because.as_deref().is_some_and(|why| why.contains("another run")), "{report:?}");
    assert!(events.iter().any(|event| matches!(event.event, EventKind::Cancelling { now: false })));
    let state = |name: &str| report.steps.iter().find(|step| step.step.0 == name).unwrap().state.clone();
    assert_eq!(state("vm1/await"), StepState::Succeeded, "what was on the wire is finished");
    assert_eq!(state("vm1/start"), StepState::NotStarted, "nothing new is begun");
    assert!(is_there(&fixture), "the other run's lock is left alone");

    let (refused, _) = fixture.resumed("r1", ResumeMode::Finish, &eager(&fixture)).await;
    assert!(matches!(refused, Err(RunError::ClusterLock { .. })), "{refused:?}");
    fixture.on_node(&files::rmdir(LOCK)).await;
    let (report, _) = fixture.resumed("r1", ResumeMode::Finish, &eager(&fixture)).await;
    let report = report.unwrap();
    assert_eq!(report.result, RunResult::Done);
    assert_eq!(report.stopped_because, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_was_removed_and_is_free_is_acquired_again() {
    let fixture = Fixture::start().await;
    let folder = fixture.folder.path().to_owned();
    let meddle = || async {
        // Between two looks of the keeper, it finds the lock gone and makes it again.
        fixture.on_node(&files::rmdir(LOCK)).await;
        fixture.until(|world| world.cluster_files.exists(LOCK)).await;
        std::fs::write(folder.join("go-on"), "").unwrap();
    };
    let (report, events) = run_with(&fixture, meddle, |_| false).await;
    assert_eq!(report.unwrap().result, RunResult::Done, "{events:#?}");
    assert!(!is_there(&fixture));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_cannot_be_kept_stops_the_run_before_another_may_take_it() {
    let fixture = Fixture::start().await;
    let meddle = || async {
        let faults =
            "[{when: {command: 'touch *'}, do: {refuse: {reason: 'touch: Read-only file system', exit: 1}}}]";
        fixture.add_faults(faults);
    };
    let (report, events) =
        run_with(&fixture, meddle, |event| is_note(event, "another run may take it")).await;
    let report = report.unwrap();
    assert_eq!(report.result, RunResult::Unfinished);
    assert!(events.iter().any(|event| is_note(event, "could not be renewed")), "it is said at once");
    fixture.lab.world().with(|world| world.faults.clear());
    fixture.on_node(&files::rmdir(LOCK)).await;
    let (report, _) = fixture.resumed("r1", ResumeMode::Finish, &eager(&fixture)).await;
    assert_eq!(report.unwrap().result, RunResult::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_transport_takes_no_lock() {
    let fixture = Fixture::start().await;
    foreign_lock(&fixture, 1).await;
    let (report, _) = fixture.run(plan_by_api("r1", 1)).await;
    assert_eq!(report.result, RunResult::Done, "digests and marks are its guard");
}
