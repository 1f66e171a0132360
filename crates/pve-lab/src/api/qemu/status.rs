//! What VMs are doing.

use pve_types::{Bytes, Privilege, Vmid};
use serde_json::{Value, json};

use super::config::{guest, json_value};
use super::drive::{Drive, drives, is_slot, place};
use super::numbers::{memory, number};
use crate::api::{Call, Methods, Refusal};
use crate::world::{Guest, GuestKind, Power, World};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/nodes/{node}/qemu", list),
    ("GET", "/nodes/{node}/qemu/{vmid}", index),
    ("GET", "/nodes/{node}/qemu/{vmid}/status/current", current),
    ("GET", "/nodes/{node}/qemu/{vmid}/feature", feature),
    ("POST", "/nodes/{node}/qemu/{vmid}/monitor", monitor),
    ("GET", "/nodes/{node}/lxc", list_containers),
    ("GET", "/nodes/{node}/lxc/{vmid}", index_container),
    ("GET", "/nodes/{node}/lxc/{vmid}/config", container_config),
    ("GET", "/nodes/{node}/lxc/{vmid}/status/current", container_status),
];

/// A guest's CPUs, no more than the node has.
pub fn cpus(world: &World, guest: &Guest) -> u64 {
    let of_node = world.nodes.get(&guest.node).map_or(u64::MAX, |node| u64::from(node.spec.cpus));
    match guest.kind {
        GuestKind::Lxc => number(&guest.config, "cores", of_node),
        GuestKind::Qemu => {
            let all = number(&guest.config, "cores", 1) * number(&guest.config, "sockets", 1);
            match guest.config.get("vcpus").and_then(|text| text.parse().ok()) {
                Some(vcpus) => vcpus,
                None => all.min(of_node),
            }
        }
    }
}

/// The size of the disk a guest boots from, in bytes.
pub fn boot_disk_size(guest: &Guest) -> u64 {
    let size_of = |value: &str| {
        let size = value.split(',').find_map(|part| part.strip_prefix("size="));
        size.and_then(|size| Bytes::from_pve_size(size).ok()).map_or(0, Bytes::get)
    };
    if guest.kind == GuestKind::Lxc {
        return guest.config.get("rootfs").map_or(0, |value| size_of(value));
    }
    let is_cdrom =
        |value: &str| value.split(',').any(|part| matches!(part, "media=cdrom" | "cdrom" | "file=cdrom"));
    let disk = |slot: &str| guest.config.get(slot).filter(|value| is_slot(slot) && !is_cdrom(value));
    let first = match guest.config.get("boot") {
        Some(boot) => boot.strip_prefix("order=").and_then(|order| order.split(';').find_map(disk)),
        None => {
            let boots = |slot: &&String| !slot.starts_with("efidisk") && !slot.starts_with("tpm");
            let disks = guest.config.keys().filter(boots).filter(|slot| disk(slot).is_some());
            disks.min_by_key(|slot| place(slot)).and_then(|slot| disk(slot))
        }
    };
    first.map_or(0, |value| size_of(value))
}

/// Seconds since the guest was switched on.
pub fn uptime(world: &World, guest: &Guest) -> u64 {
    match guest.power {
        Power::Running { since, .. } => (world.now().saturating_sub(since)) / 1_000_000,
        Power::Stopped => 0,
    }
}

