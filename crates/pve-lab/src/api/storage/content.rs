//! What is on a storage.

use std::time::Duration;

use pve_types::{Privilege, Vmid};
use serde_json::{Map, Value, json};

use super::super::{Call, Methods, Refusal};
use crate::world::{NewVolume, Stage, Volume, VolumeName, Worker, parse_name, split_id};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/nodes/{node}/storage/{storage}/content", list),
    ("POST", "/nodes/{node}/storage/{storage}/content", allocate),
    ("GET", "/nodes/{node}/storage/{storage}/content/{volume}", get),
    ("POST", "/nodes/{node}/storage/{storage}/content/{volume}", copy),
    ("PUT", "/nodes/{node}/storage/{storage}/content/{volume}", update),
    ("DELETE", "/nodes/{node}/storage/{storage}/content/{volume}", delete),
];

/// A volume as a list shows it.
fn listed(volume: &Volume, is_file: bool) -> Value {
    let mut shown = json!({
        "volid": volume.id, "content": volume.name.content, "format": volume.name.format, "size": volume.size,
    });
    if volume.name.content == "images" {
        if is_file {
            shown["used"] = volume.used.into();
            shown["parent"] = volume.parent.as_deref().map_or(Value::Null, Value::from);
        } else if let Some(parent) = &volume.parent {
            shown["parent"] = parent.as_str().into();
        }
    }
    if let Some(owner) = volume.name.owner {
        shown["vmid"] = owner.get().into();
    }
    shown["ctime"] = volume.created.into();
    if volume.name.content == "backup" {
        shown["subtype"] = "qemu".into();
    }
    shown
}

fn may_see(call: &Call<'_>, volume: &Volume) -> bool {
    let storage = volume.id.split(':').next().unwrap_or_default();
    let path = format!("/storage/{storage}");
    let of_owner =
        |privilege| volume.name.owner.is_some_and(|owner| call.has(&format!("/vms/{owner}"), privilege));
    match volume.name.content {
        _ if call.has(&path, Privilege::DatastoreAllocate) || call.has(&path, Privilege::DatastoreAudit) => {
            volume.name.content != "backup"
                || call.has(&path, Privilege::DatastoreAllocate)
                || of_owner(Privilege::VmBackup)
        }
        "backup" => of_owner(Privilege::VmBackup),
        "images" => of_owner(Privilege::VmConfigDisk),
        _ => true,
    }
}

fn list(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let node = call.node();
    let id = call.string("storage");
    let is_file = call.world.active_storage(&id, &node)?.is_file_based();
    let owner = call.text("vmid").and_then(|text| text.parse::<Vmid>().ok());
    let kind = call.text("content");
    let volumes = call.world.volumes(&node, &id, owner);
    let seen = volumes.iter().filter(|volume| {
        kind.is_none_or(|kind| volume.name.content == kind)
            && owner.is_none_or(|owner| volume.name.owner.is_none_or(|of| of == owner))
            && may_see(call, volume)
    });
    Ok(seen.map(|volume| listed(volume, is_file)).collect())
}

