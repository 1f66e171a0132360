//! The checks, from the outside in. One that needs another that failed is skipped.

use super::Check;
use super::settings::Transport;
use crate::commands::check_token::{by_ssh, now};
use crate::token::{Identity, Refusal, why_refused};
use pve_api::{ApiError, Client, InterfaceKind};
use pve_ssh::command::Command;
use pve_ssh::{ConnectCause, Error as SshError, Host, Privilege};
use pve_types::{BridgeName, NodeName, StorageId};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use vmdeploy_executor::{ApiAccess, Connections, ConnectionsConfig, SshAccess};
use vmdeploy_planner::spec::Deployment;

const TCP_TIMEOUT: Duration = Duration::from_secs(5);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// The time that an SSH server has to send its banner here; a deployment waits half as long again.
const GREETING_PATIENCE: Duration = Duration::from_secs(10);
/// PVE's tickets carry a time, and are refused when it lies this far in the future.
// PVE: pve-access-control src/PVE/AccessControl.pm: verify_ticket takes ages from -300 s on.
const MOST_SKEW_S: i64 = 300;

/// What is checked.
pub(super) struct Asked<'a> {
    /// How the API is asked.
    pub api: Transport<ApiAccess>,
    /// How nodes are reached.
    pub ssh: Transport<SshAccess>,
    /// Where the API is, should its settings be of no use.
    pub api_places: Vec<(String, u16)>,
    /// The node for VMs that name none.
    pub default_node: Option<NodeName>,
    /// The spec, for its nodes, storages and bridges.
    pub deployment: Option<&'a Deployment>,
}

