//! Contents: open files, writing within the space there is, copies, images.

use super::super::content::Content;
use super::super::{FsError, ImageFormat, ImageInfo, image};
use super::{Body, Handle, Stat, Vfs, now};

impl Vfs {
    /// Opens an existing file (not a directory).
    ///
    /// # Errors
    /// As [`Vfs::stat`], and `IsADirectory`.
    pub fn open(&mut self, path: &str) -> Result<Handle, FsError> {
        let number = self.walk(path, true)?;
        let inode = self.inode_mut(number)?;
        if matches!(inode.body, Body::Directory(_)) {
            return Err(FsError::IsADirectory);
        }
        inode.opens += 1;
        Ok(Handle(number))
    }

    /// Opens a file, making an empty one where there is none.
    ///
    /// # Errors
    /// As [`Vfs::open`], and `NotFound` when the directory is missing.
    pub fn open_or_create(&mut self, path: &str, mode: u32) -> Result<Handle, FsError> {
        match self.open(path) {
            Err(FsError::NotFound) if !path.ends_with('/') => self.open_new(path, mode),
            other => other,
        }
    }

    /// Makes a new, empty file and opens it.
    ///
    /// # Errors
    /// `Exists`, `NotFound`, `NotADirectory`, `NoSpace` on a full file system.
    pub fn open_new(&mut self, path: &str, mode: u32) -> Result<Handle, FsError> {
        let (directory, name, trail) = self.parent(path)?;
        if self.entry(directory, &name)?.is_some() {
            return Err(FsError::Exists);
        }
        let mount = self.mount_for(trail, &name);
        let made = self.add(Body::File(Content::default()), mode & 0o7777, mount);
        self.link(directory, &name, made);
        self.inode_mut(made)?.opens += 1;
        Ok(Handle(made))
    }

    /// Returns the state of an open file.
    ///
    /// # Errors
    /// `NotFound` for a handle that was closed.
    pub fn handle_stat(&self, handle: Handle) -> Result<Stat, FsError> {
        self.stat_of(handle.0)
    }

    /// Reads from an open file.
    ///
    /// # Errors
    /// As [`Vfs::read`].
    pub fn handle_read(&self, handle: Handle, offset: u64, length: u64) -> Result<Vec<u8>, FsError> {
        self.read_inode(handle.0, offset, length)
    }

    /// Writes to an open file. On a full file system what fits is written, and the rest refused.
    ///
    /// # Errors
    /// `NoSpace`, `TooLarge`, `Io`.
    pub fn handle_write(&mut self, handle: Handle, offset: u64, bytes: &[u8]) -> Result<(), FsError> {
        let Self { inodes, mounts, spill, .. } = self;
        let inode = inodes.get_mut(&handle.0).ok_or(FsError::BadHandle)?;
        let content = match &mut inode.body {
            Body::File(content) => content,
            Body::Null => return Ok(()),
            _ => return Err(FsError::IsADirectory),
        };
        let mount = &mut mounts[inode.mount];
        let left = mount.total.saturating_sub(mount.files + mount.other);
        let fits = if content.growth(offset, bytes.len() as u64) <= left {
            bytes.len()
        } else {
            (left.min(bytes.len() as u64) as usize) & !4095
        };
        let before = content.allocated();
        let written = content.write_at(offset, &bytes[..fits], spill);
        mount.files = mount.files + content.allocated() - before;
        inode.mtime = now();
        written?;
        if fits < bytes.len() { Err(FsError::NoSpace) } else { Ok(()) }
    }

    /// Cuts an open file, or grows it by a hole.
    ///
    /// # Errors
    /// `TooLarge`, `IsADirectory`.
    pub fn handle_truncate(&mut self, handle: Handle, length: u64) -> Result<(), FsError> {
        let Self { inodes, mounts, spill, .. } = self;
        let inode = inodes.get_mut(&handle.0).ok_or(FsError::BadHandle)?;
        match &mut inode.body {
            Body::File(content) => {
                let before = content.allocated();
                let done = content.truncate(length, spill);
                mounts[inode.mount].files =
                    (mounts[inode.mount].files + content.allocated()).saturating_sub(before);
                inode.mtime = now();
                done
            }
            Body::Null => Ok(()),
            _ => Err(FsError::IsADirectory),
        }
    }

    /// Sets the permission bits of an open file.
    ///
    /// # Errors
    /// `NotFound` for a handle that was closed.
    pub fn handle_set_mode(&mut self, handle: Handle, mode: u32) -> Result<(), FsError> {
        self.inode_mut(handle.0)?.mode = mode & 0o7777;
        Ok(())
    }

    /// Sets the time of the last change of an open file.
    ///
    /// # Errors
    /// `NotFound` for a handle that was closed.
    pub fn handle_set_mtime(&mut self, handle: Handle, mtime: u64) -> Result<(), FsError> {
        self.inode_mut(handle.0)?.mtime = mtime;
        Ok(())
    }

