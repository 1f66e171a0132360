//! How a run ended: the one computation behind exit code, summary line, list of runs, JSON and HTML.

use crate::journal::RunHistory;
use crate::report::{
    Leftover, Resuming, RunReport, RunResult, StepReport, StepState, VmReport, VmState, is_bad, is_of_others,
};
use crate::{Failure, FailureKind, Outcome, ResumeMode, TookEffect, describe};
use pve_types::GuestName;
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_planner::plan::{Action, Change, Plan, Revert, Step, Verb};

/// What a run did to the cluster, as far as its journal knows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RunOutcome {
    /// How it ended.
    pub(super) result: RunResult,
    /// What became of each VM, in the plan's order.
    pub(super) vms: Vec<VmReport>,
    /// What is left that can be removed by a command.
    pub(super) left: Vec<Leftover>,
    /// What resuming it would do.
    pub(super) resume: Resuming,
}

impl RunOutcome {
    /// Computes the outcome. `is_at_end` says whether the run came to its end, or how it would end now.
    pub(super) fn of(plan: &Plan, steps: &[StepReport], history: &RunHistory, is_at_end: bool) -> Self {
        let all = Steps::new(plan, steps);
        let vms: Vec<VmReport> = plan.changes.iter().map(|change| all.vm_report(change)).collect();
        let left = all.leftovers(&vms);
        let is_rolled_back = history.mode == Some(ResumeMode::Rollback);
        let result = all.result(&vms, &left, is_rolled_back, is_at_end);
        let resume = all.resuming(&vms, result);
        Self { result, vms, left, resume }
    }
}

/// A step of the plan with what became of it.
type Pair<'a> = (&'a Step, &'a StepReport);

/// The steps of a run, by VM.
struct Steps<'a> {
    all: Vec<Pair<'a>>,
    by_vm: BTreeMap<&'a GuestName, Vec<Pair<'a>>>,
}

impl<'a> Steps<'a> {
    fn new(plan: &'a Plan, reports: &'a [StepReport]) -> Self {
        let all: Vec<Pair<'a>> = plan.steps.iter().zip(reports).collect();
        let mut by_vm: BTreeMap<&GuestName, Vec<Pair<'a>>> = BTreeMap::new();
        for pair in &all {
            pair.0.vm.iter().for_each(|vm| by_vm.entry(vm).or_default().push(*pair));
        }
        Self { all, by_vm }
    }

    fn of_vm(&self, vm: &GuestName) -> &[Pair<'a>] {
        self.by_vm.get(vm).map_or(&[], Vec::as_slice)
    }

    fn any(&self, is_such: impl Fn(&StepReport) -> bool) -> bool {
        self.all.iter().any(|(_, report)| is_such(report))
    }

    fn vm_report(&self, change: &Change) -> VmReport {
        let own = self.of_vm(&change.vm);
        let state = vm_state(change, own);
        let addresses = own.iter().rev().find_map(|(_, report)| match &report.outcome {
            Some(Outcome::Addresses { addresses, .. }) => Some(addresses.clone()),
            _ => None,
        });
        let remains = match state {
            VmState::Done | VmState::Untouched | VmState::RolledBack => Vec::new(),
            VmState::NotReady | VmState::Failed | VmState::Unfinished => {
                let titles = own.iter().filter(|pair| remains(pair, own)).map(remaining_title);
                titles.collect()
            }
        };
        VmReport {
            vm: change.vm.clone(),
            vmid: change.guest.vmid,
            node: change.guest.node.clone(),
            verb: change.verb,
            state,
            remains,
            addresses: addresses.unwrap_or_default(),
        }
    }

