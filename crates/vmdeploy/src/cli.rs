//! The command line's root: global options, and the way from `main` to a subcommand and back to an exit code.

use crate::commands::Command;
use crate::context::{Context, EVERYWHERE, Granted};
use crate::environment::Environment;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::logging::{self, LogFormat};
use crate::output;
use clap::{CommandFactory as _, Parser};
use std::path::PathBuf;

/// Deploys virtual machines to Proxmox VE from YAML specs kept in git.
#[derive(Debug, Parser)]
#[command(name = "vmdeploy", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes are listed in docs/exit-codes.md.")]
pub struct Cli {
    /// Increase verbosity on stderr: -v actions, -vv every request and command, -vvv everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = EVERYWHERE)]
    pub verbose: u8,
    /// Log format: `text`, or `json` with one object per line
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    #[arg(hide_possible_values = true, help_heading = EVERYWHERE)]
    pub log_format: LogFormat,
    /// Accept and record unknown SSH host keys; changed keys are always refused
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub trust_on_first_use: bool,
    /// Read this file instead of ./.env, and trust it like the environment
    #[arg(long, global = true, value_name = "FILE", help_heading = EVERYWHERE)]
    pub env_file: Option<PathBuf>,
    /// Permissions of the spec.
    #[command(flatten)]
    pub granted: Granted,
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// Runs the program with the process's own arguments and environment.
pub fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    logging::start(cli.verbose, cli.log_format);
    let verbosity = cli.verbose;
    let exit = run(cli).unwrap_or_else(|failure| report(&failure, verbosity));
    output::finish();
    // As other tools end when `| head` has read enough.
    if output::reader_of_data_is_gone() { Exit::INTERNAL.into() } else { exit.into() }
}

fn run(cli: Cli) -> CommandResult {
    // reqwest panics without a provider; russh, rcgen and rustls use this one as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // The lab's own option of this name says where the file is written.
    let named = cli.env_file.as_deref().filter(|_| !cli.command.writes_env_file());
    let context = Context {
        environment: Environment::load(named)?.trusting_on_first_use(cli.trust_on_first_use),
        verbosity: cli.verbose,
        granted: cli.granted,
    };
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::of(Exit::INTERNAL, error).context("cannot start the runtime"))?;
    runtime.block_on(cli.command.run(&context, Cli::command()))
}

fn report(failure: &Failure, verbosity: u8) -> Exit {
    output::write_failure(&failure.render());
    if let Some(backtrace) = failure.backtrace().filter(|_| verbosity > 1) {
        output::say_lines(&backtrace);
    }
    failure.exit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }
}
