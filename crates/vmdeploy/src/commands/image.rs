//! `vmdeploy image check`, `outdated`, `pin`, `push` and `build`.

mod build;
mod check;
mod outdated;
mod pin;
mod unused;

use crate::confirm::confirm;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::local_files;
use crate::output;
use crate::planning::{self, PlanArgs};
use crate::reach;
use crate::running::{RunArgs, carry_out, exit_of};
use crate::spec_files::{LoadedSpec, SpecArgs, SpecWords, load};
use crate::token::required_privileges::as_if_new;
use pve_types::{NodeName, VolumeId};
use std::path::PathBuf;
use vmdeploy_executor::{Connections, observe, only_node};
use vmdeploy_planner::observed::{Observed, Query};
use vmdeploy_planner::plan::{Action, Plan, PlanContext, Step};
use vmdeploy_planner::render::count;
use vmdeploy_planner::spec::ImageSource;
use vmdeploy_planner::{Draft, draft_plan, plan_push};

/// Checks, uploads and builds the images of a spec.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

/// What is done.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show for each image and node whether it exists, its size and format, and whether its checksum matches
    Check(CheckArgs),
    /// List the VMs whose image has changed since they were created from it
    Outdated(outdated::OutdatedArgs),
    /// Write the current checksums of `url:` images into the spec
    Pin(pin::PinArgs),
    /// Upload an image, or have PVE download it, and verify its checksum
    Push(PushArgs),
    /// Build an image on a builder VM or host, download it and verify its checksum
    Build(Box<build::BuildArgs>),
}

/// `image check`.
#[derive(Debug, clap::Args)]
struct CheckArgs {
    #[command(flatten)]
    spec: SpecArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One image of a spec.
#[derive(Debug, Clone, clap::Args)]
struct ImageArgs {
    /// Image name, optionally with its spec; a word with a `/` or ending in .yaml is a spec
    #[arg(value_name = "SPEC|IMAGE", required = true)]
    words: Vec<String>,
    /// Spec file or folder [default: VMDEPLOY_SPEC]
    #[arg(long = "spec", value_name = "SPEC")]
    specs: Vec<PathBuf>,
}

impl ImageArgs {
    fn specs(&self) -> Vec<PathBuf> {
        SpecWords::of(&self.words, &self.specs).specs
    }
    /// Returns the image's name.
    ///
    /// # Errors
    /// None is given, or more than one.
    fn name(&self) -> Result<String, Failure> {
        match <[String; 1]>::try_from(SpecWords::of(&self.words, &self.specs).rest) {
            Ok([name]) => Ok(name),
            Err(_) => Err(Failure::usage("give one image").hint("`images:` in the spec has their names")),
        }
    }
}

/// `image push`.
#[derive(Debug, clap::Args)]
struct PushArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// Node for an image that no VM of the spec uses [default: PROXMOX_NODE]
    #[arg(long, value_name = "NODE")]
    node: Option<NodeName>,
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
        Verb::Outdated(args) => outdated::outdated(args, context).await,
        Verb::Pin(args) => pin::pin(args, context).await,
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
    let (plan, looked) = plan_to_push(args, context).await?;
    let placed = plan.steps.iter().filter_map(place_of).collect();
    output::write_stderr(&planning::plan_text(&plan, output::Stream::Stderr, context));
    if plan.steps.is_empty() {
        return Ok((Exit::DONE, Vec::new()));
    }
    let checked = planning::check(plan)?;
    let places = count(checked.plan().steps.len(), "storage");
    if !confirm(args.yes, &format!("upload {} to {places}", args.image.name()?), "`--yes`")? {
        return Ok((Exit::USAGE, Vec::new()));
    }
    let report = carry_out(checked, &looked.connections, &looked.spec.folder, &args.run, context).await?;
    looked.connections.close().await;
    Ok((exit_of(&report), placed))
}

