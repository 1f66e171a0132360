//! `vmdeploy ssh VM`: the system's own ssh, to the address that the guest's agent tells.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::fleet::{self, Selection};
use crate::inventory::build;
use crate::planning::{self, PlanArgs};
use crate::spec_files::{SpecArgs, SpecWords, load};
use pve_types::GuestName;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

/// Logs in to a VM of the spec with ssh.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VM; a spec may stand before it: a word with a `/` or that ends in .yaml
    #[arg(value_name = "VM")]
    vm: String,
    /// A command to run there, as ssh takes it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Spec file or folder; else VMDEPLOY_SPEC
    #[arg(long = "spec", value_name = "SPEC")]
    specs: Vec<PathBuf>,
}

/// Becomes ssh.
///
/// # Errors
/// The VM has no known address, or there is no ssh.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let words: Vec<String> = std::iter::once(&args.vm).chain(&args.command).cloned().collect();
    let words = SpecWords::leading(&words, &args.specs);
    let Some((vm, command)) = words.rest.split_first() else {
        return Err(Failure::usage("no VM is named").hint("`vmdeploy ssh NAME`, or `vmdeploy ssh SPEC NAME`"));
    };
    let vm: GuestName =
        vm.parse().map_err(|error: pve_types::ParseError| Failure::usage(error.to_string()))?;
    let spec = load(&SpecArgs { specs: words.specs.clone() }, context)?;
    let connections = planning::open(&PlanArgs::default(), &spec, context).await?;
    let selection = Selection { target: vec![vm.clone()], ..Selection::default() };
    let members = selection.of(fleet::members(&spec.deployment, &connections).await?)?;
    let members = fleet::look(members, &connections).await;
    connections.close().await;
    let (inventory, unknown) = build(&spec.deployment, &members);
    let Some(host) = inventory.hosts.first() else {
        let why = unknown.first().map_or("it is not in the spec", |(_, why)| why.as_str());
        return Err(Failure::chain(Exit::OBSERVED, &format!("no address of {vm} is known"), &[why])
            .hint("`vmdeploy status` shows all VMs"));
    };
    let target = host
        .user
        .as_ref()
        .map_or_else(|| host.address.to_string(), |user| format!("{user}@{}", host.address));
    let alias = format!("HostKeyAlias={}", host.name);
    let error = Command::new("ssh").args(["-o", &alias, "--", &target]).args(command).exec();
    Err(Failure::of(Exit::USAGE, error).context("cannot run ssh").hint("install the OpenSSH client"))
}
