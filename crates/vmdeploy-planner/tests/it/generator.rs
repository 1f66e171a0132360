//! Specs out of chance: every key of the language, drawn from its own schema, and everything that belongs together
//! (slots, images, clones, networks) by hand, so that most of them are specs.
//!
//! Each key of each VM has a number of its own: 0 leaves it out, and another number changes that key and no other.

use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::sync::LazyLock;

/// How many numbers a VM takes.
pub const PER_VM: usize = 72;
/// The most VMs of a spec.
pub const VMS: usize = 4;
/// How many numbers a spec takes: the first one says how many VMs, the second the transport.
pub const NUMBERS: usize = 2 + PER_VM * VMS;

static SCHEMA: LazyLock<Value> = LazyLock::new(vmdeploy_planner::spec::json_schema);

/// Draws from one number.
struct Dice(u64);

impl Dice {
    fn new(number: u16, salt: usize) -> Self {
        Self((u64::from(number) << 16 | salt as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    fn roll(&mut self, sides: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize) % sides
    }
    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.roll(choices.len())]
    }
    fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }
}

/// Returns the schema of a VM's key.
fn key_schema(definition: &str, key: &str) -> &'static Value {
    let schema = &SCHEMA["$defs"][definition]["properties"][key];
    assert!(schema.is_object(), "{definition}.{key}");
    schema
}

/// Draws a value that fits the schema.
fn fitting(schema: &Value, dice: &mut Dice) -> Value {
    if let Some(name) = schema["$ref"].as_str() {
        return fitting(&SCHEMA["$defs"][name.trim_start_matches("#/$defs/")], dice);
    }
    if let Some(kinds) = schema["anyOf"].as_array() {
        // `null` is one of a few, not every second one.
        let kinds: Vec<&Value> =
            kinds.iter().filter(|kind| kind["type"] != "null" || dice.one_in(4)).collect();
        return kinds.get(dice.roll(kinds.len().max(1))).map_or(Value::Null, |kind| fitting(kind, dice));
    }
    if let Some(words) = schema["enum"].as_array() {
        return words[dice.roll(words.len())].clone();
    }
    if !schema["const"].is_null() {
        return schema["const"].clone();
    }
    if let Some(properties) = schema["properties"].as_object() {
        return object(properties, dice);
    }
    let pattern = schema["pattern"].as_str().unwrap_or("");
    match schema["type"].as_str() {
        Some("null") => Value::Null,
        Some("boolean") => json!(dice.one_in(2)),
        Some("integer") => {
            let least = schema["minimum"].as_i64().unwrap_or(0);
            let most = schema["maximum"].as_i64().unwrap_or(least + 1000).min(least + 4096);
            json!(least + dice.roll(usize::try_from(most - least).unwrap().min(9) + 1) as i64)
        }
        Some("number") => json!(dice.pick(&[0.0, 0.5, 1.0, 2.25, 12.5, 100.0])),
        Some("array") => (0..dice.roll(3)).map(|_| fitting(&schema["items"], dice)).collect(),
        _ if pattern.contains("MiB") => {
            json!(dice.pick(&["16MiB", "32MiB", "512MiB", "1GiB", "1.5GiB", "2GiB"]))
        }
        _ if pattern.contains("smhd") => json!(dice.pick(&["1s", "30s", "1m", "5m"])),
        _ => schema["examples"][0].clone(),
    }
}

fn object(properties: &Map<String, Value>, dice: &mut Dice) -> Value {
    let sparse = dice.pick(&[2, 3, 6]);
    let chosen = properties.iter().filter_map(|(key, schema)| {
        let is_in = dice.one_in(sparse);
        is_in.then(|| (key.clone(), fitting(schema, dice)))
    });
    Value::Object(chosen.collect())
}

