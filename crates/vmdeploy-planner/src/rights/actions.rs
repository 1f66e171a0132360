//! What each kind of step needs.

use super::options::{Moment, mapped, space, storage_of, storage_path};
use super::{Need, Requirements};
use crate::plan::{
    Action, CloneAction, Condition, DiskSource, GuestRef, ImageOrigin, ImportAction, MoveAction, Ref,
};
use pve_config::{Bus, Drive, DriveSource};
use pve_types::{NodeName, PoolId, Privilege as P, StorageId, VolumeId};

impl Requirements<'_> {
    fn on(&self, privilege: P, guest: &GuestRef) -> Need {
        self.on_guest(privilege, guest.vmid)
    }

    pub(super) fn of_action(&self, action: &Action) -> Vec<Need> {
        let mut needs = self.of_call(action);
        // What a step changes is read before and after it, by the step itself and by its revert.
        let guests = match action {
            Action::CloneVm(CloneAction { source, guest, .. }) => vec![source, guest],
            _ => action.guest().into_iter().collect(),
        };
        if !matches!(action, Action::Await { condition, .. } if !asks_pve(condition)) {
            needs.extend(guests.into_iter().map(|guest| self.on(P::VmAudit, guest)));
        }
        needs
    }

    fn of_call(&self, action: &Action) -> Vec<Need> {
        match action {
            Action::ProbeStorage { needed, .. } => {
                let sees = |storage| {
                    let on = |privilege| Need::one(privilege, storage_path(storage));
                    on(P::DatastoreAudit).or(on(P::DatastoreAllocateSpace))
                };
                needed.keys().map(sees).collect()
            }
            Action::PlaceImage { node, volume, origin, .. } => self.placing(node, volume, origin),
            Action::VerifyImage { .. } | Action::PlaceSnippet { .. } => Vec::new(),
            Action::CreateVm { guest, config, .. } => {
                let mut needs = vec![self.on(P::VmAllocate, guest)];
                needs.extend(self.of_patch(guest.vmid, config, Moment::Create));
                needs
            }
            Action::CloneVm(CloneAction { source, guest, storage, .. }) => {
                self.cloning(source, guest, storage.as_ref())
            }
            Action::ImportDisk(ImportAction { guest, storage, source, .. }) => {
                let mut needs = vec![self.on(P::VmConfigDisk, guest), space(storage)];
                if let DiskSource::Volume(Ref::Known(volume)) = source {
                    needs.push(super::options::importing(volume));
                }
                needs
            }
            Action::SetConfig { guest, patch, .. } => self.of_patch(guest.vmid, patch, Moment::Change),
            // PVE: qemu-server src/PVE/API2/Qemu.pm resize_vm: the storage of the volume that is there.
            Action::ResizeDisk { guest, slot, .. } => {
                let storage = self
                    .there(guest.vmid, &slot.to_string())
                    .and_then(|text| storage_of(&slot.to_string(), text));
                [self.on(P::VmConfigDisk, guest)].into_iter().chain(storage.as_ref().map(space)).collect()
            }
            Action::MoveDisk(MoveAction { guest, storage, .. }) => {
                vec![self.on(P::VmConfigDisk, guest), space(storage)]
            }
            // PVE: qemu-server src/PVE/API2/Qemu.pm move_vm_disk.
            Action::ReassignDisk { guest, holder, volume, .. } => vec![
                self.on(P::VmConfigDisk, guest),
                self.on_guest(P::VmConfigDisk, *holder),
                self.on_guest(P::VmAudit, *holder),
                space(volume.storage()),
            ],
            Action::ConvertToTemplate { guest } => vec![self.on(P::VmAllocate, guest)],
            Action::DeleteVm { guest, stop } => {
                let stops = stop.then(|| self.on(P::VmPowerMgmt, guest));
                [self.on(P::VmAllocate, guest)].into_iter().chain(stops).collect()
            }
            Action::RegenerateCloudInit { guest } => vec![self.on(P::VmConfigCloudinit, guest)],
            // PVE: ha-manager src/PVE/API2/HA/Resources.pm: writing needs Sys.Console on `/`.
            Action::SetHa { .. } => vec![Need::one(P::SysConsole, "/")],
            Action::SetPool { guest, pool } => self.set_pool(guest, pool.as_ref()),
            Action::StartVm { guest }
            | Action::ShutdownVm { guest, .. }
            | Action::StopVm { guest }
            | Action::RebootVm { guest } => vec![self.on(P::VmPowerMgmt, guest)],
            Action::FreeVolume { volume: Ref::Known(volume), .. } => {
                vec![Need::one(P::DatastoreAllocate, storage_path(volume.storage()))]
            }
            Action::FreeVolume { .. } => Vec::new(),
            Action::Await { guest, condition } => self.awaiting(guest, condition),
        }
    }

    // PVE: pve-manager PVE/API2/Pool.pm update_pool; pve-access-control src/PVE/RPCEnvironment.pm check_perm_modify.
    fn set_pool(&self, guest: &GuestRef, pool: Option<&PoolId>) -> Vec<Need> {
        let old = self.observed.guests.get(&guest.vmid).and_then(|seen| seen.pool.as_ref());
        let pools =
            pool.into_iter().chain(old).map(|pool| Need::one(P::PoolAllocate, format!("/pool/{pool}")));
        let member = self.on(P::VmAllocate, guest).or(self.on(P::PermissionsModify, guest));
        pools.chain([member]).collect()
    }

    // PVE: pve-storage src/PVE/API2/Storage/Status.pm upload, download_url.
    fn placing(&self, node: &NodeName, volume: &VolumeId, origin: &ImageOrigin) -> Vec<Need> {
        let mut needs = vec![Need::one(P::DatastoreAllocateTemplate, storage_path(volume.storage()))];
        if matches!(origin, ImageOrigin::Url { .. }) {
            let root = || "/".to_owned();
            let anywhere = Need::all([(P::SysAudit, root()), (P::SysModify, root())]);
            needs.push(if P::SysAccessNetwork.exists_in(self.observed.version) {
                Need::one(P::SysAccessNetwork, format!("/nodes/{node}")).or(anywhere)
            } else {
                anywhere
            });
        }
        needs
    }

    // PVE: qemu-server src/PVE/API2/Qemu.pm clone_vm, check_storage_access_clone; QemuServer.pm check_mapping_access.
    fn cloning(&self, source: &GuestRef, guest: &GuestRef, storage: Option<&StorageId>) -> Vec<Need> {
        let mut needs = vec![self.on(P::VmClone, source), self.on(P::VmAllocate, guest)];
        let seen = self.observed.guests.get(&source.vmid).and_then(|seen| seen.config.as_ref());
        let seen = self.configs.get(&source.vmid).or(seen.map(|config| &config.values));
        for (key, text) in seen.into_iter().flatten() {
            match Bus::of_key(key) {
                Some(Bus::Net) => needs.extend(self.bridge_needs(text)),
                Some(Bus::Unused) => {}
                Some(bus) if bus.holds_volume() => needs.extend(cloned_drive(key, text, storage)),
                None if key == "cpu" => needs.extend(self.custom_cpu(None, text)),
                None if key == "vmstatestorage" => needs.extend(text.parse().ok().as_ref().map(space)),
                Some(_) | None => needs.extend(mapped(key, text)),
            }
        }
        needs
    }

    // PVE: qemu-server src/PVE/API2/Qemu/Agent.pm; VM.Monitor is gone in 9.
    fn awaiting(&self, guest: &GuestRef, condition: &Condition) -> Vec<Need> {
        let has_agent_rights = P::VmGuestAgentAudit.exists_in(self.observed.version);
        match condition {
            Condition::Running | Condition::Stopped => Vec::new(),
            Condition::Agent | Condition::Address { .. } if has_agent_rights => {
                vec![self.on(P::VmGuestAgentAudit, guest).or(self.on(P::VmGuestAgentUnrestricted, guest))]
            }
            Condition::CloudInit if has_agent_rights => vec![self.on(P::VmGuestAgentUnrestricted, guest)],
            Condition::Agent | Condition::Address { .. } | Condition::CloudInit => {
                vec![self.on(P::VmMonitor, guest)]
            }
            Condition::Tcp { .. } | Condition::Command { .. } => Vec::new(),
        }
    }
}

/// Tells whether PVE is asked whether the condition holds.
fn asks_pve(condition: &Condition) -> bool {
    !matches!(condition, Condition::Tcp { .. } | Condition::Command { .. })
}

/// What copying or linking a drive of a clone's source needs; a CD is taken over as it is.
fn cloned_drive(slot: &str, text: &str, storage: Option<&StorageId>) -> Option<Need> {
    let drive = Drive::parse(slot, text).ok()?;
    if drive.source == DriveSource::Physical {
        return Some(Need::one(P::SysConsole, "/"));
    }
    if drive.is_cdrom() {
        return None;
    }
    storage.cloned().or_else(|| storage_of(slot, text)).as_ref().map(space)
}
