//! Cloning, templates, growing and moving disks.

use std::time::Duration;

use pve_types::{Bytes, Privilege, Vmid};
use serde_json::Value;

use super::allowed::Asker;
use super::config::{check_lock, guest, guest_mut};
use super::create::{NewVolumes, unused_id};
use super::disks::{self, MadeDisks, copy_in, narrated, source_volume};
use super::drive::{Drive, add_unused, drives, is_slot, is_unused};
use super::power::{asker, worker};
use super::{nets, settings};
use crate::api::rights::require;
use crate::api::{Call, Methods, Refusal};
use crate::world::{
    Config, FirewallScope, Guest, GuestKind, Next, Stage, TaskKey, Worker, World, made_up_uuid,
};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("POST", "/nodes/{node}/qemu/{vmid}/clone", clone),
    ("POST", "/nodes/{node}/qemu/{vmid}/template", template),
    ("PUT", "/nodes/{node}/qemu/{vmid}/resize", resize),
    ("POST", "/nodes/{node}/qemu/{vmid}/move_disk", move_disk),
];

/// A verified clone.
#[derive(Debug, Clone)]
struct Plan {
    source: Vmid,
    asker: Asker,
    target_node: String,
    full: bool,
    storage: Option<String>,
    format: Option<String>,
    name: Option<String>,
    description: Option<String>,
    config: Config,
}

// PVE: qemu-server src/PVE/API2/Qemu.pm clone_vm
fn clone(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (node, source) = (call.node(), call.vmid()?);
    let newid: Vmid = call.string("newid").parse().map_err(|_| Refusal::parameter("newid", "no VMID"))?;
    let pool = call.text("pool").map(str::to_owned);
    if let Some(pool) = pool.as_ref().filter(|pool| !call.world.access.pools.contains_key(*pool)) {
        return Err(Refusal::new(403, format!("Permission check failed (pool '{pool}' does not exist)")));
    }
    let asker = Asker { auth_id: call.caller.auth_id().to_owned(), node: node.clone(), vmid: newid, pool };
    let target_node = call.text("target").filter(|target| *target != "localhost").unwrap_or(&node).to_owned();
    if !call.world.nodes.contains_key(&target_node) {
        return Err(Refusal::died(format!("no such cluster node '{target_node}'")));
    }
    let storage = call.text("storage").map(str::to_owned);
    if let Some(storage) = &storage {
        if !call.world.enabled_storage(storage, &node)?.content.contains("images") {
            let text = format!("storage '{storage}' does not support vm images");
            return Err(Refusal::parameter("storage", text));
        }
        if target_node != node && !call.world.storage(storage)?.is_shared() {
            return Err(Refusal::died(format!("can't clone to non-shared storage '{storage}'")));
        }
    }
    let guest = guest(call.world, &node, source).map_err(|_| not_found(&node, source))?;
    check_lock(guest)?;
    let full = call.flag_or("full", !guest.is_template());
    if !full {
        for option in ["storage", "format"] {
            if call.is_given(option) {
                return Err(Refusal::died(format!("parameter '{option}' not allowed for linked clones")));
            }
        }
    }
    let config = match call.text("snapname").filter(|name| *name != "current") {
        Some(name) => {
            let missing = || Refusal::died(format!("snapshot '{name}' does not exist"));
            let snapshot = guest.snapshots.get(name).ok_or_else(missing)?;
            let mut config = snapshot.config.clone();
            config.retain(|option, _| !super::snapshot::is_of_memory(option));
            match snapshot.description.clone().filter(|text| !text.is_empty()) {
                Some(text) => drop(config.insert("description".into(), text)),
                None => drop(config.remove("description")),
            }
            config
        }
        None => guest.config.clone(),
    };
    check_storages(call.world, &asker, &config, storage.as_deref(), &target_node)?;
    asker.may_use_bridges(call.world, &config)?;
    let of_snapshot = call.text("snapname").is_some_and(|name| name != "current");
    check_features(call.world, &config, full, of_snapshot)?;
    if call.world.guests.contains_key(&newid) {
        return Err(Refusal::died(format!("unable to create VM {newid}: config file already exists")));
    }
    unused_id(call.world, newid, "")?;
    let plan = Plan {
        source,
        asker,
        target_node: target_node.clone(),
        full,
        storage,
        format: call.text("format").map(str::to_owned),
        name: call.text("name").map(str::to_owned),
        description: call.text("description").map(str::to_owned),
        config,
    };
    start_clone(call.world, plan, &node)
}

