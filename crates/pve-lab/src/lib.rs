//! An embedded Proxmox VE: one [`World`] behind an HTTPS door and an SSH door.
//!
//! It answers as a real PVE does, refusals included, so that any PVE client can be tested against it without a
//! Proxmox host. It listens on 127.0.0.1 only and runs nothing on the machine it is on.
//!
//! ```no_run
//! # async fn example() -> Result<(), pve_lab::LabError> {
//! let lab = pve_lab::Lab::start(pve_lab::LabOptions::default()).await?;
//! let (api, ssh) = (lab.api_addr(), lab.ssh_addr("pve1"));
//! // … any client of PVE, with `lab.token()` or `lab.root_password()`, and `lab.fingerprint()` …
//! assert!(api.ip().is_loopback() && ssh.is_some_and(|ssh| ssh.ip().is_loopback()));
//! lab.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # For the doors (and whoever writes another one)
//!
//! * [`WorldHandle`] is the shared world. [`WorldHandle::with`] runs a closure under its lock, and before and after
//!   it everything that is due on the world's clock. [`WorldHandle::call`] is a whole API request: it routes,
//!   authorises, verifies the parameters, waits for a VM's lock as PVE does, and returns a [`Reply`] or a [`Refusal`].
//! * `qm create`, `qm set`, `pvesh create …` are the very same methods run by [`Caller::root_cli`]: take the
//!   command line apart with [`schema::method`] (parameter names, types, which are lists), call
//!   [`WorldHandle::call`], and where the reply is a UPID wait with [`WorldHandle::wait_task`], which hands over the
//!   worker's log lines as they come and resolves to its exit status by notification.
//! * Parameters are decoded already: strings as a form has them, arrays where a key was repeated, any JSON value
//!   where the body was JSON. The dispatcher never sees a URL or a command line.
//! * Time is [`World::now`]; what happens later is put on the agenda with [`World::after`]. Nothing sleeps under the
//!   lock, nothing polls.
//! * Files of a node are [`vfs::Vfs`] trees: [`World::files`] and [`World::files_mut`] pick the tree by node and
//!   path (a shared storage has its own, mounted at its path). Volumes of directory storages *are* those files: a file written to
//!   `/var/lib/vz/import/` is a volume at once. Volumes of lvmthin, zfspool, rbd are in [`World::block_stores`].
//! * The guest's inside (boot, agent, addresses) is the module [`guest`]; faults are the module [`fault`].

pub mod api;
mod calendar;
mod cli;
mod error;
pub mod fault;
pub mod guest;
mod http;
mod lab;
mod load;
#[cfg(test)]
mod record_tests;
pub mod schema;
mod shell;
mod ssh;
#[cfg(test)]
mod still_tests;
pub mod vfs;
pub mod world;

pub use api::{Caller, Params, Refusal, Reply};
pub use error::LabError;
pub use fault::Fault;
pub use lab::{Lab, LabOptions};
pub use load::Counts;
pub use world::{Delays, World, WorldHandle, WorldSpec};
