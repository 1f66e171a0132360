//! `vmdeploy runs`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::CommandResult;
use crate::output;
use crate::running::{run_failure, runs_folder};
use crate::table::Table;
use vmdeploy_executor::RunSummary;

/// Lists recorded runs, newest first.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the list.
///
/// # Errors
/// The folder of runs cannot be read.
pub fn run(args: &Args, context: &Context) -> CommandResult {
    let runs = runs_folder(context).list().map_err(|error| run_failure(error.into()))?;
    if args.json {
        output::print_document("runs", &runs)?;
    } else if runs.is_empty() {
        output::say("no runs are recorded here");
    } else {
        output::write_stdout(&table(&runs).render());
    }
    Ok(Exit::DONE)
}

fn table(runs: &[RunSummary]) -> Table {
    let mut table = Table::new(&["run", "project", "began", "steps", "result"]);
    for run in runs {
        table.row([
            run.run.clone(),
            run.project.clone(),
            run.started.map_or_else(String::new, |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()),
            format!("{}/{}", run.steps_done, run.steps),
            run.trouble.clone().unwrap_or_else(|| run.headline.clone()),
        ]);
    }
    table
}
