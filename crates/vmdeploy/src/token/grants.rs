//! From missing required_privileges to the operations that make them up: pure.
//!
//! PVE takes the nearest path at which a user or token has an entry, and forgets what it would have inherited from
//! above. So what is inherited at a path is granted there again next to the new role, so that no privilege is lost.
// PVE: pve-access-control src/PVE/AccessControl.pm, sub roles.

use super::{Reach, RequiredPrivilege};
use pve_api::access::{AclEntry, Grant, Role, Subject};
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
    /// Grants roles on a path, and below it where the path stands for all guests, storages or zones.
    Grant {
        /// Where.
        path: String,
        /// The roles: ours first, then those that would else no longer be inherited.
        roles: Vec<RoleId>,
        /// The user, group or token.
        subject: Subject,
    },
}

impl Operation {
    /// Returns the request of a grant.
    pub fn as_grant(&self) -> Option<Grant> {
        let Self::Grant { path, roles, subject } = self else { return None };
        let (path, roles, subjects) = (path.clone(), roles.clone(), vec![subject.clone()]);
        Some(Grant { propagate: propagates(&path), path, roles, subjects })
    }
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
            Self::Grant { path, roles, subject } => {
                let roles = roles.iter().map(RoleId::as_str).collect::<Vec<_>>().join(",");
                let (kind, who) = named(subject);
                let down = if propagates(path) { "" } else { " --propagate 0" };
                let (path, who) = (quoted(path), quoted(&who));
                write!(f, "pveum acl modify {path} --roles {roles} --{kind}s {who}{down}")
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

/// Returns the operations that give the subject these privileges, and nothing that is not among them: a role holds
/// what is missing on its paths, and one that others may have been given is never extended.
pub fn operations(missing: &[RequiredPrivilege], subject: &Subject, facts: &AccessFacts) -> Vec<Operation> {
    let mut names = RoleNames { facts, made: BTreeMap::new() };
    let mut grants = Vec::new();
    for (path, privileges) in by_path(missing, subject, facts) {
        let Some(role) = names.of(base_name(&path), privileges) else { continue };
        if has_entry(facts, subject, &path, &role) {
            continue;
        }
        let kept = shadowed_roles(facts, subject, &path).into_iter().filter(|kept| *kept != role);
        let roles = std::iter::once(role.clone()).chain(kept).collect();
        grants.push(Operation::Grant { path, roles, subject: subject.clone() });
    }
    let made = names.made.into_iter().map(|(role, privileges)| Operation::CreateRole(role, privileges));
    made.chain(grants).collect()
}

/// Returns which of the privileges are granted on which path.
fn by_path(
    missing: &[RequiredPrivilege],
    subject: &Subject,
    facts: &AccessFacts,
) -> BTreeMap<String, BTreeSet<Privilege>> {
    let mut wanted: BTreeMap<String, BTreeSet<Privilege>> = BTreeMap::new();
    for required in missing {
        let path = granted_path(required, subject, facts);
        wanted.entry(path).or_default().insert(required.privilege);
    }
    // What all guests give need not be given on their pools.
    let on_all = wanted.get(ALL_GUESTS).cloned().unwrap_or_default();
    for (path, privileges) in &mut wanted {
        if path.starts_with("/pool/") {
            privileges
                .retain(|privilege| !on_all.contains(privilege) || *privilege == Privilege::PoolAllocate);
        }
    }
    wanted.retain(|_, privileges| !privileges.is_empty());
    wanted
}

const ALL_GUESTS: &str = "/vms";

/// Returns the path on which a privilege is granted.
fn granted_path(required: &RequiredPrivilege, subject: &Subject, facts: &AccessFacts) -> String {
    match &required.reach {
        Reach::Pool(pool) => format!("/pool/{pool}"),
        // An entry of the subject for the very guest replaces what it has on all of them.
        Reach::Guests if entries_at(facts, subject, &required.path, true).is_none() => ALL_GUESTS.to_owned(),
        Reach::Guests | Reach::Path => required.path.clone(),
    }
}

/// Tells whether what is granted on a path is meant for the paths below it. On the path of a single thing it is not:
/// Sys.Console on `/` must not become Sys.Console on every node.
fn propagates(path: &str) -> bool {
    matches!(path, ALL_GUESTS | "/storage" | "/sdn/zones")
}

fn base_name(path: &str) -> &'static str {
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

/// The existing roles, and those that are created in addition.
struct RoleNames<'f> {
    facts: &'f AccessFacts,
    made: BTreeMap<RoleId, BTreeSet<Privilege>>,
}

impl RoleNames<'_> {
    /// Returns the role that holds exactly these privileges: `NAME`, or `NAME2` and so on where that is another role.
    fn of(&mut self, base: &str, privileges: BTreeSet<Privilege>) -> Option<RoleId> {
        (1..).find_map(|number: u32| {
            let name = if number == 1 { base.to_owned() } else { format!("{base}{number}") };
            let id: RoleId = name.parse().ok()?;
            if let Some(made) = self.made.get(&id) {
                return (*made == privileges).then_some(id);
            }
            if let Some(there) = self.facts.roles.iter().find(|there| there.roleid == id) {
                let has: BTreeSet<&str> = there.privileges().collect();
                let same = has == privileges.iter().map(|privilege| privilege.as_str()).collect();
                return same.then_some(id);
            }
            self.made.insert(id.clone(), privileges.clone());
            Some(id)
        })
    }
}

