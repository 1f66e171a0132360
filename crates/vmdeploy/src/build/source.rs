//! The folder that is sent to the builder, as an archive that is the same wherever and whenever it is made.

use crate::exit::Exit;
use crate::failure::Failure;
use sha2::{Digest as _, Sha256};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The files of a folder, sorted by their paths.
#[derive(Debug, Clone)]
pub struct SourceTree {
    root: PathBuf,
    entries: Vec<PathBuf>,
    files: usize,
}

impl SourceTree {
    /// Looks at a folder; `.git` is left out.
    ///
    /// # Errors
    /// It cannot be read, or holds something that is not a file, folder or symbolic link.
    pub fn read(root: &Path) -> Result<Self, Failure> {
        let mut tree = Self { root: root.to_owned(), entries: Vec::new(), files: 0 };
        tree.walk(Path::new(""))?;
        Ok(tree)
    }
    /// Returns how many files there are.
    pub fn files(&self) -> usize {
        self.files
    }
    /// Writes the archive, and returns its SHA-256 in hexadecimal: the digest of the source.
    ///
    /// Owners and times are left out, so the same files give the same digest.
    ///
    /// # Errors
    /// A file cannot be read, or `sink` not be written.
    pub fn write(&self, sink: impl Write) -> io::Result<String> {
        let mut archive = tar::Builder::new(Hashed { sink, sum: Sha256::new() });
        archive.mode(tar::HeaderMode::Deterministic);
        archive.follow_symlinks(false);
        for entry in &self.entries {
            archive.append_path_with_name(self.root.join(entry), entry)?;
        }
        let mut hashed = archive.into_inner()?;
        hashed.sink.flush()?;
        Ok(pve_types::hex(hashed.sum.finalize()))
    }

    fn walk(&mut self, folder: &Path) -> Result<(), Failure> {
        let unreadable = |path: &Path, error: io::Error| {
            Failure::of(Exit::USAGE, error).context(format!("cannot read the source `{}`", path.display()))
        };
        let full = self.root.join(folder);
        let found = std::fs::read_dir(&full).map_err(|error| unreadable(&full, error))?;
        let found: Result<Vec<_>, _> = found.collect();
        let mut found = found.map_err(|error| unreadable(&full, error))?;
        found.sort_by_key(std::fs::DirEntry::file_name);
        for entry in found.into_iter().filter(|entry| entry.file_name() != ".git") {
            let path = folder.join(entry.file_name());
            let kind = entry.file_type().map_err(|error| unreadable(&entry.path(), error))?;
            if !(kind.is_dir() || kind.is_file() || kind.is_symlink()) {
                let message = format!(
                    "`{}` is not a file, folder or symbolic link, and cannot be sent",
                    entry.path().display()
                );
                return Err(Failure::usage(message).hint("move it out of the image's `source`"));
            }
            self.files += usize::from(!kind.is_dir());
            self.entries.push(path.clone());
            if kind.is_dir() {
                self.walk(&path)?;
            }
        }
        Ok(())
    }
}

/// Hashes what it passes on.
struct Hashed<W> {
    sink: W,
    sum: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.sink.write(bytes)?;
        self.sum.update(&bytes[..count]);
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(root: &Path) -> String {
        SourceTree::read(root).unwrap().write(io::sink()).unwrap()
    }

    #[test]
    fn the_digest_is_that_of_the_content_alone() {
        let make = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(folder.path().join("a/.git")).unwrap();
            std::fs::write(folder.path().join("a/.git/config"), text).unwrap();
            std::fs::write(folder.path().join("a/build.sh"), "make").unwrap();
            std::os::unix::fs::symlink("a/build.sh", folder.path().join("link")).unwrap();
            folder
        };
        let (one, two) = (make("x"), make("y"));
        assert_eq!(digest(one.path()), digest(two.path()), "`.git` and times do not count");
        assert_eq!(SourceTree::read(one.path()).unwrap().files(), 2);
        std::fs::write(two.path().join("a/build.sh"), "made").unwrap();
        assert_ne!(digest(one.path()), digest(two.path()));
    }

    #[test]
    fn a_socket_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("agent")).unwrap();
        let told = SourceTree::read(folder.path()).unwrap_err().render();
        assert!(told.contains("agent` is not a file"), "{told}");
    }
}
