//! Backups.

use pve_types::{Privilege, Vmid};
use serde_json::{Value, json};

use super::{Call, Methods, Refusal};
use crate::world::{GuestKind, Stage, TaskKey, Worker, World, content_folder};

/// The methods of this file.
pub const METHODS: Methods =
    &[("POST", "/nodes/{node}/vzdump", backup), ("GET", "/nodes/{node}/vzdump/defaults", defaults)];

fn defaults(_: &mut Call<'_>) -> Result<Value, Refusal> {
    Ok(json!({
        "compress": "0", "ionice": 7, "lockwait": 180, "mailnotification": "always", "mode": "snapshot",
        "notes-template": "{{guestname}}", "prune-backups": { "keep-all": 1 }, "remove": 1, "stdexcludes": 1,
        "storage": "local",
    }))
}

/// The guests of this node that a backup is to take.
fn chosen(call: &Call<'_>) -> Vec<Vmid> {
    let node = call.node();
    let (asked, excluded) = (call.list("vmid"), call.list("exclude"));
    let pool = call.text("pool").and_then(|pool| call.world.access.pools.get(pool));
    let wanted = |guest: &&crate::world::Guest| {
        let id = guest.vmid.to_string();
        guest.node == node
            && !excluded.contains(&id)
            && (call.flag("all")
                || asked.contains(&id)
                || pool.is_some_and(|pool| pool.guests.contains(&guest.vmid.get())))
    };
    call.world.guests.values().filter(wanted).map(|guest| guest.vmid).collect()
}

// PVE: pve-manager PVE/API2/VZDump.pm
fn backup(call: &mut Call<'_>) -> Result<Value, Refusal> {
    for option in ["tmpdir", "dumpdir", "script", "job-id"] {
        if call.is_given(option) && !call.caller.is_root() {
            return Err(Refusal::parameter(option, "Only root may set this option."));
        }
    }
    if ["bwlimit", "ionice", "performance"].iter().any(|option| call.is_given(option)) {
        call.require("/", &[Privilege::SysModify])?;
    }
    if !["vmid", "all", "pool", "stop"].iter().any(|option| call.is_given(option)) {
        return Err(Refusal::parameter("vmid", "property is missing and it is not optional"));
    }
    let storage = call.text("storage").unwrap_or("local").to_owned();
    let guests = chosen(call);
    for vmid in call.list("vmid") {
        call.require(&format!("/vms/{vmid}"), &[Privilege::VmBackup])?;
    }
    if let Some(storage) = call.text("storage") {
        call.require(&format!("/storage/{storage}"), &[Privilege::DatastoreAllocateSpace])?;
    }
    if guests.is_empty() {
        return Ok("OK".into());
    }
    let node = call.node();
    let def = call.world.enabled_storage(&storage, &node)?;
    if !def.content.contains("backup") {
        let text = format!(
            "could not get storage information for '{storage}': storage '{storage}' does not support backups"
        );
        return Err(Refusal::died(text));
    }
    let compress = call.text("compress").unwrap_or("0").to_owned();
    let id = if guests.len() == 1 { guests[0].to_string() } else { String::new() };
    let notes = call.text("notes-template").map(str::to_owned);
    let inner = node.clone();
    let stage = Stage::now(move |world, key| {
        guests
            .into_iter()
            .try_for_each(|vmid| dump(world, key, &inner, vmid, &storage, &compress, notes.as_deref()))
    });
    let worker = Worker {
        node,
        kind: "vzdump",
        id,
        owner: call.caller.auth_id().to_owned(),
        lock: None,
        stages: vec![stage],
        on_failure: None,
        error_prefix: String::new(),
    };
    Ok(call.world.start_worker(worker).into())
}

fn dump(
    world: &mut World,
    key: TaskKey,
    node: &str,
    vmid: Vmid,
    storage: &str,
    compress: &str,
    notes: Option<&str>,
) -> Result<(), String> {
    let guest = world.guests.get(&vmid).ok_or_else(|| format!("VM {vmid} not found"))?;
    if guest.kind == GuestKind::Lxc {
        return Err("the lab does not back up containers".to_owned());
    }
    let text = format!("VMA\n{}", guest.config_text());
    let def = world.storage(storage)?;
    let base = def.path().ok_or_else(|| format!("storage '{storage}' is no directory"))?;
    let ending = match compress {
        "zstd" => ".zst",
        "gzip" | "1" => ".gz",
        "lzo" => ".lzo",
        _ => "",
    };
    let stamp = crate::calendar::backup_stamp(world.now_seconds());
    let path = format!("{base}/{}/vzdump-qemu-{vmid}-{stamp}.vma{ending}", content_folder("backup"));
    world.log(key, format!("INFO: Starting Backup of VM {vmid} (qemu)"));
    world.log(key, format!("INFO: creating vzdump archive '{path}'"));
    let tree = world.files_mut(node, &path).ok_or("no such node")?;
    let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder).to_owned();
    let written = tree.create_dir_all(&folder).and_then(|()| tree.write(&path, text.as_bytes()));
    written.map_err(|error| format!("Backup of VM {vmid} failed - {error}"))?;
    if let Some(notes) = notes
        && let Some(tree) = world.files_mut(node, &path)
    {
        let _ = tree.write(&format!("{path}.notes"), notes.as_bytes());
    }
    world.log(key, format!("INFO: Finished Backup of VM {vmid} (00:00:01)"));
    world.log(key, "INFO: Backup job finished successfully");
    Ok(())
}
