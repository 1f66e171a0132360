//! The table of endpoints against the parameter schemas of a real PVE, where PVE_FACTS_DIR points at them.

use std::io::Read as _;
use std::path::PathBuf;

use pve_lab::schema::{self, Check, Endpoint, Format, Param, ParamSet, Permission};
use pve_types::PveVersion;
use serde_json::{Map, Value};

use super::{Need, Test};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    Test { name: "the table is that of PVE 8", needs: &[Need::Facts], run: eight },
    Test { name: "the table is that of PVE 9", needs: &[Need::Facts], run: nine },
];

fn eight() -> Result<(), String> {
    compare("pve8.json.gz", PveVersion::new(8, 4, 14))
}

fn nine() -> Result<(), String> {
    compare("pve9.json.gz", PveVersion::new(9, 2, 11))
}

fn compare(file: &str, version: PveVersion) -> Result<(), String> {
    let folder = PathBuf::from(std::env::var_os("PVE_FACTS_DIR").ok_or("PVE_FACTS_DIR is not set")?);
    let packed = std::fs::File::open(folder.join("pve-api").join(file)).map_err(|error| error.to_string())?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).map_err(|error| error.to_string())?;
    let facts: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    let endpoints = schema::table(version).endpoints();
    for endpoint in endpoints {
        let place = format!("{} {}", endpoint.method, endpoint.path);
        match facts.get(&endpoint.path).and_then(|methods| methods.get(&endpoint.method)) {
            None => found.push(format!("{place}: PVE has no such endpoint")),
            Some(fact) => compare_endpoint(&place, endpoint, fact, &mut found),
        }
    }
    if endpoints.len() < 200 {
        found.push(format!("only {} endpoints", endpoints.len()));
    }
    if found.is_empty() { Ok(()) } else { Err(format!("{} differences:\n{}", found.len(), found.join("\n"))) }
}

fn compare_endpoint(place: &str, endpoint: &Endpoint, fact: &Value, found: &mut Vec<String>) {
    let is_set = |name: &str| fact.get(name).and_then(Value::as_i64).unwrap_or(0) != 0;
    let mut same = |what: &str, ours: String, theirs: String| {
        if ours != theirs {
            found.push(format!("{place}: {what} is {ours}, in PVE {theirs}"));
        }
    };
    same("protected", endpoint.protected.to_string(), is_set("protected").to_string());
    let tokens = fact.get("allowtoken").and_then(Value::as_i64).unwrap_or(1) != 0;
    same("allowtoken", endpoint.allows_tokens.to_string(), tokens.to_string());
    let proxy = fact.get("proxyto").and_then(Value::as_str).unwrap_or_default();
    same("proxyto", endpoint.proxied_to.clone().unwrap_or_default(), proxy.to_owned());
    same("permission", shown_permission(&endpoint.permission), fact_permission(fact.get("permissions")));
    let properties =
        fact.pointer("/parameters/properties").and_then(Value::as_object).cloned().unwrap_or_default();
    compare_set(place, &endpoint.params, &properties, found);
}

fn shown_permission(permission: &Permission) -> String {
    match permission {
        Permission::Root => "root".to_owned(),
        Permission::All => "all".to_owned(),
        Permission::World => "world".to_owned(),
        Permission::Check(check) => shown_check(check),
    }
}

fn shown_check(check: &Check) -> String {
    match check {
        Check::Word(word) => word.clone(),
        Check::List(list) => format!("({})", list.iter().map(shown_check).collect::<Vec<_>>().join(" ")),
    }
}

fn fact_permission(fact: Option<&Value>) -> String {
    let Some(fact) = fact else { return "root".to_owned() };
    match (fact.get("check"), fact.get("user").and_then(Value::as_str)) {
        // PVE: pve-access-control src/PVE/RPCEnvironment.pm check_api2_permissions asks for `all` before the expression.
        (_, Some("all")) => "all".to_owned(),
        (Some(check), _) => fact_check(check),
        (None, Some(user)) => user.to_owned(),
        (None, None) => "root".to_owned(),
    }
}

