//! Addresses of all kinds.

use crate::spec::diagnostic::Span;
use crate::spec::faults::Faults;
use crate::spec::model::{Deployment, DesiredField, Duplicate, Nic, Vm};
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::IpAddr;

pub(super) fn check_network(deployment: &Deployment, faults: &mut Faults) {
    check_macs(deployment, faults);
    check_addresses(deployment, faults);
    for vm in &deployment.vms {
        let nics = || vm.nics.values().filter_map(|nic| nic.set());
        nics().for_each(|nic| check_nic(vm, nic, faults));
        check_primary(vm, faults);
        check_has_cloud_init(vm, faults);
        check_has_gateway(vm, faults);
    }
}

fn check_macs(deployment: &Deployment, faults: &mut Faults) {
    let mut seen = HashMap::new();
    for vm in &deployment.vms {
        for nic in vm.nics.values().filter_map(|nic| nic.set()) {
            let Some(mac) = nic.mac else { continue };
            let place = format!("{} of `{}`", nic.slot, vm.name.value);
            let other = seen.insert((vm.cluster.as_str(), mac.value), (place, vm, mac.span));
            if let Some((other, ..)) = other.filter(|(_, other, span)| !vm.shares(other, mac.span, *span)) {
                let message = format!("the MAC address {} is already used by {other}", mac.value);
                let hint = "remove `mac` to let PVE generate one, or use a different one";
                faults.error_hint(mac.span, vm.path(&format!("nics.{}.mac", nic.slot)), message, hint);
            }
        }
    }
}

/// The same address twice on one bridge and VLAN cannot work; on different ones it may be meant.
fn check_addresses(deployment: &Deployment, faults: &mut Faults) {
    let mut seen: HashMap<(&str, IpAddr), (&Vm, Span, &Nic)> = HashMap::new();
    for vm in &deployment.vms {
        for nic in vm.nics.values().filter_map(|nic| nic.set()) {
            for address in &nic.addresses {
                let ip = address.value.addr();
                let other = seen.insert((&vm.cluster, ip), (vm, address.span, nic));
                let other = other.filter(|(other, span, _)| !vm.shares(other, address.span, *span));
                let Some((other, _, other_nic)) = other else { continue };
                let other = format!("{} of `{}`", other_nic.slot, other.name.value);
                let key = if ip.is_ipv4() { "ip" } else { "ip6" };
                let path = vm.path(&format!("nics.{}.{key}", nic.slot));
                let message = format!("the address {ip} is already used by {other}");
                let value = |nic: &Nic| {
                    (nic.bridge.as_ref().map(|bridge| bridge.value.clone()), nic.vlan.map(|vlan| vlan.value))
                };
                if vm.allow_duplicate.contains(&Duplicate::Address) {
                    continue;
                }
                if value(nic) == value(other_nic) {
                    let hint = "use another address; if both may have it, write `allow_duplicate: address` at both VMs";
                    faults.error_hint(address.span, path, message, hint);
                } else {
                    faults.warn(
                        address.span,
                        path,
                        message,
                        "this works only if the two networks are never connected",
                    );
                }
            }
        }
    }
}

fn check_nic(vm: &Vm, nic: &Nic, faults: &mut Faults) {
    for (ip_key, gateway_key, ip_part, gateway_part) in
        [("ip", "gateway", "ip", "gw"), ("ip6", "gateway6", "ip6", "gw6")]
    {
        let value = |part| nic.ipconfig.get(part).filter(|desired: &&DesiredField| desired.value.is_some());
        let Some(gateway) = value(gateway_part) else { continue };
        let path = vm.path(&format!("nics.{}.{gateway_key}", nic.slot));
        if ip_part == "ip" && nic.pool.is_some() {
            continue;
        }
        let Some(ip) = value(ip_part) else {
            let message = format!("a gateway needs an address in `{ip_key}`");
            let like = if ip_key == "ip" { "ip: 10.40.0.5/24" } else { "ip6: fd00::5/64" };
            faults.error_hint(gateway.span, path, message, format!("add `{like}`, or remove the gateway"));
            continue;
        };
        let text = ip.value.as_deref().unwrap_or_default();
        let Ok(net) = text.parse::<IpNet>() else {
            if !matches!(text, "dhcp" | "manual" | "auto") {
                continue;
            }
            let hint = format!("remove `{gateway_key}`, or write an address in `{ip_key}`");
            faults.error_hint(
                gateway.span,
                path,
                format!("a gateway has no effect with `{ip_key}: {text}`"),
                hint,
            );
            continue;
        };
        let Some(address) = gateway.value.as_deref().and_then(|text| text.parse::<IpAddr>().ok()) else {
            continue;
        };
        // A link-local gateway is in every IPv6 network.
        let is_link_local = matches!(address, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80);
        // A host's address (`/32`, `/128`) has every gateway outside: cloud-init makes a route to it on the link.
        let is_host = net.prefix_len() == net.max_prefix_len();
        if !net.contains(&address) && !is_link_local && !is_host {
            let range = format!("{} to {}", net.network(), net.broadcast());
            let message = format!("the gateway {address} is not in the network of {net}, which is {range}");
            let hint = format!(
                "correct the address, its prefix length, or the gateway; for a gateway outside the network, write the address as `{}/{}`",
                net.addr(),
                net.max_prefix_len()
            );
            faults.warn(gateway.span, path, message, hint);
        } else if address == net.addr() {
            let hint = "write the address of the network's router";
            faults.error_hint(gateway.span, path, "the gateway is the guest's own address", hint);
        } else if address.is_ipv4()
            && net.prefix_len() < 31
            && (address == net.network() || address == net.broadcast())
        {
            let message = "the gateway is the network or broadcast address";
            faults.error_hint(gateway.span, path, message, "write the address of the network's router");
        }
    }
    check_nic_options(vm, nic, faults);
}

