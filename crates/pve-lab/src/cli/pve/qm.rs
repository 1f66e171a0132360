//! `qm`.

use std::time::Duration;

use pve_types::Vmid;
use serde_json::{Value, json};

use super::{Command, Invocation, Then, api, print_lines, scalar};
use crate::Params;
use crate::api::Refusal;
use crate::api::qemu::{ImportDisk, ImportedDisk, import_disk};
use crate::cli::Exit;
use crate::cli::frame::pretty;
use crate::world::{World, encode_description};

const VM: &[&str] = &["vmid"];

// PVE: qemu-server src/PVE/CLI/qm.pm cmddef
pub(super) const COMMANDS: &[Command] = &[
    Command::new("list", "GET", "/nodes/{node}/qemu", &[], Then::Print(list)),
    Command::new("create", "POST", "/nodes/{node}/qemu", VM, Then::Task),
    Command::new("destroy", "DELETE", "/nodes/{node}/qemu/{vmid}", VM, Then::Task),
    Command::new("clone", "POST", "/nodes/{node}/qemu/{vmid}/clone", &["vmid", "newid"], Then::Task),
    Command::new("migrate", "POST", "/nodes/{node}/qemu/{vmid}/migrate", &["vmid", "target"], Then::Task),
    Command::new("set", "PUT", "/nodes/{node}/qemu/{vmid}/config", VM, Then::Quiet),
    Command::new("config", "GET", "/nodes/{node}/qemu/{vmid}/config", VM, Then::Print(config)),
    Command::new("pending", "GET", "/nodes/{node}/qemu/{vmid}/pending", VM, Then::Print(pending)),
    Command::new("status", "GET", "/nodes/{node}/qemu/{vmid}/status/current", VM, Then::Own),
    Command::new("snapshot", "POST", "/nodes/{node}/qemu/{vmid}/snapshot", &["vmid", "snapname"], Then::Task),
    Command::new(
        "delsnapshot",
        "DELETE",
        "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}",
        &["vmid", "snapname"],
        Then::Task,
    ),
    Command::new(
        "rollback",
        "POST",
        "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}/rollback",
        &["vmid", "snapname"],
        Then::Task,
    ),
    Command::new("listsnapshot", "GET", "/nodes/{node}/qemu/{vmid}/snapshot", VM, Then::Print(snapshots)),
    Command::new("template", "POST", "/nodes/{node}/qemu/{vmid}/template", VM, Then::TaskWhateverItsEnd),
    Command::new("start", "POST", "/nodes/{node}/qemu/{vmid}/status/start", VM, Then::Task),
    Command::new("stop", "POST", "/nodes/{node}/qemu/{vmid}/status/stop", VM, Then::Task),
    Command::new("reset", "POST", "/nodes/{node}/qemu/{vmid}/status/reset", VM, Then::Task),
    Command::new("shutdown", "POST", "/nodes/{node}/qemu/{vmid}/status/shutdown", VM, Then::Task),
    Command::new("reboot", "POST", "/nodes/{node}/qemu/{vmid}/status/reboot", VM, Then::Task),
    Command::new("suspend", "POST", "/nodes/{node}/qemu/{vmid}/status/suspend", VM, Then::Task),
    Command::new("resume", "POST", "/nodes/{node}/qemu/{vmid}/status/resume", VM, Then::Task),
    Command::new("wait", "", "", VM, Then::Own),
    Command::new("unlock", "", "", VM, Then::Own),
    IMPORT,
    IMPORT.alias("importdisk"),
    MOVE,
    MOVE.alias("move-disk"),
    MOVE.alias("move_disk"),
    RESIZE,
    RESIZE.alias("resize"),
    RESCAN,
    RESCAN.alias("rescan"),
    UNLINK,
    UNLINK.alias("unlink"),
    AGENT,
    AGENT.alias("agent"),
    Command::new("guest exec", "", "", &["vmid", "extra-args"], Then::Own),
    Command::new(
        "guest exec-status",
        "GET",
        "/nodes/{node}/qemu/{vmid}/agent/exec-status",
        &["vmid", "pid"],
        Then::Print(agent_result),
    ),
    Command::new(
        "guest passwd",
        "POST",
        "/nodes/{node}/qemu/{vmid}/agent/set-user-password",
        &["vmid", "username"],
        Then::Quiet,
    ),
    Command::new(
        "cloudinit dump",
        "GET",
        "/nodes/{node}/qemu/{vmid}/cloudinit/dump",
        &["vmid", "type"],
        Then::Print(document),
    ),
    Command::new("cloudinit pending", "GET", "/nodes/{node}/qemu/{vmid}/cloudinit", VM, Then::Print(pending)),
    Command::new("cloudinit update", "PUT", "/nodes/{node}/qemu/{vmid}/cloudinit", VM, Then::Quiet),
];

