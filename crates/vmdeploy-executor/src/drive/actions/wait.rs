//! Waiting for guests: every wait asks for a condition until it holds or its time is over.

use crate::drive::job::{Done, Job};
use crate::drive::pace::{Kind, Looks};
use crate::failure::NextStep;
use crate::{Failure, FailureKind, Outcome};
use pve_api::{AddressFilter, AgentTrouble, ApiError, GuestProcess, fitting_addresses};
use pve_config::DeviceSlot;
use pve_types::{GuestName, MacAddr};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::Instant;
use vmdeploy_planner::plan::{Condition, GuestRef};

/// How long before its deadline a wait polls for the last time.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// What one look at the guest found.
enum Look {
    /// The condition holds.
    There(Outcome),
    /// It does not hold yet; what was seen instead.
    NotYet(Instead),
}

impl Look {
    fn not_yet(seen: impl Into<String>) -> Self {
        Self::NotYet(Instead::Other(seen.into()))
    }
}

/// What was seen where a condition does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Instead {
    /// The guest runs, and its agent is silent.
    NoAgent,
    /// Anything else, as a clause.
    Other(String),
}

impl std::fmt::Display for Instead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoAgent => "the guest agent does not answer yet",
            Self::Other(text) => text,
        })
    }
}

/// What a wait remembers from one look to the next.
#[derive(Default)]
struct Memory {
    /// The command that runs in the guest.
    process: Option<GuestProcess>,
    /// The MACs of the NICs that count.
    macs: Option<Vec<MacAddr>>,
}

impl Job {
    pub(super) async fn wait_for(&self, guest: &GuestRef, condition: &Condition) -> Result<Done, Failure> {
        let mut said = None;
        let mut memory = Memory::default();
        let kind = Kind { node: self.node_of(guest), condition: name_of_condition(condition) };
        let mut turns = self.shared.pace.begin(kind, self.looks_of(condition));
        // The last look is made while there is time for its answer.
        let last = self.until - (self.time_left() / 10).min(LAST_LOOK);
        loop {
            turns.turn(last).await;
            let asked = Instant::now();
            let seen = match self.look_once(guest, condition, &mut memory).await? {
                Look::There(outcome) => {
                    turns.found(asked);
                    return Ok(Done { outcome, warnings: Vec::new() });
                }
                Look::NotYet(seen) => seen,
            };
            if said.as_ref() != Some(&seen) {
                self.tell(None, seen.to_string());
            }
            if Instant::now() >= last {
                return Err(self.too_late(guest, condition, &seen));
            }
            said = Some(seen);
            turns.not_yet(asked, Instant::now());
        }
    }

    /// Tells what a look at the condition is.
    fn looks_of(&self, condition: &Condition) -> Looks {
        let is_asked_from_here = matches!(condition, Condition::Tcp { .. } | Condition::Command { .. });
        if is_asked_from_here || !self.shared.connections.is_pvesh() {
            return Looks::Requests { poll: self.shared.options.0.poll };
        }
        let is_awaited = self.shared.is_awaited(&self.step.id);
        // What other steps wait for lets nothing go first.
        Looks::Commands { patience: if is_awaited { Duration::ZERO } else { self.time_left() / 2 } }
    }

    fn too_late(&self, guest: &GuestRef, condition: &Condition, seen: &Instead) -> Failure {
        let kind = match condition {
            Condition::Agent => FailureKind::AgentNotRunning,
            Condition::Address { .. } if *seen == Instead::NoAgent => FailureKind::AgentNotRunning,
            Condition::Address { .. } => FailureKind::NoAddress,
            _ => FailureKind::NotReady,
        };
        let what = vmdeploy_planner::render::summary(&self.step.action);
        let text = format!(
            "{what} of VM {} took longer than {} s; last seen: {seen}",
            guest.vmid, self.step.deadline_s
        );
        let node = self.node_of(guest);
        Failure::new(kind, text).at(&node).hint_then(|next| not_ready_hint(guest, &node, kind, next))
    }

    async fn look_once(
        &self,
        guest: &GuestRef,
        condition: &Condition,
        memory: &mut Memory,
    ) -> Result<Look, Failure> {
        match condition {
            Condition::Running => self.look_at_state(guest, true).await,
            Condition::Stopped => self.look_at_state(guest, false).await,
            Condition::Agent => match self.qemu(guest).agent().ping().await {
                Ok(()) => Ok(Look::There(Outcome::Done)),
                Err(error) => self.agent_trouble(guest, error).await,
            },
            Condition::Address { nic, mac, family, within } => {
                let macs = match &memory.macs {
                    Some(macs) => macs.clone(),
                    None => memory.macs.insert(self.wanted_macs(guest, *nic, *mac).await?).clone(),
                };
                let desired = AddressFilter { macs, family: family.only(), cidr: *within };
                self.look_for_address(guest, &desired).await
            }
            Condition::CloudInit => self.look_at_cloud_init(guest, &mut memory.process).await,
            Condition::Tcp { port } => self.look_at_port(guest, *port).await,
            Condition::Command { argv } => self.look_by_command(guest, argv).await,
        }
    }

