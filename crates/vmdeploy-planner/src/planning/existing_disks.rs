//! The disks of a guest that exists: added, detached, grown, moved, and changed in their options.

use super::chain::Chain;
use super::desired::is_ignored;
use super::disks::{DiskPlanner, NewDisk, cd_file};
use super::firmware;
use super::images::{Room, Shared};
use super::input::{Current, Findings, PlanInput, reason};
use super::renames::renames;
use super::transports::Shape;
use crate::plan::{GuestRef, PatchValue, Reason, Slot, TransportChoice};
use crate::spec::{Desired, DesiredFields, Disk, DiskContent, Vm};
use crate::volumes::{self, DiskName, disk_in};
use pve_config::{Bus, DeviceSlot, Drive, PropertyString, overlay, same_config_value, same_field};
use pve_types::{Bytes, StorageId, VolumeId};
use std::collections::{BTreeMap, BTreeSet};

/// Sizes closer than this are the same: storages round a size up to their extents.
// PVE: pve-storage LVM plugins allocate 4 MiB extents, zvols are rounded up to 1 MiB.
const EXTENT: u64 = 4 << 20;

/// Options of a drive that change: their current and desired values.
pub(crate) type OptionFields = BTreeMap<String, (Option<String>, Option<String>)>;

/// A disk that changes its storage.
pub(crate) struct DiskMove {
    pub(crate) slot: DeviceSlot,
    pub(crate) volume: VolumeId,
    pub(crate) storage: StorageId,
    pub(crate) format: Option<String>,
}

/// What is done to the disks of one guest.
#[derive(Default)]
pub(crate) struct DiskChanges {
    pub(crate) set: BTreeMap<Slot, PatchValue>,
    /// Which of them are new.
    pub(crate) new_slots: BTreeSet<Slot>,
    /// Which of them hold a disk that comes from another slot: that slot, by the new one.
    pub(crate) renamed: BTreeMap<Slot, Slot>,
    pub(crate) delete: BTreeSet<Slot>,
    pub(crate) moves: Vec<DiskMove>,
    /// The disks that grow, each with its volume where that is there already.
    pub(crate) growth: Vec<(Slot, Bytes, Option<VolumeId>)>,
    /// What changes in disks that are moved or grown: said after that, and over what is there then. A value that
    /// waits for a restart would else bring the old volume, or its old size, back.
    pub(crate) late: BTreeMap<Slot, OptionFields>,
    pub(crate) reasons: Vec<Reason>,
}

impl DiskChanges {
    /// Notes that a disk moves to another slot. PVE removes its old `unusedN`: deleting that would delete the disk.
    // PVE: qemu-server src/PVE/QemuServer.pm write_vm_config: `unusedN` of a volume that is plugged in is removed.
    pub(crate) fn rename(&mut self, from: &str, to: &str, text: &str) {
        let mut why = reason(format!("disks.{to}"), Some(from.to_owned()), Some(to.to_owned()));
        let volume = disk_in(to, text).map(|disk| disk.to_string()).unwrap_or_default();
        why.note = Some(format!("the same disk ({volume}) in another slot"));
        self.reasons.push(why);
        self.renamed.insert(to.to_owned(), from.to_owned());
        self.set.entry(to.to_owned()).or_insert_with(|| PatchValue::Text(text.to_owned()));
        if Bus::of_key(from) != Some(Bus::Unused) {
            self.delete.insert(from.to_owned());
        }
    }
}

