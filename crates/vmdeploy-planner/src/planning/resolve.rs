//! Which guest each VM of the spec is: found by its mark first, and given a number only if there is none.

use super::input::{Current, Findings, PlanInput, Resolved};
use crate::identity::{self, Marker, Ownership};
use crate::observed::ObservedGuest;
use crate::plan::{GuestRef, PlanMode};
use crate::spec::{Span, Vm, VmidWish};
use pve_types::{GuestName, NodeName, Vmid};
use std::collections::{BTreeSet, HashMap};

/// The VMIDs that are drawn where the spec names neither a number nor a range.
const ANY: (u32, u32) = (Vmid::MIN, 999_999);

/// What the marks in the cluster say.
pub(crate) struct Marks<'a> {
    by_uuid: HashMap<String, Vec<&'a ObservedGuest>>,
    by_name: HashMap<GuestName, Vec<(&'a ObservedGuest, Ownership)>>,
}

impl<'a> Marks<'a> {
    /// Reads the marks of the project's guests.
    pub(crate) fn read(input: &PlanInput<'a>) -> Self {
        let mut marks = Self { by_uuid: HashMap::new(), by_name: HashMap::new() };
        for guest in input.observed.guests.values() {
            let Some(config) = guest.config.as_ref().filter(|_| guest.kind == "qemu") else { continue };
            if let Some(uuid) = identity::config_uuid(config) {
                marks.by_uuid.entry(uuid).or_default().push(guest);
            }
            let ownership = identity::ownership(guest);
            let (Ownership::Ours(marker) | Ownership::Copy(marker) | Ownership::Unfinished(marker)) =
                &ownership
            else {
                continue;
            };
            if marker.cluster == input.cluster && marker.project == *input.deployment.project {
                marks.by_name.entry(marker.name.clone()).or_default().push((guest, ownership));
            }
        }
        marks
    }
    /// Returns the project's guests that are ours, with their marks.
    pub(crate) fn ours(&self) -> impl Iterator<Item = (&'a ObservedGuest, &Marker)> {
        self.by_name.values().flatten().filter_map(|(guest, ownership)| match ownership {
            Ownership::Ours(marker) => Some((*guest, marker)),
            _ => None,
        })
    }
}

enum Found<'a> {
    Ours(Current<'a>),
    Nothing,
    Refused,
}

/// Finds or numbers the guest of each VM.
pub(crate) fn resolve<'a>(
    input: &mut PlanInput<'a>,
    marks: &Marks<'a>,
    vms: &[&'a Vm],
    findings: &mut Findings,
) {
    let mut taken = claimed_vmids(input, vms);
    let mut missing = Vec::new();
    for vm in vms {
        match find(input, marks, vm, findings) {
            Found::Ours(current) => {
                taken.insert(current.guest.vmid);
                if input.context.mode == PlanMode::Deploy {
                    let before = findings.refusals();
                    check_vmid(input, vm, current.guest.vmid, findings);
                    findings.refused_since(before, &vm.name);
                }
                let guest = GuestRef {
                    name: vm.name.value.clone(),
                    vmid: current.guest.vmid,
                    node: current.guest.node.clone(),
                    uuid: expected_uuid(input, vm),
                };
                input.guests.insert(vm.name.value.clone(), Resolved::new(vm, guest, Some(current)));
            }
            Found::Nothing => missing.push(*vm),
            Found::Refused => {}
        }
    }
    // What is destroyed has its number already.
    if input.context.mode == PlanMode::Destroy {
        return;
    }
    for vm in missing {
        // Another VM that is not meant may be cloned by one that is; what is wrong with it is no matter otherwise.
        let targets = &input.context.targets;
        let is_meant = targets.is_empty() || targets.contains(&vm.name.value);
        let mut aside = Findings::default();
        let findings = if is_meant { &mut *findings } else { &mut aside };
        let vmid = draw(input, vm, &mut taken, findings);
        let node = node_of(input, vm, findings);
        let (Some(vmid), Some(node)) = (vmid, node) else { continue };
        let guest = GuestRef { name: vm.name.value.clone(), vmid, node, uuid: expected_uuid(input, vm) };
        input.guests.insert(vm.name.value.clone(), Resolved::new(vm, guest, None));
    }
}

/// Returns the UUID that the VM has or will have.
pub(crate) fn expected_uuid(input: &PlanInput<'_>, vm: &Vm) -> String {
    expected_uuid_of(&input.cluster, &input.deployment.project, vm)
}

