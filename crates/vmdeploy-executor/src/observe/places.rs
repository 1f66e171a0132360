//! Nodes, storages, images, high availability.

use super::is_optional;
use crate::{Connections, Failure, FailureKind};
use pve_api::{ContentFilter, InterfaceKind, NetworkInterface, StorageState};
use pve_ssh::command::{files, pvesm};
use pve_ssh::parse;
use pve_types::{BridgeName, Bytes, GuestName, HaState, NodeName, PveVersion, StorageId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use vmdeploy_planner::observed::{Observed, ObservedHa, ObservedImage, ObservedNode, ObservedStorage, Query};
use vmdeploy_planner::plan::DesiredHa;

/// What one query about a place found.
pub(super) enum Place {
    Node {
        node: NodeName,
        bridges: Option<BTreeSet<BridgeName>>,
        /// Those of the bridges that are VNets.
        vnets: BTreeSet<BridgeName>,
        storages: Vec<ObservedStorage>,
    },
    /// The CPU models of a node, where it tells them.
    CpuModels(NodeName, Option<BTreeSet<String>>),
    Images(Vec<ObservedImage>),
    /// A listing by its name, if the storage answered.
    Content(Option<String>, Vec<ObservedImage>),
}

/// Returns the queries about places, those added that lead to where guests are.
pub(super) fn with_guest_nodes(queries: &[Query], observed: &Observed) -> BTreeSet<Query> {
    let mut places = BTreeSet::new();
    for query in queries {
        match query {
            Query::GuestNodes { vmids, vms } => {
                for guest in observed.guests.values() {
                    let content =
                        guest.name.as_deref().and_then(|name| vms.get(&name.parse::<GuestName>().ok()?));
                    if content.is_none() && !vmids.contains(&guest.vmid) {
                        continue;
                    }
                    let node = &guest.node;
                    places.insert(Query::Node { node: node.clone() });
                    places.extend(content.into_iter().flatten().map(|(storage, content)| Query::Content {
                        node: node.clone(),
                        storage: storage.clone(),
                        content: content.clone(),
                    }));
                }
            }
            Query::Node { .. } | Query::Content { .. } | Query::File { .. } | Query::CpuModels { .. } => {
                places.insert(query.clone());
            }
            _ => {}
        }
    }
    places
}

/// Notes which ZFS storages make sparse volumes: only the cluster's configuration of its storages tells.
pub(super) async fn note_sparse(connections: &Connections, observed: &mut Observed) -> Result<(), Failure> {
    if !observed.storages.iter().any(|seen| seen.kind.is_zfs()) {
        return Ok(());
    }
    let rows: Vec<serde_json::Value> = match connections.api().get("/storage", pve_api::Params::new()).await {
        Ok(rows) => rows,
        Err(error) if is_optional(&error) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for row in &rows {
        let is_set = matches!(row["sparse"].as_i64(), Some(1)) || row["sparse"].as_str() == Some("1");
        let zfs = |seen: &&mut ObservedStorage| seen.kind.is_zfs();
        for seen in observed.storages.iter_mut().filter(zfs) {
            if row["storage"].as_str() == Some(seen.storage.as_str()) {
                seen.sparse = Some(is_set);
            }
        }
    }
    Ok(())
}

/// Asks everything about nodes, storages and images, all at once.
///
/// A node that the cluster does not have is not asked: the plan says so, whichever transport there is.
pub(super) async fn observe(
    connections: &Connections,
    queries: &BTreeSet<Query>,
    nodes: &BTreeMap<NodeName, ObservedNode>,
) -> Result<Vec<Place>, Failure> {
    let is_there = |query: &&Query| match query {
        Query::Node { node }
        | Query::Content { node, .. }
        | Query::File { node, .. }
        | Query::CpuModels { node } => nodes.contains_key(node),
        _ => true,
    };
    let looks = queries.iter().filter(is_there).map(|query| async move {
        match query {
            Query::Node { node } => look_at_node(connections, node).await.map(Some),
            Query::Content { node, storage, content } => {
                look_at_content(connections, node, storage, content).await.map(Some)
            }
            Query::File { node, path } => look_at_file(connections, node, path).await,
            Query::CpuModels { node } => cpu_models(connections, node).await.map(Some),
            _ => Ok(None),
        }
    });
    let places = futures::future::join_all(looks).await;
    places.into_iter().filter_map(Result::transpose).collect()
}

/// Notes what was found; returns the VNets that the nodes have.
pub(super) fn note(observed: &mut Observed, places: Vec<Place>) -> BTreeSet<BridgeName> {
    let mut all_vnets = BTreeSet::new();
    for place in places {
        match place {
            Place::Node { node, bridges, vnets, storages } => {
                all_vnets.extend(vnets);
                if let Some(seen) = observed.nodes.get_mut(&node) {
                    seen.bridges = bridges;
                }
                observed.storages.extend(storages);
            }
            Place::CpuModels(node, models) => {
                if let Some(seen) = observed.nodes.get_mut(&node) {
                    seen.cpu_models = models;
                }
            }
            Place::Images(images) => observed.images.extend(images),
            Place::Content(listing, images) => {
                observed.listings.extend(listing);
                observed.images.extend(images);
            }
        }
    }
    observed.storages.sort_by(|a, b| (&a.node, &a.storage).cmp(&(&b.node, &b.storage)));
    all_vnets
}

async fn look_at_node(connections: &Connections, node: &NodeName) -> Result<Place, Failure> {
    let api = connections.api().node(node);
    let (network, storages) =
        futures::join!(api.network(Some(InterfaceKind::AnyBridge)), api.storages_with_formats());
    let mut vnets = BTreeSet::new();
    let bridges = match network {
        Ok(interfaces) => {
            let is_vnet = |interface: &&NetworkInterface| interface.kind.as_deref() == Some("vnet");
            let name = |interface: &NetworkInterface| interface.iface.parse().ok();
            vnets.extend(interfaces.iter().filter(is_vnet).filter_map(name));
            Some(interfaces.iter().filter_map(name).collect())
        }
        Err(error) if is_optional(&error) => None,
        Err(error) => return Err(Failure::from(error).at(node)),
    };
    let storages = match storages {
        Ok(states) => states.iter().filter_map(|state| observed_storage(node, state)).collect(),
        // A node that is offline has no storages to show.
        Err(error) if error.is_unreachable() || error.is_denied() => Vec::new(),
        Err(error) => return Err(Failure::from(error).at(node)),
    };
    Ok(Place::Node { node: node.clone(), bridges, vnets, storages })
}

fn observed_storage(node: &NodeName, state: &StorageState) -> Option<ObservedStorage> {
    let content = state.content.as_deref().unwrap_or_default();
    let default_format = state.formats.as_ref().and_then(|formats| formats.default.clone());
    let old_default = || state.format.as_ref()?.get(1)?.as_str().map(str::to_owned);
    Some(ObservedStorage {
        node: node.clone(),
        storage: state.storage.clone()?,
        kind: state.kind.as_deref().unwrap_or_default().into(),
        content: content.split(',').map(str::trim).filter(|c| !c.is_empty()).map(str::to_owned).collect(),
        enabled: state.enabled.unwrap_or(true),
        active: state.active,
        shared: state.shared.unwrap_or(false),
        total: state.total.map(Bytes::new),
        available: state.avail.map(Bytes::new),
        default_format: default_format.or_else(old_default),
        formats: state.supported_formats().into_iter().collect(),
        sparse: None,
    })
}

async fn look_at_content(
    connections: &Connections,
    node: &NodeName,
    storage: &StorageId,
    content: &str,
) -> Result<Place, Failure> {
    // Snippets are shown to few credentials; root on the node sees them all.
    if content == "snippets" && connections.has_ssh() && !connections.is_pvesh() {
        return list_on_node(connections, node, storage, content).await;
    }
    let filter = ContentFilter { content: Some(content.to_owned()), vmid: None };
    let mut listing = Some(format!("{node}/{storage}/{content}"));
    let volumes = match connections.api().node(node).storage(storage).content(&filter).await {
        Ok(volumes) => volumes,
        // A storage that is not there, or may not hold this content, has none; the plan's checks say so.
        Err(error) if is_optional(&error) => {
            listing = None;
            Vec::new()
        }
        Err(error) => return Err(Failure::from(error).at(node)),
    };
    let image = |volume: pve_api::Volume| ObservedImage {
        node: node.clone(),
        location: volume.volid.to_string(),
        present: true,
        size: volume.size.map(Bytes::new),
        virtual_size: None,
        format: volume.format,
    };
    Ok(Place::Content(listing, volumes.into_iter().map(image).collect()))
}

async fn cpu_models(connections: &Connections, node: &NodeName) -> Result<Place, Failure> {
    let address = format!("/nodes/{node}/capabilities/qemu/cpu");
    let rows: Vec<serde_json::Value> = match connections.api().get(&address, pve_api::Params::new()).await {
        Ok(rows) => rows,
        Err(error) if is_optional(&error) || error.is_unreachable() => {
            return Ok(Place::CpuModels(node.clone(), None));
        }
        Err(error) => return Err(Failure::from(error).at(node)),
    };
    let models = rows.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect();
    Ok(Place::CpuModels(node.clone(), Some(models)))
}

/// Lists the volumes of a storage by a command on the node.
async fn list_on_node(
    connections: &Connections,
    node: &NodeName,
    storage: &StorageId,
    content: &str,
) -> Result<Place, Failure> {
    let host = connections.host(node).await?;
    let options = pve_ssh::RunOptions::within(Duration::from_secs(60));
    let output = host.run(&pvesm::list(storage), options, &mut |_, _| {}).await?;
    // A storage that is not there, or does not answer, has nothing to list; the plan's checks say so.
    if !output.success() {
        return Ok(Place::Content(None, Vec::new()));
    }
    let rows = parse::pvesm_list(&output.stdout).map_err(pve_ssh::Error::from)?;
    let image = |row: parse::VolumeRow| ObservedImage {
        node: node.clone(),
        location: row.volume.to_string(),
        present: true,
        size: row.size,
        virtual_size: None,
        format: Some(row.format),
    };
    let images = rows.into_iter().filter(|row| row.content == content).map(image).collect();
    Ok(Place::Content(Some(format!("{node}/{storage}/{content}")), images))
}

/// Looks at a file on a node; without SSH nothing can be said about it.
async fn look_at_file(
    connections: &Connections,
    node: &NodeName,
    path: &str,
) -> Result<Option<Place>, Failure> {
    if !connections.has_ssh() {
        return Ok(None);
    }
    let host = connections.host(node).await?;
    let limit = Duration::from_secs(60);
    let absent = ObservedImage {
        node: node.clone(),
        location: path.to_owned(),
        present: false,
        size: None,
        virtual_size: None,
        format: None,
    };
    let options = || pve_ssh::RunOptions::within(limit);
    let stat = host.run(&files::stat(path), options(), &mut |_, _| {}).await?;
    if !stat.success() {
        return Ok(Some(Place::Images(vec![absent])));
    }
    let size = parse::file_stat(stat.stdout.trim_end()).map_err(pve_ssh::Error::from)?.size;
    let info = host.run(&files::image_info(path), options(), &mut |_, _| {}).await?;
    let info = info.success().then(|| parse::image_info(&info.stdout).ok()).flatten();
    let image = ObservedImage {
        present: true,
        size: Some(size),
        virtual_size: info.as_ref().map(|info| Bytes::new(info.virtual_size)),
        format: info.map(|info| info.format),
        ..absent
    };
    Ok(Some(Place::Images(vec![image])))
}

/// Returns the guests under high availability, with the nodes that a group or a rule names.
pub(super) async fn ha(
    connections: &Connections,
    version: PveVersion,
) -> Result<Option<ObservedHa>, Failure> {
    let ha = connections.api().cluster().ha();
    let resources = match ha.resources().await {
        Ok(resources) => resources,
        Err(error) if is_optional(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut found = BTreeMap::new();
    let mut places = BTreeMap::new();
    for resource in resources {
        let Some(vmid) = resource.sid.strip_prefix("vm:").and_then(|vmid| vmid.parse().ok()) else {
            continue;
        };
        let small = |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok());
        let desired = DesiredHa {
            state: ha_state(&resource)?,
            max_restart: small(resource.max_restart),
            max_relocate: small(resource.max_relocate),
            on_nodes: BTreeMap::new(),
            strict: false,
        };
        found.insert(vmid, (desired, resource.group, resource.sid));
    }
    // PVE: pve-ha-manager: groups up to version 8, rules from 9 on.
    if version.major >= 9 {
        for rule in ha.rules().await? {
            let named: Vec<&str> =
                rule.resources.as_deref().unwrap_or_default().split(',').map(str::trim).collect();
            for (vmid, (desired, _, _)) in
                found.iter_mut().filter(|(_, (_, _, sid))| named.contains(&sid.as_str()))
            {
                if rule.nodes.is_some() {
                    places.insert(*vmid, rule.rule.clone());
                }
                note_nodes(desired, rule.nodes.as_deref(), rule.strict);
            }
        }
    } else {
        for group in ha.groups().await? {
            for (vmid, (desired, _, _)) in
                found.iter_mut().filter(|(_, (_, name, _))| name.as_ref() == Some(&group.group))
            {
                places.insert(*vmid, group.group.clone());
                note_nodes(desired, group.nodes.as_deref(), group.restricted);
            }
        }
    }
    let resources = found.into_iter().map(|(vmid, (desired, _, _))| (vmid, desired)).collect();
    Ok(Some(ObservedHa { resources, places }))
}

/// Returns the state that a resource is told to be in.
fn ha_state(resource: &pve_api::HaResource) -> Result<HaState, Failure> {
    let Some(text) = &resource.state else { return Ok(HaState::Started) };
    text.parse().map_err(|error: pve_types::ParseError| {
        Failure::new(FailureKind::Answer, format!("high availability of `{}`: {error}", resource.sid))
    })
}

fn note_nodes(desired: &mut DesiredHa, nodes: Option<&str>, strict: Option<bool>) {
    let Some(nodes) = nodes else { return };
    let node = |text: &str| {
        let (name, priority) = text.trim().split_once(':').unwrap_or((text.trim(), "0"));
        Some((name.parse().ok()?, priority.parse().ok()?))
    };
    desired.on_nodes = nodes.split(',').filter_map(node).collect();
    desired.strict = strict.unwrap_or(false);
}
