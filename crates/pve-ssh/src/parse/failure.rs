//! What a failing command says on stderr.

/// A failure that a caller treats in its own way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// `can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout`: somebody else is at it.
    LockTimeout {
        /// The lock file, or the cluster lock's name.
        lock: String,
    },
    /// `VM is locked (backup)`.
    GuestLocked {
        /// The value of the configuration's `lock`.
        lock: String,
    },
    /// The configuration file of a guest does not exist.
    NoSuchGuest {
        /// PVE's own words for the file.
        file: String,
    },
    /// `unable to create VM 200 - VM 200 already exists on node 'pve1'`.
    GuestExists,
    /// `storage 'x' does not exist`, or `No such storage`.
    NoSuchStorage,
    /// `cluster not ready - no quorum?`.
    NoQuorum,
    /// The storage, or the file system, is full.
    NoSpace,
    /// `detected modified configuration - file change by other user? Try again.`, or `checksum mismatch`.
    DigestMismatch,
    /// `400 Parameter verification failed.`: nothing was done.
    Parameters {
        /// The lines `key: message`.
        messages: Vec<String>,
    },
    /// The program is not there, or needs root.
    CannotRun {
        /// PVE's or the shell's own words.
        message: String,
    },
}

/// Reads the failure that `stderr` tells; `None` when no known one is told.
///
/// A lock timeout counts only when it is all that was said: after other lines something may have happened.
pub fn failure(stderr: &str) -> Option<Failure> {
    let lines: Vec<&str> = stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && *line != "trying to acquire lock...")
        .collect();
    parameters(&lines).or_else(|| lines.iter().rev().find_map(|line| one_line(line, lines.len() == 1)))
}

fn one_line(line: &str, alone: bool) -> Option<Failure> {
    let text = line.strip_prefix("ERROR: ").unwrap_or(line);
    lock_timeout(text).filter(|_| alone).or_else(|| state(text)).or_else(|| refusal(text))
}

// PVE: pve-common src/PVE/Tools.pm lock_file_full; pve-cluster src/PVE/Cluster.pm cfs_lock.
fn lock_timeout(text: &str) -> Option<Failure> {
    let lock = between(text, "can't lock file '", "' - got timeout")
        .or_else(|| between(text, "cfs-lock '", "' error: got lock request timeout"))
        .or_else(|| (text == "got lock request timeout").then_some("cluster"))?;
    Some(Failure::LockTimeout { lock: lock.to_owned() })
}

// PVE: pve-guest-common src/PVE/AbstractConfig.pm check_lock, load_config.
fn state(text: &str) -> Option<Failure> {
    if let Some(lock) = between(text, "is locked (", ")") {
        return Some(Failure::GuestLocked { lock: lock.to_owned() });
    }
    if let Some(file) = between(text, "Configuration file '", "' does not exist") {
        return Some(Failure::NoSuchGuest { file: file.to_owned() });
    }
    if text.contains("detected modified configuration") || text.contains("checksum mismatch") {
        return Some(Failure::DigestMismatch);
    }
    text.contains("no quorum").then_some(Failure::NoQuorum)
}

fn refusal(text: &str) -> Option<Failure> {
    if text.contains("already exists on node") || text.ends_with("config file already exists") {
        return Some(Failure::GuestExists);
    }
    if between(text, "storage '", "' does not exist").is_some() || text.contains("No such storage") {
        return Some(Failure::NoSuchStorage);
    }
    let full =
        ["No space left on device", "out of space", "not enough free space", "insufficient free space"];
    if full.iter().any(|words| text.contains(words)) {
        return Some(Failure::NoSpace);
    }
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
        return Some(Failure::NoSuchStorage);
    }
    if messages.is_empty() {
        // `Unknown option: frob` comes before `400 unable to parse option`.
        messages.extend(lines[..at].iter().map(|line| (*line).to_owned()));
        messages.push(lines[at].trim_start_matches("400 ").to_owned());
    }
    Some(Failure::Parameters { messages })
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    Some(&rest[..rest.find(after)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stderr: &str, expect: Option<Failure>) {
        assert_eq!(failure(stderr), expect, "{stderr}");
    }

    fn lock(name: &str) -> Option<Failure> {
        Some(Failure::LockTimeout { lock: name.into() })
    }

    #[test]
    fn a_lock_timeout_counts_only_when_it_is_all() {
        let file = "/var/lock/qemu-server/lock-100.conf";
        check(&format!("trying to acquire lock...\ncan't lock file '{file}' - got timeout\n"), lock(file));
        check(&format!("can't lock file '{file}' - got timeout\n"), lock(file));
        check(&format!("disk made\ncan't lock file '{file}' - got timeout\n"), None);
        check("cfs-lock 'storage-nas' error: got lock request timeout", lock("storage-nas"));
    }

    #[test]
    fn states_and_refusals_are_told_apart() {
        check("VM is locked (backup)\n", Some(Failure::GuestLocked { lock: "backup".into() }));
        check(
            "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist\n",
            Some(Failure::NoSuchGuest { file: "nodes/pve1/qemu-server/999.conf".into() }),
        );
        check("unable to create VM 200 - VM 200 already exists on node 'pve1'\n", Some(Failure::GuestExists));
        check("storage 'nope' does not exist\n", Some(Failure::NoSuchStorage));
        check("cluster not ready - no quorum?\n", Some(Failure::NoQuorum));
        check(
            "qemu-img: error while writing: No space left on device\ncopy failed: x\n",
            Some(Failure::NoSpace),
        );
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
            Some(Failure::NoSuchStorage),
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
