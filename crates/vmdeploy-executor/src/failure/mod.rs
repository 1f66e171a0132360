//! What went wrong, to which VM and step, whether it took effect, and what to do next.

mod classify;
mod translate;

pub(crate) use classify::NextStep;
pub use classify::{is_passing, kind_of};
pub use pve_types::{TookEffect, joined_lines as printable};

use pve_types::{GuestName, NodeName, Upid};
use serde::{Deserialize, Serialize};
use vmdeploy_planner::plan::StepId;

/// The kinds of failure that are handled differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// PVE could not lock the guest's configuration file.
    ConfigLock,
    /// PVE could not lock a storage, or a file of the cluster.
    StorageLock,
    /// The server has no process, port or worker for it at the moment.
    NodeBusy,
    /// QEMU's monitor did not answer in time, or answered another question: what was asked of it may be done.
    MonitorTimeout,
    /// The guest did not shut down in time.
    ShutdownTimeout,
    /// The guest runs already.
    AlreadyRunning,
    /// The guest is locked by a backup, clone, migration or snapshot.
    GuestLocked,
    /// The VMID belongs to a guest that is not ours.
    VmidTaken,
    /// No answer came; whether it was done is not known.
    NoAnswer,
    /// The task ran and failed.
    TaskFailed,
    /// A slot for a new disk already has one.
    SlotOccupied,
    /// PVE would have to shrink a disk, or did not grow it.
    Resize,
    /// A storage is missing, disabled, inactive or may not hold this content.
    StorageUnfit,
    /// A storage is full.
    StorageFull,
    /// The credentials may not do it.
    Forbidden,
    /// Only root@pam may do it.
    RootOnly,
    /// This version of PVE does it in another way.
    Version,
    /// The credentials were refused.
    Unauthenticated,
    /// The server's certificate or host key is not the one that is trusted.
    Untrusted,
    /// The guest's configuration names no agent.
    AgentNotConfigured,
    /// The agent did not answer in time.
    AgentNotRunning,
    /// No fitting address appeared in time.
    NoAddress,
    /// The guest did not become as awaited in time.
    NotReady,
    /// A change could not be made to the running guest.
    Hotplug,
    /// The guest is not where it was: it moved, or it is gone.
    GuestGone,
    /// PVE refuses to destroy the guest as it is.
    DestroyRefused,
    /// The guest does not have the ownership marker.
    NotOurs,
    /// The configuration was changed in the meantime.
    DigestChanged,
    /// The run is of another cluster than the one that is reached.
    OtherCluster,
    /// The cluster has no quorum.
    NoQuorum,
    /// The connection could not be made; nothing was sent.
    Unreachable,
    /// The node that was asked does not reach the one that the call is about; nothing arrived there.
    NodeUnreachable,
    /// The deadline of the step passed.
    Deadline,
    /// A command on the node failed.
    CommandFailed,
    /// A file, image or checksum is not what the plan was made with.
    ImageUnfit,
    /// A secret or a public key could not be had.
    Secret,
    /// PVE refused it for another reason.
    Refused,
    /// The answer could not be understood.
    Answer,
    /// The user stopped the run.
    Interrupted,
    /// A fault of this program or of this machine.
    Internal,
}

/// A step that failed, as it is journaled, reported, and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// What kind it is.
    pub kind: FailureKind,
    /// Whether it took effect.
    pub took_effect: TookEffect,
    /// The VM, if it was one VM's step.
    pub vm: Option<GuestName>,
    /// The step.
    pub step: Option<StepId>,
    /// The node.
    pub node: Option<NodeName>,
    /// The task, if one had begun.
    pub upid: Option<Upid>,
    /// What happened, as a lowercase fragment without control characters.
    pub message: String,
    /// The causes below it, outermost first.
    pub causes: Vec<String>,
    /// The last lines of the task's log or of what the command printed.
    pub log: Vec<String>,
    /// What to do next, in words.
    pub hint: Option<String>,
    /// What to do next where the run cannot be resumed, because it is at its end or the VM is rolled back; `None` where
    /// `hint` holds then too. The report and the events show it in place of `hint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint_without_run: Option<String>,
}

impl Failure {
    /// Makes a failure that changed nothing; the other facts are added by the methods below.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            took_effect: TookEffect::No,
            vm: None,
            step: None,
            node: None,
            upid: None,
            message: printable(&message.into()),
            causes: Vec::new(),
            log: Vec::new(),
            hint: None,
            hint_without_run: None,
        }
    }
    /// Says whether it took effect.
    #[must_use]
    pub fn effect(mut self, took_effect: TookEffect) -> Self {
        self.took_effect = took_effect;
        self
    }
    /// Says that it took effect at least so much.
    #[must_use]
    pub fn effect_at_least(mut self, took_effect: TookEffect) -> Self {
        self.took_effect = self.took_effect.max(took_effect);
        self
    }
    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self.hint_without_run = None;
        self
    }
    /// Says on which node.
    #[must_use]
    pub fn at(mut self, node: &NodeName) -> Self {
        self.node = Some(node.clone());
        self
    }
    /// Adds the causes of an error, without the error itself.
    #[must_use]
    pub fn because(mut self, error: &dyn std::error::Error) -> Self {
        let mut next = error.source();
        while let Some(cause) = next {
            self.causes.push(printable(&cause.to_string()));
            next = cause.source();
        }
        self
    }
    /// Adds log lines.
    #[must_use]
    pub fn log(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.log.extend(lines.into_iter().map(|line| printable(&line)));
        self
    }
    /// Returns the failure with a hint that fits what is rolled back: there is nothing to resume, it is deployed again.
    #[must_use]
    pub(crate) fn of_what_is_reverted(mut self) -> Self {
        self.hint = self.hint_without_run.take().or(self.hint);
        self
    }
    /// Returns the failure as it is said where no run has begun: with a hint that leads to the same command again.
    #[must_use]
    pub fn before_any_run(self) -> Self {
        self.with_usual_hint(None).of_what_is_reverted()
    }
    /// Adds the hint that fits its kind, unless it has one: for what is not a step of a run.
    #[must_use]
    pub fn with_hint_for(self, vmid: Option<pve_types::Vmid>) -> Self {
        self.with_usual_hint(vmid).of_what_is_reverted()
    }
    /// Tells whether a request had no answer, so that it may still take effect.
    pub(crate) fn is_unheard(&self) -> bool {
        use FailureKind as K;
        let is_silent = matches!(
            self.kind,
            K::NoAnswer | K::Interrupted | K::Deadline | K::Unreachable | K::NodeUnreachable
        );
        is_silent && self.upid.is_none() && self.took_effect != TookEffect::No
    }
    /// Tells whether the credentials are the trouble (exit code 7).
    pub fn is_about_credentials(&self) -> bool {
        use FailureKind as K;
        matches!(self.kind, K::Forbidden | K::RootOnly | K::Unauthenticated | K::Untrusted)
    }
}
