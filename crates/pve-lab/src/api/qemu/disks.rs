//! Making the volumes that a request asks for.

use std::collections::BTreeMap;
use std::time::Duration;

use pve_types::{Bytes, Vmid};

use super::allowed::Asker;
use super::drive::{Drive, cloudinit_slot, slots};
use crate::api::Refusal;
use crate::world::{Config, NewVolume, Next, Stage, TaskKey, World, image_format, parse_name, split_id};

/// What was made: the values of the slots, and the volumes that are new.
#[derive(Debug, Default)]
pub struct MadeDisks {
    /// The stored value of each slot.
    pub values: Config,
    /// Volumes that did not exist before.
    pub volumes: Vec<String>,
    /// What was printed.
    pub output: Vec<String>,
    /// How many milliseconds passed before a line of the output, by its index.
    pub pauses: BTreeMap<usize, u64>,
    is_timed: bool,
}

impl MadeDisks {
    /// Nothing made yet; the time that it takes is noted as it goes. (By default it is not.)
    pub fn timed() -> Self {
        Self { is_timed: true, ..Self::default() }
    }
    /// Notes the time until a volume is allocated on a storage, others before it included.
    pub fn await_allocation(&mut self, world: &mut World, node: &str, storage: &str) {
        if self.is_timed {
            let so_far = self.pauses.values().sum();
            let wait = world.allocation_ms(node, storage, so_far);
            self.pause(wait);
        }
    }
    /// Notes that the next line comes so much later.
    pub fn pause(&mut self, milliseconds: u64) {
        if self.is_timed && milliseconds > 0 {
            *self.pauses.entry(self.output.len()).or_default() += milliseconds;
        }
    }
}

/// Stages that write the output to the task's log, each line when it is due, and then do `last`.
pub fn narrated(
    output: Vec<String>,
    pauses: &BTreeMap<usize, u64>,
    last: impl FnOnce(&mut World, TaskKey) -> Result<(), String> + Send + 'static,
) -> Next {
    let mut stages = Vec::new();
    let mut lines = output.into_iter();
    let mut said = 0;
    let mut wait = Duration::ZERO;
    for (at, pause) in pauses {
        let part: Vec<String> = lines.by_ref().take(at - said).collect();
        said = *at;
        stages.push(Stage::new(wait, move |world, key| {
            world.log_lines(key, part);
            Ok(())
        }));
        wait = Duration::from_millis(*pause);
    }
    let rest: Vec<String> = lines.collect();
    stages.push(Stage::new(wait, move |world, key| {
        world.log_lines(key, rest);
        last(world, key)
    }));
    Next::Then(stages)
}

/// A source that is copied into a new volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its format, when a file's.
    pub format: Option<String>,
    /// The size a guest sees.
    pub size: u64,
    /// Its data.
    pub data: u64,
}

const CLOUDINIT_SIZE: u64 = 4 << 20;
const TPM_SIZE: u64 = 4 << 20;
const EFI_SIZE: u64 = 528 << 10;

/// Makes or checks the volume of every drive in `settings`, in PVE's order. What was made before an error stands in
/// `made`, so that the caller can take it back.
///
/// # Errors
/// PVE's text.
// PVE: qemu-server src/PVE/API2/Qemu.pm create_disks
pub fn make(
    world: &mut World,
    asker: &Asker,
    existing: &Config,
    settings: &Config,
    default_storage: Option<&str>,
    made: &mut MadeDisks,
) -> Result<(), Refusal> {
    for slot in slots().filter(|slot| settings.contains_key(slot)) {
        let unreadable = || Refusal::parameter(&slot, "unable to parse drive options");
        let drive = Drive::parse(world.version, &slot, &settings[&slot]).ok_or_else(unreadable)?;
        let others: Config = existing
            .iter()
            .chain(made.values.iter())
            .filter(|(key, _)| **key != slot)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        one(world, asker, &others, drive, default_storage, made)?;
    }
    Ok(())
}

