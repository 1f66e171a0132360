//! Starting a VM and waiting until it is ready.

use super::chain::{Chain, Link};
use super::input::{Current, PlanInput};
use crate::plan::{Action, Condition, GuestRef, IpFamily, Revert, Transport, TransportChoice};
use crate::spec::{ReadyIp, Vm};
use pve_config::DeviceSlot;
use pve_types::MacAddr;

/// How long a port may take to answer after the address is known, where the spec does not say.
const ADDRESS_S: u64 = 300;

/// Appends the step that starts the guest, or waits until high availability has started it.
pub(crate) fn push_start(input: &PlanInput<'_>, chain: &mut Chain, guest: &GuestRef, by_ha: bool) {
    let (what, action, why) = if by_ha {
        let action = Action::Await { guest: guest.clone(), condition: Condition::Running };
        ("running", action, "high availability starts the VM; its state is read through the API")
    } else {
        ("start", Action::StartVm { guest: guest.clone() }, "one call; its task ends when the VM runs")
    };
    let mut link = Link::new(what, action, input.transports.api_first(why), 300);
    if by_ha {
        link.revert = Revert::Nothing;
    }
    chain.push(link);
}

/// Appends the waits that the spec's `ready:` asks for.
pub(crate) fn push_conditions(
    input: &PlanInput<'_>,
    chain: &mut Chain,
    vm: &Vm,
    guest: &GuestRef,
    current: Option<&Current<'_>>,
) {
    let ready = &vm.ready;
    if let Some(timeout) = ready.agent {
        push(input, chain, guest, "agent", Condition::Agent, timeout.as_secs());
    }
    let needs_address = !ready.tcp.is_empty() || ready.command.is_some();
    match &ready.ip {
        Some(ip) => push(input, chain, guest, "address", address(vm, ip, current), ip.timeout.as_secs()),
        None if needs_address => {
            let nic = primary(vm);
            let mac = nic.and_then(|slot| mac_of(vm, slot, current));
            let any = Condition::Address { nic, mac, family: IpFamily::Any, within: None };
            push(input, chain, guest, "address", any, ADDRESS_S);
        }
        None => {}
    }
    if let Some(timeout) = ready.cloud_init {
        push(input, chain, guest, "cloud-init", Condition::CloudInit, timeout.as_secs());
    }
    for tcp in &ready.tcp {
        let port = tcp.port.value;
        push(input, chain, guest, &format!("tcp-{port}"), Condition::Tcp { port }, tcp.timeout.as_secs());
    }
    if let Some(command) = &ready.command {
        let condition = Condition::Command { argv: command.argv.value.clone() };
        push(input, chain, guest, "command", condition, command.timeout.as_secs());
    }
}

fn address(vm: &Vm, ip: &ReadyIp, current: Option<&Current<'_>>) -> Condition {
    let slot = ip.nic.as_ref().map(|nic| nic.value).or_else(|| primary(vm));
    Condition::Address {
        nic: slot,
        mac: slot.and_then(|slot| mac_of(vm, slot, current)),
        family: ip.family,
        within: ip.within.as_ref().map(|net| net.value),
    }
}

/// Returns the NIC that the spec calls primary: inventories take its address.
fn primary(vm: &Vm) -> Option<DeviceSlot> {
    vm.nics.iter().find(|(_, nic)| nic.set().is_some_and(|nic| nic.primary)).map(|(slot, _)| *slot)
}

fn mac_of(vm: &Vm, slot: DeviceSlot, current: Option<&Current<'_>>) -> Option<MacAddr> {
    let said = vm.nics.get(&slot).and_then(|desired| desired.set()?.mac.as_ref()).map(|mac| mac.value);
    said.or_else(|| pve_config::mac_of(current?.effective(&slot.to_string())?))
}

fn push(
    input: &PlanInput<'_>,
    chain: &mut Chain,
    guest: &GuestRef,
    what: &str,
    condition: Condition,
    deadline_s: u64,
) {
    let transport = match condition {
        Condition::Tcp { .. } => (Transport::Local, "the port is checked from this machine".to_owned()),
        Condition::Command { .. } => (Transport::Local, "the command runs on this machine".to_owned()),
        _ if input.transports.choice == TransportChoice::Ssh => input.transports.api_first(""),
        _ => (Transport::Api, "polls the guest agent through the API (about 15 ms per request)".to_owned()),
    };
    let action = Action::Await { guest: guest.clone(), condition };
    chain.push(Link::new(format!("await-{what}"), action, transport, deadline_s));
}
