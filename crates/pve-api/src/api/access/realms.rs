//! `/access/domains`: realms.

use crate::client::Place;
use crate::error::ApiError;
use crate::request::Params;
use crate::tasks::Task;
use pve_types::{RealmId, Upid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A realm in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RealmItem {
    /// Its name.
    pub realm: RealmId,
    /// `pam`, `pve`, `ldap`, `ad` or `openid`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// A comment.
    pub comment: Option<String>,
    /// Whether it is offered first at login.
    pub default: Option<bool>,
    /// The second factor that it requires of everybody: `oath` or `yubico`.
    pub tfa: Option<String>,
}

/// A realm's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Realm {
    /// The values by name; `type`, `comment`, `server1`, `base_dn` … as the type has them.
    pub values: BTreeMap<String, serde_json::Value>,
}

impl Realm {
    /// Returns a value that is a text.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).and_then(|value| value.as_str())
    }
}

/// What a sync covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncScope {
    /// Users.
    Users,
    /// Groups.
    Groups,
    /// Users and groups.
    Both,
}

/// How to sync a realm; what is `None` is as the realm's own defaults say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RealmSync {
    /// What it covers.
    pub scope: Option<SyncScope>,
    /// What to remove of those that are gone: `entry`, `acl`, `properties`, joined by `;`, or `none`.
    pub remove_vanished: Option<String>,
    /// Whether new users may log in.
    pub enable_new: Option<bool>,
    /// Whether only to tell what would be done.
    pub dry_run: bool,
}

/// `/access/domains`.
#[derive(Debug, Clone)]
pub struct Realms {
    place: Place,
}

impl Realms {
    pub(super) fn new(place: Place) -> Self {
        Self { place }
    }
    /// Lists the realms; PVE requires no privilege for this.
    ///
    /// # Errors
    /// The call fails.
    pub async fn list(&self) -> Result<Vec<RealmItem>, ApiError> {
        self.place.get(Params::new()).await
    }
    /// Returns one with its settings.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_absent`] if there is none.
    pub async fn get(&self, realm: &RealmId) -> Result<Realm, ApiError> {
        self.place.join(realm).get(Params::new()).await
    }
    /// Makes one of a type; the other parameters depend on it.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_already_there`] if the name is taken.
    pub async fn create(&self, realm: &RealmId, kind: &str, params: Params) -> Result<(), ApiError> {
        let own = Params::new().with("realm", realm).with("type", kind);
        self.place.post(own.and(params)).await
    }
    /// Changes one.
    ///
    /// # Errors
    /// The call fails.
    pub async fn update(&self, realm: &RealmId, params: Params) -> Result<(), ApiError> {
        self.place.join(realm).put(params).await
    }
    /// Deletes one; its users stay and cannot log in.
    ///
    /// # Errors
    /// The call fails.
    pub async fn delete(&self, realm: &RealmId) -> Result<(), ApiError> {
        self.place.join(realm).delete(Params::new()).await
    }
    /// Takes users and groups over from LDAP or AD.
    ///
    /// # Errors
    /// The call fails, also for a realm of another type.
    pub async fn sync(&self, realm: &RealmId, how: &RealmSync) -> Result<Task, ApiError> {
        let scope = how.scope.map(|scope| match scope {
            SyncScope::Users => "users",
            SyncScope::Groups => "groups",
            SyncScope::Both => "both",
        });
        let params = Params::new()
            .with_some("scope", scope)
            .with_some("remove-vanished", how.remove_vanished.as_deref())
            .with_some("enable-new", how.enable_new)
            .with_some("dry-run", how.dry_run.then_some(true));
        let upid: Upid = self.place.join(realm).join("sync").post(params).await?;
        crate::api::started(&self.place.client, upid)
    }
}
