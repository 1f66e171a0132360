//! Making a VM as a clone of another.

use super::chain::{Link, delete_guest};
use super::desired::{Base, desired};
use super::disks::{cd_file, known_formats};
use super::images::{self, Room};
use super::input::{Current, Findings, PlanInput, Resolved, reason};
use super::making::Making;
use crate::observed::Rights;
use crate::plan::{Action, CloneAction, GuestRef, PatchValue, Slot, Step, StepId};
use crate::spec::{CloneFrom, CloneMode, CloneSource, Disk, DiskContent, Vm};
use pve_config::{Bus, Drive, PropertyString, same_field};
use pve_types::{Bytes, GuestKind, GuestName, Privilege, StorageId, Vmid};
use std::collections::BTreeMap;

/// How many clones of clones are followed to know what a clone begins with.
const DEPTH: usize = 16;

/// What a clone is made from.
pub(crate) struct Source {
    pub(crate) guest: GuestRef,
    /// The configuration that the clone begins with.
    pub(crate) config: BTreeMap<String, String>,
    /// The step after which the source is there, if this plan makes it.
    pub(crate) after: Option<StepId>,
    pub(crate) running: bool,
}

/// Finds the source of a clone; records what refuses it.
pub(crate) fn source(
    input: &PlanInput<'_>,
    findings: &mut Findings,
    vm: &Vm,
    guest: &GuestRef,
    clone: &CloneFrom,
) -> Option<Source> {
    let found = match &clone.from.value {
        CloneSource::Vm(name) => of_spec(input, name),
        CloneSource::Vmid(vmid) => of_cluster(input, *vmid),
    };
    let at = || (clone.from.span, vm.path("clone"));
    let Some(source) = found else {
        let usual = "fix the other errors, or correct `clone:`".to_owned();
        let (message, hint) = match &clone.from.value {
            CloneSource::Vm(name) => (
                format!("`{}` cannot be cloned because its source `{name}` cannot be planned", vm.name.value),
                usual,
            ),
            CloneSource::Vmid(vmid) if is_hidden(input, *vmid) => (
                format!("there is no VM {vmid} to clone, or these credentials do not see it"),
                format!("VM.Audit on /vms/{vmid} would show it; `vmdeploy fix-token` grants it"),
            ),
            CloneSource::Vmid(vmid) => (format!("there is no VM {vmid} to clone"), usual),
        };
        findings.refuse(input.deployment, at(), message, hint);
        return None;
    };
    if source.after.is_some() && is_left_out(input, &source.guest) {
        let message =
            format!("`{}` is cloned from `{}`, which does not exist yet", vm.name.value, source.guest.name);
        findings.refuse(input.deployment, at(), message, format!("add `--target {}`", source.guest.name));
        return None;
    }
    if source.guest.node != guest.node
        && let Some(local) = local_storage(input, &source, guest)
    {
        let message = format!(
            "`{}` is on {} and has a disk on the local storage {local}, so it cannot be cloned to {}",
            source.guest.name, source.guest.node, guest.node
        );
        findings.refuse(input.deployment, at(), message, format!("write `node: {}`", source.guest.node));
        return None;
    }
    Some(source)
}

/// Tells whether a guest may be there that the credentials do not see.
fn is_hidden(input: &PlanInput<'_>, vmid: Vmid) -> bool {
    let hides = |rights: &Rights| !rights.holds(Privilege::VmAudit, &format!("/vms/{vmid}"));
    !input.observed.every_guest && input.observed.rights.as_ref().is_some_and(hides)
}

fn is_left_out(input: &PlanInput<'_>, guest: &GuestRef) -> bool {
    !input.is_target(&guest.name)
}

fn of_spec(input: &PlanInput<'_>, name: &pve_types::GuestName) -> Option<Source> {
    let resolved = input.guests.get(name)?;
    let guest = resolved.guest.clone();
    match &resolved.current {
        Some(current) => Some(Source {
            guest,
            config: of_existing(input, resolved, current).clone(),
            after: None,
            running: current.is_running(),
        }),
        None => {
            let last = if resolved.vm.template { "template" } else { "create" };
            let config = inherited(predicted(input, resolved.vm, &guest, DEPTH)?);
            let after = Some(StepId(format!("{name}/{last}")));
            Some(Source { guest, config, after, running: false })
        }
    }
}

