//! What is kept of any guest's configuration: its owner and its static addresses.

use super::{is_marker_line, smbios_uuid};
use crate::observed::{GuestFacts, StaticAddress};
use pve_config::Bus;
use pve_types::GuestKind;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// How much of a marker line is kept; ours are far shorter.
const MARKER_BYTES: usize = 4096;

/// Returns what is kept of a guest's configuration. `values` is the configuration as it will be after the next restart,
/// with its description decoded.
pub fn facts_of(kind: GuestKind, values: &BTreeMap<String, String>) -> GuestFacts {
    let addresses = match kind {
        GuestKind::Vm => of_cloud_init(values),
        GuestKind::Container => of_container(values),
    };
    GuestFacts {
        markers: marker_lines(values.get("description").map_or("", String::as_str)),
        uuid: values.get("smbios1").and_then(|text| smbios_uuid(text)),
        addresses,
    }
}

/// Returns the lines that are ownership markers; two are enough to know that there are several.
fn marker_lines(description: &str) -> Vec<String> {
    let lines = description.lines().filter(|line| is_marker_line(line)).take(2);
    lines.map(|line| line.chars().take(MARKER_BYTES).collect()).collect()
}

/// Returns the static addresses of `ipconfigN`, each with the network of its `netN`. An address without a NIC reaches no
/// guest.
// PVE: qemu-server src/PVE/QemuServer/Cloudinit.pm: addresses are written for the NICs that the guest has.
fn of_cloud_init(values: &BTreeMap<String, String>) -> Vec<StaticAddress> {
    let mut addresses = Vec::new();
    for (key, text) in values {
        let Some(number) = key.strip_prefix("ipconfig") else { continue };
        let slot = format!("net{number}");
        let Some(net) = values.get(&slot) else { continue };
        addresses.extend(addresses_in(&slot, text, net));
    }
    addresses
}

/// Returns the static addresses of a container, which stand at its NICs.
fn of_container(values: &BTreeMap<String, String>) -> Vec<StaticAddress> {
    let nics = values.iter().filter(|(key, _)| Bus::of_key(key) == Some(Bus::Net));
    nics.flat_map(|(slot, net)| addresses_in(slot, net, net)).collect()
}

fn addresses_in(slot: &str, addresses: &str, net: &str) -> Vec<StaticAddress> {
    let found =
        ["ip", "ip6"].into_iter().filter_map(|name| field(addresses, name)?.split('/').next()?.parse().ok());
    let address = |address: IpAddr| StaticAddress {
        nic: slot.to_owned(),
        bridge: field(net, "bridge").map(str::to_owned),
        vlan: field(net, "tag").and_then(|tag| tag.parse().ok()),
        address,
    };
    found.map(address).collect()
}

fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.split(',')
        .find_map(|part| part.trim().split_once('=').filter(|(key, _)| *key == name))
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(kind: GuestKind, pairs: &[(&str, &str)]) -> GuestFacts {
        facts_of(kind, &pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }
    fn shown(facts: &GuestFacts) -> Vec<String> {
        let one =
            |a: &StaticAddress| format!("{} {:?} {:?} {}", a.nic, a.bridge.as_deref(), a.vlan, a.address);
        facts.addresses.iter().map(one).collect()
    }

    #[test]
    fn static_addresses_are_those_of_nics_that_are_there() {
        let vm = facts(
            GuestKind::Vm,
            &[
                ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=20"),
                ("ipconfig0", "ip=10.0.0.5/24,gw=10.0.0.1,ip6=FD00::5/64"),
                ("net1", "virtio=BC:24:11:00:00:02,bridge=vmbr1"),
                ("ipconfig1", "ip=dhcp"),
                ("ipconfig2", "ip=10.0.9.5/24"),
            ],
        );
        assert_eq!(
            shown(&vm),
            ["net0 Some(\"vmbr0\") Some(20) 10.0.0.5", "net0 Some(\"vmbr0\") Some(20) fd00::5"]
        );
        let container = facts(
            GuestKind::Container,
            &[("net0", "name=eth0,bridge=vmbr0,ip=10.0.0.7/24,ip6=auto"), ("net", "ip=1.1.1.1")],
        );
        assert_eq!(shown(&container), ["net0 Some(\"vmbr0\") None 10.0.0.7"]);
    }

    #[test]
    fn only_marker_lines_are_kept_of_a_description() {
        let kept = facts(
            GuestKind::Vm,
            &[("description", "secret note\n<!-- vmdeploy x -->\nmore"), ("smbios1", "uuid=AB")],
        );
        assert_eq!(kept.markers, ["<!-- vmdeploy x -->"]);
        assert_eq!(kept.uuid, None);
    }
}
