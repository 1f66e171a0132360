//! `vmdeploy destroy`.

use super::deploy::approve_and_run;
use crate::context::Context;
use crate::environment::names;
use crate::exit::Exit;
use crate::failure::CommandResult;
use crate::output;
use crate::planning::{self, PlanArgs, plan_text};
use crate::running::RunArgs;
use vmdeploy_planner::plan::PlanMode;

/// Destroys the spec's VMs, those that bear our mark and no others: shows the plan, asks, and carries it out.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    plan: PlanArgs,
    /// Do not ask; `CONFIRM_DELETE=true` says the same
    #[arg(short, long)]
    yes: bool,
    /// Only show what would be destroyed
    #[arg(long)]
    plan_only: bool,
    #[command(flatten)]
    run: RunArgs,
}

/// Destroys.
///
/// # Errors
/// The spec is refused, the cluster cannot be reached, or the run cannot begin.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    if args.plan_only {
        let planned = planning::plan(&args.plan, PlanMode::Destroy, context).await?;
        output::write_stdout(&plan_text(&planned.plan, output::Stream::Stdout, context));
        return Ok(Exit::DONE);
    }
    let planned = planning::plan_to_run(&args.plan, PlanMode::Destroy, context).await?;
    output::write_stderr(&plan_text(&planned.plan, output::Stream::Stderr, context));
    let yes = args.yes || context.environment.get(names::CONFIRM_DELETE) == Some("true");
    let exit =
        approve_and_run(planned.plan, &planned.connections, &planned.spec.folder, yes, &args.run, context)
            .await;
    planned.connections.close().await;
    exit
}
