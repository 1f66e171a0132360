//! `vmdeploy ssh VM`: the system's own ssh, to the address that the guest's agent tells.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::fleet::{self, Selection};
use crate::inventory::build;
use crate::output;
use crate::planning::{self, TransportOption};
use crate::running::runs_folder;
use crate::spec_files::{SpecArgs, SpecWords, load};
use pve_types::GuestName;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

/// Logs in to a VM of the spec with ssh.
#[derive(Debug, clap::Args)]
#[command(override_usage = "vmdeploy ssh [OPTIONS] [SPEC]... <VM> [COMMAND]...")]
pub struct Args {
    /// VM of the spec; words before it with a `/` or ending in .yaml are specs [default: VMDEPLOY_SPEC]
    #[arg(value_name = "VM")]
    vm: String,
    /// Command to run on the VM, and options of ssh
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Spec file or folder, instead of SPEC before the VM
    #[arg(long = "spec", value_name = "SPEC")]
    specs: Vec<PathBuf>,
    #[command(flatten)]
    transport: TransportOption,
}

/// Becomes ssh.
///
/// # Errors
/// The VM has no known address, or there is no ssh.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let words: Vec<String> = std::iter::once(&args.vm).chain(&args.command).cloned().collect();
    let words = SpecWords::leading(&words, &args.specs);
    let Some((vm, command)) = words.rest.split_first() else {
        return Err(
            Failure::usage("no VM was given").hint("`vmdeploy ssh NAME`, or `vmdeploy ssh SPEC NAME`")
        );
    };
    let vm: GuestName =
        vm.parse().map_err(|error: pve_types::ParseError| Failure::usage(error.to_string()))?;
    let spec = load(&SpecArgs::new(words.specs.clone()), context)?;
    let connections = planning::open(&args.transport.plan_args(), &spec, context).await?;
    let selection = Selection { target: vec![vm.clone()], ..Selection::default() };
    let members = selection.of(fleet::members(&spec.deployment, &connections).await?)?;
    fleet::refuse_faults(&members)?;
    let members = fleet::look(members, &connections).await;
    connections.close().await;
    let (inventory, unknown) = build(&spec.deployment, &members);
    let Some(host) = inventory.hosts.first() else {
        let why = unknown.first().map_or("it is not in the spec", |(_, why)| why.as_str());
        return Err(Failure::chain(Exit::OBSERVED, &format!("the address of {vm} is not known"), &[why])
            .hint("`vmdeploy status` shows all VMs"));
    };
    let target = host
        .user
        .as_ref()
        .map_or_else(|| host.address.to_string(), |user| format!("{user}@{}", host.address));
    let mut ssh = Command::new("ssh");
    for option in host_key_options(&host.name, context) {
        ssh.args(["-o", &option]);
    }
    output::finish();
    let error = ssh.args(["--", &target]).args(command).exec();
    Err(Failure::of(Exit::USAGE, error).context("cannot run ssh").hint("install the OpenSSH client"))
}

/// Returns the options by which ssh judges a guest's host key: by the guest's name, as addresses change, and by a file of
/// the project's own, next to its runs, before the person's. An unknown key is asked about, as ssh does, or added to the
/// project's file with `--trust-on-first-use`; a changed one is refused.
fn host_key_options(name: &str, context: &Context) -> Vec<String> {
    let runs = runs_folder(context);
    let own = std::path::absolute(runs.path()).unwrap_or_else(|_| runs.path().to_owned());
    let own = own.parent().unwrap_or(&own).join("known_hosts");
    let mut options = vec![format!("HostKeyAlias={name}")];
    // A file name with a quote in it cannot be written as an option of ssh.
    if own.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok())
        && !own.to_string_lossy().contains('"')
    {
        options.push(format!("UserKnownHostsFile=\"{}\" ~/.ssh/known_hosts", own.display()));
    }
    if context.environment.trusts_on_first_use() {
        options.push("StrictHostKeyChecking=accept-new".to_owned());
    }
    options
}