/// The keys of a VM that need nothing but their own schema.
const OWN: &[&str] = &[
    "description",
    "tags",
    "protection",
    "onboot",
    "autostart",
    "startup",
    "reboot",
    "cpu",
    "memory",
    "machine",
    "ostype",
    "scsihw",
    "agent",
    "audio",
    "rng",
    "watchdog",
    "smbios",
    "hotplug",
    "tablet",
    "keyboard",
    "acpi",
    "kvm",
    "localtime",
    "startdate",
    "tdf",
    "freeze",
    "args",
    "vmstate_storage",
    "migrate",
    "spice",
    "ivshmem",
    "vga",
    "pool",
];

/// Slots by the key that they stand under, with the object that describes one.
const SLOTS: &[(&str, &str, &[&str])] = &[
    ("usb", "usb", &["usb0", "usb3"]),
    ("pci", "pci", &["hostpci0", "hostpci1"]),
    ("virtiofs", "virtiofs", &["virtiofs0"]),
];

/// The options of disks, and the buses that lack them.
const DISK_OPTIONS: &[(&str, &[&str])] = &[
    ("cache", &[]),
    ("aio", &[]),
    ("discard", &[]),
    ("detect_zeroes", &[]),
    ("backup", &[]),
    ("replicate", &[]),
    ("shared", &[]),
    ("snapshot", &[]),
    ("serial", &[]),
    ("rerror", &[]),
    ("werror", &[]),
    ("throttle", &[]),
    ("ssd", &["virtio"]),
    ("wwn", &["virtio"]),
    ("iothread", &["ide", "sata"]),
    ("readonly", &["ide", "sata"]),
    ("model", &["scsi", "virtio", "sata"]),
    ("vendor", &["ide", "sata", "virtio"]),
    ("product", &["ide", "sata", "virtio"]),
    ("queues", &["ide", "sata", "virtio"]),
];

struct Vm<'g> {
    number: usize,
    numbers: &'g [u16],
    at: usize,
    transport: &'static str,
}

