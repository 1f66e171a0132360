//! Snapshots.

use pve_types::Vmid;
use serde_json::{Map, Value, json};

use super::config::{check_lock, guest, json_value};
use super::drive::{Drive, drives};
use super::power::{asker, worker};
use crate::api::{Call, Methods, Refusal};
use crate::world::{Config, Guest, NewVolume, Power, Snapshot, Stage, TaskKey, World, parse_name, split_id};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/nodes/{node}/qemu/{vmid}/snapshot", list),
    ("POST", "/nodes/{node}/qemu/{vmid}/snapshot", create),
    ("GET", "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}", index),
    ("DELETE", "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}", delete),
    ("GET", "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}/config", get),
    ("PUT", "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}/config", update),
    ("POST", "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}/rollback", rollback),
];

/// Tells whether the storage of a volume can keep snapshots of it.
pub fn can_snapshot(world: &World, volume: &str) -> bool {
    let Ok((storage, name)) = split_id(volume) else { return false };
    let Ok(def) = world.storage(storage) else { return false };
    match def.kind.as_str() {
        "lvmthin" | "zfspool" | "rbd" | "btrfs" => true,
        _ if def.is_file_based() => parse_name(def, name).is_ok_and(|name| name.format == "qcow2"),
        _ => false,
    }
}

fn index(_: &mut Call<'_>) -> Result<Value, Refusal> {
    Ok(["rollback", "config"].iter().map(|name| json!({ "cmd": name })).collect())
}

fn list(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let guest = guest(call.world, &call.node(), call.vmid()?)?;
    let mut shown: Vec<Value> = Vec::new();
    for (name, snapshot) in &guest.snapshots {
        let mut entry = json!({
            "name": name, "snaptime": snapshot.time, "description": snapshot.description.clone().unwrap_or_default(),
            "vmstate": u8::from(snapshot.vmstate.is_some()),
        });
        if let Some(parent) = &snapshot.parent {
            entry["parent"] = parent.as_str().into();
        }
        shown.push(entry);
    }
    let mut current = json!({
        "name": "current", "description": "You are here!", "digest": guest.digest(),
        "running": u8::from(guest.is_running()),
    });
    if let Some(parent) = guest.config.get("parent") {
        current["parent"] = parent.as_str().into();
    }
    shown.push(current);
    Ok(shown.into())
}

fn disks(world: &World, guest: &Guest) -> Vec<Drive> {
    let all = drives(world.version, &guest.config).into_iter();
    all.filter(|drive| (!drive.is_cdrom() || drive.is_cloudinit()) && drive.storage().is_some()).collect()
}

// PVE: pve-guest-common src/PVE/AbstractConfig.pm snapshot_create
fn create(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let asker = asker(call)?;
    let name = call.string("snapname");
    if name == "current" {
        return Err(Refusal::died("unable to use snapshot name 'current' (reserved name)"));
    }
    if name == "pending" || name == "PENDING" {
        return Err(Refusal::died(format!("unable to use snapshot name '{name}' (reserved name)")));
    }
    let description = call.text("description").map(str::to_owned);
    let with_memory = call.flag("vmstate");
    let inner = asker.clone();
    let stage = Stage::now(move |world, key| {
        take(world, key, &inner.node, inner.vmid, &name, description, with_memory)
            .map_err(|refusal| refusal.full_text())
    });
    let worker = worker("qmsnapshot", &asker, vec![stage]);
    Ok(call.world.start_worker(worker).into())
}

fn take(
    world: &mut World,
    key: TaskKey,
    node: &str,
    vmid: Vmid,
    name: &str,
    description: Option<String>,
    with_memory: bool,
) -> Result<(), Refusal> {
    let found = guest(world, node, vmid)?;
    if found.is_template() {
        return Err(Refusal::died("you can't take a snapshot if it's a template"));
    }
    check_lock(found)?;
    if found.snapshots.contains_key(name) {
        return Err(Refusal::died(format!("snapshot name '{name}' already used")));
    }
    let disks = disks(world, found);
    if disks.iter().any(|drive| !can_snapshot(world, drive.file())) {
        return Err(Refusal::died("snapshot feature is not available"));
    }
    let running = found.is_running();
    let vmstate = match with_memory && running {
        true => Some(save_memory(world, key, node, vmid, name)?),
        false => None,
    };
    if running && !with_memory {
        // PVE: pve-guest-common src/PVE/AbstractConfig.pm __snapshot_check_freeze_needed
        world.log(key, "skipping guest filesystem freeze - disabled in VM options");
    }
    for drive in disks.iter().filter(|drive| !drive.is_cdrom()) {
        world.log(key, format!("snapshotting 'drive-{}' ({})", drive.slot, drive.file()));
        if running && drive.file().ends_with(".qcow2") {
            world.log(key, "internal qemu snapshot");
        }
        let thin = thin_volume(world, drive.file()).filter(|_| !running);
        if let Some(volume) = thin {
            world.log(key, format!("  Logical volume \"snap_{volume}_{name}\" created."));
        }
    }
    let time = world.now_seconds();
    let Some(guest) = world.guests.get_mut(&vmid) else { return Ok(()) };
    let mut config = guest.config.clone();
    let parent = config.remove("parent");
    config.remove("lock");
    if let Some(volume) = &vmstate {
        config.extend(of_memory(&config, volume));
    }
    guest.snapshots.insert(name.to_owned(), Snapshot { config, parent, description, time, vmstate });
    guest.config.insert("parent".into(), name.to_owned());
    Ok(())
}

