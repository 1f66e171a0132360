//! `/access/permissions`: the privileges of a user or token by path.

use super::Access;
use crate::error::ApiError;
use crate::request::Params;
use pve_types::Privilege;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The privileges of a user or token, by path. `true` means that it holds below the path too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Permissions {
    /// Path, to the privilege's name, to whether it propagates.
    pub paths: BTreeMap<String, BTreeMap<String, bool>>,
}

impl Permissions {
    /// Tells whether `privilege` is among those that PVE answered for exactly this path.
    ///
    /// PVE returns a fixed set of paths (`/vms`, `/storage`, …) and those with an ACL; a caller that wants
    /// to know about one path asks for it with [`Access::permissions_on`].
    pub fn has(&self, path: &str, privilege: Privilege) -> bool {
        self.paths.get(path).is_some_and(|privileges| privileges.contains_key(privilege.as_str()))
    }
    /// Tells whether nothing at all is allowed, as for a token without an ACL.
    pub fn is_empty(&self) -> bool {
        self.paths.values().all(BTreeMap::is_empty)
    }
}

impl Access {
    /// Returns what the caller may do.
    ///
    /// # Errors
    /// The call fails.
    pub async fn permissions(&self) -> Result<Permissions, ApiError> {
        self.place.join("permissions").get(Params::new()).await
    }
    /// Returns what the caller may do on one path.
    ///
    /// # Errors
    /// The call fails.
    pub async fn permissions_on(&self, path: &str) -> Result<Permissions, ApiError> {
        self.place.join("permissions").get(Params::new().with("path", path)).await
    }
    /// Returns what a user or a token (`user@realm!name`) may do, on all paths or on one.
    ///
    /// # Errors
    /// The call fails; of others it needs `Sys.Audit` on `/access`.
    pub async fn permissions_of(&self, user: &str, path: Option<&str>) -> Result<Permissions, ApiError> {
        let params = Params::new().with("userid", user).with_some("path", path);
        self.place.join("permissions").get(params).await
    }
}
