//! What comes of a step.

use pve_types::VolumeId;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What came of a step that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "gave", rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing but its effect.
    Done,
    /// It was so already; nothing was sent.
    AlreadyDone,
    /// A volume.
    Volume {
        /// The volume, as PVE named it.
        volume: VolumeId,
    },
    /// The guest's addresses, the best first.
    Addresses {
        /// The addresses.
        addresses: Vec<IpAddr>,
        /// Where they were found: `agent`, or `neighbors` of the node.
        source: String,
    },
    /// A change that waits for a restart of the guest.
    Pending {
        /// The keys that wait.
        keys: Vec<String>,
    },
}

impl Outcome {
    /// Returns the volume, if it is one.
    pub fn volume(&self) -> Option<&VolumeId> {
        match self {
            Self::Volume { volume } => Some(volume),
            _ => None,
        }
    }
}

/// What an revert did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "revert", rename_all = "snake_case")]
pub enum RevertNote {
    /// It was taken away.
    Removed {
        /// What, in words.
        what: String,
    },
    /// There was nothing to take away.
    NothingThere,
}
