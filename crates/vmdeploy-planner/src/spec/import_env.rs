//! From the `.env` of vm-deploy to a spec that makes what its playbook makes.

mod dotenv;

use super::diagnostic::{Diagnostic, SourceFile, Span};
use super::faults::Faults;
use super::hints::closest;
use super::schema::{TextRule, rules};
use dotenv::Variables;
use pve_types::Bytes;
use std::fmt::Write as _;

/// What kind of storage `STORAGE_POOL` is: vm-deploy asks the node and sets other disk options for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StorageKind {
    /// `zfspool`: disks with `discard`.
    #[default]
    Zfs,
    /// `lvmthin`: `discard` and a write-back cache, the OS disk as an SSD.
    LvmThin,
    /// `dir` and all others: as for LVM, in format qcow2.
    Directory,
}

/// What came of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The spec.
    pub yaml: String,
    /// What is worth knowing: what was left out, and what had no effect.
    pub notes: Vec<String>,
}

/// Turns a `.env` of vm-deploy into a spec of `project`.
///
/// No value of `PROXMOX_API_PASSWORD` or `VM_ROOT_PASSWORD` gets into the spec: it refers to the variables.
///
/// # Errors
/// Every line that is not an assignment, and every value that PVE would refuse, each with its place.
pub fn import_env(
    file: &SourceFile,
    project: &str,
    storage: StorageKind,
) -> Result<Imported, Vec<Diagnostic>> {
    let mut faults = Faults::default();
    let variables = Variables::read(&file.text, &mut faults);
    let mut import = Import { variables: &variables, faults: &mut faults };
    let settings = import.settings(storage);
    let vms = import.vms();
    let notes = import.notes(&settings);
    if faults.has_errors() {
        return Err(faults.finish(std::slice::from_ref(file)));
    }
    Ok(Imported { yaml: write_spec(project, &settings, &vms), notes })
}

/// What all VMs have in common.
struct Settings {
    node: String,
    image: String,
    storage: String,
    kind: StorageKind,
    data_size: Bytes,
    mon_size: Bytes,
    private_bridge: String,
    public_bridge: String,
    cpu_type: String,
    github_user: Option<String>,
    start: bool,
}

/// What each VM has of its own.
struct ImportedVm {
    name: String,
    vmid: i64,
    memory: Bytes,
    cores: i64,
    sockets: i64,
    onboot: bool,
    ip: Option<String>,
}

struct Import<'a> {
    variables: &'a Variables,
    faults: &'a mut Faults,
}

