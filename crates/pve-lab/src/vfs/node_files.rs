//! All files that a node shows: its own, those of shared storages, and what PVE makes of its state
//! (`/etc/pve`, the task logs).

use pve_types::Vmid;

use super::cluster_texts;
use super::{FsError, ImageInfo, Kind, Space, Stat, Vfs, normalize};
use crate::world::{GuestKind, World};

const CLUSTER_ROOT: &str = "/etc/pve";
const TASKS_ROOT: &str = "/var/log/pve/tasks";
/// www-data, which may read what pmxcfs holds.
const WWW_DATA: u32 = 33;
/// pmxcfs takes no larger file.
// PVE: pve-cluster src/pmxcfs/memdb.h MEMDB_MAX_FILE_SIZE
const MAX_CLUSTER_FILE: u64 = 1024 * 1024;

/// The files of one node, for as long as the world is held.
pub struct NodeFiles<'w> {
    world: &'w mut World,
    node: &'w str,
}

/// What is made of the world's state instead of being kept as a file.
enum Rendered {
    File(String),
    Directory(Vec<String>),
}

impl<'w> NodeFiles<'w> {
    /// Returns the files of `node`.
    pub fn new(world: &'w mut World, node: &'w str) -> Self {
        Self { world, node }
    }

    /// The absolute path without `.`, `..` and PVE's own links.
    fn place(&self, path: &str) -> String {
        let path = normalize("/", path);
        let rest =
            |prefix: &str| path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        for (link, target) in
            [("/etc/pve/local", ""), ("/etc/pve/qemu-server", "/qemu-server"), ("/etc/pve/lxc", "/lxc")]
        {
            if let Some(rest) = rest(link) {
                return format!("/etc/pve/nodes/{}{target}{rest}", self.node);
            }
        }
        path
    }

    fn tree(&self, place: &str) -> Result<&Vfs, FsError> {
        if is_below(place, CLUSTER_ROOT) {
            return Ok(&self.world.cluster_files);
        }
        self.world.files(self.node, place).ok_or(FsError::NotFound)
    }

    /// The tree, to be changed at `place`.
    fn tree_mut(&mut self, place: &str) -> Result<&mut Vfs, FsError> {
        if is_below(place, CLUSTER_ROOT) {
            if !self.world.quorate {
                return Err(FsError::PermissionDenied);
            }
            if self.rendered(place).is_some() {
                return Err(FsError::NotPermitted);
            }
            return Ok(&mut self.world.cluster_files);
        }
        if self.rendered(place).is_some() {
            return Err(FsError::NotPermitted);
        }
        self.world.files_mut(self.node, place).ok_or(FsError::NotFound)
    }

    // ---- what is made of the world's state

