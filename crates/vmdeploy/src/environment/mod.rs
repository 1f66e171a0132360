//! The environment, read once: the process's own, and a `.env` behind it.
//!
//! A `.env` that `--env-file` names is trusted as the environment is. One that is only found in the working folder may
//! have come with a repository: its connection settings are not combined with those of the environment, see
//! [`CredentialScope`], and it sets nothing that belongs to the system or confirms a deletion.

mod dotenv;
mod scope;
mod variables;

pub use dotenv::{DotenvError, parse, quote_value, replaced};
pub use scope::{ConnectionVariable, CredentialScope};
pub use variables::{ALL, Variable, names};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::redact;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The name of the file that is read from the working folder.
pub const DOTENV: &str = ".env";

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// The process's environment.
    Process,
    /// A file that the command line names with `--env-file`.
    Named(&'a Path),
    /// A file that was found in the working folder.
    Found(&'a Path),
}

impl Source<'_> {
    /// Tells whether the person who runs the command has chosen this source.
    pub fn is_trusted(self) -> bool {
        !matches!(self, Self::Found(_))
    }
}

/// A value with its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sourced<'a, T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub source: Source<'a>,
}

/// A `.env` file.
#[derive(Debug, Clone)]
struct EnvFile {
    path: PathBuf,
    values: BTreeMap<String, String>,
    /// Whether `--env-file` named it.
    is_named: bool,
}

/// The variables that a run sees. A variable of the real environment is never overridden by a `.env`, and one that
/// is set there to nothing counts as not set at all.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    real: BTreeMap<String, String>,
    file: Option<EnvFile>,
    trusts_on_first_use: bool,
}

impl Environment {
    /// Reads the process's environment and the file `named`, or else `.env`, and makes the secrets among them known to
    /// [`redact`].
    ///
    /// # Errors
    /// A file that cannot be read or is not `NAME=value` lines is refused, with its line; so is a named one that is not
    /// there.
    pub fn load(named: Option<&Path>) -> Result<Self, Failure> {
        let real = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let path = named.unwrap_or(Path::new(DOTENV));
        let file = read_dotenv(path, named.is_some())?.map(|values| EnvFile {
            path: path.to_owned(),
            values,
            is_named: named.is_some(),
        });
        let environment = Self { real, file, trusts_on_first_use: false };
        environment.register_secrets();
        Ok(environment)
    }
    /// Builds one from given variables, for tests.
    pub fn of<'a>(real: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self { real: owned(real), ..Self::default() }
    }
    /// Returns the same environment with a `.env` that was found, for tests.
    #[must_use]
    pub fn with_found<'a>(self, values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let file = EnvFile { path: DOTENV.into(), values: owned(values), is_named: false };
        Self { file: Some(file), ..self }
    }
    /// Returns the same environment with a file that was named, for tests.
    #[must_use]
    pub fn with_named<'a>(self, values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let file = EnvFile { path: "my.env".into(), values: owned(values), is_named: true };
        Self { file: Some(file), ..self }
    }
    /// Returns the same environment with one connection setting replaced, in the source that the others come from.
    #[must_use]
    pub fn with(&self, variable: ConnectionVariable, value: &str) -> Self {
        let mut changed = self.clone();
        changed.real.remove(variable.name());
        let is_in_file = |file: &EnvFile| scope::has_any(&file.values) && !file.is_named;
        let target = match &mut changed.file {
            Some(file) if is_in_file(file) => &mut file.values,
            _ => &mut changed.real,
        };
        target.insert(variable.name().to_owned(), value.to_owned());
        changed
    }
    /// Returns a variable's value that is not a connection's; an empty one is not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.sourced(name).map(|found| found.value)
    }
    /// Returns the settings of the connection, which all come from one source.
    ///
    /// # Errors
    /// A file that was only found and the environment both set some of them, or the file names a command.
    pub fn connection(&self) -> Result<CredentialScope<'_>, Failure> {
        CredentialScope::of(self)
    }
    /// Returns a variable's value and where it comes from. What belongs to the system is not taken from a file.
    fn sourced(&self, name: &str) -> Option<Sourced<'_, &str>> {
        let real =
            self.real.get(name).map(|value| Sourced { value: value.as_str(), source: Source::Process });
        let in_file = || {
            let file = self.file.as_ref()?;
            let is_ours_alone = ALL.iter().any(|variable| variable.name == name && !variable.in_dotenv);
            let value = file.values.get(name).filter(|_| !is_ours_alone)?;
            let source = if file.is_named { Source::Named(&file.path) } else { Source::Found(&file.path) };
            Some(Sourced { value: value.as_str(), source })
        };
        real.or_else(in_file).filter(|found| !found.value.is_empty())
    }
    /// Returns the variables that a spec may read, each as [`Environment::get`] gives it.
    pub fn all(&self) -> BTreeMap<String, String> {
        let mut all = self.file.as_ref().map(|file| file.values.clone()).unwrap_or_default();
        all.extend(self.real.clone());
        all
    }
    /// Returns the value as a path, with `~/` and `~` standing for the home folder.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(|value| self.expand_home(value))
    }
    /// Returns the path with a leading `~` replaced by the home folder.
    pub fn expand_home(&self, path: &str) -> PathBuf {
        match (path.strip_prefix('~'), self.get(names::HOME)) {
            (Some(""), Some(home)) => PathBuf::from(home),
            (Some(rest), Some(home)) if rest.starts_with('/') => Path::new(home).join(&rest[1..]),
            _ => PathBuf::from(path),
        }
    }
    /// Notes that hosts are trusted on first use, which only the command line can say.
    pub fn trusting_on_first_use(self, trusts_on_first_use: bool) -> Self {
        Self { trusts_on_first_use, ..self }
    }
    /// Tells whether a host whose SSH key is not known is trusted, and its key written down.
    pub fn trusts_on_first_use(&self) -> bool {
        self.trusts_on_first_use
    }
    /// Returns the `.env` that was read, if there was one.
    pub fn dotenv(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }
    /// Returns the files that hold credentials of vmdeploy: the `.env`, and the SSH key.
    pub fn credential_files(&self) -> Vec<PathBuf> {
        let in_file = [names::SSH_KEY, names::SSH_PASSPHRASE_FILE].map(|variable| self.path(variable.name()));
        let files = in_file.into_iter().flatten().chain(self.dotenv().map(Path::to_owned));
        files.chain([PathBuf::from(DOTENV)]).collect()
    }
    /// Returns what a file that was only found says of a variable.
    fn found_value(&self, name: &str) -> Option<&str> {
        let file = self.file.as_ref().filter(|file| !file.is_named)?;
        file.values.get(name).map(String::as_str)
    }
    /// Returns the file's name for messages.
    fn found_file(&self) -> String {
        self.dotenv().unwrap_or(Path::new(DOTENV)).display().to_string()
    }

    fn register_secrets(&self) {
        for variable in ALL.iter().filter(|variable| variable.secret) {
            self.get(variable.name).into_iter().for_each(redact::register);
        }
    }
}

