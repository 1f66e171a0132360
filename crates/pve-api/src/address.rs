//! Which of a guest's addresses is meant.
//!
//! A guest has many: loopback, link-local, those of bridges that containers run behind. The one that a deployer
//! means is on the NIC that the VM's configuration gives it, so it is looked for by the NIC's MAC address first.

use crate::api::GuestInterface;
use ipnet::IpNet;
use pve_types::{IpFamily, MacAddr};
use serde::Serialize;
use std::net::{IpAddr, Ipv6Addr};

/// What an address should be like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressFilter {
    /// The VM's NICs whose addresses are meant, in order of preference.
    ///
    /// With at least one, an address of another interface is taken only if `cidr` asks for it.
    pub macs: Vec<MacAddr>,
    /// This version of IP; else IPv4 is preferred.
    pub family: Option<IpFamily>,
    /// In this network.
    pub cidr: Option<IpNet>,
}

/// Where an address was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressSource {
    /// The guest agent said so.
    GuestAgent,
    /// The node's neighbor table had it for the NIC's MAC address: seen lately, not confirmed by the guest.
    NeighborTable,
}

/// An address that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundAddress {
    /// The address.
    pub address: IpAddr,
    /// The interface, as the guest calls it, or the node where the node saw it.
    pub interface: String,
    /// The NIC's MAC address.
    pub mac: Option<MacAddr>,
    /// Where it was learnt.
    pub source: AddressSource,
}

/// Returns the address of a guest that is meant, or `None` while it has none: the first of [`fitting_addresses`].
pub fn choose_address(interfaces: &[GuestInterface], desired: &AddressFilter) -> Option<FoundAddress> {
    fitting_addresses(interfaces, desired).into_iter().next()
}

/// Returns all addresses of a guest that fit, the one that is meant first.
///
/// The order is: the NICs of the filter in their order, then IPv4 before IPv6, then the guest's own order. Loopback,
/// link-local, multicast and unspecified addresses are never taken, and interfaces that containers and tunnels make in
/// the guest only by their MAC address.
pub fn fitting_addresses(interfaces: &[GuestInterface], desired: &AddressFilter) -> Vec<FoundAddress> {
    let mut found: Vec<(usize, bool, FoundAddress)> = Vec::new();
    for interface in interfaces {
        let Some(rank) = rank(interface, desired) else { continue };
        let fitting = interface.addresses.iter().map(|item| item.address).filter(|&a| fits(a, desired));
        found.extend(fitting.map(|address| {
            let item = FoundAddress {
                address,
                interface: interface.name.clone(),
                mac: interface.mac,
                source: AddressSource::GuestAgent,
            };
            (rank, address.is_ipv6(), item)
        }));
    }
    // The sort is stable: among equals the guest's own order stands.
    found.sort_by_key(|(rank, is_v6, _)| (*rank, *is_v6));
    found.into_iter().map(|(_, _, item)| item).collect()
}

/// Returns the address in the node's neighbor table that is meant. The table's lines are (address, MAC, device).
pub fn choose_neighbor(
    neighbors: &[(IpAddr, MacAddr, String)],
    desired: &AddressFilter,
) -> Option<FoundAddress> {
    let interfaces: Vec<GuestInterface> = neighbors
        .iter()
        .filter(|(_, mac, _)| desired.macs.contains(mac))
        .map(|(address, mac, device)| GuestInterface::new(device, Some(*mac), [(*address, 0)]))
        .collect();
    let found = choose_address(&interfaces, desired)?;
    Some(FoundAddress { source: AddressSource::NeighborTable, ..found })
}

/// Returns how well an interface fits, 0 best, or `None` where it is out of the question.
fn rank(interface: &GuestInterface, desired: &AddressFilter) -> Option<usize> {
    let by_mac = interface.mac.and_then(|mac| desired.macs.iter().position(|&wanted| wanted == mac));
    match by_mac {
        // A VLAN or bridge made in the guest on the NIC has its MAC address too: the NIC itself goes first.
        Some(place) => Some(place * 2 + usize::from(is_made_by_the_guest(&interface.name))),
        None if is_made_by_the_guest(&interface.name) => None,
        None if desired.macs.is_empty() || desired.cidr.is_some() => Some(usize::MAX),
        None => None,
    }
}

/// Tells whether an interface's name is one of those that containers, bridges and tunnels give theirs.
fn is_made_by_the_guest(name: &str) -> bool {
    const STEMS: [&str; 19] = [
        "lo",
        "docker",
        "br-",
        "veth",
        "virbr",
        "cni",
        "flannel",
        "cali",
        "cilium",
        "lxc",
        "lxd",
        "podman",
        "tun",
        "tap",
        "wg",
        "tailscale",
        "zt",
        "kube",
        "dummy",
    ];
    let name = name.to_ascii_lowercase();
    STEMS.iter().any(|stem| {
        name.strip_prefix(stem).is_some_and(|rest| match *stem {
            // `lo` and a number at most: `lom0` or `local` are other names.
            "lo" => rest.is_empty() || rest.bytes().all(|byte| byte.is_ascii_digit()),
            _ => true,
        })
    }) || name.contains("loopback")
}

