//! `vmdeploy resume`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::reach;
use crate::running::{RunArgs, exit_of, go_on, run_failure, runs_folder};
use vmdeploy_executor::{ResumeMode, StoredRun};

/// Goes on with a run that was interrupted or failed, or takes it back.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run; else the newest that is not at its end
    run: Option<String>,
    /// Take away what the run made, instead of finishing it
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    how: RunArgs,
}

/// Resumes the run.
///
/// # Errors
/// There is nothing to resume, or the cluster cannot be reached.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let stored = stored(args, context)?;
    let config = reach::connections_config(&context.environment)?;
    let connections = reach::open(config).await?;
    let mode = if args.undo { ResumeMode::Undo } else { ResumeMode::Finish };
    let report = go_on(stored, mode, &connections, &args.how, context).await?;
    Ok(exit_of(&report))
}

fn stored(args: &Args, context: &Context) -> Result<StoredRun, Failure> {
    let folder = runs_folder(context);
    match &args.run {
        Some(run) => folder.open(run).map_err(|error| run_failure(error.into())),
        None => folder.newest_unfinished(None).map_err(|error| run_failure(error.into()))?.ok_or_else(|| {
            Failure::new(Exit::USAGE, "no run is unfinished")
                .hint("`vmdeploy runs` lists all that are recorded here")
        }),
    }
}
