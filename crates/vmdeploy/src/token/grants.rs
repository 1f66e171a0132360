//! From missing required_privileges to the operations that make them up: pure.
//!
//! PVE takes the nearest path at which a user or token has an entry, and forgets what it would have inherited from
//! above. So what is inherited at a path is granted there again beside the new role; nobody loses anything.
// PVE: pve-access-control src/PVE/AccessControl.pm, sub roles.

use super::RequiredPrivilege;
use pve_api::access::{AclEntry, Role, Subject};
use pve_types::{Privilege, RoleId, TokenName, UserId};
use std::collections::{BTreeMap, BTreeSet};

/// One change of users, tokens, roles or the access control list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Makes the user.
    CreateUser(UserId),
    /// Makes the token; its secret goes into `.env`.
    CreateToken(UserId, TokenName),
    /// Makes a role.
    CreateRole(RoleId, BTreeSet<Privilege>),
    /// Adds privileges to a role of ours.
    ExtendRole(RoleId, BTreeSet<Privilege>),
    /// Grants roles on a path and below.
    Grant {
        /// Where.
        path: String,
        /// The roles: ours first, then those that would else no longer be inherited.
        roles: Vec<RoleId>,
        /// To whom.
        subject: Subject,
    },
}

impl std::fmt::Display for Operation {
    /// Prints the `pveum` command that does the same.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |privileges: &BTreeSet<Privilege>| {
            privileges.iter().map(|privilege| privilege.as_str()).collect::<Vec<_>>().join(",")
        };
        match self {
            Self::CreateUser(user) => {
                write!(f, "pveum user add {} --comment vmdeploy", quoted(user.as_str()))
            }
            Self::CreateToken(user, token) => {
                write!(f, "pveum user token add {} {token} --privsep 1", quoted(user.as_str()))
            }
            Self::CreateRole(role, privileges) => {
                write!(f, "pveum role add {role} --privs {}", names(privileges))
            }
            Self::ExtendRole(role, privileges) => {
                write!(f, "pveum role modify {role} --append 1 --privs {}", names(privileges))
            }
            Self::Grant { path, roles, subject } => {
                let roles = roles.iter().map(RoleId::as_str).collect::<Vec<_>>().join(",");
                let (option, who) = match subject {
                    Subject::User(user) => ("--users", user.to_string()),
                    Subject::Group(group) => ("--groups", group.to_string()),
                    Subject::Token(token) => ("--tokens", token.to_string()),
                };
                let (path, who) = (quoted(path), quoted(&who));
                write!(f, "pveum acl modify {path} --roles {roles} {option} {who}")
            }
        }
    }
}

