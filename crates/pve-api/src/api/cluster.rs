//! `/cluster`: what the cluster knows as a whole.

use super::{BackupJobs, Ha};
use crate::client::{Client, Place};
use crate::error::ApiError;
use crate::request::Params;
use pve_types::{NodeName, PoolId, StorageId, Vmid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `/cluster`.
#[derive(Debug, Clone)]
pub struct Cluster {
    place: Place,
}

/// Which resources to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceKind {
    /// VMs and containers.
    Guests,
    /// Storages, once for each node.
    Storages,
    /// Nodes.
    Nodes,
    /// SDN zones.
    Sdn,
}

impl ResourceKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Guests => "vm",
            Self::Storages => "storage",
            Self::Nodes => "node",
            Self::Sdn => "sdn",
        }
    }
}

/// A guest, storage, node, pool or SDN zone. Only what its kind has is there, and only what the caller may see.
///
/// The numbers come from a broadcast and may be ten seconds old.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Resource {
    /// `qemu/100`, `storage/pve1/local`, `node/pve1`, `/pool/lab` …
    #[serde(default)]
    pub id: String,
    /// `qemu`, `lxc`, `storage`, `node`, `pool`, `sdn` …
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The node it is on.
    pub node: Option<NodeName>,
    /// The guest's number.
    pub vmid: Option<Vmid>,
    /// The guest's name.
    pub name: Option<String>,
    /// `running`, `stopped`, `unknown`; `available`; `online`, `offline`.
    pub status: Option<String>,
    /// Whether the guest is a template.
    pub template: Option<bool>,
    /// The guest's tags, joined by `;`.
    pub tags: Option<String>,
    /// The pool the guest or storage is in, or the pool itself.
    pub pool: Option<PoolId>,
    /// The lock on the guest's configuration.
    pub lock: Option<String>,
    /// The guest's state in HA.
    pub hastate: Option<String>,
    /// The storage.
    pub storage: Option<StorageId>,
    /// The storage's type, such as `lvmthin`.
    pub plugintype: Option<String>,
    /// What the storage may hold, joined by commas.
    pub content: Option<String>,
    /// Whether the storage is the same on all nodes.
    pub shared: Option<bool>,
    /// The share of its CPUs that is in use, 0 to 1.
    pub cpu: Option<f64>,
    /// Its CPUs.
    pub maxcpu: Option<f64>,
    /// Memory in use, in bytes.
    pub mem: Option<u64>,
    /// Memory, in bytes.
    pub maxmem: Option<u64>,
    /// Disk space in use, in bytes.
    pub disk: Option<u64>,
    /// Disk space, in bytes.
    pub maxdisk: Option<u64>,
    /// How long it runs, in seconds.
    pub uptime: Option<u64>,
    /// The node's subscription level.
    pub level: Option<String>,
}

impl Resource {
    /// Tells whether this is a VM.
    pub fn is_vm(&self) -> bool {
        self.kind == "qemu"
    }
    /// Tells whether this is a VM or a container.
    pub fn is_guest(&self) -> bool {
        matches!(self.kind.as_str(), "qemu" | "lxc")
    }
}

/// One line of the cluster's status: the cluster itself, or one of its nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClusterMember {
    /// `cluster` or `node/pve1`.
    pub id: String,
    /// `cluster` or `node`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The cluster's or node's name.
    pub name: String,
    /// Whether the cluster has quorum.
    pub quorate: Option<bool>,
    /// How many nodes the cluster has.
    pub nodes: Option<u64>,
    /// The node's number.
    pub nodeid: Option<u64>,
    /// The node's address.
    pub ip: Option<String>,
    /// Whether the node is up.
    pub online: Option<bool>,
    /// Whether the node is the one that answers.
    pub local: Option<bool>,
}

