//! The keys of a guest's configuration: their shapes, defaults, and the versions that know them.
// PVE: qemu-server src/PVE/QemuServer.pm $confdesc and src/PVE/QemuServer/*.pm; compared with the parameter schemas of
// POST /nodes/{node}/qemu of 8.4 and 9.2.

mod table;

pub use table::{KEYBOARDS, NIC_MODELS, OSTYPES, VGA_TYPES};

use crate::value::{parse_bool, percent_decode};
use pve_types::{Bytes, MacAddr, ParseError, PveVersion, VolumeId};

/// The oldest version that the table knows.
pub const FIRST_VERSION: (u32, u32) = (7, 4);
/// The newest version that the table knows.
pub const LATEST_VERSION: (u32, u32) = (9, 2);

/// What values a key or field takes, and when two of them mean the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// `0`, `1`, `on`, `yes` …
    Bool,
    /// A whole number between these.
    Integer(i64, i64),
    /// A number between these.
    Number(f64, f64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any text of one line.
    Text,
    /// Text whose case does not matter, such as a UUID.
    Folded,
    /// Text of several lines; blanks at its end do not matter.
    Lines,
    /// A size as PVE writes it: `32G`.
    Size,
    /// Words parted by `;`, `,` or blanks; order, case and repetition do not matter.
    WordSet,
    /// Words parted by `;`, `,` or blanks, in order.
    WordList,
    /// Numbers and ranges of them (`0-3;8`); order and how they are grouped do not matter.
    NumberSet,
    /// An IP address, with or without a prefix length, or a word in its place (`dhcp`).
    Address,
    /// PCI addresses parted by `;`; the domain `0000` may be left out.
    PciAddresses,
    /// An Ethernet address.
    Mac,
    /// Percent-encoded text.
    Percent,
    /// A volume, or what may stand in its place (`none`, `cdrom`, a path, `STORAGE:SIZE`).
    Volume,
    /// Never shown and never compared.
    Secret,
    /// A property string with these fields.
    Properties(&'static [Field]),
}

/// A field of a property string.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub shape: Shape,
    /// What PVE takes where it is absent.
    pub default: Option<&'static str>,
    /// Whether it may stand without its name.
    pub is_default: bool,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// Whether PVE fills it in: then an absent one means the same as any other.
    pub filled_in: bool,
    /// The first version that knows it.
    pub since: (u32, u32),
    /// The first version that knows it no more.
    pub until: Option<(u32, u32)>,
}

/// A key of a guest's configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// Its name, without a number.
    pub name: &'static str,
    /// How many numbers it takes (`scsi0` to `scsi30`: 31); 0 where it takes none.
    pub count: u16,
    /// What it takes.
    pub shape: Shape,
    /// What PVE takes where it is absent.
    pub default: Option<&'static str>,
    /// The first version that knows it.
    pub since: (u32, u32),
    /// Whether only `root@pam` with a password may set it, whatever the value.
    pub only_root: bool,
    /// Whether PVE fills it in, so that a spec cannot be without it.
    pub generated: bool,
}

impl Key {
    /// Returns the name of the field that may stand without one.
    pub fn default_field(&self) -> Option<&'static str> {
        self.fields().iter().find(|field| field.is_default).map(|field| field.name)
    }
    /// Returns its fields; none where it is no property string.
    pub fn fields(&self) -> &'static [Field] {
        match self.shape {
            Shape::Properties(fields) => fields,
            _ => &[],
        }
    }
    /// Returns the field with this name or alias.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields().iter().find(|field| field.name == name || field.aliases.contains(&name))
    }
    /// Returns the full name of a field that may be named by an alias.
    pub fn resolve_alias<'a>(&self, name: &'a str) -> &'a str {
        self.field(name).map_or(name, |field| field.name)
    }
}

/// Returns the key that `name` (with its number, as `scsi0`) is one of.
pub fn find_key(name: &str) -> Option<&'static Key> {
    if let Some(key) = named(name).find(|key| key.count == 0) {
        return Some(key);
    }
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &name[stem.len()..];
    if digits.is_empty() || (digits != "0" && digits.starts_with('0')) {
        return None;
    }
    let number: u16 = digits.parse().ok()?;
    named(stem).find(|key| number < key.count)
}

/// Where the keys begin and end that begin with each letter: every value that is compared looks its key up.
static LETTERS: [(u8, u8); 26] = letters();

const fn letters() -> [(u8, u8); 26] {
    assert!(table::KEYS.len() < 256);
    let mut letters = [(0, 0); 26];
    let mut at = 0;
    while at < table::KEYS.len() {
        let letter = (table::KEYS[at].name.as_bytes()[0] - b'a') as usize;
        if letters[letter].1 == 0 {
            letters[letter].0 = at as u8;
        }
        letters[letter].1 = at as u8 + 1;
        at += 1;
    }
    letters
}

/// Returns the keys with this name: `numa` is one without a number and one with.
fn named(name: &str) -> impl Iterator<Item = &'static Key> {
    let letter = name.bytes().next().and_then(|byte| LETTERS.get(usize::from(byte.wrapping_sub(b'a'))));
    let (start, end) = letter.copied().unwrap_or_default();
    table::KEYS[usize::from(start)..usize::from(end)].iter().filter(move |key| key.name == name)
}

/// Returns all keys, ordered by name.
pub fn all_keys() -> &'static [Key] {
    table::KEYS
}

/// Returns the keys that this version knows.
pub fn known_keys(version: PveVersion) -> impl Iterator<Item = &'static Key> {
    table::KEYS.iter().filter(move |key| version.at_least(key.since.0, key.since.1))
}

