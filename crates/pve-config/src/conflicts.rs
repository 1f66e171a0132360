//! Options that PVE takes only together, or only from a list of its own.
//!
//! PVE stores most of them as they are and refuses to start the guest. [`conflicts`] finds them in a configuration, so
//! that a plan can say so before anything is made.

mod cpu;

pub use cpu::{cpu_flags, is_builtin_cpu};

use crate::keys::VGA_TYPES;
use crate::options::{Chipset, Cpu, Memory, machine_type};
use crate::property::PropertyString;
use std::collections::BTreeMap;

/// Options that do not go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The keys that take part, the one to point at first.
    pub keys: Vec<String>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

/// The most NUMA nodes of a guest.
// PVE: qemu-server src/PVE/QemuServer/Memory.pm $MAX_NUMA.
const NUMA_NODES: u16 = 8;
/// The memory that a guest starts with whose memory is hot-plugged, in MiB.
// PVE: qemu-server src/PVE/QemuServer/Memory.pm $STATICMEM.
const STATIC_MEMORY: u64 = 1024;

/// Returns what PVE refuses in a configuration, when it is set or when the guest is started.
///
/// Values that cannot be read are passed over: [`crate::check_value`] is for these.
pub fn conflicts(config: &BTreeMap<String, String>) -> Vec<Conflict> {
    let mut found = Found { config, list: Vec::new() };
    found.memory();
    found.numa();
    found.hugepages();
    found.memory_hotplug();
    found.processors();
    found.cpu();
    found.machine();
    found.firmware();
    found.devices();
    found.list
}

struct Found<'c> {
    config: &'c BTreeMap<String, String>,
    list: Vec<Conflict>,
}

/// A NUMA node of the guest.
struct Node {
    key: String,
    fields: PropertyString,
}

