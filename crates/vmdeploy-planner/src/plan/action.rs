//! What a step can do: a closed set, run by one `match`.

use crate::ha::DesiredHa;
use ipnet::IpNet;
use pve_config::{DeviceSlot, NewVolume};
use pve_types::{Bytes, GuestName, MacAddr, NodeName, PoolId, StorageId, Vmid, VolumeId};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// A key of a guest's configuration as PVE writes it: `scsi0`, `net1`, `memory`. Where only a slot can stand, it is a
/// [`DeviceSlot`].
pub type Slot = String;

/// A guest that a step works on. The node is where it was observed; it is resolved again when the step runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestRef {
    /// Its name in the spec.
    pub name: GuestName,
    /// Its number.
    pub vmid: Vmid,
    /// Its node when the plan was made.
    pub node: NodeName,
    /// The UUID that makes it ours, as `smbios1` holds it; lower-case with dashes.
    pub uuid: String,
}

/// A value that is known, or will be the outcome of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ref<T> {
    /// It is known.
    Known(T),
    /// It is what that step gives.
    OutputOf(super::StepId),
}

/// Where a secret comes from. The secret itself is never in a plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file's content, without its last newline; relative to the spec's folder.
    File(String),
    /// What a command prints, without its last newline. Runs only with `--allow-commands`.
    Command(Vec<String>),
}

/// In which form a secret is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretForm {
    /// As a `$6$` hash (SHA-512 crypt).
    Sha512Crypt,
    /// As it is; Windows guests need that, and only the API may carry it.
    Clear,
}

/// One value of a configuration to be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PatchValue {
    /// The text, exactly as PVE takes it.
    Text(String),
    /// A drive with a new, empty volume, which PVE makes.
    NewVolume(NewVolume),
    /// A drive whose volume an earlier step made: the volume, then these options (`discard=on,ssd=1`), maybe none.
    Drive {
        /// The volume.
        volume: Ref<VolumeId>,
        /// The options that follow it, comma separated, without a leading comma.
        options: String,
    },
    /// Fields of what the key holds when the step is dispatched; its other fields stay. For drives that a clone
    /// brings along: only the cluster knows their volumes.
    Options {
        /// The fields' values by name; `None` removes one.
        fields: BTreeMap<String, Option<String>>,
    },
    /// The description as it is then, with the volumes that these slots hold written into its ownership marker: the
    /// disks that survive the guest, which are known once they are made.
    KeptVolumes {
        /// The slots.
        slots: BTreeSet<Slot>,
    },
    /// A new drive made from an image in the same call: `STORAGE:0,import-from=SOURCE`, then these options.
    ImportFrom {
        /// The storage that the new volume goes to.
        storage: StorageId,
        /// The image.
        source: DiskSource,
        /// The options that follow, comma separated, without a leading comma.
        options: String,
    },
    /// A secret, resolved when the step is dispatched.
    Secret {
        /// Where it comes from.
        source: SecretRef,
        /// How it is sent.
        form: SecretForm,
    },
    /// `sshkeys`: public keys, percent-encoded by the sender.
    PublicKeys {
        /// The keys that were read when planning.
        keys: Vec<String>,
        /// Accounts (`github:NAME`) whose keys are fetched when the step is dispatched.
        fetch: Vec<String>,
    },
}

impl PatchValue {
    /// Returns the storage on which a new volume is made when the value is set; `None` when none is.
    pub fn allocates_on(&self) -> Option<&StorageId> {
        match self {
            Self::ImportFrom { storage, .. } | Self::NewVolume(NewVolume { storage, .. }) => Some(storage),
            Self::Text(_)
            | Self::Drive { .. }
            | Self::KeptVolumes { .. }
            | Self::Options { .. }
            | Self::Secret { .. }
            | Self::PublicKeys { .. } => None,
        }
    }
    /// Returns the text as PVE takes it; `None` where it is known only when the value is sent.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::NewVolume(new) => Some(Cow::Owned(new.to_string())),
            Self::Drive { .. }
            | Self::KeptVolumes { .. }
            | Self::Options { .. }
            | Self::ImportFrom { .. }
            | Self::Secret { .. }
            | Self::PublicKeys { .. } => None,
        }
    }
}

/// What a configuration change sets and removes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigPatch {
    /// What is set, by PVE's key.
    pub set: BTreeMap<Slot, PatchValue>,
    /// The keys that are removed. A disk is detached by this, not freed.
    pub delete: BTreeSet<Slot>,
}

impl ConfigPatch {
    /// Tells whether the patch does nothing.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.delete.is_empty()
    }
}

/// The image that a new disk is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskSource {
    /// A file on the node.
    Path(String),
    /// A volume: an `import` volume, or another guest's disk.
    Volume(Ref<VolumeId>),
}