/// Returns what a clone of a guest that exists begins with: what the guest has when this plan is through with it, for the
/// clone waits for that.
fn of_existing<'s>(
    input: &PlanInput<'_>,
    source: &'s Resolved<'_>,
    current: &Current<'_>,
) -> &'s BTreeMap<String, String> {
    source.as_source.get_or_init(|| {
        let config = current.effective_config();
        match is_left_out(input, &source.guest) {
            true => inherited(config),
            false => inherited(laid_over(input, source.vm, &source.guest, config, true)),
        }
    })
}

/// Lets clones wait for what the plan does to their sources, of which they take over what is there then.
pub(crate) fn follow_sources(steps: &mut BTreeMap<GuestName, Vec<Step>>) {
    let settles = |step: &&Step| !matches!(step.action, Action::Await { .. });
    let last: BTreeMap<GuestName, StepId> = steps
        .iter()
        .filter_map(|(name, steps)| Some((name.clone(), steps.iter().rev().find(settles)?.id.clone())))
        .collect();
    for step in steps.values_mut().flatten() {
        if let Action::CloneVm(CloneAction { source, .. }) = &step.action
            && !step.after.iter().any(|id| id.0.starts_with(&format!("{}/", source.name)))
        {
            step.after.extend(last.get(&source.name).cloned());
        }
    }
}

fn of_cluster(input: &PlanInput<'_>, vmid: pve_types::Vmid) -> Option<Source> {
    let seen = input.observed.guests.get(&vmid).filter(|seen| seen.kind == GuestKind::Vm)?;
    let config = seen.config.as_ref().map(|config| config.values.clone()).unwrap_or_default();
    let name = seen.name.as_deref().and_then(|name| name.parse().ok());
    let guest = GuestRef {
        name: name.or_else(|| format!("vm{vmid}").parse().ok())?,
        vmid,
        node: seen.node.clone(),
        uuid: seen.config.as_ref().and_then(crate::identity::config_uuid).unwrap_or_default(),
    };
    Some(Source { guest, config: inherited(config), after: None, running: seen.status.is_on() })
}

/// Returns what a clone has of its source's configuration.
// PVE: qemu-server src/PVE/API2/Qemu.pm clone_vm: new MACs and UUID; no unused volumes, snapshots, lock, template.
fn inherited(mut config: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let left_out =
        ["lock", "template", "parent", "description", "name", "smbios1", "vmgenid", "meta", "cipassword"];
    config.retain(|key, _| !left_out.contains(&key.as_str()) && Bus::of_key(key) != Some(Bus::Unused));
    for (key, text) in config.iter_mut().filter(|(key, _)| Bus::of_key(key) == Some(Bus::Net)) {
        if let Ok(mut net) = PropertyString::parse(key, text) {
            net.remove("macaddr");
            *text = net.print(key);
        }
    }
    config
}

/// Returns the configuration that a VM of the spec will have, as far as it is known before it is made.
fn predicted(
    input: &PlanInput<'_>,
    vm: &Vm,
    guest: &GuestRef,
    depth: usize,
) -> Option<BTreeMap<String, String>> {
    let config = match &vm.clone {
        Some(clone) if depth > 0 => match &clone.from.value {
            CloneSource::Vmid(vmid) => of_cluster(input, *vmid)?.config,
            CloneSource::Vm(name) => {
                let source = input.guests.get(name)?;
                match &source.current {
                    Some(current) => of_existing(input, source, current).clone(),
                    None => inherited(predicted(input, source.vm, &source.guest, depth - 1)?),
                }
            }
        },
        _ => BTreeMap::new(),
    };
    Some(laid_over(input, vm, guest, config, false))
}

