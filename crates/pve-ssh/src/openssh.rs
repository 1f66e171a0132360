//! `~/.ssh/config`, as OpenSSH itself reads it: `ssh -G HOST` is asked, and its answer becomes a [`HostConfig`].
//!
//! [`settings`] is pure. [`resolve`] runs `ssh -G` for a host and for every host on the way, and is the only
//! function of this crate that starts a program here; nothing calls it but who wants it.

use crate::config::{Credential, HostConfig, KnownHostsConfig, UnknownHost};
use crate::keyring::Keyring;
use crate::text::{Escaped, tail};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// What the caller knows of this machine, and wants instead of what the configuration says.
#[derive(Debug, Clone)]
pub struct Asking {
    /// The `ssh` program.
    pub program: PathBuf,
    /// The configuration file to read instead of the user's and the system's.
    pub config_file: Option<PathBuf>,
    /// The user where neither the caller nor the configuration names one.
    pub default_user: String,
    /// What `~` and `%d` stand for.
    pub home: PathBuf,
    /// The socket of ssh-agent, where there is one.
    pub agent: Option<PathBuf>,
    /// The user to log in as, before what the configuration says.
    pub user: Option<String>,
    /// The port, before what the configuration says.
    pub port: Option<u16>,
    /// Key files to use instead of what the configuration says, the agent included.
    pub keys: Vec<PathBuf>,
    /// Files of known hosts to use instead of what the configuration says.
    pub known_hosts: Vec<PathBuf>,
    /// Hosts to pass instead of what the configuration says, as `[user@]host[:port]`.
    pub jumps: Vec<String>,
    /// Where keys are loaded.
    pub keyring: Arc<Keyring>,
    /// What happens to an unknown host.
    pub unknown: UnknownHost,
}

/// What `ssh -G` says of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// `hostname`.
    pub host: String,
    /// `port`.
    pub port: u16,
    /// `user`.
    pub user: String,
    /// `identityfile`, in order, with `~` and tokens resolved.
    pub identity_files: Vec<PathBuf>,
    /// `certificatefile`, in order.
    pub certificate_files: Vec<PathBuf>,
    /// `identityagent`: a socket; `None` where it is `none` or nothing is known.
    pub agent: Option<PathBuf>,
    /// `identitiesonly`.
    pub identities_only: bool,
    /// `proxyjump`: hosts in the order in which they are passed.
    pub jumps: Vec<String>,
    /// `userknownhostsfile` and `globalknownhostsfile`.
    pub known_hosts_files: Vec<PathBuf>,
    /// `hostkeyalias`.
    pub host_key_alias: Option<String>,
}

/// Why the configuration could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenSshError {
    /// `ssh` could not be started.
    #[error("cannot run `{}`", .program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// `ssh -G` failed: most often a mistake in the configuration file.
    #[error("`ssh -G {host}` failed: {message}")]
    Failed {
        /// The host asked for.
        host: String,
        /// ssh's own words, escaped.
        message: String,
    },
    /// `ssh -G` did not end in time, as a slow `Match exec` can do.
    #[error("`ssh -G {host}` did not end within {} s", TIME_LIMIT.as_secs())]
    Slow {
        /// The host asked for.
        host: String,
    },
    /// The answer lacks what it always has.
    #[error("cannot read what `ssh -G` printed: no `{missing}`")]
    Answer {
        /// The key that is missing or wrong.
        missing: &'static str,
    },
    /// The configuration wants something that is not supported.
    #[error(
        "`{host}` has `ProxyCommand {}` in the SSH configuration, which is not supported; use `ProxyJump`", Escaped(.command)
    )]
    ProxyCommand {
        /// The host asked for.
        host: String,
        /// The command.
        command: String,
    },
    /// The name is none.
    #[error("`{}` is not a host name", Escaped(.host))]
    Host {
        /// What was given.
        host: String,
    },
    /// Hosts that lead through each other without end.
    #[error("`{host}` needs more than {MOST_JUMPS} jump hosts")]
    TooManyJumps {
        /// The host asked for.
        host: String,
    },
}

