//! What steps set, for the checks that look at it.

use crate::plan::{Check, CheckOutcome, PatchValue, Step, StepId};
use pve_config::Bus;
use pve_types::NodeName;

/// Returns a check that is no right.
pub(super) fn check(
    need: String,
    needed_by: Vec<StepId>,
    outcome: CheckOutcome,
    detail: Option<String>,
) -> Check {
    Check { need, needed_by, outcome, detail, is_right: false }
}

pub(super) fn is_volume_slot(key: &str) -> bool {
    Bus::of_key(key).is_some_and(Bus::holds_volume)
}

/// Returns what the steps set, with the guest's node.
pub(super) fn settings(steps: &[Step]) -> impl Iterator<Item = (&Step, &NodeName, &str, &str)> {
    let patches = steps.iter().filter_map(|step| Some((step, step.action.node(), step.action.patch()?)));
    patches.flat_map(|(step, node, patch)| {
        patch.set.iter().filter_map(move |(key, value)| match value {
            PatchValue::Text(text) => Some((step, node, key.as_str(), text.as_str())),
            _ => None,
        })
    })
}
