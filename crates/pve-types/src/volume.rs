//! Volume identifiers.

use crate::{ParseError, StorageId, Vmid, string_form};

/// A volume on a storage, `STORAGE:NAME`, as `local-lvm:vm-100-disk-0` or `local:import/debian.qcow2`.
// PVE: pve-storage src/PVE/Storage.pm parse_volume_id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId {
    text: String,
    colon: usize,
    storage: StorageId,
}

impl VolumeId {
    /// Returns the whole identifier.
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// Returns the storage.
    pub fn storage(&self) -> &StorageId {
        &self.storage
    }
    /// Returns the part after the first colon.
    pub fn name(&self) -> &str {
        &self.text[self.colon + 1..]
    }
    /// Returns the guest that the volume's name says it belongs to, if it says so.
    // PVE: pve-storage src/PVE/Storage/Plugin.pm parse_volname: `vm-ID-…`, `base-ID-…`, after any folder.
    pub fn owner(&self) -> Option<Vmid> {
        let name = self.name().rsplit('/').next()?;
        let rest = name.strip_prefix("vm-").or_else(|| name.strip_prefix("base-"))?;
        rest.split_once('-')?.0.parse().ok()
    }
}

impl std::str::FromStr for VolumeId {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = |reason: &str| ParseError::new("volume ID", text, reason);
        let colon = text.find(':').ok_or_else(|| refuse("it is written as `STORAGE:NAME`"))?;
        let storage = text[..colon].parse().map_err(|error: ParseError| refuse(&error.reason))?;
        let name = &text[colon + 1..];
        if name.is_empty() {
            return Err(refuse("the name after the colon is empty"));
        }
        if name.chars().any(|c| c.is_whitespace() || c.is_control() || c == ',') {
            return Err(refuse("blanks, commas and control characters are not allowed"));
        }
        if name.split('/').any(|part| part == "..") {
            return Err(refuse("`..` is not allowed"));
        }
        Ok(Self { text: text.to_owned(), colon, storage })
    }
}

string_form!(VolumeId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_names_storage_and_owner() {
        let check = |text: &str, owner: Option<u32>| {
            let volume: VolumeId = text.parse().unwrap();
            assert_eq!(volume.owner().map(Vmid::get), owner, "{text}");
            assert_eq!(format!("{}:{}", volume.storage(), volume.name()), text);
        };
        check("local-lvm:vm-100-disk-0", Some(100));
        check("local:9000/base-9000-disk-0.raw/101/vm-101-disk-0.qcow2", Some(101));
        check("rbd:base-9000-disk-0/vm-101-disk-0", Some(101));
        check("local-lvm:vm-100-cloudinit", Some(100));
        check("local:import/debian.qcow2", None);
        for text in ["", "local", "local:", ":x", "local:a b", "local:a,b", "local:../x", "l:x", "local:a\nb"]
        {
            assert!(text.parse::<VolumeId>().is_err(), "`{text}`");
        }
    }
}
