//! `/access/users/{userid}/token`.

use crate::auth::{Credentials, TokenId};
use crate::client::Place;
use crate::error::ApiError;
use crate::request::Params;
use pve_types::{Secret, TokenName, UserId};
use serde::{Deserialize, Serialize};

/// A token; its secret is told once, when it is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Token {
    /// Its own name.
    pub tokenid: Option<TokenName>,
    /// Whether it has only the rights that it was given itself, within its user's; true when absent.
    pub privsep: Option<bool>,
    /// When it ends, in seconds since 1970; 0 is never.
    pub expire: Option<u64>,
    /// A comment.
    pub comment: Option<String>,
}

impl Token {
    /// Tells whether it has only the rights that it was given itself.
    pub fn is_separated(&self) -> bool {
        self.privsep != Some(false)
    }
}

/// What to set of a token; what is `None` is not sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenSettings {
    /// Whether it has only the rights that it is given itself; PVE's default is yes.
    pub privsep: Option<bool>,
    /// When it ends, in seconds since 1970; 0 is never.
    pub expire: Option<u64>,
    /// A comment.
    pub comment: Option<String>,
}

impl TokenSettings {
    fn params(&self) -> Params {
        Params::new()
            .with_some("privsep", self.privsep)
            .with_some("expire", self.expire)
            .with_some("comment", self.comment.as_deref())
    }
}

/// A token that was just made, with its secret.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Its full ID.
    pub id: TokenId,
    /// Its secret, which PVE does not tell again.
    pub secret: Secret,
}

impl NewToken {
    /// Returns the credentials of a client that uses it.
    pub fn credentials(&self) -> Credentials {
        Credentials::Token { id: self.id.clone(), secret: self.secret.clone() }
    }
}

/// The tokens of a user.
#[derive(Debug, Clone)]
pub struct Tokens {
    place: Place,
    user: UserId,
}

impl Tokens {
    pub(super) fn new(place: Place, user: UserId) -> Self {
        Self { place, user }
    }
    /// Lists them. A token cannot list its own user's without `User.Modify`.
    ///
    /// # Errors
    /// The call fails.
    pub async fn list(&self) -> Result<Vec<Token>, ApiError> {
        self.place.get(Params::new()).await
    }
    /// Returns one.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_absent`] if there is none.
    pub async fn get(&self, name: &TokenName) -> Result<Token, ApiError> {
        let found: Token = self.place.join(name).get(Params::new()).await?;
        // PVE leaves out what was asked for.
        Ok(Token { tokenid: Some(name.clone()), ..found })
    }
    /// Makes one.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_already_there`] if there is one of that name.
    pub async fn create(&self, name: &TokenName, settings: &TokenSettings) -> Result<NewToken, ApiError> {
        #[derive(Deserialize)]
        struct Made {
            value: String,
        }
        let made: Made = self.place.join(name).post(settings.params()).await?;
        let id = TokenId { user: self.user.clone(), name: name.clone() };
        Ok(NewToken { id, secret: Secret::new(made.value) })
    }
    /// Changes one; its secret stays.
    ///
    /// # Errors
    /// The call fails.
    pub async fn update(&self, name: &TokenName, settings: &TokenSettings) -> Result<(), ApiError> {
        self.place.join(name).put(settings.params()).await
    }
    /// Deletes one, with its ACL entries.
    ///
    /// # Errors
    /// The call fails.
    pub async fn delete(&self, name: &TokenName) -> Result<(), ApiError> {
        self.place.join(name).delete(Params::new()).await
    }
}
