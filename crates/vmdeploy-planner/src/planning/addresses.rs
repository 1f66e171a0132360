//! Static addresses that a guest has already: two guests with one address on one network disturb each other.

use super::gone;
use super::input::{Findings, PlanInput, Resolved};
use crate::identity::{Owners, Ownership, ownership};
use crate::observed::{ObservedGuest, StaticAddress};
use crate::spec::{Duplicate, Nic, Span};
use pve_types::Vmid;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// Refuses static addresses that guests outside the plan have on the same bridge and VLAN. Two VMs of one spec are
/// compared when the spec is read.
pub(super) fn check(input: &PlanInput<'_>, owners: &Owners<'_>, findings: &mut Findings) {
    let leaving: BTreeSet<Vmid> = match input.context.prune {
        Some(_) => gone(input, owners).into_iter().map(|(guest, _)| guest.vmid).collect(),
        None => BTreeSet::new(),
    };
    let planned: HashMap<Vmid, &Resolved<'_>> = input
        .guests
        .values()
        .filter(|resolved| is_meant(input, resolved))
        .filter_map(|resolved| Some((resolved.current.as_ref()?.guest.vmid, resolved)))
        .collect();
    let mut held = Held::new();
    // A template never runs.
    for guest in
        input.observed.guests.values().filter(|guest| !guest.template && !leaving.contains(&guest.vmid))
    {
        let resolved = planned.get(&guest.vmid);
        let kept =
            |address: &&StaticAddress| !resolved.is_some_and(|resolved| is_given_up(resolved, address));
        for address in guest.facts.addresses.iter().filter(kept) {
            held.entry(address.address).or_default().push((guest, address));
        }
    }
    if held.is_empty() {
        return;
    }
    for resolved in input.guests.values().filter(|resolved| is_meant(input, resolved)) {
        if !resolved.vm.allow_duplicate.contains(&Duplicate::Address) {
            check_vm(input, resolved, &held, findings);
        }
    }
}

/// The addresses that guests have, by the address.
type Held<'o> = HashMap<IpAddr, Vec<(&'o ObservedGuest, &'o StaticAddress)>>;

fn is_meant(input: &PlanInput<'_>, resolved: &Resolved<'_>) -> bool {
    input.is_target(&resolved.vm.name.value)
}

/// Tells whether a VM of the plan gives its guest another address there than it has.
fn is_given_up(resolved: &Resolved<'_>, held: &StaticAddress) -> bool {
    let nic = resolved.vm.nics.iter().find(|(slot, _)| slot.to_string() == held.nic).map(|(_, nic)| nic);
    match nic {
        None => false,
        Some(nic) => match nic.set() {
            // The NIC goes.
            None => true,
            Some(nic) => {
                !nic.ipconfig.is_empty() && !nic.addresses.iter().any(|own| own.value.addr() == held.address)
            }
        },
    }
}

fn check_vm(input: &PlanInput<'_>, resolved: &Resolved<'_>, held: &Held<'_>, findings: &mut Findings) {
    let own = resolved.current.as_ref().map(|current| current.guest);
    for nic in resolved.vm.nics.values().filter_map(|nic| nic.set()) {
        for address in &nic.addresses {
            let wanted = wanted(nic, own, address.value.addr());
            let same = held.get(&wanted.address).into_iter().flatten();
            let mut others = same.filter(|(guest, _)| Some(guest.vmid) != own.map(|own| own.vmid));
            let Some((other, _)) = others.find(|(_, there)| may_meet(&wanted, there)) else {
                continue;
            };
            say(input, resolved, (nic, address.span), other, &wanted, findings);
        }
    }
}

/// Returns the address with the network that the NIC is or will be in.
fn wanted(nic: &Nic, own: Option<&ObservedGuest>, address: IpAddr) -> StaticAddress {
    let slot = nic.slot.to_string();
    let there = own.and_then(|own| own.facts.addresses.iter().find(|there| there.nic == slot));
    let bridge = nic.bridge.as_ref().map(|bridge| bridge.value.to_string());
    StaticAddress {
        bridge: bridge.or_else(|| there.and_then(|there| there.bridge.clone())),
        vlan: match nic.options.get("tag") {
            Some(_) => nic.vlan.as_ref().map(|vlan| vlan.value),
            None => there.and_then(|there| there.vlan),
        },
        nic: slot,
        address,
    }
}

/// Tells whether two NICs with this address are on one network, as far as is known: a bridge that is not known may be any.
fn may_meet(one: &StaticAddress, other: &StaticAddress) -> bool {
    let same_bridge = match (&one.bridge, &other.bridge) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    one.address == other.address && same_bridge && one.vlan == other.vlan
}

/// An address that is given now is refused; one that both have already is only said.
fn say(
    input: &PlanInput<'_>,
    resolved: &Resolved<'_>,
    (nic, span): (&Nic, Span),
    other: &ObservedGuest,
    wanted: &StaticAddress,
    findings: &mut Findings,
) {
    let vm = resolved.vm;
    let has_it =
        resolved.current.as_ref().is_some_and(|current| current.guest.facts.addresses.contains(wanted));
    let who = match ownership(other) {
        Ownership::Ours(marker) => {
            format!("`{}` of project `{}`", marker.name, marker.project.escape_debug())
        }
        _ => other
            .name
            .as_ref()
            .map_or_else(|| "a guest without a name".to_owned(), |name| format!("`{}`", name.escape_debug())),
    };
    let message = format!("the address {} is already used by VMID {}, {who}", wanted.address, other.vmid);
    let hint = format!(
        "use another address, or, if both may have it, write `allow_duplicate: address` at `vms.{}`",
        vm.name.value
    );
    if has_it {
        return findings.note(&vm.name, message, Some(&hint));
    }
    let before = findings.refusals();
    let key = if wanted.address.is_ipv4() { "ip" } else { "ip6" };
    findings.refuse(input.deployment, (span, vm.path(&format!("nics.{}.{key}", nic.slot))), message, hint);
    findings.refused_since(before, &vm.name);
}
