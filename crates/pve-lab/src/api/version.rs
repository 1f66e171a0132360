//! `GET /version`.

use serde_json::{Value, json};

use super::{Call, Methods, Refusal};

/// The methods of this file.
pub const METHODS: Methods = &[("GET", "/version", version)];

/// The version of pve-manager.
pub(super) fn version(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let version = call.world.version;
    Ok(json!({
        "version": version.to_string(),
        "release": format!("{}.{}", version.major, version.minor),
        "repoid": "5ac30304265fd256",
    }))
}
