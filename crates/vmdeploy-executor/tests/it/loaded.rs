//! A loaded node: what PVE says when it is too busy, and what a run makes of it.

use crate::fixture::{Fixture, Transports, guest, plan, plan_by_api, plan_of, quick_world, step};
use vmdeploy_executor::{EventKind, FailureKind, RunResult, StepState, TookEffect};
use vmdeploy_planner::plan::{Action, Transport};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_creation_leaves_whose_worker_was_not_started_is_removed_over_ssh() {
    for faults in [
        "[{when: {method: POST, path: '/nodes/*/qemu', times: 3}, do: worker-not-started}]",
        "[{when: {command: 'qm create *', times: 2}, do: worker-not-started}]",
    ] {
        let fixture = Fixture::with_faults(faults).await;
        let mut plan = plan("r1", 1);
        if faults.contains("qm create") {
            let creations =
                plan.steps.iter_mut().filter(|step| matches!(step.action, Action::CreateVm { .. }));
            creations.for_each(|step| step.transport = Transport::Ssh);
        }
        let (report, _) = fixture.run(plan).await;
        assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
        let (guests, struck) = fixture.lab.world().with(|world| (world.guests.len(), world.faults.struck()));
        assert_eq!(guests, 1);
        assert!(struck > 0, "{faults}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_api_alone_it_is_left_to_root_and_named() {
    let faults = "[{when: {method: POST, path: '/nodes/*/qemu'}, do: worker-not-started}]";
    let fixture = Fixture::of(quick_world(), faults, Transports::Api).await;
    let (report, _) = fixture.run(plan_by_api("r1", 1)).await;
    assert_eq!(report.result.exit_code(), 6, "{report:#?}");
    let create = report.steps.iter().find(|step| step.step.0 == "vm1/create").unwrap();
    let failure = create.failure.clone().unwrap();
    assert_eq!(
        (failure.kind, failure.took_effect),
        (FailureKind::GuestLocked, TookEffect::Yes),
        "{failure:?}"
    );
    assert!(failure.causes.iter().any(|cause| cause.contains("start worker failed")), "{failure:?}");
    assert!(failure.hint.unwrap().contains("`qm unlock 201`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_task_failed_counts_by_whether_the_guest_runs() {
    let text = "got wrong command id '4711:3' (expected 4711:4)";
    let faults = format!(
        "[{{when: {{task: qmstart, times: 1}}, do: {{fail-task: {{text: \"{text}\", at: after}}}}}}]"
    );
    let fixture = Fixture::with_faults(&faults).await;
    let (report, events) = fixture.run(plan_by_api("r1", 1)).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    let warned = events.iter().any(|event| {
        matches!(&event.event, EventKind::StepSucceeded { warnings, .. } if warnings.iter().any(|line| line.contains(text)))
    });
    assert!(warned, "the warning is told");
    // One that left no running guest is started again.
    let faults = format!("[{{when: {{task: qmstart, times: 1}}, do: {{fail-task: {{text: \"{text}\"}}}}}}]");
    let fixture = Fixture::with_faults(&faults).await;
    let (report, _) = fixture.run(plan_by_api("r1", 1)).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    assert_eq!(fixture.tasks("qmstart"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reboot_is_done_when_the_guest_runs_again() {
    let fixture = Fixture::start().await;
    fixture.run(plan("r1", 1)).await;
    fixture.add_faults("[{when: {task: qmstart, times: 1}, do: {fail-task: {text: start failed}}}]");
    let action = Action::RebootVm { guest: guest(1) };
    let reboot = step("vm1", "reboot", action, Transport::Api, &[]);
    let mut change = plan_of("r2", &[guest(1)], vec![reboot]);
    change.changes[0].verb = vmdeploy_planner::plan::Verb::Update;
    let (report, _) = fixture.run(change).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    assert_eq!(report.steps[0].state, StepState::Succeeded);
    assert!(fixture.lab.world().with(|world| world.guests.values().all(pve_lab::world::Guest::is_running)));
}
