//! What can go wrong, and the questions a caller asks about it.

mod answer;
mod login;

pub use answer::{Answer, Call};
pub use login::LoginError;

use crate::cause::Cause;
use crate::certificate::CertificateProblem;
use pve_types::{PveError, TookEffect, Upid};
use std::collections::BTreeMap;
use std::time::Duration;

/// Why a call did not give what was asked for.
///
/// The variants are about how far it got; the methods answer what a caller needs to know.
/// No text of it holds a secret or a control character.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// No endpoint could be reached: nothing was sent.
    #[error("cannot connect to {}", .endpoints.join(", "))]
    Connect {
        /// The endpoints that were tried, `host:port`.
        endpoints: Vec<String>,
        /// Why the last one failed.
        #[source]
        source: Cause,
    },
    /// The server's certificate is not the one that is trusted: nothing was sent.
    #[error("the certificate of `{endpoint}` is not trusted")]
    Certificate {
        /// `host:port`.
        endpoint: String,
        /// What was expected and what was seen.
        #[source]
        source: CertificateProblem,
    },
    /// The client was not set up for this call: nothing was sent.
    #[error("{0}")]
    Unusable(String),
    /// Logging in failed: the call was not sent.
    #[error("cannot log in")]
    Login(#[source] Box<LoginError>),
    /// The connection broke after the call may have been sent.
    #[error("{call} was interrupted")]
    Interrupted {
        /// What was asked.
        call: Call,
        /// What broke.
        #[source]
        source: Cause,
    },
    /// No answer within the time set for it; the call may have been processed.
    #[error("{call} was not answered within {} s", .after.as_secs())]
    Timeout {
        /// What was asked.
        call: Call,
        /// How long was waited.
        after: Duration,
    },
    /// PVE answered with an error.
    #[error("{0}")]
    Answered(Box<Answer>),
    /// PVE did it, but its answer was not understood.
    #[error("the answer to {call} has an unknown format")]
    Decode {
        /// What was asked.
        call: Call,
        /// Where the answer differs from what is known.
        #[source]
        source: crate::response::DecodeError,
    },
    /// A task was started and failed.
    #[error("task `{}` on `{}` failed: {status}", .upid.task_type(), .upid.node())]
    Task {
        /// The task.
        upid: Upid,
        /// Its exit status, on one line.
        status: String,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// A task still ran when the time set for it was over.
    #[error("task `{}` on `{}` is still running after {} s", .upid.task_type(), .upid.node(), .after.as_secs())]
    TaskTimeout {
        /// The task.
        upid: Upid,
        /// How long was waited.
        after: Duration,
    },
    /// A call with a secret was to go through a command line, which everybody on the node can read.
    #[error(
        "{call} carries the secret `{parameter}`, which a command line would show to other users of the node"
    )]
    SecretOnCommandLine {
        /// What was asked.
        call: Call,
        /// The parameter that holds the secret.
        parameter: String,
    },
}

/// The server sent more than the client takes, and would again.
#[derive(Debug, thiserror::Error)]
#[error("the answer is larger than the client accepts")]
pub(crate) struct AnswerTooLarge;