const TIME_LIMIT: Duration = Duration::from_secs(15);
const MOST_JUMPS: usize = 8;

/// Asks `ssh -G` for `host`, and for every host on the way to it.
///
/// # Errors
/// [`OpenSshError`]; nothing was connected to.
pub async fn resolve(host: &str, asking: &Asking) -> Result<HostConfig, OpenSshError> {
    let goal = ask(host, asking.user.as_deref(), asking.port, asking).await?;
    let mut way: Option<Box<HostConfig>> = None;
    let jumps = if asking.jumps.is_empty() { &goal.jumps } else { &asking.jumps };
    if jumps.len() > MOST_JUMPS {
        return Err(OpenSshError::TooManyJumps { host: host.to_owned() });
    }
    for jump in jumps {
        let (user, name, port) = parse_jump(jump).ok_or_else(|| OpenSshError::Host { host: jump.clone() })?;
        // OpenSSH gives a host on the way its own configuration, but for a further ProxyJump when one was named.
        let mut hop = ask(&name, user.as_deref(), port, asking).await?.into_config(asking);
        hop.jump = way.take();
        way = Some(Box::new(hop));
    }
    let mut config = goal.into_config(asking);
    config.jump = way;
    Ok(config)
}

async fn ask(
    host: &str,
    user: Option<&str>,
    port: Option<u16>,
    asking: &Asking,
) -> Result<Settings, OpenSshError> {
    if host.is_empty() || host.starts_with('-') || host.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(OpenSshError::Host { host: host.to_owned() });
    }
    let mut command = tokio::process::Command::new(&asking.program);
    command.args(["-F", "/dev/stdin"]);
    if let Some(user) = user {
        command.arg("-l").arg(user);
    }
    if let Some(port) = port {
        command.arg("-p").arg(port.to_string());
    }
    command.args(["-T", "-G", "--", host]).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |source| OpenSshError::Run { program: asking.program.clone(), source };
    let run = async {
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(configuration(asking).as_bytes()).await.map_err(failed)?;
        }
        child.wait_with_output().await.map_err(failed)
    };
    let run = tokio::time::timeout(TIME_LIMIT, run).await;
    let output = run.map_err(|_| OpenSshError::Slow { host: host.to_owned() })??;
    if !output.status.success() {
        let message = tail(&String::from_utf8_lossy(&output.stderr), 3);
        return Err(OpenSshError::Failed { host: host.to_owned(), message });
    }
    settings(host, &String::from_utf8_lossy(&output.stdout), asking)
}

/// Returns the configuration that `ssh` reads: the person's, the system's, and what counts where both are silent.
///
/// Of a setting that comes twice, `ssh` takes the first. A file that is missing is passed over.
fn configuration(asking: &Asking) -> String {
    let user = format!("Match all\nUser {}\n", asking.default_user);
    match &asking.config_file {
        Some(file) => format!("Include \"{}\"\n{user}", file.display()),
        None => {
            let own = asking.home.join(".ssh/config");
            format!("Include \"{}\"\nInclude /etc/ssh/ssh_config\n{user}", own.display())
        }
    }
}

