//! Why no ticket could be had.

use super::{Answer, ApiError};
use crate::cause::Cause;
use crate::factor::TfaChallenge;

/// Why no ticket could be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// PVE refused the user, the password or the second factor; it does not say which.
    #[error("{0}")]
    Refused(Box<Answer>),
    /// A second factor is needed and none was given.
    #[error("user `{user}` needs a second factor ({})", .challenge.kinds().join(", "))]
    SecondFactorNeeded {
        /// The user.
        user: String,
        /// What would be taken.
        challenge: Box<TfaChallenge>,
    },
    /// The second factor that was given is none of those that the user has.
    #[error("user `{user}` has no second factor of kind {given}, but {}", .challenge.kinds().join(", "))]
    WrongKindOfFactor {
        /// The user.
        user: String,
        /// The kind that was given.
        given: &'static str,
        /// What would be taken.
        challenge: Box<TfaChallenge>,
    },
    /// A second factor was requested, but none was given.
    #[error("no second factor was given for user `{user}`")]
    NoFactorGiven {
        /// The user.
        user: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The login call itself failed.
    #[error("the login call failed")]
    Api(#[source] Box<ApiError>),
    /// The login was answered without a ticket, or with one that is not understood.
    #[error("the answer to the login has an unknown format: {0}")]
    Odd(&'static str),
}

impl LoginError {
    /// Returns a sentence with what to do next, where one can be given.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(_) => Some(
                "check the user with its realm (`root@pam`), the password and the second factor; PVE does not say which is wrong"
                    .to_owned(),
            ),
            Self::SecondFactorNeeded { .. } => {
                Some("give a TOTP code (PROXMOX_API_TOTP), or use an API token, which needs none".to_owned())
            }
            Self::Api(error) => error.hint(),
            _ => None,
        }
    }
}
