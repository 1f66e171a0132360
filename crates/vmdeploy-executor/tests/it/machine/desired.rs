//! The spec of the state machine, and what changes in it from one deployment to the next.

use super::world::{HOLDER, State};
use crate::draw::Draw;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What the spec says of a slot.
#[derive(Debug, Clone)]
pub enum Slot {
    Disk {
        storage: &'static str,
        gib: u32,
        image: Option<&'static str>,
        keep: bool,
    },
    /// A volume that is there.
    Volume(String),
    /// `null`: it is to be empty.
    Empty,
}

/// A VM of the spec.
#[derive(Debug, Clone)]
pub struct Vm {
    pub vmid: u32,
    /// The template that it is a clone of, and how.
    clone: Option<&'static str>,
    template: bool,
    pub slots: BTreeMap<String, Slot>,
    memory: u32,
    tags: &'static str,
    state: Option<&'static str>,
    cloud_init: Option<&'static str>,
    vendor: bool,
    efi: bool,
    tpm: bool,
    restart: bool,
    replace: bool,
    on_failure: Option<&'static str>,
    force_stop: bool,
}

/// The spec.
#[derive(Debug, Clone)]
pub struct Spec {
    pub transport: &'static str,
    pub vms: BTreeMap<String, Vm>,
    /// How many changes it has seen: names of new VMs.
    count: u32,
}

const STORAGES: [&str; 4] = ["local-lvm", "fast", "tank", "local"];
const SLOTS: [&str; 9] =
    ["scsi0", "scsi1", "scsi2", "scsi3", "virtio0", "virtio1", "virtio2", "sata1", "ide0"];

impl Spec {
    pub fn new(transport: &'static str, draw: &mut Draw) -> Self {
        let mut spec = Self { transport, vms: BTreeMap::new(), count: 0 };
        if draw.percent(25) {
            let mut template = Vm::new(210, draw);
            (template.template, template.state, template.vendor) = (true, None, false);
            spec.vms.insert("tmpl".to_owned(), template);
        }
        spec.add_vm(draw);
        if draw.percent(60) {
            spec.add_vm(draw);
        }
        spec
    }

    fn add_vm(&mut self, draw: &mut Draw) {
        if self.vms.len() >= 4 {
            return;
        }
        let name = format!("web0{}", self.count % 4);
        if self.vms.contains_key(&name) {
            return;
        }
        let mut vm = Vm::new(201 + self.count % 4, draw);
        self.count += 1;
        if self.vms.contains_key("tmpl") && draw.percent(50) {
            vm.clone = Some(draw.of(&["full", "linked"]));
            vm.slots.remove("scsi0");
            (vm.efi, vm.tpm) = (false, false);
        }
        self.vms.insert(name, vm);
    }

    /// Changes a few things.
    pub fn change(&mut self, draw: &mut Draw, now: &State) {
        for _ in 0..1 + draw.below(3) {
            match draw.below(12) {
                0 => self.add_vm(draw),
                1 if self.vms.len() > 1 => {
                    let name = draw.of(&self.vms.keys().cloned().collect::<Vec<_>>());
                    if name != "tmpl" {
                        self.vms.remove(&name);
                    }
                }
                _ => {
                    let names: Vec<String> =
                        self.vms.keys().filter(|name| *name != "tmpl").cloned().collect();
                    if let Some(vm) = names.get(draw.below(names.len().max(1))) {
                        self.vms.get_mut(vm).unwrap().change(draw, now);
                    }
                }
            }
        }
    }

    pub fn yaml(&self) -> String {
        let mut text = format!(
            "version: 1\nproject: machine\ntransport: {}\nimages:\n  tiny: {{volume: 'local:import/tiny.qcow2'}}\n  \
             other: {{volume: 'local:import/other.qcow2'}}\ndefaults: {{node: pve1}}\nvms:\n",
            self.transport
        );
        for (name, vm) in &self.vms {
            vm.write(name, &mut text, self.transport);
        }
        text
    }
}

impl Vm {
    fn new(vmid: u32, draw: &mut Draw) -> Self {
        let mut vm = Self {
            vmid,
            clone: None,
            template: false,
            slots: BTreeMap::new(),
            memory: 512,
            tags: "a",
            state: draw.of(&[Some("stopped"), Some("stopped"), Some("running"), None]),
            cloud_init: draw.percent(50).then_some("ide2"),
            vendor: draw.percent(30),
            efi: draw.percent(15),
            tpm: draw.percent(15),
            restart: draw.percent(25),
            replace: draw.percent(20),
            on_failure: draw.of(&[None, None, Some("rollback"), Some("keep")]),
            force_stop: draw.percent(80),
        };
        let image = draw.of(&[Some("tiny"), Some("tiny"), None]);
        let root = Slot::Disk { storage: draw.of(&STORAGES), gib: 2, image, keep: false };
        vm.slots.insert("scsi0".to_owned(), root);
        if draw.percent(50) {
            vm.add_disk(draw);
        }
        vm
    }

    fn add_disk(&mut self, draw: &mut Draw) {
        let free: Vec<&str> = SLOTS
            .into_iter()
            .filter(|slot| !matches!(self.slots.get(*slot), Some(Slot::Disk { .. })))
            .collect();
        let image = draw.of(&[None, None, Some("tiny"), Some("other")]);
        let (storage, gib) = (draw.of(&STORAGES), 1 + u32::try_from(draw.below(3)).unwrap());
        let disk = Slot::Disk { storage, gib, image, keep: draw.percent(20) };
        self.slots.insert(draw.of(&free).to_owned(), disk);
    }