fn not_found(node: &str, vmid: Vmid) -> Refusal {
    Refusal::died(format!("unable to find configuration file for VM {vmid} on node '{node}'"))
}

fn start_clone(world: &mut World, plan: Plan, node: &str) -> Result<Value, Refusal> {
    let (newid, owner, source) = (plan.asker.vmid, plan.asker.auth_id.clone(), plan.source);
    let created = world.now_seconds();
    let locked = [("lock".to_owned(), "clone".to_owned())].into();
    world.guests.insert(newid, Guest::new(newid, GuestKind::Qemu, node, locked, created));
    // PVE: pve-firewall src/PVE/Firewall.pm clone_vmfw_conf
    if let Some(firewall) = world.firewalls.get(&FirewallScope::Guest(source)).cloned() {
        world.firewalls.insert(FirewallScope::Guest(newid), firewall);
    }
    let takes = Duration::from_millis(world.delays.create_ms);
    let volumes = NewVolumes::default();
    let to_free = (volumes.clone(), node.to_owned());
    let worker = Worker {
        node: node.to_owned(),
        kind: "qmclone",
        id: source.to_string(),
        owner,
        lock: None,
        stages: vec![Stage { takes, work: Box::new(move |world, _| Ok(run_clone(world, plan, &volumes))) }],
        on_failure: Some(Box::new(move |world, _| {
            to_free.0.free(world, &to_free.1);
            super::destroy::forget(world, newid);
        })),
        error_prefix: "clone failed: ".to_owned(),
    };
    Ok(world.start_worker(worker).into())
}

fn check_storages(
    world: &World,
    asker: &Asker,
    config: &Config,
    storage: Option<&str>,
    target_node: &str,
) -> Result<(), Refusal> {
    for drive in drives(world.version, config) {
        let is_plain_cdrom = drive.is_cdrom() && !drive.is_cloudinit();
        if drive.file() == "cdrom" {
            require(world, &asker.auth_id, "/", &[Privilege::SysConsole])?;
        }
        let Some(own) = drive.storage().filter(|_| !is_plain_cdrom) else { continue };
        if target_node != asker.node && !world.storage(own)?.is_shared() {
            return Err(Refusal::died(format!(
                "can't clone VM to node '{target_node}' (VM uses local storage)"
            )));
        }
        let target = storage.unwrap_or(own);
        require(world, &asker.auth_id, &format!("/storage/{target}"), &[Privilege::DatastoreAllocateSpace])?;
    }
    Ok(())
}

fn check_features(world: &World, config: &Config, full: bool, of_snapshot: bool) -> Result<(), Refusal> {
    if full {
        return Ok(());
    }
    for drive in
        drives(world.version, config).iter().filter(|drive| !drive.is_cdrom() && drive.storage().is_some())
    {
        if !world.can_link(drive.file()) && !drive.slot.starts_with("tpmstate") {
            let of = if of_snapshot { " a snapshot of" } else { "" };
            let text =
                format!("Linked clone feature is not supported for{of} '{}' ({})", drive.file(), drive.slot);
            return Err(Refusal::died(text));
        }
    }
    Ok(())
}

fn run_clone(world: &mut World, plan: Plan, volumes: &NewVolumes) -> Next {
    let newid = plan.asker.vmid;
    let mut made = MadeDisks::timed();
    if world.version.at_least(9, 0) {
        made.output.push(format!("creating a clone of VM {} with ID {newid}", plan.source));
    }
    let mut config = plan.config.clone();
    config.retain(|option, _| {
        !is_unused(option)
            && !matches!(option.as_str(), "lock" | "template" | "parent" | "snaptime" | "vmstate")
    });
    let copied = clone_drives(world, &plan, &mut config, &mut made);
    volumes.note(&mut made.volumes);
    narrated(made.output, &made.pauses, move |world, _| {
        copied.map_err(|refusal| refusal.full_text())?;
        enter_clone(world, &plan, config);
        Ok(())
    })
}

/// Gives the clone its configuration, once its disks are copied.
fn enter_clone(world: &mut World, plan: &Plan, mut config: Config) {
    let newid = plan.asker.vmid;
    renew_identity(world, plan, &mut config);
    if let Some(guest) = world.guests.get_mut(&newid) {
        guest.config = config;
        guest.node.clone_from(&plan.target_node);
    }
    if let Some(pool) = plan.asker.pool.as_ref().and_then(|pool| world.access.pools.get_mut(pool)) {
        pool.guests.insert(newid.get());
    }
    world.touch();
}

