//! `vmdeploy image outdated`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::CommandResult;
use crate::output;
use crate::planning::{self, PlanArgs};
use crate::spec_files::{SpecArgs, load, show};
use crate::table::Table;
use pve_types::GuestName;
use serde::Serialize;

/// `image outdated`.
#[derive(Debug, clap::Args)]
pub(super) struct OutdatedArgs {
    #[command(flatten)]
    spec: SpecArgs,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

/// One disk that was made from an image which is another one now.
#[derive(Debug, Serialize)]
struct Row {
    vm: GuestName,
    group: Option<String>,
    slot: String,
    image: String,
    made_from: String,
    now: String,
}

/// Lists the disks whose image has changed. Nothing is changed.
///
/// # Errors
/// The spec is refused, or the cluster cannot be reached.
pub(super) async fn outdated(args: &OutdatedArgs, context: &Context) -> CommandResult {
    let spec = load(&args.spec, context)?;
    let plan_args = PlanArgs::default();
    let connections = planning::open(&plan_args, &spec, context).await?;
    let draft = planning::draft_of(&plan_args, &spec, &connections, context).await;
    connections.close().await;
    let draft = draft?;
    let of_change = |change: &vmdeploy_planner::plan::Change| {
        let (vm, group) = (change.vm.clone(), change.group.clone());
        let row = move |disk: vmdeploy_planner::plan::OutdatedDisk| Row {
            vm: vm.clone(),
            group: group.clone(),
            slot: disk.slot,
            image: disk.image,
            made_from: disk.made_from,
            now: disk.now,
        };
        change.outdated.clone().into_iter().map(row).collect::<Vec<_>>()
    };
    let rows: Vec<Row> = draft.changes.iter().flat_map(of_change).collect();
    if args.json {
        output::print_document("disks", &rows)?;
    } else {
        output::write_stdout(&table(&rows).render());
        let hint = match rows.len() {
            0 => "every VM was made from the images that the spec has now",
            _ => {
                "`vmdeploy deploy --replace-outdated` replaces these VMs; `--target VM|GROUP` limits it to some"
            }
        };
        output::say(hint);
    }
    show(&draft.refused);
    Ok(Exit::DONE)
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["vm", "disk", "image", "made from", "now"]);
    for row in rows {
        table.row([
            row.vm.to_string(),
            row.slot.clone(),
            row.image.clone(),
            row.made_from.clone(),
            row.now.clone(),
        ]);
    }
    table
}
