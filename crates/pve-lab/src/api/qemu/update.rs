//! Changing a VM's configuration: `PUT` and `POST …/config`, which `qm set` is as well.

use std::collections::BTreeSet;
use std::time::Duration;

use pve_types::{Privilege, Vmid};
use rand::Rng as _;
use serde_json::Value;

use super::allowed::Asker;
use super::config::{check_lock, guest, guest_mut};
use super::disks::{self, MadeDisks};
use super::drive::{Drive, add_unused, is_slot, is_unused, owner};
use super::{nets, settings};
use crate::api::{Call, Methods, Refusal, Reply};
use crate::schema::{split_list, table};
use crate::world::{Config, Stage, Worker, World, made_up_uuid};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("PUT", "/nodes/{node}/qemu/{vmid}/config", put),
    ("POST", "/nodes/{node}/qemu/{vmid}/config", post),
    ("PUT", "/nodes/{node}/qemu/{vmid}/unlink", unlink),
];

/// A verified change.
#[derive(Debug, Clone)]
struct Change {
    asker: Asker,
    set: Config,
    /// The options as they were given, for the log.
    given: Config,
    delete: Vec<String>,
    revert: Vec<String>,
    force: bool,
    skiplock: bool,
    digest: Option<String>,
}

const NOT_CONFIG: &[&str] = &[
    "node",
    "vmid",
    "delete",
    "revert",
    "force",
    "digest",
    "skiplock",
    "background_delay",
    "import-working-storage",
];

fn put(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let change = verify(call)?;
    if call.world.tasks.lock_is_held(change.asker.vmid) {
        return Err(Refusal::guest_lock_is_busy(change.asker.vmid));
    }
    let takes = disks::duration_ms(call.world, &change.asker.node, &change.set);
    if takes > 0 {
        precheck(call.world, &change)?;
        let (vmid, takes) = (change.asker.vmid, Duration::from_millis(takes));
        call.later = Some(call.world.change_later(vmid, takes, move |world| applied(world, &change)));
        return Ok(Value::Null);
    }
    let Reply { output, .. } = applied(call.world, &change).map_err(|mut refusal| {
        call.output.append(&mut refusal.output);
        refusal
    })?;
    call.output.extend(output);
    Ok(Value::Null)
}

fn applied(world: &mut World, change: &Change) -> Result<Reply, Refusal> {
    let mut output = Vec::new();
    match apply(world, change, &mut output) {
        Ok(()) => Ok(Reply { output, ..Reply::default() }),
        Err(refusal) => Err(Refusal { output, ..refusal }),
    }
}

fn post(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let change = verify(call)?;
    let (node, vmid) = (change.asker.node.clone(), change.asker.vmid);
    precheck(call.world, &change)?;
    let takes = disks::duration_ms(call.world, &node, &change.set);
    let worker = Worker {
        node,
        kind: "qmconfig",
        id: vmid.to_string(),
        owner: change.asker.auth_id.clone(),
        lock: Some((vmid, Duration::from_secs(10))),
        stages: vec![Stage::new(Duration::from_millis(takes), move |world, key| {
            let mut output = Vec::new();
            let result = apply(world, &change, &mut output);
            world.log_lines(key, output);
            result.map_err(|refusal| refusal.full_text())
        })],
        on_failure: None,
        error_prefix: String::new(),
    };
    Ok(call.world.start_worker(worker).into())
}

fn unlink(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let ids = call.string("idlist");
    call.params.remove("idlist");
    call.params.insert("delete".into(), ids.into());
    put(call)
}

