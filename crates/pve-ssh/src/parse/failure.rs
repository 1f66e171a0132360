//! What a failing command says on stderr.

use pve_types::{PveError, Reaction, TookEffect, read_error};

/// A failure that a caller treats in its own way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// PVE's own words, as [`pve_types::TEXTS`] reads them.
    Pve {
        /// What they mean.
        error: PveError,
        /// Whether the command may have changed something: nothing else was said when it is `No`.
        effect: TookEffect,
        /// What may be done.
        reaction: Reaction,
    },
    /// `400 Parameter verification failed.`: nothing was done.
    Parameters {
        /// The lines `key: message`.
        messages: Vec<String>,
    },
    /// The program is not there, or needs root. Nothing was done.
    CannotRun {
        /// PVE's or the shell's own words.
        message: String,
    },
}

impl Failure {
    /// Returns what PVE's words mean, where they are its own.
    pub fn error(&self) -> Option<PveError> {
        match self {
            Self::Pve { error, .. } => Some(*error),
            _ => None,
        }
    }
    /// Returns whether the command may have changed something.
    pub fn effect(&self) -> TookEffect {
        match self {
            Self::Pve { effect, .. } => *effect,
            Self::Parameters { .. } | Self::CannotRun { .. } => TookEffect::No,
        }
    }
}

/// Reads the failure that `stderr` tells; `None` when no known one is told.
///
/// An error counts as one that changed nothing only when it is all that was said: after other lines something may have
/// happened.
pub fn failure(stderr: &str) -> Option<Failure> {
    let lines: Vec<&str> = stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && *line != "trying to acquire lock...")
        .collect();
    parameters(&lines).or_else(|| lines.iter().rev().find_map(|line| one_line(line, lines.len() == 1)))
}

fn one_line(line: &str, alone: bool) -> Option<Failure> {
    let Some(told) = read_error(line) else { return cannot_run(line) };
    // The effect of an error that is not all that was said is that of what came before it.
    let (effect, reaction) = match (alone, told.reaction()) {
        (true, reaction) => (told.effect(), reaction),
        (false, Reaction::Retry) => (TookEffect::Maybe, Reaction::Probe),
        (false, reaction) => (TookEffect::Maybe, reaction),
    };
    Some(Failure::Pve { error: told.error, effect, reaction })
}

fn cannot_run(text: &str) -> Option<Failure> {
    let cannot =
        text == "please run as root" || text.contains("command not found") || text.contains(": not found");
    cannot.then(|| Failure::CannotRun { message: text.to_owned() })
}

/// Reads `400 Parameter verification failed.` and the `key: message` lines up to the usage line.
fn parameters(lines: &[&str]) -> Option<Failure> {
    let at = lines.iter().position(|line| line.starts_with("400 "))?;
    let mut messages: Vec<String> = lines[at + 1..]
        .iter()
        .take_while(|line| line.contains(": "))
        .map(|line| (*line).to_owned())
        .collect();
    if messages.iter().any(|line| line.contains("No such storage")) {
        // It is a parameter that was looked at before anything was done.
        let error = PveError::StorageUnfit;
        return Some(Failure::Pve { error, effect: TookEffect::No, reaction: Reaction::Stop });
    }
    if messages.is_empty() {
        // `Unknown option: frob` comes before `400 unable to parse option`.
        messages.extend(lines[..at].iter().map(|line| (*line).to_owned()));
        messages.push(lines[at].trim_start_matches("400 ").to_owned());
    }
    Some(Failure::Parameters { messages })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stderr: &str, expect: Option<Failure>) {
        assert_eq!(failure(stderr), expect, "{stderr}");
    }

    fn pve(error: PveError, effect: TookEffect, reaction: Reaction) -> Option<Failure> {
        Some(Failure::Pve { error, effect, reaction })
    }

    #[test]
    fn an_error_changed_nothing_only_when_it_is_all_that_was_said() {
        use {PveError as E, Reaction as R, TookEffect as T};
        let file = "/var/lock/qemu-server/lock-100.conf";
        let lock = format!("can't lock file '{file}' - got timeout\n");
        check(&format!("trying to acquire lock...\n{lock}"), pve(E::ConfigLock, T::No, R::Retry));
        check(&lock, pve(E::ConfigLock, T::No, R::Retry));
        check(&format!("disk made\n{lock}"), pve(E::ConfigLock, T::Maybe, R::Probe));
        let storage = "cfs-lock 'storage-nas' error: got lock request timeout";
        check(storage, pve(E::StorageLock, T::No, R::Retry));
        check("VM is locked (backup)\n", pve(E::GuestLocked, T::No, R::Retry));
        check("ERROR: VM is locked (backup)\n", pve(E::GuestLocked, T::No, R::Retry));
        let gone = "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist\n";
        check(gone, pve(E::GuestGone, T::No, R::Stop));
        let taken = "unable to create VM 200 - VM 200 already exists on node 'pve1'\n";
        check(taken, pve(E::VmidTaken, T::No, R::Stop));
        check("cluster not ready - no quorum?\n", pve(E::NoQuorum, T::No, R::Stop));
        let changed = "checksum mismatch (file change by other user?)\n";
        check(changed, pve(E::DigestChanged, T::No, R::Stop));
        check("checksum mismatch: got 'x' != expect 'y'\n", pve(E::ImageUnfit, T::Maybe, R::Stop));
        let full = "qemu-img: error while writing: No space left on device\ncopy failed: x\n";
        check(full, pve(E::StorageFull, T::Maybe, R::Stop));
        check("please run as root\n", Some(Failure::CannotRun { message: "please run as root".into() }));
        check("sh: 1: qm: not found\n", Some(Failure::CannotRun { message: "sh: 1: qm: not found".into() }));
        check("something else\n", None);
        check("", None);
    }

    #[test]
    fn refused_parameters_are_listed() {
        check(
            "400 Parameter verification failed.\nmemory: invalid format - format error\nmemory.current: type check \
             ('integer') failed - got 'lots'\n\nqm create <vmid> [OPTIONS]\n",
            Some(Failure::Parameters {
                messages: vec![
                    "memory: invalid format - format error".into(),
                    "memory.current: type check ('integer') failed - got 'lots'".into(),
                ],
            }),
        );
        check(
            "Unknown option: frob\n400 unable to parse option\nqm set <vmid> [OPTIONS]\n",
            Some(Failure::Parameters {
                messages: vec!["Unknown option: frob".into(), "unable to parse option".into()],
            }),
        );
        check(
            "400 Parameter verification failed.\nstorage: No such storage.\npvesm status  [OPTIONS]\n",
            pve(PveError::StorageUnfit, TookEffect::No, Reaction::Stop),
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = failure(&text);
            let _ = failure(&format!("400 {text}\n{text}: x"));
        }
    }
}
