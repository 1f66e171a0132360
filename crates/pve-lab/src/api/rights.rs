//! Who may do what: ACL resolution and the permission expressions of the table.

use std::collections::{BTreeMap, BTreeSet};

use pve_types::Privilege;

use super::{Call, Params, Refusal};
use crate::schema::{Check, split_list};
use crate::world::{Grants, World};

/// The role that shuts out whatever else is given.
const NO_ACCESS: &str = "NoAccess";

/// Privileges on a path, and whether they hold below it.
pub type Rights = BTreeMap<Privilege, bool>;

/// What `auth_id` (a user, or a full token id) may do on `path`.
// PVE: pve-access-control src/PVE/RPCEnvironment.pm permissions
pub fn rights(world: &World, auth_id: &str, path: &str) -> Rights {
    let (user, token) = match auth_id.rsplit_once('!') {
        Some((user, name)) => (user, Some(name)),
        None => (auth_id, None),
    };
    if token.is_none() && user == "root@pam" {
        return crate::world::all_privileges(world.version)
            .into_iter()
            .map(|privilege| (privilege, true))
            .collect();
    }
    // Whether an account may log in at all is not asked here: that is authentication's matter.
    let Some(account) = world.access.users.get(user) else { return Rights::new() };
    let Some(name) = token else { return own_rights(world, auth_id, path) };
    let Some(token) = account.tokens.get(name) else { return Rights::new() };
    if !token.privsep {
        return rights(world, user, path);
    }
    let of_token = own_rights(world, auth_id, path);
    if user == "root@pam" {
        return of_token;
    }
    let of_user = rights(world, user, path);
    of_token
        .into_iter()
        .filter_map(|(privilege, propagate)| {
            of_user.get(&privilege).map(|also| (privilege, propagate && *also))
        })
        .collect()
}

/// The rights that the ACL gives to this very id, pools included.
fn own_rights(world: &World, id: &str, path: &str) -> Rights {
    let mut roles = roles(world, id, path);
    // What a pool gives never goes past a NoAccess of the path itself; a NoAccess of the pool bars everything.
    if !roles.contains_key(NO_ACCESS) {
        for pool in pools_of(world, path) {
            let of_pool = self::roles(world, id, &format!("/pool/{pool}"));
            if of_pool.contains_key(NO_ACCESS) {
                return Rights::new();
            }
            for role in of_pool.into_keys() {
                roles.entry(role).or_insert(false);
            }
        }
    }
    let mut rights = Rights::new();
    for (role, propagate) in roles {
        let privileges = world.access.roles.get(&role).map(|role| &role.privileges);
        for privilege in privileges.into_iter().flatten() {
            *rights.entry(*privilege).or_insert(false) |= propagate;
        }
    }
    rights
}

/// The roles of an id on a path, walking down from the root: what is found deeper replaces what was found above.
// PVE: pve-access-control src/PVE/AccessControl.pm roles
fn roles(world: &World, id: &str, path: &str) -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
    let levels = std::iter::once("/").chain(ends.map(|end| &path[..end]).filter(|level| *level != "/"));
    for level in levels {
        let Some(node) = world.access.acl.get(level) else { continue };
        let applies = |grants: Option<&BTreeMap<String, bool>>| -> BTreeMap<String, bool> {
            let here = grants.into_iter().flatten().filter(|(_, propagate)| level == path || **propagate);
            here.map(|(role, propagate)| (role.clone(), *propagate)).collect()
        };
        let mut new = applies(node.tokens.get(id));
        if new.is_empty() {
            new = applies(node.users.get(id));
        }
        if new.is_empty() {
            new = of_groups(world, id, &node.groups, &applies);
        }
        if !new.is_empty() {
            found = new;
        }
    }
    if found.contains_key(NO_ACCESS) {
        found.retain(|role, _| role == NO_ACCESS);
    }
    found
}

fn of_groups(
    world: &World,
    id: &str,
    groups: &Grants,
    applies: &impl Fn(Option<&BTreeMap<String, bool>>) -> BTreeMap<String, bool>,
) -> BTreeMap<String, bool> {
    let Some(user) = world.access.users.get(id) else { return BTreeMap::new() };
    let mine = groups.iter().filter(|(group, _)| user.groups.contains(*group));
    mine.flat_map(|(_, roles)| applies(Some(roles))).collect()
}

fn pools_of(world: &World, path: &str) -> Vec<String> {
    let member = |test: &dyn Fn(&crate::world::Pool) -> bool| {
        world.access.pools.iter().filter(|(_, pool)| test(pool)).map(|(id, _)| id.clone()).collect()
    };
    if let Some(vmid) = path.strip_prefix("/vms/").and_then(|id| id.parse::<u32>().ok()) {
        return member(&|pool| pool.guests.contains(&vmid));
    }
    match path.strip_prefix("/storage/") {
        Some(storage) => member(&|pool| pool.storages.contains(storage)),
        None => Vec::new(),
    }
}