const RESCAN: Command = Command::new("disk rescan", "", "", &[], Then::Own);
const IMPORT: Command = Command::new("disk import", "", "", &["vmid", "source", "storage"], Then::Own);
const MOVE: Command = Command::new(
    "disk move",
    "POST",
    "/nodes/{node}/qemu/{vmid}/move_disk",
    &["vmid", "disk", "[storage]"],
    Then::Task,
);
const RESIZE: Command = Command::new(
    "disk resize",
    "PUT",
    "/nodes/{node}/qemu/{vmid}/resize",
    &["vmid", "disk", "size"],
    Then::TaskWhateverItsEnd,
);
const UNLINK: Command =
    Command::new("disk unlink", "PUT", "/nodes/{node}/qemu/{vmid}/unlink", VM, Then::Quiet);
const AGENT: Command = Command::new(
    "guest cmd",
    "POST",
    "/nodes/{node}/qemu/{vmid}/agent",
    &["vmid", "command"],
    Then::Print(agent_result),
);

// ---- what is printed

fn number(value: &Value) -> f64 {
    value.as_f64().or_else(|| value.as_str().and_then(|text| text.parse().ok())).unwrap_or(0.0)
}

fn list(data: &Value) -> String {
    let mut guests: Vec<&Value> = data.as_array().map(|all| all.iter().collect()).unwrap_or_default();
    if guests.is_empty() {
        return String::new();
    }
    guests.sort_by_key(|guest| number(&guest["vmid"]) as u64);
    let mut text = format!(
        "{:>10} {:<20} {:<10} {:<10} {:>12} {:<10}\n",
        "VMID", "NAME", "STATUS", "MEM(MB)", "BOOTDISK(GB)", "PID"
    );
    for guest in guests {
        let status = if guest["qmpstatus"].is_null() { &guest["status"] } else { &guest["qmpstatus"] };
        text.push_str(&format!(
            "{:>10} {:<20} {:<10} {:<10} {:>12.2} {:<10}\n",
            scalar(&guest["vmid"]),
            scalar(&guest["name"]),
            scalar(status),
            (number(&guest["maxmem"]) / 1_048_576.0) as u64,
            number(&guest["maxdisk"]) / 1_073_741_824.0,
            number(&guest["pid"]) as u64,
        ));
    }
    text
}

/// A configuration value on one line.
fn one_line(key: &str, value: &Value) -> String {
    let text = scalar(value);
    if key == "description" { encode_description(&text) } else { text }
}

fn config(data: &Value) -> String {
    let Some(all) = data.as_object() else { return String::new() };
    let lines = all
        .iter()
        .filter(|(key, _)| *key != "digest")
        .map(|(key, value)| format!("{key}: {}\n", one_line(key, value)));
    lines.collect()
}

