//! A small pure model of what PVE makes of a plan's steps: the configuration that is read back afterwards.
//!
//! It knows what PVE fills in and rewrites (MACs, sizes, volume names, UUIDs, order, the line end of a description), what
//! waits for a restart, and what is freed with a VM. It shares no rule with the planner but property strings' syntax.

use pve_config::{DeviceSlot, NewSize, NewVolume, PropertyString};
use pve_types::{Bytes, GuestName, MappingKind, NodeName, PowerState, PveVersion, StorageId, Vmid};
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_planner::identity::{self, Marker, MarkerSearch};
use vmdeploy_planner::observed::{
    Observed, ObservedConfig, ObservedGuest, ObservedHa, ObservedImage, ObservedNode, ObservedStorage, Rights,
};
use vmdeploy_planner::plan::{
    Action, CloneAction, ConfigPatch, DiskSource, ImportAction, MoveAction, PatchValue, Plan, Ref, StepId,
};
use vmdeploy_planner::spec::{Deployment, ImageSource, OptionValue};

/// The size of the disk in every image of this world.
pub const IMAGE_SIZE: Bytes = Bytes::from_gib(3);

#[derive(Clone)]
pub struct Guest {
    pub node: NodeName,
    pub running: bool,
    pub template: bool,
    pub pool: Option<pve_types::PoolId>,
    pub values: BTreeMap<String, String>,
    pub pending: BTreeMap<String, Option<String>>,
    pub stale: BTreeSet<String>,
    digest: u64,
}

pub struct Pve {
    pub version: PveVersion,
    pub guests: BTreeMap<Vmid, Guest>,
    pub foreign: BTreeMap<Vmid, ObservedGuest>,
    pub volumes: BTreeSet<String>,
    pub ha: ObservedHa,
    pub images: BTreeSet<String>,
    pub rights: Option<Rights>,
    pub nodes: BTreeSet<String>,
    pub storages: BTreeSet<String>,
    pub bridges: BTreeSet<String>,
    /// The sizes of volumes that are no guest's drive at the moment.
    held: BTreeMap<String, Bytes>,
    /// What is free on each storage.
    pub space: Bytes,
    pub mappings: BTreeMap<MappingKind, BTreeMap<String, BTreeSet<NodeName>>>,
    drawn: u32,
}

impl Pve {
    pub fn new() -> Self {
        let images = [
            "/var/lib/vz/import/debian-13.qcow2",
            "/var/lib/vz/import/tiny.qcow2",
            "local:import/debian-13.qcow2",
        ];
        Self {
            version: PveVersion::new(9, 2, 11),
            guests: BTreeMap::new(),
            foreign: BTreeMap::new(),
            volumes: BTreeSet::new(),
            ha: ObservedHa::default(),
            images: images.into_iter().map(str::to_owned).collect(),
            rights: Some(Rights { user: "root@pam".to_owned(), is_root: true, paths: BTreeMap::new() }),
            nodes: ["pve1", "pve2"].into_iter().map(str::to_owned).collect(),
            storages: ["local", "local-lvm", "fast"].into_iter().map(str::to_owned).collect(),
            bridges: ["vmbr0", "vmbr1"].into_iter().map(str::to_owned).collect(),
            held: BTreeMap::new(),
            space: Bytes::from_gib(3000),
            mappings: BTreeMap::new(),
            drawn: 0,
        }
    }