/// The checks that come before anything is changed.
// PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api
fn verify(call: &mut Call<'_>) -> Result<Change, Refusal> {
    let (node, vmid) = (call.node(), call.vmid()?);
    if call.flag("skiplock") && !call.caller.is_root() {
        return Err(Refusal::parameter("skiplock", "Only root may use this option."));
    }
    settings::check_ssh_keys(call)?;
    let mut set = settings::given(call, NOT_CONFIG);
    settings::resolve_cdrom(&mut set);
    let given = set.clone();
    let list = |name: &str| -> Vec<String> {
        call.list(name)
            .into_iter()
            .map(|option| if option == "cdrom" { "ide2".to_owned() } else { option })
            .collect()
    };
    let (delete, revert) = (list("delete"), list("revert"));
    if set.is_empty() && delete.is_empty() && revert.is_empty() {
        return Err(Refusal::died("no options specified"));
    }
    let known = |option: &str| {
        table(call.world.version).vm_config().get(option).is_some() && option != "vmid" && option != "node"
    };
    for option in &revert {
        if !known(option) {
            return Err(Refusal::parameter("revert", format!("unknown option '{option}'")));
        }
        if set.contains_key(option) {
            let text = format!("you can't use '-{option}' and -revert {option}' at the same time");
            return Err(Refusal::parameter("delete", text));
        }
    }
    for option in &delete {
        if set.contains_key(option) {
            let text = format!("you can't use '-{option}' and -delete {option}' at the same time");
            return Err(Refusal::parameter("delete", text));
        }
        if revert.contains(option) {
            let text = format!("you can't use '-{option}' and '-revert {option}' at the same time");
            return Err(Refusal::parameter("revert", text));
        }
        if !known(option) {
            return Err(Refusal::parameter("delete", format!("unknown option '{option}'")));
        }
    }
    let asker = Asker { auth_id: call.caller.auth_id().to_owned(), node, vmid, pool: None };
    for (option, value) in &mut set {
        let version = call.world.version;
        if is_slot(option) {
            let drive = Drive::parse(version, option, value);
            let drive = drive.ok_or_else(|| Refusal::parameter(option, "unable to parse drive options"))?;
            *value = cleaned(call.world, drive).print(version);
        } else if settings::is_net(option) {
            let complete = nets::complete(call.world, value);
            *value = complete.ok_or_else(|| Refusal::parameter(option, "unable to parse network options"))?;
        } else if option == "vmgenid" && value == "1" {
            *value = made_up_uuid(&mut call.world.random);
        }
    }
    asker.may_change(call.world, delete.iter().map(String::as_str))?;
    asker.may_change(call.world, set.keys().map(String::as_str))?;
    asker.may_use_storages(call.world, &set, None)?;
    asker.may_use_bridges(call.world, &set)?;
    Ok(Change {
        asker,
        set,
        given,
        delete,
        revert,
        force: call.flag("force"),
        skiplock: call.flag("skiplock"),
        digest: call.text("digest").map(str::to_owned),
    })
}

/// A path that is a volume's is written as the volume.
fn cleaned(world: &World, mut drive: Drive) -> Drive {
    let file = drive.file().to_owned();
    if file.starts_with('/') {
        let found = world.storages.values().find_map(|def| {
            let base = def.path()?;
            let rest = file.strip_prefix(&format!("{base}/"))?;
            match rest.strip_prefix("images/") {
                Some(name) => Some(format!("{}:{name}", def.id)),
                None => rest.strip_prefix("template/iso/").map(|name| format!("{}:iso/{name}", def.id)),
            }
        });
        if let Some(volume) = found {
            drive.set("file", volume);
        }
    }
    drive
}

fn precheck(world: &World, change: &Change) -> Result<(), Refusal> {
    let guest = guest(world, &change.asker.node, change.asker.vmid)?;
    if change.digest.as_ref().is_some_and(|digest| *digest != guest.digest()) {
        return Err(Refusal::died("checksum mismatch (file change by other user?)"));
    }
    match change.skiplock {
        true => Ok(()),
        false => check_lock(guest),
    }
}

fn apply(world: &mut World, change: &Change, output: &mut Vec<String>) -> Result<(), Refusal> {
    precheck(world, change)?;
    let (node, vmid) = (change.asker.node.as_str(), change.asker.vmid);
    let version = world.version;
    if change.set.contains_key("memory") || change.set.contains_key("balloon") {
        let mut effective = super::config::with_pending(guest(world, node, vmid)?);
        effective.extend(change.set.iter().map(|(key, value)| (key.clone(), value.clone())));
        settings::check_balloon(&effective)?;
    }
    output.push(update_line(change));
    let guest_before = guest_mut(world, node, vmid)?;
    for option in &change.revert {
        guest_before.pending.set.remove(option);
        guest_before.pending.delete.remove(option);
    }
    let mut modified: BTreeSet<String> = BTreeSet::new();
    for option in &change.delete {
        delete_one(world, change, option, output)?;
        modified.insert(option.clone());
    }
    let mut set = change.set.clone();
    settings::normalise(version, &mut set);
    for (option, value) in &set {
        set_one(world, change, &set, option, value, output)?;
        modified.insert(option.clone());
    }
    let guest = guest_mut(world, node, vmid)?;
    guest.pending.set.retain(|option, value| guest.config.get(option) != Some(value));
    let running = guest.is_running();
    put_in_force(world, &change.asker, !running, output)
}

