//! A typed client of the Proxmox VE REST API, for versions 7.4, 8 and 9.
//!
//! It is a library for programs that deploy: it says of every failure whether it took effect, never sends a call
//! twice that may have been processed, verifies every certificate, and shows no secret.
//!
//! # A first call
//!
//! ```no_run
//! use pve_api::{Client, ClientConfig, Credentials, Endpoint, SecondFactorSource, Trust};
//! use pve_types::Secret;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let secret = Secret::new(std::fs::read_to_string("/run/secrets/pve")?.trim());
//! // `user@realm!name` is a token; `user@realm` is a user with a password.
//! let credentials = Credentials::from_user("deploy@pve!ci", secret, SecondFactorSource::None)?;
//! let config = ClientConfig::new(Endpoint::new("pve1.example.net", Endpoint::PORT), credentials)
//!     .with_trust(Trust::fingerprint("4E:77:…".parse()?));
//! let client = Client::https(config)?;
//!
//! println!("PVE {}", client.version().await?.version);
//! for node in client.nodes().await? {
//!     println!("{}", node.node);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # The tree
//!
//! Typed calls follow PVE's own tree. A handle such as [`Node`] is a place in it; nothing is sent until a call is
//! made on it.
//!
//! | call | of PVE |
//! |---|---|
//! | `client.version()` | `/version` |
//! | `client.cluster()` | [`Cluster`]: resources, status, free numbers, tasks, log, options, [`Ha`], [`BackupJobs`] |
//! | `client.nodes()`, `client.node(&name)` | [`Node`]: status, network, DNS, time, tasks, services, backups |
//! | `client.node(&name).qemu(vmid)` | [`Qemu`]: configuration, state, clone, disks, cloud-init, [`Snapshots`], [`Agent`] |
//! | `client.node(&name).storage(&id)` | [`NodeStorage`]: content, upload, download, allocate, free |
//! | `client.storages()`, `client.pools()` | [`Storages`], [`Pools`] |
//! | `client.access()` | [`access::Access`]: users, tokens, groups, roles, realms, ACL, passwords, second factors |
//! | `client.task(&upid)` | [`Task`]: status, log, wait, stop |
//!
//! Anything else is a path away: [`Client::get`], [`Client::post`], [`Client::put`] and [`Client::delete`] take any
//! path, and any type that serde can read.
//!
//! ```no_run
//! # async fn example(client: pve_api::Client) -> Result<(), pve_api::ApiError> {
//! use pve_api::Params;
//! let params = Params::new().with("type", "vm");
//! let guests: Vec<serde_json::Value> = client.get("/cluster/resources", params).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Answers are read leniently: a field that an older version lacks is `None`, an unknown one is ignored, and a number
//! that PVE sends as a text is taken.
//!
//! # Tasks
//!
//! What takes time is a task. The call returns it as soon as it is started, and it is waited for apart from that:
//!
//! ```no_run
//! # async fn example(vm: pve_api::Qemu) -> Result<(), pve_api::ApiError> {
//! use pve_api::Wait;
//! use std::time::Duration;
//! let task = vm.start().await?;
//! println!("started as {}", task.upid());
//! task.wait(Wait::at_most(Duration::from_secs(120))).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//!
//! [`ApiError`] answers what a caller needs to know: [`ApiError::effect`] whether it took effect,
//! [`ApiError::is_absent`], [`ApiError::is_denied`] and [`ApiError::is_unreachable`], which are three different
//! things, [`ApiError::said`] what PVE said, and [`ApiError::parameter_errors`] about which parameter.
//!
//! # The `pvesh` transport
//!
//! Where there is SSH and no token, [`Client::pvesh`] makes the same typed calls as command lines on a node. Calls that
//! carry a secret are refused there, since everybody on the node can read a command line.
//!
//! # What is deliberately absent
//!
//! - A way to trust every certificate.
//! - Retries of writes that may have been processed: only the caller can read whether they were. Reads are sent again
//!   while their failure may pass ([`Backoff::READS`]).
//! - Waiting inside calls that start tasks.
//! - WebAuthn and U2F devices: their answers can be given, but are made elsewhere.

mod address;
mod api;
mod auth;
mod cause;
mod certificate;
mod client;
mod error;
mod factor;
mod https;
mod lenient;
mod pvesh;
mod request;
mod response;
mod retry;
mod tasks;
mod text;
mod transport;
mod upload;

pub use address::{
    AddressFilter, AddressSource, FoundAddress, choose_address, choose_neighbor, fitting_addresses,
};
pub use api::*;
pub use auth::{Clock, Credentials, CredentialsError, SystemClock, TokenId};
pub use cause::Cause;
pub use certificate::{CertificateProblem, Fingerprint};
pub use client::Client;
pub use error::{Answer, ApiError, Call, LoginError};
pub use factor::{AskSecondFactor, SecondFactor, SecondFactorSource, TfaChallenge};
pub use https::{ClientConfig, Endpoint, HttpsTransport, Limits, Timeouts, Trust};
pub use ipnet::IpNet;
pub use pve_types::{Backoff, IpFamily, TookEffect};
pub use pvesh::{PveshFailure, PveshOutput, PveshRunner, PveshTransport, pvesh_argv};
pub use request::{ApiPath, IntoParam, InvalidPath, Method, Param, Params, Request};
pub use response::{DecodeError, Response};
pub use retry::while_nothing_was_done;
pub use tasks::{Finished, Task, TaskLog, TaskLogLine, TaskProgress, TaskState, Wait};
pub use transport::{Transport, TransportKind};
pub use upload::{Upload, UploadProgress, UploadSource};
