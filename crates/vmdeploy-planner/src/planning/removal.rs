//! Destroying VMs: of a `destroy`, of a `--prune`, and before a replacement.

use super::chain::{Chain, Link};
use super::input::{Current, Findings, PlanInput, reason};
use crate::plan::{Action, GuestRef, Reason, Slot};
use crate::spec::{Span, Vm};
use pve_config::{DeviceSlot, Drive};
use pve_types::Vmid;
use std::collections::BTreeMap;

/// What is destroyed, and where the spec speaks of it.
pub(crate) struct Removal<'r, 'a> {
    pub(crate) guest: &'r GuestRef,
    pub(crate) current: &'r Current<'a>,
    /// The spec's VM; `None` for one that the spec no longer has.
    pub(crate) vm: Option<&'r Vm>,
}

/// Appends the steps that destroy a guest; records what refuses it.
pub(crate) fn push_removal(
    input: &PlanInput<'_>,
    findings: &mut Findings,
    chain: &mut Chain,
    removal: &Removal<'_, '_>,
) {
    let Removal { guest, current, vm } = removal;
    let span = vm.map_or(Span::default(), |vm| vm.name.span);
    let path = vm.map_or_else(|| format!("vms.{}", guest.name), |vm| vm.path(""));
    if current.effective("protection") == Some("1") {
        let message = format!("VM {} is protected", guest.vmid);
        let hint = "write `protection: false` and deploy that first";
        findings.refuse(input.deployment, (span, path), message, hint);
        return;
    }
    if let Some(clone) = linked_clone(input, removal) {
        let message = format!("VM {clone} is a linked clone of `{}`, whose disks it shares", guest.name);
        let hint =
            format!("destroy VM {clone} first, or move its disks: `qm disk move {clone} SLOT STORAGE`");
        findings.refuse(input.deployment, (span, path), message, hint);
        return;
    }
    let keep = kept_disks(removal);
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
        let transport = input.transports.api_first("the guest writes its disks out before they change hands");
        chain.push(
            Link::new("shutdown", action, transport, timeout_s + 60)
                .cannot_revert("it is about to be destroyed"),
        );
    }
    for (slot, holder) in &keep {
        let Some(holder) = holder else { continue };
        let action = Action::ReassignDisk { guest: (*guest).clone(), slot: slot.clone(), holder: *holder };
        let transport = input
            .transports
            .api_first("one call hands the disk over; it is read back before anything is deleted");
        let why = "the disk stays with its holder";
        chain.push(Link::new(format!("keep-{slot}"), action, transport, 300).cannot_revert(why));
    }
    let action = Action::DeleteVm { guest: (*guest).clone(), stop: current.is_running() };
    let why = "one call removes the VM with its disks, once its mark was read again";
    chain.push(
        Link::new("delete", action, input.transports.api_first(why), 600).cannot_revert("its disks are gone"),
    );
}

/// Returns what becomes of each disk of a guest that is destroyed.
pub(crate) fn losses(removal: &Removal<'_, '_>) -> Vec<Reason> {
    let keep = kept_disks(removal);
    let values = removal.current.effective_config();
    let disks = values.iter().filter_map(|(key, text)| {
        let slot: DeviceSlot = key.parse().ok()?;
        let drive = slot.bus().holds_volume().then(|| Drive::parse(key, text).ok())??;
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

/// Returns a guest whose volumes lie upon those of the one that is destroyed, and that stays.
// PVE: pve-storage: a linked clone's volume is named `BASE/CLONE` where the storage shares blocks by name.
fn linked_clone(input: &PlanInput<'_>, removal: &Removal<'_, '_>) -> Option<Vmid> {
    if !removal.current.guest.template {
        return None;
    }
    let base = format!("base-{}-", removal.guest.vmid);
    let goes_too = |vmid: Vmid| {
        let is_all = input.context.targets.is_empty();
        let named = |name: &pve_types::GuestName| is_all || input.context.targets.contains(name);
        let destroys = input.context.mode == crate::plan::PlanMode::Destroy;
        destroys
            && input
                .guests
                .values()
                .any(|one| one.guest.vmid == vmid && one.current.is_some() && named(&one.guest.name))
    };
    let others =
        input.observed.guests.values().filter(|seen| seen.vmid != removal.guest.vmid && !goes_too(seen.vmid));
    let shares = |seen: &&crate::observed::ObservedGuest| {
        seen.volumes.iter().any(|volume| volume.name().split('/').any(|part| part.starts_with(&base)))
    };
    others.into_iter().find(shares).map(|seen| seen.vmid)
}

/// Returns the disks that survive: as the spec says, and as the mark remembers.
fn kept_disks(removal: &Removal<'_, '_>) -> BTreeMap<Slot, Option<Vmid>> {
    let marker = removal.current.marker.as_ref();
    let mut keep = marker.map(|marker| marker.keep.clone()).unwrap_or_default();
    let disks =
        removal.vm.into_iter().flat_map(|vm| vm.disks.iter().map(move |(slot, desired)| (vm, slot, desired)));
    for (vm, slot, desired) in disks {
        match desired.set().and_then(|disk| super::mark::kept(vm, disk)) {
            Some(holder) => drop(keep.insert(slot.to_string(), holder)),
            None if desired.is_unmanaged() => {}
            None => drop(keep.remove(&slot.to_string())),
        }
    }
    keep.retain(|slot, _| removal.current.effective(slot).is_some());
    keep
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
        let message = format!("`{slot}` shall survive `{}`, and nothing says which VM takes it", guest.name);
        let hint = "write `keep: {holder: VMID}` and deploy that first, or `keep: false` to let it go";
        findings.refuse(input.deployment, at, message, hint);
        return;
    };
    let seen = input.observed.guests.get(&holder);
    let problem = match seen {
        None => Some(format!("VM {holder}, which shall take `{slot}`, does not exist")),
        Some(seen) if seen.kind != "qemu" => {
            Some(format!("{holder}, which shall take `{slot}`, is a container"))
        }
        Some(seen) if seen.node != removal.current.guest.node => Some(format!(
            "VM {holder}, which shall take `{slot}`, is on {} and `{}` on {}",
            seen.node, guest.name, removal.current.guest.node
        )),
        Some(_) => None,
    };
    if let Some(message) = problem {
        let node = &removal.current.guest.node;
        let hint = format!("make an empty VM there: `qm create {holder} --name holder` on {node}");
        findings.refuse(input.deployment, at, message, hint);
    }
}
