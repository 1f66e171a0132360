//! Requests without an answer: their late effects, and the messages about them.

use crate::fixture::{
    Fixture, Transports, create_action, guest, marker, plan, plan_by_api, plan_of, quick_world, step,
};
use pve_ssh::command::Command;
use std::time::Duration;
use vmdeploy_executor::{
    Event, EventKind, Failure, FailureKind, Found, ResumeMode, RunOptions, RunReport, RunResult, StepState,
    TookEffect, execute,
};
use vmdeploy_planner::plan::{
    Action, CheckedPlan, OnFailure, Plan, Revert, Transport, TransportChoice, Verb,
};

/// The creation reaches the server and takes its time there.
const SLOW_CREATE: &str = "[{when: {method: POST, path: '/nodes/*/qemu', times: 1}, do: {slow: {ms: 1500}}}]";

fn failure_of(report: &RunReport, step: &str) -> Failure {
    let found = report.steps.iter().find(|report| report.step.0 == step).unwrap();
    found.failure.clone().unwrap_or_else(|| panic!("{step} did not fail: {:?}", found.state))
}

fn notes(events: &[Event]) -> Vec<String> {
    let text = |event: &Event| match &event.event {
        EventKind::Note { text, .. } => Some(text.clone()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

fn kept(mut plan: Plan) -> Plan {
    plan.changes.iter_mut().for_each(|change| change.on_failure = OnFailure::Keep);
    plan
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_appears_after_the_kill_is_rolled_back() {
    for plan in [plan("r1", 1), plan_by_api("r1", 1)] {
        let fixture = Fixture::with_faults(SLOW_CREATE).await;
        fixture.killed_when(plan, |world| world.faults.struck() == 1).await;
        assert!(fixture.guests().is_empty(), "it is on its way");
        let options = RunOptions { settle: crate::fixture::PATIENCE, ..fixture.options() };
        let (report, events) = fixture.resumed("r1", ResumeMode::Rollback, &options).await;
        let report = report.unwrap();
        assert_eq!(report.result, RunResult::RolledBack, "{:#?}", report.failures().collect::<Vec<_>>());
        assert_eq!(fixture.tasks("qmcreate"), 1, "it was waited for");
        assert_eq!(fixture.tasks("qmdestroy"), 1);
        assert!(fixture.guests().is_empty());
        assert_eq!(fixture.volumes(), 0);
        let said = notes(&events);
        assert!(said.iter().any(|text| text.contains(": an earlier request had no answer")), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_appears_after_the_kill_is_used_by_resume() {
    let fixture = Fixture::with_faults(SLOW_CREATE).await;
    fixture.killed_when(plan_by_api("r1", 1), |world| world.faults.struck() == 1).await;
    let report = fixture.resume("r1", ResumeMode::Finish).await.unwrap();
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    // Whichever of the two requests was first, the other one found the number taken.
    fixture.until(|world| world.faults.struck() == 1 && world.next_due().is_none()).await;
    assert_eq!(fixture.guests().len(), 1);
    assert_eq!(fixture.volumes(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_of_an_earlier_run_is_known_as_our_own() {
    let fixture = Fixture::start().await;
    let create = step("vm1", "create", create_action("r0", &guest(1)), Transport::Api, &[]);
    fixture.run(plan_of("r0", &[guest(1)], vec![create])).await;
    let before = fixture.guests();
    let (report, _) = fixture.run(plan("r1", 1)).await;
    let failure = failure_of(&report, "vm1/create");
    assert_eq!((failure.kind, failure.took_effect), (FailureKind::VmidTaken, TookEffect::No));
    assert!(failure.message.contains("this VM: run `r0` created it"), "{failure:?}");
    let hint = failure.hint.unwrap();
    assert!(hint.contains("`vmdeploy resume r0`") && hint.contains("--rollback"), "{hint}");
    assert_eq!(fixture.guests(), before, "it is not touched");
    assert!(marker("r0", &guest(1)).contains("r0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclear_attempt_stays_unclear_when_later_ones_do_nothing() {
    for rule in [OnFailure::Rollback, OnFailure::Keep] {
        let fixture = Fixture::of(quick_world(), SLOW_CREATE, Transports::Api).await;
        let mut plan = plan_by_api("r1", 1);
        plan.changes[0].on_failure = rule;
        let (runs, options, connections) = (fixture.runs(), fixture.options(), fixture.connections.clone());
        let run = tokio::spawn(async move {
            let (_switch, stop) = vmdeploy_executor::cancellation();
            let (sender, _receiver) = tokio::sync::mpsc::unbounded_channel();
            execute(CheckedPlan::new(plan).unwrap(), &connections, &options, sender, stop).await
        });
        fixture.until(|world| world.faults.struck() == 1).await;
        let Fixture { lab, folder, .. } = fixture;
        lab.stop().await;
        let report = run.await.unwrap().unwrap();
        let create = report.steps.iter().find(|step| step.step.0 == "vm1/create").unwrap();
        assert_eq!(report.result, RunResult::Left, "{rule:?}: {create:#?}");
        assert_eq!(report.left.len(), 1, "{rule:?}");
        assert_eq!(report.left[0].command, "qm destroy 201 --purge 1");
        let failure = create.failure.clone().unwrap();
        assert_ne!(failure.took_effect, TookEffect::No, "{rule:?}: {failure:?}");
        if rule == OnFailure::Keep {
            assert_eq!(failure.kind, FailureKind::Unreachable, "the last attempt could not connect");
            assert!(failure.causes.iter().any(|cause| cause.contains("an earlier attempt: ")), "{failure:?}");
            assert!(failure.hint.unwrap().contains("`vmdeploy resume`"));
        }
        assert!(runs.open("r1").unwrap().is_resumable(vmdeploy_executor::ResumeMode::Finish), "{rule:?}");
        drop(folder);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_could_not_look_is_followed_by_another_and_not_by_the_step() {
    let fixture =
        Fixture::with_faults("[{when: {method: POST, path: '/nodes/*/qemu', times: 1}, do: {drop: after}}]")
            .await;
    let options = RunOptions { attempts: 1, ..fixture.options() };
    let (report, _) = fixture.try_run(kept(plan("r1", 1)), &options).await;
    assert_eq!(report.unwrap().result, RunResult::Left);
    fixture.add_faults(
        // As often as a read is sent before it is given up.
        "[{when: {method: GET, path: '/nodes/*/qemu/201/config', times: 10}, \
           do: {refuse: {status: 595, reason: No route to host}}}]",
    );
    let posts = fixture.tasks("qmcreate");
    let (report, events) = fixture.resumed("r1", ResumeMode::Finish, &fixture.options()).await;
    assert_eq!(report.unwrap().result, RunResult::Done);
    assert_eq!(fixture.tasks("qmcreate"), posts, "the creation was not repeated");
    let found = events.iter().find_map(|event| match &event.event {
        EventKind::StepProbed { step, found } if step.0 == "vm1/create" => Some(found.clone()),
        _ => None,
    });
    assert!(matches!(found, Some(Found::Done { .. })), "{found:?}");
    let unclear = events.iter().filter_map(|event| match &event.event {
        EventKind::StepRetrying { step, failure, .. } if step.0 == "vm1/create" => Some(failure.took_effect),
        _ => None,
    });
    assert!(unclear.clone().count() > 0 && unclear.into_iter().all(|effect| effect == TookEffect::Maybe));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_a_failure_agrees_with_what_became_of_it() {
    let unreachable = "{refuse: {status: 595, reason: No route to host}}";
    for (what, kind, effect) in [
        (unreachable, FailureKind::NodeUnreachable, TookEffect::No),
        ("{drop: after}", FailureKind::NoAnswer, TookEffect::Maybe),
    ] {
        let faults = format!("[{{when: {{method: POST, path: '*/status/start'}}, do: {what}}}]");
        let fixture = Fixture::with_faults(&faults).await;
        let options = RunOptions { attempts: 1, ..fixture.options() };
        let (report, events) = fixture.try_run(plan("r1", 1), &options).await;
        let report = report.unwrap();
        assert_eq!(report.result, RunResult::RolledBack, "{:#?}", report.left);
        let said = events.iter().find_map(|event| match &event.event {
            EventKind::StepFailed { failure, revert, .. } => Some((failure.clone(), *revert)),
            _ => None,
        });
        let (said, revert) = said.unwrap();
        assert_eq!((said.kind, said.took_effect), (kind, effect));
        assert!(revert, "its VM is rolled back");
        let hint = said.hint.unwrap();
        assert!(!hint.contains("resume") && hint.contains("the same command again"), "{hint}");
        if effect == TookEffect::No {
            assert!(!hint.contains("finds out"), "there is nothing to find out: {hint}");
        }
        let start = report.steps.iter().find(|step| step.step.0 == "vm1/start").unwrap();
        assert_eq!(start.state, StepState::RolledBack);
        let now = start.effect_now();
        assert!(!now.contains("may have"), "it is rolled back: {now}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_revert_waits_for_a_lock_that_passes() {
    let faults = "[{when: {task: qmstart}, do: {fail-task: {text: no luck}}}, \
                   {when: {method: DELETE, path: '/nodes/*/qemu/201', times: 2}, do: lock-timeout}]";
    let fixture = Fixture::with_faults(faults).await;
    let (report, _) = fixture.run(plan("r1", 1)).await;
    assert_eq!(report.result, RunResult::RolledBack, "{:#?}", report.left);
    assert!(fixture.guests().is_empty());
}

/// Creates a volume with the guest's VMID that no configuration refers to.
async fn older_volume(fixture: &Fixture) {
    fixture.on_node(&Command::new("pvesm").args(["alloc", "local-lvm", "201", "vm-201-disk-7", "1G"])).await;
    assert_eq!(fixture.volumes(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_that_were_there_before_are_neither_freed_nor_listed() {
    for plan in [plan("r1", 1), plan_by_api("r1", 1)] {
        let fixture =
            Fixture::with_faults("[{when: {task: qmstart}, do: {fail-task: {text: no luck}}}]").await;
        older_volume(&fixture).await;
        let (report, _) = fixture.run(plan).await;
        assert_eq!(report.result, RunResult::RolledBack, "{:#?}", report.left);
        assert!(report.left.is_empty() && fixture.guests().is_empty());
        assert_eq!(fixture.volumes(), 1, "the older one stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_import_leaves_is_rolled_back_and_older_volumes_stay() {
    let mut world = quick_world();
    world.delays.copy_ms_per_100_mib = 3000;
    let fixture = Fixture::of(world, "[]", Transports::Both).await;
    older_volume(&fixture).await;
    let copying =
        |world: &mut pve_lab::World| world.block_stores.values().any(|store| store.volumes.len() == 2);
    fixture.killed_when(plan("r1", 1), copying).await;
    let report = fixture.resume("r1", ResumeMode::Rollback).await.unwrap();
    assert_eq!(report.result, RunResult::RolledBack, "{:#?}", report.left);
    assert!(fixture.guests().is_empty() && report.left.is_empty());
    assert_eq!(fixture.volumes(), 1, "only the older one remains");
}

/// Makes VM 201 by an earlier run, and starts it.
async fn running_guest(fixture: &Fixture) {
    let (report, _) = fixture.run(plan_by_api("r0", 1)).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
}

/// A change of VM 201: these steps, one after the other.
fn changing(steps: Vec<(&str, Action)>) -> Plan {
    let mut before: Option<String> = None;
    let chained = steps.into_iter().map(|(what, action)| {
        let after: Vec<&str> = before.as_deref().into_iter().collect();
        let step = step("vm1", what, action, Transport::Api, &after);
        before = Some(what.to_owned());
        step
    });
    let mut plan = plan_of("r1", &[guest(1)], chained.collect());
    plan.changes[0].verb = Verb::Update;
    kept(plan)
}

fn set(key: &str, value: &str) -> Action {
    let patch = crate::fixture::patch([(key, crate::fixture::text(value))]);
    Action::SetConfig { guest: guest(1), patch, digest: None }
}

/// Kills the plan while a request that matches is on its way, and resumes it before that request comes.
async fn resumed_before_the_request_comes(fixture: &Fixture, plan: Plan, when: &str) {
    fixture.slow_once(when);
    fixture.killed_when(plan, |world| world.faults.struck() == 1).await;
    let options = RunOptions { settle: crate::fixture::PATIENCE, ..fixture.options() };
    let (report, events) = fixture.resumed("r1", ResumeMode::Finish, &options).await;
    let report = report.unwrap();
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    let said = notes(&events);
    let waits = |text: &String| text.contains(": an earlier request had no answer");
    assert!(said.iter().any(waits), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_arrives_late_does_not_undo_a_later_start() {
    let guest = guest(1);
    for (what, action, path, task) in [
        ("stop", Action::StopVm { guest: guest.clone() }, "*/status/stop", "qmstop"),
        (
            "shutdown",
            Action::ShutdownVm { guest: guest.clone(), timeout_s: 60, force: true },
            "*/status/shutdown",
            "qmshutdown",
        ),
    ] {
        let fixture = Fixture::start().await;
        running_guest(&fixture).await;
        let steps = vec![
            (what, action),
            ("set", set("cores", "2")),
            ("start", Action::StartVm { guest: guest.clone() }),
        ];
        let when = format!("method: POST, path: '{path}'");
        resumed_before_the_request_comes(&fixture, changing(steps), &when).await;
        assert_eq!(fixture.tasks(task), 1, "it was waited for, and not repeated");
        assert_eq!(fixture.guests()[&guest.vmid]["running"], "true", "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_comes_late_is_the_only_one() {
    let fixture = Fixture::start().await;
    running_guest(&fixture).await;
    let plan = changing(vec![("reboot", Action::RebootVm { guest: guest(1) })]);
    let when = "method: POST, path: '*/status/reboot'";
    resumed_before_the_request_comes(&fixture, plan, when).await;
    assert_eq!(fixture.tasks("qmreboot"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_comes_late_does_not_remove_the_vm_that_replaces_it() {
    let fixture = Fixture::start().await;
    running_guest(&fixture).await;
    let plan = changing(vec![
        ("delete", Action::DeleteVm { guest: guest(1), stop: true }),
        ("create", create_action("r1", &guest(1))),
    ]);
    let when = "method: DELETE, path: '/nodes/*/qemu/201'";
    resumed_before_the_request_comes(&fixture, plan, when).await;
    assert_eq!(fixture.tasks("qmdestroy"), 1);
    assert_eq!(fixture.guests().len(), 1, "the new one is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_comes_late_does_not_replace_the_one_set_behind_it() {
    let fixture = Fixture::start().await;
    running_guest(&fixture).await;
    let plan = changing(vec![("set", set("name", "first")), ("again", set("name", "second"))]);
    resumed_before_the_request_comes(&fixture, plan, "method: PUT, path: '/nodes/*/qemu/201/config'").await;
    assert_eq!(fixture.guests()[&guest(1).vmid]["name"], "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_comes_is_sent_again_when_it_can_come_no_more() {
    let fixture = Fixture::start().await;
    running_guest(&fixture).await;
    let steps =
        vec![("stop", Action::StopVm { guest: guest(1) }), ("start", Action::StartVm { guest: guest(1) })];
    // It is killed when the journal says that the stop is sent out, and before it is.
    let options = RunOptions { die_after_records: Some(2), ..fixture.options() };
    let (died, _) = fixture.try_run(changing(steps), &options).await;
    assert!(matches!(died, Err(vmdeploy_executor::RunError::Died)), "{died:?}");
    let (report, _) = fixture.resumed("r1", ResumeMode::Finish, &fixture.options()).await;
    assert_eq!(report.unwrap().result, RunResult::Done);
    assert_eq!((fixture.tasks("qmstop"), fixture.guests()[&guest(1).vmid]["running"].as_str()), (1, "true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_revert_waits_for_what_the_step_has_still_on_its_way() {
    let fixture = Fixture::start().await;
    running_guest(&fixture).await;
    let mut plan = changing(vec![("set", set("name", "first"))]);
    plan.steps[0].revert = Revert::Run { action: Box::new(set("name", "vm1")) };
    fixture.slow_once("method: PUT, path: '/nodes/*/qemu/201/config'");
    fixture.killed_when(plan, |world| world.faults.struck() == 1).await;
    let options = RunOptions { settle: Duration::from_secs(5), ..fixture.options() };
    let (report, events) = fixture.resumed("r1", ResumeMode::Rollback, &options).await;
    assert_eq!(report.unwrap().result, RunResult::RolledBack);
    assert!(notes(&events).iter().any(|text| text.starts_with("vm1/set: an earlier request")), "{events:?}");
    assert_eq!(fixture.guests()[&guest(1).vmid]["name"], "vm1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_run_lets_what_a_killed_one_sent_out_come_first() {
    let fixture = Fixture::with_faults("[]").await;
    running_guest(&fixture).await;
    fixture.slow_once("method: POST, path: '*/status/stop'");
    let mut stop = changing(vec![("stop", Action::StopVm { guest: guest(1) })]);
    stop.transport = TransportChoice::Api;
    fixture.killed_when(stop, |world| world.faults.struck() == 1).await;
    // By the API alone there is no lock on the cluster: a new plan is made of what is there, where the guest still runs.
    let mut start = changing(vec![("start", Action::StartVm { guest: guest(1) })]);
    (start.run_id, start.transport) = ("r2".to_owned(), TransportChoice::Api);
    let options = RunOptions { settle: Duration::from_secs(5), ..fixture.options() };
    let (report, events) = fixture.try_run(start, &options).await;
    assert_eq!(report.unwrap().result, RunResult::Done);
    let said = notes(&events);
    assert!(said.iter().any(|text| text.contains("run `r1` was interrupted")), "{said:?}");
    assert_eq!(fixture.tasks("qmstop"), 1, "it came meanwhile");
    assert_eq!(fixture.guests()[&guest(1).vmid]["running"], "true");
}
