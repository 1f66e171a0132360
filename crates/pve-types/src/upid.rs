//! Tasks: their identifiers and how they end.

use crate::{NodeName, ParseError, string_form};

/// A task's unique identifier, `UPID:NODE:PID:PSTART:STARTTIME:TYPE:ID:USER:`.
// PVE: pve-common src/PVE/UPID.pm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Upid {
    text: String,
    node: NodeName,
    start_time: u64,
}

impl Upid {
    /// Returns the identifier as PVE wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// Returns the node on which the task runs.
    pub fn node(&self) -> &NodeName {
        &self.node
    }
    /// Returns when the task started, in seconds since 1970.
    pub fn start_time(&self) -> u64 {
        self.start_time
    }
    /// Returns the kind of task, e.g. `qmstart`.
    pub fn task_type(&self) -> &str {
        self.field(5)
    }
    /// Returns what the task works on: a VMID, a storage, or nothing.
    pub fn id(&self) -> &str {
        self.field(6)
    }
    /// Returns the user, which may be a token's full ID.
    pub fn user(&self) -> &str {
        self.field(7)
    }
    fn field(&self, index: usize) -> &str {
        self.text.split(':').nth(index).unwrap_or_default()
    }
}

impl std::str::FromStr for Upid {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = |reason: &str| ParseError::new("UPID", text, reason);
        let fields: Vec<&str> = text.split(':').collect();
        let ["UPID", node, pid, pstart, start, task_type, id, user, ""] = fields[..] else {
            return Err(refuse("it must have the form `UPID:NODE:PID:PSTART:STARTTIME:TYPE:ID:USER:`"));
        };
        let hex = |field: &str, lengths: std::ops::RangeInclusive<usize>| {
            lengths.contains(&field.len()) && field.bytes().all(|b| b.is_ascii_hexdigit())
        };
        if !hex(pid, 8..=8) || !hex(pstart, 8..=9) || !hex(start, 8..=8) {
            return Err(refuse("its numbers must be 8 hexadecimal digits"));
        }
        let plain = |field: &str| !field.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/');
        if task_type.is_empty() || user.is_empty() || !plain(task_type) || !plain(id) || !plain(user) {
            return Err(refuse("its type, ID or user is malformed"));
        }
        let node = node.parse().map_err(|_| refuse("its node name is malformed"))?;
        let start_time = u64::from_str_radix(start, 16).map_err(|_| refuse("its start time is malformed"))?;
        Ok(Self { text: text.to_owned(), node, start_time })
    }
}

string_form!(Upid);

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskStatus {
    /// It did what it should.
    Ok,
    /// It did what it should, and warned this many times in its log.
    Warnings(u64),
    /// It failed with this text (which may be `unexpected status`: its process vanished).
    Failed(String),
}

impl TaskStatus {
    /// Returns what a task's `exitstatus` says.
    // PVE: pve-common src/PVE/UPID.pm: exactly `OK`, or `WARNINGS: \d+`, is success.
    pub fn from_exitstatus(text: &str) -> Self {
        if text == "OK" {
            return Self::Ok;
        }
        match text.strip_prefix("WARNINGS: ").and_then(|count| count.parse().ok()) {
            Some(count) => Self::Warnings(count),
            None => Self::Failed(text.to_owned()),
        }
    }
    /// Tells whether the task did its work.
    pub fn is_success(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_upid_gives_its_parts() {
        let upid: Upid = "UPID:pve1:0000C2A1:00A1B2C3:6560A1B2:qmstart:100:root@pam!ci:".parse().unwrap();
        assert_eq!((upid.node().as_str(), upid.task_type(), upid.id()), ("pve1", "qmstart", "100"));
        assert_eq!((upid.user(), upid.start_time()), ("root@pam!ci", 0x6560_A1B2));
        let no_id: Upid = "UPID:pve1:0000c2a1:000A1B2C3:6560A1B2:imgcopy::root@pam:".parse().unwrap();
        assert_eq!(no_id.id(), "");
        for text in [
            "",
            "UPID:",
            "UPID:pve1:1:00A1B2C3:6560A1B2:qmstart:100:root@pam:",
            "UPID:pve1:0000C2A1:00A1B2C3:6560A1B2:qmstart:100:root@pam",
            "UPID:../x:0000C2A1:00A1B2C3:6560A1B2:qmstart:100:root@pam:",
            "UPID:pve1:0000C2A1:00A1B2C3:6560A1B2:qm/start:100:root@pam:",
        ] {
            assert!(text.parse::<Upid>().is_err(), "`{text}`");
        }
    }

    #[test]
    fn only_ok_and_counted_warnings_are_success() {
        assert_eq!(TaskStatus::from_exitstatus("OK"), TaskStatus::Ok);
        assert_eq!(TaskStatus::from_exitstatus("WARNINGS: 2"), TaskStatus::Warnings(2));
        for text in ["OK ", "WARNINGS: ", "WARNINGS: x", "unexpected status", ""] {
            assert!(!TaskStatus::from_exitstatus(text).is_success(), "`{text}`");
        }
    }
}
