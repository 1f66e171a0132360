//! `vmdeploy schema`.

use crate::exit::Exit;
use crate::failure::CommandResult;
use crate::output;
use vmdeploy_planner::spec;

/// Prints the JSON Schema of specs, for editors.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the reference of all keys as Markdown instead
    #[arg(long)]
    markdown: bool,
}

/// Prints it.
///
/// # Errors
/// None.
pub fn run(args: &Args) -> CommandResult {
    if args.markdown {
        output::write_stdout(&spec::reference_markdown());
    } else {
        output::write_stdout(&format!("{:#}\n", spec::json_schema()));
    }
    Ok(Exit::DONE)
}
