//! Files and facts of a node.

use super::OutputError;
use pve_types::{Bytes, MacAddr, NodeName, PveVersion};

/// Reads the checksum that `sha256sum` and its like print: hexadecimal digits, as many as `bits` make.
///
/// # Errors
/// The output does not begin with such digits.
// coreutils: a `\` comes first where the name that follows is escaped.
pub fn checksum(bits: u16, stdout: &str) -> Result<String, OutputError> {
    let first = stdout.trim_start_matches('\\').split([' ', '\n']).next().unwrap_or("");
    let length = usize::from(if bits == 1 { 160 } else { bits }) / 4;
    if first.len() == length && first.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(first.to_ascii_lowercase())
    } else {
        Err(OutputError::new("sha256sum", "a checksum", stdout))
    }
}

/// What `stat` says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// Its size.
    pub size: Bytes,
    /// When it was last changed, in seconds since 1970.
    pub modified_s: i64,
}

/// Reads what [`crate::command::files::stat`] prints.
///
/// # Errors
/// It is not two numbers and a name.
pub fn file_stat(stdout: &str) -> Result<FileStat, OutputError> {
    let mut words = stdout.splitn(3, ' ');
    let mut read = || {
        let size = Bytes::new(words.next()?.parse().ok()?);
        let modified_s = words.next()?.parse().ok()?;
        words.next().map(|_| FileStat { size, modified_s })
    };
    read().ok_or_else(|| OutputError::new("stat", "size, time and name", stdout))
}

/// Reads `hostname`, up to the first dot.
///
/// # Errors
/// It is not a node's name.
pub fn hostname(stdout: &str) -> Result<NodeName, OutputError> {
    let name = stdout.trim_end().split('.').next().unwrap_or("");
    name.parse().map_err(|_| OutputError::new("hostname", "a node's name", stdout))
}

/// Reads `ip neighbor show`: address, MAC address and device of every entry that is not known to be wrong.
///
/// Lines without a MAC address, or of another form, are left out.
// iproute2 ip/ipneigh.c: `10.0.0.5 dev vmbr0 lladdr bc:24:11:00:00:01 REACHABLE`, the state last.
pub fn neighbors(stdout: &str) -> Vec<(std::net::IpAddr, MacAddr, String)> {
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |key: &str| {
            let at = words.iter().position(|word| *word == key)?;
            words.get(at + 1).copied()
        };
        let wrong = words.last().is_some_and(|state| matches!(*state, "FAILED" | "INCOMPLETE"));
        let address = words.first()?.parse().ok().filter(|_| !wrong)?;
        Some((address, after("lladdr")?.parse().ok()?, after("dev")?.to_owned()))
    };
    stdout.lines().filter_map(entry).collect()
}

/// Reads `pveversion`: `pve-manager/9.2.11/b6d3… (running kernel: 6.14.8-2-pve)`.
///
/// # Errors
/// It is another text.
pub fn pveversion(stdout: &str) -> Result<PveVersion, OutputError> {
    let version = stdout.strip_prefix("pve-manager/").and_then(|rest| rest.split('/').next());
    version
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| OutputError::new("pveversion", "`pve-manager/VERSION/…`", stdout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbors_are_those_with_a_mac_address_that_answered() {
        let text = "10.0.0.5 dev vmbr0 lladdr bc:24:11:00:00:01 REACHABLE\n\
                    10.0.0.6 dev vmbr0 FAILED\n\
                    10.0.0.7 dev vmbr0 lladdr bc:24:11:00:00:03 FAILED\n\
                    2001:db8::1 dev vmbr1 lladdr bc:24:11:00:00:02 router STALE\n\
                    nonsense\n";
        let found: Vec<String> = neighbors(text)
            .into_iter()
            .map(|(address, mac, device)| format!("{address} {mac} {device}"))
            .collect();
        assert_eq!(found, ["10.0.0.5 BC:24:11:00:00:01 vmbr0", "2001:db8::1 BC:24:11:00:00:02 vmbr1"]);
    }

    #[test]
    fn a_checksum_has_the_right_length() {
        let sum = "E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(checksum(256, &format!("{sum}  /a\n")).unwrap(), sum.to_lowercase());
        assert_eq!(checksum(256, &format!("\\{sum}  /a\\nb\n")).unwrap(), sum.to_lowercase());
        assert!(checksum(512, &format!("{sum}  /a\n")).is_err());
        assert!(checksum(256, "sha256sum: /a: No such file or directory\n").is_err());
    }

    #[test]
    fn a_file_has_size_and_time() {
        let read = file_stat("18093056 1760000000 /a b\n").unwrap();
        assert_eq!((read.size.get(), read.modified_s), (18_093_056, 1_760_000_000));
        assert!(file_stat("stat: cannot statx '/x'").is_err());
    }

    #[test]
    fn names_and_versions_are_read() {
        assert_eq!(hostname("pve1.example.org\n").unwrap().as_str(), "pve1");
        assert!(hostname("\n").is_err());
        let version = pveversion("pve-manager/7.4-20/b6d3f2a1 (running kernel: 5.15.158-2-pve)\n").unwrap();
        assert_eq!(version, PveVersion::new(7, 4, 20));
        assert!(pveversion("bash: pveversion: command not found").is_err());
    }
}
