//! `vmdeploy report RUN`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::CommandResult;
use crate::files;
use crate::output;
use crate::run_output::{duration, summary};
use crate::running::open_run;
use crate::table::Table;
use vmdeploy_executor::{RunReport, StepReport, StepState, html_page};

/// Says what a recorded run did.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run, as `vmdeploy runs` lists it
    run: String,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    /// Write it as one page that needs no network
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<std::path::PathBuf>,
}

/// Prints the report.
///
/// # Errors
/// There is no such run, or it cannot be read.
pub fn run(args: &Args, context: &Context) -> CommandResult {
    let stored = open_run(&args.run, context)?;
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
        StepState::NotStarted => "not begun".to_owned(),
        StepState::Skipped { because } => format!("skipped, because {because} failed"),
        StepState::Started => "begun, end unknown".to_owned(),
        StepState::Succeeded => "done".to_owned(),
        StepState::Failed => "failed".to_owned(),
        StepState::RolledBack => "rolled back".to_owned(),
        StepState::RevertFailed => "revert failed".to_owned(),
    }
}
