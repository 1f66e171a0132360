//! Whether a command is run again.

use crate::command::Command;
use crate::error::{ConnectCause, Error, Output};
use crate::parse::{self, Failure};
use pve_types::Backoff;

/// How often a command is run whose failure nothing is known about.
const UNKNOWN: u32 = 3;
/// How often a connection is tried.
const CONNECTIONS: u32 = 3;
/// The exit status of PVE's programs when they die of an error, and of commands that the host could not run.
const DIED: u32 = 255;

/// Returns how often the command is run in all when it ends in this way.
pub(crate) fn attempts(command: &Command, outcome: &Result<Output, Error>) -> u32 {
    match outcome {
        Ok(output) if output.success() || !command.is_read() => 1,
        Ok(output) => match parse::failure(&output.stderr) {
            Some(Failure::Pve { error, .. }) if error.is_passing() => Backoff::READS.attempts,
            None if output.status == DIED => UNKNOWN,
            _ => 1,
        },
        Err(error) => after(command, error),
    }
}

fn after(command: &Command, error: &Error) -> u32 {
    match error {
        Error::Jump { source, .. } => after(command, source),
        Error::Connect { source: ConnectCause::Dropped, .. } => CONNECTIONS,
        Error::Connect { source: ConnectCause::Io(error), .. } => match error.kind() {
            std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::ConnectionReset => CONNECTIONS,
            _ => 1,
        },
        Error::Lost { .. } | Error::Refused { .. } if command.is_read() => Backoff::READS.attempts,
        // Nothing was started; the host may have been busy.
        Error::Refused { .. } => CONNECTIONS,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: u32, stderr: &str) -> Result<Output, Error> {
        Ok(Output { status, stdout: String::new(), stderr: stderr.to_owned() })
    }

    fn lost() -> Result<Output, Error> {
        let (address, command) = ("pve1:22".to_owned(), "x".to_owned());
        Err(Error::Lost { address, command, reason: "reset".to_owned(), pid: None })
    }

    #[test]
    fn only_what_reads_is_run_again_once_it_was_started() {
        let (read, write) = (Command::new("cat").only_reads(), Command::new("qm"));
        assert_eq!(attempts(&read, &lost()), Backoff::READS.attempts);
        assert_eq!(attempts(&write, &lost()), 1);
        let lock = ended(255, "can't lock file '/x' - got timeout");
        assert_eq!(attempts(&read, &lock), Backoff::READS.attempts);
        assert_eq!(attempts(&write, &lock), 1);
    }

    #[test]
    fn an_answer_is_no_failure() {
        let read = Command::new("test").only_reads();
        assert_eq!(attempts(&read, &ended(1, "")), 1);
        assert_eq!(
            attempts(&read, &ended(255, "Configuration file 'nodes/a/qemu-server/9.conf' does not exist")),
            1
        );
        assert_eq!(attempts(&read, &ended(255, "broken pipe")), UNKNOWN);
    }
}
