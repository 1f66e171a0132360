//! Makes the report of a run from its plan and its journal. Pure: what is shown while a run goes on, after it ended,
//! and years later comes from the same function.

use super::{
    Leftover, REPORT_FORMAT_VERSION, RunReport, RunResult, Span, SpanKind, StepReport, StepState, VmReport,
    VmState,
};
use crate::describe;
use crate::journal::{Entry, Record};
use crate::{Failure, FailureKind, Outcome, ResumeMode, TookEffect};
use jiff::Timestamp;
use pve_types::GuestName;
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_planner::plan::{Action, Change, OnFailure, Plan, Revert, Step, StepId, Verb};

/// Makes the report of a run.
pub fn report_of(plan: &Plan, records: &[Record]) -> RunReport {
    let mut steps: Vec<StepReport> = plan.steps.iter().map(fresh).collect();
    let index: BTreeMap<StepId, usize> =
        plan.steps.iter().enumerate().map(|(index, step)| (step.id.clone(), index)).collect();
    let mut last_sign = None;
    let mut own_failures: BTreeMap<usize, Option<Failure>> = BTreeMap::new();
    for record in records {
        if let (Entry::Resumed { .. }, Some(at)) = (&record.entry, last_sign) {
            // What was open then went no further than the process that did it.
            for span in steps.iter_mut().flat_map(|step| &mut step.spans) {
                span.end.get_or_insert(at);
            }
        }
        last_sign = Some(record.at);
        if let Some(place) = step_of(&record.entry).and_then(|id| index.get(id)) {
            let step = &mut steps[*place];
            match &record.entry {
                Entry::RevertFailed { .. } if step.state != StepState::RevertFailed => {
                    own_failures.insert(*place, step.failure.clone());
                }
                // What kept it from being rolled back is over; what the step itself failed with is not.
                Entry::RevertFinished { .. } => {
                    if let Some(own) = own_failures.remove(place) {
                        step.failure = own;
                    }
                }
                _ => {}
            }
            apply(step, &plan.steps[*place], record);
        }
    }
    cover_removed_guests(plan, &mut steps);
    mark_skipped(plan, &mut steps);
    let left = leftovers(plan, &steps);
    let result = result(plan, records, &steps, &left);
    let is_over = !matches!(result, RunResult::Unfinished | RunResult::Left);
    steps.iter_mut().filter(|step| is_over || step.state == StepState::RolledBack).for_each(name_the_way_on);
    let mut by_vm: BTreeMap<&GuestName, Vec<&StepReport>> = BTreeMap::new();
    for step in &steps {
        step.vm.iter().for_each(|vm| by_vm.entry(vm).or_default().push(step));
    }
    let of_vm = |vm: &GuestName| by_vm.get(vm).map_or(&[][..], Vec::as_slice);
    let vms = plan.changes.iter().map(|change| vm_report(change, of_vm(&change.vm))).collect();
    let at = |record: Option<&Record>| record.map_or(Timestamp::UNIX_EPOCH, |record| record.at);
    RunReport {
        format_version: REPORT_FORMAT_VERSION,
        run: plan.run_id.clone(),
        project: plan.project.clone(),
        started: at(records.first()),
        ended: at(records.last()),
        result,
        vms,
        steps,
        left,
        stopped_because: stopped_because(result, records),
    }
}

/// A run that is at its end, and a VM that is rolled back, cannot be resumed: what a failure's hint says of it is done by a
/// new run.
fn name_the_way_on(step: &mut StepReport) {
    step.failure = step.failure.take().map(crate::Failure::of_what_is_reverted);
}

/// Returns why the run stopped, if it is stopped and says why.
fn stopped_because(result: RunResult, records: &[Record]) -> Option<String> {
    let last = records.iter().rev().find_map(|record| match &record.entry {
        Entry::Stopped { because, .. } => Some(because.clone()),
        Entry::Resumed { .. } => Some(None),
        _ => None,
    });
    last.flatten().filter(|_| result == RunResult::Unfinished)
}

