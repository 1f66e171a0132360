//! What was seen of the cluster, and what must be asked to see it.
//!
//! An observation is serializable, so that a plan can be made from a file and a bug report is a fixture.
//! Of guests that are not ours it keeps VMID, node, name, kind, status, what their disks are and [`GuestFacts`].

use pve_types::{
    BridgeName, Bytes, GuestKind, GuestName, MappingKind, NodeName, PoolId, PowerState, Privilege,
    PveVersion, StorageId, StorageKind, Vmid, VolumeId,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The version of the observation's serialized form.
pub const OBSERVED_FORMAT_VERSION: u32 = 1;

/// What must be known before a plan can be made. The executor asks in bulk where PVE allows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Query {
    /// PVE's version.
    Version,
    /// All guests, nodes, storages and pools: one `/cluster/resources`.
    Resources,
    /// The configurations of all guests that may be ours, and of these VMIDs in any case.
    ///
    /// [`crate::identity::may_be_ours`] tells which configurations may be kept; the others are dropped unread.
    Configs {
        /// The projects whose ownership markers are looked for: the spec's, and those that its VMs were moved from.
        projects: BTreeSet<String>,
        /// The UUIDs that the spec's VMs have or will have, lower-case with dashes.
        uuids: BTreeSet<String>,
        /// Guests whose configuration is needed even when they have no marker: clone sources, holders.
        also: BTreeSet<Vmid>,
    },
    /// What of these guests' configuration waits for a restart.
    Pending {
        /// The names of the VMs in the spec; asked for those found to be ours and running.
        vms: BTreeSet<GuestName>,
    },
    /// A node's bridges and storages.
    Node {
        /// The node.
        node: NodeName,
    },
    /// The bridges and storages of the nodes that these guests are on, and there the content that is named.
    GuestNodes {
        /// Guests by number: what is cloned, holders.
        vmids: BTreeSet<Vmid>,
        /// VMs of the spec by name, with the storages and content types whose volumes they name.
        vms: BTreeMap<GuestName, BTreeSet<(StorageId, String)>>,
    },
    /// The volumes of a content type on a node's storage.
    Content {
        /// The node.
        node: NodeName,
        /// The storage.
        storage: StorageId,
        /// `import`, `iso`, `snippets`.
        content: String,
    },
    /// A file on a node: whether it is there, its size, format and virtual size.
    File {
        /// The node.
        node: NodeName,
        /// Its path.
        path: String,
    },
    /// The CPU models that a node knows, custom ones among them.
    CpuModels {
        /// The node.
        node: NodeName,
    },
    /// What the credentials may do.
    Rights,
    /// High availability's resources, and its groups or rules.
    Ha,
    /// The resource mappings of a kind.
    Mappings {
        /// The kind.
        kind: MappingKind,
    },
}

/// Which cluster answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterIdentity {
    /// Where it was asked, as `host:port`: of the API, or of SSH where there is no API.
    pub address: String,
    /// The cluster's name in PVE, or that of the node which is in no cluster; `None` where it may not be asked.
    pub name: Option<String>,
    /// The SHA-256 of the API's certificate, where it was asked over TLS.
    pub certificate: Option<String>,
}

impl ClusterIdentity {
    /// Tells whether `now`, which is reached at any of `addresses`, is the cluster that this was: its name is not another,
    /// and it shows the same certificate or is reached at the same address.
    pub fn is(&self, now: &Self, addresses: &[String]) -> bool {
        let host =
            |address: &str| address.rsplit_once(':').map_or(address.to_owned(), |(host, _)| host.to_owned());
        let renamed = matches!((&self.name, &now.name), (Some(one), Some(other)) if one != other);
        let same_certificate = self.certificate.is_some() && self.certificate == now.certificate;
        // One by the API and the other by SSH: the ports say nothing.
        let other_transport = self.certificate.is_some() != now.certificate.is_some();
        let same_host = || addresses.iter().any(|address| host(address) == host(&self.address));
        !renamed
            && (same_certificate || addresses.contains(&self.address) || (other_transport && same_host()))
    }
}

