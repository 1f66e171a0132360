//! SFTP into the node's file tree, with the extensions that OpenSSH's server has and clients rely on.

use std::collections::HashMap;
use std::sync::Arc;

use russh_sftp::protocol::{
    Attrs, Data, ExtendedReply, File, FileAttributes, Handle, Name, OpenFlags, Packet, Status, StatusCode,
    Version,
};
use russh_sftp::server::{Handler, StatusReply};

use super::connection::Slot;
use crate::shell::node::Node;
use crate::vfs::{FsError, Kind, NodeFiles, Space, Stat, normalize};

/// Bytes given out in one read.
const MAX_READ: u32 = 256 * 1024;
/// Handles that one session may have open.
const MAX_HANDLES: usize = 1024;

enum Open {
    File { path: String, append: bool },
    Directory { path: String, names: Option<Vec<String>> },
}

/// One SFTP session.
pub(super) struct SftpSession {
    node: Arc<Node>,
    handles: HashMap<String, Open>,
    next: u64,
    _slot: Slot,
}

impl SftpSession {
    /// Returns a session on `node`, which takes `slot` as long as it lasts.
    pub(super) fn new(node: Arc<Node>, slot: Slot) -> Self {
        Self { node, handles: HashMap::new(), next: 0, _slot: slot }
    }

    fn files<T>(
        &self,
        work: impl FnOnce(&mut NodeFiles<'_>) -> Result<T, FsError>,
    ) -> Result<T, StatusReply> {
        self.node.files(work).map_err(reply_of)
    }

    fn keep(&mut self, id: u32, open: Open) -> Result<Handle, StatusReply> {
        if self.handles.len() >= MAX_HANDLES {
            return Err(StatusCode::Failure.with_message("Too many open files"));
        }
        self.next += 1;
        let handle = self.next.to_string();
        self.handles.insert(handle.clone(), open);
        Ok(Handle { id, handle })
    }

    fn file(&self, handle: &str) -> Result<(String, bool), StatusReply> {
        match self.handles.get(handle) {
            Some(Open::File { path, append }) => Ok((path.clone(), *append)),
            _ => Err(StatusCode::Failure.with_message("Bad file descriptor")),
        }
    }

    fn apply(&self, path: &str, attributes: &FileAttributes) -> Result<(), StatusReply> {
        self.files(|files| {
            if let Some(size) = attributes.size {
                files.truncate(path, size)?;
            }
            if let Some(mode) = attributes.permissions {
                files.set_mode(path, mode)?;
            }
            if let (Some(uid), Some(gid)) = (attributes.uid, attributes.gid) {
                files.set_owner(path, uid, gid)?;
            }
            match attributes.mtime {
                Some(mtime) => files.set_mtime(path, u64::from(mtime)),
                None => Ok(()),
            }
        })
    }
}

fn absolute(path: &str) -> String {
    normalize("/root", path)
}

fn ok(id: u32) -> Status {
    Status { id, status_code: StatusCode::Ok, error_message: "Success".into(), language_tag: String::new() }
}

/// The status codes that OpenSSH's server gives for an errno.
fn reply_of(error: FsError) -> StatusReply {
    let code = match error {
        FsError::NotFound | FsError::NotADirectory | FsError::Loop | FsError::BadHandle => {
            StatusCode::NoSuchFile
        }
        FsError::PermissionDenied | FsError::NotPermitted => StatusCode::PermissionDenied,
        FsError::NameTooLong | FsError::Invalid => StatusCode::BadMessage,
        _ => StatusCode::Failure,
    };
    code.with_message(error.to_string())
}

fn attributes(stat: &Stat) -> FileAttributes {
    let kind = match stat.kind {
        Kind::File => 0o100_000,
        Kind::Directory => 0o040_000,
        Kind::Symlink => 0o120_000,
        Kind::Device => 0o020_000,
    };
    let time = u32::try_from(stat.mtime).unwrap_or(u32::MAX);
    FileAttributes {
        size: Some(stat.size),
        uid: Some(stat.uid),
        user: None,
        gid: Some(stat.gid),
        group: None,
        permissions: Some(kind | stat.mode),
        atime: Some(time),
        mtime: Some(time),
    }
}

/// `string`s of an extended request.
fn strings(mut data: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some(text) = rest.get(..length) else { break };
        all.push(String::from_utf8_lossy(text).into_owned());
        data = &rest[length..];
    }
    all
}

// OpenSSH: PROTOCOL, section 4.5.
fn statvfs(space: &Space) -> Vec<u8> {
    let block = 4096;
    let (blocks, free) = (space.total / block, space.available / block);
    let fields = [block, block, blocks, free, free, 1 << 20, 1 << 19, 1 << 19, 0, 0, 255];
    fields.iter().flat_map(|field: &u64| field.to_be_bytes()).collect()
}

