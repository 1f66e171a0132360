//! `/pools`: guests and storages under one name.

use super::Resource;
use crate::client::{Client, Place};
use crate::error::ApiError;
use crate::request::Params;
use pve_types::{PoolId, StorageId, Vmid};
use serde::{Deserialize, Serialize};

/// A pool in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PoolItem {
    /// Its name.
    pub poolid: PoolId,
    /// A comment.
    pub comment: Option<String>,
}

/// A pool with its members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pool {
    /// Its name; versions before 8.1 leave it out.
    pub poolid: Option<PoolId>,
    /// A comment.
    pub comment: Option<String>,
    /// Its guests and storages that the caller may see.
    #[serde(default)]
    pub members: Vec<Resource>,
}

/// A change of a pool's members.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PoolMembers {
    /// Guests.
    pub guests: Vec<Vmid>,
    /// Storages.
    pub storages: Vec<StorageId>,
}

impl PoolMembers {
    fn params(&self) -> Params {
        Params::new().with_list("vms", &self.guests).with_list("storage", &self.storages)
    }
}

/// `/pools`.
///
/// Pools are named in the path, which every version understands; a nested pool (`a/b`, since 8.1) is named in a
/// parameter, as those versions want it.
#[derive(Debug, Clone)]
pub struct Pools {
    place: Place,
}

impl Client {
    /// Returns `/pools`.
    pub fn pools(&self) -> Pools {
        Pools { place: Place::new(self, ["pools"]) }
    }
}

impl Pools {
    /// Lists the pools that the caller may see.
    ///
    /// # Errors
    /// The call fails.
    pub async fn list(&self) -> Result<Vec<PoolItem>, ApiError> {
        self.place.get(Params::new()).await
    }
    /// Returns one with its members.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_absent`] if there is none.
    pub async fn get(&self, pool: &PoolId) -> Result<Pool, ApiError> {
        if !is_nested(pool) {
            return self.place.join(pool).get(Params::new()).await;
        }
        let mut found: Vec<Pool> = self.place.get(Params::new().with("poolid", pool)).await?;
        found.pop().ok_or_else(|| {
            let request = crate::Request::new(crate::Method::Get, self.place.path.clone());
            let response = crate::Response::empty(500, &format!("pool '{pool}' does not exist"));
            ApiError::Answered(Box::new(crate::Answer::of(crate::Call::of(&request), &response)))
        })
    }
    /// Makes an empty one.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_already_there`] if the name is taken.
    pub async fn create(&self, pool: &PoolId, comment: Option<&str>) -> Result<(), ApiError> {
        let params = Params::new().with("poolid", pool).with_some("comment", comment);
        self.place.post(params).await
    }
    /// Changes its comment.
    ///
    /// # Errors
    /// The call fails.
    pub async fn set_comment(&self, pool: &PoolId, comment: &str) -> Result<(), ApiError> {
        self.put(pool, Params::new().with("comment", comment)).await
    }
    /// Adds members. With `allow_move` guests are taken out of their pool; since 8.1.
    ///
    /// # Errors
    /// The call fails.
    pub async fn add(&self, pool: &PoolId, members: &PoolMembers, allow_move: bool) -> Result<(), ApiError> {
        let params = members.params().with_some("allow-move", allow_move.then_some(true));
        self.put(pool, params).await
    }
    /// Removes members; they stay where they are.
    ///
    /// # Errors
    /// The call fails.
    pub async fn remove(&self, pool: &PoolId, members: &PoolMembers) -> Result<(), ApiError> {
        self.put(pool, members.params().with("delete", true)).await
    }
    /// Deletes an empty one.
    ///
    /// # Errors
    /// The call fails, also if it has members.
    pub async fn delete(&self, pool: &PoolId) -> Result<(), ApiError> {
        match is_nested(pool) {
            true => self.place.delete(Params::new().with("poolid", pool)).await,
            false => self.place.join(pool).delete(Params::new()).await,
        }
    }
    async fn put(&self, pool: &PoolId, params: Params) -> Result<(), ApiError> {
        match is_nested(pool) {
            true => self.place.put(Params::new().with("poolid", pool).and(params)).await,
            false => self.place.join(pool).put(params).await,
        }
    }
}

fn is_nested(pool: &PoolId) -> bool {
    pool.as_str().contains('/')
}
