//! The specs of the acts.

use crate::ground::Ground;
use std::fmt::Write as _;

/// The places in the range of guests that are made by hand: the holder of kept disks, and the one that is adopted.
pub const BY_HAND: [u32; 2] = [6, 7];

/// The specs of one battery, which differ in a few keys from act to act.
pub struct Specs<'g> {
    ground: &'g Ground,
    transport: &'static str,
    /// The first VMID.
    pub first: u32,
}

impl<'g> Specs<'g> {
    /// Begins.
    pub fn new(ground: &'g Ground, transport: &str) -> Self {
        let transport = match transport {
            "api" => "api",
            "auto" => "auto",
            "hybrid" => "hybrid",
            _ => "ssh",
        };
        Self { ground, transport, first: ground.settings.first }
    }
    /// Returns the transport.
    pub fn transport(&self) -> &'static str {
        self.transport
    }
    fn head(&self, project: &str) -> String {
        let settings = &self.ground.settings;
        format!(
            "version: 1\nproject: {project}\ntransport: {}\ndefaults: {{node: {}, pool: {}}}\n\
             images: {{tiny: {{file: tiny.raw, store: {}}}}}\nvms:\n",
            self.transport, self.ground.node, settings.pool, settings.images
        )
    }
    fn disk(&self, slot: &str, more: &str) -> String {
        format!("{slot}: {{storage: {}, {more}}}", self.ground.settings.storage)
    }
    fn nic(&self, slot: &str, more: &str) -> String {
        format!("{slot}: {{bridge: {}{more}}}", self.ground.settings.bridge)
    }
    /// A template, a VM that runs and one that does not; `stage` 1 is as they are made, 2 with changed options, 3 with
    /// more and larger disks, 4 with clones.
    pub fn main(&self, stage: u8) -> String {
        let other = &self.ground.settings.other_storage;
        let from_image = self.disk("scsi0", "image: tiny, size: 1GiB");
        let to_link = match self.ground.needs_qcow2 {
            true => self.disk("scsi0", "image: tiny, size: 1GiB, format: qcow2"),
            false => from_image.clone(),
        };
        let mut text = self.head("real-main");
        let mut vm = |name: &str, vmid: u32, keys: &[String]| {
            let _ = writeln!(text, "  {name}: {{vmid: {}, {}}}", self.first + vmid, keys.join(", "));
        };
        let common = |memory: u32| format!("memory: {memory}MiB, cpu: 1");
        vm("template", 0, &[common(64), "template: true".to_owned(), format!("disks: {{{to_link}}}")]);
        let grown = self.disk("scsi0", "image: tiny, size: 2GiB, discard: true");
        let added = self.disk("scsi1", "size: 1GiB, ssd: true");
        let nics = match stage {
            1 => self.nic("net0", ", ip: 192.0.2.11/24"),
            _ => format!(
                "{}, {}",
                self.nic("net0", ", ip: 192.0.2.11/24"),
                self.nic("net1", ", firewall: true, ip: dhcp")
            ),
        };
        vm(
            "running",
            1,
            &[
                common(64),
                format!(
                    "disks: {{{}}}",
                    if stage < 3 { from_image.clone() } else { format!("{grown}, {added}") }
                ),
                format!("nics: {{{nics}}}"),
                "cloud_init: {user: admin}".to_owned(),
                if stage == 1 { "tags: [one]" } else { "tags: [one, two], description: 'second'" }.to_owned(),
            ],
        );
        let stopped = match stage {
            1 | 2 => format!("scsi0: {{storage: {other}, size: 1GiB, format: qcow2}}, ide0: {{iso: none}}"),
            _ => format!(
                "scsi0: {{storage: {other}, size: 2GiB, format: qcow2}}, ide0: {{iso: none}}, virtio1: {{storage: {other}, size: 1GiB, format: raw}}"
            ),
        };
        vm(
            "stopped",
            2,
            &[
                if stage == 1 {
                    common(64)
                } else {
                    "memory: {size: 96MiB, balloon: 64MiB}, cpu: 2".to_owned()
                },
                "lifecycle: {state: stopped}".to_owned(),
                format!("disks: {{{stopped}}}"),
                if stage == 1 { "onboot: true" } else { "onboot: true, startup: {order: 2}, ostype: l26" }
                    .to_owned(),
            ],
        );
        if stage >= 4 {
            let state = "lifecycle: {state: stopped}".to_owned();
            let linked = "clone: {from: template, mode: linked}, disks: {scsi0: {size: 2GiB}}".to_owned();
            vm("linked", 3, &[common(64), state.clone(), linked]);
            let full = "clone: {from: stopped, mode: full}".to_owned();
            vm("full", 4, &["memory: 80MiB".to_owned(), state, full]);
        }
        text
    }
    /// A VM whose second disk survives it at the holder.
    pub fn kept(&self) -> String {
        let holder = self.first + 6;
        format!(
            "{}  kept: {{vmid: {}, memory: 64MiB, lifecycle: {{state: stopped}}, disks: {{{}, {}}}}}\n",
            self.head("real-kept"),
            self.first + 5,
            self.disk("scsi0", "image: tiny, size: 1GiB"),
            self.disk("scsi1", &format!("size: 1GiB, keep: {{holder: {holder}}}")),
        )
    }
    /// Three VMs that are made in a run that is killed.
    pub fn killed(&self) -> String {
        let mut text = self.head("real-killed");
        for number in 8..11 {
            let _ = writeln!(
                text,
                "  killed{number}: {{vmid: {}, memory: 64MiB, disks: {{{}, {}}}, nics: {{{}}}, cloud_init: {{user: admin}}}}",
                self.first + number,
                self.disk("scsi0", "image: tiny, size: 1GiB"),
                self.disk("scsi1", "size: 1GiB"),
                self.nic("net0", ", ip: dhcp"),
            );
        }
        text
    }
}