/// A word as a shell takes it: `!` of a token's name is history to an interactive one.
fn quoted(word: &str) -> String {
    let bytes = pve_ssh::command::quote(word.as_bytes()).unwrap_or_else(|_| word.as_bytes().to_vec());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is known of the cluster's access control.
#[derive(Debug, Default)]
pub struct AccessFacts {
    /// The roles.
    pub roles: Vec<Role>,
    /// The entries.
    pub acl: Vec<AclEntry>,
    /// The groups that the user is in.
    pub groups: Vec<String>,
}

/// Returns the operations that give the subject these required_privileges.
pub fn operations(
    missing: &[RequiredPrivilege],
    subject: &Subject,
    pool: Option<&str>,
    facts: &AccessFacts,
) -> Vec<Operation> {
    let mut wanted: BTreeMap<(String, &'static str), BTreeSet<Privilege>> = BTreeMap::new();
    for required in missing {
        let path = granted_path(&required.path, pool);
        wanted.entry((path, role_name(&required.path))).or_default().insert(required.privilege);
    }
    let mut roles: BTreeMap<&'static str, BTreeSet<Privilege>> = BTreeMap::new();
    for ((_, role), privileges) in &wanted {
        roles.entry(role).or_default().extend(privileges);
    }
    let mut operations: Vec<Operation> =
        roles.iter().filter_map(|(role, privileges)| role_operation(role, privileges, facts)).collect();
    for (path, role) in wanted.into_keys() {
        let Ok(role) = role.parse::<RoleId>() else { continue };
        if has_entry(facts, subject, &path, &role) {
            continue;
        }
        let kept = shadowed_roles(facts, subject, &path).into_iter().filter(|kept| *kept != role);
        let roles = std::iter::once(role.clone()).chain(kept).collect();
        operations.push(Operation::Grant { path, roles, subject: subject.clone() });
    }
    operations
}

/// Returns where a right is granted: for single VMs on all of them, or on the pool that they are all in.
fn granted_path(path: &str, pool: Option<&str>) -> String {
    match (path.strip_prefix("/vms/"), pool) {
        (Some(_), Some(pool)) => format!("/pool/{pool}"),
        (Some(_), None) => "/vms".to_owned(),
        (None, _) => path.to_owned(),
    }
}

fn role_name(path: &str) -> &'static str {
    match path.split('/').nth(1).unwrap_or_default() {
        "vms" => "VMDeployVM",
        "storage" => "VMDeployStorage",
        "sdn" => "VMDeployNetwork",
        "nodes" => "VMDeployNode",
        "pool" => "VMDeployPool",
        "mapping" => "VMDeployMapping",
        _ => "VMDeployOther",
    }
}

fn role_operation(role: &str, wanted: &BTreeSet<Privilege>, facts: &AccessFacts) -> Option<Operation> {
    let id: RoleId = role.parse().ok()?;
    let Some(found) = facts.roles.iter().find(|found| found.roleid == id) else {
        return Some(Operation::CreateRole(id, wanted.clone()));
    };
    let has: BTreeSet<&str> = found.privileges().collect();
    let missing: BTreeSet<Privilege> =
        wanted.iter().filter(|privilege| !has.contains(privilege.as_str())).copied().collect();
    (!missing.is_empty()).then_some(Operation::ExtendRole(id, missing))
}

fn is_of(entry: &AclEntry, subject: &Subject) -> bool {
    match subject {
        Subject::User(user) => entry.kind == "user" && entry.ugid == user.as_str(),
        Subject::Group(group) => entry.kind == "group" && entry.ugid == group.as_str(),
        Subject::Token(token) => entry.kind == "token" && entry.ugid == token.to_string(),
    }
}

fn has_entry(facts: &AccessFacts, subject: &Subject, path: &str, role: &RoleId) -> bool {
    let propagates = |entry: &&AclEntry| entry.propagate != Some(false);
    facts
        .acl
        .iter()
        .filter(propagates)
        .any(|entry| is_of(entry, subject) && entry.path == path && entry.roleid == *role)
}

/// Returns the roles that hold on the path now and would not once the subject has an entry of its own there.
fn shadowed_roles(facts: &AccessFacts, subject: &Subject, path: &str) -> Vec<RoleId> {
    let mut at = path.to_owned();
    loop {
        let here = |entry: &&AclEntry| entry.path == at && (at == path || entry.propagate != Some(false));
        let own: Vec<RoleId> = facts
            .acl
            .iter()
            .filter(here)
            .filter(|entry| is_of(entry, subject))
            .map(|entry| entry.roleid.clone())
            .collect();
        if !own.is_empty() {
            // Entries of one subject on one path add up; only those from above would be lost.
            return if at == path { Vec::new() } else { own };
        }
        let of_group = |entry: &&AclEntry| {
            matches!(subject, Subject::User(_)) && entry.kind == "group" && facts.groups.contains(&entry.ugid)
        };
        let of_groups: Vec<RoleId> =
            facts.acl.iter().filter(here).filter(of_group).map(|entry| entry.roleid.clone()).collect();
        if !of_groups.is_empty() {
            return of_groups;
        }
        match at.rfind('/') {
            _ if at == "/" => return Vec::new(),
            Some(0) => at = "/".to_owned(),
            Some(end) => at.truncate(end),
            None => return Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts() -> AccessFacts {
        let acl = json!([
            {"path": "/", "type": "token", "ugid": "ci@pve!deploy", "roleid": "PVEAuditor", "propagate": 1},
            {"path": "/storage/local", "type": "group", "ugid": "ops", "roleid": "PVEDatastoreUser", "propagate": 1},
        ]);
        let acl: Vec<serde_json::Value> = serde_json::from_value(acl).unwrap();
        let entry = |value: serde_json::Value| {
            let mut value = value;
            value["propagate"] = json!(true);
            serde_json::from_value::<AclEntry>(value).unwrap()
        };
        let role = json!({"roleid": "VMDeployStorage", "privs": "Datastore.Audit", "special": false});
        AccessFacts {
            roles: vec![serde_json::from_value(role).unwrap()],
            acl: acl.into_iter().map(entry).collect(),
            groups: vec!["ops".to_owned()],
        }
    }

    fn required(privilege: Privilege, path: &str) -> RequiredPrivilege {
        RequiredPrivilege {
            privilege,
            path: path.to_owned(),
            needed_by: BTreeSet::new(),
            held: false,
            or: None,
        }
    }

    fn check(subject: &Subject, missing: &[RequiredPrivilege], pool: Option<&str>, expect: &[&str]) {
        let got: Vec<String> =
            operations(missing, subject, pool, &facts()).iter().map(ToString::to_string).collect();
        assert_eq!(got, expect);
    }

    fn token() -> Subject {
        Subject::Token(pve_api::TokenId { user: "ci@pve".parse().unwrap(), name: "deploy".parse().unwrap() })
    }

    #[test]
    fn exactly_what_is_missing_is_granted_and_what_was_inherited_is_kept() {
        let missing =
            [required(Privilege::VmAllocate, "/vms/201"), required(Privilege::VmConfigCpu, "/vms/202")];
        let role = "pveum role add VMDeployVM --privs VM.Allocate,VM.Config.CPU";
        let grant = "pveum acl modify /vms --roles VMDeployVM,PVEAuditor --tokens 'ci@pve!deploy'";
        check(&token(), &missing, None, &[role, grant]);
        let grant = "pveum acl modify /pool/lab --roles VMDeployVM,PVEAuditor --tokens 'ci@pve!deploy'";
        check(&token(), &missing, Some("lab"), &[role, grant]);
    }

    #[test]
    fn a_role_of_ours_is_extended_and_a_groups_role_is_kept_for_its_user() {
        let user = Subject::User("ci@pve".parse().unwrap());
        let role = "pveum role modify VMDeployStorage --append 1 --privs Datastore.AllocateSpace";
        let grant = "pveum acl modify /storage/local --roles VMDeployStorage,PVEDatastoreUser --users ci@pve";
        check(&user, &[required(Privilege::DatastoreAllocateSpace, "/storage/local")], None, &[role, grant]);
    }

    #[test]
    fn nothing_missing_is_nothing_to_do() {
        check(&token(), &[], None, &[]);
    }
}
