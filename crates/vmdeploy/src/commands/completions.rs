//! `vmdeploy completions SHELL`.

use crate::exit::Exit;
use crate::failure::CommandResult;
use crate::output;

/// Prints shell completions.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Prints them to stdout.
///
/// # Errors
/// None.
pub fn run(args: &Args, mut whole: clap::Command) -> CommandResult {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut whole, "vmdeploy", &mut text);
    output::write_stdout(&String::from_utf8_lossy(&text));
    Ok(Exit::DONE)
}
