//! Proxmox VE's command line over SSH: commands, parsers of their output, sessions and uploads.
//!
//! [`command`] and [`parse`] are pure. [`Host`] does the I/O: it shares connections between everything that is
//! done on a host at once, checks host keys by rules of its own ([`known_hosts`]), and really ends a command
//! that is given up. Nothing is read from the environment; [`openssh`] asks `ssh -G` for `~/.ssh/config` when it is told to.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use pve_ssh::{Credential, Host, HostConfig, command::pvesm, parse};
//! use std::time::Duration;
//! let mut config = HostConfig::new("pve1.example.org", "root");
//! config.credentials = vec![Credential::key_file("/home/me/.ssh/id_ed25519")];
//! config.known_hosts.files = vec!["/home/me/.ssh/known_hosts".into()];
//! let host = Host::new(config);
//! let output = host.run_to_success(&pvesm::status(), Duration::from_secs(60)).await?;
//! for storage in parse::pvesm_status(&output.stdout)? {
//!     assert!(storage.available <= storage.total);
//! }
//! # Ok(())
//! # }
//! ```

pub mod command;
pub mod known_hosts;
pub mod openssh;
pub mod parse;
pub mod text;

mod auth;
mod banner;
mod client;
mod config;
mod connection;
mod download;
mod error;
mod exec;
mod host;
mod keyring;
mod patience;
mod retry;
mod sftp;
mod strength;
mod upload;

pub use command::{Command, CommandError, Privilege};
pub use config::{Capacity, Credential, HostConfig, KnownHostsConfig, RunsAs, Timeouts, UnknownHost};
pub use download::{Download, Downloaded};
pub use error::{ConnectCause, DownloadError, Ended, Error, Output, SudoProblem, UploadError};
pub use exec::{Keep, OnLine, RunOptions, Stream};
pub use host::Host;
pub use keyring::{AskPassphrase, KeyError, Keyring, Passphrase};
pub use known_hosts::HostKeyError;
pub use pve_types::TookEffect;
pub use upload::{OnProgress, Source, Upload, Uploaded};
