//! Moving a VM to another node.

use std::time::Duration;

use serde_json::{Value, json};

use super::config::{check_lock, guest};
use super::drive::{Drive, drives};
use super::power::{asker, worker};
use crate::api::{Call, Methods, Refusal};
use crate::world::{Stage, World};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/nodes/{node}/qemu/{vmid}/migrate", conditions),
    ("POST", "/nodes/{node}/qemu/{vmid}/migrate", migrate),
];

fn local_disks(world: &World, call: &Call<'_>) -> Result<Vec<Drive>, Refusal> {
    let guest = guest(world, &call.node(), call.vmid()?)?;
    let is_local = |drive: &Drive| {
        drive.storage().and_then(|storage| world.storages.get(storage)).is_some_and(|def| !def.is_shared())
    };
    Ok(drives(world.version, &guest.config).into_iter().filter(is_local).collect())
}

fn conditions(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let node = call.node();
    let local = local_disks(call.world, call)?;
    let guest = guest(call.world, &node, call.vmid()?)?;
    let others: Vec<&String> = call
        .world
        .nodes
        .iter()
        .filter(|(name, other)| **name != node && other.spec.up)
        .map(|(name, _)| name)
        .collect();
    let disks: Vec<Value> = local
        .iter()
        .map(|drive| json!({ "volid": drive.file(), "drivename": drive.slot, "cdrom": u8::from(drive.is_cdrom()) }))
        .collect();
    Ok(json!({
        "running": u8::from(guest.is_running()),
        "allowed_nodes": others,
        "not_allowed_nodes": {},
        "local_disks": disks,
        "local_resources": [],
        "mapped-resources": [],
    }))
}

// PVE: qemu-server src/PVE/API2/Qemu.pm migrate_vm
fn migrate(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let asker = asker(call)?;
    let target = call.string("target");
    if target == asker.node {
        return Err(Refusal::parameter("target", "target is local node."));
    }
    match call.world.nodes.get(&target) {
        None => return Err(Refusal::died(format!("no such cluster node '{target}'"))),
        Some(node) if !node.spec.up => return Err(Refusal::died(format!("node '{target}' is offline"))),
        Some(_) => {}
    }
    let running = {
        let guest = guest(call.world, &asker.node, asker.vmid)?;
        check_lock(guest)?;
        guest.is_running()
    };
    if running && !call.flag("online") {
        return Err(Refusal::died("can't migrate running VM without --online"));
    }
    let local = local_disks(call.world, call)?;
    if running && !local.is_empty() && !call.flag("with-local-disks") {
        return Err(Refusal::died("can't live migrate VM with local disks without with-local-disks option"));
    }
    let storage = call.text("targetstorage").map(str::to_owned);
    let data: u64 = local.iter().map(|drive| call.world.data_of(&asker.node, drive.file())).sum();
    let takes = Duration::from_millis(super::disks::copy_ms(call.world, data) + call.world.delays.start_ms);
    let inner = asker.clone();
    let stage = Stage::new(takes, move |world, key| {
        world.log(key, format!("starting migration of VM {} to node '{target}'", inner.vmid));
        for drive in &local {
            world.log(key, format!("found local disk '{}' (attached)", drive.file()));
            move_volume(world, &inner, drive, &target, storage.as_deref())?;
        }
        if let Some(guest) = world.guests.get_mut(&inner.vmid) {
            guest.node = target.clone();
        }
        world.log(key, "migration finished successfully (duration 00:00:01)");
        Ok(())
    });
    let worker = worker("qmigrate", &asker, vec![stage]);
    Ok(call.world.start_worker(worker).into())
}

fn move_volume(
    world: &mut World,
    asker: &super::Asker,
    drive: &Drive,
    target: &str,
    storage: Option<&str>,
) -> Result<(), String> {
    let volume = world.volume(&asker.node, drive.file())?;
    let (own, _) = crate::world::split_id(drive.file())?;
    let storage = storage.unwrap_or(own);
    let new = crate::world::NewVolume {
        node: target,
        storage,
        vmid: asker.vmid,
        format: &volume.name.format,
        name: Some(volume.name.name.clone()),
        size: volume.size,
        data: volume.used.min(volume.size),
    };
    let made = world.allocate(&new)?;
    world.free_volume(&asker.node, drive.file())?;
    let mut drive = drive.clone();
    drive.set("file", made.id);
    let value = drive.print(world.version);
    if let Some(guest) = world.guests.get_mut(&asker.vmid) {
        guest.config.insert(drive.slot.clone(), value);
    }
    Ok(())
}
