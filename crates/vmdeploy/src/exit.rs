//! The exit codes, one constant each; docs/exit-codes.md is compared with them by a test.

/// What the process says about its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exit(u8);

impl Exit {
    /// Success, or nothing to do.
    pub const DONE: Self = Self(0);
    /// Internal error: a bug in vmdeploy.
    pub const INTERNAL: Self = Self(1);
    /// The command line, the environment or the spec was refused; nothing was changed.
    pub const USAGE: Self = Self(2);
    /// The plan contains changes; only with `--detailed-exitcode`.
    pub const CHANGES: Self = Self(3);
    /// The state of the cluster does not allow the plan, or the cluster cannot be reached; nothing was changed.
    pub const OBSERVED: Self = Self(4);
    /// The run failed and nothing of it remains: it was rolled back, or it had changed nothing.
    pub const FAILED_UNDONE: Self = Self(5);
    /// The run failed and something of it remains: finished VMs, or parts of the failed ones; each is listed.
    pub const FAILED_LEFT: Self = Self(6);
    /// Credentials, host keys, certificates or permissions are missing or refused.
    pub const RIGHTS: Self = Self(7);
    /// The run was interrupted and can be resumed.
    pub const INTERRUPTED: Self = Self(8);
    /// `ip`: the VM has no guest agent configured.
    pub const NO_AGENT: Self = Self(20);
    /// `ip`: the guest agent is not running.
    pub const AGENT_SILENT: Self = Self(21);
    /// `ip`: the guest agent is running, but reports no address yet.
    pub const NO_ADDRESS: Self = Self(22);
    /// `shutdown`, `reboot`: a guest did not shut down in time and is still running.
    pub const SHUTDOWN_TIMEOUT: Self = Self(23);

    /// All of them with what each means, as docs/exit-codes.md lists them.
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::DONE, "Success, or nothing to do."),
        (Self::INTERNAL, "Internal error: a bug in vmdeploy."),
        (Self::USAGE, "The command line, the environment or the spec was refused; nothing was changed."),
        (Self::CHANGES, "The plan contains changes; only with `--detailed-exitcode`."),
        (
            Self::OBSERVED,
            "The state of the cluster does not allow the plan, or the cluster cannot be reached; nothing was changed.",
        ),
        (
            Self::FAILED_UNDONE,
            "The run failed and nothing of it remains: it was rolled back, or it had changed nothing.",
        ),
        (
            Self::FAILED_LEFT,
            "The run failed and something of it remains: finished VMs, or parts of the failed ones; each is listed.",
        ),
        (Self::RIGHTS, "Credentials, host keys, certificates or permissions are missing or refused."),
        (Self::INTERRUPTED, "The run was interrupted and can be resumed."),
        (Self::NO_AGENT, "`ip`: the VM has no guest agent configured."),
        (Self::AGENT_SILENT, "`ip`: the guest agent is not running."),
        (Self::NO_ADDRESS, "`ip`: the guest agent is running, but reports no address yet."),
        (
            Self::SHUTDOWN_TIMEOUT,
            "`shutdown`, `reboot`: a guest did not shut down in time and is still running.",
        ),
    ];

    /// Returns how a run's end is said.
    pub fn from_run(result: vmdeploy_executor::RunResult) -> Self {
        Self(result.exit_code())
    }
    /// Returns the number.
    pub fn code(self) -> u8 {
        self.0
    }
    /// Returns the worse of two outcomes: an interrupted or failed part outweighs a done one.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::DONE { other } else { self }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed_once() {
        let mut codes: Vec<u8> = Exit::ALL.iter().map(|(exit, _)| exit.code()).collect();
        codes.dedup();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 20, 21, 22, 23]);
    }
}
