//! What a spec says, typed and checked: the input of planning.
//!
//! Values that a later refusal may have to point at carry their [`Span`]. Whatever ends up as a plain PVE option
//! is lowered here already: [`Vm::options`] is keyed by PVE's own key and says which fields of it are wished for.

use super::diagnostic::{Diagnostic, Severity, SourceFile, Span};
use super::group::Rollout;
pub use super::spanned::Spanned;
use crate::plan::{SecretRef, TransportChoice};
use ipnet::IpNet;
use pve_config::DeviceSlot;
use pve_types::{
    BridgeName, Bytes, GuestName, HaState, MacAddr, NodeName, PoolId, StorageId, Vmid, VolumeId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// What the spec wants of something that PVE has or has not: an absent key is not managed, `null` removes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Desired<T> {
    /// The spec says nothing; whatever is there stays.
    #[default]
    Unmanaged,
    /// The spec has `null`: it must be absent.
    Remove(Span),
    /// It must have this value. Boxed, so that maps of desired values stay small.
    Set(Box<Spanned<T>>),
}

impl<T> Desired<T> {
    /// Returns the desired for this value.
    pub fn of(value: Spanned<T>) -> Self {
        Self::Set(Box::new(value))
    }
    /// Returns the value that is wished for, if there is one.
    pub fn set(&self) -> Option<&T> {
        match self {
            Self::Set(spanned) => Some(&spanned.value),
            Self::Unmanaged | Self::Remove(_) => None,
        }
    }
    /// Returns where the spec speaks of it, if it does.
    pub fn span(&self) -> Option<Span> {
        match self {
            Self::Set(spanned) => Some(spanned.span),
            Self::Remove(span) => Some(*span),
            Self::Unmanaged => None,
        }
    }
    /// Tells whether the spec says nothing about it.
    pub fn is_unmanaged(&self) -> bool {
        matches!(self, Self::Unmanaged)
    }
}

/// A whole deployment: every file of the spec, merged, typed and checked.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// The files that it was read from; [`Span::file`] indexes them.
    pub files: Vec<SourceFile>,
    /// The project, `[a-z0-9-]{1,32}`; part of every VM's ownership marker.
    pub project: Spanned<String>,
    /// `transport:`; `None` where the spec does not say (then hybrid).
    pub transport: Option<Spanned<TransportChoice>>,
    /// The clusters by name; empty when the environment alone says where to go (cluster `default`).
    pub clusters: BTreeMap<String, Cluster>,
    /// The images by name.
    pub images: BTreeMap<String, Image>,
    /// The VMs in the order in which the files name them.
    pub vms: Vec<Vm>,
    /// The groups by name.
    pub groups: BTreeMap<String, Group>,
    /// The address pools by name.
    pub address_pools: BTreeMap<String, super::pools::AddressPool>,
    /// The addresses that lock files pin, by cluster, VM name and NIC slot.
    pub address_pins: BTreeMap<(String, GuestName, String), std::net::Ipv4Addr>,
    /// The rollout of groups that do not say their own, and of VMs in no group, where the spec says it.
    pub rollout: Option<Rollout>,
    /// The numbers that lock files pin, by cluster and VM name.
    pub pins: BTreeMap<(String, GuestName), Pin>,
    /// SHA-256 of what the spec means (not of its layout or comments), in hexadecimal.
    pub digest: String,
}