    /// Returns a cluster that has what the spec names: nodes, storages, bridges, mappings, images, holders.
    pub fn for_spec(deployment: &Deployment) -> Self {
        let mut pve = Self::new();
        for image in deployment.images.values() {
            match &image.source {
                ImageSource::Path { path } => drop(pve.images.insert(path.value.clone())),
                ImageSource::Volume { volume } => drop(pve.images.insert(volume.value.to_string())),
                ImageSource::File { .. } | ImageSource::Url { .. } | ImageSource::Build(_) => {}
            }
            pve.storages.extend(image.store.as_ref().map(|store| store.storage.value.to_string()));
        }
        for vm in &deployment.vms {
            pve.nodes.extend(vm.node.as_ref().map(|node| node.value.to_string()));
            pve.nodes
                .extend(vm.ha.set().into_iter().flat_map(|ha| ha.on_nodes.keys()).map(ToString::to_string));
            for disk in vm.disks.values().filter_map(|desired| desired.set()) {
                pve.storages.extend(disk.storage.as_ref().map(|storage| storage.value.to_string()));
            }
            for nic in vm.nics.values().filter_map(|desired| desired.set()) {
                pve.bridges.extend(nic.bridge.as_ref().map(|bridge| bridge.value.to_string()));
            }
            let cloud = vm.cloud_init.as_ref();
            pve.storages.extend(
                cloud.and_then(|cloud| cloud.storage.as_ref()).map(|storage| storage.value.to_string()),
            );
            pve.storages.extend(
                vm.clone
                    .as_ref()
                    .and_then(|clone| clone.storage.as_ref())
                    .map(|storage| storage.value.to_string()),
            );
        }
        for vm in &deployment.vms {
            for (key, desired) in &vm.options {
                let OptionValue::Fields(fields) = &desired.value else { continue };
                let (kind, field) = match key.trim_end_matches(|c: char| c.is_ascii_digit()) {
                    "hostpci" => (MappingKind::Pci, "mapping"),
                    "usb" => (MappingKind::Usb, "mapping"),
                    "virtiofs" => (MappingKind::Dir, "dirid"),
                    _ => continue,
                };
                let Some(name) = fields.get(field).and_then(|field| field.value.clone()) else { continue };
                let nodes = pve.nodes.iter().map(|node| node.parse().unwrap()).collect();
                pve.mappings.entry(kind).or_default().insert(name, nodes);
            }
        }
        pve
    }

    /// Carries out the plan's steps in their order.
    pub fn apply(&mut self, plan: &Plan) {
        let mut outputs: BTreeMap<StepId, String> = BTreeMap::new();
        for step in &plan.steps {
            if let Some(output) = self.act(&step.action, &outputs) {
                outputs.insert(step.id.clone(), output);
            }
        }
    }

