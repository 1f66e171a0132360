//! The API's methods, and the one transport to them for both doors.

pub(crate) mod access;
mod call;
mod caller;
pub(crate) mod cluster;
mod firewall;
mod nodes;
mod pools;
pub mod qemu;
mod refusal;
mod rights;
pub(crate) mod storage;
mod tasks;
mod version;
mod vzdump;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

pub use call::{Call, Handler, Methods};
pub use caller::{Caller, Identity};
pub use refusal::Refusal;
pub use rights::{Rights, effective, has, rights};

use crate::schema::{self, Endpoint, Errors, Formats, Found, Permission};
use crate::world::World;

/// Decoded parameters by name: strings as a form or a command line has them, arrays for repeated keys, and any JSON
/// value where the body was JSON.
pub type Params = BTreeMap<String, Value>;

/// What a method answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reply {
    /// What stands under `data`.
    pub data: Value,
    /// What stands under `total`, for lists that are cut.
    pub total: Option<u64>,
    /// What was printed meanwhile: a command's stdout; nothing on HTTP.
    pub output: Vec<String>,
    /// The number of a change that takes its time: this is its answer only once it is done.
    pub(crate) later: Option<u64>,
}

/// The groups of one file each.
const OTHER: &[Methods] =
    &[firewall::METHODS, nodes::METHODS, pools::METHODS, tasks::METHODS, vzdump::METHODS];

/// Every method that the lab has.
const METHODS: &[&[Methods]] =
    &[&[version::METHODS], access::METHODS, cluster::METHODS, qemu::METHODS, storage::METHODS, OTHER];

fn all_methods() -> impl Iterator<Item = &'static (&'static str, &'static str, Handler)> {
    METHODS.iter().flat_map(|group| group.iter()).flat_map(|methods| methods.iter())
}

/// The handler of each endpoint of the table, by the endpoint's number.
fn handlers(version: pve_types::PveVersion) -> &'static [Option<Handler>] {
    static HANDLERS: [OnceLock<Vec<Option<Handler>>>; 2] = [OnceLock::new(), OnceLock::new()];
    HANDLERS[usize::from(version.at_least(9, 0))].get_or_init(|| {
        let by_path: BTreeMap<(&str, &str), Handler> =
            all_methods().map(|(method, path, run)| ((*method, *path), *run)).collect();
        let endpoints = schema::table(version).endpoints();
        endpoints.iter().map(|it| by_path.get(&(it.method.as_str(), it.path.as_str())).copied()).collect()
    })
}

/// Runs one API method at once: finds it, authorises `caller`, verifies `params`, and does it.
///
/// `path` begins with `/` and has no format part: `/nodes/pve1/qemu`. A refusal whose `lock_is_busy` is set changed
/// nothing, and the caller may try again when the world has changed ([`crate::WorldHandle::call`] does).
///
/// # Errors
/// What PVE answers instead, in PVE's order: no credentials, no such method, parameters that contradict the path,
/// tokens, permission, the node, parameters, and whatever the method itself refuses.
pub fn dispatch(
    world: &mut World,
    caller: &Caller,
    method: &str,
    path: &str,
    params: &Params,
) -> Result<Reply, Refusal> {
    let found = schema::method(world.version, method, path);
    let is_world = found.as_ref().is_some_and(|found| found.endpoint.permission == Permission::World);
    if caller.identity == Identity::Nobody && !is_world {
        return Err(Refusal::unauthenticated("No ticket"));
    }
    let Found { endpoint, index, path_params } =
        found.ok_or_else(|| Refusal::not_implemented(method, path))?;
    let run = handlers(world.version).get(index).copied().flatten();
    let run = run.ok_or_else(|| Refusal::not_implemented(method, path))?;
    let mut params = schema::normalise(&endpoint.params, params);
    merge_path(&mut params, path_params)?;
    if caller.is_token() && !endpoint.allows_tokens {
        return Err(no_token(path));
    }
    authorise(world, caller, endpoint, &params)?;
    reach_node(world, caller, endpoint, &mut params)?;
    let mut errors = Errors::default();
    schema::check_object(&endpoint.params, &params, "", &Formats::of(world.version), &mut errors);
    if !errors.is_empty() {
        return Err(Refusal::parameters(errors.into_map()));
    }
    let mut call = Call { world, caller, params, total: None, output: Vec::new(), later: None };
    let result = run(&mut call);
    let (total, output, later) = (call.total, call.output, call.later);
    match result {
        Ok(data) => Ok(Reply { data, total, output, later }),
        Err(refusal) => Err(Refusal { output, ..refusal }),
    }
}