impl Handler for SftpSession {
    type Error = StatusReply;

    fn unimplemented(&self) -> Self::Error {
        StatusCode::OpUnsupported.into()
    }

    async fn init(
        &mut self,
        _version: u32,
        _extensions: HashMap<String, String>,
    ) -> Result<Version, Self::Error> {
        let known = [
            ("posix-rename@openssh.com", "1"),
            ("statvfs@openssh.com", "2"),
            ("fstatvfs@openssh.com", "2"),
            ("fsync@openssh.com", "1"),
            ("limits@openssh.com", "1"),
            ("expand-path@openssh.com", "1"),
        ];
        let extensions = known.map(|(name, version)| (name.to_owned(), version.to_owned())).into();
        Ok(Version { version: 3, extensions })
    }

    async fn open(
        &mut self,
        id: u32,
        filename: String,
        flags: OpenFlags,
        attributes: FileAttributes,
    ) -> Result<Handle, Self::Error> {
        let path = absolute(&filename);
        let mode = attributes.permissions.map_or(0o644, |mode| mode & 0o7777 & !0o022);
        self.files(|files| {
            if flags.contains(OpenFlags::CREATE | OpenFlags::EXCLUDE) {
                files.create_new(&path, mode)?;
            } else if flags.contains(OpenFlags::CREATE) {
                files.create(&path, mode)?;
            }
            let stat = files.stat(&path)?;
            if stat.kind == Kind::Directory {
                return Err(FsError::IsADirectory);
            }
            if flags.contains(OpenFlags::TRUNCATE) && flags.contains(OpenFlags::WRITE) {
                files.truncate(&path, 0)?;
            }
            Ok(())
        })?;
        self.keep(id, Open::File { path, append: flags.contains(OpenFlags::APPEND) })
    }

    async fn close(&mut self, id: u32, handle: String) -> Result<Status, Self::Error> {
        match self.handles.remove(&handle) {
            Some(_) => Ok(ok(id)),
            None => Err(StatusCode::Failure.with_message("Bad file descriptor")),
        }
    }

    async fn read(&mut self, id: u32, handle: String, offset: u64, len: u32) -> Result<Data, Self::Error> {
        let (path, _) = self.file(&handle)?;
        let data = self.files(|files| files.read_at(&path, offset, u64::from(len.min(MAX_READ))))?;
        if data.is_empty() { Err(StatusCode::Eof.into()) } else { Ok(Data { id, data }) }
    }

    async fn write(
        &mut self,
        id: u32,
        handle: String,
        offset: u64,
        data: Vec<u8>,
    ) -> Result<Status, Self::Error> {
        let (path, append) = self.file(&handle)?;
        self.files(|files| {
            let offset = if append { files.stat(&path)?.size } else { offset };
            files.write_at(&path, offset, &data)
        })?;
        Ok(ok(id))
    }

    async fn lstat(&mut self, id: u32, path: String) -> Result<Attrs, Self::Error> {
        let stat = self.files(|files| files.stat_link(&absolute(&path)))?;
        Ok(Attrs { id, attrs: attributes(&stat) })
    }

    async fn stat(&mut self, id: u32, path: String) -> Result<Attrs, Self::Error> {
        let stat = self.files(|files| files.stat(&absolute(&path)))?;
        Ok(Attrs { id, attrs: attributes(&stat) })
    }

    async fn fstat(&mut self, id: u32, handle: String) -> Result<Attrs, Self::Error> {
        let (path, _) = self.file(&handle)?;
        let stat = self.files(|files| files.stat(&path))?;
        Ok(Attrs { id, attrs: attributes(&stat) })
    }

    async fn setstat(&mut self, id: u32, path: String, attrs: FileAttributes) -> Result<Status, Self::Error> {
        self.apply(&absolute(&path), &attrs).map(|()| ok(id))
    }

    async fn fsetstat(
        &mut self,
        id: u32,
        handle: String,
        attrs: FileAttributes,
    ) -> Result<Status, Self::Error> {
        let (path, _) = self.file(&handle)?;
        self.apply(&path, &attrs).map(|()| ok(id))
    }

    async fn opendir(&mut self, id: u32, path: String) -> Result<Handle, Self::Error> {
        let path = absolute(&path);
        let names = self.files(|files| files.list(&path))?;
        self.keep(id, Open::Directory { path, names: Some(names) })
    }

