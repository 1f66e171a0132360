//! Disks that come to another slot: what is a move of the same disk, and what is a new one.
//!
//! The ownership marker remembers which slots the spec had disks in. A slot that was among them, is filled, and is no
//! longer in the spec, is where a disk of ours was: a slot that is new in the spec is taken for its new place where that
//! is clear, and refused where it is not. A second, empty disk is never made next to the old one.

use super::desired::is_ignored;
use super::input::{Current, Findings, PlanInput};
use super::marker;
use crate::plan::{GuestRef, Slot};
use crate::spec::{Disk, DiskContent, Span, Vm};
use crate::volumes::{DiskName, disk_in};
use pve_config::{Bus, Drive, PropertyString, find_key};
use pve_types::VolumeId;
use std::collections::{BTreeMap, BTreeSet};

/// The disks of one guest that come to another slot.
#[derive(Default)]
pub(crate) struct Renames {
    /// By the new slot: the old one, and what the new one is set to.
    pub(crate) to: BTreeMap<Slot, (Slot, String)>,
    /// New slots that were refused.
    pub(crate) refused: BTreeSet<Slot>,
}

/// What is looked at.
struct Slots<'s, 'a> {
    input: &'s PlanInput<'a>,
    vm: &'s Vm,
    guest: &'s GuestRef,
    /// The configuration as it is after the next restart.
    config: BTreeMap<String, String>,
    /// The slots that the marker remembers, and the digests of the images that disks in them were made from.
    remembered: BTreeMap<Slot, Option<VolumeId>>,
    sources: BTreeMap<Slot, String>,
    found: Renames,
}

/// Finds the disks that come to another slot.
pub(crate) fn renames(
    input: &PlanInput<'_>,
    findings: &mut Findings,
    vm: &Vm,
    guest: &GuestRef,
    current: &Current<'_>,
) -> Renames {
    let marker = current.marker.as_ref();
    let mut slots = Slots {
        input,
        vm,
        guest,
        config: current.effective_config(),
        remembered: marker.map(|marker| marker.disks.clone()).unwrap_or_default(),
        sources: marker.map(|marker| marker.sources.clone()).unwrap_or_default(),
        found: Renames::default(),
    };
    slots.by_volume(findings);
    slots.unplugged(findings);
    slots.by_content(findings);
    slots.note_left(findings);
    slots.found
}