    async fn look_at_state(&self, guest: &GuestRef, running: bool) -> Result<Look, Failure> {
        let status = self.qemu(guest).status().await;
        match status {
            Ok(status) if status.is_running() == running => Ok(Look::There(Outcome::Done)),
            Ok(status) => Ok(Look::not_yet(format!("the guest is {}", crate::printable(&status.status)))),
            Err(error) => self.moved_or(guest, error).await,
        }
    }

    /// Tells a wait that may go on from a failure: an agent that is not there yet, a guest that moved.
    async fn agent_trouble(&self, guest: &GuestRef, error: ApiError) -> Result<Look, Failure> {
        match AgentTrouble::of(&error) {
            Some(AgentTrouble::NotRunning | AgentTrouble::TimedOut) => Ok(Look::NotYet(Instead::NoAgent)),
            Some(AgentTrouble::VmNotRunning) => Ok(Look::not_yet("the guest is not running")),
            Some(AgentTrouble::NotConfigured) => Err(error.into()),
            None => self.moved_or(guest, error).await,
        }
    }

    async fn moved_or(&self, guest: &GuestRef, error: ApiError) -> Result<Look, Failure> {
        if error.is_absent() {
            return match self.find_node(guest.vmid).await? {
                Some(node) => Ok(Look::not_yet(format!("the guest is on {node} now"))),
                None => Err(error.into()),
            };
        }
        let failure = Failure::from(error);
        match failure.kind {
            FailureKind::Unreachable | FailureKind::NodeUnreachable | FailureKind::NoAnswer => {
                Ok(Look::not_yet("the cluster does not answer"))
            }
            _ => Err(failure),
        }
    }

    /// Returns the MACs whose addresses count: the one that the plan knows, the NIC's, or those of all NICs.
    async fn wanted_macs(
        &self,
        guest: &GuestRef,
        nic: Option<DeviceSlot>,
        mac: Option<MacAddr>,
    ) -> Result<Vec<MacAddr>, Failure> {
        if let Some(mac) = mac {
            return Ok(vec![mac]);
        }
        let macs = self.config(guest).await?.config.mac_addresses();
        Ok(macs
            .into_iter()
            .filter(|(slot, _)| nic.is_none_or(|nic| nic == *slot))
            .map(|(_, mac)| mac)
            .collect())
    }

    async fn look_for_address(&self, guest: &GuestRef, desired: &AddressFilter) -> Result<Look, Failure> {
        let interfaces = match self.qemu(guest).agent().network_interfaces().await {
            Ok(interfaces) => interfaces,
            Err(error) => return self.agent_trouble(guest, error).await,
        };
        let addresses: Vec<IpAddr> =
            fitting_addresses(&interfaces, desired).into_iter().map(|found| found.address).collect();
        if addresses.is_empty() {
            return Ok(Look::not_yet("no matching address yet"));
        }
        Ok(Look::There(Outcome::Addresses { addresses, source: "agent".to_owned() }))
    }

    /// Asks `cloud-init status` through the agent. Its text counts: it exits 2 while it still runs.
    async fn look_at_cloud_init(
        &self,
        guest: &GuestRef,
        process: &mut Option<GuestProcess>,
    ) -> Result<Look, Failure> {
        let agent = self.qemu(guest).agent();
        let running = match process.take() {
            Some(running) => running,
            None => match agent.exec(&["cloud-init", "status"]).await {
                Ok(running) => running,
                Err(error) => return self.agent_trouble(guest, error).await,
            },
        };
        let status = match agent.exec_status(&running).await {
            Ok(status) => status,
            Err(error) => return self.agent_trouble(guest, error).await,
        };
        if !status.exited {
            *process = Some(running);
            return Ok(Look::not_yet("`cloud-init status` is still running"));
        }
        let text = status.stdout.unwrap_or_default();
        match cloud_init_state(&text) {
            Some("done") => Ok(Look::There(Outcome::Done)),
            Some("error" | "degraded") => {
                let text = format!("cloud-init in VM {} ended with an error", guest.vmid);
                Err(Failure::new(FailureKind::NotReady, text)
                    .log(status.stderr.into_iter().chain([text_of(&status.exitcode)]))
                    .hint("see /var/log/cloud-init-output.log in the guest"))
            }
            Some("disabled") => {
                let text = format!("cloud-init is disabled in VM {}", guest.vmid);
                Err(Failure::new(FailureKind::NotReady, text))
            }
            Some(state) => Ok(Look::not_yet(format!("cloud-init: {}", crate::printable(state)))),
            None => Ok(Look::not_yet("cloud-init reports no status")),
        }
    }

