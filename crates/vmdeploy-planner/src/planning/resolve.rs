//! Which guest each VM of the spec is: found by its marker first, and given a number only if there is none.

use super::input::{Current, Findings, PlanInput, Resolved};
use crate::identity::{self, Found, IdentityFault, Marker, Owners};
use crate::observed::ObservedGuest;
use crate::plan::{GuestRef, PlanMode};
use crate::spec::{Span, Vm, VmidWish};
use pve_types::{GuestKind, NodeName, Vmid};
use std::collections::BTreeSet;

/// The VMIDs that are drawn where the spec names neither a number nor a range.
const ANY: (u32, u32) = (Vmid::MIN, 999_999);

/// Finds or numbers the guest of each VM.
pub(crate) fn resolve<'a>(
    input: &mut PlanInput<'a>,
    owners: &Owners<'a>,
    vms: &[&'a Vm],
    findings: &mut Findings,
) {
    let mut taken = claimed_vmids(input, vms);
    let mut missing = Vec::new();
    for vm in vms {
        let current = match owners.find(input.deployment, vm) {
            Ok(Found::Ours(guest, marker)) => current(guest, Some(*marker)),
            Ok(Found::Adopted(guest)) => current(guest, None),
            Ok(Found::Absent) => None,
            Err(fault) => {
                refuse(input, vm, &fault, findings);
                continue;
            }
        };
        let Some(current) = current else {
            missing.push(*vm);
            continue;
        };
        taken.insert(current.guest.vmid);
        note_copies(owners, vm, current.guest, findings);
        let guest = GuestRef {
            name: vm.name.value.clone(),
            vmid: current.guest.vmid,
            node: current.guest.node.clone(),
            uuid: current
                .marker
                .as_ref()
                .map_or_else(|| owners.uuid_for_new(&input.deployment.project, vm), Marker::expected_uuid),
        };
        input.guests.insert(vm.name.value.clone(), Resolved::new(vm, guest, Some(current)));
    }
    // What is destroyed has its number already.
    if input.context.mode == PlanMode::Destroy {
        return;
    }
    for vm in missing {
        // Another VM that is not meant may be cloned by one that is; what is wrong with it is no matter otherwise.
        let mut aside = Findings::default();
        let findings = if is_meant(input, vm) { &mut *findings } else { &mut aside };
        let vmid = draw(input, vm, &mut taken, findings);
        let node = node_of(input, vm, findings);
        let (Some(vmid), Some(node)) = (vmid, node) else { continue };
        let uuid = owners.uuid_for_new(&input.deployment.project, vm);
        let guest = GuestRef { name: vm.name.value.clone(), vmid, node, uuid };
        input.guests.insert(vm.name.value.clone(), Resolved::new(vm, guest, None));
    }
}

/// Returns a guest as it is; `None` where its configuration is not known, so that nothing can be said of it.
fn current(guest: &ObservedGuest, marker: Option<Marker>) -> Option<Current<'_>> {
    guest.config.as_ref().map(|config| Current { guest, config, marker })
}

/// Tells whether the VM is one of those that `--target` names.
fn is_meant(input: &PlanInput<'_>, vm: &Vm) -> bool {
    input.is_target(&vm.name.value)
}

/// Refuses the VM for what its identity lacks; one that is not meant does not stand in the way of others.
fn refuse(input: &PlanInput<'_>, vm: &Vm, fault: &IdentityFault, findings: &mut Findings) {
    if !is_meant(input, vm) {
        return;
    }
    let before = findings.refusals();
    let span = match (fault.key(), &vm.vmid, &vm.uuid) {
        ("vmid", VmidWish::Fixed(vmid), _) => vmid.span,
        ("uuid", _, Some(uuid)) => uuid.span,
        _ => vm.name.span,
    };
    let hint = fault.hint(input.deployment, vm);
    findings.refuse(input.deployment, (span, vm.path(fault.key())), fault.message(vm), hint);
    findings.refused_since(before, &vm.name);
}

fn note_copies(owners: &Owners<'_>, vm: &Vm, guest: &ObservedGuest, findings: &mut Findings) {
    for copy in owners.copies_of(guest) {
        let text = format!("VMID {copy} has the same UUID: it is a copy and is left unchanged");
        findings.note(&vm.name, text, None);
    }
}

/// Returns the numbers that must not be drawn: fixed ones, pinned ones, and those of any guest.
fn claimed_vmids(input: &PlanInput<'_>, vms: &[&Vm]) -> BTreeSet<Vmid> {
    let mut taken: BTreeSet<Vmid> = input.observed.guests.keys().copied().collect();
    taken.extend(input.deployment.pins.values().map(|pin| pin.vmid));
    taken.extend(input.context.pins.values().copied());
    taken.extend(vms.iter().filter_map(|vm| match &vm.vmid {
        VmidWish::Fixed(vmid) => Some(vmid.value),
        VmidWish::Any | VmidWish::Range(_) => None,
    }));
    taken
}