    fn act(&mut self, action: &Action, outputs: &BTreeMap<StepId, String>) -> Option<String> {
        match action {
            Action::ProbeStorage { .. }
            | Action::VerifyImage { .. }
            | Action::PlaceSnippet { .. }
            | Action::FreeVolume { .. }
            | Action::Await { .. } => {}
            Action::PlaceImage { volume, .. } => {
                self.images.insert(volume.to_string());
                return Some(volume.to_string());
            }
            Action::CreateVm { guest, config, pool } => {
                assert!(!self.guests.contains_key(&guest.vmid), "VM {} already exists", guest.vmid);
                let mut values = BTreeMap::new();
                values.insert("vmgenid".to_owned(), "00000000-0000-4000-8000-000000000000".to_owned());
                values.insert("meta".to_owned(), "creation-qemu=10.0.13,ctime=1795300000".to_owned());
                self.insert(guest.vmid, &guest.node, values);
                self.set(guest.vmid, config, outputs);
                let made = self.guests.get_mut(&guest.vmid).unwrap();
                made.pool = pool.clone();
                made.values.entry("boot".to_owned()).or_insert_with(|| "order=net0".to_owned());
            }
            Action::CloneVm(CloneAction { source, guest, full, storage, format: _, description, pool }) => {
                self.clone_guest(
                    source.vmid,
                    guest.vmid,
                    (&guest.node, &guest.name),
                    (*full, storage.as_ref()),
                    description,
                );
                self.guests.get_mut(&guest.vmid).unwrap().pool = pool.clone();
            }
            Action::ImportDisk(ImportAction { guest, storage, digest, .. }) => {
                let volume = self.allocate(guest.vmid, storage);
                let made = self.guests.get_mut(&guest.vmid).expect("import into a VM that is there");
                if let Some(digest) = digest {
                    assert_eq!(*digest, made.digest.to_string(), "checksum mismatch");
                }
                made.digest += 1;
                let free =
                    (0..256).map(|n| format!("unused{n}")).find(|slot| !made.values.contains_key(slot));
                made.values.insert(free.unwrap(), volume.clone());
                return Some(volume);
            }
            Action::SetConfig { guest, patch, digest } => {
                if let Some(digest) = digest {
                    assert_eq!(*digest, self.guests[&guest.vmid].digest.to_string(), "checksum mismatch");
                }
                self.set(guest.vmid, patch, outputs);
            }
            Action::ResizeDisk { guest, slot, size, .. } => self.resize(guest.vmid, &slot.to_string(), *size),
            Action::MoveDisk(MoveAction { guest, slot, volume: moved, storage, .. }) => {
                let slot = &slot.to_string();
                let volume = self.allocate(guest.vmid, storage);
                let made = self.guests.get_mut(&guest.vmid).unwrap();
                let mut drive = PropertyString::parse(slot, &made.values[slot]).unwrap();
                let old = drive.get("file").unwrap().to_owned();
                drive.set("file", volume.clone());
                made.values.insert(slot.clone(), drive.print(slot));
                assert_eq!(old, moved.as_str());
                self.volumes.remove(&old);
                return Some(volume);
            }
            Action::ReassignDisk { guest, slot, volume: given, holder } => {
                let slot = &slot.to_string();
                let made = self.guests.get_mut(&guest.vmid).unwrap();
                assert!(!made.running, "a disk changes hands only while its VM is stopped");
                let value = made.values.remove(slot).expect("the disk is there");
                let volume = PropertyString::parse(slot, &value).unwrap().get("file").unwrap().to_owned();
                assert_eq!(volume, given.as_str());
                self.volumes.remove(&volume);
                let handed = volume.replace(&format!("vm-{}-", guest.vmid), &format!("vm-{holder}-"));
                self.volumes.insert(handed.clone());
                let size = pve_config::Drive::parse(slot, &value).ok().and_then(|drive| drive.size());
                self.held.extend(size.map(|size| (handed.clone(), size)));
                match self.guests.get_mut(holder) {
                    Some(holder) => {
                        let free = (0..).map(|n| format!("unused{n}"));
                        let free = free.into_iter().find(|slot| !holder.values.contains_key(slot)).unwrap();
                        holder.values.insert(free, handed.clone());
                    }
                    None => {
                        let holder = self.foreign.get_mut(holder).expect("the holder is there");
                        holder.volumes.get_or_insert_default().ids.insert(handed.parse().unwrap());
                    }
                }
                return Some(handed);
            }
            Action::TakeDisk { guest, holder, volume } => {
                let volume = match volume {
                    Ref::Known(volume) => volume.to_string(),
                    Ref::OutputOf(step) => outputs.get(step).expect("the step has run").clone(),
                };
                match self.guests.get_mut(&holder.vmid) {
                    Some(made) => made.values.retain(|_, value| *value != volume),
                    None => {
                        let foreign = self.foreign.get_mut(&holder.vmid).expect("the holder is there");
                        assert!(foreign.volumes.get_or_insert_default().ids.remove(&volume.parse().unwrap()));
                    }
                }
                assert!(self.volumes.remove(&volume), "{volume} is held");
                let name = volume.split(':').next().unwrap().parse().unwrap();
                let taken = self.allocate(guest.vmid, &name);
                let size = self.held.remove(&volume);
                self.held.extend(size.map(|size| (taken.clone(), size)));
                let made = self.guests.get_mut(&guest.vmid).unwrap();
                let free = (0..).map(|n| format!("unused{n}"));
                let free = free.into_iter().find(|slot| !made.values.contains_key(slot)).unwrap();
                made.values.insert(free, taken.clone());
                return Some(taken);
            }
            Action::ConvertToTemplate { guest } => {
                let made = self.guests.get_mut(&guest.vmid).unwrap();
                assert!(!made.running);
                made.template = true;
                for text in made.values.values_mut() {
                    *text = text.replace(
                        &format!(":vm-{}-disk-", guest.vmid),
                        &format!(":base-{}-disk-", guest.vmid),
                    );
                }
                made.values.insert("template".to_owned(), "1".to_owned());
            }
            Action::RegenerateCloudInit { guest } => self.guests.get_mut(&guest.vmid).unwrap().stale.clear(),
            Action::SetHa { guest, ha: Some(desired) } => {
                self.ha.resources.insert(guest.vmid, desired.clone());
                match desired.state.as_str() {
                    "started" => self.start(guest.vmid),
                    "stopped" | "disabled" => self.stop(guest.vmid),
                    _ => {}
                }
            }
            Action::SetHa { guest, ha: None } => drop(self.ha.resources.remove(&guest.vmid)),
            Action::SetPool { guest, pool } => self.guests.get_mut(&guest.vmid).unwrap().pool = pool.clone(),
            Action::StartVm { guest } => self.start(guest.vmid),
            Action::ShutdownVm { guest, .. } | Action::StopVm { guest } => self.stop(guest.vmid),
            Action::RebootVm { guest } => {
                self.stop(guest.vmid);
                self.start(guest.vmid);
            }
            Action::DeleteVm { guest, stop } => self.delete(guest.vmid, *stop),
        }
        None
    }

