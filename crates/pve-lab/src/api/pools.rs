//! Resource pools.

use pve_types::{Privilege, Vmid};
use serde_json::{Value, json};

use super::{Call, Methods, Refusal};
use crate::world::Pool;

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/pools", list),
    ("POST", "/pools", create),
    ("PUT", "/pools", update),
    ("DELETE", "/pools", delete),
    ("GET", "/pools/{poolid}", get),
    ("PUT", "/pools/{poolid}", update),
    ("DELETE", "/pools/{poolid}", delete),
];

fn entry(id: &str, pool: &Pool) -> Value {
    let mut entry = json!({ "poolid": id });
    if let Some(comment) = &pool.comment {
        entry["comment"] = comment.as_str().into();
    }
    entry
}

fn list(call: &mut Call<'_>) -> Result<Value, Refusal> {
    if let Some(id) = call.text("poolid").map(str::to_owned) {
        // PVE: pve-manager PVE/API2/Pool.pm index asks for Pool.Audit, and goes on whatever the answer is.
        let mut shown = with_members(call, &id)?;
        shown["poolid"] = id.into();
        return Ok(vec![shown].into());
    }
    let seen = call.world.access.pools.iter().filter(|(id, _)| {
        call.require_any(&format!("/pool/{id}"), &[Privilege::PoolAudit, Privilege::PoolAllocate]).is_ok()
    });
    Ok(seen.map(|(id, pool)| entry(id, pool)).collect())
}

fn missing(id: &str) -> Refusal {
    Refusal::died(format!("pool '{id}' does not exist"))
}

fn create(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("poolid");
    if call.world.access.pools.contains_key(&id) {
        return Err(Refusal::died(format!("create pool failed: pool '{id}' already exists")));
    }
    if let Some((parent, _)) = id.rsplit_once('/')
        && !call.world.access.pools.contains_key(parent)
    {
        let text = format!("create pool failed: parent '{parent}' of pool '{id}' does not exist");
        return Err(Refusal::died(text));
    }
    let leaf = id.rsplit('/').next().unwrap_or_default();
    if call.world.version.at_least(9, 0) && !leaf.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return Err(Refusal::died("create pool failed: pool name must start with a letter"));
    }
    let pool = Pool { comment: call.text("comment").map(str::to_owned), ..Pool::default() };
    call.world.access.pools.insert(id, pool);
    Ok(Value::Null)
}

fn with_members(call: &Call<'_>, id: &str) -> Result<Value, Refusal> {
    let pool = call.world.access.pools.get(id).ok_or_else(|| missing(id))?;
    let kind = call.text("type");
    let mut members = Vec::new();
    for number in &pool.guests {
        let guest = Vmid::new(*number).ok().and_then(|vmid| call.world.guests.get(&vmid));
        if let Some(guest) = guest {
            let mut entry = super::cluster::guest_resource(call.world, guest);
            // PVE: pve-manager PVE/API2Tools.pm extract_vm_stats: neither is among a guest's statistics.
            if let Some(entry) = entry.as_object_mut() {
                entry.remove("pool");
                entry.remove("tags");
            }
            if kind.is_none_or(|kind| entry["type"] == kind) {
                members.push(entry);
            }
        }
    }
    for storage in pool.storages.iter().filter(|_| kind.is_none_or(|kind| kind == "storage")) {
        let nodes: Vec<String> = call.world.nodes.keys().cloned().collect();
        members.extend(
            nodes.iter().filter_map(|node| super::cluster::storage_resource(call.world, node, storage)),
        );
    }
    let mut shown = json!({ "members": members });
    if let Some(comment) = &pool.comment {
        shown["comment"] = comment.as_str().into();
    }
    Ok(shown)
}

fn get(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("poolid");
    let mut shown = with_members(call, &id)?;
    shown["poolid"] = id.into();
    Ok(shown)
}

