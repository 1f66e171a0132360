//! What a world starts as: data, written in YAML.

use std::collections::{BTreeMap, BTreeSet};

use pve_types::{Bytes, PveVersion, Vmid};
use serde::Deserialize;

use super::Delays;
use crate::vfs::ImageFormat;

/// Why a world file is not one.
#[derive(Debug, thiserror::Error)]
#[error("the world is not readable")]
pub struct WorldSpecError(#[from] serde_yaml::Error);

/// A world before it starts. Every field has a default, so a file says only what matters.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorldSpec {
    /// The version of pve-manager, e.g. `9.2.11` or `8.4.14`.
    pub version: PveVersion,
    /// The cluster's name; without one the node stands alone.
    pub cluster: Option<String>,
    /// Whether the cluster has quorum.
    pub quorate: bool,
    /// The nodes by name; the first by name answers at the API's door unless `door` says otherwise.
    pub nodes: BTreeMap<String, NodeSpec>,
    /// The node whose API door is the lab's address.
    pub door: Option<String>,
    /// The storages by id.
    pub storages: BTreeMap<String, StorageSpec>,
    /// Files on the nodes.
    pub files: Vec<FileSpec>,
    /// What can be downloaded by `download-url`, by URL. The lab never opens a connection.
    pub urls: BTreeMap<String, ContentSpec>,
    /// Guests that are there from the start.
    pub guests: BTreeMap<Vmid, GuestSpec>,
    /// How guests behave when their image says nothing else.
    pub guest: GuestBehaviour,
    /// The password of root@pam; made up from the seed when absent.
    pub root_password: Option<String>,
    /// A token to begin with.
    pub token: Option<TokenSpec>,
    /// Users beside root@pam.
    pub users: BTreeMap<String, UserSpec>,
    /// Groups and their comments.
    pub groups: BTreeMap<String, Option<String>>,
    /// Roles beside the built-in ones, each a list of privileges.
    pub roles: BTreeMap<String, Vec<String>>,
    /// ACL entries.
    pub acl: Vec<AclSpec>,
    /// Pools with their members.
    pub pools: BTreeMap<String, PoolSpec>,
    /// datacenter.cfg.
    pub datacenter: BTreeMap<String, String>,
    /// SDN zones beside the one of plain bridges.
    pub zones: BTreeMap<String, ZoneSpec>,
    /// Mappings of devices and folders, by `pci`, `usb` or `dir`.
    pub mappings: BTreeMap<MappingKind, BTreeMap<String, MappingSpec>>,
    /// The cluster's own CPU models by name, each with the vendor that it has.
    pub cpu_models: BTreeMap<String, String>,
    /// How long things take.
    pub delays: Delays,
    /// After how many milliseconds pvestatd tells `/cluster/resources` of the guests again; 0: it always shows what is.
    pub resources_lag_ms: u64,
}

/// A node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSpec {
    /// Its CPUs.
    pub cpus: u32,
    /// Its memory.
    pub memory: Bytes,
    /// The size of its root file system.
    pub rootfs: Bytes,
    /// Its bridges.
    pub bridges: Vec<String>,
    /// Whether it is up; one that is down answers 595 through the others.
    pub up: bool,
    /// Its address, as others see it.
    pub address: Option<String>,
    /// Paths of PCI and USB devices are not modelled; this is what `hostname` says when it is not the node's name.
    pub uptime_seconds: u64,
}

impl Default for NodeSpec {
    fn default() -> Self {
        Self {
            cpus: 8,
            memory: Bytes::from_gib(32),
            rootfs: Bytes::from_gib(100),
            bridges: vec!["vmbr0".to_owned()],
            up: true,
            address: None,
            uptime_seconds: 86_400,
        }
    }
}

/// A storage: its type and content, how big it is, and what else storage.cfg says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageSpec {
    /// PVE's storage type: dir, nfs, cifs, btrfs, lvm, lvmthin, zfspool, rbd, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Content types.
    #[serde(default)]
    pub content: BTreeSet<String>,
    /// How much it holds.
    #[serde(default)]
    pub size: Option<Bytes>,
    /// Other options of storage.cfg: path, vgname, thinpool, pool, nodes, disable, shared, …
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Nodes on which it is defined but does not come up.
    #[serde(default)]
    pub offline_on: BTreeSet<String>,
}

/// A file on a node (on every node, when none is named).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// The node.
    #[serde(default)]
    pub node: Option<String>,
    /// Its absolute path.
    pub path: String,
    /// What it holds: the file's text, or a modelled image.
    #[serde(default)]
    pub content: ContentSpec,
}

