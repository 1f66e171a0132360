//! JSON values as tables, for answers whose shape is not known beforehand.

use crate::escape;
use serde_json::Value;
use std::collections::BTreeSet;

/// Returns a value as a person reads it: a list of objects as a table, an object as lines of `key: value`.
pub fn render(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Array(items) if items.iter().any(Value::is_object) => table(items),
        Value::Array(items) => items.iter().map(|item| format!("{}\n", cell(item))).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| entry(key, value)).collect(),
        Value::String(text) => format!("{}\n", escape::lines(text.trim_end())),
        other => format!("{}\n", cell(other)),
    }
}

fn entry(key: &str, value: &Value) -> String {
    format!("{}: {}\n", escape::one_line(key), cell(value))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => escape::one_line(text.trim_end()),
        other => escape::one_line(&other.to_string()),
    }
}

/// Returns a table with a column for every key that any of the objects has; the identifying ones first.
fn table(items: &[Value]) -> String {
    const FIRST: [&str; 12] = [
        "id", "vmid", "userid", "tokenid", "groupid", "roleid", "realm", "storage", "node", "name", "type",
        "status",
    ];
    let keys: BTreeSet<&String> =
        items.iter().filter_map(Value::as_object).flat_map(|map| map.keys()).collect();
    let rank = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
    let mut columns: Vec<&str> = keys.into_iter().map(String::as_str).collect();
    columns.sort_by_key(|key| (rank(key), *key));
    let row = |item: &Value| -> Vec<String> {
        columns.iter().map(|key| item.get(key).map_or_else(|| "-".to_owned(), cell)).collect()
    };
    let mut rows = vec![columns.iter().map(|key| escape::one_line(&key.to_uppercase())).collect()];
    rows.extend(items.iter().map(row));
    let width = |column: usize| rows.iter().map(|row: &Vec<String>| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(value: Value, expect: &str) {
        assert_eq!(render(&value), expect);
    }

    #[test]
    fn values_are_tables_or_lines() {
        check(json!(null), "");
        check(json!("a\u{1b}b"), "a\\u{1b}b\n");
        check(json!(100), "100\n");
        check(json!(["a", 2]), "a\n2\n");
        check(json!({"release": "9.2", "x": {"y": 1}}), "release: 9.2\nx: {\"y\":1}\n");
        check(
            json!([{"status": "online", "node": "pve1"}, {"node": "p", "zone": "a"}]),
            "NODE  STATUS  ZONE\npve1  online  -\np     -       a\n",
        );
    }
}