fn owned<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    values.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Sets variables in a `.env`, 0600; every other line stays as it is.
///
/// # Errors
/// The file cannot be read or written, or a value contains a line break.
pub fn set_in_dotenv(path: &Path, pairs: &[(&str, &str)]) -> std::io::Result<()> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let changed =
        replaced(&text, pairs).ok_or_else(|| std::io::Error::other("a value contains a line break"))?;
    crate::files::write_private(path, &changed)
}

fn read_dotenv(path: &Path, is_named: bool) -> Result<Option<BTreeMap<String, String>>, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_named => return Ok(None),
        Err(error) => {
            return Err(Failure::of(Exit::USAGE, error).context(format!("cannot read `{}`", path.display())));
        }
    };
    let pairs = parse(&text).map_err(|error| {
        Failure::of(Exit::USAGE, error).context(format!("cannot parse `{}`", path.display())).hint(
            "write each line as `NAME=value`; `export` before it and quotes around the value are allowed",
        )
    })?;
    Ok(Some(pairs.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_environment_wins_even_with_an_empty_value() {
        let both = Environment::of([("A", "real"), ("B", "")]).with_found([
            ("A", "file"),
            ("B", "file"),
            ("C", "file"),
        ]);
        assert_eq!((both.get("A"), both.get("B"), both.get("C")), (Some("real"), None, Some("file")));
    }

    #[test]
    fn a_tilde_is_the_home_folder() {
        let home = Environment::of([("HOME", "/home/me")]);
        assert_eq!(home.expand_home("~/.ssh/id"), Path::new("/home/me/.ssh/id"));
        assert_eq!(home.expand_home("~other/x"), Path::new("~other/x"));
    }

    #[test]
    fn a_file_sets_nothing_of_the_system_and_confirms_nothing() {
        for name in [names::HOME, names::SSH_AUTH_SOCK, names::CONFIRM_DELETE] {
            assert_eq!(Environment::default().with_found([(name, "true")]).get(name), None, "{name}");
        }
    }

    #[test]
    fn a_setting_is_replaced_in_the_source_that_the_others_come_from() {
        let changed = |environment: Environment| {
            let changed = environment.with(names::SSH_HOST, "pve2");
            let host = changed.connection().map(|scope| scope.get(names::SSH_HOST).map(str::to_owned));
            assert_eq!(host.unwrap().as_deref(), Some("pve2"));
        };
        changed(Environment::default().with_found([("PROXMOX_SSH_HOST", "pve1"), ("PROXMOX_SSH_USER", "a")]));
        changed(Environment::of([("PROXMOX_SSH_HOST", "pve1"), ("PROXMOX_SSH_USER", "a")]));
    }

    #[test]
    fn a_port_that_is_none_is_refused_by_name() {
        let wrong = Environment::of([("PROXMOX_API_PORT", "80o6")]);
        let failure = wrong.connection().unwrap().number::<u16>(names::API_PORT).unwrap_err();
        assert_eq!(
            failure.render(),
            "error: PROXMOX_API_PORT is `80o6`, which is not a number in the allowed range\n"
        );
    }
}