/// A file's content: a text, or a modelled image.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ContentSpec {
    /// Plain text.
    pub text: Option<String>,
    /// A disk image's container (or `raw` for an ISO).
    pub format: Option<ImageFormat>,
    /// The size a guest sees.
    pub virtual_size: Option<Bytes>,
    /// The size of the file.
    pub file_size: Option<Bytes>,
    /// The image's content: equal seeds are equal files.
    pub seed: u64,
}

/// A guest that is there from the start.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct GuestSpec {
    /// Its node; the world's first when absent.
    pub node: Option<String>,
    /// `qemu` or `lxc`.
    pub kind: Option<String>,
    /// Whether it runs.
    pub running: bool,
    /// Its configuration. Volumes that it names are made, with the `size=` given.
    pub config: BTreeMap<String, String>,
    /// How its inside behaves, when not as `guest` says.
    pub guest: Option<GuestBehaviour>,
}

/// How the inside of a guest behaves.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestBehaviour {
    /// Milliseconds from start until its agent answers; `None` takes the world's delay, a negative number is never.
    pub agent_ms: Option<i64>,
    /// Whether it reacts to a shutdown request.
    pub shuts_down: bool,
    /// Whether it lets go of a NIC that is unplugged while it runs.
    pub unplugs: bool,
    /// The network of its DHCP server, as `192.0.2.0/24`.
    pub dhcp: String,
    /// Milliseconds from start until cloud-init says `done` (counted when the agent answers already).
    pub cloud_init_ms: u64,
    /// Whether cloud-init ends with an error.
    pub cloud_init_fails: bool,
    /// Milliseconds from the agent's first answer until the interfaces have their addresses.
    pub address_ms: u64,
    /// Interfaces that are noise: `docker0`, a second NIC without address, …
    pub noise: bool,
}

impl Default for GuestBehaviour {
    fn default() -> Self {
        Self {
            agent_ms: None,
            shuts_down: true,
            unplugs: true,
            dhcp: "192.0.2.0/24".to_owned(),
            cloud_init_ms: 0,
            cloud_init_fails: false,
            address_ms: 0,
            noise: true,
        }
    }
}

/// A token to begin with.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// Its full id, e.g. `root@pam!lab`.
    pub id: String,
    /// Its secret; made up from the seed when absent.
    #[serde(default)]
    pub secret: Option<String>,
    /// Whether its privileges are its own.
    #[serde(default)]
    pub privsep: bool,
}

/// A user to begin with.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct UserSpec {
    /// Its password.
    pub password: Option<String>,
    /// Its groups.
    pub groups: BTreeSet<String>,
    /// Its tokens: name to secret.
    pub tokens: BTreeMap<String, UserTokenSpec>,
    /// A TOTP secret in Base32, for a user with a second factor.
    pub totp: Option<String>,
    /// May log in.
    pub disabled: bool,
}

/// A user's token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserTokenSpec {
    /// Its secret.
    pub secret: String,
    /// Whether its privileges are its own.
    #[serde(default = "yes")]
    pub privsep: bool,
}

fn yes() -> bool {
    true
}

/// An ACL entry; `who` is a user, a token (with `!`) or a group (with a leading `@`).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AclSpec {
    /// The path.
    pub path: String,
    /// A user id, a token id, or `@group`.
    pub who: String,
    /// The role.
    pub role: String,
    /// Whether it holds below the path.
    #[serde(default = "yes")]
    pub propagate: bool,
}

/// An SDN zone with its VNets. What it does to packets is not modelled.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneSpec {
    /// Its type: simple, vlan, qinq, vxlan, evpn.
    #[serde(rename = "type")]
    pub kind: String,
    /// The nodes that have it; all where none is named.
    #[serde(default)]
    pub nodes: BTreeSet<String>,
    /// Its VNets, which guests are plugged into as into bridges.
    #[serde(default)]
    pub vnets: BTreeMap<String, VnetSpec>,
}

impl ZoneSpec {
    /// Tells whether the node has its VNets.
    pub fn is_on(&self, node: &str) -> bool {
        self.nodes.is_empty() || self.nodes.contains(node)
    }
}

/// A VNet.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct VnetSpec {
    /// Its VLAN, or its VXLAN.
    pub tag: Option<u32>,
    /// Whether guests may take VLANs inside it.
    pub vlanaware: bool,
}

/// What a mapping maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MappingKind {
    /// PCI devices.
    Pci,
    /// USB devices.
    Usb,
    /// Folders of a node, for virtiofs.
    Dir,
}

impl MappingKind {
    /// The file of its mappings, as [`super::World::sections`] calls it.
    pub fn file(self) -> &'static str {
        match self {
            Self::Pci => "mapping/pci",
            Self::Usb => "mapping/usb",
            Self::Dir => "mapping/dir",
        }
    }
}

/// A mapping: one property string for each node, such as `node=pve1,id=10de:2204,path=0000:01:00.0`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingSpec {
    /// The property strings.
    pub map: Vec<String>,
}