fn clone_drives(
    world: &mut World,
    plan: &Plan,
    config: &mut Config,
    made: &mut MadeDisks,
) -> Result<(), Refusal> {
    let version = world.version;
    for mut drive in drives(version, config) {
        let is_plain_cdrom = drive.is_cdrom() && !drive.is_cloudinit();
        if is_plain_cdrom || drive.storage().is_none() {
            continue;
        }
        let full = plan.full || drive.is_cloudinit() || drive.slot.starts_with("tpmstate");
        let source = drive.file().to_owned();
        let verb = if full { "full" } else { "linked" };
        made.output.push(format!("create {verb} clone of drive {} ({source})", drive.slot));
        let (volume, size) = match full {
            true => clone_full(world, plan, &drive, &source, made)?,
            false => {
                let linked = world.link_volume(&plan.asker.node, &source, plan.asker.vmid)?;
                made.volumes.push(linked.id.clone());
                let storage = crate::world::split_id(&source)?.0.to_owned();
                made.await_allocation(world, &plan.asker.node, &storage);
                made.output.extend(linked.lines);
                let size = world.volume(&plan.asker.node, &linked.id).map_or(0, |volume| volume.size);
                (linked.id, size)
            }
        };
        drive.set("file", volume);
        drive.set("size", Bytes::new(size).to_pve_size());
        config.insert(drive.slot.clone(), drive.print(version));
    }
    Ok(())
}

fn clone_full(
    world: &mut World,
    plan: &Plan,
    drive: &Drive,
    source: &str,
    made: &mut MadeDisks,
) -> Result<(String, u64), Refusal> {
    let found = source_volume(world, &plan.asker.node, source)?;
    let storage = plan.storage.as_deref().or(drive.storage()).unwrap_or_default().to_owned();
    let format = target_format(world, &storage, plan.format.as_deref(), found.format.as_deref())?;
    if drive.is_cloudinit() {
        let is_file = world.storage(&storage)?.is_file_based();
        let ending = if is_file { format!(".{format}") } else { String::new() };
        let name = format!("vm-{}-cloudinit{ending}", plan.asker.vmid);
        let new = crate::world::NewVolume {
            node: &plan.asker.node,
            storage: &storage,
            vmid: plan.asker.vmid,
            format: &format,
            name: Some(name),
            size: 4 << 20,
            data: 0,
        };
        let allocated = world.allocate(&new)?;
        made.await_allocation(world, &plan.asker.node, &storage);
        made.output.extend(allocated.lines);
        if world.version.at_least(9, 0) {
            made.output.push(format!("allocated target volume '{}'", allocated.id));
        }
        made.volumes.push(allocated.id.clone());
        return Ok((allocated.id, 4 << 20));
    }
    copy_in(world, &plan.asker, &storage, &format, &found, source, true, made)
}

/// The format asked for, else the source's, as far as the storage can hold it.
fn target_format(
    world: &World,
    storage: &str,
    asked: Option<&str>,
    source: Option<&str>,
) -> Result<String, Refusal> {
    let def = world.storage(storage)?;
    let wanted = asked.or(source).unwrap_or_else(|| def.default_format());
    Ok(if def.supports_format(wanted) { wanted } else { def.default_format() }.to_owned())
}

fn renew_identity(world: &mut World, plan: &Plan, config: &mut Config) {
    let cards: Vec<String> = config.keys().filter(|key| settings::is_net(key)).cloned().collect();
    for card in cards {
        if let Some(mut net) = nets::parse(world.version, &config[&card]) {
            let mac = nets::random_mac(world);
            net.insert("macaddr".into(), mac);
            config.insert(card, nets::print(&net));
        }
    }
    let uuid = made_up_uuid(&mut world.random);
    let old = config.get("smbios1").cloned().unwrap_or_default();
    let kept = old.split(',').filter(|part| !part.is_empty() && !part.starts_with("uuid="));
    let smbios: Vec<String> =
        std::iter::once(format!("uuid={uuid}")).chain(kept.map(str::to_owned)).collect();
    config.insert("smbios1".into(), smbios.join(","));
    if config.contains_key("vmgenid") {
        config.insert("vmgenid".into(), made_up_uuid(&mut world.random));
    }
    let default = config
        .get("name")
        .map_or_else(|| format!("Copy-of-VM-{}", plan.source), |name| format!("Copy-of-VM-{name}"));
    config.insert("name".into(), plan.name.clone().unwrap_or(default));
    if let Some(description) = &plan.description {
        config.insert("description".into(), description.clone());
    }
    let time = world.now_seconds();
    config.insert(
        "meta".into(),
        format!("creation-qemu={},ctime={time}", super::create::qemu_version(world.version)),
    );
}

