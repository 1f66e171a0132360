//! Whether two values mean the same, and how a value becomes what is wished for.

use crate::keys::{Field, Key, Shape, find_key};
use crate::options::{Smbios1, machine_type};
use crate::property::PropertyString;
use crate::value::normal_form;
use pve_types::ParseError;
use std::collections::{BTreeMap, BTreeSet};

/// What kind of guest a configuration is of, where that decides what a value means.
///
/// The default is a guest that is not Windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GuestTraits {
    /// Whether PVE takes it for Windows: it pins the version of its machine and its clock shows local time.
    pub windows: bool,
}

impl GuestTraits {
    /// Returns the traits of a guest with this `ostype`.
    // PVE: qemu-server src/PVE/QemuServer/Helpers.pm windows_version: `wxp` to `win11`, all of which begin with `w`.
    pub fn of_ostype(ostype: Option<&str>) -> Self {
        Self { windows: ostype.is_some_and(|ostype| ostype.starts_with('w')) }
    }
    /// Returns the traits of the guest with this configuration.
    pub fn of_config(values: &BTreeMap<String, String>) -> Self {
        Self::of_ostype(values.get("ostype").map(String::as_str))
    }

    /// Tells whether two values of `key` mean the same in such a guest, where an absent one means PVE's default.
    pub fn same_config_value(self, key: &str, one: Option<&str>, other: Option<&str>) -> bool {
        let found = find_key(key);
        if found.is_some_and(|found| found.shape == Shape::Secret) {
            return true;
        }
        let default = found.and_then(|found| self.default_of(found));
        match (one.or(default), other.or(default)) {
            (Some(one), Some(other)) => self.same_value(key, one, other),
            (None, None) => true,
            // A property string of which every field has its default says nothing: `agent: 0`, `vga: std`.
            (Some(value), None) | (None, Some(value)) => self.says_nothing(key, value),
        }
    }

    /// Tells whether two values of `key` mean the same in such a guest.
    pub fn same_value(self, key: &str, one: &str, other: &str) -> bool {
        let Some(found) = find_key(key) else { return one.trim() == other.trim() };
        if let Shape::Properties(fields) = found.shape {
            return match (parse_plain(key, one), parse_plain(key, other)) {
                (Ok(one), Ok(other)) => self.same_properties(found, fields, &one, &other),
                _ => one.trim() == other.trim(),
            };
        }
        let form = |text| normal_form(found.shape, hotplug_words(key, text));
        form(one) == form(other)
    }

    /// Tells whether two values of a field mean the same in such a guest, where an absent one means PVE's default.
    pub fn same_field(self, key: &str, field: &str, one: Option<&str>, other: Option<&str>) -> bool {
        let Some((key, field)) = find_key(key).and_then(|key| Some((key, key.field(field)?))) else {
            return one == other;
        };
        self.same_field_value(key, field, one, other)
    }

    /// Returns `current` with these fields set (`Some`) or removed (`None`), printed as PVE prints it.
    ///
    /// Fields that are not named stay as they are: an absent key of the spec is not managed. A field that means already
    /// what it is set to keeps its spelling, such as the version that PVE pinned a Windows machine to.
    ///
    /// # Errors
    /// `current` is not a property string of `key`.
    pub fn overlay<'a>(
        self,
        key: &str,
        current: Option<&str>,
        fields: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<String, ParseError> {
        let mut value = match current {
            Some(text) => PropertyString::parse(key, text)?,
            None => PropertyString::default(),
        };
        for (name, desired) in fields {
            match (desired, value.get(name)) {
                (Some(text), Some(there)) if self.same_field(key, name, Some(there), Some(text)) => {}
                (Some(text), _) => value.set(name, text),
                (None, _) => drop(value.remove(name)),
            }
        }
        Ok(value.print(key))
    }

    fn default_of(self, key: &Key) -> Option<&'static str> {
        // PVE: qemu-server src/PVE/QemuServer.pm config_to_command: Windows gets local time where nothing is said.
        if key.name == "localtime" && self.windows { Some("1") } else { key.default }
    }

    fn same_properties(
        self,
        key: &Key,
        fields: &[Field],
        one: &PropertyString,
        other: &PropertyString,
    ) -> bool {
        let names: BTreeSet<&str> = one.iter().chain(other.iter()).map(|(name, _)| name).collect();
        names.into_iter().all(|name| {
            let (one, other) = (one.get(name), other.get(name));
            match fields.iter().find(|field| field.name == name) {
                Some(_) if key.name == "boot" && name == "order" => boot_words(one).eq(boot_words(other)),
                Some(field) => self.same_field_value(key, field, one, other),
                None => one == other,
            }
        })
    }

    fn same_field_value(self, key: &Key, field: &Field, one: Option<&str>, other: Option<&str>) -> bool {
        if field.filled_in && (one.is_none() || other.is_none()) {
            return true;
        }
        let (one, other) = (one.or(field.default), other.or(field.default));
        if let ("machine", "type", Some(one), Some(other)) = (key.name, field.name, one, other) {
            return self.same_machine(one, other);
        }
        let form = |value: Option<&str>| value.map(|text| normal_form(field.shape, text));
        form(one) == form(other)
    }

    /// PVE pins the machine version of Windows guests when they are made, or become Windows: a type without a version is
    /// the same as any version of it.
    // PVE: qemu-server src/PVE/QemuServer/Machine.pm check_and_pin_machine_string.
    fn same_machine(self, one: &str, other: &str) -> bool {
        let ((chipset, version), (other_chipset, other_version)) = (machine_type(one), machine_type(other));
        let is_pinned = self.windows && (version.is_none() || other_version.is_none());
        chipset == other_chipset && (version == other_version || is_pinned)
    }

    fn says_nothing(self, key: &str, value: &str) -> bool {
        let Some(found) = find_key(key) else { return false };
        match found.shape {
            Shape::Properties(fields) => parse_plain(key, value).is_ok_and(|parsed| {
                // A device that is there with all its defaults is there all the same.
                let is_setting = matches!(
                    found.name,
                    "agent" | "vga" | "cpu" | "machine" | "memory" | "smbios1" | "startup"
                );
                is_setting && self.same_properties(found, fields, &parsed, &PropertyString::default())
            }),
            Shape::Bool => found.default.is_none() && normal_form(Shape::Bool, value) == "0",
            Shape::WordSet | Shape::WordList | Shape::Lines | Shape::Percent => value.trim().is_empty(),
            _ => false,
        }
    }
}

