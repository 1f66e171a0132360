//! The report of a run: everything that is known of it afterwards.

mod html;

pub use html::html_page;

use crate::{Failure, FailureKind, Outcome};
use jiff::Timestamp;
use pve_types::{GuestName, NodeName, Upid, Vmid};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use vmdeploy_planner::plan::{StepId, Transport, Verb};

/// The version of the report's serialized form.
pub const REPORT_FORMAT_VERSION: u32 = 1;

/// A run, as it stands or as it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// [`REPORT_FORMAT_VERSION`].
    pub format_version: u32,
    /// The run.
    pub run: String,
    /// The project.
    pub project: String,
    /// When it began.
    pub started: Timestamp,
    /// When its journal ends.
    pub ended: Timestamp,
    /// How it ended.
    pub result: RunResult,
    /// The VMs, in the spec's order.
    pub vms: Vec<VmReport>,
    /// The steps, in the plan's order.
    pub steps: Vec<StepReport>,
    /// What was made and is still there although the run failed, with the command that removes it.
    pub left: Vec<Leftover>,
    /// What resuming the run would do.
    pub resume: Resuming,
    /// The rollouts that did not come to their end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_rollouts: Vec<OpenRollout>,
    /// Why an unfinished run stopped, where it was not the user who stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_because: Option<String>,
}

/// A rollout of which VMs were not begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRollout {
    /// The group; `None` for the VMs that are in no group.
    pub group: Option<String>,
    /// The first batch that is not done, counted from 1.
    pub batch: usize,
    /// The number of batches.
    pub batches: usize,
    /// The VMs of that batch, and of later ones, that were not begun.
    pub not_begun: Vec<GuestName>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunResult {
    /// Everything was done.
    Done,
    /// It failed, and nothing of the run remains: it is rolled back, or nothing had happened.
    RolledBack,
    /// Some VMs failed and are rolled back or unchanged; what was done to the others, or an image that was placed, remains.
    PartlyDone,
    /// It failed, and something of what failed remains.
    Left,
    /// It failed because of credentials, before anything had happened.
    Credentials,
    /// It failed because the cluster has no quorum, before anything had happened.
    Refused,
    /// It was interrupted, or is still going on; it may be resumed.
    Unfinished,
}

impl RunResult {
    /// Returns the exit code of the program that ran it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 4,
            Self::RolledBack => 5,
            Self::PartlyDone | Self::Left => 6,
            Self::Credentials => 7,
            Self::Unfinished => 8,
        }
    }
}

/// One VM's part of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmReport {
    /// Its name.
    pub vm: GuestName,
    /// Its number.
    pub vmid: Vmid,
    /// Its node, as planned.
    pub node: NodeName,
    /// What was to be done to it.
    pub verb: Verb,
    /// What became of it.
    pub state: VmState,
    /// The steps, in words, that changed it and are not rolled back, where it is neither done nor rolled back. A step
    /// that may have taken effect ends with `(perhaps)`.
    #[serde(default)]
    pub remains: Vec<String>,
    /// Its addresses, if they were waited for.
    pub addresses: Vec<IpAddr>,
}

/// What became of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    /// It is as the spec says.
    Done,
    /// Nothing was done to it.
    Untouched,
    /// A step failed or the run was rolled back, and nothing of what was done to it remains.
    RolledBack,
    /// It is made and configured, and did not become ready in time; it is kept.
    NotReady,
    /// A step failed; [`VmReport::remains`] says what of the VM's steps remains.
    Failed,
    /// Some of it is done.
    Unfinished,
}

/// One step's part of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The step.
    pub step: StepId,
    /// Its VM.
    pub vm: Option<GuestName>,
    /// What it does, in a few words.
    pub title: String,
    /// Its transport.
    pub transport: Transport,
    /// Why that transport.
    pub why: String,
    /// How far it came.
    pub state: StepState,
    /// Each time that it was sent out, or rolled back.
    pub spans: Vec<Span>,
    /// Its task, the last one.
    pub upid: Option<Upid>,
    /// What came of it.
    pub outcome: Option<Outcome>,
    /// Warnings of its task.
    pub warnings: Vec<String>,
    /// What went wrong, the last time that something did.
    pub failure: Option<Failure>,
}

/// How far a step came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum StepState {
    /// It was never sent out.
    NotStarted,
    /// It was not sent out because another failed.
    Skipped {
        /// The one that failed.
        because: StepId,
    },
    /// It was sent out, and its end is not in the journal.
    Started,
    /// It is done.
    Succeeded,
    /// It failed.
    Failed,
    /// It was done or begun, and is rolled back.
    RolledBack,
    /// It could not be rolled back.
    RevertFailed,
}

