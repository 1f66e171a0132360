//! Drives: what stands in `scsi0`, `ide2`, `efidisk0`.

use crate::property::PropertyString;
use pve_types::{Bytes, ParseError, StorageId, VolumeId};

/// The source of a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriveSource {
    /// A volume that exists.
    Volume(VolumeId),
    /// A new volume on this storage, of so many GiB as PVE writes them (`32`, `0.5`).
    New {
        /// The storage.
        storage: StorageId,
        /// The size in GiB, decimal.
        gib: String,
    },
    /// A CD drive with nothing in it.
    Empty,
    /// The node's own CD drive.
    Physical,
    /// A file or device of the node.
    Path(String),
}

impl DriveSource {
    fn parse(text: &str) -> Result<Self, ParseError> {
        match text {
            "none" => return Ok(Self::Empty),
            "cdrom" => return Ok(Self::Physical),
            _ if text.starts_with('/') => return Ok(Self::Path(text.to_owned())),
            _ => {}
        }
        // PVE: qemu-server src/PVE/QemuServer/Drive.pm NEW_DISK_RE.
        if let Some((storage, gib)) = text.split_once(':').filter(|(_, gib)| is_decimal(gib)) {
            return Ok(Self::New { storage: storage.parse()?, gib: gib.to_owned() });
        }
        text.parse().map(Self::Volume)
    }
}

fn is_decimal(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    match text.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(text),
    }
}

impl std::fmt::Display for DriveSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Volume(volume) => f.write_str(volume.as_str()),
            Self::New { storage, gib } => write!(f, "{storage}:{gib}"),
            Self::Empty => f.write_str("none"),
            Self::Physical => f.write_str("cdrom"),
            Self::Path(path) => f.write_str(path),
        }
    }
}

/// A new, empty volume, which PVE makes when the slot of a drive is set to this. It shows as PVE takes it:
/// `local-lvm:32,discard=on`.
///
/// ```
/// use pve_config::NewVolume;
/// let new = NewVolume::read("scsi1", "local-lvm:32,discard=on").unwrap();
/// assert_eq!(new, NewVolume { options: "discard=on".to_owned(), ..NewVolume::of_gib("local-lvm".parse().unwrap(), "32") });
/// assert_eq!(NewVolume::read("scsi1", "local-lvm:vm-201-disk-0"), None);
/// ```
// PVE: qemu-server src/PVE/API2/Qemu.pm create_disks, src/PVE/QemuServer/Drive.pm NEW_DISK_RE.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewVolume {
    /// The storage that it is made on.
    pub storage: StorageId,
    /// What it is.
    pub size: NewSize,
    /// The drive's options, comma separated, maybe none.
    pub options: String,
}

/// How large a new volume is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewSize {
    /// So many GiB, decimal.
    Gib(String),
    /// A cloud-init drive, which PVE fills and whose size is its own.
    CloudInit,
}

impl NewVolume {
    /// Returns an empty disk of so many GiB, without options.
    pub fn of_gib(storage: StorageId, gib: impl Into<String>) -> Self {
        Self { storage, size: NewSize::Gib(gib.into()), options: String::new() }
    }
    /// Returns a cloud-init drive without options.
    pub fn cloud_init(storage: StorageId) -> Self {
        Self { storage, size: NewSize::CloudInit, options: String::new() }
    }
    /// Reads the value of a drive's slot; `None` for one that names what exists.
    pub fn read(slot: &str, text: &str) -> Option<Self> {
        let drive = Drive::parse(slot, text).ok()?;
        let (storage, size) = match drive.source {
            DriveSource::New { storage, gib } => (storage, NewSize::Gib(gib)),
            DriveSource::Volume(volume) if volume.name() == "cloudinit" => {
                (volume.storage().clone(), NewSize::CloudInit)
            }
            _ => return None,
        };
        Some(Self { storage, size, options: drive.options.print(slot) })
    }
}

impl std::fmt::Display for NewVolume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.size {
            NewSize::Gib(gib) => write!(f, "{}:{gib}", self.storage)?,
            NewSize::CloudInit => write!(f, "{}:cloudinit", self.storage)?,
        }
        if self.options.is_empty() { Ok(()) } else { write!(f, ",{}", self.options) }
    }
}

