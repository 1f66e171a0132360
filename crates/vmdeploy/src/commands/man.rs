//! `vmdeploy man`.

use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::output;

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
pub fn run(args: &Args, whole: clap::Command) -> CommandResult {
    match &args.out {
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(whole).render(&mut text).map_err(|error| {
                Failure::of(Exit::INTERNAL, error).context("cannot render the manual page")
            })?;
            output::write_stdout(&String::from_utf8_lossy(&text));
        }
        Some(folder) => write_pages(folder, whole)?,
    }
    Ok(Exit::DONE)
}

fn write_pages(folder: &std::path::Path, whole: clap::Command) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(whole, folder)).map_err(|error| {
        Failure::of(Exit::USAGE, error).context(format!("cannot write pages to `{}`", folder.display()))
    })
}
