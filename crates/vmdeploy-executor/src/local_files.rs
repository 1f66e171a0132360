//! The files of this machine that a spec may name: one check for every kind of file.
//!
//! A spec may come from a repository of others. It reads regular files below its own folder and below the folders that
//! the command line allows, and no others. Symbolic links are resolved before the comparison.

use rustix::fs::OFlags;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

/// The folders in which a spec may name files.
#[derive(Debug, Clone)]
pub struct LocalFiles {
    /// The folder that relative paths start from: the spec's.
    pub folder: PathBuf,
    /// The folders that the command line allows in addition to `folder`.
    pub allowed: Vec<PathBuf>,
    /// What `~` stands for; without it, `~` is an ordinary name.
    pub home: Option<PathBuf>,
    /// Files that hold vmdeploy's own credentials: a spec reads none of them, wherever they lie, and no `.env`.
    pub credentials: Vec<PathBuf>,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum LocalFileError {
    /// It lies outside the folders, or a symbolic link leads there.
    #[error("is outside the spec's folder")]
    Outside,
    /// It holds the credentials that vmdeploy itself uses.
    #[error("contains credentials of vmdeploy")]
    Credentials,
    /// It is a folder, a device, a pipe or a socket.
    #[error("is not a regular file")]
    NotRegular,
    /// The file system refuses.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl LocalFileError {
    /// Returns what to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Outside => Some("if the spec may read it, add `--allow-path FOLDER`"),
            Self::Credentials | Self::NotRegular | Self::Io(_) => None,
        }
    }
}

/// A pipe holds nothing up, and a link that was put there after the check is not followed.
const NO_WAIT_NO_LINK: i32 = OFlags::NONBLOCK.union(OFlags::NOFOLLOW).bits() as i32;

/// Where a kind of file may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Below the spec's folder or an allowed one: its content is sent away, or it is written to.
    Confined,
    /// Anywhere: it holds nothing secret, and nothing of it is used that is not what it should be. A public key's file.
    Anywhere,
}

