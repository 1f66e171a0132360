//! `/cluster/ha`: high availability.

use crate::client::Place;
use crate::error::ApiError;
use crate::request::Params;
use pve_types::NodeName;
use serde::{Deserialize, Serialize};

/// `/cluster/ha`.
#[derive(Debug, Clone)]
pub struct Ha {
    place: Place,
}

/// A guest that HA manages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HaResource {
    /// `vm:100` or `ct:100`.
    pub sid: String,
    /// `vm` or `ct`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// `started`, `stopped`, `disabled`, `ignored`.
    pub state: Option<String>,
    /// Its group. Up to 8.
    pub group: Option<String>,
    /// How often it is restarted on its node.
    pub max_restart: Option<u64>,
    /// How often it is moved after that.
    pub max_relocate: Option<u64>,
    /// Whether it goes back to the node it prefers. Since 9.
    pub failback: Option<bool>,
    /// A comment.
    pub comment: Option<String>,
    /// The SHA-1 of the whole file.
    pub digest: Option<String>,
}

/// How HA should manage a guest; what is `None` is not sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HaResourceSettings {
    /// `started`, `stopped`, `disabled`, `ignored`.
    pub state: Option<String>,
    /// Its group. Up to 8; 9 refuses it.
    pub group: Option<String>,
    /// How often it is restarted on its node.
    pub max_restart: Option<u64>,
    /// How often it is moved after that.
    pub max_relocate: Option<u64>,
    /// Whether it goes back to the node it prefers. Since 9.
    pub failback: Option<bool>,
    /// A comment.
    pub comment: Option<String>,
}

impl HaResourceSettings {
    fn params(&self) -> Params {
        Params::new()
            .with_some("state", self.state.as_deref())
            .with_some("group", self.group.as_deref())
            .with_some("max_restart", self.max_restart)
            .with_some("max_relocate", self.max_relocate)
            .with_some("failback", self.failback)
            .with_some("comment", self.comment.as_deref())
    }
}

/// A group of nodes. Up to 8.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HaGroup {
    /// Its name.
    pub group: String,
    /// `pve1:2,pve2`: nodes with their priorities.
    pub nodes: Option<String>,
    /// Whether guests may run on these nodes only.
    pub restricted: Option<bool>,
    /// Whether guests stay where they are.
    pub nofailback: Option<bool>,
    /// A comment.
    pub comment: Option<String>,
    /// The SHA-1 of the whole file.
    pub digest: Option<String>,
}

/// A rule. Since 9.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HaRule {
    /// Its name.
    pub rule: String,
    /// `node-affinity` or `resource-affinity`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// What it is about: `vm:100,vm:101`.
    pub resources: Option<String>,
    /// `pve1:2,pve2`, of a node affinity.
    pub nodes: Option<String>,
    /// Whether these nodes only, of a node affinity.
    pub strict: Option<bool>,
    /// `positive` or `negative`, of a resource affinity.
    pub affinity: Option<String>,
    /// Whether it is switched off.
    pub disable: Option<bool>,
    /// A comment.
    pub comment: Option<String>,
    /// The SHA-1 of the whole file.
    pub digest: Option<String>,
}

/// A line of HA's state: quorum, master, a node's manager, or a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HaState {
    /// Its identifier.
    pub id: String,
    /// `quorum`, `master`, `lrm`, `service`, `fencing`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The node.
    pub node: Option<String>,
    /// What it does, in words.
    pub status: Option<String>,
    /// A service's state.
    pub state: Option<String>,
    /// The guest.
    pub sid: Option<String>,
    /// Whether there is quorum.
    pub quorate: Option<bool>,
}