impl Deployment {
    /// Returns the VM with this name; where clusters share a name, the first.
    pub fn vm(&self, name: &GuestName) -> Option<&Vm> {
        self.vms.iter().find(|vm| vm.name.value == *name)
    }
    /// Returns the VMs that a name stands for: a VM's own, or those of all members of a group. Empty for an unknown name.
    pub fn named(&self, name: &GuestName) -> Vec<&GuestName> {
        match self.groups.get(name.as_str()) {
            Some(group) => group.members.iter().collect(),
            None => self.vm(name).map(|vm| &vm.name.value).into_iter().collect(),
        }
    }
    /// Returns the number that a lock file pins for the VM.
    pub fn pin(&self, vm: &Vm) -> Option<&Pin> {
        self.pins.get(&(vm.cluster.clone(), vm.name.value.clone()))
    }
    /// Returns an error that points at `span`, with its line, ready to be shown.
    pub fn refusal(&self, span: Span, path: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        self.diagnostic(Severity::Error, span, path, message)
    }
    /// Returns a warning that points at `span`.
    pub fn warning(&self, span: Span, path: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        self.diagnostic(Severity::Warning, span, path, message)
    }
    fn diagnostic(
        &self,
        severity: Severity,
        span: Span,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Diagnostic {
        let file = self.files.get(usize::from(span.file)).map_or("", |file| file.name.as_str());
        let mut diagnostic = Diagnostic::new(severity, file, span, path, message);
        diagnostic.excerpt = super::excerpt::Lines::new(&self.files).excerpt(span, &[]);
        diagnostic
    }
    /// Returns the local files that planning or deploying reads, each with the place that names it.
    pub fn local_files(&self) -> Vec<LocalFile> {
        let images = self.images.values().filter_map(|image| match &image.source {
            ImageSource::File { path } => Some(LocalFile::new(path, LocalFileUse::Image)),
            ImageSource::Build(build) => {
                build.file.as_ref().map(|file| LocalFile::new(file, LocalFileUse::BuiltImage))
            }
            ImageSource::Path { .. } | ImageSource::Volume { .. } | ImageSource::Url { .. } => None,
        });
        let clouds = self.vms.iter().filter_map(|vm| vm.cloud_init.as_ref()).flat_map(CloudInit::local_files);
        images.chain(clouds).collect()
    }
}

/// A group of similar VMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name, which is not that of a VM.
    pub name: Spanned<String>,
    /// Its members, in their order; each is one of [`super::Deployment::vms`].
    pub members: Vec<GuestName>,
    /// Its rollout, where it says one; else that of the spec holds.
    pub rollout: Option<Rollout>,
}

/// A file on this machine that the spec names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// Its path, as the spec writes it.
    pub path: Spanned<String>,
    /// What it is for.
    pub used_as: LocalFileUse,
}

impl LocalFile {
    fn new(path: &Spanned<String>, used_as: LocalFileUse) -> Self {
        Self { path: path.clone(), used_as }
    }
}

/// What a local file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LocalFileUse {
    /// Public keys, one a line; read when planning.
    PublicKeys,
    /// Cloud-init data; hashed when planning, sent when deploying.
    Snippet,
    /// A disk image; hashed when planning, sent when deploying.
    Image,
    /// A disk image that `image build` makes; it may not be there yet.
    BuiltImage,
}

/// A number that a lock file pins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The VMID.
    pub vmid: Vmid,
    /// Where the lock file says it.
    pub span: Span,
}

/// A cluster and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its name in the spec.
    pub name: String,
    /// Where the spec names it.
    pub span: Span,
    /// Its API endpoints, tried in order.
    pub endpoints: Vec<Spanned<Endpoint>>,
    /// Who we are; the environment's credentials where it is not said.
    pub auth: Option<Auth>,
    /// How its certificate is verified; system trust where nothing is said.
    pub tls: Tls,
    /// How its nodes are reached by SSH.
    pub ssh: Ssh,
    /// How much is done at once.
    pub limits: SpecLimits,
    /// The node for VMs that name none.
    pub node: Option<Spanned<NodeName>>,
}

/// Host and port of an API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Host name or address, an IPv6 address without brackets.
    pub host: String,
    /// The port, 8006 where it is not said.
    pub port: u16,
}

/// Credentials by reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// `user@realm!token` or `user@realm`.
    pub id: Spanned<String>,
    /// The token's secret or the user's password.
    pub secret: Spanned<SecretRef>,
    /// The TOTP key of a user who needs one.
    pub totp: Option<Spanned<SecretRef>>,
}

/// How a certificate is verified. Never not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// The certificate's SHA-256, `AA:BB:…` upper-case; must match even where a CA is set too.
    pub fingerprint: Option<Spanned<String>>,
    /// A file with the CA's certificate.
    pub ca_file: Option<Spanned<String>>,
}

