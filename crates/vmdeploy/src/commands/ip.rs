//! `vmdeploy ip`: the address of a VM.

use crate::api_client;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::fleet::{self, Member};
use crate::planning::{self, PlanArgs, TransportOption};
use crate::spec_files::{SpecArgs, SpecWords, load_whole_if_named};
use crate::{output, reach};
use pve_api::{
    AddressFilter, AgentTrouble, FoundAddress, IpFamily, Qemu, QemuConfig, ResourceKind, choose_address,
    choose_neighbor,
};
use pve_types::{NodeName, Vmid};
use std::path::PathBuf;
use std::time::Duration;
use vmdeploy_executor::{Connections, vms_named};
use vmdeploy_planner::identity::{Marker, MarkerSearch};

/// Prints the IP address of a VM, as reported by its guest agent for the MAC addresses of its NICs.
///
/// A VM of the spec is found by its ownership marker; any other VM by its name or VMID in PVE.
///
/// Exit codes: 20 if the guest agent is not enabled, 21 if it does not answer (yet), 22 if it reports no matching address
/// (yet), and 7 if the credentials lack a privilege.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// VM name or VMID, optionally with its spec; a word with a `/` or ending in .yaml is a spec
    #[arg(value_name = "SPEC|VM", required = true)]
    words: Vec<String>,
    /// Spec file or folder [default: VMDEPLOY_SPEC; if that is not set, any VM that the credentials can see]
    #[arg(long = "spec", value_name = "SPEC")]
    specs: Vec<PathBuf>,
    #[command(flatten)]
    transport: TransportOption,
    /// Only addresses of this NIC, such as net0
    #[arg(long, value_name = "NIC")]
    nic: Option<String>,
    /// Only IPv4 addresses
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Only IPv6 addresses
    #[arg(short = '6', long)]
    ipv6: bool,
    /// Only addresses in this network, such as 10.0.0.0/8
    #[arg(long, value_name = "NETWORK")]
    cidr: Option<String>,
    /// Maximum time to wait for the agent and an address, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
    /// Do not read the node's neighbor table over SSH when the agent reports no address
    #[arg(long)]
    no_neighbors: bool,
    /// Print address, interface, MAC address and source as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the address.
///
/// # Errors
/// There is no such VM, it has no address, or it may not be asked for.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let cidr = args.cidr.as_deref().map(parse_cidr).transpose()?;
    let words = SpecWords::of(&args.words, &args.specs);
    let [name] = words.rest.as_slice() else {
        return Err(Failure::usage("give one VM").hint("`vmdeploy ip NAME`, or `vmdeploy ip SPEC NAME`"));
    };
    let (connections, guest) =
        connect_and_find(&words.specs, name, &args.transport.plan_args(), context).await?;
    let vm = connections.api().node(&guest.node).qemu(guest.vmid);
    let config = vm.config().await.map_err(api_client::failure)?;
    refuse_copy(name, &guest, &config)?;
    let family = match (args.ipv4, args.ipv6) {
        (true, _) => Some(IpFamily::V4),
        (_, true) => Some(IpFamily::V6),
        _ => None,
    };
    let desired = AddressFilter { macs: macs(&config, args)?, family, cidr };
    let no_address = match ask_agent(&vm, &config, &desired, Duration::from_secs(args.wait), &guest).await {
        Ok(found) => return print(&found, args.json),
        Err(failure) => failure,
    };
    // What the node remembers of a VM that is off says nothing about now.
    let is_off = no_address.exit() == Exit::AGENT_SILENT && is_stopped(&vm).await;
    if no_address.exit() == Exit::RIGHTS || args.no_neighbors || is_off || !connections.has_ssh() {
        return Err(no_address);
    }
    match ask_neighbors(&connections, &guest.node, &desired).await {
        Ok(Some(found)) => {
            output::say(&format!(
                "the guest agent reports no address; this one is from the neighbor table of `{}`",
                guest.node
            ));
            print(&found, args.json)
        }
        Ok(None) => Err(no_address),
        Err(why) => Err(no_address.hint(format!("the node's neighbor table could not be read: {why}"))),
    }
}

