//! What setting, changing and removing options of a guest needs.

use super::{Need, Requirements};
use crate::observed::{Observed, Rights};
use crate::plan::{ConfigPatch, DiskSource, PatchValue, Ref};
use pve_config::{Bus, Drive, DriveSource, NewSize, NewVolume, PropertyString};
use pve_types::{Privilege as P, StorageId, Vmid, VolumeId};

/// When an option is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// By the call that creates the VM.
    Create,
    /// On a VM that is there.
    Change,
}

/// One option that is set or removed.
struct OptionChange<'p> {
    key: &'p str,
    vmid: Vmid,
    /// The value that it gets; `None` removes it.
    value: Option<&'p PatchValue>,
    /// What it has until then.
    there: Option<&'p str>,
    moment: Moment,
}

impl OptionChange<'_> {
    /// Returns the value that it gets, as far as it is known.
    fn text(&self) -> &str {
        match self.value {
            Some(PatchValue::Text(text)) => text,
            _ => "",
        }
    }
    /// Returns what is there and what is set.
    fn values(&self) -> impl Iterator<Item = &str> {
        self.there.into_iter().chain([self.text()])
    }
}

/// What kind of drive a slot holds: each has its own privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DriveKind {
    CloudInit,
    Cdrom,
    Disk,
}

impl DriveKind {
    fn of(slot: &str, text: &str) -> Self {
        match Drive::parse(slot, text) {
            Ok(drive) if drive.is_cloud_init() => Self::CloudInit,
            Ok(drive) if drive.is_cdrom() => Self::Cdrom,
            _ => Self::Disk,
        }
    }
    // PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api, check_drive_perms.
    fn privileges(self) -> &'static [P] {
        match self {
            Self::CloudInit => &[P::VmConfigCloudinit, P::VmConfigCdrom],
            Self::Cdrom => &[P::VmConfigCdrom],
            Self::Disk => &[P::VmConfigDisk],
        }
    }
}

/// Returns the ACL path of a guest.
pub(super) fn vm_path(vmid: Vmid) -> String {
    format!("/vms/{vmid}")
}

/// Returns the ACL path of a storage.
pub(super) fn storage_path(storage: &StorageId) -> String {
    format!("/storage/{storage}")
}

