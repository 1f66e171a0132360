//! Making new disks: blank, from an image, or from what is there already.

use super::chain::{Chain, Link, output_of};
use super::images::{self, ReadyImage, Room, Shared};
use super::input::{Findings, PlanInput, reason};
use super::transports::Shape;
use crate::observed::ObservedStorage;
use crate::plan::{Action, DiskSource, GuestRef, ImportAction, PatchValue, Reason, Slot, Transport};
use crate::spec::{DesiredFields, Disk, DiskContent, EmptyDrive, Vm};
use pve_config::{Bus, DeviceSlot, NewVolume};
use pve_types::{Bytes, StorageId, VolumeId};

/// What planning a disk works on.
pub(crate) struct DiskPlanner<'p, 'a> {
    pub(crate) input: &'p PlanInput<'a>,
    pub(crate) shared: &'p mut Shared,
    pub(crate) findings: &'p mut Findings,
    pub(crate) vm: &'p Vm,
    pub(crate) guest: &'p GuestRef,
    pub(crate) shape: Shape,
}

/// A disk that is about to be made.
pub(crate) struct NewDisk {
    /// What its slot is set to.
    pub(crate) value: PatchValue,
    /// The size that it must be grown to afterwards.
    pub(crate) grow_to: Option<Bytes>,
    pub(crate) reason: Reason,
}

impl DiskPlanner<'_, '_> {
    /// Plans a new disk; pushes what has to be done before its slot can be set.
    pub(crate) fn new_disk(&mut self, chain: &mut Chain, disk: &Disk) -> Option<NewDisk> {
        let slot = disk.slot.to_string();
        let options = printed(&disk.options_when_made());
        match &disk.content {
            DiskContent::Iso(_) | DiskContent::EmptyDrive(_) => {
                Some(plain(disk, &cd_file(disk)?, &cd_options(&options)))
            }
            DiskContent::Volume(volume) => Some(plain(disk, volume.value.as_str(), &options)),
            DiskContent::Blank => self.blank(chain, disk, &options),
            DiskContent::Image(image) => {
                let storage = self.storage(disk)?;
                self.check_format(disk, &storage);
                let image = self.input.deployment.images.get(&image.value)?;
                let node = &self.guest.node;
                let ready = images::ready(self.input, self.shared, self.findings, image, node, self.shape)?;
                self.with_image(chain, disk, (&slot, &image.name), &ready, storage, &options)
            }
        }
    }

    fn storage(&mut self, disk: &Disk) -> Option<StorageId> {
        if let Some(storage) = &disk.storage {
            return Some(storage.value.clone());
        }
        let at = (disk.span, self.vm.path(&format!("disks.{}", disk.slot)));
        let message = format!("no storage is set for `{}`", disk.slot);
        self.findings.refuse(self.input.deployment, at, message, "write `storage:`");
        None
    }

    /// Refuses a format that the storage cannot hold: PVE would refuse it, or take another one silently.
    // PVE: pve-storage src/PVE/Storage/*Plugin.pm plugindata: block storages hold raw volumes only.
    fn check_format(&mut self, disk: &Disk, storage: &StorageId) {
        let Some(format) = &disk.format else { return };
        let Some(seen) = self.input.storage(&self.guest.node, storage) else { return };
        let Some(known) = known_formats(seen) else { return };
        if !known.contains(&format.value.as_str()) {
            let at = (format.span, self.vm.path(&format!("disks.{}.format", disk.slot)));
            let message =
                format!("{storage} ({}) holds {}, not {}", seen.kind, known.join(", "), format.value);
            let hint = format!("write `format: {}`, or remove it", known.first().unwrap_or(&"raw"));
            self.findings.refuse(self.input.deployment, at, message, hint);
        }
    }

    fn blank(&mut self, chain: &mut Chain, disk: &Disk, options: &str) -> Option<NewDisk> {
        let storage = self.storage(disk)?;
        self.check_format(disk, &storage);
        // The size of an EFI disk and of a TPM state is PVE's own; the number is a place holder.
        let (size, gib) = match disk.slot.bus() {
            Bus::Efidisk | Bus::Tpmstate => (Bytes::from_mib(4), "1".to_owned()),
            _ => {
                let Some(size) = &disk.size else {
                    let at = (disk.span, self.vm.path(&format!("disks.{}", disk.slot)));
                    let message = format!("`{}` has neither a size nor an image", disk.slot);
                    self.findings.refuse(self.input.deployment, at, message, "write `size: 20GiB`");
                    return None;
                };
                (size.value, size.value.to_gib_decimal())
            }
        };
        let room = match disk.slot.bus() {
            Bus::Efidisk | Bus::Tpmstate => Room::full(size),
            _ => Room::sparse(size),
        };
        chain.wait_for([self.shared.needs_room(&self.guest.node, &storage, room)]);
        let format =
            disk.format.as_ref().map(|format| format!("format={}", format.value)).unwrap_or_default();
        let to = joined_words(&[&format!("{size} on {storage}"), &format, options]);
        let options = joined(&[&format, options]);
        Some(NewDisk {
            value: PatchValue::NewVolume(NewVolume { options, ..NewVolume::of_gib(storage, gib) }),
            grow_to: None,
            reason: reason(format!("disks.{}", disk.slot), None, Some(to)),
        })
    }

