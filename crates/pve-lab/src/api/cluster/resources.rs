//! What there is in the cluster: resources, status, free VMIDs.

use pve_types::{Privilege, Vmid};
use serde_json::{Value, json};

use super::super::rights::has;
use super::super::{Call, Methods, Refusal};
use crate::api::qemu::{numbers, status};
use crate::world::{Guest, GuestKind, World};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/cluster/resources", list),
    ("GET", "/cluster/status", cluster_status),
    ("GET", "/cluster/nextid", next_id),
];

/// Seconds since a node came up.
pub fn node_uptime(world: &World, name: &str) -> u64 {
    world.nodes.get(name).map_or(0, |node| node.spec.uptime_seconds + world.age_seconds())
}

/// A guest as the resource list shows it: number, node, pool, lock and tags as they are, all else as pvestatd told it.
// PVE: pve-manager PVE/API2/Cluster.pm resources; PVE/API2Tools.pm extract_vm_stats
pub fn guest_resource(world: &World, guest: &Guest) -> Value {
    let kind = if guest.kind == GuestKind::Qemu { "qemu" } else { "lxc" };
    let mut shown = json!({
        "id": format!("{kind}/{}", guest.vmid), "type": kind, "vmid": guest.vmid.get(), "node": guest.node,
        "status": "unknown",
    });
    let is_up = world.nodes.get(&guest.node).is_some_and(|node| node.spec.up);
    if let (Some(stats), Value::Object(shown)) = (world.told_of(guest.vmid).filter(|_| is_up), &mut shown) {
        shown.extend(stats);
    }
    let pool = world.access.pools.iter().find(|(_, pool)| pool.guests.contains(&guest.vmid.get()));
    if let Some((pool, _)) = pool {
        shown["pool"] = pool.as_str().into();
    }
    for option in ["lock", "tags"] {
        if let Some(value) = guest.config.get(option) {
            shown[option] = value.as_str().into();
        }
    }
    if let Some(state) = super::ha::resource_state(world, guest.vmid) {
        shown["hastate"] = state.into();
    }
    shown
}

/// What pvestatd tells of a guest.
// PVE: pve-manager PVE/Service/pvestatd.pm update_qemu_status: the status is QEMU's own where there is one.
pub fn guest_stats(world: &World, guest: &Guest) -> serde_json::Map<String, Value> {
    let running = guest.is_running();
    let memory = numbers::memory(guest);
    let mut told = json!({
        "name": guest.display_name(),
        "status": status::qmp_status(guest),
        "template": u8::from(guest.is_template()),
        "uptime": status::uptime(world, guest),
        "cpu": if running { json!(0.01) } else { json!(0) },
        "maxcpu": status::cpus(world, guest),
        "mem": if running { memory / 3 } else { 0 },
        "maxmem": memory,
        "maxdisk": status::boot_disk_size(guest),
    });
    for counter in ["disk", "netin", "netout", "diskread", "diskwrite"] {
        told[counter] = 0.into();
    }
    if world.version.at_least(9, 0) {
        told["memhost"] = if running { memory / 2 } else { 0 }.into();
    }
    match told {
        Value::Object(told) => told,
        _ => serde_json::Map::new(),
    }
}

/// A node as lists show it; with its counters when the caller may see them.
pub fn node_resource(world: &World, name: &str, counters: bool) -> Value {
    let mut shown = json!({ "id": format!("node/{name}"), "node": name, "type": "node" });
    let Some(node) = world.nodes.get(name) else { return shown };
    shown["status"] = if node.spec.up { "online" } else { "offline" }.into();
    if node.spec.up {
        shown["level"] = "".into();
    }
    if counters && node.spec.up {
        let space = node.files.space("/");
        shown["cpu"] = json!(0.02);
        shown["maxcpu"] = node.spec.cpus.into();
        shown["mem"] = crate::api::nodes::used_memory(world, name).min(node.spec.memory.get()).into();
        shown["maxmem"] = node.spec.memory.get().into();
        shown["disk"] = space.used.into();
        shown["maxdisk"] = space.total.into();
        shown["uptime"] = node_uptime(world, name).into();
    }
    shown
}

/// A storage on a node as the resource list shows it.
pub fn storage_resource(world: &World, node: &str, storage: &str) -> Option<Value> {
    let def = world.storages.get(storage).filter(|def| def.is_for_node(node) && !def.is_disabled())?;
    let is_up = world.nodes.get(node).is_some_and(|node| node.spec.up) && !def.offline_on.contains(node);
    let mut shown = json!({
        "id": format!("storage/{node}/{storage}"), "storage": storage, "node": node, "type": "storage",
        "plugintype": def.kind, "status": if is_up { "available" } else { "unknown" },
        "shared": u8::from(def.is_shared()), "content": def.content.iter().cloned().collect::<Vec<_>>().join(","),
    });
    if is_up {
        let (total, used) = world.storage_usage(def, node);
        shown["disk"] = used.into();
        shown["maxdisk"] = total.into();
    }
    Some(shown)
}