impl Requirements<'_> {
    pub(super) fn of_patch(&self, vmid: Vmid, patch: &ConfigPatch, moment: Moment) -> Vec<Need> {
        let there = |key: &str| match moment {
            Moment::Create => None,
            Moment::Change => self.there(vmid, key),
        };
        let set = patch.set.iter().map(|(key, value)| (key, Some(value)));
        let all = set.chain(patch.delete.iter().map(|key| (key, None)));
        let options = all.map(|(key, value)| OptionChange { key, vmid, value, there: there(key), moment });
        options.flat_map(|option| self.of_option(&option)).collect()
    }

    fn of_option(&self, option: &OptionChange<'_>) -> Vec<Need> {
        match Bus::of_key(option.key) {
            Some(bus) if bus.holds_volume() => self.of_drive(option, bus),
            Some(Bus::Net) => {
                let bridges = option.values().flat_map(|text| self.bridge_needs(text));
                [self.on_option(option, P::VmConfigNetwork)].into_iter().chain(bridges).collect()
            }
            Some(Bus::Hostpci | Bus::Usb | Bus::Serial) => self.with_mappings(option, P::VmConfigHwType),
            Some(Bus::Virtiofs) => self.with_mappings(option, P::VmConfigDisk),
            Some(Bus::Ipconfig) => vec![self.cloud_init(option)],
            _ => self.of_plain_option(option),
        }
    }

    // PVE: qemu-server src/PVE/API2/Qemu.pm: the lists of check_vm_modify_config_perm.
    fn of_plain_option(&self, option: &OptionChange<'_>) -> Vec<Need> {
        let on = |privilege| self.on_option(option, privilege);
        let key = option.key;
        let stem = if key == "smbios1" { key } else { key.trim_end_matches(|c: char| c.is_ascii_digit()) };
        match stem {
            "cpu" => {
                let custom = self.custom_cpu(option.there, option.text());
                [on(P::VmConfigCpu)].into_iter().chain(custom).collect()
            }
            "cores" | "cpulimit" | "cpuunits" | "numa" | "sockets" | "vcpus" => vec![on(P::VmConfigCpu)],
            "memory" | "balloon" | "shares" | "allow-ksm" => vec![on(P::VmConfigMemory)],
            "rng" => self.with_mappings(option, P::VmConfigHwType),
            "acpi" | "audio" | "hotplug" | "kvm" | "machine" | "scsihw" | "smbios1" | "tablet" | "vga"
            | "watchdog" => vec![on(P::VmConfigHwType)],
            "startup" => vec![on(P::VmConfigOptions), Need::one(P::SysModify, "/")],
            "boot" | "bootdisk" => vec![on(P::VmConfigDisk)],
            "vmstatestorage" => {
                let storage = option.text().parse().ok();
                [on(P::VmConfigDisk)].into_iter().chain(storage.as_ref().map(space)).collect()
            }
            "freeze" => vec![on(P::VmPowerMgmt)],
            "ciuser" | "cipassword" | "citype" | "cicustom" | "ciupgrade" | "sshkeys" | "nameserver"
            | "searchdomain" => vec![self.cloud_init(option)],
            // The worker that creates the VM asks for the VM alone: it is in its pool only afterwards.
            // PVE: qemu-server src/PVE/API2/Qemu.pm create_vm; pve-guest-common src/PVE/GuestHelpers.pm
            // assert_tag_permissions.
            "tags" if option.moment == Moment::Create => {
                vec![Need::one(P::VmConfigOptions, vm_path(option.vmid))]
            }
            _ => vec![on(P::VmConfigOptions)],
        }
    }

    /// PVE 7 asks for VM.Config.Network alone; 8 and newer take either.
    fn cloud_init(&self, option: &OptionChange<'_>) -> Need {
        let network = self.on_option(option, P::VmConfigNetwork);
        match self.observed.version.at_least(8, 0) {
            true => self.on_option(option, P::VmConfigCloudinit).or(network),
            false => network,
        }
    }

    /// A custom CPU model needs a right of its own, unless it is the one that is there.
    // PVE: qemu-server src/PVE/API2/Qemu.pm check_cpu_model_access; Mapping.Use since qemu-server 9.1.13.
    pub(super) fn custom_cpu(&self, there: Option<&str>, text: &str) -> Option<Need> {
        let model = |text: &str| PropertyString::parse("cpu", text).ok()?.get("cputype").map(str::to_owned);
        let wanted = model(text)?;
        if there.and_then(model).as_ref() == Some(&wanted) {
            return None;
        }
        let name = wanted.strip_prefix("custom-")?;
        Some(match self.observed.version.at_least(9, 2) {
            true => Need::one(P::MappingUse, format!("/mapping/cpu/{name}")),
            false => Need::one(P::SysAudit, "/nodes"),
        })
    }

    /// The right to plug a NIC into its bridge; with a VLAN only the VLAN's own path is looked at.
    // PVE: qemu-server src/PVE/QemuServer.pm check_bridge_access; enforced since 8.0.
    pub(super) fn bridge_needs(&self, text: &str) -> Vec<Need> {
        if !self.observed.version.at_least(8, 0) {
            return Vec::new();
        }
        let Ok(nic) = PropertyString::parse("net0", text) else { return Vec::new() };
        let Some(bridge) = nic.get("bridge") else { return Vec::new() };
        let path = bridge_path(bridge, self.observed);
        let mut vlans: Vec<u16> = nic.get("tag").and_then(|tag| tag.parse().ok()).into_iter().collect();
        for range in nic.get("trunks").into_iter().flat_map(|trunks| trunks.split(';')) {
            let (low, high) = range.split_once('-').unwrap_or((range, range));
            if let (Ok(low), Ok(high)) = (low.trim().parse::<u16>(), high.trim().parse::<u16>()) {
                vlans.extend(low..=high);
            }
        }
        if vlans.is_empty() {
            return vec![Need::one(P::SdnUse, path)];
        }
        // Whoever may use the bridge as a whole may use its VLANs, and needs no list of hundreds of them.
        let holds_all =
            |rights: &Rights| vlans.iter().all(|vlan| rights.holds(P::SdnUse, &format!("{path}/{vlan}")));
        if vlans.len() > 16 && self.observed.rights.as_ref().is_some_and(holds_all) {
            vlans.truncate(1);
        }
        vlans.into_iter().map(|vlan| Need::one(P::SdnUse, format!("{path}/{vlan}"))).collect()
    }

    /// An option's own privilege, and the right to use what its old and its new value map.
    fn with_mappings(&self, option: &OptionChange<'_>, own: P) -> Vec<Need> {
        let mappings = option.values().filter_map(|text| mapped(option.key, text));
        [self.on_option(option, own)].into_iter().chain(mappings).collect()
    }

    fn of_drive(&self, option: &OptionChange<'_>, bus: Bus) -> Vec<Need> {
        let mut needs = self.of_slot(option);
        let of_storage = match option.value {
            // PVE: qemu-server src/PVE/QemuServer.pm try_deallocate_drive.
            None if bus == Bus::Unused => {
                option.there.and_then(|text| storage_of(option.key, text)).as_ref().map(space)
            }
            None => None,
            Some(PatchValue::ImportFrom { storage, source, .. }) => {
                if let DiskSource::Volume(Ref::Known(volume)) = source {
                    needs.push(importing(volume));
                }
                Some(space(storage))
            }
            // A cloud-init drive needs no right on its storage.
            Some(PatchValue::NewVolume(NewVolume { size: NewSize::CloudInit, .. })) => None,
            Some(PatchValue::NewVolume(NewVolume { size: NewSize::Gib(_), storage, .. })) => {
                Some(space(storage))
            }
            Some(PatchValue::Text(text)) => of_new_drive(option, text),
            Some(PatchValue::Drive { volume: Ref::Known(volume), .. }) => {
                existing_volume(option.vmid, volume)
            }
            Some(_) => None,
        };
        needs.extend(of_storage);
        needs
    }

    /// What the kinds of drive that a slot had and gets need. At creation a drive is checked through its storage alone.
    // PVE: qemu-server src/PVE/API2/Qemu.pm create_vm, check_storage_access.
    fn of_slot(&self, option: &OptionChange<'_>) -> Vec<Need> {
        if option.moment == Moment::Create {
            return Vec::new();
        }
        let there = option.there.map(|text| DriveKind::of(option.key, text));
        let new = match option.value {
            None => None,
            Some(PatchValue::Text(text)) => Some(DriveKind::of(option.key, text)),
            Some(PatchValue::NewVolume(NewVolume { size: NewSize::CloudInit, .. })) => {
                Some(DriveKind::CloudInit)
            }
            Some(PatchValue::Options { .. }) => there,
            Some(_) => Some(DriveKind::Disk),
        };
        let kinds = there.into_iter().chain(new);
        let privileges = kinds.flat_map(|kind| kind.privileges().iter().copied());
        let needs: Vec<Need> = privileges.map(|privilege| self.on_option(option, privilege)).collect();
        // What is removed and was not seen is taken for a disk.
        if needs.is_empty() { vec![self.on_option(option, P::VmConfigDisk)] } else { needs }
    }

    fn on_option(&self, option: &OptionChange<'_>, privilege: P) -> Need {
        self.on_guest(privilege, option.vmid)
    }
}