impl Asked<'_> {
    /// Runs all checks, and tells each as soon as it is done.
    pub async fn run(mut self, tell: &mut impl FnMut(Check)) {
        std::mem::take(&mut self.api.faults).into_iter().for_each(&mut *tell);
        let ssh_faults = std::mem::take(&mut self.ssh.faults);
        let config = ConnectionsConfig { api: self.api.access.clone(), ssh: self.ssh.access.clone() };
        // Each transport was opened alone before; together they fail only where there is none.
        let Ok(connections) = Connections::open(config).await else {
            self.skip_api(tell).await;
            ssh_faults.into_iter().for_each(&mut *tell);
            return self.skip_ssh(tell);
        };
        let api = match &self.api.access {
            Some(api) => check_api(api, connections.api(), tell).await,
            None => {
                self.skip_api(tell).await;
                Api::Fails
            }
        };
        ssh_faults.into_iter().for_each(&mut *tell);
        let ssh_works = match &self.ssh.access {
            Some(_) => check_ssh(&connections, tell).await,
            None => {
                self.skip_ssh(tell);
                false
            }
        };
        if api == Api::Refuses && ssh_works {
            self.ask_root(tell).await;
        }
        if api == Api::Works || (ssh_works && connections.is_pvesh()) {
            self.check_places(connections.api(), tell).await;
        }
        connections.close().await;
    }

    /// Checks at least whether the port answers.
    async fn skip_api(&self, tell: &mut impl FnMut(Check)) {
        if !self.api.is_set {
            return tell(Check::skipped("API", "no API user is set; every step uses SSH"));
        }
        for (host, port) in &self.api_places {
            check_tcp("API", host, *port, tell).await;
        }
        tell(Check::skipped("API", "not checked, because its settings are wrong"));
    }

    fn skip_ssh(&self, tell: &mut impl FnMut(Check)) {
        let why =
            if self.ssh.is_set { "not checked, because its settings are wrong" } else { "no host is set" };
        tell(Check::skipped("SSH", why));
    }

    /// Says why the API refuses the credentials: root on the node may know.
    async fn ask_root(&self, tell: &mut impl FnMut(Check)) {
        let identity = self.api.access.as_ref().and_then(|api| Identity::parse(&api.user).ok());
        let by_root = ConnectionsConfig { api: None, ssh: self.ssh.access.clone() };
        let (Some(identity), Some(root)) = (identity, by_ssh(&by_root).await) else { return };
        if let Some(Refusal { why, hint }) = why_refused(&identity, root.api(), now()).await {
            tell(Check::failed("account", why, hint).about_trust());
        }
        root.close().await;
    }

    /// Checks nodes, storages and bridges that the spec or the environment names.
    async fn check_places(&self, api: &Client, tell: &mut impl FnMut(Check)) {
        let nodes = match api.nodes().await {
            Ok(nodes) => nodes,
            Err(error) => return tell(api_failure("nodes", &error)),
        };
        for name in self.nodes() {
            match nodes.iter().find(|node| node.node == name) {
                Some(node) if node.is_online() => tell(Check::ok(&format!("node {name}"), "online")),
                Some(_) => tell(Check::failed(
                    &format!("node {name}"),
                    "it is offline",
                    "start the node, or check its network",
                )),
                None => {
                    let known: Vec<&str> = nodes.iter().map(|node| node.node.as_str()).collect();
                    let hint =
                        format!("the nodes are {}: correct PROXMOX_NODE or the spec", known.join(", "));
                    tell(Check::failed(&format!("node {name}"), "no such node", hint));
                    continue;
                }
            }
            self.check_storages(api, &name, tell).await;
            self.check_bridges(api, &name, tell).await;
        }
    }

    fn nodes(&self) -> BTreeSet<NodeName> {
        let of_spec = self.deployment.into_iter().flat_map(|deployment| &deployment.vms);
        let named = of_spec.filter_map(|vm| vm.node.as_ref().map(|node| node.value.clone()));
        named.chain(self.default_node.clone()).collect()
    }

    async fn check_storages(&self, api: &Client, node: &NodeName, tell: &mut impl FnMut(Check)) {
        let wanted = self.storages();
        if wanted.is_empty() {
            return;
        }
        let found = match api.node(node).storages(None).await {
            Ok(found) => found,
            Err(error) => return tell(api_failure(&format!("storages of {node}"), &error)),
        };
        for storage in wanted {
            let name = format!("storage {storage}");
            match found.iter().find(|state| state.storage.as_ref() == Some(&storage)) {
                Some(state) if state.is_usable() => tell(Check::ok(&name, format!("active on {node}"))),
                Some(_) => {
                    let hint = format!("see `pvesm status` on {node}");
                    tell(Check::failed(&name, format!("it is disabled or inactive on {node}"), hint));
                }
                None => {
                    let known: Vec<&str> =
                        found.iter().filter_map(|state| Some(state.storage.as_ref()?.as_str())).collect();
                    let hint = format!(
                        "visible there: {}; a token sees only storages that it has a privilege on",
                        known.join(", ")
                    );
                    tell(Check::failed(&name, format!("{node} has no such storage"), hint));
                }
            }
        }
    }

    fn storages(&self) -> BTreeSet<StorageId> {
        let vms = self.deployment.into_iter().flat_map(|deployment| &deployment.vms);
        let disks = vms.flat_map(|vm| vm.disks.values()).filter_map(|disk| disk.set());
        disks.filter_map(|disk| disk.storage.as_ref().map(|storage| storage.value.clone())).collect()
    }

    async fn check_bridges(&self, api: &Client, node: &NodeName, tell: &mut impl FnMut(Check)) {
        let wanted = self.bridges();
        if wanted.is_empty() {
            return;
        }
        let found = match api.node(node).network(Some(InterfaceKind::AnyBridge)).await {
            Ok(found) => found,
            Err(error) => return tell(api_failure(&format!("bridges of {node}"), &error)),
        };
        for bridge in wanted {
            let name = format!("bridge {bridge}");
            if found.iter().any(|interface| interface.iface == bridge.as_str()) {
                tell(Check::ok(&name, format!("there on {node}")));
            } else {
                let known: Vec<&str> = found.iter().map(|interface| interface.iface.as_str()).collect();
                let hint = format!("visible there: {}", known.join(", "));
                tell(Check::failed(&name, format!("{node} has no such bridge or VNet"), hint));
            }
        }
    }

    fn bridges(&self) -> BTreeSet<BridgeName> {
        let vms = self.deployment.into_iter().flat_map(|deployment| &deployment.vms);
        let nics = vms.flat_map(|vm| vm.nics.values()).filter_map(|nic| nic.set());
        nics.filter_map(|nic| nic.bridge.as_ref().map(|bridge| bridge.value.clone())).collect()
    }
}

