//! A running lab with the files and the environment that lead to it; all of it is gone when it stops.

use crate::environment::{self, quote_value};
use crate::exit::Exit;
use crate::failure::Failure;
use pve_lab::{Fault, Lab, LabOptions, WorldSpec};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The first line of an environment file that a lab wrote; a file without it is never overwritten or removed.
const HEADER: &str = "# Written by `vmdeploy lab`; removed when it stops.";

/// A lab, its key and certificate files, and the variables that name them.
pub struct LabSession {
    lab: Lab,
    // Keeps the folder; dropping it removes the files.
    _folder: TempDir,
    variables: Vec<(String, String)>,
}

impl LabSession {
    /// Starts the lab in this world with new random secrets; all listeners are ready when this returns.
    ///
    /// # Errors
    /// A listener that cannot be opened, or a file that cannot be written.
    pub async fn start(world: WorldSpec, faults: Vec<Fault>) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("vmdeploy-lab-").tempdir().map_err(|error| {
            Failure::of(Exit::INTERNAL, error).context("cannot create a folder for the lab's keys")
        })?;
        let lab = Lab::start(LabOptions { world, faults, seed: rand::random() })
            .await
            .map_err(|error| Failure::of(Exit::INTERNAL, error).context("cannot start the lab"))?;
        let mut variables = lab
            .write_environment(folder.path())
            .map_err(|error| Failure::of(Exit::INTERNAL, error).context("cannot write the lab's keys"))?;
        block_the_rest(&mut variables);
        Ok(Self { lab, _folder: folder, variables })
    }
    /// Returns the variables that lead to the lab; those set to nothing keep a `.env` of the user out.
    pub fn variables(&self) -> &[(String, String)] {
        &self.variables
    }
    /// Returns the lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }
    /// Returns the text of an environment file that a shell can source and vmdeploy can read.
    pub fn environment_text(&self) -> String {
        let quoted = |value: &str| quote_value(value).expect("the lab's values are single lines");
        let lines = self.variables.iter().map(|(name, value)| format!("export {name}={}\n", quoted(value)));
        std::iter::once(format!("{HEADER}\n")).chain(lines).collect()
    }
    /// Closes the listeners and removes the files.
    pub async fn stop(self) {
        self.lab.stop().await;
    }
}

/// Sets the `PROXMOX_*` variables that the lab does not need to nothing.
fn block_the_rest(variables: &mut Vec<(String, String)>) {
    for variable in environment::ALL.iter().filter(|variable| variable.name.starts_with("PROXMOX_")) {
        if !variables.iter().any(|(name, _)| name == variable.name) {
            variables.push((variable.name.to_owned(), String::new()));
        }
    }
}

/// An environment file, 0600, written by rename; removed when this is dropped, if it is still ours.
#[derive(Debug)]
pub struct EnvironmentFile {
    path: PathBuf,
    text: String,
}

impl EnvironmentFile {
    /// Refuses a path where something lies that no lab wrote; to be called before a lab is started.
    ///
    /// # Errors
    /// The file has other content.
    pub fn check(path: &Path) -> Result<(), Failure> {
        // A device or a pipe is written to, and is not read before.
        if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            return Ok(());
        }
        match fs::read_to_string(path) {
            Ok(text) if text.is_empty() || text.starts_with(HEADER) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(Failure::usage(format!("`{}` exists and was not written by a lab", path.display()))
                .hint("use another file with `--env-file`, or move this one")),
        }
    }
    /// Writes the file.
    ///
    /// # Errors
    /// Its folder cannot be written.
    pub fn write(path: &Path, text: String) -> Result<Self, Failure> {
        crate::files::write_private(path, &text).map_err(|error| {
            Failure::of(Exit::USAGE, error).context(format!("cannot write `{}`", path.display()))
        })?;
        Ok(Self { path: path.to_owned(), text })
    }
    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for EnvironmentFile {
    fn drop(&mut self) {
        if self.path.is_file() && fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_no_lab_wrote_is_refused_and_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        fs::write(&path, "PROXMOX_API_HOST=pve1\n").unwrap();
        assert_eq!(EnvironmentFile::check(&path).unwrap_err().exit(), Exit::USAGE);
        fs::write(&path, "").unwrap();
        EnvironmentFile::check(&path).unwrap();
    }

    #[test]
    fn the_file_is_removed_at_the_end_unless_it_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lab.env");
        drop(EnvironmentFile::write(&path, format!("{HEADER}\nA=1\n")).unwrap());
        assert!(!path.exists());
        let file = EnvironmentFile::write(&path, format!("{HEADER}\nA=1\n")).unwrap();
        fs::write(&path, "A=2\n").unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lab.env");
        let _file = EnvironmentFile::write(&path, HEADER.to_owned()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
