//! The environment, read once: the process's own, and `.env` of the working folder behind it.

mod dotenv;
mod variables;

pub use dotenv::{DotenvError, parse, quote_value, replaced};
pub use variables::{ALL, Variable, names};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::redact;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The name of the file that is read from the working folder.
pub const DOTENV: &str = ".env";

/// The variables that a run sees. A variable of the real environment is never overridden by `.env`, and one that
/// is set there to nothing counts as not set at all.
#[derive(Debug, Default)]
pub struct Environment {
    real: BTreeMap<String, String>,
    file: BTreeMap<String, String>,
    dotenv: Option<PathBuf>,
    trusts_on_first_use: bool,
}

impl Environment {
    /// Reads the process's environment and `.env`, and makes the secrets among them known to [`redact`].
    ///
    /// # Errors
    /// A `.env` that cannot be read or is not `NAME=value` lines is refused, with its line.
    pub fn load() -> Result<Self, Failure> {
        let real = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let path = PathBuf::from(DOTENV);
        let file = read_dotenv(&path)?;
        let environment = Self {
            real,
            dotenv: file.is_some().then_some(path),
            file: file.unwrap_or_default(),
            trusts_on_first_use: false,
        };
        environment.register_secrets();
        Ok(environment)
    }
    /// Builds one from given variables, for tests.
    pub fn of<'a>(real: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let real = real.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { real, ..Self::default() }
    }
    /// Returns the same environment with one variable set.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut real = self.real.clone();
        real.insert(name.to_owned(), value.to_owned());
        Self {
            real,
            file: self.file.clone(),
            dotenv: self.dotenv.clone(),
            trusts_on_first_use: self.trusts_on_first_use,
        }
    }
    /// Returns a variable's value; an empty one is not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.real.get(name).or_else(|| self.file.get(name));
        value.map(String::as_str).filter(|value| !value.is_empty())
    }
    /// Returns all variables, each as [`Environment::get`] gives it.
    pub fn all(&self) -> BTreeMap<String, String> {
        let mut all = self.file.clone();
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
    /// Returns a number, e.g. a port.
    ///
    /// # Errors
    /// A value that is not such a number is refused, naming the variable.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| {
            Failure::usage(format!(
                "{name} is `{}`, which is not a number in its range",
                value.escape_debug()
            ))
        })
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
        self.dotenv.as_deref()
    }

    fn register_secrets(&self) {
        for variable in ALL.iter().filter(|variable| variable.secret) {
            self.get(variable.name).into_iter().for_each(redact::register);
        }
    }
}

/// Sets variables in a `.env`, 0600; every other line stays as it is.
///
/// # Errors
/// The file cannot be read or written, or a value holds a line break.
pub fn set_in_dotenv(path: &Path, pairs: &[(&str, &str)]) -> std::io::Result<()> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let changed =
        replaced(&text, pairs).ok_or_else(|| std::io::Error::other("a value holds a line break"))?;
    crate::files::write_private(path, &changed)
}

fn read_dotenv(path: &Path) -> Result<Option<BTreeMap<String, String>>, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Failure::of(Exit::USAGE, error).context(format!("cannot read `{}`", path.display())));
        }
    };
    let pairs = parse(&text).map_err(|error| {
        Failure::of(Exit::USAGE, error)
            .context(format!("cannot understand `{}`", path.display()))
            .hint("each line is `NAME=value`, maybe with `export` before it and quotes around the value")
    })?;
    Ok(Some(pairs.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(real: &[(&str, &str)], file: &[(&str, &str)]) -> Environment {
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        Environment { real: owned(real), file: owned(file), ..Environment::default() }
    }

    #[test]
    fn the_real_environment_wins_even_with_an_empty_value() {
        let both = environment(&[("A", "real"), ("B", "")], &[("A", "file"), ("B", "file"), ("C", "file")]);
        assert_eq!((both.get("A"), both.get("B"), both.get("C")), (Some("real"), None, Some("file")));
    }

    #[test]
    fn a_tilde_is_the_home_folder() {
        let home = environment(&[("HOME", "/home/me")], &[]);
        assert_eq!(home.expand_home("~/.ssh/id"), Path::new("/home/me/.ssh/id"));
        assert_eq!(home.expand_home("~other/x"), Path::new("~other/x"));
    }

    #[test]
    fn a_port_that_is_none_is_refused_by_name() {
        let wrong = environment(&[("PROXMOX_API_PORT", "80o6")], &[]);
        let failure = wrong.number::<u16>("PROXMOX_API_PORT").unwrap_err();
        assert_eq!(
            failure.render(),
            "error: PROXMOX_API_PORT is `80o6`, which is not a number in its range\n"
        );
    }
}
