//! High availability: what it knows of a guest, and what the spec wants of it.

use super::chain::{Chain, Link};
use super::scene::Scene;
use crate::plan::{Action, GuestRef, HaWish, ha_place};
use crate::spec::Ha;

/// Returns what high availability knows of the guest, without the nodes that somebody else's group or rule says: those
/// are left alone.
pub(crate) fn own_ha(scene: &Scene<'_>, guest: &GuestRef) -> Option<HaWish> {
    let seen = scene.observed.ha.as_ref()?;
    let mut there = seen.resources.get(&guest.vmid)?.clone();
    if foreign_place(scene, guest).is_some() {
        there.on_nodes.clear();
        there.strict = false;
    }
    Some(there)
}

/// Returns the group or rule of somebody else that places the guest.
pub(crate) fn foreign_place<'a>(scene: &Scene<'a>, guest: &GuestRef) -> Option<&'a str> {
    let place = scene.observed.ha.as_ref()?.places.get(&guest.vmid)?;
    (*place != ha_place(&scene.deployment.project, guest.vmid)).then_some(place)
}

/// Appends the step that puts the guest under high availability, or takes it out.
pub(crate) fn push_ha(scene: &Scene<'_>, chain: &mut Chain, guest: &GuestRef, ha: Option<HaWish>) {
    let before = own_ha(scene, guest);
    let why = if scene.roads.version.at_least(9, 0) {
        "a resource and, for its nodes, a rule (PVE 9)"
    } else {
        "a resource and, for its nodes, a group (PVE 8)"
    };
    let action = Action::SetHa { guest: guest.clone(), ha };
    let undo = Action::SetHa { guest: guest.clone(), ha: before };
    chain.push(Link::new("ha", action, scene.roads.api_first(why), 120).undo(undo));
}

/// Returns the wish, with what the spec does not say taken from what is there: that is not managed.
pub(crate) fn merged_ha(there: Option<&HaWish>, ha: &Ha) -> HaWish {
    let mut wish = wish_of(ha);
    let Some(there) = there else { return wish };
    wish.max_restart = wish.max_restart.or(there.max_restart);
    wish.max_relocate = wish.max_relocate.or(there.max_relocate);
    if wish.on_nodes.is_empty() {
        wish.on_nodes = there.on_nodes.clone();
        wish.strict = there.strict;
    }
    wish
}

/// Returns what the spec wants of high availability.
pub(crate) fn wish_of(ha: &Ha) -> HaWish {
    HaWish {
        state: ha.state.clone(),
        max_restart: ha.max_restart,
        max_relocate: ha.max_relocate,
        on_nodes: ha.on_nodes.clone(),
        strict: ha.strict,
    }
}

// PVE: ha-manager: `enabled` is an old name of `started`; max_restart and max_relocate are 1 where not said.
pub(crate) fn same_ha(there: &HaWish, wanted: &Ha) -> bool {
    let state = |text: &str| if text == "enabled" { "started".to_owned() } else { text.to_owned() };
    let tries =
        |wanted: Option<u32>, there: Option<u32>| wanted.is_none_or(|number| number == there.unwrap_or(1));
    let places =
        wanted.on_nodes.is_empty() || (wanted.on_nodes == there.on_nodes && wanted.strict == there.strict);
    state(&there.state) == state(&wanted.state)
        && tries(wanted.max_restart, there.max_restart)
        && tries(wanted.max_relocate, there.max_relocate)
        && places
}

pub(crate) fn shown_ha(ha: &HaWish) -> String {
    let nodes: Vec<String> =
        ha.on_nodes.iter().map(|(node, priority)| format!("{node}:{priority}")).collect();
    if nodes.is_empty() { ha.state.clone() } else { format!("{} on {}", ha.state, nodes.join(", ")) }
}
