//! Runs the program as a person does, and writes down everything that it says.

use regex_free::redact;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// An empty folder to work in, an empty home, and an environment with nothing in it.
pub struct Session {
    folder: TempDir,
    home: TempDir,
    variables: Vec<(String, String)>,
}

impl Session {
    /// Makes one.
    pub fn new() -> Self {
        let folder =
            || tempfile::Builder::new().prefix("vmdeploy-test-").tempdir().expect("a folder can be made");
        Self { folder: folder(), home: folder(), variables: Vec::new() }
    }
    /// Sets variables for every later command.
    pub fn with_variables(mut self, variables: &[(String, String)]) -> Self {
        self.variables.extend_from_slice(variables);
        self
    }
    /// Sets a variable for every later command.
    pub fn add_variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }
    /// Returns a path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    /// Writes a file into the folder.
    pub fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("it lies in the folder")).expect("a folder can be made");
        std::fs::write(path, text).expect("a file can be written");
        self
    }
    /// Returns a path in the home folder.
    pub fn home(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
    /// Returns the command with its environment, not yet run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmdeploy"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
    /// Runs the command to its end.
    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program can be run")
    }
    /// Runs the command, and returns what a person sees, with what varies from run to run masked.
    pub fn run(&self, arguments: &[&str]) -> String {
        transcript(arguments, &self.output(arguments), self.folder.path())
    }
}

/// Returns command, stdout, stderr and exit code as one text.
pub fn transcript(arguments: &[&str], output: &Output, folder: &Path) -> String {
    let part = |name: &str, bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if text.is_empty() { String::new() } else { format!("--- {name}\n{}", ended(text)) }
    };
    let code = output.status.code().map_or_else(|| output.status.to_string(), |code| code.to_string());
    let text = format!(
        "$ vmdeploy {}\n{}{}--- exit {code}\n",
        arguments.join(" "),
        part("stdout", &output.stdout),
        part("stderr", &output.stderr),
    );
    redact(&text.replace(&folder.display().to_string(), "<folder>"))
}

fn ended(text: String) -> String {
    if text.ends_with('\n') { text } else { text + "\n<no newline>\n" }
}

/// Masking without a regular expression engine: what varies has simple forms.
mod regex_free {
    /// Masks times, ports of 127.0.0.1 and run names, at the width that they have, so that columns are still compared.
    pub fn redact(text: &str) -> String {
        text.split_inclusive('\n').map(line).collect()
    }

    fn line(line: &str) -> String {
        let mut out = String::with_capacity(line.len());
        let mut word = String::new();
        for character in line.chars() {
            if character.is_whitespace() || "(),;`\"".contains(character) {
                out.push_str(&mask(&word));
                word.clear();
                out.push(character);
            } else {
                word.push(character);
            }
        }
        out + &mask(&word)
    }

    fn mask(word: &str) -> String {
        if is_time(word) {
            return digits_to(word, 'T');
        }
        if let Some(at) = word.find("127.0.0.1:") {
            let (before, port) = word.split_at(at + "127.0.0.1:".len());
            return format!("{before}{}", digits_to(port, 'P'));
        }
        // Which guest gets which address of the lab's DHCP is a matter of who boots first.
        if let Some(at) = word.find("192.0.2.") {
            let (before, last) = word.split_at(at + "192.0.2.".len());
            return format!("{before}{}", digits_to(last, 'D'));
        }
        if is_run_name(word) {
            return word
                .chars()
                .map(|character| if character.is_alphanumeric() { 'R' } else { character })
                .collect();
        }
        word.to_owned()
    }

    fn digits_to(word: &str, mask: char) -> String {
        word.chars().map(|character| if character.is_ascii_digit() { mask } else { character }).collect()
    }

    /// `0.4s`, `12s`, `3m05s`, with a final period or colon maybe.
    fn is_time(word: &str) -> bool {
        let Some(number) = word.trim_end_matches(['.', ':']).strip_suffix('s') else { return false };
        number.starts_with(|first: char| first.is_ascii_digit())
            && number
                .chars()
                .all(|character| character.is_ascii_digit() || character == '.' || character == 'm')
    }

    /// `20261121T233000-1a2b3c`.
    fn is_run_name(word: &str) -> bool {
        let word = word.trim_end_matches(['.', ':']);
        word.split_once('-').is_some_and(|(time, chance)| {
            time.len() == 15
                && time.as_bytes()[8] == b'T'
                && !chance.is_empty()
                && chance.chars().all(char::is_alphanumeric)
        })
    }

    #[test]
    fn what_varies_is_masked_at_its_width() {
        let line = "run 20261121T233000-1a2b3c: done in 0.4s at https://127.0.0.1:45551/x (3m05s)\n";
        let masked = "run RRRRRRRRRRRRRRR-RRRRRR: done in T.Ts at https://127.0.0.1:PPPPP/x (TmTTs)\n";
        assert_eq!(redact(line), masked);
    }
}
