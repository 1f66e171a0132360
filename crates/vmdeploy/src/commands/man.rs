//! `vmdeploy man`.

use crate::cli::Cli;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::output;
use clap::CommandFactory as _;

/// Prints the manual page, or writes one page per subcommand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write `vmdeploy.1` and one page per subcommand into this folder instead
    #[arg(long, value_name = "FOLDER")]
    out: Option<std::path::PathBuf>,
}

/// Prints or writes the pages.
///
/// # Errors
/// A folder that cannot be written.
pub fn run(args: &Args) -> CommandResult {
    match &args.out {
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut text).map_err(|error| {
                Failure::of(Exit::INTERNAL, error).context("cannot render the manual page")
            })?;
            output::write_stdout(&String::from_utf8_lossy(&text));
        }
        Some(folder) => write_pages(folder)?,
    }
    Ok(Exit::DONE)
}

fn write_pages(folder: &std::path::Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder)).map_err(
        |error| {
            Failure::of(Exit::USAGE, error).context(format!("cannot write pages to `{}`", folder.display()))
        },
    )
}
