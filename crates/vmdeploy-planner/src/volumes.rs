//! Whose a volume is, and what a step does to it.
//!
//! One type answers for every volume that a plan touches: [`VolumeOwner`]. It is found from the configurations of all
//! guests, and from the volume's name, which is what PVE itself goes by. The planner asks it for the steps that it has
//! planned, and the executor asks it again, of a fresh observation, right before each call: so a plan that was saved,
//! and changed by hand, is judged like any other.
//!
//! ```
//! # use vmdeploy_planner::{observed::Observed, volumes::{VolumeOwner, VolumeUsers}};
//! # use pve_types::{PveVersion, Vmid};
//! let observed = Observed::nothing(PveVersion::new(9, 2, 0));
//! let users = VolumeUsers::of(&observed);
//! let this = Vmid::new(201)?;
//! let owner = users.owner(&"local-lvm:vm-201-disk-0".parse()?, this);
//! assert_eq!(owner, VolumeOwner::Unowned);
//! # Ok::<(), pve_types::ParseError>(())
//! ```

use crate::observed::{Observed, ObservedGuest};
use crate::plan::{Action, ConfigPatch, MoveAction, PatchValue, Ref};
use pve_config::{Bus, DeviceSlot, Drive, DriveSource};
use pve_types::{Vmid, VolumeId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Something that a guest's disk is made of, as its configuration names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskName {
    /// A volume of a storage.
    Volume(VolumeId),
    /// A file or device of the node. It may be a volume: PVE lists `/dev/pve/vm-100-disk-0` and
    /// `local-lvm:vm-100-disk-0` as two things.
    Path(String),
}

impl DiskName {
    fn base_name(&self) -> &str {
        match self {
            Self::Volume(volume) => volume.base_name(),
            Self::Path(path) => path.rsplit('/').next().unwrap_or_default(),
        }
    }
    /// Returns the guest that the name says it belongs to. Of a path the file's name counts.
    fn owner(&self) -> Option<Vmid> {
        match self {
            Self::Volume(volume) => volume.owner(),
            Self::Path(path) => {
                format!("path:{}", path.rsplit('/').next()?).parse::<VolumeId>().ok()?.owner()
            }
        }
    }
    /// Tells whether both are, or may be, the same volume.
    fn may_be(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Volume(one), Self::Volume(other)) => {
                one.storage() == other.storage() && one.name() == other.name()
            }
            (Self::Path(one), Self::Path(other)) => one == other,
            // Where a storage has its volumes is not known here: the same name is taken for the same volume.
            _ => self.base_name() == other.base_name(),
        }
    }
}

impl std::fmt::Display for DiskName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Volume(volume) => f.pad(volume.as_str()),
            Self::Path(path) => write!(f, "{}", path.escape_debug()),
        }
    }
}

impl std::str::FromStr for DiskName {
    type Err = pve_types::ParseError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') { Ok(Self::Path(text.to_owned())) } else { text.parse().map(Self::Volume) }
    }
}

/// Whose a volume is, seen from one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeOwner {
    /// The VM's own, and no other guest names it.
    This,
    /// No guest names it, and its name says no other guest that exists.
    Unowned,
    /// Another guest's.
    Guest {
        /// Its number.
        vmid: Vmid,
        /// Its name as PVE shows it; hostile until printed through an escape.
        name: Option<String>,
        /// Whether it runs.
        running: bool,
        /// How that is known.
        by: Claim,
    },
    /// The VM's own, and linked clones lie upon it.
    Base {
        /// The clones.
        clones: BTreeSet<Vmid>,
    },
    /// It cannot be found out.
    Unknown {
        /// Why not, a clause.
        why: String,
    },
}

/// How it is known that a volume is another guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Its configuration names it: as a disk, as `unusedN`, or in a snapshot.
    Configuration,
    /// The volume's name has the guest's number. PVE frees it with that guest.
    Name,
}

