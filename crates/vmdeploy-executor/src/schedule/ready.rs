//! The steps that may begin as far as others go, in lanes: the steps of one lane claim the same node, storages and clone
//! source, so that where one of them finds no room, none does. Large plans have thousands of steps that wait for room,
//! and few lanes.

use super::{Claims, Node};
use pve_types::{NodeName, StorageId, Vmid};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// A step's turn: the one with the longest chain behind it goes first, then the plan's order counts.
pub(super) type Turn = (Reverse<usize>, usize);

/// What the steps of a lane claim alike.
type Kind = (Option<NodeName>, bool, BTreeSet<StorageId>, Option<Vmid>);

/// The steps that may begin.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    lanes: Vec<BTreeSet<Turn>>,
    lane_of: Vec<usize>,
}

impl Ready {
    /// Returns the lanes of these steps, with no step in them.
    pub(super) fn of(nodes: &[Node]) -> Self {
        let mut kinds = BTreeMap::new();
        let mut lane_of = Vec::with_capacity(nodes.len());
        for node in nodes {
            let next = kinds.len();
            lane_of.push(*kinds.entry(kind(&node.task.claims)).or_insert(next));
        }
        Self { lanes: vec![BTreeSet::new(); kinds.len()], lane_of }
    }
    /// Notes whether a step may begin.
    pub(super) fn note(&mut self, turn: Turn, is_ready: bool) {
        let lane = &mut self.lanes[self.lane_of[turn.1]];
        if is_ready {
            lane.insert(turn);
        } else {
            lane.remove(&turn);
        }
    }
    /// Returns the first step of each lane.
    pub(super) fn heads(&self) -> BTreeSet<Turn> {
        self.lanes.iter().filter_map(|lane| lane.first().copied()).collect()
    }
    /// Returns the step behind this one in its lane.
    pub(super) fn behind(&self, turn: Turn) -> Option<Turn> {
        let lane = &self.lanes[self.lane_of[turn.1]];
        lane.range((Bound::Excluded(turn), Bound::Unbounded)).next().copied()
    }
}

fn kind(claims: &Claims) -> Kind {
    (claims.node.clone(), claims.by_ssh, claims.storages.clone(), claims.copies)
}
