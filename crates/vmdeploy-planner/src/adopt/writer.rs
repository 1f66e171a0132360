//! Writes one guest's keys: those that the spec has come from its own table, so that none is forgotten.

use crate::identity;
use crate::observed::ObservedGuest;
use crate::spec::raise::{CLOUD_INIT, DISK, NIC, Raised, SMBIOS, VM, quoted, raise_options, raised};
use crate::spec::smbios_in_base64;
use pve_config::{Bus, DeviceSlot, Drive, DriveSource, PropertyString};
use pve_types::VolumeId;
use std::collections::BTreeMap;

/// The keys of a VM that are written by code of their own, and those that say nothing about what PVE holds.
const OF_THEIR_OWN: &[&str] = &["bios", "cloud_init", "smbios"];
/// The SMBIOS fields that are no key of `smbios`.
const SMBIOS_ONLY: [&str; 2] = ["uuid", "base64"];

/// Writes a guest's keys and takes each from `values` as soon as it is said.
pub(super) struct Writer {
    pub(super) values: BTreeMap<String, String>,
    pub(super) lines: Vec<String>,
    /// What the spec has no word for.
    pub(super) unsaid: Vec<String>,
    /// What is worth knowing.
    pub(super) notes: Vec<String>,
}

impl Writer {
    /// Starts with all that the guest has, as it will be after its next restart.
    pub(super) fn new(values: BTreeMap<String, String>) -> Self {
        Self { values, lines: Vec::new(), unsaid: Vec::new(), notes: Vec::new() }
    }

    /// Writes the guest.
    pub(super) fn guest(&mut self, guest: &ObservedGuest, uuid: &str) {
        self.head(guest, uuid);
        self.smbios();
        self.firmware();
        self.devices();
        self.disks();
        self.nics();
        self.boot();
        self.cloud_init();
        self.options();
        self.raw();
    }

