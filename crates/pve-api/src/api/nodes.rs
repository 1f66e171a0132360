//! `/nodes`: what one node knows and does.

use super::{NodeStorage, Qemu, StorageState, TaskItem, Version};
use crate::client::{Client, Place};
use crate::error::ApiError;
use crate::request::Params;
use crate::tasks::Task;
use pve_types::{NodeName, StorageId, Upid, Vmid};
use serde::{Deserialize, Serialize};

/// A node in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeItem {
    /// Its name.
    pub node: NodeName,
    /// `online`, `offline` or `unknown`.
    pub status: Option<String>,
    /// The share of its CPUs that is in use, 0 to 1.
    pub cpu: Option<f64>,
    /// Its CPUs.
    pub maxcpu: Option<u64>,
    /// Memory in use, in bytes.
    pub mem: Option<u64>,
    /// Memory, in bytes.
    pub maxmem: Option<u64>,
    /// Space in use on its root file system, in bytes.
    pub disk: Option<u64>,
    /// Space on its root file system, in bytes.
    pub maxdisk: Option<u64>,
    /// How long it runs, in seconds.
    pub uptime: Option<u64>,
    /// Its subscription level.
    pub level: Option<String>,
    /// The SHA-256 of its certificate.
    pub ssl_fingerprint: Option<String>,
}

impl NodeItem {
    /// Tells whether the node is up.
    pub fn is_online(&self) -> bool {
        self.status.as_deref() == Some("online")
    }
}

/// What is used of something, in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// All of it.
    pub total: Option<u64>,
    /// What is in use.
    pub used: Option<u64>,
    /// What is not in use.
    pub free: Option<u64>,
    /// What could be used: of memory since 9, of file systems as `avail`.
    #[serde(alias = "avail")]
    pub available: Option<u64>,
}

/// A node's CPUs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CpuInfo {
    /// Threads.
    pub cpus: Option<u64>,
    /// Cores.
    pub cores: Option<u64>,
    /// Sockets.
    pub sockets: Option<u64>,
    /// The model's name.
    pub model: Option<String>,
    /// The clock in MHz.
    pub mhz: Option<f64>,
    /// What they can, as in `/proc/cpuinfo`.
    pub flags: Option<String>,
}

/// A node's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeStatus {
    /// How long it runs, in seconds.
    pub uptime: Option<u64>,
    /// The share of its CPUs that is in use, 0 to 1.
    pub cpu: Option<f64>,
    /// The load over 1, 5 and 15 minutes.
    #[serde(default)]
    pub loadavg: Vec<f64>,
    /// The kernel, as `uname` names it.
    pub kversion: Option<String>,
    /// `pve-manager/9.x/HASH`.
    pub pveversion: Option<String>,
    /// Its CPUs.
    pub cpuinfo: Option<CpuInfo>,
    /// Its memory.
    pub memory: Option<Usage>,
    /// Its swap space.
    pub swap: Option<Usage>,
    /// Its root file system.
    pub rootfs: Option<Usage>,
}

/// A network interface of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NetworkInterface {
    /// Its name.
    pub iface: String,
    /// `bridge`, `bond`, `eth`, `vlan`, `OVSBridge` …
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Whether it is up.
    pub active: Option<bool>,
    /// Whether it comes up at boot.
    pub autostart: Option<bool>,
    /// Its IPv4 address.
    pub address: Option<String>,
    /// Its IPv4 address with the prefix.
    pub cidr: Option<String>,
    /// Its IPv6 address with the prefix.
    pub cidr6: Option<String>,
    /// Its IPv4 gateway.
    pub gateway: Option<String>,
    /// `static`, `manual`, `dhcp`.
    pub method: Option<String>,
    /// The ports of a bridge, separated by spaces.
    pub bridge_ports: Option<String>,
    /// Whether a bridge takes VLAN tags.
    pub bridge_vlan_aware: Option<bool>,
    /// The maximum size of a packet.
    pub mtu: Option<u64>,
    /// What its owner wrote about it.
    pub comments: Option<String>,
}

