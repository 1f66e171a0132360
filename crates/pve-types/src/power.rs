//! Whether a guest runs.

use serde::{Deserialize, Serialize};

/// Whether a guest runs, as its node says.
///
/// ```
/// use pve_types::PowerState;
/// assert_eq!(PowerState::read(Some("running"), Some("paused")), PowerState::Paused);
/// assert!(PowerState::Paused.is_on());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PowerState {
    /// Its process runs.
    Running,
    /// Its process is there, and its CPUs stand still: paused by a user, not yet begun, or stopped by an I/O error.
    Paused,
    /// It has no process.
    Stopped,
    /// Its node has not said it.
    Unknown,
}

impl PowerState {
    /// Reads PVE's `status` and, where it was asked for, QEMU's own `qmpstatus`.
    // PVE: qemu-server src/PVE/QemuServer.pm vmstatus; lists of the cluster give `qmpstatus` as `status`.
    pub fn read(status: Option<&str>, qmpstatus: Option<&str>) -> Self {
        match (status, qmpstatus) {
            (Some("stopped"), _) => Self::Stopped,
            (Some("running"), None | Some("running")) => Self::Running,
            (Some("running"), Some(_)) => Self::Paused,
            (None | Some("unknown" | ""), _) => Self::Unknown,
            // QEMU's other states are all of a process that is there.
            (Some(_), _) => Self::Paused,
        }
    }
    /// Returns PVE's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
        }
    }
    /// Tells whether its process is there.
    pub fn is_on(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

impl std::fmt::Display for PowerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_node_says_counts() {
        let check =
            |status, qmp, expect| assert_eq!(PowerState::read(status, qmp), expect, "{status:?} {qmp:?}");
        check(Some("running"), None, PowerState::Running);
        check(Some("running"), Some("prelaunch"), PowerState::Paused);
        check(Some("stopped"), Some("stopped"), PowerState::Stopped);
        check(Some("paused"), None, PowerState::Paused);
        check(Some("unknown"), None, PowerState::Unknown);
        check(None, None, PowerState::Unknown);
    }
}
