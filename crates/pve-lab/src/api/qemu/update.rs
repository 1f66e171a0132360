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
use super::hotplug::{self, Plug};
use super::{nets, settings};
use crate::api::{Call, Methods, Refusal, Reply};
use crate::schema::{split_list, table};
use crate::world::{Config, Guest, Stage, Worker, World, made_up_uuid};

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
    /// What was asked, as the log has it.
    line: String,
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
    settings::check_cpu_model(call)?;
    let (node, vmid) = (call.node(), call.vmid()?);
    if call.flag("skiplock") && !call.caller.is_root() {
        return Err(Refusal::parameter("skiplock", "Only root may use this option."));
    }
    let line = update_line(call, vmid);
    settings::check_ssh_keys(call)?;
    let mut set = settings::given(call, NOT_CONFIG);
    settings::resolve_cdrom(&mut set);
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
            let text = format!("you can't use '-delete {option}' and -revert {option}' at the same time");
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
            *value = cleaned(call.world, drive)?.print(version);
        } else if settings::is_net(option) {
            let complete = nets::complete(call.world, value);
            *value = complete.ok_or_else(|| Refusal::parameter(option, "unable to parse network options"))?;
        } else if option == "vmgenid" && value == "1" {
            *value = made_up_uuid(&mut call.world.random);
        }
    }
    settings::check_hook_script(call.world, &asker.node, &set)?;
    asker.may_change(call.world, delete.iter().map(String::as_str))?;
    asker.may_change(call.world, set.keys().map(String::as_str))?;
    asker.may_use_storages(call.world, &set, None)?;
    asker.may_use_bridges(call.world, &set)?;
    Ok(Change {
        asker,
        set,
        line,
        delete,
        revert,
        force: call.flag("force"),
        skiplock: call.flag("skiplock"),
        digest: call.text("digest").map(str::to_owned),
    })
}

