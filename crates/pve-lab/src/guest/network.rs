//! The interfaces and addresses of a guest.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use super::Runtime;
use crate::world::{Config, Guest, GuestBehavior, World};

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: std::net::IpAddr,
    /// Its prefix.
    pub prefix: u8,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Its name in the guest.
    pub name: String,
    /// Its MAC address, lower case as guests show it.
    pub mac: String,
    /// The bridge it hangs on.
    pub bridge: String,
    /// Its addresses, but for the link-local one.
    pub addresses: Vec<Address>,
    /// Whether it is up, and so has a link-local address.
    pub is_up: bool,
}

/// Addresses that DHCP has given out, by network and MAC.
#[derive(Debug, Clone, Default)]
pub struct Leases(BTreeMap<(String, String), Ipv4Addr>);

/// Hosts of a network below this number are not given out.
const FIRST_LEASE: u32 = 100;

impl Leases {
    /// Returns the lease of `mac` in `network` (`192.0.2.0/24`), a new one if it has none; `None` when none is left.
    pub fn lease(&mut self, network: &str, mac: &str) -> Option<Address> {
        let (base, prefix) = network.split_once('/')?;
        let (base, prefix): (Ipv4Addr, u8) =
            (base.parse().ok()?, prefix.parse().ok().filter(|prefix| *prefix <= 30)?);
        let key = (network.to_owned(), mac.to_ascii_lowercase());
        if let Some(known) = self.0.get(&key) {
            return Some(Address { ip: (*known).into(), prefix });
        }
        let hosts = (1_u32 << (32 - u32::from(prefix))) - 1;
        let first = FIRST_LEASE.min(hosts / 2).max(1);
        let taken: std::collections::BTreeSet<Ipv4Addr> =
            self.0.iter().filter(|((net, _), _)| net == network).map(|(_, ip)| *ip).collect();
        let free = (first..hosts)
            .map(|host| Ipv4Addr::from(u32::from(base) + host))
            .find(|ip| !taken.contains(ip))?;
        self.0.insert(key, free);
        Some(Address { ip: free.into(), prefix })
    }
}

pub(super) fn has_cloud_init_drive(config: &Config) -> bool {
    config.iter().any(|(key, value)| {
        let is_slot =
            ["ide", "sata", "scsi", "virtio"].iter().any(|bus| key.starts_with(bus)) && key != "scsihw";
        is_slot && value.split(',').next().is_some_and(|volume| volume.contains("cloudinit"))
    })
}

fn sub_key<'a>(value: &'a str, key: &str) -> Option<&'a str> {
    value
        .split(',')
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value)
}

/// The MAC address in `virtio=BC:…,bridge=…` or `model=virtio,macaddr=BC:…`.
fn mac_of(value: &str) -> Option<&str> {
    sub_key(value, "macaddr").or_else(|| {
        value.split(',').next()?.split_once('=').map(|(_, mac)| mac).filter(|mac| mac.len() == 17)
    })
}

/// What the guest's interfaces are going to be.
pub(super) fn nics(world: &mut World, guest: &Guest, behavior: &GuestBehavior) -> Vec<Nic> {
    let by_cloud_init = has_cloud_init_drive(&guest.config);
    let slots = (0..32)
        .filter_map(|number| guest.config.get(&format!("net{number}")).map(|value| (number, value.clone())));
    let mut nics = Vec::new();
    for (index, (number, value)) in slots.enumerate() {
        let Some(mac) = mac_of(&value).map(str::to_ascii_lowercase) else { continue };
        let wanted = match guest.config.get(&format!("ipconfig{number}")) {
            Some(text) if by_cloud_init => Some(text.clone()),
            // PVE: qemu-server src/PVE/QemuServer/Cloudinit.pm leaves an interface without ipconfig out.
            None if by_cloud_init => None,
            _ => (index == 0).then(|| "ip=dhcp".to_owned()),
        };
        let has_link = sub_key(&value, "link_down") != Some("1");
        let addresses = match &wanted {
            Some(text) if has_link => addresses(&mut world.guest_leases, text, &mac, behavior),
            _ => Vec::new(),
        };
        let bridge = sub_key(&value, "bridge").unwrap_or_default().to_owned();
        nics.push(Nic {
            name: format!("eth{index}"),
            mac,
            bridge,
            addresses,
            is_up: has_link && wanted.is_some(),
        });
    }
    nics
}

fn addresses(leases: &mut Leases, ipconfig: &str, mac: &str, behavior: &GuestBehavior) -> Vec<Address> {
    let mut all = Vec::new();
    let (four, six) = (sub_key(ipconfig, "ip"), sub_key(ipconfig, "ip6"));
    // An ipconfig that names neither asks DHCP for both.
    let four = if four.is_none() && six.is_none() { Some("dhcp") } else { four };
    match four {
        Some("dhcp") => all.extend(leases.lease(&behavior.dhcp, mac)),
        Some(text) => all.extend(static_address(text)),
        None => {}
    }
    match six {
        Some("auto" | "dhcp") => all.extend(interface_identifier(mac).map(|low| Address {
            ip: Ipv6Addr::from(0x2001_0db8_0000_0001_u128 << 64 | u128::from(low)).into(),
            prefix: 64,
        })),
        Some(text) => all.extend(static_address(text)),
        None => {}
    }
    all
}