/// Plans where the image goes: to the nodes of the VMs that use it, else to the node that is named.
async fn plan_to_push(args: &PushArgs, context: &Context) -> Result<(Plan, Looked), Failure> {
    let name = args.image.name()?;
    let mut looked = look(&args.image.specs(), context).await?;
    let deployment = &looked.spec.deployment;
    let Some(image) = deployment.images.get(&name) else {
        let known: Vec<&str> = deployment.images.keys().map(String::as_str).collect();
        let failure = Failure::usage(format!("the spec has no image `{}`", name.escape_debug()));
        return Err(match known.is_empty() {
            true => failure.hint("it has none; see `images` in docs/spec.md"),
            false => failure.hint(format!("it has {}", known.join(", "))),
        });
    };
    let node = match &args.node {
        Some(node) => Some(node.clone()),
        None => default_node(&looked.connections, context).await?,
    };
    if let Some(node) = &node {
        looked.queries.push(Query::Node { node: node.clone() });
        let seen = observe(&looked.connections, &looked.queries).await;
        looked.observed = seen.map_err(|failure| reach::executor_failure(&failure))?;
    }
    let empty = as_if_new(deployment, &looked.observed);
    let plan_context = PlanContext {
        default_node: reach::default_node(&context.environment)?,
        local_files: local_files::read(deployment, &looked.spec.folder, context)?,
        ssh_available: looked.connections.has_ssh(),
        ..PlanContext::new(planning::new_run_id(), &empty)
    };
    let plan = plan_push(deployment, &plan_context, image, node.as_ref());
    let plan = plan.map_err(|faults| planning::cannot_plan(&faults))?;
    if plan.steps.is_empty() {
        match &image.source {
            ImageSource::Path { .. } | ImageSource::Volume { .. } => output::say(&format!(
                "{} cannot be pushed: the spec refers to a file or volume on the cluster; `vmdeploy image check` checks it",
                name
            )),
            _ => {
                return Err(Failure::usage(format!("no VM of the spec uses image `{name}`"))
                    .hint("name the node to store it on with `--node` or PROXMOX_NODE"));
            }
        }
    }
    Ok((plan, looked))
}

/// Returns the node that the environment names, or the only one.
async fn default_node(connections: &Connections, context: &Context) -> Result<Option<NodeName>, Failure> {
    match reach::default_node(&context.environment)? {
        Some(node) => Ok(Some(node)),
        None => only_node(connections).await.map_err(|failure| reach::executor_failure(&failure)),
    }
}

fn place_of(step: &Step) -> Option<(NodeName, VolumeId)> {
    match &step.action {
        Action::PlaceImage { node, volume, .. } => Some((node.clone(), volume.clone())),
        _ => None,
    }
}

/// A spec, and what was seen of its cluster.
struct Looked {
    spec: LoadedSpec,
    connections: Connections,
    queries: Vec<Query>,
    observed: Observed,
}

async fn look(specs: &[PathBuf], context: &Context) -> Result<Looked, Failure> {
    let args = PlanArgs { spec: SpecArgs::new(specs.to_vec()), ..PlanArgs::default() };
    let spec = load(&args.spec, context)?;
    let connections = planning::open(&args, &spec, context).await?;
    let (queries, observed) = planning::look(&args, &spec, &connections, context).await?;
    Ok(Looked { spec, connections, queries, observed })
}

/// Drafts what deploying would do if none of the spec's VMs were there: then every image is needed.
fn draft_of_new_vms(looked: &Looked, context: &Context) -> Result<Draft, Failure> {
    let LoadedSpec { deployment, folder } = &looked.spec;
    let empty = as_if_new(deployment, &looked.observed);
    let plan_context = PlanContext {
        default_node: reach::default_node(&context.environment)?,
        local_files: local_files::read(deployment, folder, context)?,
        ssh_available: looked.connections.has_ssh(),
        ..PlanContext::new(planning::new_run_id(), &empty)
    };
    Ok(draft_plan(deployment, &plan_context))
}
