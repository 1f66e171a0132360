//! From the errors of the two transports to one failure.

use super::classify::{kind_of, kind_of_error};
use super::{Failure, FailureKind, TookEffect, printable};
use pve_api::ApiError;

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        if let Some(error) = ssh_cause(&error) {
            return of_ssh(error);
        }
        let kind = api_kind(&error);
        let mut failure = Self::new(kind, error.to_string()).effect(error.effect()).because(&error);
        if let ApiError::Task { upid, log, .. } = &error {
            failure.upid = Some(upid.clone());
            failure.node = Some(upid.node().clone());
            failure = failure.log(log.iter().cloned());
        }
        if let ApiError::TaskTimeout { upid, .. } = &error {
            failure.upid = Some(upid.clone());
            failure.node = Some(upid.node().clone());
        }
        failure.hint =
            error.hint().filter(|_| kind == FailureKind::Untrusted || kind == FailureKind::Unauthenticated);
        failure
    }
}

/// Returns the error of SSH by which a call did not come as far as to be started: it says what is to do, not the call.
fn ssh_cause(error: &ApiError) -> Option<&pve_ssh::Error> {
    match error {
        ApiError::Connect { source, .. } => source.downcast_ref(),
        _ => None,
    }
}

fn api_kind(error: &ApiError) -> FailureKind {
    use FailureKind as K;
    match error {
        ApiError::Connect { .. } => K::Unreachable,
        ApiError::Certificate { .. } => K::Untrusted,
        ApiError::Interrupted { .. } | ApiError::Timeout { .. } => K::NoAnswer,
        ApiError::TaskTimeout { .. } => K::Deadline,
        ApiError::Decode { .. } => K::Answer,
        ApiError::Unusable(_) | ApiError::SecretOnCommandLine { .. } => K::Internal,
        _ if error.is_unauthenticated() => K::Unauthenticated,
        _ if error.is_denied() => {
            said_kind(error).filter(|kind| *kind == K::RootOnly).unwrap_or(K::Forbidden)
        }
        ApiError::Task { .. } => said_kind(error).unwrap_or(K::TaskFailed),
        _ => match said_kind(error) {
            Some(kind) => kind,
            // Nothing reached the node, or what reached it was not answered.
            None if error.is_unreachable() && error.effect() == TookEffect::No => K::NodeUnreachable,
            None if error.is_unreachable() => K::NoAnswer,
            None => K::Refused,
        },
    }
}

/// Returns the kind that PVE's answer tells: by its status, its words, or one of its parameter errors.
fn said_kind(error: &ApiError) -> Option<FailureKind> {
    error.meaning().map(kind_of_error).filter(|kind| *kind != FailureKind::Refused)
}

impl From<pve_ssh::Error> for Failure {
    fn from(error: pve_ssh::Error) -> Self {
        of_ssh(&error)
    }
}

fn of_ssh(error: &pve_ssh::Error) -> Failure {
    let mut failure =
        Failure::new(ssh_kind(error), error.to_string()).effect(error.took_effect()).because(error);
    if failure.kind == FailureKind::Unauthenticated {
        let hint = "check PROXMOX_SSH_USER and PROXMOX_SSH_KEY: the node must accept the key, and a user other than \
                    root needs passwordless sudo; `vmdeploy doctor` shows details";
        failure = failure.hint(hint);
    }
    if let pve_ssh::Error::HostKey(pve_ssh::HostKeyError::Unknown(_)) = error {
        failure = failure.hint(
            "compare the fingerprint with the one that `ssh-keygen -l -f /etc/ssh/ssh_host_ed25519_key.pub` prints on the \
             node's console, then run the same command with `--trust-on-first-use`, which adds the key",
        );
    }
    match error {
        pve_ssh::Error::Exit { output, .. } => {
            failure.effect(effect_of_words(&output.stderr)).log(last_lines(output))
        }
        _ => failure,
    }
}

fn ssh_kind(error: &pve_ssh::Error) -> FailureKind {
    use FailureKind as K;
    use pve_ssh::Error as E;
    match error {
        E::Connect { .. } | E::Jump { .. } if !error.is_access() => K::Unreachable,
        E::HostKey(_) => K::Untrusted,
        _ if error.is_access() => K::Unauthenticated,
        E::Refused { .. } => K::Unreachable,
        E::Lost { .. } => K::NoAnswer,
        E::Deadline { .. } => K::Deadline,
        E::Cancelled { .. } => K::Interrupted,
        E::Exit { output, .. } => match kind_of(&output.stderr) {
            K::Refused => K::CommandFailed,
            kind => kind,
        },
        E::Output(_) | E::TooMuchOutput { .. } => K::Answer,
        E::Upload(_) if error.is_connection() => K::NoAnswer,
        E::Command(_) => K::Internal,
        _ => K::CommandFailed,
    }
}

/// Returns whether a command that ended with these words may have changed something: `qm set` is not a transaction, so
/// only what is certainly a first check is sure.
fn effect_of_words(stderr: &str) -> TookEffect {
    let is_late = pve_types::says_applied_late(stderr);
    match pve_ssh::parse::failure(stderr) {
        Some(failure) if failure.effect() == TookEffect::No && !is_late => TookEffect::No,
        _ => TookEffect::Maybe,
    }
}

/// Returns the last lines that a command printed.
fn last_lines(output: &pve_ssh::Output) -> Vec<String> {
    let lines: Vec<&str> = output.stdout.lines().chain(output.stderr.lines()).collect();
    let from = lines.len().saturating_sub(12);
    lines[from..].iter().map(|line| printable(line)).collect()
}
