//! What can go wrong on the way to a host, there, and back.

mod transfer;

pub use transfer::{DownloadError, UploadError};

use crate::command::CommandError;
use crate::keyring::KeyError;
use crate::text::Escaped;
use pve_types::TookEffect;
use std::time::Duration;

/// Why something could not be done over SSH.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection came about.
    #[error("cannot connect to `{address}`")]
    Connect {
        /// `host:port`.
        address: String,
        /// What stood in the way.
        #[source]
        source: ConnectCause,
    },
    /// The host that the connection should go through failed.
    #[error("cannot reach `{address}` through `{jump}`")]
    Jump {
        /// `host:port` of the goal.
        address: String,
        /// `host:port` of the host between.
        jump: String,
        /// What failed there.
        #[source]
        source: Box<Error>,
    },
    /// The host's key is not one that is believed.
    #[error(transparent)]
    HostKey(#[from] crate::known_hosts::HostKeyError),
    /// A key to log in with could not be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The login was refused.
    #[error("`{user}` cannot log in to `{address}`: tried {tried}; the host accepts {accepted}")]
    Auth {
        /// `host:port`.
        address: String,
        /// The user.
        user: String,
        /// What was tried, in words.
        tried: String,
        /// What the host said it would accept.
        accepted: String,
    },
    /// The user is not root and may not become root.
    #[error(
        "`{user}` may not run commands as root on `{address}`: {why}; allow it with the line \
         `{user} ALL=(root) NOPASSWD: ALL` in /etc/sudoers.d/vmdeploy there, or log in as root"
    )]
    Sudo {
        /// `host:port`.
        address: String,
        /// The user.
        user: String,
        /// What was in the way.
        why: SudoProblem,
    },
    /// The command cannot be sent.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The host opened no channel, or started no command on it. Nothing was run.
    #[error("`{address}` refused to run `{command}`: {reason}")]
    Refused {
        /// `host:port`.
        address: String,
        /// The command.
        command: String,
        /// Why, in words.
        reason: String,
    },
    /// The command ended with another exit status than 0.
    #[error("`{command}` on `{address}` ended with exit status {status}: {message}")]
    Exit {
        /// `host:port`.
        address: String,
        /// The command.
        command: String,
        /// Its exit status.
        status: u32,
        /// Its last words, escaped.
        message: String,
        /// All of its output.
        output: Box<Output>,
    },
    /// The command was ended by a signal.
    #[error("`{command}` on `{address}` was terminated by signal {signal}")]
    Signal {
        /// `host:port`.
        address: String,
        /// The command.
        command: String,
        /// The signal's name without `SIG`.
        signal: String,
    },
    /// The connection ended before the command did. What the command did is not known.
    #[error("the connection to `{address}` was lost while `{command}` ran: {reason}")]
    Lost {
        /// `host:port`.
        address: String,
        /// The command.
        command: String,
        /// Why, in words.
        reason: String,
        /// The process on the host, where it was said.
        pid: Option<u32>,
    },
    /// The command took longer than it may and was ended.
    #[error("`{command}` on `{address}` took longer than {} s; {ended}", .limit.as_secs())]
    Deadline {
        /// `host:port`.
        address: String,
        /// The command.
        command: String,
        /// What it was allowed.
        limit: Duration,
        /// Whether it has ended.
        ended: Ended,
    },
    /// The caller gave the command up.
    #[error("`{command}` on `{address}` was aborted; {ended}")]
    Cancelled {
        /// `host:port`.
        address: String,
        /// The command.
        command: String,
        /// Whether it has ended.
        ended: Ended,
    },
    /// The command printed more than is taken, and was ended.
    #[error("`{command}` on `{address}` printed more than {limit} bytes; {ended}")]
    TooMuchOutput {
        /// `host:port`.
        address: String,
        /// The command.
        command: String,
        /// What is taken.
        limit: usize,
        /// Whether it has ended.
        ended: Ended,
    },
    /// What a command printed could not be read.
    #[error(transparent)]
    Output(#[from] crate::parse::OutputError),
    /// An upload failed.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// A download failed.
    #[error(transparent)]
    Download(#[from] DownloadError),
}

/// What became of a command that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to end, and has.
    Yes,
    /// It may still run.
    Unknown(String),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Yes => f.write_str("it was stopped on the host"),
            Self::Unknown(why) => write!(f, "it may still be running there, because {}", Escaped(why)),
        }
    }
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectCause {
    /// The name is unknown, the port closed, the network down.
    #[error("{}", io_text(.0))]
    Io(std::io::Error),
    /// Nothing came in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// What answers there took the connection, and did not name itself in time, as an SSH server does at once.
    #[error(
        "the service there sent nothing within {} s; an SSH server sends a banner immediately", .0.as_secs_f32()
    )]
    Silent(Duration),
    /// What answers there speaks something else.
    #[error("the service there is not an SSH server: {}", Escaped(.0))]
    NotSsh(String),
    /// The host closed the connection before it was set up, as sshd does when too many set up at once.
    #[error("the host closed the connection during setup (sshd does this under load, see MaxStartups)")]
    Dropped,
    /// The host has no key of a type that is secure.
    #[error(
        "it offers only insecure host keys ({offered}); SHA-1 (`ssh-rsa`) and DSA are refused: \
         update sshd there, or create new keys with `ssh-keygen -A`"
    )]
    WeakHostKey {
        /// What it offers.
        offered: String,
    },
    /// What answers there does not speak SSH as we do.
    #[error("{}", Escaped(.0))]
    Protocol(String),
}