/// The name of a volume that LVM keeps snapshots of.
fn thin_volume(world: &World, volume: &str) -> Option<String> {
    let (storage, name) = split_id(volume).ok()?;
    (world.storages.get(storage)?.kind == "lvmthin").then(|| name.to_owned())
}

fn save_memory(
    world: &mut World,
    key: TaskKey,
    node: &str,
    vmid: Vmid,
    name: &str,
) -> Result<String, Refusal> {
    let found = guest(world, node, vmid)?;
    let memory = super::status::memory(found);
    let storage = found
        .config
        .get("vmstatestorage")
        .cloned()
        .or_else(|| disks(world, found).first().and_then(|drive| drive.storage().map(str::to_owned)));
    let storage = storage.ok_or_else(|| Refusal::died("no storage for the VM's state"))?;
    let is_file = world.storage(&storage)?.is_file_based();
    let ending = if is_file { ".raw" } else { "" };
    let volume = format!("vm-{vmid}-state-{name}{ending}");
    let size = memory * 2 + (500 << 20);
    let new = NewVolume {
        node,
        storage: &storage,
        vmid,
        format: "raw",
        name: Some(volume),
        size,
        data: memory / 4,
    };
    let made = world.allocate(&new)?;
    world.log_lines(key, made.lines);
    world.log(key, format!("saving VM state and RAM using storage '{storage}'"));
    world.log(key, "completed saving the VM state in 1s, saved 128.00 MiB");
    Ok(made.id)
}

/// What a snapshot with memory knows of the guest that ran.
// PVE: qemu-server src/PVE/QemuConfig.pm __snapshot_save_vmstate
fn of_memory(config: &Config, volume: &str) -> Config {
    let has_kvm = config.get("kvm").is_none_or(|kvm| kvm != "0");
    let cpu = if has_kvm { "kvm64,enforce,+kvm_pv_eoi,+kvm_pv_unhalt,+lahf_lm,+sep" } else { "qemu64" };
    let machine = if config.get("machine").is_some_and(|machine| machine.contains("q35")) {
        "pc-q35-10.0+pve1"
    } else {
        "pc-i440fx-10.0+pve1"
    };
    let cards = config.keys().filter(|key| super::settings::is_net(key));
    let mtus: Vec<String> = cards.map(|card| format!("{card}=1500")).collect();
    let mut known = Config::from([
        ("vmstate".to_owned(), volume.to_owned()),
        ("runningcpu".to_owned(), cpu.to_owned()),
        ("runningmachine".to_owned(), machine.to_owned()),
    ]);
    if !mtus.is_empty() {
        known.insert("running-nets-host-mtu".to_owned(), mtus.join(","));
    }
    known
}

/// Tells whether an option of a snapshot is about its memory, and is none of the guest's.
pub fn is_of_memory(option: &str) -> bool {
    matches!(option, "vmstate" | "runningcpu" | "runningmachine" | "running-nets-host-mtu")
}

fn missing(name: &str) -> Refusal {
    Refusal::died(format!("snapshot '{name}' does not exist"))
}

fn delete(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let asker = asker(call)?;
    let name = call.string("snapname");
    let inner = asker.clone();
    let stage = Stage::now(move |world, key| {
        remove(world, key, &inner.node, inner.vmid, &name).map_err(|refusal| refusal.full_text())
    });
    let worker = worker("qmdelsnapshot", &asker, vec![stage]);
    Ok(call.world.start_worker(worker).into())
}

fn remove(world: &mut World, key: TaskKey, node: &str, vmid: Vmid, name: &str) -> Result<(), Refusal> {
    let found = guest(world, node, vmid)?;
    let snapshot = found.snapshots.get(name).cloned().ok_or_else(|| missing(name))?;
    check_lock(found)?;
    if let Some(volume) = &snapshot.vmstate {
        let lines = world.free_volume(node, volume)?;
        world.log_lines(key, lines);
    }
    for drive in drives(world.version, &snapshot.config) {
        if let Some(volume) = thin_volume(world, drive.file()) {
            world.log(key, format!("  Logical volume \"snap_{volume}_{name}\" successfully removed."));
        }
    }
    let Some(guest) = world.guests.get_mut(&vmid) else { return Ok(()) };
    guest.snapshots.remove(name);
    let heir = |parent: &mut Option<String>| {
        if parent.as_deref() == Some(name) {
            parent.clone_from(&snapshot.parent);
        }
    };
    guest.snapshots.values_mut().for_each(|other| heir(&mut other.parent));
    let mut own = guest.config.remove("parent");
    heir(&mut own);
    if let Some(parent) = own {
        guest.config.insert("parent".into(), parent);
    }
    Ok(())
}

