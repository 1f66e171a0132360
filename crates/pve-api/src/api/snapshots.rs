//! `/nodes/{node}/qemu/{vmid}/snapshot`.

use super::QemuConfig;
use crate::client::Place;
use crate::error::ApiError;
use crate::request::Params;
use crate::tasks::Task;
use pve_types::Upid;
use serde::{Deserialize, Serialize};

/// A snapshot; the one called `current` is the VM as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// What its maker wrote about it.
    pub description: Option<String>,
    /// When it was made, in seconds since 1970.
    pub snaptime: Option<u64>,
    /// The snapshot before it.
    pub parent: Option<String>,
    /// Whether it holds the memory too.
    pub vmstate: Option<bool>,
    /// Whether the VM runs; only of `current`.
    pub running: Option<bool>,
    /// The configuration's digest; only of `current`.
    pub digest: Option<String>,
}

/// How to make a snapshot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewSnapshot {
    /// A description.
    pub description: Option<String>,
    /// Whether to keep the memory too.
    pub with_memory: bool,
}

/// The snapshots of a VM.
#[derive(Debug, Clone)]
pub struct Snapshots {
    place: Place,
}

impl Snapshots {
    pub(super) fn new(place: Place) -> Self {
        Self { place }
    }
    /// Lists them, `current` last.
    ///
    /// # Errors
    /// The call fails.
    pub async fn list(&self) -> Result<Vec<Snapshot>, ApiError> {
        self.place.get(Params::new()).await
    }
    /// Makes one.
    ///
    /// # Errors
    /// The call fails.
    pub async fn create(&self, name: &str, how: &NewSnapshot) -> Result<Task, ApiError> {
        let params = Params::new()
            .with("snapname", name)
            .with_some("description", how.description.as_deref())
            .with_some("vmstate", how.with_memory.then_some(true));
        let upid: Upid = self.place.post(params).await?;
        super::started(&self.place.client, upid)
    }
    /// Returns the configuration in one.
    ///
    /// # Errors
    /// The call fails.
    pub async fn config(&self, name: &str) -> Result<QemuConfig, ApiError> {
        self.place.join(name).join("config").get(Params::new()).await
    }
    /// Changes the description of one.
    ///
    /// # Errors
    /// The call fails.
    pub async fn set_description(&self, name: &str, description: &str) -> Result<(), ApiError> {
        let params = Params::new().with("description", description);
        self.place.join(name).join("config").put(params).await
    }
    /// Goes back to one: what came after it is lost.
    ///
    /// # Errors
    /// The call fails.
    pub async fn roll_back(&self, name: &str) -> Result<Task, ApiError> {
        let upid: Upid = self.place.join(name).join("rollback").post(Params::new()).await?;
        super::started(&self.place.client, upid)
    }
    /// Deletes one; with `force` also from the configuration when its storage fails.
    ///
    /// # Errors
    /// The call fails.
    pub async fn delete(&self, name: &str, force: bool) -> Result<Task, ApiError> {
        let params = Params::new().with_some("force", force.then_some(true));
        let upid: Upid = self.place.join(name).delete(params).await?;
        super::started(&self.place.client, upid)
    }
}
