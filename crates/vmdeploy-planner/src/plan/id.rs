//! The names of steps.

use serde::{Deserialize, Serialize};

/// A step's name within its plan: `VM/what`, e.g. `web01/import-scsi0`; shared steps stand under `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub String);

impl std::fmt::Display for StepId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}