/// A path that is a volume's is written as the volume; any other path must be a device's.
// PVE: qemu-server src/PVE/QemuServer.pm cleanup_drive_path
fn cleaned(world: &World, mut drive: Drive) -> Result<Drive, Refusal> {
    let file = drive.file().to_owned();
    if matches!(file.as_str(), "none" | "cdrom") {
        drive.set("media", "cdrom");
    } else if file.starts_with('/') && !file.starts_with("/dev/") {
        let found = world.storages.values().find_map(|def| {
            let base = def.path()?;
            let rest = file.strip_prefix(&format!("{base}/"))?;
            match rest.strip_prefix("images/") {
                Some(name) => Some((format!("{}:{name}", def.id), false)),
                None => {
                    rest.strip_prefix("template/iso/").map(|name| (format!("{}:iso/{name}", def.id), true))
                }
            }
        });
        let unknown =
            || Refusal::parameter(&drive.slot, format!("unable to associate path '{file}' to any storage"));
        let (volume, is_iso) = found.ok_or_else(unknown)?;
        if is_iso && drive.option("media").is_none() {
            drive.set("media", "cdrom");
        }
        drive.set("file", volume);
    }
    Ok(drive)
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

// PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api: every option is written as pending by itself, so that what fails
// leaves what came before it.
fn apply(world: &mut World, change: &Change, output: &mut Vec<String>) -> Result<(), Refusal> {
    precheck(world, change)?;
    let (node, vmid) = (change.asker.node.as_str(), change.asker.vmid);
    let current = guest(world, node, vmid)?;
    let (mut set, mut delete) = (change.set.clone(), change.delete.clone());
    for option in &change.revert {
        match current.config.get(option) {
            Some(value) => drop(set.insert(option.clone(), value.clone())),
            None if current.pending.set.contains_key(option) => delete.push(option.clone()),
            None => {}
        }
    }
    if set.contains_key("memory") || set.contains_key("balloon") {
        let mut effective = super::config::with_pending(current);
        effective.extend(set.iter().map(|(key, value)| (key.clone(), value.clone())));
        settings::check_balloon(&effective)?;
    }
    output.push(change.line.clone());
    let mut update = Update {
        change,
        order: boot_order(&current.config),
        modified: delete.iter().chain(set.keys()).cloned().collect(),
    };
    for option in &delete {
        update.delete(world, option, output)?;
    }
    settings::normalise(world.version, &mut set);
    // PVE takes them in no fixed order; that of the boot order before the drives is the one that loses most.
    let boot_first = |(option, _): &(&String, &String)| *option != "boot";
    let mut options: Vec<(&String, &String)> = set.iter().collect();
    options.sort_by_key(boot_first);
    for (option, value) in options {
        update.set(world, &set, option, value, output)?;
    }
    let modified = update.modified;
    cleanup_pending(guest_mut(world, node, vmid)?);
    tidy_unused(world, &change.asker)?;
    let current = guest(world, node, vmid)?;
    if current.pending.is_empty() {
        return Ok(());
    }
    if current.is_running() {
        return put_in_force_running(world, &change.asker, &modified, output);
    }
    put_in_force(world, &change.asker, output)
}

/// Drops what is pending and changes nothing.
// PVE: pve-guest-common src/PVE/AbstractConfig.pm cleanup_pending
fn cleanup_pending(guest: &mut Guest) {
    guest.pending.set.retain(|option, value| guest.config.get(option) != Some(value));
    guest.pending.delete.retain(|option, _| guest.config.contains_key(option));
}

/// `update VM 100: -cores 2 …`, as the log has it.
fn update_line(call: &Call<'_>, vmid: Vmid) -> String {
    const UNSAID: &[&str] = &["node", "vmid", "digest", "background_delay", "import-working-storage"];
    let said = call.params.iter().filter(|(option, _)| !UNSAID.contains(&option.as_str()));
    let words = said.filter_map(|(option, value)| {
        let shown = if option == "cipassword" { "<hidden>" } else { value.as_str()? };
        Some(format!("-{option} {shown}"))
    });
    format!("update VM {vmid}: {}", words.collect::<Vec<_>>().join(" "))
}

fn boot_order(config: &Config) -> Option<Vec<String>> {
    let boot = config.get("boot")?.strip_prefix("order=")?;
    Some(boot.split(';').filter(|device| !device.is_empty()).map(str::to_owned).collect())
}

fn printed_order(order: &[String]) -> String {
    if order.is_empty() { " ".into() } else { format!("order={}", order.join(";")) }
}

fn is_protected(config: &Config) -> bool {
    config.get("protection").is_some_and(|value| value == "1")
}

/// A change on its way into what is pending.
struct Update<'a> {
    change: &'a Change,
    /// The boot order in force, with what this change does to it; what is pending of it is not looked at.
    order: Option<Vec<String>>,
    /// The options that a running guest is to take on.
    modified: BTreeSet<String>,
}

