//! Making, copying, growing and freeing volumes; and the lines that PVE prints meanwhile.

use pve_types::Vmid;

use super::volumes::{VolumeName, image_format, parse_name, path_of, split_id};
use super::{BlockVolume, StorageDef, World};
use crate::vfs::{FsError, ImageFormat, ImageInfo};

/// Something made, with the lines that were printed on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The volume's id.
    pub id: String,
    /// What was printed.
    pub lines: Vec<String>,
}

/// What is to be allocated.
#[derive(Debug, Clone)]
pub struct NewVolume<'a> {
    /// The node.
    pub node: &'a str,
    /// The storage.
    pub storage: &'a str,
    /// Its owner.
    pub vmid: Vmid,
    /// `raw`, `qcow2`, `vmdk`.
    pub format: &'a str,
    /// Its name; the next free disk's when `None`.
    pub name: Option<String>,
    /// The size a guest sees, in bytes.
    pub size: u64,
    /// Bytes of data that are written to it at once.
    pub data: u64,
}

impl StorageDef {
    /// The formats that it can hold, and the one it takes by itself.
    // PVE: pve-storage src/PVE/Storage/*Plugin.pm plugindata format
    pub fn formats(&self) -> (&'static [&'static str], &'static str) {
        match self.kind.as_str() {
            "dir" => (&["qcow2", "raw", "subvol", "vmdk"], "raw"),
            "nfs" | "cifs" | "glusterfs" => (&["qcow2", "raw", "vmdk"], "raw"),
            "cephfs" => (&["raw"], "raw"),
            "btrfs" => (&["raw", "subvol"], "raw"),
            "zfspool" => (&["raw", "subvol"], "raw"),
            _ => (&["raw"], "raw"),
        }
    }
    /// The format of a new disk when none is asked for.
    pub fn default_format(&self) -> &str {
        match self.options.get("format") {
            Some(format) => format,
            None => self.formats().1,
        }
    }
    /// Tells whether it can hold the format.
    pub fn supports_format(&self, format: &str) -> bool {
        self.formats().0.contains(&format)
    }
    /// Tells whether volumes take only what is written to them.
    fn is_thin(&self) -> bool {
        match self.kind.as_str() {
            "lvm" => false,
            "zfspool" => self.options.get("sparse").is_some_and(|value| value == "1"),
            _ => true,
        }
    }
    /// Sizes are multiples of this, in bytes.
    fn granularity(&self) -> u64 {
        match self.kind.as_str() {
            "lvm" | "lvmthin" => 4 << 20,
            "zfspool" => 1 << 20,
            "rbd" => 1 << 20,
            _ => 1024,
        }
    }
}

fn size_with(size: u64, step: u64) -> u64 {
    size.div_ceil(step) * step
}

/// What qemu-img prints when it makes an image.
fn formatting(path: &str, format: &str, size: u64, backing: Option<&str>) -> String {
    match (format, backing) {
        ("qcow2", None) => format!(
            "Formatting '{path}', fmt=qcow2 cluster_size=65536 extended_l2=off preallocation=metadata \
             compression_type=zlib size={size} lazy_refcounts=off refcount_bits=16"
        ),
        ("qcow2", Some(backing)) => format!(
            "Formatting '{path}', fmt=qcow2 cluster_size=131072 extended_l2=on preallocation=metadata \
             compression_type=zlib size={size} backing_file={backing} backing_fmt={} lazy_refcounts=off refcount_bits=16",
            backing.rsplit_once('.').map_or("raw", |(_, format)| format)
        ),
        ("vmdk", _) => format!("Formatting '{path}', fmt=vmdk size={size} compat6=off hwversion=undefined"),
        _ => format!("Formatting '{path}', fmt={format} size={size} preallocation=off"),
    }
}

fn space_error(error: FsError, path: &str) -> String {
    match error {
        FsError::NoSpace => format!(
            "unable to create image: qemu-img: {path}: Could not resize file: No space left on device"
        ),
        other => format!("unable to create image: {other}"),
    }
}

