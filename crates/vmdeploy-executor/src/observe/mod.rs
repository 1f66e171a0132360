//! Observes the cluster: asks as little and as much at once as PVE allows.
//!
//! One `/cluster/resources` for all guests, nodes, storages and pools. All configurations in one command over SSH
//! where there is SSH; through the API at most one call per VM. Nothing is ever changed by observing.

mod guests;
mod mappings;
mod places;

pub use guests::{NamedVm, vm_lists, vms_named};

use crate::{Connections, Failure};
use pve_api::{ApiError, ClusterMember, Resource};
use pve_types::{BridgeName, Bytes, NodeName, PoolId, Privilege};
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_planner::observed::{Observed, ObservedNode, Query, Rights};

/// Asks the cluster what the queries want to know.
///
/// Of guests that bear no mark of the project and were not asked for by VMID, nothing is kept but VMID, node, name,
/// kind, status and volume IDs; the rest is dropped when the answer is parsed.
///
/// # Errors
/// When the cluster cannot be reached or refuses.
pub async fn observe(connections: &Connections, queries: &[Query]) -> Result<Observed, Failure> {
    let span = tracing::info_span!("observe", queries = queries.len());
    tracing::Instrument::instrument(observe_all(connections, queries), span).await
}

/// Returns the cluster's node, if it has only one: where VMs are made whose spec names none.
///
/// # Errors
/// When the cluster cannot be reached or refuses.
pub async fn only_node(connections: &Connections) -> Result<Option<NodeName>, Failure> {
    let resources = connections.api().cluster().resources(None).await?;
    let nodes =
        resources.into_iter().filter(|resource| resource.kind == "node").filter_map(|resource| resource.node);
    let nodes: Vec<NodeName> = nodes.collect();
    Ok(<[NodeName; 1]>::try_from(nodes).ok().map(|[only]| only))
}

async fn observe_all(connections: &Connections, queries: &[Query]) -> Result<Observed, Failure> {
    let (version, resources, quorate) = futures::join!(
        async { connections.api().version().await },
        async { connections.api().cluster().resources(None).await },
        quorate(connections),
    );
    let version = version?.version;
    let mut observed = Observed::nothing(version);
    note_resources(&mut observed, &resources?);
    observed.quorate = quorate?;
    let ha = async {
        match queries.contains(&Query::Ha) {
            true => places::ha(connections, version).await.map(Some),
            false => Ok(None),
        }
    };
    let (configs, places, rights, vnets, ha, mappings) = futures::join!(
        guests::observe(connections, queries, &observed),
        places::observe(connections, queries),
        rights(connections, queries),
        vnets(connections, queries),
        ha,
        mappings::observe(connections, queries, version),
    );
    let guests::Guests { guests, pools_are_certain } = configs?;
    (observed.guests, observed.pools_are_certain) = (guests, pools_are_certain);
    let seen_vnets = places::note(&mut observed, places?);
    observed.rights = rights?;
    observed.vnets = vnets?;
    observed.mappings = mappings?;
    let hidden: Vec<BridgeName> =
        seen_vnets.into_iter().filter(|vnet| !observed.vnets.contains_key(vnet)).collect();
    let zones: Vec<_> =
        hidden.into_iter().filter_map(|vnet| Some((zone_by_rights(&observed, &vnet)?, vnet))).collect();
    observed.vnets.extend(zones.into_iter().map(|(zone, vnet)| (vnet, zone)));
    if let Some(ha) = ha? {
        observed.ha = ha;
    }
    Ok(observed)
}

/// Notes nodes, pools and guests without their configurations.
fn note_resources(observed: &mut Observed, resources: &[Resource]) {
    for resource in resources {
        match (resource.kind.as_str(), &resource.node) {
            ("node", Some(node)) => {
                let seen = ObservedNode {
                    online: resource.status.as_deref() == Some("online"),
                    bridges: None,
                    cpus: resource.maxcpu.filter(|cpus| *cpus >= 1.0).map(|cpus| cpus as u32),
                    memory: resource.maxmem.filter(|bytes| *bytes > 0).map(Bytes::new),
                };
                observed.nodes.insert(node.clone(), seen);
            }
            ("qemu" | "lxc", Some(_)) => {
                if let Some(guest) = guests::from_resource(resource) {
                    observed.guests.insert(guest.vmid, guest);
                }
            }
            _ => {}
        }
    }
    let pool = |resource: &Resource| resource.pool.clone().filter(|_| resource.kind == "pool");
    observed.pools = resources.iter().filter_map(pool).collect::<BTreeSet<PoolId>>();
}