// PVE: qemu-server src/PVE/API2/Qemu.pm template
fn template(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let asker = asker(call)?;
    let disk = call.text("disk").map(str::to_owned);
    let guest = guest(call.world, &asker.node, asker.vmid)?;
    check_lock(guest)?;
    if !guest.snapshots.is_empty() {
        return Err(Refusal::died("unable to create template, because VM contains snapshots"));
    }
    if guest.is_template() && disk.is_none() {
        return Err(Refusal::died("you can't convert a template to a template"));
    }
    if guest.is_running() {
        return Err(Refusal::died("you can't convert a VM to template if VM is running"));
    }
    let inner = asker.clone();
    let stage = Stage::now(move |world, _| make_template(world, &inner, disk.as_deref()));
    let worker = worker("qmtemplate", &asker, vec![stage]);
    Ok(call.world.start_worker(worker).into())
}

fn make_template(world: &mut World, asker: &Asker, disk: Option<&str>) -> Result<(), String> {
    let version = world.version;
    let config = guest(world, &asker.node, asker.vmid).map_err(|refusal| refusal.full_text())?.config.clone();
    for mut drive in drives(version, &config) {
        let is_asked = disk.is_none_or(|disk| disk == drive.slot);
        if drive.is_cdrom() || drive.storage().is_none() || !is_asked {
            continue;
        }
        let base = world.make_base(&asker.node, drive.file())?;
        drive.set("file", base);
        let value = drive.print(version);
        if let Some(guest) = world.guests.get_mut(&asker.vmid) {
            guest.config.insert(drive.slot.clone(), value);
        }
    }
    if let Some(guest) = world.guests.get_mut(&asker.vmid) {
        guest.config.insert("template".into(), "1".into());
    }
    Ok(())
}

fn digest_fits(guest: &Guest, digest: Option<&str>, text: &str) -> Result<(), Refusal> {
    match digest.is_some_and(|digest| digest != guest.digest()) {
        true => Err(Refusal::died(text)),
        false => Ok(()),
    }
}

// PVE: qemu-server src/PVE/API2/Qemu.pm resize_vm: since 8 every check is the worker's.
fn resize(call: &mut Call<'_>) -> Result<Value, Refusal> {
    if call.flag("skiplock") && !call.caller.is_root() {
        return Err(Refusal::parameter("skiplock", "Only root may use this option."));
    }
    let asker = asker(call)?;
    let (disk, size) = (call.string("disk"), call.string("size"));
    let (digest, skiplock) = (call.text("digest").map(str::to_owned), call.flag("skiplock"));
    let inner = asker.clone();
    let stage = Stage::now(move |world, key| {
        let grown = grow(world, &inner, &disk, &size, digest.as_deref(), skiplock);
        let lines = grown.map_err(|refusal| refusal.full_text())?;
        world.log_lines(key, lines);
        Ok(())
    });
    let worker = worker("resize", &asker, vec![stage]);
    Ok(call.world.start_worker(worker).into())
}

