//! The mark in a guest's description: what it says, and what it shall say.

use super::desired::{is_ignored, keys_digest};
use super::images::{self, source_digest};
use super::input::{Current, Findings, PlanInput};
use crate::identity::{self, Marker};
use crate::plan::{GuestRef, Slot};
use crate::spec::{CloneFrom, CloneSource, Desired, Disk, DiskContent, Vm};
use pve_types::Vmid;
use std::collections::BTreeMap;

/// The name under which a mark keeps the digest of a list of keys with accounts.
const KEYS: &str = "sshkeys";
/// What stands before a slot where a mark keeps the digest of the file that its disk was made from.
const CONTENT: &str = "content:";
/// The name under which a mark keeps the digest of a clone's source.
const CLONE: &str = "clone";

/// Returns the mark that the guest shall bear.
pub(crate) fn wanted_marker(
    input: &PlanInput<'_>,
    vm: &Vm,
    guest: &GuestRef,
    current: Option<&Current<'_>>,
) -> Marker {
    let old = current.and_then(|current| current.marker.as_ref());
    // A cluster that the spec calls otherwise now is the same cluster: nothing is written for that alone.
    let same = old.filter(|old| identity::is_same_cluster(&old.cluster, &input.cluster));
    let cluster = same.map_or_else(|| input.cluster.clone(), |old| old.cluster.clone());
    let derived = identity::guest_uuid(&cluster, &input.deployment.project, &vm.name);
    Marker {
        cluster,
        project: input.deployment.project.value.clone(),
        name: vm.name.value.clone(),
        vmid: guest.vmid,
        run: old.map_or_else(|| input.context.run_id.clone(), |marker| marker.run.clone()),
        uuid: (guest.uuid != derived).then(|| guest.uuid.clone()),
        sources: sources(input, vm, current),
        keep: keep(vm, current),
    }
}

/// Returns the description that the guest shall have: people's text as the spec wants it, and the mark.
pub(crate) fn wanted_description(vm: &Vm, marker: &Marker, current: &str) -> String {
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
            // A disk that is there keeps what its mark says: an image is copied once, when the disk is made.
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

/// Returns the digest that the mark remembers of the file that the slot's disk was made from.
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

/// Tells whether the list of keys, accounts among them, is another one than the mark remembers.
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
