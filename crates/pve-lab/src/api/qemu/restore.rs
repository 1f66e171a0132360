//! Restoring a VM from a backup.

use pve_types::{Bytes, Privilege};
use serde_json::Value;

use super::allowed::Asker;
use super::create::unused_id;
use super::drive::drives;
use crate::api::{Call, Refusal};
use crate::world::{Config, Guest, GuestKind, NewVolume, Stage, TaskKey, Worker, World, split_id};

/// `POST /nodes/{node}/qemu` with `archive`.
pub fn restore(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (node, vmid) = (call.node(), call.vmid()?);
    let archive = call.string("archive");
    let asker = Asker { auth_id: call.caller.auth_id().to_owned(), node: node.clone(), vmid, pool: None };
    asker.may_use_volume(call.world, &archive)?;
    let may_allocate = call.require(&format!("/vms/{vmid}"), &[Privilege::VmAllocate]).is_ok();
    let may_overwrite =
        call.flag("force") && call.require(&format!("/vms/{vmid}"), &[Privilege::VmBackup]).is_ok();
    if !may_allocate && !may_overwrite {
        return Err(Refusal::new(403, "Permission check failed"));
    }
    let prefix = format!("unable to restore VM {vmid} - ");
    if call.world.guests.contains_key(&vmid) {
        if !call.flag("force") {
            unused_id(call.world, vmid, &prefix)?;
        }
        if call.world.guests.get(&vmid).is_some_and(Guest::is_running) {
            return Err(Refusal::died(format!("{prefix}vm is running")));
        }
    }
    let path = call.world.volume_path(&archive)?;
    let saved = saved_config(call.world, &node, &path).ok_or_else(|| {
        Refusal::died(format!("{prefix}'{archive}' does not exist or is not a VM's backup"))
    })?;
    let storage = call.text("storage").map(str::to_owned);
    let start = call.flag("start");
    let inner = asker.clone();
    let stage = Stage::now(move |world, key| {
        run(world, key, &inner, &saved, storage.as_deref(), &path)?;
        if start {
            super::power::start_in_background(world, &inner);
        }
        Ok(())
    });
    let worker = Worker {
        node,
        kind: "qmrestore",
        id: vmid.to_string(),
        owner: asker.auth_id,
        lock: Some((vmid, std::time::Duration::from_secs(10))),
        stages: vec![stage],
        on_failure: None,
        error_prefix: prefix,
    };
    Ok(call.world.start_worker(worker).into())
}

/// The configuration in a backup that `vzdump` made: the archive's text.
fn saved_config(world: &World, node: &str, path: &str) -> Option<Config> {
    let bytes = world.files(node, path)?.read_at(path, 0, 1 << 20).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let body = text.strip_prefix("VMA\n")?;
    let pairs = body.lines().filter_map(|line| line.split_once(": "));
    Some(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

/// A cloud-init drive is named after the VM that it is restored for.
// PVE: qemu-server src/PVE/QemuServer.pm restore_allocate_devices
fn cloud_init_name(world: &World, storage: &str, format: &str, vmid: pve_types::Vmid) -> String {
    match world.storage(storage).is_ok_and(|def| def.is_file_based()) {
        true => format!("vm-{vmid}-cloudinit.{format}"),
        false => format!("vm-{vmid}-cloudinit"),
    }
}

fn run(
    world: &mut World,
    key: TaskKey,
    asker: &Asker,
    saved: &Config,
    storage: Option<&str>,
    path: &str,
) -> Result<(), String> {
    world.log(
        key,
        format!("restore vma archive: vma extract -v -r /var/tmp/vzdumptmp.fifo {path} /var/tmp/vzdumptmp"),
    );
    if world.guests.contains_key(&asker.vmid) {
        super::destroy::forget(world, asker.vmid);
    }
    let mut config = saved.clone();
    let version = world.version;
    for mut drive in drives(version, saved) {
        let is_cloud_init = drive.is_cloudinit();
        let Some(own) = drive.storage().filter(|_| is_cloud_init || !drive.is_cdrom()) else { continue };
        let target = storage.unwrap_or(own).to_owned();
        let size =
            drive.option("size").and_then(|size| Bytes::from_pve_size(size).ok()).map_or(0, Bytes::get);
        let of_files = world.storage(&target)?.is_file_based();
        let format = match is_cloud_init && of_files {
            true => "qcow2".to_owned(),
            false => world.storage(&target)?.default_format().to_owned(),
        };
        let _ = split_id(drive.file());
        let new = NewVolume {
            node: &asker.node,
            storage: &target,
            vmid: asker.vmid,
            format: &format,
            name: is_cloud_init.then(|| cloud_init_name(world, &target, &format, asker.vmid)),
            size: if is_cloud_init { 4 << 20 } else { size },
            data: size / 10,
        };
        let made = world.allocate(&new)?;
        world.log_lines(key, made.lines);
        world.log(key, format!("new volume ID is '{}'", made.id));
        drive.set("file", made.id);
        config.insert(drive.slot.clone(), drive.print(version));
    }
    let created = world.now_seconds();
    world.guests.insert(asker.vmid, Guest::new(asker.vmid, GuestKind::Qemu, &asker.node, config, created));
    Ok(())
}