impl Import<'_> {
    fn settings(&mut self, kind: StorageKind) -> Settings {
        let image = "/var/lib/vz/template/iso/opensuse-leap-custom.qcow2";
        Settings {
            node: self.text("PROXMOX_NODE", "pve", &rules::NODE),
            image: self.text("OPENSUSE_IMAGE_PATH", image, &rules::NODE_PATH),
            storage: self.text("STORAGE_POOL", "nvme-pool", &rules::STORAGE),
            kind,
            data_size: self.size("DATA_DISK_SIZE", Bytes::from_gib(1000)),
            mon_size: self.size("MON_DISK_SIZE", Bytes::from_gib(100)),
            private_bridge: self.text("PRIVATE_BRIDGE", "vmbr1", &rules::BRIDGE),
            public_bridge: self.text("PUBLIC_BRIDGE", "vmbr0", &rules::BRIDGE),
            cpu_type: self.text("VM_CPU_TYPE", "host", &rules::CPU_TYPE),
            github_user: Some(self.text("GITHUB_USERNAME", "", &rules::WORD)).filter(|user| !user.is_empty()),
            start: self.truth("AUTO_START", true),
        }
    }

    fn vms(&mut self) -> Vec<ImportedVm> {
        let memory = self.number("VM_DEFAULT_MEMORY", 32_768, (16, 1 << 26));
        let cores = self.number("VM_DEFAULT_CORES", 8, (1, 1024));
        let sockets = self.number("VM_DEFAULT_SOCKETS", 1, (1, 4));
        let count = self.number("NUM_VMS", 4, (1, 4));
        (1..=count)
            .map(|at| ImportedVm {
                name: self.text(&format!("VM{at}_NAME"), &format!("ceph-node{at}"), &rules::GUEST),
                vmid: self.number(&format!("VM{at}_VMID"), 199 + at, (100, 999_999_999)),
                memory: Bytes::from_mib(
                    self.number(&format!("VM{at}_MEMORY"), memory, (16, 1 << 26)).unsigned_abs(),
                ),
                cores: self.number(&format!("VM{at}_CORES"), cores, (1, 1024)),
                sockets: self.number(&format!("VM{at}_SOCKETS"), sockets, (1, 4)),
                onboot: self.truth(&format!("VM{at}_ONBOOT"), true),
                ip: Some(self.text(&format!("VM{at}_IP"), "", &rules::ADDRESS)).filter(|ip| !ip.is_empty()),
            })
            .collect()
    }

    fn notes(&self, settings: &Settings) -> Vec<String> {
        let mut notes = vec![
            "vm-deploy's `size=50G` had no effect: the OS disk keeps the image's size; add `size: 50GiB` to scsi0 to grow it".to_owned(),
            "the password stays in VM_ROOT_PASSWORD, which must be set in the environment of `deploy`".to_owned(),
        ];
        if self.variables.get("VM_ROOT_PASSWORD").is_none() {
            notes.push(
                "VM_ROOT_PASSWORD is not set; vm-deploy would use its publicly known default password"
                    .to_owned(),
            );
        }
        if settings.kind == StorageKind::Zfs {
            notes.push(
                "the storage is assumed to be ZFS; the disk options differ for LVM-thin and directories"
                    .to_owned(),
            );
        }
        if self.variables.names().any(|name| name.starts_with("BUILD_VM_") || name.starts_with("KIWI_")) {
            notes.push(
                "BUILD_VM_* and KIWI_* are ignored: write a builder VM and an image with `build:`".to_owned(),
            );
        }
        if self.variables.names().any(|name| name.starts_with("CEPH_")) {
            notes.push("CEPH_* are ignored: they are for the playbooks that run in the guests".to_owned());
        }
        notes.extend(self.taken_as_usual(settings));
        notes.extend(self.misspelled());
        notes
    }

    /// What the file does not set, and what stands in the spec then.
    fn taken_as_usual(&self, settings: &Settings) -> Option<String> {
        let usual = [
            ("PROXMOX_NODE", settings.node.clone()),
            ("OPENSUSE_IMAGE_PATH", settings.image.clone()),
            ("STORAGE_POOL", settings.storage.clone()),
            ("DATA_DISK_SIZE", settings.data_size.to_string()),
            ("MON_DISK_SIZE", settings.mon_size.to_string()),
            ("PRIVATE_BRIDGE", settings.private_bridge.clone()),
            ("PUBLIC_BRIDGE", settings.public_bridge.clone()),
        ];
        let unset = usual.iter().filter(|(name, _)| self.variables.get(name).is_none());
        let unset: Vec<String> = unset.map(|(name, value)| format!("{name} ({value})")).collect();
        let is_none = unset.len() == usual.len();
        let warning = if is_none { "; check that this is the `.env` of vm-deploy" } else { "" };
        let list = unset.join(", ");
        (!unset.is_empty()).then(|| format!("not set, so vm-deploy's defaults are written: {list}{warning}"))
    }

    /// Names that look like those of vm-deploy and are none.
    fn misspelled(&self) -> Vec<String> {
        let known = |name: &&str| !dotenv::is_known(name);
        let strange = self.variables.names().filter(known);
        let near = strange.filter_map(|name| Some((name, closest(name, dotenv::KNOWN.iter().copied())?)));
        near.map(|(name, close)| format!("{name} is not used; did you mean {close}?")).collect()
    }

    fn text(&mut self, name: &str, default: &str, rule: &TextRule) -> String {
        let Some((value, span)) = self.variables.get(name) else { return default.to_owned() };
        if let Err(reason) = (rule.check)(value) {
            let message = format!("`{}` is not a valid {}: {reason}", value.escape_debug(), rule.name);
            self.faults.error_hint(span, name, message, format!("write it like `{}`", rule.example));
        }
        value.to_owned()
    }

    fn number(&mut self, name: &str, default: i64, (min, max): (i64, i64)) -> i64 {
        let Some((value, span)) = self.variables.get(name) else { return default };
        match value.parse() {
            Ok(number) if (min..=max).contains(&number) => number,
            _ => {
                let message = format!("`{}` is not a whole number from {min} to {max}", value.escape_debug());
                self.faults.error(span, name, message);
                default
            }
        }
    }

    /// Reads a size as vm-deploy writes it: `1000G`, `1T`, or GiB without a unit.
    fn size(&mut self, name: &str, default: Bytes) -> Bytes {
        let Some((value, span)) = self.variables.get(name) else { return default };
        let plain = value.bytes().all(|byte| byte.is_ascii_digit());
        let text = if plain { format!("{value}G") } else { value.to_owned() };
        match Bytes::from_pve_size(&text) {
            Ok(size) if size.get() > 0 => size,
            _ => {
                let message = format!("`{}` is not a size", value.escape_debug());
                self.faults.error_hint(span, name, message, "write it like `1000G`");
                default
            }
        }
    }

    fn truth(&mut self, name: &str, default: bool) -> bool {
        let Some((value, span)) = self.variables.get(name) else { return default };
        match value.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => true,
            "0" | "false" | "no" | "off" => false,
            _ => {
                let message = format!("`{}` is neither true nor false", value.escape_debug());
                self.faults.error(span, name, message);
                default
            }
        }
    }
}