/// Reads what `ssh -G` printed for `host`.
///
/// # Errors
/// [`OpenSshError::Answer`] or [`OpenSshError::ProxyCommand`].
// OpenSSH: ssh.c, readconf.c dump_client_config: `key value` lines, keys in lower case.
pub fn settings(host: &str, answer: &str, asking: &Asking) -> Result<Settings, OpenSshError> {
    let all = |key: &'static str| {
        answer
            .lines()
            .filter_map(move |line| line.split_once(' ').filter(|(k, _)| *k == key).map(|(_, v)| v.trim()))
    };
    let one = |key: &'static str| all(key).next().ok_or(OpenSshError::Answer { missing: key });
    if let Some(command) = all("proxycommand").find(|value| *value != "none") {
        return Err(OpenSshError::ProxyCommand { host: host.to_owned(), command: command.to_owned() });
    }
    let mut read = Settings {
        host: one("hostname")?.to_owned(),
        port: one("port")?.parse().map_err(|_| OpenSshError::Answer { missing: "port" })?,
        user: one("user")?.to_owned(),
        identities_only: all("identitiesonly").any(|value| value == "yes"),
        host_key_alias: all("hostkeyalias").find(|value| *value != "none").map(str::to_owned),
        ..Settings::default()
    };
    let tokens =
        Tokens { original: host, host: &read.host, port: read.port, user: &read.user, home: &asking.home };
    let path = |text: &str| tokens.expand(text);
    read.identity_files = all("identityfile").filter(|value| *value != "none").map(path).collect();
    read.certificate_files = all("certificatefile").filter(|value| *value != "none").map(path).collect();
    let files = all("userknownhostsfile").chain(all("globalknownhostsfile"));
    read.known_hosts_files =
        files.flat_map(str::split_whitespace).filter(|value| *value != "none").map(path).collect();
    read.agent = match all("identityagent").next() {
        Some("none") => None,
        Some("SSH_AUTH_SOCK") | None => asking.agent.clone(),
        Some(socket) if socket.starts_with('$') => asking.agent.clone(),
        Some(socket) => Some(tokens.expand(socket)),
    };
    let jumps = all("proxyjump").filter(|value| *value != "none").flat_map(|value| value.split(','));
    read.jumps = jumps.map(|jump| jump.trim().to_owned()).collect();
    Ok(read)
}

/// What stands for `%h` and its like in paths.
struct Tokens<'a> {
    original: &'a str,
    host: &'a str,
    port: u16,
    user: &'a str,
    home: &'a Path,
}

impl Tokens<'_> {
    fn expand(&self, text: &str) -> PathBuf {
        let text = match text.strip_prefix("~/") {
            Some(rest) => format!("{}/{rest}", self.home.display()),
            None => text.to_owned(),
        };
        let mut expanded = String::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match (character, (character == '%').then(|| characters.clone().next()).flatten()) {
                ('%', Some(token)) => match self.value(token) {
                    Some(value) => {
                        expanded.push_str(&value);
                        characters.next();
                    }
                    None => expanded.push('%'),
                },
                (other, _) => expanded.push(other),
            }
        }
        PathBuf::from(expanded)
    }

    fn value(&self, token: char) -> Option<String> {
        match token {
            '%' => Some("%".to_owned()),
            'd' => Some(self.home.display().to_string()),
            'h' => Some(self.host.to_owned()),
            'n' => Some(self.original.to_owned()),
            'p' => Some(self.port.to_string()),
            'r' => Some(self.user.to_owned()),
            _ => None,
        }
    }
}

/// Reads `[user@]host[:port]` or `ssh://[user@]host[:port]`.
fn parse_jump(text: &str) -> Option<(Option<String>, String, Option<u16>)> {
    let text = text.strip_prefix("ssh://").unwrap_or(text).trim_end_matches('/');
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user.to_owned()), rest),
        None => (None, text),
    };
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, tail)) => (host, tail.strip_prefix(':')),
        None => match rest.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            _ => (rest, None),
        },
    };
    let port = port.map(|port| port.parse().ok()).map_or(Some(None), |port: Option<u16>| port.map(Some))?;
    (!host.is_empty()).then(|| (user, host.to_owned(), port))
}

impl Settings {
    /// Returns the configuration: key files that exist, then the agent, as OpenSSH would try them.
    fn into_config(self, asking: &Asking) -> HostConfig {
        let mut config = HostConfig::new(self.host.clone(), self.user.clone());
        config.port = self.port;
        config.keyring = asking.keyring.clone();
        config.credentials = match asking.keys.as_slice() {
            [] => self.credentials(),
            keys => keys.iter().map(Credential::key_file).collect(),
        };
        let files =
            if asking.known_hosts.is_empty() { self.known_hosts_files } else { asking.known_hosts.clone() };
        config.known_hosts = KnownHostsConfig { files, alias: self.host_key_alias, unknown: asking.unknown };
        config
    }

