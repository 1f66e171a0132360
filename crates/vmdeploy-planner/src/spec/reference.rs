//! The reference of all keys, for `docs/spec.md`: made of the same table as everything else.

use super::schema::{Field, Kind, Object, Pve, TOP};
use pve_config::find_key;
use std::fmt::Write as _;

/// Returns the tables of `docs/spec.md`, in Markdown.
pub fn reference_markdown() -> String {
    let mut objects = Vec::new();
    collect(&TOP, &mut objects);
    let mut out = String::new();
    for object in objects {
        write_object(object, &mut out);
    }
    out
}

fn collect(object: &'static Object, found: &mut Vec<&'static Object>) {
    if found.iter().any(|known| known.name == object.name) {
        return;
    }
    found.push(object);
    for field in object.fields {
        collect_kind(&field.kind, found);
    }
}

fn collect_kind(kind: &'static Kind, found: &mut Vec<&'static Object>) {
    match kind {
        Kind::Object(object) => collect(object, found),
        Kind::List(kind) | Kind::OneOrMany(kind) | Kind::Map(_, kind, _) => collect_kind(kind, found),
        Kind::OneOf(kinds) => kinds.iter().for_each(|kind| collect_kind(kind, found)),
        _ => {}
    }
}

fn write_object(object: &'static Object, out: &mut String) {
    // Writing to a String does not fail.
    let _ = writeln!(out, "### `{}`\n\n{}", object.name, object.doc);
    if let Some(key) = object.shorthand {
        let _ = writeln!(out, "A scalar instead of the map sets `{key}`.");
    }
    if !object.exactly_one.is_empty() {
        let _ = writeln!(out, "Exactly one of `{}` is required.", object.exactly_one.join("`, `"));
    }
    if object.secret {
        let _ = writeln!(out, "A literal secret is refused and not shown.");
    }
    let _ = writeln!(out, "\n| key | takes | meaning | default | PVE | since |\n|---|---|---|---|---|---|");
    for field in object.fields {
        let _ = writeln!(
            out,
            "| `{}`{} | {} | {}{} | {} | {} | {} |",
            field.key,
            if field.required { " (required)" } else { "" },
            cell(&kind_words(&field.kind)),
            cell(field.doc),
            if field.nullable { "; `null` removes it" } else { "" },
            cell(&default_words(field, object)),
            cell(&pve_words(field, object).unwrap_or_default()),
            since(field, object).unwrap_or_default(),
        );
    }
    out.push('\n');
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn kind_words(kind: &'static Kind) -> String {
    match kind {
        Kind::Bool => "`true`, `false`".to_owned(),
        Kind::Size(..) => "size: `4GiB`".to_owned(),
        Kind::Duration => "time: `30s`, `5m`, `1h`".to_owned(),
        Kind::Int(min, max) if *max == i64::MAX => format!("number from {min}"),
        Kind::Int(min, max) if min == max => format!("`{min}`"),
        Kind::Int(min, max) => format!("number, {min} to {max}"),
        Kind::Number(min, max) => match (*min > f64::MIN, *max < f64::MAX) {
            (true, true) => format!("decimal number, {min} to {max}"),
            (true, false) => format!("decimal number from {min}"),
            _ => "decimal number".to_owned(),
        },
        Kind::Text(rule) => format!("{}: `{}`", rule.name, rule.example),
        Kind::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Kind::Only(truth) => format!("`{truth}`"),
        Kind::List(item) => format!("list of: {}", kind_words(item)),
        Kind::OneOrMany(item) => format!("one or a list of: {}", kind_words(item)),
        Kind::Map(rule, value, _) => {
            format!("map by {} (`{}`) of: {}", rule.name, rule.example, kind_words(value))
        }
        Kind::Object(object) => format!("[`{0}`](#{0})", object.name),
        Kind::OneOf(kinds) => kinds.iter().map(kind_words).collect::<Vec<_>>().join("; or "),
        Kind::Free => "anything".to_owned(),
    }
}

/// Returns what holds where the key is absent: our default, or PVE's in brackets, which is not managed.
fn default_words(field: &Field, object: &Object) -> String {
    if !field.default.is_empty() {
        return field.default.to_owned();
    }
    let pve = match field.pve {
        Pve::Option(key) => find_key(key).and_then(|key| key.default),
        Pve::Part(key, part) => find_key(key).and_then(|key| key.field(part)?.default),
        Pve::OfDevice(part) => device_key(object).and_then(find_key).and_then(|key| key.field(part)?.default),
        Pve::None | Pve::Devices(_) | Pve::Words(_) => None,
    };
    pve.map_or_else(String::new, |default| format!("(PVE: `{default}`)"))
}

/// Returns what the key is to PVE, in words.
pub(crate) fn pve_words(field: &Field, object: &Object) -> Option<String> {
    match field.pve {
        Pve::None => None,
        Pve::Option(key) => Some(format!("`{key}`")),
        Pve::Part(key, part) => Some(format!("`{key}`: `{part}`")),
        Pve::OfDevice(part) => {
            let stem = device_key(object).map(|key| key.trim_end_matches('0'));
            let key = match stem {
                Some("efidisk") => "efidisk0",
                Some("tpmstate") => "tpmstate0",
                Some("scsi") => "drive",
                Some(stem) => return Some(format!("`{stem}N`: `{part}`")),
                None => return Some(format!("`{part}`")),
            };
            Some(if key == "drive" { format!("`{part}`") } else { format!("`{key}`: `{part}`") })
        }
        Pve::Devices(bus) => Some(format!("`{bus}N`")),
        Pve::Words(words) => Some(words.to_owned()),
    }
}

/// Returns the first version of PVE that knows the key, where not all of them do.
pub(crate) fn since(field: &Field, object: &Object) -> Option<String> {
    let (key, part) = match field.pve {
        Pve::Option(key) => (find_key(key)?, None),
        Pve::Part(key, part) => (find_key(key)?, Some(part)),
        Pve::OfDevice(part) => (find_key(device_key(object)?)?, Some(part)),
        Pve::Devices(bus) => (find_key(&format!("{bus}0"))?, None),
        Pve::None | Pve::Words(_) => return None,
    };
    let version = part.and_then(|part| key.field(part)).map_or(key.since, |field| field.since.max(key.since));
    (version > pve_config::FIRST_VERSION).then(|| format!("{}.{}", version.0, version.1))
}

/// Returns a key that the object's devices have in PVE.
fn device_key(object: &Object) -> Option<&'static str> {
    Some(match object.name {
        "disk" | "throttle" => "scsi0",
        "nic" => "net0",
        "efi" => "efidisk0",
        "tpm" => "tpmstate0",
        "numa_node" => "numa0",
        "usb" => "usb0",
        "pci" => "hostpci0",
        "virtiofs" => "virtiofs0",
        _ => return None,
    })
}