/// Which interfaces to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterfaceKind {
    /// Every bridge that a guest may be plugged into, SDN's included.
    AnyBridge,
    /// Every bridge made on the node itself.
    AnyLocalBridge,
    /// Linux bridges.
    Bridge,
    /// Physical interfaces.
    Eth,
}

impl InterfaceKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::AnyBridge => "any_bridge",
            Self::AnyLocalBridge => "any_local_bridge",
            Self::Bridge => "bridge",
            Self::Eth => "eth",
        }
    }
}

/// A node's name servers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Dns {
    /// The search domain.
    pub search: Option<String>,
    /// The first name server.
    pub dns1: Option<String>,
    /// The second.
    pub dns2: Option<String>,
    /// The third.
    pub dns3: Option<String>,
}

/// A node's clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeTime {
    /// Seconds since 1970.
    pub time: u64,
    /// The same in the node's time zone, as if it were seconds since 1970.
    pub localtime: Option<u64>,
    /// The time zone.
    pub timezone: Option<String>,
}

/// A service of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Service {
    /// Its unit's name without the suffix.
    pub service: String,
    /// Its name in lists.
    pub name: Option<String>,
    /// What it does.
    pub desc: Option<String>,
    /// `running`, `dead` …
    pub state: Option<String>,
    /// systemd's active state.
    #[serde(rename = "active-state")]
    pub active_state: Option<String>,
    /// systemd's unit state.
    #[serde(rename = "unit-state")]
    pub unit_state: Option<String>,
}

/// A container in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ContainerItem {
    /// Its number.
    pub vmid: Vmid,
    /// Its name.
    pub name: Option<String>,
    /// `running` or `stopped`.
    pub status: Option<String>,
}

/// Which of a node's tasks to list. The default lists the newest fifty that have ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskFilter {
    /// Only those of this guest.
    pub vmid: Option<Vmid>,
    /// Only those of this type.
    pub task_type: Option<String>,
    /// Only those of users whose name contains this.
    pub user: Option<String>,
    /// Only those that failed.
    pub errors_only: bool,
    /// Only those that started at this second or later.
    pub since: Option<u64>,
    /// Only those that started at this second or earlier.
    pub until: Option<u64>,
    /// `archive` (ended), `active` (running, and just ended) or `all`.
    pub source: Option<TaskSource>,
    /// How many to skip.
    pub start: Option<u64>,
    /// How many to list at most.
    pub limit: Option<u64>,
}

/// Which list of tasks is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskSource {
    /// Those that have ended.
    Archive,
    /// Those that run, or ended a moment ago.
    Active,
    /// All.
    All,
}

impl TaskFilter {
    fn params(&self) -> Params {
        let source = self.source.map(|source| match source {
            TaskSource::Archive => "archive",
            TaskSource::Active => "active",
            TaskSource::All => "all",
        });
        Params::new()
            .with_some("vmid", self.vmid)
            .with_some("typefilter", self.task_type.as_deref())
            .with_some("userfilter", self.user.as_deref())
            .with_some("errors", self.errors_only.then_some(true))
            .with_some("since", self.since)
            .with_some("until", self.until)
            .with_some("source", source)
            .with_some("start", self.start)
            .with_some("limit", self.limit)
    }
}

/// One node.
#[derive(Debug, Clone)]
pub struct Node {
    pub(super) place: Place,
    pub(super) name: NodeName,
}

impl Client {
    /// Lists the nodes; without `Sys.Audit` only names and status are there.
    ///
    /// # Errors
    /// The call fails.
    pub async fn nodes(&self) -> Result<Vec<NodeItem>, ApiError> {
        Place::new(self, ["nodes"]).get(Params::new()).await
    }
    /// Returns the node of this name; nothing is asked yet.
    pub fn node(&self, name: &NodeName) -> Node {
        Node { place: Place::new(self, ["nodes", name.as_str()]), name: name.clone() }
    }
}

