//! Destroying VMs: of a `destroy`, of a `--prune`, and before a replacement.

use super::chain::{Chain, Link};
use super::input::{Current, Findings, PlanInput, reason};
use crate::plan::{Action, GuestRef, Reason, Slot};
use crate::spec::{Span, Vm};
use crate::volumes::{DiskName, disk_in, slot_of};
use pve_config::{Bus, DeviceSlot, Drive};
use pve_types::{GuestKind, Vmid};
use std::collections::BTreeMap;

/// What is destroyed, and where the spec speaks of it.
pub(crate) struct Removal<'r, 'a> {
    pub(crate) guest: &'r GuestRef,
    pub(crate) current: &'r Current<'a>,
    /// The spec's VM; `None` for one that the spec no longer has.
    pub(crate) vm: Option<&'r Vm>,
    /// The VM that this plan makes to hold disks that name no holder; `None` where it makes none.
    pub(crate) holder: Option<Vmid>,
}

/// Appends the steps that destroy a guest; records what refuses it.
pub(crate) fn push_removal(
    input: &PlanInput<'_>,
    findings: &mut Findings,
    chain: &mut Chain,
    removal: &Removal<'_, '_>,
) {
    let Removal { guest, current, vm, .. } = removal;
    let span = vm.map_or(Span::default(), |vm| vm.name.span);
    let path = vm.map_or_else(|| format!("vms.{}", guest.name), |vm| vm.path(""));
    if current.effective("protection") == Some("1") {
        let message = format!("VM {} is protected", guest.vmid);
        let hint = "write `protection: false` and deploy first";
        findings.refuse(input.deployment, (span, path), message, hint);
        return;
    }
    let keep = kept_disks(removal);
    check_lost(input, findings, removal);
    let slots = all_slots(current);
    for (slot, holder) in &keep {
        check_holder(input, findings, removal, slot, *holder);
    }
    let in_ha = input.observed.ha.as_ref().is_some_and(|ha| ha.resources.contains_key(&guest.vmid));
    if in_ha {
        super::availability::push_ha(input, chain, guest, None);
    }
    if current.is_running() && !keep.is_empty() {
        let timeout_s = vm.map_or(180, |vm| vm.lifecycle.shutdown_timeout.as_secs());
        let action = Action::ShutdownVm { guest: (*guest).clone(), timeout_s, force: true };
        let transport = input.transports.api_first("the guest flushes its disks before they are handed over");
        chain.push(
            Link::new("shutdown", action, transport, timeout_s + 60).cannot_revert("it will be destroyed"),
        );
    }
    for (slot, holder) in &keep {
        let Some(holder) = holder else { continue };
        let text = slots.get(slot);
        let Some(volume) = text.and_then(|text| Drive::parse(slot, text).ok()?.volume().cloned()) else {
            continue;
        };
        let slot: DeviceSlot = slot.parse().expect("a disk stands in a device slot");
        let (guest, holder) = ((*guest).clone(), *holder);
        let what = format!("keep-{slot}");
        let action = Action::ReassignDisk { guest, slot, volume, holder };
        let transport = input
            .transports
            .api_first("one call hands the disk over; the result is read back before the VM is deleted");
        let why = "the disk stays with its holder";
        chain.push(Link::new(what, action, transport, 300).cannot_revert(why));
    }
    let action = Action::DeleteVm { guest: (*guest).clone(), stop: current.is_running() };
    let why = "one call removes the VM with its disks, after checking the ownership marker again";
    chain.push(
        Link::new("delete", action, input.transports.api_first(why), 600)
            .cannot_revert("its disks are deleted"),
    );
}

/// Returns what becomes of each disk of a guest that is destroyed.
pub(crate) fn losses(removal: &Removal<'_, '_>) -> Vec<Reason> {
    let keep = kept_disks(removal);
    let values = all_slots(removal.current);
    let disks = values.iter().filter_map(|(key, text)| {
        let drive = Bus::of_key(key)?.holds_volume().then(|| Drive::parse(key, text).ok())??;
        let volume = drive.volume().filter(|_| !drive.is_cdrom())?;
        let size = drive.size().map(|size| format!(", {size}")).unwrap_or_default();
        let mut why = reason(format!("disks.{key}"), Some(format!("{volume}{size}")), None);
        if let Some(Some(holder)) = keep.get(key) {
            why.to = Some(format!("kept by VM {holder}"));
        }
        Some(why)
    });
    disks.collect()
}

/// Returns the disks that survive, by the slot that each is in now: as the spec says, and as the marker remembers. A disk
/// whose volume is recorded is kept in whatever slot it is.
pub(crate) fn kept_disks(removal: &Removal<'_, '_>) -> BTreeMap<Slot, Option<Vmid>> {
    let there = all_slots(removal.current);
    let mut kept = BTreeMap::new();
    for (slot, holder) in survivors(removal) {
        let holder = holder.or(removal.holder);
        let place = remembered(removal, &slot).and_then(|disk| slot_of(&disk, &there));
        if there.get(&slot).is_some_and(|text| disk_in(&slot, text).is_some()) {
            kept.insert(slot, holder);
        }
        kept.extend(place.map(|place| (place, holder)));
    }
    kept
}

