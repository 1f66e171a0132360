//! `ha-manager`, `pct`, `pveversion`.

use super::{Command, Then};
use crate::cli::{Context, Exit};

const SID: &[&str] = &["sid"];

// PVE: pve-ha-manager src/PVE/CLI/ha_manager.pm
pub(super) const HA_COMMANDS: &[Command] = &[
    Command::new("add", "POST", "/cluster/ha/resources", SID, Then::Quiet),
    Command::new("set", "PUT", "/cluster/ha/resources/{sid}", SID, Then::Quiet),
    Command::new("remove", "DELETE", "/cluster/ha/resources/{sid}", SID, Then::Quiet),
    Command::new("config", "GET", "/cluster/ha/resources", &[], Then::Format),
    Command::new("status", "GET", "/cluster/ha/status/current", &[], Then::Format),
    Command::new("groupadd", "POST", "/cluster/ha/groups", &["group"], Then::Quiet),
    Command::new("groupset", "PUT", "/cluster/ha/groups/{group}", &["group"], Then::Quiet),
    Command::new("groupremove", "DELETE", "/cluster/ha/groups/{group}", &["group"], Then::Quiet),
    Command::new("groupconfig", "GET", "/cluster/ha/groups", &[], Then::Format),
    Command::new("rules add", "POST", "/cluster/ha/rules", &["type", "rule"], Then::Quiet),
    Command::new("rules set", "PUT", "/cluster/ha/rules/{rule}", &["type", "rule"], Then::Quiet),
    Command::new("rules remove", "DELETE", "/cluster/ha/rules/{rule}", &["rule"], Then::Quiet),
    Command::new("rules list", "GET", "/cluster/ha/rules", &[], Then::Format),
];

/// `pct status`: containers are there to be in the way, and no more.
pub(super) async fn pct(context: &Context, words: &[String]) -> Exit {
    let (command, rest) = match words.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => {
            return context
                .fail(255, "ERROR: no command specified\nUSAGE: pct <COMMAND> [ARGS] [OPTIONS]")
                .await;
        }
    };
    let node = &context.node.name;
    match (command, rest) {
        ("status", []) => context.fail(255, "400 not enough arguments\npct status <vmid> [OPTIONS]").await,
        ("status", [vmid, ..]) => {
            let state = context.node.world.with(|world| {
                let guest = world.guests.get(&vmid.parse().ok()?)?;
                let is_here = guest.node == *node && guest.kind == crate::world::GuestKind::Lxc;
                is_here.then(|| if guest.is_running() { "running" } else { "stopped" })
            });
            match state {
                Some(state) => context.line(format!("status: {state}")).await.map(|()| 0),
                None => context.fail(2, format!("Configuration file 'nodes/{node}/lxc/{vmid}.conf' does not exist")).await,
            }
        }
        ("list", _) => {
            let rows = context.node.world.with(|world| {
                let here = world.guests.values().filter(|guest| guest.node == *node && guest.kind == crate::world::GuestKind::Lxc);
                here.map(|guest| {
                    let state = if guest.is_running() { "running" } else { "stopped" };
                    format!("{:<10} {state:<10} {:<12} {}", guest.vmid, "", guest.display_name())
                })
                .collect::<Vec<_>>()
            });
            if rows.is_empty() {
                return Ok(0);
            }
            context.line(format!("{:<10} {:<10} {:<12} {}", "VMID", "Status", "Lock", "Name")).await?;
            super::print_lines(context, &rows).await?;
            Ok(0)
        }
        _ => context.fail(255, format!("ERROR: unknown command 'pct {command}' (the lab has `pct status` and `pct list`)\nUSAGE: pct <COMMAND> [ARGS] [OPTIONS]")).await,
    }
}

pub(super) async fn pveversion(context: &Context) -> Exit {
    let (version, kernel) = context.node.world.with(|world| {
        (
            world.version.to_string(),
            if world.version.at_least(9, 0) { "6.17.4-2-pve" } else { "6.8.12-17-pve" },
        )
    });
    context
        .line(format!("pve-manager/{version}/5ac30304265fd256 (running kernel: {kernel})"))
        .await
        .map(|()| 0)
}
