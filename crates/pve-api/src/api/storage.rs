//! `/storage`: the cluster's storage definitions, and the state of storages on a node.

use crate::client::{Client, Place};
use crate::error::ApiError;
use crate::request::Params;
use pve_types::StorageId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A storage's definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StorageDefinition {
    /// Its identifier.
    pub storage: StorageId,
    /// Its type, such as `dir`, `nfs`, `lvmthin`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// What it may hold, joined by commas.
    pub content: Option<String>,
    /// The nodes it is for, joined by commas; all when absent.
    pub nodes: Option<String>,
    /// Whether it is switched off.
    pub disable: Option<bool>,
    /// Whether it is the same on all nodes.
    pub shared: Option<bool>,
    /// The folder of a `dir`, or the mount point.
    pub path: Option<String>,
    /// The volume group of an LVM storage.
    pub vgname: Option<String>,
    /// The thin pool of an `lvmthin`.
    pub thinpool: Option<String>,
    /// The pool of a ZFS or RBD storage.
    pub pool: Option<String>,
    /// The server of a network storage.
    pub server: Option<String>,
    /// What an NFS server exports.
    pub export: Option<String>,
    /// How long backups are kept.
    #[serde(rename = "prune-backups")]
    pub prune_backups: Option<String>,
    /// The SHA-1 of the whole of storage.cfg.
    pub digest: Option<String>,
}

/// The formats that a storage can hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StorageFormats {
    /// All of them. Since 9.
    #[serde(default)]
    pub supported: Vec<String>,
    /// The one that is used when none is named. Since 9.
    pub default: Option<String>,
}

/// A storage, as a node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StorageState {
    /// Its identifier; missing from the answer about one storage.
    pub storage: Option<StorageId>,
    /// Its type, such as `dir`, `nfs`, `lvmthin`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// What it may hold, joined by commas.
    pub content: Option<String>,
    /// Whether it is switched on.
    pub enabled: Option<bool>,
    /// Whether it can be used now.
    pub active: Option<bool>,
    /// Whether it is the same on all nodes.
    pub shared: Option<bool>,
    /// Its size in bytes.
    pub total: Option<u64>,
    /// What is in use, in bytes.
    pub used: Option<u64>,
    /// What can be used, in bytes.
    pub avail: Option<u64>,
    /// The formats it can hold, where they were asked for. Since 9.
    pub formats: Option<StorageFormats>,
    /// The formats and the default one, where they were asked for, as older versions write them.
    pub format: Option<serde_json::Value>,
}

impl StorageState {
    /// Tells whether it may hold `content`, such as `images`.
    pub fn holds(&self, content: &str) -> bool {
        self.content.as_deref().unwrap_or_default().split(',').any(|item| item.trim() == content)
    }
    /// Tells whether it is switched on and can be used now.
    pub fn is_usable(&self) -> bool {
        self.active == Some(true) && self.enabled != Some(false)
    }
    /// Returns the formats it can hold, where they were asked for: of 9's `formats`, or of `format` before.
    // PVE: pve-storage src/PVE/API2/Storage/Status.pm: `format` is [{raw: 1, …}, DEFAULT].
    pub fn supported_formats(&self) -> Vec<String> {
        if let Some(formats) = &self.formats {
            return formats.supported.clone();
        }
        let map = self.format.as_ref().and_then(|format| format.get(0)).and_then(|map| map.as_object());
        map.map(|map| map.keys().cloned().collect()).unwrap_or_default()
    }
}

/// A scan's or definition's extra values, by name.
pub type StorageValues = BTreeMap<String, serde_json::Value>;

/// `/storage`.
#[derive(Debug, Clone)]
pub struct Storages {
    place: Place,
}

impl Client {
    /// Returns the cluster's storage definitions.
    pub fn storages(&self) -> Storages {
        Storages { place: Place::new(self, ["storage"]) }
    }
}

impl Storages {
    /// Lists the definitions that the caller may see.
    ///
    /// # Errors
    /// The call fails.
    pub async fn list(&self) -> Result<Vec<StorageDefinition>, ApiError> {
        self.place.get(Params::new()).await
    }
    /// Lists the definitions of one type.
    ///
    /// # Errors
    /// The call fails.
    pub async fn list_of_type(&self, kind: &str) -> Result<Vec<StorageDefinition>, ApiError> {
        self.place.get(Params::new().with("type", kind)).await
    }
    /// Returns one definition.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_absent`] if there is none.
    pub async fn get(&self, storage: &StorageId) -> Result<StorageDefinition, ApiError> {
        self.place.join(storage).get(Params::new()).await
    }
    /// Defines a storage of a type; the other parameters depend on it.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_already_there`] if the identifier is taken.
    pub async fn create(&self, storage: &StorageId, kind: &str, params: Params) -> Result<(), ApiError> {
        let own = Params::new().with("storage", storage).with("type", kind);
        self.place.post(own.and(params)).await
    }
    /// Changes a definition.
    ///
    /// # Errors
    /// The call fails.
    pub async fn update(&self, storage: &StorageId, params: Params) -> Result<(), ApiError> {
        self.place.join(storage).put(params).await
    }
    /// Removes a definition; what is on the storage stays.
    ///
    /// # Errors
    /// The call fails.
    pub async fn delete(&self, storage: &StorageId) -> Result<(), ApiError> {
        self.place.join(storage).delete(Params::new()).await
    }
}
