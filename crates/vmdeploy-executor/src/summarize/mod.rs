//! Makes the report of a run from its plan and its journal. Pure: what is shown while a run goes on, after it ended,
//! and years later comes from the same function.

mod outcome;

use crate::describe;
use crate::journal::{Record, RunHistory, StepHistory};
use crate::report::{
    OpenRollout, REPORT_FORMAT_VERSION, Resuming, RunReport, RunResult, SpanKind, StepReport, StepState,
    VmReport, VmState, is_bad,
};
use crate::{Failure, TookEffect};
use jiff::Timestamp;
use outcome::{RunOutcome, name_the_way_on};
use pve_types::GuestName;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use vmdeploy_planner::plan::{Action, PatchValue, Plan, PlannedRollout, Ref, Revert, Step, StepId};

/// Makes the report of a run.
pub fn report_of(plan: &Plan, records: &[Record]) -> RunReport {
    report_from(plan, &RunHistory::of(records, Duration::ZERO))
}

/// Makes the report of a run whose journal is folded already.
pub(crate) fn report_from(plan: &Plan, history: &RunHistory) -> RunReport {
    report(plan, history, history.is_at_end)
}

/// Makes the report that the run would have if it ended now.
pub(crate) fn report_at_end(plan: &Plan, history: &RunHistory) -> RunReport {
    report(plan, history, true)
}

fn report(plan: &Plan, history: &RunHistory, is_at_end: bool) -> RunReport {
    let mut steps: Vec<StepReport> =
        plan.steps.iter().map(|step| step_report(step, history.step(&step.id))).collect();
    cover_removed_guests(plan, &mut steps);
    cover_removed_disks(plan, &mut steps);
    mark_skipped(plan, &mut steps);
    let RunOutcome { result, vms, left, resume } = RunOutcome::of(plan, &steps, history, is_at_end);
    for step in &mut steps {
        if resume == Resuming::Nothing || step.state == StepState::RolledBack {
            step.failure = name_the_way_on(step.failure.take());
        }
    }
    let stopped_because = history.stopped.clone().flatten().filter(|_| result == RunResult::Unfinished);
    RunReport {
        format_version: REPORT_FORMAT_VERSION,
        run: plan.run_id.clone(),
        project: plan.project.clone(),
        started: history.started.unwrap_or(Timestamp::UNIX_EPOCH),
        ended: history.ended.unwrap_or(Timestamp::UNIX_EPOCH),
        result,
        open_rollouts: open_rollouts(plan, &vms),
        vms,
        steps,
        left,
        resume,
        stopped_because,
    }
}

/// Returns the rollouts of which VMs were not begun.
fn open_rollouts(plan: &Plan, vms: &[VmReport]) -> Vec<OpenRollout> {
    let states: BTreeMap<&GuestName, VmState> = vms.iter().map(|vm| (&vm.vm, vm.state)).collect();
    let state = |vm: &GuestName| states.get(vm).copied();
    let open = |rollout: &PlannedRollout| {
        let is_done = |batch: &Vec<GuestName>| batch.iter().all(|vm| state(vm) == Some(VmState::Done));
        let at = rollout.batches.iter().position(|batch| !is_done(batch))?;
        let later = rollout.batches[at..].iter().flatten();
        let not_begun: Vec<GuestName> =
            later.filter(|vm| state(vm) == Some(VmState::Untouched)).cloned().collect();
        let (group, batches) = (rollout.group.clone(), rollout.batches.len());
        (!not_begun.is_empty()).then_some(OpenRollout { group, batch: at + 1, batches, not_begun })
    };
    plan.rollouts.iter().filter_map(open).collect()
}

fn step_report(step: &Step, history: Option<&StepHistory>) -> StepReport {
    let history = history.cloned().unwrap_or_default();
    let mut spans = history.spans.clone();
    let is_wait = describe::is_wait(&step.action);
    for span in spans.iter_mut().filter(|span| is_wait && span.kind == SpanKind::Work) {
        span.kind = SpanKind::Wait;
    }
    let failure = match &history.revert_failure {
        Some(failure) => Some(revert_failure(&history, failure.clone())),
        None => history.failure,
    };
    StepReport {
        step: step.id.clone(),
        vm: step.vm.clone(),
        title: vmdeploy_planner::render::summary(&step.action),
        transport: step.transport,
        why: step.why.clone(),
        state: history.state,
        spans,
        upid: history.upid,
        outcome: history.outcome,
        warnings: history.warnings,
        failure,
    }
}