    /// Lists what the run left that a command removes.
    fn leftovers(&self, vms: &[VmReport]) -> Vec<Leftover> {
        let in_state = |is_such: fn(VmState) -> bool| -> BTreeSet<&GuestName> {
            vms.iter().filter(|vm| is_such(vm.state)).map(|vm| &vm.vm).collect()
        };
        let broken = in_state(|state| matches!(state, VmState::Failed));
        let any_done = vms
            .iter()
            .any(|vm| matches!(vm.state, VmState::Done | VmState::NotReady) && vm.verb != Verb::NoOp);
        let any_bad = self.any(|report| is_bad(&report.state));
        // Where another guest has the number now, it and its volumes are nothing that this run left, whatever their
        // names: the report must not say how to remove them.
        let foreign: BTreeSet<&GuestName> = self
            .all
            .iter()
            .filter(|(_, report)| is_foreign(report))
            .filter_map(|(step, _)| step.vm.as_ref())
            .collect();
        let is_concerned = |(step, report): &&Pair<'_>| match &step.vm {
            Some(vm) if foreign.contains(vm) => false,
            Some(vm) if broken.contains(vm) => true,
            // Files for one VM that is rolled back or untouched.
            Some(_) => is_placement(&step.action) && !any_done && report.state == StepState::Succeeded,
            // What others use stays; a shared file is left where no VM came of it.
            None => is_bad(&report.state) || !any_done,
        };
        let ended_badly = any_bad || self.any(|report| report.state == StepState::RolledBack);
        let pairs = self.all.iter().filter(|_| ended_badly).filter(is_concerned);
        let mut left: Vec<(&Step, Leftover)> =
            pairs.filter_map(|(step, report)| Some((*step, leftover(step, report)?))).collect();
        drop_covered(&mut left);
        left.into_iter().map(|(_, left)| left).collect()
    }

    fn result(
        &self,
        vms: &[VmReport],
        left: &[Leftover],
        is_rolled_back: bool,
        is_at_end: bool,
    ) -> RunResult {
        if !is_at_end {
            return RunResult::Unfinished;
        }
        if self.all.iter().all(|(_, report)| report.state == StepState::Succeeded) {
            return RunResult::Done;
        }
        let is_broken = |vm: &VmReport| {
            matches!(vm.state, VmState::NotReady)
                || (matches!(vm.state, VmState::Failed | VmState::Unfinished) && !vm.remains.is_empty())
        };
        let any_bad = self.any(|report| is_bad(&report.state));
        let is_unfinished =
            |report: &StepReport| matches!(report.state, StepState::Started | StepState::NotStarted);
        if vms.iter().any(is_broken) || self.any(|report| report.state == StepState::RevertFailed) {
            return if any_bad || is_rolled_back { RunResult::Left } else { RunResult::Unfinished };
        }
        if !any_bad && !is_rolled_back && self.any(is_unfinished) {
            return RunResult::Unfinished;
        }
        let is_made = |vm: &VmReport| {
            let own = self.of_vm(&vm.vm);
            vm.state == VmState::Done && own.iter().any(|pair| remains(pair, own))
        };
        let shared_remain = self.all.iter().any(|pair| pair.0.vm.is_none() && remains(pair, &[]));
        if vms.iter().any(is_made) || !left.is_empty() || shared_remain {
            return RunResult::PartlyDone;
        }
        match self.all.iter().find(|(_, r)| is_bad(&r.state)).and_then(|(_, r)| r.failure.as_ref()) {
            Some(failure) if failure.is_about_credentials() && !self.was_any_changed() => {
                RunResult::Credentials
            }
            Some(failure) if failure.kind == FailureKind::NoQuorum && !self.was_any_changed() => {
                RunResult::Refused
            }
            _ => RunResult::RolledBack,
        }
    }

    /// Tells whether a step changed something, be it that it was rolled back since.
    fn was_any_changed(&self) -> bool {
        self.any(|report| {
            report.state == StepState::RolledBack
                || (report.outcome.as_ref().is_some_and(|outcome| *outcome != Outcome::AlreadyDone))
                || matches!(&report.failure, Some(failure) if failure.took_effect != TookEffect::No)
        })
    }

    /// Returns what resuming the run would do.
    fn resuming(&self, vms: &[VmReport], result: RunResult) -> Resuming {
        if !matches!(result, RunResult::Unfinished | RunResult::Left | RunResult::PartlyDone) {
            return Resuming::Nothing;
        }
        let has = |vm: &VmReport, is_such: fn(&StepReport) -> bool| {
            self.of_vm(&vm.vm).iter().any(|(_, report)| is_such(report))
        };
        let is_open = |vm: &&VmReport| {
            let may_go_on = matches!(vm.state, VmState::Failed | VmState::NotReady | VmState::Unfinished)
                || (result == RunResult::Unfinished && vm.state == VmState::Untouched);
            may_go_on && !has(vm, |report| is_bad(&report.state) && is_of_others(report))
        };
        let open = vms.iter().filter(is_open);
        let reverts: Vec<bool> =
            open.map(|vm| has(vm, |report| report.state == StepState::RevertFailed)).collect();
        match (reverts.contains(&true), reverts.contains(&false)) {
            (true, false) => Resuming::Revert,
            (true, true) => Resuming::Both,
            (false, true) => Resuming::Finish,
            (false, false) if result == RunResult::Unfinished => Resuming::Finish,
            (false, false) if self.any(|r| r.vm.is_none() && r.state == StepState::RevertFailed) => {
                Resuming::Revert
            }
            (false, false) => Resuming::Nothing,
        }
    }
}