    /// Closes an open file; one without a name is freed.
    pub fn close(&mut self, handle: Handle) {
        if let Some(inode) = self.inodes.get_mut(&handle.0) {
            inode.opens = inode.opens.saturating_sub(1);
        }
        self.release(handle.0);
    }

    pub(super) fn with_open<T>(
        &mut self,
        opened: Result<Handle, FsError>,
        work: impl FnOnce(&mut Self, Handle) -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        let handle = opened?;
        let done = work(self, handle);
        self.close(handle);
        done
    }

    /// Replaces a file's contents, making it (mode 0644) where there is none.
    ///
    /// # Errors
    /// As [`Vfs::open_or_create`] and [`Vfs::handle_write`].
    pub fn write(&mut self, path: &str, bytes: &[u8]) -> Result<(), FsError> {
        let opened = self.open_or_create(path, 0o644);
        self.with_open(opened, |vfs, handle| {
            vfs.handle_truncate(handle, 0)?;
            vfs.handle_write(handle, 0, bytes)
        })
    }

    /// Writes to an existing file from `offset` on.
    ///
    /// # Errors
    /// As [`Vfs::open`] and [`Vfs::handle_write`].
    pub fn write_at(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), FsError> {
        let opened = self.open(path);
        self.with_open(opened, |vfs, handle| vfs.handle_write(handle, offset, bytes))
    }

    /// Copies a file's contents and mode; the bytes are shared until one side changes them.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `NoSpace`.
    pub fn copy(&mut self, from: &str, to: &str) -> Result<(), FsError> {
        let source = self.inode(self.walk(from, true)?)?;
        let (content, mode) = match &source.body {
            Body::File(content) => (content.clone(), source.mode),
            Body::Null => (Content::default(), 0o644),
            _ => return Err(FsError::IsADirectory),
        };
        let opened = self.open_or_create(to, mode);
        self.with_open(opened, |vfs, handle| vfs.replace_content(handle, content))
    }

    pub(super) fn replace_content(&mut self, handle: Handle, content: Content) -> Result<(), FsError> {
        let Self { inodes, mounts, .. } = self;
        let inode = inodes.get_mut(&handle.0).ok_or(FsError::BadHandle)?;
        let mount = &mut mounts[inode.mount];
        let Body::File(old) = &mut inode.body else { return Ok(()) };
        let kept = mount.files.saturating_sub(old.allocated());
        if kept + mount.other + content.allocated() > mount.total {
            return Err(FsError::NoSpace);
        }
        mount.files = kept + content.allocated();
        *old = content;
        inode.mtime = now();
        Ok(())
    }

    // ---- images

    /// Makes, or replaces, an image file of `file_size` bytes: the header that its format has, then a hole that
    /// counts as `allocated` bytes. A raw image is as long as its virtual size.
    ///
    /// # Errors
    /// `NoSpace`, and as [`Vfs::open_or_create`].
    pub fn write_image(
        &mut self,
        path: &str,
        info: &ImageInfo,
        file_size: u64,
        allocated: u64,
    ) -> Result<(), FsError> {
        let header = image::header(info.format, info.virtual_size, info.backing_file.as_deref());
        let length = if info.format == ImageFormat::Raw {
            info.virtual_size
        } else {
            file_size.max(header.len() as u64)
        };
        let mut content = Content::default();
        content.write_at(0, &header, &self.spill)?;
        content.truncate(length, &self.spill)?;
        content.declare(allocated);
        let opened = self.open_or_create(path, 0o640);
        self.with_open(opened, |vfs, handle| vfs.replace_content(handle, content))
    }

    /// Grows an image's virtual size in place, as `qemu-img resize` does.
    ///
    /// # Errors
    /// As [`Vfs::image`]; `Invalid` when it would shrink.
    pub fn resize_image(&mut self, path: &str, virtual_size: u64) -> Result<(), FsError> {
        let info = self.image(path)?;
        if virtual_size < info.virtual_size {
            return Err(FsError::Invalid);
        }
        self.set_image_size(path, virtual_size)
    }
    /// Gives an image a size, smaller or larger than it has.
    ///
    /// # Errors
    /// There is no image.
    pub fn set_image_size(&mut self, path: &str, virtual_size: u64) -> Result<(), FsError> {
        let info = self.image(path)?;
        let opened = self.open(path);
        self.with_open(opened, |vfs, handle| match info.format {
            ImageFormat::Raw => vfs.handle_truncate(handle, virtual_size),
            format => vfs.handle_write(
                handle,
                0,
                &image::header(format, virtual_size, info.backing_file.as_deref()),
            ),
        })
    }
}
