//! Whether two values mean the same, and how a value becomes what is wished for.

use crate::keys::{Field, Key, Shape, find_key};
use crate::property::PropertyString;
use crate::value::normal_form;
use pve_types::ParseError;
use std::collections::BTreeSet;

/// Tells whether two values of `key` mean the same to PVE.
///
/// Spelling, order, case and defaults do not matter. What PVE fills in (a MAC, a drive's size, a UUID) does not matter
/// where one side is without it. A `cipassword` is always the same: it cannot be read back.
pub fn same_value(key: &str, one: &str, other: &str) -> bool {
    let Some(found) = find_key(key) else { return one.trim() == other.trim() };
    if let Shape::Properties(fields) = found.shape {
        return match (PropertyString::parse(key, one), PropertyString::parse(key, other)) {
            (Ok(one), Ok(other)) => same_properties(found, fields, &one, &other),
            _ => one.trim() == other.trim(),
        };
    }
    let form = |text| normal_form(found.shape, hotplug_words(key, text));
    form(one) == form(other)
}

/// Tells whether two values of `key` mean the same, where an absent one means PVE's default.
pub fn same_config_value(key: &str, one: Option<&str>, other: Option<&str>) -> bool {
    let found = find_key(key);
    if found.is_some_and(|found| found.shape == Shape::Secret) {
        return true;
    }
    let default = found.and_then(|found| found.default);
    match (one.or(default), other.or(default)) {
        (Some(one), Some(other)) => same_value(key, one, other),
        (None, None) => true,
        // A property string of which every field has its default says nothing: `agent: 0`, `vga: std`.
        (Some(value), None) | (None, Some(value)) => says_nothing(key, value),
    }
}

/// Tells whether two values of a field mean the same, where an absent one means PVE's default.
pub fn same_field(key: &str, field: &str, one: Option<&str>, other: Option<&str>) -> bool {
    let Some(found) = find_key(key).and_then(|key| key.field(field)) else { return one == other };
    same_field_value(found, one, other)
}

fn same_properties(key: &Key, fields: &[Field], one: &PropertyString, other: &PropertyString) -> bool {
    let names: BTreeSet<&str> = one.iter().chain(other.iter()).map(|(name, _)| name).collect();
    names.into_iter().all(|name| {
        let (one, other) = (one.get(name), other.get(name));
        match fields.iter().find(|field| field.name == name) {
            Some(_) if key.name == "boot" && name == "order" => boot_words(one).eq(boot_words(other)),
            Some(field) => same_field_value(field, one, other),
            None => one == other,
        }
    })
}

fn same_field_value(field: &Field, one: Option<&str>, other: Option<&str>) -> bool {
    if field.filled_in && (one.is_none() || other.is_none()) {
        return true;
    }
    let form = |value: Option<&str>| value.or(field.default).map(|text| normal_form(field.shape, text));
    form(one) == form(other)
}

fn boot_words(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split([';', ',', ' ']).filter(|word| !word.is_empty())
}

fn says_nothing(key: &str, value: &str) -> bool {
    let Some(found) = find_key(key) else { return false };
    match found.shape {
        Shape::Properties(fields) => PropertyString::parse(key, value).is_ok_and(|parsed| {
            // A device that is there with all its defaults is there all the same.
            let is_setting =
                matches!(found.name, "agent" | "vga" | "cpu" | "machine" | "memory" | "smbios1" | "startup");
            is_setting && same_properties(found, fields, &parsed, &PropertyString::default())
        }),
        Shape::Bool => found.default.is_none() && normal_form(Shape::Bool, value) == "0",
        Shape::WordSet | Shape::WordList | Shape::Lines | Shape::Percent => value.trim().is_empty(),
        _ => false,
    }
}

/// Spells out `1` (the default) and `0` (nothing) of `hotplug`.
// PVE: qemu-server src/PVE/QemuServer.pm parse_hotplug_features.
fn hotplug_words<'a>(key: &str, text: &'a str) -> &'a str {
    match (key, text.trim()) {
        ("hotplug", "1") => "network,disk,usb",
        ("hotplug", "0") => "",
        _ => text,
    }
}