impl Update<'_> {
    fn asker(&self) -> &Asker {
        &self.change.asker
    }

    fn note_order(&mut self, guest: &mut Guest) {
        if let Some(order) = &self.order {
            guest.pending.set.insert("boot".into(), printed_order(order));
            self.modified.insert("boot".into());
        }
    }

    fn delete(&mut self, world: &mut World, option: &str, output: &mut Vec<String>) -> Result<(), Refusal> {
        let (node, vmid) = (self.asker().node.clone(), self.asker().vmid);
        let current = guest(world, &node, vmid)?;
        let pending = current.pending.set.get(option).cloned();
        let Some(value) = current.config.get(option).cloned().or_else(|| pending.clone()) else {
            output.push(format!("cannot delete '{option}' - not set in current configuration!"));
            self.modified.remove(option);
            return Ok(());
        };
        let in_force = current.config.get(option).cloned();
        let protected = is_protected(&current.config);
        if is_unused(option) {
            let volume = value.split(',').next().unwrap_or_default().to_owned();
            if protected {
                let text = format!("can't remove unused disk '{volume}' - protection mode enabled");
                return Err(Refusal::died(text));
            }
            self.asker().require(world, &[Privilege::VmConfigDisk])?;
            deallocate(world, self.asker(), option, &volume, output)?;
            guest_mut(world, &node, vmid)?.config.remove(option);
            return Ok(());
        }
        if is_slot(option) {
            self.may_delete_drive(world, option, &value, protected)?;
            if let Some(drive) = pending.and_then(|value| Drive::parse(world.version, option, &value)) {
                keep_or_free(world, self.asker(), &drive, output)?;
            }
        } else if settings::is_net(option) {
            if let Some(now) = in_force {
                self.asker().may_use_bridges(world, &[(option.to_owned(), now)].into())?;
            }
        } else {
            self.asker().may_have_devices(world, &[(option.to_owned(), value)].into(), "delete")?;
        }
        let in_order = self.order.as_ref().is_some_and(|order| order.iter().any(|device| device == option));
        if let Some(order) = self.order.as_mut().filter(|_| in_order) {
            order.retain(|device| device != option);
        }
        let guest = guest_mut(world, &node, vmid)?;
        guest.pending.set.remove(option);
        if in_order {
            self.note_order(guest);
        }
        if option == "tags" {
            guest.config.remove(option);
        } else {
            guest.pending.delete.insert(option.to_owned(), self.change.force);
        }
        Ok(())
    }

    fn may_delete_drive(
        &self,
        world: &World,
        slot: &str,
        value: &str,
        protected: bool,
    ) -> Result<(), Refusal> {
        if protected {
            return Err(Refusal::died(format!("can't remove drive '{slot}' - protection mode enabled")));
        }
        match Drive::parse(world.version, slot, value) {
            Some(drive) => may_change_drive(world, self.asker(), &drive),
            None => Ok(()),
        }
    }

    fn set(
        &mut self,
        world: &mut World,
        set: &Config,
        option: &str,
        value: &str,
        output: &mut Vec<String>,
    ) -> Result<(), Refusal> {
        let (node, vmid) = (self.asker().node.clone(), self.asker().vmid);
        let current = guest(world, &node, vmid)?;
        if current.pending.set.get(option).is_some_and(|pending| pending == value) {
            return Ok(());
        }
        settings::check_stored(world.version, option, value)?;
        let now = current.config.get(option).cloned();
        let mut stored = value.to_owned();
        if is_slot(option) {
            stored = self.set_drive(world, option, value, now.as_deref(), output)?;
        } else if option == "boot" {
            check_boot(
                current.config.keys().chain(current.pending.set.keys()).chain(set.keys()),
                self.change,
                value,
            )?;
            // PVE: qemu-server src/PVE/QemuServer.pm print_bootorder: the order is all that is kept.
            if let Some(order) = value.split(',').find(|part| part.starts_with("order=")) {
                stored = order.to_owned();
            }
            let drops_old = value.contains("order=") && current.config.contains_key("bootdisk");
            if drops_old {
                guest_mut(world, &node, vmid)?.pending.delete.insert("bootdisk".into(), false);
            }
        } else if option == "cipassword" {
            let is_windows = current.config.get("ostype").is_some_and(|ostype| ostype.starts_with('w'));
            let random = world.random.next_u64();
            let hashed = settings::hashed_password(value, is_windows, random);
            guest_mut(world, &node, vmid)?.config.insert("cipassword".into(), hashed);
            return Ok(());
        } else if settings::is_net(option) {
            if let Some(now) = now {
                self.asker().may_use_bridges(world, &[(option.to_owned(), now)].into())?;
            }
        } else {
            if option == "machine" {
                settings::check_machine(value)?;
            }
            if option == "ostype" && !set.contains_key("machine") {
                pin_machine(world, &node, vmid, value)?;
            }
            self.asker().may_have_devices(world, &[(option.to_owned(), value.to_owned())].into(), "set")?;
        }
        let guest = guest_mut(world, &node, vmid)?;
        guest.pending.set.insert(option.to_owned(), stored);
        guest.pending.delete.remove(option);
        Ok(())
    }

    /// Makes or looks up the volume of a drive, and returns the value to store.
    fn set_drive(
        &mut self,
        world: &mut World,
        slot: &str,
        value: &str,
        now: Option<&str>,
        output: &mut Vec<String>,
    ) -> Result<String, Refusal> {
        let (node, vmid) = (self.asker().node.clone(), self.asker().vmid);
        let version = world.version;
        if let Some(old) = now.and_then(|now| Drive::parse(version, slot, now)) {
            may_change_drive(world, self.asker(), &old)?;
            if slot == "tpmstate0" {
                keep_tpm_version(&old, value)?;
            }
        }
        let unreadable = || Refusal::parameter(slot, "unable to parse drive options");
        let drive = Drive::parse(version, slot, value).ok_or_else(unreadable)?;
        may_change_drive(world, self.asker(), &drive)?;
        let pending = guest(world, &node, vmid)?.pending.set.get(slot).cloned();
        if let Some(old) = pending.and_then(|value| Drive::parse(version, slot, &value)) {
            keep_or_free(world, self.asker(), &old, output)?;
        }
        let existing = super::config::with_pending(guest(world, &node, vmid)?);
        let mut made = MadeDisks::default();
        let one: Config = [(slot.to_owned(), value.to_owned())].into();
        let done = disks::make(world, self.asker(), &existing, &one, None, &mut made);
        output.append(&mut made.output);
        done?;
        let is_plain_cdrom = drive.is_cdrom() && !drive.is_cloudinit();
        let in_order = self.order.as_ref().is_none_or(|order| order.iter().any(|device| device == slot));
        if let Some(order) = self.order.as_mut().filter(|_| is_plain_cdrom && !in_order) {
            order.push(slot.to_owned());
            self.note_order(guest_mut(world, &node, vmid)?);
        }
        Ok(made.values.remove(slot).unwrap_or_default())
    }
}