impl RunReport {
    /// Returns the end of the run in one line: how many VMs were made and remain, changed, rolled back, and how it ended.
    /// The summary, the list of runs and the page say this.
    pub fn headline(&self) -> String {
        let how = self.result_text();
        match counts(&self.vms) {
            Some(counts) => format!("{counts}: {how}"),
            None => how,
        }
    }

    /// Says how the run ended, without its VMs.
    pub fn result_text(&self) -> String {
        let any = |is_such: fn(&StepReport) -> bool| self.steps.iter().any(is_such);
        match self.result {
            RunResult::Done => "done".to_owned(),
            RunResult::RolledBack if self.failures().next().is_none() => {
                "rolled back; nothing of this run remains".to_owned()
            }
            RunResult::RolledBack if any(|step| step.state == StepState::RolledBack) => {
                "failed; rolled back; nothing of this run remains".to_owned()
            }
            RunResult::RolledBack => "failed; nothing was changed".to_owned(),
            RunResult::PartlyDone if any(|step| step.state == StepState::RolledBack) => {
                "partially failed; failed VMs are rolled back, the rest of this run remains".to_owned()
            }
            RunResult::PartlyDone => "partially failed; the rest of this run remains".to_owned(),
            RunResult::Left if self.left.is_empty() && !self.displaced().is_empty() => {
                "failed; check the VMs named above".to_owned()
            }
            RunResult::Left => "failed; parts of the failed VMs remain".to_owned(),
            RunResult::Credentials => "refused: credentials or permissions; nothing was changed".to_owned(),
            RunResult::Refused => "refused by the cluster; nothing was changed".to_owned(),
            RunResult::Unfinished => match &self.stopped_because {
                Some(why) => format!("unfinished, because {why}"),
                None => "unfinished".to_owned(),
            },
        }
    }
}

/// Returns e.g. `3 created, 1 changed`; `None` for a run that is about no VM.
fn counts(vms: &[VmReport]) -> Option<String> {
    let count = |is_such: &dyn Fn(&VmReport) -> bool| vms.iter().filter(|vm| is_such(vm)).count();
    let done = |verbs: &'static [Verb]| {
        count(&|vm: &VmReport| vm.state == VmState::Done && verbs.contains(&vm.verb))
    };
    let in_state = |state: VmState| count(&|vm: &VmReport| vm.state == state && vm.verb != Verb::NoOp);
    let parts = [
        (done(&[Verb::Create]), "created"),
        (done(&[Verb::Update, Verb::UpdatePending]), "changed"),
        (done(&[Verb::Replace]), "replaced"),
        (done(&[Verb::Delete]), "destroyed"),
        (count(&|vm| vm.verb == Verb::NoOp), "unchanged"),
        (in_state(VmState::NotReady), "not ready"),
        (in_state(VmState::RolledBack), "rolled back"),
        (in_state(VmState::Failed), "failed"),
        (in_state(VmState::Unfinished), "unfinished"),
        (in_state(VmState::Untouched), "not started"),
    ];
    let shown: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

fn is_foreign(report: &StepReport) -> bool {
    is_bad(&report.state) && matches!(&report.failure, Some(failure) if failure.kind == FailureKind::NotOurs)
}

/// Tells whether the step puts a file on a storage that other VMs may use later.
fn is_placement(action: &Action) -> bool {
    matches!(action, Action::PlaceImage { .. } | Action::PlaceSnippet { .. })
}

/// Tells whether something of what the step did may still be there; `own` are all steps of its VM.
fn remains((step, report): &Pair<'_>, own: &[Pair<'_>]) -> bool {
    if step.action.only_reads() || is_transient(step, own) {
        return false;
    }
    match report.state {
        StepState::Succeeded => {
            report.outcome.as_ref().is_none_or(|outcome| *outcome != Outcome::AlreadyDone)
        }
        StepState::Started | StepState::RevertFailed => true,
        StepState::Failed => {
            report.failure.as_ref().is_none_or(|failure| failure.took_effect != TookEffect::No)
        }
        StepState::NotStarted | StepState::Skipped { .. } | StepState::RolledBack => false,
    }
}

