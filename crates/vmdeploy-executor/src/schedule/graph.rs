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
        for before in nodes[place].follows.clone() {
            nodes[before].followed_by.push(place);
        }
        nodes[place].has_ended = has_ended(&nodes, place);
        let is_open = |before: &&usize| !matches!(nodes[**before].state, State::Done { .. });
        let waits_for = nodes[place].before.iter().filter(is_open).count();
        let is_under_way = |before: &&usize| !nodes[**before].has_ended;
        nodes[place].waits_for = waits_for + nodes[place].follows.iter().filter(is_under_way).count();
    }
    for place in (0..nodes.len()).rev() {
        let later = nodes[place].behind.iter().chain(&nodes[place].followed_by);
        let highest = later.map(|behind| nodes[*behind].height + 1).max();
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
    let follows = task.follows.iter().filter_map(|id| index.get(id).copied()).collect();
    Node {
        task,
        before,
        follows,
        behind: Vec::new(),
        followed_by: Vec::new(),
        has_ended: false,
        height: 0,
        needed_by: BTreeSet::new(),
        waits_for: 0,
        state,
        attempts: 0,
    }
}

/// Tells whether nothing more happens to a step. One that was skipped has ended only when everything before it has: in a
/// rollout it stands for its whole VM, and for the batches before.
pub(super) fn has_ended(nodes: &[Node], place: usize) -> bool {
    let node = &nodes[place];
    match node.state {
        State::Done { .. } | State::Failed { .. } | State::RolledBack | State::RevertFailed => true,
        State::Skipped { .. } => {
            node.before.iter().chain(&node.follows).all(|before| nodes[*before].has_ended)
        }
        State::Ready { .. }
        | State::Running
        | State::Sleeping { .. }
        | State::RevertDue
        | State::Reverting => false,
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
