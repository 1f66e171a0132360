//! `pvesm`: storages and volumes.
// PVE: pve-storage src/PVE/CLI/pvesm.pm.

use super::Command;
use pve_types::{Bytes, StorageId, Vmid, VolumeId};

fn pvesm(verb: &str) -> Command {
    Command::new("pvesm").arg(verb)
}

/// Returns `pvesm status`: every storage of the node.
pub fn status() -> Command {
    pvesm("status").only_reads()
}

/// Returns `pvesm status --storage ID`.
pub fn status_of(storage: &StorageId) -> Command {
    status().option("storage", storage.as_str())
}

/// Returns `pvesm list STORAGE`.
pub fn list(storage: &StorageId) -> Command {
    pvesm("list").arg(storage.as_str()).only_reads()
}

/// Returns `pvesm list STORAGE --vmid VMID`.
pub fn list_of(storage: &StorageId, vmid: Vmid) -> Command {
    list(storage).option("vmid", vmid.to_string())
}

/// Returns `pvesm alloc STORAGE VMID '' SIZE`: PVE chooses the name. The size is rounded up to whole KiB.
pub fn alloc(storage: &StorageId, vmid: Vmid, size: Bytes) -> Command {
    pvesm("alloc")
        .arg(storage.as_str())
        .arg(vmid.to_string())
        .arg("")
        .arg(size.get().div_ceil(1024).to_string())
}

/// Returns `pvesm free VOLUME`. It can exit 0 although its task failed: list the volume to be sure.
pub fn free(volume: &VolumeId) -> Command {
    pvesm("free").arg(volume.as_str())
}

/// Returns `pvesm path VOLUME`: where the volume is on the node.
pub fn path(volume: &VolumeId) -> Command {
    pvesm("path").arg(volume.as_str()).only_reads()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_what_an_administrator_would_type() {
        let storage: StorageId = "local".parse().unwrap();
        let volume: VolumeId = "local:100/vm-100-disk-0.raw".parse().unwrap();
        let vmid = Vmid::new(100).unwrap();
        for (command, expect) in [
            (status(), "pvesm status"),
            (status_of(&storage), "pvesm status --storage local"),
            (list_of(&storage, vmid), "pvesm list local --vmid 100"),
            (alloc(&storage, vmid, Bytes::new(1025)), "pvesm alloc local 100 '' 2"),
            (free(&volume), "pvesm free local:100/vm-100-disk-0.raw"),
            (path(&volume), "pvesm path local:100/vm-100-disk-0.raw"),
        ] {
            assert_eq!(command.to_string(), expect);
        }
    }
}
