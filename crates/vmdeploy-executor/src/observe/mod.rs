//! Observes the cluster: asks as little and as much at once as PVE allows.
//!
//! One `/cluster/resources` for all guests, nodes, storages and pools. All configurations in one command over SSH
//! where there is SSH; through the API at most one call per VM. Nothing is ever changed by observing.

mod guests;
mod mappings;
mod places;

pub use guests::{NamedVm, vm_lists, vms_named};

use crate::{Connections, Failure, FailureKind};
use pve_api::{ApiError, ClusterMember, Resource};
use pve_types::{BridgeName, Bytes, NodeName, PoolId, Privilege};
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_planner::observed::{ClusterIdentity, Observed, ObservedNode, Query, Rights};
use vmdeploy_planner::plan::Plan;

/// Asks the cluster what the queries want to know.
///
/// Of guests that have no marker of the project and were not asked for by VMID, nothing is kept but VMID, node, name,
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
    let (version, resources, members) = futures::join!(
        async { connections.api().version().await },
        async { connections.api().cluster().resources(None).await },
        members(connections),
    );
    let version = version?.version;
    let mut observed = Observed::nothing(version);
    note_resources(&mut observed, &resources?);
    let members = members?;
    observed.quorate = members.as_deref().map(is_quorate);
    observed.answered_by = Some(identity(connections, members.as_deref()));
    let queries_of_places = places::with_guest_nodes(queries, &observed);
    let ha = async {
        match queries.contains(&Query::Ha) {
            true => places::ha(connections, version).await.map(Some),
            false => Ok(None),
        }
    };
    let (configs, places, rights, vnets, ha, mappings) = futures::join!(
        guests::observe(connections, queries, &observed),
        places::observe(connections, &queries_of_places, &observed.nodes),
        rights(connections, queries),
        vnets(connections, queries),
        ha,
        mappings::observe(connections, queries, version),
    );
    let guests::Guests { guests, pools_are_certain } = configs?;
    (observed.guests, observed.pools_are_certain) = (guests, pools_are_certain);
    observed.every_guest = connections.has_ssh() && asks_configs(queries);
    let seen_vnets = places::note(&mut observed, places?);
    places::note_sparse(connections, &mut observed).await?;
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

/// Reads only which disks every guest has, to determine a volume's owner right before a step changes it.
pub(crate) async fn disks_of_all(connections: &Connections) -> Result<Observed, Failure> {
    let none = Query::Configs { projects: BTreeSet::new(), uuids: BTreeSet::new(), also: BTreeSet::new() };
    let queries = [Query::Rights, none];
    let kind = Some(pve_api::ResourceKind::Guests);
    let (resources, rights) = futures::join!(
        async { connections.api().cluster().resources(kind).await },
        rights(connections, &queries),
    );
    let mut observed = Observed::nothing(pve_types::PveVersion::new(0, 0, 0));
    note_resources(&mut observed, &resources?);
    observed.rights = rights?;
    observed.guests = guests::observe(connections, &queries, &observed).await?.guests;
    observed.every_guest = connections.has_ssh();
    Ok(observed)
}

fn asks_configs(queries: &[Query]) -> bool {
    queries.iter().any(|query| matches!(query, Query::Configs { .. }))
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
                    cpu_models: None,
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

/// Asks which cluster it is that the connections lead to.
///
/// # Errors
/// When the cluster cannot be reached.
pub async fn identify(connections: &Connections) -> Result<ClusterIdentity, Failure> {
    let members = members(connections).await?;
    Ok(identity(connections, members.as_deref()))
}

/// Makes sure that the plan's cluster is the one that the connections lead to.
///
/// # Errors
/// It is another one, or cannot be reached.
pub async fn check_cluster(plan: &Plan, connections: &Connections) -> Result<(), Failure> {
    let Some(planned) = &plan.answered_by else { return Ok(()) };
    let now = identify(connections).await?;
    let addresses = connections.api().addresses();
    if planned.is(&now, &addresses) {
        return Ok(());
    }
    let text = format!(
        "run `{}` belongs to the cluster at {planned}, but this is the cluster at {now}",
        plan.run_id
    );
    let (host, _) = planned.address.rsplit_once(':').unwrap_or((&planned.address, ""));
    Err(Failure::new(FailureKind::OtherCluster, text).hint(format!(
        "set PROXMOX_API_HOST (or PROXMOX_SSH_HOST) to `{host}`; if both are nodes of one cluster, set both: `{host},OTHER`"
    )))
}

/// Returns the members of the cluster; `None` where the credentials may not ask.
async fn members(connections: &Connections) -> Result<Option<Vec<ClusterMember>>, Failure> {
    match connections.api().cluster().status().await {
        Ok(members) => Ok(Some(members)),
        Err(error) if error.is_denied() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Tells whether the cluster has quorum. A single node always has it.
fn is_quorate(members: &[ClusterMember]) -> bool {
    let cluster = members.iter().find(|member| member.kind == "cluster");
    cluster.is_none_or(|cluster| cluster.quorate.unwrap_or(true))
}

fn identity(connections: &Connections, members: Option<&[ClusterMember]>) -> ClusterIdentity {
    let api = connections.api();
    let members = members.unwrap_or_default();
    let named = members.iter().find(|member| member.kind == "cluster").or_else(|| members.first());
    ClusterIdentity {
        address: api.addresses().into_iter().next().unwrap_or_default(),
        name: named.map(|member| member.name.clone()),
        certificate: api.certificate().map(|fingerprint| fingerprint.to_string()),
    }
}

/// Returns what the credentials may do; `None` for root on the `ssh` transport, which has every privilege.
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