/// A guest that becomes a Windows one keeps the machine version of the day.
fn pin_machine(world: &mut World, node: &str, vmid: Vmid, ostype: &str) -> Result<(), Refusal> {
    let guest = guest_mut(world, node, vmid)?;
    if guest.pending.set.contains_key("machine") || guest.pending.delete.contains_key("machine") {
        return Ok(());
    }
    let mut config = guest.config.clone();
    config.insert("ostype".into(), ostype.to_owned());
    if let Some(pinned) = settings::pinned_machine(&config) {
        guest.pending.set.insert("machine".into(), pinned);
    }
    Ok(())
}

// PVE: qemu-server src/PVE/API2/Qemu.pm prohibit_tpm_version_change
fn keep_tpm_version(old: &Drive, new: &str) -> Result<(), Refusal> {
    let wanted = new.split(',').find_map(|part| part.strip_prefix("version=")).unwrap_or("v1.2");
    match old.option("version").unwrap_or("v1.2") == wanted {
        true => Ok(()),
        false => Err(Refusal::died("cannot change TPM state version after creation")),
    }
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
        guest_mut(world, &asker.node, asker.vmid)?.cloudinit.clear();
    } else if !drive.is_cdrom() && owner(world, &file) == Some(asker.vmid) {
        let guest = guest_mut(world, &asker.node, asker.vmid)?;
        add_unused(&mut guest.config, &file)?;
    }
    Ok(())
}

// PVE: qemu-server src/PVE/QemuServer.pm try_deallocate_drive: what is not the VM's own only leaves the configuration.
fn deallocate(
    world: &mut World,
    asker: &Asker,
    option: &str,
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
    if is_in_use(world, asker.vmid, option, volume) {
        let text = format!("unable to delete '{volume}' - volume is still in use (snapshot?)");
        return Err(Refusal::died(text));
    }
    output.extend(world.free_volume(&asker.node, volume)?);
    Ok(())
}

/// Tells whether another slot, or a snapshot, uses a volume.
fn is_in_use(world: &World, vmid: Vmid, option: &str, volume: &str) -> bool {
    let Some(guest) = world.guests.get(&vmid) else { return false };
    let others: Config = guest
        .config
        .iter()
        .filter(|(key, _)| *key != option)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let snapshots = guest.snapshots.values().map(|snapshot| &snapshot.config);
    std::iter::once(&others).chain(snapshots).any(|config| super::drive::uses(world.version, config, volume))
}

