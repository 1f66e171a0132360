//! `vmdeploy report`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::files;
use crate::output;
use crate::run_output::{duration, summary};
use crate::running::{open_run, run_failure, runs_folder};
use crate::table::Table;
use vmdeploy_executor::{RunReport, StepReport, StepState, StoredRun, html_page};

/// Shows what a recorded run did.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run to show, as listed by `vmdeploy runs` [default: the newest run]
    run: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write a self-contained HTML page to this file
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<std::path::PathBuf>,
}

/// Prints the report.
///
/// # Errors
/// There is no such run, or it cannot be read.
pub fn run(args: &Args, context: &Context) -> CommandResult {
    let stored = match &args.run {
        Some(run) => open_run(run, context)?,
        None => newest(context)?,
    };
    let report = stored.report();
    if let Some(file) = &args.html {
        let page = html_page(&stored.plan, &report);
        files::write_private(file, &page).map_err(|error| files::cannot_write(file, error))?;
        output::write_stderr(&format!("wrote {}\n", file.display()));
    } else if args.json {
        output::print_line(&output::json(&report)?);
    } else {
        output::write_stdout(&steps(&report).render());
        output::write_stdout(&summary(&report));
    }
    Ok(Exit::DONE)
}

fn newest(context: &Context) -> Result<StoredRun, Failure> {
    let runs = runs_folder(context).list().map_err(|error| run_failure(error.into()))?;
    match runs.first() {
        Some(newest) => open_run(&newest.run, context),
        None => Err(Failure::usage("no runs are recorded here").hint("`vmdeploy deploy` records one")),
    }
}

fn steps(report: &RunReport) -> Table {
    let mut table = Table::new(&["step", "what", "transport", "took", "state"]);
    for step in &report.steps {
        table.row([
            step.step.to_string(),
            step.title.clone(),
            step.transport.to_string(),
            took(step),
            state(&step.state),
        ]);
    }
    table
}

fn took(step: &StepReport) -> String {
    let spans =
        step.spans.iter().filter_map(|span| Some(span.end?.as_millisecond() - span.start.as_millisecond()));
    match spans.sum::<i64>() {
        0 => String::new(),
        milliseconds => duration(u64::try_from(milliseconds).unwrap_or(0)),
    }
}

fn state(state: &StepState) -> String {
    match state {
        StepState::NotStarted => "not started".to_owned(),
        StepState::Skipped { because } => format!("skipped, because {because} failed"),
        StepState::Started => "started, result unknown".to_owned(),
        StepState::Succeeded => "done".to_owned(),
        StepState::Failed => "failed".to_owned(),
        StepState::RolledBack => "rolled back".to_owned(),
        StepState::RevertFailed => "revert failed".to_owned(),
    }
}