impl World {
    /// Milliseconds from `so_far` (from now) until a volume is allocated on a storage. A storage allocates one volume
    /// after the other, under its lock.
    // PVE: pve-storage src/PVE/Storage.pm vdisk_alloc: cluster_lock_storage
    pub(crate) fn allocation_ms(&mut self, node: &str, storage: &str, so_far: u64) -> u64 {
        let takes = self.delays.allocate_ms * 1000;
        if takes == 0 {
            return 0;
        }
        let Some(home) = self.storages.get(storage).map(|def| self.block_home(def, node)) else { return 0 };
        let from = self.now() + so_far * 1000;
        let until = self.allocations.entry((home, storage.to_owned())).or_default();
        *until = from.max(*until) + takes;
        (*until - from).div_ceil(1000)
    }
    /// Allocates a volume.
    ///
    /// # Errors
    /// PVE's text; nothing is left behind.
    pub fn allocate(&mut self, new: &NewVolume<'_>) -> Result<Made, String> {
        let def = self.active_storage(new.storage, new.node)?.clone();
        if crate::fault::storage_is_full(self, new.storage, Some(new.vmid), new.node) {
            let name = new.name.clone().unwrap_or_else(|| format!("vm-{}-disk-0", new.vmid));
            return Err(match def.is_file_based() {
                true => space_error(FsError::NoSpace, &name),
                false => no_space(&def, &name, 0, new.size),
            });
        }
        if !def.supports_format(new.format) || new.format == "subvol" {
            return Err(format!("unsupported format '{}'", new.format));
        }
        let name = match &new.name {
            Some(name) => name.clone(),
            None => self.free_disk_name(&def, new),
        };
        match def.is_file_based() {
            true => self.allocate_file(&def, new, &name),
            false => self.allocate_block(&def, new, &name),
        }
    }

    fn free_disk_name(&self, def: &StorageDef, new: &NewVolume<'_>) -> String {
        let taken: Vec<u32> = self
            .volumes(new.node, &def.id, Some(new.vmid))
            .iter()
            .filter_map(|volume| disk_number(&volume.name.name))
            .collect();
        let number = (0..).find(|number| !taken.contains(number)).unwrap_or(0);
        let stem = format!("vm-{}-disk-{number}", new.vmid);
        if def.is_file_based() { format!("{stem}.{}", new.format) } else { stem }
    }

