//! `vmdeploy inventory`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::fleet::{self, Selection};
use crate::inventory::{Format, build};
use crate::output;
use crate::planning::{self, TransportOption};
use crate::spec_files::{SpecArgs, load};

/// Prints the VMs of a spec with their addresses, for Ansible and other tools.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    transport: TransportOption,
    /// Output format
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    format: Format,
    /// Print all hosts and groups, as an Ansible dynamic inventory
    #[arg(long, conflicts_with = "format", group = "protocol")]
    list: bool,
    /// Print one host's variables, as an Ansible dynamic inventory
    #[arg(long, value_name = "NAME", conflicts_with = "format", group = "protocol")]
    host: Option<String>,
    /// Fail if an address is not known, instead of omitting the VM
    #[arg(long)]
    strict: bool,
}

/// Prints the inventory.
///
/// # Errors
/// The spec is refused, the cluster cannot be reached, or with `--strict` an address is not known.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let spec = load(&args.spec, context)?;
    let connections = planning::open(&args.transport.plan_args(), &spec, context).await?;
    let members = fleet::members(&spec.deployment, &connections).await?;
    let members = fleet::look(args.selection.of(members)?, &connections).await;
    connections.close().await;
    let (inventory, unknown) = build(&spec.deployment, &members);
    if args.strict && !unknown.is_empty() {
        return Err(left_out_failure(&unknown));
    }
    for (vm, why) in &unknown {
        output::say(&format!("note: {vm} is omitted: {why}"));
    }
    output::write_stdout(&match (&args.host, args.list) {
        (Some(host), _) => inventory.ansible_host(host),
        (None, true) => inventory.ansible_list(),
        (None, false) => inventory.render(args.format),
    });
    Ok(Exit::DONE)
}

fn left_out_failure(unknown: &[(String, String)]) -> Failure {
    let lines: Vec<String> = unknown.iter().map(|(vm, why)| format!("{vm}: {why}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    Failure::list(Exit::OBSERVED, "some VMs have no known address", &lines)
        .hint("without --strict they are omitted; `vmdeploy status` shows all VMs")
}
