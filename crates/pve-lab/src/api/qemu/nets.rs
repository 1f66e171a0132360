//! Network cards.

use pve_types::PveVersion;
use rand::Rng as _;

use super::drive::format_of;
use crate::schema::property::{self, Properties};
use crate::world::World;

/// Reads `netN`; `None` when it cannot be read.
pub fn parse(version: PveVersion, text: &str) -> Option<Properties> {
    property::split(&*format_of(version, "net0")?, text).ok()
}

/// Prints `netN` as it is stored: `virtio=MAC,bridge=vmbr0,…`.
// PVE: qemu-server src/PVE/QemuServer/Network.pm print_net
pub fn print(net: &Properties) -> String {
    let model = net.get("model").map_or("", String::as_str);
    let first = match net.get("macaddr") {
        Some(mac) => format!("{model}={mac}"),
        None => model.to_owned(),
    };
    let rest = net.iter().filter(|(key, _)| *key != "model" && *key != "macaddr");
    std::iter::once(first)
        .chain(rest.map(|(key, value)| format!("{key}={value}")))
        .collect::<Vec<_>>()
        .join(",")
}

/// A new MAC address with the datacenter's prefix.
pub fn random_mac(world: &mut World) -> String {
    let default = if world.version.at_least(8, 1) { "BC:24:11" } else { "" };
    let prefix = world.datacenter.get("mac_prefix").map_or(default, String::as_str).to_uppercase();
    let mut bytes: Vec<u8> =
        prefix.split(':').filter_map(|part| u8::from_str_radix(part, 16).ok()).take(6).collect();
    while bytes.len() < 6 {
        let byte = world.random.next_u32().to_le_bytes()[0];
        bytes.push(if bytes.is_empty() { byte & 0xfc | 2 } else { byte });
    }
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// The stored form of what was asked, with a MAC address made up where none was given.
pub fn complete(world: &mut World, text: &str) -> Option<String> {
    let mut net = parse(world.version, text)?;
    let mac = match net.get("macaddr") {
        Some(mac) => mac.to_uppercase(),
        None => random_mac(world),
    };
    net.insert("macaddr".to_owned(), mac);
    Some(print(&net))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::WorldSpec;

    #[test]
    fn a_card_is_stored_with_model_and_address_first() {
        let mut world = World::new(&WorldSpec::demo(), 1);
        let given = complete(&mut world, "bridge=vmbr0,virtio=bc:24:11:aa:bb:cc,tag=10,firewall=1");
        assert_eq!(given.as_deref(), Some("virtio=BC:24:11:AA:BB:CC,bridge=vmbr0,firewall=1,tag=10"));
        let made_up = complete(&mut world, "virtio,bridge=vmbr0").unwrap();
        assert!(made_up.starts_with("virtio=BC:24:11:") && made_up.ends_with(",bridge=vmbr0"), "{made_up}");
    }
}