/// A stretch of time that a step took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// What was done in it.
    pub kind: SpanKind,
    /// When it began.
    pub start: Timestamp,
    /// When it ended; `None` when the journal does not say.
    pub end: Option<Timestamp>,
}

/// What was done in a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// The step's work.
    Work,
    /// An attempt that was made again.
    Retried,
    /// A wait for the guest.
    Wait,
    /// Its revert.
    Revert,
}

/// Something that a run made and could not take away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// The VM it belongs to.
    pub vm: Option<GuestName>,
    /// The step that made it.
    pub step: StepId,
    /// What it is.
    pub what: String,
    /// The command that removes it, as it is typed on the node.
    pub command: String,
    /// Why it is left, as a fragment.
    pub why: String,
}

/// What resuming a run would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resuming {
    /// It finishes what is not done.
    Finish,
    /// It reverts what could not be rolled back.
    Revert,
    /// Some VMs are finished, others rolled back.
    Both,
    /// Nothing: the run is at its end, or its open VMs cannot be continued, see [`RunReport::displaced`].
    Nothing,
}

impl RunReport {
    /// Returns the exit code of the program that ran it.
    pub fn exit_code(&self) -> u8 {
        self.result.exit_code()
    }
    /// Returns the addresses that were found, by VM.
    pub fn addresses(&self) -> BTreeMap<&GuestName, &[IpAddr]> {
        self.vms.iter().map(|vm| (&vm.vm, vm.addresses.as_slice())).collect()
    }
    /// Returns the failures that were not followed by success: those of steps in the plan's order, then those of reverts,
    /// which they led to.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.failed_steps().map(|(_, failure)| failure)
    }
    /// Returns the same failures, each with its step.
    pub fn failed_steps(&self) -> impl Iterator<Item = (&StepReport, &Failure)> {
        let is_revert = |step: &&StepReport| step.state == StepState::RevertFailed;
        let open = self.steps.iter().filter(|step| step.state != StepState::Succeeded);
        let first = open.filter(move |step| !is_revert(step));
        let all = first.chain(self.steps.iter().filter(is_revert));
        all.filter_map(|step| step.failure.as_ref().map(|failure| (step, failure)))
    }
    /// Returns the VMs for which something is left to be done.
    pub fn open_vms(&self) -> impl Iterator<Item = &VmReport> {
        let is_unfinished = self.result == RunResult::Unfinished;
        self.vms.iter().filter(move |vm| match vm.state {
            VmState::Failed | VmState::NotReady | VmState::Unfinished => true,
            VmState::Untouched => is_unfinished && vm.verb != Verb::NoOp,
            VmState::Done | VmState::RolledBack => false,
        })
    }
    pub(crate) fn has_open_vms(&self) -> bool {
        self.open_vms().next().is_some()
    }
    /// Returns the VMs that this run cannot go on with, because the guest that has the number is not the run's.
    pub fn displaced(&self) -> Vec<&VmReport> {
        let is_taken = |step: &StepReport| is_bad(&step.state) && is_of_others(step);
        let taken = self.vms_with(is_taken);
        self.vms.iter().filter(|vm| taken.contains(&vm.vm)).collect()
    }
    /// Returns the VMs that have such a step.
    fn vms_with(&self, is_such: impl Fn(&StepReport) -> bool) -> BTreeSet<&GuestName> {
        self.steps.iter().filter(|step| is_such(step)).filter_map(|step| step.vm.as_ref()).collect()
    }
}

impl StepReport {
    /// Says in a few words whether the step that failed took effect, as things stand now.
    pub fn effect_now(&self) -> String {
        match (&self.state, &self.failure) {
            (_, None) => String::new(),
            (StepState::RolledBack, Some(failure)) if failure.took_effect != crate::TookEffect::No => {
                "its changes are rolled back".to_owned()
            }
            (StepState::RevertFailed, Some(failure)) if failure.took_effect == crate::TookEffect::Yes => {
                "its changes remain".to_owned()
            }
            (_, Some(failure)) => failure.took_effect.to_string(),
        }
    }
}

/// Tells whether a step failed, or its revert did.
pub(crate) fn is_bad(state: &StepState) -> bool {
    matches!(state, StepState::Failed | StepState::RevertFailed)
}

/// Tells whether the step failed because the guest that has the number is not the run's.
pub(crate) fn is_of_others(report: &StepReport) -> bool {
    let kind = report.failure.as_ref().map(|failure| failure.kind);
    matches!(kind, Some(FailureKind::NotOurs | FailureKind::VmidTaken))
}
