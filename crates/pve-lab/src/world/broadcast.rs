//! What each node's pvestatd tells the cluster of its guests, and when: lists show that, and not what is.
// PVE: pve-manager PVE/Service/pvestatd.pm run ($updatetime = 10) and update_qemu_status; PVE/API2Tools.pm
// extract_vm_stats; pve-cluster src/pmxcfs/status.c rrd_dump (entries of the last five minutes).

use std::collections::BTreeMap;
use std::time::Duration;

use pve_types::Vmid;
use serde_json::{Map, Value};

use super::World;

/// How long an entry is kept that is not told again, in microseconds.
const KEPT: u64 = 300 * 1_000_000;

/// What was told last.
#[derive(Debug, Default)]
pub(crate) struct Broadcast {
    interval: Duration,
    /// When it is told next, in microseconds. It is not on the agenda: nothing waits for it.
    next: u64,
    /// Of each VMID, when it was told and what: the next guest with that VMID has it as well, until it is updated.
    told: BTreeMap<Vmid, (u64, Map<String, Value>)>,
}

impl Broadcast {
    /// Tells every `interval`; with none, lists always show what is.
    pub(crate) fn every(interval: Duration) -> Self {
        Self { interval, next: 0, told: BTreeMap::new() }
    }
}

impl World {
    /// Tells what is where its time has come by `until`: the world has not changed since then.
    pub(super) fn broadcast_until(&mut self, until: u64) {
        let interval = u64::try_from(self.broadcast.interval.as_micros()).unwrap_or(u64::MAX);
        if interval == 0 || self.broadcast.next > until {
            return;
        }
        let now = self.present;
        // Turns that were missed all told the same; the last one counts.
        let missed = (until - self.broadcast.next.max(self.born)) / interval;
        self.present = self.broadcast.next.max(self.born) + missed * interval;
        self.broadcast.next = self.present + interval;
        self.broadcast_now();
        self.present = now;
    }

    /// Tells what is, as if all nodes' pvestatd had just had their turn.
    pub fn broadcast_now(&mut self) {
        let now = self.now();
        let up = |node: &str| self.nodes.get(node).is_some_and(|node| node.spec.up);
        let told: Vec<_> = self
            .guests
            .values()
            .filter(|guest| up(&guest.node))
            .map(|guest| (guest.vmid, (now, crate::api::cluster::guest_stats(self, guest))))
            .collect();
        self.broadcast.told.extend(told);
        self.broadcast.told.retain(|_, (at, _)| *at + KEPT >= now);
    }

    /// What lists show of a guest in addition to the cluster file system: nothing for one that was never reported.
    pub(crate) fn told_of(&self, vmid: Vmid) -> Option<Map<String, Value>> {
        match (self.broadcast.interval.is_zero(), self.guests.get(&vmid)) {
            (true, Some(guest)) => Some(crate::api::cluster::guest_stats(self, guest)),
            _ => self.broadcast.told.get(&vmid).map(|(_, stats)| stats.clone()),
        }
    }
}
