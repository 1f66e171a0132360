//! `vmdeploy adopt`: a spec of guests that were made by hand.

use crate::context::Context;
use crate::escape;
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

/// Writes a spec for existing guests. Deploying that spec adds the ownership marker and makes no other change.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// VMIDs of the guests
    #[arg(required = true, value_name = "VMID")]
    vmids: Vec<Vmid>,
    /// Project for the VMs
    #[arg(long, value_name = "NAME")]
    project: String,
    /// Write the spec to this new file instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Writes the spec.
///
/// # Errors
/// None of the guests can be adopted. A guest that cannot does not stand in the way of the others.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let connections = reach::open(reach::connections_config(&context.environment)?).await?;
    let also: BTreeSet<Vmid> = args.vmids.iter().copied().collect();
    let queries = [
        Query::Version,
        Query::Resources,
        Query::Configs { projects: BTreeSet::from([args.project.clone()]), uuids: BTreeSet::new(), also },
    ];
    let observed = observe(&connections, &queries).await.map_err(|failure| executor_failure(&failure))?;
    connections.close().await;
    let adopted = adopt(&args.project, &args.vmids, &observed);
    adopted.notes.iter().for_each(|note| output::say(&format!("note: {}", escape::one_line(note))));
    let refused = adopted.refused.iter().map(|error| {
        let hint = error.hint();
        Failure::of(Exit::OBSERVED, error.clone()).hint(hint)
    });
    let mut refused: Vec<Failure> = refused.collect();
    let Some(text) = adopted.spec else {
        // The last one ends the command; the others are said before it.
        let last = refused.pop().unwrap_or_else(|| Failure::usage("no guest is named"));
        refused.iter().for_each(|failure| output::write_stderr(&failure.render()));
        return Err(last);
    };
    match &args.out {
        None => output::write_stdout(&text),
        Some(path) => files::write_new(path, &text).map_err(|error| files::cannot_write(path, error))?,
    }
    refused.iter().for_each(|failure| output::write_stderr(&failure.render()));
    output::say(
        "next: read it, then `vmdeploy plan` on it shows that only the marker is added; `deploy` adds it",
    );
    Ok(if refused.is_empty() { Exit::DONE } else { Exit::OBSERVED })
}
