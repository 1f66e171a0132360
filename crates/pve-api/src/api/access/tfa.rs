//! `/access/tfa`: second factors of users.

use crate::client::Place;
use crate::error::ApiError;
use crate::request::Params;
use pve_types::{Secret, UserId};
use serde::{Deserialize, Serialize};

/// A second factor of a user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TfaEntry {
    /// Its identifier.
    pub id: String,
    /// `totp`, `recovery`, `webauthn`, `u2f` or `yubico`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// What its owner wrote about it.
    pub description: Option<String>,
    /// When it was added, in seconds since 1970.
    pub created: Option<u64>,
    /// Whether it is taken; it is when absent.
    pub enable: Option<bool>,
}

/// The second factors of one user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UserTfa {
    /// The user.
    pub userid: UserId,
    /// Their factors.
    #[serde(default)]
    pub entries: Vec<TfaEntry>,
    /// Whether their TOTP factors are locked.
    #[serde(rename = "totp-locked")]
    pub totp_locked: Option<bool>,
    /// Until when all their factors are locked, in seconds since 1970.
    #[serde(rename = "tfa-locked-until")]
    pub tfa_locked_until: Option<u64>,
}

/// A second factor that was just added.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NewTfa {
    /// Its identifier.
    pub id: String,
    /// The recovery keys, which PVE does not tell again.
    pub recovery: Vec<Secret>,
}

/// `/access/tfa`.
///
/// Writing needs a password login: PVE refuses tokens here, and wants the caller's own password from everybody
/// but root@pam.
#[derive(Debug, Clone)]
pub struct Tfa {
    place: Place,
}

fn own(password: Option<&Secret>) -> Params {
    match password {
        Some(password) => Params::new().with_secret("password", password),
        None => Params::new(),
    }
}

impl Tfa {
    pub(super) fn new(place: Place) -> Self {
        Self { place }
    }
    /// Lists the factors of all users that the caller may see.
    ///
    /// # Errors
    /// The call fails.
    pub async fn list(&self) -> Result<Vec<UserTfa>, ApiError> {
        self.place.get(Params::new()).await
    }
    /// Lists the factors of a user.
    ///
    /// # Errors
    /// The call fails.
    pub async fn list_of(&self, user: &UserId) -> Result<Vec<TfaEntry>, ApiError> {
        self.place.join(user).get(Params::new()).await
    }
    /// Returns one factor of a user.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_absent`] if there is none.
    pub async fn get(&self, user: &UserId, id: &str) -> Result<TfaEntry, ApiError> {
        self.place.join(user).join(id).get(Params::new()).await
    }
    /// Adds an authenticator app: its `otpauth:` URI, and a code that it shows now.
    ///
    /// # Errors
    /// The call fails.
    pub async fn add_totp(
        &self,
        user: &UserId,
        description: &str,
        uri: &Secret,
        code: &Secret,
        own_password: Option<&Secret>,
    ) -> Result<NewTfa, ApiError> {
        let params = Params::new()
            .with("type", "totp")
            .with("description", description)
            .with_secret("totp", uri)
            .with_secret("value", code);
        self.add(user, params.and(own(own_password))).await
    }
    /// Makes recovery keys.
    ///
    /// # Errors
    /// The call fails.
    pub async fn add_recovery(
        &self,
        user: &UserId,
        own_password: Option<&Secret>,
    ) -> Result<NewTfa, ApiError> {
        self.add(user, Params::new().with("type", "recovery").and(own(own_password))).await
    }
    async fn add(&self, user: &UserId, params: Params) -> Result<NewTfa, ApiError> {
        #[derive(Deserialize)]
        struct Made {
            id: String,
            #[serde(default)]
            recovery: Vec<String>,
        }
        let made: Made = self.place.join(user).post(params).await?;
        Ok(NewTfa { id: made.id, recovery: made.recovery.into_iter().map(Secret::new).collect() })
    }
    /// Changes whether a factor is taken, and its description.
    ///
    /// # Errors
    /// The call fails.
    pub async fn update(
        &self,
        user: &UserId,
        id: &str,
        enable: Option<bool>,
        description: Option<&str>,
        own_password: Option<&Secret>,
    ) -> Result<(), ApiError> {
        let params = Params::new()
            .with_some("enable", enable)
            .with_some("description", description)
            .and(own(own_password));
        self.place.join(user).join(id).put(params).await
    }
    /// Removes a factor.
    ///
    /// # Errors
    /// The call fails.
    pub async fn delete(
        &self,
        user: &UserId,
        id: &str,
        own_password: Option<&Secret>,
    ) -> Result<(), ApiError> {
        self.place.join(user).join(id).delete(own(own_password)).await
    }
}
