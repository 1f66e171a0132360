//! The graph of steps: links both ways, heights, and who needs a shared step.

use super::{Node, Past, State, Task};
use pve_types::GuestName;
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_planner::plan::StepId;

/// Links the tasks, which come in an order that respects `after`.
pub(super) fn linked(tasks: Vec<Task>, index: &BTreeMap<StepId, usize>) -> Vec<Node> {
    let mut nodes: Vec<Node> = tasks.into_iter().map(|task| node(task, index)).collect();
    for place in 0..nodes.len() {
        for before in nodes[place].before.clone() {
            nodes[before].behind.push(place);
        }
        let is_open = |before: &&usize| !matches!(nodes[**before].state, State::Done { .. });
        nodes[place].waits_for = nodes[place].before.iter().filter(is_open).count();
    }
    for place in (0..nodes.len()).rev() {
        let highest = nodes[place].behind.iter().map(|behind| nodes[*behind].height + 1).max();
        nodes[place].height = highest.unwrap_or(0);
    }
    for place in 0..nodes.len() {
        if nodes[place].task.vm.is_none() {
            nodes[place].needed_by = vms_behind(&nodes, place);
        }
    }
    nodes
}

fn node(task: Task, index: &BTreeMap<StepId, usize>) -> Node {
    let state = match task.past {
        Past::None => State::Ready { probe: false },
        Past::Begun => State::Ready { probe: true },
        Past::Done { changed } => State::Done { changed },
        Past::Reverting => State::RevertDue,
        Past::RolledBack => State::RolledBack,
    };
    let before = task.after.iter().filter_map(|id| index.get(id).copied()).collect();
    Node {
        task,
        before,
        behind: Vec::new(),
        height: 0,
        needed_by: BTreeSet::new(),
        waits_for: 0,
        state,
        attempts: 0,
    }
}

fn vms_behind(nodes: &[Node], place: usize) -> BTreeSet<GuestName> {
    all_behind(nodes, place).into_iter().filter_map(|behind| nodes[behind].task.vm.clone()).collect()
}

/// Returns everything that depends on the step, directly or not.
pub(super) fn all_behind(nodes: &[Node], place: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open = nodes[place].behind.clone();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(&nodes[next].behind);
        }
    }
    found
}