/// Returns whether the cluster has quorum; `None` where the credentials may not ask.
async fn quorate(connections: &Connections) -> Result<Option<bool>, Failure> {
    let members = match connections.api().cluster().status().await {
        Ok(members) => members,
        Err(error) if error.is_denied() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let cluster = members.iter().find(|member: &&ClusterMember| member.kind == "cluster");
    Ok(Some(cluster.is_none_or(|cluster| cluster.quorate.unwrap_or(true))))
}

/// Returns what the credentials may do; `None` for root on the `ssh` transport, to whom nothing is refused.
async fn rights(connections: &Connections, queries: &[Query]) -> Result<Option<Rights>, Failure> {
    let Some(user) = connections.user().filter(|_| queries.contains(&Query::Rights)) else { return Ok(None) };
    let is_root = user == "root@pam";
    let permissions = connections.api().access().permissions().await?;
    let privileges = |names: BTreeMap<String, bool>| -> BTreeMap<Privilege, bool> {
        // A privilege that this program does not know is none that a plan can need.
        names.into_iter().filter_map(|(name, propagates)| Some((name.parse().ok()?, propagates))).collect()
    };
    let paths = permissions.paths.into_iter().map(|(path, names)| (path, privileges(names))).collect();
    Ok(Some(Rights { user: user.to_owned(), is_root, paths }))
}

/// Returns the zone of each VNet; none where there is no SDN, or it may not be asked.
async fn vnets(
    connections: &Connections,
    queries: &[Query],
) -> Result<BTreeMap<BridgeName, String>, Failure> {
    if !queries.iter().any(|query| matches!(query, Query::Node { .. })) {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<serde_json::Value> =
        match connections.api().get("/cluster/sdn/vnets", pve_api::Params::new()).await {
            Ok(rows) => rows,
            Err(error) if is_optional(&error) => return Ok(BTreeMap::new()),
            Err(error) => return Err(error.into()),
        };
    let vnet = |row: &serde_json::Value| {
        Some((row["vnet"].as_str()?.parse().ok()?, row["zone"].as_str()?.to_owned()))
    };
    Ok(rows.iter().filter_map(vnet).collect())
}

/// Returns the zone of a VNet that may be used, but not looked at, which hides it from the list of VNets: a node shows it
/// to those only who hold a right on it, so that it is in a zone on which, or in which, they do.
// PVE: pve-network src/PVE/Network/SDN.pm get_local_vnets (SDN.Audit or SDN.Use), src/PVE/API2/Network/SDN/Vnets.pm index
// (SDN.Audit or SDN.Allocate).
fn zone_by_rights(observed: &Observed, vnet: &BridgeName) -> Option<String> {
    let paths = &observed.rights.as_ref()?.paths;
    let used = paths.iter().filter(|(_, held)| held.contains_key(&Privilege::SdnUse));
    let below = used.filter_map(|(path, _)| path.strip_prefix("/sdn/zones/"));
    let mut of_zone = None;
    for path in below {
        let mut parts = path.split('/');
        let (Some(zone), named) = (parts.next(), parts.next()) else { continue };
        match named {
            Some(name) if name == vnet.as_str() => return Some(zone.to_owned()),
            None if zone != "localnetwork" => of_zone = Some(zone.to_owned()),
            _ => {}
        }
    }
    of_zone
}

/// Tells whether an error only says that this cluster, or these credentials, have no such thing to show.
fn is_optional(error: &ApiError) -> bool {
    error.is_denied() || error.is_absent() || matches!(error.status(), Some(404 | 500 | 501))
}