fn one(
    world: &mut World,
    asker: &Asker,
    others: &Config,
    mut drive: Drive,
    default_storage: Option<&str>,
    made: &mut MadeDisks,
) -> Result<(), Refusal> {
    let file = drive.file().to_owned();
    if matches!(file.as_str(), "none" | "cdrom") {
        drive.options.remove("size");
        made.values.insert(drive.slot.clone(), drive.print(world.version));
        return Ok(());
    }
    if let Some(storage) = file.strip_suffix(":cloudinit") {
        return cloudinit(world, asker, others, drive, storage, made);
    }
    if !drive.is_new() || drive.is_cdrom() {
        return existing_volume(world, asker, drive, made);
    }
    let none = "no storage ID specified (and no default storage)";
    let (storage, gib) = drive.new_disk();
    let storage = storage.or(default_storage).ok_or_else(|| Refusal::died(none))?.to_owned();
    let size = Bytes::from_pve_size(&format!("{gib}G")).map_or(0, Bytes::get);
    let (volume, size) = match drive.options.remove("import-from") {
        Some(source) => import(world, asker, &drive, &storage, &source, made)?,
        None => {
            let format = drive.option("format").map(str::to_owned);
            new_volume(world, asker, &drive.slot, &storage, format, size, made)?
        }
    };
    drive.options.remove("format");
    drive.set("file", volume);
    drive.set("size", Bytes::new(size).to_pve_size());
    finish(world, drive, made);
    Ok(())
}

fn finish(world: &World, drive: Drive, made: &mut MadeDisks) {
    let value = drive.print(world.version);
    made.output.push(format!("{}: successfully created disk '{value}'", drive.slot));
    made.values.insert(drive.slot, value);
}

fn allocate(
    world: &mut World,
    asker: &Asker,
    storage: &str,
    format: &str,
    name: Option<String>,
    size: u64,
    made: &mut MadeDisks,
) -> Result<String, Refusal> {
    let new = NewVolume { node: &asker.node, storage, vmid: asker.vmid, format, name, size, data: 0 };
    let volume = world.allocate(&new)?;
    made.await_allocation(world, &asker.node, storage);
    made.output.extend(volume.lines);
    made.volumes.push(volume.id.clone());
    Ok(volume.id)
}

fn cloudinit(
    world: &mut World,
    asker: &Asker,
    others: &Config,
    mut drive: Drive,
    storage: &str,
    made: &mut MadeDisks,
) -> Result<(), Refusal> {
    if let Some(slot) = cloudinit_slot(world.version, others) {
        let text = format!("{} - cloud-init drive is already attached at '{slot}'", drive.slot);
        return Err(Refusal::died(text));
    }
    let is_file = world.storage(storage)?.is_file_based();
    let format = drive.option("format").unwrap_or(if is_file { "qcow2" } else { "raw" }).to_owned();
    let ending = if is_file { format!(".{format}") } else { String::new() };
    let name = format!("vm-{}-cloudinit{ending}", asker.vmid);
    let volume = allocate(world, asker, storage, &format, Some(name), CLOUDINIT_SIZE, made)?;
    drive.options.remove("format");
    drive.options.remove("size");
    drive.set("file", volume);
    drive.set("media", "cdrom");
    finish(world, drive, made);
    Ok(())
}

fn new_volume(
    world: &mut World,
    asker: &Asker,
    slot: &str,
    storage: &str,
    format: Option<String>,
    size: u64,
    made: &mut MadeDisks,
) -> Result<(String, u64), Refusal> {
    let default = world.storage(storage)?.default_format().to_owned();
    let (format, size) = match slot {
        "efidisk0" => (format.unwrap_or(default), EFI_SIZE),
        "tpmstate0" => ("raw".to_owned(), TPM_SIZE),
        _ => (format.unwrap_or(default), size),
    };
    let volume = allocate(world, asker, storage, &format, None, size, made)?;
    let size = world.volume(&asker.node, &volume).map_or(size, |volume| volume.size);
    if slot == "efidisk0" {
        made.output.push("transferred 0.0 B of 528.0 KiB (0.00%)".to_owned());
        made.output.push("transferred 528.0 KiB of 528.0 KiB (100.00%)".to_owned());
    }
    Ok((volume, size))
}

