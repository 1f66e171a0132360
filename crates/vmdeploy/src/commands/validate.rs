//! `vmdeploy validate`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::output;
use crate::spec_files::{SpecArgs, check, load};
use serde::Serialize;
use vmdeploy_planner::render::count;
use vmdeploy_planner::spec::{Diagnostic, Severity};

/// Checks specs offline, without reading secrets or running commands.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    /// Print project, VMs, errors and warnings as JSON
    #[arg(long)]
    json: bool,
}

/// The answer.
#[derive(Debug, Default, Serialize)]
struct Validation {
    /// Whether the spec can be planned.
    valid: bool,
    project: Option<String>,
    vms: Vec<String>,
    faults: Vec<Fault>,
}

/// A fault or a warning.
#[derive(Debug, Serialize)]
struct Fault {
    severity: &'static str,
    file: String,
    line: u32,
    column: u32,
    path: String,
    message: String,
    hint: Option<String>,
}

impl Fault {
    fn of(diagnostic: &Diagnostic) -> Self {
        Self {
            severity: match diagnostic.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            file: diagnostic.file.clone(),
            line: diagnostic.span.line,
            column: diagnostic.span.column,
            path: diagnostic.path.clone(),
            message: diagnostic.message.clone(),
            hint: diagnostic.hint.clone(),
        }
    }
}

/// Says that the spec is well, or why not.
///
/// # Errors
/// The spec is refused.
pub fn run(args: &Args, context: &Context) -> CommandResult {
    if args.json {
        return as_json(args, context);
    }
    let spec = load(&args.spec, context)?;
    let vms = count(spec.deployment.vms.len(), "VM");
    output::print_line(&format!("project {}: {vms}, no errors", spec.deployment.project.value));
    Ok(Exit::DONE)
}

fn as_json(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let (validation, exit) = match check(&args.spec, context)? {
        Ok(loaded) => {
            let validation = Validation {
                valid: true,
                project: Some(loaded.deployment.project.value.clone()),
                vms: loaded.deployment.vms.iter().map(|vm| vm.name.value.to_string()).collect(),
                faults: loaded.warnings.iter().map(Fault::of).collect(),
            };
            (validation, Exit::DONE)
        }
        Err(faults) => {
            let faults = faults.iter().map(Fault::of).collect();
            (Validation { faults, ..Validation::default() }, Exit::USAGE)
        }
    };
    output::print_document("validation", &validation)?;
    Ok(exit)
}
