//! `vmdeploy deploy`.

use crate::confirm::confirm;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::output;
use crate::planning::{self, PlanArgs, plan_text};
use crate::reach;
use crate::running::{RunArgs, carry_out, exit_of};
use crate::spec_files::{SpecArgs, is_spec_word};
use pve_types::GuestName;
use std::path::{Path, PathBuf};
use vmdeploy_executor::Connections;
use vmdeploy_planner::plan::{Plan, PlanMode, Verb};
use vmdeploy_planner::render;

/// Creates and updates VMs to match the spec: shows the plan, asks, and executes it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    plan: PlanArgs,
    /// Execute this plan, written by `plan --out`, instead of creating one
    #[arg(long = "plan", value_name = "FILE", conflicts_with_all = ["specs", "spec_option", "target", "prune", "replace", "replace_outdated", "transport"])]
    plan_file: Option<PathBuf>,
    /// Base folder for relative paths in a plan file
    #[arg(long, value_name = "FOLDER", requires = "plan_file", default_value = ".")]
    spec_folder: PathBuf,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Show only one line per VM instead of the whole plan
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
    let created =
        plan.changes.iter().find(|change| change.verb == Verb::Create).map(|change| change.vm.clone());
    let exit = approve_and_run(plan, &connections, &folder, args.yes, &args.run, context).await;
    connections.close().await;
    if let (Ok(Exit::DONE), Some(vm), None, false) = (&exit, created, &args.plan_file, args.run.json) {
        output::say(&login_hint(&args.plan.spec, &vm));
    }
    exit
}

/// Returns how to log in to a new VM, as a command that works as printed.
fn login_hint(spec: &SpecArgs, vm: &GuestName) -> String {
    let word = |path: &PathBuf| {
        let text = path.to_string_lossy();
        let option = if is_spec_word(&text) { "" } else { "--spec " };
        format!(" {option}{}", shell_word(&text))
    };
    let spec: String = spec.paths().iter().map(word).collect();
    format!("hint: `vmdeploy ssh{spec} {vm}` logs in; `vmdeploy status{spec}` shows all addresses")
}

fn shell_word(text: &str) -> String {
    let quoted = pve_ssh::command::quote(text.as_bytes());
    quoted.map_or_else(|_| text.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
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
