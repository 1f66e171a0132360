//! `/version`.

use crate::client::{Client, Place};
use crate::error::ApiError;
use crate::request::Params;
use pve_types::PveVersion;
use serde::{Deserialize, Serialize};

/// Which PVE this is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Version {
    /// The version of the `pve-manager` package.
    pub version: PveVersion,
    /// The release line, such as `9.2`.
    pub release: Option<String>,
    /// The commit that the package was built from.
    pub repoid: Option<String>,
    /// The console that is set for the data center.
    pub console: Option<String>,
}

impl Version {
    /// Tells whether this is `major.minor` or newer.
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        self.version.at_least(major, minor)
    }
}

impl Client {
    /// Returns the version of the node that answers.
    ///
    /// # Errors
    /// The call fails.
    pub async fn version(&self) -> Result<Version, ApiError> {
        Place::new(self, ["version"]).get(Params::new()).await
    }
}
