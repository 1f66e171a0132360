//! `vmdeploy migrate`: a VM to another node, because a person says so. A deployment never migrates.

use super::power::target::{self, Target};
use crate::api_client;
use crate::confirm::confirm;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::fleet::Selection;
use crate::output;
use crate::planning::PlanArgs;
use pve_api::{Migrate, MigrateConditions, Qemu, ResourceKind, Wait};
use pve_types::{GuestName, NodeName, StorageId, Vmid};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;
use vmdeploy_executor::Connections;

/// How long after its task a guest may take to be listed on the other node: high availability migrates on its own.
const SETTLE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(500);

/// Migrates a VM to another node: online if it is running, with its local disks. Prints the migration first, and asks.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VM
    #[arg(value_name = "VM")]
    vm: GuestName,
    /// The node to migrate it to
    #[arg(value_name = "NODE")]
    node: NodeName,
    /// Spec file or folder; else VMDEPLOY_SPEC; without any, the VM is found by its ownership marker
    #[arg(long = "spec", value_name = "SPEC")]
    specs: Vec<PathBuf>,
    /// The storage on that node for local disks [default: the storage of the same name]
    #[arg(long, value_name = "STORAGE")]
    target_storage: Option<StorageId>,
    /// Time limit of the migration, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 7_200)]
    timeout: u64,
    /// Only print what would be done
    #[arg(long)]
    plan_only: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

/// What is done.
struct Planned {
    from: NodeName,
    vmid: Vmid,
    how: Migrate,
    local_disks: Vec<String>,
}

/// Migrates.
///
/// # Errors
/// The VM is not there, the node does not take it, or the migration fails.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let selection = Selection { target: vec![args.vm.clone()], ..Selection::default() };
    let (connections, targets) = target::find(&args.specs, &selection, &PlanArgs::default(), context).await?;
    let exit = migrate(args, &targets, &connections).await;
    connections.close().await;
    exit
}

async fn migrate(args: &Args, targets: &[Target], connections: &Connections) -> CommandResult {
    let [found] = targets else {
        return Err(Failure::usage(format!("`{}` is a group, and one VM is migrated at a time", args.vm))
            .hint("name one of its members"));
    };
    let Some((from, vmid)) = found.place.clone() else {
        return Err(Failure::new(
            Exit::OBSERVED,
            format!("`{}` has no guest that could be migrated", args.vm),
        ));
    };
    if from == args.node {
        output::say(&format!("{} (VM {vmid}) is on {from} already", args.vm));
        return Ok(Exit::DONE);
    }
    let qemu = connections.api().node(&from).qemu(vmid);
    let conditions = qemu.migrate_conditions().await.map_err(api_client::failure)?;
    let planned = planned(args, (from, vmid), &conditions)?;
    output::write_stderr(&text(args, &planned));
    if args.plan_only {
        return Ok(Exit::DONE);
    }
    if !confirm(args.yes, &format!("migrate {} to {}", args.vm, args.node), "`--yes`")? {
        return Ok(Exit::USAGE);
    }
    carry_out(args, &planned, &qemu, connections).await?;
    output::say(&format!("{} (VM {vmid}) is on {} now", args.vm, args.node));
    output::say(&format!("hint: write `node: {}` in its spec; a deployment moves no VM back", args.node));
    Ok(Exit::DONE)
}

fn planned(args: &Args, (from, vmid): (NodeName, Vmid), now: &MigrateConditions) -> Result<Planned, Failure> {
    let refused = |why: String| {
        Failure::new(
            Exit::OBSERVED,
            format!("{} (VM {vmid}) cannot be migrated to {}: {why}", args.vm, args.node),
        )
    };
    if !now.local_resources.is_empty() {
        let list: Vec<String> =
            now.local_resources.iter().map(|resource| crate::escape::one_line(resource)).collect();
        return Err(refused(format!("it uses devices of {from}: {}", list.join(", ")))
            .hint("use a resource mapping, or take the device out of the spec"));
    }
    if let Some(allowed) = now.allowed_nodes.as_ref().filter(|_| !now.running)
        && !allowed.contains(&args.node)
    {
        let list: Vec<&str> = allowed.iter().map(NodeName::as_str).collect();
        let list = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        return Err(refused(format!("{from} says that these nodes take it: {list}"))
            .hint("`--target-storage STORAGE` names a storage that the other node has"));
    }
    let disks = now.local_disks.iter().filter(|disk| !disk.cdrom);
    let local_disks: Vec<String> = disks.map(|disk| crate::escape::one_line(&disk.volid)).collect();
    let how = Migrate {
        target: args.node.clone(),
        online: now.running,
        with_local_disks: !local_disks.is_empty(),
        target_storage: args.target_storage.clone(),
    };
    Ok(Planned { from, vmid, how, local_disks })
}

fn text(args: &Args, planned: &Planned) -> String {
    let Planned { from, vmid, how, local_disks } = planned;
    let online = if how.online { "online: the guest runs on" } else { "offline: the guest does not run" };
    let mut text =
        format!("Plan: migrate {} (VM {vmid}) from {from} to {}\n  {online}\n", args.vm, args.node);
    let to =
        args.target_storage.as_ref().map_or("the storage of the same name".to_owned(), ToString::to_string);
    for disk in local_disks {
        // Writing to a String does not fail.
        let _ = writeln!(text, "  copy {disk} to {to}, then delete it on {from}");
    }
    if local_disks.is_empty() {
        text.push_str("  all disks are on shared storage: nothing is copied\n");
    }
    text
}

async fn carry_out(
    args: &Args,
    planned: &Planned,
    qemu: &Qemu,
    connections: &Connections,
) -> Result<(), Failure> {
    let task = qemu.migrate(&planned.how).await.map_err(api_client::failure)?;
    let limit = Duration::from_secs(args.timeout);
    let finished = task.wait(Wait::at_most(limit)).await.map_err(api_client::failure)?;
    finished.warnings.iter().for_each(|warning| {
        output::say(&format!("warning: {}", crate::escape::one_line(warning)));
    });
    let until = Instant::now() + SETTLE;
    loop {
        let resources = connections.api().cluster().resources(Some(ResourceKind::Guests)).await;
        let resources = resources.map_err(api_client::failure)?;
        let there = resources.into_iter().find(|resource| resource.vmid == Some(planned.vmid));
        if there.and_then(|resource| resource.node).as_ref() == Some(&args.node) {
            return Ok(());
        }
        if Instant::now() >= until {
            let text = format!(
                "the task of VM {} ended, and the cluster does not list it on {}",
                planned.vmid, args.node
            );
            return Err(Failure::new(Exit::FAILED_LEFT, text)
                .hint("`vmdeploy status` shows where it is; high availability may move it later"));
        }
        tokio::time::sleep(POLL).await;
    }
}
