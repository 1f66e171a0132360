//! Drive slots and what is written in them.

use std::sync::Arc;

use pve_types::PveVersion;

use crate::schema::property::{self, Properties};
use crate::schema::{Format, PropertyFormat, is_new_disk, table};
use crate::world::{Config, World, parse_name, split_id};

/// A drive's slot and its options; `file` is the volume, path or request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// `scsi0`, `ide2`, …
    pub slot: String,
    /// Its options.
    pub options: Properties,
}

/// The slots in the order in which PVE makes their disks.
// PVE: qemu-server src/PVE/QemuServer/Drive.pm valid_drive_names
pub fn slots() -> impl Iterator<Item = String> {
    let row = |name: &'static str, count: u32| (0..count).map(move |number| format!("{name}{number}"));
    row("ide", 4)
        .chain(row("scsi", 31))
        .chain(row("virtio", 16))
        .chain(row("sata", 6))
        .chain(row("efidisk", 1))
        .chain(row("tpmstate", 1))
}

/// Where a slot stands in that order.
pub(super) fn place(slot: &str) -> (usize, u32) {
    let base = slot.trim_end_matches(|c: char| c.is_ascii_digit());
    let bus = ["ide", "scsi", "virtio", "sata", "efidisk", "tpmstate"].iter().position(|bus| *bus == base);
    (bus.unwrap_or(6), slot[base.len()..].parse().unwrap_or(0))
}

/// Tells whether the option is a drive's slot.
pub fn is_slot(option: &str) -> bool {
    let base = option.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = &option[base.len()..];
    let count = match base {
        "ide" => 4,
        "scsi" => 31,
        "virtio" => 16,
        "sata" => 6,
        "efidisk" | "tpmstate" => 1,
        _ => return false,
    };
    number.parse::<u32>().is_ok_and(|number| number < count) && (number == "0" || !number.starts_with('0'))
}

/// Tells whether the option is an unused volume.
pub fn is_unused(option: &str) -> bool {
    option
        .strip_prefix("unused")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The property string of an option of a VM.
pub fn format_of(version: PveVersion, option: &str) -> Option<Arc<PropertyFormat>> {
    match &table(version).vm_config().get(option)?.format {
        Some(Format::Property(format)) => Some(format.clone()),
        _ => None,
    }
}

impl Drive {
    /// Reads a slot's value; `None` when it cannot be read.
    pub fn parse(version: PveVersion, slot: &str, text: &str) -> Option<Self> {
        let format = format_of(version, slot)?;
        let mut options = property::split(&format, text).ok()?;
        // PVE: qemu-server src/PVE/QemuServer.pm cleanup_drive_path
        if matches!(options.get("file").map(String::as_str), Some("none" | "cdrom")) {
            options.entry("media".to_owned()).or_insert_with(|| "cdrom".to_owned());
        }
        options.contains_key("file").then(|| Self { slot: slot.to_owned(), options })
    }
    /// The slot's value as it is stored.
    pub fn print(&self, version: PveVersion) -> String {
        format_of(version, &self.slot)
            .map_or_else(String::new, |format| property::print(&format, &self.options))
    }
    /// What stands in `file`.
    pub fn file(&self) -> &str {
        self.options.get("file").map_or("", String::as_str)
    }
    /// One option's value.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }
    /// Sets an option.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.options.insert(name.to_owned(), value.into());
    }
    /// Tells whether it is a CD drive (cloud-init drives are).
    pub fn is_cdrom(&self) -> bool {
        self.option("media") == Some("cdrom") || matches!(self.file(), "cdrom")
    }
    /// Tells whether it is the cloud-init drive, or asks for one.
    pub fn is_cloudinit(&self) -> bool {
        let name = self.file().split_once(':').map_or(self.file(), |(_, name)| name);
        let name = name.rsplit('/').next().unwrap_or_default();
        let stem = name.split('.').next().unwrap_or_default();
        name == "cloudinit" || (stem.starts_with("vm-") && stem.ends_with("-cloudinit"))
    }
    /// Tells whether a new volume is asked for.
    pub fn is_new(&self) -> bool {
        is_new_disk(self.file())
    }
    /// The storage and size (GiB) of the new volume that is asked for.
    pub fn new_disk(&self) -> (Option<&str>, &str) {
        match self.file().split_once(':') {
            Some((storage, size)) => (Some(storage), size),
            None => (None, self.file()),
        }
    }
    /// The storage of its volume.
    pub fn storage(&self) -> Option<&str> {
        split_id(self.file()).ok().map(|(storage, _)| storage)
    }
}

/// The drives of a configuration, in PVE's order.
pub fn drives(version: PveVersion, config: &Config) -> Vec<Drive> {
    let mut found: Vec<(&String, &String)> = config.iter().filter(|(option, _)| is_slot(option)).collect();
    found.sort_by_key(|(slot, _)| place(slot));
    found.into_iter().filter_map(|(slot, value)| Drive::parse(version, slot, value)).collect()
}

/// The slot of the cloud-init drive.
pub fn cloudinit_slot(version: PveVersion, config: &Config) -> Option<String> {
    drives(version, config).into_iter().find(Drive::is_cloudinit).map(|drive| drive.slot)
}

/// The guest that owns a volume.
pub fn owner(world: &World, volume: &str) -> Option<pve_types::Vmid> {
    let (storage, name) = split_id(volume).ok()?;
    parse_name(world.storage(storage).ok()?, name).ok()?.owner
}

/// Keeps a volume in the configuration as the lowest free `unusedN`; the same volume is kept once.
///
/// # Errors
/// There are 256 already.
// PVE: pve-guest-common src/PVE/AbstractConfig.pm add_unused_volume
pub fn add_unused(config: &mut Config, volume: &str) -> Result<Option<String>, String> {
    if config.iter().any(|(key, value)| is_unused(key) && value == volume) {
        return Ok(None);
    }
    let free = (0..256).map(|number| format!("unused{number}")).find(|key| !config.contains_key(key));
    let free = free.ok_or("Too many unused volumes - please delete them first.")?;
    config.insert(free.clone(), volume.to_owned());
    Ok(Some(free))
}

/// Tells whether a configuration (or a snapshot of it) uses a volume elsewhere than as `unusedN`.
pub fn uses(version: PveVersion, config: &Config, volume: &str) -> bool {
    drives(version, config).iter().any(|drive| drive.file() == volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NINE: PveVersion = PveVersion::new(9, 2, 11);

    fn check(slot: &str, text: &str, expect: &str) {
        assert_eq!(Drive::parse(NINE, slot, text).map(|drive| drive.print(NINE)).as_deref(), Some(expect));
    }

    #[test]
    fn a_drive_is_stored_with_its_file_first_and_the_rest_by_name() {
        check("scsi0", "ssd=1,local:1,discard=on", "local:1,discard=on,ssd=1");
        check("scsi0", "file=a:vm-100-disk-0,iothread=yes", "a:vm-100-disk-0,iothread=1");
        assert!(is_slot("scsi30") && !is_slot("scsi31") && !is_slot("scsihw") && !is_slot("ide04"));
    }

    #[test]
    fn unused_volumes_take_the_lowest_free_number() {
        let mut config: Config = [("unused0".to_owned(), "a:x".to_owned())].into();
        assert_eq!(add_unused(&mut config, "a:y").unwrap().as_deref(), Some("unused1"));
        assert_eq!(add_unused(&mut config, "a:y").unwrap(), None);
    }
}
