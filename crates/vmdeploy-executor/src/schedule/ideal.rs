//! How long a plan takes when nothing but its steps costs time: what a run is measured against.

use super::{Command, Input, Rules, Scheduler, tasks_of};
use crate::journal::RunHistory;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use vmdeploy_planner::plan::{Plan, StepId};

/// Returns the milliseconds from the first step to the last, in the scheduler's order and under the plan's limits, when
/// each step takes as long as `took_ms` says.
pub fn ideal_ms(plan: &Plan, took_ms: impl Fn(&StepId) -> u64) -> u64 {
    let rules = Rules { limits: plan.limits, attempts: 1, on_failure: BTreeMap::new(), rollback_all: false };
    let mut scheduler = Scheduler::new(tasks_of(plan, &RunHistory::default()), rules);
    let mut on_the_wire: BinaryHeap<Reverse<(u64, StepId)>> = BinaryHeap::new();
    let mut now = 0;
    let mut commands = scheduler.on(Input::Begin);
    loop {
        for command in commands {
            if let Command::Start { step, .. } = command {
                on_the_wire.push(Reverse((now + took_ms(&step), step)));
            }
        }
        let Some(Reverse((end, step))) = on_the_wire.pop() else { return now };
        now = end;
        commands = scheduler.on(Input::Succeeded { step, changed: true });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_in_a_row_add_up_and_steps_side_by_side_do_not() {
        let text = include_str!("../../tests/samples/hostile-plan.json");
        let mut plan: Plan = serde_json::from_str(text).unwrap();
        assert_eq!(ideal_ms(&plan, |_| 70), 140);
        plan.steps[1].after.clear();
        // Both write to one guest, so that they still come one after the other.
        assert_eq!(ideal_ms(&plan, |_| 70), 140);
    }
}
