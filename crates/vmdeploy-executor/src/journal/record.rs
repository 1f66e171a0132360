//! What the journal holds: an intent log, one JSON object a line.
//!
//! A step's life is `started`, maybe `submitted`, then `succeeded` or `failed`; after a crash `probed`; when things are
//! reverted `revert_started`, then `revert_finished` or `revert_failed`. It is no log for debugging: there is nothing in it
//! that resuming, reverting or reporting does not need, and no secret.

use crate::{Failure, Found, Outcome, RevertNote, RunResult};
use jiff::Timestamp;
use pve_types::{Upid, Vmid, VolumeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use vmdeploy_planner::plan::StepId;

/// The version of the journal's serialized form.
pub const JOURNAL_FORMAT_VERSION: u32 = 1;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// When it was written.
    pub at: Timestamp,
    /// What it says.
    pub entry: Entry,
}

/// What a line of the journal says. In JSON the field `type` tells which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Entry {
    /// The run begins; always the first line.
    RunStarted {
        /// [`JOURNAL_FORMAT_VERSION`].
        format_version: u32,
        /// The run.
        run: String,
        /// The project.
        project: String,
        /// SHA-256 of the stored plan, in hexadecimal.
        plan_digest: String,
    },
    /// Another process goes on with the run.
    Resumed {
        /// To finish it, or to revert it.
        mode: ResumeMode,
    },
    /// The project's lock on the cluster was taken or kept.
    Locked {
        /// The time that its directory then bore, in seconds since 1970 by the node's clock.
        modified_s: i64,
    },
    /// A step is about to be sent out. On disk before it is.
    Started {
        /// The step.
        step: StepId,
        /// 1 for the first time.
        attempt: u32,
    },
    /// What the guest had just before a step makes a volume: what is new afterwards is the step's.
    /// On disk before the step is sent out.
    Saw {
        /// The step.
        step: StepId,
        /// The volumes that the guest's configuration named.
        volumes: Vec<VolumeId>,
    },
    /// What a guest's configuration was when a process of this run first looked at it, right before a step changes it:
    /// what differs from it later, and the run did not write, others have changed. On disk before the step is sent out;
    /// without `cipassword`.
    Config {
        /// The step.
        step: StepId,
        /// The guest.
        vmid: Vmid,
        /// Its options by PVE's keys.
        values: BTreeMap<String, String>,
    },
    /// PVE made a task of it.
    Submitted {
        /// The step.
        step: StepId,
        /// The task.
        upid: Upid,
    },
    /// A step is done.
    Succeeded {
        /// The step.
        step: StepId,
        /// What came of it.
        outcome: Outcome,
        /// Warnings of its task.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    /// A step failed.
    Failed {
        /// The step.
        step: StepId,
        /// What happened.
        failure: Failure,
        /// Whether it is tried again in this run.
        again: bool,
    },
    /// The cluster was asked whether a step that had begun took effect.
    Probed {
        /// The step.
        step: StepId,
        /// What was found.
        found: Found,
    },
    /// A step is about to be rolled back. On disk before it is.
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
    /// The user stopped the run, or it stopped itself.
    Stopped {
        /// Whether what was on the wire was given up.
        now: bool,
        /// Why, where it was not the user.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        because: Option<String>,
    },
    /// The run is over. What follows, if anything, was written by `resume`.
    Finished {
        /// How.
        result: RunResult,
    },
}

/// What `resume` is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResumeMode {
    /// To do what is not done yet.
    #[default]
    Finish,
    /// To take away what the run made.
    Rollback,
}
