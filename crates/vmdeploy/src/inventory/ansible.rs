//! Ansible: INI, YAML, and the protocol of dynamic inventories.

use super::{Host, Inventory};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Returns the INI form: every host once with its variables, then the groups.
pub(super) fn ini(inventory: &Inventory) -> String {
    let mut text = String::new();
    for host in &inventory.hosts {
        let variables: Vec<String> =
            variables(host).iter().map(|(key, value)| format!("{key}={}", word(value))).collect();
        let _ = writeln!(text, "{} {}", host.name, variables.join(" "));
    }
    for (group, hosts) in groups(inventory) {
        let _ = writeln!(text, "\n[{group}]");
        hosts.iter().for_each(|host| {
            let _ = writeln!(text, "{}", host.name);
        });
    }
    text
}

/// Returns the YAML form.
pub(super) fn yaml(inventory: &Inventory) -> String {
    let hosts: Map<String, Value> =
        inventory.hosts.iter().map(|host| (host.name.clone(), Value::Object(variables(host)))).collect();
    let children: Map<String, Value> = groups(inventory)
        .into_iter()
        .map(|(group, hosts)| {
            let names: Map<String, Value> = hosts.iter().map(|host| (host.name.clone(), json!({}))).collect();
            (group.to_owned(), json!({ "hosts": names }))
        })
        .collect();
    let all = json!({ "all": { "hosts": hosts, "children": children } });
    serde_yaml::to_string(&all).expect("a JSON value is YAML")
}

/// Returns the answer to `--list`.
pub(super) fn list(inventory: &Inventory) -> String {
    let variables: Map<String, Value> =
        inventory.hosts.iter().map(|host| (host.name.clone(), Value::Object(variables(host)))).collect();
    let groups = groups(inventory);
    let mut answer = Map::new();
    answer.insert("_meta".to_owned(), json!({ "hostvars": variables }));
    let names: Vec<&str> = groups.keys().copied().collect();
    answer.insert("all".to_owned(), json!({ "children": names }));
    for (group, hosts) in &groups {
        let hosts: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        answer.insert((*group).to_owned(), json!({ "hosts": hosts }));
    }
    format!("{:#}\n", Value::Object(answer))
}

/// Returns the answer to `--host`.
pub(super) fn host(inventory: &Inventory, name: &str) -> String {
    let found = inventory.hosts.iter().find(|host| host.name == name);
    format!("{:#}\n", Value::Object(found.map(variables).unwrap_or_default()))
}

/// Returns the groups without those that Ansible makes itself: `all` cannot be its own child.
// Ansible: lib/ansible/inventory/data.py: `all` and `ungrouped` are there from the beginning.
fn groups(inventory: &Inventory) -> BTreeMap<&str, Vec<&Host>> {
    let mut groups = inventory.by_group();
    groups.retain(|group, _| !["all", "ungrouped", "_meta"].contains(group));
    groups
}

fn variables(host: &Host) -> Map<String, Value> {
    let mut variables = Map::new();
    variables.insert("ansible_host".to_owned(), json!(host.address.to_string()));
    if let Some(user) = &host.user {
        variables.insert("ansible_user".to_owned(), json!(user));
    }
    variables.insert("vmdeploy_address_source".to_owned(), json!(host.source));
    variables.extend(host.vars.clone());
    variables
}

/// Returns a value as Ansible's INI parser reads it back: shell words that are Python literals where they can be.
// Ansible: lib/ansible/plugins/inventory/ini.py: shlex.split, then ast.literal_eval where that succeeds.
fn word(value: &Value) -> String {
    let text = match value {
        Value::String(text) if !is_literal(text) => text.clone(),
        other => python(other),
    };
    quoted(&text)
}

/// Tells whether Python would read the text as something else than a string.
fn is_literal(text: &str) -> bool {
    let first = text.trim_start().chars().next().unwrap_or('"');
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    let is_word = matches!(text, "True" | "False" | "None");
    !is_address && (first.is_ascii_digit() || "+-.([{\"'#".contains(first) || is_word || text.contains('\n'))
}

fn python(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        // A JSON string is a Python string: the escapes that JSON writes mean the same there.
        Value::String(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(python).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| format!("{}: {}", json!(key), python(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
    }
}

fn quoted(text: &str) -> String {
    let quoted =
        pve_ssh::command::quote(text.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    quoted.unwrap_or_default()
}