impl ApiError {
    /// Tells whether the call changed something.
    pub fn effect(&self) -> TookEffect {
        match self {
            Self::Connect { .. }
            | Self::Certificate { .. }
            | Self::Unusable(_)
            | Self::Login(_)
            | Self::SecretOnCommandLine { .. } => TookEffect::No,
            Self::Interrupted { call, .. } | Self::Timeout { call, .. } => call.unknown_effect(),
            Self::Answered(answer) => answer.effect(),
            Self::Decode { call, .. } => match call.unknown_effect() {
                TookEffect::No => TookEffect::No,
                _ => TookEffect::Yes,
            },
            Self::Task { status, .. } if answer::is_first_check(status) => TookEffect::No,
            Self::Task { .. } | Self::TaskTimeout { .. } => TookEffect::Maybe,
        }
    }
    /// Tells whether the call certainly never reached PVE.
    pub fn was_not_sent(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. }
                | Self::Certificate { .. }
                | Self::Unusable(_)
                | Self::Login(_)
                | Self::SecretOnCommandLine { .. }
        )
    }
    /// Returns PVE's answer, if it answered with an error.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Answered(answer) => Some(answer),
            Self::Login(error) => match &**error {
                LoginError::Refused(answer) => Some(answer),
                LoginError::Api(error) => error.answer(),
                _ => None,
            },
            _ => None,
        }
    }
    /// Returns which call it is about, if it is about one.
    pub fn call(&self) -> Option<&Call> {
        match self {
            Self::Interrupted { call, .. }
            | Self::Timeout { call, .. }
            | Self::Decode { call, .. }
            | Self::SecretOnCommandLine { call, .. } => Some(call),
            Self::Answered(answer) => Some(&answer.call),
            _ => None,
        }
    }
    /// Returns the HTTP status of PVE's answer.
    pub fn status(&self) -> Option<u16> {
        self.answer().map(|answer| answer.status)
    }
    /// Returns what PVE said, on one line: reason phrase, message, or a task's exit status.
    pub fn said(&self) -> Option<&str> {
        match self {
            Self::Task { status, .. } => Some(status),
            _ => self.answer().map(|answer| answer.said.as_str()),
        }
    }
    /// Returns what PVE's answer or the task's end means; `None` for what no row of [`pve_types::TEXTS`] knows.
    pub fn meaning(&self) -> Option<PveError> {
        match self {
            Self::Task { status, .. } => pve_types::read_error(status).map(|told| told.error),
            _ => self.answer().and_then(Answer::meaning),
        }
    }
    /// Returns PVE's own `errors`: parameter name to what is wrong with it.
    pub fn parameter_errors(&self) -> Option<&BTreeMap<String, String>> {
        self.answer().map(|answer| &answer.errors).filter(|errors| !errors.is_empty())
    }
    /// Tells whether the thing that was asked for does not exist (a VM, a storage, a pool, a task, a user …).
    pub fn is_absent(&self) -> bool {
        match self {
            Self::Task { status, .. } => pve_types::says_absent(status),
            _ => self.answer().is_some_and(Answer::is_absent),
        }
    }
    /// Tells whether PVE refused it for want of rights.
    pub fn is_denied(&self) -> bool {
        self.status() == Some(403)
            || (matches!(self, Self::Task { .. }) && self.meaning() == Some(PveError::Forbidden))
    }
    /// Tells whether the credentials were refused, or could not be used.
    pub fn is_unauthenticated(&self) -> bool {
        match self {
            Self::Login(error) => !matches!(&**error, LoginError::Api(_)) || self.status() == Some(401),
            _ => self.status() == Some(401),
        }
    }
    /// Tells whether the cluster or the node could not be reached.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::Login(error) => {
                let is_silent =
                    |error: &Self| matches!(error, Self::Timeout { .. } | Self::Interrupted { .. });
                matches!(&**error, LoginError::Api(error) if error.is_unreachable() || is_silent(error))
            }
            _ => self.answer().is_some_and(Answer::is_unreachable),
        }
    }
    /// Tells whether something of that name exists already.
    pub fn is_already_there(&self) -> bool {
        self.said().is_some_and(pve_types::says_already_there)
            || self
                .parameter_errors()
                .is_some_and(|errors| errors.values().any(|text| pve_types::says_already_there(text)))
    }
    /// Returns the lock that is in the way, as in `VM is locked (backup)`.
    pub fn locked_by(&self) -> Option<&str> {
        self.said().and_then(pve_types::lock_in)
    }
    /// Tells whether PVE gave up waiting for a lock, having done nothing: it may be tried again.
    pub fn is_lock_timeout(&self) -> bool {
        let told = self.said().and_then(pve_types::read_error);
        told.is_some_and(|told| {
            told.is_whole && matches!(told.error, PveError::ConfigLock | PveError::StorageLock)
        })
    }
    /// Tells whether the object was changed since its digest was read.
    pub fn is_digest_mismatch(&self) -> bool {
        self.meaning() == Some(PveError::DigestChanged)
    }
    /// Returns a sentence with what to do next, where one can be given.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Certificate { source, .. } => Some(source.hint()),
            Self::Login(error) => error.hint(),
            Self::TaskTimeout { upid, .. } => Some(format!("check it with `pvenode task status {upid}`")),
            _ if self.is_denied() => {
                Some("grant the privilege to the user or token, or use other credentials".to_owned())
            }
            _ if self.status() == Some(401) => {
                // PVE: pve-http-server src/PVE/APIServer/AnyEvent.pm: one text for all of these.
                Some("check the user, the token's name and the secret; an expired token and a disabled user are refused with the same message".to_owned())
            }
            _ => None,
        }
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Api(error)
                if matches!(*error, Self::Connect { .. } | Self::Certificate { .. } | Self::Unusable(_)) =>
            {
                *error
            }
            other => Self::Login(Box::new(other)),
        }
    }
}