impl<'s> Slots<'s, '_> {
    /// Returns the slots that the spec fills and the guest does not, with their disks.
    fn new_disks(&self) -> Vec<(Slot, &'s Disk)> {
        let unfilled = self.vm.disks.iter().filter_map(|(slot, desired)| {
            let (name, disk) = (slot.to_string(), desired.set()?);
            let is_new = !self.config.contains_key(&name) && slot.bus().is_drive();
            let is_done = self.found.to.contains_key(&name) || self.found.refused.contains(&name);
            (is_new && !is_done && !is_ignored(self.vm, &format!("disks.{name}"))).then_some((name, disk))
        });
        unfilled.collect()
    }
    /// Returns the slots that hold a disk of ours which the spec no longer speaks of.
    fn dropped(&self) -> Vec<Slot> {
        let is_left = |slot: &&String| {
            let named = slot.parse().ok().and_then(|slot| self.vm.disks.get(&slot));
            named.is_none() && !self.found.to.values().any(|(from, _)| from == *slot)
        };
        let filled = self.config.iter().filter(|(slot, text)| disk_in(slot, text).is_some());
        let ours = filled.map(|(slot, _)| slot).filter(|slot| self.remembered.contains_key(*slot));
        ours.filter(is_left).cloned().collect()
    }
    /// Returns the `unusedN` of the guest that no disk comes from yet.
    fn unused(&self) -> Vec<(Slot, VolumeId)> {
        let taken = |slot: &String| self.found.to.values().any(|(from, _)| from == slot);
        let unused =
            self.config.iter().filter(|(slot, _)| Bus::of_key(slot) == Some(Bus::Unused) && !taken(slot));
        let volume = |(slot, text): (&String, &String)| match disk_in(slot, text)? {
            DiskName::Volume(volume) => Some((slot.clone(), volume)),
            DiskName::Path(_) => None,
        };
        unused.filter_map(volume).collect()
    }

    fn refuse(&mut self, findings: &mut Findings, slot: &str, span: Span, message: String, hint: String) {
        let at = (span, self.vm.path(&format!("disks.{slot}")));
        findings.refuse(self.input.deployment, at, message, hint);
        self.found.refused.insert(slot.to_owned());
    }

    fn rename(&mut self, from: &str, to: &str) {
        let Some(text) = self.config.get(from) else { return };
        let old = PropertyString::parse(from, text).unwrap_or_default();
        let fields = find_key(to).map_or(&[][..], pve_config::Key::fields);
        let known =
            |name: &str| name == "file" || name == "size" || fields.iter().any(|field| field.name == name);
        let carried: PropertyString = old.iter().filter(|(name, _)| known(name)).collect();
        self.found.to.insert(to.to_owned(), (from.to_owned(), carried.print(to)));
    }

    /// A slot that names the volume of another slot is its new place.
    fn by_volume(&mut self, findings: &mut Findings) {
        for (slot, disk) in self.new_disks() {
            let DiskContent::Volume(volume) = &disk.content else { continue };
            let desired = DiskName::Volume(volume.value.clone());
            let holder =
                self.config.iter().find(|(slot, text)| disk_in(slot, text).as_ref() == Some(&desired));
            let Some((from, _)) = holder.map(|(from, text)| (from.clone(), text.clone())) else { continue };
            let stays = from
                .parse()
                .ok()
                .and_then(|from| self.vm.disks.get(&from))
                .is_some_and(|d| d.set().is_some());
            if stays {
                let message =
                    format!("{} is already attached as `{from}`, and the spec has both slots", volume.value);
                let hint = format!("remove `{from}` from the spec to move the disk to `{slot}`");
                self.refuse(findings, &slot, volume.span, message, hint);
            } else {
                self.rename(&from, &slot);
            }
        }
    }

    /// A slot of ours that is empty: its disk was detached by hand, or a run was cut off before it was plugged in. Where it
    /// is clear which `unusedN` that is, it is plugged in.
    fn unplugged(&mut self, findings: &mut Findings) {
        let remembered = self.remembered.clone();
        let ours = self.new_disks().into_iter().filter(|(slot, _)| remembered.contains_key(slot));
        let ours: Vec<(Slot, &Disk)> = ours.collect();
        for (slot, _) in &ours {
            let Some(volume) = remembered[slot].clone().map(DiskName::Volume) else { continue };
            let place =
                self.config.iter().find(|(place, text)| disk_in(place, text).as_ref() == Some(&volume));
            let Some(place) = place.map(|(place, _)| place.clone()) else { continue };
            let named = place.parse().ok().and_then(|place| self.vm.disks.get(&place));
            if named.is_none_or(|desired| desired.set().is_none()) {
                self.rename(&place, slot);
            }
        }
        let is_open = |(slot, _): &&(Slot, &Disk)| !self.found.to.contains_key(slot);
        let open: Vec<(Slot, &Disk)> = ours.iter().filter(is_open).cloned().collect();
        let mut by_storage: BTreeMap<String, Vec<(Slot, &Disk)>> = BTreeMap::new();
        for (slot, disk) in open {
            let storage = disk.storage.as_ref().map(|storage| storage.value.to_string()).unwrap_or_default();
            by_storage.entry(storage).or_default().push((slot, disk));
        }
        for (storage, disks) in by_storage {
            let unused = self.unused();
            let fitting: Vec<_> =
                unused.into_iter().filter(|(_, volume)| volume.storage().as_str() == storage).collect();
            let with_image: Vec<&(Slot, &Disk)> =
                disks.iter().filter(|(_, disk)| matches!(disk.content, DiskContent::Image(_))).collect();
            if fitting.is_empty() {
                continue;
            }
            // An import that was cut off leaves the disks of images unplugged; blank ones are plugged in as they are made.
            if fitting.len() <= with_image.len() && self.are_one_image(&with_image) {
                let pairs: Vec<(Slot, Slot)> = fitting
                    .iter()
                    .zip(&with_image)
                    .map(|((from, _), (to, _))| (from.clone(), to.clone()))
                    .collect();
                pairs.iter().for_each(|(from, to)| self.rename(from, to));
                continue;
            }
            for (slot, disk) in disks {
                let list: Vec<String> =
                    fitting.iter().map(|(place, volume)| format!("{volume} (`{place}`)")).collect();
                let message =
                    format!("`{slot}` of this VM is empty, but its disk may be one of {}", list.join(", "));
                let hint = format!(
                    "write `{slot}: {{volume: '{}'}}` to attach it again, or delete unneeded volumes first: `qm set {} --delete {}`",
                    fitting[0].1, self.guest.vmid, fitting[0].0
                );
                self.refuse(findings, &slot, disk.span, message, hint);
            }
        }
    }

    fn are_one_image(&self, disks: &[&(Slot, &Disk)]) -> bool {
        let digests: BTreeSet<Option<String>> =
            disks.iter().map(|(_, disk)| marker::image_digest(self.input, disk)).collect();
        digests.len() == 1
    }

    /// A new slot whose content is that of a slot that went out of the spec.
    fn by_content(&mut self, findings: &mut Findings) {
        let mut dropped: BTreeMap<Option<String>, Vec<Slot>> = BTreeMap::new();
        for slot in self.dropped() {
            dropped.entry(self.sources.get(&slot).cloned()).or_default().push(slot);
        }
        let mut new: BTreeMap<Option<String>, Vec<(Slot, &Disk)>> = BTreeMap::new();
        for (slot, disk) in self.new_disks() {
            if matches!(disk.content, DiskContent::Blank | DiskContent::Image(_)) {
                new.entry(marker::image_digest(self.input, disk)).or_default().push((slot, disk));
            }
        }
        for (digest, disks) in &new {
            let Some(old) = dropped.get_mut(digest) else { continue };
            if let ([(to, _)], [from]) = (&disks[..], &old[..]) {
                self.rename(&from.clone(), to);
                old.clear();
                continue;
            }
            for (to, disk) in disks {
                let same: Vec<usize> =
                    (0..old.len()).filter(|place| self.is_alike(&old[*place], disk)).collect();
                let rivals = disks.iter().filter(|(_, other)| is_same_size(disk, other)).count();
                if let ([only], 1) = (&same[..], rivals) {
                    let from = old.remove(*only);
                    self.rename(&from, to);
                }
            }
        }
        let left: Vec<Slot> = dropped.into_values().flatten().collect();
        let Some(first) = left.first().cloned() else { return };
        for (slot, disk) in new.into_values().flatten() {
            if self.found.to.contains_key(&slot) {
                continue;
            }
            let volume = self.config.get(&first).and_then(|text| disk_in(&first, text));
            let volume = volume.map(|disk| disk.to_string()).unwrap_or_default();
            let message = format!(
                "`{slot}` is new in the spec and {} is no longer in it; this may be the same disk",
                left.iter().map(|slot| format!("`{slot}`")).collect::<Vec<_>>().join(", ")
            );
            let hint = format!(
                "if so, write `{slot}: {{volume: '{volume}'}}`; if not, write `{first}: null` to detach the old one"
            );
            self.refuse(findings, &slot, disk.span, message, hint);
        }
    }

    fn is_alike(&self, old: &str, disk: &Disk) -> bool {
        let Some(drive) = self.config.get(old).and_then(|text| Drive::parse(old, text).ok()) else {
            return false;
        };
        let same_storage = disk
            .storage
            .as_ref()
            .is_none_or(|storage| drive.volume().is_some_and(|volume| *volume.storage() == storage.value));
        same_storage && disk.size.as_ref().map(|size| size.value) == drive.size()
    }

    fn note_left(&self, findings: &mut Findings) {
        for slot in self.dropped() {
            let text = format!("`{slot}` is no longer in the spec; the disk is left unchanged");
            let hint = format!("`{slot}: null` detaches it");
            findings.note(&self.guest.name, text, Some(&hint));
        }
    }
}

fn is_same_size(one: &Disk, other: &Disk) -> bool {
    let size = |disk: &Disk| disk.size.as_ref().map(|size| size.value);
    let storage = |disk: &Disk| disk.storage.as_ref().map(|storage| storage.value.clone());
    size(one) == size(other) && storage(one) == storage(other)
}

/// Returns the boot order in which the disks have their new slots, where it names an old one.
// PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api: a slot that is deleted is taken out of the order.
pub(crate) fn boot_after(renamed: &BTreeMap<Slot, Slot>, order: &str) -> Option<String> {
    let devices = order.strip_prefix("order=")?;
    let new_of = |old: &str| {
        renamed.iter().find(|(_, from)| *from == old).map_or(old, |(to, _)| to.as_str()).to_owned()
    };
    let renamed: Vec<String> = devices.split(';').map(new_of).collect();
    let after = format!("order={}", renamed.join(";"));
    (after != order).then_some(after)
}
