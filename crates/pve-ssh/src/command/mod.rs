//! Commands for a node: pure values made of arguments, and the one place that turns them into shell text.
//!
//! # The shell text that leaves this crate
//! sshd hands the text to the login shell of the user. Only this syntax is ever used:
//! - words, each quoted by [`quote`]: bare, or between `'…'`, with `'\''` for a quote inside;
//! - the frame of [`Frame`]: `printf 'vmdeploy-pid %s\n' $$ >&2; exec timeout -k 10 600 qm …`, with `sudo -n`
//!   before `timeout` where the user is not root. The first line on stderr is then the process to end;
//! - `exec sudo -n /usr/lib/openssh/sftp-server`, for uploads of users who are not root.
//!
//! No pipes, no globs, no substitutions, no variables but `$$`. A build ([`build::run`]) is a quoted argument of `sh -c`: a
//! fixed script that takes folder and command as arguments, and its environment from stdin.

pub mod access;
pub mod build;
pub mod files;
mod frame;
pub mod pvesm;
pub mod qm;
mod quote;

pub use frame::{Frame, PID_MARKER, Privilege, end_process, process_is_alive};
pub(crate) use frame::{pid_line, sftp_as_root};
pub use quote::{NulByte, quote};

use crate::text::Escaped;
use pve_types::Secret;

/// The longest shell text that Linux takes as one argument of the shell, in bytes.
// Linux: include/uapi/linux/binfmts.h MAX_ARG_STRLEN is 32 pages, and counts the closing NUL.
pub const LONGEST_TEXT: usize = 128 * 1024 - 1;

/// A program and its arguments, exactly as the program receives them.
///
/// ```
/// use pve_ssh::command::Command;
/// let command = Command::new("qm").arg("set").arg("201").option("name", "it's");
/// assert_eq!(command.to_string(), r"qm set 201 --name 'it'\''s'");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    words: Vec<Vec<u8>>,
    /// What the program is given on its standard input: secrets, which no argument may hold.
    stdin: Option<Secret>,
    /// Whether it changes nothing on the host.
    reads: bool,
}

/// Why a command cannot be sent. Nothing has been sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// An argument holds a NUL byte, which no program can be given.
    #[error("an argument of `{command}` contains a NUL byte, which cannot be passed to a program")]
    Nul {
        /// The command as it would be shown.
        command: String,
    },
    /// The text is longer than the node's kernel takes.
    #[error("the command `{command}` is {length} bytes long, more than the {LONGEST_TEXT} that Linux allows")]
    TooLong {
        /// The beginning of the command.
        command: String,
        /// Its length in bytes.
        length: usize,
    },
}

impl Command {
    /// Begins a command of `program`.
    pub fn new(program: impl Into<String>) -> Self {
        Self { words: vec![program.into().into_bytes()], stdin: None, reads: false }
    }

    /// Says that the command changes nothing on the host: [`crate::Host::run`] runs it again when its connection is
    /// lost or the host is too busy, which it never does with others.
    pub fn only_reads(self) -> Self {
        Self { reads: true, ..self }
    }

    /// Tells whether the command changes nothing on the host.
    pub fn is_read(&self) -> bool {
        self.reads
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.words.push(argument.as_ref().to_vec());
        self
    }