    fn insert(&mut self, vmid: Vmid, node: &NodeName, values: BTreeMap<String, String>) {
        let guest = Guest {
            node: node.clone(),
            running: false,
            template: false,
            pool: None,
            values,
            pending: BTreeMap::new(),
            stale: BTreeSet::new(),
            digest: 1,
        };
        self.guests.insert(vmid, guest);
    }

    fn allocate(&mut self, vmid: Vmid, storage: &StorageId) -> String {
        let names = (0..).map(|n| format!("{storage}:vm-{vmid}-disk-{n}"));
        let volume = names.into_iter().find(|name| !self.volumes.contains(name)).unwrap();
        self.volumes.insert(volume.clone());
        volume
    }

    fn set(&mut self, vmid: Vmid, patch: &ConfigPatch, outputs: &BTreeMap<StepId, String>) {
        let there = &self.guests[&vmid];
        // A create call makes no difference of old and new.
        let is_made = !there.values.contains_key("name");
        // PVE: each guest has one cloud-init volume; those of a request are made before what it removes is gone.
        let is_drive = |value: &PatchValue| {
            matches!(value, PatchValue::NewVolume(NewVolume { size: NewSize::CloudInit, .. }))
        };
        if patch.set.values().any(is_drive) {
            assert!(
                !there.values.values().any(|text| text.contains("-cloudinit")),
                "vm-{vmid}-cloudinit exists"
            );
        }
        let order =
            there.values.get("boot").and_then(|boot| boot.strip_prefix("order=")).filter(|_| !is_made);
        let mut order: Vec<String> =
            order.map(|order| order.split(';').map(str::to_owned).collect()).unwrap_or_default();
        order.retain(|slot| !patch.delete.contains(slot));
        let has_order = !order.is_empty();
        for key in &patch.delete {
            assert!(!patch.set.contains_key(key), "{key} is set and deleted at once");
            self.put(vmid, key, None);
        }
        for (key, value) in &patch.set {
            let text = match value {
                PatchValue::Text(text) => {
                    if let Some(volume) = volume_of(key, text) {
                        self.disuse(vmid, &volume);
                    }
                    text.clone()
                }
                PatchValue::NewVolume(new) => new.to_string(),
                PatchValue::Drive { volume, options } => {
                    let volume = match volume {
                        Ref::Known(volume) => volume.to_string(),
                        Ref::OutputOf(step) => outputs.get(step).expect("the step has run").clone(),
                    };
                    self.disuse(vmid, &volume);
                    let size = self.held.remove(&volume).unwrap_or(IMAGE_SIZE);
                    with_size(key, &volume, options, size)
                }
                PatchValue::ImportFrom { storage, source, options } => {
                    let there = match source {
                        DiskSource::Path(path) => path.clone(),
                        DiskSource::Volume(Ref::Known(volume)) => volume.to_string(),
                        DiskSource::Volume(Ref::OutputOf(step)) => {
                            outputs.get(step).expect("the step has run").clone()
                        }
                    };
                    assert!(self.images.contains(&there), "{there} is no image");
                    let volume = self.allocate(vmid, storage);
                    with_size(key, &volume, options, IMAGE_SIZE)
                }
                PatchValue::Options { fields } => {
                    let now = self.guests[&vmid].values.get(key).expect("the drive is there");
                    let desired = fields.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
                    pve_config::overlay(key, Some(now), desired).unwrap()
                }
                PatchValue::KeptVolumes { slots } => {
                    let values = &self.guests[&vmid].values;
                    let description = values["description"].clone();
                    let MarkerSearch::Found(mut marker) = Marker::find(&description) else {
                        panic!("no marker: {description}")
                    };
                    for slot in slots {
                        let volume = values.get(slot).and_then(|text| volume_of(slot, text));
                        marker.disks.insert(slot.clone(), volume.map(|volume| volume.parse().unwrap()));
                    }
                    identity::marked_description(&description, &marker)
                }
                PatchValue::Secret { .. } => "**********".to_owned(),
                PatchValue::PublicKeys { keys, fetch } => {
                    let fetched = fetch.iter().map(|account| format!("ssh-ed25519 FETCHED {account}"));
                    let all: Vec<String> = keys.iter().cloned().chain(fetched).collect();
                    encoded(&all.join("\n"))
                }
            };
            let text = self.stored(vmid, key, &text);
            self.put(vmid, key, Some(text));
        }
        let guest = self.guests.get_mut(&vmid).unwrap();
        guest.digest += 1;
        // PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api: each CD drive that is set and not in the order that the
        // guest had is appended to it, and what comes of that is stored over any order of the same call.
        let before = order.len();
        for slot in patch.set.keys().filter(|_| has_order) {
            let is_cd = |text: &String| text.contains("media=cdrom") && !text.contains("cloudinit");
            let waits = guest.pending.get(slot).cloned().flatten();
            let value = waits.or_else(|| guest.values.get(slot).cloned());
            if slot.parse::<DeviceSlot>().is_ok()
                && value.as_ref().is_some_and(is_cd)
                && !order.contains(slot)
            {
                order.push(slot.clone());
            }
        }
        if order.len() > before {
            let order = format!("order={}", order.join(";"));
            match guest.running {
                true => drop(guest.pending.insert("boot".to_owned(), Some(order))),
                false => drop(guest.values.insert("boot".to_owned(), order)),
            }
        }
        pin_windows(guest, patch, is_made);
        // A drive that is plugged in is written after everything else is set.
        let is_drive = |value: &PatchValue| {
            matches!(value, PatchValue::NewVolume(NewVolume { size: NewSize::CloudInit, .. }))
        };
        if patch.set.values().any(is_drive) {
            guest.stale.clear();
        }
    }

