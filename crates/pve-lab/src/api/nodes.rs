//! Nodes.

use pve_types::{Privilege, Vmid};
use serde_json::{Value, json};

use super::{Call, Methods, Refusal};
use crate::world::{GuestKind, Stage, Worker, World};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/nodes", list),
    ("GET", "/nodes/{node}", index),
    ("GET", "/nodes/{node}/version", version),
    ("GET", "/nodes/{node}/status", status),
    ("GET", "/nodes/{node}/time", time),
    ("GET", "/nodes/{node}/dns", dns),
    ("GET", "/nodes/{node}/network", networks),
    ("GET", "/nodes/{node}/network/{iface}", network),
    ("GET", "/nodes/{node}/capabilities", capabilities),
    ("GET", "/nodes/{node}/capabilities/qemu", capabilities_qemu),
    ("GET", "/nodes/{node}/capabilities/qemu/cpu", cpus),
    ("GET", "/nodes/{node}/capabilities/qemu/machines", machines),
    ("GET", "/nodes/{node}/query-url-metadata", url_metadata),
    ("POST", "/nodes/{node}/startall", start_all),
    ("POST", "/nodes/{node}/stopall", stop_all),
];

fn list(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let names: Vec<String> = call.world.nodes.keys().cloned().collect();
    let shown = names.iter().map(|name| {
        let audits = call.has(&format!("/nodes/{name}"), Privilege::SysAudit);
        let mut entry = super::cluster::node_resource(call.world, name, audits);
        if call.world.nodes.get(name).is_some_and(|node| node.spec.up) {
            entry["ssl_fingerprint"] = fingerprint(name).into();
        }
        entry
    });
    Ok(shown.collect())
}

/// A fingerprint for a list of nodes: a node's own certificate is shown by its door.
fn fingerprint(name: &str) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn index(_: &mut Call<'_>) -> Result<Value, Refusal> {
    let names = [
        "qemu",
        "lxc",
        "storage",
        "network",
        "tasks",
        "status",
        "version",
        "time",
        "dns",
        "capabilities",
        "vzdump",
        "startall",
        "stopall",
        "query-url-metadata",
    ];
    Ok(names.iter().map(|name| json!({ "name": name })).collect())
}

fn version(call: &mut Call<'_>) -> Result<Value, Refusal> {
    super::version::version(call)
}

/// A node's memory in use: what its running guests have, and what PVE takes.
pub fn used_memory(world: &World, name: &str) -> u64 {
    let guests = world.guests.values().filter(|guest| guest.node == name && guest.is_running());
    (2 << 30) + guests.map(|guest| super::qemu::status::memory(guest) / 2).sum::<u64>()
}

fn status(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let name = call.node();
    let version = call.world.version;
    let used = used_memory(call.world, &name);
    let uptime = super::cluster::node_uptime(call.world, &name);
    let node = call.world.nodes.get(&name).ok_or_else(|| Refusal::died("no such node"))?;
    let total = node.spec.memory.get();
    let space = node.files.space("/");
    let used = used.min(total);
    let mut memory = json!({ "total": total, "used": used, "free": total - used });
    if version.at_least(9, 0) {
        memory["available"] = (total - used).into();
    }
    Ok(json!({
        "uptime": uptime, "idle": 0, "wait": 0.001, "cpu": 0.02, "loadavg": ["0.10", "0.12", "0.09"],
        "kversion": "Linux 6.14.11-4-pve #1 SMP PREEMPT_DYNAMIC",
        "current-kernel": { "sysname": "Linux", "release": "6.14.11-4-pve", "version": "#1 SMP PREEMPT_DYNAMIC", "machine": "x86_64" },
        "boot-info": { "mode": "efi", "secureboot": 0 },
        "cpuinfo": {
            "cpus": node.spec.cpus, "cores": node.spec.cpus, "sockets": 1, "model": "QEMU Virtual CPU", "mhz": "2400.000",
            "flags": "fpu vmx lm", "hvm": "1", "user_hz": 100,
        },
        "memory": memory,
        "swap": { "total": 0, "used": 0, "free": 0 },
        "ksm": { "shared": 0 },
        "rootfs": { "total": space.total, "used": space.used, "free": space.available, "avail": space.available },
        "pveversion": format!("pve-manager/{version}/5ac30304265fd256"),
    }))
}

fn time(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let now = call.world.now_seconds();
    Ok(json!({ "timezone": "UTC", "time": now, "localtime": now }))
}

fn dns(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let _ = call;
    Ok(json!({ "dns1": "127.0.0.1" }))
}

