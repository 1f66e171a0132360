//! JSON, `/etc/hosts`, ssh_config and Prometheus.

use super::Inventory;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Returns the JSON form, for programs.
pub(super) fn json(inventory: &Inventory) -> String {
    let text = pve_types::escape_json(
        &serde_json::to_string_pretty(inventory).expect("an inventory is made of texts and numbers"),
    );
    format!("{text}\n")
}

/// Returns lines for `/etc/hosts`.
pub(super) fn hosts(inventory: &Inventory) -> String {
    let line = |host: &super::Host| format!("{:<15} {}\n", host.address.to_string(), host.name);
    inventory.hosts.iter().map(line).collect()
}

/// Returns Host blocks for ssh. The name stands as `HostKeyAlias`, so that a changed address is no new host.
pub(super) fn ssh_config(inventory: &Inventory) -> String {
    let mut blocks = Vec::new();
    for host in &inventory.hosts {
        let mut block = format!("Host {}\n    HostName {}\n", host.name, host.address);
        if let Some(user) = &host.user {
            let _ = writeln!(block, "    User {user}");
        }
        let _ = writeln!(block, "    HostKeyAlias {}", host.name);
        blocks.push(block);
    }
    blocks.join("\n")
}

/// Returns targets for Prometheus' file discovery; the node exporter's port is the usual one.
pub(super) fn prometheus(inventory: &Inventory) -> String {
    let targets: Vec<Value> = inventory
        .hosts
        .iter()
        .map(|host| {
            let target = std::net::SocketAddr::new(host.address, NODE_EXPORTER_PORT).to_string();
            let groups: Vec<&str> = host.groups.iter().map(String::as_str).collect();
            json!({
                "targets": [target],
                "labels": { "vm": host.name, "project": inventory.project, "groups": format!(",{},", groups.join(",")) },
            })
        })
        .collect();
    format!("{:#}\n", Value::Array(targets))
}

const NODE_EXPORTER_PORT: u16 = 9100;
