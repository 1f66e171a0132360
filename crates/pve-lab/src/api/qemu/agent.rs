//! The guest agent, through the API.

use serde_json::{Value, json};

use super::config::guest;
use crate::api::{Call, Methods, Params, Refusal};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/nodes/{node}/qemu/{vmid}/agent", index),
    ("POST", "/nodes/{node}/qemu/{vmid}/agent", any),
    ("POST", "/nodes/{node}/qemu/{vmid}/agent/exec", |call| plain(call, "exec")),
    ("GET", "/nodes/{node}/qemu/{vmid}/agent/exec-status", |call| plain(call, "exec-status")),
    ("GET", "/nodes/{node}/qemu/{vmid}/agent/file-read", |call| plain(call, "file-read")),
    ("POST", "/nodes/{node}/qemu/{vmid}/agent/file-write", |call| plain(call, "file-write")),
    ("POST", "/nodes/{node}/qemu/{vmid}/agent/set-user-password", |call| simple(call, "set-user-password")),
    ("POST", "/nodes/{node}/qemu/{vmid}/agent/fsfreeze-freeze", |call| simple(call, "fsfreeze-freeze")),
    ("POST", "/nodes/{node}/qemu/{vmid}/agent/fsfreeze-status", |call| simple(call, "fsfreeze-status")),
    ("POST", "/nodes/{node}/qemu/{vmid}/agent/fsfreeze-thaw", |call| simple(call, "fsfreeze-thaw")),
    ("POST", "/nodes/{node}/qemu/{vmid}/agent/fstrim", |call| simple(call, "fstrim")),
    ("GET", "/nodes/{node}/qemu/{vmid}/agent/get-fsinfo", |call| simple(call, "get-fsinfo")),
    ("GET", "/nodes/{node}/qemu/{vmid}/agent/get-host-name", |call| simple(call, "get-host-name")),
    ("GET", "/nodes/{node}/qemu/{vmid}/agent/get-memory-block-info", |call| {
        simple(call, "get-memory-block-info")
    }),
    ("GET", "/nodes/{node}/qemu/{vmid}/agent/get-memory-blocks", |call| simple(call, "get-memory-blocks")),
    ("GET", "/nodes/{node}/qemu/{vmid}/agent/get-osinfo", |call| simple(call, "get-osinfo")),
    ("GET", "/nodes/{node}/qemu/{vmid}/agent/get-time", |call| simple(call, "get-time")),
    ("GET", "/nodes/{node}/qemu/{vmid}/agent/get-timezone", |call| simple(call, "get-timezone")),
    ("GET", "/nodes/{node}/qemu/{vmid}/agent/get-users", |call| simple(call, "get-users")),
    ("GET", "/nodes/{node}/qemu/{vmid}/agent/get-vcpus", |call| simple(call, "get-vcpus")),
    ("GET", "/nodes/{node}/qemu/{vmid}/agent/info", |call| simple(call, "info")),
    ("GET", "/nodes/{node}/qemu/{vmid}/agent/network-get-interfaces", |call| {
        simple(call, "network-get-interfaces")
    }),
    ("POST", "/nodes/{node}/qemu/{vmid}/agent/ping", |call| simple(call, "ping")),
    ("POST", "/nodes/{node}/qemu/{vmid}/agent/shutdown", |call| simple(call, "shutdown")),
    ("POST", "/nodes/{node}/qemu/{vmid}/agent/suspend-disk", |call| simple(call, "suspend-disk")),
    ("POST", "/nodes/{node}/qemu/{vmid}/agent/suspend-hybrid", |call| simple(call, "suspend-hybrid")),
    ("POST", "/nodes/{node}/qemu/{vmid}/agent/suspend-ram", |call| simple(call, "suspend-ram")),
];

fn index(_: &mut Call<'_>) -> Result<Value, Refusal> {
    let names = METHODS.iter().filter_map(|(_, path, _)| path.rsplit_once("/agent/").map(|(_, name)| name));
    Ok(names.map(|name| json!({ "subdir": name, "name": name })).collect())
}

/// The checks that come before any command, in PVE's order: configuration, agent option, power, ping.
// PVE: qemu-server src/PVE/QemuServer/Agent.pm assert_agent_available
fn available(call: &Call<'_>, command: &str) -> Result<(), Refusal> {
    let (node, vmid) = (call.node(), call.vmid()?);
    let guest = guest(call.world, &node, vmid)?;
    // PVE: qemu-server src/PVE/API2/Qemu/Agent.pm: these ask whether the VM runs before anything else.
    if matches!(command, "exec" | "exec-status" | "file-read" | "file-write") && !guest.is_running() {
        return Err(Refusal::died(format!("VM {vmid} is not running")));
    }
    if !guest.config.contains_key("agent") {
        return Err(Refusal::died("No QEMU guest agent configured"));
    }
    if !guest.is_running() {
        return Err(Refusal::died(format!("VM {vmid} is not running")));
    }
    match crate::guest::agent_answers(call.world, vmid) {
        true => Ok(()),
        false => Err(Refusal::died("QEMU guest agent is not running")),
    }
}

fn run(call: &mut Call<'_>, command: &str) -> Result<Value, Refusal> {
    available(call, command)?;
    let vmid = call.vmid()?;
    let params: Params = call.params.clone();
    let answer = crate::guest::agent_command(call.world, vmid, command, &params)?;
    if command == "shutdown" {
        let takes = crate::guest::shutdown_duration(call.world, vmid);
        if let Some(takes) = takes {
            call.world.after(takes, Box::new(move |world| super::power::switch_off(world, vmid)));
        }
    }
    Ok(answer)
}

fn simple(call: &mut Call<'_>, command: &str) -> Result<Value, Refusal> {
    Ok(json!({ "result": run(call, command)? }))
}

fn plain(call: &mut Call<'_>, command: &str) -> Result<Value, Refusal> {
    run(call, command)
}

fn any(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let command = call.string("command");
    simple(call, &command)
}