/// An entry with the role `NoAccess`, which no grant on its path or above it overcomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shut {
    /// The entry's path.
    pub path: String,
    /// Whose entry it is.
    pub whose: Subject,
}

impl std::fmt::Display for Shut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, whose) = named(&self.whose);
        write!(f, "{NO_ACCESS} on {} for the {kind} {whose}", self.path)
    }
}

impl Shut {
    /// Returns the command that removes the entry.
    pub fn removal(&self) -> String {
        let (kind, whose) = named(&self.whose);
        format!("pveum acl delete {} --roles {NO_ACCESS} --{kind}s {}", quoted(&self.path), quoted(&whose))
    }
}

const NO_ACCESS: &str = "NoAccess";

/// Returns the entry that keeps the subject from a privilege whatever is granted to it, if there is one.
// PVE: pve-access-control src/PVE/AccessControl.pm roles: NoAccess wins on its path, and is replaced only below it;
// src/PVE/RPCEnvironment.pm compile_acl_path: a pool does not overcome a NoAccess of the guest, and its own shuts all.
pub fn shut(missing: &[RequiredPrivilege], subject: &Subject, facts: &AccessFacts) -> Option<Shut> {
    missing.iter().find_map(|required| {
        let target = granted_path(required, subject, facts);
        let own = |path: &str| {
            let entries = own_entries(facts, subject, path, true);
            let whose = subject.clone();
            is_shut(&entries).then(|| Shut { path: path.to_owned(), whose })
        };
        let of_guest = || match &required.reach {
            Reach::Pool(_) => {
                let (path, whose, roles) = effective(facts, subject, &required.path)?;
                is_shut(&roles).then_some(Shut { path, whose })
            }
            Reach::Guests | Reach::Path => None,
        };
        own(&target).or_else(of_guest)
    })
}

fn is_shut(roles: &[RoleId]) -> bool {
    roles.iter().any(|role| role.as_str() == NO_ACCESS)
}

fn named(subject: &Subject) -> (&'static str, String) {
    match subject {
        Subject::User(user) => ("user", user.to_string()),
        Subject::Group(group) => ("group", group.to_string()),
        Subject::Token(token) => ("token", token.to_string()),
    }
}

fn is_of(entry: &AclEntry, subject: &Subject) -> bool {
    let (kind, whose) = named(subject);
    entry.kind == kind && entry.ugid == whose
}

fn has_entry(facts: &AccessFacts, subject: &Subject, path: &str, role: &RoleId) -> bool {
    let reaches = |entry: &&AclEntry| !propagates(path) || entry.propagate != Some(false);
    facts
        .acl
        .iter()
        .filter(reaches)
        .any(|entry| is_of(entry, subject) && entry.path == path && entry.roleid == *role)
}