/// How the API takes us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    Works,
    /// It knows the credentials not, or no longer.
    Refuses,
    Fails,
}

/// Checks the way to the API, and whether it answers.
async fn check_api(access: &ApiAccess, api: &Client, tell: &mut impl FnMut(Check)) -> Api {
    let mut reached = false;
    for host in &access.hosts {
        reached |= check_tcp("API", host, access.port, tell).await;
    }
    if !reached {
        return Api::Fails;
    }
    match api.version().await {
        Ok(version) => {
            tell(Check::ok("TLS", trust_text(access)));
            tell(Check::ok("credentials", format!("login as {} works", access.user)));
            tell(Check::ok("version", format!("PVE {}", version.version)));
            check_clock(api, tell).await;
            Api::Works
        }
        Err(error @ ApiError::Certificate { .. }) => {
            tell(api_failure("TLS", &error).about_trust());
            Api::Fails
        }
        Err(error) if error.is_unauthenticated() => {
            tell(api_failure("credentials", &error).about_trust());
            Api::Refuses
        }
        // The port answered before.
        Err(error) if error.is_unreachable() => {
            let hint = "the service on that port does not speak TLS; is it the port of `pveproxy` (8006)?";
            tell(Check::failed("API", chain_text(&error), error.hint().unwrap_or_else(|| hint.to_owned())));
            Api::Fails
        }
        Err(error) => {
            tell(api_failure("API", &error));
            Api::Fails
        }
    }
}

fn trust_text(access: &ApiAccess) -> String {
    match (&access.fingerprint, &access.ca_pem) {
        (Some(fingerprint), Some(_)) => {
            format!("signed by the configured CA, and matches the pinned {fingerprint}")
        }
        (Some(fingerprint), None) => format!("the certificate matches the pinned {fingerprint}"),
        (None, Some(_)) => "the certificate is signed by the configured CA".to_owned(),
        (None, None) => "the certificate is signed by a CA that this system trusts".to_owned(),
    }
}

/// Compares the clocks: a skew makes tickets and one-time codes fail.
async fn check_clock(api: &Client, tell: &mut impl FnMut(Check)) {
    let node = match api.nodes().await {
        Ok(nodes) => nodes.into_iter().find(|node| node.is_online()).map(|node| node.node),
        Err(_) => None,
    };
    let Some(node) = node else {
        return tell(Check::skipped("clock", "the credentials may not read any node's time"));
    };
    let time = match api.node(&node).time().await {
        Ok(time) => time.time,
        Err(error) => {
            return tell(Check::skipped("clock", format!("the time of {node} cannot be read: {error}")));
        }
    };
    let here = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let skew = i64::try_from(here).unwrap_or(0) - i64::try_from(time).unwrap_or(0);
    if skew.abs() < MOST_SKEW_S / 10 {
        tell(Check::ok("clock", format!("the clocks of {node} and this machine differ by {} s", skew.abs())));
    } else {
        let text = format!("the clocks of {node} and this machine differ by {} s", skew.abs());
        tell(Check::failed(
            "clock",
            text,
            "synchronize the clocks (chrony, timedatectl): login tickets and one-time codes depend on them",
        ));
    }
}

/// Checks name and port; returns whether the port answers.
async fn check_tcp(what: &str, host: &str, port: u16, tell: &mut impl FnMut(Check)) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = match tokio::net::lookup_host((bare, port)).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            let hint = "correct the name in .env, or check /etc/resolv.conf";
            tell(Check::failed(
                &format!("{what} name"),
                format!("`{host}` cannot be resolved: {error}"),
                hint,
            ));
            return false;
        }
    };
    let shown: BTreeSet<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    let shown = shown.into_iter().collect::<Vec<_>>().join(", ");
    tell(Check::ok(&format!("{what} name"), format!("{host} is {shown}")));
    let name = format!("{what} port");
    match tokio::time::timeout(TCP_TIMEOUT, tokio::net::TcpStream::connect(addresses.as_slice())).await {
        Ok(Ok(_)) => {
            tell(Check::ok(&name, format!("{port} answers")));
            true
        }
        Ok(Err(error)) => {
            tell(Check::failed(&name, format!("{port} does not answer: {error}"), port_hint(what)));
            false
        }
        Err(_) => {
            let text = format!("{port} did not answer within {} s", TCP_TIMEOUT.as_secs());
            tell(Check::failed(&name, text, port_hint(what)));
            false
        }
    }
}