    fn change(&mut self, draw: &mut Draw, now: &State) {
        let disks: Vec<String> = self
            .slots
            .iter()
            .filter(|(_, disk)| matches!(disk, Slot::Disk { .. }))
            .map(|(slot, _)| slot.clone())
            .collect();
        let of_disks = |draw: &mut Draw| draw.of(&disks);
        match draw.below(16) {
            0 | 1 => self.add_disk(draw),
            2 if !disks.is_empty() => drop(self.slots.insert(of_disks(draw), Slot::Empty)),
            // Left out, which leaves the disk where it is.
            3 if !disks.is_empty() => drop(self.slots.remove(&of_disks(draw))),
            4 if !disks.is_empty() => {
                if let Some(Slot::Disk { gib, .. }) = self.slots.get_mut(&of_disks(draw)) {
                    *gib += 1;
                }
            }
            5 | 6 if !disks.is_empty() => {
                if let Some(Slot::Disk { storage, .. }) = self.slots.get_mut(&of_disks(draw)) {
                    *storage = draw.of(&STORAGES);
                }
            }
            7 | 8 if !disks.is_empty() => {
                let disk = self.slots.remove(&of_disks(draw)).unwrap();
                self.slots.insert(draw.of(&SLOTS).to_owned(), disk);
            }
            9 if !disks.is_empty() => {
                if let Some(Slot::Disk { keep, .. }) = self.slots.get_mut(&of_disks(draw)) {
                    *keep = !*keep;
                }
            }
            10 if !disks.is_empty() => {
                if let Some(Slot::Disk { image, .. }) = self.slots.get_mut(&of_disks(draw)) {
                    *image = draw.of(&[None, Some("tiny"), Some("other")]);
                }
            }
            // A volume of another guest, of another VM of the spec, of this one, or without an owner.
            11 => {
                let volumes: Vec<String> = now.volumes.keys().cloned().collect();
                self.slots.insert(draw.of(&SLOTS).to_owned(), Slot::Volume(draw.of(&volumes)));
            }
            12 => self.memory += 64,
            13 => self.tags = draw.of(&["a", "b", "c"]),
            14 => self.state = draw.of(&[Some("stopped"), Some("running"), None]),
            _ => match draw.below(5) {
                0 => self.cloud_init = draw.of(&[None, Some("ide2"), Some("sata3"), Some("scsi7")]),
                1 => self.efi = !self.efi,
                2 => self.tpm = !self.tpm,
                3 => self.replace = !self.replace,
                _ => self.vendor = !self.vendor,
            },
        }
    }

    fn write(&self, name: &str, text: &mut String, transport: &str) {
        writeln!(text, "  {name}:").unwrap();
        let mut line = |line: String| writeln!(text, "    {line}").unwrap();
        line(format!("vmid: {}", self.vmid));
        line(format!("memory: {}MiB", self.memory));
        line(format!("tags: [{}]", self.tags));
        if self.template {
            line("template: true".to_owned());
        }
        if let Some(mode) = self.clone {
            line(format!("clone: {{from: tmpl, mode: {mode}}}"));
        }
        // A guest without a system on its disk does not shut down when it is asked to.
        let mut life = vec!["shutdown_timeout: 1s".to_owned()];
        let has_system = |slot: &Slot| matches!(slot, Slot::Disk { image: Some(_), .. });
        let can_restart =
            self.restart && self.clone.is_none() && self.slots.get("scsi0").is_some_and(has_system);
        life.extend(self.force_stop.then(|| "force_stop: true".to_owned()));
        life.extend(self.state.filter(|_| !self.template).map(|state| format!("state: {state}")));
        life.extend(can_restart.then(|| "restart: if-needed".to_owned()));
        life.extend(self.replace.then(|| "replace: if-needed".to_owned()));
        life.extend(self.on_failure.map(|rule| format!("on_failure: {rule}")));
        line(format!("lifecycle: {{{}}}", life.join(", ")));
        if self.efi {
            line("bios: {type: ovmf, efi: {storage: fast}}".to_owned());
        }
        if self.tpm {
            line("tpm: local-lvm".to_owned());
        }
        line("nics: {net0: {bridge: vmbr0}}".to_owned());
        if let Some(slot) = self.cloud_init {
            let vendor = if self.vendor && transport != "api" { ", vendor_data: vendor.yaml" } else { "" };
            let clone = if self.clone.is_some() { ", storage: local-lvm" } else { "" };
            let key =
                "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9y6Ie6yQy5x4Jm0o7U0v3Yg6o8Vn0C5Yw0u7Yv0abc me@here";
            line(format!("cloud_init: {{user: admin, slot: {slot}, ssh_keys: [\"{key}\"]{vendor}{clone}}}"));
        }
        if !self.slots.is_empty() {
            line("disks:".to_owned());
        }
        for (slot, disk) in &self.slots {
            line(match disk {
                Slot::Empty => format!("  {slot}: null"),
                Slot::Volume(volume) => format!("  {slot}: {{volume: '{volume}'}}"),
                Slot::Disk { storage, gib, image, keep } => {
                    let image = image.map(|image| format!(", image: {image}")).unwrap_or_default();
                    let keep = if *keep { format!(", keep: {{holder: {HOLDER}}}") } else { String::new() };
                    format!("  {slot}: {{storage: {storage}, size: {gib}GiB{image}{keep}}}")
                }
            });
        }
    }
}
