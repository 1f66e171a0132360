//! `/cluster/backup`: backup jobs.

use crate::client::Place;
use crate::error::ApiError;
use crate::request::Params;
use pve_types::StorageId;
use serde::{Deserialize, Serialize};

/// A backup job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackupJob {
    /// Its identifier.
    pub id: String,
    /// When it runs, as a calendar event.
    pub schedule: Option<String>,
    /// Where backups go.
    pub storage: Option<StorageId>,
    /// Whether it is switched on; on when absent.
    pub enabled: Option<bool>,
    /// Whether it is for all guests.
    pub all: Option<bool>,
    /// The guests it is for, joined by commas.
    pub vmid: Option<String>,
    /// The guests it is not for, joined by commas.
    pub exclude: Option<String>,
    /// The pool whose guests it is for.
    pub pool: Option<String>,
    /// The node it runs on; all when absent.
    pub node: Option<String>,
    /// `snapshot`, `suspend` or `stop`.
    pub mode: Option<String>,
    /// `0`, `gzip`, `lzo` or `zstd`.
    pub compress: Option<String>,
    /// A comment.
    pub comment: Option<String>,
    /// When it runs next, in seconds since 1970.
    #[serde(rename = "next-run")]
    pub next_run: Option<u64>,
}

/// `/cluster/backup`.
#[derive(Debug, Clone)]
pub struct BackupJobs {
    place: Place,
}

impl BackupJobs {
    pub(super) fn new(place: Place) -> Self {
        Self { place }
    }
    /// Lists them.
    ///
    /// # Errors
    /// The call fails.
    pub async fn list(&self) -> Result<Vec<BackupJob>, ApiError> {
        self.place.get(Params::new()).await
    }
    /// Returns one.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_absent`] if there is none.
    pub async fn get(&self, id: &str) -> Result<BackupJob, ApiError> {
        self.place.join(id).get(Params::new()).await
    }
    /// Makes one; the parameters are those of `vzdump`, and `schedule`, `id`, `enabled`, `comment`.
    ///
    /// # Errors
    /// The call fails.
    pub async fn create(&self, params: Params) -> Result<(), ApiError> {
        self.place.post(params).await
    }
    /// Changes one.
    ///
    /// # Errors
    /// The call fails.
    pub async fn update(&self, id: &str, params: Params) -> Result<(), ApiError> {
        self.place.join(id).put(params).await
    }
    /// Deletes one; the backups stay.
    ///
    /// # Errors
    /// The call fails.
    pub async fn delete(&self, id: &str) -> Result<(), ApiError> {
        self.place.join(id).delete(Params::new()).await
    }
}
