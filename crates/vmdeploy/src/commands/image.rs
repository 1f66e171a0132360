//! `vmdeploy image check`, `push` and `build`.

mod build;
mod check;

use crate::confirm::confirm;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::output;
use crate::planning::{self, PlanArgs, Planned};
use crate::running::{RunArgs, carry_out, exit_of};
use crate::spec_files::{LoadedSpec, SpecArgs, load};
use pve_types::{NodeName, VolumeId};
use std::collections::BTreeSet;
use std::path::PathBuf;
use vmdeploy_executor::Connections;
use vmdeploy_planner::observed::{Observed, Query};
use vmdeploy_planner::plan::{Action, Plan, PlanMode, Step};
use vmdeploy_planner::render::count;

/// Looks after the images that a spec names.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

/// What is done.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Say for each image and node whether it is there, how large it is, in which format, and whether its checksum is right
    Check(CheckArgs),
    /// Bring an image to where its VMs need it, with its checksum verified: sent from here, or downloaded by PVE
    Push(PushArgs),
    /// Build an image on a builder, and bring it here with its checksum verified
    Build(Box<build::BuildArgs>),
}

/// `image check`.
#[derive(Debug, clap::Args)]
struct CheckArgs {
    #[command(flatten)]
    spec: SpecArgs,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

/// `image push`.
#[derive(Debug, clap::Args)]
struct PushArgs {
    /// The image, by its name in the spec
    #[arg(value_name = "IMAGE")]
    name: String,
    /// Spec file or folder; else VMDEPLOY_SPEC
    #[arg(long = "spec", value_name = "SPEC")]
    specs: Vec<PathBuf>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    run: RunArgs,
}

/// Checks, pushes or builds.
///
/// # Errors
/// The spec is refused, or the cluster cannot be reached.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    match &args.verb {
        Verb::Check(args) => check::check(args, context).await,
        Verb::Push(args) => push(args, context).await,
        Verb::Build(args) => build::build(args, context).await,
    }
}

async fn push(args: &PushArgs, context: &Context) -> CommandResult {
    push_and_tell(args, context).await.map(|(exit, _)| exit)
}

/// Pushes, and tells where the image was placed.
async fn push_and_tell(
    args: &PushArgs,
    context: &Context,
) -> Result<(Exit, Vec<(NodeName, VolumeId)>), Failure> {
    let planned = plan_of_new_vms(&args.specs, context).await?;
    if !planned.spec.deployment.images.contains_key(&args.name) {
        let known: Vec<&str> = planned.spec.deployment.images.keys().map(String::as_str).collect();
        return Err(Failure::usage(format!("the spec has no image `{}`", args.name.escape_debug()))
            .hint(format!("it has {}", known.join(", "))));
    }
    let steps: Vec<Step> =
        planned.plan.steps.iter().filter(|step| places(step) == Some(&args.name)).cloned().collect();
    if steps.is_empty() {
        output::say(&format!("{} needs no placing: it is on the node already, or no VM uses it", args.name));
        return Ok((Exit::DONE, Vec::new()));
    }
    let steps: Vec<Step> = steps.into_iter().map(|step| Step { after: BTreeSet::new(), ..step }).collect();
    let placed = steps.iter().filter_map(place_of).collect();
    let plan = Plan { steps, changes: Vec::new(), checks: Vec::new(), notes: Vec::new(), ..planned.plan };
    output::write_stderr(&planning::plan_text(&plan, output::Stream::Stderr));
    if !confirm(args.yes, &format!("place {} in {}", args.name, count(plan.steps.len(), "place")), "`--yes`")?
    {
        return Ok((Exit::USAGE, Vec::new()));
    }
    let checked = planning::check(plan)?;
    let report = carry_out(checked, &planned.connections, &planned.spec.folder, &args.run, context).await?;
    planned.connections.close().await;
    Ok((exit_of(&report), placed))
}

fn place_of(step: &Step) -> Option<(NodeName, VolumeId)> {
    match &step.action {
        Action::PlaceImage { node, volume, .. } => Some((node.clone(), volume.clone())),
        _ => None,
    }
}

fn places(step: &Step) -> Option<&String> {
    match &step.action {
        Action::PlaceImage { image, .. } => Some(image),
        _ => None,
    }
}

/// Looks at the cluster, and plans as if none of the spec's VMs were there: then every image is needed.
async fn plan_of_new_vms(specs: &[PathBuf], context: &Context) -> Result<Planned, Failure> {
    let Looked { spec, connections, observed, .. } = look(specs, context).await?;
    let plan = new_vms_plan(&spec, &observed, connections.has_ssh(), context)?;
    Ok(Planned { spec, observed, plan, connections })
}

/// A spec, and what was seen of its cluster.
struct Looked {
    spec: LoadedSpec,
    connections: Connections,
    queries: Vec<Query>,
    observed: Observed,
}

async fn look(specs: &[PathBuf], context: &Context) -> Result<Looked, Failure> {
    let args = PlanArgs { spec: SpecArgs { specs: specs.to_vec() }, ..PlanArgs::default() };
    let spec = load(&args.spec, context)?;
    let connections = planning::open(&args, &spec, context).await?;
    let (queries, observed) = planning::look(&args, &spec, &connections, context).await?;
    Ok(Looked { spec, connections, queries, observed })
}

fn new_vms_plan(
    spec: &LoadedSpec,
    observed: &Observed,
    ssh_available: bool,
    context: &Context,
) -> Result<Plan, Failure> {
    let empty = crate::token::duties::without_our_guests(&spec.deployment, observed);
    planning::plan_from(&PlanArgs::default(), PlanMode::Deploy, spec, (&empty, ssh_available), context)
}
