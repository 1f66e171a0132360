//! High availability: what it knows of a guest, and what the spec wants of it.

use super::chain::{Chain, Link};
use super::input::PlanInput;
use crate::plan::{Action, DesiredHa, GuestRef, ha_place};
use crate::spec::Ha;

/// Returns what high availability knows of the guest, without the nodes of a group or rule that vmdeploy does not manage: those
/// are left alone.
pub(crate) fn own_ha(input: &PlanInput<'_>, guest: &GuestRef) -> Option<DesiredHa> {
    let seen = input.observed.ha.as_ref()?;
    let mut there = seen.resources.get(&guest.vmid)?.clone();
    if foreign_place(input, guest).is_some() {
        there.on_nodes.clear();
        there.strict = false;
    }
    Some(there)
}

/// Returns the group or rule that contains the guest and that vmdeploy does not manage.
pub(crate) fn foreign_place<'a>(input: &PlanInput<'a>, guest: &GuestRef) -> Option<&'a str> {
    let place = input.observed.ha.as_ref()?.places.get(&guest.vmid)?;
    (*place != ha_place(&input.deployment.project, guest.vmid)).then_some(place)
}

/// Appends the step that puts the guest under high availability, or takes it out.
pub(crate) fn push_ha(input: &PlanInput<'_>, chain: &mut Chain, guest: &GuestRef, ha: Option<DesiredHa>) {
    let before = own_ha(input, guest);
    let why = if input.transports.version.at_least(9, 0) {
        "an HA resource and, for its nodes, a rule (PVE 9)"
    } else {
        "an HA resource and, for its nodes, a group (PVE 8)"
    };
    let action = Action::SetHa { guest: guest.clone(), ha };
    let revert = Action::SetHa { guest: guest.clone(), ha: before };
    chain.push(Link::new("ha", action, input.transports.api_first(why), 120).revert(revert));
}

/// Returns the desired, with what the spec does not say taken from what is there: that is not managed.
pub(crate) fn merged_ha(there: Option<&DesiredHa>, ha: &Ha) -> DesiredHa {
    let mut desired = desired_ha(ha);
    let Some(there) = there else { return desired };
    desired.max_restart = desired.max_restart.or(there.max_restart);
    desired.max_relocate = desired.max_relocate.or(there.max_relocate);
    if desired.on_nodes.is_empty() {
        desired.on_nodes = there.on_nodes.clone();
        desired.strict = there.strict;
    }
    desired
}

/// Returns what the spec wants of high availability.
pub(crate) fn desired_ha(ha: &Ha) -> DesiredHa {
    DesiredHa {
        state: ha.state,
        max_restart: ha.max_restart,
        max_relocate: ha.max_relocate,
        on_nodes: ha.on_nodes.clone(),
        strict: ha.strict,
    }
}

// PVE: ha-manager: max_restart and max_relocate are 1 where not said.
pub(crate) fn same_ha(there: &DesiredHa, desired: &Ha) -> bool {
    let tries =
        |desired: Option<u32>, there: Option<u32>| desired.is_none_or(|number| number == there.unwrap_or(1));
    let places =
        desired.on_nodes.is_empty() || (desired.on_nodes == there.on_nodes && desired.strict == there.strict);
    there.state.means(desired.state)
        && tries(desired.max_restart, there.max_restart)
        && tries(desired.max_relocate, there.max_relocate)
        && places
}

pub(crate) fn shown_ha(ha: &DesiredHa) -> String {
    let nodes: Vec<String> =
        ha.on_nodes.iter().map(|(node, priority)| format!("{node}:{priority}")).collect();
    if nodes.is_empty() { ha.state.to_string() } else { format!("{} on {}", ha.state, nodes.join(", ")) }
}