    fn allocate_file(&mut self, def: &StorageDef, new: &NewVolume<'_>, file: &str) -> Result<Made, String> {
        let id = format!("{}:{}/{file}", def.id, new.vmid);
        let name = parse_name(def, &format!("{}/{file}", new.vmid))?;
        let path = path_of(def, &name);
        let format = image_format(&name).unwrap_or(ImageFormat::Raw);
        let tree = self.files_mut(new.node, &path).ok_or_else(|| format!("no such node '{}'", new.node))?;
        if tree.exists(&path) {
            return Err(format!("disk image '{path}' already exists"));
        }
        let size = size_with(new.size, def.granularity());
        let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder).to_owned();
        tree.create_dir_all(&folder).map_err(|error| space_error(error, &path))?;
        let info = ImageInfo { format, virtual_size: size, backing_file: None };
        let overhead = if format == ImageFormat::Qcow2 { 196_616 } else { 0 };
        let taken = new.data + overhead;
        if let Err(error) = tree.write_image(&path, &info, taken, taken) {
            let _ = tree.remove_file(&path);
            return Err(space_error(error, &path));
        }
        Ok(Made { id, lines: vec![formatting(&path, new.format, size, None)] })
    }

    fn allocate_block(&mut self, def: &StorageDef, new: &NewVolume<'_>, name: &str) -> Result<Made, String> {
        let parsed = parse_name(def, name)?;
        if parsed.owner != Some(new.vmid) {
            return Err(format!("illegal name '{name}' - should be 'vm-{}-*'", new.vmid));
        }
        let size = size_with(new.size, def.granularity());
        let used = if def.is_thin() { new.data.min(size) } else { size };
        let (total, taken) = self.storage_usage(def, new.node);
        if taken + used > total {
            return Err(no_space(def, name, total.saturating_sub(taken), size));
        }
        let seed = rand::Rng::next_u64(&mut self.random);
        let created = self.now_seconds();
        let store = self.block_stores.entry((self.block_home(def, new.node), def.id.clone())).or_default();
        if store.volumes.contains_key(name) {
            return Err(exists_error(def, name));
        }
        let volume = BlockVolume { size, used, parent: None, created, seed, snapshots: Default::default() };
        store.volumes.insert(name.to_owned(), volume);
        let lines = if def.kind.starts_with("lvm") {
            vec![format!("  Logical volume \"{name}\" created.")]
        } else {
            Vec::new()
        };
        Ok(Made { id: format!("{}:{name}", def.id), lines })
    }

    /// Writes `data` bytes into a volume that was just allocated.
    ///
    /// # Errors
    /// The storage is full.
    pub fn fill_volume(&mut self, node: &str, id: &str, data: u64) -> Result<(), String> {
        let (storage, name) = split_id(id)?;
        let def = self.active_storage(storage, node)?.clone();
        let parsed = parse_name(&def, name)?;
        let full = || "No space left on device".to_owned();
        if def.is_file_based() {
            let path = path_of(&def, &parsed);
            let tree = self.files_mut(node, &path).ok_or_else(full)?;
            let info = tree.image(&path).map_err(|error| error.to_string())?;
            return tree.write_image(&path, &info, data, data).map_err(|_| full());
        }
        let (total, taken) = self.storage_usage(&def, node);
        let home = self.block_home(&def, node);
        let store = self.block_stores.entry((home, def.id.clone())).or_default();
        let volume = store.volumes.get_mut(&parsed.name).ok_or_else(|| missing_error(&def, &parsed.name))?;
        let used = volume.used.max(data.min(volume.size));
        if taken - volume.used + used > total {
            return Err(full());
        }
        volume.used = used;
        Ok(())
    }

    /// Frees a volume; returns what is printed.
    ///
    /// # Errors
    /// PVE's text; a base that clones build upon is not freed.
    pub fn free_volume(&mut self, node: &str, id: &str) -> Result<Vec<String>, String> {
        let (storage, name) = split_id(id)?;
        let def = self.active_storage(storage, node)?.clone();
        let parsed = parse_name(&def, name)?;
        if parsed.is_base() && self.has_clones(node, &def, &parsed) {
            return Err(format!("base volume '{id}' is still in use by linked cloned"));
        }
        if def.is_file_based() {
            let path = path_of(&def, &parsed);
            let tree = self.files_mut(node, &path).ok_or_else(|| format!("no such node '{node}'"))?;
            return match tree.remove_file(&path) {
                Ok(()) => {
                    if parsed.content == "images"
                        && let Some((folder, _)) = path.rsplit_once('/')
                    {
                        let _ = tree.remove_dir(folder);
                    }
                    Ok(Vec::new())
                }
                // PVE: pve-storage src/PVE/Storage/Plugin.pm free_image: a missing file is only warned of.
                Err(_) => Ok(vec![format!("disk image '{path}' does not exist")]),
            };
        }
        let home = self.block_home(&def, node);
        let store = self.block_stores.entry((home, def.id.clone())).or_default();
        match store.volumes.remove(&parsed.name) {
            Some(_) if def.kind.starts_with("lvm") => {
                Ok(vec![format!("  Logical volume \"{}\" successfully removed.", parsed.name)])
            }
            Some(_) => Ok(Vec::new()),
            None => Err(missing_error(&def, &parsed.name)),
        }
    }

    /// Tells whether linked clones build upon the volume.
    pub fn is_base_in_use(&self, node: &str, id: &str) -> bool {
        let parsed = split_id(id).and_then(|(storage, name)| {
            let def = self.storage(storage)?;
            Ok((def, parse_name(def, name)?))
        });
        parsed.is_ok_and(|(def, name)| name.is_base() && self.has_clones(node, def, &name))
    }

    /// Tells whether linked clones build upon a base volume.
    fn has_clones(&self, node: &str, def: &StorageDef, base: &VolumeName) -> bool {
        if !def.is_file_based() {
            let store = self.block_stores.get(&(self.block_home(def, node), def.id.clone()));
            let is_parent = |parent: &Option<String>| parent.as_deref() == Some(base.name.as_str());
            // A thin volume's clones do not need it.
            return def.kind != "lvmthin"
                && store.is_some_and(|store| store.volumes.values().any(|volume| is_parent(&volume.parent)));
        }
        let owner = base.owner.map_or_else(String::new, |owner| owner.to_string());
        let wanted = format!("../{owner}/{}", base.name);
        self.volumes(node, &def.id, None)
            .iter()
            .any(|volume| volume.parent.as_deref() == Some(wanted.as_str()))
    }

    /// Grows a volume to `size` bytes; returns what is printed.
    ///
    /// # Errors
    /// PVE's text.
    pub fn grow_volume(&mut self, node: &str, id: &str, size: u64) -> Result<Vec<String>, String> {
        let (storage, name) = split_id(id)?;
        let def = self.active_storage(storage, node)?.clone();
        let parsed = parse_name(&def, name)?;
        if def.is_file_based() {
            let path = path_of(&def, &parsed);
            let tree = self.files_mut(node, &path).ok_or_else(|| format!("no such node '{node}'"))?;
            tree.resize_image(&path, size)
                .map_err(|error| format!("command '/usr/bin/qemu-img resize' failed: {error}"))?;
            return Ok(vec!["Image resized.".to_owned()]);
        }
        let size = size_with(size, def.granularity());
        let (total, taken) = self.storage_usage(&def, node);
        let home = self.block_home(&def, node);
        let store = self.block_stores.entry((home, def.id.clone())).or_default();
        let volume = store.volumes.get_mut(&parsed.name).ok_or_else(|| missing_error(&def, &parsed.name))?;
        let more = if def.is_thin() { 0 } else { size.saturating_sub(volume.size) };
        if taken + more > total {
            return Err(no_space(&def, &parsed.name, total.saturating_sub(taken), more));
        }
        let old = std::mem::replace(&mut volume.size, size);
        volume.used += more;
        if !def.kind.starts_with("lvm") {
            return Ok(Vec::new());
        }
        let shown = |bytes: u64| {
            format!("{:.2} GiB ({} extents)", bytes as f64 / (1u64 << 30) as f64, bytes / (4 << 20))
        };
        let vg = def.options.get("vgname").cloned().unwrap_or_default();
        Ok(vec![
            format!(
                "  Size of logical volume {vg}/{} changed from {} to {}.",
                parsed.name,
                shown(old),
                shown(size)
            ),
            format!("  Logical volume {vg}/{} successfully resized.", parsed.name),
        ])
    }

    /// Gives a volume the size back that a snapshot has.
    pub fn restore_size(&mut self, node: &str, id: &str, size: u64) -> Result<(), String> {
        let (storage, name) = split_id(id)?;
        let def = self.active_storage(storage, node)?.clone();
        let parsed = parse_name(&def, name)?;
        if def.is_file_based() {
            let path = path_of(&def, &parsed);
            let tree = self.files_mut(node, &path).ok_or_else(|| format!("no such node '{node}'"))?;
            return tree.set_image_size(&path, size).map_err(|error| error.to_string());
        }
        let home = self.block_home(&def, node);
        let store = self.block_stores.entry((home, def.id.clone())).or_default();
        let volume = store.volumes.get_mut(&parsed.name).ok_or_else(|| missing_error(&def, &parsed.name))?;
        volume.size = size_with(size, def.granularity());
        Ok(())
    }

    /// Turns a template's volume into a base; returns its new id (the same where the storage has no bases).
    ///
    /// # Errors
    /// PVE's text.
    pub fn make_base(&mut self, node: &str, id: &str) -> Result<String, String> {
        let (storage, name) = split_id(id)?;
        let def = self.active_storage(storage, node)?.clone();
        let parsed = parse_name(&def, name)?;
        if parsed.is_base() || !parsed.name.starts_with("vm-") || def.kind == "lvm" {
            return Ok(id.to_owned());
        }
        self.rename_volume(node, &def, &parsed, parsed.owner, &format!("base-{}", &parsed.name[3..]))
    }

    /// Gives a volume to another guest; returns its new id.
    ///
    /// # Errors
    /// PVE's text.
    pub fn reassign_volume(&mut self, node: &str, id: &str, vmid: Vmid) -> Result<String, String> {
        let (storage, name) = split_id(id)?;
        let def = self.active_storage(storage, node)?.clone();
        let parsed = parse_name(&def, name)?;
        let new = NewVolume { node, storage, vmid, format: &parsed.format, name: None, size: 0, data: 0 };
        let target = self.free_disk_name(&def, &new);
        self.rename_volume(node, &def, &parsed, Some(vmid), &target)
    }

    fn rename_volume(
        &mut self,
        node: &str,
        def: &StorageDef,
        old: &VolumeName,
        owner: Option<Vmid>,
        new_name: &str,
    ) -> Result<String, String> {
        let new = VolumeName { name: new_name.to_owned(), owner, ..old.clone() };
        if def.is_file_based() {
            let (from, to) = (path_of(def, old), path_of(def, &new));
            let tree = self.files_mut(node, &from).ok_or_else(|| format!("no such node '{node}'"))?;
            let folder = to.rsplit_once('/').map_or("/", |(folder, _)| folder).to_owned();
            let moved = tree.create_dir_all(&folder).and_then(|()| tree.rename(&from, &to));
            moved.map_err(|error| format!("rename '{from}' to '{to}' failed - {error}"))?;
            let owner = owner.map_or_else(String::new, |owner| owner.to_string());
            let base = new.base.as_ref().map_or_else(String::new, |(owner, name)| format!("{owner}/{name}/"));
            return Ok(format!("{}:{base}{owner}/{new_name}", def.id));
        }
        let home = self.block_home(def, node);
        let store = self.block_stores.entry((home, def.id.clone())).or_default();
        let volume = store.volumes.remove(&old.name).ok_or_else(|| missing_error(def, &old.name))?;
        store.volumes.insert(new_name.to_owned(), volume);
        let base = new.base.as_ref().map_or_else(String::new, |(_, name)| format!("{name}/"));
        Ok(format!("{}:{base}{new_name}", def.id))
    }

    /// Tells whether a linked clone of the volume can be made.
    pub fn can_link(&self, id: &str) -> bool {
        let Ok((storage, name)) = split_id(id) else { return false };
        let Ok(def) = self.storage(storage) else { return false };
        let Ok(parsed) = parse_name(def, name) else { return false };
        let by_kind = match def.kind.as_str() {
            "lvmthin" | "zfspool" | "rbd" | "btrfs" => true,
            _ => {
                def.is_file_based()
                    && matches!(parsed.format.as_str(), "qcow2" | "raw" | "vmdk")
                    && def.kind != "cephfs"
            }
        };
        by_kind && parsed.is_base()
    }

    /// Makes a linked clone of a base volume for `vmid`.
    ///
    /// # Errors
    /// PVE's text.
    pub fn link_volume(&mut self, node: &str, id: &str, vmid: Vmid) -> Result<Made, String> {
        let (storage, volume_name) = split_id(id)?;
        let def = self.active_storage(storage, node)?.clone();
        let base = parse_name(&def, volume_name)?;
        let source = self.volume(node, id)?;
        let format = if def.is_file_based() { "qcow2" } else { "raw" };
        let new = NewVolume { node, storage, vmid, format, name: None, size: source.size, data: 0 };
        let name = self.free_disk_name(&def, &new);
        let base_owner = base.owner.map_or_else(String::new, |owner| owner.to_string());
        if !def.is_file_based() {
            let made = self.allocate_block(&def, &NewVolume { name: Some(name.clone()), ..new }, &name)?;
            let home = self.block_home(&def, node);
            let store = self.block_stores.entry((home, def.id.clone())).or_default();
            if let Some(volume) = store.volumes.get_mut(&name) {
                volume.parent = Some(base.name.clone());
            }
            let is_lvm = def.kind.starts_with("lvm");
            let prefix = if is_lvm { String::new() } else { format!("{}/", base.name) };
            return Ok(Made { id: format!("{}:{prefix}{name}", def.id), lines: made.lines });
        }
        let backing = format!("../{base_owner}/{}", base.name);
        let path = path_of(&def, &VolumeName { name: name.clone(), owner: Some(vmid), ..base.clone() });
        let info = ImageInfo {
            format: ImageFormat::Qcow2,
            virtual_size: source.size,
            backing_file: Some(backing.clone()),
        };
        let tree = self.files_mut(node, &path).ok_or_else(|| format!("no such node '{node}'"))?;
        let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder).to_owned();
        let written =
            tree.create_dir_all(&folder).and_then(|()| tree.write_image(&path, &info, 200_704, 200_704));
        written.map_err(|error| space_error(error, &path))?;
        let lines = vec![
            format!("clone {volume_name}: images, {name}, {vmid} to {name} (base={backing})"),
            formatting(&path, "qcow2", source.size, Some(&backing)),
        ];
        Ok(Made { id: format!("{}:{base_owner}/{}/{vmid}/{name}", def.id, base.name), lines })
    }

    /// How much data an image holds: what copying it takes on the target.
    pub fn data_of(&self, node: &str, id: &str) -> u64 {
        self.volume(node, id).map_or(0, |volume| volume.used.min(volume.size))
    }

    /// Makes the file in which an upload is kept aside, as PVE does below /var/tmp; returns where.
    ///
    /// # Errors
    /// There is no such node.
    pub fn begin_upload(&mut self, node: &str) -> Result<String, crate::Refusal> {
        let number = rand::Rng::next_u64(&mut self.random);
        let path = format!("/var/tmp/pveupload-{number:016x}{number:016x}");
        let tree = self.files_mut(node, &path).ok_or_else(upload_is_full)?;
        tree.create_dir_all("/var/tmp")
            .and_then(|()| tree.write(&path, b""))
            .map_err(|_| upload_is_full())?;
        Ok(path)
    }

    /// Writes a piece of an upload.
    ///
    /// # Errors
    /// The node's file system is full.
    pub fn extend_upload(
        &mut self,
        node: &str,
        path: &str,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), crate::Refusal> {
        let tree = self.files_mut(node, path).ok_or_else(upload_is_full)?;
        tree.write_at(path, offset, bytes).map_err(|_| upload_is_full())
    }

    /// Removes an upload that was refused.
    pub fn drop_upload(&mut self, node: &str, path: &str) {
        if let Some(tree) = self.files_mut(node, path) {
            let _ = tree.remove_file(path);
        }
    }
}