impl Ha {
    pub(super) fn new(place: Place) -> Self {
        Self { place }
    }
    /// Lists what HA manages.
    ///
    /// # Errors
    /// The call fails.
    pub async fn resources(&self) -> Result<Vec<HaResource>, ApiError> {
        self.place.join("resources").get(Params::new()).await
    }
    /// Returns one managed guest, such as `vm:100`.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_absent`] if HA does not manage it.
    pub async fn resource(&self, sid: &str) -> Result<HaResource, ApiError> {
        self.place.join("resources").join(sid).get(Params::new()).await
    }
    /// Hands a guest to HA.
    ///
    /// # Errors
    /// The call fails.
    pub async fn create_resource(&self, sid: &str, how: &HaResourceSettings) -> Result<(), ApiError> {
        let params = Params::new().with("sid", sid).and(how.params());
        self.place.join("resources").post(params).await
    }
    /// Changes how HA manages a guest; `delete` names settings to drop.
    ///
    /// # Errors
    /// The call fails.
    pub async fn update_resource(
        &self,
        sid: &str,
        how: &HaResourceSettings,
        delete: &[&str],
    ) -> Result<(), ApiError> {
        let params = how.params().with_list("delete", delete.iter().copied());
        self.place.join("resources").join(sid).put(params).await
    }
    /// Takes a guest from HA; the guest stays as it is.
    ///
    /// # Errors
    /// The call fails.
    pub async fn delete_resource(&self, sid: &str) -> Result<(), ApiError> {
        self.place.join("resources").join(sid).delete(Params::new()).await
    }
    /// Lists the groups. Up to 8: 9 answers an error, as it has rules.
    ///
    /// # Errors
    /// The call fails.
    pub async fn groups(&self) -> Result<Vec<HaGroup>, ApiError> {
        self.place.join("groups").get(Params::new()).await
    }
    /// Returns one group. Up to 8.
    ///
    /// # Errors
    /// The call fails.
    pub async fn group(&self, group: &str) -> Result<HaGroup, ApiError> {
        self.place.join("groups").join(group).get(Params::new()).await
    }
    /// Makes a group of nodes, with priorities after colons. Up to 8.
    ///
    /// # Errors
    /// The call fails.
    pub async fn create_group(&self, group: &str, nodes: &[&str], params: Params) -> Result<(), ApiError> {
        let own = Params::new().with("group", group).with_list("nodes", nodes.iter().copied());
        self.place.join("groups").post(own.and(params)).await
    }
    /// Changes a group. Up to 8.
    ///
    /// # Errors
    /// The call fails.
    pub async fn update_group(&self, group: &str, params: Params) -> Result<(), ApiError> {
        self.place.join("groups").join(group).put(params).await
    }
    /// Deletes a group. Up to 8.
    ///
    /// # Errors
    /// The call fails.
    pub async fn delete_group(&self, group: &str) -> Result<(), ApiError> {
        self.place.join("groups").join(group).delete(Params::new()).await
    }
    /// Lists the rules. Since 9.
    ///
    /// # Errors
    /// The call fails.
    pub async fn rules(&self) -> Result<Vec<HaRule>, ApiError> {
        self.place.join("rules").get(Params::new()).await
    }
    /// Returns one rule. Since 9.
    ///
    /// # Errors
    /// The call fails.
    pub async fn rule(&self, rule: &str) -> Result<HaRule, ApiError> {
        self.place.join("rules").join(rule).get(Params::new()).await
    }
    /// Binds guests to nodes, with priorities after colons; `strict` allows no others. Since 9.
    ///
    /// # Errors
    /// The call fails.
    pub async fn create_node_affinity(
        &self,
        rule: &str,
        sids: &[&str],
        nodes: &[&str],
        strict: bool,
    ) -> Result<(), ApiError> {
        let params = Params::new()
            .with("rule", rule)
            .with("type", "node-affinity")
            .with_list("resources", sids.iter().copied())
            .with_list("nodes", nodes.iter().copied())
            .with("strict", strict);
        self.place.join("rules").post(params).await
    }
    /// Keeps guests together, or apart. Since 9.
    ///
    /// # Errors
    /// The call fails.
    pub async fn create_resource_affinity(
        &self,
        rule: &str,
        sids: &[&str],
        affinity: Affinity,
    ) -> Result<(), ApiError> {
        let affinity = match affinity {
            Affinity::Together => "positive",
            Affinity::Apart => "negative",
        };
        let params = Params::new()
            .with("rule", rule)
            .with("type", "resource-affinity")
            .with_list("resources", sids.iter().copied())
            .with("affinity", affinity);
        self.place.join("rules").post(params).await
    }
    /// Changes a rule, whose type must be said again. Since 9.
    ///
    /// # Errors
    /// The call fails.
    pub async fn update_rule(&self, rule: &str, kind: &str, params: Params) -> Result<(), ApiError> {
        self.place.join("rules").join(rule).put(Params::new().with("type", kind).and(params)).await
    }
    /// Deletes a rule. Since 9.
    ///
    /// # Errors
    /// The call fails.
    pub async fn delete_rule(&self, rule: &str) -> Result<(), ApiError> {
        self.place.join("rules").join(rule).delete(Params::new()).await
    }
    /// Lists HA's state.
    ///
    /// # Errors
    /// The call fails.
    pub async fn status(&self) -> Result<Vec<HaState>, ApiError> {
        self.place.join("status").join("current").get(Params::new()).await
    }
    /// Asks HA to move a guest to a node while it runs.
    ///
    /// # Errors
    /// The call fails.
    pub async fn migrate(&self, sid: &str, node: &NodeName) -> Result<(), ApiError> {
        self.place.join("resources").join(sid).join("migrate").post(Params::new().with("node", node)).await
    }
}

/// Where guests of a rule run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// On one node.
    Together,
    /// On different nodes.
    Apart,
}
