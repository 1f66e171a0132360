//! Guests as PVE knows them: configuration, pending changes, snapshots, power.

use std::collections::BTreeMap;

use pve_types::Vmid;

/// VM or container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestKind {
    /// A QEMU VM.
    Qemu,
    /// An LXC container (present, listed and in the way of VMIDs; not run).
    Lxc,
}

/// Option names and their stored values, as in the configuration file.
pub type Config = BTreeMap<String, String>;

/// What waits for the next stop of a running guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pending {
    /// New values.
    pub set: Config,
    /// Options to delete; `true` where the volume is to be freed as well.
    pub delete: BTreeMap<String, bool>,
}

impl Pending {
    /// Tells whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.delete.is_empty()
    }
}

/// One snapshot.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The configuration as it was.
    pub config: Config,
    /// The snapshot it builds upon.
    pub parent: Option<String>,
    /// Its description.
    pub description: Option<String>,
    /// Seconds of the Unix epoch.
    pub time: u64,
    /// The volume with the guest's memory.
    pub vmstate: Option<String>,
}

/// Whether a guest runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Power {
    /// Off.
    #[default]
    Stopped,
    /// On.
    Running {
        /// Its process.
        pid: u32,
        /// Since when, in microseconds of the world's clock.
        since: u64,
        /// Frozen by `suspend`.
        paused: bool,
    },
}

/// One guest.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Its number.
    pub vmid: Vmid,
    /// VM or container.
    pub kind: GuestKind,
    /// The node that holds its configuration.
    pub node: String,
    /// The configuration in force; `description`, `lock`, `template`, `parent` included.
    pub config: Config,
    /// What waits for the next stop.
    pub pending: Pending,
    /// Options that changed under a running guest since its cloud-init drive was made, with the value that is on the
    /// drive; `None` where the option was not there.
    pub cloudinit: BTreeMap<String, Option<String>>,
    /// Snapshots by name.
    pub snapshots: BTreeMap<String, Snapshot>,
    /// Whether it runs.
    pub power: Power,
    /// The guest's inside.
    pub runtime: crate::guest::Runtime,
    /// Counts changes, so that a digest need not be computed to be compared.
    pub created: u64,
}

impl Guest {
    /// A stopped guest with this configuration.
    pub fn new(vmid: Vmid, kind: GuestKind, node: &str, config: Config, created: u64) -> Self {
        Self {
            vmid,
            kind,
            node: node.to_owned(),
            config,
            pending: Pending::default(),
            cloudinit: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            power: Power::Stopped,
            runtime: crate::guest::Runtime::default(),
            created,
        }
    }
    /// Tells whether it runs (paused counts).
    pub fn is_running(&self) -> bool {
        self.power != Power::Stopped
    }
    /// Tells whether it is a template.
    pub fn is_template(&self) -> bool {
        self.config.get("template").is_some_and(|value| value == "1")
    }
    /// The `lock:` of its configuration.
    pub fn lock(&self) -> Option<&str> {
        self.config.get("lock").map(String::as_str)
    }
    /// Its name, or `VM 100` as PVE shows it without one.
    pub fn display_name(&self) -> String {
        self.config.get("name").or(self.config.get("hostname")).cloned().unwrap_or_else(|| {
            let kind = if self.kind == GuestKind::Qemu { "VM" } else { "CT" };
            format!("{kind} {}", self.vmid)
        })
    }
    /// The configuration file's text, the way PVE writes it.
    // PVE: qemu-server src/PVE/QemuServer.pm write_vm_config
    pub fn config_text(&self) -> String {
        let mut text = section(&self.config);
        if !self.pending.is_empty() {
            text.push_str("\n[PENDING]\n");
            let deleted: Vec<String> = self
                .pending
                .delete
                .iter()
                .map(|(key, force)| format!("{}{key}", if *force { "!" } else { "" }))
                .collect();
            if !deleted.is_empty() {
                text.push_str(&format!("delete: {}\n", deleted.join(",")));
            }
            text.push_str(&section(&self.pending.set));
        }
        if !self.cloudinit.is_empty() {
            text.push_str("\n[special:cloudinit]\n");
            let added =
                self.cloudinit.iter().filter(|(_, old)| old.is_none()).map(|(option, _)| option.as_str());
            let added = added.collect::<Vec<_>>().join(",");
            let old = self.cloudinit.iter().filter_map(|(option, old)| Some((option.clone(), old.clone()?)));
            let mut shown: Config = old.collect();
            if !added.is_empty() {
                shown.insert("added".into(), added);
            }
            text.push_str(&section(&shown));
        }
        for (name, snapshot) in &self.snapshots {
            text.push_str(&format!("\n[{name}]\n"));
            text.push_str(&section(&snapshot_section(snapshot)));
        }
        text
    }
    /// The digest of the configuration: lower-case hex SHA-1 of its text.
    pub fn digest(&self) -> String {
        use sha1::{Digest as _, Sha1};
        Sha1::digest(self.config_text().as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn snapshot_section(snapshot: &Snapshot) -> Config {
    let mut config = snapshot.config.clone();
    config.insert("snaptime".into(), snapshot.time.to_string());
    let extra = [
        ("parent", &snapshot.parent),
        ("vmstate", &snapshot.vmstate),
        ("description", &snapshot.description),
    ];
    for (key, value) in extra {
        if let Some(value) = value {
            config.insert(key.into(), value.clone());
        }
    }
    config
}

fn section(config: &Config) -> String {
    let mut text = String::new();
    if let Some(description) = config.get("description") {
        for line in description.lines() {
            text.push_str(&format!("#{}\n", encode_description(line)));
        }
    }
    for (key, value) in config.iter().filter(|(key, _)| *key != "description") {
        text.push_str(&format!("{key}: {value}\n"));
    }
    text
}

/// Percent-encodes what PVE encodes in a description: control characters, `%`, `:` and everything beyond ASCII.
// PVE: pve-common src/PVE/Tools.pm encode_text
pub fn encode_description(text: &str) -> String {
    let plain = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'%' && byte != b':';
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