/// A task in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskItem {
    /// Its identifier.
    pub upid: String,
    /// Its type, such as `qmstart`.
    #[serde(rename = "type")]
    pub task_type: Option<String>,
    /// What it works on.
    pub id: Option<String>,
    /// The node.
    pub node: Option<String>,
    /// Who started it.
    pub user: Option<String>,
    /// When it started, in seconds since 1970.
    pub starttime: Option<u64>,
    /// When it ended; `None` while it runs.
    pub endtime: Option<u64>,
    /// How it ended; `RUNNING` or nothing while it runs.
    pub status: Option<String>,
}

/// A line of the cluster's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogEntry {
    /// Its number.
    pub uid: Option<u64>,
    /// When, in seconds since 1970.
    pub time: Option<u64>,
    /// The node.
    pub node: Option<String>,
    /// Who caused it.
    pub user: Option<String>,
    /// The service that wrote it.
    pub tag: Option<String>,
    /// Its syslog priority.
    pub pri: Option<u64>,
    /// The text.
    pub msg: Option<String>,
}

impl Client {
    /// Returns `/cluster`.
    pub fn cluster(&self) -> Cluster {
        Cluster { place: Place::new(self, ["cluster"]) }
    }
}

impl Cluster {
    pub(super) fn place(&self) -> &Place {
        &self.place
    }
    /// Lists guests, storages, nodes, pools and zones, or one kind of them. What the caller may not see is left
    /// out without a word: a missing guest is not proof of its absence.
    ///
    /// # Errors
    /// The call fails.
    pub async fn resources(&self, kind: Option<ResourceKind>) -> Result<Vec<Resource>, ApiError> {
        let params = Params::new().with_some("type", kind.map(ResourceKind::as_str));
        self.place.join("resources").get(params).await
    }
    /// Lists the cluster and its nodes.
    ///
    /// # Errors
    /// The call fails.
    pub async fn status(&self) -> Result<Vec<ClusterMember>, ApiError> {
        self.place.join("status").get(Params::new()).await
    }
    /// Returns a free VMID. Another client may take it before it is used.
    ///
    /// # Errors
    /// The call fails, or none is free.
    pub async fn next_id(&self) -> Result<Vmid, ApiError> {
        self.place.join("nextid").get(Params::new()).await
    }
    /// Tells whether `vmid` is free, even if its guest is not visible to the credentials.
    ///
    /// # Errors
    /// The call fails.
    pub async fn is_free(&self, vmid: Vmid) -> Result<bool, ApiError> {
        let answer = self.place.join("nextid").get::<()>(Params::new().with("vmid", vmid)).await;
        match answer {
            Ok(()) => Ok(true),
            Err(error) if error.is_already_there() => Ok(false),
            Err(error) => Err(error),
        }
    }
    /// Lists recent tasks of all nodes: all with `Sys.Audit`, else the caller's own; a token sees none then.
    ///
    /// # Errors
    /// The call fails.
    pub async fn tasks(&self) -> Result<Vec<TaskItem>, ApiError> {
        self.place.join("tasks").get(Params::new()).await
    }
    /// Returns the newest `max` lines of the cluster's log.
    ///
    /// # Errors
    /// The call fails.
    pub async fn log(&self, max: u32) -> Result<Vec<LogEntry>, ApiError> {
        self.place.join("log").get(Params::new().with("max", max)).await
    }
    /// Returns the data center's options, as JSON values by name.
    ///
    /// # Errors
    /// The call fails.
    pub async fn options(&self) -> Result<BTreeMap<String, serde_json::Value>, ApiError> {
        self.place.join("options").get(Params::new()).await
    }
    /// Changes the data center's options.
    ///
    /// # Errors
    /// The call fails.
    pub async fn set_options(&self, params: Params) -> Result<(), ApiError> {
        self.place.join("options").put(params).await
    }
    /// Returns `/cluster/ha`.
    pub fn ha(&self) -> Ha {
        Ha::new(self.place.join("ha"))
    }
    /// Returns `/cluster/backup`.
    pub fn backup_jobs(&self) -> BackupJobs {
        BackupJobs::new(self.place.join("backup"))
    }
}