fn fresh(step: &Step) -> StepReport {
    StepReport {
        step: step.id.clone(),
        vm: step.vm.clone(),
        title: vmdeploy_planner::render::summary(&step.action),
        transport: step.transport,
        why: step.why.clone(),
        state: StepState::NotStarted,
        spans: Vec::new(),
        upid: None,
        outcome: None,
        warnings: Vec::new(),
        failure: None,
    }
}

/// Returns the step that an entry is about.
fn step_of(entry: &Entry) -> Option<&StepId> {
    match entry {
        Entry::Started { step, .. }
        | Entry::Submitted { step, .. }
        | Entry::Succeeded { step, .. }
        | Entry::Failed { step, .. }
        | Entry::Probed { step, .. }
        | Entry::Saw { step, .. }
        | Entry::RevertStarted { step }
        | Entry::RevertFinished { step, .. }
        | Entry::RevertFailed { step, .. } => Some(step),
        Entry::RunStarted { .. }
        | Entry::Locked { .. }
        | Entry::Resumed { .. }
        | Entry::Stopped { .. }
        | Entry::Finished { .. } => None,
    }
}

/// Carries one record over into its step's report.
fn apply(step: &mut StepReport, planned: &Step, record: &Record) {
    match &record.entry {
        Entry::Started { .. } => {
            let kind = if describe::is_wait(&planned.action) { SpanKind::Wait } else { SpanKind::Work };
            begin(step, record.at, kind, StepState::Started);
        }
        Entry::Submitted { upid, .. } => step.upid = Some(upid.clone()),
        Entry::Probed { .. } | Entry::Saw { .. } => {}
        Entry::Succeeded { outcome, warnings, .. } => {
            step.outcome = Some(outcome.clone());
            step.warnings.clone_from(warnings);
            end(step, record.at, StepState::Succeeded);
        }
        Entry::Failed { failure, again, .. } => {
            step.failure = Some(failure.clone());
            end(step, record.at, if *again { StepState::Started } else { StepState::Failed });
            if let (true, Some(span)) = (*again, step.spans.last_mut()) {
                span.kind = SpanKind::Retried;
            }
        }
        Entry::RevertStarted { .. } => {
            let state = step.state.clone();
            begin(step, record.at, SpanKind::Revert, state);
        }
        Entry::RevertFinished { .. } => end(step, record.at, StepState::RolledBack),
        Entry::RevertFailed { failure, .. } => {
            step.failure = Some(revert_failure(step, failure.clone()));
            end(step, record.at, StepState::RevertFailed);
        }
        Entry::RunStarted { .. }
        | Entry::Locked { .. }
        | Entry::Resumed { .. }
        | Entry::Stopped { .. }
        | Entry::Finished { .. } => {}
    }
}

/// Returns the failure of an revert, which says of the step what it left behind.
fn revert_failure(step: &StepReport, mut failure: Failure) -> Failure {
    if let Some(before) = step.failure.as_ref().filter(|_| step.state == StepState::Failed) {
        failure.causes.push(format!("the step itself had failed: {}", before.message));
    }
    let left = match (&step.state, &step.failure) {
        (StepState::Succeeded, _) => TookEffect::Yes,
        (_, Some(before)) => before.took_effect,
        (_, None) => TookEffect::Maybe,
    };
    failure.message = format!("its revert failed: {}", failure.message);
    failure.effect_at_least(left)
}

fn begin(step: &mut StepReport, at: Timestamp, kind: SpanKind, state: StepState) {
    step.spans.push(Span { kind, start: at, end: None });
    step.state = state;
}

fn end(step: &mut StepReport, at: Timestamp, state: StepState) {
    if let Some(span) = step.spans.last_mut() {
        span.end.get_or_insert(at);
    }
    step.state = state;
}

