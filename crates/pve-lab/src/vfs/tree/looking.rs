//! Looking: what a name is, what a folder or a file holds.

use super::super::path::components;
use super::super::{FsError, ImageInfo, image, join_path};
use super::{Body, Inode, Kind, Stat, Vfs};

impl Vfs {
    pub(super) fn stat_of(&self, number: u64) -> Result<Stat, FsError> {
        let inode = self.inode(number)?;
        let (kind, size, allocated, links) = match &inode.body {
            Body::File(content) => {
                (Kind::File, content.length(), content.allocated(), u64::from(inode.links))
            }
            Body::Directory(entries) => {
                let below = entries.values().filter(|entry| {
                    matches!(self.inodes.get(entry), Some(Inode { body: Body::Directory(_), .. }))
                });
                (Kind::Directory, 4096, 4096, 2 + below.count() as u64)
            }
            Body::Symlink(target) => (Kind::Symlink, target.len() as u64, 0, 1),
            Body::Null => (Kind::Device, 0, 0, 1),
        };
        Ok(Stat {
            kind,
            mode: inode.mode,
            size,
            allocated,
            mtime: inode.mtime,
            uid: inode.uid,
            gid: inode.gid,
            inode: number,
            links,
        })
    }

    /// Returns what `path` is, following links.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, `Loop`.
    pub fn stat(&self, path: &str) -> Result<Stat, FsError> {
        self.stat_of(self.walk(path, true)?)
    }

    /// Returns what `path` is, without following a link that it names.
    ///
    /// # Errors
    /// As [`Vfs::stat`].
    pub fn stat_link(&self, path: &str) -> Result<Stat, FsError> {
        self.stat_of(self.walk(path, false)?)
    }

    /// Tells whether `path` exists.
    pub fn exists(&self, path: &str) -> bool {
        self.walk(path, true).is_ok()
    }

    /// Tells whether `path` is a regular file.
    pub fn is_file(&self, path: &str) -> bool {
        self.stat(path).is_ok_and(|stat| stat.kind == Kind::File)
    }

    /// Returns the names in a directory, sorted, without `.` and `..`.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn list(&self, path: &str) -> Result<Vec<String>, FsError> {
        match &self.inode(self.walk(path, true)?)?.body {
            Body::Directory(entries) => Ok(entries.keys().cloned().collect()),
            _ => Err(FsError::NotADirectory),
        }
    }

    /// Returns the path without links, `.` and `..`.
    ///
    /// # Errors
    /// As [`Vfs::stat`].
    pub fn real_path(&self, path: &str) -> Result<String, FsError> {
        self.walk_parts(components("/", path), true, false).map(|(_, trail)| join_path(&trail))
    }

    /// Returns what a symbolic link says.
    ///
    /// # Errors
    /// `Invalid` when it is not a link.
    pub fn read_link(&self, path: &str) -> Result<String, FsError> {
        match &self.inode(self.walk(path, false)?)?.body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(FsError::Invalid),
        }
    }

    /// Returns a whole file.
    ///
    /// # Errors
    /// As [`Vfs::stat`], and `IsADirectory`.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, FsError> {
        self.read_inode(self.walk(path, true)?, 0, u64::MAX)
    }

    /// Returns up to `length` bytes from `offset`; fewer, or none, at the end.
    ///
    /// # Errors
    /// As [`Vfs::read`].
    pub fn read_at(&self, path: &str, offset: u64, length: u64) -> Result<Vec<u8>, FsError> {
        self.read_inode(self.walk(path, true)?, offset, length)
    }

    pub(super) fn read_inode(&self, number: u64, offset: u64, length: u64) -> Result<Vec<u8>, FsError> {
        match &self.inode(number)?.body {
            Body::File(content) => content.read_at(offset, length),
            Body::Null => Ok(Vec::new()),
            Body::Directory(_) => Err(FsError::IsADirectory),
            Body::Symlink(_) => Err(FsError::Invalid),
        }
    }

    /// Returns the format and virtual size of an image file, from its first bytes.
    ///
    /// # Errors
    /// As [`Vfs::read`].
    pub fn image(&self, path: &str) -> Result<ImageInfo, FsError> {
        let number = self.walk(path, true)?;
        let header = self.read_inode(number, 0, image::HEADER)?;
        Ok(image::recognize(&header, self.stat_of(number)?.size))
    }
}