/// Returns the ACL path of a bridge or VNet.
pub(crate) fn bridge_path(bridge: &str, observed: &Observed) -> String {
    let zone = bridge.parse().ok().and_then(|bridge| observed.vnets.get(&bridge));
    format!("/sdn/zones/{}/{bridge}", zone.map_or("localnetwork", String::as_str))
}

/// The right to use the mapping that a value names.
pub(super) fn mapped(key: &str, text: &str) -> Option<Need> {
    // PVE: qemu-server src/PVE/API2/Qemu.pm check_rng_perm.
    if key == "rng0" {
        let rng = PropertyString::parse(key, text).ok()?;
        return (rng.get("source") == Some("/dev/hwrng")).then(|| Need::one(P::MappingUse, "/mapping/hwrng"));
    }
    let (kind, name) = pve_config::mapping_of(key, text)?;
    Some(Need::one(P::MappingUse, format!("/mapping/{kind}/{name}")))
}

fn of_new_drive(option: &OptionChange<'_>, text: &str) -> Option<Need> {
    let drive = Drive::parse(option.key, text).ok()?;
    // A cloud-init drive needs no right on its storage.
    if drive.is_cloud_init() {
        return None;
    }
    match &drive.source {
        DriveSource::Physical => Some(Need::one(P::SysConsole, "/")),
        DriveSource::Volume(volume) => existing_volume(option.vmid, volume),
        DriveSource::New { .. } | DriveSource::Empty | DriveSource::Path(_) => None,
    }
}