/// How nodes are reached by SSH.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ssh {
    /// The user; `root` where it is not said.
    pub user: Option<Spanned<String>>,
    /// Whether commands go through `sudo`.
    pub sudo: Option<Spanned<bool>>,
    /// The port; 22 where it is not said.
    pub port: Option<Spanned<u16>>,
    /// The private key's file.
    pub identity: Option<Spanned<String>>,
    /// Whether the agent is asked.
    pub agent: Option<Spanned<bool>>,
    /// The host to jump through, `[user@]host[:port]`.
    pub jump: Option<Spanned<String>>,
    /// The file with the known host keys.
    pub known_hosts: Option<Spanned<String>>,
    /// Where each node answers, if not at its own name.
    pub nodes: BTreeMap<NodeName, SshNode>,
}

/// Where a node answers by SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshNode {
    /// Host name or address.
    pub host: Spanned<String>,
    /// The port, if not the cluster's.
    pub port: Option<Spanned<u16>>,
}

/// `limits:`; what is not said takes the program's default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpecLimits {
    /// Steps at once on one node.
    pub per_node: Option<u32>,
    /// Copies at once to one storage.
    pub per_storage: Option<u32>,
    /// Clones at once of one source.
    pub per_source: Option<u32>,
    /// How much of a thin storage's size its disks may have together, in percent; no limit where it is not said.
    pub overcommit_percent: Option<u32>,
}

/// An image that disks are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name in the spec.
    pub name: String,
    /// Where the spec names it.
    pub span: Span,
    /// Where it comes from.
    pub source: ImageSource,
    /// `ALGORITHM:hex` in lower case.
    pub checksum: Option<Spanned<String>>,
    /// `qcow2`, `raw`, `vmdk`; guessed from the name where it is not said.
    pub format: Option<Spanned<String>>,
    /// The size of the disk in it, where the spec says it.
    pub size: Option<Spanned<Bytes>>,
    /// Where it is placed; a storage that takes `import` content is chosen where nothing is said.
    pub store: Option<ImageStore>,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// A file on the node, by absolute path.
    Path {
        /// The path.
        path: Spanned<String>,
    },
    /// A volume that PVE has: an `import` volume, or another VM's disk.
    Volume {
        /// The volume.
        volume: Spanned<VolumeId>,
    },
    /// A file on this machine, relative to the spec's folder.
    File {
        /// The path.
        path: Spanned<String>,
    },
    /// A download; its checksum is always said.
    Url {
        /// The address.
        url: Spanned<String>,
    },
    /// What a build in a VM gives; made by `image build`, then used like a file.
    Build(Box<ImageBuild>),
}

/// How an image is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageBuild {
    /// The VM that builds.
    pub vm: Spanned<GuestName>,
    /// The folder on this machine that is sent there.
    pub source: Option<Spanned<String>>,
    /// The command that is run there, by `sh -c`.
    pub command: Spanned<String>,
    /// The file, or glob with one match, that it makes there.
    pub output: Spanned<String>,
    /// The file that it becomes here, relative to the spec's folder; `images/NAME.FORMAT` where it is not said.
    pub file: Option<Spanned<String>>,
    /// Environment of the command.
    pub env: BTreeMap<String, String>,
    /// Secret environment of the command.
    pub secrets: BTreeMap<String, Spanned<SecretRef>>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Where an image is placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageStore {
    /// The storage.
    pub storage: Spanned<StorageId>,
    /// `import` (the default) or `iso`.
    pub content: String,
}