/// `NUMBER[KMG]` in bytes; KiB without a unit.
fn size(text: &str) -> Option<u64> {
    let (number, unit) = match text.char_indices().last()? {
        (at, 'K') => (&text[..at], 1 << 10),
        (at, 'M') => (&text[..at], 1 << 20),
        (at, 'G') => (&text[..at], 1 << 30),
        (at, 'T') => (&text[..at], 1 << 40),
        _ => (text, 1 << 10),
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

fn allocate(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (node, storage, vmid) = (call.node(), call.string("storage"), call.vmid()?);
    let name = call.string("filename");
    let bytes = size(&call.string("size"))
        .ok_or_else(|| Refusal::parameter("size", "value does not match the regex pattern"))?;
    let name = name.rsplit(':').next().unwrap_or_default().to_owned();
    if let Some((folder, _)) = name.split_once('/')
        && folder != vmid.to_string()
    {
        return Err(Refusal::died(format!("unable to parse volume filename '{name}'")));
    }
    let name = name.rsplit('/').next().unwrap_or_default().to_owned();
    let def = call.world.enabled_storage(&storage, &node)?;
    let from_name =
        name.rsplit_once('.').map(|(_, format)| format.to_owned()).filter(|_| def.is_file_based());
    let format = call.text("format").map(str::to_owned);
    if let (Some(asked), Some(named)) = (&format, &from_name)
        && asked != named
    {
        let text = format!("different storage formats ({asked} != {named})");
        return Err(Refusal::parameter("format", text));
    }
    let format = format.or(from_name).unwrap_or_else(|| def.default_format().to_owned());
    let new = NewVolume {
        node: &node,
        storage: &storage,
        vmid,
        format: &format,
        name: (!name.is_empty()).then_some(name),
        size: bytes,
        data: 0,
    };
    let made = call.world.allocate(&new)?;
    call.output.extend(made.lines);
    Ok(made.id.into())
}

/// The volume that a path names: `STORAGE:NAME`, or a name on the storage of the path.
fn volume_id(call: &Call<'_>) -> Result<(String, VolumeName), Refusal> {
    let (text, storage) = (call.string("volume"), call.text("storage").unwrap_or_default());
    let id = match split_id(&text) {
        Ok((named, _)) if !storage.is_empty() && named != storage => {
            let text = format!("storage ID mismatch ({named} != {storage})\n");
            return Err(Refusal::parameter("volume", text));
        }
        Ok(_) => text,
        Err(_) => format!("{storage}:{text}"),
    };
    let (storage, name) = split_id(&id)?;
    let parsed = parse_name(call.world.storage(storage)?, name)?;
    Ok((id, parsed))
}

fn may_access(call: &Call<'_>, id: &str) -> Result<(), Refusal> {
    let owner = crate::api::qemu::owner(call.world, id);
    let vmid = owner.or_else(|| Vmid::new(Vmid::MAX).ok());
    let Some(vmid) = vmid else { return Ok(()) };
    let asker = crate::api::qemu::Asker {
        auth_id: call.caller.auth_id().to_owned(),
        node: call.node(),
        vmid,
        pool: None,
    };
    match owner {
        Some(owner) if call.has(&format!("/vms/{owner}"), Privilege::VmConfigDisk) => Ok(()),
        Some(_) if !asker.is_root() => {
            let other = crate::api::qemu::Asker { vmid: Vmid::new(Vmid::MAX).unwrap_or(vmid), ..asker };
            other.may_use_volume(call.world, id)
        }
        _ => asker.may_use_volume(call.world, id),
    }
}

fn get(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (id, _) = volume_id(call)?;
    may_access(call, &id)?;
    let volume = call
        .world
        .volume(&call.node(), &id)
        .map_err(|_| Refusal::died(format!("volume_size_info on '{id}' failed - no format")))?;
    let mut shown = Map::new();
    shown.insert("path".into(), call.world.volume_path(&id)?.into());
    shown.insert("size".into(), volume.size.into());
    shown.insert("used".into(), volume.used.into());
    shown.insert("format".into(), volume.name.format.as_str().into());
    if let Some(parent) = &volume.parent {
        shown.insert("parent".into(), parent.as_str().into());
    }
    Ok(Value::Object(shown))
}

fn copy(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let _ = volume_id(call)?;
    Err(Refusal::died("the lab does not copy volumes this way"))
}

fn update(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (id, name) = volume_id(call)?;
    if name.content != "backup" {
        let text = match call.is_given("notes") {
            true => "only backups can have notes",
            false => "only backups support attribute 'protected'",
        };
        return Err(Refusal::died(text));
    }
    may_access(call, &id)?;
    let path = call.world.volume_path(&id)?;
    if let Some(notes) = call.text("notes").map(str::to_owned)
        && let Some(tree) = call.world.files_mut(&call.node(), &path)
    {
        tree.write(&format!("{path}.notes"), notes.as_bytes())
            .map_err(|error| Refusal::died(error.to_string()))?;
    }
    Ok(Value::Null)
}

// PVE: pve-storage src/PVE/API2/Storage/Content.pm delete
fn delete(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (id, name) = volume_id(call)?;
    let storage = id.split(':').next().unwrap_or_default().to_owned();
    let path = format!("/storage/{storage}");
    if name.content == "backup"
        && let Some(owner) = name.owner
        && !call.has(&path, Privilege::DatastoreAllocate)
    {
        call.require(&path, &[Privilege::DatastoreAllocateSpace])?;
        call.require(&format!("/vms/{owner}"), &[Privilege::VmBackup])?;
    } else {
        call.require(&path, &[Privilege::DatastoreAllocate])?;
    }
    if name.content == "images"
        && let Some(guest) = name.owner.and_then(|owner| call.world.guests.get(&owner))
        && guest.is_template()
        && call.world.is_base_in_use(&call.node(), &id)
    {
        return Err(Refusal::died(format!("base volume '{id}' is still in use by linked cloned")));
    }
    let node = call.node();
    let task_id = match name.owner {
        Some(owner) => format!("{owner}@{storage}"),
        None => storage,
    };
    let inner = node.clone();
    let stage = Stage::new(Duration::ZERO, move |world, key| {
        let lines = world.free_volume(&inner, &id)?;
        world.log_lines(key, lines);
        world.log(key, format!("Removed volume '{id}'"));
        Ok(())
    });
    let worker = Worker {
        node,
        kind: "imgdel",
        id: task_id,
        owner: call.caller.auth_id().to_owned(),
        lock: None,
        stages: vec![stage],
        on_failure: None,
        error_prefix: String::new(),
    };
    Ok(call.world.start_worker(worker).into())
}
