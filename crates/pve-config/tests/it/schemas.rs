//! Every key of a guest's configuration against the parameters that PVE itself documents for making and changing one:
//! names, numbers, types, ranges, words, defaults, fields and their other names.

use pve_config::{Field, Key, Shape, all_keys, known_keys};
use pve_types::PveVersion;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

/// Parameters of the calls that are no keys of a configuration, and why.
const NO_KEYS: &[(&str, &str)] = &[
    ("archive", "restores a backup"),
    ("background_delay", "how the call answers"),
    ("bwlimit", "how fast the call copies"),
    ("cdrom", "another name of ide2"),
    ("delete", "names keys to remove"),
    ("digest", "guards against changes in between"),
    ("force", "what the call may do"),
    ("ha-managed", "a resource of HA, not of the guest's file"),
    ("import-working-storage", "where the call works"),
    ("live-restore", "restores a backup"),
    ("node", "part of the path"),
    ("pool", "kept in user.cfg"),
    ("revert", "names pending keys to revert"),
    ("skiplock", "what the call may do"),
    ("start", "what the call does next"),
    ("storage", "where the call places volumes"),
    ("unique", "how the call makes MACs"),
    ("vmid", "part of the path"),
];

/// Where the table differs from a schema, as `KEY` or `KEY.FIELD` (`*` is any key), what differs, with `(8)` or `(9)`
/// where it is so in one version only, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("*.backup", "default", "the description says so: a drive is in backups unless it says `backup=0`"),
    ("*.cache", "default", "QEMU's own where PVE passes none: no cache"),
    ("*.detect_zeroes", "default", "PVE passes `detect-zeroes=on` unless it says `detect_zeroes=0`"),
    ("*.discard", "default", "QEMU's own where PVE passes none: `ignore`"),
    ("net[n].queues", "default", "none and 0 are the same to PVE: no option is passed"),
    ("net[n].rate", "default", "none and 0 are the same to PVE: no limit"),
    ("net[n].host-tunnel", "extra (9)", "PVE's sources of 9.2 have it, the recorded schema is older"),
    ("cpu.level", "extra (9)", "PVE's sources of 9 have it, the recorded schema is older"),
    ("machine.type", "default", "the description of `machine`: `pc` where nothing is said"),
    ("machine.aw-bits", "type (9)", "a number of bits is whole"),
    ("ostype", "default (8)", "8.4 does the same for none as for `other`, and 9 says so"),
    ("cpuunits", "default", "it depends on the node's cgroup version"),
    ("vcpus", "default", "0 is below the key's own minimum; it says `all`, which is what none means"),
    ("vmgenid", "default", "PVE draws one; a guest without one has none"),
    ("meta", "extra", "PVE writes it itself, no call takes it"),
];

pub fn compare(folder: &Path, major: u32) -> Result<(), String> {
    let version = if major == 8 { PveVersion::new(8, 4, 0) } else { PveVersion::new(9, 2, 0) };
    let mut comparison = Comparison { version, faults: Vec::new(), used: BTreeSet::new() };
    comparison.all(&parameters(folder, major));
    for (place, what, _) in EXCEPTIONS {
        let of_this = what.ends_with(&format!("({major})")) || !what.ends_with(')');
        if of_this && !comparison.used.contains(&(*place, *what)) {
            comparison.faults.push(format!("the exception `{place}`: `{what}` is not needed"));
        }
    }
    if comparison.faults.is_empty() { Ok(()) } else { Err(comparison.faults.join("\n")) }
}

/// Returns the parameters of POST and PUT.
fn parameters(folder: &Path, major: u32) -> Map<String, Value> {
    let file = std::fs::File::open(folder.join(format!("pve-api/pve{major}.json.gz"))).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let of = |path: &str, method: &str| schema[path][method]["parameters"]["properties"].as_object().cloned();
    let mut all = of("/nodes/{node}/qemu", "POST").unwrap();
    all.extend(of("/nodes/{node}/qemu/{vmid}/config", "PUT").unwrap());
    assert!(all.len() > 90, "{}", all.len());
    all
}

struct Comparison {
    version: PveVersion,
    faults: Vec<String>,
    used: BTreeSet<(&'static str, &'static str)>,
}

