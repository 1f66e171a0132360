//! Creating a VM.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pve_types::Vmid;
use serde_json::Value;

use super::allowed::Asker;
use super::disks::{self, MadeDisks, narrated};
use super::drive::{Drive, drives, is_slot};
use super::{nets, settings};
use crate::api::rights::{has, require};
use crate::api::{Call, Methods, Refusal};
use crate::world::{Config, Guest, GuestKind, Stage, TaskKey, Worker, World, made_up_uuid};

/// The methods of this file.
pub const METHODS: Methods = &[("POST", "/nodes/{node}/qemu", create)];

/// What a creation is told beside the configuration itself.
const NOT_CONFIG: &[&str] = &[
    "node",
    "vmid",
    "archive",
    "storage",
    "force",
    "unique",
    "live-restore",
    "pool",
    "bwlimit",
    "start",
    "ha-managed",
    "import-working-storage",
];

// PVE: qemu-server src/PVE/API2/Qemu.pm create_vm
fn create(call: &mut Call<'_>) -> Result<Value, Refusal> {
    settings::check_cpu_model(call)?;
    let (node, vmid) = (call.node(), call.vmid()?);
    let pool = call.text("pool").map(str::to_owned);
    let storage = call.text("storage").map(str::to_owned);
    if call.is_given("archive") {
        return super::restore::restore(call);
    }
    settings::check_ssh_keys(call)?;
    if let Some(pool) = &pool
        && !call.world.access.pools.contains_key(pool)
    {
        return Err(Refusal::new(403, format!("Permission check failed (pool '{pool}' does not exist)")));
    }
    let asker =
        Asker { auth_id: call.caller.auth_id().to_owned(), node: node.clone(), vmid, pool: pool.clone() };
    if let Some(storage) = &storage {
        call.require(&format!("/storage/{storage}"), &[pve_types::Privilege::DatastoreAllocateSpace])?;
        if call.world.storages.contains_key(storage)
            && !call.world.storage(storage)?.content.contains("images")
        {
            let text = format!("storage '{storage}' does not support vm images");
            return Err(Refusal::parameter("storage", text));
        }
    }
    let may = |path: &str| has(call.world, &asker.auth_id, path, pve_types::Privilege::VmAllocate);
    if !may(&format!("/vms/{vmid}")) && !pool.as_ref().is_some_and(|pool| may(&format!("/pool/{pool}"))) {
        return Err(Refusal::new(403, "Permission check failed"));
    }
    let mut config = settings::given(call, NOT_CONFIG);
    settings::resolve_cdrom(&mut config);
    for (slot, value) in config.iter().filter(|(option, _)| is_slot(option)) {
        if Drive::parse(call.world.version, slot, value).is_none() {
            return Err(Refusal::parameter(slot, "unable to parse drive options"));
        }
    }
    // Only a value that says so itself is a CD drive's yet; the node's own drive is a path until then.
    if config
        .iter()
        .any(|(option, value)| is_slot(option) && matches!(value.as_str(), "cdrom" | "file=cdrom"))
    {
        asker.may_use_volume(call.world, "cdrom")?;
    }
    asker.may_use_storages(call.world, &config, storage.as_deref())?;
    asker.may_change(call.world, config.keys().map(String::as_str))?;
    // PVE: qemu-server src/PVE/API2/Qemu.pm create_vm: tags are judged by the worker, and without the pool.
    let tags = config.get("tags").map(|tags| Config::from([("tags".to_owned(), tags.clone())]));
    let untagged = config.iter().filter(|(option, _)| *option != "tags");
    let untagged = untagged.map(|(option, value)| (option.clone(), value.clone())).collect();
    asker.may_have_devices(call.world, &untagged, "set")?;
    asker.may_use_bridges(call.world, &config)?;
    if call.flag("start") && call.world.version.at_least(9, 2) {
        asker.require(call.world, &[pve_types::Privilege::VmPowerMgmt])?;
    }
    if call.flag("ha-managed") {
        require(call.world, &asker.auth_id, "/", &[pve_types::Privilege::SysConsole])?;
    }
    settings::check_hook_script(call.world, &node, &config)?;
    if let Some(machine) = config.get("machine") {
        settings::check_machine(machine)?;
    }
    for (option, value) in &config {
        settings::check_stored(call.world.version, option, value)?;
    }
    unused_id(call.world, vmid, &format!("unable to create VM {vmid} - "))?;
    let (start, ha) = (call.flag("start"), call.flag("ha-managed"));
    let takes = Duration::from_millis(call.world.delays.create_ms);
    let created = call.world.now_seconds();
    let locked = [("lock".to_owned(), "create".to_owned())].into();
    call.world.guests.insert(vmid, Guest::new(vmid, GuestKind::Qemu, &node, locked, created));
    let volumes = NewVolumes::default();
    let to_free = (volumes.clone(), node.clone());
    let worker = Worker {
        node,
        kind: "qmcreate",
        id: vmid.to_string(),
        owner: asker.auth_id.clone(),
        lock: Some((vmid, Duration::from_secs(1))),
        stages: vec![Stage {
            takes,
            work: Box::new(move |world, _| {
                let mut made = MadeDisks::timed();
                if let Some(tags) = &tags {
                    let alone = Asker { pool: None, ..asker.clone() };
                    alone.may_have_devices(world, tags, "set").map_err(|refusal| refusal.full_text())?;
                }
                let done = disks::make(world, &asker, &Config::new(), &config, storage.as_deref(), &mut made);
                volumes.note(&mut made.volumes);
                Ok(narrated(made.output, &made.pauses, move |world, key| {
                    done.map_err(|refusal| refusal.full_text())?;
                    config.extend(made.values);
                    enter(world, key, &asker, config);
                    after_create(world, key, &asker, start, ha);
                    Ok(())
                }))
            }),
        }],
        on_failure: Some(Box::new(move |world, _| {
            to_free.0.free(world, &to_free.1);
            world.guests.remove(&vmid);
        })),
        error_prefix: format!("unable to create VM {vmid} - "),
    };
    Ok(call.world.start_worker(worker).into())
}

