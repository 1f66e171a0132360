//! Secrets for the executor: from the environment, from files, and from commands where the command line allows them.
//!
//! A spec from git is not trusted with this machine: it gets no `PROXMOX_*` variable, no file outside its folder and no
//! command unless the command line says so.

use crate::account_keys::{self, Forge};
use crate::environment::{self, Environment};
use crate::redact;
use pve_types::Secret;
use std::collections::BTreeMap;
use std::sync::Mutex;
use vmdeploy_executor::{LocalFiles, Reach, SecretError, SecretResolver};
use vmdeploy_planner::plan::SecretRef;

/// Gets secrets for one run.
#[derive(Debug)]
pub struct Resolver {
    environment: BTreeMap<String, String>,
    files: LocalFiles,
    allow_commands: bool,
    /// The public keys by account: all VMs of a run get the same.
    fetched: Mutex<BTreeMap<String, Vec<String>>>,
}

impl Resolver {
    /// Makes one that reads these files, and runs commands where `--allow-commands` says so.
    pub fn new(environment: &Environment, files: LocalFiles, allow_commands: bool) -> Self {
        Self { environment: environment.all(), files, allow_commands, fetched: Mutex::default() }
    }

    fn variable(&self, name: &str) -> Result<String, SecretError> {
        if name.starts_with("PROXMOX_") || name.starts_with("PVE_LAB_") {
            return Err(refused(format!("a spec may not read the variable `{name}`"), "use another name"));
        }
        let value = self.environment.get(name).filter(|value| !value.is_empty());
        value.cloned().ok_or_else(|| {
            refused(
                format!("the variable `{name}` is not set"),
                format!("set {name} in .env or the environment"),
            )
        })
    }

    fn file(&self, path: &str) -> Result<String, SecretError> {
        let bytes = self.files.read(path, Reach::Confined).map_err(|error| {
            let hint = error.hint().unwrap_or("the path is relative to the spec's folder");
            refused(format!("the file `{path}` {error}"), hint)
        })?;
        let text = String::from_utf8(bytes)
            .map_err(|_| refused(format!("the file `{path}` is not UTF-8 text"), "a secret is text"))?;
        Ok(without_last_newline(text))
    }

    fn command(&self, argv: &[String]) -> Result<String, SecretError> {
        let (program, arguments) =
            argv.split_first().ok_or_else(|| refused("the command is empty", "add a program"))?;
        if !self.allow_commands {
            let hint = "review the commands in the spec, then allow them with `--allow-commands`";
            return Err(refused(format!("the spec would run `{program}` on this machine"), hint));
        }
        let mut command = std::process::Command::new(program);
        command
            .args(arguments)
            .current_dir(&self.files.folder)
            .stdin(std::process::Stdio::null())
            .stderr(std::process::Stdio::inherit());
        for variable in environment::ALL.iter().filter(|variable| variable.secret) {
            command.env_remove(variable.name);
        }
        let output = command.output().map_err(|error| {
            refused(format!("`{program}` cannot be run: {error}"), "install it, or correct the spec")
        })?;
        if !output.status.success() {
            return Err(refused(
                format!("`{program}` failed with {}", output.status),
                "run it manually to see why",
            ));
        }
        let text = String::from_utf8(output.stdout)
            .map_err(|_| refused(format!("`{program}` printed no text"), "a secret is UTF-8 text"))?;
        Ok(without_last_newline(text))
    }
}

impl SecretResolver for Resolver {
    fn secret(&self, source: &SecretRef) -> Result<Secret, SecretError> {
        let value = match source {
            SecretRef::Env(name) => self.variable(name),
            SecretRef::File(path) => self.file(path),
            SecretRef::Command(argv) => self.command(argv),
        }?;
        redact::register(&value);
        Ok(Secret::new(value))
    }
    fn public_keys(&self, account: &str) -> Result<Vec<String>, SecretError> {
        let mut fetched = self.fetched.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(keys) = fetched.get(account) {
            return Ok(keys.clone());
        }
        let forge = Forge::of(account)?;
        let base = self.environment.get(forge.variable).filter(|base| !base.is_empty());
        let keys = account_keys::fetch(account, base.map_or(forge.base, String::as_str))?;
        fetched.insert(account.to_owned(), keys.clone());
        Ok(keys)
    }
}

fn refused(what: impl Into<String>, hint: impl Into<String>) -> SecretError {
    SecretError { what: what.into(), hint: Some(hint.into()) }
}

fn without_last_newline(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(folder: &std::path::Path, allow_commands: bool) -> Resolver {
        let environment =
            Environment::of([("WEB_PASSWORD", "correct horse"), ("PROXMOX_API_PASSWORD", "no")]);
        Resolver::new(&environment, LocalFiles::of(folder), allow_commands)
    }

    fn check(resolver: &Resolver, source: SecretRef, expect: Result<&str, &str>) {
        let got = resolver.secret(&source);
        let got = got.as_ref().map(Secret::expose).map_err(|error| error.what.as_str());
        assert_eq!(got, expect);
    }

    #[test]
    fn a_spec_gets_only_its_own_variables_and_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pw"), "from file\n").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("link")).unwrap();
        let strict = resolver(folder.path(), false);
        check(&strict, SecretRef::Env("WEB_PASSWORD".into()), Ok("correct horse"));
        let refused = "a spec may not read the variable `PROXMOX_API_PASSWORD`";
        check(&strict, SecretRef::Env("PROXMOX_API_PASSWORD".into()), Err(refused));
        check(&strict, SecretRef::File("pw".into()), Ok("from file"));
        check(&strict, SecretRef::File("link".into()), Err("the file `link` is outside the spec's folder"));
    }

    #[test]
    fn a_command_runs_only_where_it_is_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let echo = || SecretRef::Command(vec!["echo".into(), "printed".into()]);
        let refused = "the spec would run `echo` on this machine";
        check(&resolver(folder.path(), false), echo(), Err(refused));
        check(&resolver(folder.path(), true), echo(), Ok("printed"));
    }
}