    fn credentials(&self) -> Vec<Credential> {
        let files: Vec<&PathBuf> = self.identity_files.iter().filter(|file| file.is_file()).collect();
        let mut credentials = Vec::new();
        if let Some(socket) = &self.agent {
            // With IdentitiesOnly the agent may use only the named keys, whose public keys are next to them.
            let publics = files
                .iter()
                .filter_map(|file| std::fs::read_to_string(format!("{}.pub", file.display())).ok());
            let only: Vec<String> = if self.identities_only { publics.collect() } else { Vec::new() };
            if !self.identities_only || !only.is_empty() {
                credentials.push(Credential::Agent { socket: socket.clone(), only });
            }
        }
        for (at, file) in files.iter().enumerate() {
            let certificate = self.certificate_files.get(at).filter(|file| file.is_file()).cloned();
            credentials.push(Credential::KeyFile { path: (*file).clone(), certificate });
        }
        credentials
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking() -> Asking {
        Asking {
            program: "ssh".into(),
            config_file: None,
            home: "/home/me".into(),
            agent: Some("/run/agent".into()),
            default_user: "root".to_owned(),
            keys: Vec::new(),
            known_hosts: Vec::new(),
            jumps: Vec::new(),
            user: None,
            port: None,
            keyring: Arc::default(),
            unknown: UnknownHost::Refuse,
        }
    }

    const ANSWER: &str = "user deploy\nhostname 10.0.0.5\nport 2222\nidentitiesonly yes\n\
        identityfile ~/.ssh/%h_%p%%\nidentityfile %d/key\ncertificatefile ~/cert.pub\n\
        proxyjump me@bastion:2200,inner\nuserknownhostsfile ~/.ssh/known_hosts ~/.ssh/known_hosts2\n\
        globalknownhostsfile /etc/ssh/ssh_known_hosts\nhostkeyalias pve1\nidentityagent SSH_AUTH_SOCK\n";

    #[test]
    fn the_answer_of_ssh_is_read() {
        let read = settings("pve", ANSWER, &asking()).unwrap();
        assert_eq!((read.host.as_str(), read.port, read.user.as_str()), ("10.0.0.5", 2222, "deploy"));
        assert_eq!(
            read.identity_files,
            [PathBuf::from("/home/me/.ssh/10.0.0.5_2222%"), "/home/me/key".into()]
        );
        assert_eq!(read.jumps, ["me@bastion:2200", "inner"]);
        assert_eq!(read.known_hosts_files.len(), 3);
        assert_eq!(read.known_hosts_files[1], PathBuf::from("/home/me/.ssh/known_hosts2"));
        assert_eq!(read.host_key_alias.as_deref(), Some("pve1"));
        assert_eq!(read.agent, Some("/run/agent".into()));
        assert!(read.identities_only);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let check = |answer: &str| settings("pve", answer, &asking()).unwrap_err().to_string();
        assert!(check("").contains("no `hostname`"));
        assert!(check(&format!("{ANSWER}proxycommand nc %h %p\n")).contains("ProxyCommand"));
        assert!(check("hostname a\nuser b\nport x\n").contains("no `port`"));
        let none =
            settings("pve", &format!("identityagent none\nproxyjump none\n{ANSWER}"), &asking()).unwrap();
        assert_eq!(none.agent, None);
    }

    #[test]
    fn hosts_on_the_way_are_read() {
        let check = |text: &str, expect: Option<(Option<&str>, &str, Option<u16>)>| {
            let read = parse_jump(text);
            let read = read.as_ref().map(|(user, host, port)| (user.as_deref(), host.as_str(), *port));
            assert_eq!(read, expect, "{text}");
        };
        check("bastion", Some((None, "bastion", None)));
        check("me@bastion:2200", Some((Some("me"), "bastion", Some(2200))));
        check("ssh://me@bastion:2200/", Some((Some("me"), "bastion", Some(2200))));
        check("[fd00::1]:22", Some((None, "fd00::1", Some(22))));
        check("fd00::1", Some((None, "fd00::1", None)));
        check("bastion:x", None);
        check("", None);
    }
}
