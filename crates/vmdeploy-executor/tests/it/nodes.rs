//! A node of a cluster that goes down in the midst of a run: what it had is said, and one command helps when it is back.

use crate::fixture::{Fixture, Transports, guest, plan_by_api};
use crate::surroundings::cluster;
use vmdeploy_executor::{EventKind, FailureKind, ResumeMode, RunReport, RunResult, StepState, VmState};
use vmdeploy_planner::plan::{OnFailure, Plan};

/// Makes VM 201 on `pve1` and VM 202 on `pve2`, by the API of `pve1`.
fn plan_on_two_nodes(rule: OnFailure) -> Plan {
    let mut text = serde_json::to_value(plan_by_api("r1", 2)).unwrap();
    let moved = |guest: &mut serde_json::Value| {
        if guest["vmid"] == 202 {
            guest["node"] = "pve2".into();
        }
    };
    each_object(&mut text, &moved);
    let mut plan: Plan = serde_json::from_value(text).unwrap();
    plan.changes.iter_mut().for_each(|change| change.on_failure = rule);
    plan
}

/// Calls a function with every object of a document.
fn each_object(value: &mut serde_json::Value, change: &impl Fn(&mut serde_json::Value)) {
    match value {
        serde_json::Value::Object(map) => {
            map.values_mut().for_each(|value| each_object(value, change));
            change(value);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(|value| each_object(value, change)),
        _ => {}
    }
}

/// Takes `pve2` down once VM 202 is made, and returns what became of the run.
async fn run_without_the_second_node(fixture: &Fixture, rule: OnFailure) -> RunReport {
    let is_made =
        |event: &EventKind| matches!(event, EventKind::StepSucceeded { step, .. } if step.0 == "vm2/create");
    let conduct = |event: &vmdeploy_executor::Event, _: &vmdeploy_executor::Canceller| {
        if is_made(&event.event) {
            set_up(fixture, false);
        }
    };
    fixture.conducted(plan_on_two_nodes(rule), conduct).await.0
}

fn set_up(fixture: &Fixture, up: bool) {
    fixture.lab.world().with(|world| world.nodes.get_mut("pve2").unwrap().spec.up = up);
}

fn state(report: &RunReport, vm: usize) -> VmState {
    report.vms[vm].state
}

#[tokio::test(flavor = "multi_thread")]
async fn what_remains_on_a_failed_node_is_listed_and_rolled_back_when_it_is_up_again() {
    let fixture = Fixture::of(cluster("9.2.11"), "[]", Transports::Api).await;
    let report = run_without_the_second_node(&fixture, OnFailure::Rollback).await;
    assert_eq!(report.result, RunResult::Left, "{:#?}", report.failures().collect::<Vec<_>>());
    assert_eq!(
        (state(&report, 0), state(&report, 1)),
        (VmState::Done, VmState::Failed),
        "the other node goes on"
    );
    assert_eq!(report.left.len(), 1, "{:?}", report.left);
    assert_eq!(report.left[0].what, "VM 202 `vm2` on pve2");
    assert_eq!(report.left[0].command, "qm destroy 202 --purge 1");
    let failures: Vec<_> = report.failures().collect();
    assert!(failures.iter().all(|failure| failure.kind == FailureKind::NodeUnreachable), "{failures:#?}");
    assert!(failures.iter().all(|failure| {
        failure.hint.as_ref().is_some_and(|h| h.contains("the contacted node cannot reach pve2"))
    }));
    assert_eq!(report.resume, vmdeploy_executor::Resuming::Revert);

    let still = fixture.resume("r1", ResumeMode::Finish).await.unwrap();
    assert_eq!((still.result, fixture.guests().len()), (RunResult::Left, 2), "it is still down");
    set_up(&fixture, true);
    let report = fixture.resume("r1", ResumeMode::Finish).await.unwrap();
    assert_eq!(report.result, RunResult::PartlyDone, "{:#?}", report.failures().collect::<Vec<_>>());
    assert_eq!((state(&report, 0), state(&report, 1)), (VmState::Done, VmState::RolledBack));
    assert_eq!(fixture.guests().into_keys().collect::<Vec<_>>(), [guest(1).vmid]);
    assert_eq!(fixture.volumes(), 3, "those of VM 201");
    let create = report.steps.iter().find(|step| step.step.0 == "vm2/create").unwrap();
    assert_eq!(
        (&create.state, &create.failure),
        (&StepState::RolledBack, &None),
        "its revert failed no longer"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_has_that_goes_down_is_kept_and_finished_when_it_is_up_again() {
    let fixture = Fixture::of(cluster("9.2.11"), "[]", Transports::Api).await;
    let report = run_without_the_second_node(&fixture, OnFailure::Keep).await;
    assert_eq!(report.result, RunResult::Left);
    assert_eq!(report.resume, vmdeploy_executor::Resuming::Finish);
    set_up(&fixture, true);
    let report = fixture.resume("r1", ResumeMode::Finish).await.unwrap();
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    let running = fixture.guests().into_values().filter(|guest| guest["running"] == "true").count();
    assert_eq!((running, fixture.volumes()), (2, 6));
}
