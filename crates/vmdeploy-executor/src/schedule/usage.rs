//! What is occupied by the steps on the wire, counted, so that asking for room is cheap for large plans, too.

use super::Claims;
use pve_types::{GuestName, NodeName, StorageId, Vmid};
use std::collections::BTreeMap;
use vmdeploy_planner::plan::Limits;

/// What is occupied.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage {
    /// How many steps are on the wire.
    pub(super) on_the_wire: usize,
    writes: BTreeMap<Vmid, u32>,
    copies: BTreeMap<Vmid, u32>,
    /// Steps on each node: those by API, and those by SSH.
    nodes: [BTreeMap<NodeName, u32>; 2],
    storages: BTreeMap<StorageId, u32>,
    vms: BTreeMap<GuestName, u32>,
}

impl Usage {
    /// Occupies what a step claims.
    pub(super) fn take(&mut self, claims: &Claims, vm: Option<&GuestName>) {
        self.on_the_wire += 1;
        claims.writes.iter().for_each(|vmid| add(&mut self.writes, vmid));
        claims.copies.iter().for_each(|vmid| add(&mut self.copies, vmid));
        claims.node.iter().for_each(|node| add(&mut self.nodes[usize::from(claims.by_ssh)], node));
        claims.storages.iter().for_each(|storage| add(&mut self.storages, storage));
        vm.into_iter().for_each(|vm| add(&mut self.vms, vm));
    }
    /// Gives it back.
    pub(super) fn release(&mut self, claims: &Claims, vm: Option<&GuestName>) {
        self.on_the_wire -= 1;
        claims.writes.iter().for_each(|vmid| remove(&mut self.writes, vmid));
        claims.copies.iter().for_each(|vmid| remove(&mut self.copies, vmid));
        claims.node.iter().for_each(|node| remove(&mut self.nodes[usize::from(claims.by_ssh)], node));
        claims.storages.iter().for_each(|storage| remove(&mut self.storages, storage));
        vm.into_iter().for_each(|vm| remove(&mut self.vms, vm));
    }
    /// Tells whether these claims find room now.
    pub(super) fn has_room(&self, claims: &Claims, limits: Limits) -> bool {
        self.is_free(claims) && self.has_place(claims, limits)
    }
    /// Tells whether no other step uses the guests that are written to.
    pub(super) fn is_free(&self, claims: &Claims) -> bool {
        let is_unused = |vmid: &Vmid| !self.writes.contains_key(vmid) && !self.copies.contains_key(vmid);
        claims.writes.iter().all(is_unused)
    }
    /// Tells whether the limits leave room at the node, the storages and the clone source. A limit of zero counts as one.
    pub(super) fn has_place(&self, claims: &Claims, limits: Limits) -> bool {
        let source = |vmid: &Vmid| {
            !self.writes.contains_key(vmid) && count(&self.copies, vmid) < limits.per_source.max(1)
        };
        let nodes = &self.nodes[usize::from(claims.by_ssh)];
        claims.copies.iter().all(source)
            && claims.node.iter().all(|node| count(nodes, node) < limits.per_node.max(1))
            && claims.storages.iter().all(|name| count(&self.storages, name) < limits.per_storage.max(1))
    }
    /// Tells whether a step of the VM is on the wire.
    pub(super) fn has_steps_of(&self, vm: &GuestName) -> bool {
        self.vms.contains_key(vm)
    }
}

fn count<K: Ord>(counts: &BTreeMap<K, u32>, key: &K) -> u32 {
    counts.get(key).copied().unwrap_or(0)
}

fn add<K: Ord + Clone>(counts: &mut BTreeMap<K, u32>, key: &K) {
    *counts.entry(key.clone()).or_default() += 1;
}

fn remove<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(number) = counts.get_mut(key) {
        *number -= 1;
        if *number == 0 {
            counts.remove(key);
        }
    }
}
