//! `vmdeploy start`, `shutdown`, `stop` and `reboot`: of the spec's own VMs, and of no others.
//!
//! The state that decides is the guest's own, read right before the call; what is reported is read after it.

pub(super) mod target;

use crate::confirm::confirm;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::fleet::Selection;
use crate::output;
use crate::planning::TransportOption;
use crate::spec_files::SpecWords;
use futures::StreamExt as _;
use pve_api::{ApiError, Backoff, Qemu, QemuStatus, Shutdown, Task, Wait, while_nothing_was_done};
use pve_types::{GuestName, PowerState};
use std::collections::BTreeMap;
use std::time::Duration;
use target::Target;
use tokio::time::Instant;
use vmdeploy_executor::power::{PowerOf, Reboot};
use vmdeploy_executor::{Connections, FailureKind};

/// How many guests are switched at the same time.
const AT_ONCE: usize = 8;
/// How much longer a guest is waited for than its task has time.
const GRACE: Duration = Duration::from_secs(60);
/// How often a call is sent that certainly did nothing, such as one that met another's lock.
const CALLS: Backoff = Backoff {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(5),
    attempts: 6,
    within: Duration::from_secs(60),
};

/// Which VMs are switched.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// VM names and specs; a word with a `/` or ending in .yaml is a spec
    #[arg(value_name = "SPEC|VM")]
    words: Vec<String>,
    /// Only this VM; may be repeated
    #[arg(long, value_name = "VM")]
    target: Vec<GuestName>,
    /// All VMs of the spec that match `--tag` and `--pool`
    #[arg(long)]
    all: bool,
    /// Only VMs with this tag
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only VMs in this pool
    #[arg(long, value_name = "POOL")]
    pool: Vec<String>,
    /// Spec file or folder [default: VMDEPLOY_SPEC; if that is not set, VMs are found by their ownership markers]
    #[arg(long = "spec", value_name = "SPEC")]
    specs: Vec<std::path::PathBuf>,
    #[command(flatten)]
    transport: TransportOption,
    /// Maximum time per guest, in seconds
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
    /// Stop a guest that does not shut down in time
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
    fn needless(self, state: PowerState) -> Option<&'static str> {
        match (self, state) {
            (Self::Start, PowerState::Running) => Some("already running"),
            (Self::Shutdown { .. } | Self::Stop, PowerState::Stopped) => Some("not running"),
            (Self::Reboot, PowerState::Stopped) => Some("not running; left as it is"),
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
    let words = SpecWords::of(&args.words, &args.specs);
    let mut target = words.names("VM")?;
    target.extend(args.target.iter().cloned());
    if args.all && !target.is_empty() {
        return Err(Failure::usage("`--all` cannot be used with VM names"));
    }
    let selection = Selection { target, tag: args.tag.clone(), pool: args.pool.clone() };
    if selection.is_empty() && !args.all {
        return Err(Failure::usage("no VM was given").hint("give VM names, `--tag`, `--pool` or `--all`"));
    }
    let (connections, targets) =
        target::find(&words.specs, &selection, &args.transport.plan_args(), context).await?;
    let done = switch_targets(switch, targets, args, &connections).await;
    connections.close().await;
    done
}

async fn switch_targets(
    switch: Switch,
    targets: Vec<Target>,
    args: &Args,
    connections: &Connections,
) -> CommandResult {
    let (desired, absent): (Vec<Target>, Vec<Target>) =
        targets.into_iter().partition(|target| target.place.is_some());
    absent.iter().for_each(|target| output::print_line(&format!("{}: absent", target.name)));
    let (needless, desired): (Vec<Target>, Vec<Target>) =
        desired.into_iter().partition(|target| switch.needless(target.state).is_some());
    for target in &needless {
        output::print_line(&format!(
            "{}: {}",
            target.name,
            switch.needless(target.state).unwrap_or_default()
        ));
    }
    if desired.is_empty() {
        return Ok(Exit::DONE);
    }
    let names: Vec<&str> = desired.iter().map(|target| target.name.as_str()).collect();
    if !confirm(args.yes, &format!("{} {}", switch.verb(), names.join(", ")), "`--yes`")? {
        return Ok(Exit::USAGE);
    }
    let ends = switch_all(switch, &desired, args.timeout, connections).await;
    Ok(exit_of(&ends))
}

/// How the switching of one guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The guest is as it should be.
    Done,
    /// It did not shut down in time, and runs on.
    TimedOut,
    /// It was refused or failed; nothing changed.
    Failed,
    /// It failed after the guest had gone down.
    Down,
}

fn exit_of(ends: &[End]) -> Exit {
    let all = |wanted: &[End]| ends.iter().all(|end| wanted.contains(end));
    match () {
        () if all(&[End::Done]) => Exit::DONE,
        () if all(&[End::Done, End::TimedOut]) => Exit::SHUTDOWN_TIMEOUT,
        () if all(&[End::Failed, End::TimedOut]) => Exit::FAILED_UNDONE,
        () => Exit::FAILED_LEFT,
    }
}

/// Switches group after group; returns how each guest ended.
async fn switch_all(
    switch: Switch,
    targets: &[Target],
    timeout_s: u32,
    connections: &Connections,
) -> Vec<End> {
    let mut groups: BTreeMap<u64, Vec<&Target>> = BTreeMap::new();
    for target in targets {
        groups.entry(startup_order(target.startup.as_deref())).or_default().push(target);
    }
    let mut groups: Vec<Vec<&Target>> = groups.into_values().collect();
    if switch != Switch::Start {
        groups.reverse();
    }
    let mut ends = Vec::new();
    for group in groups {
        let jobs = group.into_iter().map(|target| switch_one(switch, target, timeout_s, connections));
        ends.extend(futures::stream::iter(jobs).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await);
    }
    ends
}

