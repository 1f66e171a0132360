//! `vmdeploy start`, `shutdown`, `stop` and `reboot`: of the spec's own VMs, and of no others.

use crate::confirm::confirm;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::fleet::{self, Member, Selection};
use crate::output;
use crate::planning::{self, PlanArgs};
use crate::spec_files::{SpecArgs, load};
use futures::StreamExt as _;
use pve_api::{ApiError, Qemu, Shutdown, Task, Wait};
use pve_types::GuestName;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use vmdeploy_executor::Connections;

/// How many guests are switched at the same time.
const AT_ONCE: usize = 8;

/// Which VMs are switched.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The VMs, by their names in the spec
    #[arg(value_name = "VM")]
    vms: Vec<GuestName>,
    /// All VMs of the spec; with `--tag` or `--pool` all of these
    #[arg(long, conflicts_with = "vms")]
    all: bool,
    /// Only VMs with this tag
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only VMs in this pool
    #[arg(long, value_name = "POOL")]
    pool: Vec<String>,
    /// Spec file or folder; else VMDEPLOY_SPEC
    #[arg(long = "spec", value_name = "SPEC")]
    specs: Vec<PathBuf>,
    /// How long each guest is given, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    timeout: u32,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// `shutdown` has one option more.
#[derive(Debug, clap::Args)]
pub struct ShutdownArgs {
    #[command(flatten)]
    common: Args,
    /// Stop a guest that does not react in time
    #[arg(long)]
    force: bool,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Switch {
    Start,
    Shutdown { force: bool },
    Stop,
    Reboot,
}

impl Switch {
    fn verb(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Shutdown { .. } => "shut down",
            Self::Stop => "stop at once",
            Self::Reboot => "reboot",
        }
    }
    fn done(self) -> &'static str {
        match self {
            Self::Start => "started",
            Self::Shutdown { .. } => "shut down",
            Self::Stop => "stopped",
            Self::Reboot => "rebooted",
        }
    }
    /// Returns why nothing is to do for a guest in this state, if so.
    fn needless(self, member: &Member<'_>) -> Option<&'static str> {
        match (self, member.is_running()) {
            (Self::Start, true) => Some("runs already"),
            (Self::Shutdown { .. } | Self::Stop, false) => Some("does not run"),
            (Self::Reboot, false) => Some("does not run, and is left so"),
            _ => None,
        }
    }
}

/// Starts VMs in the order of their `startup`.
///
/// # Errors
/// The spec is refused, or the cluster cannot be reached.
pub async fn start(args: &Args, context: &Context) -> CommandResult {
    switch(Switch::Start, args, context).await
}

/// Asks VMs to shut down, in the reverse order.
///
/// # Errors
/// As [`start`].
pub async fn shutdown(args: &ShutdownArgs, context: &Context) -> CommandResult {
    switch(Switch::Shutdown { force: args.force }, &args.common, context).await
}

/// Stops VMs at once.
///
/// # Errors
/// As [`start`].
pub async fn stop(args: &Args, context: &Context) -> CommandResult {
    switch(Switch::Stop, args, context).await
}

/// Reboots VMs.
///
/// # Errors
/// As [`start`].
pub async fn reboot(args: &Args, context: &Context) -> CommandResult {
    switch(Switch::Reboot, args, context).await
}

