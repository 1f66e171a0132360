//! Events: what a run tells while it goes on. The lines of `--json`, and what progress bars are drawn from.
//!
//! docs/events.md describes each; a reader must ignore event types and fields that it does not know, and may rely on
//! [`EVENT_FORMAT_VERSION`] growing when a field changes its meaning or goes away.

use crate::{Failure, Outcome, RevertNote, RunReport};
use jiff::Timestamp;
use pve_types::{GuestName, NodeName, Upid, Vmid};
use serde::{Deserialize, Serialize};
use vmdeploy_planner::plan::{StepId, Transport};

/// The version of the events' serialized form.
pub const EVENT_FORMAT_VERSION: u32 = 1;

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// [`EVENT_FORMAT_VERSION`].
    pub format_version: u32,
    /// When.
    pub at: Timestamp,
    /// The run.
    pub run: String,
    /// What.
    pub event: EventKind,
}

/// What happened. In JSON the field `type` says which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The run begins, or goes on. Always the first event.
    RunStarted {
        /// The project.
        project: String,
        /// SHA-256 of the plan, in hexadecimal.
        plan_digest: String,
        /// Whether an earlier run is finished.
        resumed: bool,
        /// All steps of the plan, in the plan's order.
        steps: Vec<StepHead>,
    },
    /// A step is sent out.
    StepStarted {
        /// The step.
        step: StepId,
        /// 1 for the first time.
        attempt: u32,
    },
    /// A batch of a rollout begins: the first step of one of its VMs is about to be sent out.
    BatchStarted {
        /// The group; `None` for the VMs that are in no group.
        group: Option<String>,
        /// The batch, counted from 1.
        batch: usize,
        /// The number of batches.
        batches: usize,
        /// Its VMs.
        vms: Vec<GuestName>,
    },
    /// PVE made a task of it.
    StepSubmitted {
        /// The step.
        step: StepId,
        /// The task.
        upid: Upid,
    },
    /// A step tells how far it is.
    StepProgress {
        /// The step.
        step: StepId,
        /// How much is done, 0 to 100, where that is known.
        percent: Option<f64>,
        /// What it is at, in a few words; for a wait, what was last seen.
        text: String,
    },
    /// A step failed without any effect, or was found rolled back, and is tried again.
    StepRetrying {
        /// The step.
        step: StepId,
        /// The attempt that follows.
        attempt: u32,
        /// After this time, in milliseconds.
        wait_ms: u64,
        /// What happened.
        failure: Failure,
    },
    /// The cluster was asked whether a step that had begun took effect.
    StepProbed {
        /// The step.
        step: StepId,
        /// What was found.
        found: Found,
    },
    /// A step is done.
    StepSucceeded {
        /// The step.
        step: StepId,
        /// What came of it.
        outcome: Outcome,
        /// Warnings of its task, as its log has them.
        warnings: Vec<String>,
        /// How long it took, in milliseconds, all attempts together.
        took_ms: u64,
    },
    /// A step failed, and is not tried again.
    StepFailed {
        /// The step.
        step: StepId,
        /// What happened.
        failure: Failure,
        /// How long it took, in milliseconds, all attempts together.
        took_ms: u64,
        /// Whether what was made for its VM is rolled back now.
        #[serde(default)]
        revert: bool,
    },
    /// A step is not done because another failed.
    StepSkipped {
        /// The step.
        step: StepId,
        /// The step that failed.
        because: StepId,
    },
    /// A step's revert begins.
    RevertStarted {
        /// The step.
        step: StepId,
    },
    /// A step is rolled back.
    RevertFinished {
        /// The step.
        step: StepId,
        /// What was done.
        note: RevertNote,
    },
    /// A step could not be rolled back.
    RevertFailed {
        /// The step.
        step: StepId,
        /// What happened.
        failure: Failure,
    },
    /// The user asked to stop.
    Cancelling {
        /// Whether what is on the wire is given up too.
        now: bool,
    },
    /// Something worth saying that belongs to no step's end.
    Note {
        /// The VM it concerns.
        vm: Option<GuestName>,
        /// One sentence, without a final period.
        text: String,
    },
    /// The run is over; no event follows.
    RunFinished {
        /// All of it.
        report: Box<RunReport>,
    },
}

/// What a step is, for those who draw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepHead {
    /// The step.
    pub id: StepId,
    /// Its VM; `None` when several VMs need it.
    pub vm: Option<GuestName>,
    /// Its VMID.
    pub vmid: Option<Vmid>,
    /// The node it works on, as planned.
    pub node: Option<NodeName>,
    /// What it does, as the plan words it ([`vmdeploy_planner::render::summary`]).
    pub title: String,
    /// Whether it only reads, so that its outcome is not worth a word.
    pub only_reads: bool,
    /// Its transport.
    pub transport: Transport,
    /// The steps before it.
    pub after: Vec<StepId>,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum Found {
    /// The effect is there.
    Done {
        /// What came of it.
        outcome: Outcome,
    },
    /// The effect is not there; the step may be done.
    NotDone,
    /// Some of it is there; what is missing is done.
    Partly {
        /// What is there, in words.
        what: String,
    },
}