/// Everything that `auth_id` may do, by path: the paths of the ACL, of pools' members, and the top ones.
// PVE: pve-access-control src/PVE/RPCEnvironment.pm get_effective_permissions
pub fn effective(world: &World, auth_id: &str) -> BTreeMap<String, Rights> {
    const TOP: &[&str] = &["/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms"];
    let mut paths: BTreeSet<String> = TOP.iter().map(|path| (*path).to_owned()).collect();
    for path in world.access.acl.keys() {
        // The places above an entry are in PVE's tree as well.
        let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
        paths.extend(ends.map(|end| path[..end].to_owned()));
    }
    for pool in world.access.pools.values() {
        paths.extend(pool.guests.iter().map(|vmid| format!("/vms/{vmid}")));
        paths.extend(pool.storages.iter().map(|storage| format!("/storage/{storage}")));
    }
    let of = |path: String| {
        let rights = rights(world, auth_id, &path);
        (path, rights)
    };
    paths.into_iter().map(of).filter(|(_, rights)| !rights.is_empty()).collect()
}

/// The path without doubled or trailing slashes.
pub fn normal_path(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    format!("/{}", parts.join("/"))
}

/// Requires every one of these privileges of `auth_id`.
///
/// # Errors
/// 403 with the path and the first that is missing.
pub fn require(world: &World, auth_id: &str, path: &str, wanted: &[Privilege]) -> Result<(), Refusal> {
    all_of(world, auth_id, path, wanted)
}

/// Requires one of these privileges of `auth_id`.
///
/// # Errors
/// 403 with the path and all of them.
pub fn require_any(world: &World, auth_id: &str, path: &str, wanted: &[Privilege]) -> Result<(), Refusal> {
    any_of(world, auth_id, path, wanted)
}

impl Call<'_> {
    /// Tells whether the caller has a privilege on a path.
    pub fn has(&self, path: &str, privilege: Privilege) -> bool {
        has(self.world, self.caller.auth_id(), path, privilege)
    }
    /// Requires every one of these privileges.
    ///
    /// # Errors
    /// 403 with the path and the first that is missing.
    pub fn require(&self, path: &str, privileges: &[Privilege]) -> Result<(), Refusal> {
        all_of(self.world, self.caller.auth_id(), path, privileges)
    }
    /// Requires one of these privileges.
    ///
    /// # Errors
    /// 403 with the path and all of them.
    pub fn require_any(&self, path: &str, privileges: &[Privilege]) -> Result<(), Refusal> {
        any_of(self.world, self.caller.auth_id(), path, privileges)
    }
}

/// Tells whether `auth_id` has a privilege on a path.
pub fn has(world: &World, auth_id: &str, path: &str, privilege: Privilege) -> bool {
    is_root(world, auth_id) || rights(world, auth_id, path).contains_key(&privilege)
}

/// Tells whether it is root@pam, or a token that may all that root@pam may.
fn is_root(world: &World, auth_id: &str) -> bool {
    let Some(name) = auth_id.strip_prefix("root@pam!") else { return auth_id == "root@pam" };
    let root = world.access.users.get("root@pam");
    root.and_then(|root| root.tokens.get(name)).is_some_and(|token| !token.privsep)
}

/// Evaluates a permission expression of the table for `auth_id`.
///
/// # Errors
/// 403 with PVE's words.
pub fn evaluate(world: &World, auth_id: &str, check: &Check, params: &Params) -> Result<(), Refusal> {
    match holds(world, auth_id, check, params)? {
        Verdict::Holds => Ok(()),
        Verdict::Fails(refusal) => Err(refusal),
    }
}

/// What a part of an expression says. A part of an `or` that fails is passed over; an error is not.
enum Verdict {
    Holds,
    Fails(Refusal),
}

impl From<Result<(), Refusal>> for Verdict {
    fn from(result: Result<(), Refusal>) -> Self {
        match result {
            Ok(()) => Self::Holds,
            Err(refusal) => Self::Fails(refusal),
        }
    }
}