/// Returns the roles of the subject's own entries for a path; those that do not propagate count where the path `is_end`.
fn own_entries(facts: &AccessFacts, subject: &Subject, path: &str, is_end: bool) -> Vec<RoleId> {
    let here = |entry: &&AclEntry| entry.path == path && (is_end || entry.propagate != Some(false));
    let own = facts.acl.iter().filter(here).filter(|entry| is_of(entry, subject));
    own.map(|entry| entry.roleid.clone()).collect()
}

/// Returns the roles that the entries for a path give the subject, and whose they are: its own, else those of its groups.
// PVE: pve-access-control src/PVE/AccessControl.pm roles.
fn entries_at(
    facts: &AccessFacts,
    subject: &Subject,
    path: &str,
    is_end: bool,
) -> Option<(Subject, Vec<RoleId>)> {
    let own = own_entries(facts, subject, path, is_end);
    if !own.is_empty() {
        return Some((subject.clone(), own));
    }
    if !matches!(subject, Subject::User(_)) {
        return None;
    }
    let groups = facts.groups.iter().filter_map(|group| Some(Subject::Group(group.parse().ok()?)));
    let of_groups: Vec<(Subject, Vec<RoleId>)> = groups
        .map(|group| (group.clone(), own_entries(facts, &group, path, is_end)))
        .filter(|(_, roles)| !roles.is_empty())
        .collect();
    let shuts = of_groups.iter().find(|(_, roles)| is_shut(roles)).or(of_groups.first());
    let whose = shuts?.0.clone();
    Some((whose, of_groups.into_iter().flat_map(|(_, roles)| roles).collect()))
}

/// Returns the roles that hold on a path, with the path and the subject of their entries.
fn effective(facts: &AccessFacts, subject: &Subject, path: &str) -> Option<(String, Subject, Vec<RoleId>)> {
    let mut at = path.to_owned();
    loop {
        if let Some((whose, roles)) = entries_at(facts, subject, &at, at == path) {
            return Some((at, whose, roles));
        }
        match at.rfind('/')? {
            _ if at == "/" => return None,
            0 => at = "/".to_owned(),
            end => at.truncate(end),
        }
    }
}