/// One VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// Its name, unique in its cluster.
    pub name: Spanned<GuestName>,
    /// The group that it is a member of; one of [`Deployment::groups`].
    pub group: Option<String>,
    /// The VMs and groups that must be ready before it is created, started, restarted or replaced.
    pub after: Vec<Spanned<GuestName>>,
    /// The cluster's name; `default` where the spec has none.
    pub cluster: String,
    /// The desired VMID.
    pub vmid: VmidWish,
    /// The UUID of an adopted guest; else it is derived from cluster, project and name. Lower-case with dashes.
    pub uuid: Option<Spanned<String>>,
    /// The name that it had: a guest with that name in its ownership marker is this VM, and is renamed.
    pub renamed_from: Option<Spanned<GuestName>>,
    /// The project and cluster key that it had, as [`Vm::renamed_from`].
    pub moved_from: Option<MovedFrom>,
    /// What it may share with another VM.
    pub allow_duplicate: BTreeSet<Duplicate>,
    /// The node it is made on.
    pub node: Option<Spanned<NodeName>>,
    /// The pool it is in.
    pub pool: Desired<PoolId>,
    /// High availability.
    pub ha: Desired<Ha>,
    /// The description, without the ownership marker.
    pub description: Desired<String>,
    /// The tags: lower-case, sorted, unique.
    pub tags: Desired<BTreeSet<String>>,
    /// Whether it is made a template.
    pub template: bool,
    /// The VM or template that it is cloned from.
    pub clone: Option<CloneFrom>,
    /// Every plain option by PVE's key (`cores`, `cpu`, `memory`, `agent`, `boot`, `hostpci0` …), `raw:` included;
    /// without disks, NICs, cloud-init, description, tags and the `uuid` of `smbios1`.
    pub options: BTreeMap<String, DesiredOption>,
    /// The disks and CD drives, EFI and TPM disk included; without the cloud-init drive.
    pub disks: BTreeMap<DeviceSlot, Desired<Disk>>,
    /// The NICs by index.
    pub nics: BTreeMap<DeviceSlot, Desired<Nic>>,
    /// Cloud-init.
    pub cloud_init: Option<CloudInit>,
    /// Desired power state, and what may be done to it.
    pub lifecycle: Lifecycle,
    /// What is waited for after a start.
    pub ready: Ready,
    /// How inventories show it.
    pub inventory: Inventory,
}

impl Vm {
    /// Returns the path of one of its keys, for messages: `vms.web01.disks.scsi0`, or `groups.web.web01.disks.scsi0`.
    pub fn path(&self, rest: &str) -> String {
        let place = match &self.group {
            Some(group) => format!("groups.{group}.{}", self.name.value),
            None => format!("vms.{}", self.name.value),
        };
        if rest.is_empty() { place } else { format!("{place}.{rest}") }
    }
    /// Tells whether `other` is a member of the same group that has the value at `span` from the same line.
    pub(crate) fn shares(&self, other: &Self, span: Span, other_span: Span) -> bool {
        self.group.is_some() && self.group == other.group && span == other_span
    }
}

impl Vm {
    /// Returns where the spec speaks of the first of these options of PVE that it has; the VM itself where of none.
    pub fn place_of(&self, keys: &[String]) -> (Span, String) {
        match keys.iter().find_map(|key| self.options.get(key)) {
            Some(desired) => (desired.span, self.path(&desired.path)),
            None => (self.name.span, self.path("")),
        }
    }
}

/// The identity that a VM had; what is not said is as it is now. At least one of the two is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedFrom {
    /// The project.
    pub project: Option<Spanned<String>>,
    /// The cluster's key in the spec.
    pub cluster: Option<Spanned<String>>,
}

/// Something that two VMs have in common by mistake, as a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Duplicate {
    /// The name of a VM of another project.
    Name,
    /// A static address on the same network.
    Address,
}

/// The desired VMID of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum VmidWish {
    /// Any that is free.
    #[default]
    Any,
    /// This one.
    Fixed(Spanned<Vmid>),
    /// One of these, both ends included; pinned by the lock file.
    Range(Spanned<(Vmid, Vmid)>),
}

/// One plain option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredOption {
    /// Where in the VM's spec it stands, e.g. `cpu` or `raw.args`.
    pub path: String,
    /// Where the spec says it.
    pub span: Span,
    /// The desired value.
    pub value: OptionValue,
}

/// The desired value of a plain option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionValue {
    /// It must not be set.
    Remove,
    /// It must be equivalent to this (compare with [`pve_config::same_value`]).
    Whole(String),
    /// These fields of its property string must have these values; others are kept (see [`pve_config::overlay`]).
    Fields(DesiredFields),
}

