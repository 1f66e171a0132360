//! The host that builds: how it is named, and how it is reached.

use crate::environment::{Environment, names};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::place::Place;
use crate::reach;
use crate::ssh_login;
use pve_ssh::{Error, Host, HostConfig, RunsAs};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;
use vmdeploy_executor::{ConnectionsConfig, SshAccess};

/// How often a builder that does not listen yet is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// How the builder is reached, in addition to `~/.ssh/config`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Way {
    /// Private key for the builder [default: PROXMOX_SSH_KEY, then the default keys and the SSH agent]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Jump hosts, in order, separated by commas [default: `ProxyJump` of ~/.ssh/config]
    #[arg(long, value_name = "[USER@]HOST[:PORT]", value_delimiter = ',')]
    pub jump: Vec<Place>,
}

/// Logs in to the builder: as root, or as a user who may use sudo, or else as the user alone.
///
/// A builder that does not listen yet is tried until `patience` is over.
///
/// # Errors
/// It cannot be reached, its host key is not known, or the login is refused.
pub async fn connect(
    environment: &Environment,
    place: &Place,
    way: &Way,
    patience: Duration,
) -> Result<Host, Failure> {
    let access = access(environment, place, way)?;
    let connections = reach::open(ConnectionsConfig { api: None, ssh: Some(access) }).await?;
    let host = connections.first_host().map_err(|failure| reach::executor_failure(&failure))?;
    let until = Instant::now() + patience;
    loop {
        match host.check().await {
            Ok(_) => return Ok(host),
            Err(Error::Sudo { .. }) => {
                let config = HostConfig { runs_as: RunsAs::Login, ..host.config().clone() };
                let host = Host::new(config);
                host.check().await.map_err(failed)?;
                return Ok(host);
            }
            Err(error) if does_not_listen(&error, host.address()) && Instant::now() + AGAIN < until => {
                tokio::time::sleep(AGAIN).await;
            }
            Err(error @ Error::HostKey(_)) => {
                return Err(failed(error).hint(
                    "`--trust-on-first-use` accepts and records the key of an unknown host; a changed key is always refused",
                ));
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Tells whether it is the host itself that takes no connection, and not one between.
fn does_not_listen(error: &Error, host: &str) -> bool {
    match error {
        Error::Connect { address, .. } => address == host,
        Error::Jump { source, .. } => does_not_listen(source, host),
        _ => false,
    }
}

/// Tells what SSH to the builder failed with.
pub(super) fn failed(error: Error) -> Failure {
    let failure = vmdeploy_executor::Failure::from(error);
    reach::executor_failure(&failure)
}

/// The credentials of the nodes stay with them: no password and no jump host of theirs is used here.
fn access(environment: &Environment, place: &Place, way: &Way) -> Result<SshAccess, Failure> {
    let scope = environment.connection()?;
    let jumps: Vec<String> = way.jump.iter().map(ToString::to_string).collect();
    if let Some(key) = way.key.as_ref().filter(|key| !key.is_file()) {
        let message = format!("`--key {}`: no such file", key.display());
        return Err(Failure::new(Exit::RIGHTS, message)
            .hint("name a private key file, or omit `--key` to use the SSH agent"));
    }
    let usual = ["~/.ssh/id_ed25519", "~/.ssh/id_rsa"].map(|path| environment.expand_home(path));
    let usual = usual.into_iter().filter(|path| path.is_file());
    let keys: Vec<PathBuf> = match &way.key {
        Some(key) => vec![key.clone()],
        None => scope.path(names::SSH_KEY).into_iter().chain(usual).collect(),
    };
    let mut known_hosts = vec![environment.expand_home("~/.ssh/known_hosts")];
    known_hosts.extend(scope.path(names::SSH_KNOWN_HOSTS));
    let openssh = ssh_login::asking(scope)?.map(|asking| pve_ssh::openssh::Asking {
        user: place.user.clone(),
        port: place.port,
        keys: keys.clone(),
        known_hosts: known_hosts.clone(),
        jumps: jumps.clone(),
        ..asking
    });
    Ok(SshAccess {
        host: place.host.clone(),
        port: place.port.unwrap_or(22),
        user: place.user.clone().unwrap_or_else(|| "root".to_owned()),
        keys,
        agent: environment.path(names::SSH_AUTH_SOCK),
        keyring: ssh_login::keyring(scope),
        password: None,
        openssh,
        known_hosts,
        trust_on_first_use: environment.trusts_on_first_use(),
        jump: jumps,
        node: None,
        nodes: BTreeMap::new(),
    })
}
