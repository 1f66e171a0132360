//! Destroying a VM.

use std::collections::BTreeSet;
use std::time::Duration;

use pve_types::Vmid;
use serde_json::Value;

use super::config::{check_lock, guest};
use super::drive::{drives, is_unused, owner};
use super::power::asker;
use crate::api::{Call, Methods, Refusal};
use crate::world::{Stage, TaskKey, Worker, World};

/// The methods of this file.
pub const METHODS: Methods = &[("DELETE", "/nodes/{node}/qemu/{vmid}", destroy)];

// PVE: qemu-server src/PVE/API2/Qemu.pm destroy_vm
fn destroy(call: &mut Call<'_>) -> Result<Value, Refusal> {
    if call.flag("skiplock") && !call.caller.is_root() {
        return Err(Refusal::parameter("skiplock", "Only root may use this option."));
    }
    let asker = asker(call)?;
    let (node, vmid) = (asker.node.clone(), asker.vmid);
    let (purge, unreferenced, skiplock) =
        (call.flag("purge"), call.flag("destroy-unreferenced-disks"), call.flag("skiplock"));
    // PVE: qemu-server src/PVE/API2/Qemu.pm destroy_vm: the lock is looked at by the worker.
    early_checks(call.world, &node, vmid, purge, true)?;
    let takes = Duration::from_millis(call.world.delays.destroy_ms);
    let worker = Worker {
        node: node.clone(),
        kind: "qmdestroy",
        id: vmid.to_string(),
        owner: asker.auth_id,
        lock: Some((vmid, Duration::from_secs(10))),
        stages: vec![Stage::new(takes, move |world, key| {
            early_checks(world, &node, vmid, purge, skiplock).map_err(|refusal| refusal.full_text())?;
            run(world, key, &node, vmid, purge, unreferenced)
        })],
        on_failure: None,
        error_prefix: String::new(),
    };
    Ok(call.world.start_worker(worker).into())
}

fn early_checks(world: &World, node: &str, vmid: Vmid, purge: bool, skiplock: bool) -> Result<(), Refusal> {
    let guest = guest(world, node, vmid)?;
    if !skiplock {
        check_lock(guest)?;
    }
    if guest.config.get("protection").is_some_and(|value| value == "1") {
        return Err(Refusal::died(format!("can't remove VM {vmid} - protection mode enabled")));
    }
    if crate::api::cluster::is_ha_managed(world, vmid) && !purge {
        let text = format!("unable to remove VM {vmid} - used in HA resources and purge parameter not set.");
        return Err(Refusal::died(text));
    }
    if guest.is_running() {
        return Err(Refusal::died(format!("VM {vmid} is running - destroy failed")));
    }
    Ok(())
}

/// The volumes that a VM's configuration and its snapshots name, `unusedN` included, without CD images.
fn volumes_of(world: &World, vmid: Vmid) -> Vec<String> {
    let Some(guest) = world.guests.get(&vmid) else { return Vec::new() };
    let mut found = BTreeSet::new();
    let configs = std::iter::once(&guest.config)
        .chain(std::iter::once(&guest.pending.set))
        .chain(guest.snapshots.values().map(|snapshot| &snapshot.config));
    for config in configs {
        for drive in drives(world.version, config) {
            found.insert(drive.file().to_owned());
        }
        found.extend(config.iter().filter(|(key, _)| is_unused(key)).map(|(_, value)| value.clone()));
    }
    found.extend(guest.snapshots.values().filter_map(|snapshot| snapshot.vmstate.clone()));
    found.into_iter().filter(|volume| owner(world, volume) == Some(vmid)).collect()
}

fn run(
    world: &mut World,
    key: TaskKey,
    node: &str,
    vmid: Vmid,
    purge: bool,
    unreferenced: bool,
) -> Result<(), String> {
    let mut volumes = volumes_of(world, vmid);
    let is_template = world.guests.get(&vmid).is_some_and(|guest| guest.is_template());
    if is_template {
        // PVE: qemu-server src/PVE/QemuServer.pm destroy_vm: a template's volumes must not be in use.
        for volume in &volumes {
            in_use(world, node, volume)?;
        }
    }
    if unreferenced {
        let storages: Vec<String> = world.storages.keys().cloned().collect();
        for storage in storages {
            let owned = world.volumes(node, &storage, Some(vmid)).into_iter();
            let images =
                owned.filter(|volume| volume.name.content == "images" && volume.name.owner == Some(vmid));
            volumes.extend(images.map(|volume| volume.id));
        }
        volumes.sort();
        volumes.dedup();
    }
    for volume in volumes {
        match world.free_volume(node, &volume) {
            Ok(lines) => world.log_lines(key, lines),
            Err(text) => {
                world.warn(key, &format!("Could not remove disk '{volume}', check manually: {text}"))
            }
        }
    }
    if purge {
        world.log(key, format!("purging VM {vmid} from related configurations.."));
        crate::api::cluster::purge_guest(world, key, vmid);
    }
    forget(world, vmid);
    Ok(())
}

fn in_use(world: &mut World, node: &str, volume: &str) -> Result<(), String> {
    let name = volume.split_once(':').map_or(volume, |(_, name)| name);
    if !name.rsplit('/').next().is_some_and(|name| name.starts_with("base-")) {
        return Ok(());
    }
    match world.is_base_in_use(node, volume) {
        true => Err(format!("base volume '{volume}' is still in use by linked cloned")),
        false => Ok(()),
    }
}

/// Removes the VM, its ACL entries and its place in a pool.
pub fn forget(world: &mut World, vmid: Vmid) {
    world.guests.remove(&vmid);
    world.firewalls.remove(&crate::world::FirewallScope::Guest(vmid));
    world.guest_behaviours.remove(&vmid);
    world.access.acl.remove(&format!("/vms/{vmid}"));
    for pool in world.access.pools.values_mut() {
        pool.guests.remove(&vmid.get());
    }
    world.touch();
}