/// Returns the roles that hold on the path now and would not once the subject has an entry of its own there. `NoAccess` is
/// not kept: the new entry is there to overcome what shuts a path above it.
fn shadowed_roles(facts: &AccessFacts, subject: &Subject, path: &str) -> Vec<RoleId> {
    // Entries of one subject on one path add up; only those from above would be lost.
    if !own_entries(facts, subject, path, true).is_empty() {
        return Vec::new();
    }
    let inherited = effective(facts, subject, path).map(|(_, _, roles)| roles).unwrap_or_default();
    inherited.into_iter().filter(|role| role.as_str() != NO_ACCESS).collect()
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
            reach: Reach::Path,
        }
    }

    fn check(subject: &Subject, missing: &[RequiredPrivilege], expect: &[&str]) {
        let got: Vec<String> =
            operations(missing, subject, &facts()).iter().map(ToString::to_string).collect();
        assert_eq!(got, expect);
    }

    fn of_vm(privilege: Privilege, vmid: u32, pool: Option<&str>) -> RequiredPrivilege {
        let reach = pool.map_or(Reach::Guests, |pool| Reach::Pool(pool.to_owned()));
        RequiredPrivilege { reach, ..required(privilege, &format!("/vms/{vmid}")) }
    }

    fn token() -> Subject {
        Subject::Token(pve_api::TokenId { user: "ci@pve".parse().unwrap(), name: "deploy".parse().unwrap() })
    }

    #[test]
    fn exactly_what_is_missing_is_granted_and_what_was_inherited_is_kept() {
        let missing =
            |pool| [of_vm(Privilege::VmAllocate, 201, pool), of_vm(Privilege::VmConfigCpu, 202, pool)];
        let role = "pveum role add VMDeployVM --privs VM.Allocate,VM.Config.CPU";
        let grant = "pveum acl modify /vms --roles VMDeployVM,PVEAuditor --tokens 'ci@pve!deploy'";
        check(&token(), &missing(None), &[role, grant]);
        let role = "pveum role add VMDeployPool --privs VM.Allocate,VM.Config.CPU";
        let grant = "pveum acl modify /pool/lab --roles VMDeployPool,PVEAuditor --tokens 'ci@pve!deploy' --propagate 0";
        check(&token(), &missing(Some("lab")), &[role, grant]);
    }

    #[test]
    fn what_all_guests_give_is_not_given_on_a_pool_and_a_source_is_granted_alone() {
        let missing = [
            of_vm(Privilege::VmAllocate, 201, Some("lab")),
            of_vm(Privilege::VmAllocate, 202, None),
            of_vm(Privilege::VmConfigCpu, 201, Some("lab")),
            required(Privilege::VmClone, "/vms/9000"),
        ];
        let expect = [
            "pveum role add VMDeployPool --privs VM.Config.CPU",
            "pveum role add VMDeployVM --privs VM.Allocate",
            "pveum role add VMDeployVM2 --privs VM.Clone",
            "pveum acl modify /pool/lab --roles VMDeployPool,PVEAuditor --tokens 'ci@pve!deploy' --propagate 0",
            "pveum acl modify /vms --roles VMDeployVM,PVEAuditor --tokens 'ci@pve!deploy'",
            "pveum acl modify /vms/9000 --roles VMDeployVM2,PVEAuditor --tokens 'ci@pve!deploy' --propagate 0",
        ];
        check(&token(), &missing, &expect);
    }

    #[test]
    fn a_role_that_others_may_have_is_left_alone_and_a_groups_role_is_kept_for_its_user() {
        let user = Subject::User("ci@pve".parse().unwrap());
        let role = "pveum role add VMDeployStorage2 --privs Datastore.AllocateSpace";
        let grant = "pveum acl modify /storage/local --roles VMDeployStorage2,PVEDatastoreUser --users ci@pve --propagate 0";
        check(&user, &[required(Privilege::DatastoreAllocateSpace, "/storage/local")], &[role, grant]);
        let grant = "pveum acl modify /storage/local --roles VMDeployStorage,PVEDatastoreUser --users ci@pve --propagate 0";
        check(&user, &[required(Privilege::DatastoreAudit, "/storage/local")], &[grant]);
    }

    #[test]
    fn an_entry_that_shuts_a_path_is_named_and_one_above_it_is_overcome() {
        let mut facts = facts();
        facts.acl.iter_mut().for_each(|entry| entry.roleid = NO_ACCESS.parse().unwrap());
        let user = Subject::User("ci@pve".parse().unwrap());
        let on_storage = [required(Privilege::DatastoreAudit, "/storage/local")];
        assert_eq!(shut(&on_storage, &token(), &facts), None);
        assert_eq!(shut(&on_storage, &user, &facts), None, "an entry of the user replaces that of its group");
        let grant = operations(&on_storage, &token(), &facts);
        let expect =
            "pveum acl modify /storage/local --roles VMDeployStorage --tokens 'ci@pve!deploy' --propagate 0";
        assert_eq!(grant.iter().map(ToString::to_string).collect::<Vec<_>>(), [expect]);
        let by_pool = [of_vm(Privilege::VmAllocate, 201, Some("lab"))];
        let found = shut(&by_pool, &token(), &facts).map(|shut| (shut.to_string(), shut.removal()));
        let text = "NoAccess on / for the token ci@pve!deploy".to_owned();
        let removal = "pveum acl delete / --roles NoAccess --tokens 'ci@pve!deploy'".to_owned();
        assert_eq!(found, Some((text, removal)));
        assert_eq!(shut(&[of_vm(Privilege::VmAllocate, 201, None)], &token(), &facts), None);
    }

    #[test]
    fn nothing_missing_is_nothing_to_do() {
        check(&token(), &[], &[]);
    }
}
