//! From PVE's options back to the spec's keys: the way of `lower`, backwards, for guests that are adopted.

use super::scalar::{parse_duration, parse_number};
use super::schema::{Field, Kind, Lower, Object, Pve};
use pve_config::PropertyString;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) use super::schema::{CLOUD_INIT, DISK, EFI, NIC, NUMA_NODE, PCI, SMBIOS, TPM, USB, VIRTIOFS, VM};

/// Returns the keys of an object that are options of PVE, or parts of one, with their values as YAML; without those that
/// are `skipped`.
///
/// What is said is taken from `values`; of an option that is said in part, the rest goes to `unsaid`, as PVE writes it.
pub(crate) fn raise_options(
    object: &'static Object,
    skipped: &[&str],
    values: &mut BTreeMap<String, String>,
    unsaid: &mut Vec<String>,
) -> Vec<(&'static str, String)> {
    let mut said = SaidParts::new();
    let keys = options_of(object, skipped, values, &mut said);
    for (key, parts) in said {
        let Some(Ok(value)) = values.remove(key).map(|text| PropertyString::parse(key, &text)) else {
            continue;
        };
        let rest = value.iter().filter(|(name, _)| !parts.contains(name));
        let rest: Vec<String> = rest.map(|(name, text)| format!("{name}={text}")).collect();
        if !rest.is_empty() {
            unsaid.push(format!("{key}: {}", rest.join(",")));
        }
    }
    keys
}

/// The parts of each option that are said.
type SaidParts = BTreeMap<&'static str, BTreeSet<&'static str>>;

fn options_of(
    object: &'static Object,
    skipped: &[&str],
    values: &mut BTreeMap<String, String>,
    said: &mut SaidParts,
) -> Vec<(&'static str, String)> {
    let mut keys = Vec::new();
    for field in object.fields.iter().filter(|field| !skipped.contains(&field.key)) {
        let text = match (field.pve, &field.kind) {
            (Pve::Option(key), _) => {
                let text = values.get(key).and_then(|text| yaml(field, text, truth(text)));
                if text.is_some() {
                    values.remove(key);
                }
                text
            }
            (Pve::Part(key, part), _) => {
                let value = values.get(key).and_then(|text| PropertyString::parse(key, text).ok());
                let text = value.and_then(|value| yaml(field, value.get(part)?, value.flag(part)));
                if text.is_some() {
                    said.entry(key).or_default().insert(part);
                }
                text
            }
            (Pve::None, Kind::Object(inner)) => in_short(inner, options_of(inner, &[], values, said)),
            _ => None,
        };
        keys.extend(text.map(|text| (field.key, text)));
    }
    keys
}

/// Returns a map, or the scalar that stands for it.
fn in_short(object: &'static Object, fields: Vec<(&'static str, String)>) -> Option<String> {
    match fields.as_slice() {
        [] => None,
        [(key, text)] if object.shorthand == Some(*key) => Some(text.clone()),
        _ => {
            let fields: Vec<String> =
                fields.into_iter().map(|(key, text)| format!("{key}: {text}")).collect();
            Some(format!("{{{}}}", fields.join(", ")))
        }
    }
}

/// Returns the boolean value of a whole option.
fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "on" | "yes" | "true" => Some(true),
        "0" | "off" | "no" | "false" => Some(false),
        _ => None,
    }
}

/// A property string of PVE in the words of the spec.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Raised {
    /// The spec's keys with their values, as YAML.
    pub(crate) fields: Vec<String>,
    /// The fields that the spec has no word for, as PVE writes them.
    pub(crate) rest: Vec<String>,
}

/// Returns what the spec can say of a device, or of an option that has an object to itself; `None` where it cannot say
/// what must be said.
pub(crate) fn raised(object: &'static Object, value: &PropertyString) -> Option<Raised> {
    let mut said = BTreeSet::new();
    let fields = fields_of(object, value, &mut said)?;
    let unsaid = value.iter().filter(|(name, _)| !said.contains(name));
    Some(Raised { fields, rest: unsaid.map(|(name, text)| format!("{name}={text}")).collect() })
}

/// Returns the keys of an object, and notes the parts of the value that they say.
fn fields_of(
    object: &'static Object,
    value: &PropertyString,
    said: &mut BTreeSet<&'static str>,
) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut keys = Vec::new();
    for field in object.fields {
        match (field.pve, &field.kind) {
            (Pve::OfDevice(part) | Pve::Part(_, part), _) => {
                match value.get(part).and_then(|text| yaml(field, text, value.flag(part))) {
                    Some(text) => {
                        fields.push(format!("{}: {text}", field.key));
                        keys.push(field.key);
                        said.insert(part);
                    }
                    None if field.required => return None,
                    None => {}
                }
            }
            (Pve::None, Kind::Object(inner)) => {
                let inner = fields_of(inner, value, said)?;
                if !inner.is_empty() {
                    fields.push(format!("{}: {{{}}}", field.key, inner.join(", ")));
                }
            }
            _ => {}
        }
    }
    let one_of = object.exactly_one.iter().filter(|key| keys.contains(*key)).count();
    (object.exactly_one.is_empty() || one_of == 1).then_some(fields)
}

