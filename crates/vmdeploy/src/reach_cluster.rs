//! How a cluster that the spec describes is reached.
//!
//! A cluster's `endpoints`, `tls` and `auth` are what is used for that cluster, or the command is refused: a spec from
//! git is not trusted with credentials. Those of the environment go only where the environment itself leads, with the
//! trust anchors that the environment names. Where the spec says something else, the refusal names both.
//! `--allow-cluster-auth` trusts the spec: its endpoints, its TLS settings and its `auth` are then used.

use crate::context::Context;
use crate::environment::{ConnectionVariable, CredentialScope, names};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::local_files;
use crate::reach::{self, Transports};
use crate::secrets::Resolver;
use crate::spec_files::LoadedSpec;
use vmdeploy_executor::{ApiAccess, ConnectionsConfig, Reach, SecretResolver as _, SshAccess};
use vmdeploy_planner::spec::{Auth, Cluster, Endpoint};

/// Returns the settings for the cluster of this name, or for the only one; the environment's where the spec has none.
///
/// # Errors
/// The environment names no host, or environment and spec contradict each other.
pub fn config_for(
    context: &Context,
    spec: &LoadedSpec,
    name: Option<&str>,
) -> Result<ConnectionsConfig, Failure> {
    transports_for(context, spec, name).both(&context.environment)
}

/// Returns the settings as [`config_for`] does, each transport with its own faults.
pub fn transports_for(context: &Context, spec: &LoadedSpec, name: Option<&str>) -> Transports {
    let refused = |failure| Transports { api: Err(failure), ssh: Ok(None) };
    let scope = match context.environment.connection() {
        Ok(scope) => scope,
        Err(failure) => return refused(failure),
    };
    match chosen(spec, name, scope) {
        Ok(Some(cluster)) => Meeting { context, spec, cluster, scope }.transports(),
        Ok(None) => Transports::of(&context.environment),
        Err(failure) => refused(failure),
    }
}

/// Returns the cluster that is meant: the named one, the only one, or the one that the environment leads to; `None` where
/// the spec describes none.
fn chosen<'a>(
    spec: &'a LoadedSpec,
    name: Option<&str>,
    scope: CredentialScope<'_>,
) -> Result<Option<&'a Cluster>, Failure> {
    let clusters = &spec.deployment.clusters;
    if let Some(name) = name {
        return Ok(clusters.get(name));
    }
    if clusters.len() < 2 {
        return Ok(clusters.values().next());
    }
    let port = scope.number(names::API_PORT)?.unwrap_or(pve_api::Endpoint::PORT);
    let hosts = crate::place::list(scope.get(names::API_HOST).unwrap_or_default());
    let is_asked =
        |endpoint: &Endpoint| endpoint.port == port && hosts.iter().any(|host| is_host(endpoint, host));
    let mut fitting = clusters
        .values()
        .filter(|cluster| cluster.endpoints.iter().any(|endpoint| is_asked(&endpoint.value)));
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(Some(one)),
        _ => {
            let known: Vec<&str> = clusters.keys().map(String::as_str).collect();
            let message = format!(
                "the spec has several clusters ({}), and {} does not select one",
                known.join(", "),
                names::API_HOST
            );
            Err(Failure::usage(message).hint(format!(
                "set {} to an endpoint of one of them, or select it with `--cluster`",
                names::API_HOST
            )))
        }
    }
}

/// The environment's settings, and what the spec says of the cluster.
struct Meeting<'a> {
    context: &'a Context,
    spec: &'a LoadedSpec,
    cluster: &'a Cluster,
    scope: CredentialScope<'a>,
}

