//! How the cluster is reached, from the environment.

use crate::environment::{CredentialScope, Environment, names};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::place::{Place, list};
use crate::ssh_login;
use pve_types::{NodeName, Secret};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use vmdeploy_executor::{ApiAccess, Connections, ConnectionsConfig, SshAccess};

/// Both transports: each with its settings, `None` where nothing is set for it, or what is wrong with them.
#[derive(Debug)]
pub struct Transports {
    /// The REST API.
    pub api: Result<Option<ApiAccess>, Failure>,
    /// SSH.
    pub ssh: Result<Option<SshAccess>, Failure>,
}

impl Transports {
    /// Reads both transports from the environment.
    pub fn of(environment: &Environment) -> Self {
        match environment.connection() {
            Ok(scope) => Self { api: api_access(scope), ssh: ssh_access(scope) },
            // The settings as a whole are refused: neither transport is opened.
            Err(failure) => Self { api: Err(failure), ssh: Ok(None) },
        }
    }
    /// Returns the settings of both.
    ///
    /// # Errors
    /// Those of one transport are wrong, or there are none of either.
    pub fn both(self, environment: &Environment) -> Result<ConnectionsConfig, Failure> {
        let config = ConnectionsConfig { api: self.api?, ssh: self.ssh? };
        if config.api.is_none() && config.ssh.is_none() {
            return Err(nowhere(environment));
        }
        Ok(config)
    }
}

/// Reads both transports from the environment.
///
/// # Errors
/// No host is named, the API's user has no password, or a value is not what it should be.
pub fn connections_config(environment: &Environment) -> Result<ConnectionsConfig, Failure> {
    Transports::of(environment).both(environment)
}

/// Opens the connections; each is made when it is first needed.
///
/// # Errors
/// A key or certificate cannot be read, or the settings contradict each other.
pub async fn open(config: ConnectionsConfig) -> Result<Connections, Failure> {
    Connections::open(config).await.map_err(|failure| executor_failure(&failure))
}

/// Turns a failure of the executor into ours: its causes, its effect and its hint, and the exit code of its kind.
pub fn executor_failure(failure: &vmdeploy_executor::Failure) -> Failure {
    let exit = if failure.is_about_credentials() { Exit::RIGHTS } else { Exit::OBSERVED };
    let place = match (&failure.step, &failure.node) {
        (Some(step), _) => format!("{step}: "),
        (None, Some(node)) => format!("{node}: "),
        (None, None) => String::new(),
    };
    let failure = &failure.clone().before_any_run();
    let lines: Vec<&str> = failure.causes.iter().chain(&failure.log).map(String::as_str).collect();
    let told = Failure::chain(exit, &format!("{place}{}", failure.message), &lines);
    failure.hint.iter().fold(told, |told, hint| told.hint(hint.clone()))
}

/// Returns the node for VMs that name none.
///
/// # Errors
/// `PROXMOX_NODE` is not a node name.
pub fn default_node(environment: &Environment) -> Result<Option<NodeName>, Failure> {
    let Some(name) = environment.get(names::NODE) else { return Ok(None) };
    name.parse().map(Some).map_err(|error: pve_types::ParseError| {
        Failure::of(Exit::USAGE, error).context(format!("{} is wrong", names::NODE))
    })
}

/// Reads the way by SSH alone.
///
/// # Errors
/// No host is named, or a value is not what it should be.
pub fn ssh_only(environment: &Environment) -> Result<ConnectionsConfig, Failure> {
    let ssh = ssh_access(environment.connection()?)?;
    if ssh.is_none() { Err(nowhere(environment)) } else { Ok(ConnectionsConfig { api: None, ssh }) }
}

/// Says that nothing names a host.
pub(crate) fn nowhere(environment: &Environment) -> Failure {
    let place = match environment.dotenv() {
        Some(path) => format!("{} does not set {}", path.display(), names::API_HOST),
        None => format!("there is no .env file here, and {} is not set", names::API_HOST),
    };
    Failure::chain(Exit::USAGE, "no Proxmox host is configured", &[&place])
        .hint("`make init` writes a .env to fill in (so does `vmdeploy init`)")
        .hint("`make demo` shows a deployment without a Proxmox host")
}

pub(crate) fn api_access(scope: CredentialScope<'_>) -> Result<Option<ApiAccess>, Failure> {
    let (Some(host), Some(user)) = (scope.get(names::API_HOST), scope.get(names::API_USER)) else {
        return Ok(None);
    };
    let secret = scope.get(names::API_PASSWORD).ok_or_else(|| {
        Failure::new(Exit::RIGHTS, format!("{} is set, and {} is not", names::API_USER, names::API_PASSWORD))
            .hint(format!(
                "set {} to the password or the token's secret, in .env or the environment",
                names::API_PASSWORD
            ))
            .hint("no token yet: `vmdeploy fix-token --create` creates it and writes its secret to .env")
            .hint(format!("without {} every step uses SSH (`--transport ssh`)", names::API_USER))
    })?;
    Ok(Some(ApiAccess {
        hosts: list(host),
        port: scope.number(names::API_PORT)?.unwrap_or(8006),
        user: user.to_owned(),
        secret: Secret::new(secret),
        totp: scope.get(names::API_TOTP).map(Secret::new),
        ask_second_factor: crate::second_factor::ask(),
        ca_pem: scope.path(names::API_CA).map(|path| read_ca(&path, names::API_CA.name())).transpose()?,
        fingerprint: scope.get(names::API_FINGERPRINT).map(str::to_owned),
    }))
}

