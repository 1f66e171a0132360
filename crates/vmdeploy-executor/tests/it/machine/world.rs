//! The cluster of the state machine: what is in it, and what of it is whose.

use crate::fixture::Fixture;
use pve_lab::World;
use pve_lab::world::{Guest, Snapshot};
use pve_types::Vmid;
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_planner::identity::{Marker, MarkerSearch};

/// Foreign guests of every kind that volumes can be shared or mixed up with: one that runs, a template with a linked
/// clone, a container, one that kept disks are handed to.
pub const WORLD: &str = "
token: {id: root@pam!lab, privsep: false}
storages:
  local: {type: dir, content: [images, iso, import, snippets], size: 900GiB, options: {path: /var/lib/vz}}
  local-lvm: {type: lvmthin, content: [images, rootdir], size: 900GiB, options: {vgname: pve, thinpool: data}}
  fast: {type: lvmthin, content: [images, rootdir], size: 900GiB, options: {vgname: fast, thinpool: data}}
  tank: {type: zfspool, content: [images, rootdir], size: 900GiB, options: {pool: tank}}
files:
  - {path: /var/lib/vz/import/tiny.qcow2, content: {format: qcow2, virtual_size: 1GiB, file_size: 64MiB, seed: 7}}
  - {path: /var/lib/vz/import/other.qcow2, content: {format: qcow2, virtual_size: 1GiB, file_size: 64MiB, seed: 8}}
guests:
  100: {node: pve1, running: true, config: {name: db, memory: '512', scsi0: 'local-lvm:vm-100-disk-0,size=32G', scsi1: 'fast:vm-100-disk-0,size=8G', unused0: 'fast:vm-100-disk-1'}}
  101: {node: pve1, config: {name: base, template: '1', scsi0: 'tank:base-101-disk-0,size=4G'}}
  102: {node: pve1, config: {name: linked, scsi0: 'tank:base-101-disk-0/vm-102-disk-0,size=4G'}}
  103: {node: pve1, kind: lxc, config: {hostname: ct, ostype: debian, rootfs: 'local-lvm:vm-103-disk-0,size=4G', mp0: 'fast:vm-103-disk-0,mp=/srv,size=4G'}}
  104: {node: pve1, config: {name: old, efidisk0: 'local-lvm:vm-104-disk-0,size=4M', scsi0: 'local:104/vm-104-disk-0.qcow2,size=4G'}}
  300: {node: pve1, config: {name: holder}}
";

/// The project of the VMs under test.
pub const PROJECT: &str = "machine";
/// The project's lock on the cluster.
pub const LOCK: &str = "/etc/pve/priv/lock/vmdeploy-machine";
/// The foreign VM that disks are handed to which survive their VM.
pub const HOLDER: u32 = 300;
/// The VMIDs that the spec may use.
pub const OURS: std::ops::RangeInclusive<u32> = 201..=210;

/// Everything that a run may change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    pub guests: BTreeMap<u32, GuestState>,
    /// All volumes of guests by their ids, with what tells a volume from another one of that name.
    pub volumes: BTreeMap<String, String>,
    /// Files of ours on the node.
    pub files: BTreeSet<String>,
}

/// One guest.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GuestState {
    /// Its configuration, what waits for a restart (`pending KEY`) and its snapshots (`[NAME] KEY`).
    pub values: BTreeMap<String, String>,
    pub is_ours: bool,
    pub is_running: bool,
}

impl GuestState {
    fn of(vmid: Vmid, guest: &Guest) -> Self {
        let mut values = guest.config.clone();
        values.extend(guest.pending.set.iter().map(|(key, value)| (format!("pending {key}"), value.clone())));
        values.extend(guest.pending.delete.keys().map(|key| (format!("pending -{key}"), String::new())));
        for (name, snapshot) in &guest.snapshots {
            let Snapshot { config, vmstate, .. } = snapshot;
            values.extend(config.iter().map(|(key, value)| (format!("[{name}] {key}"), value.clone())));
            values.extend(vmstate.iter().map(|value| (format!("[{name}] vmstate"), value.clone())));
            values.insert(format!("[{name}]"), String::new());
        }
        Self { values, is_ours: is_ours(vmid, guest), is_running: guest.is_running() }
    }
    /// Returns the volumes that it names, whether they are there or not.
    pub fn volumes(&self) -> BTreeSet<String> {
        self.values.iter().filter_map(|(key, value)| volume_in(key, value)).collect()
    }
}

/// Returns the volume that a value names.
pub fn volume_in(key: &str, value: &str) -> Option<String> {
    let volume = value.split(',').next()?;
    let (storage, name) = volume.split_once(':')?;
    let is_storage = matches!(storage, "local" | "local-lvm" | "fast" | "tank");
    let is_disk = name.contains("vm-") || name.contains("base-") || name.contains("subvol-");
    (is_storage && is_disk && !key.contains("description")).then(|| volume.to_owned())
}

fn is_ours(vmid: Vmid, guest: &Guest) -> bool {
    let text = guest.config.get("description").map(String::as_str).unwrap_or_default();
    match Marker::find(text) {
        MarkerSearch::Found(marker) => marker.project == PROJECT && marker.vmid == vmid,
        // What is left of a creation whose worker was not started.
        MarkerSearch::Absent => guest.lock() == Some("create") && OURS.contains(&vmid.get()),
        MarkerSearch::Damaged => false,
    }
}

