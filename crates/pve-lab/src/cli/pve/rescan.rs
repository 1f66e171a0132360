//! `qm disk rescan`: what the storages have, held against the configurations.
// PVE: qemu-server src/PVE/QemuServer.pm rescan, update_disk_config

use pve_types::{Bytes, Vmid};

use crate::api::qemu::drives;
use crate::world::{GuestKind, World};

/// Rescans one VM of the node, or all of them; returns what is printed.
///
/// # Errors
/// The VM is not there, or it is locked.
pub(super) fn rescan(
    world: &mut World,
    node: &str,
    only: Option<Vmid>,
    dry_run: bool,
) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    if dry_run {
        lines.push("NOTE: running in dry-run mode, won't write changes out!".to_owned());
    }
    lines.push("rescan volumes...".to_owned());
    let here = world.guests.values().filter(|guest| guest.node == node && guest.kind == GuestKind::Qemu);
    let vmids: Vec<Vmid> = match only {
        Some(vmid) => vec![vmid],
        None => here.map(|guest| guest.vmid).collect(),
    };
    for vmid in vmids {
        let guest =
            world.guests.get(&vmid).filter(|guest| guest.node == node && guest.kind == GuestKind::Qemu);
        let guest = guest.ok_or_else(|| {
            format!("Configuration file 'nodes/{node}/qemu-server/{vmid}.conf' does not exist")
        })?;
        if let Some(lock) = guest.lock() {
            return Err(format!("VM is locked ({lock})"));
        }
        rescan_one(world, node, vmid, dry_run, &mut lines);
    }
    Ok(lines)
}

fn rescan_one(world: &mut World, node: &str, vmid: Vmid, dry_run: bool, lines: &mut Vec<String>) {
    let storages: Vec<String> = world
        .storages
        .values()
        .filter(|def| def.content.contains("images"))
        .map(|def| def.id.clone())
        .collect();
    let active = storages.iter().filter(|id| world.active_storage(id, node).is_ok());
    let mut found: Vec<(String, u64)> = active
        .flat_map(|id| world.volumes(node, id, Some(vmid)))
        .filter(|volume| volume.name.content == "images" && volume.name.owner == Some(vmid))
        .map(|volume| (volume.id, volume.size))
        .collect();
    found.sort();
    let version = world.version;
    let Some(guest) = world.guests.get_mut(&vmid) else { return };
    let mut config = guest.config.clone();
    let all = drives(version, &config);
    for mut drive in all.iter().filter(|drive| !drive.is_cdrom()).cloned() {
        let Some((_, size)) = found.iter().find(|(id, _)| *id == drive.file()) else { continue };
        let (old, new) = (drive.option("size").unwrap_or("0").to_owned(), Bytes::new(*size).to_pve_size());
        if old != new {
            lines.push(format!(
                "VM {vmid} ({}): size of disk '{}' updated from {old} to {new}",
                drive.slot,
                drive.file()
            ));
            drive.set("size", new);
            config.insert(drive.slot.clone(), drive.print(version));
        }
    }
    let is_used = |id: &str| all.iter().any(|drive| drive.file() == id);
    let unused: Vec<(String, String)> = config
        .iter()
        .filter(|(key, _)| key.starts_with("unused"))
        .map(|(key, id)| (key.clone(), id.clone()))
        .collect();
    for (key, id) in &unused {
        if is_used(id) {
            lines.push(format!("VM {vmid} remove entry '{key}', its volume '{id}' is in use"));
            config.remove(key);
        }
    }
    for (id, _) in &found {
        let is_known = is_used(id)
            || unused.iter().any(|(_, known)| known == id)
            || id.contains(&format!("vm-{vmid}-state-"));
        let free = (0..256).map(|number| format!("unused{number}")).find(|key| !config.contains_key(key));
        if let Some(key) = free.filter(|_| !is_known) {
            lines.push(format!("VM {vmid}: add unreferenced volume '{id}' as '{key}' to config"));
            config.insert(key, id.clone());
        }
    }
    if !dry_run {
        guest.config = config;
        world.touch();
    }
}