/// A pool to begin with.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct PoolSpec {
    /// Its comment.
    pub comment: Option<String>,
    /// Its guests.
    pub guests: BTreeSet<u32>,
    /// Its storages.
    pub storages: BTreeSet<String>,
}

impl Default for WorldSpec {
    /// One stand-alone node of PVE 9.2 with `local` and `local-lvm`, and nothing else.
    fn default() -> Self {
        Self {
            version: PveVersion::new(9, 2, 11),
            cluster: None,
            quorate: true,
            nodes: BTreeMap::from([("pve1".to_owned(), NodeSpec::default())]),
            door: None,
            storages: BTreeMap::from([
                ("local".to_owned(), dir_storage("/var/lib/vz", LOCAL_CONTENT, 100)),
                ("local-lvm".to_owned(), thin_storage(500)),
            ]),
            files: Vec::new(),
            urls: BTreeMap::new(),
            guests: BTreeMap::new(),
            guest: GuestBehaviour::default(),
            root_password: None,
            token: None,
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
            roles: BTreeMap::new(),
            acl: Vec::new(),
            pools: BTreeMap::new(),
            datacenter: BTreeMap::new(),
            zones: BTreeMap::new(),
            mappings: BTreeMap::new(),
            cpu_models: BTreeMap::new(),
            delays: Delays::none(),
            resources_lag_ms: 10_000,
        }
    }
}

const LOCAL_CONTENT: &str = "rootdir,images,backup,iso,import,vztmpl,snippets";

fn dir_storage(path: &str, content: &str, gib: u64) -> StorageSpec {
    StorageSpec {
        kind: "dir".to_owned(),
        content: content.split(',').map(str::to_owned).collect(),
        size: Some(Bytes::from_gib(gib)),
        options: BTreeMap::from([("path".to_owned(), path.to_owned())]),
        offline_on: BTreeSet::new(),
    }
}

fn thin_storage(gib: u64) -> StorageSpec {
    let options = [("vgname", "pve"), ("thinpool", "data")];
    StorageSpec {
        kind: "lvmthin".to_owned(),
        content: ["images", "rootdir"].map(str::to_owned).into(),
        size: Some(Bytes::from_gib(gib)),
        options: options.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        offline_on: BTreeSet::new(),
    }
}

fn image(path: &str, virtual_size: Bytes, file_size: u64, seed: u64) -> FileSpec {
    let content = ContentSpec {
        text: None,
        format: Some(ImageFormat::Qcow2),
        virtual_size: Some(virtual_size),
        file_size: Some(Bytes::new(file_size)),
        seed,
    };
    FileSpec { node: None, path: path.to_owned(), content }
}

impl WorldSpec {
    /// The world that tests and newcomers meet: node `pve1`, `vmbr0`, storages `local` and `local-lvm`, two images
    /// in `/var/lib/vz/import`, the token `root@pam!lab`, no guests. Boots are quick, nothing else takes time.
    pub fn demo() -> Self {
        let mut spec = Self {
            token: Some(TokenSpec { id: "root@pam!lab".to_owned(), secret: None, privsep: false }),
            files: vec![
                image("/var/lib/vz/import/debian-13.qcow2", Bytes::from_gib(3), 429_916_160, 13),
                image("/var/lib/vz/import/tiny.qcow2", Bytes::from_mib(160), 18_093_056, 1),
            ],
            ..Self::default()
        };
        let options = spec.storages.get_mut("local").map(|local| &mut local.options);
        options.into_iter().for_each(|options| {
            options.insert("prune-backups".to_owned(), "keep-all=1".to_owned());
        });
        spec
    }

    /// The world in which the recorded answers of a real PVE 9.2 were taken: no token, one small image.
    pub fn golden() -> Self {
        let node = NodeSpec { cpus: 2, memory: Bytes::from_gib(8), ..NodeSpec::default() };
        let mut spec = Self::demo();
        spec.token = None;
        spec.nodes = BTreeMap::from([("pve1".to_owned(), node)]);
        spec.storages.insert("fast".to_owned(), dir_storage("/var/lib/fast", "images,rootdir", 100));
        spec.storages.insert("local-lvm".to_owned(), thin_storage(64));
        spec.files.retain(|file| file.path.ends_with("tiny.qcow2"));
        spec.delays.agent_ms = 12_000;
        // The guests of the records have no system in them.
        spec.guest.unplugs = false;
        spec
    }

    /// Reads a world from YAML; unknown keys are refused.
    ///
    /// # Errors
    /// It is not YAML, or not a world.
    pub fn from_yaml(text: &str) -> Result<Self, WorldSpecError> {
        Ok(serde_yaml::from_str(text)?)
    }
}