impl OptionValue {
    /// Returns what it says as PVE writes it, without what the spec leaves as it is; nothing where it removes `key`.
    pub fn text(&self, key: &str) -> Option<String> {
        match self {
            Self::Remove => None,
            Self::Whole(text) => Some(text.clone()),
            Self::Fields(fields) => {
                let set =
                    |(name, desired): (&String, &DesiredField)| Some((name.clone(), desired.value.clone()?));
                let value: pve_config::PropertyString = fields.iter().filter_map(set).collect();
                (!value.is_empty()).then(|| value.print(key))
            }
        }
    }
}

/// Fields of a property string by PVE's name (`file`, `discard`, `cputype` …), the default key by its name too.
pub type DesiredFields = BTreeMap<String, DesiredField>;

/// One field of a property string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredField {
    /// Where in the VM's spec it stands, e.g. `disks.scsi0.discard`.
    pub path: String,
    /// Where the spec says it.
    pub span: Span,
    /// The value as PVE writes it; `None` removes the field.
    pub value: Option<String>,
}

/// A disk, CD drive, EFI disk or TPM state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its slot.
    pub slot: DeviceSlot,
    /// Where the spec names it.
    pub span: Span,
    /// The storage; always said for a disk that is to be made, unless the VM is a clone or the volume is named.
    pub storage: Option<Spanned<StorageId>>,
    /// The minimum size; the disk is grown, never shrunk.
    pub size: Option<Spanned<Bytes>>,
    /// What is in it when it is made.
    pub content: DiskContent,
    /// `raw`, `qcow2`, `vmdk`; the storage's default where it is not said.
    pub format: Option<Spanned<String>>,
    /// Whether it survives the destruction of its VM.
    pub keep: Option<Keep>,
    /// `os`, `data` or another word that `lifecycle.keep_disks` can name.
    pub role: Option<Spanned<String>>,
    /// The drive's options by PVE's name (`cache`, `discard`, `efitype` …), without `file`, `size` and `format`.
    pub options: DesiredFields,
    /// Options that a new disk gets where `options` does not say them; never compared with one that exists.
    pub made_with: MadeWith,
}

impl Disk {
    /// Returns the options of a new disk: the desired ones, and the defaults of new disks.
    pub fn options_when_made(&self) -> DesiredFields {
        under(&self.options, self.made_with, self.span)
    }
}

impl Nic {
    /// Returns the fields of a new NIC: the desired ones, and the defaults of new NICs.
    pub fn options_when_made(&self) -> DesiredFields {
        under(&self.options, self.made_with, self.span)
    }
}

/// Fields with their values.
pub type MadeWith = &'static [(&'static str, &'static str)];

fn under(said: &DesiredFields, defaults: MadeWith, span: Span) -> DesiredFields {
    let implied = |(name, value): &(&str, &str)| {
        let desired = DesiredField { path: String::new(), span, value: Some((*value).to_owned()) };
        ((*name).to_owned(), desired)
    };
    let mut all: DesiredFields = defaults.iter().map(implied).collect();
    all.extend(said.iter().map(|(name, desired)| (name.clone(), desired.clone())));
    all
}

/// What is in a new disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskContent {
    /// Nothing (or, for a clone, what its source has there).
    Blank,
    /// A copy of this image of [`Deployment::images`].
    Image(Spanned<String>),
    /// A CD drive with this ISO image.
    Iso(Spanned<VolumeId>),
    /// A CD drive with nothing in it (`none`) or the node's own drive (`cdrom`).
    EmptyDrive(Spanned<EmptyDrive>),
    /// A volume that exists already is attached.
    Volume(Spanned<VolumeId>),
}

/// A CD drive without an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmptyDrive {
    /// Nothing is in it: `none`.
    None,
    /// The node's own drive: `cdrom`.
    Physical,
}

/// How a disk survives its VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// The VM that it is handed to; without one a destroy is refused.
    pub holder: Option<Spanned<Vmid>>,
    /// Where the spec says it.
    pub span: Span,
}