impl Vm<'_> {
    /// Returns the dice of the next key, or nothing where the key is left out (`sides` times of `sides + 1`).
    fn next(&mut self, sides: u16) -> Option<Dice> {
        let number = self.numbers.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        (number != 0 && number % (sides + 1) == 0).then(|| Dice::new(number, self.at))
    }
    /// Returns the dice of a key that is always there.
    fn always(&mut self) -> Dice {
        let number = self.numbers.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        Dice::new(number, self.at)
    }

    fn vm(&mut self, is_template: bool, clone: Option<&str>) -> Value {
        let mut vm = Map::new();
        if let Some(mut dice) = self.next(1) {
            let first = 200 + self.number * 100;
            let range = json!({"range": [first, first + 9]});
            vm.insert("vmid".into(), if dice.one_in(2) { json!(first) } else { range });
        }
        for key in OWN {
            if let Some(mut dice) = self.next(3) {
                vm.insert((*key).into(), fitting(key_schema("vm", key), &mut dice));
            }
        }
        for (key, definition, slots) in SLOTS {
            if let Some(mut dice) = self.next(6) {
                let mut devices = Map::new();
                for slot in *slots {
                    let device = one_device(fitting(&SCHEMA["$defs"][*definition], &mut dice));
                    devices.insert((*slot).into(), if dice.one_in(4) { Value::Null } else { device });
                }
                vm.insert((*key).into(), Value::Object(devices));
            }
        }
        if let Some(mut dice) = self.next(3) {
            let serial = ["socket", "/dev/ttyS1"];
            vm.insert("serial".into(), json!({"serial0": dice.pick(&serial), "serial1": null}));
        }
        if let Some(mut dice) = self.next(3) {
            let raw = [
                json!({"args": "-no-reboot"}),
                json!({"args": null}),
                json!({"keephugepages": true}),
                json!({"audio0": "device=ich9-intel-hda"}),
                json!({"numa": true}),
                json!({"bootdisk": "scsi0"}),
            ];
            vm.insert("raw".into(), raw[dice.roll(raw.len())].clone());
        }
        self.firmware(&mut vm);
        self.disks(&mut vm, clone);
        self.nics(&mut vm);
        self.cloud_init(&mut vm);
        reconcile(&mut vm);
        self.life(&mut vm, is_template);
        if is_template {
            vm.insert("template".into(), json!(true));
        }
        if let Some(source) = clone {
            let mut dice = self.always();
            let mode = dice.pick(&["full", "linked"]);
            let storage = dice.one_in(3) && mode == "full";
            let mut clone = json!({"from": source, "mode": mode});
            if storage {
                clone["storage"] = json!("fast");
            }
            vm.insert("clone".into(), clone);
        }
        Value::Object(vm)
    }

    fn firmware(&mut self, vm: &mut Map<String, Value>) {
        if let Some(mut dice) = self.next(3) {
            let bios = [
                json!({"type": "ovmf", "efi": {"storage": "fast", "type": "4m", "secure_boot_keys": true}}),
                json!({"type": "ovmf", "efi": "local-lvm"}),
                json!("seabios"),
                json!({"type": "seabios", "efi": null}),
            ];
            vm.insert("bios".into(), bios[dice.roll(bios.len())].clone());
        }
        if let Some(mut dice) = self.next(3) {
            let tpm = [json!("fast"), json!({"storage": "local-lvm", "version": "v2.0"}), json!(null)];
            vm.insert("tpm".into(), tpm[dice.roll(tpm.len())].clone());
        }
    }

    fn disks(&mut self, vm: &mut Map<String, Value>, clone: Option<&str>) {
        let mut disks = Map::new();
        let images: &[&str] = match self.transport {
            "api" => &["volume", "url", "file"],
            _ => &["path", "volume", "url", "file"],
        };
        let mut dice = self.always();
        if clone.is_none() {
            let mut boot = json!({"storage": dice.pick(&["local-lvm", "fast"]), "image": dice.pick(images)});
            if dice.one_in(2) {
                boot["size"] = json!(dice.pick(&["3GiB", "20GiB", "30GiB"]));
            }
            disks.insert("scsi0".into(), boot);
        } else if dice.one_in(2) {
            disks.insert("scsi0".into(), json!({"size": dice.pick(&["40GiB", "50GiB"])}));
        }
        let options = self.next(1);
        if let (Some(mut dice), Some(boot)) = (options, disks.get_mut("scsi0")) {
            disk_options(boot, "scsi", &mut dice);
        }
        for slot in ["scsi1", "scsi30", "virtio0", "virtio15", "sata0", "sata5", "ide0", "ide3"] {
            let Some(mut dice) = self.next(3) else { continue };
            let bus = slot.trim_end_matches(|c: char| c.is_ascii_digit());
            let storage = dice.pick(&["local-lvm", "fast", "local"]);
            let mut disk = match dice.roll(8) {
                0 if bus != "virtio" => json!({"iso": dice.pick(&["none", "local:iso/tools.iso", "cdrom"])}),
                1 => Value::Null,
                2 => json!({"storage": storage, "image": dice.pick(images)}),
                3 => json!({"storage": storage, "size": "1.5GiB", "format": "raw"}),
                _ => json!({"storage": storage, "size": dice.pick(&["1GiB", "8GiB", "100MiB"])}),
            };
            if disk.is_object() && disk.get("iso").is_none() {
                disk_options(&mut disk, bus, &mut dice);
            }
            disks.insert(slot.into(), disk);
        }
        if !disks.is_empty() {
            vm.insert("disks".into(), Value::Object(disks));
        }
    }

    fn nics(&mut self, vm: &mut Map<String, Value>) {
        let mut nics = Map::new();
        for (index, sides) in [(0, 0), (1, 2), (31, 4)] {
            let Some(mut dice) = self.next(sides) else { continue };
            if index > 0 && dice.one_in(5) {
                nics.insert(format!("net{index}"), Value::Null);
                continue;
            }
            let mut nic = json!({"bridge": dice.pick(&["vmbr0", "vmbr1"])});
            for key in ["model", "vlan", "trunks", "firewall", "link_down", "mtu", "queues", "rate"] {
                if dice.one_in(5) {
                    nic[key] = fitting(key_schema("nic", key), &mut dice);
                }
            }
            let (network, host) = (index + 40, self.number + 5);
            if dice.one_in(5) {
                nic["mac"] = json!(format!("bc:24:11:00:{index:02x}:{:02x}", self.number));
            }
            match dice.roll(5) {
                0 => nic["ip"] = json!("dhcp"),
                1 => {
                    nic["ip"] = json!(format!("10.{network}.0.{host}/24"));
                    nic["gateway"] = json!(format!("10.{network}.0.1"));
                }
                2 => {
                    nic["ip6"] = json!(format!("fd00:{network}::{host}/64"));
                    nic["gateway6"] = json!(format!("fd00:{network}::1"));
                }
                3 => nic["ip6"] = json!(dice.pick(&["auto", "dhcp", "manual"])),
                _ => {}
            }
            nics.insert(format!("net{index}"), nic);
        }
        vm.insert("nics".into(), Value::Object(nics));
    }

    fn cloud_init(&mut self, vm: &mut Map<String, Value>) {
        let Some(mut dice) = self.next(1) else { return };
        let mut cloud = json!({});
        for key in ["type", "user", "upgrade", "dns"] {
            if dice.one_in(2) {
                cloud[key] = fitting(key_schema("cloud_init", key), &mut dice);
            }
        }
        if vm.contains_key("clone") || dice.one_in(3) {
            cloud["storage"] = json!(dice.pick(&["fast", "local"]));
        }
        if dice.one_in(4) {
            cloud["slot"] = json!(dice.pick(&["ide1", "sata3", "scsi9"]));
        }
        let keys = [
            json!(["ssh-ed25519 AAAAC3Nz one"]),
            json!([{"file": "demo.pub"}, "ssh-ed25519 AAAAC3Nz other"]),
            json!(["github:octocat"]),
            json!([]),
            json!(null),
        ];
        if dice.one_in(2) {
            cloud["ssh_keys"] = keys[dice.roll(keys.len())].clone();
        }
        if dice.one_in(3) {
            cloud["password"] = json!({"env": "WEB_PASSWORD"});
        }
        for part in ["user_data", "network_data", "vendor_data", "meta_data"] {
            if dice.one_in(8) {
                let volume = json!({"volume": "local:snippets/own.yaml"});
                let file = json!(format!("cloud/{part}.yaml"));
                cloud[part] = match dice.roll(3) {
                    0 => json!(null),
                    1 if self.transport != "api" => file,
                    _ => volume,
                };
            }
        }
        vm.insert("cloud_init".into(), cloud);
    }

    fn life(&mut self, vm: &mut Map<String, Value>, is_template: bool) {
        let (ha, state, words) = (self.next(4), self.next(2), self.next(2));
        if let (Some(mut dice), false) = (ha, is_template) {
            let ha = [
                json!("started"),
                json!({"state": "stopped", "max_restart": 3}),
                json!({"state": "started", "on_nodes": {"pve1": 2, "pve2": 1}, "strict": true}),
                json!({"state": "ignored", "max_relocate": 0}),
                json!({"state": "disabled"}),
                json!(null),
            ];
            vm.insert("ha".into(), ha[dice.roll(ha.len())].clone());
        }
        let mut life = Map::new();
        if let (Some(mut dice), false, false) = (state, is_template, vm.contains_key("ha")) {
            life.insert("state".into(), json!(dice.pick(&["running", "stopped", "unmanaged"])));
        }
        if let Some(mut dice) = words {
            for key in ["restart", "shutdown_timeout", "force_stop", "on_failure"] {
                if dice.one_in(3) {
                    life.insert(key.into(), fitting(key_schema("lifecycle", key), &mut dice));
                }
            }
            if dice.one_in(4) {
                life.insert(
                    "ignore".into(),
                    json!([dice.pick(&["vga", "disks.scsi1", "cpu.cores", "description"])]),
                );
            }
        }
        if !life.is_empty() {
            vm.insert("lifecycle".into(), Value::Object(life));
        }
    }
}