/// What a step does to a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VolumeUse {
    /// It becomes a disk of the guest.
    Attach,
    /// It is taken from the guest, and kept.
    Detach,
    /// It is copied to another storage and freed.
    Move,
    /// It grows.
    Resize,
    /// It is renamed for another guest.
    HandOver,
    /// It becomes a template's base volume, and is renamed.
    Convert,
    /// It is freed.
    Free,
}

impl VolumeUse {
    /// Returns the verb, as it follows `would`.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Detach => "detach",
            Self::Move => "move",
            Self::Resize => "grow",
            Self::HandOver => "hand over",
            Self::Convert => "convert to a base volume:",
            Self::Free => "free",
        }
    }
}

/// A volume that a step touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// The slot that it is in, or comes to; `None` where the step has no slot.
    pub slot: Option<String>,
    /// The volume.
    pub disk: DiskName,
    /// What is done to it.
    pub how: VolumeUse,
}

/// Which guests name which volumes.
#[derive(Debug)]
pub struct VolumeUsers<'o> {
    observed: &'o Observed,
    /// The users by the last part of what they name.
    users: HashMap<&'o str, Vec<(&'o ObservedGuest, DiskName)>>,
    /// Linked clones by the base volume's storage and last part.
    clones: HashMap<(&'o str, &'o str), BTreeSet<Vmid>>,
    /// A guest whose configuration could not be read.
    unread: Option<&'o ObservedGuest>,
}

impl<'o> VolumeUsers<'o> {
    /// Reads the users of all volumes from an observation.
    pub fn of(observed: &'o Observed) -> Self {
        let mut found = Self { observed, users: HashMap::new(), clones: HashMap::new(), unread: None };
        for guest in observed.guests.values() {
            let Some(volumes) = &guest.volumes else {
                found.unread = found.unread.or(Some(guest));
                continue;
            };
            for volume in volumes.ids.iter().filter(|volume| !volume.is_shared_content()) {
                found.add(guest, volume.base_name(), DiskName::Volume(volume.clone()));
                for base in volume.name().split('/').filter(|part| part.starts_with("base")) {
                    if base != volume.base_name() {
                        let key = (volume.storage().as_str(), base);
                        found.clones.entry(key).or_default().insert(guest.vmid);
                    }
                }
            }
            for path in &volumes.paths {
                let name = path.rsplit('/').next().unwrap_or_default();
                found.add(guest, name, DiskName::Path(path.clone()));
            }
        }
        found
    }

    fn add(&mut self, guest: &'o ObservedGuest, name: &'o str, disk: DiskName) {
        self.users.entry(name).or_default().push((guest, disk));
    }

    /// Returns the disks of a guest, those of snapshots and `unusedN` included.
    pub fn disks_of(&self, vmid: Vmid) -> Vec<DiskName> {
        let volumes = self.observed.guests.get(&vmid).and_then(|guest| guest.volumes.as_ref());
        let ids = volumes.into_iter().flat_map(|volumes| &volumes.ids);
        let paths = volumes.into_iter().flat_map(|volumes| &volumes.paths);
        let ids = ids.filter(|volume| !volume.is_shared_content()).cloned().map(DiskName::Volume);
        ids.chain(paths.cloned().map(DiskName::Path)).collect()
    }

    /// Tells whose a volume is, seen from the VM `this`.
    pub fn owner(&self, volume: &VolumeId, this: Vmid) -> VolumeOwner {
        self.owner_of(&DiskName::Volume(volume.clone()), this)
    }

