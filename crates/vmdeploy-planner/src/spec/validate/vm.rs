//! What one VM says about itself.

use crate::spec::faults::Faults;
use crate::spec::hints::closest;
use crate::spec::model::{OptionValue, PowerState, Vm};
use crate::spec::schema::VM;
use pve_config::Bus;

pub(super) fn check_vm(vm: &Vm, faults: &mut Faults) {
    check_conflicts(vm, faults);
    check_firmware(vm, faults);
    check_ready(vm, faults);
    check_template(vm, faults);
    check_lifecycle(vm, faults);
}

fn whole<'v>(vm: &'v Vm, key: &str) -> Option<&'v str> {
    match &vm.options.get(key)?.value {
        OptionValue::Whole(text) => Some(text),
        _ => None,
    }
}

/// Refuses options that PVE takes only together, or from a list of its own.
///
/// A clone begins with its source's options: of these only those that the spec sets are checked here, the rest when
/// planning. What memory a VM has whose spec does not say it is not known here either. An adopted guest is as it is, and
/// judged only where a plan changes it.
fn check_conflicts(vm: &Vm, faults: &mut Faults) {
    if vm.uuid.is_some() {
        return;
    }
    let is_new = vm.clone.is_none();
    let config = vm.options.iter().filter_map(|(key, desired)| Some((key.clone(), desired.value.text(key)?)));
    for conflict in pve_config::conflicts(&config.collect()) {
        let is_said = |key: &String| vm.options.contains_key(key);
        let is_known = if is_new {
            conflict.keys.iter().all(|key| key != "memory" || is_said(key))
        } else {
            conflict.keys.iter().all(is_said)
        };
        if is_known {
            let (span, path) = vm.place_of(&conflict.keys);
            faults.error_hint(span, path, conflict.message, conflict.hint);
        }
    }
}

fn check_firmware(vm: &Vm, faults: &mut Faults) {
    let efi = vm.disks.iter().find(|(slot, _)| slot.bus() == Bus::Efidisk).and_then(|(_, disk)| disk.set());
    let bios = whole(vm, "bios");
    if let (Some("ovmf"), None, None) = (bios, efi, &vm.clone) {
        let span = vm.options["bios"].span;
        let message = "without an EFI disk, OVMF loses its settings at every start";
        faults.warn(span, vm.path("bios"), message, "add `efi: {storage: …}`");
    }
    if let Some(efi) = efi.filter(|_| bios != Some("ovmf") && vm.clone.is_none()) {
        let message = "an EFI disk has no effect with SeaBIOS";
        faults.error_hint(efi.span, vm.path("bios.efi"), message, "write `bios: {type: ovmf, efi: {…}}`");
    }
}

fn check_ready(vm: &Vm, faults: &mut Faults) {
    let ready = &vm.ready;
    let asks_agent = [
        (ready.agent.is_some(), "ready.agent"),
        (ready.ip.is_some(), "ready.ip"),
        (ready.cloud_init.is_some(), "ready.cloud_init"),
    ];
    let has_agent = match vm.options.get("agent").map(|desired| &desired.value) {
        Some(OptionValue::Fields(fields)) => {
            fields.get("enabled").and_then(|desired| desired.value.as_deref()) == Some("1")
        }
        Some(OptionValue::Whole(text)) => pve_config::Agent::parse(text).is_ok_and(|agent| agent.enabled),
        Some(OptionValue::Remove) => false,
        // A clone may have it from its source, an adopted guest from before.
        None => vm.clone.is_some() || vm.uuid.is_some(),
    };
    for (_, path) in asks_agent.into_iter().filter(|(asked, _)| *asked && !has_agent) {
        let hint = "add `agent: true`, and install the agent in the guest";
        faults.error_hint(
            vm.name.span,
            vm.path(path),
            "this needs the guest agent, which is not enabled for the VM",
            hint,
        );
    }
    let static_address = vm
        .nics
        .values()
        .filter_map(|nic| nic.set())
        .any(|nic| !nic.addresses.is_empty() || nic.pool.is_some());
    if let Some(tcp) = ready.tcp.first()
        && ready.ip.is_none()
        && !static_address
    {
        let hint = "add `ip: {timeout: 5m}` to `ready`, or a static address to a NIC";
        faults.error_hint(
            tcp.port.span,
            vm.path("ready.tcp"),
            "the VM has no known address to check the port on",
            hint,
        );
    }
    check_ready_ip(vm, faults);
}