/// Tells whether what the step does is made again from the configuration, or ends an interruption of the run's own.
fn is_transient(step: &Step, own: &[Pair<'_>]) -> bool {
    match &step.action {
        Action::RegenerateCloudInit { .. } => true,
        // A guest that the run itself had stopped.
        Action::StartVm { .. } => {
            own.iter().take_while(|(other, _)| other.id != step.id).any(|(other, _)| {
                matches!(other.action, Action::ShutdownVm { .. } | Action::StopVm { .. })
                    && matches!(other.revert, Revert::Run { .. })
            })
        }
        _ => false,
    }
}

/// Says of a step that something of it remains what it is.
fn remaining_title((step, report): &Pair<'_>) -> String {
    let title = vmdeploy_planner::render::summary(&step.action);
    match (&report.state, report.failure.as_ref().map(|failure| failure.took_effect)) {
        (StepState::Succeeded, _) => title,
        (StepState::RevertFailed, _) => format!("{title} (its revert failed)"),
        (StepState::Failed, Some(TookEffect::Yes)) => format!("{title} (partially)"),
        _ => format!("{title} (perhaps)"),
    }
}

fn vm_state(change: &Change, own: &[Pair<'_>]) -> VmState {
    let any = |is_such: fn(&StepState) -> bool| own.iter().any(|(_, report)| is_such(&report.state));
    let is_done = |(_, report): &Pair<'_>| report.state == StepState::Succeeded;
    if own.iter().all(is_done) {
        return VmState::Done;
    }
    let is_begun = any(|state| !matches!(state, StepState::NotStarted | StepState::Skipped { .. }));
    if change.verb == Verb::NoOp || !is_begun {
        return VmState::Untouched;
    }
    let anything_remains = own.iter().any(|pair| remains(pair, own));
    let is_wait = |(step, _): &Pair<'_>| describe::is_wait(&step.action);
    match () {
        () if any(|state| *state == StepState::RevertFailed) => VmState::Failed,
        () if any(|state| *state == StepState::Failed) => {
            let open = own.iter().filter(|pair| !is_done(pair));
            let only_waits = own.iter().any(|pair| !is_wait(pair)) && open.clone().all(is_wait);
            match anything_remains {
                true if only_waits => VmState::NotReady,
                false if any(|state| *state == StepState::RolledBack) => VmState::RolledBack,
                _ => VmState::Failed,
            }
        }
        () if any(|state| *state == StepState::RolledBack) && !anything_remains => VmState::RolledBack,
        // A rollback leaves steps behind that nothing reverts.
        () if any(|state| *state == StepState::RolledBack) => VmState::Failed,
        () => VmState::Unfinished,
    }
}

fn leftover(step: &Step, report: &StepReport) -> Option<Leftover> {
    if !remains(&(step, report), &[]) {
        return None;
    }
    let (what, command) = describe::leaves(&step.action, report.outcome.as_ref())?;
    let why = match (&report.state, &step.revert) {
        (StepState::RevertFailed, _) => "its revert failed".to_owned(),
        (StepState::Failed | StepState::Started, _) => {
            "it may have been created before the step failed".to_owned()
        }
        (_, Revert::CannotRevert { why }) => why.clone(),
        _ => "kept so that the run can be resumed".to_owned(),
    };
    Some(Leftover { vm: step.vm.clone(), step: step.id.clone(), what, command, why })
}

/// Removes volumes of guests that are listed themselves: destroying the guest frees them.
fn drop_covered(left: &mut Vec<(&Step, Leftover)>) {
    let makes = |step: &Step| step.action.made_guest().is_some();
    let vmid = |step: &Step| step.action.guest().map(|guest| guest.vmid);
    let made: BTreeSet<_> =
        left.iter().filter(|(step, _)| makes(step)).filter_map(|(step, _)| vmid(step)).collect();
    left.retain(|(step, _)| makes(step) || vmid(step).is_none_or(|vmid| !made.contains(&vmid)));
}

/// A run that is at its end, and a VM that is rolled back, cannot be resumed: what a failure's hint says of it is done by
/// a new run.
pub(super) fn name_the_way_on(failure: Option<Failure>) -> Option<Failure> {
    failure.map(Failure::of_what_is_reverted)
}