fn interface(world: &World, node: &str, name: &str) -> Option<Value> {
    let node = world.nodes.get(node)?;
    if let Some(at) = node.spec.bridges.iter().position(|bridge| bridge == name) {
        let mut shown = json!({
            "iface": name, "type": "bridge", "active": 1, "autostart": 1, "exists": 1, "method": "manual", "method6": "manual",
            "bridge_ports": if at == 0 { "eno1" } else { "" }, "bridge_stp": "off", "bridge_fd": "0",
            "families": ["inet"], "priority": 4 + at,
        });
        if at == 0 {
            shown["method"] = "static".into();
            shown["address"] = node.address.as_str().into();
            shown["netmask"] = "24".into();
            shown["cidr"] = format!("{}/24", node.address).into();
            shown["gateway"] = "198.51.100.254".into();
        }
        return Some(shown);
    }
    let eth = json!({
        "iface": "eno1", "type": "eth", "active": 1, "exists": 1, "method": "manual", "method6": "manual",
        "families": ["inet"], "priority": 3,
    });
    (name == "eno1").then_some(eth)
}

// PVE: pve-manager PVE/API2/Network.pm index: bridges one may use, unless one may audit the node.
fn networks(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let name = call.node();
    let kind = call.text("type").map(str::to_owned);
    let Some(node) = call.world.nodes.get(&name) else { return Ok(Value::Array(Vec::new())) };
    let names: Vec<String> = node.spec.bridges.iter().cloned().chain(["eno1".to_owned()]).collect();
    let wants_vnets =
        kind.as_deref().is_some_and(|kind| matches!(kind, "any_bridge" | "include_sdn" | "vnet"));
    let vnets = vnets_of(call, &name).filter(|_| wants_vnets);
    let vnets: Vec<Value> = vnets.collect();
    let audits = call.has(&format!("/nodes/{name}"), Privilege::SysAudit);
    let wants_bridges = kind.as_deref().is_some_and(|kind| kind.contains("bridge") || kind == "include_sdn");
    let seen = names.iter().filter(|iface| {
        let is_bridge = *iface != "eno1";
        let of_kind =
            kind.as_deref().is_none_or(|kind| if is_bridge { wants_bridges } else { kind == "eth" });
        let allowed = audits
            || !call.world.version.at_least(8, 0)
            || !is_bridge
            || call
                .require_any(
                    &format!("/sdn/zones/localnetwork/{iface}"),
                    &[Privilege::SdnUse, Privilege::SdnAudit],
                )
                .is_ok();
        of_kind && allowed
    });
    Ok(seen.filter_map(|iface| interface(call.world, &name, iface)).chain(vnets).collect())
}

/// The VNets that the node has and the caller may see or use, as a whole or one VLAN of them.
// PVE: pve-network src/PVE/Network/SDN.pm get_local_vnets; pve-access-control src/PVE/RPCEnvironment.pm check_sdn_bridge.
fn vnets_of<'c>(call: &'c Call<'_>, node: &'c str) -> impl Iterator<Item = Value> + 'c {
    let vnets = call.world.zones.iter().filter(|(_, zone)| zone.is_on(node));
    let vnets = vnets.flat_map(|(name, zone)| zone.vnets.iter().map(move |(id, vnet)| (name, id, vnet)));
    let sees = |zone: &str, vnet: &str| {
        let path = format!("/sdn/zones/{zone}/{vnet}");
        let below = format!("{path}/");
        let vlans = call.world.access.acl.keys().filter(|known| known.starts_with(&below));
        let wanted = [Privilege::SdnAudit, Privilege::SdnUse];
        vlans.chain([&path]).any(|path| call.require_any(path, &wanted).is_ok())
    };
    vnets.filter(move |(zone, id, _)| sees(zone, id)).map(|(_, id, vnet)| {
        json!({ "iface": id, "type": "vnet", "active": 1, "vlanaware": u8::from(vnet.vlanaware), "ipam": 0 })
    })
}

fn network(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let iface = call.string("iface");
    let found = interface(call.world, &call.node(), &iface);
    let mut found = found.ok_or_else(|| Refusal::parameter("iface", "interface does not exist"))?;
    found.as_object_mut().map(|found| found.remove("iface"));
    Ok(found)
}

fn capabilities(_: &mut Call<'_>) -> Result<Value, Refusal> {
    Ok(json!([{ "name": "qemu" }]))
}

fn capabilities_qemu(_: &mut Call<'_>) -> Result<Value, Refusal> {
    Ok(["cpu", "machines"].iter().map(|name| json!({ "name": name })).collect())
}

