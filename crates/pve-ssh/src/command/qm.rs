//! `qm`: virtual machines.
// PVE: qemu-server src/PVE/CLI/qm.pm.

use super::Command;
use pve_types::{StorageId, Vmid, VolumeId};

fn qm(verb: &str) -> Command {
    Command::new("qm").arg(verb)
}

fn qm_of(verb: &str, vmid: Vmid) -> Command {
    qm(verb).arg(vmid.to_string())
}

/// Returns `qm list`.
pub fn list() -> Command {
    qm("list").only_reads()
}

/// Returns `qm config VMID`: the configuration with pending changes applied.
pub fn config(vmid: Vmid) -> Command {
    qm_of("config", vmid).only_reads()
}

/// Returns `qm config VMID --current 1`: what the running guest has.
pub fn config_current(vmid: Vmid) -> Command {
    config(vmid).option("current", "1")
}

/// Returns `qm pending VMID`.
pub fn pending(vmid: Vmid) -> Command {
    qm_of("pending", vmid).only_reads()
}

/// Returns `qm status VMID`.
pub fn status(vmid: Vmid) -> Command {
    qm_of("status", vmid).only_reads()
}

/// Returns `qm create VMID` with options in the given order.
pub fn create<K: AsRef<str>, V: AsRef<str>>(
    vmid: Vmid,
    options: impl IntoIterator<Item = (K, V)>,
) -> Command {
    qm_of("create", vmid).options(options)
}

/// Returns `qm set VMID` with options in the given order. `delete` and `digest` are options like the others.
pub fn set<K: AsRef<str>, V: AsRef<str>>(vmid: Vmid, options: impl IntoIterator<Item = (K, V)>) -> Command {
    qm_of("set", vmid).options(options)
}

/// Returns the old name of the import command, which every version has: `qm importdisk VMID SOURCE STORAGE`.
///
/// The disk ends as `unusedN`; [`crate::parse::imported_disk`] says which.
pub fn importdisk(vmid: Vmid, source: &str, storage: &StorageId) -> Command {
    qm_of("importdisk", vmid).arg(source).arg(storage.as_str())
}

/// Returns `qm disk import VMID SOURCE STORAGE --target-disk SLOT`, for PVE 8.3 and newer.
pub fn disk_import_to(vmid: Vmid, source: &str, storage: &StorageId, slot: &str) -> Command {
    qm("disk")
        .arg("import")
        .arg(vmid.to_string())
        .arg(source)
        .arg(storage.as_str())
        .option("target-disk", slot)
}

/// Returns `qm disk resize VMID SLOT SIZE`; SIZE as PVE writes it, such as `20G`.
///
/// It exits 0 even when it failed (PVE 8 and 9): look at stderr, or read the configuration again.
pub fn disk_resize(vmid: Vmid, slot: &str, size: &str) -> Command {
    qm("disk").arg("resize").arg(vmid.to_string()).arg(slot).arg(size)
}

/// Returns `qm disk move VMID SLOT`, with the options that say where to.
pub fn disk_move<K: AsRef<str>, V: AsRef<str>>(
    vmid: Vmid,
    slot: &str,
    options: impl IntoIterator<Item = (K, V)>,
) -> Command {
    qm("disk").arg("move").arg(vmid.to_string()).arg(slot).options(options)
}

/// Returns `qm disk unlink VMID --idlist SLOTS`.
pub fn disk_unlink(vmid: Vmid, slots: &str) -> Command {
    qm("disk").arg("unlink").arg(vmid.to_string()).option("idlist", slots)
}

/// Returns `qm disk rescan --vmid VMID`.
pub fn disk_rescan(vmid: Vmid) -> Command {
    qm("disk").arg("rescan").option("vmid", vmid.to_string())
}

/// Returns `qm clone VMID NEW` with options in the given order.
pub fn clone<K: AsRef<str>, V: AsRef<str>>(
    vmid: Vmid,
    new: Vmid,
    options: impl IntoIterator<Item = (K, V)>,
) -> Command {
    qm_of("clone", vmid).arg(new.to_string()).options(options)
}

/// Returns `qm start VMID`.
pub fn start(vmid: Vmid) -> Command {
    qm_of("start", vmid)
}

