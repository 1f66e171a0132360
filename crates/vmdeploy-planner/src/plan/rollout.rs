//! Rollouts: batches of VMs whose interruption is spread over time.

use pve_types::GuestName;
use serde::{Deserialize, Serialize};

/// The batches of one group, or of the VMs that are in no group. A batch begins when every VM of the batch before it is
/// ready again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedRollout {
    /// The group; `None` for the VMs that are in no group.
    pub group: Option<String>,
    /// How many VMs are interrupted at the same time.
    pub max_unavailable: usize,
    /// What happens to later batches when a VM fails.
    pub on_failure: RolloutFailure,
    /// The VMs that are restarted, shut down or replaced, batch by batch.
    pub batches: Vec<Vec<GuestName>>,
}

/// What happens to later batches when a VM of a rollout fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutFailure {
    /// They are not begun; `resume` tries the VM again and goes on from there.
    #[default]
    Stop,
    /// They go on.
    Continue,
}

impl PlannedRollout {
    /// Returns what it is for: `group worker`, or `VMs in no group`.
    pub fn scope(&self) -> String {
        self.group.as_ref().map_or_else(|| "VMs in no group".to_owned(), |group| format!("group {group}"))
    }
    /// Returns the place of a VM's batch, counted from 0.
    pub fn batch_of(&self, vm: &GuestName) -> Option<usize> {
        self.batches.iter().position(|batch| batch.contains(vm))
    }
}
