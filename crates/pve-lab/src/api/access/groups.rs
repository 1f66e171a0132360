//! Groups.

use pve_types::Privilege;
use serde_json::{Value, json};

use super::super::{Call, Methods, Refusal};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/access/groups", list),
    ("POST", "/access/groups", create),
    ("GET", "/access/groups/{groupid}", get),
    ("PUT", "/access/groups/{groupid}", update),
    ("DELETE", "/access/groups/{groupid}", delete),
];

fn members(call: &Call<'_>, group: &str) -> Vec<String> {
    let users = call.world.access.users.iter().filter(|(_, user)| user.groups.contains(group));
    users.map(|(id, _)| id.clone()).collect()
}

fn list(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let wanted = [Privilege::UserModify, Privilege::SysAudit, Privilege::GroupAllocate];
    let groups: Vec<(String, Option<String>)> =
        call.world.access.groups.iter().map(|(id, comment)| (id.clone(), comment.clone())).collect();
    let visible = groups
        .into_iter()
        .filter(|(id, _)| call.require_any(&format!("/access/groups/{id}"), &wanted).is_ok());
    let shown = visible.map(|(id, comment)| {
        let mut entry = json!({ "groupid": id, "users": members(call, &id).join(",") });
        if let Some(comment) = comment {
            entry["comment"] = comment.into();
        }
        entry
    });
    Ok(shown.collect())
}

fn create(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("groupid");
    if call.world.access.groups.contains_key(&id) {
        return Err(Refusal::died(format!("create group failed: group '{id}' already exists")));
    }
    let comment = call.text("comment").map(str::to_owned);
    call.world.access.groups.insert(id, comment);
    Ok(Value::Null)
}

fn exists(call: &Call<'_>, id: &str) -> Result<(), Refusal> {
    match call.world.access.groups.contains_key(id) {
        true => Ok(()),
        false => Err(Refusal::died(format!("group '{id}' does not exist"))),
    }
}

fn get(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("groupid");
    exists(call, &id)?;
    let mut entry = json!({ "members": members(call, &id) });
    if let Some(Some(comment)) = call.world.access.groups.get(&id) {
        entry["comment"] = comment.as_str().into();
    }
    Ok(entry)
}

fn update(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("groupid");
    exists(call, &id)
        .map_err(|refusal| Refusal::died(format!("update group failed: {}", refusal.message)))?;
    if let Some(comment) = call.text("comment").map(str::to_owned) {
        call.world.access.groups.insert(id, Some(comment));
    }
    Ok(Value::Null)
}

fn delete(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("groupid");
    exists(call, &id)
        .map_err(|refusal| Refusal::died(format!("delete group failed: {}", refusal.message)))?;
    call.world.access.groups.remove(&id);
    for user in call.world.access.users.values_mut() {
        user.groups.remove(&id);
    }
    for node in call.world.access.acl.values_mut() {
        node.groups.remove(&id);
    }
    call.world.access.acl.retain(|_, node| !node.is_empty());
    Ok(Value::Null)
}
