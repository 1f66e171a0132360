//! datacenter.cfg.

use std::collections::BTreeSet;

use pve_types::Privilege;
use serde_json::{Map, Value, json};

use super::super::{Call, Methods, Refusal};
use crate::schema::{Format, Kind, property, split_list, table};

/// The methods of this file.
pub const METHODS: Methods = &[("GET", "/cluster/options", get), ("PUT", "/cluster/options", update)];

/// A property string as an object, where the option is one.
fn value_of(call: &Call<'_>, name: &str, text: &str) -> Value {
    let endpoints = table(call.world.version).endpoints();
    let endpoint =
        endpoints.iter().find(|endpoint| endpoint.method == "PUT" && endpoint.path == "/cluster/options");
    let param = endpoint.and_then(|endpoint| endpoint.params.get(name));
    match param.map(|param| (&param.format, param.kind)) {
        Some((Some(Format::Property(format)), _)) => {
            let parts = property::split(format, text).unwrap_or_default();
            Value::Object(parts.into_iter().map(|(key, value)| (key, value.into())).collect())
        }
        Some((_, Kind::Integer)) => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
        _ => text.into(),
    }
}

fn get(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let tags: BTreeSet<String> = {
        let seen = call
            .world
            .guests
            .values()
            .filter(|guest| call.has(&format!("/vms/{}", guest.vmid), Privilege::VmAudit));
        seen.filter_map(|guest| guest.config.get("tags"))
            .flat_map(|tags| split_list(tags))
            .map(str::to_owned)
            .collect()
    };
    // PVE: pve-manager PVE/API2/Cluster.pm get_options: who may not audit sees little.
    let audits = call.has("/", Privilege::SysAudit);
    let is_seen = |name: &str| audits || matches!(name, "console" | "tag-style");
    let mut shown: Map<String, Value> = call
        .world
        .datacenter
        .iter()
        .filter(|(name, _)| is_seen(name))
        .map(|(name, text)| (name.clone(), value_of(call, name, text)))
        .collect();
    shown.insert("allowed-tags".into(), json!(tags));
    if !audits {
        return Ok(Value::Object(shown));
    }
    if call.world.version.at_least(8, 1) {
        shown.entry("mac_prefix").or_insert("BC:24:11".into());
    }
    shown.entry("description").or_insert("".into());
    Ok(Value::Object(shown))
}

fn update(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let deleted = call.list("delete");
    let given: Vec<(String, String)> = call
        .params
        .iter()
        .filter(|(name, _)| *name != "delete")
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    deleted.iter().for_each(|name| drop(call.world.datacenter.remove(name)));
    call.world.datacenter.extend(given);
    Ok(Value::Null)
}
