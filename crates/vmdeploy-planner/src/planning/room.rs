//! Whether storages have room for what the plan makes.
//!
//! A thin storage must have free what is written to it; how large its disks may become is told, and limited only by
//! `limits.overcommit`. Any other storage sets the whole size aside.

use super::images::{Room, probe_name};
use super::input::PlanInput;
use super::settings::check;
use crate::observed::ObservedStorage;
use crate::plan::{Check, CheckOutcome, Note, NoteTopic, StepId};
use crate::render::rounded;
use pve_types::{Bytes, NodeName, StorageId};
use std::collections::BTreeMap;

/// A storage, with its node where it is not shared.
type Place<'a> = (Option<&'a NodeName>, &'a StorageId);

/// Returns a check for each storage that the plan makes volumes on, and notes which thin ones it promises more than they
/// have.
pub(super) fn checks(
    input: &PlanInput<'_>,
    space: &BTreeMap<NodeName, BTreeMap<StorageId, Room>>,
    notes: &mut Vec<Note>,
) -> Vec<Check> {
    // A shared storage has one free space, however many nodes write to it.
    let mut sums: BTreeMap<Place<'_>, (Room, Vec<&NodeName>)> = BTreeMap::new();
    for (node, needed) in space {
        for (storage, room) in needed {
            let place = if input.is_shared(node, storage) { None } else { Some(node) };
            let sum = sums.entry((place, storage)).or_default();
            sum.0 = sum.0.and(*room);
            sum.1.push(node);
        }
    }
    let mut checks = Vec::new();
    for ((_, storage), (room, nodes)) in sums {
        let Some(seen) = nodes.first().and_then(|node| input.storage(node, storage)) else { continue };
        checks.extend(of_storage(input, seen, room, &nodes, notes));
    }
    checks
}

fn of_storage(
    input: &PlanInput<'_>,
    seen: &ObservedStorage,
    room: Room,
    nodes: &[&NodeName],
    notes: &mut Vec<Note>,
) -> Option<Check> {
    let place =
        if seen.shared { seen.storage.to_string() } else { format!("{} at {}", seen.storage, seen.node) };
    let needed = room.needed(seen.is_thin());
    let needed_by = nodes.iter().map(|node| StepId(format!("-/{}", probe_name(node)))).collect();
    let need = match needed.get() {
        0 => format!("thin disks of {} on {place}", rounded(room.size)),
        _ => format!("{} free on {place}", rounded(needed)),
    };
    // What a placed or downloaded image takes is not known before; there is nothing to say of it.
    if room.size.get() == 0 {
        return None;
    }
    let Some(available) = seen.available else {
        let detail = "its free space is not known".to_owned();
        return Some(check(need, needed_by, CheckOutcome::Unknown, Some(detail)));
    };
    if needed > available {
        let detail = format!("{} free; use smaller disks or another storage", rounded(available));
        return Some(check(need, needed_by, CheckOutcome::Refused, Some(detail)));
    }
    if seen.is_thin() {
        if let Some(detail) = over_limit(input, seen, room, available) {
            return Some(check(need, needed_by, CheckOutcome::Refused, Some(detail)));
        }
        if room.size > available {
            notes.push(overcommitted(&place, room.size, available));
        }
    }
    Some(check(need, needed_by, CheckOutcome::Passed, Some(format!("{} free", rounded(available)))))
}

/// Returns what is wrong if the disks would be more than `limits.overcommit` allows.
fn over_limit(input: &PlanInput<'_>, seen: &ObservedStorage, room: Room, available: Bytes) -> Option<String> {
    let cluster = input.deployment.clusters.get(&input.cluster)?;
    let percent = u128::from(cluster.limits.overcommit_percent?);
    let total = seen.total?;
    let used = total.get().saturating_sub(available.get());
    let promised = used.saturating_add(room.size.get());
    let is_over = u128::from(promised) * 100 > u128::from(total.get()) * percent;
    is_over.then(|| {
        format!(
            "with the existing disks this is {}, and `limits.overcommit` allows {} of its {}; reduce the disks, or raise the limit",
            rounded(Bytes::new(promised)),
            rounded(Bytes::new((u128::from(total.get()) * percent / 100).min(u128::from(u64::MAX)) as u64)),
            rounded(total),
        )
    })
}

fn overcommitted(place: &str, size: Bytes, available: Bytes) -> Note {
    Note {
        topic: NoteTopic::General,
        vm: None,
        text: format!(
            "the disks of this plan on {place} may grow to {}, but it has {} free; a thin storage accepts writes until it is full",
            rounded(size),
            rounded(available)
        ),
        hint: Some(
            "monitor its free space; `limits: {overcommit: 1.0}` in the cluster refuses such plans"
                .to_owned(),
        ),
    }
}
