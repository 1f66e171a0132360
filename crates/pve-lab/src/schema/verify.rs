//! Verifying parameters against the table, with PVE's own messages.

use std::collections::BTreeMap;

use serde_json::Value;

use super::formats::Formats;
use super::model::{Format, Kind, Param, ParamSet};
use super::property;
use crate::api::Params;

/// What is wrong, by parameter.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Errors(BTreeMap<String, String>);

impl Errors {
    /// Adds a message; several for one parameter are joined as PVE joins them, with a backslash and an `n`.
    pub fn add(&mut self, path: &str, message: impl Into<String>) {
        let message = message.into();
        let path = if path.is_empty() { "_root" } else { path };
        match self.0.get_mut(path) {
            Some(text) => {
                text.push_str("\\n");
                text.push_str(&message);
            }
            None => {
                self.0.insert(path.to_owned(), message);
            }
        }
    }
    /// Tells whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// By parameter.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter()
    }
    /// By parameter.
    pub fn into_map(self) -> BTreeMap<String, String> {
        self.0
    }
}

/// Brings decoded parameters into the shape that a method reads: scalars as text, lists joined, arrays of text.
// PVE: pve-common src/PVE/RESTHandler.pm handle; JSON booleans from pve-common 8.0.4.
pub fn normalize(set: &ParamSet, given: &Params) -> Params {
    let one = |(name, value): (&String, &Value)| (name.clone(), normalize_one(set.get(name), value));
    given.iter().filter(|(_, value)| !value.is_null()).map(one).collect()
}

fn normalize_one(param: Option<&Param>, value: &Value) -> Value {
    let is_array = param.is_some_and(|param| param.kind == Kind::Array);
    match value {
        Value::Array(items) if !is_array && param.is_some_and(Param::is_list) => {
            items.iter().map(scalar_text).collect::<Vec<_>>().join(",").into()
        }
        Value::Array(items) => items.iter().map(|item| Value::from(scalar_text(item))).collect(),
        Value::Object(_) => value.clone(),
        _ if is_array => Value::Array(vec![scalar_text(value).into()]),
        _ => scalar_text(value).into(),
    }
}

fn scalar_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(is) => if *is { "1" } else { "0" }.to_owned(),
        other => other.to_string(),
    }
}

/// Verifies the members of an object: those that must be there, each value, and those that must not be there.
// PVE: pve-common src/PVE/JSONSchema.pm check_object
pub fn check_object(set: &ParamSet, values: &Params, path: &str, formats: &Formats, errors: &mut Errors) {
    let full = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for param in set.iter().filter(|param| param.required && param.count.is_none()) {
        if !values.contains_key(&param.name) {
            errors.add(&full(&param.name), "property is missing and it is not optional");
        }
    }
    for (name, value) in values {
        match set.get(name) {
            None => errors.add(
                &full(name),
                "property is not defined in schema and the schema does not allow additional properties",
            ),
            Some(param) => {
                check_value(param, value, &full(name), formats, errors);
                if let Some(needed) = param.needs.as_ref().filter(|needed| !values.contains_key(*needed)) {
                    errors.add(&full(needed), format!("missing property required by '{}'", full(name)));
                }
            }
        }
    }
}

// PVE: pve-common src/PVE/JSONSchema.pm check_prop
fn check_value(param: &Param, value: &Value, path: &str, formats: &Formats, errors: &mut Errors) {
    match value {
        Value::Array(items) if param.kind == Kind::Array => {
            for (at, item) in items.iter().enumerate() {
                if let Some(schema) = &param.items {
                    check_value(schema, item, &format!("{path}[{at}]"), formats, errors);
                }
            }
        }
        Value::Array(_) => {
            errors.add(path, format!("type check ('{}') failed - got ARRAY", param.kind.name()));
        }
        Value::Object(_) => {
            errors.add(path, format!("type check ('{}') failed - got HASH", param.kind.name()));
        }
        Value::String(text) => {
            if let Err(message) = check_text(param, text, path, formats) {
                errors.add(path, message);
            }
        }
        _ => {}
    }
}

fn check_text(param: &Param, text: &str, path: &str, formats: &Formats) -> Result<(), String> {
    let fits = match param.kind {
        Kind::String => true,
        Kind::Integer => is_integer(text),
        Kind::Number => is_number(text),
        Kind::Boolean => matches!(text, "0" | "1"),
        Kind::Array => return Err("type check ('array') failed".to_owned()),
    };
    if !fits {
        return Err(format!("type check ('{}') failed - got '{text}'", param.kind.name()));
    }
    let format = match &param.format {
        Some(Format::Named(name)) => formats.check(name, text),
        Some(Format::Property(format)) => property::parse(format, text, path, formats).map(|_| ()),
        None => Ok(()),
    };
    format.map_err(|message| format!("invalid format - {message}"))?;
    if param.pattern.as_ref().is_some_and(|pattern| !pattern.matches(text)) {
        return Err("value does not match the regex pattern".to_owned());
    }
    let length = text.chars().count();
    if let Some(max) = param.max_length.filter(|max| length > *max) {
        return Err(format!("value may only be {max} characters long"));
    }
    if let Some(min) = param.min_length.filter(|min| length < *min) {
        return Err(format!("value must be at least {min} characters long"));
    }
    check_bounds(param, text)?;
    if !param.values.is_empty() && !param.values.iter().any(|value| value == text) {
        let list = param.values.join(", ");
        return Err(format!("value '{text}' does not have a value in the enumeration '{list}'"));
    }
    Ok(())
}

fn check_bounds(param: &Param, text: &str) -> Result<(), String> {
    let Some(number) = is_number(text).then(|| text.parse::<f64>().ok()).flatten() else { return Ok(()) };
    if let Some(max) = param.maximum.filter(|max| number > *max) {
        return Err(format!("value must have a maximum value of {max}"));
    }
    if let Some(min) = param.minimum.filter(|min| number < *min) {
        return Err(format!("value must have a minimum value of {min}"));
    }
    Ok(())
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    digits.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte))
        && text.parse::<f64>().is_ok()
}