impl Comparison {
    fn fault(&mut self, place: &str, what: &str, detail: String) {
        let of_version = format!("{what} ({})", self.version.major);
        let is_at =
            |at: &str| at == place || at.strip_prefix('*').is_some_and(|field| place.ends_with(field));
        let known =
            EXCEPTIONS.iter().find(|(at, which, _)| is_at(at) && (*which == what || *which == of_version));
        match known {
            Some((at, which, _)) => drop(self.used.insert((at, which))),
            None => self.faults.push(format!("{place}: {what}: {detail}")),
        }
    }

    fn all(&mut self, parameters: &Map<String, Value>) {
        let mut seen = BTreeSet::new();
        for (name, schema) in parameters {
            if NO_KEYS.iter().any(|(known, _)| known == name) {
                continue;
            }
            let (stem, numbered) = match name.strip_suffix("[n]") {
                Some(stem) => (stem, true),
                None => (name.as_str(), false),
            };
            // `efidisk0` and `tpmstate0` are the only ones of their kind.
            let is_it = |key: &&Key| match (numbered, key.count) {
                (true, 2..) => key.name == stem,
                (false, 0) => key.name == stem,
                (false, 1) => format!("{}0", key.name) == stem,
                _ => false,
            };
            match known_keys(self.version).find(is_it) {
                Some(key) => {
                    seen.insert((key.name, key.count));
                    self.key(name, key, schema);
                }
                None => self.fault(name, "unknown", "the table does not have it".to_owned()),
            }
        }
        for key in all_keys().iter().filter(|key| !seen.contains(&(key.name, key.count))) {
            let is_known = self.version.at_least(key.since.0, key.since.1);
            if is_known {
                self.fault(key.name, "extra", "the schema does not have it".to_owned());
            }
        }
    }

    fn key(&mut self, name: &str, key: &'static Key, schema: &Value) {
        match (key.shape, &schema["format"], schema["typetext"].as_str()) {
            (Shape::Properties(fields), Value::Object(format), _) => self.properties(name, fields, format),
            (Shape::Properties(fields), _, Some(text)) => self.typetext(name, fields, text),
            (shape, Value::Object(_), _) => {
                self.fault(name, "shape", format!("{shape:?} for a property string"))
            }
            (shape, ..) => {
                self.value(name, shape, schema);
                self.default(name, shape, key.default, schema);
            }
        }
    }

    fn properties(&mut self, name: &str, fields: &'static [Field], format: &Map<String, Value>) {
        let known = |field: &&Field, version: PveVersion| {
            version.at_least(field.since.0, field.since.1)
                && field.until.is_none_or(|(major, minor)| !version.at_least(major, minor))
        };
        let mut seen = BTreeSet::new();
        for (part, schema) in format {
            let place = format!("{name}.{part}");
            if let Some(target) = schema["keyAlias"].as_str() {
                let models = fields.iter().find(|field| field.name == target).map(|field| field.shape);
                let takes = matches!(models, Some(Shape::Choice(words)) if words.contains(&part.as_str()));
                if !takes {
                    self.fault(&place, "key alias", "the table does not have it".to_owned());
                }
                continue;
            }
            let found = fields.iter().filter(|field| known(field, self.version));
            let found =
                found.into_iter().find(|field| field.name == part || field.aliases.contains(&part.as_str()));
            let Some(field) = found else {
                self.fault(&place, "unknown", "the table does not have it".to_owned());
                continue;
            };
            seen.insert(field.name);
            if schema["alias"].is_string() {
                continue;
            }
            if (schema["default_key"] == 1) != field.is_default {
                self.fault(&place, "default key", format!("{}", field.is_default));
            }
            self.value(&place, field.shape, schema);
            self.default(&place, field.shape, field.default, schema);
        }
        let version = self.version;
        for field in fields.iter().filter(|field| known(field, version) && !seen.contains(field.name)) {
            self.fault(&format!("{name}.{}", field.name), "extra", "the schema does not have it".to_owned());
        }
    }