fn pending(data: &Value) -> String {
    let mut items: Vec<&Value> = data.as_array().map(|all| all.iter().collect()).unwrap_or_default();
    items.sort_by_key(|item| scalar(&item["key"]));
    let mut text = String::new();
    for item in items {
        let key = scalar(&item["key"]);
        if key == "digest" || key.is_empty() {
            continue;
        }
        let (current, new) = (&item["value"], &item["pending"]);
        let line = |sign: &str, value: &Value| format!("{sign} {key}: {}\n", one_line(&key, value));
        let is_deleted = !item["delete"].is_null() && number(&item["delete"]) != 0.0;
        match (current.is_null(), new.is_null()) {
            (false, _) if is_deleted => text.push_str(&line("del", current)),
            (false, true) => text.push_str(&line("cur", current)),
            (false, false) => text.push_str(&(line("cur", current) + &line("new", new))),
            (true, false) => text.push_str(&line("new", new)),
            (true, true) => {}
        }
    }
    text
}

// PVE: pve-guest-common src/PVE/GuestHelpers.pm print_snapshot_tree
fn snapshots(data: &Value) -> String {
    let all: Vec<&Value> = data.as_array().map(|all| all.iter().collect()).unwrap_or_default();
    let mut text = String::new();
    let children = |parent: &str| {
        let mut found: Vec<&Value> =
            all.iter().filter(|snapshot| scalar(&snapshot["parent"]) == parent).copied().collect();
        found.sort_by_key(|snapshot| number(&snapshot["snaptime"]) as u64);
        found
    };
    let mut waiting: Vec<(&Value, usize)> =
        children("").into_iter().rev().map(|snapshot| (snapshot, 0)).collect();
    while let Some((snapshot, depth)) = waiting.pop() {
        let name = scalar(&snapshot["name"]);
        let prefix = format!("{}`->", " ".repeat(depth));
        let time = if snapshot["snaptime"].is_null() {
            String::new()
        } else {
            crate::cli::utc(number(&snapshot["snaptime"]) as u64)
        };
        let description = snapshot["description"]
            .as_str()
            .and_then(|text| text.lines().next())
            .filter(|text| !text.is_empty())
            .unwrap_or("no-description");
        let width = 30_usize.saturating_sub(prefix.len());
        text.push_str(&format!("{prefix} {name:<width$} {time:<23} {description}\n"));
        if name != "current" && depth < 100 {
            waiting.extend(children(&name).into_iter().rev().map(|snapshot| (snapshot, depth + 1)));
        }
    }
    text
}

// PVE: qemu-server src/PVE/CLI/qm.pm print_agent_result
fn agent_result(data: &Value) -> String {
    let result = if data["result"].is_null() { data } else { &data["result"] };
    match result {
        Value::Null => String::new(),
        Value::Object(entries) if entries.is_empty() => String::new(),
        Value::Object(_) | Value::Array(_) => pretty(result),
        value => {
            let text = scalar(value);
            if text.trim().is_empty() { String::new() } else { format!("{}\n", text.trim_end_matches('\n')) }
        }
    }
}

// PVE: qemu-server src/PVE/CLI/qm.pm ends the document, which ends its last line, with a line of its own.
fn document(data: &Value) -> String {
    format!("{}\n", scalar(data))
}

// ---- commands of qm's own

fn text(params: &Params, name: &str) -> Option<String> {
    params.get(name).map(scalar)
}

pub(super) async fn own(invocation: &Invocation<'_>, params: Params) -> Exit {
    if invocation.command.shown == "disk rescan" && !params.contains_key("vmid") {
        return rescan(invocation, None, &params).await;
    }
    let vmid_text = text(&params, "vmid").unwrap_or_default();
    let vmid: Vmid = match vmid_text.parse() {
        Ok(vmid) => vmid,
        Err(_) => {
            let is_number = vmid_text.parse::<i64>().is_ok();
            let why = if is_number {
                "value must have a minimum value of 100".to_owned()
            } else {
                format!("type check ('integer') failed - got '{vmid_text}'")
            };
            let why = if is_number && vmid_text.len() > 9 {
                "value must have a maximum value of 999999999".to_owned()
            } else {
                why
            };
            return invocation.refused(&Refusal::parameter("vmid", why)).await;
        }
    };
    match invocation.command.shown {
        "disk import" => import(invocation, vmid, &params).await,
        "status" => status(invocation, vmid, &params).await,
        "unlock" => unlock(invocation, vmid).await,
        "disk rescan" => rescan(invocation, Some(vmid), &params).await,
        "wait" => wait(invocation, vmid, &params).await,
        _ => guest_exec(invocation, vmid, &params).await,
    }
}