impl Found<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.config.get(key).map(String::as_str)
    }
    fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.parse().ok()
    }
    fn flag(&self, key: &str) -> bool {
        self.get(key).and_then(crate::value::parse_bool).unwrap_or(false)
    }
    fn fields(&self, key: &str) -> PropertyString {
        self.get(key).and_then(|text| PropertyString::parse(key, text).ok()).unwrap_or_default()
    }
    /// Returns the memory in MiB; 512 where nothing is said, `None` where it cannot be read.
    fn memory_mib(&self) -> Option<u64> {
        Memory::parse(self.get("memory").unwrap_or("512")).ok().map(|memory| memory.mib)
    }
    fn sockets(&self) -> u64 {
        self.number("sockets").unwrap_or(1).max(1)
    }
    fn cores(&self) -> u64 {
        self.number("cores").unwrap_or(1).max(1)
    }
    fn nodes(&self) -> Vec<Node> {
        let node = |number| {
            let key = format!("numa{number}");
            let fields = PropertyString::parse(&key, self.get(&key)?).ok()?;
            Some(Node { key, fields })
        };
        (0..NUMA_NODES).filter_map(node).collect()
    }
    fn hotplugs_memory(&self) -> bool {
        self.get("hotplug").is_some_and(|text| text.split([',', ';', ' ']).any(|word| word == "memory"))
    }
    fn numbered(&self, stem: &str) -> impl Iterator<Item = (&str, &str)> {
        self.config.iter().filter_map(move |(key, text)| {
            let digits = key.strip_prefix(stem)?;
            let is_slot = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_slot.then_some((key.as_str(), text.as_str()))
        })
    }
    fn add(&mut self, keys: &[&str], message: impl Into<String>, hint: impl Into<String>) {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        self.list.push(Conflict { keys, message: message.into(), hint: hint.into() });
    }

    // PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api: "balloon value too large".
    fn memory(&mut self) {
        let (Some(memory), Some(balloon)) = (self.memory_mib(), self.number("balloon")) else { return };
        if balloon > memory {
            let message = format!("the balloon size {balloon}MiB is larger than the memory, {memory}MiB");
            self.add(&["balloon", "memory"], message, format!("write at most `{memory}MiB`"));
        }
    }

    // PVE: qemu-server src/PVE/QemuServer/Memory.pm config.
    fn numa(&mut self) {
        let nodes = self.nodes();
        if let (Some(node), false) = (nodes.first(), self.flag("numa")) {
            let message = format!("`{}` has no effect without NUMA", node.key);
            return self.add(&[&node.key, "numa"], message, "add `cpu: {numa: true}`");
        }
        let processors = self.sockets() * self.cores();
        let mut sum = 0.0;
        for Node { key, fields } in &nodes {
            match fields.get("memory").and_then(|text| text.parse::<f64>().ok()) {
                Some(memory) if memory > 0.0 => sum += memory,
                _ => self.add(&[key], format!("`{key}` has no memory"), "add `memory: …` to the NUMA node"),
            }
            match fields.get("cpus") {
                None => self.add(&[key], format!("`{key}` has no CPUs"), "add `cpus: 0-3` to the NUMA node"),
                Some(cpus) => {
                    if let Some(last) = last_number(cpus).filter(|last| *last >= processors) {
                        let message = format!(
                            "`{key}` has CPU {last}, but the VM's {processors} CPUs are numbered 0 to {}",
                            processors - 1
                        );
                        self.add(
                            &[key, "cores", "sockets"],
                            message,
                            "correct `cpus`, or give the VM more `cores`",
                        );
                    }
                }
            }
            if fields.get("hostnodes").is_some() && fields.get("policy").is_none() {
                let message = format!("`{key}` sets nodes of the host, which requires a policy");
                self.add(&[key], message, "add `policy: bind` (or `preferred`, `interleave`)");
            }
        }
        if let Some(memory) = self.memory_mib().filter(|memory| sum > 0.0 && sum != *memory as f64) {
            let keys: Vec<&str> = nodes.iter().map(|node| node.key.as_str()).chain(["memory"]).collect();
            let message = format!("the NUMA nodes have {sum}MiB in total, but the VM has {memory}MiB");
            self.add(&keys, message, "make the total of the nodes equal to `memory`");
        }
    }

    // PVE: qemu-server src/PVE/QemuServer/Memory.pm config, hugepages_size.
    fn hugepages(&mut self) {
        let Some(size) = self.get("hugepages").map(str::to_owned) else { return };
        if !self.flag("numa") {
            return self.add(&["hugepages", "numa"], "huge pages need NUMA", "add `cpu: {numa: true}`");
        }
        let nodes = self.nodes();
        for node in nodes.iter().filter(|node| node.fields.get("hostnodes").is_none()) {
            let message = format!("huge pages require `host_nodes` for `{}`", node.key);
            self.add(&[&node.key, "hugepages"], message, "add `host_nodes` and `policy` to the NUMA node");
        }
        let page = match size.as_str() {
            "1024" => 1024,
            _ => 2,
        };
        let of_nodes: Vec<f64> =
            nodes.iter().filter_map(|node| node.fields.get("memory")?.parse().ok()).collect();
        let pieces = match (of_nodes.is_empty(), self.memory_mib()) {
            (false, _) => of_nodes,
            (true, Some(memory)) => vec![memory as f64 / self.sockets() as f64],
            (true, None) => return,
        };
        if let Some(piece) = pieces.into_iter().find(|piece| piece % f64::from(page) != 0.0) {
            let message =
                format!("{piece}MiB of a NUMA node is not a multiple of the huge page size, {page}MiB");
            self.add(&["hugepages", "memory"], message, format!("make it a multiple of {page}MiB"));
        }
    }

    // PVE: qemu-server src/PVE/QemuServer/Memory.pm config.
    fn memory_hotplug(&mut self) {
        if !self.hotplugs_memory() {
            return;
        }
        if !self.flag("numa") {
            self.add(&["hotplug", "numa"], "memory hotplug needs NUMA", "add `cpu: {numa: true}`");
        }
        let nodes = self.nodes();
        if let Some(node) = nodes.first() {
            let message =
                format!("memory hotplug cannot be combined with explicit NUMA nodes, such as `{}`", node.key);
            self.add(
                &["hotplug", &node.key],
                message,
                "remove `memory` from `hotplug`, or remove the NUMA nodes",
            );
        }
        let sockets = if self.get("hugepages") == Some("1024") { self.sockets() } else { 1 };
        let least = STATIC_MEMORY * sockets;
        if let Some(memory) = self.memory_mib().filter(|memory| *memory < least) {
            let message = format!("memory hotplug requires at least {least}MiB, and this VM has {memory}MiB");
            self.add(&["hotplug", "memory"], message, format!("write `memory: {least}MiB` or more"));
        }
        let folder = self.numbered("virtiofs").next().map(|(key, _)| key.to_owned());
        if let Some(key) = folder {
            let message = format!("memory hotplug does not work with a shared folder, `{key}`");
            self.add(&["hotplug", &key], message, "remove `memory` from `hotplug`, or remove the folder");
        }
    }

    fn processors(&mut self) {
        let all = self.sockets() * self.cores();
        if let Some(vcpus) = self.number("vcpus").filter(|vcpus| *vcpus > all) {
            let message = format!("{vcpus} CPUs are more than sockets times cores, which is {all}");
            self.add(&["vcpus", "cores", "sockets"], message, format!("write at most `{all}`"));
        }
    }

    fn cpu(&mut self) {
        let Some(Ok(cpu)) = self.get("cpu").map(Cpu::parse) else { return };
        for (message, hint) in cpu::faults(&cpu) {
            self.add(&["cpu"], message, hint);
        }
        if self.fields("cpu").get("reported-model").is_some() {
            let message = "`reported-model` is allowed only in the definition of a custom model";
            let hint = "remove it, or define a model in `/etc/pve/virtual-guest/cpu-models.conf`";
            self.add(&["cpu"], message, hint);
        }
    }

    // PVE: qemu-server src/PVE/QemuServer/Machine.pm assert_valid_machine_property.
    fn machine(&mut self) {
        let machine = self.fields("machine");
        let is_q35 = machine_type(machine.get("type").unwrap_or("pc")).0 == Chipset::Q35;
        let (viommu, bits) = (machine.get("viommu"), machine.get("aw-bits"));
        if viommu == Some("intel") && !is_q35 {
            self.add(
                &["machine"],
                "Intel's vIOMMU needs a q35 machine",
                "write `machine: {type: q35, viommu: intel}`",
            );
        }
        match (viommu, bits) {
            (None, Some(_)) => {
                self.add(
                    &["machine"],
                    "an address width needs a vIOMMU",
                    "add `viommu`, or remove `aw_bits`",
                );
            }
            (Some("intel"), Some(bits)) if !matches!(bits, "39" | "48") => {
                let message =
                    format!("Intel's vIOMMU has 39 or 48 address bits, not {}", bits.escape_debug());
                self.add(&["machine"], message, "write `aw_bits: 39` or `aw_bits: 48`");
            }
            _ => {}
        }
        let express: Vec<String> = self
            .numbered("hostpci")
            .filter(|(key, text)| {
                PropertyString::parse(key, text).is_ok_and(|device| device.flag("pcie") == Some(true))
            })
            .map(|(key, _)| key.to_owned())
            .collect();
        // PVE: qemu-server src/PVE/QemuServer/PCI.pm print_hostpci_devices: "q35 machine model is not enabled".
        for key in express.iter().filter(|_| !is_q35) {
            let message = format!("PCI express (`{key}`) needs a q35 machine");
            self.add(&[key, "machine"], message, "add `machine: q35`, or remove `pcie`");
        }
    }

    fn firmware(&mut self) {
        let is_ovmf = self.get("bios") == Some("ovmf");
        // PVE: qemu-server src/PVE/QemuServer.pm config_to_command.
        let model = self.get("cpu").and_then(|text| Cpu::parse(text).ok()).map(|cpu| cpu.cputype);
        if let Some(model) = model.filter(|model| is_ovmf && cpu::is_32_bit(model)) {
            let message = format!("OVMF does not run on a 32-bit CPU, `{}`", model.escape_debug());
            self.add(&["bios", "cpu"], message, "write another `cpu: {type: …}`, or `bios: seabios`");
        }
        // PVE: qemu-server src/PVE/QemuServer/CPUConfig.pm get_amd_sev_object.
        if self.get("amd-sev").is_some() && !is_ovmf {
            self.add(&["amd-sev", "bios"], "AMD SEV needs OVMF", "write `bios: {type: ovmf, efi: {…}}`");
        }
    }

    fn devices(&mut self) {
        let vga = self.fields("vga");
        let kind = vga.get("type").filter(|kind| VGA_TYPES.contains(kind)).unwrap_or("std").to_owned();
        // PVE: qemu-server src/PVE/QemuServer.pm assert_clipboard_config.
        let shares =
            ["std", "cirrus", "vmware", "virtio", "qxl"].iter().any(|prefix| kind.starts_with(prefix));
        if vga.get("clipboard") == Some("vnc") && !shares {
            let message = format!("a display of type `{kind}` has no clipboard");
            self.add(&["vga"], message, "remove `clipboard`, or use another `type`");
        }
        if kind.starts_with("serial") && self.get(&kind).is_none() {
            let message = format!("the display is `{kind}`, which the VM does not have");
            let hint = format!("add `serial: {{{kind}: socket}}`");
            self.add(&["vga", &kind], message, hint);
        }
        // PVE: qemu-server src/PVE/QemuServer/Virtiofs.pm assert_virtiofs_config.
        let windows = crate::GuestTraits::of_config(self.config).windows;
        let with_acl: Vec<String> = self
            .numbered("virtiofs")
            .filter(|(key, text)| {
                PropertyString::parse(key, text).is_ok_and(|folder| folder.flag("expose-acl") == Some(true))
            })
            .map(|(key, _)| key.to_owned())
            .collect();
        for key in with_acl.iter().filter(|_| windows) {
            let message = format!("a Windows guest cannot mount a shared folder with ACLs, `{key}`");
            self.add(&[key, "ostype"], message, "take `expose_acl` out");
        }
    }
}