fn port_hint(what: &str) -> String {
    let service = if what == "SSH" { "sshd" } else { "pveproxy" };
    format!("check the port, firewalls between this machine and the node, and that `{service}` runs there")
}

/// Checks login, rights and tools on the first node; returns whether commands can run.
async fn check_ssh(connections: &Connections, tell: &mut impl FnMut(Check)) -> bool {
    let host = match connections.first_host() {
        Ok(host) => host,
        Err(failure) => {
            tell(Check::failed("SSH", failure.message, failure.hint.unwrap_or_default()));
            return false;
        }
    };
    let mut config = host.config().clone();
    config.timeouts.banner = GREETING_PATIENCE;
    let host = Host::new(config);
    // `~/.ssh/config` may say another name, another port, and a host between.
    let way = host.config();
    if way.jump.is_none() && !check_tcp("SSH", &way.host, way.port, tell).await {
        return false;
    }
    let works = match host.check().await {
        Ok(privilege) => {
            tell(Check::ok("SSH host key", format!("{} is known", host.address())));
            tell(Check::ok("SSH login", format!("login as {} works", way.user)));
            tell(Check::ok("root", privilege_text(&way.user, privilege)));
            check_tools(&host, tell).await
        }
        Err(error) => {
            tell(ssh_failure(&error));
            false
        }
    };
    host.close().await;
    works
}

fn privilege_text(user: &str, privilege: Privilege) -> String {
    match privilege {
        Privilege::Direct => "commands run as root".to_owned(),
        Privilege::Sudo => format!("{user} can use sudo without a password"),
    }
}

/// Returns the first thing on the way that failed, with those before it left out: they were well.
fn ssh_failure(error: &SshError) -> Check {
    let text = chain_text(error);
    match error {
        SshError::HostKey(_) => {
            let hint = "on the node's console, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows its fingerprint";
            Check::failed("SSH host key", text, hint).about_trust()
        }
        SshError::Auth { .. } | SshError::Key(_) => {
            let hint =
                "set PROXMOX_SSH_KEY to a key whose public half is in the user's authorized_keys on the node";
            Check::failed("SSH login", text, hint).about_trust()
        }
        SshError::Sudo { .. } => Check::failed("root", text, "add the line shown above").about_trust(),
        SshError::Connect { source: ConnectCause::Silent(_) | ConnectCause::NotSsh(_), .. } => {
            let hint = "the service on that port is not `sshd` (usually port 22); correct PROXMOX_SSH_PORT or `~/.ssh/config`";
            Check::failed("SSH", text, hint)
        }
        _ => Check::failed("SSH", text, port_hint("SSH")),
    }
}

async fn check_tools(host: &Host, tell: &mut impl FnMut(Check)) -> bool {
    let mut all = true;
    for tool in ["qm", "pvesm"] {
        let command =
            if tool == "qm" { Command::new("qm").arg("list") } else { pve_ssh::command::pvesm::status() };
        match host.run_to_success(&command, COMMAND_TIMEOUT).await {
            Ok(_) => tell(Check::ok(tool, "runs on the node")),
            Err(error) => {
                all = false;
                tell(Check::failed(
                    tool,
                    chain_text(&error),
                    "check that this is a Proxmox VE node and that the cluster file system (/etc/pve) is mounted",
                ));
            }
        }
    }
    all
}

fn api_failure(name: &str, error: &ApiError) -> Check {
    Check::failed(
        name,
        chain_text(error),
        error.hint().unwrap_or_else(|| "run it with -vv to see every request".to_owned()),
    )
}

fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
