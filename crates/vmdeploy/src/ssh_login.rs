//! What a login to a node needs in addition to the settings: the passphrase of an encrypted key, and `~/.ssh/config`.

use crate::environment::{CredentialScope, names};
use crate::failure::Failure;
use crate::passphrase_prompt;
use pve_ssh::openssh::Asking;
use pve_ssh::{AskPassphrase, Keyring, Passphrase, UnknownHost};
use pve_types::Secret;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Returns the keyring, which asks for passphrases where the environment says, or at the terminal.
pub fn keyring(scope: CredentialScope<'_>) -> Arc<Keyring> {
    let asker = Asker {
        file: scope.path(names::SSH_PASSPHRASE_FILE),
        command: scope.get(names::SSH_PASSPHRASE_COMMAND).map(str::to_owned),
    };
    Arc::new(Keyring::with_asker(Arc::new(asker)))
}

/// Returns what `ssh -G` is asked with; `None` where the person has no `~/.ssh/config`.
///
/// What the environment names itself comes before what the configuration says.
///
/// # Errors
/// `PROXMOX_SSH_PORT` is no port.
pub fn asking(scope: CredentialScope<'_>) -> Result<Option<Asking>, Failure> {
    let environment = scope.environment();
    let config = environment.expand_home("~/.ssh/config");
    let Some(home) = environment.path(names::HOME).filter(|_| config.is_file()) else { return Ok(None) };
    let jumps = scope.get(names::SSH_JUMP).unwrap_or_default();
    Ok(Some(Asking {
        program: PathBuf::from("ssh"),
        config_file: None,
        default_user: "root".to_owned(),
        home,
        agent: environment.path(names::SSH_AUTH_SOCK),
        user: scope.get(names::SSH_USER).map(str::to_owned),
        port: scope.number(names::SSH_PORT)?,
        keys: scope.path(names::SSH_KEY).into_iter().collect(),
        known_hosts: scope.path(names::SSH_KNOWN_HOSTS).into_iter().collect(),
        jumps: crate::place::list(jumps),
        keyring: keyring(scope),
        unknown: if environment.trusts_on_first_use() {
            UnknownHost::TrustOnFirstUse
        } else {
            UnknownHost::Refuse
        },
    }))
}

/// Knows passphrases from a file, from a command, or from the person at the terminal.
struct Asker {
    file: Option<PathBuf>,
    command: Option<String>,
}

impl AskPassphrase for Asker {
    fn ask(&self, path: &Path, attempt: u32) -> Passphrase {
        let (key, file, command) = (path.to_owned(), self.file.clone(), self.command.clone());
        let answer = move || match (file, command) {
            (Some(file), _) => from_file(&file),
            (None, Some(command)) => from_command(&command),
            (None, None) => passphrase_prompt::ask(&key, attempt),
        };
        Box::pin(async move { tokio::task::spawn_blocking(answer).await.map_err(|error| error.to_string())? })
    }
}

fn from_file(file: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("{} names `{}`: {error}", names::SSH_PASSPHRASE_FILE, file.display()))?;
    Ok(first_line(&text))
}

fn from_command(command: &str) -> Result<Secret, String> {
    let failed = |why: String| format!("{} failed: {why}", names::SSH_PASSPHRASE_COMMAND);
    let mut words = command.split_whitespace();
    let program = words.next().ok_or_else(|| failed("it is empty".to_owned()))?;
    let output = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    Ok(first_line(&String::from_utf8_lossy(&output.stdout)))
}

fn first_line(text: &str) -> Secret {
    Secret::new(text.lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    #[test]
    fn a_passphrase_is_the_first_line_of_a_file_or_of_a_command_s_output() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passphrase");
        std::fs::write(&file, "open sesame\nsecond line\n").unwrap();
        assert_eq!(from_file(&file).unwrap().expose(), "open sesame");
        let command = format!("cat {}", file.display());
        assert_eq!(from_command(&command).unwrap().expose(), "open sesame");
        assert!(from_command("false").unwrap_err().contains("PROXMOX_SSH_PASSPHRASE_COMMAND failed"));
        assert!(from_file(&folder.path().join("none")).is_err());
    }

    #[test]
    fn the_environment_comes_before_the_configuration() {
        let home = tempfile::tempdir().unwrap();
        let of = |more: &[(&str, &str)]| {
            let home = [("HOME", home.path().to_str().unwrap())];
            let variables: Vec<(&str, &str)> = home.into_iter().chain(more.iter().copied()).collect();
            asking(Environment::of(variables).connection().unwrap()).unwrap()
        };
        assert!(of(&[]).is_none(), "without ~/.ssh/config there is nothing to ask");
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        std::fs::write(home.path().join(".ssh/config"), "").unwrap();
        let silent = of(&[]).unwrap();
        assert_eq!((silent.user, silent.port, silent.keys.len()), (None, None, 0));
        let told =
            of(&[("PROXMOX_SSH_USER", "deploy"), ("PROXMOX_SSH_PORT", "2222"), ("PROXMOX_SSH_JUMP", "a, b")]);
        let told = told.unwrap();
        assert_eq!((told.user.as_deref(), told.port), (Some("deploy"), Some(2222)));
        assert_eq!(told.jumps, ["a", "b"]);
    }
}