fn static_address(text: &str) -> Option<Address> {
    let (ip, prefix) = text.split_once('/')?;
    Some(Address { ip: ip.parse().ok()?, prefix: prefix.parse().ok()? })
}

/// The lower half of the addresses that an interface makes for itself (modified EUI-64).
fn interface_identifier(mac: &str) -> Option<u64> {
    let bytes: Vec<u8> =
        mac.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect::<Option<_>>()?;
    let [a, b, c, d, e, f] = bytes.try_into().ok()?;
    Some(u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]))
}

fn link_local(mac: &str) -> Option<Address> {
    let low = interface_identifier(mac)?;
    Some(Address {
        ip: Ipv6Addr::from(0xfe80_0000_0000_0000_u128 << 64 | u128::from(low)).into(),
        prefix: 64,
    })
}

fn address_json(address: &Address) -> Value {
    let kind = if address.ip.is_ipv4() { "ipv4" } else { "ipv6" };
    json!({"ip-address": address.ip.to_string(), "ip-address-type": kind, "prefix": address.prefix})
}

fn interface(name: &str, mac: &str, addresses: &[Address], traffic: u64) -> Value {
    let mut entry = json!({
        "name": name,
        "hardware-address": mac,
        "statistics": {
            "rx-bytes": traffic * 120, "rx-packets": traffic, "rx-errs": 0, "rx-dropped": 0,
            "tx-bytes": traffic * 80, "tx-packets": traffic, "tx-errs": 0, "tx-dropped": 0,
        },
    });
    // An interface without addresses has no such key.
    if !addresses.is_empty() {
        entry["ip-addresses"] = addresses.iter().map(address_json).collect();
    }
    entry
}

/// What `network-get-interfaces` answers at `now`.
pub(super) fn interfaces(runtime: &Runtime, now: u64) -> Value {
    let loopback = [
        Address { ip: Ipv4Addr::LOCALHOST.into(), prefix: 8 },
        Address { ip: Ipv6Addr::LOCALHOST.into(), prefix: 128 },
    ];
    let mut all = vec![interface("lo", "00:00:00:00:00:00", &loopback, 0)];
    for nic in &runtime.nics {
        let mut addresses = if now >= runtime.addresses_from { nic.addresses.clone() } else { Vec::new() };
        addresses.extend(link_local(&nic.mac).filter(|_| nic.is_up));
        all.push(interface(&nic.name, &nic.mac, &addresses, if nic.is_up { 42 } else { 0 }));
    }
    if runtime.has_noise {
        let bridge = [Address { ip: Ipv4Addr::new(172, 17, 0, 1).into(), prefix: 16 }];
        all.push(interface("docker0", "02:42:ac:11:00:01", &bridge, 0));
    }
    Value::Array(all)
}

/// One entry of a node's neighbor table.
pub(crate) struct Neighbor {
    pub(crate) address: String,
    pub(crate) bridge: String,
    pub(crate) mac: String,
}

/// Who has been heard on a node's bridges: the running guests with their addresses.
pub(crate) fn neighbors(world: &World, node: &str) -> Vec<Neighbor> {
    let now = world.now();
    let here = world
        .guests
        .values()
        .filter(|guest| guest.node == node && guest.is_running() && now >= guest.runtime.addresses_from);
    here.flat_map(|guest| guest.runtime.nics.iter())
        .flat_map(|nic| nic.addresses.iter().map(move |address| (nic, address)))
        .map(|(nic, address)| Neighbor {
            address: address.ip.to_string(),
            bridge: nic.bridge.clone(),
            mac: nic.mac.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_kept_by_mac_and_run_out() {
        let mut leases = Leases::default();
        let first = leases.lease("192.0.2.0/24", "bc:24:11:00:00:01").unwrap();
        assert_eq!(first.ip.to_string(), "192.0.2.100");
        assert_eq!(leases.lease("192.0.2.0/24", "BC:24:11:00:00:01"), Some(first));
        assert_eq!(leases.lease("192.0.2.0/24", "bc:24:11:00:00:02").unwrap().ip.to_string(), "192.0.2.101");
        assert_eq!(leases.lease("192.0.2.0/30", "a").unwrap().ip.to_string(), "192.0.2.1");
        assert_eq!(leases.lease("192.0.2.0/30", "b").unwrap().ip.to_string(), "192.0.2.2");
        assert_eq!(leases.lease("192.0.2.0/30", "c"), None);
    }

    #[test]
    fn link_local_addresses_come_from_the_mac() {
        assert_eq!(link_local("bc:24:11:d6:f1:57").unwrap().ip.to_string(), "fe80::be24:11ff:fed6:f157");
        assert_eq!(link_local("nonsense"), None);
    }

    #[test]
    fn macs_are_found_in_both_forms() {
        assert_eq!(mac_of("virtio=BC:24:11:00:00:01,bridge=vmbr0"), Some("BC:24:11:00:00:01"));
        assert_eq!(mac_of("model=e1000,macaddr=BC:24:11:00:00:02"), Some("BC:24:11:00:00:02"));
        assert_eq!(mac_of("virtio,bridge=vmbr0"), None);
    }
}
