//! How long steps take: measured costs as data, and a plan's critical path.

use crate::plan::{Action, Condition, ImportAction, MoveAction, Plan, Step, StepId, Transport};
use pve_types::{Bytes, NodeName, StorageId};
use std::collections::BTreeMap;

/// What things cost on a real node (PVE 9.2, two cores), in milliseconds; medians of three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Costs {
    /// One `qm` command: Perl and PVE's modules are loaded each time, by the node's CPU.
    pub qm_command_ms: u64,
    /// `pvesm status`.
    pub pvesm_status_ms: u64,
    /// A configuration change by API.
    pub api_config_ms: u64,
    /// Creating a VM, without its volumes and the command or call.
    pub create_ms: u64,
    /// Making one volume; a storage makes one after the other.
    pub allocate_ms: u64,
    /// A start, without the command or call.
    pub start_ms: u64,
    /// A stop, without the command or call.
    pub stop_ms: u64,
    /// A guest's own time from its start until its agent answers.
    pub agent_ms: u64,
    /// Copying one GiB of an image to a storage.
    pub copy_gib_ms: u64,
    /// Anything short that has no measure of its own, by API.
    pub small_task_ms: u64,
    /// How many of PVE's commands a node runs at once.
    pub node_cores: u64,
}

/// The costs that estimates are made with.
pub const MEASURED: Costs = Costs {
    qm_command_ms: 670,
    pvesm_status_ms: 521,
    api_config_ms: 28,
    create_ms: 150,
    allocate_ms: 130,
    start_ms: 300,
    stop_ms: 1_000,
    agent_ms: 12_000,
    copy_gib_ms: 4_000,
    small_task_ms: 100,
    node_cores: 2,
};

/// Returns how long the action takes by this transport, in milliseconds, when it copies `copied` bytes.
pub fn estimate_ms(costs: &Costs, action: &Action, transport: Transport, copied: Bytes) -> u64 {
    let copying = copied.get().saturating_mul(costs.copy_gib_ms) >> 30;
    let sending = if transport == Transport::Ssh { costs.qm_command_ms } else { costs.api_config_ms };
    let volumes = allocations(action).len() as u64 * costs.allocate_ms;
    let own = match action {
        Action::ProbeStorage { .. } => return costs.pvesm_status_ms,
        Action::Await { condition: Condition::Running | Condition::Stopped, .. } => 0,
        Action::Await { .. } => return costs.agent_ms,
        Action::CreateVm { .. } | Action::CloneVm(_) => costs.create_ms,
        Action::StartVm { .. } => costs.start_ms,
        Action::StopVm { .. } | Action::ShutdownVm { .. } => costs.stop_ms,
        Action::RebootVm { .. } => costs.stop_ms + costs.start_ms,
        Action::DeleteVm { stop, .. } => costs.small_task_ms + if *stop { costs.stop_ms } else { 0 },
        Action::ImportDisk(_)
        | Action::SetConfig { .. }
        | Action::ResizeDisk { .. }
        | Action::RegenerateCloudInit { .. }
        | Action::SetPool { .. } => 0,
        Action::PlaceImage { .. }
        | Action::VerifyImage { .. }
        | Action::PlaceSnippet { .. }
        | Action::MoveDisk(_)
        | Action::ReassignDisk { .. }
        | Action::TakeDisk { .. }
        | Action::ConvertToTemplate { .. }
        | Action::SetHa { .. }
        | Action::FreeVolume { .. } => costs.small_task_ms,
    };
    sending + own + volumes + copying
}

/// Returns the storage of each volume that the action makes.
fn allocations(action: &Action) -> Vec<&str> {
    match action {
        Action::CreateVm { config: patch, .. } | Action::SetConfig { patch, .. } => {
            let on = patch.set.values().filter_map(crate::plan::PatchValue::allocates_on);
            on.map(StorageId::as_str).collect()
        }
        Action::ImportDisk(ImportAction { storage, .. }) | Action::MoveDisk(MoveAction { storage, .. }) => {
            vec![storage.as_str()]
        }
        _ => Vec::new(),
    }
}

/// How long a plan takes at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// The sum of all steps: how long they take one after the other.
    pub total_ms: u64,
    /// The longest chain of steps that wait for each other.
    pub critical_ms: u64,
    /// The steps of that chain, in order.
    pub critical_path: Vec<StepId>,
    /// The place that takes longer than that chain with what it does for all VMs, if one does.
    pub busiest: Option<Busiest>,
}

/// A place that has more to do than the longest chain takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busiest {
    /// What it is and does.
    pub what: String,
    /// How long its own work takes, with what it does at once.
    pub work_ms: u64,
    /// The same, with the least that comes before and after.
    pub least_ms: u64,
}