// PVE: pve-access-control src/PVE/RPCEnvironment.pm exec_api2_perm_check: within an `or`, what fails in an `and` is an
// error of the whole, as are groups that a user's parameters name.
fn holds(world: &World, auth_id: &str, check: &Check, params: &Params) -> Result<Verdict, Refusal> {
    let Check::List(list) = check else { return Err(bare()) };
    let (head, rest) = match list.split_first() {
        Some((Check::Word(head), rest)) => (head.as_str(), rest),
        _ => return Err(bare()),
    };
    Ok(match head {
        "and" => {
            rest.iter().try_for_each(|part| evaluate(world, auth_id, part, params))?;
            Verdict::Holds
        }
        "or" => {
            for part in rest {
                if matches!(holds(world, auth_id, part, params)?, Verdict::Holds) {
                    return Ok(Verdict::Holds);
                }
            }
            Verdict::Fails(bare())
        }
        "perm" => perm(world, auth_id, rest, params).into(),
        "perm-modify" => perm_modify(world, auth_id, rest, params).into(),
        "userid-param" => userid_param(world, auth_id, rest, params).into(),
        "userid-group" => return userid_group(world, auth_id, rest, params),
        _ => return Err(bare()),
    })
}

fn bare() -> Refusal {
    Refusal::new(403, "Permission check failed")
}

fn word(list: &[Check], at: usize) -> &str {
    match list.get(at) {
        Some(Check::Word(word)) => word,
        _ => "",
    }
}

fn privileges(text: &str) -> Vec<Privilege> {
    text.split(',').filter_map(|name| name.parse().ok()).collect()
}

fn text<'a>(params: &'a Params, name: &str) -> Option<&'a str> {
    params.get(name).and_then(|value| value.as_str())
}

fn fill(template: &str, params: &Params) -> String {
    let fill = |part: &str| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
        Some(name) => text(params, name).unwrap_or_default().to_owned(),
        None => part.to_owned(),
    };
    normal_path(&template.split('/').map(fill).collect::<Vec<_>>().join("/"))
}

fn all_of(world: &World, auth_id: &str, path: &str, wanted: &[Privilege]) -> Result<(), Refusal> {
    match wanted.iter().find(|privilege| !has(world, auth_id, path, **privilege)) {
        Some(missing) => Err(Refusal::permission(path, missing.as_str())),
        None => Ok(()),
    }
}

fn any_of(world: &World, auth_id: &str, path: &str, wanted: &[Privilege]) -> Result<(), Refusal> {
    if wanted.iter().any(|privilege| has(world, auth_id, path, *privilege)) {
        return Ok(());
    }
    let names: Vec<&str> = wanted.iter().map(|privilege| privilege.as_str()).collect();
    Err(Refusal::permission(path, &names.join("|")))
}

fn perm(world: &World, auth_id: &str, rest: &[Check], params: &Params) -> Result<(), Refusal> {
    let options = &rest[2.min(rest.len())..];
    let option =
        |name: &str| (0..options.len()).find(|at| word(options, *at) == name).map(|at| word(options, at + 1));
    if option("require_param").is_some_and(|name| !params.contains_key(name)) {
        return Err(bare());
    }
    let path = fill(word(rest, 0), params);
    let wanted = privileges(word(rest, 1));
    match option("any") {
        Some("1") => any_of(world, auth_id, &path, &wanted),
        _ => all_of(world, auth_id, &path, &wanted),
    }
}

/// Who may change the ACL of a path.
pub fn perm_modify_privileges(path: &str) -> Vec<Privilege> {
    let mut wanted = vec![Privilege::PermissionsModify];
    let below = |top: &str| path.strip_prefix(top).is_some_and(|rest| !rest.is_empty());
    if below("/storage/") {
        wanted.push(Privilege::DatastoreAllocate);
    } else if below("/vms/") {
        wanted.push(Privilege::VmAllocate);
    } else if below("/pool/") {
        wanted.push(Privilege::PoolAllocate);
    }
    wanted
}

fn perm_modify(world: &World, auth_id: &str, rest: &[Check], params: &Params) -> Result<(), Refusal> {
    let path = fill(word(rest, 0), params);
    any_of(world, auth_id, &path, &perm_modify_privileges(&path))
}

fn userid_param(world: &World, auth_id: &str, rest: &[Check], params: &Params) -> Result<(), Refusal> {
    let userid = text(params, "userid").unwrap_or_default();
    match word(rest, 0) {
        "self" if !world.access.users.contains_key(userid) => {
            Err(Refusal::died(format!("no such user ('{userid}')")))
        }
        "self" if auth_id == userid => Ok(()),
        "self" => Err(bare()),
        privilege => {
            let realm = userid.rsplit_once('@').map_or("", |(_, realm)| realm);
            all_of(world, auth_id, &format!("/access/realm/{realm}"), &privileges(privilege))
        }
    }
}