async fn switch(switch: Switch, args: &Args, context: &Context) -> CommandResult {
    let selection = Selection { target: args.vms.clone(), tag: args.tag.clone(), pool: args.pool.clone() };
    if selection.is_empty() && !args.all {
        return Err(Failure::usage("no VM is named").hint("name VMs, --tag, --pool, or --all"));
    }
    let spec = load(&SpecArgs { specs: args.specs.clone() }, context)?;
    let connections = planning::open(&PlanArgs::default(), &spec, context).await?;
    let members = selection.of(fleet::members(&spec.deployment, &connections).await?)?;
    fleet::refuse_faults(&members)?;
    let (wanted, absent): (Vec<Member<'_>>, Vec<Member<'_>>) =
        members.into_iter().partition(|member| member.guest.is_some());
    absent.iter().for_each(|member| output::print_line(&format!("{}: absent", member.name())));
    let (needless, wanted): (Vec<Member<'_>>, Vec<Member<'_>>) =
        wanted.into_iter().partition(|member| switch.needless(member).is_some());
    for member in &needless {
        output::print_line(&format!("{}: {}", member.name(), switch.needless(member).unwrap_or_default()));
    }
    if wanted.is_empty() {
        return Ok(Exit::DONE);
    }
    let names: Vec<&str> = wanted.iter().map(|member| member.name().as_str()).collect();
    if !confirm(args.yes, &format!("{} {}", switch.verb(), names.join(", ")), "`--yes`")? {
        return Ok(Exit::USAGE);
    }
    let failures = switch_all(switch, &wanted, args.timeout, &connections).await;
    connections.close().await;
    Ok(match failures {
        0 => Exit::DONE,
        all if all == wanted.len() => Exit::FAILED_UNDONE,
        _ => Exit::FAILED_LEFT,
    })
}

/// Switches group after group; returns how many guests failed.
async fn switch_all(
    switch: Switch,
    members: &[Member<'_>],
    timeout_s: u32,
    connections: &Connections,
) -> usize {
    let mut groups: BTreeMap<u64, Vec<&Member<'_>>> = BTreeMap::new();
    for member in members {
        groups.entry(startup_order(member.config("startup"))).or_default().push(member);
    }
    let mut groups: Vec<Vec<&Member<'_>>> = groups.into_values().collect();
    if switch != Switch::Start {
        groups.reverse();
    }
    let mut failures = 0;
    for group in groups {
        let jobs = group.into_iter().map(|member| switch_one(switch, member, timeout_s, connections));
        failures += futures::stream::iter(jobs)
            .buffer_unordered(AT_ONCE)
            .filter(|well| futures::future::ready(!well))
            .count()
            .await;
    }
    failures
}

/// Returns the number in `order=2,up=30`; guests without one come last.
fn startup_order(startup: Option<&str>) -> u64 {
    let parts = startup.unwrap_or_default().split(',');
    let mut orders = parts.filter_map(|part| part.strip_prefix("order=").unwrap_or(part).parse().ok());
    orders.next().unwrap_or(u64::MAX)
}

async fn switch_one(switch: Switch, member: &Member<'_>, timeout_s: u32, connections: &Connections) -> bool {
    let Some((node, vmid)) = member.place() else { return false };
    let qemu = connections.api().node(node).qemu(vmid);
    let result = async {
        let task = begin(switch, &qemu, timeout_s).await?;
        // PVE ends the task itself at the guest's deadline; ours comes later, for a node that hangs.
        task.wait(Wait::at_most(Duration::from_secs(u64::from(timeout_s) + 60))).await
    };
    match result.await {
        Ok(finished) => {
            finished
                .warnings
                .iter()
                .for_each(|line| output::say(&format!("warning: {}: {line}", member.name())));
            output::print_line(&format!("{}: {}", member.name(), switch.done()));
            true
        }
        Err(error) => {
            let hint =
                error.hint().unwrap_or_else(|| format!("`qm status {vmid} --verbose` on {node} shows more"));
            let failure = Failure::of(Exit::FAILED_UNDONE, error)
                .context(format!("cannot {} {} (VM {vmid} on {node})", switch.verb(), member.name()))
                .hint(hint);
            output::write_stderr(&failure.render());
            false
        }
    }
}

async fn begin(switch: Switch, qemu: &Qemu, timeout_s: u32) -> Result<Task, ApiError> {
    match switch {
        Switch::Start => qemu.start().await,
        Switch::Stop => qemu.stop().await,
        Switch::Reboot => qemu.reboot(Some(timeout_s)).await,
        Switch::Shutdown { force } => {
            qemu.shutdown(Shutdown { timeout_s: Some(timeout_s), force_stop: force }).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_without_an_order_start_last() {
        assert_eq!(
            [Some("order=2,up=30"), Some("3"), Some("up=5"), None].map(startup_order),
            [2, 3, u64::MAX, u64::MAX]
        );
    }
}