/// What every list shows of a guest.
fn basics(world: &World, guest: &Guest) -> Value {
    let running = guest.is_running();
    let memory = memory(guest);
    let mut shown = json!({
        "vmid": guest.vmid.get(),
        "name": guest.display_name(),
        "status": if running { "running" } else { "stopped" },
        "cpu": if running { 0.01 } else { 0.0 },
        "cpus": cpus(world, guest),
        "mem": if running { memory / 3 } else { 0 },
        "maxmem": memory,
        "disk": 0,
        "maxdisk": boot_disk_size(guest),
        "diskread": if running { 104_857_600_u64 } else { 0 },
        "diskwrite": if running { 20_971_520_u64 } else { 0 },
        "netin": if running { 4096 } else { 0 },
        "netout": if running { 4096 } else { 0 },
        "uptime": uptime(world, guest),
    });
    if world.version.at_least(9, 0) {
        shown["memhost"] = if running { memory / 2 } else { 0 }.into();
    }
    if let Power::Running { pid, .. } = guest.power {
        shown["pid"] = pid.into();
    }
    if guest.is_template() {
        shown["template"] = 1.into();
    }
    for option in ["lock", "tags"] {
        if let Some(value) = guest.config.get(option) {
            shown[option] = value.as_str().into();
        }
    }
    if world.version.at_least(9, 0) && running {
        for name in ["cpu", "io", "memory"] {
            shown[format!("pressure{name}some")] = 0.into();
            shown[format!("pressure{name}full")] = 0.into();
        }
    }
    shown
}

/// What QEMU says of itself.
pub fn qmp_status(guest: &Guest) -> &'static str {
    match guest.power {
        Power::Stopped => "stopped",
        Power::Running { paused: true, .. } => "paused",
        Power::Running { .. } => "running",
    }
}

fn visible(call: &Call<'_>, kind: GuestKind) -> Vec<Vmid> {
    let node = call.node();
    let here = call.world.guests.values().filter(|guest| guest.node == node && guest.kind == kind);
    let seen = here.filter(|guest| call.has(&format!("/vms/{}", guest.vmid), Privilege::VmAudit));
    seen.map(|guest| guest.vmid).collect()
}

fn list(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let full = call.flag("full");
    let shown = visible(call, GuestKind::Qemu).into_iter().filter_map(|vmid| {
        let guest = call.world.guests.get(&vmid)?;
        let mut shown = basics(call.world, guest);
        if full {
            shown["qmpstatus"] = qmp_status(guest).into();
        }
        Some(shown)
    });
    Ok(shown.collect())
}

fn index(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let _ = call;
    let names = [
        "config",
        "cloudinit",
        "pending",
        "status",
        "unlink",
        "vncproxy",
        "termproxy",
        "migrate",
        "resize",
        "move",
        "rrd",
        "rrddata",
        "monitor",
        "agent",
        "snapshot",
        "spiceproxy",
        "sendkey",
        "firewall",
        "mtunnel",
        "remote_migrate",
    ];
    Ok(names.iter().map(|name| json!({ "subdir": name })).collect())
}

fn current(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (node, vmid) = (call.node(), call.vmid()?);
    let guest = guest(call.world, &node, vmid)?;
    let mut shown = basics(call.world, guest);
    shown["qmpstatus"] = qmp_status(guest).into();
    shown["ha"] = crate::api::cluster::ha_state(call.world, vmid);
    let agent = guest.config.get("agent").map(|text| text.split(',').next().unwrap_or_default());
    if agent.is_some_and(|first| matches!(first.trim_start_matches("enabled="), "1" | "on" | "yes" | "true"))
    {
        shown["agent"] = 1.into();
    }
    if guest.config.get("vga").is_some_and(|vga| vga.contains("qxl")) {
        shown["spice"] = 1.into();
    }
    let serials: serde_json::Map<String, Value> = (0..4)
        .map(|number| format!("serial{number}"))
        .filter(|name| guest.config.contains_key(name))
        .map(|name| (name, 1.into()))
        .collect();
    if guest.is_running() {
        running_details(call.world, guest, &mut shown);
        if !serials.is_empty() {
            shown["serial"] = 1.into();
        }
    }
    Ok(shown)
}