/// Where an image that has to be placed comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ImageOrigin {
    /// PVE downloads it.
    Url {
        /// The address.
        url: String,
    },
    /// A file on this machine is sent.
    File {
        /// Its path, relative to the spec's folder or absolute.
        path: String,
        /// How it is unpacked on the way; `None` for a file that is sent as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unpack: Option<Unpack>,
    },
}

/// How a compressed image is unpacked before it is sent. The step's checksum is then that of the compressed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unpack {
    /// How it is compressed.
    pub compression: Compression,
    /// The size of the disk in it, where the spec says it: what grows beyond that is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_size: Option<Bytes>,
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// `.gz`
    Gzip,
    /// `.xz`
    Xz,
    /// `.zst`
    Zstd,
    /// `.bz2`
    Bzip2,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gzip, Self::Xz, Self::Zstd, Self::Bzip2];

    /// Tells by the first bytes of a file how it is compressed; `None` where it is not.
    pub fn of(start: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|compression| start.starts_with(compression.magic()))
    }
    /// Returns what follows the name of a file that is compressed so.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Gzip => ".gz",
            Self::Xz => ".xz",
            Self::Zstd => ".zst",
            Self::Bzip2 => ".bz2",
        }
    }
    fn magic(self) -> &'static [u8] {
        match self {
            Self::Gzip => b"\x1f\x8b",
            Self::Xz => b"\xfd7zXZ\0",
            Self::Zstd => b"\x28\xb5\x2f\xfd",
            Self::Bzip2 => b"BZh",
        }
    }
}

/// Which addresses are desired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IpFamily {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Either.
    Any,
}

impl IpFamily {
    /// Returns the one family that is desired; `None` where either is.
    pub fn only(self) -> Option<pve_types::IpFamily> {
        match self {
            Self::V4 => Some(pve_types::IpFamily::V4),
            Self::V6 => Some(pve_types::IpFamily::V6),
            Self::Any => None,
        }
    }
}

/// What a guest is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Condition {
    /// PVE says that it runs.
    Running,
    /// PVE says that it does not run.
    Stopped,
    /// Its agent answers.
    Agent,
    /// Its agent tells an address.
    Address {
        /// Of the NIC in this slot; `None` for any NIC.
        nic: Option<DeviceSlot>,
        /// That NIC's MAC, where it is known when planning; else it is read from the configuration.
        mac: Option<MacAddr>,
        /// Of this family.
        family: IpFamily,
        /// Within this network, in CIDR notation.
        within: Option<IpNet>,
    },
    /// `cloud-init status` says `done`.
    CloudInit,
    /// A TCP port answers at the address that was found.
    Tcp {
        /// The port.
        port: u16,
    },
    /// A command on this machine succeeds, with `VMDEPLOY_IP` and `VMDEPLOY_VM` set. Needs `--allow-commands`.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
    },
}

/// What [`Action::CloneVm`] clones, and into what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloneAction {
    /// What is cloned.
    pub source: GuestRef,
    /// What it becomes.
    pub guest: GuestRef,
    /// Whether its disks are copied; else they are linked.
    pub full: bool,
    /// Where copied disks go.
    pub storage: Option<StorageId>,
    /// The format of copied disks; that of the source where it is not said. Only with `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// The description with the marker line.
    pub description: String,
    /// The pool that it is made in.
    pub pool: Option<PoolId>,
}

/// What [`Action::ImportDisk`] imports, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportAction {
    /// The guest.
    pub guest: GuestRef,
    /// The slot that the disk is for.
    pub slot: DeviceSlot,
    /// The image on the node.
    pub source: DiskSource,
    /// The storage.
    pub storage: StorageId,
    /// `raw`, `qcow2` or `vmdk`; PVE's default where it is not said.
    pub format: Option<String>,
    /// Whether the import puts the disk into `slot` itself (`--target-disk`, 8.3 and newer).
    pub attach: bool,
    /// The configuration's digest when the plan was made, where this is the first step that changes it; a changed
    /// one is refused.
    #[serde(default)]
    pub digest: Option<String>,
}

