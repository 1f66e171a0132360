//! Why a file did not get to a host, or from it.

use crate::text::{Escaped, human};
use pve_types::{Bytes, TookEffect};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why an upload failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// The file of this machine cannot be read.
    #[error("cannot read `{}`", .path.display())]
    Local {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file of this machine has another size than when the upload began.
    #[error("`{}` changed while it was uploaded", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The target is no path that a file can be put at.
    #[error("`{}` is not an absolute path of a file", Escaped(.target))]
    Target {
        /// The target.
        target: String,
    },
    /// The host has no SFTP, or not for this user.
    #[error("`{address}` offers no SFTP: {reason}")]
    NoSftp {
        /// `host:port`.
        address: String,
        /// Why, in words.
        reason: String,
    },
    /// The file does not fit.
    #[error(
        "`{target}` needs {needed} on `{address}`, but {available} are free there; nothing was uploaded",
        needed = human(*.needed), available = human(*.available)
    )]
    NoSpace {
        /// `host:port`.
        address: String,
        /// The target.
        target: String,
        /// What is needed.
        needed: Bytes,
        /// What is free.
        available: Bytes,
    },
    /// The host refused an operation.
    #[error("`{address}` refused to {doing} `{path}`: {reason}")]
    Refused {
        /// `host:port`.
        address: String,
        /// What was to be done: `create`, `write` and so on.
        doing: &'static str,
        /// The file.
        path: String,
        /// The host's own words, escaped.
        reason: String,
    },
    /// The connection ended. What was uploaded is kept under its temporary name and used by the next upload.
    #[error("the connection to `{address}` was lost after {} of {} of `{target}`: {reason}", human(*.done), human(*.size))]
    Lost {
        /// `host:port`.
        address: String,
        /// The target.
        target: String,
        /// What was sent.
        done: Bytes,
        /// The whole size.
        size: Bytes,
        /// Why, in words.
        reason: String,
    },
    /// The host took nothing for too long.
    #[error("`{address}` accepted no data of `{target}` for {} s", .stall.as_secs())]
    Stalled {
        /// `host:port`.
        address: String,
        /// The target.
        target: String,
        /// How long.
        stall: Duration,
    },
    /// What arrived is not what was sent.
    #[error(
        "`{target}` on `{address}` differs from what was sent: its SHA-256 is {got}, not {expected}; it was removed"
    )]
    Checksum {
        /// `host:port`.
        address: String,
        /// The target.
        target: String,
        /// What was sent.
        expected: String,
        /// What arrived.
        got: String,
    },
}

impl UploadError {
    /// Tells whether the target was touched: never before the rename at the end.
    pub fn took_effect(&self) -> TookEffect {
        TookEffect::No
    }

    /// Tells whether the connection is at fault.
    pub fn is_connection(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Stalled { .. })
    }
}

/// Why a download failed. The target is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// The file of this machine cannot be written.
    #[error("cannot write `{}`", .path.display())]
    Local {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host does not give the file.
    #[error("`{address}` did not send `{}`: {reason}", Escaped(.path))]
    Refused {
        /// `host:port`.
        address: String,
        /// The file there.
        path: String,
        /// The host's own words, escaped.
        reason: String,
    },
    /// The connection ended, or the host sent nothing for too long.
    #[error("`{address}` stopped after {} of {} of `{}`: {reason}", human(*.done), human(*.size), Escaped(.path))]
    Lost {
        /// `host:port`.
        address: String,
        /// The file there.
        path: String,
        /// What arrived.
        done: Bytes,
        /// The whole size.
        size: Bytes,
        /// Why, in words.
        reason: String,
    },
    /// What arrived is not what the host has.
    #[error("`{}` of `{address}` arrived with SHA-256 {got}, but has {expected} there; it was discarded", Escaped(.path))]
    Checksum {
        /// `host:port`.
        address: String,
        /// The file there.
        path: String,
        /// What the host computed.
        expected: String,
        /// What arrived.
        got: String,
    },
}
