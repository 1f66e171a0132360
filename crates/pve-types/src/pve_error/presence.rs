//! Texts that say whether a thing exists. They are no rows of the table: they are told by their ends, and what they mean
//! depends on what was asked for.

use super::{PveError, read_error};

/// Tells whether a text of PVE says that the thing which was asked for does not exist: a guest, a storage, a pool, a user
/// or a volume.
// PVE: pve-access-control src/PVE/AccessControl.pm and src/PVE/API2/*.pm; pve-manager PVE/API2/Pool.pm; pve-storage
// src/PVE/Storage.pm.
pub fn says_absent(text: &str) -> bool {
    let text = text.trim_end().trim_end_matches('.');
    let is_guest = || read_error(text).is_some_and(|told| told.is_whole && told.error == PveError::GuestGone);
    text == "no such task"
        || text == "No such storage"
        || text.starts_with("no such user (")
        || text.starts_with("No such tfa entry")
        || (text.starts_with("no such ") && text.contains('\''))
        || text.starts_with("no such resource")
        || text.starts_with("no such cluster")
        || text.ends_with("' does not exist")
        || text.ends_with("' does not exist on node")
        || text.starts_with("cannot delete nonexistent")
        || (text.starts_with("volume ") && text.ends_with("does not exist"))
        || is_guest()
}

/// Tells whether a text of PVE says that something of the name exists already.
pub fn says_already_there(text: &str) -> bool {
    let text = text.trim_end().trim_end_matches('.');
    text.contains("already exists") || text.ends_with("already defined") || text.contains("already used")
}

/// What keeps PVE from destroying a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DestroyObstacle {
    /// It is protected.
    Protection,
    /// High availability manages it.
    HighAvailability,
    /// Linked clones use its disks.
    LinkedClones,
    /// A replication job copies it.
    Replication,
    /// It runs, or PVE says no reason that is known.
    Running,
}

impl DestroyObstacle {
    /// Reads what keeps a guest from being destroyed from the text of [`PveError::DestroyRefused`].
    // PVE: qemu-server src/PVE/API2/Qemu.pm destroy_vm, src/PVE/QemuServer.pm destroy_vm.
    pub fn of(text: &str) -> Self {
        const OBSTACLES: [(&str, DestroyObstacle); 4] = [
            ("protection", DestroyObstacle::Protection),
            ("HA resources", DestroyObstacle::HighAvailability),
            ("linked clone", DestroyObstacle::LinkedClones),
            ("replication", DestroyObstacle::Replication),
        ];
        let found = OBSTACLES.iter().find(|(part, _)| text.contains(part));
        found.map_or(Self::Running, |(_, obstacle)| *obstacle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_there_already_are_told_apart() {
        let check = |text: &str, absent: bool, there: bool| {
            assert_eq!((says_absent(text), says_already_there(text)), (absent, there), "{text}");
        };
        check("Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist\n", true, false);
        check("storage 'x' does not exist", true, false);
        check("No such storage.", true, false);
        check("unable to create VM 101: config file already exists", false, true);
        check("create user failed: user 'ann@pve' already exists", false, true);
        check("unable to create image: file exists", false, false);
    }

    #[test]
    fn a_refused_destruction_says_what_is_in_the_way() {
        let check = |text: &str, expect| assert_eq!(DestroyObstacle::of(text), expect, "{text}");
        check("can't remove VM 100 - protection mode enabled", DestroyObstacle::Protection);
        check(
            "unable to remove VM 100 - used in HA resources and purge parameter not set.",
            DestroyObstacle::HighAvailability,
        );
        check("base volume 'x' is still in use by linked cloned", DestroyObstacle::LinkedClones);
        check("VM 100 is running - destroy failed", DestroyObstacle::Running);
    }
}