/// `update VM 100: -cores 2 …`, as the log has it.
fn update_line(change: &Change) -> String {
    let mut words: Vec<(String, String)> =
        change.given.iter().map(|(option, value)| (option.clone(), value.clone())).collect();
    if !change.delete.is_empty() {
        words.push(("delete".into(), change.delete.join(",")));
    }
    if !change.revert.is_empty() {
        words.push(("revert".into(), change.revert.join(",")));
    }
    if change.force {
        words.push(("force".into(), "1".into()));
    }
    words.sort();
    let shown = words.iter().map(|(option, value)| match option.as_str() {
        "cipassword" => "-cipassword <hidden>".to_owned(),
        _ => format!("-{option} {value}"),
    });
    format!("update VM {}: {}", change.asker.vmid, shown.collect::<Vec<_>>().join(" "))
}

fn boot_order(config: &Config) -> Option<Vec<String>> {
    let boot = config.get("boot")?.strip_prefix("order=")?;
    Some(boot.split(';').filter(|device| !device.is_empty()).map(str::to_owned).collect())
}

fn remove_from_boot(config: &Config, pending: &mut Config, option: &str) {
    let now = boot_order(pending).or_else(|| boot_order(config));
    if let Some(mut order) = now.filter(|order| order.iter().any(|device| device == option)) {
        order.retain(|device| device != option);
        pending.insert(
            "boot".into(),
            if order.is_empty() { " ".into() } else { format!("order={}", order.join(";")) },
        );
    }
}

fn is_protected(config: &Config) -> bool {
    config.get("protection").is_some_and(|value| value == "1")
}

fn delete_one(
    world: &mut World,
    change: &Change,
    option: &str,
    output: &mut Vec<String>,
) -> Result<(), Refusal> {
    let (node, vmid) = (change.asker.node.clone(), change.asker.vmid);
    let version = world.version;
    let guest = guest(world, &node, vmid)?;
    let pending_value = guest.pending.set.get(option).cloned();
    let Some(value) = guest.config.get(option).cloned().or(pending_value.clone()) else {
        output.push(format!("cannot delete '{option}' - not set in current configuration!"));
        return Ok(());
    };
    let protected = is_protected(&guest.config);
    if is_unused(option) {
        let volume = value.split(',').next().unwrap_or_default().to_owned();
        if protected {
            let text = format!("can't remove unused disk '{volume}' - protection mode enabled");
            return Err(Refusal::died(text));
        }
        change.asker.require(world, &[Privilege::VmConfigDisk])?;
        deallocate(world, &change.asker, &volume, output)?;
        guest_mut(world, &node, vmid)?.config.remove(option);
        return Ok(());
    }
    if is_slot(option) {
        if protected {
            return Err(Refusal::died(format!("can't remove drive '{option}' - protection mode enabled")));
        }
        if let Some(drive) = Drive::parse(version, option, &value) {
            may_change_drive(world, &change.asker, &drive)?;
        }
        if let Some(drive) = pending_value.and_then(|value| Drive::parse(version, option, &value)) {
            keep_or_free(world, &change.asker, &drive, output)?;
        }
    } else {
        let one: Config = [(option.to_owned(), value)].into();
        change.asker.may_have_devices(world, &one, "delete")?;
    }
    let guest = guest_mut(world, &node, vmid)?;
    guest.pending.set.remove(option);
    remove_from_boot(&guest.config, &mut guest.pending.set, option);
    guest.pending.delete.insert(option.to_owned(), change.force);
    Ok(())
}

fn may_change_drive(world: &World, asker: &Asker, drive: &Drive) -> Result<(), Refusal> {
    if drive.is_cloudinit() {
        asker.require(world, &[Privilege::VmConfigCloudinit, Privilege::VmConfigCdrom])
    } else if drive.is_cdrom() {
        asker.require(world, &[Privilege::VmConfigCdrom])
    } else {
        asker.require(world, &[Privilege::VmConfigDisk])
    }
}

