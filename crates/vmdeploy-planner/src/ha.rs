//! High availability of one guest: what is desired of it, and what is seen.

use pve_types::{HaState, NodeName, Vmid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Returns the name of the group or rule by which high availability places a guest of the project.
pub fn ha_place(project: &str, vmid: Vmid) -> String {
    format!("vmdeploy-{project}-{vmid}")
}

/// The desired high-availability settings of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredHa {
    /// What it keeps the guest in; `Started` where the spec says nothing.
    pub state: HaState,
    /// How often a start is tried again on its node.
    pub max_restart: Option<u32>,
    /// How often it is tried on other nodes.
    pub max_relocate: Option<u32>,
    /// The nodes with their priorities: a group up to version 8, a node-affinity rule from 9 on.
    pub on_nodes: BTreeMap<NodeName, u32>,
    /// Whether it must not run on other nodes.
    pub strict: bool,
}