/// Returns `qm stop VMID`: power off, at once.
pub fn stop(vmid: Vmid) -> Command {
    qm_of("stop", vmid)
}

/// Returns `qm shutdown VMID --timeout S`, without force.
pub fn shutdown(vmid: Vmid, timeout_s: u32) -> Command {
    qm_of("shutdown", vmid).option("timeout", timeout_s.to_string())
}

/// Returns `qm reboot VMID --timeout S`.
pub fn reboot(vmid: Vmid, timeout_s: u32) -> Command {
    qm_of("reboot", vmid).option("timeout", timeout_s.to_string())
}

/// Returns `qm destroy VMID`, with `--purge 1` to leave backup jobs, replication and HA as well.
pub fn destroy<K: AsRef<str>, V: AsRef<str>>(
    vmid: Vmid,
    options: impl IntoIterator<Item = (K, V)>,
) -> Command {
    qm_of("destroy", vmid).options(options)
}

/// Returns `qm template VMID`. Inside its worker it exits 0 even when it failed.
pub fn template(vmid: Vmid) -> Command {
    qm_of("template", vmid)
}

/// Returns `qm unlock VMID`.
pub fn unlock(vmid: Vmid) -> Command {
    qm_of("unlock", vmid)
}

/// Returns `qm cloudinit update VMID`: writes the cloud-init drive again.
pub fn cloudinit_update(vmid: Vmid) -> Command {
    qm("cloudinit").arg("update").arg(vmid.to_string())
}

/// Returns `qm cloudinit dump VMID KIND`; KIND is `user`, `network` or `meta`.
pub fn cloudinit_dump(vmid: Vmid, kind: &str) -> Command {
    qm("cloudinit").arg("dump").arg(vmid.to_string()).arg(kind).only_reads()
}

/// Returns `qm guest cmd VMID COMMAND`: a command of the guest agent such as `network-get-interfaces`.
pub fn guest_cmd(vmid: Vmid, command: &str) -> Command {
    qm("guest").arg("cmd").arg(vmid.to_string()).arg(command)
}

/// Returns `qm guest exec VMID --timeout S -- ARGUMENTS`.
pub fn guest_exec<T: AsRef<[u8]>>(
    vmid: Vmid,
    timeout_s: u32,
    arguments: impl IntoIterator<Item = T>,
) -> Command {
    qm("guest")
        .arg("exec")
        .arg(vmid.to_string())
        .option("timeout", timeout_s.to_string())
        .arg("--")
        .args(arguments)
}

/// Returns the option value that attaches an existing volume, `VOLUME[,OPTIONS]`.
pub fn attach(volume: &VolumeId, options: &str) -> String {
    if options.is_empty() { volume.to_string() } else { format!("{volume},{options}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_what_an_administrator_would_type() {
        let vmid = Vmid::new(200).unwrap();
        let storage: StorageId = "local-lvm".parse().unwrap();
        let none: [(&str, &str); 0] = [];
        for (command, expect) in [
            (list(), "qm list"),
            (config(vmid), "qm config 200"),
            (config_current(vmid), "qm config 200 --current 1"),
            (pending(vmid), "qm pending 200"),
            (status(vmid), "qm status 200"),
            (
                create(vmid, [("name", "web01"), ("memory", "4096")]),
                "qm create 200 --name web01 --memory 4096",
            ),
            (
                set(vmid, [("boot", "order=scsi0"), ("delete", "unused0")]),
                "qm set 200 --boot order=scsi0 --delete unused0",
            ),
            (importdisk(vmid, "/a b.qcow2", &storage), "qm importdisk 200 '/a b.qcow2' local-lvm"),
            (
                disk_import_to(vmid, "/a.qcow2", &storage, "scsi1"),
                "qm disk import 200 /a.qcow2 local-lvm --target-disk scsi1",
            ),
            (disk_resize(vmid, "scsi0", "20G"), "qm disk resize 200 scsi0 20G"),
            (clone(vmid, Vmid::new(201).unwrap(), [("full", "1")]), "qm clone 200 201 --full 1"),
            (destroy(vmid, none), "qm destroy 200"),
            (
                guest_exec(vmid, 30, ["cloud-init", "status"]),
                "qm guest exec 200 --timeout 30 -- cloud-init status",
            ),
        ] {
            assert_eq!(command.to_string(), expect);
        }
    }
}
