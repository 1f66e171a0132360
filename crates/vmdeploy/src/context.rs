//! What every subcommand is given.

use crate::environment::Environment;
use std::path::PathBuf;

/// What every command takes stands apart from its own options.
pub(crate) const EVERYWHERE: &str = "Global options";

/// The process as a subcommand sees it.
#[derive(Debug, Clone)]
pub struct Context {
    /// The environment with `.env` behind it.
    pub environment: Environment,
    /// How many `-v` there were.
    pub verbosity: u8,
    /// What the command line allows a spec, which may come from a repository of others.
    pub granted: Granted,
}

/// What the command line allows a spec beyond what every spec may do.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Granted {
    /// Allow the spec's `clusters:` to set endpoints, TLS settings and credentials
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub allow_cluster_auth: bool,
    /// Allow the spec to read files below this folder, in addition to its own folder
    #[arg(long, global = true, value_name = "FOLDER", help_heading = EVERYWHERE)]
    pub allow_path: Vec<PathBuf>,
}
