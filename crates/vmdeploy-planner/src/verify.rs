//! Whether a plan that was written down still fits the world: `deploy --plan F` applies exactly that, or refuses.

use crate::digest;
use crate::observed::{Observed, Query};
use crate::plan::{Action, CloneAction, DiskSource, ImportAction, Plan, Ref};
use pve_types::{GuestKind, NodeName, StorageId, Vmid};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The parts of the observed state that a plan depends on, without values that change on their own (free space, load).
#[derive(Serialize)]
struct Ground<'a> {
    version: String,
    guests: BTreeMap<Vmid, Option<GuestGround<'a>>>,
    /// VMIDs elsewhere that bear a UUID of the plan.
    doubles: BTreeSet<Vmid>,
    nodes: BTreeMap<&'a NodeName, bool>,
    storages: BTreeMap<String, (bool, Option<bool>, &'a BTreeSet<String>)>,
    images: BTreeMap<String, (bool, Option<u64>)>,
}

#[derive(Serialize)]
struct GuestGround<'a> {
    node: &'a NodeName,
    kind: GuestKind,
    status: pve_types::PowerState,
    template: bool,
    values: Option<&'a BTreeMap<String, String>>,
    pending: Option<&'a BTreeMap<String, Option<String>>>,
}

/// Why a plan does not fit the world any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cluster has changed since run `{run_id}` was planned")]
pub struct Stale {
    /// The plan's run.
    pub run_id: String,
    /// The digest that the plan carries.
    pub planned: String,
    /// The digest of the world as it is.
    pub now: String,
}

/// Checks that what the plan rests on is as it was.
///
/// # Errors
/// Something that the plan rests on has changed: make a new plan.
pub fn check_world(plan: &Plan, observed: &Observed) -> Result<(), Stale> {
    let now = world_digest(plan, observed);
    if now == plan.observed_digest {
        return Ok(());
    }
    Err(Stale { run_id: plan.run_id.clone(), planned: plan.observed_digest.clone(), now })
}

/// Returns the digest of what the plan rests on.
pub fn world_digest(plan: &Plan, observed: &Observed) -> String {
    let vmids = vmids(plan);
    let uuids: BTreeSet<&str> = plan.changes.iter().map(|change| change.guest.uuid.as_str()).collect();
    let has_our_uuid = |guest: &&crate::observed::ObservedGuest| {
        let uuid = crate::identity::uuid_of(guest);
        uuid.is_some_and(|uuid| uuids.contains(uuid.as_str()))
    };
    let (nodes, storages) = places(plan);
    let ground = Ground {
        version: observed.version.to_string(),
        guests: vmids.iter().map(|vmid| (*vmid, observed.guests.get(vmid).map(guest_ground))).collect(),
        doubles: observed.guests.values().filter(has_our_uuid).map(|guest| guest.vmid).collect(),
        nodes: nodes.iter().filter_map(|node| Some((*node, observed.nodes.get(*node)?.online))).collect(),
        storages: storages
            .iter()
            .filter_map(|(node, storage)| {
                let seen = observed.storage(node, storage)?;
                Some((format!("{node}/{storage}"), (seen.enabled, seen.active, &seen.content)))
            })
            .collect(),
        images: images(plan)
            .into_iter()
            .filter_map(|(node, location)| {
                let seen = observed.image(node, &location)?;
                Some((format!("{node}/{location}"), (seen.present, seen.size.map(pve_types::Bytes::get))))
            })
            .collect(),
    };
    digest::of_value(&ground)
}

fn guest_ground(guest: &crate::observed::ObservedGuest) -> GuestGround<'_> {
    GuestGround {
        node: &guest.node,
        kind: guest.kind,
        status: guest.status,
        template: guest.template,
        values: guest.config.as_ref().map(|config| &config.values),
        pending: guest.config.as_ref().map(|config| &config.pending),
    }
}

fn vmids(plan: &Plan) -> BTreeSet<Vmid> {
    let mut vmids: BTreeSet<Vmid> = plan.changes.iter().map(|change| change.guest.vmid).collect();
    for step in &plan.steps {
        match &step.action {
            Action::CloneVm(CloneAction { source, .. }) => drop(vmids.insert(source.vmid)),
            Action::ReassignDisk { holder, .. } => drop(vmids.insert(*holder)),
            Action::TakeDisk { holder, .. } => drop(vmids.insert(holder.vmid)),
            _ => {}
        }
    }
    vmids
}

fn places(plan: &Plan) -> (BTreeSet<&NodeName>, BTreeSet<(&NodeName, &StorageId)>) {
    let mut nodes: BTreeSet<&NodeName> = plan.changes.iter().map(|change| &change.guest.node).collect();
    let mut storages = BTreeSet::new();
    for step in &plan.steps {
        match &step.action {
            Action::ProbeStorage { node, needed } => {
                nodes.insert(node);
                storages.extend(needed.keys().map(|storage| (node, storage)));
            }
            Action::PlaceImage { node, volume, .. } | Action::PlaceSnippet { node, volume, .. } => {
                storages.insert((node, volume.storage()));
            }
            _ => {}
        }
    }
    (nodes, storages)
}

fn images(plan: &Plan) -> BTreeSet<(&NodeName, String)> {
    let mut images = BTreeSet::new();
    for step in &plan.steps {
        let Some(guest) = step.action.guest() else { continue };
        let sources: Vec<&DiskSource> = match &step.action {
            Action::ImportDisk(ImportAction { source, .. }) => vec![source],
            Action::CreateVm { config: patch, .. } | Action::SetConfig { patch, .. } => {
                let imports = patch.set.values().filter_map(|value| match value {
                    crate::plan::PatchValue::ImportFrom { source, .. } => Some(source),
                    _ => None,
                });
                imports.collect()
            }
            _ => Vec::new(),
        };
        for source in sources {
            let location = match source {
                DiskSource::Path(path) => path.clone(),
                DiskSource::Volume(Ref::Known(volume)) => volume.to_string(),
                DiskSource::Volume(Ref::OutputOf(_)) => continue,
            };
            images.insert((&guest.node, location));
        }
    }
    images
}

/// Returns what must be observed to check the plan again, without its spec.
pub fn ask_again(plan: &Plan) -> BTreeSet<Query> {
    let uuids = plan.changes.iter().map(|change| change.guest.uuid.clone()).collect();
    let former = plan.changes.iter().filter_map(|change| Some(change.formerly.as_ref()?.project.clone()));
    let projects = former.chain([plan.project.clone()]).collect();
    let configs = Query::Configs { projects, uuids, also: vmids(plan) };
    let names = plan.changes.iter().map(|change| change.vm.clone()).collect();
    let mut queries = BTreeSet::from([
        Query::Version,
        Query::Resources,
        configs,
        Query::Pending { vms: names },
        Query::Rights,
    ]);
    let (nodes, _) = places(plan);
    queries.extend(nodes.into_iter().map(|node| Query::Node { node: node.clone() }));
    for (node, location) in images(plan) {
        let node = node.clone();
        queries.insert(match location.split_once(':').filter(|_| !location.starts_with('/')) {
            Some((storage, name)) => {
                let Ok(storage) = storage.parse() else { continue };
                let content = name.split_once('/').map_or("images", |(content, _)| content).to_owned();
                let content =
                    if content.bytes().all(|b| b.is_ascii_digit()) { "images".to_owned() } else { content };
                Query::Content { node, storage, content }
            }
            None => Query::File { node, path: location },
        });
    }
    queries
}