fn set_one(
    world: &mut World,
    change: &Change,
    set: &Config,
    option: &str,
    value: &str,
    output: &mut Vec<String>,
) -> Result<(), Refusal> {
    let (node, vmid) = (change.asker.node.clone(), change.asker.vmid);
    let version = world.version;
    let current = guest(world, &node, vmid)?;
    if current.pending.set.get(option).is_some_and(|pending| pending == value) {
        return Ok(());
    }
    let mut stored = value.to_owned();
    if is_slot(option) {
        let unreadable = || Refusal::parameter(option, "unable to parse drive options");
        let drive = Drive::parse(version, option, value).ok_or_else(unreadable)?;
        may_change_drive(world, &change.asker, &drive)?;
        let old_pending =
            current.pending.set.get(option).and_then(|value| Drive::parse(version, option, value));
        if let Some(old) = old_pending.filter(|old| old.file() != drive.file()) {
            keep_or_free(world, &change.asker, &old, output)?;
        }
        let existing = super::config::with_pending(guest(world, &node, vmid)?);
        let mut made = MadeDisks::default();
        let one: Config = [(option.to_owned(), value.to_owned())].into();
        let done = disks::make(world, &change.asker, &existing, &one, None, &mut made);
        output.append(&mut made.output);
        done?;
        stored = made.values.remove(option).unwrap_or_default();
        let is_plain_cdrom = drive.is_cdrom() && !drive.is_cloudinit();
        let guest = guest_mut(world, &node, vmid)?;
        let order = boot_order(&guest.pending.set).or_else(|| boot_order(&guest.config));
        if let Some(mut order) =
            order.filter(|order| is_plain_cdrom && !order.iter().any(|device| device == option))
        {
            order.push(option.to_owned());
            guest.pending.set.insert("boot".into(), format!("order={}", order.join(";")));
        }
    } else if option == "boot" {
        check_boot(current.config.keys().chain(current.pending.set.keys()).chain(set.keys()), change, value)?;
    } else if option == "cipassword" {
        let is_windows = current.config.get("ostype").is_some_and(|ostype| ostype.starts_with('w'));
        let random = world.random.next_u64();
        let hashed = settings::hashed_password(value, is_windows, random);
        guest_mut(world, &node, vmid)?.config.insert("cipassword".into(), hashed);
        return Ok(());
    } else {
        let one: Config = [(option.to_owned(), value.to_owned())].into();
        change.asker.may_have_devices(world, &one, "set")?;
    }
    let guest = guest_mut(world, &node, vmid)?;
    guest.pending.set.insert(option.to_owned(), stored);
    guest.pending.delete.remove(option);
    Ok(())
}

fn check_boot<'a>(
    mut known: impl Iterator<Item = &'a String> + Clone,
    change: &Change,
    value: &str,
) -> Result<(), Refusal> {
    let Some(order) = value.split(',').find_map(|part| part.strip_prefix("order=")) else { return Ok(()) };
    for device in split_list(order) {
        let exists = known.clone().any(|option| option == device)
            && !change.delete.iter().any(|option| option == device);
        if !exists {
            // PVE: qemu-server src/PVE/API2/Qemu.pm: the quote at the end is PVE's own.
            return Err(Refusal::died(format!("invalid bootorder: device '{device}' does not exist'")));
        }
    }
    let _ = known.next();
    Ok(())
}

/// Keeps a drive's volume as unused, or frees a cloud-init drive's.
// PVE: qemu-server src/PVE/QemuServer.pm vmconfig_register_unused_drive
fn keep_or_free(
    world: &mut World,
    asker: &Asker,
    drive: &Drive,
    output: &mut Vec<String>,
) -> Result<(), Refusal> {
    let file = drive.file().to_owned();
    if drive.is_cloudinit() {
        match world.free_volume(&asker.node, &file) {
            Ok(lines) => output.extend(lines),
            Err(text) => output.push(text),
        }
    } else if !drive.is_cdrom() && owner(world, &file) == Some(asker.vmid) {
        let guest = guest_mut(world, &asker.node, asker.vmid)?;
        add_unused(&mut guest.config, &file)?;
    }
    Ok(())
}

fn deallocate(
    world: &mut World,
    asker: &Asker,
    volume: &str,
    output: &mut Vec<String>,
) -> Result<(), Refusal> {
    if owner(world, volume) != Some(asker.vmid) {
        return Ok(());
    }
    let storage = volume.split(':').next().unwrap_or_default();
    crate::api::rights::require(
        world,
        &asker.auth_id,
        &format!("/storage/{storage}"),
        &[Privilege::DatastoreAllocateSpace],
    )?;
    if in_snapshot(world, asker.vmid, volume) {
        return Err(Refusal::died(format!("volume '{volume}' is still in use (snapshot?)")));
    }
    output.extend(world.free_volume(&asker.node, volume)?);
    Ok(())
}

fn in_snapshot(world: &World, vmid: Vmid, volume: &str) -> bool {
    let snapshots = world.guests.get(&vmid).map(|guest| &guest.snapshots);
    snapshots
        .into_iter()
        .flatten()
        .any(|(_, snapshot)| super::drive::uses(world.version, &snapshot.config, volume))
}

