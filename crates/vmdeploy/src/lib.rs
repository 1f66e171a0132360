//! Deploys virtual machines to Proxmox VE from YAML specs kept in git: everything that a person sees.
//!
//! The libraries decide and do; this crate reads the command line and the environment, draws the one random
//! number of a run, prints, and turns the outcome into an exit code.
//! A subcommand is one file under `commands/`: its `Args`, and a `run` that returns an [`Exit`].

pub mod account_keys;
pub mod api_client;
pub mod build;
pub mod cli;
pub mod commands;
pub mod confirm;
pub mod context;
pub mod environment;
pub mod escape;
pub mod exit;
pub mod failure;
pub mod files;
pub mod fleet;
pub mod inventory;
#[cfg(feature = "lab")]
pub mod lab_session;
pub mod local_files;
pub mod logging;
pub mod output;
pub mod passphrase_prompt;
pub mod place;
pub mod planning;
mod public_https;
pub mod reach;
pub mod reach_cluster;
pub mod redact;
pub mod run_output;
pub mod running;
pub mod second_factor;
pub mod secrets;
pub mod signals;
pub mod spec_files;
pub mod ssh_login;
pub mod table;
pub mod token;
pub mod values;

pub use cli::main;
pub use exit::Exit;
pub use failure::{CommandResult, Failure};
