//! `vmdeploy validate`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::CommandResult;
use crate::output;
use crate::spec_files::{SpecArgs, load};

/// Checks specs without a network, a secret or a command.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
}

/// Says that the spec is well, or why not.
///
/// # Errors
/// The spec is refused.
pub fn run(args: &Args, context: &Context) -> CommandResult {
    let spec = load(&args.spec, context)?;
    let count = spec.deployment.vms.len();
    let plural = if count == 1 { "VM" } else { "VMs" };
    output::print_line(&format!("project {}: {count} {plural}, no fault", spec.deployment.project.value));
    Ok(Exit::DONE)
}