    fn with_image(
        &mut self,
        chain: &mut Chain,
        disk: &Disk,
        (slot, image): (&str, &str),
        ready: &ReadyImage,
        storage: StorageId,
        options: &str,
    ) -> Option<NewDisk> {
        let desired = disk.size.as_ref().map(|size| size.value);
        if let (Some(desired), Some(inside)) = (desired, ready.virtual_size)
            && desired < inside
        {
            let span = disk.size.as_ref().map_or(disk.span, |size| size.span);
            let at = (span, self.vm.path(&format!("disks.{slot}.size")));
            let message =
                format!("the spec has {desired} for `{slot}`, but the disk in image `{image}` has {inside}");
            self.findings.refuse(
                self.input.deployment,
                at,
                message,
                format!("write `size: {inside}` or more"),
            );
            return None;
        }
        let size = desired.or(ready.virtual_size).unwrap_or(ready.copied);
        let room = Room { size, written: ready.copied.min(size) };
        chain.wait_for([self.shared.needs_room(&self.guest.node, &storage, room)]);
        chain.wait_for(ready.after.iter().cloned());
        let grow_to = desired.filter(|desired| ready.virtual_size != Some(*desired));
        let format = disk.format.as_ref().map(|format| format.value.clone());
        let value = match self.shape {
            Shape::Single(_) => PatchValue::ImportFrom {
                storage: storage.clone(),
                source: ready.source.clone(),
                options: joined(&[
                    &format.map(|format| format!("format={format}")).unwrap_or_default(),
                    options,
                ]),
            },
            Shape::Classic => self.import(chain, disk.slot, ready, &storage, format, options),
        };
        let size = desired.map(|size| format!("{size} ")).unwrap_or_default();
        let to = joined_words(&[&format!("{size}on {storage}"), &format!("image {image}"), options]);
        Some(NewDisk { value, grow_to, reason: reason(format!("disks.{slot}"), None, Some(to)) })
    }

    fn import(
        &mut self,
        chain: &mut Chain,
        slot: DeviceSlot,
        ready: &ReadyImage,
        storage: &StorageId,
        format: Option<String>,
        options: &str,
    ) -> PatchValue {
        let why = match ready.source {
            DiskSource::Path(_) => "the image is a file on the node: `qm importdisk` reads it there",
            DiskSource::Volume(_) => "`qm importdisk` copies on the node and reports its progress",
        };
        let action = Action::ImportDisk(ImportAction {
            guest: self.guest.clone(),
            slot,
            source: ready.source.clone(),
            storage: storage.clone(),
            format,
            attach: false,
            digest: None,
        });
        let link = Link::new(format!("import-{slot}"), action, (Transport::Ssh, why.to_owned()), 3_600);
        let link = link.copies(ready.copied);
        // The removal of a VM that is being made takes the volume with it.
        let link = if chain.makes_guest() { link } else { link.frees_its_volume(self.guest, chain) };
        let step = chain.push(link);
        PatchValue::Drive { volume: output_of(&step), options: options.to_owned() }
    }
}

/// Returns the formats that disks on a storage can have; `None` where they are not known.
// PVE: pve-storage src/PVE/Storage/*Plugin.pm plugindata: block storages hold raw volumes only.
pub(crate) fn known_formats(seen: &ObservedStorage) -> Option<Vec<&str>> {
    match (seen.kind.is_block_only(), seen.formats.is_empty()) {
        (true, _) => Some(vec!["raw"]),
        (false, false) => Some(seen.formats.iter().map(String::as_str).collect()),
        (false, true) => None,
    }
}

/// Returns the desired content of a CD drive; `None` for a disk.
pub(crate) fn cd_file(disk: &Disk) -> Option<String> {
    match &disk.content {
        DiskContent::Iso(volume) => Some(volume.value.to_string()),
        DiskContent::EmptyDrive(kind) => Some(
            match kind.value {
                EmptyDrive::None => "none",
                EmptyDrive::Physical => "cdrom",
            }
            .to_owned(),
        ),
        DiskContent::Blank | DiskContent::Image(_) | DiskContent::Volume(_) => None,
    }
}