/// Reads a property string whose values are as the guest sees them. Coded SMBIOS texts that are no UTF-8 stay coded.
fn parse_plain(key: &str, text: &str) -> Result<PropertyString, ParseError> {
    match Smbios1::parse(text) {
        Ok(plain) if key == "smbios1" => Ok(plain.fields),
        _ => PropertyString::parse(key, text),
    }
}

/// Tells whether two values of `key` mean the same to PVE, in a guest that is not Windows.
///
/// Spelling, order, case and defaults do not matter. What PVE fills in (a MAC, a drive's size, a UUID) does not matter
/// where one side is without it. A `cipassword` is always the same: it cannot be read back.
pub fn same_value(key: &str, one: &str, other: &str) -> bool {
    GuestTraits::default().same_value(key, one, other)
}

/// Tells whether two values of `key` mean the same, where an absent one means PVE's default, in a guest that is not
/// Windows.
pub fn same_config_value(key: &str, one: Option<&str>, other: Option<&str>) -> bool {
    GuestTraits::default().same_config_value(key, one, other)
}

/// Tells whether two values of a field mean the same, where an absent one means PVE's default, in a guest that is not
/// Windows.
pub fn same_field(key: &str, field: &str, one: Option<&str>, other: Option<&str>) -> bool {
    GuestTraits::default().same_field(key, field, one, other)
}

/// Returns `current` with these fields set or removed, as [`GuestTraits::overlay`] does for a guest that is not Windows.
///
/// # Errors
/// `current` is not a property string of `key`.
pub fn overlay<'a>(
    key: &str,
    current: Option<&str>,
    fields: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
) -> Result<String, ParseError> {
    GuestTraits::default().overlay(key, current, fields)
}

fn boot_words(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split([';', ',', ' ']).filter(|word| !word.is_empty())
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
        same("smbios1", "product=Client", "base64=1,product=Q2xpZW50");
        same("smbios1", "base64=1,sku=/w==,uuid=AB", "uuid=ab,base64=1,sku=/w==");
        same("hostpci0", "01:00.0,pcie=1", "host=0000:01:00.0,pcie=on");
        same("numa0", "cpus=0-3,memory=4096", "cpus=0;1;2;3,memory=4096.0");
        same("affinity", "0-2,5", "5,2,1,0");
        same("ipconfig0", "ip6=fd00:0::5/64,gw6=FD00::1", "gw6=fd00::1,ip6=fd00::5/64");
        same("machine", "pc-10.0", "type=pc-i440fx-10.0");
        same("searchdomain", "a.example b.example", "a.example,b.example");
    }

    #[test]
    fn a_windows_machine_is_the_same_in_each_version_that_pve_pins() {
        let (windows, linux) = (GuestTraits::of_ostype(Some("win11")), GuestTraits::of_ostype(Some("l26")));
        let pinned = |traits: GuestTraits, one, other| {
            let same = traits.same_config_value("machine", one, other);
            assert_eq!(same, traits.same_config_value("machine", other, one), "{one:?} {other:?}");
            same
        };
        assert!(pinned(windows, Some("pc-q35-10.0+pve1"), Some("q35")));
        assert!(pinned(windows, Some("pc-i440fx-10.0"), None), "`pc` is PVE's default");
        assert!(pinned(windows, Some("pc-q35-10.0,viommu=intel"), Some("viommu=intel,type=q35")));
        assert!(!pinned(windows, Some("pc-q35-10.0"), Some("pc")));
        assert!(!pinned(windows, Some("pc-q35-10.0"), Some("pc-q35-9.2")));
        assert!(!pinned(windows, Some("pc-q35-10.0"), Some("q35,viommu=intel")));
        assert!(!pinned(linux, Some("pc-q35-10.0"), Some("q35")));
        let kept = windows.overlay(
            "machine",
            Some("pc-q35-10.0"),
            [("type", Some("q35")), ("viommu", Some("intel"))],
        );
        assert_eq!(kept.unwrap(), "pc-q35-10.0,viommu=intel", "the version stays pinned");
        assert!(windows.same_config_value("localtime", Some("1"), None));
        assert!(!windows.same_config_value("localtime", Some("0"), None));
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
        check(
            "net0",
            Some("virtio=BC:24:11:00:00:01,firewall=on"),
            &[("firewall", Some("1"))],
            "virtio=BC:24:11:00:00:01,firewall=on",
        );
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
