//! Disks, cloud-init, boot order.

use crate::spec::faults::Faults;
use crate::spec::hints::name_hint;
use crate::spec::model::{
    CloneSource, CloudInit, Deployment, Desired, Disk, DiskContent, ImageSource, OptionValue, Vm,
};
use pve_config::{Boot, Bus, DeviceSlot, GuestTraits, find_key};

pub(super) fn check_devices(vm: &Vm, deployment: &Deployment, faults: &mut Faults) {
    let source = clone_source(vm, deployment);
    for disk in vm.disks.values().filter_map(|disk| disk.set()) {
        check_disk(vm, disk, &source, deployment, faults);
        check_drive_options(vm, disk, faults);
    }
    check_roles(vm, faults);
    check_cloud_init(vm, faults);
    check_boot(vm, &source, faults);
}

/// The source of a VM's disks, in addition to its spec.
enum Source<'a> {
    /// Nothing: the VM is created without a source.
    None,
    /// This VM of the spec.
    Vm(&'a Vm),
    /// A guest that only PVE knows.
    Unknown,
}

impl Source<'_> {
    /// Tells whether the source has, or may have, a device in the slot.
    fn may_have(&self, slot: DeviceSlot) -> bool {
        match self {
            Self::None => false,
            Self::Unknown => true,
            Self::Vm(vm) => {
                matches!(vm.clone.as_ref().map(|clone| &clone.from.value), Some(CloneSource::Vmid(_)))
                    || has_device(vm, slot)
            }
        }
    }
}

fn clone_source<'a>(vm: &Vm, deployment: &'a Deployment) -> Source<'a> {
    match vm.clone.as_ref().map(|clone| &clone.from.value) {
        None => Source::None,
        Some(CloneSource::Vmid(_)) => Source::Unknown,
        Some(CloneSource::Vm(name)) => deployment.vm(name).map_or(Source::Unknown, Source::Vm),
    }
}

fn has_device(vm: &Vm, slot: DeviceSlot) -> bool {
    vm.disks.get(&slot).is_some_and(|disk| disk.set().is_some())
        || vm.nics.get(&slot).is_some_and(|nic| nic.set().is_some())
        || vm.cloud_init.as_ref().and_then(|cloud| cloud.slot).is_some_and(|said| said.value == slot)
        || vm.options.get(&slot.to_string()).is_some_and(|desired| desired.value != OptionValue::Remove)
}

