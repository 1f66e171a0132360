//! From PVE's options back to the spec's keys: the way of `lower`, backwards, for guests that are adopted.

use super::schema::{Field, Kind, Lower, Object, Pve};
use pve_config::PropertyString;

pub(crate) use super::schema::{AGENT, EFI, MACHINE, NUMA_NODE, PCI, TPM, USB, VGA, VIRTIOFS};

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
    let mut raised = Raised { fields: Vec::new(), rest: Vec::new() };
    let mut said = Vec::new();
    for field in object.fields {
        let (Pve::OfDevice(part) | Pve::Part(_, part)) = field.pve else { continue };
        match value.get(part).and_then(|text| yaml(field, text, value.flag(part))) {
            Some(text) => {
                raised.fields.push(format!("{}: {text}", field.key));
                said.push((field.key, part));
            }
            None if field.required => return None,
            None => {}
        }
    }
    let one_of = object.exactly_one.iter().filter(|key| said.iter().any(|(name, _)| name == *key)).count();
    if !object.exactly_one.is_empty() && one_of != 1 {
        return None;
    }
    let unsaid = value.iter().filter(|(name, _)| !said.iter().any(|(_, part)| part == name));
    raised.rest = unsaid.map(|(name, text)| format!("{name}={text}")).collect();
    Some(raised)
}

/// Returns a field's value as YAML, if the spec takes it.
fn yaml(field: &Field, text: &str, flag: Option<bool>) -> Option<String> {
    match (field.lower, &field.kind) {
        (Lower::Plain, Kind::Bool) => flag.map(|truth| truth.to_string()),
        (Lower::Plain, Kind::Int(min, max)) => {
            let number = text.parse::<i64>().ok().filter(|number| (*min..=*max).contains(number))?;
            Some(number.to_string())
        }
        (Lower::Plain, Kind::Choice(words)) => words.contains(&text).then(|| quoted(text)),
        (Lower::Plain, Kind::Text(rule)) => (rule.check)(text).is_ok().then(|| quoted(text)),
        (Lower::Mib, Kind::Size(min, max, _)) => {
            let mib = text.parse::<u64>().ok()?;
            let fits = mib.checked_mul(1 << 20).is_some_and(|bytes| (*min..=*max).contains(&bytes));
            fits.then(|| format!("{mib}MiB"))
        }
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
        check(&VGA, "vga", "qxl,memory=64", Some(("type: \"qxl\", memory: 64MiB", "")));
        check(&MACHINE, "machine", "type=isapc,brandnew=1", Some(("", "brandnew=1,type=isapc")));
        check(&AGENT, "agent", "1,type=isa", Some(("enabled: true, type: \"isa\"", "")));
        check(&NUMA_NODE, "numa0", "cpus=0,memory=2048.5", Some(("cpus: \"0\"", "memory=2048.5")));
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