    /// What PVE stores for a value that it is given.
    fn stored(&mut self, vmid: Vmid, key: &str, text: &str) -> String {
        if key == "description" {
            return format!("{}\n", text.trim_end_matches('\n'));
        }
        if key == "tags" {
            let mut tags: Vec<String> = text.split([';', ',', ' ']).map(str::to_lowercase).collect();
            tags.sort();
            tags.dedup();
            return tags.join(";");
        }
        let Ok(slot) = key.parse::<DeviceSlot>() else { return text.to_owned() };
        if key.starts_with("net") {
            let mut nic = PropertyString::parse(key, text).unwrap();
            if nic.get("macaddr").is_none() {
                self.drawn += 1;
                nic.set("macaddr", format!("BC:24:11:00:00:{:02X}", self.drawn % 256));
            } else {
                let mac = nic.get("macaddr").unwrap().to_uppercase();
                nic.set("macaddr", mac);
            }
            return nic.print(key);
        }
        if !slot.bus().holds_volume() {
            return text.to_owned();
        }
        let mut drive = PropertyString::parse(key, text).unwrap();
        let file = drive.get("file").unwrap().to_owned();
        if let Some((storage, gib)) = file.split_once(':').filter(|(_, gib)| gib.parse::<f64>().is_ok()) {
            let volume = self.allocate(vmid, &storage.parse().unwrap());
            let size = match &key[..3] {
                "efi" | "tpm" => Bytes::from_mib(4),
                _ => Bytes::new((gib.parse::<f64>().unwrap() * f64::from(1u32 << 30)) as u64),
            };
            drive.set("file", volume);
            drive.set("size", size.to_pve_size());
            drive.remove("format");
        } else if let Some(storage) = file.strip_suffix(":cloudinit") {
            let volume = format!("{storage}:vm-{vmid}-cloudinit");
            self.volumes.insert(volume.clone());
            drive.set("file", volume);
            drive.set("media", "cdrom");
            drive.remove("format");
        } else if file.contains(":iso/") {
            drive.set("size", "600M");
        } else if drive.get("size").is_none() && self.volumes.contains(&file) {
            drive.set("size", IMAGE_SIZE.to_pve_size());
        }
        drive.print(key)
    }