impl Timing {
    /// Returns how long the plan takes at least: its longest chain, or its busiest place.
    pub fn least_ms(&self) -> u64 {
        self.busiest.as_ref().map_or(self.critical_ms, |busiest| busiest.least_ms)
    }
}

/// Returns the plan's timing by its steps' estimates.
pub fn timing(plan: &Plan) -> Timing {
    let mut finish: Finish<'_> = BTreeMap::new();
    for step in &plan.steps {
        let latest = latest_of(step.after.iter().chain(&step.follows), &finish);
        let start = latest.map_or(0, |(end, _)| end);
        finish.insert(&step.id, (start + step.estimate_ms, latest.map(|(_, id)| id)));
    }
    let last = plan.steps.iter().map(|step: &Step| &step.id).max_by_key(|id| finish.get(id).map(|end| end.0));
    let mut critical_path = Vec::new();
    let mut next = last;
    while let Some(id) = next {
        critical_path.push(id.clone());
        next = finish.get(id).and_then(|(_, before)| *before);
    }
    critical_path.reverse();
    let critical_ms = last.and_then(|id| finish.get(id)).map_or(0, |(end, _)| *end);
    let busiest = places(plan, &finish, &behind(plan)).max_by_key(|busiest| busiest.least_ms);
    Timing {
        total_ms: plan.steps.iter().map(|step| step.estimate_ms).sum(),
        critical_ms,
        critical_path,
        busiest: busiest.filter(|busiest| busiest.least_ms > critical_ms),
    }
}

/// Returns for each step the longest chain of steps behind it. A step stands after those that it waits for.
fn behind(plan: &Plan) -> BTreeMap<&StepId, u64> {
    let mut behind: BTreeMap<&StepId, u64> = BTreeMap::new();
    for step in plan.steps.iter().rev() {
        let own = behind.get(&step.id).copied().unwrap_or(0) + step.estimate_ms;
        for before in step.after.iter().chain(&step.follows) {
            let longest = behind.entry(before).or_default();
            *longest = own.max(*longest);
        }
    }
    behind
}

/// What a place does for all VMs.
#[derive(Default)]
struct Work {
    count: usize,
    ms: u64,
    /// The least that comes before any of it.
    head: Option<u64>,
    /// The least that comes after any of it.
    tail: Option<u64>,
}

impl Work {
    fn add(&mut self, ms: u64, head: u64, tail: u64) {
        self.count += 1;
        self.ms += ms;
        self.head = Some(self.head.map_or(head, |least| least.min(head)));
        self.tail = Some(self.tail.map_or(tail, |least| least.min(tail)));
    }
    fn busiest(&self, what: String, at_once: u64) -> Busiest {
        let work_ms = self.ms / at_once;
        Busiest { what, work_ms, least_ms: self.head.unwrap_or(0) + work_ms + self.tail.unwrap_or(0) }
    }
}

/// Returns what the places have to do that all VMs share: the nodes' processors, and the storages that make volumes.
fn places<'a>(
    plan: &'a Plan,
    finish: &Finish<'a>,
    behind: &BTreeMap<&StepId, u64>,
) -> impl Iterator<Item = Busiest> {
    let mut nodes: BTreeMap<&NodeName, Work> = BTreeMap::new();
    let mut storages: BTreeMap<(&NodeName, &str), Work> = BTreeMap::new();
    for step in &plan.steps {
        let Some(node) = step.action.guest().map(|guest| &guest.node) else { continue };
        let end = finish.get(&step.id).map_or(0, |(end, _)| *end);
        let (head, tail) = (end.saturating_sub(step.estimate_ms), behind.get(&step.id).copied().unwrap_or(0));
        if step.transport == Transport::Ssh && !matches!(step.action, Action::Await { .. }) {
            nodes.entry(node).or_default().add(step.estimate_ms, head, tail);
        }
        for storage in allocations(&step.action) {
            storages.entry((node, storage)).or_default().add(MEASURED.allocate_ms, head, tail);
        }
    }
    let of_nodes = nodes.into_iter().map(|(node, work)| {
        let what = format!("the processors of {node}, with {} commands of PVE", work.count);
        work.busiest(what, MEASURED.node_cores)
    });
    let of_storages = storages.into_iter().map(|((node, storage), work)| {
        let what = format!("storage {storage} on {node}, with {} volumes to create", work.count);
        work.busiest(what, 1)
    });
    of_nodes.chain(of_storages).collect::<Vec<_>>().into_iter()
}

type Finish<'a> = BTreeMap<&'a StepId, (u64, Option<&'a StepId>)>;

fn latest_of<'a>(before: impl Iterator<Item = &'a StepId>, finish: &Finish<'a>) -> Option<(u64, &'a StepId)> {
    before.filter_map(|id| finish.get(id).map(|(end, _)| (*end, id))).max()
}
