//! `vmdeploy resume`.

use crate::confirm::confirm;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::output;
use crate::reach;
use crate::running::{RunArgs, exit_of, go_on, open_run, run_failure, runs_folder};
use vmdeploy_executor::{ResumeMode, StoredRun, VmState};
use vmdeploy_planner::plan::Verb;

/// Continues an interrupted or failed run, or rolls it back.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run to resume, as listed by `vmdeploy runs` [default: the newest unfinished run]
    run: Option<String>,
    /// Roll the run back instead of finishing it
    #[arg(long)]
    rollback: bool,
    /// Do not ask before a rollback
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    how: RunArgs,
}

/// Resumes the run.
///
/// # Errors
/// There is no such run, or the cluster cannot be reached.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let mode = if args.rollback { ResumeMode::Rollback } else { ResumeMode::Finish };
    let Some(stored) = stored(args, mode, context)? else {
        output::say("no unfinished run; nothing to resume");
        return Ok(Exit::DONE);
    };
    if !stored.is_resumable(mode) {
        output::say(&format!("run `{}` is finished; nothing to resume", stored.run));
        return Ok(Exit::DONE);
    }
    if mode == ResumeMode::Rollback && !confirm(args.yes, &what_it_reverts(&stored), "`--yes`")? {
        return Ok(Exit::USAGE);
    }
    let config = reach::connections_config(&context.environment)?;
    let connections = reach::open(config).await?;
    let report = go_on(stored, mode, &connections, &args.how, context).await?;
    Ok(exit_of(&report))
}

/// Says what a rollback of the run deletes and reverts.
fn what_it_reverts(stored: &StoredRun) -> String {
    let report = stored.report();
    let touched = |verbs: &[Verb]| -> Vec<String> {
        let vms = report.vms.iter().filter(|vm| {
            verbs.contains(&vm.verb) && !matches!(vm.state, VmState::Untouched | VmState::RolledBack)
        });
        vms.map(|vm| format!("{} (VM {})", vm.vm, vm.vmid)).collect()
    };
    let made = touched(&[Verb::Create, Verb::Replace]);
    let changed = touched(&[Verb::Update, Verb::UpdatePending, Verb::Delete]);
    let parts = [("DELETE", made), ("revert", changed)];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(_, vms)| !vms.is_empty())
        .map(|(what, vms)| format!("{what} {}", vms.join(", ")))
        .collect();
    match parts.is_empty() {
        true => format!("roll back run {}", stored.run),
        false => format!("roll back run {}: {}", stored.run, parts.join("; ")),
    }
}

/// Returns the run that is meant; `None` when none is named and none is unfinished.
fn stored(args: &Args, mode: ResumeMode, context: &Context) -> Result<Option<StoredRun>, Failure> {
    match &args.run {
        Some(run) => open_run(run, context).map(Some),
        None => runs_folder(context).newest_unfinished(None, mode).map_err(|error| run_failure(error.into())),
    }
}
