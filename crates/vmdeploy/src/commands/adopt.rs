//! `vmdeploy adopt`: a spec of guests that were made by hand.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::files;
use crate::output;
use crate::reach::{self, executor_failure};
use pve_types::Vmid;
use std::collections::BTreeSet;
use std::path::PathBuf;
use vmdeploy_executor::observe;
use vmdeploy_planner::adopt;
use vmdeploy_planner::observed::Query;

/// Writes a spec of guests that were made by hand; deploying it adds our mark, and changes nothing else.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The guests
    #[arg(required = true, value_name = "VMID")]
    vmids: Vec<Vmid>,
    /// The project that they shall belong to
    #[arg(long, value_name = "NAME")]
    project: String,
    /// Write the spec into this new file instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Writes the spec.
///
/// # Errors
/// A guest is no VM, is marked already, or may not be seen.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let connections = reach::open(reach::connections_config(&context.environment)?).await?;
    let also: BTreeSet<Vmid> = args.vmids.iter().copied().collect();
    let queries = [
        Query::Version,
        Query::Resources,
        Query::Configs { project: args.project.clone(), uuids: BTreeSet::new(), also },
    ];
    let observed = observe(&connections, &queries).await.map_err(|failure| executor_failure(&failure))?;
    connections.close().await;
    let guests: Vec<_> = args.vmids.iter().map(|vmid| (*vmid, observed.guests.get(vmid))).collect();
    let text = adopt(&args.project, &guests).map_err(|error| {
        let hint = error.hint();
        Failure::of(Exit::OBSERVED, error).hint(hint)
    })?;
    match &args.out {
        None => output::write_stdout(&text),
        Some(path) => files::write_new(path, &text).map_err(|error| files::cannot_write(path, error))?,
    }
    output::say(
        "next: read it, then `vmdeploy plan` on it shows that only the mark is added; `deploy` adds it",
    );
    Ok(Exit::DONE)
}
