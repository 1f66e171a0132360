//! `/access/users`.

use crate::client::Place;
use crate::error::ApiError;
use crate::request::Params;
use pve_types::{GroupId, Secret, UserId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct User {
    /// `user@realm`.
    pub userid: Option<UserId>,
    /// Whether they may log in; on when absent.
    pub enable: Option<bool>,
    /// When the account ends, in seconds since 1970; 0 is never.
    pub expire: Option<u64>,
    /// Their first name.
    pub firstname: Option<String>,
    /// Their last name.
    pub lastname: Option<String>,
    /// Their mail address.
    pub email: Option<String>,
    /// A comment.
    pub comment: Option<String>,
    /// Their realm's type.
    #[serde(rename = "realm-type")]
    pub realm_type: Option<String>,
    /// Their groups: a list about one user, joined by commas in a full list.
    #[serde(default, deserialize_with = "names")]
    pub groups: Vec<String>,
    /// Their tokens: by name about one user, a list in a full list.
    #[serde(default, deserialize_with = "token_names")]
    pub tokens: Vec<String>,
    /// Until when all their second factors are locked, in seconds since 1970.
    #[serde(rename = "tfa-locked-until")]
    pub tfa_locked_until: Option<u64>,
    /// Whether their TOTP factors are locked.
    #[serde(rename = "totp-locked")]
    pub totp_locked: Option<bool>,
}

/// Takes `a,b` and `["a", "b"]`.
fn names<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => {
            text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
        }
        serde_json::Value::Array(items) => {
            items.iter().filter_map(|item| item.as_str()).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    })
}

/// Takes `{"ci": {…}}` and `[{"tokenid": "ci", …}]`.
fn token_names<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::Object(map) => map.into_iter().map(|(name, _)| name).collect(),
        serde_json::Value::Array(items) => {
            let name = |item: &serde_json::Value| Some(item.get("tokenid")?.as_str()?.to_owned());
            items.iter().filter_map(name).collect()
        }
        _ => Vec::new(),
    })
}

/// What to set of a user; what is `None` is not sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserSettings {
    /// Whether they may log in.
    pub enable: Option<bool>,
    /// When the account ends, in seconds since 1970; 0 is never.
    pub expire: Option<u64>,
    /// Their first name.
    pub firstname: Option<String>,
    /// Their last name.
    pub lastname: Option<String>,
    /// Their mail address.
    pub email: Option<String>,
    /// A comment.
    pub comment: Option<String>,
    /// Their groups.
    pub groups: Option<Vec<GroupId>>,
    /// Two-factor keys, as the oldest versions want them.
    pub keys: Option<String>,
}

impl UserSettings {
    fn params(&self) -> Params {
        let groups = self
            .groups
            .as_ref()
            .map(|groups| groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
        Params::new()
            .with_some("enable", self.enable)
            .with_some("expire", self.expire)
            .with_some("firstname", self.firstname.as_deref())
            .with_some("lastname", self.lastname.as_deref())
            .with_some("email", self.email.as_deref())
            .with_some("comment", self.comment.as_deref())
            .with_some("groups", groups)
            .with_some("keys", self.keys.as_deref())
    }
}

/// `/access/users`.
#[derive(Debug, Clone)]
pub struct Users {
    place: Place,
}

impl Users {
    pub(super) fn new(place: Place) -> Self {
        Self { place }
    }
    /// Lists the users that the caller may see.
    ///
    /// # Errors
    /// The call fails.
    pub async fn list(&self) -> Result<Vec<User>, ApiError> {
        self.place.get(Params::new()).await
    }
    /// Lists the users with their groups and tokens.
    ///
    /// # Errors
    /// The call fails.
    pub async fn list_full(&self) -> Result<Vec<User>, ApiError> {
        self.place.get(Params::new().with("full", true)).await
    }
    /// Returns one user.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_absent`] if there is none.
    pub async fn get(&self, user: &UserId) -> Result<User, ApiError> {
        let found: User = self.place.join(user).get(Params::new()).await?;
        // PVE leaves out what was asked for.
        Ok(User { userid: Some(user.clone()), ..found })
    }
    /// Makes a user; a password goes with the realm `pve` only.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_already_there`] if there is one of that name.
    pub async fn create(
        &self,
        user: &UserId,
        settings: &UserSettings,
        password: Option<&Secret>,
    ) -> Result<(), ApiError> {
        let mut params = Params::new().with("userid", user).and(settings.params());
        if let Some(password) = password {
            params = params.with_secret("password", password);
        }
        self.place.post(params).await
    }
    /// Changes a user. Groups replace those that the user has.
    ///
    /// # Errors
    /// The call fails.
    pub async fn update(&self, user: &UserId, settings: &UserSettings) -> Result<(), ApiError> {
        self.place.join(user).put(settings.params()).await
    }
    /// Changes a user and adds the groups to those that the user has.
    ///
    /// # Errors
    /// The call fails.
    pub async fn update_adding_groups(&self, user: &UserId, settings: &UserSettings) -> Result<(), ApiError> {
        self.place.join(user).put(settings.params().with("append", true)).await
    }
    /// Deletes a user, with tokens and ACL entries.
    ///
    /// # Errors
    /// The call fails.
    pub async fn delete(&self, user: &UserId) -> Result<(), ApiError> {
        self.place.join(user).delete(Params::new()).await
    }
    /// Unlocks a user's second factors. Since 8.
    ///
    /// # Errors
    /// The call fails.
    pub async fn unlock_tfa(&self, user: &UserId) -> Result<(), ApiError> {
        self.place.join(user).join("unlock-tfa").put(Params::new()).await
    }
    /// Returns which kinds of second factor a user has.
    ///
    /// # Errors
    /// The call fails.
    pub async fn tfa_types(&self, user: &UserId) -> Result<Vec<String>, ApiError> {
        let answer: BTreeMap<String, serde_json::Value> =
            self.place.join(user).join("tfa").get(Params::new().with("multiple", true)).await?;
        let types = answer.get("types").and_then(|types| types.as_array());
        let names = types.into_iter().flatten().filter_map(|kind| kind.as_str());
        Ok(names.map(str::to_owned).collect())
    }
}