/// Puts what is pending in force: all of it for a stopped VM, what can be changed at once for a running one.
// PVE: qemu-server src/PVE/QemuServer.pm vmconfig_apply_pending, vmconfig_hotplug_pending
pub fn put_in_force(
    world: &mut World,
    asker: &Asker,
    everything: bool,
    output: &mut Vec<String>,
) -> Result<(), Refusal> {
    let (node, vmid) = (asker.node.clone(), asker.vmid);
    let version = world.version;
    let pending = guest(world, &node, vmid)?.pending.clone();
    let config = guest(world, &node, vmid)?.config.clone();
    let mut makes_cloudinit = false;
    for (option, force) in &pending.delete {
        if !everything && !applies_at_once(&config, option, None) {
            continue;
        }
        if let Some(drive) = config
            .get(option)
            .filter(|_| is_slot(option))
            .and_then(|value| Drive::parse(version, option, value))
        {
            if *force && !drive.is_cdrom() {
                deallocate(world, asker, drive.file(), output)?;
            } else {
                keep_or_free(world, asker, &drive, output)?;
            }
        }
        let guest = guest_mut(world, &node, vmid)?;
        guest.config.remove(option);
        guest.pending.delete.remove(option);
    }
    for (option, value) in &pending.set {
        if !everything && !applies_at_once(&config, option, Some(value)) {
            continue;
        }
        let new = is_slot(option).then(|| Drive::parse(version, option, value)).flatten();
        if let Some(new) = &new {
            let old = config.get(option).and_then(|value| Drive::parse(version, option, value));
            if let Some(old) = old.filter(|old| old.file() != new.file()) {
                keep_or_free(world, asker, &old, output)?;
            }
            makes_cloudinit |= new.is_cloudinit();
        }
        let guest = guest_mut(world, &node, vmid)?;
        guest.config.insert(option.clone(), value.clone());
        guest.pending.set.remove(option);
        if let Some(new) = &new {
            // A volume that is in use again is unused no longer.
            guest.config.retain(|key, value| !(is_unused(key) && value == new.file()));
        }
        if option == "boot" {
            guest.config.remove("bootdisk");
        }
    }
    if makes_cloudinit && everything {
        super::cloudinit::generate(world, &node, vmid, output);
    }
    world.touch();
    Ok(())
}

/// Options that a running VM takes on at once.
fn applies_at_once(config: &Config, option: &str, value: Option<&str>) -> bool {
    const FAST: &[&str] = &[
        "autostart",
        "boot",
        "bootdisk",
        "cpulimit",
        "cpuunits",
        "description",
        "hookscript",
        "hotplug",
        "lock",
        "migrate_downtime",
        "migrate_speed",
        "name",
        "onboot",
        "protection",
        "shares",
        "startup",
        "tags",
        "vmstatestorage",
    ];
    if option == "boot" || option == "bootdisk" {
        return false;
    }
    if FAST.contains(&option) || settings::is_cloudinit(option) || is_unused(option) {
        return true;
    }
    let hotplug = config.get("hotplug").map_or("network,disk,usb", |text| match text.as_str() {
        "1" => "network,disk,usb",
        other => other,
    });
    let plugs = |what: &str| split_list(hotplug).any(|item| item == what);
    let base = option.trim_end_matches(|c: char| c.is_ascii_digit());
    match base {
        "balloon" => config.get("balloon").is_none_or(|now| now != "0") && value != Some("0"),
        "net" => plugs("network"),
        "usb" => plugs("usb"),
        "scsi" | "virtio" => plugs("disk"),
        "ide" | "sata" => {
            let is_cdrom = |text: &str| text.contains("media=cdrom");
            value.is_some_and(is_cdrom) && config.get(option).is_some_and(|now| is_cdrom(now))
        }
        "vcpus" => plugs("cpu"),
        "memory" => plugs("memory") && config.get("numa").is_some_and(|numa| numa == "1"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &[(&str, &str)], option: &str, value: Option<&str>, expect: bool) {
        let config: Config = config.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        assert_eq!(applies_at_once(&config, option, value), expect, "{option}");
    }

    #[test]
    fn a_running_vm_takes_on_what_can_be_plugged() {
        check(&[], "cores", Some("4"), false);
        check(&[], "name", Some("x"), true);
        check(&[], "net1", Some("virtio"), true);
        check(&[("hotplug", "disk")], "net1", Some("virtio"), false);
        check(&[], "scsi1", Some("a:vm-100-disk-1"), true);
        check(&[], "sata1", Some("a:vm-100-disk-1"), false);
        check(&[], "memory", Some("4096"), false);
        check(&[("hotplug", "memory"), ("numa", "1")], "memory", Some("4096"), true);
        check(&[], "ciuser", Some("a"), true);
    }
}
