//! `vmdeploy destroy`.

use super::deploy::approve_and_run;
use crate::context::Context;
use crate::environment::names;
use crate::exit::Exit;
use crate::failure::CommandResult;
use crate::output;
use crate::planning::{self, PlanArgs, ReachArgs, plan_text};
use crate::running::RunArgs;
use crate::spec_files::SpecArgs;
use pve_types::GuestName;
use vmdeploy_planner::plan::PlanMode;

/// Destroys the VMs of a spec that have its ownership marker: shows the plan, asks, and executes it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    /// Only this VM; may be repeated
    #[arg(long, value_name = "VM")]
    target: Vec<GuestName>,
    #[command(flatten)]
    reach: ReachArgs,
    /// Do not ask; same as `CONFIRM_DELETE=true`
    #[arg(short, long)]
    yes: bool,
    /// Show the plan and exit
    #[arg(long)]
    plan_only: bool,
    #[command(flatten)]
    run: RunArgs,
}

impl Args {
    fn plan_args(&self) -> PlanArgs {
        PlanArgs {
            spec: self.spec.clone(),
            target: self.target.clone(),
            reach: self.reach.clone(),
            ..PlanArgs::default()
        }
    }
}

/// Destroys.
///
/// # Errors
/// The spec is refused, the cluster cannot be reached, or the run cannot begin.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    if args.plan_only {
        let planned = planning::plan(&args.plan_args(), PlanMode::Destroy, context).await?;
        output::write_stdout(&plan_text(&planned.plan, output::Stream::Stdout, context));
        return Ok(Exit::DONE);
    }
    let planned = planning::plan_to_run(&args.plan_args(), PlanMode::Destroy, context).await?;
    output::write_stderr(&plan_text(&planned.plan, output::Stream::Stderr, context));
    let yes = args.yes || context.environment.get(names::CONFIRM_DELETE) == Some("true");
    let exit =
        approve_and_run(planned.plan, &planned.connections, &planned.spec.folder, yes, &args.run, context)
            .await;
    planned.connections.close().await;
    exit
}