/// Compares the disks with the spec; pushes the imports that new ones need.
pub(crate) fn existing_disks(
    input: &PlanInput<'_>,
    shared: &mut Shared,
    findings: &mut Findings,
    vm: &Vm,
    guest: &GuestRef,
    current: &Current<'_>,
    chain: &mut Chain,
) -> DiskChanges {
    let mut changes = DiskChanges::default();
    let shape = match input.transports.choice {
        TransportChoice::Hybrid => Shape::Classic,
        // A disk added to a guest that exists is imported by the same call that attaches it.
        _ => input.transports.shape(false),
    };
    let renames = renames(input, findings, vm, guest, current);
    for (slot, desired) in &vm.disks {
        let name = slot.to_string();
        if renames.refused.contains(&name) || renames.to.values().any(|(from, _)| *from == name) {
            continue;
        }
        if let (Some((from, text)), Desired::Set(disk)) = (renames.to.get(&name), desired) {
            let (disk, changes) = (&disk.value, &mut changes);
            let mut comparing = Comparing { input, shared, findings, vm, current, disk, changes };
            comparing.compare(guest, &name, text, chain);
            changes.rename(from, &name, text);
            let size = disk.size.as_ref().map(|size| size.value);
            // What an `unusedN` has for a size is not told.
            if let (true, Some(size), Ok(drive)) =
                (Bus::of_key(from) == Some(Bus::Unused), size, Drive::parse(&name, text))
            {
                changes.growth.push((name, size, drive.volume().cloned()));
            }
            continue;
        }
        let there = current.effective(&name);
        match (desired, there) {
            (Desired::Unmanaged, _) | (Desired::Remove(_), None) => {}
            (Desired::Remove(_), Some(text)) => detach(&mut changes, guest, &name, text),
            (Desired::Set(disk), None) => {
                let mut planner = DiskPlanner { input, shared, findings, vm, guest, shape };
                let Some(NewDisk { value, grow_to, reason }) = planner.new_disk(chain, &disk.value) else {
                    continue;
                };
                changes.growth.extend(grow_to.map(|size| (name.clone(), size, None)));
                changes.reasons.push(reason);
                changes.new_slots.insert(name.clone());
                changes.set.insert(name, value);
            }
            (Desired::Set(disk), Some(text)) => {
                let (disk, changes) = (&disk.value, &mut changes);
                let mut comparing = Comparing { input, shared, findings, vm, current, disk, changes };
                comparing.compare(guest, &name, text, chain);
            }
        }
    }
    changes
}

fn detach(changes: &mut DiskChanges, guest: &GuestRef, slot: &str, text: &str) {
    let mut why = reason(format!("disks.{slot}"), Some(text.to_owned()), None);
    why.note = volumes::disk_in(slot, text).map(|disk| what_becomes_of(&disk, guest));
    changes.reasons.push(why);
    changes.delete.insert(slot.to_owned());
}

/// Returns what becomes of a disk that is taken from its slot.
// PVE: qemu-server src/PVE/QemuServer.pm vmconfig_register_unused_drive: only what is the guest's by its name.
fn what_becomes_of(disk: &DiskName, guest: &GuestRef) -> String {
    match disk {
        DiskName::Volume(volume) if volume.owner() == Some(guest.vmid) => {
            "detached, not deleted: the volume stays as `unusedN`".to_owned()
        }
        DiskName::Volume(volume) => {
            format!("detached, not deleted: {volume} stays, but the VM no longer refers to it")
        }
        DiskName::Path(_) => "detached: the VM no longer has the device".to_owned(),
    }
}

struct Comparing<'c, 'a> {
    input: &'c PlanInput<'a>,
    shared: &'c mut Shared,
    findings: &'c mut Findings,
    vm: &'c Vm,
    current: &'c Current<'a>,
    disk: &'c Disk,
    changes: &'c mut DiskChanges,
}

impl Comparing<'_, '_> {
    fn path(&self, rest: &str) -> String {
        let base = format!("disks.{}", self.disk.slot);
        if rest.is_empty() { base } else { format!("{base}.{rest}") }
    }
    fn is_ignored(&self, rest: &str) -> bool {
        is_ignored(self.vm, &self.path(rest))
    }
    fn refuse(&mut self, rest: &str, span: crate::spec::Span, message: String, hint: String) {
        let at = (span, self.vm.path(&self.path(rest)));
        self.findings.refuse(self.input.deployment, at, message, hint);
    }

    fn compare(&mut self, guest: &GuestRef, slot: &str, text: &str, chain: &mut Chain) {
        if self.is_ignored("") {
            return;
        }
        let Ok(drive) = Drive::parse(slot, text) else {
            let message =
                format!("the current value of `{slot}` cannot be parsed: `{}`", text.escape_debug());
            let hint = format!("check `qm config {}` on {}", guest.vmid, guest.node);
            return self.refuse("", self.disk.span, message, hint);
        };
        if firmware::refuse_remaking(self.input, self.findings, self.vm, self.disk, text) {
            return;
        }
        let file = cd_file(self.disk);
        match file {
            Some(file) if drive.is_cdrom() => self.options(slot, text, Some(file)),
            Some(_) => self.occupied(slot, text, "a CD drive"),
            None if drive.is_cdrom() => self.occupied(slot, text, "a disk"),
            None => {
                self.volume(slot, &drive);
                let before = self.changes.moves.len() + self.changes.growth.len();
                self.storage(guest, slot, &drive, chain);
                self.size(guest, slot, &drive, chain);
                let is_remade = self.changes.moves.len() + self.changes.growth.len() > before;
                if is_remade && self.current.config.pending.contains_key(slot) {
                    return self.waiting(slot);
                }
                self.options(slot, text, None);
                if is_remade {
                    self.say_late(slot, text);
                }
            }
        }
    }