/// Tells whether the VM is known not to run.
async fn is_stopped(vm: &Qemu) -> bool {
    vm.status().await.is_ok_and(|status| !status.is_running())
}

/// A VM, and where it is.
pub struct Guest {
    /// Its number.
    pub vmid: Vmid,
    /// Its node.
    pub node: NodeName,
    /// How it is called in messages.
    pub label: String,
}

/// Finds the VM: the spec's, where it has one of that name or number, else the cluster's.
async fn connect_and_find(
    specs: &[PathBuf],
    name: &str,
    plan_args: &PlanArgs,
    context: &Context,
) -> Result<(Connections, Guest), Failure> {
    let specs = SpecArgs::new(specs.to_vec());
    let Some(spec) = load_whole_if_named(&specs, context)? else {
        let connections = reach::open(reach::connections_config(&context.environment)?).await?;
        let guest = find(&connections, name).await?;
        return Ok((connections, guest));
    };
    let connections = planning::open(plan_args, &spec, context).await?;
    let members = fleet::members(&spec.deployment, &connections).await?;
    let number: Option<Vmid> = name.parse().ok();
    let is_meant = |member: &&Member<'_>| {
        member.name().as_str() == name || (number.is_some() && member.place().map(|(_, vmid)| vmid) == number)
    };
    let guest = match members.iter().find(is_meant) {
        Some(member) => of_member(member)?,
        None => find(&connections, name).await?,
    };
    Ok((connections, guest))
}

fn of_member(member: &Member<'_>) -> Result<Guest, Failure> {
    fleet::refuse_faults(std::slice::from_ref(member))?;
    let Some((node, vmid)) = member.place() else {
        return Err(Failure::new(Exit::OBSERVED, format!("`{}` does not exist yet", member.name()))
            .hint("`vmdeploy deploy` creates it"));
    };
    Ok(Guest { vmid, node: node.clone(), label: format!("VM `{}` ({vmid})", member.name()) })
}

/// A guest that was copied or restored by hand has the name of another: only its number identifies it.
fn refuse_copy(said: &str, guest: &Guest, config: &QemuConfig) -> Result<(), Failure> {
    let marker = Marker::find(config.get("description").unwrap_or_default());
    match marker {
        MarkerSearch::Found(marker) if marker.vmid != guest.vmid && said != guest.vmid.to_string() => {
            let message = format!("{} is a copy of VM {}, by its ownership marker", guest.label, marker.vmid);
            Err(Failure::new(Exit::OBSERVED, message)
                .hint(format!("use the VMID: `vmdeploy ip {}`", guest.vmid)))
        }
        _ => Ok(()),
    }
}

/// Finds the VM of a number, or of a name as its node says it at the moment.
async fn find(connections: &Connections, name: &str) -> Result<Guest, Failure> {
    let number: Option<Vmid> = name.parse().ok();
    let mut fitting: Vec<(Vmid, NodeName)> = Vec::new();
    if let Some(number) = number {
        let resources = connections.api().cluster().resources(Some(ResourceKind::Guests)).await;
        let of_number = resources.map_err(api_client::failure)?.into_iter();
        let of_number = of_number.filter(|item| item.is_vm() && item.vmid == Some(number));
        fitting.extend(of_number.filter_map(|item| Some((item.vmid?, item.node?))));
    }
    // A number means the VM of that number, even where another one is called so.
    if fitting.is_empty() {
        let named =
            vms_named(connections, name).await.map_err(|failure| reach::executor_failure(&failure))?;
        fitting.extend(named.into_iter().map(|vm| (vm.vmid, vm.node)));
    }
    let shown = crate::escape::one_line(name);
    let vmids: Vec<String> = fitting.iter().map(|(vmid, _)| vmid.to_string()).collect();
    match fitting.pop() {
        None => Err(Failure::new(Exit::OBSERVED, format!("these credentials see no VM `{shown}`"))
            .hint("`vmdeploy api get /cluster/resources type=vm` lists the VMs that they see")),
        Some(_) if vmids.len() > 1 => {
            let message = format!("{} VMs are named `{shown}`: {}", vmids.len(), vmids.join(", "));
            Err(Failure::usage(message).hint("use the VMID"))
        }
        Some((vmid, node)) => {
            let is_number = number == Some(vmid);
            let label = if is_number { format!("VM {vmid}") } else { format!("VM `{shown}` ({vmid})") };
            Ok(Guest { vmid, node, label })
        }
    }
}

