//! Names, VMIDs, UUIDs, pins.

use crate::spec::diagnostic::Span;
use crate::spec::faults::Faults;
use crate::spec::model::{Deployment, Vm, VmidWish};
use pve_types::Vmid;
use std::collections::{BTreeMap, HashMap};

pub(super) fn check_numbers(deployment: &Deployment, faults: &mut Faults) {
    check_names(deployment, faults);
    check_vmids(deployment, faults);
    check_uuids(deployment, faults);
    check_pins(deployment, faults);
    check_ranges(deployment, faults);
}

/// Names differ by more than their case: PVE and DNS do not tell them apart.
fn check_names(deployment: &Deployment, faults: &mut Faults) {
    let mut seen: HashMap<String, &str> = HashMap::new();
    for vm in &deployment.vms {
        let name = vm.name.value.as_str();
        if let Some(other) = seen.insert(name.to_ascii_lowercase(), name) {
            let message = format!("the name differs from `{other}` only in case");
            let hint = "DNS ignores case: rename one of them";
            faults.error_hint(vm.name.span, vm.path(""), message, hint);
        }
    }
}

fn check_vmids(deployment: &Deployment, faults: &mut Faults) {
    let mut seen: HashMap<(&str, Vmid), (&Vm, Span)> = HashMap::new();
    for vm in &deployment.vms {
        let VmidWish::Fixed(vmid) = &vm.vmid else { continue };
        let other = seen.insert((&vm.cluster, vmid.value), (vm, vmid.span));
        if let Some((other, _)) = other.filter(|(other, span)| !vm.shares(other, vmid.span, *span)) {
            let message = format!("VMID {} is already used by `{}`", vmid.value, other.name.value);
            faults.error_hint(vmid.span, vm.path("vmid"), message, "use a different VMID for each VM");
        }
        for disk in vm.disks.values().filter_map(|disk| disk.set()) {
            let holder = disk.keep.as_ref().and_then(|keep| keep.holder);
            if let Some(holder) = holder.filter(|holder| holder.value == vmid.value) {
                let path = vm.path(&format!("disks.{}.keep", disk.slot));
                faults.error_hint(
                    holder.span,
                    path,
                    "the holder is the VM itself",
                    "write the VMID of another VM, or `keep: true` to refuse destroying this one",
                );
            }
        }
    }
}

fn check_uuids(deployment: &Deployment, faults: &mut Faults) {
    let mut seen: HashMap<&str, (&Vm, Span)> = HashMap::new();
    for vm in &deployment.vms {
        let Some(uuid) = &vm.uuid else { continue };
        let other = seen.insert(&uuid.value, (vm, uuid.span));
        if let Some((other, _)) = other.filter(|(other, span)| !vm.shares(other, uuid.span, *span)) {
            let message = format!("this is the UUID of `{}` already", other.name.value);
            faults.error_hint(uuid.span, vm.path("uuid"), message, "write the UUID in its `smbios1` option");
        }
    }
}

fn check_pins(deployment: &Deployment, faults: &mut Faults) {
    let mut taken: HashMap<(&str, Vmid), (&str, Span)> = HashMap::new();
    for vm in &deployment.vms {
        if let VmidWish::Fixed(vmid) = &vm.vmid {
            taken.insert((&vm.cluster, vmid.value), (vm.name.value.as_str(), vmid.span));
        }
    }
    for vm in &deployment.vms {
        let Some(pin) = deployment.pin(vm) else { continue };
        match &vm.vmid {
            VmidWish::Fixed(vmid) if vmid.value != pin.vmid => {
                let message = format!("the lock file has VMID {}, but the spec has {}", pin.vmid, vmid.value);
                faults.error_hint(
                    vmid.span,
                    vm.path("vmid"),
                    message,
                    "remove the VM's line from the lock file",
                );
            }
            VmidWish::Range(range) if !(range.value.0..=range.value.1).contains(&pin.vmid) => {
                let message = format!("the lock file pins VMID {}, which is not in this range", pin.vmid);
                let hint = "widen the range, or remove the VM's line from the lock file";
                faults.error_hint(range.span, vm.path("vmid"), message, hint);
            }
            VmidWish::Fixed(_) => continue,
            VmidWish::Range(_) | VmidWish::Any => {}
        }
        if let Some((other, _)) = taken.insert((&vm.cluster, pin.vmid), (vm.name.value.as_str(), pin.span)) {
            let message = format!("VMID {} is already used by `{other}`", pin.vmid);
            faults.error_hint(pin.span, vm.path("vmid"), message, "remove this line from the lock file");
        }
    }
}

/// A range has room for all VMs that draw from it.
fn check_ranges(deployment: &Deployment, faults: &mut Faults) {
    let mut drawn: BTreeMap<(&str, Vmid, Vmid), u64> = BTreeMap::new();
    for vm in &deployment.vms {
        let VmidWish::Range(range) = &vm.vmid else { continue };
        let (first, last) = range.value;
        let count = drawn.entry((&vm.cluster, first, last)).or_default();
        *count += 1;
        if *count == u64::from(last.get() - first.get()) + 2 {
            let message = format!("the range {first} to {last} has fewer VMIDs than VMs");
            faults.error_hint(range.span, vm.path("vmid.range"), message, "write a larger range");
        }
    }
}
