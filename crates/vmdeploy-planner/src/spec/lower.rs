//! From the spec's keys to PVE's options: what the table says, carried out.

use super::diagnostic::Span;
use super::faults::Path;
use super::model::{DesiredField, DesiredFields, DesiredOption, OptionValue};
use super::scalar::{parse_bool, parse_duration};
use super::schema::{Field, Kind, Lower, Object, Pve};
use super::tree::{Node, Shape};
use super::view::{View, plain_number, size};
use pve_config::PropertyString;
use std::collections::BTreeMap;

/// Options by PVE's key.
pub(crate) type Options = BTreeMap<String, DesiredOption>;

/// Lowers all keys of an object that are options of PVE, or parts of one.
pub(crate) fn lower_options(view: &View<'_>, object: &'static Object, path: Path<'_>, options: &mut Options) {
    for (field, value) in view.present(object) {
        let path = path.key(field.key);
        match (field.pve, &field.kind) {
            (Pve::Option(key), _) => set_option(options, key, &value, field, path),
            (Pve::Part(key, part), _) => set_part(options, key, part, &value, field, path),
            (Pve::Devices(_), kind) => lower_devices(&value, kind, path, options),
            (Pve::None, Kind::Object(inner)) if value.is_null() => remove_all(&value, inner, path, options),
            (Pve::None, Kind::Object(inner)) => lower_options(&value, inner, path, options),
            _ => {}
        }
    }
}

/// Lowers the keys of an object that is a device to the fields of its property string.
pub(crate) fn lower_device(
    view: &View<'_>,
    object: &'static Object,
    path: Path<'_>,
    fields: &mut DesiredFields,
) {
    for (field, value) in view.present(object) {
        let path = path.key(field.key);
        match (field.pve, &field.kind) {
            (Pve::OfDevice(part), _) => {
                let text = lower_value(value.top(), field);
                if value.is_null() || text.is_some() {
                    let desired = DesiredField { path: path.to_string(), span: value.span(), value: text };
                    fields.insert(part.to_owned(), desired);
                }
            }
            (Pve::None, Kind::Object(inner)) if !value.is_null() => lower_device(&value, inner, path, fields),
            _ => {}
        }
    }
}

fn set_option(options: &mut Options, key: &str, value: &View<'_>, field: &Field, path: Path<'_>) {
    let desired = match lower_value(value.top(), field) {
        _ if value.is_null() => OptionValue::Remove,
        Some(text) => OptionValue::Whole(text),
        None => return,
    };
    options
        .insert(key.to_owned(), DesiredOption { path: path.to_string(), span: value.span(), value: desired });
}

fn set_part(options: &mut Options, key: &str, part: &str, value: &View<'_>, field: &Field, path: Path<'_>) {
    let text = lower_value(value.top(), field);
    if text.is_none() && !value.is_null() {
        return;
    }
    let (path, span) = (path.to_string(), value.span());
    let whole_path = path.rsplit_once('.').map_or(path.as_str(), |(outer, _)| outer).to_owned();
    let option = options.entry(key.to_owned()).or_insert_with(|| DesiredOption {
        path: whole_path,
        span,
        value: OptionValue::Fields(BTreeMap::new()),
    });
    if let OptionValue::Fields(fields) = &mut option.value {
        if field.lower == Lower::Base64 && text.is_some() {
            let flag = DesiredField { path: path.clone(), span, value: Some("1".to_owned()) };
            fields.insert("base64".to_owned(), flag);
        }
        fields.insert(part.to_owned(), DesiredField { path, span, value: text });
    }
}

/// Lowers devices by slot.
fn lower_devices(view: &View<'_>, kind: &'static Kind, path: Path<'_>, options: &mut Options) {
    let Kind::Map(rule, kind, _) = kind else { return };
    for (slot, span, value) in view.entries() {
        if (rule.check)(slot).is_err() {
            continue;
        }
        let path = path.key(slot);
        let desired = match kind {
            _ if value.is_null() => OptionValue::Remove,
            Kind::Object(object) => {
                let mut fields = DesiredFields::new();
                lower_device(&value, object, path, &mut fields);
                OptionValue::Fields(fields)
            }
            _ => match value.text() {
                Some(text) => OptionValue::Whole(text.value.to_owned()),
                None => continue,
            },
        };
        options.insert(slot.to_owned(), DesiredOption { path: path.to_string(), span, value: desired });
    }
}