/// Returns the configuration with what the spec says of the VM laid over it.
pub(crate) fn laid_over(
    input: &PlanInput<'_>,
    vm: &Vm,
    guest: &GuestRef,
    mut config: BTreeMap<String, String>,
    exists: bool,
) -> BTreeMap<String, String> {
    let mut ignored = Findings::default();
    let base = Base { values: &config.clone(), exists };
    for change in desired(input, &mut ignored, vm, &guest.uuid, &guest.node, &base).changes {
        match change.to {
            Some(value) => {
                let text = value.text().map_or_else(|| "?".to_owned(), |text| text.into_owned());
                config.insert(change.key, text);
            }
            None => drop(config.remove(&change.key)),
        }
    }
    for (slot, desired) in &vm.disks {
        let slot = slot.to_string();
        let Some(disk) = desired.set() else {
            config.remove(&slot);
            continue;
        };
        if let Some(there) = config.get(&slot).filter(|_| exists) {
            let changed = changed_drive(disk, there);
            config.insert(slot, changed);
            continue;
        }
        let storage = disk.storage.as_ref().map_or("unknown", |storage| storage.value.as_str());
        let file = cd_file(disk).unwrap_or_else(|| format!("{storage}:vm-{}-{slot}", guest.vmid));
        let media = cd_file(disk).map(|_| ("media", Some("cdrom".to_owned())));
        let image = match &disk.content {
            DiskContent::Image(name) => input.deployment.images.get(&name.value),
            _ => None,
        };
        let of_image = || image.and_then(|image| images::virtual_size(input, image, &guest.node));
        let size = disk.size.as_ref().map(|size| size.value).or_else(of_image);
        let size = size.map(|size| ("size", Some(size.to_pve_size())));
        let when_made = disk.options_when_made();
        let options = when_made.iter().map(|(name, desired)| (name.as_str(), desired.value.clone()));
        let fields = [("file", Some(file))].into_iter().chain(media).chain(size).chain(options);
        let drive: PropertyString = fields.filter_map(|(name, value)| Some((name, value?))).collect();
        config.entry(slot.clone()).or_insert_with(|| drive.print(&slot));
    }
    config
}

/// Returns a drive that exists as it is once its size, options and medium are what the spec says.
fn changed_drive(disk: &Disk, there: &str) -> String {
    let slot = disk.slot.to_string();
    let grown = Drive::parse(&slot, there).ok().and_then(|drive| drive.size()).zip(disk.size.as_ref());
    let size = grown.map(|(there, desired)| there.max(desired.value).to_pve_size());
    let size = size.map(|size| ("size", Some(size)));
    let file = cd_file(disk).map(|file| ("file", Some(file)));
    let options = disk.options.iter().map(|(name, desired)| (name.as_str(), desired.value.clone()));
    let fields: Vec<(&str, Option<String>)> = options.chain(size).chain(file).collect();
    let desired = fields.iter().map(|(name, value)| (*name, value.as_deref()));
    pve_config::overlay(&slot, Some(there), desired).unwrap_or_else(|_| there.to_owned())
}

fn drives(config: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, Drive)> {
    config.iter().filter_map(|(key, text)| {
        let drive = Bus::of_key(key)?.holds_volume().then(|| Drive::parse(key, text).ok())??;
        Some((key.as_str(), drive))
    })
}

/// Returns the first storage of the source's disks and CD drives that is known not to be shared.
///
/// A storage that no node could be asked about is not known to be local: PVE judges it when it clones.
// PVE: qemu-server src/PVE/API2/Qemu.pm check_storage_access_clone.
fn local_storage(input: &PlanInput<'_>, source: &Source, guest: &GuestRef) -> Option<StorageId> {
    let volumes = drives(&source.config).filter_map(|(_, drive)| drive.volume().cloned());
    let is_local = |storage: &StorageId| {
        let seen = input.storage(&source.guest.node, storage).or_else(|| input.storage(&guest.node, storage));
        seen.is_some_and(|seen| !seen.shared)
    };
    volumes.map(|volume| volume.storage().clone()).find(is_local)
}