    fn put(&mut self, vmid: Vmid, key: &str, value: Option<String>) {
        let guest = self.guests.get_mut(&vmid).expect("the VM is there");
        if is_cloud_init(key) && guest.values.values().any(|text| text.contains("cloudinit")) {
            guest.stale.insert(key.to_owned());
        }
        if guest.running && waits(&guest.values, key, value.as_deref()) {
            let same = guest.values.get(key) == value.as_ref();
            if same {
                guest.pending.remove(key);
            } else {
                guest.pending.insert(key.to_owned(), value);
            }
            return;
        }
        guest.pending.remove(key);
        store(guest, key, value, &mut self.volumes);
    }

    /// An imported volume leaves its `unusedN` when it is attached.
    fn disuse(&mut self, vmid: Vmid, volume: &str) {
        let guest = self.guests.get_mut(&vmid).unwrap();
        guest.values.retain(|key, value| !(key.starts_with("unused") && value == volume));
    }

    fn resize(&mut self, vmid: Vmid, slot: &str, size: Bytes) {
        let guest = self.guests.get_mut(&vmid).unwrap();
        // What waits for a restart is left alone, and has the old size.
        let mut drive = PropertyString::parse(slot, &guest.values[slot]).unwrap();
        let there = Bytes::from_pve_size(drive.get("size").unwrap()).unwrap();
        assert!(size >= there, "shrinking disks is not supported: {slot} of {vmid} from {there} to {size}");
        drive.set("size", size.to_pve_size());
        guest.values.insert(slot.to_owned(), drive.print(slot));
        guest.digest += 1;
    }

    fn start(&mut self, vmid: Vmid) {
        let guest = self.guests.get_mut(&vmid).expect("the VM is there");
        assert!(!guest.template, "you can't start a vm if it's a template");
        guest.running = true;
        guest.stale.clear();
        let pending = std::mem::take(&mut guest.pending);
        for (key, value) in pending {
            store(guest, &key, value, &mut self.volumes);
        }
    }

    fn stop(&mut self, vmid: Vmid) {
        let guest = self.guests.get_mut(&vmid).expect("the VM is there");
        guest.running = false;
        let pending = std::mem::take(&mut guest.pending);
        for (key, value) in pending {
            store(guest, &key, value, &mut self.volumes);
        }
    }

    fn delete(&mut self, vmid: Vmid, stop: bool) {
        let guest = self.guests.remove(&vmid).expect("the VM is there");
        assert!(stop || !guest.running, "VM {vmid} is running - destroy failed");
        assert_ne!(guest.values.get("protection").map(String::as_str), Some("1"), "protection mode enabled");
        assert!(!self.ha.resources.contains_key(&vmid), "used in HA resources");
        let named: BTreeSet<String> =
            guest.values.iter().filter_map(|(key, text)| volume_of(key, text)).collect();
        self.volumes.retain(|volume| !named.contains(volume));
    }

    fn clone_guest(
        &mut self,
        source: Vmid,
        vmid: Vmid,
        (node, name): (&NodeName, &GuestName),
        (full, storage): (bool, Option<&StorageId>),
        description: &str,
    ) {
        let from = &self.guests[&source];
        assert!(full || from.template, "a linked clone needs a template");
        let mut values = from.values.clone();
        for gone in ["template", "lock", "parent"] {
            values.remove(gone);
        }
        values.retain(|key, _| !key.starts_with("unused"));
        values.insert("name".to_owned(), name.to_string());
        values.insert("description".to_owned(), format!("{description}\n"));
        self.drawn += 1;
        values.insert("smbios1".to_owned(), format!("uuid=11111111-1111-4111-8111-{:012}", self.drawn));
        let keys: Vec<String> = values.keys().cloned().collect();
        for key in keys {
            let text = values[&key].clone();
            if key.starts_with("net") {
                let mut nic = PropertyString::parse(&key, &text).unwrap();
                nic.remove("macaddr");
                let nic = self.stored(vmid, &key, &nic.print(&key));
                values.insert(key, nic);
            } else if let Some(volume) = volume_of(&key, &text) {
                let mut drive = PropertyString::parse(&key, &text).unwrap();
                if volume.ends_with("cloudinit") {
                    let there = volume.replace(&format!("vm-{source}-"), &format!("vm-{vmid}-"));
                    self.volumes.insert(there.clone());
                    drive.set("file", there);
                } else {
                    let there: StorageId = volume.split_once(':').unwrap().0.parse().unwrap();
                    drive.set("file", self.allocate(vmid, storage.unwrap_or(&there)));
                }
                values.insert(key.clone(), drive.print(&key));
            }
        }
        self.insert(vmid, node, values);
    }

