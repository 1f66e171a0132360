//! `vmdeploy resume`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::output;
use crate::reach;
use crate::running::{RunArgs, exit_of, go_on, open_run, run_failure, runs_folder};
use vmdeploy_executor::{ResumeMode, StoredRun};

/// Goes on with a run that was interrupted or failed, or takes it back.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run; else the newest that is not at its end
    run: Option<String>,
    /// Take away what the run made, instead of finishing it
    #[arg(long)]
    rollback: bool,
    #[command(flatten)]
    how: RunArgs,
}

/// Resumes the run.
///
/// # Errors
/// There is no such run, or the cluster cannot be reached.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let Some(stored) = stored(args, context)? else {
        output::say("no run is unfinished; there is nothing to resume");
        return Ok(Exit::DONE);
    };
    if !stored.is_resumable() {
        output::say(&format!("the run `{}` is finished; there is nothing to resume", stored.run));
        return Ok(Exit::DONE);
    }
    let config = reach::connections_config(&context.environment)?;
    let connections = reach::open(config).await?;
    let mode = if args.rollback { ResumeMode::Rollback } else { ResumeMode::Finish };
    let report = go_on(stored, mode, &connections, &args.how, context).await?;
    Ok(exit_of(&report))
}

/// Returns the run that is meant; `None` when none is named and none is unfinished.
fn stored(args: &Args, context: &Context) -> Result<Option<StoredRun>, Failure> {
    match &args.run {
        Some(run) => open_run(run, context).map(Some),
        None => runs_folder(context).newest_unfinished(None).map_err(|error| run_failure(error.into())),
    }
}