fn check_ready_ip(vm: &Vm, faults: &mut Faults) {
    let Some(ip) = &vm.ready.ip else { return };
    let Some(slot) = ip.nic else { return };
    let Some(nic) = vm.nics.get(&slot.value).and_then(|nic| nic.set()) else {
        if vm.clone.is_none() {
            let message = format!("the VM has no NIC `{}`", slot.value);
            let hint = "use a NIC of `nics`, or remove `nic` to wait for any NIC";
            faults.error_hint(slot.span, vm.path("ready.ip.nic"), message, hint);
        }
        return;
    };
    let Some(within) = ip.within else { return };
    let family = |net: &ipnet::IpNet| net.addr().is_ipv4() == within.value.addr().is_ipv4();
    if let Some(address) =
        nic.addresses.iter().find(|net| family(&net.value) && !within.value.contains(&net.value.addr()))
    {
        let message = format!(
            "the address of `{}`, {}, is not within {}",
            slot.value,
            address.value.addr(),
            within.value
        );
        let hint = format!("write a network that contains it, such as `{}`", address.value.trunc());
        faults.error_hint(within.span, vm.path("ready.ip.within"), message, hint);
    }
}

fn check_template(vm: &Vm, faults: &mut Faults) {
    if !vm.template {
        return;
    }
    if let Some(state) = vm.lifecycle.state.filter(|state| state.value == PowerState::Running) {
        let hint = "take `state` out, or `template`";
        faults.error_hint(state.span, vm.path("lifecycle.state"), "a template is never started", hint);
    }
    let waits = vm.ready.agent.is_some() || vm.ready.ip.is_some() || vm.ready.cloud_init.is_some();
    if waits || !vm.ready.tcp.is_empty() || vm.ready.command.is_some() {
        let message = "a template is never started, so it cannot become ready";
        faults.error_hint(vm.name.span, vm.path("ready"), message, "take `ready` out");
    }
    if let Some(span) = vm.ha.span().filter(|_| vm.ha.set().is_some()) {
        let message = "a template cannot be under high availability";
        faults.error_hint(span, vm.path("ha"), message, "take `ha` out");
    }
}

fn check_lifecycle(vm: &Vm, faults: &mut Faults) {
    for path in &vm.lifecycle.ignore {
        let first = path.value.split('.').next().unwrap_or_default();
        if VM.field(first).is_none() {
            let message = format!("a VM has no key `{first}`");
            match closest(first, VM.fields.iter().map(|field| field.key)) {
                Some(close) => faults.error_hint(
                    path.span,
                    vm.path("lifecycle.ignore"),
                    message,
                    format!("did you mean `{close}`?"),
                ),
                None => {
                    let hint = "write a key as the plan shows it, such as `vga` or `disks.scsi1.cache`";
                    faults.error_hint(path.span, vm.path("lifecycle.ignore"), message, hint);
                }
            }
        }
    }
    let state = vm.lifecycle.state.map(|state| (state.value, state.span));
    let is_started = vm.ha.set().is_some_and(|ha| ha.state.is_started());
    if let (Some((PowerState::Stopped, span)), true) = (state, is_started) {
        let hint = "write `ha: {state: stopped}`, or remove `state`";
        faults.error_hint(span, vm.path("lifecycle.state"), "high availability would start it", hint);
    }
}
