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
    /// Returns the guest that PVE takes for the volume's owner, if its name tells one: the number of the folder that a
    /// file lies in, else the number in `vm-ID-…` or `base-ID-…`.
    ///
    /// PVE frees a volume with its guest only when this is that guest.
    // PVE: pve-storage src/PVE/Storage/{Plugin,LvmThinPlugin,ZFSPoolPlugin,RBDPlugin}.pm parse_volname.
    pub fn owner(&self) -> Option<Vmid> {
        let mut parts = self.name().rsplit('/');
        let (last, folder) = (parts.next()?, parts.next());
        if let Some(folder) = folder {
            if folder.bytes().all(|byte| byte.is_ascii_digit()) {
                return folder.parse().ok();
            }
            if self.is_shared_content() {
                return None;
            }
        }
        let kinds = ["vm-", "base-", "subvol-", "basevol-"];
        let rest = kinds.iter().find_map(|kind| last.strip_prefix(kind))?;
        rest.split_once('-')?.0.parse().ok()
    }
    /// Tells whether it is content that any guest may use at the same time: ISO images, images to import, snippets,
    /// container templates, backups.
    pub fn is_shared_content(&self) -> bool {
        let folder = self.name().split_once('/').map(|(folder, _)| folder);
        matches!(folder, Some("iso" | "import" | "snippets" | "vztmpl" | "backup"))
    }
    /// Returns the last part of its name: what its file, logical volume or data set is called.
    pub fn base_name(&self) -> &str {
        self.name().rsplit('/').next().unwrap_or_default()
    }
}

impl std::str::FromStr for VolumeId {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = |reason: &str| ParseError::new("volume ID", text, reason);
        let colon = text.find(':').ok_or_else(|| refuse("write it as `STORAGE:NAME`"))?;
        let storage = text[..colon].parse().map_err(|error: ParseError| refuse(&error.reason))?;
        let name = &text[colon + 1..];
        if name.is_empty() {
            return Err(refuse("the name after the colon is empty"));
        }
        if name.chars().any(|c| c.is_whitespace() || c.is_control() || c == ',') {
            return Err(refuse("spaces, commas and control characters are not allowed"));
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
        check("local:iso/vm-100-tools.iso", None);
        check("local:100/data.qcow2", Some(100));
        check("local:201/vm-100-disk-0.qcow2", Some(201));
        check("zfs:base-9000-disk-0/subvol-300-disk-0", Some(300));
        check("san:lun3", None);
        for text in ["", "local", "local:", ":x", "local:a b", "local:a,b", "local:../x", "l:x", "local:a\nb"]
        {
            assert!(text.parse::<VolumeId>().is_err(), "`{text}`");
        }
    }
}