/// Refuses a VMID that is taken.
///
/// # Errors
/// `VM 100 already exists on node 'pve1'`, after `prefix`.
pub fn unused_id(world: &World, vmid: Vmid, prefix: &str) -> Result<(), Refusal> {
    match world.guests.get(&vmid) {
        None => Ok(()),
        Some(guest) => {
            let kind = if guest.kind == GuestKind::Qemu { "VM" } else { "CT" };
            Err(Refusal::died(format!("{prefix}{kind} {vmid} already exists on node '{}'", guest.node)))
        }
    }
}

/// The volumes that a worker has made so far: they go when it fails or is stopped.
#[derive(Debug, Clone, Default)]
pub struct NewVolumes(Arc<Mutex<Vec<String>>>);

impl NewVolumes {
    /// Notes more of them.
    pub fn note(&self, volumes: &mut Vec<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).append(volumes);
    }
    /// Frees them all.
    pub fn free(&self, world: &mut World, node: &str) {
        for volume in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = world.free_volume(node, &volume);
        }
    }
}

/// Gives the new VM its configuration, once its disks are made.
fn enter(world: &mut World, key: TaskKey, asker: &Asker, mut config: Config) {
    complete(world, &mut config);
    if let Some(pinned) = settings::pinned_machine(&config) {
        world.log(key, format!("pinning machine type to '{pinned}' for Windows guest OS"));
        config.insert("machine".into(), pinned);
    }
    if let Some(guest) = world.guests.get_mut(&asker.vmid) {
        guest.config = config;
    }
}

/// Adds what PVE makes up itself: MAC addresses, boot order, UUIDs, meta.
fn complete(world: &mut World, config: &mut Config) {
    let cards: Vec<String> = config.keys().filter(|key| settings::is_net(key)).cloned().collect();
    for card in cards {
        if let Some(value) = nets::complete(world, &config[&card]) {
            config.insert(card, value);
        }
    }
    settings::normalise(world.version, config);
    if !config.contains_key("boot") {
        let order = default_boot(world, config);
        config.insert(
            "boot".into(),
            if order.is_empty() { " ".into() } else { format!("order={}", order.join(";")) },
        );
    }
    if !config.contains_key("smbios1") {
        config.insert("smbios1".into(), format!("uuid={}", made_up_uuid(&mut world.random)));
    }
    match config.get("vmgenid").map(String::as_str) {
        None | Some("1") => {
            config.insert("vmgenid".into(), made_up_uuid(&mut world.random));
        }
        Some(_) => {}
    }
    let time = world.now_seconds();
    config.insert("meta".into(), format!("creation-qemu={},ctime={time}", qemu_version(world.version)));
}

/// The version of QEMU that goes with a PVE version.
pub fn qemu_version(version: pve_types::PveVersion) -> &'static str {
    if version.at_least(9, 2) {
        "10.0.13"
    } else if version.at_least(9, 0) {
        "10.0.2"
    } else {
        "9.2.0"
    }
}

/// The first disk, the first CD drive, the first card.
// PVE: qemu-server src/PVE/QemuServer.pm get_default_bootdevices
fn default_boot(world: &World, config: &Config) -> Vec<String> {
    let bootable = |drive: &Drive| !drive.slot.starts_with("efidisk") && !drive.slot.starts_with("tpmstate");
    let drives: Vec<Drive> = drives(world.version, config).into_iter().filter(bootable).collect();
    let disk = drives.iter().find(|drive| !drive.is_cdrom()).map(|drive| drive.slot.clone());
    let cdrom = drives.iter().find(|drive| drive.is_cdrom()).map(|drive| drive.slot.clone());
    let card = (0..32).map(|number| format!("net{number}")).find(|name| config.contains_key(name));
    disk.into_iter().chain(cdrom).chain(card).collect()
}

fn after_create(world: &mut World, key: TaskKey, asker: &Asker, start: bool, ha: bool) {
    if let Some(pool) = &asker.pool
        && let Some(pool) = world.access.pools.get_mut(pool)
    {
        pool.guests.insert(asker.vmid.get());
    }
    if ha {
        world.log(key, "Add as HA resource");
        crate::api::cluster::add_ha_resource(world, asker.vmid);
    }
    if start {
        world.log(key, "Execute autostart");
        super::power::start_in_background(world, asker);
    }
}