/// Returns a field's value as YAML, if the spec takes it.
fn yaml(field: &Field, text: &str, flag: Option<bool>) -> Option<String> {
    match (field.lower, &field.kind) {
        (Lower::Plain, Kind::Bool) => flag.map(|truth| truth.to_string()),
        (Lower::OnIgnore, Kind::Bool) => match text {
            "on" => Some("true".to_owned()),
            "ignore" => Some("false".to_owned()),
            _ => None,
        },
        (Lower::Plain, kind) => plain(kind, text),
        (Lower::Join(by), Kind::List(item) | Kind::OneOrMany(item)) => list(item, text, by),
        (Lower::Join(by), Kind::OneOf(kinds)) => kinds.iter().find_map(|kind| match kind {
            Kind::Only(false) => (text == "0").then(|| "false".to_owned()),
            Kind::List(item) => list(item, text, by),
            _ => None,
        }),
        (Lower::Percent, kind) => plain(kind, &pve_config::percent_decode(text)?),
        (Lower::Base64, kind) => plain(kind, &super::lower::from_base64(text)?),
        (Lower::Prefix(prefix), kind) => plain(kind, text.strip_prefix(prefix)?),
        (Lower::Seconds, Kind::Duration) => {
            let written = format!("{}s", text.parse::<u64>().ok()?);
            parse_duration(&written).map(|_| written)
        }
        (Lower::Mib, Kind::Size(min, max, _)) => mib(text, *min, *max),
        (Lower::Mib, Kind::OneOf(kinds)) => kinds.iter().find_map(|kind| match kind {
            Kind::Only(false) => (text == "0").then(|| "false".to_owned()),
            Kind::Size(min, max, _) => mib(text, *min, *max),
            _ => None,
        }),
        _ => None,
    }
}

fn list(item: &Kind, text: &str, by: &str) -> Option<String> {
    let items: Option<Vec<String>> = text.split(by).map(|text| plain(item, text)).collect();
    items.map(|items| format!("[{}]", items.join(", ")))
}

fn mib(text: &str, min: u64, max: u64) -> Option<String> {
    let mib = text.parse::<u64>().ok()?;
    let fits = mib.checked_mul(1 << 20).is_some_and(|bytes| (min..=max).contains(&bytes));
    fits.then(|| format!("{mib}MiB"))
}

/// Returns a value that stands in PVE as it stands in the spec.
fn plain(kind: &Kind, text: &str) -> Option<String> {
    match kind {
        Kind::Int(min, max) => {
            let number = text.parse::<i64>().ok().filter(|number| (*min..=*max).contains(number))?;
            Some(number.to_string())
        }
        Kind::Number(min, max) => {
            let fits = parse_number(text).is_some_and(|number| (*min..=*max).contains(&number));
            fits.then(|| text.to_owned())
        }
        Kind::Choice(words) => words.contains(&text).then(|| quoted(text)),
        Kind::Text(rule) => (rule.check)(text).is_ok().then(|| quoted(text)),
        Kind::OneOf(kinds) => kinds.iter().find_map(|kind| plain(kind, text)),
        _ => None,
    }
}