/// Appends the clone step.
pub(crate) fn push_clone(
    making: &mut Making<'_, '_>,
    source: &Source,
    clone: &CloneFrom,
    description: String,
) {
    let full = clone.mode == CloneMode::Full;
    let storage = clone.storage.as_ref().filter(|_| full).map(|storage| storage.value.clone());
    let format = clone.format.as_ref().filter(|_| full).map(|format| format.value.clone());
    refuse_format(making, source, clone);
    let pool = making.vm.pool.set().cloned();
    let mut copied = Bytes::new(0);
    for (_, drive) in drives(&source.config).filter(|(_, drive)| full && !drive.is_cdrom()) {
        let size = drive.size().unwrap_or_default();
        copied = copied + size;
        let room = Room::sparse(size);
        let target = storage.clone().or_else(|| drive.volume().map(|volume| volume.storage().clone()));
        if let Some(target) =
            target.filter(|target| making.input.storage(&making.guest.node, target).is_some())
        {
            let probe = making.shared.needs_room(&making.guest.node, &target, room);
            making.chain.wait_for([probe]);
        }
    }
    // PVE: qemu-server src/PVE/API2/Qemu.pm clone_vm: "cannot clone TPM state while VM is running".
    if source.running && full && source.config.contains_key("tpmstate0") {
        let name = &source.guest.name;
        let message =
            format!("`{name}` is running, and PVE copies the TPM state of a VM only while it is stopped");
        let hint = format!("shut VM {} down first, or clone a template", source.guest.vmid);
        let at = (clone.from.span, making.vm.path("clone"));
        making.findings.refuse(making.input.deployment, at, message, hint);
    }
    if source.running {
        let text = format!(
            "`{}` is cloned while it is running: the copies of its disks are crash-consistent only",
            source.guest.name
        );
        making.findings.note(&making.guest.name, text, None);
    }
    making.chain.wait_for(source.after.clone());
    let from = format!(
        "{} (VMID {}), {}",
        source.guest.name,
        source.guest.vmid,
        if full { "full" } else { "linked" }
    );
    making.reasons.push(reason("clone", None, Some(from)));
    let action = Action::CloneVm(CloneAction {
        source: source.guest.clone(),
        guest: making.guest.clone(),
        full,
        storage,
        format,
        description,
        pool,
    });
    let transport = making.input.transports.api_first("one call clones and sets the ownership marker");
    let link = Link::new("clone", action, transport, 3_600).revert(delete_guest(making.guest));
    making.chain.push(link.copies(copied));
}

/// Refuses what a clone cannot have otherwise than its source: what its slot holds, and where.
pub(crate) fn check(input: &PlanInput<'_>, findings: &mut Findings, vm: &Vm, disk: &Disk, text: &str) {
    let slot = disk.slot.to_string();
    let Ok(drive) = Drive::parse(&slot, text) else { return };
    super::firmware::refuse_remaking(input, findings, vm, disk, text);
    let wants_cd = cd_file(disk).is_some();
    if wants_cd != drive.is_cdrom() {
        let (desired, there) = if wants_cd { ("a CD drive", "a disk") } else { ("a disk", "a CD drive") };
        let message = format!("the spec has {desired} at `{slot}`, but the source has {there}");
        let at = (disk.span, vm.path(&format!("disks.{slot}")));
        findings.refuse(input.deployment, at, message, "use another slot or another source");
    }
    let Some(clone) = &vm.clone else { return };
    let to = clone.storage.as_ref().filter(|_| clone.mode == CloneMode::Full).map(|storage| &storage.value);
    let there = drive.volume().map(pve_types::VolumeId::storage).filter(|_| !drive.is_cdrom());
    if let (Some(desired), Some(there)) = (&disk.storage, to.or(there))
        && desired.value != *there
    {
        let message = format!("the spec has `{slot}` on {}, but the clone has it on {there}", desired.value);
        let at = (desired.span, vm.path(&format!("disks.{slot}.storage")));
        let hint = format!("write `clone: {{mode: full, storage: {}}}`, or remove `storage`", desired.value);
        findings.refuse(input.deployment, at, message, hint);
    }
}