impl std::fmt::Display for ClusterIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} ({})", self.address, pve_types::Escaped(name)),
            None => f.write_str(&self.address),
        }
    }
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// [`OBSERVED_FORMAT_VERSION`] of the program that wrote it.
    pub format_version: u32,
    /// PVE's version.
    pub version: PveVersion,
    /// The nodes.
    pub nodes: BTreeMap<NodeName, ObservedNode>,
    /// The storages, one entry per node that has it.
    pub storages: Vec<ObservedStorage>,
    /// All guests of the cluster, containers included.
    pub guests: BTreeMap<Vmid, ObservedGuest>,
    /// Whether `guests` is every guest whatever the credentials may see: their files were read on a node.
    #[serde(default)]
    pub every_guest: bool,
    /// Files and volumes that images may come from.
    pub images: Vec<ObservedImage>,
    /// The pools.
    pub pools: BTreeSet<PoolId>,
    /// Whether the guests' pools were read from the cluster's own file. The API hides the pool of a guest from those who
    /// lack Pool.Audit on it.
    #[serde(default)]
    pub pools_are_certain: bool,
    /// What the credentials may do; `None` where it could not be asked or need not be (root by SSH).
    pub rights: Option<Rights>,
    /// High availability, where it was asked.
    pub ha: Option<ObservedHa>,
    /// The zone of each SDN VNet; a bridge that is not here is a plain one, in the zone `localnetwork`.
    #[serde(default)]
    pub vnets: BTreeMap<BridgeName, String>,
    /// The content listings that were asked and answered, as `NODE/STORAGE/CONTENT`: a volume of one of them that is
    /// not among [`Observed::images`] is not there.
    #[serde(default)]
    pub listings: BTreeSet<String>,
    /// Whether the cluster has quorum; `None` where it could not be asked. A single node always has it.
    #[serde(default)]
    pub quorate: Option<bool>,
    /// The resource mappings by kind and name, each with the nodes that it has an entry for. A kind that is not here was
    /// not asked, or could not be.
    #[serde(default)]
    pub mappings: BTreeMap<MappingKind, BTreeMap<String, BTreeSet<NodeName>>>,
    /// Which cluster answered.
    #[serde(default)]
    pub answered_by: Option<ClusterIdentity>,
}

impl Observed {
    /// Returns the observation of a cluster of this version in which nothing was seen.
    pub fn nothing(version: PveVersion) -> Self {
        Self {
            format_version: OBSERVED_FORMAT_VERSION,
            version,
            nodes: BTreeMap::new(),
            storages: Vec::new(),
            guests: BTreeMap::new(),
            every_guest: false,
            images: Vec::new(),
            pools: BTreeSet::new(),
            pools_are_certain: false,
            rights: None,
            ha: None,
            vnets: BTreeMap::new(),
            listings: BTreeSet::new(),
            quorate: None,
            mappings: BTreeMap::new(),
            answered_by: None,
        }
    }
    /// Tells whether a guest that is in this pool would be seen to be.
    // PVE: pve-manager PVE/API2/Cluster.pm resources: `pool` is removed without Pool.Audit on it.
    pub fn shows_members_of(&self, pool: &PoolId) -> bool {
        self.pools_are_certain
            || self
                .rights
                .as_ref()
                .is_none_or(|rights| rights.holds(Privilege::PoolAudit, &format!("/pool/{pool}")))
    }
    /// Returns the storage as the node sees it.
    pub fn storage(&self, node: &NodeName, storage: &StorageId) -> Option<&ObservedStorage> {
        self.storages.iter().find(|seen| seen.node == *node && seen.storage == *storage)
    }
    /// Returns the content type under which a storage lists a volume.
    pub fn content_of(volume: &VolumeId) -> &str {
        let folder = volume.name().split_once('/').map(|(folder, _)| folder);
        folder.filter(|folder| matches!(*folder, "import" | "iso" | "snippets")).unwrap_or("images")
    }
    /// Tells whether a volume is there; `None` where its storage's content was not listed.
    pub fn has_volume(&self, node: &NodeName, volume: &VolumeId) -> Option<bool> {
        if let Some(seen) = self.image(node, volume.as_str()) {
            return Some(seen.present);
        }
        let content = Self::content_of(volume);
        let listing = format!("{node}/{}/{content}", volume.storage());
        self.listings.contains(&listing).then_some(false)
    }
    /// Tells whether a guest that is not among [`Observed::guests`] does not exist, rather than being hidden from these
    /// credentials.
    pub fn would_see(&self, vmid: Vmid) -> bool {
        let path = format!("/vms/{vmid}");
        self.every_guest || self.rights.as_ref().is_none_or(|rights| rights.holds(Privilege::VmAudit, &path))
    }
    /// Tells whether no guest is hidden from these credentials.
    pub fn sees_every_guest(&self) -> bool {
        self.every_guest || self.rights.as_ref().is_none_or(Rights::sees_every_guest)
    }
    /// Returns what was seen of a file or volume on the node.
    pub fn image(&self, node: &NodeName, location: &str) -> Option<&ObservedImage> {
        self.images.iter().find(|seen| seen.node == *node && seen.location == location)
    }
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedNode {
    /// Whether it answers.
    pub online: bool,
    /// Its bridges and VNets; `None` where they could not be asked.
    pub bridges: Option<BTreeSet<BridgeName>>,
    /// The number of its CPUs, where it is known.
    pub cpus: Option<u32>,
    /// Its memory, where it is known.
    pub memory: Option<Bytes>,
    /// The CPU models that it knows, custom ones as `custom-NAME`; `None` where it was not asked, or could not be.
    #[serde(default)]
    pub cpu_models: Option<BTreeSet<String>>,
}

/// A storage as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedStorage {
    /// The node.
    pub node: NodeName,
    /// The storage.
    pub storage: StorageId,
    /// Its plugin.
    pub kind: StorageKind,
    /// The content types that it may hold.
    pub content: BTreeSet<String>,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Whether it is active; `None` where it is not known.
    pub active: Option<bool>,
    /// Whether all nodes see the same.
    pub shared: bool,
    /// Its size, where it is known.
    pub total: Option<Bytes>,
    /// What is free, where it is known.
    pub available: Option<Bytes>,
    /// The format new disks get where none is said.
    pub default_format: Option<String>,
    /// The formats that it can hold; empty where they are not known.
    pub formats: BTreeSet<String>,
    /// Whether a `zfspool` makes sparse volumes; `None` where it is not known, or the storage is of another kind.
    #[serde(default)]
    pub sparse: Option<bool>,
}

