//! The typed calls, one file per part of PVE's tree.

pub mod access;
mod agent;
mod backup;
mod cluster;
mod ha;
mod mappings;
mod nodes;
mod pools;
mod qemu;
mod snapshots;
mod storage;
mod version;
mod volumes;

pub use agent::*;
pub use backup::*;
pub use cluster::*;
pub use ha::*;
pub use mappings::*;
pub use nodes::*;
pub use pools::*;
pub use qemu::*;
pub use snapshots::*;
pub use storage::*;
pub use version::*;
pub use volumes::*;

use crate::client::Client;
use crate::error::ApiError;
use crate::tasks::Task;
use pve_types::Upid;

/// What many calls answer: a task's UPID, or nothing where the work was done at once.
#[derive(Debug, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct MaybeUpid(Option<String>);

impl MaybeUpid {
    /// Returns the task, or `None` when there was nothing to wait for.
    pub fn task(self, client: &Client) -> Option<Task> {
        let upid: Upid = self.0?.parse().ok()?;
        Some(client.task(&upid))
    }
}

/// Returns the task of a call that always starts one.
pub(crate) fn started(client: &Client, upid: Upid) -> Result<Task, ApiError> {
    Ok(client.task(&upid))
}
