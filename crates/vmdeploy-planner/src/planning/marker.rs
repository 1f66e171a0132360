//! The ownership marker in a guest's description: its current and its desired content.

use super::chain::{Chain, Link};
use super::desired::{is_ignored, keys_digest};
use super::disks::cd_file;
use super::images::{self, source_digest};
use super::input::{Current, Findings, PlanInput};
use crate::identity::{self, Marker};
use crate::plan::{Action, ConfigPatch, GuestRef, PatchValue, Slot};
use crate::spec::{CloneFrom, CloneSource, Desired, Disk, DiskContent, Vm};
use crate::volumes::{DiskName, disk_in, slot_of};
use pve_types::{Vmid, VolumeId};
use std::collections::{BTreeMap, BTreeSet};

/// The name under which a marker keeps the digest of a list of keys with accounts.
const KEYS: &str = "sshkeys";
/// What stands before a slot where a marker keeps the digest of the file that its disk was made from.
const CONTENT: &str = "content:";
/// The name under which a marker keeps the digest of a clone's source.
const CLONE: &str = "clone";

/// Returns the desired ownership marker of the guest.
pub(crate) fn desired_marker(
    input: &PlanInput<'_>,
    vm: &Vm,
    guest: &GuestRef,
    current: Option<&Current<'_>>,
) -> Marker {
    marker_after(input, vm, guest, current, &BTreeMap::new())
}

/// Returns the marker of a guest some of whose disks come to other slots: `renamed` has the old slot by the new one.
pub(crate) fn marker_after(
    input: &PlanInput<'_>,
    vm: &Vm,
    guest: &GuestRef,
    current: Option<&Current<'_>>,
    renamed: &BTreeMap<Slot, Slot>,
) -> Marker {
    let old = current.and_then(|current| current.marker.as_ref());
    // A cluster that the spec calls otherwise now is the same cluster: nothing is written for that alone.
    let same = old.filter(|old| identity::is_same_cluster(&old.cluster, &input.cluster));
    let cluster = same.map_or_else(|| input.cluster.clone(), |old| old.cluster.clone());
    let derived = identity::guest_uuid(&cluster, &input.deployment.project, &vm.name);
    let mut marker = Marker {
        cluster,
        project: input.deployment.project.value.clone(),
        name: vm.name.value.clone(),
        vmid: guest.vmid,
        run: old.map_or_else(|| input.context.run_id.clone(), |marker| marker.run.clone()),
        uuid: (guest.uuid != derived).then(|| guest.uuid.clone()),
        sources: sources(input, vm, current),
        keep: keep(vm, current),
        disks: disks(vm, current),
    };
    for (to, from) in renamed {
        if is_set(vm, from) {
            continue;
        }
        let content = format!("{CONTENT}{from}");
        if let Some(digest) = marker.sources.remove(&content) {
            marker.sources.insert(format!("{CONTENT}{to}"), digest);
        }
        marker.sources.remove(from);
        let volume = marker.disks.remove(from).flatten();
        marker.keep.remove(from);
        let there = current.and_then(|current| current.effective(from));
        let volume = volume.or_else(|| match disk_in(from, there?)? {
            DiskName::Volume(volume) => Some(volume),
            DiskName::Path(_) => None,
        });
        if marker.keep.contains_key(to) {
            marker.disks.insert(to.clone(), volume);
        }
    }
    marker
}

/// Appends the step that writes into the marker which volumes disks have that survive the guest, for those of `slots`
/// that do: PVE names them when it makes them.
pub(crate) fn push_kept_volumes(
    input: &PlanInput<'_>,
    chain: &mut Chain,
    vm: &Vm,
    guest: &GuestRef,
    slots: BTreeSet<Slot>,
) {
    let survives = |slot: &Slot| {
        let disk = slot.parse().ok().and_then(|slot| vm.disks.get(&slot)).and_then(Desired::set);
        disk.is_some_and(|disk| cd_file(disk).is_none() && kept(vm, disk).is_some())
    };
    let slots: BTreeSet<Slot> = slots.into_iter().filter(survives).collect();
    if slots.is_empty() || vm.template {
        return;
    }
    let mut patch = ConfigPatch::default();
    patch.set.insert("description".to_owned(), PatchValue::KeptVolumes { slots });
    let action = Action::SetConfig { guest: guest.clone(), patch, digest: None };
    let transport = input.transports.api_first("the marker records the volumes of kept disks");
    chain.push(Link::new("remember", action, transport, 60));
}

