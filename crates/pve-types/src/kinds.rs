//! What kind of guest something is, and what kind of storage.

use crate::ParseError;

/// What kind of guest a VMID is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GuestKind {
    /// A virtual machine, `qemu`.
    Vm,
    /// A container, `lxc`.
    Container,
}

impl GuestKind {
    /// Returns PVE's word for it, as lists of the cluster have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vm => "qemu",
            Self::Container => "lxc",
        }
    }
}

impl std::fmt::Display for GuestKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for GuestKind {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let known = [Self::Vm, Self::Container].into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| ParseError::new("kind of guest", text, "it is `qemu` or `lxc`"))
    }
}

crate::serde_as_text!(GuestKind);

/// Which plugin a storage is of.
///
/// ```
/// use pve_types::StorageKind;
/// assert!(StorageKind::from("lvmthin").is_block_only());
/// assert_eq!(StorageKind::from("linstor").to_string(), "linstor");
/// ```
// PVE: pve-storage src/PVE/Storage/*Plugin.pm `type`; plugins of others have names of their own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(from = "String", into = "String")]
pub enum StorageKind {
    /// A folder, `dir`.
    Dir,
    /// An LVM volume group, `lvm`.
    Lvm,
    /// An LVM thin pool, `lvmthin`.
    LvmThin,
    /// A local ZFS pool, `zfspool`.
    ZfsPool,
    /// ZFS over iSCSI, `zfs`.
    ZfsOverIscsi,
    /// Btrfs.
    Btrfs,
    /// NFS.
    Nfs,
    /// SMB, `cifs`.
    Cifs,
    /// GlusterFS.
    GlusterFs,
    /// CephFS.
    CephFs,
    /// Ceph's block devices, `rbd`.
    Rbd,
    /// iSCSI targets, `iscsi`.
    Iscsi,
    /// iSCSI targets without the kernel, `iscsidirect`.
    IscsiDirect,
    /// Any other, by its name: Proxmox Backup Server, ESXi, a plugin of others.
    Other(String),
}

impl StorageKind {
    const NAMES: [(Self, &'static str); 13] = [
        (Self::Dir, "dir"),
        (Self::Lvm, "lvm"),
        (Self::LvmThin, "lvmthin"),
        (Self::ZfsPool, "zfspool"),
        (Self::ZfsOverIscsi, "zfs"),
        (Self::Btrfs, "btrfs"),
        (Self::Nfs, "nfs"),
        (Self::Cifs, "cifs"),
        (Self::GlusterFs, "glusterfs"),
        (Self::CephFs, "cephfs"),
        (Self::Rbd, "rbd"),
        (Self::Iscsi, "iscsi"),
        (Self::IscsiDirect, "iscsidirect"),
    ];

    /// Returns PVE's name for it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(name) => name,
            known => Self::NAMES.iter().find(|(kind, _)| kind == known).map_or("", |entry| entry.1),
        }
    }
    /// Tells whether its volumes are ZFS volumes.
    pub fn is_zfs(&self) -> bool {
        matches!(self, Self::ZfsPool | Self::ZfsOverIscsi)
    }
    /// Tells whether it has no files, so that a disk there is `raw`.
    // PVE: pve-storage src/PVE/Storage/*Plugin.pm plugindata: block storages hold raw volumes only. `lvm` is none of them:
    // from version 9 on it may hold qcow2.
    pub fn is_block_only(&self) -> bool {
        match self {
            Self::LvmThin
            | Self::ZfsPool
            | Self::ZfsOverIscsi
            | Self::Rbd
            | Self::Iscsi
            | Self::IscsiDirect => true,
            Self::Dir
            | Self::Lvm
            | Self::Btrfs
            | Self::Nfs
            | Self::Cifs
            | Self::GlusterFs
            | Self::CephFs
            | Self::Other(_) => false,
        }
    }
}

impl From<&str> for StorageKind {
    fn from(name: &str) -> Self {
        let known = Self::NAMES.into_iter().find(|(_, known)| *known == name);
        known.map_or_else(|| Self::Other(name.to_owned()), |(kind, _)| kind)
    }
}

impl From<String> for StorageKind {
    fn from(name: String) -> Self {
        Self::from(name.as_str())
    }
}

impl From<StorageKind> for String {
    fn from(kind: StorageKind) -> Self {
        kind.as_str().to_owned()
    }
}

impl std::fmt::Display for StorageKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_and_printed_as_pve_names_them() {
        for (kind, name) in StorageKind::NAMES {
            assert_eq!((StorageKind::from(name), kind.to_string().as_str()), (kind, name));
        }
        assert_eq!("lxc".parse::<GuestKind>().unwrap(), GuestKind::Container);
        assert_eq!(serde_json::to_string(&GuestKind::Vm).unwrap(), "\"qemu\"");
        assert!("VM".parse::<GuestKind>().is_err());
    }
}