fn import(
    world: &mut World,
    asker: &Asker,
    drive: &Drive,
    storage: &str,
    source: &str,
    made: &mut MadeDisks,
) -> Result<(String, u64), Refusal> {
    let needed = match drive.slot.as_str() {
        "efidisk0" if drive.option("efitype").is_none() => Some("efitype"),
        "efidisk0" if drive.option("pre-enrolled-keys").is_none() => Some("pre-enrolled-keys"),
        "tpmstate0" if drive.option("version").is_none() => Some("version"),
        _ => None,
    };
    if let Some(option) = needed {
        return Err(Refusal::died(format!("need to specify '{option}' when using 'import-from'")));
    }
    let (found, is_volume) = match split_id(source) {
        Ok(_) => (source_volume(world, &asker.node, source)?, true),
        Err(_) => {
            let missing = || Refusal::died(format!("can't find file '{source}'"));
            (source_path(world, &asker.node, source).ok_or_else(missing)?, false)
        }
    };
    if is_volume {
        made.output.push(format!("create full clone of drive ({source})"));
    }
    let def = world.storage(storage)?;
    let of_source = found.format.clone().filter(|format| is_volume && def.supports_format(format));
    let asked = drive.option("format").map(str::to_owned);
    let format = asked.or(of_source).unwrap_or_else(|| def.default_format().to_owned());
    copy_in(world, asker, storage, &format, &found, source, is_volume, made)
}

/// What is known of a volume that is to be copied.
///
/// # Errors
/// It is not there.
pub fn source_volume(world: &World, node: &str, source: &str) -> Result<Source, Refusal> {
    let (storage, name) = split_id(source)?;
    let def = world.active_storage(storage, node)?;
    let parsed = parse_name(def, name)?;
    let path = world.volume_path(source)?;
    let stat_failed = || Refusal::died(format!("failed to stat '{path}'"));
    let volume = world.volume(node, source).map_err(|text| match def.is_file_based() {
        true => stat_failed(),
        false => Refusal::died(text),
    })?;
    let format = image_format(&parsed).map(|format| format.as_str().to_owned());
    if parsed.content == "import"
        && let Some(found) = source_path(world, node, &path)
    {
        let backing = world
            .files(node, &path)
            .and_then(|tree| tree.image(&path).ok())
            .and_then(|image| image.backing_file);
        if backing.is_some() {
            return Err(Refusal::died(format!(
                "cannot import from '{source}' - backing file is not allowed"
            )));
        }
        return Ok(Source { format, ..found });
    }
    Ok(Source { format, size: volume.size, data: volume.used.min(volume.size) })
}

/// What is known of an image file that is to be copied; `None` when it is not a file.
pub fn source_path(world: &World, node: &str, path: &str) -> Option<Source> {
    let tree = world.files(node, path)?;
    let stat = tree.stat(path).ok().filter(|stat| stat.kind == crate::vfs::Kind::File)?;
    let image = tree.image(path).ok()?;
    let data = stat.allocated.min(image.virtual_size);
    Some(Source { format: Some(image.format.as_str().to_owned()), size: image.virtual_size, data })
}