/// Returns the MAC addresses whose addresses are meant.
fn macs(config: &QemuConfig, args: &Args) -> Result<Vec<pve_types::MacAddr>, Failure> {
    let all = config.mac_addresses();
    let Some(wanted) = &args.nic else {
        return Ok(all.into_iter().map(|(_, mac)| mac).collect());
    };
    match all.iter().find(|(slot, _)| slot.to_string() == *wanted) {
        Some((_, mac)) => Ok(vec![*mac]),
        None => {
            let slots: Vec<String> = all.iter().map(|(slot, _)| slot.to_string()).collect();
            let shown = crate::escape::one_line(wanted);
            Err(Failure::usage(format!("the VM has no NIC `{shown}`"))
                .hint(format!("it has: {}", slots.join(", "))))
        }
    }
}

/// Asks the agent until there is an address or the time is over.
async fn ask_agent(
    vm: &Qemu,
    config: &QemuConfig,
    desired: &AddressFilter,
    patience: Duration,
    guest: &Guest,
) -> Result<FoundAddress, Failure> {
    if !config.agent_enabled() {
        return Err(Failure::new(Exit::NO_AGENT, format!("{} has no guest agent configured", guest.label))
            .hint(format!("enable it with `vmdeploy api put /nodes/{}/qemu/{}/config agent=1`, install qemu-guest-agent in the guest, and restart the VM", guest.node, guest.vmid)));
    }
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let failure = match vm.agent().network_interfaces().await {
            Ok(interfaces) => match choose_address(&interfaces, desired) {
                Some(found) => return Ok(found),
                None => Failure::new(Exit::NO_ADDRESS, format!("{} has no matching address yet", guest.label))
                    .hint("wait for it with `--wait 60`, or remove a filter"),
            },
            Err(error) => match AgentTrouble::of(&error) {
                Some(AgentTrouble::NotConfigured) => return Err(trouble(Exit::NO_AGENT, error, guest)),
                Some(AgentTrouble::VmNotRunning) => {
                    let start =
                        format!("vmdeploy api post /nodes/{}/qemu/{}/status/start", guest.node, guest.vmid);
                    trouble(Exit::AGENT_SILENT, error, guest)
                        .hint(format!("the VM is not running; `{start}` starts it"))
                }
                Some(_) => trouble(Exit::AGENT_SILENT, error, guest).hint(
                    "check that qemu-guest-agent is installed and running in the guest, or wait for it with `--wait 60`",
                ),
                None => return Err(api_client::failure(error)),
            },
        };
        if tokio::time::Instant::now() >= deadline {
            return Err(failure);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn trouble(exit: Exit, error: pve_api::ApiError, guest: &Guest) -> Failure {
    let said = error.said().unwrap_or("no answer").to_owned();
    Failure::chain(exit, &format!("the guest agent of {} does not answer", guest.label), &[&said])
}

/// Looks for the VM's MAC addresses in the neighbor table of its node.
async fn ask_neighbors(
    connections: &Connections,
    node: &NodeName,
    desired: &AddressFilter,
) -> Result<Option<FoundAddress>, String> {
    let host = connections.host(node).await.map_err(|failure| failure.to_string())?;
    let command = pve_ssh::command::files::neighbors();
    let output = host.run_to_success(&command, Duration::from_secs(20)).await;
    let output = output.map_err(|error| error.to_string())?;
    Ok(choose_neighbor(&pve_ssh::parse::neighbors(&output.stdout), desired))
}

fn print(found: &FoundAddress, json: bool) -> CommandResult {
    match json {
        true => output::print_document("found", found)?,
        false => output::print_line(&found.address.to_string()),
    }
    Ok(Exit::DONE)
}

fn parse_cidr(text: &str) -> Result<pve_api::IpNet, Failure> {
    text.parse().map_err(|_| {
        let shown = crate::escape::one_line(text);
        Failure::usage(format!("`{shown}` is not a network")).hint("write it as `10.0.0.0/8`")
    })
}
