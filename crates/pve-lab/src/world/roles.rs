//! The built-in roles of each version.

use std::collections::{BTreeMap, BTreeSet};

use pve_types::{Privilege, PveVersion};

/// A role: its privileges, and whether PVE made it.
#[derive(Debug, Clone)]
pub struct Role {
    /// What it allows.
    pub privileges: BTreeSet<Privilege>,
    /// Built in: neither changed nor deleted.
    pub special: bool,
}

/// Roles that are the same list in every version, but for privileges that a version does not have.
// PVE: pve-access-control src/PVE/AccessControl.pm create_roles
const LISTED: &[(&str, &str)] = &[
    ("NoAccess", ""),
    (
        "PVEAuditor",
        "Datastore.Audit Mapping.Audit Pool.Audit SDN.Audit Sys.Audit VM.Audit VM.GuestAgent.Audit",
    ),
    (
        "PVEDatastoreAdmin",
        "Datastore.Allocate Datastore.AllocateSpace Datastore.AllocateTemplate Datastore.Audit",
    ),
    ("PVEDatastoreUser", "Datastore.AllocateSpace Datastore.Audit"),
    ("PVEMappingAdmin", "Mapping.Audit Mapping.Modify Mapping.Use"),
    ("PVEMappingUser", "Mapping.Audit Mapping.Use"),
    ("PVEPoolAdmin", "Pool.Allocate Pool.Audit"),
    ("PVEPoolUser", "Pool.Audit"),
    ("PVESDNAdmin", "SDN.Allocate SDN.Audit SDN.Use"),
    ("PVESDNUser", "SDN.Audit SDN.Use"),
    ("PVESysAdmin", "Sys.Audit Sys.Console Sys.Syslog"),
    ("PVETemplateUser", "VM.Audit VM.Clone"),
    ("PVEUserAdmin", "Group.Allocate Realm.AllocateUser User.Modify"),
    (
        "PVEVMUser",
        "VM.Audit VM.Backup VM.Config.CDROM VM.Config.Cloudinit VM.Console VM.GuestAgent.Audit \
         VM.GuestAgent.FileRead VM.GuestAgent.FileSystemMgmt VM.GuestAgent.FileWrite VM.PowerMgmt",
    ),
];

/// What PVEAdmin does not have.
const NOT_FOR_ADMIN: &[Privilege] = &[
    Privilege::SysModify,
    Privilege::SysPowerMgmt,
    Privilege::SysIncoming,
    Privilege::SysAccessNetwork,
    Privilege::RealmAllocate,
    Privilege::PermissionsModify,
    Privilege::MappingModify,
];

/// Every privilege that the version knows.
pub fn all_privileges(version: PveVersion) -> BTreeSet<Privilege> {
    Privilege::all().filter(|privilege| privilege.exists_in(version)).collect()
}

/// The roles of a fresh installation.
pub fn built_in(version: PveVersion) -> BTreeMap<String, Role> {
    let known = all_privileges(version);
    let special = |privileges| Role { privileges, special: true };
    let mut roles: BTreeMap<String, Role> = LISTED
        .iter()
        .filter(|(name, _)| version.major >= 8 || !name.starts_with("PVEMapping"))
        .map(|(name, list)| {
            let listed = list.split_whitespace().filter_map(|name| name.parse().ok());
            (name.to_string(), special(listed.filter(|privilege| known.contains(privilege)).collect()))
        })
        .collect();
    let admin = known.iter().copied().filter(|privilege| {
        !NOT_FOR_ADMIN.contains(privilege)
            || (version.major < 8 && *privilege == Privilege::PermissionsModify)
    });
    roles.insert("PVEAdmin".to_owned(), special(admin.collect()));
    let vm = known.iter().copied().filter(|privilege| privilege.as_str().starts_with("VM."));
    roles.insert("PVEVMAdmin".to_owned(), special(vm.collect()));
    roles.insert("Administrator".to_owned(), special(known));
    if version.major < 8
        && let Some(role) = roles.get_mut("PVESysAdmin")
    {
        role.privileges.insert(Privilege::PermissionsModify);
    }
    roles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_own_number_of_privileges_in_a_role() {
        let count =
            |major, minor, role: &str| built_in(PveVersion::new(major, minor, 0))[role].privileges.len();
        let counts = |role| (count(7, 4, role), count(8, 4, role), count(9, 2, role));
        assert_eq!(counts("Administrator"), (38, 42, 47));
        assert_eq!(counts("PVEAdmin"), (34, 35, 40));
        assert_eq!(counts("PVEVMAdmin"), (18, 18, 23));
        assert_eq!(counts("PVEVMUser"), (6, 6, 10));
        assert_eq!(counts("NoAccess"), (0, 0, 0));
    }
}