fn grow(
    world: &mut World,
    asker: &Asker,
    disk: &str,
    size: &str,
    digest: Option<&str>,
    skiplock: bool,
) -> Result<Vec<String>, Refusal> {
    let version = world.version;
    let guest = guest(world, &asker.node, asker.vmid)?;
    digest_fits(guest, digest, "checksum mismatch (file change by other user?)")?;
    if !skiplock {
        check_lock(guest)?;
    }
    let value =
        guest.config.get(disk).ok_or_else(|| Refusal::died(format!("disk '{disk}' does not exist")))?;
    let mut drive =
        Drive::parse(version, disk, value).ok_or_else(|| Refusal::died("unable to parse drive options"))?;
    if drive.is_cdrom() {
        return Err(Refusal::died("you can't resize a cdrom"));
    }
    if drive.storage().is_none() {
        return Err(Refusal::died(format!("disk '{disk}' has no associated volume")));
    }
    let storage = drive.storage().unwrap_or_default().to_owned();
    require(world, &asker.auth_id, &format!("/storage/{storage}"), &[Privilege::DatastoreAllocateSpace])?;
    let now = world.volume(&asker.node, drive.file())?.size;
    let more = size.strip_prefix('+');
    let number =
        Bytes::from_pve_size(more.unwrap_or(size)).map_err(|_| Refusal::died("invalid size string"))?.get();
    let wanted = if more.is_some() { now + number } else { number };
    let wanted = wanted.div_ceil(1024) * 1024;
    if wanted < now {
        return Err(Refusal::died("shrinking disks is not supported"));
    }
    let is_running = guest.is_running();
    let mut lines =
        if wanted == now { Vec::new() } else { world.grow_volume(&asker.node, drive.file(), wanted)? };
    if is_running {
        // QEMU grows its own disk, and `qemu-img` says nothing.
        lines.retain(|line| line != "Image resized.");
    }
    let size = world.volume(&asker.node, drive.file())?.size;
    drive.set("size", Bytes::new(size).to_pve_size());
    let value = drive.print(version);
    guest_mut(world, &asker.node, asker.vmid)?.config.insert(disk.to_owned(), value);
    Ok(lines)
}

// PVE: qemu-server src/PVE/API2/Qemu.pm move_vm_disk
fn move_disk(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let asker = asker(call)?;
    let disk = call.string("disk");
    let target_vmid = call.text("target-vmid").and_then(|text| text.parse::<Vmid>().ok());
    let storage = call.text("storage").map(str::to_owned);
    if target_vmid.is_some() && storage.is_some() {
        let text = "either set 'storage' or 'target-vmid', but not both";
        return Err(Refusal::parameters(
            ["storage", "target-vmid"].map(|name| (name.to_owned(), text.to_owned())),
        ));
    }
    if let Some(target) = target_vmid {
        return reassign(call, &asker, &disk, target);
    }
    let storage = storage.ok_or_else(|| {
        let text = "both 'storage' and 'target-vmid' missing, either needs to be set";
        Refusal::parameters(["storage", "target-vmid"].map(|name| (name.to_owned(), text.to_owned())))
    })?;
    call.require(&format!("/storage/{storage}"), &[Privilege::DatastoreAllocateSpace])?;
    let guest = guest(call.world, &asker.node, asker.vmid)?;
    check_lock(guest)?;
    digest_fits(
        guest,
        call.text("digest"),
        "detected modified configuration - file changed by other user? Try again.",
    )?;
    let drive = movable(call.world, &asker, &disk)?;
    let format = call.text("format").map(str::to_owned);
    let same = drive.storage() == Some(storage.as_str());
    if same && format.as_deref().is_none_or(|format| drive.file().ends_with(&format!(".{format}"))) {
        return Err(Refusal::died("you can't move to the same storage with same format"));
    }
    call.world.enabled_storage(&storage, &asker.node)?;
    // PVE: qemu-server src/PVE/API2/Qemu.pm move_vm_disk, is_volume_in_use
    if call.flag("delete") && is_in_use(call.world, &asker, &disk, drive.file()) {
        return Err(Refusal::died("you can't move a disk with snapshots and delete the source"));
    }
    let takes = call.world.allocation_ms(&asker.node, &storage, 0)
        + disks::copy_ms(call.world, call.world.data_of(&asker.node, drive.file()));
    let (inner, delete) = (asker.clone(), call.flag("delete"));
    let stage = Stage::new(Duration::from_millis(takes), move |world, key| {
        let moved = run_move(world, key, &inner, drive, &storage, format.as_deref(), delete);
        moved.map_err(|refusal| format!("storage migration failed: {}", refusal.full_text()))
    });
    let worker = worker("qmmove", &asker, vec![stage]);
    Ok(call.world.start_worker(worker).into())
}

/// Tells whether another slot of the guest, or a snapshot, names the volume.
// PVE: qemu-server src/PVE/QemuServer/Drive.pm is_volume_in_use: other slots count as well as snapshots.
fn is_in_use(world: &World, asker: &Asker, slot: &str, volume: &str) -> bool {
    let Some(guest) = world.guests.get(&asker.vmid) else { return false };
    let names = |config: &Config, skip: Option<&str>| {
        config.iter().any(|(key, value)| {
            is_slot(key)
                && skip != Some(key.as_str())
                && Drive::parse(world.version, key, value)
                    .is_some_and(|drive| !drive.is_cdrom() && drive.file() == volume)
        })
    };
    names(&guest.config, Some(slot)) || guest.snapshots.values().any(|snapshot| names(&snapshot.config, None))
}