/// Returns a text as YAML takes it in double quotes; JSON's are YAML's.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the object that a key of a VM takes.
    fn of(key: &str) -> &'static Object {
        match VM.field(key).map(|field| &field.kind) {
            Some(Kind::Object(object)) => object,
            other => panic!("{key}: {other:?}"),
        }
    }

    #[track_caller]
    fn check(object: &'static Object, key: &str, text: &str, expect: Option<(&str, &str)>) {
        let raised = raised(object, &PropertyString::parse(key, text).unwrap());
        let told = raised.map(|raised| (raised.fields.join(", "), raised.rest.join(",")));
        let expect = expect.map(|(fields, rest)| (fields.to_owned(), rest.to_owned()));
        assert_eq!(told, expect, "{text}");
    }

    #[test]
    fn a_device_is_said_in_the_spec_s_words_and_what_it_has_no_word_for_is_left() {
        check(
            &PCI,
            "hostpci0",
            "mapping=gpu,pcie=1,rombar=off,brandnew=1",
            Some(("mapping: \"gpu\", pcie: true, rombar: false", "brandnew=1")),
        );
        check(&PCI, "hostpci0", "0000:01:00,x-vga=7", Some(("host: \"0000:01:00\"", "x-vga=7")));
        check(&USB, "usb0", "spice,usb3=1", Some(("host: \"spice\", usb3: true", "")));
        check(&VIRTIOFS, "virtiofs0", "share,cache=often", Some(("mapping: \"share\"", "cache=often")));
        check(
            &NUMA_NODE,
            "numa0",
            "cpus=0-3,memory=2048,policy=bind",
            Some(("cpus: \"0-3\", memory: 2048MiB, policy: \"bind\"", "")),
        );
        check(&EFI, "efidisk0", "efitype=4m,ms-cert=2029", Some(("type: \"4m\"", "ms-cert=2029")));
    }

    #[test]
    fn an_option_is_said_in_part_where_the_spec_has_no_word_for_the_rest() {
        let check = |key: &str, option: &str, text: &str, expect: &str, left: &str| {
            let mut values = BTreeMap::from([(option.to_owned(), text.to_owned())]);
            let mut unsaid = Vec::new();
            let said = raise_options(of(key), &[], &mut values, &mut unsaid);
            let said: Vec<String> = said.into_iter().map(|(key, text)| format!("{key}: {text}")).collect();
            unsaid.extend(values.into_iter().map(|(key, text)| format!("{key}: {text}")));
            assert_eq!((said.join(", "), unsaid.join(" ")), (expect.to_owned(), left.to_owned()), "{text}");
        };
        check("vga", "vga", "qxl,memory=64", "type: \"qxl\", memory: 64MiB", "");
        check("machine", "machine", "type=isapc,brandnew=1", "", "machine: type=isapc,brandnew=1");
        check("machine", "machine", "q35,brandnew=1", "type: \"q35\"", "machine: brandnew=1");
        check("agent", "agent", "1,type=isa", "enabled: true, type: \"isa\"", "");
        check("startup", "startup", "order=3,up=90", "order: 3, up: 90s", "");
        check(
            "rng",
            "rng0",
            "source=/dev/urandom,max_bytes=1024",
            "source: \"urandom\", max_bytes: 1024",
            "",
        );
        check("memory", "balloon", "0", "balloon: false", "");
        check("memory", "hugepages", "1024", "hugepages: \"1024\"", "");
        check(
            "cpu",
            "cpu",
            "host,flags=+aes;-pcid,hidden=1",
            "type: \"host\", flags: [\"+aes\", \"-pcid\"], hidden: true",
            "",
        );
    }

    #[test]
    fn numa_nodes_need_whole_sizes() {
        check(&NUMA_NODE, "numa0", "cpus=0,memory=2048.5", Some(("cpus: \"0\"", "memory=2048.5")));
    }

    #[test]
    fn a_drive_and_a_nic_are_said_with_all_their_options() {
        check(
            &DISK,
            "scsi0",
            "discard=ignore,iops_wr_max=5000,mbps_rd=100.5,serial=a%20b,ssd=1,wwn=0x5000c500a0b1c2d3,serialx=1",
            Some((
                "discard: false, ssd: true, serial: \"a b\", wwn: \"0x5000c500a0b1c2d3\", \
                 throttle: {read_mbps: 100.5, write_iops_max: 5000}",
                "serialx=1",
            )),
        );
        check(
            &DISK,
            "scsi0",
            "discard=maybe,serial=%zz,mbps_rd=1e3",
            Some(("", "discard=maybe,mbps_rd=1e3,serial=%zz")),
        );
        check(
            &NIC,
            "net0",
            "virtio=BC:24:11:00:00:01,bridge=vmbr0,mtu=1,trunks=1;5-9,rate=0.5",
            Some((
                "bridge: \"vmbr0\", model: \"virtio\", mac: \"BC:24:11:00:00:01\", trunks: [1, \"5-9\"], mtu: 1, rate: 0.5",
                "",
            )),
        );
        check(&NIC, "net0", "model=e1000,trunks=9-5", Some(("model: \"e1000\"", "trunks=9-5")));
    }

    #[test]
    fn a_device_of_which_the_spec_cannot_say_what_it_is_is_not_said() {
        check(&PCI, "hostpci0", "pcie=1", None);
        check(&PCI, "hostpci0", "mapping=gpu,host=01:00.0", None);
        check(&USB, "usb0", "mapping=a b,usb3=1", None);
        check(&VIRTIOFS, "virtiofs0", "cache=never", None);
        check(&NUMA_NODE, "numa0", "memory=512", None);
    }

    #[test]
    fn texts_cannot_leave_their_quotes() {
        assert_eq!(quoted("a\"b\\\u{1b}\n"), "\"a\\\"b\\\\\\u001b\\n\"");
    }
}
