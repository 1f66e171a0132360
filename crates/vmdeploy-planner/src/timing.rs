//! How long steps take: measured costs as data, and a plan's critical path.

use crate::plan::{Action, Condition, Plan, Road, Step, StepId};
use pve_types::Bytes;
use std::collections::BTreeMap;

/// What things cost on a real node (PVE 9.2, two cores), in milliseconds; medians of three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Costs {
    /// One `qm` command: Perl and PVE's modules are loaded each time, by the node's CPU.
    pub qm_command_ms: u64,
    /// A `qm set` that attaches disks or makes a cloud-init drive.
    pub qm_set_disks_ms: u64,
    /// `qm create` of a whole VM with `import-from` in one command.
    pub qm_create_import_ms: u64,
    /// `qm importdisk`, beside the copying.
    pub qm_importdisk_ms: u64,
    /// `pvesm status`.
    pub pvesm_status_ms: u64,
    /// A configuration change by API.
    pub api_config_ms: u64,
    /// A create by API until its task ends, beside the copying.
    pub api_create_ms: u64,
    /// A start, either road.
    pub start_ms: u64,
    /// A stop, either road.
    pub stop_ms: u64,
    /// A guest's own time from its start until its agent answers.
    pub agent_ms: u64,
    /// Copying one GiB of an image to a storage.
    pub copy_gib_ms: u64,
    /// Anything short that has no measure of its own.
    pub small_task_ms: u64,
}

/// The costs that estimates are made with.
pub const MEASURED: Costs = Costs {
    qm_command_ms: 670,
    qm_set_disks_ms: 810,
    qm_create_import_ms: 1_010,
    qm_importdisk_ms: 836,
    pvesm_status_ms: 521,
    api_config_ms: 28,
    api_create_ms: 400,
    start_ms: 966,
    stop_ms: 1_700,
    agent_ms: 12_000,
    copy_gib_ms: 4_000,
    small_task_ms: 500,
};

/// Returns how long the action takes by this road, in milliseconds, when it copies `copied` bytes.
pub fn estimate_ms(costs: &Costs, action: &Action, road: Road, copied: Bytes) -> u64 {
    let copying = copied.get().saturating_mul(costs.copy_gib_ms) >> 30;
    let by_road = |api, ssh| if road == Road::Ssh { ssh } else { api };
    let own = match action {
        Action::ProbeStorage { .. } => costs.pvesm_status_ms,
        Action::CreateVm { .. } => by_road(costs.api_create_ms, costs.qm_create_import_ms),
        Action::CloneVm { .. } => by_road(costs.api_create_ms, costs.qm_command_ms),
        Action::ImportDisk { .. } => costs.qm_importdisk_ms,
        Action::SetConfig { .. } => by_road(costs.api_config_ms, costs.qm_set_disks_ms),
        Action::StartVm { .. } => costs.start_ms,
        Action::StopVm { .. } | Action::ShutdownVm { .. } => costs.stop_ms,
        Action::RebootVm { .. } => costs.stop_ms + costs.start_ms,
        Action::DeleteVm { stop, .. } => costs.small_task_ms + if *stop { costs.stop_ms } else { 0 },
        Action::Await { condition: Condition::Running | Condition::Stopped, .. } => costs.api_config_ms,
        Action::Await { .. } => costs.agent_ms,
        Action::PlaceImage { .. }
        | Action::VerifyImage { .. }
        | Action::PlaceSnippet { .. }
        | Action::ResizeDisk { .. }
        | Action::MoveDisk { .. }
        | Action::ReassignDisk { .. }
        | Action::ConvertToTemplate { .. }
        | Action::RegenerateCloudInit { .. }
        | Action::SetHa { .. }
        | Action::SetPool { .. }
        | Action::FreeVolume { .. } => by_road(costs.small_task_ms, costs.qm_command_ms),
    };
    own + copying
}

/// How long a plan takes at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// The sum of all steps: how long they take one after the other.
    pub total_ms: u64,
    /// The longest chain of steps that wait for each other: how long they take at least, limits left aside.
    pub critical_ms: u64,
    /// The steps of that chain, in order.
    pub critical_path: Vec<StepId>,
}

/// Returns the plan's timing by its steps' estimates.
pub fn timing(plan: &Plan) -> Timing {
    let mut finish: BTreeMap<&StepId, (u64, Option<&StepId>)> = BTreeMap::new();
    for step in &plan.steps {
        let latest = latest_of(&step.after, &finish);
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
    Timing {
        total_ms: plan.steps.iter().map(|step| step.estimate_ms).sum(),
        critical_ms: last.and_then(|id| finish.get(id)).map_or(0, |(end, _)| *end),
        critical_path,
    }
}

type Finish<'a> = BTreeMap<&'a StepId, (u64, Option<&'a StepId>)>;

fn latest_of<'a>(
    after: &'a std::collections::BTreeSet<StepId>,
    finish: &Finish<'a>,
) -> Option<(u64, &'a StepId)> {
    after.iter().filter_map(|id| finish.get(id).map(|(end, _)| (*end, id))).max()
}