/// A NIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Its slot, `net0` to `net31`.
    pub slot: DeviceSlot,
    /// Where the spec names it.
    pub span: Span,
    /// Its bridge or VNet.
    pub bridge: Option<Spanned<BridgeName>>,
    /// Its address; PVE draws one where it is not said, and that one stays.
    pub mac: Option<Spanned<MacAddr>>,
    /// Its VLAN.
    pub vlan: Option<Spanned<u16>>,
    /// The fields of `netN` by PVE's name: `model`, `macaddr`, `bridge`, `tag`, `firewall` …
    pub options: DesiredFields,
    /// Fields that a new NIC gets where `options` does not say them (`model`); never compared with one that exists.
    pub made_with: MadeWith,
    /// The fields of `ipconfigN`: `ip`, `gw`, `ip6`, `gw6`; empty when the spec says no address.
    pub ipconfig: DesiredFields,
    /// The address pool that its IPv4 address is drawn from; planning sets `ipconfig` and `addresses` then.
    pub pool: Option<Spanned<String>>,
    /// The static addresses among them, with their prefix.
    pub addresses: Vec<Spanned<IpNet>>,
    /// Whether inventories take this NIC's address.
    pub primary: bool,
}

/// Cloud-init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudInit {
    /// Where the spec names it.
    pub span: Span,
    /// The drive's slot; where it is not said a drive that exists stays, and a new one gets a slot that the guest's
    /// kernel has a driver for.
    pub slot: Option<Spanned<DeviceSlot>>,
    /// The drive's storage; that of the boot disk where it is not said.
    pub storage: Option<Spanned<StorageId>>,
    /// The drive's format; the storage's default where it is not said.
    pub format: Option<Spanned<String>>,
    /// The plain options by PVE's key: `ciuser`, `citype`, `ciupgrade`, `nameserver`, `searchdomain`.
    pub options: BTreeMap<String, DesiredOption>,
    /// The password; set on create and with `--set-passwords`, never compared.
    pub password: Option<Password>,
    /// The public keys; `Remove` removes them.
    pub ssh_keys: Desired<Vec<Spanned<SshKey>>>,
    /// Data of one's own by part: `user`, `network`, `vendor`, `meta`.
    pub custom: BTreeMap<String, Desired<SnippetSource>>,
    /// How such data gets to the node.
    pub delivery: Delivery,
    /// Where snippets are written: a storage with content `snippets`.
    pub snippets: Option<Spanned<StorageId>>,
}

impl CloudInit {
    fn local_files(&self) -> Vec<LocalFile> {
        let keys = self.ssh_keys.set().into_iter().flatten().filter_map(|key| match &key.value {
            SshKey::File(path) => {
                Some(LocalFile::new(&Spanned::new(path.clone(), key.span), LocalFileUse::PublicKeys))
            }
            SshKey::Literal(_) | SshKey::Account(_) => None,
        });
        let custom = self.custom.values().filter_map(|desired| match desired {
            Desired::Set(source) => match &source.value {
                SnippetSource::File(path) => {
                    Some(LocalFile::new(&Spanned::new(path.clone(), source.span), LocalFileUse::Snippet))
                }
                SnippetSource::Volume(_) => None,
            },
            Desired::Unmanaged | Desired::Remove(_) => None,
        });
        keys.chain(custom).collect()
    }
}

/// A password by reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Password {
    /// Where it comes from.
    pub source: Spanned<SecretRef>,
    /// Whether the guest needs it in clear (Windows); API only.
    pub clear: bool,
}

/// Where public keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshKey {
    /// A file on this machine, read when planning.
    File(String),
    /// The key itself; it is public.
    Literal(String),
    /// An account, `github:NAME`, whose keys are fetched when deploying.
    Account(String),
}

/// Where a part of cloud-init's data comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnippetSource {
    /// A file on this machine, relative to the spec's folder.
    File(String),
    /// A volume that PVE has already.
    Volume(VolumeId),
}

/// How cloud-init data of one's own gets to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// By snippet where SSH is allowed, else it is refused.
    #[default]
    Auto,
    /// As a snippet, by SFTP.
    Snippet,
}

/// High availability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ha {
    /// What it keeps the guest in; `Started` where the spec says nothing.
    pub state: HaState,
    /// How often a start is tried again on its node.
    pub max_restart: Option<u32>,
    /// How often it is tried on other nodes.
    pub max_relocate: Option<u32>,
    /// The nodes with their priorities.
    pub on_nodes: BTreeMap<NodeName, u32>,
    /// Whether it must not run on other nodes.
    pub strict: bool,
}

