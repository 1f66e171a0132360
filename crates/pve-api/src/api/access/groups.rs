//! `/access/groups`.

use crate::client::Place;
use crate::error::ApiError;
use crate::request::Params;
use pve_types::GroupId;
use serde::{Deserialize, Serialize};

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GroupItem {
    /// Its name.
    pub groupid: GroupId,
    /// A comment.
    pub comment: Option<String>,
    /// Its users, joined by commas.
    pub users: Option<String>,
}

/// A group with its members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Group {
    /// A comment.
    pub comment: Option<String>,
    /// Its users.
    #[serde(default)]
    pub members: Vec<String>,
}

/// `/access/groups`.
#[derive(Debug, Clone)]
pub struct Groups {
    place: Place,
}

impl Groups {
    pub(super) fn new(place: Place) -> Self {
        Self { place }
    }
    /// Lists the groups that the caller may see.
    ///
    /// # Errors
    /// The call fails.
    pub async fn list(&self) -> Result<Vec<GroupItem>, ApiError> {
        self.place.get(Params::new()).await
    }
    /// Returns one with its members.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_absent`] if there is none.
    pub async fn get(&self, group: &GroupId) -> Result<Group, ApiError> {
        self.place.join(group).get(Params::new()).await
    }
    /// Makes an empty one.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_already_there`] if the name is taken.
    pub async fn create(&self, group: &GroupId, comment: Option<&str>) -> Result<(), ApiError> {
        let params = Params::new().with("groupid", group).with_some("comment", comment);
        self.place.post(params).await
    }
    /// Changes its comment.
    ///
    /// # Errors
    /// The call fails.
    pub async fn update(&self, group: &GroupId, comment: &str) -> Result<(), ApiError> {
        self.place.join(group).put(Params::new().with("comment", comment)).await
    }
    /// Deletes one, with its ACL entries; its users stay.
    ///
    /// # Errors
    /// The call fails.
    pub async fn delete(&self, group: &GroupId) -> Result<(), ApiError> {
        self.place.join(group).delete(Params::new()).await
    }
}