    fn rendered(&self, place: &str) -> Option<Rendered> {
        if let Some(rest) = place.strip_prefix(TASKS_ROOT) {
            return self.rendered_task(rest);
        }
        if let Some(pid) = place.strip_prefix("/proc/").and_then(|rest| rest.strip_suffix("/stat")) {
            return self.rendered_process(pid.parse().ok()?);
        }
        let rest = place.strip_prefix(CLUSTER_ROOT)?;
        let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            [] => Some(Rendered::Directory(self.cluster_names())),
            ["nodes"] => Some(Rendered::Directory(self.world.nodes.keys().cloned().collect())),
            ["nodes", node] if self.world.nodes.contains_key(*node) => {
                let names = ["lxc", "priv", "qemu-server"];
                Some(Rendered::Directory(names.map(str::to_owned).to_vec()))
            }
            ["nodes", node, "priv"] if self.world.nodes.contains_key(*node) => {
                Some(Rendered::Directory(Vec::new()))
            }
            ["nodes", node, folder @ ("qemu-server" | "lxc")] if self.world.nodes.contains_key(*node) => {
                Some(Rendered::Directory(self.configurations(node, folder)))
            }
            ["nodes", node, folder @ ("qemu-server" | "lxc"), name] => {
                self.configuration(node, folder, name).map(Rendered::File)
            }
            ["priv"] => Some(Rendered::Directory(vec!["lock".into()])),
            ["storage.cfg"] => Some(Rendered::File(cluster_texts::storage_cfg(self.world))),
            ["user.cfg"] => Some(Rendered::File(cluster_texts::user_cfg(self.world))),
            ["datacenter.cfg"] if !self.world.datacenter.is_empty() => {
                let lines = self.world.datacenter.iter().map(|(key, value)| format!("{key}: {value}\n"));
                Some(Rendered::File(lines.collect()))
            }
            [".members"] => Some(Rendered::File(cluster_texts::members(self.world, self.node))),
            ["ha", name] => {
                let sections =
                    self.world.sections.get(format!("ha/{}", name.strip_suffix(".cfg")?).as_str())?;
                Some(Rendered::File(cluster_texts::sections(sections)))
            }
            ["mapping", name] => {
                let kind = match name.strip_suffix(".cfg")? {
                    "directory" => "dir",
                    kind @ ("pci" | "usb") => kind,
                    _ => return None,
                };
                let sections = self.world.sections.get(format!("mapping/{kind}").as_str())?;
                Some(Rendered::File(cluster_texts::mappings(sections)))
            }
            ["sdn", "vnets.cfg"] if !self.world.zones.is_empty() => {
                Some(Rendered::File(cluster_texts::vnets_cfg(self.world)))
            }
            _ => None,
        }
    }

    fn cluster_names(&self) -> Vec<String> {
        let mut names = vec!["local", "lxc", "nodes", "priv", "qemu-server", "storage.cfg", "user.cfg"];
        if !self.world.datacenter.is_empty() {
            names.push("datacenter.cfg");
        }
        names.into_iter().map(str::to_owned).collect()
    }

    fn configurations(&self, node: &str, folder: &str) -> Vec<String> {
        let on_node =
            self.world.guests.values().filter(|guest| guest.node == node && folder_of(guest.kind) == folder);
        on_node.map(|guest| format!("{}.conf", guest.vmid)).collect()
    }

    fn configuration(&self, node: &str, folder: &str, name: &str) -> Option<String> {
        let vmid: Vmid = name.strip_suffix(".conf")?.parse().ok()?;
        let guest = self.world.guests.get(&vmid)?;
        (guest.node == node && folder_of(guest.kind) == folder).then(|| guest.config_text())
    }

    fn rendered_task(&self, rest: &str) -> Option<Rendered> {
        let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
        let tasks = || self.world.tasks.newest_first().filter(|task| task.node == self.node);
        match parts.as_slice() {
            [] => {
                let mut names: Vec<String> = tasks().map(|task| task_folder(&task.upid)).collect();
                names.extend(["active".to_owned(), "index".to_owned()]);
                Some(Rendered::Directory(names))
            }
            [name @ ("active" | "index")] => {
                let wanted = |running: bool| (*name == "active") == running;
                // PVE: pve-common src/PVE/RESTEnvironment.pm active_workers appends each task when it has ended.
                let mut all: Vec<_> = tasks().filter(|task| wanted(task.exit_status().is_none())).collect();
                all.reverse();
                all.sort_by_key(|task| task.ended.unwrap_or(task.started));
                let lines = all.into_iter().map(|task| match (task.ended, task.exit_status()) {
                    (Some(ended), Some(status)) => format!("{} {ended:08X} {status}\n", task.upid),
                    _ => format!("{} 0\n", task.upid),
                });
                Some(Rendered::File(lines.collect()))
            }
            [folder] => {
                let names: Vec<String> = tasks()
                    .map(|task| task.upid.clone())
                    .filter(|upid| task_folder(upid) == *folder)
                    .collect();
                (!names.is_empty()).then_some(Rendered::Directory(names))
            }
            [folder, upid] if task_folder(upid) == *folder => {
                let task = self.world.tasks.get(upid).filter(|task| task.node == self.node)?;
                Some(Rendered::File(task.log().iter().map(|line| format!("{line}\n")).collect()))
            }
            _ => None,
        }
    }

    /// What the kernel tells of a task's process, with what PVE looks at: its start, the 22nd field.
    fn rendered_process(&self, pid: u32) -> Option<Rendered> {
        let runs = |task: &&crate::world::Task| {
            task.node == self.node && task.pid == pid && task.exit_status().is_none()
        };
        let task = self.world.tasks.newest_first().find(runs)?;
        let between = "0 ".repeat(18);
        Some(Rendered::File(format!("{pid} (task {}) S {between}{} 0\n", task.upid, task.pstart)))
    }

    fn rendered_stat(&self, place: &str, rendered: &Rendered) -> Stat {
        let is_private = place.starts_with("/etc/pve/priv") || place.ends_with("/priv");
        let (kind, mode, size) = match rendered {
            Rendered::File(text) => (Kind::File, if is_private { 0o600 } else { 0o640 }, text.len() as u64),
            Rendered::Directory(_) => (Kind::Directory, if is_private { 0o700 } else { 0o755 }, 0),
        };
        let mtime = self.world.now_seconds();
        Stat { kind, mode, size, allocated: size, mtime, uid: 0, gid: WWW_DATA, inode: 0, links: 1 }
    }

    // ---- looking

    /// Returns what `path` is, following links.
    ///
    /// # Errors
    /// As [`Vfs::stat`].
    pub fn stat(&self, path: &str) -> Result<Stat, FsError> {
        let place = self.place(path);
        match self.rendered(&place) {
            Some(Rendered::File(_)) if path.ends_with('/') => Err(FsError::NotADirectory),
            Some(rendered) => Ok(self.rendered_stat(&place, &rendered)),
            None => self.tree(&place)?.stat(&keep_slash(path, place)),
        }
    }

    /// Returns what `path` is, without following a link that it names.
    ///
    /// # Errors
    /// As [`Vfs::stat`].
    pub fn stat_link(&self, path: &str) -> Result<Stat, FsError> {
        if let Ok(target) = self.read_link(path) {
            let size = target.len() as u64;
            let mtime = self.world.now_seconds();
            return Ok(Stat {
                kind: Kind::Symlink,
                mode: 0o777,
                size,
                allocated: 0,
                mtime,
                uid: 0,
                gid: 0,
                inode: 0,
                links: 1,
            });
        }
        let place = self.place(path);
        match self.rendered(&place) {
            Some(rendered) => Ok(self.rendered_stat(&place, &rendered)),
            None => self.tree(&place)?.stat_link(&keep_slash(path, place)),
        }
    }

    /// Tells whether `path` exists.
    pub fn exists(&self, path: &str) -> bool {
        self.stat(path).is_ok()
    }

    /// Returns the names in a directory, sorted.
    ///
    /// # Errors
    /// As [`Vfs::list`].
    pub fn list(&self, path: &str) -> Result<Vec<String>, FsError> {
        let place = self.place(path);
        let kept = self.tree(&place).and_then(|tree| tree.list(&place));
        match self.rendered(&place) {
            Some(Rendered::Directory(mut names)) => {
                names.extend(kept.unwrap_or_default());
                names.sort();
                names.dedup();
                Ok(names)
            }
            Some(Rendered::File(_)) => Err(FsError::NotADirectory),
            None => kept,
        }
    }

    /// Returns the path without links, `.` and `..`.
    ///
    /// # Errors
    /// As [`Vfs::stat`].
    pub fn real_path(&self, path: &str) -> Result<String, FsError> {
        let place = self.place(path);
        if self.rendered(&place).is_some() {
            return Ok(place);
        }
        self.tree(&place)?.real_path(&place)
    }

    /// Returns what a symbolic link says.
    ///
    /// # Errors
    /// `Invalid` when it is not a link.
    pub fn read_link(&self, path: &str) -> Result<String, FsError> {
        match normalize("/", path).as_str() {
            "/etc/pve/local" => Ok(format!("nodes/{}", self.node)),
            "/etc/pve/qemu-server" => Ok(format!("nodes/{}/qemu-server", self.node)),
            "/etc/pve/lxc" => Ok(format!("nodes/{}/lxc", self.node)),
            _ => {
                let place = self.place(path);
                self.tree(&place)?.read_link(&place)
            }
        }
    }

    /// Returns a whole file.
    ///
    /// # Errors
    /// As [`Vfs::read`].
    pub fn read(&self, path: &str) -> Result<Vec<u8>, FsError> {
        self.read_at(path, 0, u64::MAX)
    }

    /// Returns up to `length` bytes from `offset`.
    ///
    /// # Errors
    /// As [`Vfs::read`].
    pub fn read_at(&self, path: &str, offset: u64, length: u64) -> Result<Vec<u8>, FsError> {
        let place = self.place(path);
        match self.rendered(&place) {
            Some(Rendered::Directory(_)) => Err(FsError::IsADirectory),
            Some(Rendered::File(text)) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
                let end =
                    usize::try_from(offset.saturating_add(length)).unwrap_or(usize::MAX).min(text.len());
                Ok(text.as_bytes()[start..end].to_vec())
            }
            None => self.tree(&place)?.read_at(&place, offset, length),
        }
    }

    /// Returns the format and virtual size of an image file.
    ///
    /// # Errors
    /// As [`Vfs::image`].
    pub fn image(&self, path: &str) -> Result<ImageInfo, FsError> {
        let place = self.place(path);
        self.tree(&place)?.image(&place)
    }

    /// Returns the space of the file system that holds `path`.
    pub fn space(&self, path: &str) -> Option<Space> {
        let place = self.place(path);
        if is_below(&place, CLUSTER_ROOT) {
            let used = 24 * 1024;
            let total = 128 << 20;
            return Some(Space {
                mounted_on: CLUSTER_ROOT.into(),
                device: "/dev/fuse".into(),
                total,
                used,
                available: total - used,
            });
        }
        self.shared_space(&place).or_else(|| self.tree(&place).ok().map(|tree| tree.space(&place)))
    }

    fn shared_space(&self, place: &str) -> Option<Space> {
        let def = self
            .world
            .storages
            .values()
            .find(|def| def.is_shared() && def.path().is_some_and(|path| is_below(place, &path)))?;
        let tree = self.world.shared_files.get(&def.id)?;
        let (server, export) =
            (def.options.get("server"), def.options.get("export").or_else(|| def.options.get("share")));
        let device = match (server, export) {
            (Some(server), Some(export)) => format!("{server}:{export}"),
            _ => def.id.clone(),
        };
        Some(Space { mounted_on: def.path()?, device, ..tree.space("/") })
    }

    /// Returns all file systems of the node.
    pub fn spaces(&self) -> Vec<Space> {
        let mut spaces = self.tree("/").map(Vfs::spaces).unwrap_or_default();
        let shared = self.world.storages.values().filter(|def| def.is_shared()).filter_map(|def| def.path());
        spaces.extend(shared.filter_map(|path| self.shared_space(&path)));
        spaces.extend(self.space(CLUSTER_ROOT));
        spaces
    }

    // ---- changing

    /// Makes one directory.
    ///
    /// # Errors
    /// As [`Vfs::create_dir`].
    pub fn create_dir(&mut self, path: &str) -> Result<(), FsError> {
        if self.stat_link(path.trim_end_matches('/')).is_ok() {
            return Err(FsError::Exists);
        }
        let place = self.place(path);
        self.make_rendered_parent(&place);
        self.tree_mut(&place)?.create_dir(&place)
    }

    /// Directories that PVE creates are created below what is kept.
    fn make_rendered_parent(&mut self, place: &str) {
        let parent = place.rsplit_once('/').map_or("/", |(parent, _)| parent).to_owned();
        if is_below(&parent, CLUSTER_ROOT) && matches!(self.rendered(&parent), Some(Rendered::Directory(_))) {
            let _ = self.world.cluster_files.create_dir_all(&parent);
        }
    }

    /// Makes a directory and those above it.
    ///
    /// # Errors
    /// As [`Vfs::create_dir_all`].
    pub fn create_dir_all(&mut self, path: &str) -> Result<(), FsError> {
        let place = self.place(path);
        let ends = place.match_indices('/').map(|(at, _)| at).skip(1).chain([place.len()]);
        let steps: Vec<String> =
            ends.map(|end| place[..end].to_owned()).filter(|step| step.len() > 1).collect();
        for step in &steps {
            match self.stat(step) {
                Ok(stat) if stat.kind == Kind::Directory => {}
                Ok(_) if step == &place => return Err(FsError::Exists),
                Ok(_) => return Err(FsError::NotADirectory),
                Err(FsError::NotFound) => self.create_dir(step)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// As [`Vfs::remove_dir`].
    pub fn remove_dir(&mut self, path: &str) -> Result<(), FsError> {
        let place = self.place(path);
        self.tree_mut(&place)?.remove_dir(&place)
    }

    /// Removes a name that is not a directory.
    ///
    /// # Errors
    /// As [`Vfs::remove_file`].
    pub fn remove_file(&mut self, path: &str) -> Result<(), FsError> {
        let place = self.place(path);
        self.tree_mut(&place)?.remove_file(&place)
    }

    /// Renames within one file system.
    ///
    /// # Errors
    /// As [`Vfs::rename`].
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), FsError> {
        let (from, to) = (self.place(from), self.place(to));
        self.make_rendered_parent(&to);
        let (here, there) = (std::ptr::from_ref(self.tree(&from)?), std::ptr::from_ref(self.tree(&to)?));
        if here != there {
            self.stat_link(&from)?;
            return Err(FsError::CrossDevice);
        }
        self.tree_mut(&to)?;
        self.tree_mut(&from)?.rename(&from, &to)
    }

    /// Makes a symbolic link at `path` that says `target`.
    ///
    /// # Errors
    /// As [`Vfs::symlink`]; `NotPermitted` in `/etc/pve`.
    pub fn symlink(&mut self, target: &str, path: &str) -> Result<(), FsError> {
        let place = self.place(path);
        if is_below(&place, CLUSTER_ROOT) {
            return Err(FsError::NotPermitted);
        }
        self.tree_mut(&place)?.symlink(target, &place)
    }

    /// Sets the permission bits; pmxcfs does not let itself be told.
    ///
    /// # Errors
    /// As [`Vfs::set_mode`]; `NotPermitted` in `/etc/pve`.
    pub fn set_mode(&mut self, path: &str, mode: u32) -> Result<(), FsError> {
        let place = self.place(path);
        if is_below(&place, CLUSTER_ROOT) {
            self.stat(&place)?;
            return Err(FsError::NotPermitted);
        }
        self.tree_mut(&place)?.set_mode(&place, mode)
    }

    /// Sets owner and group.
    ///
    /// # Errors
    /// As [`NodeFiles::set_mode`].
    pub fn set_owner(&mut self, path: &str, uid: u32, gid: u32) -> Result<(), FsError> {
        let place = self.place(path);
        if is_below(&place, CLUSTER_ROOT) {
            self.stat(&place)?;
            return Err(FsError::NotPermitted);
        }
        self.tree_mut(&place)?.set_owner(&place, uid, gid)
    }

    /// Sets the time of the last change.
    ///
    /// # Errors
    /// As [`Vfs::set_mtime`].
    pub fn set_mtime(&mut self, path: &str, mtime: u64) -> Result<(), FsError> {
        let place = self.place(path);
        self.tree_mut(&place)?.set_mtime(&place, mtime)
    }

    /// Makes an empty file where there is none.
    ///
    /// # Errors
    /// As [`Vfs::open_or_create`].
    pub fn create(&mut self, path: &str, mode: u32) -> Result<(), FsError> {
        let place = self.place(path);
        self.make_rendered_parent(&place);
        let tree = self.tree_mut(&place)?;
        let handle = tree.open_or_create(&keep_slash(path, place), mode)?;
        tree.close(handle);
        Ok(())
    }

    /// Makes an empty file; refuses one that is there.
    ///
    /// # Errors
    /// As [`Vfs::open_new`].
    pub fn create_new(&mut self, path: &str, mode: u32) -> Result<(), FsError> {
        let place = self.place(path);
        self.make_rendered_parent(&place);
        let tree = self.tree_mut(&place)?;
        let handle = tree.open_new(&place, mode)?;
        tree.close(handle);
        Ok(())
    }

    /// Writes into an existing file.
    ///
    /// # Errors
    /// As [`Vfs::handle_write`].
    pub fn write_at(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), FsError> {
        let place = self.place(path);
        if is_below(&place, CLUSTER_ROOT) && offset.saturating_add(bytes.len() as u64) > MAX_CLUSTER_FILE {
            return Err(FsError::TooLarge);
        }
        let tree = self.tree_mut(&place)?;
        let handle = tree.open(&place)?;
        let done = tree.handle_write(handle, offset, bytes);
        tree.close(handle);
        done
    }

    /// Cuts an existing file, or grows it by a hole.
    ///
    /// # Errors
    /// As [`Vfs::handle_truncate`].
    pub fn truncate(&mut self, path: &str, length: u64) -> Result<(), FsError> {
        let place = self.place(path);
        let tree = self.tree_mut(&place)?;
        let handle = tree.open(&place)?;
        let done = tree.handle_truncate(handle, length);
        tree.close(handle);
        done
    }

    /// Replaces a file's contents.
    ///
    /// # Errors
    /// As [`Vfs::write`].
    pub fn write(&mut self, path: &str, bytes: &[u8]) -> Result<(), FsError> {
        self.create(path, 0o644)?;
        self.truncate(path, 0)?;
        self.write_at(path, 0, bytes)
    }

    /// Copies a file's contents and mode.
    ///
    /// # Errors
    /// As [`Vfs::copy`].
    pub fn copy(&mut self, from: &str, to: &str) -> Result<(), FsError> {
        let (source, target) = (self.place(from), self.place(to));
        let same_tree = std::ptr::eq(self.tree(&source)?, self.tree(&target)?);
        if same_tree && self.rendered(&source).is_none() {
            return self.tree_mut(&target)?.copy(&source, &target);
        }
        let stat = self.stat(&source)?;
        if stat.kind == Kind::Directory {
            return Err(FsError::IsADirectory);
        }
        self.create(&target, stat.mode)?;
        self.truncate(&target, 0)?;
        let mut offset = 0;
        loop {
            let piece = self.read_at(&source, offset, 1 << 20)?;
            if piece.is_empty() {
                return Ok(());
            }
            self.write_at(&target, offset, &piece)?;
            offset += piece.len() as u64;
        }
    }
}

fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A slash at a path's end asks for a directory.
fn keep_slash(path: &str, place: String) -> String {
    if path.len() > 1 && path.ends_with('/') && place != "/" { place + "/" } else { place }
}

fn folder_of(kind: GuestKind) -> &'static str {
    match kind {
        GuestKind::Qemu => "qemu-server",
        GuestKind::Lxc => "lxc",
    }
}

/// The last hexadecimal digit of a task's start time, which names the folder of its log.
// PVE: pve-common src/PVE/UPID.pm
fn task_folder(upid: &str) -> String {
    let start = upid.split(':').nth(4).unwrap_or_default();
    start.chars().next_back().unwrap_or('0').to_string()
}
