//! The spec's language as data: every key with its kind, its meaning for PVE, its default and its documentation.
//!
//! One table serves four readers: the check of what people wrote, the lowering to PVE's options, the JSON Schema for
//! editors, and the reference in `docs/spec.md`.

mod cluster;
mod devices;
mod groups;
pub(crate) mod rules;
mod vm;

pub(crate) use cluster::{LOCK, TOP};
pub(crate) use devices::{CLOUD_INIT, DISK, EFI, NIC, NUMA_NODE, PCI, POOL_ADDRESS, TPM, USB, VIRTIOFS};
pub(crate) use groups::ROLLOUT;
pub(crate) use vm::{MOVED_FROM, SMBIOS, VM};

/// A map with fixed keys.
#[derive(Debug)]
pub(crate) struct Object {
    /// Its name in the JSON Schema and the reference.
    pub name: &'static str,
    /// One sentence on what it is.
    pub doc: &'static str,
    /// The key that a scalar in its place stands for.
    pub shorthand: Option<&'static str>,
    /// Exactly one of these keys is there; nothing is demanded where it is empty.
    pub exactly_one: &'static [&'static str],
    /// Whether a scalar in its place would be a secret, which is refused and not shown.
    pub secret: bool,
    /// Its keys.
    pub fields: &'static [Field],
}

impl Object {
    /// Returns the field with this key.
    pub(crate) fn field(&self, key: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.key == key)
    }
    const fn new(name: &'static str, doc: &'static str, fields: &'static [Field]) -> Self {
        Self { name, doc, shorthand: None, exactly_one: &[], secret: false, fields }
    }
    const fn shorthand(mut self, key: &'static str) -> Self {
        self.shorthand = Some(key);
        self
    }
    const fn exactly_one(mut self, keys: &'static [&'static str]) -> Self {
        self.exactly_one = keys;
        self
    }
    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

/// A key of an object.
#[derive(Debug)]
pub(crate) struct Field {
    /// The key.
    pub key: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Whether it must be there, after profiles and defaults.
    pub required: bool,
    /// Whether `null` may remove it.
    pub nullable: bool,
    /// What it is to PVE.
    pub pve: Pve,
    /// How its value is written for PVE.
    pub lower: Lower,
    /// What holds where it is absent; empty where that is "not managed".
    pub default: &'static str,
    /// One sentence or fragment.
    pub doc: &'static str,
}

const fn field(key: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field {
        key,
        kind,
        required: false,
        nullable: false,
        pve: Pve::None,
        lower: Lower::Plain,
        default: "",
        doc,
    }
}

impl Field {
    const fn required(mut self) -> Self {
        self.required = true;
        self
    }
    const fn nullable(mut self) -> Self {
        self.nullable = true;
        self
    }
    /// Makes it a whole option of PVE, which `null` removes.
    const fn option(mut self, key: &'static str) -> Self {
        self.pve = Pve::Option(key);
        self.nullable = true;
        self
    }
    /// Makes it a field of an option of PVE.
    const fn part(mut self, key: &'static str, part: &'static str) -> Self {
        self.pve = Pve::Part(key, part);
        self.nullable = true;
        self
    }
    /// Makes it a field of the device, drive or NIC that its object is.
    const fn of_device(mut self, part: &'static str) -> Self {
        self.pve = Pve::OfDevice(part);
        self.nullable = true;
        self
    }
    /// Makes it a map of devices by slot.
    const fn devices(mut self, bus: &'static str) -> Self {
        self.pve = Pve::Devices(bus);
        self
    }
    /// Says in words what it is to PVE.
    const fn means(mut self, words: &'static str) -> Self {
        self.pve = Pve::Words(words);
        self
    }
    const fn lower(mut self, lower: Lower) -> Self {
        self.lower = lower;
        self
    }
    const fn default(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }
}