/// Returns the slots that the spec has disks in, and the volumes of those that survive the guest.
///
/// A volume that is remembered and that the guest has somewhere is the disk; else it is what the slot holds.
fn disks(vm: &Vm, current: Option<&Current<'_>>) -> BTreeMap<Slot, Option<VolumeId>> {
    let old = current.and_then(|current| current.marker.as_ref()).map(|marker| marker.disks.clone());
    let mut old = old.unwrap_or_default();
    // A template's volumes get other names when it becomes one, and it has no data to keep.
    let kept = if vm.template { BTreeMap::new() } else { keep(vm, current) };
    let there = current.map(Current::effective_config).unwrap_or_default();
    let place = |volume: &VolumeId| slot_of(&DiskName::Volume(volume.clone()), &there);
    let in_slot = |slot: &str| match disk_in(slot, there.get(slot)?)? {
        DiskName::Volume(volume) => Some(volume),
        DiskName::Path(_) => None,
    };
    let mut found = BTreeMap::new();
    for (slot, desired) in &vm.disks {
        let name = slot.to_string();
        if desired.set().is_none_or(|disk| cd_file(disk).is_some()) {
            continue;
        }
        let remembered = old.remove(&name).flatten().filter(|volume| place(volume).is_some());
        let volume = kept.contains_key(&name).then(|| remembered.or_else(|| in_slot(&name))).flatten();
        found.insert(name, volume);
    }
    // What the spec no longer speaks of is remembered while it is there.
    old.retain(|slot, _| {
        let named = slot.parse().ok().and_then(|slot| vm.disks.get(&slot));
        named.is_none() && (there.contains_key(slot) || kept.contains_key(slot))
    });
    found.extend(old);
    found
}

/// Returns the desired description of the guest: the text of the spec, and the ownership marker.
pub(crate) fn desired_description(vm: &Vm, marker: &Marker, current: &str) -> String {
    let text = match &vm.description {
        Desired::Set(text) if current.is_empty() || !is_ignored(vm, "description") => text.value.as_str(),
        Desired::Remove(_) => "",
        Desired::Set(_) | Desired::Unmanaged => current,
    };
    identity::marked_description(text, marker)
}

/// Refuses a description that is too long with the ownership marker below it.
pub(crate) fn refuse_long_description(input: &PlanInput<'_>, findings: &mut Findings, vm: &Vm, whole: &str) {
    let length = whole.chars().count();
    let Some(over) = length.checked_sub(identity::MAX_DESCRIPTION).filter(|over| *over > 0) else { return };
    let span = vm.description.span().unwrap_or(vm.name.span);
    let message = format!(
        "the description of `{}` has {length} characters with its ownership marker, and PVE takes {}",
        vm.name.value,
        identity::MAX_DESCRIPTION
    );
    let hint = format!("shorten it by {over} characters");
    findings.refuse(input.deployment, (span, vm.path("description")), message, hint);
}

fn sources(input: &PlanInput<'_>, vm: &Vm, current: Option<&Current<'_>>) -> BTreeMap<Slot, String> {
    let old = current.and_then(|current| current.marker.as_ref()).map(|marker| marker.sources.clone());
    let mut sources = old.unwrap_or_default();
    let exists = |slot: &str| current.is_some_and(|current| current.effective(slot).is_some());
    for (slot, desired) in &vm.disks {
        let name = slot.to_string();
        let content = format!("{CONTENT}{name}");
        let mut set = |key: String, digest: Option<String>| match digest {
            Some(digest) => drop(sources.insert(key, digest)),
            None => drop(sources.remove(&key)),
        };
        match desired {
            Desired::Remove(_) => {
                set(name, None);
                set(content, None);
            }
            // A disk that is there keeps what its marker says: an image is copied once, when the disk is made.
            Desired::Set(disk) if !exists(&name) => {
                set(name, image_digest(input, &disk.value));
                set(content, content_digest(input, &disk.value));
            }
            Desired::Set(_) | Desired::Unmanaged => {}
        }
    }
    if let Some(clone) = &vm.clone {
        let renamed = || sources.get(CLONE).is_some_and(|before| was_renamed(input, before, clone));
        if current.is_none() || renamed() {
            sources.insert(CLONE.to_owned(), clone_digest(clone));
        }
    }
    match vm.cloud_init.as_ref().and_then(keys_digest) {
        Some(digest) => drop(sources.insert(KEYS.to_owned(), digest)),
        None => drop(sources.remove(KEYS)),
    }
    sources
}

