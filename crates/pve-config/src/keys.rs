//! The keys of a guest's configuration: their shapes, defaults, and the versions that know them.
// PVE: qemu-server src/PVE/QemuServer.pm $confdesc and src/PVE/QemuServer/*.pm; compared with the parameter schemas of
// POST /nodes/{node}/qemu of 8.4 and 9.2.

mod table;

pub use table::{KEYBOARDS, NIC_MODELS, OSTYPES, VGA_TYPES};

use pve_types::PveVersion;

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
    /// Words separated by `;`, `,` or spaces; order, case and repetition do not matter.
    WordSet,
    /// Words separated by `;`, `,` or spaces, in order.
    WordList,
    /// Numbers and ranges of them (`0-3;8`); order and how they are grouped do not matter.
    NumberSet,
    /// An IP address, with or without a prefix length, or a word in its place (`dhcp`).
    Address,
    /// PCI addresses separated by `;`; the domain `0000` may be omitted.
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
    /// Returns its fields; none where it is not a property string.
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

/// Tells whether PVE sets the key: `vmgenid`, `meta`, `digest` and the like.
pub fn is_generated(name: &str) -> bool {
    find_key(name).is_some_and(|key| key.generated)
        || matches!(name, "digest" | "parent" | "snaptime" | "vmstate" | "runningmachine" | "runningcpu")
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
}
