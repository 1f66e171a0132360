//! Plain values: booleans, numbers, words, percent-encoding.

use crate::keys::Shape;
use pve_types::Bytes;

/// Parses a boolean as PVE does.
// PVE: pve-common src/PVE/JSONSchema.pm parse_boolean.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "yes" | "true" => Some(true),
        "0" | "off" | "no" | "false" => Some(false),
        _ => None,
    }
}

/// Returns a text that is equal for two values exactly when they mean the same.
pub(crate) fn normal_form(shape: Shape, text: &str) -> String {
    let text = text.trim();
    match shape {
        Shape::Bool => parse_bool(text).map_or_else(|| text.to_owned(), |truth| u8::from(truth).to_string()),
        Shape::Integer(..) => {
            text.parse::<i64>().map_or_else(|_| text.to_owned(), |number| number.to_string())
        }
        Shape::Number(..) => {
            text.parse::<f64>().map_or_else(|_| text.to_owned(), |number| number.to_string())
        }
        Shape::Size => {
            Bytes::from_pve_size(text).map_or_else(|_| text.to_owned(), |size| size.get().to_string())
        }
        Shape::Folded | Shape::Mac => text.to_ascii_lowercase(),
        Shape::WordSet => word_set(text),
        Shape::WordList => words(text).collect::<Vec<_>>().join(" "),
        Shape::NumberSet => number_set(text).unwrap_or_else(|| word_set(text)),
        Shape::Address => address(text).unwrap_or_else(|| text.to_ascii_lowercase()),
        Shape::PciAddresses => pci_addresses(text),
        Shape::Percent => {
            percent_decode(text).map_or_else(|| text.to_owned(), |text| text.trim_end().to_owned())
        }
        Shape::Secret => String::new(),
        Shape::Choice(_) | Shape::Text | Shape::Lines | Shape::Volume | Shape::Properties(_) => {
            text.to_owned()
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ';' || c == ',' || c.is_whitespace()).filter(|word| !word.is_empty())
}

fn word_set(text: &str) -> String {
    let set: std::collections::BTreeSet<_> = words(text).map(str::to_lowercase).collect();
    set.into_iter().collect::<Vec<_>>().join(";")
}

/// The most numbers that a set of them is spelled out to; no node has more CPUs.
const NUMBERS: u32 = 8192;

/// Returns the numbers of `0-3;8`, spelled out; `None` where something else is among them.
fn number_set(text: &str) -> Option<String> {
    let mut set = std::collections::BTreeSet::new();
    for word in words(text) {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= NUMBERS {
            return None;
        }
        set.extend(first..=last);
    }
    Some(set.iter().map(u32::to_string).collect::<Vec<_>>().join(";"))
}

fn address(text: &str) -> Option<String> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address: std::net::IpAddr = address.parse().ok()?;
    Some(prefix.map_or_else(|| address.to_string(), |prefix| format!("{address}/{prefix}")))
}

// PVE: qemu-server src/PVE/QemuServer/PCI.pm parse_hostpci: an address without a domain is in domain 0000.
fn pci_addresses(text: &str) -> String {
    let full = |word: &str| {
        let word = word.to_ascii_lowercase();
        if word.split('.').next().unwrap_or_default().matches(':').count() == 1 {
            format!("0000:{word}")
        } else {
            word
        }
    };
    words(text).map(full).collect::<Vec<_>>().join(";")
}

/// Decodes `%XX`; `None` where a `%` is not followed by two digits, or the bytes are no UTF-8.
pub fn percent_decode(text: &str) -> Option<String> {
    let is_hex =
        |rest: &str| rest.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    let is_whole = text.split('%').skip(1).all(is_hex);
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8().ok().filter(|_| is_whole)?;
    Some(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings_are_compared_and_not_spellings() {
        let check =
            |shape, a: &str, b: &str| assert_eq!(normal_form(shape, a), normal_form(shape, b), "{a} = {b}");
        check(Shape::Bool, "on", "1");
        check(Shape::Integer(0, 9), "07", "7");
        check(Shape::Number(0.0, 9.0), "2", "2.00");
        check(Shape::Size, "1G", "1024M");
        check(Shape::WordSet, "b;A", "a, b b");
        check(Shape::WordList, "1.1.1.1,8.8.8.8", "1.1.1.1 8.8.8.8");
        check(Shape::Percent, "ssh-rsa%20A%0A", "ssh-rsa%20A");
        check(Shape::NumberSet, "0-3,8", "8;3;2;1;0");
        check(Shape::Address, "FD00:0::0005/64", "fd00::5/64");
        check(Shape::Address, "DHCP", "dhcp");
        check(Shape::PciAddresses, "01:00.0;02:00", "0000:01:00.0;0000:02:00");
        check(Shape::Mac, "bc:24:11:00:00:01", "BC:24:11:00:00:01");
        assert_ne!(normal_form(Shape::WordList, "a b"), normal_form(Shape::WordList, "b a"));
        assert_ne!(normal_form(Shape::NumberSet, "0-3"), normal_form(Shape::NumberSet, "0-4"));
        assert_ne!(normal_form(Shape::Address, "10.0.0.1/24"), normal_form(Shape::Address, "10.0.0.1"));
    }

    #[test]
    fn broken_percent_encoding_is_noticed() {
        assert_eq!(percent_decode("a%20b").as_deref(), Some("a b"));
        for text in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(percent_decode(text), None, "{text}");
        }
    }
}
