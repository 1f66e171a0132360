//! The ACL, and what follows from it.

use pve_types::Privilege;
use serde_json::{Map, Value, json};

use super::super::rights::{self, effective, normal_path, perm_modify_privileges};
use super::super::{Call, Methods, Refusal};
use crate::world::Grants;

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/access/acl", list),
    ("PUT", "/access/acl", update),
    ("GET", "/access/permissions", permissions),
];

fn list(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let audits = call.has("/access", Privilege::SysAudit);
    let mut list = Vec::new();
    for (path, node) in &call.world.access.acl {
        if !audits && call.require_any(path, &perm_modify_privileges(path)).is_err() {
            continue;
        }
        for (kind, grants) in [("user", &node.users), ("group", &node.groups), ("token", &node.tokens)] {
            for (id, roles) in grants {
                list.extend(roles.iter().map(|(role, propagate)| {
                    json!({
                        "path": path, "type": kind, "ugid": id, "roleid": role, "propagate": u8::from(*propagate),
                    })
                }));
            }
        }
    }
    Ok(list.into())
}

/// The path as the ACL keeps it, `None` for one that PVE does not allow.
// PVE: pve-access-control src/PVE/AccessControl.pm check_path
pub(super) fn acl_path(path: &str, version: pve_types::PveVersion) -> Option<String> {
    let path = normal_path(path);
    let parts: Vec<&str> = path.split('/').skip(1).filter(|part| !part.is_empty()).collect();
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let fits = match parts.as_slice() {
        [] | ["access"] | ["access", "groups" | "realm"] | ["nodes" | "pool" | "sdn" | "storage" | "vms"] => {
            true
        }
        ["access", "groups" | "realm", id] | ["nodes" | "storage", id] => plain(id),
        ["pool", ids @ ..] => ids.len() <= 3 && ids.iter().all(|id| plain(id)),
        ["vms", id] => id.parse::<pve_types::Vmid>().is_ok(),
        ["sdn", "zones" | "controllers" | "dns" | "ipams"] => true,
        ["sdn", "zones" | "controllers" | "dns" | "ipams", id] => plain(id),
        ["sdn", "zones", zone, vnet] => plain(zone) && plain(vnet),
        ["sdn", "zones", zone, vnet, tag] => {
            plain(zone) && plain(vnet) && tag.parse::<u16>().is_ok_and(|tag| (1..=9999).contains(&tag))
        }
        ["sdn", "fabrics" | "prefix-lists" | "route-maps", rest @ ..] => {
            version.at_least(9, 0) && rest.len() <= 1 && rest.iter().all(|id| plain(id))
        }
        ["mapping", rest @ ..] => {
            version.at_least(8, 0) && rest.len() <= 2 && rest.iter().all(|id| plain(id))
        }
        _ => false,
    };
    fits.then_some(path)
}

fn update(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (users, groups, tokens) = (call.list("users"), call.list("groups"), call.list("tokens"));
    if !["users", "groups", "tokens"].iter().any(|name| call.is_given(name)) {
        let text = "either 'users', 'groups' or 'tokens' is required.";
        return Err(Refusal::parameters(
            ["users", "groups", "tokens"].map(|name| (name.to_owned(), text.to_owned())),
        ));
    }
    let given = call.string("path");
    let roles = call.list("roles");
    let deletes = call.flag("delete");
    // What stands on a path that PVE does not know any more can still be removed.
    let path = acl_path(&given, call.world.version).or_else(|| deletes.then(|| normal_path(&given)));
    let path = path.ok_or_else(|| Refusal::parameter("path", format!("invalid ACL path '{given}'")))?;
    let failed = |text: String| Refusal::died(format!("ACL update failed: {text}"));
    for role in &roles {
        if !call.world.access.roles.contains_key(role) {
            return Err(failed(format!("role '{role}' does not exist")));
        }
        may_give(call, &path, role, deletes)?;
    }
    for group in &groups {
        if !call.world.access.groups.contains_key(group) {
            return Err(failed(format!("group '{group}' does not exist")));
        }
    }
    for user in &users {
        if !call.world.access.users.contains_key(user) {
            return Err(failed(format!("user '{user}' does not exist")));
        }
    }
    for token in &tokens {
        if call.world.access.token(token).is_none() {
            let (user, name) = token.rsplit_once('!').unwrap_or((token, ""));
            return Err(failed(format!("no such token '{name}' for user '{user}'")));
        }
    }
    let propagate = call.flag_or("propagate", true);
    let node = call.world.access.acl.entry(path).or_default();
    for (grants, ids) in [(&mut node.users, users), (&mut node.groups, groups), (&mut node.tokens, tokens)] {
        ids.iter().for_each(|id| change(grants, id, &roles, (!deletes).then_some(propagate)));
    }
    call.world.access.acl.retain(|_, node| !node.is_empty());
    Ok(Value::Null)
}