/// Returns the options in which a cloned drive differs from its source; only the cluster knows its volume.
pub(crate) fn options(disk: &Disk, text: &str) -> Option<PatchValue> {
    let slot = disk.slot.to_string();
    let there = PropertyString::parse(&slot, text).unwrap_or_default();
    let differs = |name: &str, desired: Option<&str>| !same_field(&slot, name, there.get(name), desired);
    let options = disk.options.iter().map(|(name, desired)| (name.as_str(), desired.value.clone()));
    let file = cd_file(disk).into_iter().flat_map(|file| [("file", Some(file)), ("size", None)]);
    let fields: BTreeMap<String, Option<String>> = options
        .chain(file)
        .filter(|(name, desired)| differs(name, desired.as_deref()))
        .map(|(name, desired)| (name.to_owned(), desired))
        .collect();
    (!fields.is_empty()).then_some(PatchValue::Options { fields })
}

/// Refuses a format that a storage of the copied disks cannot hold: PVE would silently take another.
// PVE: qemu-server src/PVE/API2/Qemu.pm clone_vm, parameter `format`.
fn refuse_format(making: &mut Making<'_, '_>, source: &Source, clone: &CloneFrom) {
    let Some(format) = &clone.format else { return };
    let input = making.input;
    let at = || (format.span, making.vm.path("clone.format"));
    if clone.mode != CloneMode::Full {
        let hint = "remove `format`, or write `mode: full`";
        let message = "a linked clone has the format of its template";
        return making.findings.refuse(input.deployment, at(), message, hint);
    }
    let disks = drives(&source.config).filter(|(_, drive)| !drive.is_cdrom());
    let targets = disks.filter_map(|(_, drive)| match &clone.storage {
        Some(storage) => Some(storage.value.clone()),
        None => drive.volume().map(|volume| volume.storage().clone()),
    });
    for target in targets.collect::<std::collections::BTreeSet<_>>() {
        let Some(known) = input.storage(&making.guest.node, &target).and_then(known_formats) else {
            continue;
        };
        if !known.iter().any(|known| known == &format.value) {
            let message = format!("{target} holds {}, not {}", known.join(", "), format.value.escape_debug());
            let hint = format!("write `format: {}`, remove it, or use another `storage`", known[0]);
            making.findings.refuse(input.deployment, at(), message, hint);
        }
    }
}

/// Plans the growth of a cloned disk, counts the room that it takes, and refuses what a clone cannot change.
pub(crate) fn grow(making: &mut Making<'_, '_>, disk: &Disk, text: &str, growth: &mut Vec<(Slot, Bytes)>) {
    let (input, vm) = (making.input, making.vm);
    let slot = disk.slot.to_string();
    let Some(size) = &disk.size else { return };
    let there = Drive::parse(&slot, text).ok().and_then(|drive| drive.size());
    match there {
        Some(there) if size.value < there => {
            let at = (size.span, vm.path(&format!("disks.{slot}.size")));
            let message =
                format!("the spec has {} for `{slot}`, but the cloned disk has {there}", size.value);
            making.findings.refuse(input.deployment, at, message, format!("write `size: {there}` or more"));
        }
        Some(there) if size.value == there => {}
        _ => {
            let of_clone = vm.clone.as_ref().filter(|clone| clone.mode == CloneMode::Full);
            let target =
                of_clone.and_then(|clone| clone.storage.as_ref()).map(|storage| storage.value.clone());
            let there_on = || Drive::parse(&slot, text).ok()?.volume().map(|volume| volume.storage().clone());
            let by = Bytes::new(size.value.get().saturating_sub(there.unwrap_or_default().get()));
            if let Some(target) = target.or_else(there_on)
                && input.storage(&making.guest.node, &target).is_some()
            {
                let probe = making.shared.needs_room(&making.guest.node, &target, Room::sparse(by));
                making.chain.wait_for([probe]);
            }
            growth.push((slot, size.value));
        }
    }
}

/// Returns the names of the VMs of the spec that this one is cloned from, nearest first.
pub(crate) fn ancestors<'v>(input: &PlanInput<'v>, vm: &'v Vm) -> Vec<&'v pve_types::GuestName> {
    let mut names = Vec::new();
    let mut next = Some(vm);
    while let Some(CloneSource::Vm(name)) =
        next.and_then(|vm| vm.clone.as_ref()).map(|clone| &clone.from.value)
        && names.len() < DEPTH
    {
        names.push(name);
        next = input.guests.get(name).map(|resolved| resolved.vm);
    }
    names
}