    pub(super) fn line(&mut self, text: impl Into<String>) {
        self.lines.push(text.into());
    }
    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        self.values.remove(key)
    }
    pub(super) fn text(&mut self, key: &str, name: &str) {
        if let Some(value) = self.take(key) {
            self.line(format!("{name}: {}", quoted(&value)));
        }
    }
    pub(super) fn block(&mut self, name: &str, lines: Vec<String>) {
        if !lines.is_empty() {
            self.line(format!("{name}:"));
            self.lines.extend(lines);
        }
    }
    pub(super) fn property(&self, key: &str) -> Option<PropertyString> {
        PropertyString::parse(key, self.values.get(key)?).ok()
    }
    /// Says in a comment what the spec has no word for, and so leaves as it is.
    pub(super) fn leave(&mut self, key: &str, rest: Vec<String>) {
        if !rest.is_empty() {
            self.unsaid.push(format!("{key}: {}", rest.join(",")));
        }
    }

    fn head(&mut self, guest: &ObservedGuest, uuid: &str) {
        self.take("name");
        self.line(format!("vmid: {}", guest.vmid));
        self.line(format!("uuid: {uuid}"));
        self.line(format!("node: {}", guest.node));
        if let Some(pool) = &guest.pool {
            self.line(format!("pool: {}", quoted(pool.as_str())));
        }
        if let Some(text) = self.take("description").map(|text| identity::description_text(&text))
            && !text.is_empty()
        {
            self.line(format!("description: {}", quoted(&text)));
        }
        if let Some(tags) = self.take("tags") {
            let tags: Vec<String> =
                tags.split([';', ',', ' ']).filter(|tag| !tag.is_empty()).map(quoted).collect();
            self.line(format!("tags: [{}]", tags.join(", ")));
        }
        self.take("template");
        if guest.template {
            self.line("template: true");
        }
    }

    /// Writes every key that is an option of PVE, or a part of one.
    fn options(&mut self) {
        self.values.retain(|key, _| !is_of_pve(key));
        for (key, text) in raise_options(&VM, OF_THEIR_OWN, &mut self.values, &mut self.unsaid) {
            self.lines.push(format!("{key}: {text}"));
        }
    }

    /// Writes the SMBIOS fields in clear, whichever way they are stored.
    fn smbios(&mut self) {
        let Some(value) = self.property("smbios1").map(|value| smbios_in_base64(&value)) else { return };
        let mut own = BTreeMap::from([("smbios1".to_owned(), value.print("smbios1"))]);
        let mut unsaid = Vec::new();
        let fields = raise_options(&SMBIOS, &[], &mut own, &mut unsaid);
        self.take("smbios1");
        if !fields.is_empty() {
            let fields: Vec<String> =
                fields.into_iter().map(|(key, text)| format!("{key}: {text}")).collect();
            self.line(format!("smbios: {{{}}}", fields.join(", ")));
        }
        // What is left is either the UUID, which has a key of its own, or cannot be said.
        let left: Vec<String> = unsaid.into_iter().chain(own.into_values()).collect();
        let left = left.iter().flat_map(|text| text.trim_start_matches("smbios1: ").split(','));
        let left: Vec<String> = left
            .filter(|part| !SMBIOS_ONLY.contains(&part.split_once('=').map_or(*part, |(name, _)| name)))
            .map(str::to_owned)
            .collect();
        self.leave("smbios1", left);
    }

    fn boot(&mut self) {
        let Some(boot) = self.property("boot") else { return };
        let Some(order) = boot.get("order").filter(|_| boot.iter().count() == 1) else { return };
        let devices: Vec<&str> = order.split(';').filter(|device| !device.is_empty()).collect();
        let line = format!("boot: [{}]", devices.join(", "));
        self.take("boot");
        self.line(line);
    }

    fn disks(&mut self) {
        let slots: Vec<(DeviceSlot, String)> = self
            .values
            .iter()
            .filter_map(|(key, text)| Some((key.parse::<DeviceSlot>().ok()?, text.clone())))
            .filter(|(slot, _)| slot.bus().is_drive())
            .collect();
        let mut lines = Vec::new();
        let mut volumes: BTreeMap<VolumeId, String> = BTreeMap::new();
        for (slot, text) in slots {
            let key = slot.to_string();
            let Ok(drive) = Drive::parse(&key, &text) else { continue };
            let volume = drive.volume().filter(|_| !drive.is_cdrom()).cloned();
            if let Some(other) = volume.as_ref().and_then(|volume| volumes.get(volume)) {
                self.notes
                    .push(format!("{key} and {other} are the same volume: only {other} is in the spec"));
                self.unsaid.push(format!("{key}: {text} (the same volume as {other})"));
                self.take(&key);
                continue;
            }
            volumes.extend(volume.map(|volume| (volume, key.clone())));
            let Some(Raised { fields, rest }) = disk(&drive).filter(|_| !drive.is_cloud_init()) else {
                continue;
            };
            lines.push(format!("  {key}: {{{}}}", fields.join(", ")));
            self.take(&key);
            self.leave(&key, rest);
        }
        self.block("disks", lines);
    }

    fn nics(&mut self) {
        let mut lines = Vec::new();
        let has_cloud_init = self.cloud_drive().is_some();
        let slots = self.values.keys().filter_map(|key| key.parse::<DeviceSlot>().ok());
        let nets: Vec<DeviceSlot> = slots.filter(|slot| slot.bus() == Bus::Net).collect();
        for slot in nets {
            let key = slot.to_string();
            let Some(Raised { mut fields, rest }) = self.property(&key).and_then(|nic| raised(&NIC, &nic))
            else {
                continue;
            };
            if has_cloud_init {
                fields.extend(self.address(&format!("ipconfig{}", slot.index())));
            }
            lines.push(format!("  {key}: {{{}}}", fields.join(", ")));
            self.take(&key);
            self.leave(&key, rest);
        }
        self.block("nics", lines);
    }

    fn address(&mut self, key: &str) -> Vec<String> {
        let Some(Ok(config)) = self.values.get(key).map(|text| PropertyString::parse(key, text)) else {
            return Vec::new();
        };
        self.take(key);
        let names = [("ip", "ip"), ("gw", "gateway"), ("ip6", "ip6"), ("gw6", "gateway6")];
        names
            .into_iter()
            .filter_map(|(part, name)| Some(format!("{name}: {}", quoted(config.get(part)?))))
            .collect()
    }

    fn cloud_drive(&self) -> Option<(String, VolumeId)> {
        self.values.iter().find_map(|(key, text)| {
            let drive = Drive::parse(key, text).ok().filter(Drive::is_cloud_init)?;
            Some((key.clone(), drive.volume()?.clone()))
        })
    }

    /// Writes cloud-init; without a drive the guest gets none of it.
    fn cloud_init(&mut self) {
        let Some((slot, volume)) = self.cloud_drive() else { return };
        self.take(&slot);
        let mut fields = vec![format!("slot: {slot}"), format!("storage: {}", volume.storage())];
        let options = raise_options(&CLOUD_INIT, &[], &mut self.values, &mut self.unsaid);
        fields.extend(options.into_iter().map(|(key, text)| format!("{key}: {text}")));
        fields.extend(self.custom());
        self.line(format!("cloud_init: {{{}}}", fields.join(", ")));
    }

    /// Writes data of one's own, each part the volume that it is in.
    // PVE: qemu-server src/PVE/QemuServer/Cloudinit.pm: user, network, meta and vendor.
    fn custom(&mut self) -> Vec<String> {
        let Some(custom) = self.property("cicustom") else { return Vec::new() };
        self.take("cicustom");
        let is_part = |part: &str| matches!(part, "user" | "network" | "meta" | "vendor");
        let (said, unsaid): (Vec<_>, Vec<_>) =
            custom.iter().partition(|(part, volume)| is_part(part) && volume.parse::<VolumeId>().is_ok());
        self.leave("cicustom", unsaid.iter().map(|(part, volume)| format!("{part}={volume}")).collect());
        said.iter().map(|(part, volume)| format!("{part}_data: {{volume: {}}}", quoted(volume))).collect()
    }

    /// Writes what only PVE's own spelling says, and leaves the rest.
    fn raw(&mut self) {
        let (raw, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.values).into_iter().partition(|(key, value)| fits_raw(key, value));
        let lines = raw.iter().map(|(key, value)| format!("  {key}: {}", quoted(value))).collect();
        self.block("raw", lines);
        self.unsaid.extend(left.into_iter().map(|(key, value)| format!("{key}: {value}")));
    }
}

