//! How a run ends: what the exit code, the one line and the list of runs say is what is there.

use crate::fixture::{Fixture, guest, plan, plan_by_api};
use vmdeploy_executor::{
    FailureKind, ResumeMode, Resuming, RunReport, RunResult, StepState, VmState, html_page,
};
use vmdeploy_planner::plan::{Action, Condition, OnFailure, Plan, Step, Transport, Verb};

/// What `vmdeploy runs` and the page say of the run must be what the report says.
fn said_alike(fixture: &Fixture, report: &RunReport) -> String {
    let stored = fixture.runs().open(&report.run).unwrap();
    let line = report.headline();
    assert_eq!(stored.summary().headline, line);
    assert_eq!(stored.summary().result, Some(report.result));
    assert!(html_page(&stored.plan, report).contains(&line), "{line}");
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_vms_one_fails_and_is_rolled_back_and_two_remain() {
    for plan in [plan("r1", 3), plan_by_api("r1", 3)] {
        let fixture =
            Fixture::with_faults("[{when: {task: qmstart, vmid: 202}, do: {fail-task: {text: no}}}]").await;
        let (report, _) = fixture.run(plan).await;
        assert_eq!(fixture.guests().len(), 2);
        assert_eq!((report.result, report.exit_code()), (RunResult::PartlyDone, 6), "{:#?}", report.left);
        let states: Vec<VmState> = report.vms.iter().map(|vm| vm.state).collect();
        assert_eq!(states, [VmState::Done, VmState::RolledBack, VmState::Done]);
        let line = said_alike(&fixture, &report);
        assert!(line.starts_with("2 created, 1 rolled back: partially failed"), "{line}");
        assert_eq!(report.resume, Resuming::Nothing);
        assert!(fixture.runs().newest_unfinished(None, ResumeMode::Finish).unwrap().is_none());
        let report = fixture.resume("r1", ResumeMode::Rollback).await.unwrap();
        assert_eq!((report.result, fixture.guests().len()), (RunResult::RolledBack, 0), "{:#?}", report.vms);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_run_remains_where_it_says_rolled_back() {
    let fixture = Fixture::with_faults("[{when: {task: qmstart}, do: {fail-task: {text: no}}}]").await;
    let (report, _) = fixture.run(plan("r1", 2)).await;
    assert_eq!((fixture.guests().len(), fixture.volumes()), (0, 0));
    assert_eq!((report.result, report.exit_code()), (RunResult::RolledBack, 5));
    assert_eq!(
        said_alike(&fixture, &report),
        "2 rolled back: failed; rolled back; nothing of this run remains"
    );
}

/// The plan that destroys these VMs, each by two steps.
fn destruction(run: &str, vms: u32) -> Plan {
    let guests: Vec<_> = (1..=vms).map(guest).collect();
    let steps = guests.iter().flat_map(|guest| {
        let stop = Action::StopVm { guest: guest.clone() };
        let delete = Action::DeleteVm { guest: guest.clone(), stop: true };
        let step = |what, action, after: &[&str]| {
            crate::fixture::step(guest.name.as_str(), what, action, Transport::Api, after)
        };
        [step("stop", stop, &[]), step("delete", delete, &["stop"])]
    });
    let mut plan = crate::fixture::plan_of(run, &guests, steps.collect());
    for change in &mut plan.changes {
        (change.verb, change.on_failure) = (Verb::Delete, OnFailure::Keep);
    }
    plan
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_vms_to_be_destroyed_one_remains_and_is_destroyed_by_resume() {
    let fixture = Fixture::start().await;
    let (report, _) = fixture.run(plan_by_api("r0", 3)).await;
    assert_eq!(report.result, RunResult::Done);
    fixture.add_faults(
        "[{when: {task: qmdestroy, vmid: 202, times: 1}, do: {fail-task: {text: no, at: before}}}]",
    );
    let (report, _) = fixture.run(destruction("r1", 3)).await;
    assert_eq!(fixture.guests().len(), 1);
    assert_eq!((report.result, report.exit_code()), (RunResult::Left, 6));
    assert!(said_alike(&fixture, &report).starts_with("2 destroyed, 1 failed"));
    let failed = report.vms.iter().find(|vm| vm.state == VmState::Failed).unwrap();
    assert_eq!(failed.remains.first().map(String::as_str), Some("stop"), "{failed:?}");
    assert_eq!(report.resume, Resuming::Finish);
    let report = fixture.resume("r1", ResumeMode::Finish).await.unwrap();
    assert_eq!((report.result, fixture.guests().len()), (RunResult::Done, 0));
}

/// A plan whose VM waits for something that does not come.
fn never_ready(rule: OnFailure) -> Plan {
    let mut plan = plan("r1", 1);
    plan.changes[0].on_failure = rule;
    let wait = Action::Await { guest: guest(1), condition: Condition::Tcp { port: 1 } };
    let last = plan.steps.last().unwrap().id.clone();
    let mut wait =
        Step { deadline_s: 1, ..crate::fixture::step("vm1", "await-tcp", wait, Transport::Local, &[]) };
    wait.after.insert(last);
    plan.steps.push(wait);
    plan
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_is_not_ready_in_time_is_kept_unless_the_spec_says_otherwise() {
    for (rule, result, guests) in [
        (OnFailure::RollbackIncomplete, RunResult::Left, 1),
        (OnFailure::Keep, RunResult::Left, 1),
        (OnFailure::Rollback, RunResult::RolledBack, 0),
    ] {
        let fixture = Fixture::start().await;
        let (report, _) = fixture.run(never_ready(rule)).await;
        assert_eq!((report.result, fixture.guests().len()), (result, guests), "{rule:?}: {:#?}", report.vms);
        said_alike(&fixture, &report);
        let failure = report.failures().find(|failure| failure.kind == FailureKind::NotReady).unwrap();
        if guests == 1 {
            assert_eq!(report.vms[0].state, VmState::NotReady, "{rule:?}");
            assert!(report.left.is_empty(), "it is what the spec asks for: {:?}", report.left);
            assert_eq!(report.resume, Resuming::Finish);
            let hint = failure.hint.as_deref().unwrap_or_default();
            assert!(hint.contains("vmdeploy ssh SPEC vm1") && hint.contains("qm terminal 201"), "{hint}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_did_not_arrive_is_not_listed_as_left() {
    let fixture = Fixture::with_faults(
        "[{when: {path: '/nodes/*/storage/*/upload'}, do: {refuse: {status: 500, reason: no}}}]",
    )
    .await;
    let path = fixture.folder.path().join("image.qcow2");
    std::fs::write(&path, vec![0; 4096]).unwrap();
    let action = Action::PlaceImage {
        image: "mine".to_owned(),
        node: "pve1".parse().unwrap(),
        volume: "local:import/mine.raw".parse().unwrap(),
        origin: vmdeploy_planner::plan::ImageOrigin::File { path: path.display().to_string(), unpack: None },
        checksum: None,
    };
    let mut place = crate::fixture::step("-", "place", action, Transport::Api, &[]);
    place.revert =
        vmdeploy_planner::plan::Revert::CannotRevert { why: "an uploaded image is kept".to_owned() };
    let mut plan = plan("r1", 1);
    plan.steps[0].after.insert(place.id.clone());
    plan.steps.insert(0, place);
    let (report, _) = fixture.run(plan).await;
    assert_eq!(report.steps[0].state, StepState::Failed);
    assert_eq!((report.result, report.left.len()), (RunResult::RolledBack, 0), "{:#?}", report.left);
    assert_eq!(said_alike(&fixture, &report), "1 not started: failed; nothing was changed");
}