/// Allocates a volume and copies the source into it; returns its id and size.
///
/// # Errors
/// PVE's text; the new volume is freed again when the copy fails.
#[expect(clippy::too_many_arguments, reason = "a copy has a from and a to, and both have a place")]
pub fn copy_in(
    world: &mut World,
    asker: &Asker,
    storage: &str,
    format: &str,
    source: &Source,
    shown_source: &str,
    is_volume: bool,
    made: &mut MadeDisks,
) -> Result<(String, u64), Refusal> {
    let volume = allocate(world, asker, storage, format, None, source.size, made)?;
    if is_volume && world.version.at_least(9, 0) {
        made.output.push(format!("allocated target volume '{volume}'"));
    }
    let step = |percent: u64| {
        let done = source.size / 100 * percent + source.size % 100 * percent / 100;
        format!("transferred {} of {} ({percent}.00%)", binary_size(done), binary_size(source.size))
    };
    made.output.push(step(0));
    if world.fill_volume(&asker.node, &volume, source.data).is_err() {
        made.volumes.retain(|made| *made != volume);
        let path = world.volume_path(&volume).unwrap_or_default();
        let _ = world.free_volume(&asker.node, &volume);
        let from = source.format.as_deref().unwrap_or("raw");
        made.output.push(format!(
            "qemu-img: error while writing at byte {}: No space left on device",
            source.data / 2
        ));
        let command = format!("/usr/bin/qemu-img convert -p -n -f {from} -O {format} {shown_source} {path}");
        return Err(Refusal::died(format!("copy failed: command '{command}' failed: exit code 1")));
    }
    let takes = copy_ms(world, source.data);
    let steps = copy_steps(takes);
    for number in 1..=steps {
        made.pause(takes * number / steps - takes * (number - 1) / steps);
        made.output.push(step(100 * number / steps));
    }
    made.output.push(step(100));
    let size = world.volume(&asker.node, &volume).map_or(source.size, |volume| volume.size);
    Ok((volume, size))
}

/// The number of progress steps of a copy of this duration: about twenty per second, in whole percents.
fn copy_steps(milliseconds: u64) -> u64 {
    (milliseconds / 50).clamp(4, 100)
}

/// A size as PVE's progress lines show it: one decimal, binary units.
// PVE: pve-common src/PVE/Format.pm render_bytes
pub fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

fn existing_volume(
    world: &mut World,
    asker: &Asker,
    mut drive: Drive,
    made: &mut MadeDisks,
) -> Result<(), Refusal> {
    let file = drive.file().to_owned();
    asker.may_use_volume(world, &file)?;
    let Ok((storage, name)) = split_id(&file) else {
        made.values.insert(drive.slot.clone(), drive.print(world.version));
        return Ok(());
    };
    let def = world.active_storage(storage, &asker.node)?;
    let parsed = parse_name(def, name)?;
    if parsed.content == "iso" && !drive.is_cdrom() {
        let text = "explicit 'media=cdrom' is required for iso images";
        return Err(Refusal::parameter(&drive.slot, text));
    }
    if let Some(format) =
        drive.option("format").filter(|format| *format != parsed.format && parsed.content == "images")
    {
        let text = format!(
            "drive '{}' - volume '{file}' - 'format={format}' option different from storage format '{}'",
            drive.slot, parsed.format
        );
        return Err(Refusal::died(text));
    }
    let is_file = def.is_file_based();
    let size = world.volume(&asker.node, &file).map_err(|text| match is_file {
        true => format!("volume '{file}' does not exist"),
        false => text,
    })?;
    let size = size.size;
    drive.options.remove("format");
    drive.set("size", Bytes::new(size).to_pve_size());
    made.values.insert(drive.slot.clone(), drive.print(world.version));
    Ok(())
}

/// Milliseconds that making these drives takes from now on: each new volume in its turn, and each 100 MiB that are
/// copied.
pub fn duration_ms(world: &mut World, node: &str, settings: &Config) -> u64 {
    let mut total = 0;
    let is_made = |drive: &&Drive| drive.is_new() || drive.file().ends_with(":cloudinit");
    for drive in super::drive::drives(world.version, settings).iter().filter(is_made) {
        let storage = drive.new_disk().0.map(str::to_owned);
        total += storage.map_or(0, |storage| world.allocation_ms(node, &storage, total));
        let source = drive.option("import-from");
        let size = source.and_then(|source| match split_id(source) {
            Ok(_) => source_volume(world, node, source).ok(),
            Err(_) => source_path(world, node, source),
        });
        total += size.map_or(0, |source| copy_ms(world, source.data));
    }
    total
}

