//! `vmdeploy rename`: another name for a VM, in the cluster and in the spec.

use super::deploy::approve_and_run;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::output;
use crate::planning::{self, PlanArgs, ReachArgs, plan_text};
use crate::running::RunArgs;
use crate::spec_files::{self, LoadedSpec, SpecArgs, refused};
use pve_types::GuestName;
use std::path::PathBuf;
use vmdeploy_planner::plan::{Plan, PlanMode, Verb};
use vmdeploy_planner::spec::{self, CloneSource, Deployment, LoadOptions, SourceFile, Spanned};

/// Renames a VM in place: the guest gets the new name and ownership marker, and keeps its UUID, disks and VMID. Then
/// changes the VM's key in the spec and all references to it; comments and layout are kept.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Current name of the VM
    old: GuestName,
    /// New name of the VM
    new: GuestName,
    /// Spec file or folder [default: VMDEPLOY_SPEC]
    #[arg(long = "spec", value_name = "SPEC")]
    specs: Vec<PathBuf>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Show the plan and exit
    #[arg(long)]
    plan_only: bool,
    #[command(flatten)]
    run: RunArgs,
}

/// Renames.
///
/// # Errors
/// The spec has no such VM or has the new name already, its guest does not exist, or the run cannot begin.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let specs = SpecArgs::new(args.specs.clone());
    let loaded = spec_files::load(&specs, context)?;
    let files = files_with_new_name(args, &loaded.deployment)?;
    let spec = LoadedSpec { deployment: deployment_of(args, &files)?, folder: loaded.folder.clone() };
    let plan_args = plan_args(args, specs, &spec.deployment);
    let connections = planning::open(&plan_args, &spec, context).await?;
    let (plan, _) = planning::plan_of(&plan_args, PlanMode::Deploy, &spec, &connections, context).await?;
    check_there(args, &plan)?;
    output::write_stderr(&plan_text(&plan, output::Stream::Stderr, context));
    if args.plan_only {
        connections.close().await;
        return Ok(Exit::DONE);
    }
    let exit = approve_and_run(plan, &connections, &spec.folder, args.yes, &args.run, context).await;
    connections.close().await;
    let exit = exit?;
    if exit == Exit::DONE {
        write_changed(args, &loaded.deployment.files, &files)?;
    }
    Ok(exit)
}

/// Returns the spec's files with the new name; as they are, where they have it already and not the old one.
fn files_with_new_name(args: &Args, deployment: &Deployment) -> Result<Vec<SourceFile>, Failure> {
    let (old, new) = (&args.old, &args.new);
    match (deployment.vm(old), deployment.vm(new)) {
        (Some(_), None) => spec::renamed(deployment, old, new).ok_or_else(|| {
            Failure::usage(format!("`{old}` cannot be found in the text of the spec")).hint(format!(
                "rename it in the spec, write `renamed_from: {old}` below the new key, and deploy"
            ))
        }),
        (None, Some(_)) => Ok(deployment.files.clone()),
        (Some(_), Some(_)) => Err(Failure::usage(format!("the spec has both `{old}` and `{new}`"))
            .hint("choose a name that no VM of the spec has")),
        (None, None) => Err(Failure::usage(format!("the spec has no VM `{old}`"))
            .hint("`vmdeploy status` shows the VMs of the spec")),
    }
}

/// Reads the spec with the new name, and says there which name the VM had.
fn deployment_of(args: &Args, files: &[SourceFile]) -> Result<Deployment, Failure> {
    let loaded = spec::load(files, &LoadOptions::default()).map_err(|faults| {
        refused(&faults).hint(format!("the spec refers to `{}` elsewhere: rename it there as well", args.old))
    })?;
    let mut deployment = loaded.deployment;
    for vm in deployment.vms.iter_mut().filter(|vm| vm.name.value == args.new) {
        vm.renamed_from = Some(Spanned::new(args.old.clone(), vm.name.span));
    }
    Ok(deployment)
}

/// Returns what is planned: the VM, and its clones, whose markers name what they were cloned from.
fn plan_args(args: &Args, spec: SpecArgs, deployment: &Deployment) -> PlanArgs {
    let is_clone = |vm: &&spec::Vm| {
        vm.clone.as_ref().is_some_and(|clone| clone.from.value == CloneSource::Vm(args.new.clone()))
    };
    let clones = deployment.vms.iter().filter(is_clone).map(|vm| vm.name.value.clone());
    let cluster = deployment.vm(&args.new).map(|vm| vm.cluster.clone());
    PlanArgs {
        spec,
        target: [args.new.clone()].into_iter().chain(clones).collect(),
        reach: ReachArgs {
            cluster: cluster.filter(|_| deployment.clusters.len() > 1),
            ..ReachArgs::default()
        },
        ..PlanArgs::default()
    }
}

/// A VM that is not there is not renamed: it would be made.
fn check_there(args: &Args, plan: &Plan) -> Result<(), Failure> {
    match plan.changes.iter().find(|change| change.vm == args.new).map(|change| change.verb) {
        Some(Verb::Create) => {
            Err(Failure::new(Exit::OBSERVED, format!("`{}` has no guest to rename", args.old))
                .hint("change the name in the spec; `vmdeploy deploy` then creates the VM"))
        }
        _ => Ok(()),
    }
}

fn write_changed(args: &Args, before: &[SourceFile], after: &[SourceFile]) -> Result<(), Failure> {
    for (_, file) in before.iter().zip(after).filter(|(before, after)| before.text != after.text) {
        std::fs::write(&file.name, file.text.as_bytes()).map_err(|error| {
            Failure::of(Exit::USAGE, error)
                .context(format!("the guest is renamed, but `{}` could not be written", file.name))
                .hint(format!("replace `{1}` by `{0}` there", args.new, args.old))
        })?;
        output::say(&format!("{}: `{}` is now `{}`", file.name, args.old, args.new));
    }
    Ok(())
}
