//! What the scheduler knows of a step: its place, what it may not share, and what became of it before.

use crate::StepState;
use crate::describe;
use crate::journal::{RunHistory, StepHistory};
use pve_types::{GuestName, NodeName, StorageId, Vmid};
use std::collections::BTreeSet;
use vmdeploy_planner::plan::{
    Action, CloneAction, DiskSource, ImportAction, MoveAction, PatchValue, Plan, Revert, Step, StepId,
    Transport,
};

/// A step as the scheduler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its name.
    pub id: StepId,
    /// Its VM; `None` when several VMs need it.
    pub vm: Option<GuestName>,
    /// The steps before it.
    pub after: BTreeSet<StepId>,
    /// The steps that must have ended before, whether they succeeded or not.
    pub follows: BTreeSet<StepId>,
    /// What it may not share.
    pub claims: Claims,
    /// Whether it can be rolled back, and what that may not share; `None` when there is nothing to do.
    pub revert: Option<Claims>,
    /// Whether it only waits for a guest that is there already.
    pub is_wait: bool,
    /// What became of it before.
    pub past: Past,
}

/// What a step occupies while it is done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    /// The guests that it writes to; no other step may write to them.
    pub writes: BTreeSet<Vmid>,
    /// The guest that it copies; no step may write to it, and only a limited number may copy it.
    pub copies: Option<Vmid>,
    /// The node that it works on.
    pub node: Option<NodeName>,
    /// Whether it does so by a command on it, which is counted apart: commands load the node's processors.
    pub by_ssh: bool,
    /// The storages that it copies data to.
    pub storages: BTreeSet<StorageId>,
}

/// What the journal says of a step when the scheduler begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Past {
    /// It was never begun, or failed without effect.
    #[default]
    None,
    /// It was begun, and whether it took effect is not known.
    Begun,
    /// It is done; `true` when it changed something.
    Done {
        /// Whether there is something to revert.
        changed: bool,
    },
    /// It was being rolled back, or its revert failed.
    Reverting,
    /// It is rolled back.
    RolledBack,
}

/// Returns the scheduler's view of a plan, with what its journal says.
pub(crate) fn tasks_of(plan: &Plan, history: &RunHistory) -> Vec<Task> {
    let task = |step: &Step| Task {
        id: step.id.clone(),
        vm: step.vm.clone(),
        after: step.after.clone(),
        follows: step.follows.clone(),
        claims: claims_of(&step.action, step.transport),
        revert: match &step.revert {
            Revert::Run { action } => Some(claims_of(action, step.transport)),
            Revert::Nothing | Revert::CannotRevert { .. } => None,
        },
        is_wait: describe::is_wait(&step.action),
        past: history.step(&step.id).map(past_of).unwrap_or_default(),
    };
    plan.steps.iter().map(task).collect()
}

/// Returns what became of a step. This is the whole of what resuming rests on.
fn past_of(step: &StepHistory) -> Past {
    match step.state {
        _ if step.is_reverting => Past::Reverting,
        StepState::NotStarted | StepState::Skipped { .. } => Past::None,
        StepState::Started | StepState::Failed if step.unsure => Past::Begun,
        StepState::Started | StepState::Failed => Past::None,
        StepState::Succeeded => Past::Done { changed: step.has_changed() },
        StepState::RevertFailed => Past::Reverting,
        StepState::RolledBack => Past::RolledBack,
    }
}

/// Returns what an action may not share when it takes that transport.
pub fn claims_of(action: &Action, transport: Transport) -> Claims {
    let mut claims = Claims { by_ssh: transport == Transport::Ssh, ..Claims::default() };
    if describe::is_wait(action) {
        return claims;
    }
    claims.node = Some(action.node().clone());
    if !action.only_reads() {
        claims.writes.extend(action.guest().map(|guest| guest.vmid));
    }
    match action {
        Action::CloneVm(CloneAction { source, storage, .. }) => {
            claims.copies = Some(source.vmid);
            claims.storages.extend(storage.clone());
        }
        Action::ImportDisk(ImportAction { storage, source, .. }) => {
            claims.storages.insert(storage.clone());
            claims.copies = owner_of(source).filter(|owner| !claims.writes.contains(owner));
        }
        Action::MoveDisk(MoveAction { storage, .. }) => {
            claims.storages.insert(storage.clone());
        }
        Action::PlaceImage { volume, .. } => {
            claims.storages.insert(volume.storage().clone());
        }
        Action::ReassignDisk { holder, .. } => {
            claims.writes.insert(*holder);
        }
        Action::TakeDisk { holder, .. } => {
            claims.writes.insert(holder.vmid);
        }
        Action::CreateVm { config: patch, .. } | Action::SetConfig { patch, .. } => {
            claims.storages.extend(patch.set.values().filter_map(storage_copied_to).cloned());
        }
        Action::ProbeStorage { .. }
        | Action::VerifyImage { .. }
        | Action::PlaceSnippet { .. }
        | Action::ResizeDisk { .. }
        | Action::ConvertToTemplate { .. }
        | Action::RegenerateCloudInit { .. }
        | Action::SetHa { .. }
        | Action::SetPool { .. }
        | Action::StartVm { .. }
        | Action::ShutdownVm { .. }
        | Action::StopVm { .. }
        | Action::RebootVm { .. }
        | Action::DeleteVm { .. }
        | Action::FreeVolume { .. }
        | Action::Await { .. } => {}
    }
    claims
}

/// Returns the guest whose disk is copied.
fn owner_of(source: &DiskSource) -> Option<Vmid> {
    match source {
        DiskSource::Volume(vmdeploy_planner::plan::Ref::Known(volume)) => volume.owner(),
        _ => None,
    }
}

fn storage_copied_to(value: &PatchValue) -> Option<&StorageId> {
    match value {
        PatchValue::ImportFrom { storage, .. } => Some(storage),
        _ => None,
    }
}