    /// Adds several arguments.
    pub fn args<T: AsRef<[u8]>>(self, arguments: impl IntoIterator<Item = T>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Adds `--name value`, or `--name=value` where the value could be taken for another option.
    // PVE: pve-common src/PVE/JSONSchema.pm get_options uses Getopt::Long, which takes both forms.
    pub fn option(self, name: &str, value: impl AsRef<str>) -> Self {
        let value = value.as_ref();
        if value.is_empty() || value.starts_with('-') {
            self.arg(format!("--{name}={value}"))
        } else {
            self.arg(format!("--{name}")).arg(value)
        }
    }

    /// Adds options in the given order.
    pub fn options<K: AsRef<str>, V: AsRef<str>>(self, options: impl IntoIterator<Item = (K, V)>) -> Self {
        options.into_iter().fold(self, |command, (name, value)| command.option(name.as_ref(), value))
    }

    /// Adds an option whose value PVE's programs read from standard input when the command line has none.
    ///
    /// An argument can be read by every user of the node while the command runs, and `sudo` writes it into a log; what is
    /// on standard input is seen by the program alone. The program asks for it twice, as for a new password.
    // PVE: pve-common src/PVE/CLIHandler.pm pve-password, src/PVE/PTY.pm get_confirmed_password and read_password.
    pub fn secret_option(self, name: &str, value: &Secret) -> Self {
        let line = value.expose();
        let before = self.stdin.as_ref().map_or("", Secret::expose);
        let stdin = Some(Secret::new(format!("{before}{line}\n{line}\n")));
        Self { stdin, ..self.arg(format!("--{name}=")) }
    }

    /// Returns what the program reads on its standard input, where that is part of the command.
    pub fn stdin(&self) -> Option<&Secret> {
        self.stdin.as_ref()
    }

    /// Returns the program's name.
    pub fn program(&self) -> String {
        self.words.first().map(|word| String::from_utf8_lossy(word).into_owned()).unwrap_or_default()
    }

    /// Returns the arguments after the program, as they arrive there.
    pub fn arguments(&self) -> impl Iterator<Item = &[u8]> {
        self.words.iter().skip(1).map(Vec::as_slice)
    }

    /// Returns the shell text of the command alone, without a [`Frame`].
    ///
    /// # Errors
    /// [`CommandError`] for a NUL byte or a text that is too long.
    pub fn to_shell_text(&self) -> Result<Vec<u8>, CommandError> {
        let mut text = Vec::new();
        for (at, word) in self.words.iter().enumerate() {
            if at > 0 {
                text.push(b' ');
            }
            let quoted = quote(word).map_err(|NulByte| CommandError::Nul { command: self.summary() })?;
            text.extend_from_slice(&quoted);
        }
        self.check_length(text)
    }

    pub(crate) fn check_length(&self, text: Vec<u8>) -> Result<Vec<u8>, CommandError> {
        if text.len() > LONGEST_TEXT {
            return Err(CommandError::TooLong { command: self.summary(), length: text.len() });
        }
        Ok(text)
    }

    /// Returns the command as [`std::fmt::Display`] shows it, cut to about 200 characters.
    pub fn summary(&self) -> String {
        let whole = self.to_string();
        match whole.char_indices().nth(200) {
            Some((at, _)) => format!("{}…", &whole[..at]),
            None => whole,
        }
    }
}

impl std::fmt::Display for Command {
    /// Shows the command as one could type it, control characters apart.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, word) in self.words.iter().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            match quote(word) {
                Ok(quoted) => write!(f, "{}", Escaped(&String::from_utf8_lossy(&quoted)))?,
                Err(NulByte) => write!(f, "{}", Escaped(&String::from_utf8_lossy(word)))?,
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Command({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_look_like_options_are_joined_by_an_equals_sign() {
        let command =
            Command::new("qm").arg("set").arg("100").option("a", "-b").option("c", "").option("d", "e");
        assert_eq!(command.to_string(), "qm set 100 --a=-b --c= --d e");
    }

    #[test]
    fn a_hidden_value_is_sent_and_never_shown() {
        let command = Command::new("qm").secret_option("cipassword", &Secret::new("$6$salt$hash"));
        let command = command.option("name", "web01");
        assert_eq!(command.to_string(), "qm --cipassword= --name web01");
        assert_eq!(format!("{command:?}"), "Command(qm --cipassword= --name web01)");
        assert_eq!(command.to_shell_text().unwrap(), b"qm --cipassword= --name web01");
        assert_eq!(command.stdin().unwrap().expose(), "$6$salt$hash\n$6$salt$hash\n");
    }

    #[test]
    fn nul_and_endless_texts_are_refused_before_anything_is_sent() {
        let nul = Command::new("echo").arg("a\0b").to_shell_text().unwrap_err();
        assert_eq!(
            nul.to_string(),
            r"an argument of `echo a\u{0}b` contains a NUL byte, which cannot be passed to a program"
        );
        let long = Command::new("echo").arg("x".repeat(LONGEST_TEXT)).to_shell_text().unwrap_err();
        assert!(matches!(long, CommandError::TooLong { length, .. } if length > LONGEST_TEXT));
        assert!(long.to_string().len() < 400);
    }

    #[test]
    fn control_characters_are_shown_escaped() {
        let command = Command::new("echo").arg("\u{1b}[31m\n");
        assert_eq!(command.to_string(), r"echo '\u{1b}[31m\u{a}'");
    }
}