/// Puts all that is pending in force, as for a VM that does not run.
// PVE: qemu-server src/PVE/QemuServer.pm vmconfig_apply_pending
pub fn put_in_force(world: &mut World, asker: &Asker, output: &mut Vec<String>) -> Result<(), Refusal> {
    let pending = guest(world, &asker.node, asker.vmid)?.pending.clone();
    let mut makes_cloudinit = false;
    for (option, force) in &pending.delete {
        let config = &guest(world, &asker.node, asker.vmid)?.config;
        let drive = config.get(option).filter(|_| is_slot(option));
        if let Some(drive) = drive.and_then(|value| Drive::parse(world.version, option, value)) {
            detach(world, asker, option, &drive, *force, output)?;
        }
        let guest = guest_mut(world, &asker.node, asker.vmid)?;
        guest.config.remove(option);
        guest.pending.delete.remove(option);
    }
    cleanup_pending(guest_mut(world, &asker.node, asker.vmid)?);
    for (option, value) in &pending.set {
        if !guest(world, &asker.node, asker.vmid)?.pending.set.contains_key(option) {
            continue;
        }
        let new = is_slot(option).then(|| Drive::parse(world.version, option, value)).flatten();
        if let Some(new) = &new {
            keep_old(world, asker, option, new, output)?;
            makes_cloudinit |= new.is_cloudinit();
        }
        enter(world, asker, option, value, new.as_ref())?;
    }
    tidy_unused(world, asker)?;
    if makes_cloudinit {
        super::cloudinit::generate(world, &asker.node, asker.vmid, output);
    }
    world.touch();
    Ok(())
}

/// The volume that a slot had until now is kept or freed, where the new drive has another.
fn keep_old(
    world: &mut World,
    asker: &Asker,
    option: &str,
    new: &Drive,
    output: &mut Vec<String>,
) -> Result<(), Refusal> {
    let old = guest(world, &asker.node, asker.vmid)?.config.get(option);
    let old = old.and_then(|value| Drive::parse(world.version, option, value));
    match old.filter(|old| old.file() != new.file()) {
        Some(old) => keep_or_free(world, asker, &old, output),
        None => Ok(()),
    }
}

fn detach(
    world: &mut World,
    asker: &Asker,
    option: &str,
    drive: &Drive,
    force: bool,
    output: &mut Vec<String>,
) -> Result<(), Refusal> {
    if force {
        asker.require(world, &[Privilege::VmConfigDisk])?;
    }
    if force && (!drive.is_cdrom() || drive.is_cloudinit()) {
        return deallocate(world, asker, option, drive.file(), output);
    }
    if force { Ok(()) } else { keep_or_free(world, asker, drive, output) }
}

/// One option is in force. A volume that is in use again is unused no longer.
fn enter(
    world: &mut World,
    asker: &Asker,
    option: &str,
    value: &str,
    drive: Option<&Drive>,
) -> Result<(), Refusal> {
    let guest = guest_mut(world, &asker.node, asker.vmid)?;
    guest.config.insert(option.to_owned(), value.to_owned());
    guest.pending.set.remove(option);
    if let Some(drive) = drive {
        guest.config.retain(|key, value| !(is_unused(key) && value == drive.file()));
    }
    Ok(())
}

/// A volume that a slot has is not unused, whatever was noted on the way.
// PVE: qemu-server src/PVE/QemuServer.pm write_vm_config
fn tidy_unused(world: &mut World, asker: &Asker) -> Result<(), Refusal> {
    let version = world.version;
    let guest = guest_mut(world, &asker.node, asker.vmid)?;
    let used: BTreeSet<String> =
        super::drive::drives(version, &guest.config).iter().map(|drive| drive.file().to_owned()).collect();
    guest.config.retain(|key, value| !(is_unused(key) && used.contains(value)));
    Ok(())
}