/// Returns the slots whose disks survive, with their holders.
fn survivors(removal: &Removal<'_, '_>) -> BTreeMap<Slot, Option<Vmid>> {
    let marker = removal.current.marker.as_ref();
    let mut keep = marker.map(|marker| marker.keep.clone()).unwrap_or_default();
    let disks =
        removal.vm.into_iter().flat_map(|vm| vm.disks.iter().map(move |(slot, desired)| (vm, slot, desired)));
    for (vm, slot, desired) in disks {
        match desired.set().and_then(|disk| super::marker::kept(vm, disk)) {
            Some(holder) => drop(keep.insert(slot.to_string(), holder)),
            None if desired.is_unmanaged() => {}
            None => drop(keep.remove(&slot.to_string())),
        }
    }
    keep
}

fn remembered(removal: &Removal<'_, '_>, slot: &str) -> Option<DiskName> {
    let marker = removal.current.marker.as_ref()?;
    marker.disks.get(slot)?.clone().map(DiskName::Volume)
}

/// Returns what PVE frees with the guest: what its slots hold now, and what they hold after a restart.
fn all_slots(current: &Current<'_>) -> BTreeMap<String, String> {
    let mut slots = current.config.values.clone();
    slots.extend(current.effective_config());
    slots
}

/// Refuses to destroy a guest of which a disk that survives is nowhere to be found, while it has others that may be it.
fn check_lost(input: &PlanInput<'_>, findings: &mut Findings, removal: &Removal<'_, '_>) {
    let there = all_slots(removal.current);
    let marker = removal.current.marker.as_ref();
    let is_known = |slot: &str| {
        let in_spec =
            slot.parse().ok().zip(removal.vm).is_some_and(|(slot, vm)| vm.disks.contains_key(&slot));
        in_spec || marker.is_some_and(|marker| marker.disks.contains_key(slot))
    };
    let others = there.iter().filter(|(slot, _)| Bus::of_key(slot) == Some(Bus::Unused) || !is_known(slot));
    let others: Vec<(&String, DiskName)> =
        others.filter_map(|(slot, text)| Some((slot, disk_in(slot, text)?))).collect();
    let Some((place, disk)) = others.first() else { return };
    for slot in survivors(removal).into_keys() {
        let is_found = remembered(removal, &slot).and_then(|disk| slot_of(&disk, &there)).is_some();
        if is_found || there.contains_key(&slot) {
            continue;
        }
        let guest = removal.guest;
        let span = removal.vm.map_or(Span::default(), |vm| vm.name.span);
        let at = (span, format!("vms.{}.disks.{slot}.keep", guest.name));
        let message = format!(
            "`{slot}` of `{}` must be kept, but its slot is empty; `{place}` ({disk}) may be the disk",
            guest.name
        );
        let hint = format!(
            "`qm set {} --{slot} {disk}` on {} attaches it again; otherwise write `keep: false`, or delete the volume if it is not needed",
            guest.vmid, guest.node
        );
        findings.refuse(input.deployment, at, message, hint);
    }
}

fn check_holder(
    input: &PlanInput<'_>,
    findings: &mut Findings,
    removal: &Removal<'_, '_>,
    slot: &str,
    holder: Option<Vmid>,
) {
    let guest = removal.guest;
    let desired =
        removal.vm.and_then(|vm| vm.disks.get(&slot.parse().ok()?)).and_then(crate::spec::Desired::set);
    let span = desired.map_or(removal.vm.map_or(Span::default(), |vm| vm.name.span), |disk| disk.span);
    let at = (span, format!("vms.{}.disks.{slot}.keep", guest.name));
    let Some(holder) = holder else {
        let message =
            format!("`{slot}` must be kept when `{}` is destroyed, but no holder is set", guest.name);
        let hint = "write `keep: {holder: VMID}` and deploy first, or `keep: false` to delete the disk";
        findings.refuse(input.deployment, at, message, hint);
        return;
    };
    // PVE: qemu-server src/PVE/API2/Qemu.pm move_vm_disk: `can't move disks of a template`.
    if removal.current.guest.template {
        let message = format!(
            "`{slot}` must be kept when `{}` is destroyed, but PVE cannot move a disk of a template",
            guest.name
        );
        let hint = "write `keep: false` and deploy that first: a full clone has the same data";
        findings.refuse(input.deployment, at, message, hint);
        return;
    }
    let volumes = removal.current.guest.volumes.as_ref();
    let disk = all_slots(removal.current).get(slot).and_then(|text| disk_in(slot, text));
    // PVE: qemu-server src/PVE/API2/Qemu.pm move_vm_disk: no disk that a snapshot uses changes hands.
    if let Some(DiskName::Volume(volume)) = disk
        && volumes.is_some_and(|volumes| volumes.in_snapshots.contains(&volume))
    {
        let message = format!("`{slot}` is part of a snapshot and cannot be handed to VM {holder}");
        let hint = format!(
            "delete the snapshot first: `qm listsnapshot {0}` lists them, `qm delsnapshot {0} NAME` deletes one",
            guest.vmid
        );
        findings.refuse(input.deployment, at, message, hint);
        return;
    }
    let seen = input.observed.guests.get(&holder);
    let problem = match seen {
        _ if removal.holder == Some(holder) => None,
        None => Some(format!("VM {holder}, the holder of `{slot}`, does not exist")),
        Some(seen) if seen.kind == GuestKind::Container => {
            Some(format!("{holder}, the holder of `{slot}`, is a container"))
        }
        Some(seen) if seen.node != removal.current.guest.node => Some(format!(
            "VM {holder}, the holder of `{slot}`, is on {}, but `{}` is on {}",
            seen.node, guest.name, removal.current.guest.node
        )),
        Some(_) => None,
    };
    if let Some(message) = problem {
        let node = &removal.current.guest.node;
        let hint = format!("create an empty VM: `qm create {holder} --name holder` on {node}");
        findings.refuse(input.deployment, at, message, hint);
    }
}
