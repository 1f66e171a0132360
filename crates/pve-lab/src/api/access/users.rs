//! Users.

use std::collections::BTreeSet;

use pve_types::Privilege;
use serde_json::{Map, Value};

use super::super::{Call, Methods, Refusal};
use crate::world::User;

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/access/users", list),
    ("POST", "/access/users", create),
    ("GET", "/access/users/{userid}", get),
    ("PUT", "/access/users/{userid}", update),
    ("DELETE", "/access/users/{userid}", delete),
];

const PROPERTIES: &[&str] = &["firstname", "lastname", "email", "comment", "keys"];

fn shown(user: &User) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("enable".into(), u8::from(user.enable).into());
    shown.insert("expire".into(), user.expire.into());
    for (name, value) in user.properties.iter().filter(|(_, value)| !value.is_empty()) {
        shown.insert(name.clone(), value.as_str().into());
    }
    shown
}

fn tokens(user: &User) -> Vec<Value> {
    user.tokens.iter().map(|(name, token)| super::tokens::listed(name, token)).collect()
}

// PVE: pve-access-control src/PVE/API2/User.pm index: oneself, and the members of groups one may see.
fn list(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let wanted = [Privilege::UserModify, Privilege::SysAudit];
    let sees_all = call.require_any("/access/groups", &wanted).is_ok();
    let mut list = Vec::new();
    for (id, user) in &call.world.access.users {
        let sees = sees_all
            || id == call.caller.auth_id()
            || user
                .groups
                .iter()
                .any(|group| call.require_any(&format!("/access/groups/{group}"), &wanted).is_ok());
        let enabled = call.text("enabled").is_none_or(|asked| (asked == "1") == user.enable);
        if !sees || !enabled {
            continue;
        }
        let mut entry = shown(user);
        entry.insert("userid".into(), id.as_str().into());
        let realm = id.rsplit_once('@').and_then(|(_, realm)| call.world.access.realms.get(realm));
        if let Some(realm) = realm {
            entry.insert("realm-type".into(), realm.kind.as_str().into());
        }
        if user.totp_failures >= 8 {
            entry.insert("totp-locked".into(), 1.into());
        }
        if call.flag("full") {
            let groups: Vec<&str> = user.groups.iter().map(String::as_str).collect();
            entry.insert("groups".into(), groups.join(",").into());
            entry.insert("tokens".into(), tokens(user).into());
        }
        list.push(Value::Object(entry));
    }
    Ok(list.into())
}

fn create(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("userid");
    let failed = |text: String| Refusal::died(format!("create user failed: {text}"));
    if call.world.access.users.contains_key(&id) {
        return Err(failed(format!("user '{id}' already exists")));
    }
    let realm = id.rsplit_once('@').map_or("", |(_, realm)| realm);
    if call.is_given("password") {
        let kind = call.world.access.realms.get(realm).map(|realm| realm.kind.clone());
        match kind.as_deref() {
            Some("pve") => {}
            Some("pam") => {
                let name = id.rsplit_once('@').map_or("", |(name, _)| name);
                return Err(failed(format!("change password failed: user '{name}' does not exist")));
            }
            Some(_) => return Err(failed("can't set password on auth type".to_owned())),
            None => return Err(failed(format!("auth domain '{realm}' does not exist"))),
        }
    }
    let mut user = User {
        enable: call.flag_or("enable", true),
        password: call.text("password").map(str::to_owned),
        ..User::default()
    };
    apply(call, &mut user);
    user.groups = groups(call).map_err(|refusal| failed(refusal.message))?;
    call.world.access.users.insert(id, user);
    Ok(Value::Null)
}

fn apply(call: &Call<'_>, user: &mut User) {
    for name in PROPERTIES {
        if let Some(value) = call.text(name) {
            user.properties.insert((*name).to_owned(), value.to_owned());
        }
    }
    if let Some(expire) = call.integer("expire") {
        user.expire = u64::try_from(expire).unwrap_or(0);
    }
}

fn groups(call: &Call<'_>) -> Result<BTreeSet<String>, Refusal> {
    let groups = call.list("groups");
    match groups.iter().find(|group| !call.world.access.groups.contains_key(*group)) {
        Some(missing) => Err(Refusal::died(format!("no such group '{missing}'"))),
        None => Ok(groups.into_iter().collect()),
    }
}

fn missing(id: &str) -> Refusal {
    Refusal::died(format!("no such user ('{id}')"))
}

fn get(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("userid");
    let user = call.world.access.users.get(&id).ok_or_else(|| missing(&id))?;
    let mut entry = shown(user);
    entry.insert("groups".into(), user.groups.iter().map(String::as_str).collect());
    let tokens: Map<String, Value> =
        user.tokens.iter().map(|(name, token)| (name.clone(), super::tokens::shown(token))).collect();
    entry.insert("tokens".into(), if tokens.is_empty() { Value::Null } else { Value::Object(tokens) });
    Ok(Value::Object(entry))
}

fn update(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("userid");
    // PVE: pve-access-control src/PVE/API2/User.pm update_user: what fails under the lock is said with its purpose.
    let failed = |refusal: Refusal| Refusal::died(format!("update user failed: {}", refusal.message));
    let mut user = call.world.access.users.get(&id).cloned().ok_or_else(|| failed(missing(&id)))?;
    let new_groups = groups(call).map_err(failed)?;
    apply(call, &mut user);
    user.enable = call.flag_or("enable", user.enable);
    if call.is_given("groups") {
        if !call.flag("append") {
            user.groups.clear();
        }
        user.groups.extend(new_groups);
    }
    call.world.access.users.insert(id, user);
    Ok(Value::Null)
}

// PVE removes a user without asking whether there is one.
fn delete(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("userid");
    if id == "root@pam" {
        return Err(Refusal::died("delete user failed: can't delete root@pam"));
    }
    call.world.access.users.remove(&id);
    for node in call.world.access.acl.values_mut() {
        node.users.remove(&id);
        node.tokens.retain(|token, _| !token.starts_with(&format!("{id}!")));
    }
    call.world.access.acl.retain(|_, node| !node.is_empty());
    Ok(Value::Null)
}