fn merge_path(params: &mut Params, path_params: BTreeMap<String, String>) -> Result<(), Refusal> {
    for (name, value) in path_params {
        if params.get(&name).is_some_and(|given| given.as_str() != Some(&value)) {
            let text = "duplicate parameter (already defined in URI) with conflicting values!";
            return Err(Refusal::parameter(&name, text));
        }
        params.insert(name, value.into());
    }
    Ok(())
}

fn no_token(path: &str) -> Refusal {
    let text =
        format!("Permission check failed (URI '{path}' not available with API token, need proper ticket.\n)");
    Refusal::new(403, text)
}

fn authorise(world: &World, caller: &Caller, endpoint: &Endpoint, params: &Params) -> Result<(), Refusal> {
    if caller.is_root() {
        return Ok(());
    }
    match &endpoint.permission {
        Permission::World | Permission::All => Ok(()),
        Permission::Root => Err(Refusal::new(403, "Permission check failed (user != root@pam)")),
        Permission::Check(check) => rights::evaluate(world, caller.auth_id(), check, params),
    }
}

/// Goes to the node that the endpoint runs on.
// PVE: pve-http-server src/PVE/APIServer/AnyEvent.pm proxy_request; status codes of AnyEvent::HTTP
fn reach_node(
    world: &World,
    caller: &Caller,
    endpoint: &Endpoint,
    params: &mut Params,
) -> Result<(), Refusal> {
    let Some(name) = endpoint.proxied_to.as_ref().and_then(|param| params.get(param)) else {
        return quorum(world, endpoint);
    };
    let name = name.as_str().unwrap_or_default().to_owned();
    if name == "localhost" || name == caller.node {
        return quorum(world, endpoint);
    }
    match world.nodes.get(&name) {
        None => {
            let lookup = format!("failed to get address info for: {name}: Name or service not known");
            Err(Refusal::died(format!("hostname lookup '{name}' failed - {lookup}")))
        }
        Some(node) if !node.spec.up => {
            Err(Refusal { has_body: false, ..Refusal::new(595, "No route to host") })
        }
        Some(_) => quorum(world, endpoint),
    }
}

/// Without quorum nothing that is written below /etc/pve can be changed.
// PVE: pve-cluster src/PVE/Cluster.pm check_cfs_quorum
fn quorum(world: &World, endpoint: &Endpoint) -> Result<(), Refusal> {
    let writes = endpoint.protected
        && endpoint.method != "GET"
        && !endpoint.path.starts_with("/access/ticket")
        && !endpoint.path.contains("/agent");
    if writes && !world.quorate {
        return Err(Refusal::died("cluster not ready - no quorum?"));
    }
    Ok(())
}

/// Lower-case hex of a text's SHA-1: what PVE's digests are.
pub(crate) fn hex_sha1(text: &str) -> String {
    use sha1::{Digest as _, Sha1};
    Sha1::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_of_the_table_has_its_method_and_every_method_its_endpoint() {
        let versions = [pve_types::PveVersion::new(8, 4, 1), pve_types::PveVersion::new(9, 2, 11)];
        let mut known = std::collections::BTreeSet::new();
        for version in versions {
            let endpoints = schema::table(version).endpoints();
            for (endpoint, handler) in endpoints.iter().zip(handlers(version)) {
                assert!(handler.is_some(), "{} {} has no method", endpoint.method, endpoint.path);
                known.insert((endpoint.method.as_str(), endpoint.path.as_str()));
            }
        }
        for (method, path, _) in all_methods() {
            assert!(known.contains(&(*method, *path)), "{method} {path} is not in the table");
        }
    }
}