impl LocalFiles {
    /// Returns the files of a spec's folder, and no others.
    pub fn of(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), allowed: Vec::new(), home: None, credentials: Vec::new() }
    }
    /// Returns the path that the spec means: absolute, from the home folder, or from the spec's folder. It need not be
    /// there.
    pub fn resolve(&self, name: &str) -> PathBuf {
        match (name.strip_prefix('~'), &self.home) {
            (Some(""), Some(home)) => home.clone(),
            (Some(rest), Some(home)) if rest.starts_with('/') => home.join(&rest[1..]),
            _ => self.folder.join(name),
        }
    }
    /// Opens a file for reading. Never waits: a pipe without a writer is refused as any pipe is.
    ///
    /// # Errors
    /// See [`LocalFileError`].
    pub fn open(&self, name: &str, reach: Reach) -> Result<(File, PathBuf), LocalFileError> {
        let real = self.resolve(name).canonicalize()?;
        if reach == Reach::Confined && !self.holds(&real) {
            return Err(LocalFileError::Outside);
        }
        let is_credentials = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path == real);
        if real.file_name().is_some_and(|name| name == ".env") || self.credentials.iter().any(is_credentials)
        {
            return Err(LocalFileError::Credentials);
        }
        // What was checked is what is opened: the last part is no link any more.
        let file = File::options().read(true).custom_flags(NO_WAIT_NO_LINK).open(&real)?;
        if file.metadata()?.is_file() { Ok((file, real)) } else { Err(LocalFileError::NotRegular) }
    }
    /// Checks that a file may be used, and returns its real path.
    ///
    /// # Errors
    /// See [`LocalFileError`].
    pub fn check(&self, name: &str, reach: Reach) -> Result<PathBuf, LocalFileError> {
        self.open(name, reach).map(|(_, path)| path)
    }
    /// Reads a file whole.
    ///
    /// # Errors
    /// See [`LocalFileError`].
    pub fn read(&self, name: &str, reach: Reach) -> Result<Vec<u8>, LocalFileError> {
        let (mut file, _) = self.open(name, reach)?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut file, &mut bytes)?;
        Ok(bytes)
    }
    /// Checks that something may lie at a path that need not be there yet: a folder that is read as a whole, or a file
    /// that is to be written.
    ///
    /// # Errors
    /// [`LocalFileError::Outside`].
    pub fn check_place(&self, name: &str) -> Result<PathBuf, LocalFileError> {
        let path = self.resolve(name);
        // What is not there yet lies where the nearest folder that is there lies.
        let there = path.ancestors().find_map(|ancestor| {
            let ancestor = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
            ancestor.canonicalize().ok()
        });
        let climbs = !path.exists() && Path::new(name).components().any(|part| part == Component::ParentDir);
        let inside = there.is_some_and(|there| self.holds(&there));
        if inside && !climbs { Ok(path) } else { Err(LocalFileError::Outside) }
    }
    /// Tells whether a real path lies in one of the folders.
    fn holds(&self, real: &Path) -> bool {
        let own = if self.folder.as_os_str().is_empty() { Path::new(".") } else { &self.folder };
        let roots = std::iter::once(own).chain(self.allowed.iter().map(PathBuf::as_path));
        roots.filter_map(|root| root.canonicalize().ok()).any(|root| real.starts_with(root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> (tempfile::TempDir, LocalFiles) {
        let world = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(world.path().join("repo/sub")).unwrap();
        std::fs::create_dir(world.path().join("other")).unwrap();
        std::fs::write(world.path().join("repo/sub/in"), "in").unwrap();
        std::fs::write(world.path().join("other/out"), "out").unwrap();
        let files = LocalFiles::of(world.path().join("repo"));
        (world, files)
    }

    #[track_caller]
    fn check(files: &LocalFiles, name: &str, expect: &str) {
        let got = match files.read(name, Reach::Confined) {
            Ok(bytes) => String::from_utf8(bytes).unwrap(),
            Err(LocalFileError::Io(error)) => format!("{:?}", error.kind()),
            Err(other) => format!("{other:?}"),
        };
        assert_eq!(got, expect, "{name}");
    }

    #[test]
    fn files_are_confined_to_the_folder_after_links_are_resolved() {
        let (world, mut files) = world();
        let out = world.path().join("other/out");
        std::os::unix::fs::symlink(&out, files.folder.join("link")).unwrap();
        std::os::unix::fs::symlink(world.path().join("other"), files.folder.join("folder")).unwrap();
        std::os::unix::fs::symlink("sub/in", files.folder.join("inner")).unwrap();
        check(&files, "sub/in", "in");
        check(&files, "inner", "in");
        check(&files, "nothing", "NotFound");
        for name in ["link", "folder/out", "../other/out", out.to_str().unwrap()] {
            check(&files, name, "Outside");
        }
        assert_eq!(files.read("link", Reach::Anywhere).unwrap(), b"out");
        files.credentials = vec![files.folder.join("sub/in")];
        check(&files, "inner", "Credentials");
        std::fs::write(files.folder.join("sub/.env"), "PROXMOX_API_PASSWORD=x").unwrap();
        check(&files, "sub/.env", "Credentials");
        files.allowed.push(world.path().join("other"));
        check(&files, "link", "out");
        files.home = Some(world.path().join("other"));
        check(&files, "~/out", "out");
    }

    #[test]
    fn only_a_regular_file_is_read_and_a_pipe_holds_nothing_up() {
        let (_world, files) = world();
        let pipe = files.folder.join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        check(&files, "pipe", "NotRegular");
        check(&files, "sub", "NotRegular");
        assert!(matches!(files.read("/dev/zero", Reach::Anywhere), Err(LocalFileError::NotRegular)));
    }

    #[test]
    fn what_is_not_there_yet_is_confined_too() {
        let (world, files) = world();
        std::os::unix::fs::symlink(world.path().join("other"), files.folder.join("folder")).unwrap();
        assert!(files.check_place("sub/new/file").is_ok());
        for name in ["folder/new", "sub/new/../../../other/x", "/somewhere/else"] {
            assert!(matches!(files.check_place(name), Err(LocalFileError::Outside)), "{name}");
        }
    }
}
