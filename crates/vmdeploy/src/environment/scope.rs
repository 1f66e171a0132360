//! The settings of a connection: credentials, endpoints and trust anchors, which belong together.
//!
//! A credential travels only to the endpoint, and with the trust anchors, that came from the same source. A
//! [`CredentialScope`] is the only way to read these settings, and all of one scope come from one [`Source`]: so a
//! repository's `.env` cannot lead a token of the environment to a host or a CA of its own, nor the other way round.

use super::{Environment, Source, names as n};
use crate::exit::Exit;
use crate::failure::Failure;
use std::path::PathBuf;

/// The name of a variable that says how the cluster is reached. Its value is read through a [`CredentialScope`] only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionVariable(pub(super) &'static str);

impl ConnectionVariable {
    /// Returns the variable's name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl std::fmt::Display for ConnectionVariable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// All variables that a scope holds together.
const CONNECTION: &[ConnectionVariable] = &[
    n::API_HOST,
    n::API_PORT,
    n::API_USER,
    n::API_PASSWORD,
    n::API_TOTP,
    n::API_CA,
    n::API_FINGERPRINT,
    n::SSH_USER,
    n::SSH_HOST,
    n::SSH_PORT,
    n::SSH_KEY,
    n::SSH_PASSPHRASE_FILE,
    n::SSH_PASSPHRASE_COMMAND,
    n::SSH_PASSWORD,
    n::SSH_KNOWN_HOSTS,
    n::SSH_JUMP,
];

/// Those whose value is run as a command.
const COMMANDS: &[ConnectionVariable] = &[n::SSH_PASSPHRASE_COMMAND];

/// Tells whether any of the values is a connection's.
pub(super) fn has_any(values: &std::collections::BTreeMap<String, String>) -> bool {
    CONNECTION.iter().any(|variable| values.get(variable.0).is_some_and(|value| !value.is_empty()))
}

/// Connection settings that all come from one source.
#[derive(Debug, Clone, Copy)]
pub struct CredentialScope<'a> {
    environment: &'a Environment,
}

