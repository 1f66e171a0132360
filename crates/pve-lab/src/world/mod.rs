//! The world: everything that a PVE cluster knows, and the time in which it changes.

mod access;
mod broadcast;
mod build;
mod clock;
mod delays;
mod firewall;
mod guests;
mod handle;
mod roles;
mod spec;
mod storages;
mod task;
mod volume_work;
mod volumes;

use std::collections::BTreeMap;
use std::time::Duration;

use pve_types::{PveVersion, Vmid};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::vfs::Vfs;

pub use access::{Access, AclNode, Factor, FactorKind, Grants, Pool, Realm, Role, Token, User};
pub(crate) use build::{made_up_uuid, write_content};
pub use clock::{Agenda, Clock, Event};
pub use delays::Delays;
pub use firewall::{Firewall, FirewallScope, Rule};
pub use guests::{Config, Guest, GuestKind, Pending, Power, Snapshot, encode_description};
pub use handle::WorldHandle;
pub use roles::all_privileges;
pub use spec::{
    AclSpec, ContentSpec, FileSpec, GuestBehaviour, GuestSpec, MappingKind, MappingSpec, NodeSpec, PoolSpec,
    StorageSpec, TokenSpec, UserSpec, UserTokenSpec, VnetSpec, WorldSpec, WorldSpecError, ZoneSpec,
};
pub use storages::{BlockStore, BlockVolume, StorageDef};
pub use task::{Next, Revert, Stage, Task, TaskKey, Tasks, Work, Worker};
pub use volume_work::{Made, NewVolume};
pub use volumes::{Volume, VolumeName, content_folder, image_format, parse_name, split_id};

/// A node's own state.
#[derive(Debug)]
pub struct Node {
    /// What the world file said of it.
    pub spec: NodeSpec,
    /// Its number in the cluster.
    pub number: u32,
    /// Its address.
    pub address: String,
    /// Its files, but for those of shared storages.
    pub files: Vfs,
}

/// Bytes of a file that are in memory while it is copied.
const COPIED_AT_ONCE: u64 = 1 << 20;

/// A whole PVE cluster.
pub struct World {
    /// The version of pve-manager on every node.
    pub version: PveVersion,
    /// The cluster's name, `None` for a stand-alone node.
    pub cluster: Option<String>,
    /// Whether the cluster has quorum.
    pub quorate: bool,
    /// The node behind the API's door.
    pub door: String,
    /// The nodes by name.
    pub nodes: BTreeMap<String, Node>,
    /// Storage definitions by id.
    pub storages: BTreeMap<String, StorageDef>,
    /// The volumes of storages that are not made of files: by node (empty when shared) and storage id.
    pub block_stores: BTreeMap<(String, String), BlockStore>,
    /// The files of shared storages, by storage id.
    pub shared_files: BTreeMap<String, Vfs>,
    /// What the nodes share in `/etc/pve` beside the state that is shown there (lock directories).
    pub cluster_files: crate::vfs::Vfs,
    /// What can be downloaded.
    pub urls: BTreeMap<String, ContentSpec>,
    /// The guests.
    pub guests: BTreeMap<Vmid, Guest>,
    /// How guests behave by default.
    pub guest_behaviour: GuestBehaviour,
    /// How certain guests behave.
    pub guest_behaviours: BTreeMap<Vmid, GuestBehaviour>,
    /// Addresses that DHCP has given to guests.
    pub guest_leases: crate::guest::Leases,
    /// Users, roles, ACLs, pools.
    pub access: Access,
    /// datacenter.cfg.
    pub datacenter: BTreeMap<String, String>,
    /// SDN zones beside the one of plain bridges.
    pub zones: BTreeMap<String, ZoneSpec>,
    /// The cluster's own CPU models by name, each with the vendor that it has.
    pub cpu_models: BTreeMap<String, String>,
    /// The firewalls that were written.
    pub firewalls: BTreeMap<FirewallScope, Firewall>,
    /// Other files of /etc/pve that are made of sections (HA, backup jobs, mappings): file, section id, options.
    pub sections: BTreeMap<&'static str, BTreeMap<String, Config>>,
    /// What pvestatd has told of the guests.
    pub(crate) broadcast: broadcast::Broadcast,
    /// Tasks and guest locks.
    pub tasks: Tasks,
    /// What goes wrong.
    pub faults: crate::fault::Faults,
    /// How long things take.
    pub delays: Delays,
    /// Until when the storages are busy with allocating, in microseconds, by node (empty when shared) and storage.
    pub(crate) allocations: BTreeMap<(String, String), u64>,
    /// The world's randomness: one seed gives one history.
    pub random: StdRng,
    /// Where time comes from.
    pub clock: Clock,
    agenda: Agenda,
    born: u64,
    present: u64,
    revision: u64,
}

impl World {
    /// Makes the world that `spec` describes.
    pub fn new(spec: &WorldSpec, seed: u64) -> Self {
        build::build(spec, StdRng::seed_from_u64(seed))
    }