/// What a key is to PVE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pve {
    /// Nothing: it is ours.
    None,
    /// A whole option.
    Option(&'static str),
    /// A field of an option's property string.
    Part(&'static str, &'static str),
    /// A field of the property string of the device that its object is.
    OfDevice(&'static str),
    /// A map of devices, keyed by slot.
    Devices(&'static str),
    /// Something that takes words to say.
    Words(&'static str),
}

/// How a value is written for PVE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lower {
    /// As it is; a boolean as `0` or `1`, a list with commas.
    Plain,
    /// A size as a number of MiB; `false` as `0`.
    Mib,
    /// A duration as a number of seconds.
    Seconds,
    /// A boolean as `on` or `ignore`.
    OnIgnore,
    /// A list joined by this.
    Join(&'static str),
    /// Percent-encoded.
    Percent,
    /// Base64.
    Base64,
    /// After this.
    Prefix(&'static str),
}

/// What a key takes.
#[derive(Debug)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Bool,
    /// Only this boolean.
    Only(bool),
    /// A whole number between these.
    Int(i64, i64),
    /// A number between these.
    Number(f64, f64),
    /// A size with a unit, between the first two numbers of bytes, and a multiple of the third, in which PVE counts it.
    Size(u64, u64, u64),
    /// A time with a unit: `30s`, `5m`, `1h`.
    Duration,
    /// A text that follows a rule.
    Text(&'static TextRule),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list.
    List(&'static Kind),
    /// A list, or a single item in its place.
    OneOrMany(&'static Kind),
    /// A map with keys that follow a rule; `null` values where the flag says so.
    Map(&'static TextRule, &'static Kind, Nullable),
    /// A map with fixed keys.
    Object(&'static Object),
    /// One of these.
    OneOf(&'static [Kind]),
    /// Anything.
    Free,
}

/// Whether `null` may stand in place of a map's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nullable {
    /// It removes the thing of that name.
    Yes,
    /// It may not.
    No,
}

/// What texts are taken.
pub(crate) struct TextRule {
    /// What such a text is, e.g. `node name`.
    pub name: &'static str,
    /// A regular expression for editors; the check may be stricter.
    pub pattern: &'static str,
    /// What is right.
    pub example: &'static str,
    /// Returns why it is not right.
    pub check: fn(&str) -> Result<(), String>,
}

impl std::fmt::Debug for TextRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Kind {
    /// Returns what would be right, for messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Only(truth) => format!("`{truth}`"),
            Self::Int(min, max) if *max == i64::MAX => format!("a whole number, at least {min}"),
            Self::Int(min, max) if min == max => format!("`{min}`"),
            Self::Int(min, max) => format!("a whole number from {min} to {max}"),
            Self::Number(min, max) if *min == f64::MIN && *max == f64::MAX => "a number".to_owned(),
            Self::Number(min, max) if *max == f64::MAX => format!("a number, at least {min}"),
            Self::Number(min, max) => format!("a number from {min} to {max}"),
            Self::Size(..) => "a size with its unit, such as `4GiB`".to_owned(),
            Self::Duration => "a duration with its unit, such as `30s` or `5m`".to_owned(),
            Self::Text(rule) => format!("a {}, such as `{}`", rule.name, rule.example),
            Self::Choice(words) => format!("one of `{}`", words.join("`, `")),
            Self::List(item) => format!("a list (`[…]`), each item {}", item.describe()),
            Self::OneOrMany(item) => format!("{}, or a list of them", item.describe()),
            Self::Map(rule, ..) => format!("a map keyed by {}", rule.name),
            Self::Object(object) if object.secret => "a reference such as `{env: NAME}`".to_owned(),
            Self::Object(object) => format!("a map with keys such as `{}`", first_keys(object)),
            Self::OneOf(kinds) => kinds.iter().map(Self::describe).collect::<Vec<_>>().join(", or "),
            Self::Free => "any value".to_owned(),
        }
    }
}

fn first_keys(object: &Object) -> String {
    object.fields.iter().take(3).map(|field| field.key).collect::<Vec<_>>().join("`, `")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(object: &'static Object, seen: &mut Vec<&'static str>, look: &mut dyn FnMut(&'static Object)) {
        if seen.contains(&object.name) {
            return;
        }
        seen.push(object.name);
        look(object);
        for field in object.fields {
            visit_kind(&field.kind, seen, look);
        }
    }
    fn visit_kind(kind: &'static Kind, seen: &mut Vec<&'static str>, look: &mut dyn FnMut(&'static Object)) {
        match kind {
            Kind::List(kind) | Kind::OneOrMany(kind) | Kind::Map(_, kind, _) => visit_kind(kind, seen, look),
            Kind::OneOf(kinds) => kinds.iter().for_each(|kind| visit_kind(kind, seen, look)),
            Kind::Object(object) => visit(object, seen, look),
            _ => {}
        }
    }

    #[test]
    fn the_table_is_sound() {
        visit(&TOP, &mut Vec::new(), &mut |object| {
            let mut keys: Vec<_> = object.fields.iter().map(|field| field.key).collect();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), object.fields.len(), "{}: a key stands twice", object.name);
            for key in object.shorthand.iter().chain(object.exactly_one) {
                assert!(object.field(key).is_some(), "{}: no `{key}`", object.name);
            }
            for field in object.fields {
                assert!(!field.doc.is_empty(), "{}.{}", object.name, field.key);
                match field.pve {
                    Pve::Option(key) => assert!(pve_config::find_key(key).is_some(), "{key}"),
                    Pve::Part(key, part) => {
                        assert!(pve_config::find_key(key).unwrap().field(part).is_some(), "{key}.{part}");
                    }
                    Pve::Devices(bus) => assert!(pve_config::find_key(&format!("{bus}0")).is_some(), "{bus}"),
                    Pve::OfDevice(_) | Pve::None | Pve::Words(_) => {}
                }
            }
        });
    }

    #[test]
    fn every_word_that_is_written_as_it_stands_is_one_of_pve_s() {
        let mut compared = 0;
        let mut compare = |field: &Field, shape: pve_config::Shape| {
            let (Kind::Choice(words), Lower::Plain) = (&field.kind, field.lower) else { return };
            if let pve_config::Shape::Choice(known) = shape {
                assert!(words.iter().all(|word| known.contains(word)), "{}: {words:?} {known:?}", field.key);
                compared += 1;
            }
        };
        visit(&TOP, &mut Vec::new(), &mut |object| {
            for field in object.fields {
                match field.pve {
                    Pve::Option(key) => compare(field, pve_config::find_key(key).unwrap().shape),
                    Pve::Part(key, part) => {
                        compare(field, pve_config::find_key(key).unwrap().field(part).unwrap().shape);
                    }
                    Pve::OfDevice(part) => {
                        let buses =
                            ["scsi0", "net0", "numa0", "hostpci0", "virtiofs0", "efidisk0", "tpmstate0"];
                        let named = buses.iter().filter_map(|bus| pve_config::find_key(bus)?.field(part));
                        // A name that several devices have is one of theirs.
                        let of_words = |shape: &pve_config::Shape| match (shape, &field.kind) {
                            (pve_config::Shape::Choice(known), Kind::Choice(words)) => {
                                words.iter().any(|word| known.contains(word))
                            }
                            _ => false,
                        };
                        if let Some(shape) = named.map(|field| field.shape).find(of_words) {
                            compare(field, shape);
                        }
                    }
                    _ => {}
                }
            }
        });
        assert!(compared > 20, "{compared} lists were compared");
    }

    #[test]
    fn every_option_of_pve_can_be_written() {
        let mut written = std::collections::BTreeSet::new();
        visit(&TOP, &mut Vec::new(), &mut |object| {
            for field in object.fields {
                match field.pve {
                    Pve::Option(key) | Pve::Part(key, _) | Pve::Devices(key) => drop(written.insert(key)),
                    _ => {}
                }
            }
        });
        // Disks and NICs are keyed by slot; the others are ours to write, or names of old for something else.
        let elsewhere = [
            "ide",
            "sata",
            "scsi",
            "virtio",
            "net",
            "ipconfig",
            "efidisk",
            "tpmstate",
            "unused",
            "name",
            "description",
            "tags",
            "template",
            "cicustom",
            "cipassword",
            "sshkeys",
            "boot",
            "bootdisk",
            "smp",
            "meta",
            "lock",
        ];
        let missing: Vec<_> = pve_config::all_keys()
            .iter()
            .map(|key| key.name)
            .filter(|name| !written.contains(name) && !elsewhere.contains(name))
            .collect();
        assert!(missing.is_empty(), "no key of the spec writes {missing:?}");
    }
}