/// Notes for the cloud-init drive what an option was and becomes.
fn record(world: &mut World, asker: &Asker, option: &str, new: Option<&str>) -> Result<(), Refusal> {
    let guest = guest_mut(world, &asker.node, asker.vmid)?;
    let old = guest.config.get(option).cloned();
    super::cloudinit::record_change(guest, option, old.as_deref(), new);
    Ok(())
}

/// Tells whether the guest does not let go of a device: one that has no system in it.
fn is_held(world: &World, asker: &Asker, option: &str) -> bool {
    let behaviour = world.guest_behaviours.get(&asker.vmid).unwrap_or(&world.guest_behaviour);
    settings::is_net(option) && !behaviour.unplugs
}

fn still_busy(device: &str) -> String {
    format!("error on hot-unplugging device '{device}' - still busy in guest?\n")
}

/// Tells whether a card that is there is unplugged for another one.
fn is_other_device(config: &Config, option: &str, value: &str) -> bool {
    let device = |text: &str| text.split(',').next().map(str::to_owned);
    settings::is_net(option) && config.get(option).is_some_and(|now| device(now) != device(value))
}

/// Puts in force what a running VM takes on: of the options named, and of those that it does not notice. What fails
/// stays pending.
// PVE: qemu-server src/PVE/QemuServer.pm vmconfig_hotplug_pending
fn put_in_force_running(
    world: &mut World,
    asker: &Asker,
    modified: &BTreeSet<String>,
    output: &mut Vec<String>,
) -> Result<(), Refusal> {
    let pending = guest(world, &asker.node, asker.vmid)?.pending.clone();
    let mut errors = Vec::new();
    for (option, value) in pending.set.iter().filter(|(option, _)| hotplug::is_unnoticed(option)) {
        record(world, asker, option, Some(value))?;
        enter(world, asker, option, value, None)?;
    }
    for (option, force) in pending.delete.iter().filter(|(option, _)| modified.contains(*option)) {
        let config = &guest(world, &asker.node, asker.vmid)?.config;
        match hotplug::removed(config, option) {
            Plug::Now if is_held(world, asker, option) => {
                errors.push((option.clone(), format!("hotplug problem - {}", still_busy(option))));
                continue;
            }
            Plug::Now => {}
            Plug::Later => continue,
            Plug::Fails(why) => {
                errors.push((option.clone(), format!("hotplug problem - {why}")));
                continue;
            }
        }
        let config = &guest(world, &asker.node, asker.vmid)?.config;
        let drive = config.get(option).filter(|_| is_slot(option));
        if let Some(drive) = drive.and_then(|value| Drive::parse(world.version, option, value)) {
            detach(world, asker, option, &drive, *force, output)?;
        }
        record(world, asker, option, None)?;
        let guest = guest_mut(world, &asker.node, asker.vmid)?;
        guest.config.remove(option);
        guest.pending.delete.remove(option);
    }
    for (option, value) in pending.set.iter().filter(|(option, _)| modified.contains(*option)) {
        let config = &guest(world, &asker.node, asker.vmid)?.config;
        match hotplug::changed(world, &asker.node, config, option, value) {
            Plug::Later => {}
            Plug::Now if is_other_device(config, option, value) && is_held(world, asker, option) => {
                errors.push((option.clone(), format!("hotplug problem - {}", still_busy(option))));
            }
            Plug::Fails(why) => errors.push((option.clone(), format!("hotplug problem - {why}"))),
            Plug::Now => {
                let new = is_slot(option).then(|| Drive::parse(world.version, option, value)).flatten();
                if let Some(new) = &new {
                    keep_old(world, asker, option, new, output)?;
                }
                record(world, asker, option, Some(value))?;
                enter(world, asker, option, value, new.as_ref())?;
                if new.is_some_and(|new| new.is_cloudinit()) {
                    super::cloudinit::generate(world, &asker.node, asker.vmid, output);
                }
            }
        }
    }
    tidy_unused(world, asker)?;
    if hotplug::plugs(&guest(world, &asker.node, asker.vmid)?.config, "cloudinit") {
        super::cloudinit::generate_if_changed(world, &asker.node, asker.vmid, output);
    }
    world.touch();
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Refusal::parameters(errors)),
    }
}
