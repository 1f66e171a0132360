//! What a new VM gets where its spec says nothing, so that it boots: what PVE's own web interface would choose.
//!
//! These are for VMs that are made, never for a guest that exists or a clone, which keeps what its source has. PVE's own
//! defaults are those of its API, and some of them are for guests of long ago.

use crate::spec::{Desired, DiskContent, OptionValue, Vm};
use pve_config::{Bus, DeviceSlot, GuestTraits, Machine};
use std::collections::BTreeMap;

/// The options that the table in docs/spec.md lists.
pub(crate) fn of_new_vm(vm: &Vm, traits: GuestTraits) -> Vec<(&'static str, &'static str)> {
    if vm.clone.is_some() {
        return Vec::new();
    }
    let mut options = vec![("scsihw", "virtio-scsi-single")];
    if has_cloud_image(vm, traits) {
        options.extend([("ostype", "l26"), ("serial0", "socket")]);
    }
    options.retain(|(key, _)| !vm.options.contains_key(*key));
    options
}

/// Tells whether the VM is made from an image of a Linux system, as far as its spec tells.
fn has_cloud_image(vm: &Vm, traits: GuestTraits) -> bool {
    let is_image = |disk: &crate::spec::Disk| matches!(disk.content, DiskContent::Image(_));
    let clear = vm.cloud_init.as_ref().and_then(|cloud| cloud.password.as_ref()).is_some_and(|it| it.clear);
    let is_removed = vm.options.get("ostype").is_some_and(|desired| desired.value == OptionValue::Remove);
    !traits.windows && !clear && !is_removed && vm.disks.values().filter_map(Desired::set).any(is_image)
}

/// Returns the slot that a cloud-init drive gets where the spec names none; `there` is the rest of the configuration.
///
/// On a q35 machine PVE puts `ide` and `sata` drives on an AHCI controller, for which the kernels of cloud images have no
/// driver; they have that of the SCSI controller, which their own disk is on. Windows has drivers for IDE and AHCI only.
pub(crate) fn cloud_slot(vm: &Vm, traits: GuestTraits, there: &BTreeMap<String, String>) -> DeviceSlot {
    let value = |key: &str| match vm.options.get(key).map(|desired| &desired.value) {
        Some(value) => value.text(key),
        None => there.get(key).cloned(),
    };
    let is_q35 = value("machine").is_some_and(|text| Machine::parse(&text).is_ok_and(|it| it.is_q35()));
    let is_ovmf = value("bios").as_deref() == Some("ovmf");
    let is_free = |slot: &DeviceSlot| !vm.disks.contains_key(slot) && !there.contains_key(&slot.to_string());
    let buses =
        if (is_q35 || is_ovmf) && !traits.windows { [Bus::Scsi, Bus::Ide] } else { [Bus::Ide, Bus::Scsi] };
    // Of IDE the slot that PVE's own tools take; of SCSI the last, which no disk is likely to want later.
    let slots = buses.into_iter().flat_map(|bus| match bus {
        Bus::Ide => {
            [2, 3, 0, 1].into_iter().filter_map(|index| DeviceSlot::new(bus, index).ok()).collect::<Vec<_>>()
        }
        _ => (0..bus.count()).rev().filter_map(|index| DeviceSlot::new(bus, index).ok()).collect(),
    });
    let mut free = slots.filter(is_free);
    free.next().unwrap_or_else(|| DeviceSlot::new(Bus::Ide, 2).expect("there is an ide2"))
}