/// Returns the digest of the image that the spec wants in the disk.
pub(crate) fn image_digest(input: &PlanInput<'_>, disk: &Disk) -> Option<String> {
    let DiskContent::Image(name) = &disk.content else { return None };
    input.deployment.images.get(&name.value).map(source_digest)
}

/// Returns the digest of the file that the disk would be made from now.
pub(crate) fn content_digest(input: &PlanInput<'_>, disk: &Disk) -> Option<String> {
    let DiskContent::Image(name) = &disk.content else { return None };
    input.deployment.images.get(&name.value).and_then(|image| images::content_digest(input, image))
}

/// Returns the digest that the marker remembers of the file that the slot's disk was made from.
pub(crate) fn remembered_content<'m>(marker: &'m Marker, slot: &str) -> Option<&'m String> {
    marker.sources.get(&format!("{CONTENT}{slot}"))
}

/// Returns the digest of the guest that the spec wants the VM cloned from.
pub(crate) fn clone_digest(clone: &CloneFrom) -> String {
    match &clone.from.value {
        CloneSource::Vm(name) => crate::digest::short(&format!("vm {name}")),
        CloneSource::Vmid(vmid) => crate::digest::short(&format!("vmid {vmid}")),
    }
}

/// Tells whether the marker remembers another clone source than the spec names; one that was renamed is the same.
pub(crate) fn is_other_source(input: &PlanInput<'_>, marker: &Marker, clone: &CloneFrom) -> bool {
    let Some(before) = marker.sources.get(CLONE) else { return false };
    *before != clone_digest(clone) && !was_renamed(input, before, clone)
}

/// Tells whether the digest is that of the clone's source under the name that it had.
fn was_renamed(input: &PlanInput<'_>, digest: &str, clone: &CloneFrom) -> bool {
    let CloneSource::Vm(name) = &clone.from.value else { return false };
    let old = input.deployment.vm(name).and_then(|source| source.renamed_from.as_ref());
    old.is_some_and(|old| *digest == crate::digest::short(&format!("vm {}", old.value)))
}

/// Tells whether the list of keys, accounts among them, is another one than the marker remembers.
pub(crate) fn keys_changed(vm: &Vm, marker: Option<&Marker>) -> bool {
    let desired = vm.cloud_init.as_ref().and_then(keys_digest);
    let remembered = marker.and_then(|marker| marker.sources.get(KEYS).cloned());
    desired.is_some() && desired != remembered
}

fn keep(vm: &Vm, current: Option<&Current<'_>>) -> BTreeMap<Slot, Option<Vmid>> {
    let old = current.and_then(|current| current.marker.as_ref()).map(|marker| marker.keep.clone());
    let mut keep = old.unwrap_or_default();
    for (slot, desired) in &vm.disks {
        match desired {
            Desired::Set(disk) => match kept(vm, &disk.value) {
                Some(holder) => drop(keep.insert(slot.to_string(), holder)),
                None => drop(keep.remove(&slot.to_string())),
            },
            Desired::Remove(_) => drop(keep.remove(&slot.to_string())),
            Desired::Unmanaged => {}
        }
    }
    keep
}

/// Tells whether a disk survives its VM, and with which holder.
pub(crate) fn kept(vm: &Vm, disk: &Disk) -> Option<Option<Vmid>> {
    if let Some(keep) = &disk.keep {
        return Some(keep.holder.as_ref().map(|holder| holder.value));
    }
    let by_role = disk.role.as_ref().is_some_and(|role| vm.lifecycle.keep_disks.contains(&role.value));
    by_role.then_some(None)
}

/// Tells whether the spec sets a slot.
fn is_set(vm: &Vm, slot: &str) -> bool {
    slot.parse().ok().and_then(|slot| vm.disks.get(&slot)).and_then(Desired::set).is_some()
}
