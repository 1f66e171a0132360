//! Waiting for guests: every wait asks for a condition until it holds or its time is over.

use super::pace::{Kind, Looks};
use crate::drive::job::{Done, Job};
use crate::{Failure, FailureKind, Outcome};
use pve_api::{AgentTrouble, ApiError, GuestInterface, GuestProcess};
use pve_types::{GuestName, MacAddr};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::Instant;
use vmdeploy_planner::plan::{Condition, GuestRef, IpFamily};

/// So long before its time is over a wait looks for the last time.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// What one look at the guest found.
enum Look {
    /// The condition holds.
    There(Outcome),
    /// It does not hold yet; what was seen instead.
    NotYet(String),
}

/// What a wait remembers from one look to the next.
#[derive(Default)]
struct Memory {
    /// The command that runs in the guest.
    process: Option<GuestProcess>,
    /// The MACs of the NICs that count.
    macs: Option<Vec<MacAddr>>,
}

/// What addresses are desired.
struct Desired<'a> {
    /// MACs of the NICs that count; empty when any does.
    macs: Vec<MacAddr>,
    family: IpFamily,
    within: Option<&'a str>,
}

impl Job {
    pub(super) async fn wait_for(&self, guest: &GuestRef, condition: &Condition) -> Result<Done, Failure> {
        let mut said = String::new();
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
            if seen != said {
                self.tell(None, seen.clone());
                said = seen;
            }
            if Instant::now() >= last {
                return Err(self.too_late(guest, condition, &said));
            }
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

    fn too_late(&self, guest: &GuestRef, condition: &Condition, seen: &str) -> Failure {
        let kind = match condition {
            Condition::Agent => FailureKind::AgentNotRunning,
            Condition::Address { .. } if seen.contains("agent") => FailureKind::AgentNotRunning,
            Condition::Address { .. } => FailureKind::NoAddress,
            _ => FailureKind::NotReady,
        };
        let what = vmdeploy_planner::render::summary(&self.step.action);
        let text = format!(
            "{what} of VM {} took longer than {} s; last seen: {seen}",
            guest.vmid, self.step.deadline_s
        );
        let node = self.node_of(guest);
        Failure::new(kind, text).at(&node).hint(not_ready_hint(guest, &node, kind))
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
                    None => memory.macs.insert(self.wanted_macs(guest, nic.as_deref(), *mac).await?).clone(),
                };
                let desired = Desired { macs, family: *family, within: within.as_deref() };
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
            Ok(status) => Ok(Look::NotYet(format!("the guest is {}", crate::printable(&status.status)))),
            Err(error) => self.moved_or(guest, error).await,
        }
    }

    /// Tells a wait that may go on from a failure: an agent that is not there yet, a guest that moved.
    async fn agent_trouble(&self, guest: &GuestRef, error: ApiError) -> Result<Look, Failure> {
        match AgentTrouble::of(&error) {
            Some(AgentTrouble::NotRunning | AgentTrouble::TimedOut) => {
                Ok(Look::NotYet("the agent does not answer yet".to_owned()))
            }
            Some(AgentTrouble::VmNotRunning) => Ok(Look::NotYet("the guest does not run".to_owned())),
            Some(AgentTrouble::NotConfigured) => Err(error.into()),
            None => self.moved_or(guest, error).await,
        }
    }

    async fn moved_or(&self, guest: &GuestRef, error: ApiError) -> Result<Look, Failure> {
        if error.is_absent() {
            return match self.find_node(guest.vmid).await? {
                Some(node) => Ok(Look::NotYet(format!("the guest is on {node} now"))),
                None => Err(error.into()),
            };
        }
        let failure = Failure::from(error);
        match failure.kind {
            FailureKind::Unreachable | FailureKind::NoAnswer => {
                Ok(Look::NotYet("the cluster does not answer".into()))
            }
            _ => Err(failure),
        }
    }

    /// Returns the MACs whose addresses count: the one that the plan knows, the NIC's, or those of all NICs.
    async fn wanted_macs(
        &self,
        guest: &GuestRef,
        nic: Option<&str>,
        mac: Option<MacAddr>,
    ) -> Result<Vec<MacAddr>, Failure> {
        if let Some(mac) = mac {
            return Ok(vec![mac]);
        }
        let macs = self.config(guest).await?.config.mac_addresses();
        Ok(macs
            .into_iter()
            .filter(|(slot, _)| nic.is_none_or(|nic| nic == slot))
            .map(|(_, mac)| mac)
            .collect())
    }

    async fn look_for_address(&self, guest: &GuestRef, desired: &Desired<'_>) -> Result<Look, Failure> {
        let interfaces = match self.qemu(guest).agent().network_interfaces().await {
            Ok(interfaces) => interfaces,
            Err(error) => return self.agent_trouble(guest, error).await,
        };
        let addresses = fitting(&interfaces, desired);
        if addresses.is_empty() {
            return Ok(Look::NotYet("no fitting address yet".to_owned()));
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
            return Ok(Look::NotYet("`cloud-init status` still runs".to_owned()));
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
            Some(state) => Ok(Look::NotYet(format!("cloud-init: {}", crate::printable(state)))),
            None => Ok(Look::NotYet("cloud-init tells no status".to_owned())),
        }
    }

    /// Returns the guest's addresses: those that a step of this run found, else what the agent tells now.
    async fn known_addresses(&self, guest: &GuestRef) -> Result<Vec<IpAddr>, Failure> {
        let known = self.shared.addresses_of(&guest.name);
        if !known.is_empty() {
            return Ok(known);
        }
        let macs = self.wanted_macs(guest, None, None).await?;
        let desired = Desired { macs, family: IpFamily::Any, within: None };
        match self.look_for_address(guest, &desired).await? {
            Look::There(Outcome::Addresses { addresses, .. }) => Ok(addresses),
            _ => Ok(Vec::new()),
        }
    }

    async fn look_at_port(&self, guest: &GuestRef, port: u16) -> Result<Look, Failure> {
        let addresses = self.known_addresses(guest).await?;
        let Some(address) = addresses.first() else {
            return Ok(Look::NotYet("no address yet".to_owned()));
        };
        let target = SocketAddr::new(*address, port);
        let patience = Duration::from_secs(3).min(self.time_left());
        match tokio::time::timeout(patience, tokio::net::TcpStream::connect(target)).await {
            Ok(Ok(_)) => Ok(Look::There(Outcome::Done)),
            Ok(Err(error)) => Ok(Look::NotYet(format!("{target}: {error}"))),
            Err(_) => Ok(Look::NotYet(format!("{target} does not answer"))),
        }
    }

    /// Runs a command on this machine; only where the command line allowed it.
    async fn look_by_command(&self, guest: &GuestRef, argv: &[String]) -> Result<Look, Failure> {
        if !self.shared.options.0.allow_commands {
            let text = "the plan wants to run a command on this machine, and that is not allowed";
            return Err(Failure::new(FailureKind::Refused, text)
                .hint("look at the command in the spec, then add `--allow-commands`"));
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
            Ok(Ok(output)) => Ok(Look::NotYet(format!("the command ended with {}", output.status))),
            Ok(Err(error)) => {
                Err(Failure::new(FailureKind::NotReady, format!("`{program}` could not be run: {error}")))
            }
            Err(_) => Ok(Look::NotYet("the command did not end".to_owned())),
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

/// Returns the addresses that fit: of the desired NICs, never loopback or link-local, IPv4 first.
fn fitting(interfaces: &[GuestInterface], desired: &Desired<'_>) -> Vec<IpAddr> {
    let is_wanted = |interface: &&GuestInterface| match interface.mac {
        Some(mac) => desired.macs.is_empty() || desired.macs.contains(&mac),
        None => false,
    };
    let mut addresses: Vec<IpAddr> = interfaces
        .iter()
        .filter(is_wanted)
        .flat_map(|interface| &interface.addresses)
        .map(|address| address.address)
        .filter(|address| is_reachable(address) && is_of(address, desired.family))
        .filter(|address| desired.within.is_none_or(|network| is_within(*address, network)))
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

/// Tells whether the address may be the guest's own as seen from here. One of this machine never is, however it is written.
fn is_reachable(address: &IpAddr) -> bool {
    match &address.to_canonical() {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified(),
    }
}

fn is_of(address: &IpAddr, family: IpFamily) -> bool {
    match family {
        IpFamily::V4 => address.is_ipv4(),
        IpFamily::V6 => address.is_ipv6(),
        IpFamily::Any => true,
    }
}

/// Tells whether the address lies in a network in CIDR notation; `false` for what is none.
fn is_within(address: IpAddr, network: &str) -> bool {
    let Some((base, length)) = network.split_once('/') else { return false };
    match (address, base.parse::<IpAddr>(), length.parse::<u32>()) {
        (IpAddr::V4(a), Ok(IpAddr::V4(b)), Ok(length @ 0..=32)) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            u32::from(a) & mask == u32::from(b) & mask
        }
        (IpAddr::V6(a), Ok(IpAddr::V6(b)), Ok(length @ 0..=128)) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            u128::from(a) & mask == u128::from(b) & mask
        }
        _ => false,
    }
}

/// Says what to check where a guest did not become ready, and how to log in to it.
fn not_ready_hint(guest: &GuestRef, node: &pve_types::NodeName, kind: FailureKind) -> String {
    let check = match kind {
        FailureKind::AgentNotRunning => {
            "check that `qemu-guest-agent` is installed in the image and runs (stock cloud images come without it: install \
             it by cloud-init, or leave `ready` out of the spec)"
        }
        FailureKind::NoAddress => {
            "check the bridge, the VLAN and the cloud-init network settings of its NICs"
        }
        _ => "check the guest's boot messages",
    };
    let (vmid, name) = (guest.vmid, &guest.name);
    format!(
        "{check}; log in with `vmdeploy ssh {name} --spec SPEC`, by `qm terminal {vmid}` on {node} if the guest has a serial \
         console, or in the web interface; then `vmdeploy resume`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses() {
        let check = |address: &str, network: &str, expect: bool| {
            assert_eq!(is_within(address.parse().unwrap(), network), expect, "{address} in {network}");
        };
        check("10.40.0.5", "10.40.0.0/24", true);
        check("10.40.1.5", "10.40.0.0/24", false);
        check("10.40.1.5", "0.0.0.0/0", true);
        check("fd00::5", "fd00::/64", true);
        check("fd01::5", "fd00::/64", false);
        check("10.0.0.1", "fd00::/64", false);
        check("10.0.0.1", "10.0.0.1/33", false);
    }

    #[test]
    fn a_guest_cannot_lead_to_this_machine() {
        for address in
            ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "0.0.0.0", "::"]
        {
            assert!(!is_reachable(&address.parse().unwrap()), "{address}");
        }
        assert!(is_reachable(&"10.0.0.1".parse().unwrap()) && is_reachable(&"fd00::1".parse().unwrap()));
    }

    #[test]
    fn the_text_of_cloud_init_counts() {
        assert_eq!(cloud_init_state("status: running\n"), Some("running"));
        assert_eq!(cloud_init_state("\nstatus: done\ndetail: x\n"), Some("done"));
        assert_eq!(cloud_init_state("command not found"), None);
    }

    #[test]
    fn only_addresses_of_the_wanted_nic_count_and_ipv4_comes_first() {
        let mac: MacAddr = "BC:24:11:00:00:01".parse().unwrap();
        let other: MacAddr = "02:42:AC:11:00:02".parse().unwrap();
        let address = |text: &str| (text.parse::<IpAddr>().unwrap(), 24_u8);
        let interfaces = [
            GuestInterface::new("lo", None, [address("127.0.0.1")]),
            GuestInterface::new("docker0", Some(other), [address("172.17.0.1")]),
            GuestInterface::new(
                "eth0",
                Some(mac),
                [address("fe80::1"), address("fd00::7"), address("10.0.0.7")],
            ),
        ];
        let desired = |family| Desired { macs: vec![mac], family, within: None };
        let texts =
            |family| fitting(&interfaces, &desired(family)).iter().map(IpAddr::to_string).collect::<Vec<_>>();
        assert_eq!(texts(IpFamily::Any), ["10.0.0.7", "fd00::7"]);
        assert_eq!(texts(IpFamily::V6), ["fd00::7"]);
        let elsewhere = Desired { within: Some("192.168.0.0/16"), ..desired(IpFamily::Any) };
        assert!(fitting(&interfaces, &elsewhere).is_empty());
    }
}
