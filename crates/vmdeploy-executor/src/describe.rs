//! What an action touches, leaves behind and starts on the node.

use pve_types::{StorageId, Vmid};
use std::collections::BTreeSet;
use vmdeploy_planner::plan::{
    Action, CloneAction, GuestRef, ImportAction, MoveAction, PatchValue, Plan, Step,
};
use vmdeploy_planner::render::summary;

/// Returns what a step is, for those who draw it.
pub fn head(step: &Step) -> crate::StepHead {
    crate::StepHead {
        id: step.id.clone(),
        vm: step.vm.clone(),
        vmid: step.action.guest().map(|guest| guest.vmid),
        node: Some(step.action.node().clone()),
        title: summary(&step.action),
        only_reads: step.action.only_reads(),
        transport: step.transport,
        after: step.after.iter().cloned().collect(),
    }
}

/// Returns what an action leaves behind and the command that removes it, typed on the node; `None` if it leaves nothing.
pub fn leaves(action: &Action, outcome: Option<&crate::Outcome>) -> Option<(String, String)> {
    let volume = outcome.and_then(crate::Outcome::volume);
    match action {
        Action::CreateVm { guest, .. } | Action::CloneVm(CloneAction { guest, .. }) => Some((
            format!("VM {} `{}` on {}", guest.vmid, guest.name, guest.node),
            destroy_command(guest.vmid),
        )),
        Action::ImportDisk(_) => {
            volume.map(|volume| (format!("volume {volume}"), format!("pvesm free {volume}")))
        }
        Action::PlaceImage { volume, .. } | Action::PlaceSnippet { volume, .. } => {
            Some((format!("volume {volume}"), format!("pvesm free {volume}")))
        }
        Action::ProbeStorage { .. }
        | Action::VerifyImage { .. }
        | Action::SetConfig { .. }
        | Action::ResizeDisk { .. }
        | Action::MoveDisk(_)
        | Action::ReassignDisk { .. }
        | Action::TakeDisk { .. }
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
        | Action::Await { .. } => None,
    }
}

/// Returns the storages on which a step makes volumes, where it looks right before at those that the guest has.
pub fn fills(action: &Action) -> BTreeSet<StorageId> {
    match action {
        Action::ImportDisk(ImportAction { storage, .. }) => [storage.clone()].into(),
        Action::CreateVm { config, .. } => {
            config.set.values().filter_map(PatchValue::allocates_on).cloned().collect()
        }
        _ => BTreeSet::new(),
    }
}

/// Returns which tasks PVE makes of an action: their types, and the guest that they name.
// PVE: the `fork_worker` calls in qemu-server src/PVE/API2/Qemu.pm.
pub fn tasks(action: &Action) -> Option<(&'static [&'static str], &GuestRef)> {
    Some(match action {
        Action::CreateVm { guest, .. } => (&["qmcreate"], guest),
        Action::ImportDisk(ImportAction { guest, .. }) | Action::SetConfig { guest, .. } => (&["qmconfig"], guest),
        Action::ResizeDisk { guest, .. } => (&["resize"], guest),
        Action::MoveDisk(MoveAction { guest, .. }) | Action::ReassignDisk { guest, .. } => (&["qmmove"], guest),
        // The task names the VM that gives the disk.
        Action::TakeDisk { holder, .. } => (&["qmmove"], holder),
        Action::ConvertToTemplate { guest } => (&["qmtemplate"], guest),
        Action::StartVm { guest } => (&["qmstart", "hastart"], guest),
        Action::ShutdownVm { guest, .. } => (&["qmshutdown", "hastop"], guest),
        Action::StopVm { guest } => (&["qmstop", "hastop"], guest),
        Action::RebootVm { guest } => (&["qmreboot"], guest),
        Action::DeleteVm { guest, .. } => (&["qmdestroy"], guest),
        Action::ProbeStorage { .. }
        | Action::PlaceImage { .. }
        | Action::VerifyImage { .. }
        | Action::PlaceSnippet { .. }
        // The task names the source, of which others may be made at the same time.
        | Action::CloneVm(_)
        | Action::RegenerateCloudInit { .. }
        | Action::SetHa { .. }
        | Action::SetPool { .. }
        | Action::FreeVolume { .. }
        | Action::Await { .. } => return None,
    })
}

/// Returns the command that destroys a guest, typed on its node.
pub fn destroy_command(vmid: Vmid) -> String {
    format!("qm destroy {vmid} --purge 1")
}

/// Tells whether the step only waits for the guest.
pub fn is_wait(action: &Action) -> bool {
    matches!(action, Action::Await { .. })
}

/// Returns all steps' heads.
pub fn heads(plan: &Plan) -> Vec<crate::StepHead> {
    plan.steps.iter().map(head).collect()
}