fn userid_group(world: &World, auth_id: &str, rest: &[Check], params: &Params) -> Result<Verdict, Refusal> {
    let wanted = privileges(word(rest, 0));
    let names = wanted.iter().map(|privilege| privilege.as_str()).collect::<Vec<_>>().join("|");
    let userid = text(params, "userid").unwrap_or_default();
    let groups_param = (word(rest, 1) == "groups_param").then(|| word(rest, 2));
    let must_exist = groups_param != Some("create");
    if must_exist && !world.access.users.contains_key(userid) {
        return Ok(Verdict::Fails(Refusal::died(format!("no such user ('{userid}')"))));
    }
    if any_of(world, auth_id, "/access/groups", &wanted).is_ok() {
        return Ok(Verdict::Holds);
    }
    let allowed = |group: &str| any_of(world, auth_id, &format!("/access/groups/{group}"), &wanted).is_ok();
    if groups_param.is_some() {
        let groups: Vec<&str> = split_list(text(params, "groups").unwrap_or_default()).collect();
        if groups.is_empty() {
            return Err(Refusal::permission("/access/groups", &names));
        }
        if let Some(group) = groups.iter().find(|group| !allowed(group)) {
            return Err(Refusal::permission(&format!("/access/groups/{group}"), &names));
        }
    }
    let mine = world.access.users.get(userid).map(|user| &user.groups);
    if must_exist && !mine.into_iter().flatten().any(|group| allowed(group)) {
        return Ok(Verdict::Fails(bare()));
    }
    Ok(Verdict::Holds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::WorldSpec;

    fn world(acl: &str) -> World {
        let yaml = format!(
            "users:\n  a@pve: {{groups: [g], tokens: {{t: {{secret: s}}, u: {{secret: s, privsep: false}}}}}}\n\
             groups: {{g: }}\npools: {{p: {{guests: [100]}}}}\nacl:\n{acl}"
        );
        World::new(&WorldSpec::from_yaml(&yaml).unwrap(), 1)
    }

    fn entry(path: &str, who: &str, role: &str, propagate: bool) -> String {
        format!("  - {{path: {path}, who: {who:?}, role: {role}, propagate: {propagate}}}\n")
    }

    fn check(acl: &[(&str, &str, &str, bool)], id: &str, path: &str, expect: bool) {
        let text: String = acl.iter().map(|(path, who, role, down)| entry(path, who, role, *down)).collect();
        let world = world(&text);
        assert_eq!(has(&world, id, path, Privilege::VmAudit), expect, "{acl:?} {id} {path}");
    }

    #[test]
    fn deeper_entries_replace_those_above() {
        let acl = [("/", "a@pve", "PVEVMAdmin", true), ("/vms/102", "a@pve", "PVEPoolUser", true)];
        check(&acl, "a@pve", "/vms/101", true);
        check(&acl, "a@pve", "/vms/102", false);
        check(&[("/vms", "a@pve", "PVEVMAdmin", false)], "a@pve", "/vms/100", false);
        check(&[("/vms", "a@pve", "PVEVMAdmin", false)], "a@pve", "/vms", true);
        check(&[("/vms", "@g", "PVEAuditor", true)], "a@pve", "/vms/7", true);
        check(
            &[("/vms", "@g", "PVEAuditor", true), ("/vms", "a@pve", "NoAccess", true)],
            "a@pve",
            "/vms/7",
            false,
        );
    }

    #[test]
    fn a_privilege_separated_token_has_what_both_have() {
        let both = [("/", "a@pve", "PVEVMUser", true), ("/vms", "a@pve!t", "PVEVMAdmin", true)];
        check(&both, "a@pve!t", "/vms/100", true);
        check(&both[1..], "a@pve!t", "/vms/100", false);
        check(&both[..1], "a@pve!t", "/vms/100", false);
        check(&both[..1], "a@pve!u", "/vms/100", true);
        assert!(
            !rights(&world(&entry("/", "a@pve", "PVEAuditor", true)), "a@pve!none", "/")
                .contains_key(&Privilege::VmAudit)
        );
    }

    #[test]
    fn a_pool_gives_its_roles_on_its_members() {
        check(&[("/pool/p", "a@pve", "PVEVMUser", true)], "a@pve", "/vms/100", true);
        check(&[("/pool/p", "a@pve", "PVEVMUser", true)], "a@pve", "/vms/101", false);
        let barred = [("/vms", "a@pve", "PVEVMUser", true), ("/pool/p", "a@pve", "NoAccess", true)];
        check(&barred, "a@pve", "/vms/100", false);
        let own = [("/vms/100", "a@pve", "NoAccess", true), ("/pool/p", "a@pve", "PVEVMUser", true)];
        check(&own, "a@pve", "/vms/100", false);
        let above = [("/vms", "a@pve", "NoAccess", true), ("/pool/p", "a@pve", "PVEVMUser", true)];
        check(&above, "a@pve", "/vms/100", false);
        let of_group = [("/", "a@pve", "PVEVMUser", true), ("/vms/100", "@g", "NoAccess", true)];
        check(&of_group, "a@pve", "/vms/100", false);
        check(&of_group, "a@pve", "/vms/101", true);
    }
}