fn check_disk(vm: &Vm, disk: &Disk, source: &Source<'_>, deployment: &Deployment, faults: &mut Faults) {
    if !disk.slot.bus().is_drive() {
        return;
    }
    let path = vm.path(&format!("disks.{}", disk.slot));
    match &disk.content {
        DiskContent::Image(image) => {
            let Some(known) = deployment.images.get(&image.value) else {
                let names: Vec<&str> = deployment.images.keys().map(String::as_str).collect();
                let message = format!("there is no image `{}`", image.value.escape_debug());
                faults.error_hint(
                    image.span,
                    format!("{path}.image"),
                    message,
                    name_hint(&image.value, "image", &names),
                );
                return;
            };
            needs(vm, disk, source, NeedSize::No, faults);
            if let (Some(size), Some(least)) = (disk.size, known.size)
                && size.value < least.value
            {
                let message =
                    format!("{} is smaller than the {} of image `{}`", size.value, least.value, known.name);
                faults.error_hint(
                    size.span,
                    format!("{path}.size"),
                    message,
                    "remove `size`, or increase it",
                );
            }
            if let ImageSource::Volume { volume } = &known.source
                && volume.value.name().ends_with(".iso")
            {
                let message = "an ISO image is attached by `iso`, not copied by `image`";
                let hint = format!("write `iso: {}` instead of `image`", volume.value);
                faults.error_hint(image.span, &path, message, hint);
            }
        }
        DiskContent::Blank => needs(vm, disk, source, NeedSize::Yes, faults),
        DiskContent::Iso(_) | DiskContent::EmptyDrive(_) => {
            for (said, key) in [
                (disk.size.map(|size| size.span), "size"),
                (disk.storage.as_ref().map(|storage| storage.span), "storage"),
                (disk.keep.as_ref().map(|keep| keep.span), "keep"),
            ] {
                if let Some(span) = said {
                    let message = format!("a CD drive has no `{key}`");
                    faults.error_hint(span, format!("{path}.{key}"), message, "remove the key");
                }
            }
            if disk.slot.bus() == Bus::Virtio {
                let hint = "use `ide2`, or a sata or scsi slot";
                faults.error_hint(disk.span, path, "a virtio disk cannot be a CD drive", hint);
            }
        }
        DiskContent::Volume(volume) => {
            // PVE: qemu-server src/PVE/API2/Qemu.pm: "explicit 'media=cdrom' is required for iso images".
            if volume.value.name().starts_with("iso/") {
                let message = "an ISO image is attached by `iso`, not by `volume`";
                let hint = format!("write `iso: {}` instead of `volume`", volume.value);
                faults.error_hint(volume.span, format!("{path}.volume"), message, hint);
            }
            if let Some(storage) =
                disk.storage.as_ref().filter(|storage| storage.value != *volume.value.storage())
            {
                let message =
                    format!("the volume is on `{}`, not on `{}`", volume.value.storage(), storage.value);
                faults.error_hint(storage.span, format!("{path}.storage"), message, "leave `storage` out");
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum NeedSize {
    Yes,
    No,
}

/// A disk that is to be made needs a storage, and a size where it has no image.
fn needs(vm: &Vm, disk: &Disk, source: &Source<'_>, size: NeedSize, faults: &mut Faults) {
    let path = vm.path(&format!("disks.{}", disk.slot));
    let is_faulty = |key: &str, faults: &Faults| {
        faults.has_faulty_key(vm.name.value.as_str(), &format!("disks.{}.{key}", disk.slot))
    };
    // Content that could not be read is content all the same: no new disk is meant.
    if source.may_have(disk.slot) || ["image", "volume", "iso"].iter().any(|key| is_faulty(key, faults)) {
        return;
    }
    if disk.storage.is_none() && !is_faulty("storage", faults) {
        let hint = "add `storage: local-lvm`, here or in `defaults` or a profile";
        faults.error_hint(disk.span, &path, "the key `storage` is missing", hint);
    }
    if size == NeedSize::Yes && disk.size.is_none() && !is_faulty("size", faults) {
        let hint = "add `size: 20GiB`, or use an `image`, a `volume` or an `iso`";
        faults.error_hint(disk.span, &path, "the key `size` is missing", hint);
    }
}

/// Options belong to buses: a virtio disk has no `ssd`.
fn check_drive_options(vm: &Vm, disk: &Disk, faults: &mut Faults) {
    let slot = disk.slot.to_string();
    let Some(key) = find_key(&slot) else { return };
    for (part, desired) in &disk.options {
        if key.field(part).is_none() {
            let written = desired.path.rsplit('.').next().unwrap_or(part);
            let message = format!("a disk on `{}` has no `{written}`", disk.slot.bus().name());
            faults.error_hint(
                desired.span,
                vm.path(&desired.path),
                message,
                "use a `scsi` slot, which has all disk options",
            );
        }
    }
    let has_thread =
        disk.options.get("iothread").is_some_and(|desired| desired.value.as_deref() == Some("1"));
    let controller = vm.options.get("scsihw").map(|desired| &desired.value);
    let is_single = controller == Some(&OptionValue::Whole("virtio-scsi-single".to_owned()));
    if has_thread && disk.slot.bus() == Bus::Scsi && !is_single && controller.is_some() {
        let path = vm.path(&format!("disks.{slot}.iothread"));
        let span = disk.options["iothread"].span;
        let hint = "add `scsihw: virtio-scsi-single`";
        faults.warn(span, path, "PVE ignores `iothread` without one controller per disk", hint);
    }
}

fn check_roles(vm: &Vm, faults: &mut Faults) {
    let roles: Vec<&str> = vm
        .disks
        .values()
        .filter_map(|disk| disk.set()?.role.as_ref())
        .map(|role| role.value.as_str())
        .collect();
    for role in &vm.lifecycle.keep_disks {
        if !roles.contains(&role.as_str()) {
            let hint = name_hint(role, "disk role", &roles);
            let message = format!("no disk of the VM has the role `{role}`");
            faults.error_hint(vm.name.span, vm.path("lifecycle.keep_disks"), message, hint);
        }
    }
}

fn check_cloud_init(vm: &Vm, faults: &mut Faults) {
    let Some(cloud) = &vm.cloud_init else { return };
    if let Some(slot) = cloud.slot
        && let Some(disk) = vm.disks.get(&slot.value).and_then(Desired::set)
    {
        let message = format!("`{}` is the slot of the cloud-init drive", slot.value);
        let path = vm.path(&format!("disks.{}", slot.value));
        faults.error_hint(disk.span, path, message, "use another slot, or write `cloud_init: {slot: …}`");
    }
    let is_faulty = |slot: &DeviceSlot| {
        faults.has_faulty_key(vm.name.value.as_str(), &format!("disks.{slot}"))
            || faults.has_faulty_key(vm.name.value.as_str(), &format!("disks.{slot}.storage"))
    };
    let has_storage = vm.disks.keys().any(is_faulty)
        || cloud.storage.is_some()
        || cloud_init_storage(vm).is_some()
        || vm.clone.is_some();
    if !has_storage {
        let hint = "add `storage: local-lvm` to `cloud_init`";
        faults.error_hint(
            cloud.span,
            vm.path("cloud_init"),
            "the cloud-init drive has no storage: no disk of the VM sets one",
            hint,
        );
    }
    check_password(vm, cloud, faults);
}

/// Warns of a password in a form that the guest cannot use, where the spec alone says what the guest is; what a clone
/// begins with is known when planning.
fn check_password(vm: &Vm, cloud: &CloudInit, faults: &mut Faults) {
    let Some(password) = &cloud.password else { return };
    let windows = match vm.options.get("ostype").map(|desired| &desired.value) {
        Some(OptionValue::Whole(ostype)) => GuestTraits::of_ostype(Some(ostype)).windows,
        Some(OptionValue::Remove) => false,
        Some(OptionValue::Fields(_)) | None if vm.clone.is_some() || vm.uuid.is_some() => return,
        Some(OptionValue::Fields(_)) | None => false,
    };
    if let Some((message, hint)) = password_form_fault(windows, password.clear) {
        faults.warn(password.source.span, vm.path("cloud_init.password"), message, hint);
    }
}

/// Returns what is wrong with the form in which a password is sent, and what to write.
// PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api: `cipassword` is hashed where the guest is not Windows.
pub fn password_form_fault(windows: bool, clear: bool) -> Option<(&'static str, &'static str)> {
    match (windows, clear) {
        (true, false) => Some((
            "a Windows guest would use this hash as the password: cloudbase-init needs the unhashed password",
            "add `clear: true` to the password",
        )),
        (false, true) => Some((
            "an unhashed password is only for Windows guests; others accept a hash",
            "remove `clear`, or set `ostype`",
        )),
        (true, true) | (false, false) => None,
    }
}

/// Returns the storage of the VM's boot disk: the first of `boot`, else the first disk.
pub fn cloud_init_storage(vm: &Vm) -> Option<&pve_types::StorageId> {
    let storage =
        |slot: &DeviceSlot| vm.disks.get(slot)?.set()?.storage.as_ref().map(|storage| &storage.value);
    boot_order(vm).iter().find_map(storage).or_else(|| vm.disks.keys().find_map(storage))
}

/// Returns the devices that the spec says the VM boots from.
pub fn boot_order(vm: &Vm) -> Vec<DeviceSlot> {
    let boot = vm.options.get("boot").and_then(|desired| match &desired.value {
        OptionValue::Whole(text) => Boot::parse(text).ok(),
        _ => None,
    });
    boot.map_or_else(Vec::new, |boot| boot.order.iter().filter_map(|slot| slot.parse().ok()).collect())
}

fn check_boot(vm: &Vm, source: &Source<'_>, faults: &mut Faults) {
    let Some(desired) = vm.options.get("boot") else { return };
    let mut seen = Vec::new();
    for slot in boot_order(vm) {
        if seen.contains(&slot) {
            faults.error_hint(
                desired.span,
                vm.path("boot"),
                format!("`{slot}` is listed twice"),
                "list it once",
            );
        }
        seen.push(slot);
        if !has_device(vm, slot) && !source.may_have(slot) {
            let slots: Vec<String> = vm.disks.keys().chain(vm.nics.keys()).map(ToString::to_string).collect();
            let known: Vec<&str> = slots.iter().map(String::as_str).collect();
            let message = format!("the VM has no device `{slot}` to boot from");
            faults.error_hint(
                desired.span,
                vm.path("boot"),
                message,
                name_hint(&slot.to_string(), "disk or NIC", &known),
            );
        }
    }
}