/// Returns the highest of the numbers in `0-3;8`.
fn last_number(text: &str) -> Option<u64> {
    let words = text.split([';', ',', ' ']).filter(|word| !word.is_empty());
    words.filter_map(|word| word.rsplit('-').next()?.parse().ok()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that exactly these options, separated by `|`, are refused with a message that has each of the words.
    #[track_caller]
    fn check(options: &str, words: &[&str]) {
        let config = options.split('|').filter_map(|option| option.split_once(": "));
        let config = config.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let found = conflicts(&config);
        assert_eq!(found.len(), words.len(), "{options}: {found:#?}");
        for (conflict, word) in found.iter().zip(words) {
            assert!(conflict.message.contains(word), "{options}: `{word}`: {found:#?}");
        }
    }

    #[test]
    fn numa_nodes_add_up() {
        let pinned = "cpus=0-3,memory=8192,hostnodes=0,policy=bind";
        check(&format!("memory: 8192|cores: 4|numa: 1|numa0: {pinned}"), &[]);
        check(&format!("memory: 16384|cores: 4|numa: 1|numa0: {pinned}"), &["8192MiB in total"]);
        check(&format!("memory: 8192|cores: 2|numa: 1|numa0: {pinned}"), &["CPU 3"]);
        check(&format!("memory: 8192|cores: 4|numa0: {pinned}"), &["without NUMA"]);
        check("memory: 1024|numa: 1|numa0: cpus=0,memory=1024,hostnodes=0", &["policy"]);
        check("memory: 1024|numa: 1|numa1: memory=1024", &["no CPUs"]);
        check("memory: 1024|numa: 1|numa0: cpus=0", &["no memory"]);
        check("numa: 1|sockets: 2", &[]);
    }

    #[test]
    fn huge_pages_need_numa_and_whole_pages() {
        check("memory: 4096|hugepages: 1024", &["need NUMA"]);
        check("memory: 4096|hugepages: 1024|numa: 1", &[]);
        check("memory: 4096|hugepages: 1024|numa: 1|sockets: 3", &["is not a multiple"]);
        check("memory: 4095|hugepages: 2|numa: 1", &["is not a multiple"]);
        check("memory: 4096|hugepages: any|numa: 1|numa0: cpus=0,memory=4096", &["require `host_nodes`"]);
    }

    #[test]
    fn memory_hotplug_has_its_own_rules() {
        check("memory: 2048|numa: 1|hotplug: disk,memory", &[]);
        check("memory: 2048|hotplug: disk,memory", &["needs NUMA"]);
        check("memory: 512|numa: 1|hotplug: memory", &["requires at least 1024MiB"]);
        check("memory: 1024|numa: 1|numa0: cpus=0,memory=1024|hotplug: memory", &["NUMA nodes"]);
        check("memory: 2048|numa: 1|virtiofs0: src|hotplug: memory", &["shared folder"]);
        check("memory: 512|hotplug: disk", &[]);
    }

    #[test]
    fn processors_are_of_pves_lists() {
        check("cpu: x86-64-v2-AES,flags=+aes;-pcid", &[]);
        check("cpu: custom-epyc", &[]);
        check("cpu: x86-64-v2-aes", &["x86-64-v2-aes"]);
        check("cpu: host,flags=+avx512f", &["avx512f"]);
        check("cpu: host,flags=aes", &["`aes`"]);
        check("cpu: host,reported-model=kvm64", &["reported-model"]);
        check("vcpus: 5|cores: 2|sockets: 2", &["more than sockets times cores, which is 4"]);
    }

    #[test]
    fn machines_and_devices_go_together() {
        check("machine: q35,viommu=intel,aw-bits=48", &[]);
        check("machine: pc-q35-10.0,viommu=intel|hostpci0: 01:00.0,pcie=1", &[]);
        check("machine: viommu=intel", &["q35"]);
        check("machine: q35,viommu=intel,aw-bits=40", &["39 or 48"]);
        check("machine: q35,aw-bits=39", &["vIOMMU"]);
        check("hostpci1: mapping=gpu,pcie=1", &["q35"]);
        check("vga: serial0", &["serial0"]);
        check("vga: serial0|serial0: socket", &[]);
        check("vga: none,clipboard=vnc", &["clipboard"]);
        check("memory: 512|balloon: 1024", &["balloon"]);
        check("bios: ovmf|cpu: kvm32", &["32-bit"]);
        check("amd-sev: std", &["OVMF"]);
        check("ostype: win11|virtiofs0: src,expose-acl=1", &["ACLs"]);
    }
}
