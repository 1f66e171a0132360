//! Files that are written: those that the command line names, and those whose name vmdeploy itself chooses.
//!
//! A regular file is written whole or not at all, by rename. What is not a regular file (a device, a pipe, the process's
//! own stdout) is written to and stays what it is; so does a symbolic link that the command line names. A link under a
//! name that vmdeploy chose is refused: its target may be another file of the user.

use crate::exit::Exit;
use crate::failure::Failure;
use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// How many symbolic links are followed, as the system does.
const MOST_LINKS: usize = 40;

/// What lies where a file is to be written.
enum Place {
    /// Nothing, or a regular file: a new file takes its name.
    File(PathBuf),
    /// Something that stays: it is opened and written to.
    Stays,
}

/// Writes a file that the command line names. A regular one gets mode 0600 from its first byte on.
///
/// # Errors
/// Whatever the file system says.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    match place(path)? {
        Place::File(real) => replace(&real, text),
        // A regular file that stdout is redirected into is not cut off: others write to it, too.
        Place::Stays => File::options().append(true).open(path)?.write_all(text.as_bytes()),
    }
}

/// Writes a new file that the command line names, with mode 0600: a regular file that is there already is refused.
///
/// # Errors
/// Whatever the file system says.
pub fn write_new(path: &Path, text: &str) -> io::Result<()> {
    create_new(path)?.write_all(text.as_bytes())
}

/// Opens a new file as [`write_new`] does.
///
/// # Errors
/// Whatever the file system says.
pub fn create_new(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    match place(path)? {
        Place::File(_) => File::options().write(true).create_new(true).mode(0o600).open(path),
        Place::Stays => File::options().append(true).open(path),
    }
}

/// Writes a file under a name that vmdeploy chose, with mode 0600.
///
/// # Errors
/// Something else than a regular file is there, a symbolic link included; or whatever the file system says.
pub fn write_own(path: &Path, text: &str) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => {
            Err(io::Error::new(ErrorKind::AlreadyExists, "it is not a regular file"))
        }
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => replace(path, text),
    }
}

/// Makes a file that the command line names empty, and opens it for appending.
///
/// # Errors
/// Whatever the file system says.
pub fn create_private(path: &Path) -> io::Result<File> {
    write_private(path, "")?;
    File::options().append(true).open(path)
}

/// Turns a file that cannot be written into a failure.
pub fn cannot_write(path: &Path, error: io::Error) -> Failure {
    let failure = Failure::of(Exit::USAGE, error);
    failure.context(format!("cannot write `{}`", path.display()))
}

/// Follows the links of a path to what is there.
fn place(path: &Path) -> io::Result<Place> {
    let mut real = path.to_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::symlink_metadata(&real) {
            Ok(found) if found.is_symlink() => {
                let target = std::fs::read_link(&real)?;
                // A link of the kernel's leads to an open file, which its text does not name.
                if real.starts_with("/proc") || real.starts_with("/dev/fd") {
                    return Ok(Place::Stays);
                }
                real = real.parent().unwrap_or(Path::new("")).join(target);
            }
            Ok(found) if found.is_file() => return Ok(Place::File(real)),
            Ok(_) => return Ok(Place::Stays),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Place::File(real)),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};

    #[test]
    fn only_the_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        write_private(&path, "{}").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_named_link_stays_and_its_target_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        symlink("target", &link).unwrap();
        for text in ["first", "second"] {
            write_private(&link, text).unwrap();
            assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(std::fs::read_to_string(&target).unwrap(), text);
        }
    }

    #[test]
    fn a_device_and_a_pipe_are_written_to_and_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (null, pipe) = (folder.path().join("null"), folder.path().join("pipe"));
        symlink("/dev/null", &null).unwrap();
        for write in [write_private, write_new] {
            write(&null, "x").unwrap();
            assert!(std::fs::metadata(&null).unwrap().file_type().is_char_device());
        }
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read_to_string(pipe).unwrap()
        });
        write_private(&pipe, "through").unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        assert!(std::fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }

    #[test]
    fn an_open_file_is_written_to_through_its_descriptor() {
        use std::os::fd::AsRawFd as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let file = File::create(&path).unwrap();
        (&file).write_all(b"before ").unwrap();
        write_private(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())), "after").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before after");
    }

    #[test]
    fn a_name_of_our_own_is_not_followed_and_a_new_file_replaces_none() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        std::fs::write(&target, "precious").unwrap();
        symlink(&target, &link).unwrap();
        assert!(write_own(&link, "x").is_err());
        assert!(write_new(&target, "x").is_err());
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
        write_own(&target, "x").unwrap();
    }
}