/// Appends the steps that grow disks of a VM that is being made: its removal reverts them.
pub(crate) fn push_new_growth(
    input: &PlanInput<'_>,
    chain: &mut Chain,
    guest: &GuestRef,
    growth: Vec<(Slot, Bytes)>,
) {
    let of_run = growth.into_iter().map(|(slot, size)| (slot, size, None));
    grow(input, chain, guest, of_run.collect(), true);
}

/// Appends the steps that grow disks of a VM that exists: nothing reverts them. `growth` names the volume of each disk
/// that is there already.
pub(crate) fn push_growth(
    input: &PlanInput<'_>,
    chain: &mut Chain,
    guest: &GuestRef,
    growth: Vec<(Slot, Bytes, Option<VolumeId>)>,
) {
    grow(input, chain, guest, growth, false);
}

fn grow(
    input: &PlanInput<'_>,
    chain: &mut Chain,
    guest: &GuestRef,
    growth: Vec<(Slot, Bytes, Option<VolumeId>)>,
    is_new: bool,
) {
    for (slot, size, volume) in growth {
        let transport = input.transports.api_first("one call grows the disk, even while the VM runs");
        let slot: DeviceSlot = slot.parse().expect("a disk that grows stands in a device slot");
        let what = format!("resize-{slot}");
        let action = Action::ResizeDisk { guest: guest.clone(), slot, size, volume };
        let link = Link::new(what, action, transport, 300);
        chain.push(if is_new { link } else { link.cannot_revert("a disk cannot shrink") });
    }
}

fn plain(disk: &Disk, file: &str, options: &str) -> NewDisk {
    let text = joined(&[file, options]);
    let reason = reason(format!("disks.{}", disk.slot), None, Some(text.clone()));
    NewDisk { value: PatchValue::Text(text), grow_to: None, reason }
}

/// Returns the drive's options as PVE writes them, without volume, size and format.
pub(crate) fn options_of(disk: &Disk) -> String {
    printed(&disk.options)
}

fn printed(options: &DesiredFields) -> String {
    let set =
        options.iter().filter_map(|(name, desired)| Some(format!("{name}={}", desired.value.as_deref()?)));
    set.collect::<Vec<_>>().join(",")
}

fn cd_options(options: &str) -> String {
    if options.split(',').any(|part| part == "media=cdrom") {
        options.to_owned()
    } else {
        joined(&["media=cdrom", options])
    }
}

fn joined(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(",")
}

fn joined_words(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(", ")
}

/// Returns the boot order of a new VM whose spec says none.
///
/// PVE would compute one from the disks that are there in the create call, and that differs from transport to transport.
// PVE: qemu-server src/PVE/QemuServer.pm get_default_bootdevices: first disk, first CD, first NIC; the buses in the order
// of src/PVE/QemuServer/Drive.pm valid_drive_names.
pub(crate) fn default_boot_order(vm: &Vm, clone_boots: bool) -> Option<String> {
    if clone_boots {
        return None;
    }
    let buses = [Bus::Ide, Bus::Scsi, Bus::Virtio, Bus::Sata];
    let drives =
        || buses.into_iter().flat_map(|bus| vm.disks.iter().filter(move |(slot, _)| slot.bus() == bus));
    let set = |slot: &DeviceSlot| vm.disks.get(slot).and_then(crate::spec::Desired::set);
    let with_image =
        drives().find(|(slot, _)| set(slot).is_some_and(|d| matches!(d.content, DiskContent::Image(_))));
    if let Some((slot, _)) = with_image {
        return Some(format!("order={slot}"));
    }
    let is_cd = |slot: &DeviceSlot| {
        set(slot).is_some_and(|d| matches!(d.content, DiskContent::Iso(_) | DiskContent::EmptyDrive(_)))
    };
    let disk =
        drives().find(|(slot, _)| !is_cd(slot) && set(slot).is_some()).map(|(slot, _)| slot.to_string());
    let cd = drives().find(|(slot, _)| is_cd(slot)).map(|(slot, _)| slot.to_string());
    let nic = vm.nics.iter().find(|(_, desired)| desired.set().is_some()).map(|(slot, _)| slot.to_string());
    let order: Vec<String> = disk.into_iter().chain(cd).chain(nic).collect();
    (!order.is_empty()).then(|| format!("order={}", order.join(";")))
}
