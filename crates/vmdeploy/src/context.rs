//! What every subcommand is given.

use crate::environment::Environment;

/// The process as a subcommand sees it.
#[derive(Debug)]
pub struct Context {
    /// The environment with `.env` behind it.
    pub environment: Environment,
    /// How many `-v` there were.
    pub verbosity: u8,
}