    /// Returns what an observer sees.
    pub fn observed(&self) -> Observed {
        let mut observed = Observed::nothing(self.version);
        for name in &self.nodes {
            let bridges = self.bridges.iter().map(|bridge| bridge.parse().unwrap()).collect();
            let node = ObservedNode {
                online: true,
                bridges: Some(bridges),
                cpus: Some(16),
                memory: Some(Bytes::from_gib(64)),
                cpu_models: None,
            };
            observed.nodes.insert(name.parse().unwrap(), node);
            for storage in &self.storages {
                let (kind, content) = match storage.as_str() {
                    "local" => ("dir", "images,import,iso,snippets"),
                    _ => ("lvmthin", "images,rootdir"),
                };
                observed.storages.push(ObservedStorage {
                    node: name.parse().unwrap(),
                    storage: storage.parse().unwrap(),
                    kind: kind.into(),
                    content: content.split(',').map(str::to_owned).collect(),
                    enabled: true,
                    active: Some(true),
                    shared: false,
                    total: Some(self.space),
                    available: Some(self.space),
                    default_format: Some("raw".to_owned()),
                    formats: BTreeSet::new(),
                    sparse: None,
                });
            }
            for image in &self.images {
                observed.images.push(ObservedImage {
                    node: name.parse().unwrap(),
                    location: image.clone(),
                    present: true,
                    size: Some(Bytes::from_mib(400)),
                    virtual_size: Some(IMAGE_SIZE),
                    format: Some("qcow2".to_owned()),
                });
            }
        }
        for pool in ["lab", "prod"] {
            observed.pools.insert(pool.parse().unwrap());
        }
        observed.rights = self.rights.clone();
        observed.ha = Some(self.ha.clone());
        observed.mappings = self.mappings.clone();
        observed.guests = self.guests.iter().map(|(vmid, guest)| (*vmid, guest.observed(*vmid))).collect();
        observed.guests.extend(self.foreign.clone());
        observed
    }
}

impl Guest {
    fn observed(&self, vmid: Vmid) -> ObservedGuest {
        let volumes =
            self.values.iter().filter_map(|(key, text)| volume_of(key, text)?.parse().ok()).collect();
        ObservedGuest {
            vmid,
            node: self.node.clone(),
            name: self.values.get("name").cloned(),
            kind: pve_types::GuestKind::Vm,
            status: if self.running { PowerState::Running } else { PowerState::Stopped },
            template: self.template,
            pool: self.pool.clone(),
            volumes: Some(volumes),
            facts: vmdeploy_planner::identity::facts_of(pve_types::GuestKind::Vm, &self.values),
            config: Some(ObservedConfig {
                values: self.values.clone(),
                pending: self.pending.clone(),
                digest: Some(self.digest.to_string()),
                lock: None,
                snapshots: false,
                cloud_init_stale: self.stale.clone(),
            }),
        }
    }
}

fn with_size(slot: &str, volume: &str, options: &str, size: Bytes) -> String {
    let mut drive = PropertyString::parse(slot, &format!("{volume},{options}")).unwrap();
    drive.set("size", size.to_pve_size());
    drive.remove("format");
    drive.print(slot)
}

fn volume_of(key: &str, text: &str) -> Option<String> {
    let slot: DeviceSlot = key.parse().ok()?;
    let drive = slot.bus().holds_volume().then(|| PropertyString::parse(key, text).ok())??;
    let file = drive.get("file")?;
    (file.contains(':') && !file.contains(":iso/")).then(|| file.to_owned())
}

fn store(guest: &mut Guest, key: &str, value: Option<String>, volumes: &mut BTreeSet<String>) {
    let old = match value {
        Some(value) => guest.values.insert(key.to_owned(), value),
        None => guest.values.remove(key),
    };
    let Some(old) = old.as_deref().and_then(|text| volume_of(key, text)) else { return };
    let still = guest.values.iter().any(|(key, text)| volume_of(key, text).as_deref() == Some(&old));
    if still {
        return;
    }
    if old.ends_with("cloudinit") || key.starts_with("unused") {
        volumes.remove(&old);
    } else {
        unuse(guest, &old);
    }
}