/// Tells whether PVE writes the key by itself: `vmgenid`, `meta`, `digest` and the like.
pub fn is_generated(name: &str) -> bool {
    find_key(name).is_some_and(|key| key.generated)
        || matches!(name, "digest" | "parent" | "snaptime" | "vmstate" | "runningmachine" | "runningcpu")
}

/// Checks that a version knows the key and that the value has the key's shape.
///
/// With `None` it is enough that some version does.
///
/// # Errors
/// The key is not known, or the value does not fit; the reason says what would.
pub fn check_value(key: &str, value: &str, version: Option<PveVersion>) -> Result<(), ParseError> {
    let unknown = |reason: String| ParseError::new("PVE option", key, reason);
    let Some(found) = find_key(key) else {
        return Err(unknown("no version of PVE from 7.4 to 9.2 knows it".to_owned()));
    };
    if let Some(version) = version.filter(|version| !version.at_least(found.since.0, found.since.1)) {
        return Err(unknown(format!(
            "PVE {version} does not know it, {}.{} does",
            found.since.0, found.since.1
        )));
    }
    let Shape::Properties(fields) = found.shape else {
        return check_shape(found.shape, value);
    };
    let parsed = crate::PropertyString::parse(key, value)?;
    for (name, text) in parsed.iter() {
        let Some(field) = fields.iter().find(|field| field.name == name) else {
            let known: Vec<_> = fields.iter().map(|field| field.name).collect();
            return Err(unknown(format!(
                "it has no field `{}`, only {}",
                name.escape_debug(),
                known.join(", ")
            )));
        };
        check_field_version(field, version).map_err(unknown)?;
        check_shape(field.shape, text)?;
    }
    Ok(())
}

fn check_field_version(field: &Field, version: Option<PveVersion>) -> Result<(), String> {
    let Some(version) = version else { return Ok(()) };
    if !version.at_least(field.since.0, field.since.1) {
        return Err(format!(
            "PVE {version} does not know its field `{}`, {}.{} does",
            field.name, field.since.0, field.since.1
        ));
    }
    match field.until {
        Some((major, minor)) if version.at_least(major, minor) => {
            Err(format!("PVE {version} knows its field `{}` no more", field.name))
        }
        _ => Ok(()),
    }
}

fn check_shape(shape: Shape, text: &str) -> Result<(), ParseError> {
    let refuse = |kind, reason: String| Err(ParseError::new(kind, text, reason));
    if shape != Shape::Lines && text.chars().any(char::is_control) {
        return refuse("value", "control characters are not allowed".to_owned());
    }
    match shape {
        Shape::Bool if parse_bool(text).is_none() => refuse("truth", "it is `0` or `1`".to_owned()),
        Shape::Integer(min, max) if !text.parse().is_ok_and(|number: i64| (min..=max).contains(&number)) => {
            refuse("whole number", between(&min, &max, max == i64::MAX))
        }
        Shape::Number(min, max) if !text.parse().is_ok_and(|number: f64| (min..=max).contains(&number)) => {
            refuse("number", between(&min, &max, max == f64::MAX))
        }
        Shape::Choice(words) if !words.contains(&text) => {
            refuse("choice", format!("it is one of {}", words.join(", ")))
        }
        Shape::Size => Bytes::from_pve_size(text).map(|_| ()),
        Shape::Mac => text.parse::<MacAddr>().map(|_| ()),
        Shape::Percent if percent_decode(text).is_none() => {
            refuse("value", "it must be percent-encoded".to_owned())
        }
        Shape::Volume if text.contains(':') && !text.starts_with('/') => text.parse::<VolumeId>().map(|_| ()),
        _ => Ok(()),
    }
}

fn between<T: std::fmt::Display>(min: &T, max: &T, open: bool) -> String {
    if open { format!("it must be at least {min}") } else { format!("it must be {min} to {max}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_it_can_be_searched() {
        assert!(table::KEYS.is_sorted_by(|a, b| (a.name, a.count) < (b.name, b.count)));
        for key in table::KEYS {
            let name =
                if key.count == 0 { key.name.to_owned() } else { format!("{}{}", key.name, key.count - 1) };
            assert_eq!(find_key(&name).map(|found| found.name), Some(key.name));
            let beyond = format!("{}{}", key.name, key.count);
            assert!(key.count == 0 || find_key(&beyond).is_none(), "{beyond}");
        }
    }

    #[test]
    fn numbers_belong_to_keys_only_where_there_are_slots() {
        assert_eq!(find_key("numa").unwrap().count, 0);
        assert_eq!(find_key("numa7").unwrap().count, 8);
        assert_eq!(find_key("smbios1").unwrap().name, "smbios1");
        for name in ["scsi31", "scsi", "scsi00", "cores1", "", "7", "rng1"] {
            assert!(find_key(name).is_none(), "`{name}`");
        }
    }

    #[test]
    fn values_are_checked_against_shape_and_version() {
        let nine = Some(PveVersion::new(9, 2, 0));
        let eight = Some(PveVersion::new(8, 4, 0));
        for (key, value) in [
            ("cores", "4"),
            ("agent", "1,type=isa"),
            ("intel-tdx", "type=tdx"),
            ("net0", "virtio,bridge=vmbr0"),
        ] {
            assert!(
                check_value(key, value, nine).is_ok(),
                "{key}={value}: {:?}",
                check_value(key, value, nine)
            );
        }
        for (key, value) in [
            ("cores", "0"),
            ("agent", "1,foo=1"),
            ("bios", "uefi"),
            ("nope", "1"),
            ("args", "a\nb"),
            ("scsi0", "local:1,cyls=3"),
        ] {
            assert!(check_value(key, value, nine).is_err(), "{key}={value}");
        }
        assert!(check_value("allow-ksm", "1", eight).is_err());
        assert!(check_value("scsi0", "local:1,cyls=3", eight).is_ok());
    }
}