fn everything(world: &World) -> Vec<Value> {
    let guests = world.guests.values().map(|guest| guest_resource(world, guest));
    let nodes = world.nodes.keys().map(|name| node_resource(world, name, true));
    let storages = world
        .nodes
        .keys()
        .flat_map(|node| world.storages.keys().filter_map(|id| storage_resource(world, node, id)));
    let pools = world
        .access
        .pools
        .keys()
        .map(|id| json!({ "id": format!("/pool/{id}"), "pool": id, "type": "pool" }));
    let row = |node: &str, zone: &str| json!({ "id": format!("sdn/{node}/{zone}"), "sdn": zone, "node": node, "status": "ok", "type": "sdn" });
    let zones = world.nodes.iter().filter(|(_, node)| node.spec.up).flat_map(|(name, _)| {
        let made = world.zones.iter().filter(|(_, zone)| zone.is_on(name)).map(|(zone, _)| zone.as_str());
        std::iter::once("localnetwork").chain(made).map(move |zone| row(name, zone))
    });
    guests.chain(nodes).chain(storages).chain(pools).chain(zones).collect()
}

// PVE: pve-manager PVE/API2/Cluster.pm resources
fn list(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let kind = call.text("type").map(str::to_owned);
    let all = everything(call.world);
    let who = call.caller.auth_id();
    let seen = all.into_iter().filter_map(|mut entry| {
        let of = entry["type"].as_str().unwrap_or_default().to_owned();
        let wanted = match kind.as_deref() {
            None => true,
            Some("vm") => of == "qemu" || of == "lxc",
            Some(kind) => of == kind,
        };
        let world = &*call.world;
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let sees = match of.as_str() {
            _ if !wanted => false,
            "qemu" | "lxc" => has(world, who, &format!("/vms/{}", entry["vmid"]), Privilege::VmAudit),
            "storage" => has(world, who, &format!("/storage/{}", text("storage")), Privilege::DatastoreAudit),
            "pool" => has(world, who, &format!("/pool/{}", text("pool")), Privilege::PoolAudit),
            "sdn" => {
                let path = format!("/sdn/zones/{}", text("sdn"));
                has(world, who, &path, Privilege::SdnAudit) || has(world, who, &path, Privilege::SdnUse)
            }
            _ => true,
        };
        // PVE: pve-manager PVE/API2/Cluster.pm resources: which pool a guest is in is told to who may audit the pool.
        let pool = text("pool");
        let hides_pool = matches!(of.as_str(), "qemu" | "lxc")
            && !pool.is_empty()
            && !has(world, who, &format!("/pool/{pool}"), Privilege::PoolAudit);
        let hides_node =
            of == "node" && !has(world, who, &format!("/nodes/{}", text("node")), Privilege::SysAudit);
        if let (true, Value::Object(entry)) = (hides_pool, &mut entry) {
            entry.remove("pool");
        }
        if hides_node {
            let kept = ["id", "node", "type", "status", "level"];
            if let Value::Object(entry) = &mut entry {
                entry.retain(|name, _| kept.contains(&name.as_str()));
            }
        }
        sees.then_some(entry)
    });
    Ok(seen.collect())
}

fn cluster_status(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let world = &*call.world;
    let mut shown = Vec::new();
    if let Some(name) = &world.cluster {
        shown.push(json!({
            "type": "cluster", "id": "cluster", "name": name, "version": 2, "nodes": world.nodes.len(),
            "quorate": u8::from(world.quorate),
        }));
    }
    for (name, node) in &world.nodes {
        shown.push(json!({
            "type": "node", "id": format!("node/{name}"), "name": name,
            "nodeid": if world.cluster.is_some() { node.number } else { 0 }, "ip": node.address,
            "online": u8::from(node.spec.up), "local": u8::from(*name == call.caller.node), "level": "",
        }));
    }
    Ok(shown.into())
}

/// The range of VMIDs that datacenter.cfg allows for `nextid`.
fn range(world: &World) -> (u32, u32) {
    let text = world.datacenter.get("next-id").cloned().unwrap_or_default();
    let bound =
        |key: &str| text.split(',').find_map(|part| part.strip_prefix(&format!("{key}="))?.parse().ok());
    (bound("lower").unwrap_or(100), bound("upper").unwrap_or(1_000_000))
}

fn next_id(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let taken = |number: u32| Vmid::new(number).is_ok_and(|vmid| call.world.guests.contains_key(&vmid));
    if let Some(asked) = call.text("vmid").and_then(|text| text.parse::<u32>().ok()) {
        return match taken(asked) {
            true => Err(Refusal::parameter("vmid", format!("VM {asked} already exists"))),
            false => Ok(asked.to_string().into()),
        };
    }
    let (lower, upper) = range(call.world);
    let free = (lower..upper).find(|number| !taken(*number));
    let none = || Refusal::died(format!("unable to get any free VMID in range [{lower}, {}]", upper - 1));
    Ok(free.ok_or_else(none)?.to_string().into())
}