/// A device is named in one way, and PCI express would need a machine that has it.
fn one_device(mut device: Value) -> Value {
    if let Some(fields) = device.as_object_mut() {
        fields.remove("pcie");
        if fields.get("host").is_none_or(Value::is_null) {
            fields.remove("host");
            fields.insert("mapping".into(), json!("gpu"));
        } else {
            fields.remove("mapping");
        }
    }
    device
}

/// Takes out what needs something else that is not there.
fn reconcile(vm: &mut Map<String, Value>) {
    let has_cloud = vm.contains_key("cloud_init");
    for nic in
        vm["nics"].as_object_mut().into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut)
    {
        if nic.get("model").is_some_and(|model| model != "virtio") {
            nic.retain(|key, _| key != "mtu" && key != "queues");
        }
        if !has_cloud {
            nic.retain(|key, _| !key.starts_with("ip") && !key.starts_with("gateway"));
        }
    }
    if let Some(cpu) = vm.get_mut("cpu").and_then(Value::as_object_mut) {
        cpu.remove("vcpus");
    }
    let is_large = |memory: &Value| memory.as_str().is_some_and(|text| text.ends_with("GiB"));
    let is_port = |kind: &Value| kind.as_str().is_some_and(|text| text.starts_with("serial"));
    if vm.get("vga").is_some_and(|vga| is_port(vga) || is_port(&vga["type"]) || is_large(&vga["memory"])) {
        vm.remove("vga");
    }
}

