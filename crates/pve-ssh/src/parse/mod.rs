//! What the commands print, read by pure functions. A text that no parser knows is an error that shows it.
//!
//! Formats of PVE 7.4, 8 and 9 are read by the same functions; where they differ the function says so.

mod disk;
mod failure;
mod guest;
mod json;
mod node;
mod storage;

pub use disk::{
    CreatedDisk, ImageInfo, ImportedDisk, Progress, created_disks, image_info, imported_disk, progress,
};
pub use failure::{Failure, failure};
pub use guest::{GuestConfig, GuestRow, PendingLine, config, guest_configs, pending, qm_list, status};
pub use json::{NewToken, Permissions, json, new_token, permissions};
pub use node::{FileStat, checksum, file_stat, hostname, neighbors, pveversion};
pub use storage::{StorageRow, StorageState, VolumeRow, pvesm_alloc, pvesm_list, pvesm_path, pvesm_status};

use crate::text::{Escaped, cut};

/// Why a command's output is not what the command prints: the text itself is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read what `{what}` printed: expected {expected}, got `{got}`")]
pub struct OutputError {
    /// The command, such as `pvesm status`.
    pub what: &'static str,
    /// What should have stood there.
    pub expected: &'static str,
    /// The line or text found instead, escaped and cut.
    pub got: String,
}

impl OutputError {
    pub(crate) fn new(what: &'static str, expected: &'static str, got: &str) -> Self {
        Self { what, expected, got: cut(&Escaped(got.trim_end()).to_string(), 300) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What commands of PVE 7.4, 8 and 9 print, whole.
    const SAMPLES: &[&str] = &[
        "importing disk '/a.qcow2' to VM 200 ...\n  Logical volume \"vm-200-disk-0\" created.\ntransferred 0.0 B of \
         160.0 MiB (0.00%)\ntransferred 160.0 MiB of 160.0 MiB (100.00%)\nSuccessfully imported disk as \
         'unused0:local-lvm:vm-200-disk-0'\n",
        "importing disk '/a.qcow2' to VM 200 ...\nFormatting '/x', fmt=qcow2 size=167772160\ntransferred 3.2 MiB of \
         160.0 MiB (2.00%)\nscsi0: successfully imported disk 'local:200/vm-200-disk-0.qcow2'\n",
        "update VM 200: -scsi1 fast:1\nscsi1: successfully created disk 'fast:200/vm-200-disk-1.raw,size=1G'\n",
        "Name             Type     Status           Total            Used       Available        %\nlocal             \
         dir     active        98497780        12345678        81105552   12.53%\nnas nfs disabled 0 0 0 N/A\n",
        "Name             Type     Status     Total (KiB)      Used (KiB) Available (KiB)        %\nlocal-lvm     \
         lvmthin     active        67108864               0        67108864    0.00%\n",
        "Volid                      Format  Type            Size VMID\nlocal-lvm:vm-202-disk-0    raw     images     \
         167772160 202\nlocal:iso/a.iso iso iso ~7\n",
        "      VMID NAME                 STATUS     MEM(MB)    BOOTDISK(GB) PID       \n       200 ceph1                \
         running    1024               0.16 4711      \n",
        "agent: enabled=1\nboot: order=scsi0\nscsi0: local-lvm:vm-202-disk-0,size=160M\n",
        "cur cores: 2\nnew cores: 4\ndel numa: 1\n",
        "status: running\n",
        "/etc/pve/nodes/pve1/qemu-server/100.conf:name: web01\n/etc/pve/nodes/pve2/lxc/101.conf:arch: amd64\n",
        "successfully created 'local-lvm:vm-100-disk-0'\n",
        "/dev/pve/vm-100-disk-0\n",
        "{\"full-tokenid\":\"u@pve!ci\",\"info\":{\"privsep\":\"1\"},\"value\":\"12345678-aaaa\"}\n",
        "{\"virtual-size\": 167772160, \"format\": \"qcow2\"}\n",
        "400 Parameter verification failed.\nmemory: invalid format\n\nqm create <vmid> [OPTIONS]\n",
        "trying to acquire lock...\ncan't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout\n",
        "18093056 1760000000 /a\n",
        "pve-manager/7.4-20/b6d3f2a1 (running kernel: 5.15.158-2-pve)\n",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  /a\n",
    ];

    /// Reads a text by every parser, and returns every error's text.
    fn read_by_all(text: &str) -> Vec<String> {
        let errors = [
            imported_disk(text).err(),
            image_info(text).err(),
            pvesm_status(text).err(),
            pvesm_list(text).err(),
            pvesm_alloc(text).err(),
            pvesm_path(text).err(),
            qm_list(text).err(),
            config(text).err(),
            pending(text).err(),
            status(text).err(),
            guest_configs(text).err(),
            new_token(text).err(),
            permissions(text).err(),
            json::<serde_json::Value>("pvesh", text).err(),
            file_stat(text).err(),
            hostname(text).err(),
            pveversion(text).err(),
            checksum(256, text).err(),
        ];
        let _ = (created_disks(text), failure(text), text.lines().map(progress).count());
        errors.into_iter().flatten().map(|error| error.to_string()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: ProptestConfig::default().cases.max(2000),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Real texts with pieces cut out, doubled, swapped or replaced: never a panic, and errors fit a terminal.
        #[test]
        fn damaged_outputs_are_errors_and_never_panics(
            first in 0..SAMPLES.len(),
            second in 0..SAMPLES.len(),
            cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
            inserted in "[\\PC\\x00-\\x1f\u{202e}'%():,]{0,12}",
        ) {
            let mut text: Vec<char> = format!("{}{}", SAMPLES[first], SAMPLES[second]).chars().collect();
            for (from, to) in &cuts {
                let (from, to) = (from.index(text.len()), to.index(text.len()));
                let removed: Vec<char> = text.drain(from.min(to)..from.max(to).min(from.min(to) + 9)).collect();
                let at = if text.is_empty() { 0 } else { to.min(text.len() - 1) };
                text.splice(at..at, removed.into_iter().rev().chain(inserted.chars()));
                if text.is_empty() {
                    text.push('x');
                }
            }
            for error in read_by_all(&text.into_iter().collect::<String>()) {
                prop_assert!(!error.chars().any(char::is_control), "{error:?}");
                prop_assert!(error.chars().count() < 500, "{error:?}");
            }
        }
    }

    #[test]
    fn each_sample_is_read_by_the_parser_that_it_is_for() {
        for sample in SAMPLES {
            assert!(
                read_by_all(sample).len() < 18
                    || failure(sample).is_some()
                    || !created_disks(sample).is_empty(),
                "{sample}"
            );
        }
    }
}
