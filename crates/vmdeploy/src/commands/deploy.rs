//! `vmdeploy deploy`.

use crate::confirm::confirm;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::output;
use crate::planning::{self, PlanArgs, plan_text};
use crate::reach;
use crate::running::{RunArgs, carry_out, exit_of};
use std::path::{Path, PathBuf};
use vmdeploy_executor::Connections;
use vmdeploy_planner::plan::{Plan, PlanMode};
use vmdeploy_planner::render;

/// Makes the cluster's VMs as the spec says: shows the plan, asks, and carries it out.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    plan: PlanArgs,
    /// Carry out this plan, which `plan --out` wrote, instead of making one
    #[arg(long = "plan", value_name = "FILE", conflicts_with_all = ["specs", "target", "prune", "replace", "replace_outdated", "transport"])]
    plan_file: Option<PathBuf>,
    /// The folder that relative paths in a plan file start from
    #[arg(long, value_name = "FOLDER", requires = "plan_file", default_value = ".")]
    spec_folder: PathBuf,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Show of the plan only what happens to which VM, for those who have read it already
    #[arg(long)]
    brief: bool,
    #[command(flatten)]
    run: RunArgs,
}

/// Deploys.
///
/// # Errors
/// The spec is refused, the cluster cannot be reached, or the run cannot begin.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let (plan, connections, folder) = match &args.plan_file {
        Some(file) => {
            let (plan, connections) = (read_plan(file)?, open_for_plan(context).await?);
            planning::check_stored(&plan, &connections).await?;
            (plan, connections, args.spec_folder.clone())
        }
        None => {
            let planned = planning::plan_to_run(&args.plan, PlanMode::Deploy, context).await?;
            (planned.plan, planned.connections, planned.spec.folder)
        }
    };
    let full = || plan_text(&plan, output::Stream::Stderr, context);
    let shown = if args.brief { render::brief(&plan) } else { full() };
    output::write_stderr(&shown);
    let exit = approve_and_run(plan, &connections, &folder, args.yes, &args.run, context).await;
    connections.close().await;
    exit
}

/// Asks, and carries the plan out.
///
/// # Errors
/// As [`run`].
pub(super) async fn approve_and_run(
    plan: Plan,
    connections: &Connections,
    folder: &Path,
    yes: bool,
    how: &RunArgs,
    context: &Context,
) -> CommandResult {
    if plan.is_empty() {
        planning::check(plan)?;
        return Ok(Exit::DONE);
    }
    let what = render::consequences(&plan);
    let checked = planning::check(plan)?;
    if !confirm(yes, &what, "`--yes`")? {
        return Ok(Exit::USAGE);
    }
    output::say("");
    let report = carry_out(checked, connections, folder, how, context).await?;
    Ok(exit_of(&report))
}

fn read_plan(path: &Path) -> Result<Plan, Failure> {
    let context = format!("cannot read the plan `{}`", path.display());
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::of(Exit::USAGE, error).context(context.clone()))?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::of(Exit::USAGE, error).context(context).hint("`vmdeploy plan --out FILE` writes one")
    })
}

/// Opens what the environment names; the plan's steps say which transport they take.
async fn open_for_plan(context: &Context) -> Result<Connections, Failure> {
    reach::open(reach::connections_config(&context.environment)?).await
}