fn running_details(world: &World, guest: &Guest, shown: &mut Value) {
    let counters = |name: &str| json!({ "rd_bytes": 0, "wr_bytes": 0, "rd_operations": 0, "wr_operations": 0, "name": name });
    let blocks: serde_json::Map<String, Value> = drives(world.version, &guest.config)
        .iter()
        .map(|drive| (drive.slot.clone(), counters(&drive.slot)))
        .collect();
    let cards = guest.config.keys().filter(|option| super::settings::is_net(option));
    let nics: serde_json::Map<String, Value> = cards
        .map(|card| (format!("tap{}i{}", guest.vmid, &card[3..]), json!({ "netin": 4096, "netout": 4096 })))
        .collect();
    let memory = memory(guest);
    shown["blockstat"] = Value::Object(blocks);
    shown["nics"] = Value::Object(nics);
    shown["running-machine"] = "pc-i440fx-10.0+pve0".into();
    shown["running-qemu"] = super::create::qemu_version(world.version).into();
    shown["proxmox-support"] = json!({ "backup-fleecing": true, "query-bitmap-info": true });
    if guest.config.get("balloon").is_none_or(|balloon| balloon != "0") {
        shown["balloon"] = memory.into();
        shown["freemem"] = (memory / 2).into();
        shown["ballooninfo"] =
            json!({ "actual": memory, "max_mem": memory, "total_mem": memory, "free_mem": memory / 2 });
    }
}

fn feature(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (node, vmid) = (call.node(), call.vmid()?);
    let guest = guest(call.world, &node, vmid)?;
    let drives = drives(call.world.version, &guest.config);
    let disks: Vec<&Drive> =
        drives.iter().filter(|drive| !drive.is_cdrom() && drive.storage().is_some()).collect();
    let has = match call.string("feature").as_str() {
        "clone" => disks.iter().all(|drive| call.world.can_link(drive.file())),
        "snapshot" => disks.iter().all(|drive| super::snapshot::can_snapshot(call.world, drive.file())),
        _ => true,
    };
    Ok(json!({ "hasFeature": u8::from(has), "nodes": call.world.nodes.keys().collect::<Vec<_>>() }))
}

fn monitor(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (node, vmid) = (call.node(), call.vmid()?);
    let guest = guest(call.world, &node, vmid)?;
    if !guest.is_running() {
        return Ok(format!("ERROR: VM {vmid} not running\n").into());
    }
    Ok(match call.string("command").trim() {
        "info status" => "VM status: running".into(),
        "info version" => super::create::qemu_version(call.world.version).into(),
        other => format!("unknown command: '{other}'").into(),
    })
}

fn list_containers(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let shown = visible(call, GuestKind::Lxc).into_iter().filter_map(|vmid| {
        let mut shown = basics(call.world, call.world.guests.get(&vmid)?);
        shown["type"] = "lxc".into();
        shown["swap"] = 0.into();
        shown["maxswap"] = 0.into();
        Some(shown)
    });
    Ok(shown.collect())
}

fn container<'a>(call: &'a Call<'_>) -> Result<&'a Guest, Refusal> {
    let (node, vmid) = (call.node(), call.vmid()?);
    let found =
        call.world.guests.get(&vmid).filter(|guest| guest.node == node && guest.kind == GuestKind::Lxc);
    found.ok_or_else(|| {
        Refusal::died(format!("Configuration file 'nodes/{node}/lxc/{vmid}.conf' does not exist"))
    })
}

fn index_container(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let _ = call;
    Ok(["config", "status", "pending", "snapshot", "firewall"]
        .iter()
        .map(|name| json!({ "subdir": name }))
        .collect())
}

fn container_config(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let guest = container(call)?;
    let shown =
        guest.config.iter().map(|(option, value)| (option.clone(), json_value(call.world, option, value)));
    let mut shown: serde_json::Map<String, Value> = shown.collect();
    shown.insert("digest".into(), guest.digest().into());
    Ok(Value::Object(shown))
}

fn container_status(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let guest = container(call)?;
    let mut shown = basics(call.world, guest);
    shown["type"] = "lxc".into();
    shown["ha"] = crate::api::cluster::ha_state(call.world, guest.vmid);
    Ok(shown)
}