async fn status(invocation: &Invocation<'_>, vmid: Vmid, params: &Params) -> Exit {
    let context = invocation.context;
    let path = format!("/nodes/{}/qemu/{vmid}/status/current", context.node.name);
    let data = match api(context, "GET", &path, &Params::new()).await {
        Ok(reply) => reply.data,
        Err(refusal) => return invocation.refused(&refusal).await,
    };
    if text(params, "verbose").as_deref() == Some("1") {
        return context.print(verbose(&data, 0)).await.map(|()| 0);
    }
    let state = if data["qmpstatus"].is_null() { &data["status"] } else { &data["qmpstatus"] };
    context.line(format!("status: {}", scalar(state))).await.map(|()| 0)
}

fn verbose(data: &Value, depth: usize) -> String {
    let tabs = "\t".repeat(depth);
    let entries: Vec<(String, &Value)> = match data {
        Value::Object(entries) => entries.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    let line = |(key, value): (String, &Value)| match value {
        Value::Object(_) | Value::Array(_) => format!("{tabs}{key}:\n{}", verbose(value, depth + 1)),
        value => format!("{tabs}{key}: {}\n", scalar(value)),
    };
    entries.into_iter().map(line).collect()
}

fn missing(node: &str, vmid: Vmid) -> Refusal {
    Refusal::died(format!("Configuration file 'nodes/{node}/qemu-server/{vmid}.conf' does not exist"))
}

/// Tells whether the VM is on the node.
fn is_here(world: &World, node: &str, vmid: Vmid) -> bool {
    world
        .guests
        .get(&vmid)
        .is_some_and(|guest| guest.node == node && guest.kind == crate::world::GuestKind::Qemu)
}

async fn rescan(invocation: &Invocation<'_>, vmid: Option<Vmid>, params: &Params) -> Exit {
    let node = &invocation.context.node;
    let dry_run = text(params, "dryrun").as_deref() == Some("1");
    if let Some(vmid) = vmid.filter(|vmid| !node.world.with(|world| is_here(world, &node.name, *vmid))) {
        invocation.context.line("rescan volumes...").await?;
        return invocation.refused(&missing(&node.name, vmid)).await;
    }
    match node.world.with(|world| super::rescan::rescan(world, &node.name, vmid, dry_run)) {
        Ok(lines) => {
            print_lines(invocation.context, &lines).await?;
            Ok(0)
        }
        Err(text) => invocation.refused(&Refusal::died(text)).await,
    }
}

async fn unlock(invocation: &Invocation<'_>, vmid: Vmid) -> Exit {
    let node = &invocation.context.node;
    let done = node.world.with(|world| {
        if !is_here(world, &node.name, vmid) {
            return Err(missing(&node.name, vmid));
        }
        if let Some(guest) = world.guests.get_mut(&vmid) {
            guest.config.remove("lock");
        }
        world.touch();
        Ok(())
    });
    match done {
        Ok(()) => Ok(0),
        Err(refusal) => invocation.refused(&refusal).await,
    }
}

async fn wait(invocation: &Invocation<'_>, vmid: Vmid, params: &Params) -> Exit {
    let node = &invocation.context.node;
    let pid = node.world.with(|world| {
        world.guests.get(&vmid).and_then(|guest| match guest.power {
            crate::world::Power::Running { pid, .. } => Some(pid),
            crate::world::Power::Stopped => None,
        })
    });
    let Some(pid) = pid else { return Ok(0) };
    invocation.context.line(format!("waiting until VM {vmid} stops (PID {pid})")).await?;
    let limit = text(params, "timeout")
        .and_then(|seconds| seconds.parse().ok())
        .map_or(Duration::from_secs(86_400), Duration::from_secs);
    let stopped = |world: &mut World| {
        (!world.guests.get(&vmid).is_some_and(crate::world::Guest::is_running)).then_some(())
    };
    match node.world.wait_until(limit, stopped).await {
        Some(()) => Ok(0),
        None => invocation.context.fail(255, "wait failed - got timeout").await,
    }
}

async fn import(invocation: &Invocation<'_>, vmid: Vmid, params: &Params) -> Exit {
    let context = invocation.context;
    let asked = ImportDisk {
        vmid,
        source: text(params, "source").unwrap_or_default(),
        storage: text(params, "storage").unwrap_or_default(),
        format: text(params, "format"),
        target: text(params, "target-disk"),
    };
    if let Some(format) = asked.format.as_deref().filter(|format| !["raw", "qcow2", "vmdk"].contains(format))
    {
        let why = format!("value '{format}' does not have a value in the enumeration 'raw, qcow2, vmdk'");
        return invocation.refused(&Refusal::parameter("format", why)).await;
    }
    let (done, kept) = context.node.world.with(|world| begin_import(world, &context.node.name, &asked));
    // Warnings come before the copy, a refusal at the end.
    let (refusal, warnings) = match (done.done, done.stderr.split_last()) {
        (false, Some((last, before))) => (Some(last.clone()), before),
        _ => (None, done.stderr.as_slice()),
    };
    for warning in warnings {
        context.complain(warning).await?;
    }
    for (at, line) in done.stdout.iter().enumerate() {
        if let Some(pause) = done.pauses.get(&at) {
            context.node.world.pause(Duration::from_millis(*pause)).await;
        }
        context.line(line).await?;
    }
    let refusal = match (refusal, kept) {
        (None, Some((slot, volume))) => {
            match context
                .node
                .world
                .with(|world| end_import(world, &context.node.name, &asked, &slot, &volume))
            {
                Ok(line) => return context.line(line).await.map(|()| 0),
                Err(text) => text,
            }
        }
        (refusal, _) => refusal.unwrap_or_default(),
    };
    match refusal.strip_prefix("400 ") {
        Some(text) => invocation.refused(&Refusal::new(400, text)).await,
        None => invocation.refused(&Refusal::died(refusal)).await,
    }
}

/// Makes and fills the volume. Its entry in the configuration waits for the end of the copy, so that an import that
/// is ended midway leaves what it leaves on a node: a volume that nothing names.
fn begin_import(
    world: &mut World,
    node: &str,
    asked: &ImportDisk,
) -> (ImportedDisk, Option<(String, String)>) {
    let config =
        |world: &World| world.guests.get(&asked.vmid).map(|guest| guest.config.clone()).unwrap_or_default();
    let before = config(world);
    let mut done = import_disk(world, node, asked);
    if !done.done {
        return (done, None);
    }
    let made = config(world).into_iter().find(|(key, value)| before.get(key) != Some(value));
    if let (Some(_), Some(guest)) = (&made, world.guests.get_mut(&asked.vmid)) {
        guest.config = before;
        done.stdout.pop();
    }
    (done, made)
}

/// Enters the filled volume in the configuration, and returns what is said of it.
fn end_import(
    world: &mut World,
    node: &str,
    asked: &ImportDisk,
    slot: &str,
    volume: &str,
) -> Result<String, String> {
    let version = world.version;
    let Some(guest) = world.guests.get_mut(&asked.vmid) else {
        return Err(missing(node, asked.vmid).message);
    };
    let free = |config: &crate::world::Config| {
        (0..256).map(|number| format!("unused{number}")).find(|key| !config.contains_key(key))
    };
    let slot = match (&asked.target, guest.config.contains_key(slot)) {
        (_, false) => Some(slot.to_owned()),
        (None, true) => free(&guest.config),
        (Some(_), true) => None,
    };
    let Some(slot) = slot else {
        let _ = world.free_volume(node, volume);
        return Err(match &asked.target {
            Some(target) => format!("cowardly refusing to overwrite existing entry: {target}"),
            None => "Too many unused volumes - please delete them first.".to_owned(),
        });
    };
    guest.config.insert(slot.clone(), volume.to_owned());
    world.touch();
    // PVE: the text changed with qemu-server 8.2.7, PVE 8.3.
    Ok(if version.at_least(8, 3) {
        format!("{slot}: successfully imported disk '{volume}'")
    } else {
        format!("Successfully imported disk as '{slot}:{volume}'")
    })
}

/// `qm guest exec`: runs a command through the agent and waits for its end.
async fn guest_exec(invocation: &Invocation<'_>, vmid: Vmid, params: &Params) -> Exit {
    let context = invocation.context;
    let base = format!("/nodes/{}/qemu/{vmid}/agent", context.node.name);
    let mut asked =
        Params::from([("command".to_owned(), params.get("extra-args").cloned().unwrap_or_default())]);
    if text(params, "pass-stdin").as_deref() == Some("1") {
        let input = context.read_all(1 << 20).await;
        asked.insert("input-data".into(), String::from_utf8_lossy(&input).into());
    }
    let started = match api(context, "POST", &format!("{base}/exec"), &asked).await {
        Ok(reply) => reply,
        Err(refusal) => return invocation.refused(&refusal).await,
    };
    print_lines(context, &started.output).await?;
    let pid = scalar(&started.data["pid"]);
    if text(params, "synchronous").as_deref() == Some("0") {
        return context.print(pretty(&json!({"pid": started.data["pid"]}))).await.map(|()| 0);
    }
    let limit = text(params, "timeout").and_then(|seconds| seconds.parse().ok()).unwrap_or(30);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(limit);
    loop {
        let asked = Params::from([("pid".to_owned(), Value::from(pid.clone()))]);
        match api(context, "GET", &format!("{base}/exec-status"), &asked).await {
            Err(refusal) => return invocation.refused(&refusal).await,
            Ok(reply) if number(&reply.data["exited"]) != 0.0 => {
                return context.print(pretty(&reply.data)).await.map(|()| 0);
            }
            Ok(_) if tokio::time::Instant::now() >= deadline && limit > 0 => {
                context.complain("timeout reached, returning pid").await?;
                return context.print(pretty(&json!({"pid": started.data["pid"]}))).await.map(|()| 0);
            }
            Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_in_columns_and_empty_ones_are_nothing() {
        assert_eq!(list(&json!([])), "");
        let guests = json!([
            {"vmid": 200, "name": "ceph1", "status": "stopped", "maxmem": 1_073_741_824_u64, "maxdisk": 167_772_160, "pid": null},
            {"vmid": 9, "name": "x", "status": "running", "maxmem": 536_870_912, "maxdisk": 0, "pid": 77},
        ]);
        let text = list(&guests);
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(lines[0], "      VMID NAME                 STATUS     MEM(MB)    BOOTDISK(GB) PID");
        assert_eq!(lines[1], "         9 x                    running    512                0.00 77");
        assert_eq!(lines[2], "       200 ceph1                stopped    1024               0.16 0");
    }

    #[test]
    fn pending_values_are_current_new_or_deleted() {
        let items = json!([
            {"key": "cores", "value": 2, "pending": 4},
            {"key": "balloon", "value": 0, "delete": 1},
            {"key": "name", "pending": "x"},
            {"key": "digest", "value": "ab"},
        ]);
        assert_eq!(pending(&items), "del balloon: 0\ncur cores: 2\nnew cores: 4\nnew name: x\n");
    }
}