/// An I/O error's text without the part that only a debugger wants.
fn io_text(error: &std::io::Error) -> String {
    Escaped(&error.to_string()).to_string()
}

impl Error {
    /// Tells whether the command or upload that failed has changed anything on the host.
    ///
    /// [`crate::parse::failure`] knows more of an [`Error::Exit`].
    pub fn took_effect(&self) -> TookEffect {
        match self {
            Self::Connect { .. }
            | Self::Jump { .. }
            | Self::HostKey(_)
            | Self::Key(_)
            | Self::Auth { .. }
            | Self::Sudo { .. }
            | Self::Command(_)
            | Self::Refused { .. }
            | Self::Download(_) => TookEffect::No,
            Self::Exit { .. }
            | Self::Signal { .. }
            | Self::Lost { .. }
            | Self::Deadline { .. }
            | Self::Cancelled { .. }
            | Self::TooMuchOutput { .. } => TookEffect::Maybe,
            Self::Output(_) => TookEffect::Yes,
            Self::Upload(error) => error.took_effect(),
        }
    }

    /// The same error, with `allowed` as what the command was allowed in all, where it ran out of time.
    ///
    /// An attempt of several is given what its forerunners left; the caller asked for the whole.
    pub(crate) fn with_limit(self, allowed: Duration) -> Self {
        match self {
            Self::Deadline { address, command, ended, limit: _ } => {
                Self::Deadline { address, command, limit: allowed, ended }
            }
            other => other,
        }
    }

    /// Tells whether the host was not reached or went away, so that another try may meet it again.
    pub fn is_connection(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Lost { .. } => true,
            Self::Jump { source, .. } => source.is_connection(),
            Self::Upload(error) => error.is_connection(),
            _ => false,
        }
    }

    /// Tells whether credentials, rights or host keys are at fault, which no other try will change.
    pub fn is_access(&self) -> bool {
        match self {
            Self::HostKey(_) | Self::Key(_) | Self::Auth { .. } | Self::Sudo { .. } => true,
            Self::Jump { source, .. } => source.is_access(),
            _ => false,
        }
    }
}

/// Why a user cannot become root by `sudo -n`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SudoProblem {
    /// The host has no such program.
    #[error("the host has no sudo: run `apt install sudo` there")]
    NotInstalled,
    /// sudo refuses, or asks for a password, which cannot be entered; its message, escaped.
    #[error("`sudo -n true` printed `{0}`")]
    Refused(String),
}

/// The result of a command that ended on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status.
    pub status: u32,
    /// What it printed to stdout; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// What it printed to stderr; bytes that are no UTF-8 are replaced.
    pub stderr: String,
}

impl Output {
    /// Tells whether the exit status is 0.
    pub fn success(&self) -> bool {
        self.status == 0
    }
}
