//! What high availability is told to do with a guest.

use crate::ParseError;
use serde::{Deserialize, Serialize};

/// The state that high availability is told to keep a guest in.
///
/// ```
/// use pve_types::HaState;
/// assert!("enabled".parse::<HaState>()?.is_started());
/// assert_eq!(HaState::Ignored.to_string(), "ignored");
/// # Ok::<(), pve_types::ParseError>(())
/// ```
// PVE: pve-ha-manager src/PVE/HA/Resources.pm, option `state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HaState {
    /// The guest is started, and started again where its node fails.
    Started,
    /// An old name of `Started`.
    Enabled,
    /// The guest is kept stopped, and moved where its node fails.
    Stopped,
    /// The guest is kept stopped, and stays where it is.
    Disabled,
    /// High availability does nothing with the guest.
    Ignored,
}

impl HaState {
    const ALL: [Self; 5] = [Self::Started, Self::Enabled, Self::Stopped, Self::Disabled, Self::Ignored];

    /// Returns PVE's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Enabled => "enabled",
            Self::Stopped => "stopped",
            Self::Disabled => "disabled",
            Self::Ignored => "ignored",
        }
    }
    /// Tells whether it keeps the guest running.
    pub fn is_started(self) -> bool {
        matches!(self, Self::Started | Self::Enabled)
    }
    /// Tells whether it keeps the guest stopped.
    pub fn is_stopped(self) -> bool {
        matches!(self, Self::Stopped | Self::Disabled)
    }
    /// Tells whether both ask for the same.
    pub fn means(self, other: Self) -> bool {
        self == other || (self.is_started() && other.is_started())
    }
}

impl std::fmt::Display for HaState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for HaState {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let known = Self::ALL.into_iter().find(|state| state.as_str() == text);
        known.ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str).join(", ");
            ParseError::new("state of high availability", text, format!("it is one of {words}"))
        })
    }
}
