//! How the cluster is reached, as plain values. The program that uses this crate reads them from wherever it likes.

use pve_ssh::Keyring;
use pve_ssh::openssh::Asking;
use pve_types::{NodeName, Secret};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// How the cluster is reached: at least one of the two transports.
#[derive(Debug, Clone, Default)]
pub struct ConnectionsConfig {
    /// The REST API. Without it, API calls go through `pvesh` on the node.
    pub api: Option<ApiAccess>,
    /// SSH. Without it, only what the API can do is possible.
    pub ssh: Option<SshAccess>,
}

/// How the REST API is reached.
#[derive(Debug, Clone)]
pub struct ApiAccess {
    /// Name or address; several for failover, the first is tried first.
    pub hosts: Vec<String>,
    /// The port, 8006 as a rule.
    pub port: u16,
    /// `user@realm`, or `user@realm!token`.
    pub user: String,
    /// The password or the token's secret.
    pub secret: Secret,
    /// A one-time code, or the recovery key, for users with a second factor.
    pub totp: Option<Secret>,
    /// Who is asked for one where it is needed and `totp` has none.
    pub ask_second_factor: pve_api::SecondFactorSource,
    /// Certificates in PEM that are trusted instead of the system's.
    pub ca_pem: Option<String>,
    /// The server certificate's SHA-256 as `AA:BB:…`; where it is set it must match.
    pub fingerprint: Option<String>,
}

/// How the nodes are reached by SSH.
#[derive(Debug, Clone)]
pub struct SshAccess {
    /// Name or address of the first node.
    pub host: String,
    /// The port, 22 as a rule; the same on all nodes that `nodes` does not name.
    pub port: u16,
    /// The user; any but root needs sudo without a password.
    pub user: String,
    /// Private keys, tried in this order.
    pub keys: Vec<PathBuf>,
    /// The socket of an SSH agent, tried after the keys.
    pub agent: Option<PathBuf>,
    /// Where keys are loaded and, when they are encrypted, their passphrases asked for.
    pub keyring: Arc<Keyring>,
    /// The user's password, tried last; for hosts that take nothing else.
    pub password: Option<Secret>,
    /// What `ssh -G` is called with, if `~/.ssh/config` applies; `user`, `port`, `keys`, `agent`, `known_hosts`
    /// and `jump` above are then not used, but those in here.
    pub openssh: Option<Asking>,
    /// Files of trusted host keys.
    pub known_hosts: Vec<PathBuf>,
    /// Whether the key of an unknown host is accepted and recorded; a changed key never is.
    pub trust_on_first_use: bool,
    /// Jump hosts as `[user@]host[:port]`, the first hop first.
    pub jump: Vec<String>,
    /// The node that `host` is, where it is known; else it is asked for its name.
    pub node: Option<NodeName>,
    /// Where other nodes are reached, where that is not the address that the cluster knows them by.
    pub nodes: BTreeMap<NodeName, (String, u16)>,
}
