//! `vmdeploy status`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::CommandResult;
use crate::fleet::{self, Member, Selection};
use crate::output;
use crate::planning::{self, TransportOption};
use crate::spec_files::{SpecArgs, load, show};
use crate::table::Table;
use pve_types::Vmid;
use serde::Serialize;
use std::collections::BTreeMap;
use vmdeploy_planner::plan::{Change, Verb};

/// How many VMs are named in one line.
const NAMED: usize = 5;

/// Shows the state, address and drift of VMs.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    transport: TransportOption,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One line.
#[derive(Debug, Serialize)]
struct Row {
    vm: String,
    vmid: Option<Vmid>,
    node: Option<String>,
    state: String,
    address: Option<String>,
    address_source: Option<&'static str>,
    uptime_s: Option<u64>,
    drift: String,
    /// The images that have changed since the VM was made from them; empty where none has.
    outdated: Vec<String>,
    pending: Vec<String>,
    note: Option<String>,
}

/// Prints the table.
///
/// # Errors
/// The spec is refused, or the cluster cannot be reached.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let spec = load(&args.spec, context)?;
    let plan_args = args.transport.plan_args();
    let connections = planning::open(&plan_args, &spec, context).await?;
    let members = fleet::members(&spec.deployment, &connections).await?;
    let members = fleet::look(args.selection.of(members)?, &connections).await;
    let draft = planning::draft_of(&plan_args, &spec, &connections, context).await;
    connections.close().await;
    let drift = draft.as_ref().map(|draft| drift(&draft.changes)).unwrap_or_default();
    let outdated = draft.as_ref().map(|draft| outdated(&draft.changes)).unwrap_or_default();
    let rows: Vec<Row> = members.iter().map(|member| row(member, &drift, &outdated)).collect();
    if args.json {
        output::print_document("vms", &rows)?;
    } else {
        output::write_stdout(&table(&rows).render());
        rows.iter().filter_map(|row| Some((&row.vm, row.note.as_ref()?))).for_each(|(vm, note)| {
            output::say(&format!("note: {vm}: {note}"));
        });
    }
    let unknown: Vec<&str> =
        rows.iter().filter(|row| !drift.contains_key(&row.vm)).map(|row| row.vm.as_str()).collect();
    if !unknown.is_empty() {
        output::say(&format!("note: the drift of {} could not be determined:", some(&unknown)));
        match draft {
            Ok(draft) => show(&draft.refused),
            Err(failure) => output::write_stderr(&failure.render()),
        }
    }
    Ok(Exit::DONE)
}

/// Names the first few.
fn some(names: &[&str]) -> String {
    match names.len().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..NAMED].join(", ")),
    }
}

/// Returns in a word or two how far each VM is from the spec.
fn drift(changes: &[Change]) -> BTreeMap<String, String> {
    let word = |verb: Verb, reasons: usize| match verb {
        Verb::NoOp => "none".to_owned(),
        Verb::Create => "to be created".to_owned(),
        Verb::Replace => "to be replaced".to_owned(),
        Verb::Delete => "to be deleted".to_owned(),
        Verb::Update | Verb::UpdatePending if reasons == 1 => "1 difference".to_owned(),
        Verb::Update | Verb::UpdatePending => format!("{reasons} differences"),
    };
    changes.iter().map(|change| (change.vm.to_string(), word(change.verb, change.reasons.len()))).collect()
}

/// Returns the images of each VM that have changed since it was made from them.
fn outdated(changes: &[Change]) -> BTreeMap<String, Vec<String>> {
    let images = |change: &Change| {
        let mut images: Vec<String> = change.outdated.iter().map(|disk| disk.image.clone()).collect();
        images.dedup();
        images
    };
    changes.iter().map(|change| (change.vm.to_string(), images(change))).collect()
}

fn row(
    member: &Member<'_>,
    drift: &BTreeMap<String, String>,
    outdated: &BTreeMap<String, Vec<String>>,
) -> Row {
    let found = member.live.as_ref().map(|live| &live.found);
    let address = found.and_then(|found| found.addresses.first());
    let trouble = found.and_then(|found| found.trouble.clone());
    Row {
        vm: member.name().to_string(),
        vmid: member.place().map(|(_, vmid)| vmid),
        node: member.place().map(|(node, _)| node.to_string()),
        state: member.state().to_owned(),
        address: address.map(ToString::to_string),
        address_source: address.and(found).map(|found| found.source.as_str()),
        uptime_s: member.live.as_ref().and_then(|live| live.uptime_s),
        drift: drift.get(member.name().as_str()).cloned().unwrap_or_else(|| "unknown".to_owned()),
        outdated: outdated.get(member.name().as_str()).cloned().unwrap_or_default(),
        pending: pending(member),
        note: member.fault.as_ref().map(|(message, hint)| format!("{message}: {hint}")).or(trouble),
    }
}

fn pending(member: &Member<'_>) -> Vec<String> {
    let config = member.guest.as_ref().and_then(|guest| guest.config.as_ref());
    config.map(|config| config.pending.keys().cloned().collect()).unwrap_or_default()
}

fn table(rows: &[Row]) -> Table {
    let mut table =
        Table::new(&["vm", "vmid", "node", "state", "address", "uptime", "drift", "outdated", "pending"]);
    for row in rows {
        table.row([
            row.vm.clone(),
            row.vmid.map(|vmid| vmid.to_string()).unwrap_or_default(),
            row.node.clone().unwrap_or_default(),
            row.state.clone(),
            row.address.clone().unwrap_or_default(),
            row.uptime_s.map(uptime).unwrap_or_default(),
            row.drift.clone(),
            row.outdated.join(" "),
            row.pending.join(" "),
        ]);
    }
    table
}

/// Returns a time as people read it: `45s`, `12m`, `5h 3m`, `12d 4h`.
fn uptime(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days}d {}h", hours % 24),
        () if hours > 0 => format!("{hours}h {}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m"),
        () => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_are_short() {
        assert_eq!([5, 65, 3_700, 90_000].map(uptime), ["5s", "1m", "1h 1m", "1d 1h"]);
    }
}
