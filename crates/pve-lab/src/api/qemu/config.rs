//! Reading a VM's configuration.

use pve_types::Vmid;
use serde_json::{Map, Value, json};

use crate::api::{Call, Methods, Refusal};
use crate::schema::{Kind, table};
use crate::world::{Config, Guest, GuestKind, World};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/nodes/{node}/qemu/{vmid}/config", get),
    ("GET", "/nodes/{node}/qemu/{vmid}/pending", pending),
];

/// What a password is shown as.
pub const HIDDEN: &str = "**********";

/// The VM whose configuration is on that node.
///
/// # Errors
/// PVE's text.
// PVE: pve-guest-common src/PVE/AbstractConfig.pm load_config
pub fn guest<'a>(world: &'a World, node: &str, vmid: Vmid) -> Result<&'a Guest, Refusal> {
    let here = world.guests.get(&vmid).filter(|guest| guest.node == node && guest.kind == GuestKind::Qemu);
    here.ok_or_else(|| no_config(node, vmid))
}

/// The VM, to change it.
///
/// # Errors
/// PVE's text.
pub fn guest_mut<'a>(world: &'a mut World, node: &str, vmid: Vmid) -> Result<&'a mut Guest, Refusal> {
    let here =
        world.guests.get_mut(&vmid).filter(|guest| guest.node == node && guest.kind == GuestKind::Qemu);
    here.ok_or_else(|| no_config(node, vmid))
}

/// What is said of a VM that is not there.
pub fn no_config(node: &str, vmid: Vmid) -> Refusal {
    Refusal::died(format!("Configuration file 'nodes/{node}/qemu-server/{vmid}.conf' does not exist"))
}

/// Refuses while the configuration says `lock:`.
///
/// # Errors
/// `VM is locked (…)`.
pub fn check_lock(guest: &Guest) -> Result<(), Refusal> {
    match guest.lock() {
        Some(lock) => Err(Refusal::died(format!("VM is locked ({lock})"))),
        None => Ok(()),
    }
}

/// A value as JSON: numbers and booleans as numbers, everything else as text.
pub fn json_value(world: &World, option: &str, value: &str) -> Value {
    if option == "cipassword" {
        return HIDDEN.into();
    }
    let kind = table(world.version).vm_config().get(option).map(|param| param.kind);
    match kind {
        Some(Kind::Integer | Kind::Boolean) => {
            value.parse::<i64>().map_or_else(|_| value.into(), Value::from)
        }
        // PVE: qemu-server src/PVE/QemuServer.pm check_type: numbers stay the text that they are.
        _ => value.into(),
    }
}

/// A configuration with what is pending put in force.
pub fn with_pending(guest: &Guest) -> Config {
    let mut config = guest.config.clone();
    guest.pending.delete.keys().for_each(|key| drop(config.remove(key)));
    config.extend(guest.pending.set.iter().map(|(key, value)| (key.clone(), value.clone())));
    config
}

fn shown(world: &World, config: &Config) -> Map<String, Value> {
    config.iter().map(|(option, value)| (option.clone(), json_value(world, option, value))).collect()
}

fn get(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (node, vmid) = (call.node(), call.vmid()?);
    if call.is_given("snapshot") && call.flag("current") {
        let text = "cannot use 'snapshot' parameter with 'current'";
        return Err(Refusal::parameters([
            ("snapshot".into(), text.into()),
            ("current".into(), "cannot use 'current' parameter with 'snapshot'".into()),
        ]));
    }
    let guest = guest(call.world, &node, vmid)?;
    let config = match call.text("snapshot") {
        Some(name) => {
            let missing = || Refusal::died(format!("snapshot '{name}' does not exist"));
            let snapshot = guest.snapshots.get(name).ok_or_else(missing)?;
            let mut config = snapshot.config.clone();
            config.insert("snaptime".into(), snapshot.time.to_string());
            config
        }
        None if call.flag("current") => guest.config.clone(),
        None => with_pending(guest),
    };
    let mut shown = shown(call.world, &config);
    shown.insert("digest".into(), guest.digest().into());
    Ok(Value::Object(shown))
}

/// The entries of `pending`: what is in force, what will be, what will go.
pub fn pending_entries(world: &World, guest: &Guest) -> Vec<Value> {
    let mut keys: Vec<&String> = guest.config.keys().collect();
    keys.extend(guest.pending.set.keys().filter(|key| !guest.config.contains_key(*key)));
    let entry = |key: &String| {
        let mut entry = json!({ "key": key });
        if let Some(value) = guest.config.get(key) {
            entry["value"] = json_value(world, key, value);
        }
        if let Some(value) = guest.pending.set.get(key) {
            entry["pending"] = json_value(world, key, value);
        }
        if let Some(force) = guest.pending.delete.get(key) {
            entry["delete"] = if *force { 2.into() } else { 1.into() };
        }
        entry
    };
    let mut entries: Vec<Value> = keys.into_iter().map(entry).collect();
    entries.push(json!({ "key": "digest", "value": guest.digest() }));
    entries
}

fn pending(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let guest = guest(call.world, &call.node(), call.vmid()?)?;
    Ok(pending_entries(call.world, guest).into())
}