/// Milliseconds that copying so many bytes takes.
pub fn copy_ms(world: &World, bytes: u64) -> u64 {
    bytes / (100 << 20) * world.delays.copy_ms_per_100_mib
        + bytes % (100 << 20) * world.delays.copy_ms_per_100_mib / (100 << 20)
}

/// Copies an image file into a guest's new volume and keeps it as `unusedN` or in a slot: `qm disk import`.
pub struct ImportDisk {
    /// The guest.
    pub vmid: Vmid,
    /// The file on the node.
    pub source: String,
    /// The target storage.
    pub storage: String,
    /// The format asked for.
    pub format: Option<String>,
    /// The slot asked for.
    pub target: Option<String>,
}

/// What `qm disk import` printed on both streams, and how it ended.
pub struct ImportedDisk {
    /// stdout.
    pub stdout: Vec<String>,
    /// stderr.
    pub stderr: Vec<String>,
    /// Whether it was done.
    pub done: bool,
    /// How many milliseconds pass before a line of stdout, by its index.
    pub pauses: BTreeMap<usize, u64>,
}

/// `qm disk import`, by root on `node`.
// PVE: qemu-server src/PVE/CLI/qm.pm importdisk
pub fn import_disk(world: &mut World, node: &str, import: &ImportDisk) -> ImportedDisk {
    let mut result =
        ImportedDisk { stdout: Vec::new(), stderr: Vec::new(), done: false, pauses: BTreeMap::new() };
    if let Err(refusal) = import_into(world, node, import, &mut result) {
        result.stderr.push(refusal.full_text());
    } else {
        result.done = true;
    }
    result
}

fn import_into(
    world: &mut World,
    node: &str,
    import: &ImportDisk,
    result: &mut ImportedDisk,
) -> Result<(), Refusal> {
    let vmid = import.vmid;
    let guest = super::config::guest(world, node, vmid)?;
    super::config::check_lock(guest)?;
    let source = import.source.as_str();
    let found = source_path(world, node, source)
        .ok_or_else(|| Refusal::died(format!("{source}: non-existent or non-regular file")))?;
    let def = world.enabled_storage(&import.storage, node)?.clone();
    if !def.content.contains("images") {
        return Err(Refusal::died(format!("storage {} does not support vm images", import.storage)));
    }
    result.stdout.push(format!("importing disk '{source}' to VM {vmid} ..."));
    let mut format = import.format.clone().unwrap_or_else(|| def.default_format().to_owned());
    if !def.supports_format(&format) {
        let used = def.default_format();
        result.stderr.push(format!(
            "format '{format}' is not supported by the target storage - using '{used}' instead"
        ));
        format = used.to_owned();
    }
    let asker = Asker { auth_id: "root@pam".to_owned(), node: node.to_owned(), vmid, pool: None };
    let mut made = MadeDisks::timed();
    let copied = copy_in(world, &asker, &import.storage, &format, &found, source, false, &mut made);
    let before = result.stdout.len();
    result.stdout.append(&mut made.output);
    result.pauses = made.pauses.into_iter().map(|(at, pause)| (at + before, pause)).collect();
    let (volume, _) = copied?;
    let kept = keep_imported(world, vmid, import.target.as_deref(), &volume);
    let slot = match kept {
        Ok(slot) => slot,
        Err(text) => {
            let _ = world.free_volume(node, &volume);
            return Err(Refusal::died(text));
        }
    };
    result.stdout.push(if world.version >= pve_types::PveVersion::new(8, 3, 0) {
        format!("{slot}: successfully imported disk '{volume}'")
    } else {
        format!("Successfully imported disk as '{slot}:{volume}'")
    });
    Ok(())
}