fn movable(world: &World, asker: &Asker, disk: &str) -> Result<Drive, Refusal> {
    let guest = guest(world, &asker.node, asker.vmid)?;
    check_lock(guest)?;
    let value =
        guest.config.get(disk).ok_or_else(|| Refusal::died(format!("disk '{disk}' does not exist")))?;
    let drive = Drive::parse(world.version, disk, value);
    let drive = drive.ok_or_else(|| Refusal::died(format!("disk '{disk}' has no associated volume")))?;
    if drive.is_cdrom() && !drive.is_cloudinit() {
        return Err(Refusal::died("you can't move a cdrom"));
    }
    if drive.storage().is_none() {
        return Err(Refusal::died(format!("disk '{disk}' has no associated volume")));
    }
    Ok(drive)
}

/// Tells whether a snapshot of the guest has the volume.
fn is_in_snapshot(world: &World, vmid: Vmid, volume: &str) -> bool {
    let snapshots = world.guests.get(&vmid).map(|guest| guest.snapshots.values());
    snapshots
        .into_iter()
        .flatten()
        .any(|snapshot| super::drive::uses(world.version, &snapshot.config, volume))
}

fn run_move(
    world: &mut World,
    key: TaskKey,
    asker: &Asker,
    mut drive: Drive,
    storage: &str,
    format: Option<&str>,
    delete: bool,
) -> Result<(), Refusal> {
    let old = drive.file().to_owned();
    let guest_runs = guest(world, &asker.node, asker.vmid)?.is_running();
    if guest_runs && drive.slot == "tpmstate0" {
        return Err(Refusal::died("cannot move TPM state while VM is running"));
    }
    let found = source_volume(world, &asker.node, &old)?;
    let format = target_format(world, storage, format, found.format.as_deref())?;
    if world.version.at_least(9, 0) {
        let from = drive.storage().unwrap_or_default();
        let text =
            format!("copying volume '{old}' from current storage '{from}' to target storage '{storage}'");
        world.log(key, text);
    }
    if is_in_snapshot(world, asker.vmid, &old) {
        world.log(key, "moving disk with snapshots, snapshots will not be moved!");
    }
    world.log(key, format!("create full clone of drive {} ({old})", drive.slot));
    let mut made = MadeDisks::default();
    let copied = copy_in(world, asker, storage, &format, &found, &old, true, &mut made);
    world.log_lines(key, made.output);
    let (volume, size) = copied?;
    drive.set("file", volume);
    drive.set("size", Bytes::new(size).to_pve_size());
    let value = drive.print(world.version);
    let guest = guest_mut(world, &asker.node, asker.vmid)?;
    guest.config.insert(drive.slot.clone(), value);
    let tells = world.version.at_least(9, 0);
    if !delete {
        if let Some(slot) = add_unused(&mut guest_mut(world, &asker.node, asker.vmid)?.config, &old)?
            && tells
        {
            world.log(key, format!("adding source volume '{old}' as '{slot}' to config"));
        }
        return Ok(());
    }
    if tells {
        world.log(key, format!("removing source volume '{old}' after successful copy"));
    }
    match world.free_volume(&asker.node, &old) {
        Ok(lines) => world.log_lines(key, lines),
        Err(text) => {
            world.warn(key, &text);
            add_unused(&mut guest_mut(world, &asker.node, asker.vmid)?.config, &old)?;
        }
    }
    Ok(())
}

