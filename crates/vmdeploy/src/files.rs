//! Files that only their owner may read, written whole or not at all.

use std::io::Write as _;
use std::path::Path;

/// Writes the file by rename, with mode 0600 from its first byte on.
///
/// # Errors
/// Whatever the file system says.
pub fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Makes a new, empty file with mode 0600, in place of one that may be there.
///
/// # Errors
/// Whatever the file system says.
pub fn create_private(path: &Path) -> std::io::Result<std::fs::File> {
    write_private(path, "")?;
    std::fs::File::options().append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        write_private(&path, "{}").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