impl Node {
    /// Returns its name.
    pub fn name(&self) -> &NodeName {
        &self.name
    }
    /// Returns its state.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_unreachable`] if the node is down.
    pub async fn status(&self) -> Result<NodeStatus, ApiError> {
        self.place.join("status").get(Params::new()).await
    }
    /// Returns its version.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_unreachable`] if the node is down.
    pub async fn version(&self) -> Result<Version, ApiError> {
        self.place.join("version").get(Params::new()).await
    }
    /// Lists its network interfaces: all, or one kind. Without `Sys.Audit` a bridge is there only with `SDN.Use`.
    ///
    /// # Errors
    /// The call fails.
    pub async fn network(&self, kind: Option<InterfaceKind>) -> Result<Vec<NetworkInterface>, ApiError> {
        let params = Params::new().with_some("type", kind.map(InterfaceKind::as_str));
        self.place.join("network").get(params).await
    }
    /// Returns its name servers.
    ///
    /// # Errors
    /// The call fails.
    pub async fn dns(&self) -> Result<Dns, ApiError> {
        self.place.join("dns").get(Params::new()).await
    }
    /// Sets its name servers; the search domain is required.
    ///
    /// # Errors
    /// The call fails.
    pub async fn set_dns(&self, dns: &Dns) -> Result<(), ApiError> {
        let params = Params::new()
            .with_some("search", dns.search.as_deref())
            .with_some("dns1", dns.dns1.as_deref())
            .with_some("dns2", dns.dns2.as_deref())
            .with_some("dns3", dns.dns3.as_deref());
        self.place.join("dns").put(params).await
    }
    /// Returns its clock.
    ///
    /// # Errors
    /// The call fails.
    pub async fn time(&self) -> Result<NodeTime, ApiError> {
        self.place.join("time").get(Params::new()).await
    }
    /// Sets its time zone, such as `Europe/Vienna`.
    ///
    /// # Errors
    /// The call fails.
    pub async fn set_timezone(&self, timezone: &str) -> Result<(), ApiError> {
        self.place.join("time").put(Params::new().with("timezone", timezone)).await
    }
    /// Lists its services.
    ///
    /// # Errors
    /// The call fails.
    pub async fn services(&self) -> Result<Vec<Service>, ApiError> {
        self.place.join("services").get(Params::new()).await
    }
    /// Lists its containers.
    ///
    /// # Errors
    /// The call fails.
    pub async fn containers(&self) -> Result<Vec<ContainerItem>, ApiError> {
        self.place.join("lxc").get(Params::new()).await
    }
    /// Lists its tasks.
    ///
    /// # Errors
    /// The call fails.
    pub async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<TaskItem>, ApiError> {
        self.place.join("tasks").get(filter.params()).await
    }
    /// Lists its storages that the caller may see, or those that may hold `content`.
    ///
    /// # Errors
    /// The call fails.
    pub async fn storages(&self, content: Option<&str>) -> Result<Vec<StorageState>, ApiError> {
        self.place.join("storage").get(Params::new().with_some("content", content)).await
    }
    /// Lists its storages together with the image formats that each can hold.
    ///
    /// # Errors
    /// The call fails.
    pub async fn storages_with_formats(&self) -> Result<Vec<StorageState>, ApiError> {
        self.place.join("storage").get(Params::new().with("format", true)).await
    }
    /// Returns one of its storages; nothing is asked yet.
    pub fn storage(&self, storage: &StorageId) -> NodeStorage {
        NodeStorage::new(self.place.join("storage").join(storage), storage.clone())
    }
    /// Returns one of its VMs; nothing is asked yet.
    pub fn qemu(&self, vmid: Vmid) -> Qemu {
        Qemu::new(self.place.join("qemu").join(vmid.to_string()), vmid)
    }
    /// Backs up guests now; the parameters are those of `vzdump`. `None` when there was nothing to do here.
    ///
    /// # Errors
    /// The call fails.
    pub async fn back_up(&self, params: Params) -> Result<Option<Task>, ApiError> {
        let answer: super::MaybeUpid = self.place.join("vzdump").post(params).await?;
        Ok(answer.task(&self.place.client))
    }
    pub(super) async fn start_task(&self, at: &str, params: Params) -> Result<Task, ApiError> {
        let upid: Upid = self.place.join(at).post(params).await?;
        super::started(&self.place.client, upid)
    }
}