    fn occupied(&mut self, slot: &str, text: &str, desired: &str) {
        let message =
            format!("the spec has {desired} at `{slot}`, but the VM has `{}` there", text.escape_debug());
        let hint = format!(
            "detach it first: write `{slot}: null` and deploy, then write the new value and deploy again"
        );
        self.refuse("", self.disk.span, message, hint);
    }

    /// Refuses to move or grow a disk of which something waits for a restart: PVE would bring the old one back then.
    fn waiting(&mut self, slot: &str) {
        let message = format!(
            "`{slot}` has a change that is pending until a restart and cannot be moved or grown before"
        );
        let name = &self.vm.name.value;
        self.refuse("", self.disk.span, message, format!("`vmdeploy reboot {name}` first, then deploy"));
    }

    /// Puts off what `options` has found until the disk is moved and grown.
    fn say_late(&mut self, slot: &str, text: &str) {
        let Some(PatchValue::Text(to)) = self.changes.set.remove(slot) else { return };
        let old = PropertyString::parse(slot, text).unwrap_or_default();
        let new = PropertyString::parse(slot, &to).unwrap_or_default();
        let names: BTreeSet<&str> = old.iter().chain(new.iter()).map(|(name, _)| name).collect();
        let value = |fields: &PropertyString, name: &str| fields.get(name).map(str::to_owned);
        let changed = names.into_iter().filter(|name| old.get(name) != new.get(name));
        let fields = changed.map(|name| (name.to_owned(), (value(&old, name), value(&new, name)))).collect();
        self.changes.late.insert(slot.to_owned(), fields);
    }

    fn volume(&mut self, slot: &str, drive: &Drive) {
        let DiskContent::Volume(desired) = &self.disk.content else { return };
        if drive.volume() != Some(&desired.value) && !self.is_ignored("volume") {
            let (span, desired) = (desired.span, desired.value.clone());
            let there = drive.source.to_string();
            let message = format!(
                "the spec has `{desired}` at `{slot}`, but the VM has `{}` there",
                there.escape_debug()
            );
            let hint = format!(
                "detach it first: write `{slot}: null` and deploy, then write the new value and deploy again"
            );
            self.refuse("volume", span, message, hint);
        }
    }

    fn options(&mut self, slot: &str, text: &str, file: Option<String>) {
        let looked_at: DesiredFields = self
            .disk
            .options
            .iter()
            .filter(|(_, desired)| !is_ignored(self.vm, &desired.path))
            .map(|(name, desired)| (name.clone(), desired.clone()))
            .collect();
        let desired = looked_at.iter().map(|(name, desired)| (name.as_str(), desired.value.as_deref()));
        let desired = desired.chain(file.as_deref().map(|file| ("file", Some(file))));
        // An ISO image of another size is another image: the note of the old size must not go along.
        let of_old_file = file.as_ref().map(|_| ("size", None));
        let Ok(to) = overlay(slot, Some(text), desired.clone().chain(of_old_file)) else { return };
        if same_config_value(slot, Some(text), Some(&to)) {
            return;
        }
        let old = PropertyString::parse(slot, text).unwrap_or_default();
        for (name, desired) in
            desired.filter(|(name, desired)| !same_field(slot, name, old.get(name), *desired))
        {
            let place = looked_at.get(name).map_or_else(|| self.path(name), |desired| desired.path.clone());
            let from = old.get(name).map(str::to_owned);
            self.changes.reasons.push(reason(place, from, desired.map(str::to_owned)));
        }
        self.changes.set.insert(slot.to_owned(), PatchValue::Text(to));
    }