/// Removes every option that the object's keys would set.
fn remove_all(view: &View<'_>, object: &'static Object, path: Path<'_>, options: &mut Options) {
    for field in object.fields {
        match (field.pve, &field.kind) {
            (Pve::Option(key) | Pve::Part(key, _), _) => {
                let desired =
                    DesiredOption { path: path.to_string(), span: view.span(), value: OptionValue::Remove };
                options.insert(key.to_owned(), desired);
            }
            (Pve::None, Kind::Object(inner)) => remove_all(view, inner, path, options),
            _ => {}
        }
    }
}

/// Returns a value as PVE writes it; nothing for what the check has refused.
fn lower_value(node: Node<'_>, field: &Field) -> Option<String> {
    if let Shape::List = node.shape() {
        let words: Vec<&str> = node.items().filter_map(Node::text).collect();
        let by = if let Lower::Join(by) = field.lower { by } else { "," };
        return Some(words.join(by));
    }
    lower_text(node.text()?, field)
}

fn lower_text(text: &str, field: &Field) -> Option<String> {
    match field.lower {
        Lower::Mib if text == "false" => Some("0".to_owned()),
        Lower::Mib => size(text).and_then(|size| size.as_whole_mib()).map(|mib| mib.to_string()),
        Lower::Seconds => parse_duration(text).map(|time| time.as_secs().to_string()),
        Lower::OnIgnore => parse_bool(text).map(|truth| if truth { "on" } else { "ignore" }.to_owned()),
        Lower::Percent => Some(percent_encode(text)),
        Lower::Base64 => Some(base64(text.as_bytes())),
        Lower::Prefix(prefix) => Some(format!("{prefix}{text}")),
        Lower::Plain | Lower::Join(_) => match &field.kind {
            Kind::Bool => parse_bool(text).map(|truth| u8::from(truth).to_string()),
            Kind::Number(..) => plain_number(text),
            Kind::OneOf(kinds)
                if text == "false" && kinds.iter().any(|kind| matches!(kind, Kind::Only(false))) =>
            {
                Some("0".to_owned())
            }
            Kind::Int(..) => text.parse::<i64>().ok().map(|number| number.to_string()),
            _ => Some(text.to_owned()),
        },
    }
}

/// Encodes all but letters, digits and `-_.~`, so that it can stand in a property string.
// PVE: pve-common src/PVE/JSONSchema.pm, format urlencoded: `^[-%a-zA-Z0-9_.!~*'()]*$`.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = (group >> (18 - 6 * at)) & 63;
            text.push(if at > chunk.len() { '=' } else { char::from(DIGITS[digit as usize]) });
        }
    }
    text
}

/// Returns the text that is encoded; `None` where it is no base64, or no text.
pub(crate) fn from_base64(encoded: &str) -> Option<String> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u32> =
        encoded.trim_end_matches('=').bytes().map(|c| digit(c).map(u32::from)).collect::<Option<_>>()?;
    let mut bytes = Vec::with_capacity(digits.len());
    for group in digits.chunks(4) {
        let bits = group.iter().enumerate().fold(0_u32, |bits, (at, digit)| bits | digit << (18 - 6 * at));
        let [_, one, two, three] = bits.to_be_bytes();
        bytes.extend(&[one, two, three][..group.len().checked_sub(1)?]);
    }
    String::from_utf8(bytes).ok()
}

/// Returns an `smbios1` with all its texts in base64, the only form that takes every text.
// PVE: qemu-server src/PVE/QemuServer.pm: `base64` says whether the texts are encoded.
pub(crate) fn smbios_in_base64(value: &PropertyString) -> PropertyString {
    let mut encoded = value.clone();
    let texts: Vec<(String, String)> = value
        .iter()
        .filter(|(name, _)| !matches!(*name, "uuid" | "base64"))
        .map(|(name, text)| (name.to_owned(), base64(text.as_bytes())))
        .collect();
    if value.flag("base64") != Some(true) && !texts.is_empty() {
        texts.into_iter().for_each(|(name, text)| encoded.set(name, text));
        encoded.set("base64", "1");
    }
    encoded
}

/// Returns a desired for a field that the spec does not say itself, at the place of what implies it.
pub(crate) fn implied(path: Path<'_>, span: Span, value: &str) -> DesiredField {
    DesiredField { path: path.to_string(), span, value: Some(value.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_those_of_pve() {
        assert_eq!(percent_encode("a b+c/é"), "a%20b%2Bc%2F%C3%A9");
        for (plain, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), encoded);
            assert_eq!(from_base64(encoded).as_deref(), Some(plain));
        }
    }
}