// PVE: pve-manager PVE/API2/Pool.pm update_pool
fn update(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("poolid");
    let failed = |text: String| Refusal::died(format!("update pools failed: {text}"));
    if !call.world.access.pools.contains_key(&id) {
        return Err(failed(format!("pool '{id}' does not exist")));
    }
    let removes = call.flag("delete");
    for vmid in call.list("vms") {
        let wanted = [Privilege::PermissionsModify, Privilege::VmAllocate];
        call.require_any(&format!("/vms/{vmid}"), &wanted).map_err(|refusal| failed(refusal.full_text()))?;
        let number: u32 = vmid.parse().map_err(|_| Refusal::parameter("vms", "no VMID"))?;
        change_guest(call, &id, number, removes)?;
    }
    for storage in call.list("storage") {
        let wanted = [Privilege::PermissionsModify, Privilege::DatastoreAllocate];
        call.require_any(&format!("/storage/{storage}"), &wanted)
            .map_err(|refusal| failed(refusal.full_text()))?;
        let pool = call.world.access.pools.get_mut(&id).ok_or_else(|| missing(&id))?;
        let changed =
            if removes { pool.storages.remove(&storage) } else { pool.storages.insert(storage.clone()) };
        if !changed {
            let text = if removes {
                format!("Storage '{storage}' is not a pool member")
            } else {
                format!("Storage '{storage}' is already a pool member")
            };
            return Err(failed(text));
        }
    }
    let comment = call.text("comment").map(str::to_owned);
    if let (Some(pool), true) = (call.world.access.pools.get_mut(&id), comment.is_some()) {
        pool.comment = comment;
    }
    Ok(Value::Null)
}

fn change_guest(call: &mut Call<'_>, id: &str, number: u32, removes: bool) -> Result<(), Refusal> {
    let failed = |text: String| Refusal::died(format!("update pools failed: {text}"));
    let now = call
        .world
        .access
        .pools
        .iter()
        .find(|(_, pool)| pool.guests.contains(&number))
        .map(|(id, _)| id.clone());
    if removes {
        if now.as_deref() != Some(id) {
            return Err(failed(format!("VM {number} is not a pool member")));
        }
    } else {
        match &now {
            Some(now) if now == id => return Err(failed(format!("VM {number} is already a pool member"))),
            Some(now) if !call.flag("allow-move") => {
                return Err(failed(format!(
                    "VM {number} belongs already to pool '{now}' and 'allow-move' is not set"
                )));
            }
            Some(now) => call
                .require(&format!("/pool/{now}"), &[Privilege::PoolAllocate])
                .map_err(|refusal| failed(refusal.full_text()))?,
            None => {}
        }
    }
    call.world.access.pools.values_mut().for_each(|pool| pool.guests.retain(|guest| *guest != number));
    if let (Some(pool), false) = (call.world.access.pools.get_mut(id), removes) {
        pool.guests.insert(number);
    }
    Ok(())
}

fn delete(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("poolid");
    let failed = |text: String| Refusal::died(format!("delete pool failed: {text}"));
    let pool =
        call.world.access.pools.get(&id).ok_or_else(|| failed(format!("pool '{id}' does not exist")))?;
    let below = format!("{id}/");
    if let Some(inner) = call.world.access.pools.keys().find(|other| other.starts_with(&below)) {
        return Err(failed(format!("pool '{id}' is not empty (contains pool '{inner}')")));
    }
    // Members that are there no longer do not count.
    let is_there =
        |number: &&u32| Vmid::new(**number).is_ok_and(|vmid| call.world.guests.contains_key(&vmid));
    if let Some(vmid) = pool.guests.iter().find(is_there) {
        return Err(failed(format!("pool '{id}' is not empty (contains VM {vmid})")));
    }
    if let Some(storage) = pool.storages.iter().find(|storage| call.world.storages.contains_key(*storage)) {
        return Err(failed(format!("pool '{id}' is not empty (contains storage '{storage}')")));
    }
    call.world.access.pools.remove(&id);
    call.world.access.acl.remove(&format!("/pool/{id}"));
    Ok(Value::Null)
}