/// Returns the failure of a revert, which says of the step what it left behind.
fn revert_failure(history: &StepHistory, mut failure: Failure) -> Failure {
    let own = history.failure.as_ref().filter(|_| history.state_before_revert == StepState::Failed);
    if let Some(own) = own {
        failure.causes.push(format!("the step itself failed: {}", own.message));
    }
    let left = match (&history.state_before_revert, own) {
        (StepState::Succeeded, _) => TookEffect::Yes,
        (_, Some(own)) => own.took_effect,
        (_, None) => TookEffect::Maybe,
    };
    failure.message = format!("its revert failed: {}", failure.message);
    failure.effect_at_least(left)
}

/// Marks what was done to a guest as rolled back where its creation is rolled back: it went with the guest.
fn cover_removed_guests(plan: &Plan, steps: &mut [StepReport]) {
    let creates = |step: &Step| step.action.made_guest().is_some();
    let removed: Vec<_> = plan
        .steps
        .iter()
        .zip(steps.iter())
        .filter(|(step, report)| creates(step) && report.state == StepState::RolledBack)
        .filter_map(|(step, _)| step.vm.clone())
        .collect();
    for (step, report) in plan.steps.iter().zip(steps.iter_mut()) {
        let is_covered = step.vm.as_ref().is_some_and(|vm| removed.contains(vm));
        let is_quiet = matches!(step.revert, Revert::Nothing)
            && matches!(report.state, StepState::Succeeded | StepState::Started);
        let goes_with_guest = step.action.guest().is_some();
        if is_covered && (is_quiet || (report.state == StepState::Failed && goes_with_guest)) {
            report.state = StepState::RolledBack;
        }
    }
}

/// Marks the growth of a disk as rolled back where the disk itself is, with all that was done to it.
fn cover_removed_disks(plan: &Plan, steps: &mut [StepReport]) {
    let slots_of = |step: &Step| -> Vec<String> {
        let Action::SetConfig { patch, .. } = &step.action else { return Vec::new() };
        let is_disk = |value: &PatchValue| {
            value.allocates_on().is_some()
                || matches!(value, PatchValue::Drive { volume: Ref::OutputOf(_), .. })
        };
        patch.set.iter().filter(|(_, value)| is_disk(value)).map(|(slot, _)| slot.clone()).collect()
    };
    let mut removed = BTreeSet::new();
    for (step, report) in plan.steps.iter().zip(steps.iter_mut()) {
        if report.state == StepState::RolledBack {
            removed.extend(slots_of(step).into_iter().map(|slot| (step.vm.clone(), slot)));
        }
        let Action::ResizeDisk { slot, .. } = &step.action else { continue };
        let is_over = !matches!(report.state, StepState::NotStarted | StepState::Skipped { .. });
        if is_over && removed.contains(&(step.vm.clone(), slot.to_string())) {
            report.state = StepState::RolledBack;
        }
    }
}

/// Marks the steps that were not begun because one before them failed or was rolled back.
fn mark_skipped(plan: &Plan, steps: &mut [StepReport]) {
    let mut causes: BTreeMap<&StepId, StepId> = BTreeMap::new();
    for (step, report) in plan.steps.iter().zip(steps.iter_mut()) {
        let inherited = step.after.iter().find_map(|before| causes.get(before).cloned());
        match (&report.state, inherited) {
            (state, _) if is_bad(state) => {
                causes.insert(&step.id, step.id.clone());
            }
            (StepState::RolledBack, _) if report.failure.is_some() => {
                causes.insert(&step.id, step.id.clone());
            }
            (StepState::NotStarted, Some(because)) => {
                report.state = StepState::Skipped { because: because.clone() };
                causes.insert(&step.id, because);
            }
            (_, Some(because)) => {
                causes.insert(&step.id, because);
            }
            _ => {}
        }
    }
}