impl Meeting<'_> {
    fn transports(&self) -> Transports {
        let api = if self.is_trusted() { self.api_of_spec() } else { self.api_of_environment() };
        let ssh = self.ssh_settings().and_then(|ssh| ssh.map(|ssh| self.ssh(ssh, &api)).transpose());
        Transports { api, ssh }
    }
    /// Tells whether the command line trusts the spec's cluster with credentials.
    fn is_trusted(&self) -> bool {
        self.context.granted.allow_cluster_auth
    }

    /// Takes the environment's credentials to where both the environment and the spec lead.
    fn api_of_environment(&self) -> Result<Option<ApiAccess>, Failure> {
        let api = reach::api_access(self.scope);
        if let Some(auth) = &self.cluster.auth {
            self.check_user(auth)?;
        }
        let Some(mut api) = api? else { return Ok(None) };
        self.check_endpoints(&mut api)?;
        self.check_tls(&mut api)?;
        Ok(Some(api))
    }

    /// The spec's `auth` is not used without the command line; the environment's user is, if it is the same.
    fn check_user(&self, auth: &Auth) -> Result<(), Failure> {
        let spec = &auth.id.value;
        match self.scope.get(names::API_USER) {
            Some(user) if user == spec => Ok(()),
            Some(user) => Err(self.contradiction("auth", spec, names::API_USER, user)),
            None => Err(Failure::new(
                Exit::RIGHTS,
                format!(
                    "the spec's cluster `{}` has `auth:`, which is not used without permission",
                    self.cluster.name
                ),
            )
            .hint("if you trust the spec with these credentials, add `--allow-cluster-auth`")
            .hint(format!(
                "or set {} and {} for this cluster",
                names::API_USER,
                names::API_PASSWORD
            ))),
        }
    }

    /// Keeps those hosts of the environment that are endpoints of the spec's cluster.
    fn check_endpoints(&self, api: &mut ApiAccess) -> Result<(), Failure> {
        let endpoints = &self.cluster.endpoints;
        if endpoints.is_empty() {
            return Ok(());
        }
        let port = api.port;
        let asked = api.hosts.iter().map(|host| authority(host, port)).collect::<Vec<_>>().join(", ");
        api.hosts.retain(|host| {
            endpoints.iter().any(|endpoint| endpoint.value.port == port && is_host(&endpoint.value, host))
        });
        if !api.hosts.is_empty() {
            return Ok(());
        }
        Err(self.contradiction("endpoints", &self.endpoints(), names::API_HOST, &asked))
    }

    /// Trust anchors of the spec may only narrow what the environment's credentials are sent to.
    fn check_tls(&self, api: &mut ApiAccess) -> Result<(), Failure> {
        let tls = &self.cluster.tls;
        let has_own = api.fingerprint.is_some() || api.ca_pem.is_some();
        if let Some(pin) = &tls.fingerprint {
            match &api.fingerprint {
                Some(own) if !own.eq_ignore_ascii_case(&pin.value) => {
                    return Err(self.contradiction(
                        "tls.fingerprint",
                        &pin.value,
                        names::API_FINGERPRINT,
                        own,
                    ));
                }
                Some(_) => {}
                None if has_own => api.fingerprint = Some(pin.value.clone()),
                None => return Err(self.untrusted_tls("fingerprint", names::API_FINGERPRINT)),
            }
        }
        if let Some(file) = &tls.ca_file {
            match self.scope.path(names::API_CA) {
                Some(own) if local_files::are_same(&own, &self.files().resolve(&file.value)) => {}
                Some(own) => {
                    let own = own.display().to_string();
                    if api.ca_pem.as_ref() != Some(&self.ca_of_spec(&file.value)?) {
                        return Err(self.contradiction("tls.ca_file", &file.value, names::API_CA, &own));
                    }
                }
                None if has_own => api.ca_pem = Some(self.ca_of_spec(&file.value)?),
                None => return Err(self.untrusted_tls("ca_file", names::API_CA)),
            }
        }
        Ok(())
    }

    /// Takes the spec's endpoints, TLS settings and credentials, and the environment's where it has none.
    fn api_of_spec(&self) -> Result<Option<ApiAccess>, Failure> {
        let mut api = match &self.cluster.auth {
            Some(auth) => self.access_of(auth)?,
            None => match reach::api_access(self.scope)? {
                Some(api) => api,
                None => return Ok(None),
            },
        };
        if let Some(first) = self.cluster.endpoints.first() {
            api.port = first.value.port;
            api.hosts = self.cluster.endpoints.iter().map(|endpoint| endpoint.value.host.clone()).collect();
            // The environment's trust anchors are those of its own host.
            (api.ca_pem, api.fingerprint) = (None, None);
        }
        let tls = &self.cluster.tls;
        if let Some(pin) = &tls.fingerprint {
            api.fingerprint = Some(pin.value.clone());
        }
        if let Some(file) = &tls.ca_file {
            api.ca_pem = Some(self.ca_of_spec(&file.value)?);
        }
        Ok(Some(api))
    }

    fn access_of(&self, auth: &Auth) -> Result<ApiAccess, Failure> {
        let resolver = Resolver::new(&self.context.environment, self.files(), false);
        let resolve = |source| {
            resolver.secret(source).map_err(|error| {
                let message = format!("the credentials of cluster `{}`: {}", self.cluster.name, error.what);
                error.hint.into_iter().fold(Failure::new(Exit::RIGHTS, message), Failure::hint)
            })
        };
        let first = self.cluster.endpoints.first().ok_or_else(|| {
            Failure::usage(format!("cluster `{}` has `auth:` and no `endpoints:`", self.cluster.name))
                .hint("add `endpoints:` with its API addresses")
        })?;
        Ok(ApiAccess {
            hosts: Vec::new(),
            port: first.value.port,
            user: auth.id.value.clone(),
            secret: resolve(&auth.secret.value)?,
            totp: auth.totp.as_ref().map(|totp| resolve(&totp.value)).transpose()?,
            ask_second_factor: crate::second_factor::ask(),
            ca_pem: None,
            fingerprint: None,
        })
    }

    /// Returns the environment's settings for SSH, which goes to the spec's first endpoint where the spec is trusted.
    fn ssh_settings(&self) -> Result<Option<SshAccess>, Failure> {
        match self.cluster.endpoints.first().filter(|_| self.is_trusted()) {
            Some(first) => {
                let moved = self.context.environment.with(names::SSH_HOST, &first.value.host);
                reach::ssh_access(moved.connection()?)
            }
            None => reach::ssh_access(self.scope),
        }
    }

    /// Adds what the spec says of SSH. The environment's user, key and jump host are the person's own and win.
    fn ssh(
        &self,
        mut access: SshAccess,
        api: &Result<Option<ApiAccess>, Failure>,
    ) -> Result<SshAccess, Failure> {
        let spec = &self.cluster.ssh;
        if !self.is_trusted() && !matches!(api, Ok(Some(_))) {
            self.check_ssh_host(&access)?;
        }
        if let Some(port) = &spec.port {
            match self.scope.number::<u16>(names::SSH_PORT)? {
                Some(own) if own != port.value => {
                    let (spec, own) = (port.value.to_string(), own.to_string());
                    return Err(self.contradiction("ssh.port", &spec, names::SSH_PORT, &own));
                }
                _ => access.port = port.value,
            }
        }
        let is_free = |variable: ConnectionVariable| self.scope.get(variable).is_none();
        let mut leads_elsewhere = !spec.nodes.is_empty();
        if let (true, Some(user)) = (is_free(names::SSH_USER), &spec.user) {
            access.user = user.value.clone();
        }
        if let (true, Some(key)) = (is_free(names::SSH_KEY), &spec.identity) {
            access.keys = vec![self.files().resolve(&key.value)];
        }
        if let (true, Some(jump)) = (is_free(names::SSH_JUMP), &spec.jump) {
            access.jump = vec![jump.value.clone()];
            leads_elsewhere = true;
        }
        if let (true, Some(file)) = (is_free(names::SSH_KNOWN_HOSTS), &spec.known_hosts) {
            let path = self.files().check_place(&file.value).map_err(|error| {
                local_files::failure(&format!("the spec's `known_hosts`, `{}`,", file.value), &error)
            })?;
            access.known_hosts = vec![path];
            leads_elsewhere = true;
        }
        if leads_elsewhere && access.password.is_some() && !self.is_trusted() {
            let message = format!(
                "{} would be sent to hosts, or accepted by host keys, that the spec's cluster `{}` sets",
                names::SSH_PASSWORD,
                self.cluster.name
            );
            return Err(Failure::new(Exit::RIGHTS, message)
                .hint("log in with a key, or trust the spec with `--allow-cluster-auth`"));
        }
        if spec.agent.as_ref().is_some_and(|agent| !agent.value) {
            access.agent = None;
        }
        for (node, place) in &spec.nodes {
            let port = place.port.as_ref().map_or(access.port, |port| port.value);
            access.nodes.insert(node.clone(), (place.host.value.clone(), port));
        }
        Ok(access)
    }

    /// Where the API does not say that both mean the same cluster, the host for SSH must.
    fn check_ssh_host(&self, access: &SshAccess) -> Result<(), Failure> {
        let is_named = self.cluster.endpoints.iter().any(|endpoint| is_host(&endpoint.value, &access.host))
            || self.cluster.ssh.nodes.values().any(|node| node.host.value == access.host);
        if self.cluster.endpoints.is_empty() || is_named {
            return Ok(());
        }
        let variable =
            if self.scope.get(names::SSH_HOST).is_some() { names::SSH_HOST } else { names::API_HOST };
        Err(self.contradiction("endpoints", &self.endpoints(), variable, &access.host))
    }

    fn endpoints(&self) -> String {
        let shown = |endpoint: &Endpoint| authority(&endpoint.host, endpoint.port);
        self.cluster.endpoints.iter().map(|endpoint| shown(&endpoint.value)).collect::<Vec<_>>().join(", ")
    }
    fn files(&self) -> vmdeploy_executor::LocalFiles {
        local_files::of(self.context, &self.spec.folder)
    }
    fn ca_of_spec(&self, file: &str) -> Result<String, Failure> {
        let text = self.files().read(file, Reach::Confined);
        let text =
            text.map_err(|error| local_files::failure(&format!("the spec's `ca_file`, `{file}`,"), &error))?;
        String::from_utf8(text).map_err(|_| {
            Failure::new(
                Exit::RIGHTS,
                format!("the spec's `ca_file`, `{file}`, is not a certificate in PEM format"),
            )
        })
    }

    /// Refuses to decide between the spec and the environment.
    fn contradiction(&self, key: &str, spec: &str, variable: ConnectionVariable, own: &str) -> Failure {
        let message = format!(
            "the spec has `{key}: {spec}` for cluster `{}`, but {variable} in {} is {own}",
            self.cluster.name,
            self.scope.origin(variable)
        );
        Failure::new(Exit::RIGHTS, message)
            .hint(format!(
                "set {variable} and its credentials to those of the cluster `{}`, or correct the spec",
                self.cluster.name
            ))
            .hint("if you trust the spec with credentials, add `--allow-cluster-auth` to use its values")
    }
    fn untrusted_tls(&self, key: &str, variable: ConnectionVariable) -> Failure {
        let message = format!(
            "`tls.{key}` of the spec's cluster `{}` would decide which host gets the credentials of {}",
            self.cluster.name,
            self.scope.origin(names::API_PASSWORD)
        );
        Failure::new(Exit::RIGHTS, message)
            .hint(format!("set {variable} to the same value, in the same source as these credentials"))
            .hint("or, if you trust the spec with credentials, use `--allow-cluster-auth`")
    }
}

fn is_host(endpoint: &Endpoint, host: &str) -> bool {
    let plain = |host: &str| host.trim_end_matches('.').trim_matches(['[', ']']).to_ascii_lowercase();
    plain(&endpoint.host) == plain(host)
}

fn authority(host: &str, port: u16) -> String {
    pve_api::Endpoint::new(host, port).authority()
}