/// Keys that PVE sets, and keys that are not settings.
fn is_of_pve(key: &str) -> bool {
    pve_config::is_generated(key)
        || pve_config::Bus::of_key(key) == Some(pve_config::Bus::Unused)
        || matches!(key, "lock" | "cipassword" | "sshkeys" | "smbios1")
}

/// Tells whether the spec's `raw:` takes the key: a known option that has no place of its own, a drive that is a path of
/// the node, and no other disk or NIC.
fn fits_raw(key: &str, value: &str) -> bool {
    let elsewhere = [
        "tags",
        "description",
        "citype",
        "ciuser",
        "ciupgrade",
        "cicustom",
        "nameserver",
        "searchdomain",
        "template",
    ];
    let is_elsewhere = |slot: DeviceSlot| match slot.bus() {
        Bus::Hostpci | Bus::Usb | Bus::Virtiofs | Bus::Numa | Bus::Serial | Bus::Parallel => false,
        bus => !(bus.is_drive() && value.starts_with('/')),
    };
    !elsewhere.contains(&key)
        && !key.parse::<DeviceSlot>().is_ok_and(is_elsewhere)
        && !value.chars().any(char::is_control)
        && pve_config::check_value(key, value, None).is_ok()
}

fn disk(drive: &Drive) -> Option<Raised> {
    let mut fields = match &drive.source {
        DriveSource::Empty => vec!["iso: none".to_owned()],
        DriveSource::Physical => vec!["iso: cdrom".to_owned()],
        DriveSource::Volume(volume) if drive.is_cdrom() => vec![format!("iso: {}", quoted(volume.as_str()))],
        DriveSource::Volume(volume) => {
            // A disk whose size a spec could not say is left as it is.
            let size = drive.size().filter(|size| size.as_whole_mib().is_some())?;
            vec![format!("storage: {}", volume.storage()), format!("size: {size}")]
        }
        DriveSource::New { .. } | DriveSource::Path(_) => return None,
    };
    let mut raised = raised(&DISK, &without_what_pve_notes(&drive.options))?;
    fields.append(&mut raised.fields);
    Some(Raised { fields, ..raised })
}

/// Returns a drive's options without those that PVE sets.
pub(super) fn without_what_pve_notes(options: &PropertyString) -> PropertyString {
    let mut options = options.clone();
    for noted in ["size", "format", "media"] {
        options.remove(noted);
    }
    options
}