fn check_nic_options(vm: &Vm, nic: &Nic, faults: &mut Faults) {
    let text = |part: &str| nic.options.get(part).and_then(|desired| desired.value.as_deref());
    let model = text("model").unwrap_or("virtio");
    for (part, key) in [("mtu", "mtu"), ("queues", "queues")] {
        if let Some(desired) =
            nic.options.get(part).filter(|desired| desired.value.is_some() && model != "virtio")
        {
            let path = vm.path(&format!("nics.{}.{key}", nic.slot));
            let message = format!("only a virtio NIC has `{key}`; this is `{model}`");
            faults.error_hint(desired.span, path, message, "write `model: virtio`, or remove the key");
        }
    }
    // A clone has its source's bridge, an adopted guest its own.
    let may_have_one = vm.clone.is_some() || vm.uuid.is_some();
    if text("bridge").is_none()
        && !may_have_one
        && (text("tag").is_some() || text("trunks").is_some() || text("firewall") == Some("1"))
    {
        let path = vm.path(&format!("nics.{}", nic.slot));
        faults.error_hint(nic.span, path, "VLANs and the firewall require a bridge", "add `bridge: vmbr0`");
    }
}

fn check_primary(vm: &Vm, faults: &mut Faults) {
    let primaries: Vec<&Nic> =
        vm.nics.values().filter_map(|nic| nic.set()).filter(|nic| nic.primary).collect();
    if let [_, second, ..] = primaries.as_slice() {
        let path = vm.path(&format!("nics.{}.primary", second.slot));
        faults.error_hint(second.span, path, "only one NIC is primary", "remove `primary` from the others");
    }
}

/// Addresses reach the guest by cloud-init only.
fn check_has_cloud_init(vm: &Vm, faults: &mut Faults) {
    if vm.cloud_init.is_some() || vm.clone.is_some() {
        return;
    }
    let nics = || vm.nics.values().filter_map(|nic| nic.set());
    let said = nics().flat_map(|nic| nic.ipconfig.values()).find(|desired| desired.value.is_some());
    let said = said.map(|desired| (desired.span, desired.path.clone()));
    let drawn = || nics().find_map(|nic| Some((nic.pool.as_ref()?.span, format!("nics.{}.ip", nic.slot))));
    let Some((span, path)) = said.or_else(drawn) else { return };
    let hint = "add `cloud_init: {user: NAME, ssh_keys: [...]}`, or remove the address";
    faults.error_hint(span, vm.path(&path), "the address has no effect: the VM has no cloud-init", hint);
}

/// A guest with static addresses only and no gateway reaches nothing beyond its networks.
fn check_has_gateway(vm: &Vm, faults: &mut Faults) {
    let nics = || vm.nics.values().filter_map(|nic| nic.set());
    let text = |nic: &Nic, part: &str| nic.ipconfig.get(part).and_then(|desired| desired.value.clone());
    let static_ip = nics().flat_map(|nic| &nic.addresses).find(|address| address.value.addr().is_ipv4());
    let reaches_out =
        nics().any(|nic| text(nic, "gw").is_some() || text(nic, "ip").as_deref() == Some("dhcp"));
    let own_data = vm.cloud_init.as_ref().is_some_and(|cloud| cloud.custom.contains_key("network"));
    if let Some(address) = static_ip.filter(|_| !reaches_out && !own_data) {
        let slot = nics()
            .find(|nic| nic.addresses.contains(address))
            .map_or_else(String::new, |nic| nic.slot.to_string());
        let message = "no NIC of the VM has a gateway: the guest reaches only its local networks";
        faults.warn(
            address.span,
            vm.path(&format!("nics.{slot}.ip")),
            message,
            "add `gateway: …` next to the address",
        );
    }
}