    /// Tells whose a disk is, seen from the VM `this`.
    pub fn owner_of(&self, disk: &DiskName, this: Vmid) -> VolumeOwner {
        let users = self.users.get(disk.base_name()).map_or(&[][..], Vec::as_slice);
        let users = || users.iter().filter(|(_, named)| named.may_be(disk)).map(|(guest, _)| *guest);
        // Of several users the one that runs is the one to be named.
        let others = users().filter(|guest| guest.vmid != this);
        if let Some(other) = others.max_by_key(|guest| guest.status.is_on()) {
            return of_guest(other, Claim::Configuration);
        }
        let named_for = disk.owner();
        match named_for.filter(|vmid| *vmid != this) {
            Some(vmid) if self.observed.guests.contains_key(&vmid) => {
                return of_guest(&self.observed.guests[&vmid], Claim::Name);
            }
            Some(vmid) if !self.observed.would_see(vmid) => {
                let why = format!(
                    "its name refers to VM {vmid}, which these credentials may not see (VM.Audit on /vms/{vmid})"
                );
                return VolumeOwner::Unknown { why };
            }
            _ => {}
        }
        if let DiskName::Volume(volume) = disk
            && let Some(clones) = self.clones.get(&(volume.storage().as_str(), volume.base_name()))
        {
            return VolumeOwner::Base { clones: clones.clone() };
        }
        let is_named = users().any(|guest| guest.vmid == this);
        // PVE goes by the name: what has this VM's number and is in its configuration is its own.
        if named_for != Some(this) {
            if let Some(guest) = self.unread.filter(|guest| guest.vmid != this) {
                let why = format!(
                    "the configuration of VM {} on {} cannot be read and may refer to it",
                    guest.vmid, guest.node
                );
                return VolumeOwner::Unknown { why };
            }
            if !self.observed.sees_every_guest() && named_for.is_none() {
                let why = "its name does not show its owner, and these credentials do not see every guest (VM.Audit on /vms)";
                return VolumeOwner::Unknown { why: why.to_owned() };
            }
        }
        if is_named { VolumeOwner::This } else { VolumeOwner::Unowned }
    }
}

fn of_guest(guest: &ObservedGuest, by: Claim) -> VolumeOwner {
    VolumeOwner::Guest { vmid: guest.vmid, name: guest.name.clone(), running: guest.status.is_on(), by }
}

impl VolumeOwner {
    /// Returns why the step must not touch the volume, a clause that follows the volume's name; `None` where it may.
    ///
    /// `gone` are linked clones that the plan destroys before.
    pub fn refusal(&self, gone: &BTreeSet<Vmid>) -> Option<String> {
        match self {
            Self::This | Self::Unowned => None,
            Self::Guest { vmid, name, running, by } => {
                let name =
                    name.as_ref().map(|name| format!(" `{}`", name.escape_debug())).unwrap_or_default();
                let runs = if *running { ", which runs" } else { "" };
                Some(match by {
                    Claim::Configuration => format!("VM {vmid}{name} uses it{runs}"),
                    Claim::Name => format!("it belongs to VM {vmid}{name} by its name{runs}"),
                })
            }
            // A clone reads its base; it neither grows nor goes.
            Self::Base { clones } => {
                let left: Vec<String> = clones.difference(gone).map(ToString::to_string).collect();
                let list = left.join(", ");
                (!left.is_empty()).then(|| format!("linked clones depend on it: VM {list}"))
            }
            Self::Unknown { why } => Some(why.clone()),
        }
    }
}

/// Returns the volumes that an action touches, where the guest's configuration is `now`.
///
/// Volumes that an earlier step of the same run makes are not among them.
pub fn touched(action: &Action, now: &BTreeMap<String, String>, users: &VolumeUsers<'_>) -> Vec<Touched> {
    let of_slot = |slot: &DeviceSlot, how: VolumeUse| {
        let slot = slot.to_string();
        let disk = disk_in(&slot, now.get(&slot)?)?;
        Some(Touched { slot: Some(slot), disk, how })
    };
    let all = |vmid: Vmid, how: VolumeUse| {
        let disks = users.disks_of(vmid).into_iter();
        disks.map(|disk| Touched { slot: slot_of(&disk, now), disk, how }).collect()
    };
    match action {
        Action::CreateVm { config, .. } => by_patch(config, &BTreeMap::new()),
        Action::SetConfig { patch, .. } => by_patch(patch, now),
        Action::MoveDisk(MoveAction { slot, .. }) => of_slot(slot, VolumeUse::Move).into_iter().collect(),
        Action::ResizeDisk { slot, .. } => of_slot(slot, VolumeUse::Resize).into_iter().collect(),
        Action::ReassignDisk { slot, .. } => of_slot(slot, VolumeUse::HandOver).into_iter().collect(),
        Action::ConvertToTemplate { guest } => all(guest.vmid, VolumeUse::Convert),
        Action::DeleteVm { guest, .. } => all(guest.vmid, VolumeUse::Free),
        Action::FreeVolume { volume: Ref::Known(volume), .. } => {
            vec![Touched { slot: None, disk: DiskName::Volume(volume.clone()), how: VolumeUse::Free }]
        }
        // What they make is new, or they touch no volume.
        Action::FreeVolume { volume: Ref::OutputOf(_), .. }
        | Action::ProbeStorage { .. }
        | Action::PlaceImage { .. }
        | Action::VerifyImage { .. }
        | Action::PlaceSnippet { .. }
        | Action::CloneVm(_)
        | Action::ImportDisk(_)
        | Action::TakeDisk { .. }
        | Action::RegenerateCloudInit { .. }
        | Action::SetHa { .. }
        | Action::SetPool { .. }
        | Action::StartVm { .. }
        | Action::ShutdownVm { .. }
        | Action::StopVm { .. }
        | Action::RebootVm { .. }
        | Action::Await { .. } => Vec::new(),
    }
}

