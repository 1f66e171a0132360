//! On the `auto` transport: steps that the credentials may not do by API go by SSH.

use super::input::PlanInput;
use crate::plan::{Action, PatchValue, Step, Transport, TransportChoice};
use crate::rights::Requirements;

/// On the `auto` transport, lets steps go by SSH that these credentials may not do by API.
pub(crate) fn take_allowed(input: &PlanInput<'_>, steps: &mut [Step]) {
    let Some(rights) = &input.observed.rights else { return };
    if input.transports.choice != TransportChoice::Auto || !input.transports.ssh_available {
        return;
    }
    let mut requirements = Requirements::new(input.observed, &*steps);
    for step in steps.iter_mut() {
        let needs = requirements.next_by_api(step);
        let by_api = step.transport == Transport::Api && !carries_secret(&step.action);
        if by_api && needs.iter().any(|need| !need.is_met(rights)) {
            step.transport = Transport::Ssh;
            step.why = format!("`{}` may not do this through the API", rights.user.escape_debug());
        }
    }
}

/// A secret never stands on a command line, so its step has one transport only.
fn carries_secret(action: &Action) -> bool {
    let is_secret = |value: &PatchValue| matches!(value, PatchValue::Secret { .. });
    action.patch().is_some_and(|patch| patch.set.values().any(is_secret))
}
