//! Resource mappings: one request for each kind that the spec names, however many VMs do.

use super::is_optional;
use crate::{Connections, Failure};
use pve_api::Mapping;
use pve_types::{MappingKind, NodeName, PveVersion};
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_planner::observed::Query;

type ByName = BTreeMap<String, BTreeSet<NodeName>>;

/// Returns the mappings of each kind that is asked for; not those that this version has not, or does not show.
pub(super) async fn observe(
    connections: &Connections,
    queries: &[Query],
    version: PveVersion,
) -> Result<BTreeMap<MappingKind, ByName>, Failure> {
    let kinds = queries.iter().filter_map(|query| match query {
        Query::Mappings { kind } if kind.is_known_to(version) => Some(*kind),
        _ => None,
    });
    let looks = kinds.map(|kind| async move {
        match connections.api().cluster().mappings(kind).await {
            Ok(mappings) => Ok(Some((kind, mappings.iter().map(by_name).collect()))),
            Err(error) if is_optional(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    });
    let seen = futures::future::join_all(looks).await;
    seen.into_iter().filter_map(Result::transpose).collect()
}

fn by_name(mapping: &Mapping) -> (String, BTreeSet<NodeName>) {
    (mapping.id.clone(), mapping.nodes().filter_map(|node| node.parse().ok()).collect())
}
