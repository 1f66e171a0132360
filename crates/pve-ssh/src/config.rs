//! How to reach a host: everything the crate needs to know, as values. Nothing is read from the environment.

use crate::keyring::Keyring;
use pve_types::Secret;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A host, the user, the keys, and the rules by which the host is believed.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// Name or address.
    pub host: String,
    /// The port of sshd.
    pub port: u16,
    /// The user who logs in.
    pub user: String,
    /// Ways to log in, tried in this order.
    pub credentials: Vec<Credential>,
    /// Where keys are loaded and unlocked, once for all hosts that share it.
    pub keyring: Arc<Keyring>,
    /// The host keys that are believed.
    pub known_hosts: KnownHostsConfig,
    /// The host that the connection goes through.
    pub jump: Option<Box<HostConfig>>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How much is done at once.
    pub capacity: Capacity,
    /// Who commands run as, and who writes files.
    pub runs_as: RunsAs,
}

impl HostConfig {
    /// Returns the configuration for `user` at `host`, port 22, without any way to log in and without known hosts.
    pub fn new(host: impl Into<String>, user: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port: 22,
            user: user.into(),
            credentials: Vec::new(),
            keyring: Arc::new(Keyring::default()),
            known_hosts: KnownHostsConfig::default(),
            jump: None,
            timeouts: Timeouts::default(),
            capacity: Capacity::default(),
            runs_as: RunsAs::default(),
        }
    }

    /// Returns `host:port`, as errors show it.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Who commands run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunsAs {
    /// Root: directly, or by `sudo -n` for another user. A PVE node's commands need it.
    #[default]
    Root,
    /// The user who logs in.
    Login,
}

/// One way to log in.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A private key in a file, in OpenSSH's or PEM form.
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Its OpenSSH certificate; without one, `PATH-cert.pub` is used where it exists.
        certificate: Option<PathBuf>,
    },
    /// A private key held in memory.
    Key(Secret),
    /// Every key that ssh-agent offers, or only those whose public keys are listed.
    Agent {
        /// The agent's socket.
        socket: PathBuf,
        /// Public keys in OpenSSH form (`ssh-ed25519 AAAA…`); empty for all.
        only: Vec<String>,
    },
    /// A password: for hosts that take nothing else, and only when asked for in words.
    Password(Secret),
}

impl Credential {
    /// Returns the credential for the private key in `path`.
    pub fn key_file(path: impl Into<PathBuf>) -> Self {
        Self::KeyFile { path: path.into(), certificate: None }
    }
}

/// The files of known host keys, and what happens to a host that is in none.
#[derive(Debug, Clone, Default)]
pub struct KnownHostsConfig {
    /// Files in OpenSSH's form; one that does not exist counts as empty.
    pub files: Vec<PathBuf>,
    /// The name to look for instead of host and port.
    pub alias: Option<String>,
    /// What happens to an unknown host. A changed or revoked key is refused always.
    pub unknown: UnknownHost,
}

/// What happens when a host is in no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownHost {
    /// The connection is refused, and the error says how to add the key.
    #[default]
    Refuse,
    /// The key is added to the first file. The first host that answers is trusted.
    TrustOnFirstUse,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Name lookup, TCP, key exchange and host key check together.
    pub connect: Duration,
    /// How long a host may take to name itself as an SSH server once it is connected, over all tries together: a host
    /// that closes connections without a word is tried again within this time.
    pub banner: Duration,
    /// Log-in, once connected. Does not count the time a person takes to type.
    pub auth: Duration,
    /// Opening a channel, starting a command or a subsystem.
    pub channel: Duration,
    /// How often a silent host is asked whether it is there.
    pub keepalive: Duration,
    /// After how many questions without an answer the connection counts as lost.
    pub keepalive_max: usize,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            banner: Duration::from_secs(15),
            auth: Duration::from_secs(30),
            channel: Duration::from_secs(15),
            keepalive: Duration::from_secs(10),
            keepalive_max: 3,
        }
    }
}

impl Timeouts {
    /// How long a host may be silent, or take nothing of what it is sent, before it counts as lost.
    pub(crate) fn silence(&self) -> Duration {
        let questions = u32::try_from(self.keepalive_max).unwrap_or(u32::MAX);
        self.keepalive.saturating_mul(questions.saturating_add(1))
    }
}

/// How much is done at once on one host.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Channels per connection. sshd allows 10 by default; two are kept for ending commands.
    pub channels: usize,
    /// Connections per host.
    pub connections: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { channels: 8, connections: 4 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown_by_a_configuration() {
        let mut config = HostConfig::new("pve1", "root");
        config.credentials =
            vec![Credential::Password(Secret::new("hunter2")), Credential::Key(Secret::new("hunter2"))];
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!format!("{:?}", crate::Host::new(config)).contains("hunter2"));
    }

    #[test]
    fn an_address_of_version_6_stands_in_brackets() {
        let mut config = HostConfig::new("fd00::1", "root");
        assert_eq!(config.address(), "[fd00::1]:22");
        config.host = "pve1".to_owned();
        assert_eq!(config.address(), "pve1:22");
    }
}
