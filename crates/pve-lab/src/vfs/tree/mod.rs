//! The tree itself: inodes, directories, links, mounts with limited space.

mod contents;
mod looking;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::FsError;
use super::content::{Content, Spill};
use super::path::components;

const MAX_LINKS_FOLLOWED: u32 = 40;
const ROOT: u64 = 1;

/// An open file; it stays readable after its name is gone, until [`Vfs::close`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(u64);

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device (`/dev/null`).
    Device,
}

/// The answer of `stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Permission bits (`0o644`).
    pub mode: u32,
    /// Length in bytes.
    pub size: u64,
    /// Bytes it takes from its file system.
    pub allocated: u64,
    /// Seconds since 1970.
    pub mtime: u64,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// A number that is the file's own as long as it exists.
    pub inode: u64,
    /// Names (directories: sub-directories and two).
    pub links: u64,
}

/// The space of one file system, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// Where it is mounted.
    pub mounted_on: String,
    /// The device as `df` shows it.
    pub device: String,
    /// Its size.
    pub total: u64,
    /// What is taken.
    pub used: u64,
    /// What is left.
    pub available: u64,
}

#[derive(Debug)]
struct Mount {
    path: String,
    device: String,
    total: u64,
    files: u64,
    other: u64,
}

#[derive(Debug)]
enum Body {
    File(Content),
    Directory(BTreeMap<String, u64>),
    Symlink(String),
    Null,
}

#[derive(Debug)]
struct Inode {
    body: Body,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: u64,
    links: u32,
    opens: u32,
    mount: usize,
}

