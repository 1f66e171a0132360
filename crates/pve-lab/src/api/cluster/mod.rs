//! `/cluster`.

mod backup;
mod ha;
mod mapping;
mod options;
mod resources;
mod sdn;
mod sections;

use serde_json::{Value, json};

use super::{Call, Methods, Refusal};

pub(crate) use ha::{add_ha_resource, ha_request, ha_state, is_ha_managed, purge_guest};
pub(crate) use resources::{guest_resource, guest_stats, node_resource, node_uptime, storage_resource};

/// The methods below `/cluster`.
pub const METHODS: &[Methods] = &[
    &[("GET", "/cluster", index)],
    backup::METHODS,
    ha::METHODS,
    mapping::METHODS,
    options::METHODS,
    resources::METHODS,
    sdn::METHODS,
];

fn index(_: &mut Call<'_>) -> Result<Value, Refusal> {
    let names = [
        "backup",
        "backup-info",
        "ha",
        "mapping",
        "nextid",
        "options",
        "resources",
        "sdn",
        "status",
        "tasks",
    ];
    Ok(names.iter().map(|name| json!({ "name": name })).collect())
}
