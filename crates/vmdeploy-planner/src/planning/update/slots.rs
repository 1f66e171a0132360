//! Disks and the cloud-init drive of a guest that change their slots.

use super::super::desired::{KeyChange, Part};
use super::super::disks::default_boot_order;
use super::super::existing_disks::DiskChanges;
use super::super::hotplug;
use super::super::input::reason;
use super::super::renames::boot_after;
use super::Updating;
use crate::plan::{ConfigPatch, PatchValue};
use crate::spec::Permission;
use pve_config::{Bus, NewVolume};

impl Updating<'_, '_> {
    /// Changes that need the guest to be stopped: a disk or cloud-init drive that comes to another slot. A running guest
    /// would lose a disk under its file systems, or keep the old drive until its restart, where PVE makes one of a name.
    pub(super) fn stop_for_slots(&mut self, changes: &[KeyChange], disks: &DiskChanges) {
        let drive = changes.iter().find(|change| change.part == Part::CloudDrive && change.to.is_none());
        let drive = drive.map(|change| (change.key.clone(), "cloud_init.slot".to_owned()));
        let in_use = disks.renamed.iter().find(|(_, from)| Bus::of_key(from) != Some(Bus::Unused));
        let disk = in_use.map(|(to, from)| (from.clone(), format!("disks.{to}")));
        let Some((slot, path)) = drive.or(disk).filter(|_| self.current.is_running()) else { return };
        let by_ha =
            self.input.observed.ha.as_ref().is_some_and(|ha| ha.resources.contains_key(&self.guest.vmid));
        if self.vm.lifecycle.restart == Permission::IfNeeded && !by_ha {
            self.stops = true;
            let mut why = reason("lifecycle.restart", None, None);
            why.note = Some(format!(
                "the guest is shut down to change `{slot}` and started again, as the spec allows"
            ));
            self.reasons.push(why);
            self.push_shutdown();
            return;
        }
        let name = &self.guest.name;
        let message = format!(
            "the disk `{slot}` of `{name}` changes its slot, which is not possible while the guest is running"
        );
        let hint =
            format!("`vmdeploy shutdown {name}` first, or allow it: `lifecycle: {{restart: if-needed}}`");
        self.findings.refuse(self.input.deployment, (self.vm.name.span, self.vm.path(&path)), message, hint);
    }

    /// Tells whether the guest runs while it is changed.
    pub(super) fn runs(&self) -> bool {
        self.current.is_running() && !self.stops
    }

    /// Tells whether the boot order names a slot: PVE takes it out when the slot is emptied, which a running guest
    /// notices at its restart.
    // PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api: "remove deleted devices from bootorder".
    pub(super) fn is_in_boot_order(&self, slot: &str) -> bool {
        let boot = self.current.effective("boot").and_then(|text| pve_config::Boot::parse(text).ok());
        boot.is_some_and(|boot| boot.order.iter().any(|device| device == slot))
    }

    /// Tells whether a running guest gets a cloud-init drive at once. PVE notes the values that come with it as not on it.
    // PVE: qemu-server src/PVE/QemuServer.pm vmconfig_hotplug_pending, $cloudinit_record_changed.
    pub(super) fn plugs_cloud_drive(&self, changes: &[KeyChange]) -> bool {
        let hotplug = self.current.config.values.get("hotplug").map(String::as_str);
        changes.iter().any(|change| {
            change.part == Part::CloudDrive
                && change.to.is_some()
                && hotplug::is_hot(&change.key, None, Some("new:volume"), hotplug)
        })
    }

    /// Takes out of the changes what removes a cloud-init drive for which another is made. The new one has the same name:
    /// the old one goes first.
    // PVE: qemu-server src/PVE/QemuServer.pm: each guest has one `vm-ID-cloudinit`.
    pub(super) fn cloud_drive_removal(&self, changes: &mut Vec<KeyChange>) -> ConfigPatch {
        let mut removal = ConfigPatch::default();
        let is_drive = |change: &KeyChange| change.part == Part::CloudDrive;
        if changes.iter().any(|change| is_drive(change) && change.to.is_some()) {
            let (gone, rest) = std::mem::take(changes)
                .into_iter()
                .partition(|change| is_drive(change) && change.to.is_none());
            *changes = rest;
            let gone: Vec<KeyChange> = gone;
            removal.delete.extend(gone.into_iter().map(|change| change.key));
        }
        removal
    }

    /// Lets the boot order name the new slots of disks, where the spec leaves it to the guest.
    pub(super) fn boot_of_renamed(&self, disks: &DiskChanges, patch: &mut ConfigPatch) {
        let order = self.current.effective("boot").filter(|_| !patch.set.contains_key("boot"));
        let order = order.map(|order| boot_after(&disks.renamed, order).unwrap_or_else(|| order.to_owned()));
        let order = self.boot_of_unfinished(disks, order.as_deref()).or(order);
        if let Some(order) = order.filter(|order| self.current.effective("boot") != Some(order)) {
            patch.set.insert("boot".to_owned(), PatchValue::Text(order));
        }
    }

    /// Returns the boot order that making the VM would have ended with, where a run was cut off before its disks were there.
    pub(super) fn boot_of_unfinished(&self, disks: &DiskChanges, order: Option<&str>) -> Option<String> {
        let is_drive = |device: &str| Bus::of_key(device).is_some_and(Bus::is_drive);
        let mut devices = order.unwrap_or_default().trim_start_matches("order=").split(';');
        if devices.any(is_drive) || self.vm.options.contains_key("boot") {
            return None;
        }
        let default = default_boot_order(self.vm, self.vm.clone.is_some())?;
        let first = default.trim_start_matches("order=").split(';').next().unwrap_or_default();
        let is_ours = self.current.marker.as_ref().is_some_and(|marker| marker.disks.contains_key(first));
        (is_ours && disks.set.contains_key(first)).then_some(default)
    }
}

/// Returns what makes a cloud-init drive where one was.
pub(super) fn cloud_drive_again(key: &str, text: &str) -> Option<NewVolume> {
    let drive = pve_config::Drive::parse(key, text).ok().filter(pve_config::Drive::is_cloud_init)?;
    let volume = drive.volume()?;
    let format = volume.base_name().split_once('.').map(|(_, format)| format!("format={format}"));
    let options = format.unwrap_or_default();
    Some(NewVolume { options, ..NewVolume::cloud_init(volume.storage().clone()) })
}
