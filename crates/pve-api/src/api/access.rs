//! `/access`: users, tokens, groups, roles, realms, ACLs, passwords, second factors and permissions.

mod acl;
mod groups;
mod permissions;
mod realms;
mod roles;
mod tfa;
mod tokens;
mod users;

pub use acl::*;
pub use groups::*;
pub use permissions::*;
pub use realms::*;
pub use roles::*;
pub use tfa::*;
pub use tokens::*;
pub use users::*;

use crate::client::{Client, Place};
use crate::error::ApiError;
use crate::request::Params;
use pve_types::{Secret, UserId};

/// `/access`.
#[derive(Debug, Clone)]
pub struct Access {
    place: Place,
}

impl Client {
    /// Returns `/access`.
    pub fn access(&self) -> Access {
        Access { place: Place::new(self, ["access"]) }
    }
}

impl Access {
    /// Lists the names of what is below `/access`.
    ///
    /// # Errors
    /// The call fails.
    pub async fn index(&self) -> Result<Vec<String>, ApiError> {
        #[derive(serde::Deserialize)]
        struct Item {
            subdir: String,
        }
        let items: Vec<Item> = self.place.get(Params::new()).await?;
        Ok(items.into_iter().map(|item| item.subdir).collect())
    }
    /// Returns the users.
    pub fn users(&self) -> Users {
        Users::new(self.place.join("users"))
    }
    /// Returns the tokens of a user.
    pub fn tokens(&self, user: &UserId) -> Tokens {
        Tokens::new(self.place.join("users").join(user).join("token"), user.clone())
    }
    /// Returns the groups.
    pub fn groups(&self) -> Groups {
        Groups::new(self.place.join("groups"))
    }
    /// Returns the roles.
    pub fn roles(&self) -> Roles {
        Roles::new(self.place.join("roles"))
    }
    /// Returns the realms.
    pub fn realms(&self) -> Realms {
        Realms::new(self.place.join("domains"))
    }
    /// Returns the access control list.
    pub fn acl(&self) -> Acl {
        Acl::new(self.place.join("acl"))
    }
    /// Returns the second factors.
    pub fn tfa(&self) -> Tfa {
        Tfa::new(self.place.join("tfa"))
    }
    /// Sets a user's password. It needs a password login: PVE refuses tokens here. Who is not root@pam must give
    /// their own password since 8.
    ///
    /// # Errors
    /// The call fails.
    pub async fn set_password(
        &self,
        user: &UserId,
        password: &Secret,
        own_password: Option<&Secret>,
    ) -> Result<(), ApiError> {
        let mut params = Params::new().with("userid", user).with_secret("password", password);
        if let Some(own) = own_password {
            params = params.with_secret("confirmation-password", own);
        }
        self.place.join("password").put(params).await
    }
}