/// Returns `current` with these fields set (`Some`) or removed (`None`), printed as PVE prints it.
///
/// Fields that are not named stay as they are: an absent key of the spec is not managed.
///
/// # Errors
/// `current` is no property string of `key`.
pub fn overlay<'a>(
    key: &str,
    current: Option<&str>,
    fields: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
) -> Result<String, ParseError> {
    let mut value = match current {
        Some(text) => PropertyString::parse(key, text)?,
        None => PropertyString::default(),
    };
    for (name, desired) in fields {
        match desired {
            Some(text) => value.set(name, text),
            None => drop(value.remove(name)),
        }
    }
    Ok(value.print(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn same(key: &str, one: &str, other: &str) {
        assert!(same_value(key, one, other), "{key}: `{one}` and `{other}` mean the same");
        assert!(same_value(key, other, one), "{key}: equality is symmetric");
    }
    #[track_caller]
    fn differ(key: &str, one: &str, other: &str) {
        assert!(
            !same_value(key, one, other) && !same_value(key, other, one),
            "{key}: `{one}` is not `{other}`"
        );
    }

    #[test]
    fn spelling_order_and_defaults_do_not_matter() {
        same(
            "scsi0",
            "local:1/a.raw,ssd=1",
            "ssd=on,file=local:1/a.raw,backup=1,size=3G,media=disk,discard=ignore",
        );
        same("net0", "virtio=bc:24:11:00:00:01,bridge=vmbr0", "model=virtio,bridge=vmbr0,firewall=0");
        same("net0", "virtio,bridge=vmbr0", "virtio=BC:24:11:00:00:01,bridge=vmbr0");
        same("memory", "4096", "current=4096");
        same("agent", "1", "enabled=1,fstrim_cloned_disks=0,type=virtio");
        same("agent", "1,freeze-fs=0", "1,freeze-fs-on-backup=0");
        same("cpu", "host,flags=+aes;-pcid", "cputype=host,flags=-pcid;+aes");
        same("hotplug", "1", "usb,disk,network");
        same("hotplug", "0", "");
        same("cores", "2", "02");
        same("cpulimit", "2", "2.0");
        same("tags", "b;a", "A,b");
        same("smbios1", "uuid=AB", "uuid=ab,base64=0");
        same("boot", "order=scsi0;net0", "order=scsi0 net0");
        same("description", "a\n", "a");
        same("cipassword", "**********", "x");
        same("startup", "1", "order=1");
    }

    #[test]
    fn what_means_something_else_differs() {
        differ("scsi0", "local:a,ssd=1", "local:a");
        differ("scsi0", "local:a,size=3G", "local:a,size=4G");
        differ("scsi0", "local:a", "local:b");
        differ("net0", "virtio=BC:24:11:00:00:01", "virtio=BC:24:11:00:00:02");
        differ("net0", "virtio,tag=4", "virtio");
        differ("boot", "order=scsi0;net0", "order=net0;scsi0");
        differ("ipconfig0", "ip=dhcp", "ip=10.0.0.1/24");
    }

    #[test]
    fn an_absent_option_has_its_default() {
        let check = |key, value, expect| {
            assert_eq!(same_config_value(key, Some(value), None), expect, "{key}: {value}");
            assert_eq!(same_config_value(key, None, Some(value)), expect, "{key}: {value}");
        };
        check("cores", "1", true);
        check("bios", "seabios", true);
        check("agent", "0", true);
        check("agent", "1", false);
        check("tablet", "1", true);
        check("tablet", "0", false);
        check("vga", "std", true);
        check("localtime", "0", true);
        check("cpu", "kvm64", true);
        check("rng0", "/dev/urandom", false);
        check("watchdog", "i6300esb", false);
        check("tags", "", true);
        check("cipassword", "x", true);
        assert!(same_config_value("cores", None, None));
    }

    #[test]
    fn an_overlay_keeps_what_it_does_not_name() {
        let check = |key, current, fields: &[(&str, Option<&str>)], expect: &str| {
            assert_eq!(overlay(key, current, fields.iter().copied()).unwrap(), expect);
        };
        check(
            "net0",
            Some("virtio=BC:24:11:00:00:01,bridge=vmbr0"),
            &[("tag", Some("4"))],
            "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=4",
        );
        check(
            "scsi0",
            Some("l:v,ssd=1,size=3G"),
            &[("ssd", None), ("cache", Some("none"))],
            "l:v,cache=none,size=3G",
        );
        check("cpu", None, &[("cputype", Some("host"))], "host");
    }

    proptest::proptest! {
        #[test]
        fn a_value_is_the_same_as_itself_and_as_its_print(text in "[ -~]{0,60}", at in 0..crate::all_keys().len()) {
            let key = &crate::all_keys()[at];
            let name = if key.count == 0 { key.name.to_owned() } else { format!("{}0", key.name) };
            proptest::prop_assert!(same_value(&name, &text, &text));
            let is_string = !key.fields().is_empty();
            if let (true, Ok(parsed)) = (is_string, PropertyString::parse(&name, &text)) {
                let printed = parsed.print(&name);
                proptest::prop_assert!(same_value(&name, &text, &printed), "{name}: `{text}` `{printed}`");
            }
        }
    }
}