/// What [`Action::MoveDisk`] moves, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveAction {
    /// The guest.
    pub guest: GuestRef,
    /// The disk.
    pub slot: DeviceSlot,
    /// The volume that is moved; another one is refused.
    pub volume: VolumeId,
    /// Where it goes.
    pub storage: StorageId,
    /// The format there.
    pub format: Option<String>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Asks a node's storages whether they are active and have room (`pvesm status`). Outcome: nothing.
    ProbeStorage {
        /// The node.
        node: NodeName,
        /// What will be written to each storage.
        needed: BTreeMap<StorageId, Bytes>,
    },
    /// Places an image as an `import` (or `iso`) volume, or verifies the one that is there. Outcome: the volume.
    PlaceImage {
        /// Its name in the spec.
        image: String,
        /// The node; on shared storage any node.
        node: NodeName,
        /// The volume that it becomes.
        volume: VolumeId,
        /// Where it comes from.
        origin: ImageOrigin,
        /// `ALGORITHM:HEX`; required for a URL.
        checksum: Option<String>,
    },
    /// Verifies that a file on the node is there and has this checksum. Outcome: nothing.
    VerifyImage {
        /// Its name in the spec.
        image: String,
        /// The node.
        node: NodeName,
        /// Its path on the node.
        path: String,
        /// `ALGORITHM:HEX`, if one is known.
        checksum: Option<String>,
    },
    /// Writes a cloud-init snippet to a storage by SFTP. Outcome: the volume.
    PlaceSnippet {
        /// The node.
        node: NodeName,
        /// The volume that it becomes, content `snippets`.
        volume: VolumeId,
        /// The file on this machine, relative to the spec's folder or absolute.
        source: String,
        /// SHA-256 of its content when planning, in hexadecimal; a changed file is refused.
        sha256: String,
    },
    /// Creates the guest with this configuration (which carries the ownership marker).
    CreateVm {
        /// The guest.
        guest: GuestRef,
        /// Its configuration.
        config: ConfigPatch,
        /// The pool that it is made in.
        pool: Option<PoolId>,
    },
    /// Clones a guest. The clone carries the ownership marker in its description from the start.
    CloneVm(CloneAction),
    /// Imports an image as a disk of the guest (`qm importdisk`). Outcome: the volume.
    ImportDisk(ImportAction),
    /// Changes the guest's configuration, all options in one call.
    SetConfig {
        /// The guest.
        guest: GuestRef,
        /// What is set and removed.
        patch: ConfigPatch,
        /// The configuration's digest when the plan was made, where this is the first step that changes it; a changed
        /// one is refused. Later steps send the digest of what they read right before.
        digest: Option<String>,
    },
    /// Grows a disk to this size; does nothing where it is that large already.
    ResizeDisk {
        /// The guest.
        guest: GuestRef,
        /// The disk.
        slot: DeviceSlot,
        /// The desired size.
        size: Bytes,
        /// The volume that is there; `None` where this run makes it. Another one is refused.
        #[serde(default)]
        volume: Option<VolumeId>,
    },
    /// Copies a disk to another storage and deletes the old volume. Outcome: the new volume.
    MoveDisk(MoveAction),
    /// Hands a disk to the holder, and reads it back there. Outcome: the volume's new name.
    ReassignDisk {
        /// The guest that gives it.
        guest: GuestRef,
        /// The disk.
        slot: DeviceSlot,
        /// The volume that is handed over; another one is refused.
        volume: VolumeId,
        /// The VM that takes it, as an `unusedN`.
        holder: Vmid,
    },
    /// Takes a disk back that was handed to another VM: from its `unusedN` to one of the guest. Outcome: the volume's new
    /// name.
    TakeDisk {
        /// The guest that takes it.
        guest: GuestRef,
        /// The VM that holds it; without a UUID where it is not one of ours.
        holder: GuestRef,
        /// The volume, as the step that handed it over gave it.
        volume: Ref<VolumeId>,
    },
    /// Makes the guest a template.
    ConvertToTemplate {
        /// The guest.
        guest: GuestRef,
    },
    /// Regenerates the cloud-init drive.
    RegenerateCloudInit {
        /// The guest.
        guest: GuestRef,
    },
    /// Puts the guest under high availability, or takes it out (`None`).
    SetHa {
        /// The guest.
        guest: GuestRef,
        /// What is desired.
        ha: Option<DesiredHa>,
    },
    /// Puts the guest into a pool.
    SetPool {
        /// The guest.
        guest: GuestRef,
        /// The pool; `None` takes it out of the one that it is in.
        pool: Option<PoolId>,
    },
    /// Starts the guest.
    StartVm {
        /// The guest.
        guest: GuestRef,
    },
    /// Asks the guest to shut down.
    ShutdownVm {
        /// The guest.
        guest: GuestRef,
        /// How long it is given, in seconds.
        timeout_s: u64,
        /// Whether it is stopped when it does not react.
        force: bool,
    },
    /// Stops the guest at once.
    StopVm {
        /// The guest.
        guest: GuestRef,
    },
    /// Restarts the guest, so that pending changes take effect.
    RebootVm {
        /// The guest.
        guest: GuestRef,
    },
    /// Deletes the guest with its disks, if it has the ownership marker; stops it first where it runs.
    DeleteVm {
        /// The guest.
        guest: GuestRef,
        /// Whether it may be running, and is then stopped.
        stop: bool,
    },
    /// Frees a volume that this run created and that no configuration names any more.
    FreeVolume {
        /// The node.
        node: NodeName,
        /// The volume.
        volume: Ref<VolumeId>,
    },
    /// Waits until the guest is as far. Outcome: its addresses, for [`Condition::Address`].
    Await {
        /// The guest.
        guest: GuestRef,
        /// What is waited for.
        condition: Condition,
    },
}