impl ObservedStorage {
    /// Tells whether the storage sets nothing aside for what is not written, so that the sizes of its disks may be more
    /// than it has together.
    ///
    /// PVE makes ZFS volumes with a reservation unless the storage is `sparse`; a storage of files holds sparse ones.
    // PVE: pve-storage src/PVE/Storage/ZFSPoolPlugin.pm zfs_create_zvol, src/PVE/Storage/Plugin.pm alloc_image.
    pub fn is_thin(&self) -> bool {
        use StorageKind as K;
        match &self.kind {
            K::LvmThin | K::Rbd | K::Btrfs | K::Dir | K::Nfs | K::Cifs | K::CephFs | K::GlusterFs => true,
            K::ZfsPool | K::ZfsOverIscsi => self.sparse == Some(true),
            K::Lvm | K::Iscsi | K::IscsiDirect | K::Other(_) => false,
        }
    }
}

/// A guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedGuest {
    /// Its number.
    pub vmid: Vmid,
    /// Its node.
    pub node: NodeName,
    /// Its name, as PVE shows it; not validated, hostile until printed through an escape.
    pub name: Option<String>,
    /// Whether it is a VM or a container.
    pub kind: GuestKind,
    /// Whether it runs, as its node said. Lists of the cluster lag behind and are never the source.
    pub status: PowerState,
    /// Whether it is a template.
    pub template: bool,
    /// The pool it is in.
    pub pool: Option<PoolId>,
    /// What its configuration names as disks; `None` where the configuration could not be read.
    pub volumes: Option<GuestVolumes>,
    /// What is kept of every guest's configuration, of any owner; empty where the configuration could not be read.
    #[serde(default)]
    pub facts: GuestFacts,
    /// Its whole configuration; only for guests that have the ownership marker or were asked for by VMID.
    pub config: Option<ObservedConfig>,
}

/// What a guest's configuration names as disks: in its slots, as `unusedN`, as what waits for a restart, and in
/// snapshots. Kept of every guest, ours or not: [`crate::volumes`] tells from it whose a volume is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestVolumes {
    /// Those named as volumes, CD images and the cloud-init drive included.
    pub ids: BTreeSet<VolumeId>,
    /// Those named by a path on the node.
    #[serde(default)]
    pub paths: BTreeSet<String>,
    /// Which of `ids` a snapshot names. By the API it is known of our own guests only.
    #[serde(default)]
    pub in_snapshots: BTreeSet<VolumeId>,
}

impl FromIterator<VolumeId> for GuestVolumes {
    fn from_iter<I: IntoIterator<Item = VolumeId>>(volumes: I) -> Self {
        Self { ids: volumes.into_iter().collect(), ..Self::default() }
    }
}

