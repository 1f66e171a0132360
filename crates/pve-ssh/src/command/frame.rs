//! What stands around a command so that it can be ended, on the node, from a second channel.
//!
//! Closing a channel does not stop a remote command, and sshd refuses to signal commands of root. So the shell
//! says its process number and then becomes `timeout`, which ends the command and its children when it is
//! signalled, and on its own after its time limit if the connection is lost.

use super::{Command, CommandError};
use std::time::Duration;

/// The word before the process number, on the first line of stderr.
pub const PID_MARKER: &str = "vmdeploy-pid";

/// How long `timeout` waits between TERM and KILL, in seconds.
const KILL_AFTER_S: u64 = 10;

/// By which right a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Privilege {
    /// As the user who logs in.
    Direct,
    /// As root by `sudo -n`, which never asks.
    Sudo,
}

/// What stands around a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// By which right it runs.
    pub privilege: Privilege,
    /// After which time the node ends it on its own.
    pub limit: Duration,
}

impl Frame {
    /// Returns the whole shell text for `command`:
    /// `printf 'vmdeploy-pid %s\n' $$ >&2; exec [sudo -n] timeout -k 10 LIMIT COMMAND`.
    ///
    /// # Errors
    /// As [`Command::to_shell_text`].
    pub fn shell_text(&self, command: &Command) -> Result<Vec<u8>, CommandError> {
        let mut text = format!("printf '{PID_MARKER} %s\\n' $$ >&2; exec ").into_bytes();
        if self.privilege == Privilege::Sudo {
            text.extend_from_slice(b"sudo -n ");
        }
        let seconds = self.limit.as_secs_f64().ceil().max(1.0) as u64;
        text.extend_from_slice(format!("timeout -k {KILL_AFTER_S} {seconds} ").as_bytes());
        text.extend_from_slice(&command.to_shell_text()?);
        command.check_length(text)
    }
}

/// Returns the shell text that starts SFTP as root, for users who may not write where files go: Debian's own server.
// Debian: openssh-sftp-server /usr/lib/openssh/sftp-server.
pub(crate) fn sftp_as_root() -> &'static str {
    "exec sudo -n /usr/lib/openssh/sftp-server"
}

/// Reads the process number from a line of stderr, if it is the frame's line.
pub(crate) fn pid_line(line: &[u8]) -> Option<u32> {
    let rest = line.strip_prefix(PID_MARKER.as_bytes())?.strip_prefix(b" ")?;
    std::str::from_utf8(rest).ok()?.trim_end().parse().ok().filter(|&pid| pid > 1)
}

/// Returns the command that asks process `pid` to end. `timeout` passes it on, and kills what is left after 10 s.
pub fn end_process(pid: u32) -> Command {
    Command::new("kill").arg("-TERM").arg(pid.to_string())
}

/// Returns the command whose exit status 0 says that process `pid` is still there.
pub fn process_is_alive(pid: u32) -> Command {
    Command::new("kill").arg("-0").arg(pid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(privilege: Privilege, limit_ms: u64, expect: &str) {
        let frame = Frame { privilege, limit: Duration::from_millis(limit_ms) };
        let text = frame.shell_text(&Command::new("qm").arg("list")).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), expect);
    }

    #[test]
    fn the_frame_says_the_process_and_limits_the_time() {
        check(
            Privilege::Direct,
            600_000,
            r"printf 'vmdeploy-pid %s\n' $$ >&2; exec timeout -k 10 600 qm list",
        );
        check(
            Privilege::Sudo,
            1_200,
            r"printf 'vmdeploy-pid %s\n' $$ >&2; exec sudo -n timeout -k 10 2 qm list",
        );
        check(Privilege::Direct, 0, r"printf 'vmdeploy-pid %s\n' $$ >&2; exec timeout -k 10 1 qm list");
    }

    #[test]
    fn only_the_marker_line_is_a_process_number() {
        for (line, expect) in [
            ("vmdeploy-pid 4711", Some(4711)),
            ("vmdeploy-pid 4711\r", Some(4711)),
            ("vmdeploy-pid 1", None),
            ("vmdeploy-pid 0", None),
            ("vmdeploy-pid -1", None),
            ("vmdeploy-pid", None),
            ("x vmdeploy-pid 4", None),
        ] {
            assert_eq!(pid_line(line.as_bytes()), expect, "{line}");
        }
    }
}
