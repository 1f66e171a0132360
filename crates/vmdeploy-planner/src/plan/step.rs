//! Steps, the order between them, and their revert.

use super::{Action, StepId};
use pve_types::GuestName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One unit of work: the smallest thing that can fail, be resumed, and be rolled back alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name.
    pub id: StepId,
    /// The VM it works for, or `None` when several VMs need it.
    pub vm: Option<GuestName>,
    /// What is done.
    pub action: Action,
    /// By which transport.
    pub transport: Transport,
    /// Why that transport, as a fragment.
    pub why: String,
    /// The steps that must have succeeded before.
    pub after: BTreeSet<StepId>,
    /// The steps that must have ended before, whether they succeeded, failed or were skipped: those of earlier batches of
    /// a rollout that goes on after a failure.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub follows: BTreeSet<StepId>,
    /// What would be done to revert it.
    pub revert: Revert,
    /// How long it may take, in seconds.
    pub deadline_s: u64,
    /// How long it will take by the measured costs of [`crate::timing`], in milliseconds.
    #[serde(default)]
    pub estimate_ms: u64,
}

/// How a step reaches the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// PVE's REST API over HTTPS.
    Api,
    /// A command on the node, over SSH. On the `ssh` transport an API call goes through `pvesh`, which is SSH too.
    Ssh,
    /// Nothing is sent to the cluster: a connection to the guest itself, or work on this machine.
    Local,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Api => "API",
            Self::Ssh => "SSH",
            Self::Local => "local",
        })
    }
}

/// What the spec's `transport:` or `--transport` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportChoice {
    /// Lifecycle by API; imports, disks and cloud-init by SSH.
    #[default]
    Hybrid,
    /// Per step the cheapest that version, rights and step allow.
    Auto,
    /// No SSH at all.
    Api,
    /// No token at all: API calls go through `pvesh` on the node.
    Ssh,
}

/// What reverting a step means. Decided when planning, and printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Revert {
    /// It left nothing, or the revert of an earlier step (the VM's removal) covers it.
    Nothing,
    /// This is done; it means *ensure absent*, so that twice is safe.
    Run {
        /// The action.
        action: Box<Action>,
    },
    /// It cannot be rolled back.
    CannotRevert {
        /// Why not, as a fragment.
        why: String,
    },
}

/// What happens to a VM when one of its steps fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The run reverts what it did to the VM, also when the VM only did not become ready in time.
    Rollback,
    /// The run reverts what it did to the VM, unless the VM is made and only did not become ready in time: such a VM
    /// is kept. The default for creates.
    RollbackIncomplete,
    /// What was done stays, and `resume` continues from there. The default for updates.
    Keep,
}

impl OnFailure {
    /// Tells whether the failure of a step rolls its VM back. `of_wait` says that the step only waits for the guest.
    pub fn rolls_back(self, of_wait: bool) -> bool {
        match self {
            Self::Rollback => true,
            Self::RollbackIncomplete => !of_wait,
            Self::Keep => false,
        }
    }
}

/// Checks that names are unique, that every `after` names an earlier step, and so that there is no cycle.
pub(super) fn check_order(steps: &[Step]) -> Result<(), String> {
    let mut seen: BTreeMap<&StepId, usize> = BTreeMap::new();
    for (index, step) in steps.iter().enumerate() {
        let before = step.after.iter().chain(&step.follows);
        if let Some(missing) = before.into_iter().find(|id| !seen.contains_key(id)) {
            return Err(format!("`{}` waits for `{missing}`, which is not an earlier step", step.id));
        }
        if seen.insert(&step.id, index).is_some() {
            return Err(format!("two steps are named `{}`", step.id));
        }
    }
    Ok(())
}