/// A drive: its source, and its options as they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// What it is made of.
    pub source: DriveSource,
    /// All other fields.
    pub options: PropertyString,
}

impl Drive {
    /// Reads the value of a drive's slot.
    ///
    /// # Errors
    /// It is not a property string, or its `file` is missing or is nothing that PVE takes.
    pub fn parse(slot: &str, text: &str) -> Result<Self, ParseError> {
        let mut options = PropertyString::parse(slot, text)?;
        let file =
            options.remove("file").ok_or_else(|| ParseError::new("drive", text, "it has no volume"))?;
        Ok(Self { source: DriveSource::parse(&file)?, options })
    }
    /// Prints it as PVE stores it in `slot`.
    pub fn print(&self, slot: &str) -> String {
        let mut all = self.options.clone();
        all.set("file", self.source.to_string());
        all.print(slot)
    }
    /// Returns the volume, if there is one.
    pub fn volume(&self) -> Option<&VolumeId> {
        match &self.source {
            DriveSource::Volume(volume) => Some(volume),
            _ => None,
        }
    }
    /// Returns the size that PVE noted.
    pub fn size(&self) -> Option<Bytes> {
        self.options.get("size").and_then(|size| Bytes::from_pve_size(size).ok())
    }
    /// Tells whether it is a CD drive (a cloud-init drive is one too).
    pub fn is_cdrom(&self) -> bool {
        self.options.get("media") == Some("cdrom")
            || matches!(self.source, DriveSource::Empty | DriveSource::Physical)
    }
    /// Tells whether it is a cloud-init drive.
    // PVE: qemu-server src/PVE/QemuServer/Drive.pm drive_is_cloudinit: `[:/](vm-\d+-)?cloudinit(\.format)?$`.
    pub fn is_cloud_init(&self) -> bool {
        let Some(volume) = self.volume() else { return false };
        let name = volume.name().rsplit('/').next().unwrap_or_default();
        let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
        let owned = stem.strip_prefix("vm-").and_then(|rest| rest.split_once('-'));
        stem == "cloudinit"
            || owned.is_some_and(|(id, rest)| rest == "cloudinit" && id.bytes().all(|b| b.is_ascii_digit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_drive_is_read_and_printed_back() {
        let check = |slot: &str, text: &str| assert_eq!(Drive::parse(slot, text).unwrap().print(slot), text);
        check("scsi0", "local-lvm:vm-100-disk-0,discard=on,iothread=1,size=32G,ssd=1");
        check("scsi0", "local-lvm:32");
        check("scsi0", "local-lvm:0.5,format=qcow2");
        check("scsi0", "local:0,import-from=/var/lib/vz/import/x.qcow2");
        check("ide2", "none,media=cdrom");
        check("ide2", "cdrom,media=cdrom");
        check("ide2", "local:100/vm-100-cloudinit.qcow2,media=cdrom");
        check("virtio1", "/dev/sdb,cache=none");
        check("efidisk0", "local-lvm:vm-100-disk-1,efitype=4m,pre-enrolled-keys=1,size=4M");
        assert!(Drive::parse("scsi0", "ssd=1").is_err() && Drive::parse("scsi0", "x").is_err());
    }

    #[test]
    fn cloud_init_drives_are_told_from_other_cds() {
        let drive = |text| Drive::parse("ide2", text).unwrap();
        assert!(drive("local-lvm:vm-100-cloudinit,media=cdrom").is_cloud_init());
        assert!(drive("local:100/vm-100-cloudinit.qcow2,media=cdrom").is_cloud_init());
        assert!(drive("local-lvm:cloudinit").is_cloud_init());
        assert!(!drive("local:iso/cloudinit-tools.iso,media=cdrom").is_cloud_init());
        assert!(!drive("none,media=cdrom").is_cloud_init());
        assert_eq!(drive("local:1/a.raw,size=32G").size(), Some(Bytes::from_gib(32)));
    }
}