fn get(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let name = call.string("snapname");
    let guest = guest(call.world, &call.node(), call.vmid()?)?;
    let snapshot = guest.snapshots.get(&name).ok_or_else(|| missing(&name))?;
    let mut shown: Map<String, Value> = snapshot
        .config
        .iter()
        .map(|(option, value)| (option.clone(), json_value(call.world, option, value)))
        .collect();
    shown.insert("snaptime".into(), snapshot.time.into());
    if let Some(description) = &snapshot.description {
        shown.insert("description".into(), description.as_str().into());
    }
    if let Some(parent) = &snapshot.parent {
        shown.insert("parent".into(), parent.as_str().into());
    }
    Ok(Value::Object(shown))
}

fn update(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (name, vmid) = (call.string("snapname"), call.vmid()?);
    check_lock(guest(call.world, &call.node(), vmid)?)?;
    let description = call.text("description").map(str::to_owned);
    let guest = super::config::guest_mut(call.world, &call.node(), vmid)?;
    let snapshot = guest.snapshots.get_mut(&name).ok_or_else(|| missing(&name))?;
    if description.is_some() {
        snapshot.description = description;
    }
    Ok(Value::Null)
}

fn rollback(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let asker = asker(call)?;
    let (name, start) = (call.string("snapname"), call.flag("start"));
    if start && call.world.version.at_least(9, 2) {
        call.require(&format!("/vms/{}", asker.vmid), &[pve_types::Privilege::VmPowerMgmt])?;
    }
    let inner = asker.clone();
    let stage = Stage::now(move |world, key| {
        back(world, key, &inner, &name, start).map_err(|refusal| refusal.full_text())
    });
    let worker = worker("qmrollback", &asker, vec![stage]);
    Ok(call.world.start_worker(worker).into())
}

/// The guest's volumes that the snapshot has not: they stay as unused ones.
// PVE: qemu-server src/PVE/QemuConfig.pm __snapshot_rollback_get_unused
fn left_unused(
    version: pve_types::PveVersion,
    now: &Config,
    snapshot: &Config,
    vmid: Vmid,
) -> Result<Config, Refusal> {
    let mut with_unused = now.clone();
    let is_own = |drive: &&Drive| drive.file().contains(&format!("vm-{vmid}-")) && !drive.is_cloudinit();
    for drive in drives(version, now).iter().filter(is_own) {
        if !super::drive::uses(version, snapshot, drive.file()) {
            super::drive::add_unused(&mut with_unused, drive.file())?;
        }
    }
    with_unused.retain(|option, volume| {
        super::drive::is_unused(option) && !super::drive::uses(version, snapshot, volume)
    });
    Ok(with_unused)
}

fn back(
    world: &mut World,
    key: TaskKey,
    asker: &super::Asker,
    name: &str,
    start: bool,
) -> Result<(), Refusal> {
    let (node, vmid) = (asker.node.as_str(), asker.vmid);
    let found = guest(world, node, vmid)?;
    if found.is_template() {
        return Err(Refusal::died("you can't rollback if vm is a template"));
    }
    let snapshot = found.snapshots.get(name).cloned().ok_or_else(|| missing(name))?;
    check_lock(found)?;
    if found.is_running() {
        super::switch_off(world, vmid);
    }
    let mut config: Config = snapshot.config.clone();
    config.retain(|option, _| !is_of_memory(option));
    config.insert("parent".into(), name.to_owned());
    config.extend(left_unused(world.version, &guest(world, node, vmid)?.config, &snapshot.config, vmid)?);
    let with_memory = snapshot.vmstate.is_some();
    if let Some(guest) = world.guests.get_mut(&vmid) {
        guest.config = config;
        guest.pending = crate::world::Pending::default();
        guest.power = Power::Stopped;
    }
    for drive in drives(world.version, &snapshot.config).iter().filter(|drive| !drive.is_cdrom()) {
        let size = drive.option("size").and_then(|size| pve_types::Bytes::from_pve_size(size).ok());
        if let Some(size) = size {
            // A disk that was grown meanwhile has its old size again.
            world.restore_size(node, drive.file(), size.get())?;
        }
    }
    for volume in drives(world.version, &snapshot.config)
        .iter()
        .filter_map(|drive| thin_volume(world, drive.file()))
        .collect::<Vec<_>>()
    {
        world.log(key, format!("  Logical volume \"{volume}\" successfully removed."));
        world.log(key, format!("  Logical volume \"{volume}\" created."));
    }
    if with_memory || start {
        super::power::start_in_background(world, asker);
    }
    Ok(())
}