/// Returns the number in `order=2,up=30`; guests without one come last.
fn startup_order(startup: Option<&str>) -> u64 {
    let parts = startup.unwrap_or_default().split(',');
    let mut orders = parts.filter_map(|part| part.strip_prefix("order=").unwrap_or(part).parse().ok());
    orders.next().unwrap_or(u64::MAX)
}

async fn switch_one(switch: Switch, target: &Target, timeout_s: u32, connections: &Connections) -> End {
    let Some((node, vmid)) = target.place.clone() else { return End::Failed };
    let until = Instant::now() + Duration::from_secs(u64::from(timeout_s)) + GRACE;
    let power = PowerOf { connections, node: node.clone(), vmid, until };
    match change(switch, &power, timeout_s).await {
        Ok(changed) => {
            let said = changed.needless.unwrap_or_else(|| switch.done());
            changed
                .warnings
                .iter()
                .for_each(|line| output::say(&format!("warning: {}: {line}", target.name)));
            output::print_line(&format!("{}: {said}", target.name));
            End::Done
        }
        Err((end, failure)) => {
            let failure = match failure.hint {
                Some(_) => failure,
                None => failure.hint(format!("`qm status {vmid} --verbose` on {node} shows details")),
            };
            let shown = crate::reach::executor_failure(&failure).context(format!(
                "cannot {} {} (VM {vmid} on {node})",
                switch.verb(),
                target.name
            ));
            output::write_stderr(&shown.render());
            end
        }
    }
}

/// What was done.
#[derive(Debug, Default)]
struct Changed {
    needless: Option<&'static str>,
    warnings: Vec<String>,
}

type ChangeError = (End, vmdeploy_executor::Failure);

/// Switches one guest, and makes sure that it is as it should be.
async fn change(switch: Switch, power: &PowerOf<'_>, timeout_s: u32) -> Result<Changed, ChangeError> {
    let failed = |failure: vmdeploy_executor::Failure| {
        let is_late = failure.kind == FailureKind::ShutdownTimeout;
        (if is_late { End::TimedOut } else { End::Failed }, failure.with_hint_for(Some(power.vmid)))
    };
    let before = power.now().await.map_err(failed)?;
    if let Some(needless) = switch.needless(before.power()) {
        return Ok(Changed { needless: Some(needless), warnings: Vec::new() });
    }
    let qemu = power.connections.api().node(&power.node).qemu(power.vmid);
    let task = while_nothing_was_done(CALLS, || begin(switch, &qemu, timeout_s)).await;
    let task = task.map_err(|error| failed(error.into()))?;
    if switch == Switch::Reboot {
        return reboot_to_its_end(power, &before, task).await;
    }
    follow(power, task, switch == Switch::Start).await.map_err(failed)
}

/// Follows a task, and makes sure that the guest is on, or off.
async fn follow(power: &PowerOf<'_>, task: Task, on: bool) -> Result<Changed, vmdeploy_executor::Failure> {
    match task.wait(wait(power)).await {
        Ok(finished) => {
            power.becomes(on).await?;
            Ok(Changed { needless: None, warnings: finished.warnings })
        }
        Err(error) => {
            let warning = power.in_spite_of(error.into(), on).await?;
            Ok(Changed { needless: None, warnings: vec![warning] })
        }
    }
}

/// Waits until the guest runs again, and starts it when PVE's own start after the reboot failed.
async fn reboot_to_its_end(
    power: &PowerOf<'_>,
    before: &QemuStatus,
    task: Task,
) -> Result<Changed, ChangeError> {
    let upid = task.upid().clone();
    let hinted =
        |end: End, failure: vmdeploy_executor::Failure| (end, failure.with_hint_for(Some(power.vmid)));
    let finished = task.wait(wait(power)).await.map_err(|error| {
        let failure = vmdeploy_executor::Failure::from(error);
        let is_late = failure.kind == FailureKind::ShutdownTimeout;
        hinted(if is_late { End::TimedOut } else { End::Failed }, failure)
    })?;
    let down = |failure| hinted(End::Down, failure);
    let failed = match power.comes_back(before, &upid).await.map_err(down)? {
        Reboot::Back => return Ok(Changed { needless: None, warnings: finished.warnings }),
        Reboot::Down(failed) => failed.unwrap_or_else(|| "PVE did not start it".to_owned()),
    };
    let qemu = power.connections.api().node(&power.node).qemu(power.vmid);
    let started = async {
        let task = while_nothing_was_done(CALLS, || qemu.start()).await?;
        follow(power, task, true).await
    };
    let mut changed = started.await.map_err(|failure: vmdeploy_executor::Failure| {
        down(failure.log([format!("the start after the reboot failed as well: {failed}")]))
    })?;
    changed
        .warnings
        .push(format!("the start after the reboot failed; the guest was started again: {failed}"));
    Ok(changed)
}

/// PVE ends a task itself at the guest's deadline; ours comes later, for a node that hangs.
fn wait(power: &PowerOf<'_>) -> Wait {
    Wait::at_most(power.until.saturating_duration_since(Instant::now()))
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

    #[test]
    fn a_guest_that_runs_on_has_an_exit_code_of_its_own() {
        use End::{Done, Down, Failed, TimedOut};
        let check = |ends: &[End], expect: Exit| assert_eq!(exit_of(ends), expect, "{ends:?}");
        check(&[Done, Done], Exit::DONE);
        check(&[Done, TimedOut], Exit::SHUTDOWN_TIMEOUT);
        check(&[Failed, TimedOut], Exit::FAILED_UNDONE);
        check(&[Failed], Exit::FAILED_UNDONE);
        check(&[Done, Failed], Exit::FAILED_LEFT);
        check(&[Down], Exit::FAILED_LEFT);
    }
}
