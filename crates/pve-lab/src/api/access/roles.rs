//! Roles.

use std::collections::BTreeSet;

use pve_types::Privilege;
use serde_json::{Map, Value, json};

use super::super::{Call, Methods, Refusal};
use crate::world::Role;

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/access/roles", list),
    ("POST", "/access/roles", create),
    ("GET", "/access/roles/{roleid}", get),
    ("PUT", "/access/roles/{roleid}", update),
    ("DELETE", "/access/roles/{roleid}", delete),
];

fn list(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let shown = call.world.access.roles.iter().map(|(id, role)| {
        let mut names: Vec<&str> = role.privileges.iter().map(|privilege| privilege.as_str()).collect();
        names.sort_unstable();
        let mut entry = json!({ "roleid": id, "privs": names.join(",") });
        entry["special"] = u8::from(role.special).into();
        entry
    });
    Ok(shown.collect())
}

fn privileges(call: &Call<'_>) -> BTreeSet<Privilege> {
    call.list("privs").iter().filter_map(|name| name.parse().ok()).collect()
}

fn create(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("roleid");
    if id.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("PVE")) {
        let text = "cannot use role ID starting with the (case-insensitive) 'PVE' namespace";
        return Err(Refusal::parameter("roleid", text));
    }
    if call.world.access.roles.contains_key(&id) {
        return Err(Refusal::died(format!("create role failed: role '{id}' already exists")));
    }
    let role = Role { privileges: privileges(call), special: false };
    call.world.access.roles.insert(id, role);
    Ok(Value::Null)
}

fn get(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("roleid");
    let missing = || Refusal::died(format!("role '{id}' does not exist"));
    let role = call.world.access.roles.get(&id).ok_or_else(missing)?;
    let shown: Map<String, Value> =
        role.privileges.iter().map(|privilege| (privilege.as_str().to_owned(), 1.into())).collect();
    Ok(Value::Object(shown))
}

fn changeable<'a>(call: &'a mut Call<'_>, verb: &str) -> Result<&'a mut Role, Refusal> {
    let id = call.string("roleid");
    match call.world.access.roles.get_mut(&id) {
        Some(role) if role.special => {
            Err(Refusal::died(format!("auto-generated role '{id}' cannot be {verb}")))
        }
        Some(role) => Ok(role),
        None => {
            let purpose = if verb == "deleted" { "delete" } else { "update" };
            Err(Refusal::died(format!("{purpose} role failed: role '{id}' does not exist")))
        }
    }
}

fn update(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (new, append) = (privileges(call), call.flag("append"));
    let role = changeable(call, "modified")?;
    if !append {
        role.privileges.clear();
    }
    role.privileges.extend(new);
    Ok(Value::Null)
}

fn delete(call: &mut Call<'_>) -> Result<Value, Refusal> {
    changeable(call, "deleted")?;
    let id = call.string("roleid");
    call.world.access.roles.remove(&id);
    for node in call.world.access.acl.values_mut() {
        for grants in [&mut node.users, &mut node.groups, &mut node.tokens] {
            grants.values_mut().for_each(|roles| roles.retain(|role, _| *role != id));
            grants.retain(|_, roles| !roles.is_empty());
        }
    }
    call.world.access.acl.retain(|_, node| !node.is_empty());
    Ok(Value::Null)
}
