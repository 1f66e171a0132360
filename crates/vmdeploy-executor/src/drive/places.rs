//! Where the steps of a plan are: a run asks for each of them many times.

use pve_types::GuestName;
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_planner::plan::{Plan, StepId};

/// The places of a plan's steps in it.
#[derive(Debug)]
pub(super) struct Places {
    by_id: BTreeMap<StepId, usize>,
    by_vm: BTreeMap<GuestName, Vec<usize>>,
    awaited: BTreeSet<StepId>,
}

impl Places {
    /// Returns the places of a plan's steps.
    pub(super) fn of(plan: &Plan) -> Self {
        let mut by_vm: BTreeMap<GuestName, Vec<usize>> = BTreeMap::new();
        for (place, step) in plan.steps.iter().enumerate() {
            if let Some(vm) = &step.vm {
                by_vm.entry(vm.clone()).or_default().push(place);
            }
        }
        let by_id = plan.steps.iter().enumerate().map(|(place, step)| (step.id.clone(), place)).collect();
        let awaited =
            plan.steps.iter().flat_map(|step| step.after.iter().chain(&step.follows).cloned()).collect();
        Self { by_id, by_vm, awaited }
    }
    /// Returns a step's place.
    pub(super) fn of_step(&self, id: &StepId) -> Option<usize> {
        self.by_id.get(id).copied()
    }
    /// Returns the places of a VM's steps, in the plan's order.
    pub(super) fn of_vm(&self, vm: &GuestName) -> &[usize] {
        self.by_vm.get(vm).map_or(&[], Vec::as_slice)
    }
    /// Tells whether another step waits for this one.
    pub(super) fn is_awaited(&self, id: &StepId) -> bool {
        self.awaited.contains(id)
    }
}