fn cpus(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let models = [
        ("host", "default"),
        ("max", "default"),
        ("kvm64", "GenuineIntel"),
        ("kvm32", "GenuineIntel"),
        ("qemu64", "AuthenticAMD"),
        ("qemu32", "GenuineIntel"),
        ("x86-64-v2", "GenuineIntel"),
        ("x86-64-v2-AES", "GenuineIntel"),
        ("x86-64-v3", "GenuineIntel"),
        ("x86-64-v4", "GenuineIntel"),
        ("EPYC", "AuthenticAMD"),
        ("EPYC-Rome", "AuthenticAMD"),
        ("EPYC-Milan", "AuthenticAMD"),
        ("EPYC-Genoa", "AuthenticAMD"),
        ("Broadwell", "GenuineIntel"),
        ("Haswell", "GenuineIntel"),
        ("Skylake-Server", "GenuineIntel"),
        ("Icelake-Server", "GenuineIntel"),
        ("SapphireRapids", "GenuineIntel"),
    ];
    let built_in = models.iter().map(|(name, vendor)| json!({ "name": name, "vendor": vendor, "custom": 0 }));
    // PVE: qemu-server src/PVE/API2/Qemu/CPU.pm index: a custom model is shown to those who may use it.
    let sees_all = call.has("/nodes", Privilege::SysAudit);
    let sees = |name: &str| sees_all || call.has(&format!("/mapping/cpu/{name}"), Privilege::MappingUse);
    let own = call
        .world
        .cpu_models
        .iter()
        .filter(|(name, _)| sees(name))
        .map(|(name, vendor)| json!({ "name": format!("custom-{name}"), "vendor": vendor, "custom": 1 }));
    Ok(built_in.chain(own).collect())
}

fn machines(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let _ = call;
    let versions = ["10.0+pve1", "10.0", "9.2+pve1", "9.2", "9.1", "9.0", "8.2", "8.1", "8.0"];
    let rows = ["i440fx", "q35"].iter().flat_map(|kind| {
        versions.iter().map(move |version| {
            let short = if *kind == "q35" { "q35" } else { "i440fx" };
            json!({ "id": format!("pc-{short}-{version}"), "type": short, "version": version })
        })
    });
    Ok(rows.collect())
}

fn url_metadata(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let url = call.string("url");
    let found = call.world.urls.get(&url);
    let content = found.ok_or_else(|| Refusal::died("invalid server response: '404 Not Found'"))?;
    let size = content.text.as_ref().map_or_else(
        || content.file_size.or(content.virtual_size).unwrap_or_default().get(),
        |text| text.len() as u64,
    );
    let name = url.rsplit('/').next().unwrap_or_default();
    Ok(json!({ "filename": name, "size": size, "mimetype": "application/octet-stream" }))
}

fn all_guests(call: &Call<'_>, wanted: impl Fn(&crate::world::Guest) -> bool) -> Vec<Vmid> {
    let node = call.node();
    let asked = call.list("vms");
    let guests =
        call.world.guests.values().filter(|guest| guest.node == node && guest.kind == GuestKind::Qemu);
    let named = guests.filter(|guest| asked.is_empty() || asked.contains(&guest.vmid.to_string()));
    named.filter(|guest| wanted(guest)).map(|guest| guest.vmid).collect()
}

fn may_power(call: &Call<'_>, guests: &[Vmid]) -> Result<(), Refusal> {
    if call.has("/", Privilege::VmPowerMgmt) {
        return Ok(());
    }
    guests.iter().try_for_each(|vmid| call.require(&format!("/vms/{vmid}"), &[Privilege::VmPowerMgmt]))
}

fn all_worker(call: &mut Call<'_>, kind: &'static str, stages: Vec<Stage>) -> Value {
    let worker = Worker {
        node: call.node(),
        kind,
        id: String::new(),
        owner: call.caller.auth_id().to_owned(),
        lock: None,
        stages,
        on_failure: None,
        error_prefix: String::new(),
    };
    call.world.start_worker(worker).into()
}

fn start_all(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let force = call.flag("force");
    let onboot = |guest: &crate::world::Guest| guest.config.get("onboot").is_some_and(|value| value == "1");
    let guests =
        all_guests(call, |guest| !guest.is_running() && !guest.is_template() && (force || onboot(guest)));
    may_power(call, &guests)?;
    let (node, owner) = (call.node(), call.caller.auth_id().to_owned());
    let stage = Stage::now(move |world, key| {
        for vmid in guests {
            world.log(key, format!("Starting VM {vmid}"));
            let asker = super::qemu::Asker { auth_id: owner.clone(), node: node.clone(), vmid, pool: None };
            super::qemu::start_in_background(world, &asker);
        }
        Ok(())
    });
    Ok(all_worker(call, "startall", vec![stage]))
}

fn stop_all(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let guests = all_guests(call, |guest| guest.is_running());
    may_power(call, &guests)?;
    let stage = Stage::now(move |world, key| {
        for vmid in guests {
            world.log(key, format!("Stopping VM {vmid} (timeout = 180 seconds)"));
            super::qemu::switch_off(world, vmid);
        }
        Ok(())
    });
    Ok(all_worker(call, "stopall", vec![stage]))
}
