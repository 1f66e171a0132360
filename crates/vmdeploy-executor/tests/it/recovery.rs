//! Killed at any point, a run is finished or rolled back by one command, and ends like an undisturbed one.

use crate::fixture::{Fixture, guest, plan, plan_by_api, step};
use futures::StreamExt as _;
use pve_types::Vmid;
use std::collections::BTreeMap;
use std::time::Duration;
use vmdeploy_executor::{
    Entry, EventKind, FailureKind, ResumeMode, Resuming, RunError, RunOptions, RunResult, StepState,
};
use vmdeploy_planner::plan::{Action, Condition, Plan, Step, Transport};

/// What the world looks like after a run: each guest's configuration, and the number of volumes.
type Ended = (BTreeMap<Vmid, BTreeMap<String, String>>, usize);

/// How many records the journal of an undisturbed run has, and what the world then looks like.
async fn undisturbed(plan: Plan) -> (usize, Ended) {
    let fixture = Fixture::start().await;
    let run = plan.run_id.clone();
    let (report, _) = fixture.run(plan).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    let records = fixture.runs().open(&run).unwrap().records.len();
    (records, (fixture.guests(), fixture.volumes()))
}

/// Ends a run after so many records as if it had been killed, and returns whether it came that far.
async fn killed_after(fixture: &Fixture, plan: Plan, records: usize) -> bool {
    let options = RunOptions { die_after_records: Some(records), ..fixture.options() };
    match fixture.try_run(plan, &options).await.0 {
        Err(RunError::Died) => true,
        other => {
            assert_eq!(other.unwrap().result, RunResult::Done);
            false
        }
    }
}

/// Kills a run after one record, finishes it, and compares; returns whether it was killed.
async fn killed_and_finished(plan: Plan, place: usize, expect: &Ended) -> bool {
    let fixture = Fixture::start().await;
    if !killed_after(&fixture, plan, place).await {
        return false;
    }
    let report = match fixture.resume("r1", ResumeMode::Finish).await {
        // The very last record was written.
        Err(RunError::NothingToResume { .. }) => fixture.runs().open("r1").unwrap().report(),
        other => other.unwrap(),
    };
    let failures: Vec<_> = report.failures().collect();
    assert_eq!(report.result, RunResult::Done, "killed after {place}: {failures:#?}");
    assert!(
        &(fixture.guests(), fixture.volumes()) == expect,
        "killed after {place}: {:#?}",
        fixture.guests()
    );
    true
}

/// Kills a run after one record, takes it back, and looks whether anything is left.
async fn killed_and_reverted(plan: Plan, place: usize) -> bool {
    let fixture = Fixture::start().await;
    if !killed_after(&fixture, plan, place).await {
        return false;
    }
    let report = match fixture.resume("r1", ResumeMode::Rollback).await {
        Err(RunError::NothingToResume { .. }) => return false,
        other => other.unwrap(),
    };
    let failures: Vec<_> = report.failures().collect();
    assert!(fixture.guests().is_empty(), "killed after {place}: {failures:#?}");
    assert_eq!(fixture.volumes(), 0, "killed after {place}");
    assert!(report.left.is_empty(), "killed after {place}: {:?}", report.left);
    assert_eq!(report.result, RunResult::RolledBack, "killed after {place}");
    true
}

