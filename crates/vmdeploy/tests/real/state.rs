//! What is there after an act: the guests' configurations, as `qm config` prints them, and the storages' volumes.

use crate::ground::Ground;
use libtest_mimic::Failed;
use serde_json::Value;
use std::collections::BTreeMap;

/// The range's guests by VMID, and its volumes; without what differs from run to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Configurations with `status` added.
    pub guests: BTreeMap<u32, BTreeMap<String, String>>,
    /// One line per volume, sorted.
    pub volumes: Vec<String>,
}

impl State {
    /// Looks.
    pub fn of(ground: &Ground) -> Result<Self, Failed> {
        let mut guests = BTreeMap::new();
        for vmid in ground.guests()?.into_keys() {
            guests.insert(vmid, guest(ground, vmid)?);
        }
        let mut volumes = Vec::new();
        for storage in [&ground.settings.storage, &ground.settings.other_storage] {
            volumes.extend(volumes_on(ground, storage)?);
        }
        volumes.sort();
        volumes.dedup();
        Ok(Self { guests, volumes })
    }
}

fn guest(ground: &Ground, vmid: u32) -> Result<BTreeMap<String, String>, Failed> {
    let base = format!("/nodes/{}/qemu/{vmid}", ground.node);
    let config = ground.get(&format!("{base}/config"))?;
    let status = ground.get(&format!("{base}/status/current"))?;
    let mut values = BTreeMap::from([("status".to_owned(), plain(&status["status"]))]);
    for (key, value) in config.as_object().into_iter().flatten() {
        let value = match key.as_str() {
            "digest" | "meta" | "vmgenid" => continue,
            // It holds the run's name.
            "description" => "<description>".to_owned(),
            // PVE makes up that of a guest made by hand.
            "smbios1" if crate::specs::BY_HAND.contains(&(vmid - ground.settings.first)) => {
                "<smbios1>".to_owned()
            }
            key if key.starts_with("net") => without_mac(&plain(value)),
            _ => without_number(&plain(value)),
        };
        values.insert(key.clone(), value);
    }
    Ok(values)
}

fn volumes_on(ground: &Ground, storage: &str) -> Result<Vec<String>, Failed> {
    let rows = ground.get(&format!("/nodes/{}/storage/{storage}/content", ground.node))?;
    let of_range = |row: &&Value| {
        let owner = row["vmid"].as_u64().and_then(|vmid| u32::try_from(vmid).ok());
        owner.is_some_and(|vmid| (ground.settings.first..=ground.settings.last).contains(&vmid))
    };
    let line = |row: &Value| {
        let name = without_number(&plain(&row["volid"]));
        let parent = row["parent"].as_str().map(|parent| format!(" parent={}", without_number(parent)));
        format!("{name} {} {}{}", plain(&row["format"]), plain(&row["size"]), parent.unwrap_or_default())
    };
    Ok(rows.as_array().into_iter().flatten().filter(of_range).map(line).collect())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Two disks that are made at the same time get their numbers in any order.
fn without_number(value: &str) -> String {
    let mut text = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("-disk-") {
        text.push_str(before);
        text.push_str("-disk-N");
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    text + rest
}

fn without_mac(value: &str) -> String {
    let part = |part: &str| match part.split_once('=') {
        Some((model, mac)) if mac.len() == 17 && mac.matches(':').count() == 5 => format!("{model}=<MAC>"),
        _ => part.to_owned(),
    };
    value.split(',').map(part).collect::<Vec<_>>().join(",")
}