fn disk_options(disk: &mut Value, bus: &str, dice: &mut Dice) {
    for (key, lack) in DISK_OPTIONS {
        if dice.one_in(8) && !lack.contains(&bus) {
            disk[*key] = fitting(key_schema("disk", key), dice);
        }
    }
}

/// Returns the spec that these numbers stand for. JSON is YAML, too.
pub fn spec(numbers: &[u16]) -> String {
    let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
    let mut dice = Dice::new(at(1), 0);
    let transport = dice.pick(&["hybrid", "auto", "api", "ssh"]);
    let count = 1 + usize::from(at(0)) % VMS;
    let mut text = format!(
        "version: 1\nproject: any\ntransport: {transport}\nimages:\n  path: {{path: /var/lib/vz/import/debian-13.qcow2}}\n  volume: {{volume: 'local:import/debian-13.qcow2'}}\n  url: {{url: 'https://images.example.org/d.qcow2', checksum: 'sha256:{}', size: 3GiB}}\n  file: {{file: golden.qcow2, size: 3GiB}}\nvms:\n",
        "ab".repeat(32)
    );
    for number in 0..count {
        let from = 2 + number * PER_VM;
        let own = numbers.get(from..from + PER_VM).unwrap_or(&[]);
        let mut dice = Dice::new(own.last().copied().unwrap_or(0), 1);
        // The first may be a template, which others are clones of.
        let is_template = number == 0 && count > 1 && at(0) >= 1 << 15;
        let is_clone = number > 0 && at(0) >= 1 << 15 && dice.one_in(2);
        let mut vm = Vm { number, numbers: own, at: 0, transport };
        let mut vm = vm.vm(is_template, is_clone.then_some("vm0"));
        vm["node"] = json!("pve1");
        let _ = writeln!(text, "  vm{number}:");
        for (key, value) in vm.as_object().into_iter().flatten() {
            let _ = writeln!(text, "    {key}: {value}");
        }
    }
    text
}