    /// What a property string's text of its types tells: `[[type=]<a|b>] [,size=<integer>]`.
    fn typetext(&mut self, name: &str, fields: &'static [Field], text: &str) {
        let mut told: BTreeMap<&str, (bool, &str)> = BTreeMap::new();
        // A kind may hold blanks (`<hex id>`), parts are set apart by ` [`.
        let parts = text.replace(" ,", " [,");
        for part in parts.split(" [") {
            let part = part.trim().trim_start_matches(['[', ',']);
            let is_default = part.contains("=]");
            let Some((field, kind)) = part.split_once('=') else {
                self.fault(name, "typetext", part.to_owned());
                continue;
            };
            told.insert(field, (is_default, kind.trim_matches([']', '['])));
        }
        for (part, (is_default, kind)) in told.clone() {
            let place = format!("{name}.{part}");
            let Some(field) = fields.iter().find(|field| field.name == part) else {
                self.fault(&place, "unknown", "the table does not have it".to_owned());
                continue;
            };
            if field.is_default != is_default {
                self.fault(&place, "default key", format!("{}", field.is_default));
            }
            let fits = match (kind, field.shape) {
                ("<1|0>", shape) => shape == Shape::Bool,
                ("<integer>" | "\\d+", shape) => matches!(shape, Shape::Integer(..)),
                ("<number>", shape) => matches!(shape, Shape::Number(..)),
                ("<volume>", shape) => shape == Shape::Volume,
                ("<enum>", Shape::Choice(_) | Shape::Text) => true,
                (kind, Shape::Choice(words)) => {
                    kind.trim_matches(['<', '>']).split('|').collect::<BTreeSet<_>>()
                        == words.iter().copied().collect()
                }
                (
                    _,
                    Shape::Text
                    | Shape::Folded
                    | Shape::WordSet
                    | Shape::WordList
                    | Shape::NumberSet
                    | Shape::Address
                    | Shape::PciAddresses,
                ) => true,
                _ => false,
            };
            if !fits {
                self.fault(&place, "type", format!("{:?} for {kind}", field.shape));
            }
        }
        let version = self.version;
        for field in fields {
            let is_known = version.at_least(field.since.0, field.since.1)
                && field.until.is_none_or(|(major, minor)| !version.at_least(major, minor));
            if is_known != told.contains_key(field.name) {
                let what = if is_known { "extra" } else { "too new" };
                self.fault(&format!("{name}.{}", field.name), what, format!("told: {text}"));
            }
        }
    }

    fn value(&mut self, place: &str, shape: Shape, schema: &Value) {
        if let Some(words) = schema["enum"].as_array() {
            let words: BTreeSet<&str> = words.iter().filter_map(Value::as_str).collect();
            match shape {
                Shape::Choice(ours) if ours.iter().copied().collect::<BTreeSet<_>>() == words => {}
                shape => self.fault(place, "words", format!("{shape:?} for {words:?}")),
            }
            return;
        }
        let number = |bound: &str| match &schema[bound] {
            Value::String(text) => text.parse().ok(),
            value => value.as_f64(),
        };
        let (least, most) = (number("minimum"), number("maximum"));
        match (schema["type"].as_str().unwrap_or("string"), shape) {
            ("boolean", Shape::Bool) => {}
            ("integer", Shape::Integer(min, max)) => {
                let max = (max != i64::MAX).then_some(max as f64);
                self.range(place, (Some(min as f64), max), (least, most));
            }
            ("number", Shape::Number(min, max)) => {
                self.range(place, (Some(min), (max != f64::MAX).then_some(max)), (least, most));
            }
            ("string", Shape::Bool | Shape::Integer(..) | Shape::Number(..) | Shape::Choice(_))
            | ("boolean" | "integer" | "number", _) => {
                self.fault(place, "type", format!("{shape:?} for {}", schema["type"]));
            }
            _ => {}
        }
    }

    fn range(&mut self, place: &str, ours: (Option<f64>, Option<f64>), theirs: (Option<f64>, Option<f64>)) {
        // A count or a rate without a least one is still none below zero.
        let least = theirs.0.or(Some(0.0));
        if (least, theirs.1) != ours {
            self.fault(place, "range", format!("{ours:?} for {theirs:?}"));
        }
    }

    fn default(&mut self, place: &str, shape: Shape, ours: Option<&str>, schema: &Value) {
        let theirs = match &schema["default"] {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            value => Some(value.to_string()),
        };
        // What is off where nothing is said is the same as what has no default.
        let is_off = |text: Option<&str>| shape == Shape::Bool && matches!(text, None | Some("0"));
        if ours == theirs.as_deref() || (is_off(ours) && is_off(theirs.as_deref())) {
            return;
        }
        self.fault(place, "default", format!("{ours:?} for {theirs:?}"));
    }
}