/// Returns the UUID of a VM of this cluster and project: its own, or the derived one.
pub(crate) fn expected_uuid_of(cluster: &str, project: &str, vm: &Vm) -> String {
    let derived = || identity::guest_uuid(cluster, project, &vm.name);
    vm.uuid.as_ref().map_or_else(derived, |uuid| uuid.value.clone())
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

fn find<'a>(input: &PlanInput<'a>, marks: &Marks<'a>, vm: &Vm, findings: &mut Findings) -> Found<'a> {
    let same_uuid = marks.by_uuid.get(&expected_uuid(input, vm)).map_or(&[][..], Vec::as_slice);
    let at = || (vm.name.span, vm.path(""));
    match same_uuid {
        [] => look_for_unfinished(input, marks, vm, findings),
        [guest] => judge(input, guest, vm, findings),
        several => {
            let vmids: Vec<_> = several.iter().map(|guest| guest.vmid.to_string()).collect();
            let message =
                format!("the UUID of `{}` is at VMIDs {} at once", vm.name.value, vmids.join(" and "));
            let hint =
                "one of them is a copy; give the copy another UUID: `qm set VMID --smbios1 uuid=$(uuidgen)`";
            findings.refuse(input.deployment, at(), message, hint);
            Found::Refused
        }
    }
}

fn judge<'a>(input: &PlanInput<'a>, guest: &'a ObservedGuest, vm: &Vm, findings: &mut Findings) -> Found<'a> {
    let Some(config) = &guest.config else { return Found::Nothing };
    let vmid = guest.vmid;
    let at = (vm.name.span, vm.path(""));
    let (message, hint) = match identity::ownership(guest) {
        Ownership::Ours(marker)
            if marker.name == vm.name.value && marker.project == *input.deployment.project =>
        {
            return Found::Ours(Current { guest, config, marker: Some(marker) });
        }
        Ownership::Unmarked { .. } if adopts(vm, vmid) => {
            return Found::Ours(Current { guest, config, marker: None });
        }
        Ownership::Ours(marker) => (
            format!(
                "VMID {vmid} has this VM's UUID, but is `{}` of project `{}`",
                marker.name, marker.project
            ),
            "one name is enough for one VM: take it out of one of the two specs".to_owned(),
        ),
        Ownership::Copy(marker) => (
            format!("VMID {vmid} has this VM's UUID, but its mark is that of VMID {}", marker.vmid),
            format!("it was restored or copied by hand; {} takes it over", adopting(input, vmid)),
        ),
        Ownership::Unfinished(_) | Ownership::Unmarked { .. } => (
            format!("VMID {vmid} has this VM's UUID, but its ownership mark is gone"),
            format!("write `vmid: {vmid}` and `uuid: {}` to take it over again", expected_uuid(input, vm)),
        ),
    };
    findings.refuse(input.deployment, at, message, hint);
    Found::Refused
}

/// Names what takes a guest over, with the command to run.
fn adopting(input: &PlanInput<'_>, vmid: Vmid) -> String {
    format!("the spec that `vmdeploy adopt {vmid} --project {}` prints", *input.deployment.project)
}

/// Tells whether the spec says in words that this guest is to be adopted: by VMID and by UUID.
fn adopts(vm: &Vm, vmid: Vmid) -> bool {
    vm.uuid.is_some() && matches!(&vm.vmid, VmidWish::Fixed(fixed) if fixed.value == vmid)
}

fn look_for_unfinished<'a>(
    input: &PlanInput<'a>,
    marks: &Marks<'a>,
    vm: &Vm,
    findings: &mut Findings,
) -> Found<'a> {
    let named = marks.by_name.get(&vm.name.value).map_or(&[][..], Vec::as_slice);
    let unfinished = named.iter().find_map(|(guest, ownership)| match ownership {
        Ownership::Unfinished(marker) => Some((guest.vmid, marker)),
        _ => None,
    });
    let Some((vmid, marker)) = unfinished else { return Found::Nothing };
    let message =
        format!("run `{}` was interrupted while it cloned `{}` as VMID {vmid}", marker.run, vm.name.value);
    let hint = format!("`vmdeploy resume {}` finishes it", marker.run);
    findings.refuse(input.deployment, (vm.name.span, vm.path("")), message, hint);
    Found::Refused
}

fn check_vmid(input: &PlanInput<'_>, vm: &Vm, actual: Vmid, findings: &mut Findings) {
    if let VmidWish::Fixed(fixed) = &vm.vmid
        && fixed.value != actual
    {
        let message = format!("`{}` exists as VMID {actual}, and a VMID cannot be changed", vm.name.value);
        let hint = format!(
            "write `vmid: {actual}`, or destroy the VM first: `vmdeploy destroy --target {}`",
            vm.name.value
        );
        findings.refuse(input.deployment, (fixed.span, vm.path("vmid")), message, hint);
    }
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
    let name = guest.name.as_deref().unwrap_or("without a name").escape_debug().to_string();
    let (kind, hint) = if guest.kind == "qemu" {
        ("VM", format!("{} takes it over; else write another VMID", adopting(input, vmid)))
    } else {
        ("container", "write another VMID".to_owned())
    };
    let message = format!("VMID {vmid} is taken by a {kind} that is not ours: `{name}` on {}", guest.node);
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
    if node.is_none() {
        let message = format!("nothing says on which node `{}` is made", vm.name.value);
        let nodes: Vec<_> = input.observed.nodes.keys().map(NodeName::as_str).collect();
        let hint = format!("write `node:` (the cluster has {}), or set PROXMOX_NODE", nodes.join(", "));
        findings.refuse(input.deployment, (vm.name.span, vm.path("node")), message, hint);
    }
    node
}