/// What is kept of every guest's configuration, of any owner: what tells its owner, and the addresses that no other
/// guest may have. Made by [`crate::identity::facts_of`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestFacts {
    /// The lines of its description that are ownership markers, readable or not; hostile until printed through an escape.
    pub markers: Vec<String>,
    /// Its SMBIOS UUID, lower-case with dashes; one that waits for a restart before the current one.
    pub uuid: Option<String>,
    /// The static addresses that its configuration gives to its NICs.
    pub addresses: Vec<StaticAddress>,
}

/// A static address of a guest's NIC, and the network that it is in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticAddress {
    /// The NIC's slot: `net0`.
    pub nic: String,
    /// Its bridge or VNet; `None` where the NIC has none, or it could not be read.
    pub bridge: Option<String>,
    /// Its VLAN tag.
    pub vlan: Option<u16>,
    /// The address.
    pub address: std::net::IpAddr,
}

/// A guest's configuration, as its file or the API gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedConfig {
    /// Its keys and values; `cipassword` is `**********` or absent, never a value. The description is decoded.
    pub values: BTreeMap<String, String>,
    /// What waits for a restart: the new value, or `None` for a key that will be removed.
    pub pending: BTreeMap<String, Option<String>>,
    /// The digest of the file.
    pub digest: Option<String>,
    /// What holds it locked, e.g. `backup`.
    pub lock: Option<String>,
    /// Whether it has snapshots.
    pub snapshots: bool,
    /// The cloud-init keys that were changed since the cloud-init drive was written
    /// (the file's section `[special:cloudinit]`, or `GET …/cloudinit`); empty where it was not asked.
    #[serde(default)]
    pub cloud_init_stale: BTreeSet<String>,
}

impl ObservedConfig {
    /// Returns the keys and values as they are after the next restart.
    pub fn after_restart(&self) -> BTreeMap<String, String> {
        pve_config::after_restart(self.values.clone(), &self.pending)
    }
}

/// A file or volume that a disk can be made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedImage {
    /// The node on which it was looked for.
    pub node: NodeName,
    /// Its path on the node, or its volume ID.
    pub location: String,
    /// Whether it is there.
    pub present: bool,
    /// The size of the file.
    pub size: Option<Bytes>,
    /// The size of the disk in it.
    pub virtual_size: Option<Bytes>,
    /// `qcow2`, `raw`, `vmdk`.
    pub format: Option<String>,
}

/// What the credentials may do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rights {
    /// Who was asked about: `user@realm` or `user@realm!token`.
    pub user: String,
    /// Whether it is root@pam with a password, which has every privilege.
    pub is_root: bool,
    /// Privileges per ACL path, as `/access/permissions` gives them; the value tells whether it propagates.
    pub paths: BTreeMap<String, BTreeMap<Privilege, bool>>,
}

/// High availability.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedHa {
    /// The managed guests with their desired.
    pub resources: BTreeMap<Vmid, crate::ha::DesiredHa>,
    /// The groups (up to PVE 8) and node-affinity rules (from 9 on) that place guests.
    #[serde(default)]
    pub places: BTreeMap<Vmid, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(address: &str, name: &str, certificate: &str) -> ClusterIdentity {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        ClusterIdentity { address: address.to_owned(), name: some(name), certificate: some(certificate) }
    }

    #[track_caller]
    fn check(before: (&str, &str, &str), now: (&str, &str, &str), others: &[&str], expect: bool) {
        let [before, now] =
            [before, now].map(|(address, name, certificate)| identity(address, name, certificate));
        let mut addresses = vec![now.address.clone()];
        addresses.extend(others.iter().map(|other| (*other).to_owned()));
        assert_eq!(before.is(&now, &addresses), expect, "{before:?} {now:?} {others:?}");
    }

    #[test]
    fn a_cluster_is_known_by_its_name_and_by_certificate_or_address() {
        let before = ("pve1:8006", "prod", "AA");
        check(before, before, &[], true);
        check(before, ("pve1:8006", "prod", "BB"), &[], true);
        check(before, ("10.0.0.1:8006", "prod", "AA"), &[], true);
        check(before, ("pve2:8006", "prod", "BB"), &["pve1:8006"], true);
        check(before, ("pve1:22", "prod", ""), &[], true);
        check(before, ("pve2:8006", "prod", "BB"), &[], false);
        check(before, ("pve1:9006", "prod", "BB"), &[], false);
        check(before, ("pve1:8006", "test", "AA"), &[], false);
        check(("pve1:22", "", ""), ("pve1:2222", "", ""), &[], false);
    }
}
