//! How a cluster that the spec describes is reached.
//!
//! A spec from git is not trusted with credentials: those of the environment go to PROXMOX_API_HOST and nowhere else, and
//! credentials that the spec refers to are resolved only with `--allow-cluster-auth`.

use crate::environment::{Environment, names};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::reach::{self, Transports};
use crate::secrets::{Allowed, Resolver};
use std::path::Path;
use vmdeploy_executor::{ApiAccess, ConnectionsConfig, SecretResolver as _, SshAccess};
use vmdeploy_planner::spec::{Auth, Cluster, Deployment, Ssh};

/// Returns the settings for the cluster of this name, or for the only one; the environment's where the spec has none.
///
/// # Errors
/// The environment names no host, or the spec's cluster is not the environment's and its credentials are not allowed.
pub fn config_for(
    environment: &Environment,
    deployment: &Deployment,
    name: Option<&str>,
    allow_auth: bool,
    folder: &Path,
) -> Result<ConnectionsConfig, Failure> {
    transports_for(environment, deployment, name, allow_auth, folder).both(environment)
}

/// Returns the settings as [`config_for`] does, each transport with its own faults.
pub fn transports_for(
    environment: &Environment,
    deployment: &Deployment,
    name: Option<&str>,
    allow_auth: bool,
    folder: &Path,
) -> Transports {
    let only = || if deployment.clusters.len() == 1 { deployment.clusters.values().next() } else { None };
    let Some(cluster) = name.map_or_else(only, |name| deployment.clusters.get(name)) else {
        return Transports::of(environment);
    };
    let mut transports = match &cluster.auth {
        Some(auth) if allow_auth => with_spec_auth(environment, cluster, auth, folder),
        _ => {
            let Transports { api, ssh } = Transports::of(environment);
            Transports { api: api.and_then(|api| api.map(|api| at_endpoint(api, cluster)).transpose()), ssh }
        }
    };
    if let Ok(Some(ssh)) = &mut transports.ssh {
        apply_ssh(ssh, &cluster.ssh, environment, folder);
    }
    transports.api = transports.api.and_then(|api| api.map(|api| with_tls(api, cluster, folder)).transpose());
    transports
}

/// Keeps those API hosts of the environment that the spec's cluster has.
fn at_endpoint(mut api: ApiAccess, cluster: &Cluster) -> Result<ApiAccess, Failure> {
    if cluster.endpoints.is_empty() {
        return Ok(api);
    }
    let is_endpoint = |host: &String| cluster.endpoints.iter().any(|endpoint| endpoint.value.host == *host);
    api.hosts.retain(is_endpoint);
    if !api.hosts.is_empty() {
        return Ok(api);
    }
    let endpoints: Vec<&str> =
        cluster.endpoints.iter().map(|endpoint| endpoint.value.host.as_str()).collect();
    let message = format!(
        "the spec's cluster `{}` is at {}, and {} is another host",
        cluster.name,
        endpoints.join(", "),
        names::API_HOST
    );
    let failure = Failure::new(Exit::RIGHTS, message)
        .hint(format!("set {} to one of them; its credentials go nowhere else", names::API_HOST));
    Err(if cluster.auth.is_some() {
        failure.hint("or let the spec's own `auth:` be used, with `--allow-cluster-auth`")
    } else {
        failure
    })
}

fn with_spec_auth(environment: &Environment, cluster: &Cluster, auth: &Auth, folder: &Path) -> Transports {
    let ssh = match cluster.endpoints.first() {
        Some(first) => reach::ssh_access(&environment.with(names::SSH_HOST, &first.value.host)),
        None => Ok(None),
    };
    Transports { api: spec_access(environment, cluster, auth, folder).map(Some), ssh }
}

fn spec_access(
    environment: &Environment,
    cluster: &Cluster,
    auth: &Auth,
    folder: &Path,
) -> Result<ApiAccess, Failure> {
    let resolver = Resolver::new(environment, folder, Allowed::default());
    let resolve = |source| {
        resolver.secret(source).map_err(|error| {
            let failure = Failure::new(
                Exit::RIGHTS,
                format!("the credentials of cluster `{}`: {}", cluster.name, error.what),
            );
            error.hint.into_iter().fold(failure, Failure::hint)
        })
    };
    let hosts: Vec<String> = cluster.endpoints.iter().map(|endpoint| endpoint.value.host.clone()).collect();
    let first = cluster.endpoints.first().ok_or_else(|| {
        Failure::usage(format!("cluster `{}` has `auth:` and no `endpoints:`", cluster.name))
            .hint("name its API hosts")
    })?;
    Ok(ApiAccess {
        hosts,
        port: first.value.port,
        user: auth.id.value.clone(),
        secret: resolve(&auth.secret.value)?,
        totp: auth.totp.as_ref().map(|totp| resolve(&totp.value)).transpose()?,
        ask_second_factor: crate::second_factor::ask(),
        ca_pem: None,
        fingerprint: None,
    })
}

/// Takes the spec's TLS settings where the environment has none.
fn with_tls(mut api: ApiAccess, cluster: &Cluster, folder: &Path) -> Result<ApiAccess, Failure> {
    if api.fingerprint.is_none() {
        api.fingerprint = cluster.tls.fingerprint.as_ref().map(|fingerprint| fingerprint.value.clone());
    }
    if let (None, Some(ca)) = (&api.ca_pem, &cluster.tls.ca_file) {
        api.ca_pem = Some(reach::read_ca(&folder.join(&ca.value), "the spec's `ca_file`")?);
    }
    Ok(api)
}

/// Takes the spec's SSH settings where the environment has none.
fn apply_ssh(access: &mut SshAccess, spec: &Ssh, environment: &Environment, folder: &Path) {
    let is_free = |name: &str| environment.get(name).is_none();
    if let (true, Some(user)) = (is_free(names::SSH_USER), &spec.user) {
        access.user = user.value.clone();
    }
    if let (true, Some(port)) = (is_free(names::SSH_PORT), &spec.port) {
        access.port = port.value;
    }
    if let (true, Some(key)) = (is_free(names::SSH_KEY), &spec.identity) {
        access.keys = vec![folder.join(environment.expand_home(&key.value))];
    }
    if let (true, Some(jump)) = (is_free(names::SSH_JUMP), &spec.jump) {
        access.jump = vec![jump.value.clone()];
    }
    if let (true, Some(known_hosts)) = (is_free(names::SSH_KNOWN_HOSTS), &spec.known_hosts) {
        access.known_hosts = vec![folder.join(environment.expand_home(&known_hosts.value))];
    }
    if spec.agent.as_ref().is_some_and(|agent| !agent.value) {
        access.agent = None;
    }
    for (node, place) in &spec.nodes {
        let port = place.port.as_ref().map_or(access.port, |port| port.value);
        access.nodes.insert(node.clone(), (place.host.value.clone(), port));
    }
}