fn upload_is_full() -> crate::Refusal {
    crate::Refusal::died("write failed - No space left on device")
}

/// N of `vm-100-disk-N`.
fn disk_number(name: &str) -> Option<u32> {
    let (_, number) = name.split_once("-disk-")?;
    number.split('.').next()?.parse().ok()
}

fn no_space(def: &StorageDef, name: &str, free: u64, size: u64) -> String {
    let pool = def.options.get("pool").cloned().unwrap_or_default();
    match def.kind.as_str() {
        "lvm" => format!("not enough free space ({free} < {size})"),
        "zfspool" => format!("zfs error: cannot create '{pool}/{name}': out of space"),
        "rbd" => format!("rbd create '{name}' error: No space left on device"),
        _ => {
            let vg = def.options.get("vgname").cloned().unwrap_or_default();
            let pool = def.options.get("thinpool").cloned().unwrap_or_default();
            format!(
                "lvcreate '{vg}/{name}' error:   Cannot create new thin volume, free space in thin pool {vg}/{pool} reached threshold."
            )
        }
    }
}

fn exists_error(def: &StorageDef, name: &str) -> String {
    let vg = def.options.get("vgname").cloned().unwrap_or_default();
    match def.kind.as_str() {
        "lvm" | "lvmthin" => {
            format!(
                "lvcreate '{vg}/{name}' error:   Logical Volume \"{name}\" already exists in volume group \"{vg}\""
            )
        }
        "zfspool" => format!("zfs error: cannot create '{name}': dataset already exists"),
        _ => format!("rbd create '{name}' error: rbd: create error: (17) File exists"),
    }
}

fn missing_error(def: &StorageDef, name: &str) -> String {
    let vg = def.options.get("vgname").cloned().unwrap_or_default();
    match def.kind.as_str() {
        "lvm" | "lvmthin" => {
            format!("lvremove '{vg}/{name}' error:   Failed to find logical volume \"{vg}/{name}\"")
        }
        "zfspool" => format!("zfs error: cannot open '{name}': dataset does not exist"),
        _ => format!("rbd rm '{name}' error: rbd: error opening image {name}: (2) No such file or directory"),
    }
}
