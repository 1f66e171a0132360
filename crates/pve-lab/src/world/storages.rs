//! Storage definitions, and the volumes of those that are not made of files.

use std::collections::{BTreeMap, BTreeSet};

/// A storage as storage.cfg defines it.
#[derive(Debug, Clone)]
pub struct StorageDef {
    /// Its id.
    pub id: String,
    /// Its plugin type.
    pub kind: String,
    /// Its content types.
    pub content: BTreeSet<String>,
    /// Everything else that storage.cfg says of it.
    pub options: BTreeMap<String, String>,
    /// How many bytes it holds (on each node, unless it is shared).
    pub size: u64,
    /// Nodes on which it does not come up.
    pub offline_on: BTreeSet<String>,
}

impl StorageDef {
    /// Tells whether its volumes are files.
    pub fn is_file_based(&self) -> bool {
        matches!(self.kind.as_str(), "dir" | "nfs" | "cifs" | "btrfs" | "cephfs" | "glusterfs")
    }
    /// Tells whether all nodes see the same volumes.
    pub fn is_shared(&self) -> bool {
        let by_kind = matches!(
            self.kind.as_str(),
            "nfs"
                | "cifs"
                | "cephfs"
                | "glusterfs"
                | "rbd"
                | "pbs"
                | "iscsi"
                | "iscsidirect"
                | "zfs"
                | "esxi"
        );
        by_kind || self.options.get("shared").is_some_and(|value| value == "1")
    }
    /// The folder that holds its files.
    pub fn path(&self) -> Option<String> {
        if !self.is_file_based() {
            return None;
        }
        let default = || matches!(self.kind.as_str(), "nfs" | "cifs" | "cephfs" | "glusterfs");
        self.options.get("path").cloned().or_else(|| default().then(|| format!("/mnt/pve/{}", self.id)))
    }
    /// Tells whether it is switched off.
    pub fn is_disabled(&self) -> bool {
        self.options.get("disable").is_some_and(|value| value == "1")
    }
    /// Tells whether it is meant for that node.
    pub fn is_for_node(&self, node: &str) -> bool {
        self.options.get("nodes").is_none_or(|nodes| nodes.split([',', ' ']).any(|name| name == node))
    }
}

/// A volume of a storage that is not made of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockVolume {
    /// The size a guest sees, in bytes.
    pub size: u64,
    /// What it takes on the storage, in bytes.
    pub used: u64,
    /// The volume it was cloned from, by name.
    pub parent: Option<String>,
    /// Seconds of the Unix epoch.
    pub created: u64,
    /// Stands for the content.
    pub seed: u64,
    /// Its snapshots.
    pub snapshots: BTreeSet<String>,
}

/// The volumes of one such storage, by name.
#[derive(Debug, Clone, Default)]
pub struct BlockStore {
    /// By name, e.g. `vm-100-disk-0`.
    pub volumes: BTreeMap<String, BlockVolume>,
}