fn fits(address: IpAddr, desired: &AddressFilter) -> bool {
    let usable = match address {
        IpAddr::V4(v4) => {
            !(v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || is_link_local(v6))
                && v6.to_ipv4_mapped().is_none()
        }
    };
    usable
        && desired.family.is_none_or(|family| family == IpFamily::of(address))
        && desired.cidr.is_none_or(|cidr| cidr.contains(&address))
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIC: &str = "BC:24:11:00:00:01";
    const SECOND: &str = "BC:24:11:00:00:02";

    fn interface(name: &str, mac: &str, addresses: &[&str]) -> GuestInterface {
        let addresses = addresses.iter().map(|text| (text.parse().unwrap(), 24));
        GuestInterface::new(name, mac.parse().ok(), addresses)
    }

    fn guest() -> Vec<GuestInterface> {
        vec![
            interface("lo", "00:00:00:00:00:00", &["127.0.0.1", "::1"]),
            interface("docker0", "02:42:AC:11:00:02", &["172.17.0.1"]),
            interface("eth0", NIC, &["fe80::1", "2001:db8::5", "169.254.3.4", "10.0.0.5", "10.0.0.6"]),
            interface("eth1", SECOND, &["192.168.7.9"]),
            interface("eth2", "BC:24:11:00:00:03", &[]),
        ]
    }

    fn check(desired: AddressFilter, expect: Option<&str>) {
        let found = choose_address(&guest(), &desired).map(|found| found.address.to_string());
        assert_eq!(found.as_deref(), expect, "{desired:?}");
    }

    fn desired(macs: &[&str], family: Option<IpFamily>, cidr: Option<&str>) -> AddressFilter {
        let macs = macs.iter().map(|mac| mac.parse().unwrap()).collect();
        AddressFilter { macs, family, cidr: cidr.map(|cidr| cidr.parse().unwrap()) }
    }

    #[test]
    fn the_nic_comes_first_then_family_and_network() {
        check(desired(&[], None, None), Some("10.0.0.5"));
        check(desired(&[NIC], None, None), Some("10.0.0.5"));
        check(desired(&[SECOND], None, None), Some("192.168.7.9"));
        check(desired(&[SECOND, NIC], None, None), Some("192.168.7.9"));
        check(desired(&[NIC], Some(IpFamily::V6), None), Some("2001:db8::5"));
        check(desired(&[SECOND], Some(IpFamily::V6), None), None);
        check(desired(&[NIC], None, Some("10.0.0.6/32")), Some("10.0.0.6"));
        check(desired(&[], None, Some("192.168.0.0/16")), Some("192.168.7.9"));
        check(desired(&["BC:24:11:00:00:03"], None, None), None);
        check(desired(&["BC:24:11:FF:FF:FF"], None, None), None);
    }

    #[test]
    fn what_no_other_host_can_reach_is_never_taken() {
        check(desired(&[], None, Some("127.0.0.0/8")), None);
        check(desired(&[], None, Some("172.17.0.0/16")), None);
        check(desired(&[NIC], None, Some("169.254.0.0/16")), None);
        check(desired(&[NIC], None, Some("fe80::/10")), None);
        for own in
            ["127.9.9.9", "::1", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "0.0.0.0", "::", "255.255.255.255"]
        {
            let guest = [interface("eth0", NIC, &[own])];
            assert_eq!(choose_address(&guest, &desired(&[NIC], None, None)), None, "{own}");
        }
    }

    #[test]
    fn all_addresses_that_fit_are_told_the_one_that_is_meant_first() {
        let texts = |desired: AddressFilter| {
            let found = fitting_addresses(&guest(), &desired);
            found.iter().map(|found| found.address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(texts(desired(&[NIC], None, None)), ["10.0.0.5", "10.0.0.6", "2001:db8::5"]);
        assert_eq!(texts(desired(&[NIC], Some(IpFamily::V6), None)), ["2001:db8::5"]);
        assert_eq!(
            texts(desired(&[SECOND, NIC], None, None)),
            ["192.168.7.9", "10.0.0.5", "10.0.0.6", "2001:db8::5"]
        );
    }

    #[test]
    fn a_bridge_on_the_nic_is_taken_by_its_mac_address() {
        let guest = [interface("eth0", NIC, &[]), interface("br-lan", NIC, &["10.1.1.1"])];
        let found = choose_address(&guest, &desired(&[NIC], None, None)).unwrap();
        assert_eq!((found.interface.as_str(), found.address.to_string().as_str()), ("br-lan", "10.1.1.1"));
    }

    #[test]
    fn windows_names_are_no_hindrance() {
        let guest = [
            interface("Loopback Pseudo-Interface 1", "", &["127.0.0.1"]),
            interface("Ethernet", NIC, &["10.2.2.2"]),
        ];
        assert_eq!(choose_address(&guest, &desired(&[], None, None)).unwrap().interface, "Ethernet");
    }

    #[test]
    fn a_neighbor_is_found_by_mac_and_labeled() {
        let line =
            |address: &str, mac: &str| (address.parse().unwrap(), mac.parse().unwrap(), "vmbr0".to_owned());
        let table =
            [line("10.0.0.9", SECOND), line("fe80::9", NIC), line("2001:db8::9", NIC), line("10.0.0.8", NIC)];
        let found = choose_neighbor(&table, &desired(&[NIC], None, None)).unwrap();
        assert_eq!(found.address.to_string(), "10.0.0.8");
        assert_eq!(found.source, AddressSource::NeighborTable);
        assert_eq!(choose_neighbor(&table, &desired(&[], None, None)), None);
    }
}
