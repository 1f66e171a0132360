//! `/nodes/{node}/storage`: what a node has of the storages.

use pve_types::Privilege;
use serde_json::{Map, Value, json};

use super::super::{Call, Methods, Refusal};
use super::definitions::content_text;
use crate::schema::split_list;
use crate::world::{StorageDef, World};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/nodes/{node}/storage", list),
    ("GET", "/nodes/{node}/storage/{storage}", index),
    ("GET", "/nodes/{node}/storage/{storage}/status", status),
];

/// A storage's state on a node.
// PVE: pve-storage src/PVE/API2/Storage/Status.pm; pve-manager PVE/API2Tools.pm
pub fn state(world: &World, def: &StorageDef, node: &str) -> Map<String, Value> {
    let enabled = !def.is_disabled();
    let active = enabled && !def.offline_on.contains(node);
    let (total, used) = if active { world.storage_usage(def, node) } else { (0, 0) };
    let shown = json!({
        "type": def.kind, "content": content_text(def), "enabled": u8::from(enabled), "active": u8::from(active),
        "shared": u8::from(def.is_shared()), "total": total, "used": used, "avail": total.saturating_sub(used),
    });
    match shown {
        Value::Object(shown) => shown,
        _ => Map::new(),
    }
}

fn with_formats(world: &World, def: &StorageDef, shown: &mut Map<String, Value>) {
    let (supported, _) = def.formats();
    let map: Map<String, Value> = supported.iter().map(|format| ((*format).to_owned(), 1.into())).collect();
    shown.insert("format".into(), json!([map, def.default_format()]));
    if world.version.at_least(9, 0) {
        shown.insert("formats".into(), json!({ "supported": supported, "default": def.default_format() }));
    }
}

fn list(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let node = call.node();
    if let Some(id) = call.text("storage")
        && !call.world.storages.contains_key(id)
    {
        return Err(Refusal::parameter("storage", "No such storage."));
    }
    let contents: Vec<String> =
        call.text("content").map_or_else(Vec::new, |text| split_list(text).map(str::to_owned).collect());
    let target = call.text("target").filter(|target| *target != node).map(str::to_owned);
    let wanted = |def: &&StorageDef| {
        call.text("storage").is_none_or(|id| def.id == id)
            && def.is_for_node(&node)
            && (!call.flag("enabled") || !def.is_disabled())
            && (contents.is_empty() || contents.iter().any(|content| def.content.contains(content)))
            && target.as_ref().is_none_or(|target| def.is_shared() && def.is_for_node(target))
    };
    let privileges = [Privilege::DatastoreAudit, Privilege::DatastoreAllocateSpace];
    let seen = call
        .world
        .storages
        .values()
        .filter(wanted)
        .filter(|def| call.require_any(&format!("/storage/{}", def.id), &privileges).is_ok());
    let shown = seen.map(|def| {
        let mut shown = state(call.world, def, &node);
        shown.insert("storage".into(), def.id.as_str().into());
        let (total, used) = (shown["total"].as_u64().unwrap_or(0), shown["used"].as_u64().unwrap_or(0));
        if total > 0 {
            shown.insert("used_fraction".into(), json!(used as f64 / total as f64));
        }
        if call.flag("format") {
            with_formats(call.world, def, &mut shown);
        }
        Value::Object(shown)
    });
    Ok(shown.collect())
}

/// The storage that a path names.
///
/// # Errors
/// 400, as PVE says it.
pub fn named<'a>(call: &'a Call<'_>) -> Result<&'a StorageDef, Refusal> {
    let id = call.text("storage").unwrap_or_default();
    call.world.storages.get(id).ok_or_else(|| Refusal::parameter("storage", "No such storage."))
}

fn index(_: &mut Call<'_>) -> Result<Value, Refusal> {
    let names = ["content", "download-url", "status", "upload"];
    Ok(names.iter().map(|name| json!({ "subdir": name })).collect())
}

fn status(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let node = call.node();
    let def = named(call)?;
    if !def.is_for_node(&node) {
        return Err(Refusal::parameter("storage", "No such storage."));
    }
    Ok(Value::Object(state(call.world, def, &node)))
}