/// The right to make a volume on a storage.
pub(super) fn space(storage: &StorageId) -> Need {
    Need::one(P::DatastoreAllocateSpace, storage_path(storage))
}

/// Copying an image into a new disk: another guest's disk needs the right to clone that guest.
// PVE: qemu-server src/PVE/API2/Qemu.pm check_storage_access.
pub(super) fn importing(volume: &VolumeId) -> Need {
    match volume.owner() {
        Some(owner) => Need::one(P::VmClone, vm_path(owner)),
        None => reading(volume),
    }
}

/// Using a volume that is there: an `import` or ISO volume by its storage, another guest's disk by that guest, too.
// PVE: pve-storage src/PVE/Storage.pm check_volume_access.
pub(super) fn reading(volume: &VolumeId) -> Need {
    let on = |privilege| Need::one(privilege, storage_path(volume.storage()));
    match volume.owner() {
        Some(owner) => Need::all([
            (P::DatastoreAudit, storage_path(volume.storage())),
            (P::VmConfigDisk, vm_path(owner)),
        ])
        .or(on(P::DatastoreAllocate)),
        None => on(P::DatastoreAudit).or(on(P::DatastoreAllocateSpace)).or(on(P::DatastoreAllocate)),
    }
}

/// Notes that a drive that is a disk is on another storage now.
pub(super) fn put_on(slot: &str, value: &mut String, storage: &StorageId) {
    let Ok(mut drive) = Drive::parse(slot, value) else { return };
    let is_slot = Bus::of_key(slot).is_some_and(Bus::holds_volume);
    if is_slot && !drive.is_cdrom() {
        drive.source = DriveSource::New { storage: storage.clone(), gib: "0".to_owned() };
        *value = drive.print(slot);
    }
}

/// Returns the storage that a drive is on, or will be made on.
pub(super) fn storage_of(slot: &str, text: &str) -> Option<StorageId> {
    match Drive::parse(slot, text).ok()?.source {
        DriveSource::Volume(volume) => Some(volume.storage().clone()),
        DriveSource::New { storage, .. } => Some(storage),
        _ => None,
    }
}

/// Reading a volume that a drive is to have.
pub(super) fn existing_volume(vmid: Vmid, volume: &VolumeId) -> Option<Need> {
    (volume.owner() != Some(vmid)).then(|| reading(volume))
}