impl<'a> CredentialScope<'a> {
    /// Takes the settings of the environment together.
    ///
    /// # Errors
    /// Some come from a `.env` that was only found, and others from the environment; or such a `.env` names a command.
    pub(super) fn of(environment: &'a Environment) -> Result<Self, Failure> {
        // What both sources say alike comes from either.
        let from = |trusted: bool| {
            CONNECTION.iter().copied().find(|variable| {
                environment.sourced(variable.0).is_some_and(|setting| {
                    let is_alike = environment.found_value(variable.0) == Some(setting.value);
                    setting.source.is_trusted() == trusted && !(trusted && is_alike)
                })
            })
        };
        let Some(found) = from(false) else { return Ok(Self { environment }) };
        let file = environment.found_file();
        let name_it = format!("if you trust the file, name it: `--env-file {file}`");
        if let Some(command) = COMMANDS
            .iter()
            .find(|variable| environment.sourced(variable.0).is_some_and(|found| !found.source.is_trusted()))
        {
            let message = format!(
                "`{file}` sets {command}, but a .env file that vmdeploy found on its own may not set a command to run"
            );
            return Err(Failure::new(Exit::RIGHTS, message)
                .hint(format!("set {command} in the environment, or remove it from `{file}`"))
                .hint(name_it));
        }
        match from(true) {
            None => Ok(Self { environment }),
            Some(own) => {
                let message = format!(
                    "the environment sets {own}, and `{file}` sets {found}: credentials are sent only to the host, and with \
                     the certificates and keys, that the same source sets"
                );
                Err(Failure::new(Exit::RIGHTS, message)
                    .hint(format!("set all of them in the environment, or all of them in `{file}`"))
                    .hint(name_it))
            }
        }
    }
    /// Returns a setting; an empty one is not set.
    pub fn get(&self, variable: ConnectionVariable) -> Option<&'a str> {
        self.environment.sourced(variable.0).map(|found| found.value)
    }
    /// Returns all settings that are set.
    pub fn settings(self) -> impl Iterator<Item = (ConnectionVariable, &'a str)> {
        CONNECTION.iter().filter_map(move |variable| Some((*variable, self.get(*variable)?)))
    }
    /// Returns a setting as a path, with `~` standing for the home folder.
    pub fn path(&self, variable: ConnectionVariable) -> Option<PathBuf> {
        self.get(variable).map(|value| self.environment.expand_home(value))
    }
    /// Returns a number, e.g. a port.
    ///
    /// # Errors
    /// A value that is not such a number is refused, naming the variable.
    pub fn number<T: std::str::FromStr>(&self, variable: ConnectionVariable) -> Result<Option<T>, Failure> {
        let Some(value) = self.get(variable) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| {
            Failure::usage(format!(
                "{variable} is `{}`, which is not a number in the allowed range",
                value.escape_debug()
            ))
        })
    }
    /// Returns the environment that the settings come from, for what is not a connection's.
    pub fn environment(&self) -> &'a Environment {
        self.environment
    }
    /// Returns where a setting comes from, for messages: "the environment" or "`.env`".
    pub fn origin(&self, variable: ConnectionVariable) -> String {
        match self.environment.sourced(variable.0).map(|found| found.source) {
            Some(Source::Named(path) | Source::Found(path)) => format!("`{}`", path.display()),
            Some(Source::Process) | None => "the environment".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(process: &[(&str, &str)], found: &[(&str, &str)], expect: Result<(), &str>) {
        let environment = Environment::of(process.iter().copied()).with_found(found.iter().copied());
        let got = environment.connection().map(drop).map_err(|failure| failure.text());
        match (got, expect) {
            (Ok(()), Ok(())) => {}
            (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
            (got, _) => panic!("{process:?} with {found:?}: {got:?}"),
        }
    }

    #[test]
    fn settings_of_a_found_file_and_of_the_environment_are_never_combined() {
        let token = [("PROXMOX_API_USER", "a@pve!b"), ("PROXMOX_API_PASSWORD", "x")];
        let both: Vec<_> = token.into_iter().chain([("PROXMOX_API_HOST", "pve1")]).collect();
        check(&both, &[], Ok(()));
        check(&[], &both, Ok(()));
        check(&[("PROXMOX_NODE", "pve1"), ("HOME", "/root")], &both, Ok(()));
        check(&both, &[("PROXMOX_NODE", "pve1"), ("VMDEPLOY_SPEC", "vms"), ("WEB_PASSWORD", "x")], Ok(()));
        for variable in CONNECTION.iter().filter(|variable| !COMMANDS.contains(variable)) {
            let one = [(variable.name(), "1")];
            let others: Vec<_> = both.iter().copied().filter(|(name, _)| *name != variable.name()).collect();
            check(&others, &one, Err("credentials are sent only to the host"));
            check(&one, &others, Err("credentials are sent only to the host"));
            check(&one, &[&others[..], &one].concat(), Ok(()));
        }
    }

    #[test]
    fn a_found_file_runs_no_command_and_a_named_one_may() {
        let command = [("PROXMOX_SSH_PASSPHRASE_COMMAND", "touch /tmp/x")];
        check(&[], &command, Err("may not set a command to run"));
        check(&command, &[], Ok(()));
        let named = Environment::of([("PROXMOX_API_HOST", "pve1")]).with_named(command);
        assert_eq!(named.connection().unwrap().get(n::SSH_PASSPHRASE_COMMAND), Some("touch /tmp/x"));
    }

    #[test]
    fn a_setting_that_the_environment_empties_does_not_count() {
        check(
            &[("PROXMOX_API_HOST", "pve1"), ("PROXMOX_API_CA", "")],
            &[("PROXMOX_API_CA", "/evil")],
            Ok(()),
        );
    }
}