fn fact_check(fact: &Value) -> String {
    match fact {
        Value::Array(items) => {
            let is_privilege = |item: &Value| {
                item.as_str().is_some_and(|text| {
                    text.starts_with(|c: char| c.is_ascii_uppercase()) && text.contains('.')
                })
            };
            let words: Vec<String> = items.iter().map(fact_check).collect();
            if items.iter().all(is_privilege) { words.join(",") } else { format!("({})", words.join(" ")) }
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn compare_set(place: &str, ours: &ParamSet, theirs: &Map<String, Value>, found: &mut Vec<String>) {
    let name_of =
        |param: &Param| if param.count.is_some() { format!("{}[n]", param.name) } else { param.name.clone() };
    for param in ours.iter() {
        let name = name_of(param);
        match theirs.get(&name) {
            None => found.push(format!("{place}: PVE has no parameter {name}")),
            Some(fact) => compare_param(&format!("{place} {name}"), param, fact, found),
        }
    }
    for name in theirs.keys().filter(|name| !ours.iter().any(|param| name_of(param) == **name)) {
        found.push(format!("{place}: the table lacks the parameter {name}"));
    }
}

fn compare_param(place: &str, param: &Param, fact: &Value, found: &mut Vec<String>) {
    let text = |name: &str| fact.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |name: &str| {
        fact.get(name)
            .and_then(|value| value.as_f64().or_else(|| value.as_str().and_then(|text| text.parse().ok())))
    };
    let mut differences = Vec::new();
    let mut same = |what: &str, ours: String, theirs: String| {
        if ours != theirs {
            differences.push(format!("{place}: {what} is {ours}, in PVE {theirs}"));
        }
    };
    same("alias", param.alias.clone().unwrap_or_default(), text("alias"));
    same("keyAlias", param.key_alias.clone().unwrap_or_default(), text("keyAlias"));
    if param.alias.is_some() {
        found.append(&mut differences);
        return;
    }
    same(
        "type",
        param.kind.name().to_owned(),
        fact.get("type").and_then(Value::as_str).unwrap_or("string").to_owned(),
    );
    let optional =
        fact.get("optional").is_some_and(|value| value.as_i64() != Some(0) && *value != Value::Bool(false));
    same("required", param.required.to_string(), (!optional).to_string());
    let is_default = fact.get("default_key").is_some_and(|value| value.as_i64() != Some(0));
    same("default_key", param.default_key.to_string(), is_default.to_string());
    same("minimum", format!("{:?}", param.minimum), format!("{:?}", number("minimum")));
    same("maximum", format!("{:?}", param.maximum), format!("{:?}", number("maximum")));
    same(
        "minLength",
        format!("{:?}", param.min_length.map(|n| n as f64)),
        format!("{:?}", number("minLength")),
    );
    same(
        "maxLength",
        format!("{:?}", param.max_length.map(|n| n as f64)),
        format!("{:?}", number("maxLength")),
    );
    same("requires", param.needs.clone().unwrap_or_default(), text("requires"));
    same(
        "pattern",
        param.pattern.as_ref().map_or_else(String::new, |pattern| pattern.text.clone()),
        text("pattern"),
    );
    let values: Vec<String> = fact
        .get("enum")
        .and_then(Value::as_array)
        .map(|values| {
            values
                .iter()
                .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                .collect()
        })
        .unwrap_or_default();
    same("enum", param.values.join(","), values.join(","));
    found.append(&mut differences);
    compare_format(place, param, fact, found);
    match (&param.items, fact.get("items")) {
        (Some(item), Some(fact)) => compare_param(&format!("{place}[]"), item, fact, found),
        (None, None) => {}
        (ours, _) => found.push(format!("{place}: items {} in the table only", ours.is_some())),
    }
}

fn compare_format(place: &str, param: &Param, fact: &Value, found: &mut Vec<String>) {
    match (&param.format, fact.get("format")) {
        (None, None) => {}
        (Some(Format::Named(ours)), Some(Value::String(theirs))) if ours == theirs => {}
        (Some(Format::Property(ours)), Some(Value::String(theirs))) if ours.name == *theirs => {}
        (Some(Format::Property(ours)), Some(Value::Object(theirs))) => {
            compare_set(place, &ours.keys, theirs, found)
        }
        (ours, theirs) => {
            let ours = match ours {
                None => "none",
                Some(Format::Named(name)) => name,
                Some(Format::Property(format)) => &format.name,
            };
            found.push(format!("{place}: format is {ours}, in PVE {theirs:?}"));
        }
    }
}