/// Reads a CA certificate; `what` says who named the file.
pub(crate) fn read_ca(path: &Path, what: &str) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::of(Exit::RIGHTS, error)
            .context(format!("cannot read {what} (`{}`)", path.display()))
            .hint("use a certificate in PEM format; the CA of a node is its `/etc/pve/pve-root-ca.pem`")
    })
}

pub(crate) fn ssh_access(scope: CredentialScope<'_>) -> Result<Option<SshAccess>, Failure> {
    let environment = scope.environment();
    let host = scope.get(names::SSH_HOST).or_else(|| scope.get(names::API_HOST));
    let Some(host) = host.and_then(|hosts| hosts.split(',').next()) else { return Ok(None) };
    let jump = scope.get(names::SSH_JUMP).unwrap_or_default();
    Ok(Some(SshAccess {
        trust_on_first_use: environment.trusts_on_first_use(),
        host: host.trim().to_owned(),
        port: scope.number(names::SSH_PORT)?.unwrap_or(22),
        user: scope.get(names::SSH_USER).unwrap_or("root").to_owned(),
        keys: keys(scope)?,
        agent: environment.path(names::SSH_AUTH_SOCK),
        keyring: ssh_login::keyring(scope),
        password: scope.get(names::SSH_PASSWORD).map(Secret::new),
        openssh: ssh_login::asking(scope)?,
        known_hosts: known_hosts(scope),
        jump: list(jump).iter().map(|hop| parsed_hop(hop)).collect::<Result<_, _>>()?,
        node: None,
        nodes: BTreeMap::new(),
    }))
}

fn parsed_hop(text: &str) -> Result<String, Failure> {
    let wrong = |reason: String| {
        Failure::chain(Exit::USAGE, &format!("{} does not contain a host", names::SSH_JUMP), &[&reason])
    };
    text.parse::<Place>().map(|place| place.to_string()).map_err(wrong)
}

/// Returns the key that is named, or those of the usual names that exist.
fn keys(scope: CredentialScope<'_>) -> Result<Vec<PathBuf>, Failure> {
    if let Some(key) = scope.path(names::SSH_KEY) {
        if !key.is_file() {
            let message = format!("{} is `{}`, which does not exist", names::SSH_KEY, key.display());
            return Err(Failure::new(Exit::RIGHTS, message)
                .hint("set it to a private key file, or leave it empty to use the SSH agent"));
        }
        return Ok(vec![key]);
    }
    let usual = ["~/.ssh/id_ed25519", "~/.ssh/id_rsa"].map(|path| scope.environment().expand_home(path));
    Ok(usual.into_iter().filter(|path| path.is_file()).collect())
}

fn known_hosts(scope: CredentialScope<'_>) -> Vec<PathBuf> {
    match scope.path(names::SSH_KNOWN_HOSTS) {
        Some(path) => vec![path],
        None => {
            let own = scope.environment().expand_home("~/.ssh/known_hosts");
            vec![own, PathBuf::from("/etc/ssh/ssh_known_hosts")]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)], expect: &str) {
        let environment = Environment::of(variables.iter().copied());
        let got = match connections_config(&environment) {
            Ok(config) => format!(
                "api {:?} ssh {:?}",
                config.api.map(|api| (api.hosts, api.port)),
                config.ssh.map(|ssh| (ssh.user, ssh.host, ssh.port))
            ),
            Err(failure) => failure.render().lines().next().unwrap_or_default().to_owned(),
        };
        assert_eq!(got, expect);
    }

    #[test]
    fn the_environment_names_both_transports() {
        check(&[], "error: no Proxmox host is configured");
        let token =
            [("PROXMOX_API_HOST", "pve1"), ("PROXMOX_API_USER", "a@pve!b"), ("PROXMOX_API_PASSWORD", "x")];
        check(&token, r#"api Some((["pve1"], 8006)) ssh Some(("root", "pve1", 22))"#);
        check(&token[..2], "error: PROXMOX_API_USER is set, and PROXMOX_API_PASSWORD is not");
        check(
            &[("PROXMOX_SSH_HOST", "n1"), ("PROXMOX_SSH_USER", "ops")],
            r#"api None ssh Some(("ops", "n1", 22))"#,
        );
    }
}