    fn storage(&mut self, guest: &GuestRef, slot: &str, drive: &Drive, chain: &mut Chain) {
        let (Some(desired), Some(volume)) = (&self.disk.storage, drive.volume()) else { return };
        if desired.value == *volume.storage() || self.is_ignored("storage") {
            return;
        }
        if firmware::refuse_live_move(
            self.input,
            self.findings,
            self.vm,
            self.current,
            self.disk,
            desired.span,
        ) {
            return;
        }
        let mut why =
            reason(self.path("storage"), Some(volume.storage().to_string()), Some(desired.value.to_string()));
        why.note = Some("moved; PVE deletes the old volume after copying".to_owned());
        self.changes.reasons.push(why);
        let snapshots = self.current.guest.volumes.as_ref().map(|volumes| &volumes.in_snapshots);
        if snapshots.is_some_and(|named| named.contains(volume)) {
            return self.in_snapshot(guest, slot, desired.span);
        }
        let now = &self.current.config.values;
        let same = DiskName::Volume(volume.clone());
        let other = now
            .iter()
            .find(|(key, text)| *key != slot && volumes::disk_in(key, text).as_ref() == Some(&same));
        if let Some((other, _)) = other.filter(|(key, _)| !key.starts_with("unused")) {
            return self.in_two_slots(slot, &other.clone(), desired.span);
        }
        let size = self.disk.size.as_ref().map(|size| size.value).max(drive.size()).unwrap_or_default();
        chain.wait_for([self.shared.needs_room(&guest.node, &desired.value, Room::sparse(size))]);
        let format = self.disk.format.as_ref().map(|format| format.value.clone());
        let (storage, volume) = (desired.value.clone(), volume.clone());
        self.changes.moves.push(DiskMove { slot: self.disk.slot, volume, storage, format });
    }

    // PVE: qemu-server src/PVE/API2/Qemu.pm move_vm_disk: the source of a snapshot is not deleted.
    fn in_snapshot(&mut self, guest: &GuestRef, slot: &str, span: crate::spec::Span) {
        let message = format!("`{slot}` is part of a snapshot, so its volume cannot be moved");
        let hint = format!(
            "delete the snapshot first: `qm listsnapshot {0}` on {1} lists them, `qm delsnapshot {0} NAME` deletes one",
            guest.vmid, guest.node
        );
        self.refuse("storage", span, message, hint);
    }

    // PVE: qemu-server src/PVE/QemuServer/Drive.pm is_volume_in_use: what another slot names is not deleted.
    fn in_two_slots(&mut self, slot: &str, other: &str, span: crate::spec::Span) {
        let message = format!(
            "`{other}` has the volume of `{slot}` until the VM is restarted, and it cannot be moved before"
        );
        let name = &self.vm.name.value;
        self.refuse("storage", span, message, format!("`vmdeploy reboot {name}` first, then deploy"));
    }

    fn size(&mut self, guest: &GuestRef, slot: &str, drive: &Drive, chain: &mut Chain) {
        let fixed = matches!(self.disk.slot.bus(), Bus::Efidisk | Bus::Tpmstate);
        let (Some(desired), Some(there)) = (&self.disk.size, drive.size()) else { return };
        if fixed || self.is_ignored("size") {
            return;
        }
        if there.get() >= desired.value.get() + EXTENT {
            let message = format!("`{slot}` has {there}; a disk cannot shrink to {}", desired.value);
            let hint = format!(
                "write `size: {there}`, or ignore it: `lifecycle: {{ignore: [{}]}}`",
                self.path("size")
            );
            return self.refuse("size", desired.span, message, hint);
        }
        if there < desired.value {
            let by = Bytes::new(desired.value.get() - there.get());
            if let Some(volume) = drive.volume() {
                chain.wait_for([self.shared.needs_room(&guest.node, volume.storage(), Room::sparse(by))]);
            }
            let mut why = reason(self.path("size"), Some(there.to_string()), Some(desired.value.to_string()));
            why.note = Some("the guest must grow its file system".to_owned());
            self.changes.reasons.push(why);
            // A disk that is moved first has another volume then.
            let is_moved = self.changes.moves.iter().any(|moved| moved.slot == self.disk.slot);
            let volume = drive.volume().filter(|_| !is_moved).cloned();
            self.changes.growth.push((slot.to_owned(), desired.value, volume));
        }
    }
}
