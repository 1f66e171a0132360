//! `vmdeploy plan`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::files;
use crate::output;
use crate::planning::{self, PlanArgs, Planned, plan_text, write_plan};
use crate::spec_files::lock_path;
use pve_types::GuestName;
use std::path::PathBuf;
use vmdeploy_planner::plan::{Plan, PlanMode};
use vmdeploy_planner::render;
use vmdeploy_planner::spec::{Drawn, VmidWish, updated_lock};

/// Shows what `deploy` would do, and changes nothing.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    plan: PlanArgs,
    /// Print the plan as JSON
    #[arg(long, group = "form")]
    json: bool,
    /// Print the plan as Markdown, for a comment on a merge request
    #[arg(long, group = "form")]
    markdown: bool,
    /// Print the steps as a Graphviz graph
    #[arg(long, group = "form")]
    dot: bool,
    /// Print one line per VM that changes, and notes about restarts
    #[arg(long, group = "form")]
    brief: bool,
    /// Write the plan to this file, for `deploy --plan`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the expected durations and the longest chain of steps
    #[arg(long, group = "form")]
    timing: bool,
    /// Plan from an observation file instead of reading the cluster
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pin", "write_observed"])]
    observed: Option<PathBuf>,
    /// Write what was read from the cluster to this file, for `--observed`
    #[arg(long, value_name = "FILE")]
    write_observed: Option<PathBuf>,
    /// Write allocated VMIDs and addresses to the lock file next to the spec
    #[arg(long)]
    pin: bool,
    /// Exit with 3 if the plan contains changes
    #[arg(long)]
    detailed_exitcode: bool,
    /// Ignore missing privileges, for read-only credentials
    #[arg(long, conflicts_with = "out")]
    read_only: bool,
    /// Plan the destruction of the VMs
    #[arg(long)]
    destroy: bool,
}

/// Makes and prints the plan.
///
/// # Errors
/// The spec is refused, the cluster cannot be reached, or the plan could not be carried out.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let mode = if args.destroy { PlanMode::Destroy } else { PlanMode::Deploy };
    if let Some(path) = &args.observed {
        let spec = crate::spec_files::load(&args.plan.spec, context)?;
        let observed = planning::read_observed(path)?;
        let plan = planning::plan_from(&args.plan, mode, &spec, (&observed, true), context)?;
        return shown(args, plan, context);
    }
    let planned = planning::plan(&args.plan, mode, context).await?;
    if let Some(path) = &args.write_observed {
        planning::write_json(&planned.observed, path)?;
    }
    if args.pin {
        pin(&planned, &args.plan, context)?;
    }
    planned.connections.close().await;
    shown(args, planned.plan, context)
}

/// Prints the plan, writes it where that was asked for, and says by the exit code what it is.
fn shown(args: &Args, plan: Plan, context: &Context) -> CommandResult {
    output::write_stdout(&text(args, &plan, context)?);
    if let Some(path) = &args.out {
        write_plan(&plan, path)?;
    }
    let is_empty = plan.is_empty();
    if args.read_only {
        planning::check_but_rights(plan)?;
    } else {
        planning::check(plan)?;
    }
    Ok(if args.detailed_exitcode && !is_empty { Exit::CHANGES } else { Exit::DONE })
}

fn text(args: &Args, plan: &Plan, context: &Context) -> Result<String, Failure> {
    if args.json {
        return Ok(format!("{}\n", output::json(plan)?));
    }
    if args.markdown {
        return Ok(render::markdown(plan));
    }
    if args.dot {
        return Ok(render::dot(plan));
    }
    if args.timing {
        return Ok(render::timing_text(plan));
    }
    if args.brief {
        return Ok(render::brief(plan));
    }
    Ok(plan_text(plan, output::Stream::Stdout, context))
}

/// Writes the lock file: next to the spec file, or `vmdeploy.lock.yaml` in the spec folder.
fn pin(planned: &Planned, args: &PlanArgs, context: &Context) -> Result<(), Failure> {
    let deployment = &planned.spec.deployment;
    let cluster = &planned.plan.cluster;
    let is_drawn =
        |name: &GuestName| deployment.vm(name).is_some_and(|vm| !matches!(vm.vmid, VmidWish::Fixed(_)));
    let mut drawn = Drawn::default();
    for change in &planned.plan.changes {
        if is_drawn(&change.vm) {
            drawn.vmids.insert((cluster.clone(), change.vm.clone()), change.guest.vmid);
        }
        let of_nics = change.pool_addresses.iter();
        drawn.addresses.extend(
            of_nics.map(|(slot, address)| ((cluster.clone(), change.vm.clone(), slot.clone()), *address)),
        );
    }
    let path =
        lock_path(&args.spec, context).unwrap_or_else(|| planned.spec.folder.join("vmdeploy.lock.yaml"));
    files::write_own(&path, &updated_lock(deployment, &drawn))
        .map_err(|error| files::cannot_write(&path, error))?;
    output::say(&format!("VMIDs and addresses written to {}; commit the file to git", path.display()));
    Ok(())
}