fn unuse(guest: &mut Guest, volume: &str) {
    let free = (0..256).map(|n| format!("unused{n}")).find(|slot| !guest.values.contains_key(slot));
    guest.values.insert(free.unwrap(), volume.to_owned());
}

/// Pins the machine version where a guest is made as, or becomes, Windows.
// PVE: qemu-server src/PVE/QemuServer/Machine.pm check_and_pin_machine_string.
fn pin_windows(guest: &mut Guest, patch: &ConfigPatch, is_made: bool) {
    let is_windows = guest.values.get("ostype").is_some_and(|ostype| ostype.starts_with('w'));
    let becomes = is_made || (patch.set.contains_key("ostype") && !patch.set.contains_key("machine"));
    let machine = guest.values.get("machine").cloned().unwrap_or_else(|| "pc".to_owned());
    let mut machine = PropertyString::parse("machine", &machine).unwrap();
    let pinned = match machine.get("type").unwrap_or("pc") {
        "pc" => "pc-i440fx-10.0+pve1",
        "q35" => "pc-q35-10.0+pve1",
        _ => return,
    };
    if is_windows && becomes {
        machine.set("type", pinned);
        guest.values.insert("machine".to_owned(), machine.print("machine"));
    }
}

fn is_cloud_init(key: &str) -> bool {
    key.starts_with("ci")
        || key.starts_with("net")
        || key == "name"
        || key.starts_with("ipconfig")
        || matches!(key, "sshkeys" | "nameserver" | "searchdomain")
}

/// What a running guest takes only at its restart.
// PVE: qemu-server src/PVE/QemuServer.pm vmconfig_hotplug_pending.
fn waits(values: &BTreeMap<String, String>, key: &str, to: Option<&str>) -> bool {
    const FAST: [&str; 12] = [
        "description",
        "hookscript",
        "lock",
        "migrate_downtime",
        "migrate_speed",
        "name",
        "onboot",
        "protection",
        "shares",
        "startup",
        "tags",
        "vmstatestorage",
    ];
    let from = values.get(key).map(String::as_str);
    let plugs = |what: &str| match values.get("hotplug").map(String::as_str) {
        None | Some("1") => ["network", "disk", "usb"].contains(&what),
        Some(list) => list.split(',').any(|item| item == what),
    };
    let is_cd = |text: Option<&str>| text.is_some_and(|text| text.contains("media=cdrom"));
    let is_off = |text: Option<&str>| text == Some("0");
    let fields =
        |text: Option<&str>| text.and_then(|text| PropertyString::parse(key, text).ok()).unwrap_or_default();
    let base = key.trim_end_matches(|c: char| c.is_ascii_digit());
    match base {
        _ if FAST.contains(&key) || is_cloud_init(key) => false,
        "unused" | "cpulimit" | "cpuunits" => false,
        "balloon" => is_off(from) != is_off(to),
        "hotplug" => {
            to.is_some_and(|to| to.contains("memory")) != from.is_some_and(|from| from.contains("memory"))
        }
        "tablet" => !plugs("usb"),
        "usb" => !plugs("usb") || [from, to].iter().flatten().any(|text| text.contains("spice")),
        "net" => !plugs("network"),
        "vcpus" => !plugs("cpu"),
        "memory" => !plugs("memory"),
        "ide" | "sata" => !(is_cd(from) && is_cd(to)),
        "scsi" | "virtio" if is_cd(from) && is_cd(to) => false,
        "scsi" | "virtio" if from.is_none() || to.is_none() => !plugs("disk"),
        "scsi" | "virtio" => {
            let (from, to) = (fields(from), fields(to));
            let cold =
                ["aio", "cache", "detect_zeroes", "discard", "file", "iothread", "queues", "ro", "ssd"];
            let more = ["product", "rerror", "scsiblock", "serial", "snapshot", "vendor", "werror", "wwn"];
            !plugs("disk") || cold.iter().chain(&more).any(|name| from.get(name) != to.get(name))
        }
        _ => true,
    }
}

fn encoded(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
