//! `/access/roles`.

use crate::client::Place;
use crate::error::ApiError;
use crate::request::Params;
use pve_types::{Privilege, RoleId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A role: a set of privileges under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Role {
    /// Its name.
    pub roleid: RoleId,
    /// Its privileges, joined by commas.
    pub privs: Option<String>,
    /// Whether it comes with PVE and cannot be changed.
    #[serde(default)]
    pub special: bool,
}

impl Role {
    /// Returns the names of its privileges.
    pub fn privileges(&self) -> impl Iterator<Item = &str> {
        let privs = self.privs.as_deref().unwrap_or_default();
        privs.split([',', ' ']).filter(|name| !name.is_empty())
    }
}

/// `/access/roles`.
#[derive(Debug, Clone)]
pub struct Roles {
    place: Place,
}

fn names(privileges: &[Privilege]) -> String {
    privileges.iter().map(|privilege| privilege.as_str()).collect::<Vec<_>>().join(",")
}

impl Roles {
    pub(super) fn new(place: Place) -> Self {
        Self { place }
    }
    /// Lists the roles.
    ///
    /// # Errors
    /// The call fails.
    pub async fn list(&self) -> Result<Vec<Role>, ApiError> {
        self.place.get(Params::new()).await
    }
    /// Returns the names of one's privileges.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_absent`] if there is none.
    pub async fn get(&self, role: &RoleId) -> Result<Vec<String>, ApiError> {
        let privileges: BTreeMap<String, bool> = self.place.join(role).get(Params::new()).await?;
        Ok(privileges.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect())
    }
    /// Makes one. A privilege that the version does not know is refused.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_already_there`] if the name is taken.
    pub async fn create(&self, role: &RoleId, privileges: &[Privilege]) -> Result<(), ApiError> {
        let params = Params::new().with("roleid", role).with("privs", names(privileges));
        self.place.post(params).await
    }
    /// Replaces its privileges.
    ///
    /// # Errors
    /// The call fails.
    pub async fn update(&self, role: &RoleId, privileges: &[Privilege]) -> Result<(), ApiError> {
        self.place.join(role).put(Params::new().with("privs", names(privileges))).await
    }
    /// Adds to its privileges.
    ///
    /// # Errors
    /// The call fails.
    pub async fn add_privileges(&self, role: &RoleId, privileges: &[Privilege]) -> Result<(), ApiError> {
        let params = Params::new().with("privs", names(privileges)).with("append", true);
        self.place.join(role).put(params).await
    }
    /// Deletes one, with its ACL entries.
    ///
    /// # Errors
    /// The call fails.
    pub async fn delete(&self, role: &RoleId) -> Result<(), ApiError> {
        self.place.join(role).delete(Params::new()).await
    }
}