/// Names what takes a guest over, with the command to run.
fn adopting(input: &PlanInput<'_>, vmid: Vmid) -> String {
    format!("a spec printed by `vmdeploy adopt {vmid} --project {}`", *input.deployment.project)
}

fn draw(input: &PlanInput<'_>, vm: &Vm, taken: &mut BTreeSet<Vmid>, findings: &mut Findings) -> Option<Vmid> {
    let pinned = input.deployment.pin(vm).map(|pin| (pin.vmid, pin.span));
    let pinned = pinned.or_else(|| input.context.pins.get(&vm.name.value).map(|vmid| (*vmid, vm.name.span)));
    if let VmidWish::Fixed(fixed) = &vm.vmid {
        return free_of_foreigners(input, vm, fixed.value, fixed.span, findings);
    }
    let (first, last, span) = match &vm.vmid {
        VmidWish::Range(range) => (range.0.get(), range.1.get(), range.span),
        VmidWish::Any | VmidWish::Fixed(_) => (ANY.0, ANY.1, vm.name.span),
    };
    if let Some((vmid, span)) = pinned.filter(|(vmid, _)| (first..=last).contains(&vmid.get())) {
        return free_of_foreigners(input, vm, vmid, span, findings);
    }
    let free = (first..=last).filter_map(|number| Vmid::new(number).ok()).find(|vmid| !taken.contains(vmid));
    match free {
        Some(vmid) => {
            taken.insert(vmid);
            Some(vmid)
        }
        None => {
            let message = format!("no VMID from {first} to {last} is free");
            findings.refuse(input.deployment, (span, vm.path("vmid")), message, "write a larger range");
            None
        }
    }
}

fn free_of_foreigners(
    input: &PlanInput<'_>,
    vm: &Vm,
    vmid: Vmid,
    span: Span,
    findings: &mut Findings,
) -> Option<Vmid> {
    let Some(guest) = input.observed.guests.get(&vmid) else { return Some(vmid) };
    if let Err(fault) = IdentityFault::of_taken(guest, vm) {
        let hint = fault.hint(input.deployment, vm);
        findings.refuse(input.deployment, (span, vm.path("vmid")), fault.message(vm), hint);
        return None;
    }
    let name = match &guest.name {
        Some(name) => format!("`{}`", name.escape_debug()),
        None => "without a name".to_owned(),
    };
    let is_vm = guest.kind == GuestKind::Vm;
    let kind = if is_vm { "VM" } else { "container" };
    // A guest that has no UUID, or may not be read, cannot be adopted as it is.
    let hint = match identity::uuid_of(guest).filter(|_| is_vm) {
        Some(_) => format!("{} adopts it; otherwise write another VMID", adopting(input, vmid)),
        None => "write another VMID".to_owned(),
    };
    let message =
        format!("VMID {vmid} is used by a {kind} that vmdeploy does not manage: {name} on {}", guest.node);
    findings.refuse(input.deployment, (span, vm.path("vmid")), message, hint);
    None
}

fn node_of(input: &PlanInput<'_>, vm: &Vm, findings: &mut Findings) -> Option<NodeName> {
    let cluster = input.deployment.clusters.get(&input.cluster);
    let of_cluster = cluster.and_then(|cluster| cluster.node.as_ref()).map(|node| node.value.clone());
    let said = vm.node.as_ref().map(|node| node.value.clone()).or(of_cluster);
    let only_one = || match input.observed.nodes.keys().collect::<Vec<_>>()[..] {
        [only] => Some(only.clone()),
        _ => None,
    };
    let node = said.or_else(|| input.context.default_node.clone()).or_else(only_one);
    let nodes: Vec<_> = input.observed.nodes.keys().map(NodeName::as_str).collect();
    let span = vm.node.as_ref().map_or(vm.name.span, |node| node.span);
    let (message, hint) = match &node {
        None => (
            format!("no node is set for `{}`", vm.name.value),
            format!("write `node:` (the cluster has {}), or set PROXMOX_NODE", nodes.join(", ")),
        ),
        // Where no node was seen at all, nothing can be said of one.
        Some(node) if !nodes.is_empty() && !nodes.contains(&node.as_str()) => {
            (format!("the cluster has no node `{node}`"), format!("the cluster has {}", nodes.join(", ")))
        }
        Some(_) => return node,
    };
    findings.refuse(input.deployment, (span, vm.path("node")), message, hint);
    None
}
