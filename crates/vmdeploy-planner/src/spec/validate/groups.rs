//! What the members of a group cannot have in common.

use crate::spec::diagnostic::Span;
use crate::spec::faults::Faults;
use crate::spec::model::{Deployment, Vm, VmidWish};
use std::collections::{HashMap, HashSet};

/// Refuses values that belong to one VM and that a group gives to several; each once, however large the group is.
pub(super) fn check_groups(deployment: &Deployment, faults: &mut Faults) {
    let mut seen: HashMap<(&str, Span), &Vm> = HashMap::new();
    let mut told: HashSet<(&str, Span)> = HashSet::new();
    for vm in &deployment.vms {
        let Some(group) = &vm.group else { continue };
        for (span, key, what, hint) in own_values(vm) {
            let first = *seen.entry((group, span)).or_insert(vm);
            if first.name != vm.name {
                let (one, other) = (&first.name.value, &vm.name.value);
                let message = format!("members of group `{group}` would share {what}: `{one}`, `{other}` …");
                if told.insert((group, span)) {
                    faults.error_hint(span, first.path(&key), message, hint);
                }
            }
        }
    }
}

/// Returns what only one VM can have: where it stands, its key, its name in words, and what to write instead.
fn own_values(vm: &Vm) -> Vec<(Span, String, String, &'static str)> {
    let mut values = Vec::new();
    if let VmidWish::Fixed(vmid) = &vm.vmid {
        let hint = "write a range, `vmid: {range: [300, 399]}`, or a number for each member in `overrides`";
        values.push((vmid.span, "vmid".to_owned(), format!("VMID {}", vmid.value), hint));
    }
    if let Some(uuid) = &vm.uuid {
        let hint = "write the UUID of each member in `overrides`";
        values.push((uuid.span, "uuid".to_owned(), "the same UUID".to_owned(), hint));
    }
    if let Some(old) = &vm.renamed_from {
        let hint = "write the old name of each member in `overrides`";
        values.push((old.span, "renamed_from".to_owned(), "the same old name".to_owned(), hint));
    }
    for nic in vm.nics.values().filter_map(|nic| nic.set()) {
        if let Some(mac) = &nic.mac {
            let hint = "leave `mac` out and let PVE draw one, or write one for each member in `overrides`";
            values.push((mac.span, format!("nics.{}.mac", nic.slot), format!("the MAC {}", mac.value), hint));
        }
        for address in &nic.addresses {
            let hint = "write `dhcp`, or an address for each member in `overrides`";
            let what = format!("the address {}", address.value.addr());
            values.push((address.span, format!("nics.{}.ip", nic.slot), what, hint));
        }
    }
    values
}
