//! Property strings: `local-lvm:vm-100-disk-0,discard=on,size=32G`.

use crate::keys::{Key, Shape, find_key};
use pve_types::ParseError;
use std::collections::BTreeMap;

/// A property string: its fields by their full names, aliases resolved, the default key by its name too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PropertyString {
    fields: BTreeMap<String, String>,
}

impl PropertyString {
    /// Reads a value of `key`, which may carry a number (`scsi0`).
    ///
    /// A key that is not a property string, or is not known, is read as one without a default key.
    ///
    /// # Errors
    /// A part without `=` where there is no default key, a field said twice, or an empty name.
    // PVE: pve-common src/PVE/JSONSchema.pm parse_property_string.
    pub fn parse(key: &str, text: &str) -> Result<Self, ParseError> {
        let refuse = |reason: String| ParseError::new("property string", text, reason);
        let format = find_key(key);
        let mut fields = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name, value),
                None => match format.and_then(Key::default_field) {
                    Some(name) => (name, part),
                    None => return Err(refuse(format!("`{}` needs a `=`", part.escape_debug()))),
                },
            };
            if let (Some(("model", model)), false) = (mac_alias(key, name), name == "model") {
                insert(&mut fields, "model", model).map_err(&refuse)?;
                insert(&mut fields, "macaddr", value).map_err(&refuse)?;
                continue;
            }
            let name = format.map_or(name, |format| format.resolve_alias(name));
            insert(&mut fields, name, value).map_err(&refuse)?;
        }
        Ok(Self { fields })
    }

    /// Returns a field's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
    /// Sets a field.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.fields.insert(name.into(), value.into());
    }
    /// Removes a field.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        self.fields.remove(name)
    }
    /// Returns names and values, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
    /// Tells whether it has no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Prints it as PVE stores a value of `key`: the default key first, then the others by name.
    // PVE: pve-common src/PVE/JSONSchema.pm print_property_string.
    pub fn print(&self, key: &str) -> String {
        let format = find_key(key);
        // PVE stores `startup` as it was given, and its web interface gives `order=1`.
        let first = format.filter(|format| format.name != "startup").and_then(Key::default_field);
        let mut parts = Vec::with_capacity(self.fields.len());
        let mut skip_mac = false;
        if let Some(value) = first.and_then(|name| self.get(name)) {
            let mac = if is_net(key) { self.get("macaddr") } else { None };
            skip_mac = mac.is_some();
            parts.push(mac.map_or_else(|| value.to_owned(), |mac| format!("{value}={mac}")));
        }
        for (name, value) in self.iter() {
            if Some(name) == first || (skip_mac && name == "macaddr") {
                continue;
            }
            parts.push(format!("{name}={value}"));
        }
        parts.join(",")
    }

    /// Returns the field's value as a boolean; `None` if it is absent or not a boolean.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).and_then(crate::value::parse_bool)
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for PropertyString {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(iter: I) -> Self {
        Self { fields: iter.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }
}

fn insert(fields: &mut BTreeMap<String, String>, name: &str, value: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a name before `=` is missing".to_owned());
    }
    if fields.insert(name.to_owned(), value.to_owned()).is_some() {
        return Err(format!("`{}` is set twice", name.escape_debug()));
    }
    Ok(())
}

fn is_net(key: &str) -> bool {
    find_key(key).is_some_and(|format| format.name == "net")
}

/// Returns `("model", name)` if `name` is a NIC model, used as the key of the MAC (`virtio=BC:24:…`).
fn mac_alias<'a>(key: &str, name: &'a str) -> Option<(&'static str, &'a str)> {
    let format = find_key(key).filter(|format| format.name == "net")?;
    match format.field("model")?.shape {
        Shape::Choice(models) if models.contains(&name) => Some(("model", name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &str, text: &str, printed: &str) {
        let parsed = PropertyString::parse(key, text).unwrap();
        assert_eq!(parsed.print(key), printed, "{key}: {text}");
        assert_eq!(PropertyString::parse(key, printed).unwrap(), parsed, "{key}: {printed}");
    }

    #[test]
    fn the_default_key_comes_first_and_the_rest_by_name() {
        check(
            "scsi0",
            "ssd=1,size=32G,volume=local-lvm:vm-100-disk-0,discard=on",
            "local-lvm:vm-100-disk-0,discard=on,size=32G,ssd=1",
        );
        check(
            "net0",
            "bridge=vmbr0,macaddr=BC:24:11:00:00:01,model=virtio",
            "virtio=BC:24:11:00:00:01,bridge=vmbr0",
        );
        check("net0", "virtio,bridge=vmbr0", "virtio,bridge=vmbr0");
        check("agent", "1,freeze-fs=0", "1,freeze-fs-on-backup=0");
        check("startup", "up=3,order=1", "order=1,up=3");
        check("ipconfig0", "ip=dhcp,gw=10.0.0.1", "gw=10.0.0.1,ip=dhcp");
        check("hostpci0", "pcie=1,mapping=gpu", "mapping=gpu,pcie=1");
        check("boot", "order=scsi0;net0", "order=scsi0;net0");
    }

    #[test]
    fn what_pve_refuses_is_refused() {
        for (key, text) in
            [("ipconfig0", "dhcp"), ("scsi0", "a,b"), ("scsi0", "=x"), ("net0", "virtio,virtio=a")]
        {
            assert!(PropertyString::parse(key, text).is_err(), "{key}: {text}");
        }
    }
}
