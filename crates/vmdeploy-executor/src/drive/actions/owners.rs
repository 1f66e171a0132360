//! Whose the volumes are that a step touches: asked of the cluster right before each call, whatever the plan says.

use crate::drive::job::Job;
use crate::drive::scan::Scan;
use crate::{Failure, FailureKind};
use pve_config::Bus;
use pve_types::{NodeName, Vmid, VolumeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;
use vmdeploy_planner::observed::Observed;
use vmdeploy_planner::plan::{Action, ConfigPatch, GuestRef, PatchValue, Ref};
use vmdeploy_planner::volumes::{self, Touched, VolumeOwner, VolumeUsers};

impl Job {
    /// Refuses a step that would touch a volume of another guest.
    pub(super) async fn check_volumes(&self) -> Result<(), Failure> {
        let action = &self.step.action;
        let Some((vmid, node)) = about(action) else { return Ok(()) };
        let is_new =
            |guest: &GuestRef| matches!(action, Action::ConvertToTemplate { .. }) && self.makes(guest);
        if action.guest().is_some_and(is_new) || !may_touch(action) {
            return Ok(());
        }
        let now = self.disks_now(action).await?;
        // Volumes that the run creates have no other owner: such steps need no check.
        if needs_configuration(action) && names_nothing(action, &now) {
            return Ok(());
        }
        let known = self.scan(false).await?;
        let Err(_) = judge(&known, action, &now, vmid, node) else { return Ok(()) };
        judge(&*self.scan(true).await?, action, &now, vmid, node)
    }

    /// Returns the slots of the guest as they are now; none for one that this run makes.
    async fn disks_now(&self, action: &Action) -> Result<BTreeMap<String, String>, Failure> {
        let has_some = |guest: &&GuestRef| needs_configuration(action) && !self.makes(guest);
        let Some(guest) = action.guest().filter(has_some) else { return Ok(BTreeMap::new()) };
        let seen = self.look(guest).await?;
        Ok(seen.map(|seen| seen.config.values.into_iter().collect()).unwrap_or_default())
    }

    /// Tells whether no guest has the volume, asked now: not even until a restart.
    pub(super) async fn is_nobodys(&self, volume: &VolumeId, vmid: Vmid) -> Result<bool, Failure> {
        let seen = self.scan(true).await?;
        Ok(VolumeUsers::of(&seen).owner(volume, vmid) == VolumeOwner::Unowned)
    }

    /// Tells whether this run makes the guest.
    fn makes(&self, guest: &GuestRef) -> bool {
        let mut made = self.shared.steps_of(&guest.name).filter_map(|step| step.action.made_guest());
        made.any(|made| made.vmid == guest.vmid)
    }

    async fn scan(&self, again: bool) -> Result<Arc<Observed>, Failure> {
        let asked = Instant::now();
        let mut last = self.shared.scan.0.lock().await;
        // One that began after this step asked is as fresh as can be.
        if let Some(scan) = &*last
            && (scan.at >= asked || !again && scan.is_fresh())
        {
            return Ok(scan.seen.clone());
        }
        let at = Instant::now();
        let seen = Arc::new(crate::observe::disks_of_all(&self.shared.connections).await?);
        *last = Some(Scan { at, took: at.elapsed(), seen: seen.clone() });
        Ok(seen)
    }
}

fn about(action: &Action) -> Option<(Vmid, &NodeName)> {
    match action {
        Action::FreeVolume { node, volume: Ref::Known(volume) } => Some((volume.owner()?, node)),
        _ => action.guest().map(|guest| (guest.vmid, &guest.node)),
    }
}

/// Tells whether an action can touch a volume that is there already.
fn may_touch(action: &Action) -> bool {
    let holds = |slot: &String| Bus::of_key(slot).is_some_and(Bus::holds_volume);
    let in_patch = |patch: &ConfigPatch| {
        let set = patch.set.iter().filter(|(_, value)| !matches!(value, PatchValue::Options { .. }));
        set.map(|(slot, _)| slot).chain(&patch.delete).any(holds)
    };
    match action {
        Action::CreateVm { config: patch, .. } | Action::SetConfig { patch, .. } => in_patch(patch),
        Action::MoveDisk(_)
        | Action::ResizeDisk { volume: Some(_), .. }
        | Action::ReassignDisk { .. }
        | Action::ConvertToTemplate { .. }
        | Action::DeleteVm { .. }
        | Action::FreeVolume { .. } => true,
        // What they make is new, or they touch no volume.
        Action::ProbeStorage { .. }
        | Action::PlaceImage { .. }
        | Action::VerifyImage { .. }
        | Action::PlaceSnippet { .. }
        | Action::CloneVm(_)
        | Action::ImportDisk(_)
        // The volume is the one that an earlier step of this run gave: the step itself looks for it.
        | Action::TakeDisk { .. }
        | Action::ResizeDisk { volume: None, .. }
        | Action::RegenerateCloudInit { .. }
        | Action::SetHa { .. }
        | Action::SetPool { .. }
        | Action::StartVm { .. }
        | Action::ShutdownVm { .. }
        | Action::StopVm { .. }
        | Action::RebootVm { .. }
        | Action::Await { .. } => false,
    }
}

/// Tells whether what an action touches follows from the guest's configuration and not from the scan.
fn needs_configuration(action: &Action) -> bool {
    matches!(
        action,
        Action::CreateVm { .. }
            | Action::SetConfig { .. }
            | Action::MoveDisk(_)
            | Action::ResizeDisk { .. }
            | Action::ReassignDisk { .. }
    )
}

fn names_nothing(action: &Action, now: &BTreeMap<String, String>) -> bool {
    let nothing = Observed::nothing(pve_types::PveVersion::new(0, 0, 0));
    volumes::touched(action, now, &VolumeUsers::of(&nothing)).is_empty()
}

fn judge(
    seen: &Observed,
    action: &Action,
    now: &BTreeMap<String, String>,
    vmid: Vmid,
    node: &NodeName,
) -> Result<(), Failure> {
    let users = VolumeUsers::of(seen);
    for Touched { slot, disk, how } in volumes::touched(action, now, &users) {
        let owner = users.owner_of(&disk, vmid);
        let Some(why) = owner.refusal(&BTreeSet::new()) else { continue };
        let at = slot.map(|slot| format!(" (`{slot}`)")).unwrap_or_default();
        let disk = crate::printable(&disk.to_string());
        let text = format!("VM {vmid}: this would {} {disk}{at}, but {}", how.verb(), crate::printable(&why));
        let failure = Failure::new(FailureKind::NotOurs, text).at(node);
        return Err(failure.hint(hint(&owner)));
    }
    Ok(())
}

fn hint(owner: &VolumeOwner) -> String {
    match owner {
        VolumeOwner::Guest { vmid, .. } => {
            format!(
                "`qm config {vmid}` on its node shows its configuration; `vmdeploy plan` shows a new plan"
            )
        }
        _ => "`vmdeploy plan` shows a new plan".to_owned(),
    }
}
