//! `/access/acl`: who has which role where.

use crate::auth::TokenId;
use crate::client::Place;
use crate::error::ApiError;
use crate::request::Params;
use pve_types::{GroupId, RoleId, UserId};
use serde::{Deserialize, Serialize};

/// Who is given a role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A user.
    User(UserId),
    /// A group.
    Group(GroupId),
    /// A token.
    Token(TokenId),
}

impl Subject {
    /// Returns the parameter's name and the value.
    fn param(&self) -> (&'static str, String) {
        match self {
            Self::User(user) => ("users", user.to_string()),
            Self::Group(group) => ("groups", group.to_string()),
            Self::Token(token) => ("tokens", token.to_string()),
        }
    }
}

/// A line of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AclEntry {
    /// Where.
    pub path: String,
    /// `user`, `group` or `token`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Who.
    pub ugid: String,
    /// Which role.
    pub roleid: RoleId,
    /// Whether it holds below the path too; it does when absent.
    pub propagate: Option<bool>,
}

/// What to grant or to take away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Where: `/`, `/vms/100`, `/storage/local` …
    pub path: String,
    /// Which roles.
    pub roles: Vec<RoleId>,
    /// The users, groups or tokens; at least one.
    pub subjects: Vec<Subject>,
    /// Whether it holds below the path too.
    pub propagate: bool,
}

impl Grant {
    fn params(&self) -> Params {
        let mut params = Params::new()
            .with("path", &self.path)
            .with_list("roles", &self.roles)
            .with("propagate", self.propagate);
        for kind in ["users", "groups", "tokens"] {
            let subjects = self.subjects.iter().map(Subject::param);
            params = params.with_list(kind, subjects.filter(|(key, _)| *key == kind).map(|(_, who)| who));
        }
        params
    }
}

/// `/access/acl`.
#[derive(Debug, Clone)]
pub struct Acl {
    place: Place,
}

impl Acl {
    pub(super) fn new(place: Place) -> Self {
        Self { place }
    }
    /// Lists the entries that the caller may see.
    ///
    /// # Errors
    /// The call fails.
    pub async fn list(&self) -> Result<Vec<AclEntry>, ApiError> {
        self.place.get(Params::new()).await
    }
    /// Adds entries; those that are there stay.
    ///
    /// # Errors
    /// The call fails.
    pub async fn grant(&self, grant: &Grant) -> Result<(), ApiError> {
        self.place.put(grant.params()).await
    }
    /// Removes entries.
    ///
    /// # Errors
    /// The call fails.
    pub async fn revoke(&self, grant: &Grant) -> Result<(), ApiError> {
        self.place.put(grant.params().with("delete", true)).await
    }
}
