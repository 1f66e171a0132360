//! Property strings: `virtio=BC:24:11:00:00:01,bridge=vmbr0`.

use std::collections::BTreeMap;

use super::formats::Formats;
use super::model::{Kind, PropertyFormat};
use super::verify::{Errors, check_object};
use crate::api::Params;

/// A property string taken apart, by key.
pub type Properties = BTreeMap<String, String>;

/// Why a property string is none: a line, or a line per key after `format error`.
pub type PropertyError = String;

/// Takes a property string apart and verifies every key; `path` is put before a key in messages.
///
/// # Errors
/// PVE's text, with a newline at each line's end.
// PVE: pve-common src/PVE/JSONSchema.pm parse_property_string
pub fn parse(
    format: &PropertyFormat,
    text: &str,
    path: &str,
    formats: &Formats,
) -> Result<Properties, PropertyError> {
    let properties = split(format, text)?;
    let values: Params = properties.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    let mut errors = Errors::default();
    check_object(&format.keys, &values, path, formats, &mut errors);
    if errors.is_empty() {
        if format.name == "pve-vm-cpu-conf" {
            super::cpu::check(&properties)?;
        }
        return Ok(properties);
    }
    let lines: String = errors.iter().map(|(key, text)| format!("{key}: {text}\n")).collect();
    Err(format!("format error\n{lines}"))
}

/// Takes a property string apart without looking at the values.
///
/// # Errors
/// PVE's text.
pub fn split(format: &PropertyFormat, text: &str) -> Result<Properties, PropertyError> {
    let mut properties = Properties::new();
    let mut default_used = false;
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        match part.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() => {
                add_pair(format, &mut properties, key, value)?;
            }
            Some(_) => return Err("missing key in comma-separated list property\n".to_owned()),
            None => {
                let default = format.keys.iter().find(|key| key.default_key);
                let Some(default) = default else {
                    return Err("value without key, but schema does not define a default key\n".to_owned());
                };
                if default_used || properties.contains_key(&default.name) {
                    return Err(duplicate(&default.name));
                }
                default_used = true;
                properties.insert(default.name.clone(), plain(default.kind, part).to_owned());
            }
        }
    }
    Ok(properties)
}

fn duplicate(key: &str) -> String {
    format!("duplicate key in comma-separated list property: {key}\n")
}

fn add_pair(
    format: &PropertyFormat,
    properties: &mut Properties,
    given: &str,
    value: &str,
) -> Result<(), PropertyError> {
    if properties.contains_key(given) {
        return Err(duplicate(given));
    }
    // An unknown key is kept: verifying the whole finds it.
    let Some(mut key) = format.keys.get(given) else {
        properties.insert(given.to_owned(), value.to_owned());
        return Ok(());
    };
    if let Some(alias) = &key.alias {
        if let Some(key_alias) = &key.key_alias {
            if properties.contains_key(key_alias) {
                return Err(format!("key alias '{key_alias}' is already defined\n"));
            }
            properties.insert(key_alias.clone(), given.to_owned());
        }
        key = format.keys.get(alias).unwrap_or(key);
    }
    properties.insert(key.name.clone(), plain(key.kind, value).to_owned());
    Ok(())
}

/// A boolean as 1 or 0, anything else as it is.
fn plain(kind: Kind, value: &str) -> &str {
    match kind {
        Kind::Boolean => boolean(value).map_or(value, |is| if is { "1" } else { "0" }),
        _ => value,
    }
}

/// What PVE reads as a boolean in property strings and on command lines.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "yes" | "true" => Some(true),
        "0" | "off" | "no" | "false" => Some(false),
        _ => None,
    }
}

/// Puts a property string together: the default key's value first, then the others by name.
pub fn print(format: &PropertyFormat, properties: &Properties) -> String {
    let default = format.keys.iter().find(|key| key.default_key).map(|key| key.name.as_str());
    let first = default.and_then(|name| properties.get(name)).cloned();
    let rest = properties.iter().filter(|(key, _)| Some(key.as_str()) != default);
    first.into_iter().chain(rest.map(|(key, value)| format!("{key}={value}"))).collect::<Vec<_>>().join(",")
}