/// Walks the places at which a run is killed, several at a time, and returns how many there were.
async fn walk<F: Future<Output = bool>>(
    places: impl Iterator<Item = usize>,
    look: impl Fn(usize) -> F,
) -> usize {
    futures::stream::iter(places.map(look))
        .buffer_unordered(8)
        .filter(|died| std::future::ready(*died))
        .count()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_after_any_record_is_finished_by_resume() {
    let (records, expect) = undisturbed(plan("r1", 2)).await;
    let died = walk(1..records, |place| killed_and_finished(plan("r1", 2), place, &expect)).await;
    assert!(died > 20, "{died}");
}

/// Ten VMs by API and SSH; the run is killed after every fifth record, and after every single one where
/// `VMDEPLOY_TEST_ALL` is set, as `make fuzz` does: that takes some minutes.
#[tokio::test(flavor = "multi_thread")]
async fn ten_vms_killed_after_any_record_end_as_undisturbed_ones() {
    let (records, expect) = undisturbed(plan("r1", 10)).await;
    let step = if std::env::var_os("VMDEPLOY_TEST_ALL").is_some() { 1 } else { 5 };
    let places = (1..records).step_by(step);
    let died = walk(places, |place| killed_and_finished(plan("r1", 10), place, &expect)).await;
    assert!(died > 150 / step, "{died}");
}

/// The same by the API alone.
#[tokio::test(flavor = "multi_thread")]
async fn ten_vms_by_api_killed_after_any_record_end_as_undisturbed_ones() {
    let (records, expect) = undisturbed(plan_by_api("r1", 10)).await;
    let died = walk(1..records, |place| killed_and_finished(plan_by_api("r1", 10), place, &expect)).await;
    assert!(died > 100, "{died}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_after_any_record_is_rolled_back_by_revert() {
    let (records, _) = undisturbed(plan("r1", 1)).await;
    let died = walk(1..records, |place| killed_and_reverted(plan("r1", 1), place)).await;
    assert!(died > 10, "{died}");
    let (records, _) = undisturbed(plan_by_api("r1", 3)).await;
    let died = walk(1..records, |place| killed_and_reverted(plan_by_api("r1", 3), place)).await;
    assert!(died > 20, "{died}");
}

/// Kills a run that waits behind that step of VM 201 with no request in flight, and puts another guest into
/// the place of its own; when it is resumed, the wait is over.
async fn exchanged_after(done: &str) -> Fixture {
    let fixture = Fixture::start().await;
    let file = fixture.folder.path().join("go-on");
    let mut plan = plan("r1", 1);
    let place = plan.steps.iter().position(|step| step.id.0 == done).unwrap() + 1;
    let argv = ["test", "-e", file.to_str().unwrap()].map(str::to_owned).to_vec();
    let wait = Action::Await { guest: guest(1), condition: Condition::Command { argv } };
    let mut wait = Step { deadline_s: 120, ..step("vm1", "await-file", wait, Transport::Local, &[]) };
    wait.after.insert(plan.steps[place - 1].id.clone());
    plan.steps[place].after.insert(wait.id.clone());
    plan.steps.insert(place, wait);
    let runs = fixture.runs();
    let waits = |_: &mut pve_lab::World| {
        let records = runs.open("r1").map(|stored| stored.records).unwrap_or_default();
        let begun =
            |entry: &Entry| matches!(entry, Entry::Started { step, .. } if step.0 == "vm1/await-file");
        records.iter().any(|record| begun(&record.entry))
    };
    fixture.killed_when(plan, waits).await;
    std::fs::write(&file, "").unwrap();
    fixture.lab.world().with(|world| {
        let guest = world.guests.values_mut().next().unwrap();
        guest.config.insert("name".to_owned(), "theirs".to_owned());
        guest.config.insert("smbios1".to_owned(), "uuid=00000000-0000-4000-8000-000000000001".to_owned());
        guest.config.remove("description");
    });
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_was_exchanged_since_the_kill_is_not_touched() {
    let cases = ["vm1/create", "vm1/import-scsi0"]
        .into_iter()
        .flat_map(|done| [ResumeMode::Finish, ResumeMode::Rollback].map(|mode| (done, mode)));
    for (done, mode) in cases {
        let fixture = exchanged_after(done).await;
        let before = fixture.lab.world().with(|world| world.guests.values().next().unwrap().digest());
        let options = RunOptions { allow_commands: true, ..fixture.options() };
        let report = fixture.resumed("r1", mode, &options).await.0.unwrap();
        let after =
            fixture.lab.world().with(|world| world.guests.values().next().map(|guest| guest.digest()));
        let failures: Vec<_> = report.failures().collect();
        assert_eq!(after, Some(before), "{mode:?}: {failures:#?}");
        assert!(
            failures.iter().any(|failure| failure.kind == FailureKind::NotOurs),
            "{mode:?}: {failures:#?}"
        );
        assert_eq!(report.left, [], "{done}, {mode:?}: no hint suggests destroying it or its disks");
        assert_eq!(report.result, RunResult::Left, "{done}, {mode:?}: the user has to look");
        assert_eq!(report.resume, Resuming::Nothing, "{done}, {mode:?}");
        assert_eq!(report.displaced().len(), 1, "{done}, {mode:?}");
        assert_eq!(fixture.tasks("qmstart") + fixture.tasks("qmdestroy"), 0, "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_run_has_nothing_to_resume() {
    let fixture = Fixture::start().await;
    fixture.run(plan("r1", 1)).await;
    let refused = fixture.resume("r1", ResumeMode::Finish).await.unwrap_err();
    assert!(matches!(refused, RunError::NothingToResume { .. }));
    assert!(fixture.runs().newest_unfinished(None, ResumeMode::Finish).unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stop_lets_what_is_on_the_wire_finish_and_resume_does_the_rest() {
    let fixture = Fixture::start().await;
    let (report, events) = fixture
        .conducted(plan("r1", 2), |event, switch| {
            if matches!(&event.event, EventKind::StepSucceeded { step, .. } if step.0.ends_with("/create")) {
                switch.stop_when_idle();
            }
        })
        .await;
    assert_eq!(report.result, RunResult::Unfinished);
    assert_eq!(report.exit_code(), 8);
    assert!(report.steps.iter().all(|step| step.state != StepState::Started), "nothing is left on the wire");
    assert!(events.iter().any(|event| matches!(event.event, EventKind::Cancelling { now: false })));
    let report = fixture.resume("r1", ResumeMode::Finish).await.unwrap();
    assert_eq!(report.result, RunResult::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_refused_at_the_lock_does_not_stand_before_the_one_to_resume() {
    let fixture = Fixture::start().await;
    let options = RunOptions { die_after_records: Some(8), ..fixture.options() };
    let (died, _) = fixture.try_run(plan("r1", 1), &options).await;
    assert!(matches!(died, Err(RunError::Died)), "{died:?}");
    // Another process holds the lock by now.
    fixture.on_node(&pve_ssh::command::files::rmdir("/etc/pve/priv/lock/vmdeploy-test")).await;
    let records = fixture.runs().open("r1").unwrap().records;
    let locked = records.iter().find_map(|record| match record.entry {
        Entry::Locked { modified_s } => Some(modified_s),
        _ => None,
    });
    let date = pve_ssh::command::Command::new("date").arg("+%s");
    while fixture.on_node(&date).await.trim().parse::<i64>().ok() <= locked {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fixture.on_node(&pve_ssh::command::files::mkdir("/etc/pve/priv/lock/vmdeploy-test")).await;
    let (refused, _) = fixture.try_run(plan("r2", 1), &fixture.options()).await;
    assert!(matches!(refused, Err(RunError::ClusterLock { .. })), "{refused:?}");
    assert_eq!(fixture.runs().newest_unfinished(None, ResumeMode::Finish).unwrap().unwrap().run, "r1");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stops_give_up_what_is_on_the_wire_and_it_can_still_be_resumed() {
    let (_, expect) = undisturbed(plan("r1", 1)).await;
    let fixture = Fixture::start().await;
    let (report, _) = fixture
        .conducted(plan("r1", 1), |event, switch| {
            if matches!(&event.event, EventKind::StepStarted { step, .. } if step.0.ends_with("/import-scsi0")) {
                switch.stop_when_idle();
                switch.stop_now();
            }
        })
        .await;
    assert_eq!(report.result, RunResult::Unfinished);
    let report = fixture.resume("r1", ResumeMode::Finish).await.unwrap();
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    assert_eq!((fixture.guests(), fixture.volumes()), expect);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_create_is_reverted_and_other_vms_go_on() {
    let fixture =
        Fixture::with_faults("[{when: {task: qmstart, vmid: 201}, do: {fail-task: {text: no luck}}}]").await;
    let (report, events) = fixture.run(plan("r1", 2)).await;
    assert_eq!(report.result, RunResult::PartlyDone, "{:#?}", report.left);
    assert_eq!(report.exit_code(), 6);
    let guests = fixture.guests();
    assert_eq!(guests.len(), 1, "VM 201 is gone, VM 202 runs");
    assert_eq!(guests.values().next().unwrap()["running"], "true");
    let rolled_back =
        |event: &EventKind| matches!(event, EventKind::RevertFinished { step, .. } if step.0 == "vm1/create");
    assert!(events.iter().any(|event| rolled_back(&event.event)));
    let failure =
        report.steps.iter().find(|step| step.step.0 == "vm1/start").unwrap().failure.clone().unwrap();
    assert!(failure.upid.is_some() && failure.node.is_some() && failure.hint.is_some(), "{failure:?}");
    assert!(failure.message.contains("no luck"), "{failure:?}");
    let hint = failure.hint.unwrap();
    assert!(
        hint.contains("the same command again") && !hint.contains("resume"),
        "nothing is left to resume: {hint}"
    );
    assert!(fixture.runs().newest_unfinished(None, ResumeMode::Finish).unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reverted_is_listed_with_the_command() {
    let faults = "[{when: {task: qmstart}, do: {fail-task: {text: no luck}}}, \
                   {when: {task: qmdestroy}, do: {fail-task: {text: no way}}}]";
    let fixture = Fixture::with_faults(faults).await;
    let (report, _) = fixture.run(plan("r1", 1)).await;
    assert_eq!(report.result, RunResult::Left);
    assert_eq!(report.exit_code(), 6);
    assert_eq!(report.left.len(), 1, "{:?}", report.left);
    assert_eq!(report.left[0].command, "qm destroy 201 --purge 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_of_the_project_is_refused_while_one_goes_on() {
    let fixture = Fixture::start().await;
    let held = fixture.runs().lock("test", "run r0").unwrap();
    let (result, _) = fixture.try_run(plan("r1", 1), &fixture.options()).await;
    assert!(matches!(result, Err(RunError::Runs(_))));
    drop(held);
    assert!(fixture.guests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_another_machine_holds_on_the_cluster_is_respected() {
    let fixture = Fixture::start().await;
    let host = fixture.connections.first_host().unwrap();
    let path = "/etc/pve/priv/lock/vmdeploy-test";
    let limit = std::time::Duration::from_secs(10);
    host.run_to_success(&pve_ssh::command::files::mkdir_parents(path), limit).await.unwrap();
    let (result, _) = fixture.try_run(plan("r1", 1), &fixture.options()).await;
    assert!(matches!(result, Err(RunError::ClusterLock { .. })), "{result:?}");
    assert_eq!(fixture.runs().newest_unfinished(None, ResumeMode::Finish).unwrap().unwrap().run, "r1");
    host.run_to_success(&pve_ssh::command::files::rmdir(path), limit).await.unwrap();
    let report = fixture.resume("r1", ResumeMode::Finish).await.unwrap();
    assert_eq!(report.result, RunResult::Done);
    let gone = host.run_to_success(&pve_ssh::command::files::stat(path), limit).await;
    assert!(gone.is_err(), "the lock is freed at the end");
}