    /// Returns the guest's addresses: those that a step of this run found, else what the agent tells now.
    async fn known_addresses(&self, guest: &GuestRef) -> Result<Vec<IpAddr>, Failure> {
        let known = self.shared.addresses_of(&guest.name);
        if !known.is_empty() {
            return Ok(known);
        }
        let macs = self.wanted_macs(guest, None, None).await?;
        let desired = AddressFilter { macs, ..AddressFilter::default() };
        match self.look_for_address(guest, &desired).await? {
            Look::There(Outcome::Addresses { addresses, .. }) => Ok(addresses),
            _ => Ok(Vec::new()),
        }
    }

    async fn look_at_port(&self, guest: &GuestRef, port: u16) -> Result<Look, Failure> {
        let addresses = self.known_addresses(guest).await?;
        let Some(address) = addresses.first() else {
            return Ok(Look::not_yet("no address yet"));
        };
        let target = SocketAddr::new(*address, port);
        let patience = Duration::from_secs(3).min(self.time_left());
        match tokio::time::timeout(patience, tokio::net::TcpStream::connect(target)).await {
            Ok(Ok(_)) => Ok(Look::There(Outcome::Done)),
            Ok(Err(error)) => Ok(Look::not_yet(format!("{target}: {error}"))),
            Err(_) => Ok(Look::not_yet(format!("{target} does not answer"))),
        }
    }

    /// Runs a command on this machine; only where the command line allowed it.
    async fn look_by_command(&self, guest: &GuestRef, argv: &[String]) -> Result<Look, Failure> {
        if !self.shared.options.0.allow_commands {
            let text = "the plan runs a command on this machine, which is not allowed";
            return Err(Failure::new(FailureKind::Refused, text)
                .hint("review the command in the spec, then add `--allow-commands`"));
        }
        let Some((program, arguments)) = argv.split_first() else {
            return Err(Failure::new(FailureKind::Refused, "the command is empty"));
        };
        let address = self.known_addresses(guest).await?.first().map(IpAddr::to_string).unwrap_or_default();
        let run = tokio::process::Command::new(program)
            .args(arguments)
            .env("VMDEPLOY_IP", address)
            .env("VMDEPLOY_VM", name_of(&guest.name))
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        match tokio::time::timeout(self.time_left(), run).await {
            Ok(Ok(output)) if output.status.success() => Ok(Look::There(Outcome::Done)),
            Ok(Ok(output)) => Ok(Look::not_yet(format!("the command ended with {}", output.status))),
            Ok(Err(error)) => {
                Err(Failure::new(FailureKind::NotReady, format!("`{program}` could not be run: {error}")))
            }
            Err(_) => Ok(Look::not_yet("the command did not end")),
        }
    }
}

fn name_of_condition(condition: &Condition) -> &'static str {
    match condition {
        Condition::Running => "running",
        Condition::Stopped => "stopped",
        Condition::Agent => "agent",
        Condition::Address { .. } => "address",
        Condition::CloudInit => "cloud-init",
        Condition::Tcp { .. } => "port",
        Condition::Command { .. } => "command",
    }
}

fn name_of(name: &GuestName) -> &str {
    name.as_ref()
}

fn text_of(exitcode: &Option<i64>) -> String {
    exitcode.map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"))
}

/// Returns the word after `status:`.
fn cloud_init_state(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.trim().strip_prefix("status:")).map(str::trim)
}

/// Says what to check where a guest did not become ready, and how to log in to it.
fn not_ready_hint(guest: &GuestRef, node: &pve_types::NodeName, kind: FailureKind, next: NextStep) -> String {
    let check = match kind {
        FailureKind::AgentNotRunning => {
            "check that `qemu-guest-agent` is installed and running (stock cloud images do not include it: install \
             it with cloud-init, or remove `ready` from the spec)"
        }
        FailureKind::NoAddress => {
            "check the bridge, the VLAN and the cloud-init network settings of its NICs"
        }
        _ => "check the guest's boot messages",
    };
    let (vmid, name) = (guest.vmid, &guest.name);
    format!(
        "{check}; log in with `vmdeploy ssh SPEC {name}`, with `qm terminal {vmid}` on {node} if the guest has a serial \
         console, or in the web interface; then run {next}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_cloud_init_counts() {
        assert_eq!(cloud_init_state("status: running\n"), Some("running"));
        assert_eq!(cloud_init_state("\nstatus: done\ndetail: x\n"), Some("done"));
        assert_eq!(cloud_init_state("command not found"), None);
    }
}