impl State {
    pub fn of(fixture: &Fixture) -> Self {
        fixture.lab.world().with(|world| Self::read(world))
    }
    pub fn read(world: &World) -> Self {
        let guests = world.guests.iter();
        let guests = guests.map(|(vmid, guest)| (vmid.get(), GuestState::of(*vmid, guest))).collect();
        let mut volumes = BTreeMap::new();
        for storage in world.storages.keys() {
            for volume in world.volumes("pve1", storage, None) {
                if volume.name.content != "images" && volume.name.content != "rootdir" {
                    continue;
                }
                let store = world.block_stores.get(&("pve1".to_owned(), storage.clone()));
                let block = store.and_then(|store| store.volumes.get(&volume.name.name));
                let detail = match block {
                    Some(block) => format!("{} {:?} {}", block.size, block.parent, block.seed),
                    None => format!("{} {:?}", volume.size, volume.parent),
                };
                volumes.insert(volume.id, detail);
            }
        }
        let files = ["/run", "/var/lib/vz/snippets"].iter().flat_map(|folder| {
            let names = world.nodes["pve1"].files.list(folder).unwrap_or_default();
            names.into_iter().map(move |name| format!("{folder}/{name}"))
        });
        let files = files.filter(|name| name.contains("vmdeploy")).collect();
        Self { guests, volumes, files }
    }
    /// Returns the volumes that no guest names.
    pub fn unnamed(&self) -> BTreeSet<String> {
        let named: BTreeSet<String> = self.guests.values().flat_map(GuestState::volumes).collect();
        self.volumes.keys().filter(|volume| !named.contains(*volume)).cloned().collect()
    }
    /// Does to this state what happened between two others.
    pub fn also(&mut self, before: &Self, after: &Self) {
        for vmid in before.guests.keys().chain(after.guests.keys()) {
            match (before.guests.get(vmid), after.guests.get(vmid)) {
                (_, None) => drop(self.guests.remove(vmid)),
                (None, Some(new)) => drop(self.guests.insert(*vmid, new.clone())),
                (Some(old), Some(new)) if old != new => {
                    let Some(own) = self.guests.get_mut(vmid) else {
                        // One that the run made, and that is theirs now.
                        if !new.is_ours {
                            self.guests.insert(*vmid, new.clone());
                        }
                        continue;
                    };
                    for key in old.values.keys().chain(new.values.keys()) {
                        match (old.values.get(key), new.values.get(key)) {
                            (_, None) => drop(own.values.remove(key)),
                            (there, Some(value)) if there != Some(value) => {
                                own.values.insert(key.clone(), value.clone());
                            }
                            _ => {}
                        }
                    }
                    own.is_ours = new.is_ours;
                    if old.is_running != new.is_running {
                        own.is_running = new.is_running;
                    }
                }
                _ => {}
            }
        }
        let foreign = after.guests.values().filter(|guest| !guest.is_ours).flat_map(GuestState::volumes);
        let foreign: BTreeSet<String> = foreign.collect();
        for (volume, detail) in &after.volumes {
            // What the run made meanwhile may be in a guest of theirs now; what only grew is still the run's.
            let is_new = !before.volumes.contains_key(volume);
            let is_changed = before.volumes.get(volume) != Some(detail) && self.volumes.contains_key(volume);
            if is_new || is_changed || foreign.contains(volume) {
                self.volumes.insert(volume.clone(), detail.clone());
            }
        }
        self.volumes
            .retain(|volume, _| after.volumes.contains_key(volume) || !before.volumes.contains_key(volume));
    }
    /// Returns in words how a later state of a guest of this number differs, with its volumes; empty where it does not.
    pub fn difference(&self, now: &Self, vmid: u32) -> String {
        let volumes = |state: &Self| -> BTreeMap<String, String> {
            let of_guest = state.guests.get(&vmid).map(GuestState::volumes).unwrap_or_default();
            let by_name = |volume: &str| {
                let name = volume.rsplit(['/', ':']).next().unwrap_or_default();
                name.starts_with(&format!("vm-{vmid}-")) || name.starts_with(&format!("base-{vmid}-"))
            };
            let is_its = |volume: &str| of_guest.contains(volume) || by_name(volume);
            state
                .volumes
                .iter()
                .filter(|(id, _)| is_its(id))
                .map(|(id, it)| (id.clone(), it.clone()))
                .collect()
        };
        let mut found = Vec::new();
        match (self.guests.get(&vmid), now.guests.get(&vmid)) {
            (None, None) => {}
            (Some(_), None) => found.push("it is gone".to_owned()),
            (None, Some(_)) => found.push("it is there".to_owned()),
            (Some(old), Some(new)) => {
                for key in old.values.keys().chain(new.values.keys()) {
                    let (before, after) = (old.values.get(key), new.values.get(key));
                    let varies = matches!(key.as_str(), "meta" | "vmgenid" | "digest");
                    if before != after && !varies {
                        found.push(format!("{key}: {before:?} -> {after:?}"));
                    }
                }
                if old.is_running != new.is_running {
                    found.push(format!("running: {} -> {}", old.is_running, new.is_running));
                }
            }
        }
        let (before, after) = (volumes(self), volumes(now));
        for (volume, detail) in &before {
            if after.get(volume) != Some(detail) {
                found.push(format!("volume {volume}: {detail} -> {:?}", after.get(volume)));
            }
        }
        found.extend(
            after.keys().filter(|id| !before.contains_key(*id)).map(|id| format!("volume {id} is new")),
        );
        found.dedup();
        found.join("; ")
    }
}