fn change(grants: &mut Grants, id: &str, roles: &[String], propagate: Option<bool>) {
    let mine = grants.entry(id.to_owned()).or_default();
    for role in roles {
        let _ = match propagate {
            Some(propagate) => mine.insert(role.clone(), propagate),
            None => mine.remove(role),
        };
    }
    grants.retain(|_, roles| !roles.is_empty());
}

/// Without Permissions.Modify only what one has oneself can be given.
fn may_give(call: &Call<'_>, path: &str, role: &str, deletes: bool) -> Result<(), Refusal> {
    if call.has(path, Privilege::PermissionsModify) {
        return Ok(());
    }
    let mine = rights::rights(call.world, call.caller.auth_id(), path);
    let wanted = call.world.access.roles.get(role).map(|role| &role.privileges);
    let has_all = wanted.is_some_and(|wanted| wanted.iter().all(|privilege| mine.contains_key(privilege)));
    if has_all && role != "NoAccess" {
        return Ok(());
    }
    let verb = if deletes { "remove" } else { "Add" };
    let text = match verb {
        "Add" => {
            format!("Cannot add role '{role}' - requires 'Permissions.Modify' or superset of privileges.")
        }
        _ => {
            format!("Cannot remove role '{role}' - requires 'Permissions.Modify' or superset of privileges.")
        }
    };
    Err(Refusal::parameter("role", text))
}

fn permissions(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let own = call.caller.auth_id().to_owned();
    let asked = call.text("userid").map(str::to_owned).unwrap_or_else(|| own.clone());
    let is_own = asked == own || (!call.caller.is_token() && asked.starts_with(&format!("{own}!")));
    if !is_own {
        call.require("/access", &[Privilege::SysAudit])?;
    }
    let known = match asked.rsplit_once('!') {
        Some(_) => call.world.access.token(&asked).is_some(),
        None => call.world.access.users.contains_key(&asked),
    };
    if !known {
        return Err(match asked.rsplit_once('!') {
            Some((user, name)) if call.world.access.users.contains_key(user) => {
                Refusal::died(format!("no such token '{name}' for user '{user}'"))
            }
            Some((user, _)) => Refusal::died(format!("no such user ('{user}')")),
            None => Refusal::died(format!("no such user ('{asked}')")),
        });
    }
    let by_path = match call.text("path") {
        // Any path may be asked for: what is not in the ACL inherits.
        Some(path) => {
            let (path, asked_path) = (normal_path(path), path.to_owned());
            let rights = rights::rights(call.world, &asked, &path);
            [(asked_path, rights)].into()
        }
        None => effective(call.world, &asked),
    };
    let shown: Map<String, Value> = by_path
        .into_iter()
        .map(|(path, rights)| {
            let rights: Map<String, Value> = rights
                .into_iter()
                .map(|(privilege, down)| (privilege.as_str().to_owned(), u8::from(down).into()))
                .collect();
            (path, Value::Object(rights))
        })
        .collect();
    Ok(Value::Object(shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expect: Option<&str>) {
        let version = pve_types::PveVersion::new(9, 2, 11);
        assert_eq!(acl_path(path, version).as_deref(), expect, "{path}");
    }

    #[test]
    fn only_paths_that_mean_something_are_kept() {
        check("/", Some("/"));
        check("/vms//100/", Some("/vms/100"));
        check("/vms/abc", None);
        check("/nonsense", None);
        check("/sdn/zones/localnetwork/vmbr0/40", Some("/sdn/zones/localnetwork/vmbr0/40"));
        check("/pool/a/b/c/d", None);
    }
}