/// Returns the configuration after an action, as far as slots of disks go.
pub fn after(action: &Action, now: &mut BTreeMap<String, String>) {
    let Action::SetConfig { patch, .. } = action else { return };
    for key in &patch.delete {
        now.remove(key);
    }
    for (key, value) in &patch.set {
        if let Some(text) = value.text() {
            now.insert(key.clone(), text.into_owned());
        }
    }
}

fn by_patch(patch: &ConfigPatch, now: &BTreeMap<String, String>) -> Vec<Touched> {
    let mut found = Vec::new();
    let mut add = |slot: &String, disk: DiskName, how: VolumeUse| {
        found.push(Touched { slot: Some(slot.clone()), disk, how });
    };
    for (slot, value) in &patch.set {
        let new = match value {
            PatchValue::Text(text) => disk_in(slot, text),
            PatchValue::Drive { volume: Ref::Known(volume), .. } => Some(DiskName::Volume(volume.clone())),
            // Options leave the volume as it is.
            PatchValue::Options { .. } => continue,
            _ => None,
        };
        let old = now.get(slot).and_then(|text| disk_in(slot, text));
        if old == new {
            continue;
        }
        if let Some(old) = old {
            add(slot, old, VolumeUse::Detach);
        }
        if let Some(new) = new {
            add(slot, new, VolumeUse::Attach);
        }
    }
    for slot in &patch.delete {
        if let Some(old) = now.get(slot).and_then(|text| disk_in(slot, text)) {
            // PVE: qemu-server src/PVE/API2/Qemu.pm: an `unusedN` that is deleted is freed.
            let how =
                if Bus::of_key(slot) == Some(Bus::Unused) { VolumeUse::Free } else { VolumeUse::Detach };
            add(slot, old, how);
        }
    }
    found
}

/// Returns the volume or path that a slot holds; nothing for what any guest may use (CD images), what is yet to be made,
/// and the cloud-init drive, which PVE creates and deletes.
pub fn disk_in(slot: &str, text: &str) -> Option<DiskName> {
    if !Bus::of_key(slot).is_some_and(Bus::holds_volume) {
        return None;
    }
    let drive = Drive::parse(slot, text).ok()?;
    match &drive.source {
        _ if drive.is_cdrom() && !drive.is_cloud_init() => None,
        DriveSource::Volume(volume) if volume.name() == "cloudinit" || volume.is_shared_content() => None,
        DriveSource::Volume(volume) => Some(DiskName::Volume(volume.clone())),
        DriveSource::Path(path) => Some(DiskName::Path(path.clone())),
        DriveSource::New { .. } | DriveSource::Empty | DriveSource::Physical => None,
    }
}

/// Returns the slot that holds a disk.
pub fn slot_of(disk: &DiskName, config: &BTreeMap<String, String>) -> Option<String> {
    config
        .iter()
        .find(|(slot, text)| disk_in(slot, text).as_ref() == Some(disk))
        .map(|(slot, _)| slot.clone())
}
