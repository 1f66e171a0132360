//! Where a guest is reached, and how that is known.

use pve_api::{AddressFilter, GuestInterface, choose_address};
use pve_config::{Bus, DeviceSlot};
use std::net::IpAddr;
use vmdeploy_planner::observed::ObservedConfig;
use vmdeploy_planner::spec::Vm;

/// Where an address is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The guest agent says it.
    #[default]
    Agent,
    /// The guest's cloud-init configuration sets it; not confirmed by the guest.
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
    let awaited = vm.ready.ip.as_ref().and_then(|ip| ip.nic.as_ref()).map(|slot| slot.value);
    let first = primary.map(|(slot, _)| *slot).or(awaited);
    let mut nics = config.map(|config| pve_config::mac_addresses(&config.values)).unwrap_or_default();
    nics.sort_by_key(|(slot, _)| (Some(*slot) != first, *slot));
    let family = vm.ready.ip.as_ref().and_then(|ip| ip.family.only());
    let cidr = vm.ready.ip.as_ref().and_then(|ip| ip.within.as_ref()).map(|within| within.value);
    AddressFilter { macs: nics.into_iter().map(|(_, mac)| mac).collect(), family, cidr }
}

/// Returns the address that is meant, as the agent tells it.
pub fn choose(interfaces: &[GuestInterface], desired: &AddressFilter) -> Addresses {
    match choose_address(interfaces, desired) {
        Some(found) => Addresses { addresses: vec![found.address], ..Addresses::default() },
        None => Addresses {
            trouble: Some("the guest agent reports no matching address yet".to_owned()),
            ..Addresses::default()
        },
    }
}

/// Returns the static address that cloud-init sets, of the first NIC that has one.
pub fn configured_address(config: Option<&ObservedConfig>) -> Addresses {
    let values = config.map(|config| config.values.iter()).into_iter().flatten();
    let configured = values.filter_map(|(key, value)| {
        let slot: DeviceSlot = key.parse().ok().filter(|slot: &DeviceSlot| slot.bus() == Bus::Ipconfig)?;
        Some((slot, pve_config::static_address(value)?))
    });
    let addresses = configured.min().map(|(_, address)| address).into_iter().collect();
    Addresses { addresses, source: Source::CloudInit, trouble: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_without_a_fitting_address_is_no_failure_of_the_agent() {
        assert!(choose(&[], &AddressFilter::default()).trouble.unwrap().contains("no matching address yet"));
    }
}
