//! The lab compared with a node: a world that is like it, and the differences after each act.

use crate::ground::{Ground, Settings};
use crate::state::State;
use libtest_mimic::Failed;
use pve_lab::WorldSpec;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What a lab must have to be compared with a node.
pub struct Likeness {
    /// The node's name.
    pub node: String,
    /// What may be touched.
    pub settings: Settings,
    version: String,
    storages: Vec<Value>,
}

impl Likeness {
    /// Returns that of the demo's world.
    pub fn usual() -> Self {
        let (node, version) = ("pve1".to_owned(), "9.2.11".to_owned());
        Self { node, settings: Settings::usual(), version, storages: Vec::new() }
    }
    /// Asks the node.
    pub fn of(ground: &Ground) -> Result<Self, Failed> {
        let version = ground.get("/version")?;
        let storages = ground.get("/storage")?;
        Ok(Self {
            node: ground.node.clone(),
            settings: ground.settings.clone(),
            version: version["version"].as_str().unwrap_or("9.2.11").to_owned(),
            storages: storages.as_array().cloned().unwrap_or_default(),
        })
    }
    /// Returns the world.
    pub fn world(&self) -> WorldSpec {
        let mut world = WorldSpec::demo();
        world.version = self.version.parse().unwrap_or(world.version);
        if let Some(spec) = world.nodes.remove("pve1") {
            let bridges = vec!["vmbr0".to_owned(), self.settings.bridge.clone()];
            world.nodes.insert(self.node.clone(), pve_lab::world::NodeSpec { bridges, ..spec });
        }
        if !self.storages.is_empty() {
            let lines: String = self.storages.iter().map(storage_line).collect();
            let like = WorldSpec::from_yaml(&format!("storages:\n{lines}"));
            world.storages = like.map(|like| like.storages).unwrap_or(world.storages);
        }
        world
    }
}

fn storage_line(storage: &Value) -> String {
    let text = |key: &str| storage[key].as_str().unwrap_or_default().to_owned();
    let is_option = |key: &str| !matches!(key, "storage" | "type" | "content" | "digest" | "nodes");
    let options = storage.as_object().into_iter().flatten().filter(|(key, _)| is_option(key));
    let options: BTreeMap<&str, String> = options
        .map(|(key, value)| (key.as_str(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect();
    format!(
        "  {}: {{type: {}, content: [{}], size: 100GiB, options: {}}}\n",
        text("storage"),
        text("type"),
        text("content"),
        serde_json::json!(options)
    )
}

/// Compares what was there after each act.
///
/// # Errors
/// All differences.
pub fn same(real: &[(String, State)], lab: &[(String, State)]) -> Result<(), Failed> {
    let mut text = String::new();
    for ((act, real), (_, lab)) in real.iter().zip(lab) {
        if real != lab {
            let _ = writeln!(text, "after {act}:");
            text += &differences(real, lab);
        }
    }
    if real.len() != lab.len() {
        let _ = writeln!(text, "{} acts on the node, {} on the lab", real.len(), lab.len());
    }
    if text.is_empty() { Ok(()) } else { Err(format!("the lab is not like the node:\n{text}").into()) }
}

/// Lists what differs: `-` is the node's, `+` the lab's.
pub fn differences(real: &State, lab: &State) -> String {
    let mut text = String::new();
    let nothing = BTreeMap::new();
    let vmids: std::collections::BTreeSet<u32> =
        real.guests.keys().chain(lab.guests.keys()).copied().collect();
    for vmid in vmids {
        let (real, lab) =
            (real.guests.get(&vmid).unwrap_or(&nothing), lab.guests.get(&vmid).unwrap_or(&nothing));
        let keys: std::collections::BTreeSet<&String> = real.keys().chain(lab.keys()).collect();
        for key in keys.into_iter().filter(|key| real.get(*key) != lab.get(*key)) {
            for (sign, side) in [('-', real), ('+', lab)] {
                if let Some(value) = side.get(key) {
                    let _ = writeln!(text, "  {sign} {vmid} {key}: {value}");
                }
            }
        }
    }
    for line in real.volumes.iter().filter(|line| !lab.volumes.contains(line)) {
        let _ = writeln!(text, "  - {line}");
    }
    for line in lab.volumes.iter().filter(|line| !real.volumes.contains(line)) {
        let _ = writeln!(text, "  + {line}");
    }
    text
}