/// What a step works on: a guest on its node, or a node alone.
enum Subject<'a> {
    Guest(&'a GuestRef),
    Node(&'a NodeName),
}

impl Action {
    /// Returns the guest that the step writes to; two steps with the same one never run at once.
    pub fn guest(&self) -> Option<&GuestRef> {
        match self.subject() {
            Subject::Guest(guest) => Some(guest),
            Subject::Node(_) => None,
        }
    }
    /// Returns the node that the step works on, as planned.
    pub fn node(&self) -> &NodeName {
        match self.subject() {
            Subject::Guest(guest) => &guest.node,
            Subject::Node(node) => node,
        }
    }
    fn subject(&self) -> Subject<'_> {
        match self {
            Self::CreateVm { guest, .. }
            | Self::CloneVm(CloneAction { guest, .. })
            | Self::ImportDisk(ImportAction { guest, .. })
            | Self::SetConfig { guest, .. }
            | Self::ResizeDisk { guest, .. }
            | Self::MoveDisk(MoveAction { guest, .. })
            | Self::ReassignDisk { guest, .. }
            | Self::TakeDisk { guest, .. }
            | Self::ConvertToTemplate { guest }
            | Self::RegenerateCloudInit { guest }
            | Self::SetHa { guest, .. }
            | Self::SetPool { guest, .. }
            | Self::StartVm { guest }
            | Self::ShutdownVm { guest, .. }
            | Self::StopVm { guest }
            | Self::RebootVm { guest }
            | Self::DeleteVm { guest, .. }
            | Self::Await { guest, .. } => Subject::Guest(guest),
            Self::ProbeStorage { node, .. }
            | Self::PlaceImage { node, .. }
            | Self::VerifyImage { node, .. }
            | Self::PlaceSnippet { node, .. }
            | Self::FreeVolume { node, .. } => Subject::Node(node),
        }
    }
    /// Returns the guest that the step makes from nothing.
    pub fn made_guest(&self) -> Option<&GuestRef> {
        match self {
            Self::CreateVm { guest, .. } | Self::CloneVm(CloneAction { guest, .. }) => Some(guest),
            Self::ProbeStorage { .. }
            | Self::PlaceImage { .. }
            | Self::VerifyImage { .. }
            | Self::PlaceSnippet { .. }
            | Self::ImportDisk(_)
            | Self::SetConfig { .. }
            | Self::ResizeDisk { .. }
            | Self::MoveDisk(_)
            | Self::ReassignDisk { .. }
            | Self::TakeDisk { .. }
            | Self::ConvertToTemplate { .. }
            | Self::RegenerateCloudInit { .. }
            | Self::SetHa { .. }
            | Self::SetPool { .. }
            | Self::StartVm { .. }
            | Self::ShutdownVm { .. }
            | Self::StopVm { .. }
            | Self::RebootVm { .. }
            | Self::DeleteVm { .. }
            | Self::FreeVolume { .. }
            | Self::Await { .. } => None,
        }
    }
    /// Returns what the step sets and removes in the guest's configuration, as far as the plan says it by key.
    pub fn patch(&self) -> Option<&ConfigPatch> {
        match self {
            Self::CreateVm { config: patch, .. } | Self::SetConfig { patch, .. } => Some(patch),
            Self::ProbeStorage { .. }
            | Self::PlaceImage { .. }
            | Self::VerifyImage { .. }
            | Self::PlaceSnippet { .. }
            | Self::CloneVm(_)
            | Self::ImportDisk(_)
            | Self::ResizeDisk { .. }
            | Self::MoveDisk(_)
            | Self::ReassignDisk { .. }
            | Self::TakeDisk { .. }
            | Self::ConvertToTemplate { .. }
            | Self::RegenerateCloudInit { .. }
            | Self::SetHa { .. }
            | Self::SetPool { .. }
            | Self::StartVm { .. }
            | Self::ShutdownVm { .. }
            | Self::StopVm { .. }
            | Self::RebootVm { .. }
            | Self::DeleteVm { .. }
            | Self::FreeVolume { .. }
            | Self::Await { .. } => None,
        }
    }
    /// Tells whether the step only reads: it may then run concurrently with a writer of the same guest.
    pub fn only_reads(&self) -> bool {
        matches!(self, Self::ProbeStorage { .. } | Self::VerifyImage { .. } | Self::Await { .. })
    }
}
