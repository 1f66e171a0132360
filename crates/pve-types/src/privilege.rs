//! Privileges.

use crate::{ParseError, PveVersion, string_form};

/// A privilege that a role grants on a path. Which of them exist depends on the version.
// PVE: pve-access-control src/PVE/AccessControl.pm, $privgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each variant is PVE's own name without its dots")]
pub enum Privilege {
    DatastoreAllocate,
    DatastoreAllocateSpace,
    DatastoreAllocateTemplate,
    DatastoreAudit,
    GroupAllocate,
    MappingAudit,
    MappingModify,
    MappingUse,
    PermissionsModify,
    PoolAllocate,
    PoolAudit,
    RealmAllocate,
    RealmAllocateUser,
    SdnAllocate,
    SdnAudit,
    SdnUse,
    SysAccessNetwork,
    SysAudit,
    SysConsole,
    SysIncoming,
    SysModify,
    SysPowerMgmt,
    SysSyslog,
    UserModify,
    VmAllocate,
    VmAudit,
    VmBackup,
    VmClone,
    VmConfigCdrom,
    VmConfigCpu,
    VmConfigCloudinit,
    VmConfigDisk,
    VmConfigHwType,
    VmConfigMemory,
    VmConfigNetwork,
    VmConfigOptions,
    VmConsole,
    VmGuestAgentAudit,
    VmGuestAgentFileRead,
    VmGuestAgentFileSystemMgmt,
    VmGuestAgentFileWrite,
    VmGuestAgentUnrestricted,
    VmMigrate,
    VmMonitor,
    VmPowerMgmt,
    VmReplicate,
    VmSnapshot,
    VmSnapshotRollback,
}

const NAMES: [(Privilege, &str); 48] = [
    (Privilege::DatastoreAllocate, "Datastore.Allocate"),
    (Privilege::DatastoreAllocateSpace, "Datastore.AllocateSpace"),
    (Privilege::DatastoreAllocateTemplate, "Datastore.AllocateTemplate"),
    (Privilege::DatastoreAudit, "Datastore.Audit"),
    (Privilege::GroupAllocate, "Group.Allocate"),
    (Privilege::MappingAudit, "Mapping.Audit"),
    (Privilege::MappingModify, "Mapping.Modify"),
    (Privilege::MappingUse, "Mapping.Use"),
    (Privilege::PermissionsModify, "Permissions.Modify"),
    (Privilege::PoolAllocate, "Pool.Allocate"),
    (Privilege::PoolAudit, "Pool.Audit"),
    (Privilege::RealmAllocate, "Realm.Allocate"),
    (Privilege::RealmAllocateUser, "Realm.AllocateUser"),
    (Privilege::SdnAllocate, "SDN.Allocate"),
    (Privilege::SdnAudit, "SDN.Audit"),
    (Privilege::SdnUse, "SDN.Use"),
    (Privilege::SysAccessNetwork, "Sys.AccessNetwork"),
    (Privilege::SysAudit, "Sys.Audit"),
    (Privilege::SysConsole, "Sys.Console"),
    (Privilege::SysIncoming, "Sys.Incoming"),
    (Privilege::SysModify, "Sys.Modify"),
    (Privilege::SysPowerMgmt, "Sys.PowerMgmt"),
    (Privilege::SysSyslog, "Sys.Syslog"),
    (Privilege::UserModify, "User.Modify"),
    (Privilege::VmAllocate, "VM.Allocate"),
    (Privilege::VmAudit, "VM.Audit"),
    (Privilege::VmBackup, "VM.Backup"),
    (Privilege::VmClone, "VM.Clone"),
    (Privilege::VmConfigCdrom, "VM.Config.CDROM"),
    (Privilege::VmConfigCpu, "VM.Config.CPU"),
    (Privilege::VmConfigCloudinit, "VM.Config.Cloudinit"),
    (Privilege::VmConfigDisk, "VM.Config.Disk"),
    (Privilege::VmConfigHwType, "VM.Config.HWType"),
    (Privilege::VmConfigMemory, "VM.Config.Memory"),
    (Privilege::VmConfigNetwork, "VM.Config.Network"),
    (Privilege::VmConfigOptions, "VM.Config.Options"),
    (Privilege::VmConsole, "VM.Console"),
    (Privilege::VmGuestAgentAudit, "VM.GuestAgent.Audit"),
    (Privilege::VmGuestAgentFileRead, "VM.GuestAgent.FileRead"),
    (Privilege::VmGuestAgentFileSystemMgmt, "VM.GuestAgent.FileSystemMgmt"),
    (Privilege::VmGuestAgentFileWrite, "VM.GuestAgent.FileWrite"),
    (Privilege::VmGuestAgentUnrestricted, "VM.GuestAgent.Unrestricted"),
    (Privilege::VmMigrate, "VM.Migrate"),
    (Privilege::VmMonitor, "VM.Monitor"),
    (Privilege::VmPowerMgmt, "VM.PowerMgmt"),
    (Privilege::VmReplicate, "VM.Replicate"),
    (Privilege::VmSnapshot, "VM.Snapshot"),
    (Privilege::VmSnapshotRollback, "VM.Snapshot.Rollback"),
];

impl Privilege {
    /// Returns PVE's name, e.g. `VM.Config.Disk`.
    pub fn as_str(self) -> &'static str {
        NAMES.iter().find(|(privilege, _)| *privilege == self).map_or("", |(_, name)| name)
    }
    /// Returns every privilege of any version, in alphabetical order.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(privilege, _)| *privilege)
    }
    /// Tells whether this version of PVE knows the privilege; a role that names an unknown one is refused.
    pub fn exists_in(self, version: PveVersion) -> bool {
        let name = self.as_str();
        if name.starts_with("VM.GuestAgent.") || self == Self::VmReplicate {
            version.at_least(9, 0)
        } else if self == Self::VmMonitor {
            !version.at_least(9, 0)
        } else if name.starts_with("Mapping.") || self == Self::SysAccessNetwork {
            version.at_least(8, 0)
        } else {
            true
        }
    }
}

impl std::str::FromStr for Privilege {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let known = NAMES.iter().find(|(_, name)| *name == text);
        known
            .map(|(privilege, _)| *privilege)
            .ok_or_else(|| ParseError::new("privilege", text, "no version of PVE has it"))
    }
}

string_form!(Privilege);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_number_of_privileges() {
        let count =
            |major, minor| Privilege::all().filter(|p| p.exists_in(PveVersion::new(major, minor, 0))).count();
        assert_eq!((count(7, 4), count(8, 4), count(9, 2)), (38, 42, 47));
    }

    #[test]
    fn names_are_read_back() {
        for privilege in Privilege::all() {
            assert_eq!(privilege.as_str().parse(), Ok(privilege));
        }
        assert!("VM.Nothing".parse::<Privilege>().is_err());
    }
}