    /// The present, in microseconds of the Unix epoch. It stands still while the world is being changed.
    pub fn now(&self) -> u64 {
        self.present
    }
    /// The present in seconds of the Unix epoch.
    pub fn now_seconds(&self) -> u64 {
        self.present / 1_000_000
    }
    /// Seconds since the lab started.
    pub(crate) fn age_seconds(&self) -> u64 {
        self.present.saturating_sub(self.born) / 1_000_000
    }
    /// The clock ticks since the API's node came up.
    pub(crate) fn uptime_ticks(&self) -> u64 {
        self.nodes.get(&self.door).map_or(0, |node| node.spec.uptime_seconds * 100)
    }
    /// Puts `event` on the agenda, `delay` from now; the key strikes it off again.
    pub fn after(&mut self, delay: Duration, event: Event) -> (u64, u64) {
        let time = self.present + u64::try_from(delay.as_micros()).unwrap_or(u64::MAX / 2);
        self.agenda.put(time, event)
    }
    /// Strikes an event off the agenda.
    pub fn strike(&mut self, entry: (u64, u64)) {
        self.agenda.strike(entry);
    }
    /// When the next event is due.
    pub fn next_due(&self) -> Option<u64> {
        self.agenda.next_due()
    }
    /// Brings the world to the clock's present: everything due happens, in order, each at its own time.
    pub fn settle(&mut self) {
        let now = self.clock.now().max(self.present);
        while let Some(due) = self.agenda.next_due().filter(|due| *due <= now) {
            self.broadcast_until(due);
            self.present = self.present.max(due);
            if let Some(event) = self.agenda.take_due(now) {
                event(self);
            }
        }
        self.broadcast_until(now);
        self.present = now;
    }
    /// Says that something changed that others may wait for.
    pub fn touch(&mut self) {
        self.revision += 1;
    }
    /// Counts such changes.
    pub fn revision(&self) -> u64 {
        self.revision
    }
    /// The zone that a bridge or VNet is in.
    // PVE: pve-network src/PVE/Network/SDN/Zones.pm: plain bridges are in `localnetwork`.
    pub fn zone_of(&self, bridge: &str) -> &str {
        let zone = self.zones.iter().find(|(_, zone)| zone.vnets.contains_key(bridge));
        zone.map_or("localnetwork", |(name, _)| name)
    }
    /// Tells whether a guest on the node can be plugged into this bridge or VNet.
    pub fn has_bridge(&self, node: &str, bridge: &str) -> bool {
        self.nodes.get(node).is_some_and(|node| node.spec.bridges.iter().any(|known| known == bridge))
            || self.zones.values().any(|zone| zone.is_on(node) && zone.vnets.contains_key(bridge))
    }
    /// The tree that holds `path` on `node`, `None` for an unknown node.
    pub fn files(&self, node: &str, path: &str) -> Option<&Vfs> {
        match self.shared_storage_of(path) {
            Some(storage) => self.shared_files.get(&storage),
            None => self.nodes.get(node).map(|node| &node.files),
        }
    }
    /// The tree that holds `path` on `node`, to change it.
    pub fn files_mut(&mut self, node: &str, path: &str) -> Option<&mut Vfs> {
        match self.shared_storage_of(path) {
            Some(storage) => self.shared_files.get_mut(&storage),
            None => self.nodes.get_mut(node).map(|node| &mut node.files),
        }
    }
    /// Copies a file, also between a node's own files and a shared storage.
    ///
    /// # Errors
    /// The text of what failed.
    pub fn copy_file(&mut self, node: &str, from: &str, to: &str) -> Result<(), String> {
        let (source, target) = (self.shared_storage_of(from), self.shared_storage_of(to));
        let folder = to.rsplit_once('/').map_or("/", |(folder, _)| folder).to_owned();
        let no_node = || format!("no such node '{node}'");
        let failed = |error: crate::vfs::FsError| format!("cp: error writing '{to}': {error}");
        if source == target {
            let tree = self.files_mut(node, to).ok_or_else(no_node)?;
            return tree.create_dir_all(&folder).and_then(|()| tree.copy(from, to)).map_err(failed);
        }
        let tree = self.files_mut(node, to).ok_or_else(no_node)?;
        tree.create_dir_all(&folder).and_then(|()| tree.write(to, b"")).map_err(failed)?;
        let mut offset = 0;
        loop {
            let piece = self.files(node, from).ok_or_else(no_node)?.read_at(from, offset, COPIED_AT_ONCE);
            let piece = piece.map_err(failed)?;
            if piece.is_empty() {
                return Ok(());
            }
            let tree = self.files_mut(node, to).ok_or_else(no_node)?;
            tree.write_at(to, offset, &piece).map_err(failed)?;
            offset += piece.len() as u64;
        }
    }
    fn shared_storage_of(&self, path: &str) -> Option<String> {
        let inside = |def: &&StorageDef| {
            def.is_shared()
                && def.path().is_some_and(|base| path == base || path.starts_with(&format!("{base}/")))
        };
        self.storages.values().find(inside).map(|def| def.id.clone())
    }
}