/// Gives a disk to another VM.
fn reassign(call: &mut Call<'_>, asker: &Asker, disk: &str, target: Vmid) -> Result<Value, Refusal> {
    let target_disk = call.text("target-disk").unwrap_or(disk).to_owned();
    call.require(&format!("/vms/{target}"), &[Privilege::VmConfigDisk])?;
    if asker.vmid == target {
        return Err(Refusal::died("must be different than source VMID to reassign disk").into_target());
    }
    if !call.world.guests.contains_key(&target) {
        return Err(Refusal::died(format!("could not find target VM {target}")));
    }
    let source = guest(call.world, &asker.node, asker.vmid)?;
    let stale = "detected modified configuration - file changed by other user? Try again.";
    digest_fits(source, call.text("digest"), stale)?;
    check_lock(source)?;
    let value = source
        .config
        .get(disk)
        .ok_or_else(|| Refusal::died(format!("Disk '{disk}' for VM {} does not exist", asker.vmid)))?;
    let volume = value.split(',').next().unwrap_or_default().to_owned();
    if source.is_template() {
        return Err(Refusal::died("can't move disks of a template"));
    }
    if source.is_running() && !is_unused(disk) {
        return Err(Refusal::died(
            "Cannot move disk to another VM while the source VM is running - detach first",
        ));
    }
    if value.contains("media=cdrom") {
        return Err(Refusal::died("you can't move a cdrom to another VM").into_target());
    }
    if is_in_use(call.world, asker, disk, &volume) {
        return Err(Refusal::died("Can't move disk used by a snapshot to another VM"));
    }
    if world_drive_owner(call.world, &volume) != Some(asker.vmid) {
        return Err(Refusal::died(format!("disk '{disk}' is not owned by VM {}", asker.vmid)));
    }
    let target_guest = guest(call.world, &asker.node, target)?;
    digest_fits(target_guest, call.text("target-digest"), stale)?;
    check_lock(target_guest)?;
    if target_guest.config.contains_key(&target_disk) {
        let text = format!("Target disk key '{target_disk}' is already in use for VM '{target}'");
        return Err(Refusal::died(text));
    }
    let (inner, disk) = (asker.clone(), disk.to_owned());
    let id = format!("{}-{disk}>{target}-{target_disk}", asker.vmid);
    let stage = Stage::now(move |world, key| {
        let from = inner.vmid;
        let text = format!("reassign disk '{disk}' from VM '{from}' as '{target_disk}' to VM '{target}'");
        world.log(key, text);
        run_reassign(world, key, &inner, &disk, target, &target_disk).map_err(|refusal| refusal.full_text())
    });
    let worker = Worker { id, ..worker("qmmove", asker, vec![stage]) };
    Ok(call.world.start_worker(worker).into())
}

fn world_drive_owner(world: &World, volume: &str) -> Option<Vmid> {
    super::drive::owner(world, volume)
}

fn run_reassign(
    world: &mut World,
    key: TaskKey,
    asker: &Asker,
    disk: &str,
    target: Vmid,
    target_disk: &str,
) -> Result<(), Refusal> {
    let source = guest(world, &asker.node, asker.vmid)?;
    let value = source
        .config
        .get(disk)
        .cloned()
        .ok_or_else(|| Refusal::died(format!("disk '{disk}' does not exist")))?;
    let (volume, options) =
        value.split_once(',').map_or((value.as_str(), ""), |(volume, rest)| (volume, rest));
    let new = world.reassign_volume(&asker.node, volume, target)?;
    let mut said = String::new();
    if is_slot(target_disk) || is_unused(target_disk) {
        let options =
            if is_unused(target_disk) || options.is_empty() { String::new() } else { format!(",{options}") };
        let value = format!("{new}{options}");
        // An unused volume is written down without a change of the configuration.
        if !is_unused(target_disk) {
            said = format!("update VM {target}: -{target_disk} {value}");
        }
        guest_mut(world, &asker.node, target)?.config.insert(target_disk.to_owned(), value);
    }
    let source = guest_mut(world, &asker.node, asker.vmid)?;
    source.config.remove(disk);
    let order = source.config.get("boot").and_then(|boot| boot.strip_prefix("order=")).map(str::to_owned);
    let order = order.filter(|order| order.split(';').any(|device| device == disk));
    if let Some(order) = &order {
        let left: Vec<&str> = order.split(';').filter(|device| *device != disk).collect();
        let value = if left.is_empty() { " ".into() } else { format!("order={}", left.join(";")) };
        source.config.insert("boot".into(), value);
        world.log(key, format!("removing disk '{disk}' from boot order config"));
    }
    world.log(key, format!("removing disk '{disk}' from VM '{}' config", asker.vmid));
    if !said.is_empty() {
        world.log(key, said);
    }
    Ok(())
}

impl Refusal {
    /// The same, said of the parameter `target-vmid`.
    fn into_target(self) -> Self {
        Self::parameter("target-vmid", self.message)
    }
}
