//! The hosts that are reached by SSH: one per node, found by the node's name.

use super::SshAccess;
use crate::{Failure, FailureKind};
use pve_api::{Client, Params};
use pve_ssh::command::files;
use pve_ssh::openssh::{self, Asking, OpenSshError};
use pve_ssh::{Credential, Host, HostConfig, KnownHostsConfig, UnknownHost, parse};
use pve_types::NodeName;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::Mutex;

/// The hosts of a cluster.
#[derive(Debug)]
pub(super) struct SshPool {
    access: SshAccess,
    first: Host,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    first_name: Option<NodeName>,
    hosts: BTreeMap<NodeName, Host>,
    addresses: Option<BTreeMap<NodeName, String>>,
}

impl SshPool {
    pub(super) async fn new(access: SshAccess) -> Result<Self, Failure> {
        let first = Host::new(config_of(&access, &access.host, None).await?);
        let known = Known { first_name: access.node.clone(), ..Known::default() };
        Ok(Self { access, first, known: Mutex::new(known) })
    }
    pub(super) fn first(&self) -> Host {
        self.first.clone()
    }
    pub(super) async fn close(&self) {
        let hosts: Vec<Host> = self.known.lock().await.hosts.values().cloned().collect();
        for host in hosts {
            host.close().await;
        }
        self.first.close().await;
    }
    /// Returns the node's host: where the configuration says, else the first host if that is the node, else the
    /// address by which the cluster knows the node.
    pub(super) async fn host(&self, node: &NodeName, api: &Client) -> Result<Host, Failure> {
        let mut known = self.known.lock().await;
        if let Some(host) = known.hosts.get(node) {
            return Ok(host.clone());
        }
        let host = match self.access.nodes.get(node) {
            Some((name, port)) => Host::new(config_of(&self.access, name, Some(*port)).await?),
            None if self.first_name(&mut known).await? == *node => self.first.clone(),
            None => {
                let address = self.cluster_address(&mut known, node, api).await?;
                Host::new(config_of(&self.access, &address, None).await?)
            }
        };
        known.hosts.insert(node.clone(), host.clone());
        Ok(host)
    }
    async fn first_name(&self, known: &mut Known) -> Result<NodeName, Failure> {
        if let Some(name) = &known.first_name {
            return Ok(name.clone());
        }
        let output = self.first.run_to_success(&files::hostname(), Duration::from_secs(30)).await?;
        let name = parse::hostname(&output.stdout).map_err(pve_ssh::Error::from)?;
        known.first_name = Some(name.clone());
        Ok(name)
    }
    async fn cluster_address(
        &self,
        known: &mut Known,
        node: &NodeName,
        api: &Client,
    ) -> Result<String, Failure> {
        if known.addresses.is_none() {
            let rows: Vec<serde_json::Value> = api.get("/cluster/status", Params::new()).await?;
            let address = |row: &serde_json::Value| {
                let name = row["name"].as_str()?.parse().ok()?;
                Some((name, row["ip"].as_str()?.to_owned())).filter(|_| row["type"] == "node")
            };
            known.addresses = Some(rows.iter().filter_map(address).collect());
        }
        let addresses = known.addresses.iter().flatten();
        addresses.into_iter().find(|(name, _)| *name == node).map(|(_, address)| address.clone()).ok_or_else(|| {
            Failure::new(FailureKind::Unreachable, format!("the address of node `{node}` is not known"))
                .at(node)
                .hint("check that it is a node of this cluster: `pvesh get /cluster/status` lists the nodes with their addresses")
        })
    }
}

/// Returns how a host is reached: as `~/.ssh/config` says, where that counts, else as the settings say.
async fn config_of(access: &SshAccess, host: &str, port: Option<u16>) -> Result<HostConfig, Failure> {
    let asked = match &access.openssh {
        Some(asking) => asked(asking, host, port).await?,
        None => None,
    };
    let mut config = match asked {
        Some(config) => config,
        None => settled(access, host, port)?,
    };
    config.credentials.extend(access.password.clone().map(Credential::Password));
    Ok(config)
}

/// Asks `ssh`; `None` if `ssh` is not installed, because its configuration then does not apply.
async fn asked(asking: &Asking, host: &str, port: Option<u16>) -> Result<Option<HostConfig>, Failure> {
    let asking = Asking { port: port.or(asking.port), ..asking.clone() };
    match openssh::resolve(host, &asking).await {
        Ok(config) => Ok(Some(config)),
        Err(OpenSshError::Run { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let text = format!("the SSH configuration cannot be used: {error}");
            let failure = Failure::new(FailureKind::Unreachable, text);
            let hint = format!("`ssh -G {host}` shows the settings that ssh reads from ~/.ssh/config");
            Err(failure.because(&error).hint(hint))
        }
    }
}

fn settled(access: &SshAccess, host: &str, port: Option<u16>) -> Result<HostConfig, Failure> {
    let mut config = plain_config(access, host, port.unwrap_or(access.port), &access.user);
    for hop in access.jump.iter() {
        let (user, host, port) = parse_hop(hop, &access.user)?;
        let mut jump = plain_config(access, &host, port, &user);
        jump.jump = config.jump.take();
        config.jump = Some(Box::new(jump));
    }
    Ok(config)
}

fn plain_config(access: &SshAccess, host: &str, port: u16, user: &str) -> HostConfig {
    let mut config = HostConfig::new(host, user);
    config.port = port;
    config.credentials = access.keys.iter().map(Credential::key_file).collect();
    config.credentials.extend(
        access.agent.iter().map(|socket| Credential::Agent { socket: socket.clone(), only: Vec::new() }),
    );
    config.keyring = access.keyring.clone();
    config.known_hosts = KnownHostsConfig {
        files: access.known_hosts.clone(),
        alias: None,
        unknown: if access.trust_on_first_use { UnknownHost::TrustOnFirstUse } else { UnknownHost::Refuse },
    };
    config
}

/// Reads `[user@]host[:port]`.
fn parse_hop(text: &str, default_user: &str) -> Result<(String, String, u16), Failure> {
    let (user, rest) = text.rsplit_once('@').unwrap_or((default_user, text));
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let port = port.map_or(Ok(22), str::parse);
    match (host.is_empty(), port) {
        (false, Ok(port)) => Ok((user.to_owned(), host.to_owned(), port)),
        _ => {
            let text = format!("`{text}` is not a valid jump host");
            Err(Failure::new(FailureKind::Unreachable, text).hint("write `[user@]host[:port]`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_host_has_a_user_a_host_and_a_port() {
        let check = |text: &str, expect: (&str, &str, u16)| {
            let (user, host, port) = parse_hop(text, "root").unwrap();
            assert_eq!((user.as_str(), host.as_str(), port), expect);
        };
        check("bastion", ("root", "bastion", 22));
        check("me@bastion:2222", ("me", "bastion", 2222));
        check("[fd00::1]:2222", ("root", "fd00::1", 2222));
        for wrong in ["", "me@", "host:port", "host:99999"] {
            assert!(parse_hop(wrong, "root").is_err(), "{wrong}");
        }
    }
}