    async fn readdir(&mut self, id: u32, handle: String) -> Result<Name, Self::Error> {
        let Some(Open::Directory { path, names }) = self.handles.get_mut(&handle) else {
            return Err(StatusCode::Failure.with_message("Bad file descriptor"));
        };
        let path = path.clone();
        let Some(mut rest) = names.take().filter(|names| !names.is_empty()) else {
            return Err(StatusCode::Eof.into());
        };
        let later = rest.split_off(rest.len().min(200));
        *names = Some(later);
        let entries = self.files(|files| {
            let entry = |name: String| {
                files.stat_link(&format!("{path}/{name}")).ok().map(|stat| File::new(name, attributes(&stat)))
            };
            Ok(rest.into_iter().filter_map(entry).collect())
        })?;
        Ok(Name { id, files: entries })
    }

    async fn remove(&mut self, id: u32, filename: String) -> Result<Status, Self::Error> {
        self.files(|files| files.remove_file(&absolute(&filename)))?;
        Ok(ok(id))
    }

    async fn mkdir(&mut self, id: u32, path: String, attrs: FileAttributes) -> Result<Status, Self::Error> {
        let path = absolute(&path);
        self.files(|files| {
            files.create_dir(&path)?;
            match attrs.permissions.map(|mode| mode & 0o7777 & !0o022).filter(|mode| *mode != 0o755) {
                Some(mode) => files.set_mode(&path, mode).or(Ok(())),
                None => Ok(()),
            }
        })?;
        Ok(ok(id))
    }

    async fn rmdir(&mut self, id: u32, path: String) -> Result<Status, Self::Error> {
        self.files(|files| files.remove_dir(&absolute(&path)))?;
        Ok(ok(id))
    }

    async fn realpath(&mut self, id: u32, path: String) -> Result<Name, Self::Error> {
        let path = absolute(&path);
        let real = self.files(|files| match files.real_path(&path) {
            Err(FsError::NotFound) => Ok(path.clone()),
            other => other,
        })?;
        Ok(Name { id, files: vec![File::dummy(real)] })
    }

    async fn rename(&mut self, id: u32, oldpath: String, newpath: String) -> Result<Status, Self::Error> {
        let (from, to) = (absolute(&oldpath), absolute(&newpath));
        // The plain request of SFTP 3 replaces nothing; posix-rename does.
        self.files(|files| {
            if files.stat_link(&to).is_ok() { Err(FsError::Exists) } else { files.rename(&from, &to) }
        })?;
        Ok(ok(id))
    }

    async fn readlink(&mut self, id: u32, path: String) -> Result<Name, Self::Error> {
        let target = self.files(|files| files.read_link(&absolute(&path)))?;
        Ok(Name { id, files: vec![File::dummy(target)] })
    }

    async fn symlink(
        &mut self,
        id: u32,
        linkpath: String,
        targetpath: String,
    ) -> Result<Status, Self::Error> {
        // OpenSSH has always taken the two the other way round than the draft, and clients follow it.
        self.files(|files| files.symlink(&linkpath, &absolute(&targetpath)))?;
        Ok(ok(id))
    }

    async fn extended(&mut self, id: u32, request: String, data: Vec<u8>) -> Result<Packet, Self::Error> {
        let texts = strings(&data);
        let first = texts.first().cloned().unwrap_or_default();
        match request.as_str() {
            "posix-rename@openssh.com" => {
                let (from, to) = (absolute(&first), absolute(texts.get(1).map_or("", String::as_str)));
                self.files(|files| files.rename(&from, &to))?;
                Ok(Packet::Status(ok(id)))
            }
            "fsync@openssh.com" => {
                self.file(&first)?;
                Ok(Packet::Status(ok(id)))
            }
            "statvfs@openssh.com" | "fstatvfs@openssh.com" => {
                let path = if request.starts_with('f') { self.file(&first)?.0 } else { absolute(&first) };
                let space = self.files(|files| {
                    files.stat(&path)?;
                    files.space(&path).ok_or(FsError::NotFound)
                })?;
                Ok(Packet::ExtendedReply(ExtendedReply { id, data: statvfs(&space) }))
            }
            "limits@openssh.com" => {
                let limits = [262_144_u64 + 1024, u64::from(MAX_READ), 261_120, MAX_HANDLES as u64];
                let data = limits.iter().flat_map(|limit| limit.to_be_bytes()).collect();
                Ok(Packet::ExtendedReply(ExtendedReply { id, data }))
            }
            "expand-path@openssh.com" => {
                let path = first.strip_prefix('~').map_or(first.clone(), |rest| format!("/root{rest}"));
                Ok(Packet::Name(Name { id, files: vec![File::dummy(absolute(&path))] }))
            }
            _ => Err(StatusCode::OpUnsupported.into()),
        }
    }
}