/// One node's file tree.
#[derive(Debug)]
pub struct Vfs {
    inodes: HashMap<u64, Inode>,
    next: u64,
    mounts: Vec<Mount>,
    spill: Arc<Spill>,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Vfs {
    /// Returns a tree with the directories of a fresh system and a root file system of `total` bytes.
    pub fn new(total: u64) -> Self {
        let mut vfs = Self { inodes: HashMap::new(), next: ROOT, mounts: Vec::new(), spill: Arc::default() };
        vfs.mounts.push(Mount {
            path: "/".into(),
            device: "/dev/mapper/pve-root".into(),
            total,
            files: 0,
            other: 0,
        });
        vfs.add(Body::Directory(BTreeMap::new()), 0o755, 0);
        for path in [
            "/bin",
            "/dev",
            "/etc",
            "/home",
            "/proc",
            "/root",
            "/run/lock",
            "/sbin",
            "/srv",
            "/tmp",
            "/usr/bin",
            "/usr/sbin",
            "/var/lib",
            "/var/lock",
            "/var/log",
            "/var/tmp",
        ] {
            vfs.seed(|vfs| vfs.create_dir_all(path));
        }
        vfs.seed(|vfs| vfs.set_mode("/tmp", 0o1777));
        vfs.seed(|vfs| vfs.set_mode("/var/tmp", 0o1777));
        vfs.seed(|vfs| vfs.set_mode("/root", 0o700));
        let (device, directory) = (vfs.add(Body::Null, 0o666, 0), vfs.walk("/dev", true));
        if let Ok(directory) = directory {
            vfs.link(directory, "null", device);
        }
        vfs
    }

    /// The fresh tree has room and no conflicts; a failure here would only leave a directory out.
    fn seed(&mut self, make: impl FnOnce(&mut Self) -> Result<(), FsError>) {
        let made = make(self);
        debug_assert!(made.is_ok(), "{made:?}");
    }

    // ---- mounts and space

    /// Mounts a file system of `total` bytes; its files no longer count against the one above it.
    ///
    /// # Errors
    /// As [`Vfs::create_dir_all`].
    pub fn mount(&mut self, path: &str, device: &str, total: u64) -> Result<(), FsError> {
        self.create_dir_all(path)?;
        let path = super::normalize("/", path);
        self.mounts.push(Mount { path, device: device.into(), total, files: 0, other: 0 });
        Ok(())
    }

    fn mount_of(&self, path: &str) -> usize {
        let inside = |mount: &Mount| {
            mount.path == "/"
                || path == mount.path
                || path.strip_prefix(&mount.path).is_some_and(|rest| rest.starts_with('/'))
        };
        let found = self
            .mounts
            .iter()
            .enumerate()
            .filter(|(_, mount)| inside(mount))
            .max_by_key(|(_, mount)| mount.path.len());
        found.map_or(0, |(index, _)| index)
    }

    fn space_of(&self, mount: usize) -> Space {
        let mount = &self.mounts[mount];
        let used = (mount.files + mount.other).min(mount.total);
        Space {
            mounted_on: mount.path.clone(),
            device: mount.device.clone(),
            total: mount.total,
            used,
            available: mount.total - used,
        }
    }

    /// Returns the space of the file system that holds `path`, which need not exist.
    pub fn space(&self, path: &str) -> Space {
        self.space_of(self.mount_of(&super::normalize("/", path)))
    }

    /// Returns all file systems.
    pub fn spaces(&self) -> Vec<Space> {
        (0..self.mounts.len()).map(|mount| self.space_of(mount)).collect()
    }

    /// Sets how many bytes of the file system holding `path` are taken by what is not a file of this tree.
    pub fn set_other_use(&mut self, path: &str, bytes: u64) {
        let mount = self.mount_of(&super::normalize("/", path));
        self.mounts[mount].other = bytes;
    }

    /// Sets the size of the file system that holds `path`.
    pub fn set_total(&mut self, path: &str, bytes: u64) {
        let mount = self.mount_of(&super::normalize("/", path));
        self.mounts[mount].total = bytes;
    }

    // ---- walking

    fn add(&mut self, body: Body, mode: u32, mount: usize) -> u64 {
        let number = self.next;
        self.next += 1;
        let inode = Inode { body, mode, uid: 0, gid: 0, mtime: now(), links: 1, opens: 0, mount };
        self.inodes.insert(number, inode);
        number
    }

    fn link(&mut self, directory: u64, name: &str, inode: u64) {
        if let Some(Inode { body: Body::Directory(entries), mtime, .. }) = self.inodes.get_mut(&directory) {
            entries.insert(name.to_owned(), inode);
            *mtime = now();
        }
    }

    fn unlink_entry(&mut self, directory: u64, name: &str) -> Option<u64> {
        match self.inodes.get_mut(&directory) {
            Some(Inode { body: Body::Directory(entries), mtime, .. }) => {
                *mtime = now();
                entries.remove(name)
            }
            _ => None,
        }
    }

    fn inode(&self, number: u64) -> Result<&Inode, FsError> {
        self.inodes.get(&number).ok_or(FsError::NotFound)
    }

    fn inode_mut(&mut self, number: u64) -> Result<&mut Inode, FsError> {
        self.inodes.get_mut(&number).ok_or(FsError::NotFound)
    }

    /// Resolves a path to an inode; the last link is followed only when asked for.
    fn walk(&self, path: &str, follow_last: bool) -> Result<u64, FsError> {
        self.walk_parts(components("/", path), follow_last, path.len() > 1 && path.ends_with('/'))
            .map(|found| found.0)
    }

    fn walk_parts(
        &self,
        parts: Vec<String>,
        follow_last: bool,
        as_directory: bool,
    ) -> Result<(u64, Vec<String>), FsError> {
        let mut waiting: Vec<String> = parts.into_iter().rev().collect();
        let mut trail: Vec<(u64, String)> = Vec::new();
        let mut followed = 0;
        while let Some(part) = waiting.pop() {
            let here = trail.last().map_or(ROOT, |entry| entry.0);
            let Body::Directory(entries) = &self.inode(here)?.body else {
                return Err(FsError::NotADirectory);
            };
            if part == ".." {
                trail.pop();
                continue;
            }
            if part.len() > 255 {
                return Err(FsError::NameTooLong);
            }
            let next = *entries.get(&part).ok_or(FsError::NotFound)?;
            match &self.inode(next)?.body {
                Body::Symlink(target) if follow_last || as_directory || !waiting.is_empty() => {
                    followed += 1;
                    if followed > MAX_LINKS_FOLLOWED {
                        return Err(FsError::Loop);
                    }
                    if target.starts_with('/') {
                        trail.clear();
                    }
                    waiting.extend(components("/", target).into_iter().rev());
                }
                _ => trail.push((next, part)),
            }
        }
        let found = trail.last().map_or(ROOT, |entry| entry.0);
        if as_directory && !matches!(self.inode(found)?.body, Body::Directory(_)) {
            return Err(FsError::NotADirectory);
        }
        Ok((found, trail.into_iter().map(|entry| entry.1).collect()))
    }

    /// Resolves the directory that holds `path`'s last part, and that part.
    fn parent(&self, path: &str) -> Result<(u64, String, Vec<String>), FsError> {
        let mut parts = components("/", path);
        let name = parts.pop().ok_or(FsError::Exists)?;
        if name == ".." {
            return Err(FsError::Invalid);
        }
        if name.len() > 255 {
            return Err(FsError::NameTooLong);
        }
        let (directory, trail) = self.walk_parts(parts, true, true)?;
        Ok((directory, name, trail))
    }

    fn entry(&self, directory: u64, name: &str) -> Result<Option<u64>, FsError> {
        match &self.inode(directory)?.body {
            Body::Directory(entries) => Ok(entries.get(name).copied()),
            _ => Err(FsError::NotADirectory),
        }
    }

    fn mount_for(&self, mut trail: Vec<String>, name: &str) -> usize {
        trail.push(name.to_owned());
        self.mount_of(&super::join_path(&trail))
    }

    /// Frees an inode that has no names and no users left.
    fn release(&mut self, number: u64) {
        let unused = self.inodes.get(&number).is_some_and(|inode| inode.links == 0 && inode.opens == 0);
        if let Some(inode) = unused.then(|| self.inodes.remove(&number)).flatten()
            && let Body::File(content) = inode.body
        {
            let mount = &mut self.mounts[inode.mount];
            mount.files = mount.files.saturating_sub(content.allocated());
        }
    }

    // ---- directories and names

    /// Makes one directory.
    ///
    /// # Errors
    /// `Exists`, `NotFound`, `NotADirectory`.
    pub fn create_dir(&mut self, path: &str) -> Result<(), FsError> {
        let (directory, name, trail) = self.parent(path)?;
        if self.entry(directory, &name)?.is_some() {
            return Err(FsError::Exists);
        }
        let mount = self.mount_for(trail, &name);
        let made = self.add(Body::Directory(BTreeMap::new()), 0o755, mount);
        self.link(directory, &name, made);
        Ok(())
    }

    /// Makes a directory and those above it; one that is there already is fine.
    ///
    /// # Errors
    /// `Exists` or `NotADirectory` when a file is in the way.
    pub fn create_dir_all(&mut self, path: &str) -> Result<(), FsError> {
        let parts = components("/", path);
        for end in 1..=parts.len() {
            let upto = super::join_path(&parts[..end]);
            match self.stat(&upto) {
                Ok(stat) if stat.kind == Kind::Directory => {}
                Ok(_) if end == parts.len() => return Err(FsError::Exists),
                Ok(_) => return Err(FsError::NotADirectory),
                Err(FsError::NotFound) => self.create_dir(&upto)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotEmpty`, `NotADirectory`, `NotFound`.
    pub fn remove_dir(&mut self, path: &str) -> Result<(), FsError> {
        let (directory, name, _) = self.parent(path)?;
        let number = self.entry(directory, &name)?.ok_or(FsError::NotFound)?;
        match &self.inode(number)?.body {
            Body::Directory(entries) if entries.is_empty() => {}
            Body::Directory(_) => return Err(FsError::NotEmpty),
            _ => return Err(FsError::NotADirectory),
        }
        self.unlink_entry(directory, &name);
        self.inodes.remove(&number);
        Ok(())
    }

    /// Removes a name that is not a directory.
    ///
    /// # Errors
    /// `IsADirectory`, `NotFound`.
    pub fn remove_file(&mut self, path: &str) -> Result<(), FsError> {
        let (directory, name, _) = self.parent(path)?;
        let number = self.entry(directory, &name)?.ok_or(FsError::NotFound)?;
        if matches!(self.inode(number)?.body, Body::Directory(_)) {
            return Err(FsError::IsADirectory);
        }
        self.unlink_entry(directory, &name);
        self.drop_name(number);
        Ok(())
    }

    fn drop_name(&mut self, number: u64) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.links = inode.links.saturating_sub(1);
        }
        self.release(number);
    }

    /// Removes whatever `path` is, with everything below it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove_all(&mut self, path: &str) -> Result<(), FsError> {
        if self.stat_link(path)?.kind != Kind::Directory {
            return self.remove_file(path);
        }
        for name in self.list(path)? {
            self.remove_all(&format!("{path}/{name}"))?;
        }
        self.remove_dir(path)
    }

    /// Renames; a file at the new name is replaced, an empty directory too when a directory comes.
    ///
    /// # Errors
    /// `CrossDevice` between file systems, `IsADirectory`, `NotADirectory`, `NotEmpty`, `Invalid` into itself.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), FsError> {
        let (from_directory, from_name, from_trail) = self.parent(from)?;
        let number = self.entry(from_directory, &from_name)?.ok_or(FsError::NotFound)?;
        let (to_directory, to_name, to_trail) = self.parent(to)?;
        self.refuse_rename_into_itself(&from_trail, &from_name, &to_trail)?;
        if self.mount_for(from_trail, &from_name) != self.mount_for(to_trail, &to_name) {
            return Err(FsError::CrossDevice);
        }
        let is_directory = matches!(self.inode(number)?.body, Body::Directory(_));
        if let Some(old) = self.entry(to_directory, &to_name)?.filter(|old| *old != number) {
            match (&self.inode(old)?.body, is_directory) {
                (Body::Directory(_), false) => return Err(FsError::IsADirectory),
                (Body::Directory(entries), true) if !entries.is_empty() => return Err(FsError::NotEmpty),
                (Body::Directory(_), true) => {
                    self.inodes.remove(&old);
                }
                (_, true) => return Err(FsError::NotADirectory),
                (_, false) => self.drop_name(old),
            }
        }
        self.unlink_entry(from_directory, &from_name);
        self.link(to_directory, &to_name, number);
        Ok(())
    }

    fn refuse_rename_into_itself(&self, from: &[String], name: &str, to: &[String]) -> Result<(), FsError> {
        let below = to.len() > from.len() && to.starts_with(from) && to[from.len()] == name;
        if below { Err(FsError::Invalid) } else { Ok(()) }
    }

    /// Makes a symbolic link at `path` that says `target`.
    ///
    /// # Errors
    /// `Exists`, `NotFound`.
    pub fn symlink(&mut self, target: &str, path: &str) -> Result<(), FsError> {
        let (directory, name, trail) = self.parent(path)?;
        if self.entry(directory, &name)?.is_some() {
            return Err(FsError::Exists);
        }
        let mount = self.mount_for(trail, &name);
        let made = self.add(Body::Symlink(target.to_owned()), 0o777, mount);
        self.link(directory, &name, made);
        Ok(())
    }

    /// Sets the permission bits.
    ///
    /// # Errors
    /// As [`Vfs::stat`].
    pub fn set_mode(&mut self, path: &str, mode: u32) -> Result<(), FsError> {
        let number = self.walk(path, true)?;
        self.inode_mut(number)?.mode = mode & 0o7777;
        Ok(())
    }

    /// Sets owner and group.
    ///
    /// # Errors
    /// As [`Vfs::stat`].
    pub fn set_owner(&mut self, path: &str, uid: u32, gid: u32) -> Result<(), FsError> {
        let number = self.walk(path, true)?;
        let inode = self.inode_mut(number)?;
        (inode.uid, inode.gid) = (uid, gid);
        Ok(())
    }

    /// Sets the time of the last change, in seconds since 1970.
    ///
    /// # Errors
    /// As [`Vfs::stat`].
    pub fn set_mtime(&mut self, path: &str, mtime: u64) -> Result<(), FsError> {
        let number = self.walk(path, true)?;
        self.inode_mut(number)?.mtime = mtime;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