fn keep_imported(
    world: &mut World,
    vmid: Vmid,
    target: Option<&str>,
    volume: &str,
) -> Result<String, String> {
    let guest = world.guests.get_mut(&vmid).ok_or("the VM is gone")?;
    match target {
        Some(slot) if guest.config.contains_key(slot) => {
            Err(format!("cowardly refusing to overwrite existing entry: {slot}"))
        }
        Some(slot) => {
            guest.config.insert(slot.to_owned(), volume.to_owned());
            Ok(slot.to_owned())
        }
        None => Ok(super::drive::add_unused(&mut guest.config, volume)?.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Caller, Params, dispatch};
    use crate::world::WorldSpec;

    /// A call by root; returns its worker.
    fn call(world: &mut World, path: &str, params: &[(&str, &str)]) -> String {
        let params: Params =
            params.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let reply = dispatch(world, &Caller::root_cli("pve1"), "POST", path, &params);
        let upid = reply.unwrap().data.as_str().unwrap().to_owned();
        world.settle();
        upid
    }

    fn log(world: &World, upid: &str) -> Vec<String> {
        world.tasks.get(upid).unwrap().log().to_vec()
    }

    fn pass(world: &mut World, milliseconds: u64) {
        world.clock.skip(Duration::from_millis(milliseconds));
        world.settle();
    }

    fn slow_world() -> World {
        let mut world = World::new(&WorldSpec::demo(), 1);
        // A minute for the 17 MiB of tiny.qcow2, more or less.
        world.delays.copy_ms_per_100_mib = 360_000;
        world
    }

    const CREATE: &str = "/nodes/pve1/qemu";
    const DISK: (&str, &str) = ("scsi0", "local-lvm:0,import-from=/var/lib/vz/import/tiny.qcow2");

    /// Half of the copy's lines are there after half of its time, none is there twice, and the end is what it is
    /// without delays.
    fn check(path: &str, params: &[(&str, &str)], prepare: impl Fn(&mut World)) {
        let mut quick = World::new(&WorldSpec::demo(), 1);
        prepare(&mut quick);
        let upid = call(&mut quick, path, params);
        let whole = log(&quick, &upid);
        let is_progress = |line: &&String| line.starts_with("transferred ");
        assert_eq!(whole.iter().filter(is_progress).count(), 6, "{whole:?}");

        let mut slow = slow_world();
        let delay = std::mem::take(&mut slow.delays.copy_ms_per_100_mib);
        prepare(&mut slow);
        slow.delays.copy_ms_per_100_mib = delay;
        let upid = call(&mut slow, path, params);
        let takes = copy_ms(&slow, source_path(&slow, "pve1", "/var/lib/vz/import/tiny.qcow2").unwrap().data);
        assert!(takes > 10_000);
        let first = log(&slow, &upid);
        assert!(first.last().unwrap().ends_with("(0.00%)"), "{first:?}");
        pass(&mut slow, takes / 2);
        let half = log(&slow, &upid);
        let last = half.last().unwrap();
        let percent: f64 = last.split(['(', '%']).nth(1).unwrap().parse().unwrap();
        assert!((48.0..=52.0).contains(&percent), "{last}");
        pass(&mut slow, takes / 2 + 1000);
        let all = log(&slow, &upid);
        let without =
            |lines: &[String]| lines.iter().filter(|line| !is_progress(line)).cloned().collect::<Vec<_>>();
        assert_eq!(without(&all), without(&whole));
        assert_eq!(all.iter().filter(is_progress).count(), 102);
    }

    #[test]
    fn a_copy_is_told_while_it_goes_on() {
        check(CREATE, &[("vmid", "100"), DISK], |_| {});
        check("/nodes/pve1/qemu/100/clone", &[("newid", "101"), ("full", "1")], |world| {
            call(world, CREATE, &[("vmid", "100"), DISK]);
        });
    }

    #[test]
    fn what_is_stopped_midway_leaves_nothing() {
        let mut world = slow_world();
        let upid = call(&mut world, CREATE, &[("vmid", "100"), DISK]);
        pass(&mut world, 2000);
        assert!(world.volume("pve1", "local-lvm:vm-100-disk-0").is_ok());
        let key = world.tasks.key(&upid).unwrap();
        world.interrupt_task(key);
        assert!(world.volume("pve1", "local-lvm:vm-100-disk-0").is_err());
        assert!(world.guests.is_empty());
    }
}