/// What a VM is cloned from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneFrom {
    /// A VM of this spec, or a guest by number. `clone: linked` alone names the spec's template of the same image.
    pub from: Spanned<CloneSource>,
    /// Whether the spec names only the mode, so that the source is the template of the VM's own image.
    pub by_image: bool,
    /// Linked or full; full where nothing is said.
    pub mode: CloneMode,
    /// Where a full clone's disks go.
    pub storage: Option<Spanned<StorageId>>,
    /// The format of a full clone's disks.
    pub format: Option<Spanned<String>>,
    /// Where the spec says `clone:`.
    pub span: Span,
}

/// What is cloned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloneSource {
    /// Another VM of the spec, by name.
    Vm(GuestName),
    /// A guest that PVE has, by number.
    Vmid(Vmid),
}

/// How it is cloned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CloneMode {
    /// Disks are copied.
    #[default]
    Full,
    /// Disks share the template's blocks.
    Linked,
}

/// The desired power state of a VM, and what may be done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifecycle {
    /// The desired power state; `None` does not manage it, except that a new VM is started.
    pub state: Option<Spanned<PowerState>>,
    /// Whether a change that needs it may restart it.
    pub restart: Permission,
    /// What may destroy and recreate it.
    pub replace: Replacement,
    /// Roles of disks that survive its destruction.
    pub keep_disks: BTreeSet<String>,
    /// Paths whose differences are not looked at (`vga`, `disks.scsi1.cache`).
    pub ignore: Vec<Spanned<String>>,
    /// How long a shutdown is given.
    pub shutdown_timeout: Duration,
    /// Whether a guest that does not react to a shutdown is stopped.
    pub force_stop: bool,
    /// What follows a failure; by default revert for a create, keep for an update.
    pub on_failure: Option<crate::plan::OnFailure>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            state: None,
            restart: Permission::Never,
            replace: Replacement::Never,
            keep_disks: BTreeSet::new(),
            ignore: Vec::new(),
            shutdown_timeout: Duration::from_secs(180),
            force_stop: false,
            on_failure: None,
        }
    }
}

/// Whether a VM runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerState {
    /// It runs; the default for a VM that is made.
    Running,
    /// It does not run.
    Stopped,
    /// It is left as it is, also after it was made.
    Unmanaged,
}

/// What may destroy and recreate a VM, without a word on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replacement {
    /// Nothing; the default.
    #[default]
    Never,
    /// An image that it was made from has changed.
    OnImageChange,
    /// That, and every other change that cannot be made in place.
    IfNeeded,
}

/// Whether something costly may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Permission {
    /// No; the default.
    #[default]
    Never,
    /// Yes, when a change needs it.
    IfNeeded,
}

/// What is waited for after a start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ready {
    /// The agent answers, within this time.
    pub agent: Option<Duration>,
    /// An address is there.
    pub ip: Option<ReadyIp>,
    /// Cloud-init is done, within this time.
    pub cloud_init: Option<Duration>,
    /// Ports answer.
    pub tcp: Vec<ReadyTcp>,
    /// A command on this machine succeeds.
    pub command: Option<ReadyCommand>,
}

/// Waiting for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyIp {
    /// Of this NIC; of any where it is not said.
    pub nic: Option<Spanned<DeviceSlot>>,
    /// Of this family.
    pub family: crate::plan::IpFamily,
    /// Within this network.
    pub within: Option<Spanned<IpNet>>,
    /// How long.
    pub timeout: Duration,
}

/// Waiting for a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyTcp {
    /// The port.
    pub port: Spanned<u16>,
    /// How long.
    pub timeout: Duration,
}

/// Waiting for a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyCommand {
    /// Program and arguments.
    pub argv: Spanned<Vec<String>>,
    /// How long.
    pub timeout: Duration,
}

/// How inventories show a VM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    /// Its groups.
    pub groups: BTreeSet<String>,
    /// The user to log in with; cloud-init's where it is not said.
    pub user: Option<String>,
    /// Its address, which overrides address discovery.
    pub host: Option<IpAddr>,
    /// Its variables.
    pub vars: BTreeMap<String, serde_json::Value>,
}
