//! Where a guest is reached, and how that is known.

use pve_api::{AddressFilter, GuestInterface, choose_address};
use pve_types::MacAddr;
use std::net::IpAddr;
use vmdeploy_planner::observed::ObservedConfig;
use vmdeploy_planner::plan::IpFamily;
use vmdeploy_planner::spec::Vm;

/// Where an address is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The guest agent says it.
    #[default]
    Agent,
    /// The guest's cloud-init configuration sets it, and nobody has confirmed it.
    CloudInit,
    /// The spec says it.
    Spec,
}

impl Source {
    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::CloudInit => "cloud-init",
            Self::Spec => "spec",
        }
    }
}

/// The addresses that were found, the best first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses {
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    /// Where they are known from.
    pub source: Source,
    /// Why there is none, or none from the agent, as a fragment.
    pub trouble: Option<String>,
}

/// Returns which address the spec means.
///
/// First that of the NIC that the spec calls primary, or else of the one that it waits for; then those of the others by
/// their number.
pub fn desired(vm: &Vm, config: Option<&ObservedConfig>) -> AddressFilter {
    let primary = vm.nics.iter().find(|(_, nic)| nic.set().is_some_and(|nic| nic.primary));
    let awaited = vm.ready.ip.as_ref().and_then(|ip| ip.nic.as_ref()).map(|slot| slot.value.to_string());
    let first = primary.map(|(slot, _)| slot.to_string()).or(awaited);
    let mut nics = nics_of(config);
    nics.sort_by_key(|(slot, _)| (Some(slot) != first.as_ref(), slot_number(slot)));
    let family = vm.ready.ip.as_ref().and_then(|ip| match ip.family {
        IpFamily::V4 => Some(pve_api::IpFamily::V4),
        IpFamily::V6 => Some(pve_api::IpFamily::V6),
        IpFamily::Any => None,
    });
    let cidr = vm.ready.ip.as_ref().and_then(|ip| ip.within.as_ref()).map(|within| within.value);
    AddressFilter { macs: nics.into_iter().map(|(_, mac)| mac).collect(), family, cidr }
}

fn nics_of(config: Option<&ObservedConfig>) -> Vec<(String, MacAddr)> {
    let values = config.map(|config| config.values.iter()).into_iter().flatten();
    let nics = values.filter(|(key, _)| slot_number(key).is_some());
    nics.filter_map(|(slot, value)| Some((slot.clone(), mac_in(value)?))).collect()
}

fn slot_number(key: &str) -> Option<u32> {
    key.strip_prefix("net")?.parse().ok()
}

// PVE: qemu-server src/PVE/QemuServer/Network.pm: `MODEL=MAC,…` or `macaddr=MAC`.
fn mac_in(value: &str) -> Option<MacAddr> {
    value.split(',').find_map(|part| part.split_once('=')?.1.parse().ok())
}

/// Returns the address that is meant, as the agent tells it.
pub fn choose(interfaces: &[GuestInterface], desired: &AddressFilter) -> Addresses {
    match choose_address(interfaces, desired) {
        Some(found) => Addresses { addresses: vec![found.address], ..Addresses::default() },
        None => Addresses {
            trouble: Some("the guest agent knows no fitting address yet".to_owned()),
            ..Addresses::default()
        },
    }
}

/// Returns the static address that cloud-init sets, of the first NIC that has one.
pub fn configured_address(config: Option<&ObservedConfig>) -> Addresses {
    let values = config.map(|config| config.values.iter()).into_iter().flatten();
    let mut addresses: Vec<(u32, IpAddr)> = values
        .filter_map(|(key, value)| {
            Some((key.strip_prefix("ipconfig")?.parse().ok()?, static_address(value)?))
        })
        .collect();
    addresses.sort();
    let addresses = addresses.into_iter().take(1).map(|(_, address)| address).collect();
    Addresses { addresses, source: Source::CloudInit, trouble: None }
}

/// Returns the address in e.g. `ip=10.0.0.5/24,gw=10.0.0.1`; `dhcp` and `auto` are none.
fn static_address(ipconfig: &str) -> Option<IpAddr> {
    let parts = ipconfig.split(',').filter_map(|part| part.split_once('='));
    let mut addresses = parts
        .filter(|(key, _)| matches!(*key, "ip" | "ip6"))
        .filter_map(|(_, value)| value.split('/').next()?.parse().ok());
    addresses.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_without_a_fitting_address_is_no_failure_of_the_agent() {
        assert!(choose(&[], &AddressFilter::default()).trouble.unwrap().contains("no fitting address yet"));
    }

    #[test]
    fn a_static_address_is_read_from_cloud_init() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(static_address(text).map(|address| address.to_string()).as_deref(), expect);
        };
        check("ip=10.0.0.5/24,gw=10.0.0.1", Some("10.0.0.5"));
        check("ip=dhcp", None);
        check("gw=10.0.0.1,ip6=fd00::5/64", Some("fd00::5"));
    }
}