fn write_spec(project: &str, settings: &Settings, vms: &[ImportedVm]) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write_head(&mut out, project, settings);
    for vm in vms {
        let _ = write_vm(&mut out, settings, vm);
    }
    out
}

fn write_head(out: &mut String, project: &str, settings: &Settings) -> std::fmt::Result {
    let quote = scalar;
    let (os, data) = match settings.kind {
        StorageKind::Zfs => ("discard: true", "discard: true"),
        StorageKind::LvmThin => {
            ("discard: true, ssd: true, cache: writeback", "discard: true, cache: writeback")
        }
        StorageKind::Directory => (
            "format: qcow2, discard: true, ssd: true, cache: writeback",
            "format: qcow2, discard: true, cache: writeback",
        ),
    };
    let storage = quote(&settings.storage);
    writeln!(out, "# Written by `vmdeploy import-env` from the variables of vm-deploy.")?;
    writeln!(out, "version: 1\nproject: {}\ntransport: hybrid\n", quote(project))?;
    writeln!(out, "images:\n  opensuse:\n    path: {}\n", quote(&settings.image))?;
    writeln!(out, "profiles:\n  ceph-node:")?;
    writeln!(out, "    node: {}", quote(&settings.node))?;
    writeln!(out, "    ostype: l26\n    scsihw: virtio-scsi-single\n    agent: true")?;
    writeln!(out, "    cpu: {{type: {}, numa: true}}", quote(&settings.cpu_type))?;
    writeln!(out, "    memory: {{balloon: false}}\n    boot: [scsi0]\n    disks:")?;
    writeln!(out, "      scsi0: {{storage: {storage}, image: opensuse, {os}, role: os}}")?;
    for slot in 1..=4 {
        writeln!(
            out,
            "      scsi{slot}: {{storage: {storage}, size: {}, {data}, role: data}}",
            settings.data_size
        )?;
    }
    writeln!(out, "      scsi5: {{storage: {storage}, size: {}, {data}, role: data}}", settings.mon_size)?;
    writeln!(out, "    nics:")?;
    for (slot, bridge) in [("net0", &settings.private_bridge), ("net1", &settings.public_bridge)] {
        let primary = if slot == "net1" { ", primary: true" } else { "" };
        writeln!(
            out,
            "      {slot}: {{model: virtio, bridge: {}, firewall: false{primary}}}",
            quote(bridge)
        )?;
    }
    writeln!(out, "    cloud_init:\n      slot: ide2\n      storage: {storage}\n      user: root")?;
    writeln!(out, "      password: {{env: VM_ROOT_PASSWORD}}")?;
    if let Some(user) = &settings.github_user {
        writeln!(out, "      ssh_keys: [{}]", quote(&format!("github:{user}")))?;
    }
    writeln!(out, "      dns: {{servers: [8.8.8.8], search: local}}")?;
    if !settings.start {
        writeln!(out, "    lifecycle: {{state: unmanaged}}")?;
    }
    writeln!(out, "    inventory: {{groups: [ceph_nodes], user: root}}\n\nvms:")
}

fn write_vm(out: &mut String, _settings: &Settings, vm: &ImportedVm) -> std::fmt::Result {
    writeln!(out, "  {}:", scalar(&vm.name))?;
    writeln!(out, "    profile: ceph-node\n    vmid: {}", vm.vmid)?;
    writeln!(out, "    cpu: {{cores: {}, sockets: {}}}", vm.cores, vm.sockets)?;
    writeln!(out, "    memory: {{size: {}}}", vm.memory)?;
    writeln!(out, "    onboot: {}", vm.onboot)?;
    match &vm.ip {
        Some(ip) => writeln!(
            out,
            "    # vm-deploy used {ip} only as a fallback in the inventory; `inventory: {{host: {ip}}}` sets it permanently"
        ),
        None => Ok(()),
    }
}

/// Returns the text as a YAML scalar that every reader takes for a text.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 10] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"];
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    if starts && text.chars().all(plain) && !WORDS.contains(&text.to_ascii_lowercase().as_str()) {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

/// Returns the place of a line.
fn line_span(line: usize, column: usize) -> Span {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Span { file: 0, line: number(line), column: number(column) }
}