/// Marks what was done to a guest as rolled back where its creation is rolled back: it went with the guest.
fn cover_removed_guests(plan: &Plan, steps: &mut [StepReport]) {
    let creates = |step: &Step| matches!(step.action, Action::CreateVm { .. } | Action::CloneVm { .. });
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
        if is_covered && is_quiet {
            report.state = StepState::RolledBack;
        }
        if is_covered && report.state == StepState::Failed {
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
            (StepState::Failed | StepState::RevertFailed, _) => {
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

/// Lists what steps of VMs that did not come to their end have left.
fn leftovers(plan: &Plan, steps: &[StepReport]) -> Vec<Leftover> {
    let failed = failed_vms(steps);
    let any_failed = !failed.is_empty();
    // Where another guest has the number now, it and its volumes are nothing that this run left, whatever their names:
    // nobody shall be told how to remove them.
    let is_foreign = |report: &StepReport| {
        is_bad(&report.state)
            && matches!(&report.failure, Some(failure) if failure.kind == FailureKind::NotOurs)
    };
    let foreign: BTreeSet<_> =
        steps.iter().filter(|report| is_foreign(report)).filter_map(|report| report.vm.as_ref()).collect();
    let mut left = Vec::new();
    for (step, report) in plan.steps.iter().zip(steps) {
        if step.vm.as_ref().is_some_and(|vm| foreign.contains(vm)) {
            continue;
        }
        let concerned = failed.contains(&step.vm.as_ref()) || (step.vm.is_none() && any_failed);
        if concerned && report.state != StepState::Succeeded && is_bad(&report.state)
            || concerned && made(report)
        {
            left.extend(leftover(step, report));
        }
    }
    drop_covered(&mut left, plan);
    left
}

fn is_bad(state: &StepState) -> bool {
    matches!(state, StepState::Failed | StepState::RevertFailed)
}

fn made(report: &StepReport) -> bool {
    report.state == StepState::Succeeded && report.outcome != Some(Outcome::AlreadyDone)
}

fn leftover(step: &Step, report: &StepReport) -> Option<Leftover> {
    let changed_nothing = matches!(&report.failure, Some(failure) if failure.took_effect == TookEffect::No);
    if report.state == StepState::Failed && changed_nothing {
        return None;
    }
    // The plan said before that a placed file stays for the next VM.
    let is_placed = matches!(step.action, Action::PlaceImage { .. } | Action::PlaceSnippet { .. });
    if is_placed && matches!(step.revert, Revert::CannotRevert { .. }) && report.state == StepState::Succeeded
    {
        return None;
    }
    let (what, command) = describe::leaves(&step.action, report.outcome.as_ref())?;
    let why = match (&report.state, &step.revert) {
        (StepState::RevertFailed, _) => "its revert failed".to_owned(),
        (_, Revert::CannotRevert { why }) => why.clone(),
        (StepState::Failed, _) => "it may have been made before the step failed".to_owned(),
        _ => "it was kept, so that the run can be resumed".to_owned(),
    };
    Some(Leftover { vm: step.vm.clone(), step: step.id.clone(), what, command, why })
}

/// Removes volumes of guests that are listed themselves: destroying the guest frees them.
fn drop_covered(left: &mut Vec<Leftover>, plan: &Plan) {
    let creators: Vec<_> = left
        .iter()
        .filter(|item| item.what.starts_with("VM "))
        .filter_map(|item| plan.step(&item.step)?.action.guest().map(|guest| guest.vmid))
        .collect();
    left.retain(|item| {
        let guest = plan.step(&item.step).and_then(|step| step.action.guest()).map(|guest| guest.vmid);
        item.what.starts_with("VM ") || !guest.is_some_and(|vmid| creators.contains(&vmid))
    });
}

fn result(plan: &Plan, records: &[Record], steps: &[StepReport], left: &[Leftover]) -> RunResult {
    let finished = records.iter().rposition(|record| matches!(record.entry, Entry::Finished { .. }));
    let is_at_end = finished.is_some_and(|place| place + 1 == records.len());
    if !is_at_end {
        return RunResult::Unfinished;
    }
    if steps.iter().all(|step| step.state == StepState::Succeeded) {
        return RunResult::Done;
    }
    let changed = |step: &&StepReport| {
        let is_change = step.state == StepState::Succeeded && step.outcome != Some(Outcome::AlreadyDone);
        is_change || matches!(&step.failure, Some(failure) if failure.took_effect != TookEffect::No)
    };
    let failed: Vec<&StepReport> = steps.iter().filter(|step| is_bad(&step.state)).collect();
    let any_bad = steps.iter().any(|step| is_bad(&step.state));
    let any_revert_failed = steps.iter().any(|step| step.state == StepState::RevertFailed);
    let something_is_left = !left.is_empty() || any_revert_failed || (any_bad && kept_changes(plan, steps));
    match failed.first().and_then(|step| step.failure.as_ref()) {
        _ if something_is_left => RunResult::Left,
        Some(failure) if failure.is_about_credentials() && !steps.iter().any(|s| changed(&s)) => {
            RunResult::Credentials
        }
        Some(failure) if failure.kind == FailureKind::NoQuorum && !steps.iter().any(|s| changed(&s)) => {
            RunResult::Refused
        }
        _ if is_taken_back(records) => RunResult::RolledBack,
        _ if steps.iter().any(|step| matches!(step.state, StepState::Started | StepState::NotStarted)) => {
            RunResult::Unfinished
        }
        _ => RunResult::RolledBack,
    }
}

/// Tells whether the run was last gone on with to take it back: steps that never began are then not to be done.
fn is_taken_back(records: &[Record]) -> bool {
    let mode = records.iter().rev().find_map(|record| match &record.entry {
        Entry::Resumed { mode } => Some(*mode),
        _ => None,
    });
    mode == Some(ResumeMode::Rollback)
}

/// Returns the VMs of the steps that failed; `None` is among them where a shared step did.
fn failed_vms(steps: &[StepReport]) -> BTreeSet<Option<&GuestName>> {
    steps.iter().filter(|step| is_bad(&step.state)).map(|step| step.vm.as_ref()).collect()
}

/// Tells whether a VM with a failed step has steps that changed it and are not rolled back.
fn kept_changes(plan: &Plan, steps: &[StepReport]) -> bool {
    let failed = failed_vms(steps);
    let kept = |(step, report): &(&Step, &StepReport)| {
        made(report) && !step.action.only_reads() && step.vm.is_some()
    };
    plan.steps.iter().zip(steps).filter(kept).any(|(step, _)| failed.contains(&step.vm.as_ref()))
}

/// Returns what became of a VM, whose steps are its `own`.
fn vm_report(change: &Change, own: &[&StepReport]) -> VmReport {
    let addresses = own
        .iter()
        .filter_map(|step| match &step.outcome {
            Some(Outcome::Addresses { addresses, .. }) => Some(addresses.clone()),
            _ => None,
        })
        .next_back()
        .unwrap_or_default();
    VmReport {
        vm: change.vm.clone(),
        vmid: change.guest.vmid,
        node: change.guest.node.clone(),
        verb: change.verb,
        state: vm_state(change, own),
        addresses,
    }
}

fn vm_state(change: &Change, own: &[&StepReport]) -> VmState {
    let any = |want: fn(&StepState) -> bool| own.iter().any(|step| want(&step.state));
    if own.iter().all(|step| step.state == StepState::Succeeded) {
        return VmState::Done;
    }
    if change.verb == Verb::NoOp
        || !any(|state| !matches!(state, StepState::NotStarted | StepState::Skipped { .. }))
    {
        return VmState::Untouched;
    }
    if any(|state| matches!(state, StepState::RevertFailed)) {
        return VmState::Failed;
    }
    let is_kept = any(|state| *state == StepState::Succeeded) && change.on_failure == OnFailure::Keep;
    match () {
        () if any(|state| *state == StepState::Failed)
            && (is_kept || any(|s| *s == StepState::Succeeded)) =>
        {
            VmState::Failed
        }
        () if any(|state| matches!(state, StepState::RolledBack)) => VmState::RolledBack,
        () if any(is_bad) => VmState::Failed,
        () => VmState::Unfinished,
    }
}
