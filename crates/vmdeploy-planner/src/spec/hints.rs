//! Hints: what the user probably meant, and what to write instead.

use super::scalar::{parse_duration, parse_number};
use super::schema::{Kind, Object, rules};
use super::tree::{Node, Shape};
use pve_types::Bytes;

/// Returns the word that is closest, if one is close.
pub(crate) fn closest<'a>(name: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = |word: &&str| distance(name, word) <= (word.len().max(name.len()) / 3).clamp(1, 3);
    if name.chars().count() > 40 {
        return None;
    }
    words.filter(near).min_by_key(|word| distance(name, word))
}

/// Returns the words that are closest, however far they are; those that share a beginning first.
pub(crate) fn nearest<'a>(name: &str, words: &[&'a str], most: usize) -> Vec<&'a str> {
    let short: String = name.chars().take(40).collect();
    let shared = |word: &str| word.chars().zip(short.chars()).take_while(|(one, other)| one == other).count();
    let mut sorted: Vec<&str> = words.to_vec();
    sorted.sort_by_key(|word| (distance(&short, word), std::cmp::Reverse(shared(word)), *word));
    sorted.truncate(most);
    sorted
}

/// What other tools, and people, call what we call by another word.
const ELSEWHERE: &[(&str, &[&str])] = &[
    ("when-needed", &["if-needed"]),
    ("always", &["if-needed"]),
    ("auto", &["if-needed"]),
    ("allowed", &["if-needed"]),
    ("on", &["running", "started"]),
    ("up", &["running", "started"]),
    ("start", &["running", "started"]),
    ("started", &["running"]),
    ("running", &["started"]),
    ("enabled", &["running", "started"]),
    ("true", &["running", "started"]),
    ("false", &["stopped"]),
    ("off", &["stopped"]),
    ("down", &["stopped"]),
    ("stop", &["stopped"]),
    ("shutdown", &["stopped"]),
    ("uefi", &["ovmf"]),
    ("efi", &["ovmf"]),
    ("bios", &["seabios"]),
    ("legacy", &["seabios"]),
    ("undo", &["rollback"]),
    ("destroy", &["rollback"]),
];

/// Returns which of our words was probably meant: the closest one, or the one for what others call by such a word.
pub(super) fn word_hint(text: &str, words: &[&'static str]) -> String {
    let elsewhere = || {
        let ours = |meant: &[&'static str]| words.iter().copied().find(|word| meant.contains(word));
        let known = ELSEWHERE.iter().filter(|(_, meant)| ours(meant).is_some());
        let lower = text.to_ascii_lowercase();
        let exact = known.clone().find(|(name, _)| *name == lower);
        // Short words are close to too much.
        let near = || closest(&lower, known.clone().map(|(name, _)| *name).filter(|name| name.len() > 4));
        let (_, meant) =
            exact.or_else(|| near().and_then(|near| known.clone().find(|(name, _)| *name == near)))?;
        ours(meant)
    };
    match closest(text, words.iter().copied()).or_else(elsewhere) {
        Some(word) => format!("did you mean `{word}`?"),
        None => "use one of these values".to_owned(),
    }
}

/// Returns how many letters must be changed, added, left out or swapped.
fn distance(one: &str, other: &str) -> usize {
    let fold = |text: &str| text.to_lowercase().replace('-', "_");
    strsim::osa_distance(&fold(one), &fold(other))
}

/// Returns what to write in place of an unknown name.
pub(crate) fn name_hint(name: &str, what: &str, known: &[&str]) -> String {
    match closest(name, known.iter().copied()) {
        Some(close) => format!("did you mean `{close}`?"),
        None if known.is_empty() => format!("the spec has no {what}"),
        None => {
            let shown: Vec<&str> = known.iter().take(8).copied().collect();
            let more = if known.len() > shown.len() { " …" } else { "" };
            format!("the spec has {}{more}", shown.join(", "))
        }
    }
}

/// Returns the map that a disk or a NIC of one word was probably meant to be.
fn device_hint(node: Node<'_>, kind: &Kind) -> Option<String> {
    let Kind::Object(object) = kind else { return None };
    let text = node.text()?;
    match object.name {
        "disk" if text.parse::<Bytes>().is_ok() => Some(format!("write `{{storage: …, size: {text}}}`")),
        "disk" => match text.split_once(':') {
            Some((storage, size))
                if size.parse::<u32>().is_ok() && (rules::STORAGE.check)(storage).is_ok() =>
            {
                Some(format!("write `{{storage: {storage}, size: {size}GiB}}`"))
            }
            _ => None,
        },
        "nic" if (rules::BRIDGE.check)(text).is_ok() => Some(format!("write `{{bridge: {text}}}`")),
        _ => None,
    }
}

/// Returns what to write where a value of quite another shape stands.
pub(super) fn shape_hint(node: Node<'_>, kind: &Kind) -> String {
    if let Some(hint) = device_hint(node, kind) {
        return hint;
    }
    match kind {
        Kind::Object(object) if object.secret => "write its source, such as `{env: NAME}`".to_owned(),
        Kind::Object(object) => format!("write a map, such as `{{{}: …}}`", first_key(object)),
        Kind::List(item) | Kind::OneOrMany(item) => match example(item) {
            Some(item) => format!("write a list, such as `[{item}]`"),
            None => "write a list, `[…]`".to_owned(),
        },
        _ if matches!(node.shape(), Shape::Null) => "write a value, or remove the key".to_owned(),
        _ => "write a single value".to_owned(),
    }
}

fn first_key(object: &'static Object) -> &'static str {
    let required = object.fields.iter().find(|field| field.required).map(|field| field.key);
    // A VM needs no key at all, and each has a node.
    let usual = object.field("node").or(object.fields.first());
    let first = || usual.map_or("", |field| field.key);
    required.or(object.shorthand).or(object.exactly_one.first().copied()).unwrap_or_else(first)
}

/// Returns a value that a kind takes.
pub(super) fn example(kind: &Kind) -> Option<&'static str> {
    match kind {
        Kind::Text(rule) => Some(rule.example),
        Kind::Choice(words) => words.first().copied(),
        Kind::OneOf(kinds) => kinds.iter().find_map(example),
        _ => None,
    }
}

/// Returns what to write where no whole number from `min` to `max` stands.
pub(super) fn number_hint(text: &str, (min, max): (i64, i64)) -> String {
    let in_range = |number: &i64| (min..=max).contains(number);
    let hexadecimal = text.strip_prefix("0x").and_then(|digits| i64::from_str_radix(digits, 16).ok());
    if let Some(number) = hexadecimal.filter(in_range) {
        return format!("write `{number}`");
    }
    match parse_number(text) {
        _ if min == max => format!("write `{min}`"),
        Some(number) if number < min as f64 => format!("the minimum is `{min}`"),
        Some(number) if number > max as f64 => format!("the maximum is `{max}`"),
        Some(number) => format!("write `{}` or `{}`", number.floor(), number.ceil()),
        // PVE: pve-common src/PVE/JSONSchema.pm pve-vmid: 100 to 999999999.
        None if (min, max) == (100, 999_999_999) => "write a VMID, such as `201`".to_owned(),
        None => format!("write digits only, such as `{}`", min.max(1)),
    }
}

/// Returns what to write where no time stands.
pub(super) fn time_hint(text: &str) -> String {
    if let Some(positive) = text.trim().strip_prefix('-').map(str::trim_start) {
        let written = || parse_duration(positive).map(|_| format!("write `{positive}`"));
        if let Some(hint) = unit_hint(positive, &Kind::Duration).or_else(written) {
            return format!("a duration cannot be negative: {hint}");
        }
    }
    let usual = || "write it like `30s`, `5m` or `1h30m`, at most `7d`".to_owned();
    unit_hint(text, &Kind::Duration).unwrap_or_else(usual)
}

/// Returns what a number with a wrong or missing unit was probably meant to be.
pub(super) fn unit_hint(text: &str, kind: &Kind) -> Option<String> {
    if let (Kind::Size(..), Some(plain)) = (kind, with_a_point(text)) {
        return Some(format!("write `{plain}`"));
    }
    if let (Kind::Duration, Some(whole)) = (kind, without_a_point(text)) {
        return Some(format!("write `{whole}`"));
    }
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    let unit = text[number.len()..].trim().to_ascii_lowercase();
    if matches!(kind, Kind::Int(..)) && text.contains('=') {
        return Some("PVE's notation is not supported here: write a map, such as `{order: 1}`".to_owned());
    }
    // No unit helps a number that is none, negative or far too large.
    parse_number(number).filter(|number| (0.0..1e15).contains(number))?;
    match (kind, unit.as_str()) {
        (Kind::Size(..), "") => Some(match number.parse::<u64>() {
            Ok(mib) if mib >= 1024 && mib % 1024 == 0 => {
                format!("write `{}GiB` if these are MiB", mib / 1024)
            }
            _ => format!("write `{number}GiB` or `{number}MiB`"),
        }),
        (Kind::Size(..), "k" | "kb" | "kib") => Some(format!("write `{number}KiB`")),
        (Kind::Size(..), "m" | "mb" | "mib") => Some(format!("write `{number}MiB`")),
        (Kind::Size(..), "g" | "gb" | "gib") => Some(format!("write `{number}GiB`")),
        (Kind::Size(..), "t" | "tb" | "tib") => Some(format!("write `{number}TiB`")),
        (Kind::Duration, "d") => Some("at most a week, `7d`".to_owned()),
        (Kind::Duration, "") => Some(format!("write `{number}s` or `{number}m`")),
        (Kind::Duration, "sec" | "secs" | "second" | "seconds") => Some(format!("write `{number}s`")),
        (Kind::Duration, "min" | "mins" | "minute" | "minutes") => Some(format!("write `{number}m`")),
        (Kind::Duration, "hour" | "hours" | "hr") => Some(format!("write `{number}h`")),
        (Kind::Int(..), "g" | "gb" | "gib" | "m" | "mb" | "mib") => {
            Some("write a plain number without a unit".to_owned())
        }
        _ => None,
    }
}

/// Returns a size that is written with another decimal point, or with its digits in groups, as it is read.
fn with_a_point(text: &str) -> Option<String> {
    if !text.contains([',', '_', '\'']) && !text.trim().contains(' ') {
        return None;
    }
    let groups: String = text.chars().filter(|c| !matches!(c, '_' | '\'' | ' ')).collect();
    let plain = if groups.matches(',').count() == 1 { groups.replace(',', ".") } else { groups };
    plain.parse::<Bytes>().ok().map(|_| plain)
}

/// Returns a time with a fraction in the next smaller unit.
fn without_a_point(text: &str) -> Option<String> {
    let (number, unit) = text.split_at(text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at))?);
    let (factor, smaller) = match unit {
        "m" => (60.0, 's'),
        "h" => (60.0, 'm'),
        "d" => (24.0, 'h'),
        _ => return None,
    };
    let number = parse_number(number).filter(|number| number.fract() != 0.0 && *number > 0.0)?;
    let whole = number * factor;
    (whole.fract() == 0.0 && whole < 1e6).then(|| format!("{whole}{smaller}"))
}

pub(super) fn truth_hint(text: &str) -> Option<String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "on" | "1" | "y" | "true" | "enabled" => Some("write `true`".to_owned()),
        "no" | "off" | "0" | "n" | "false" | "disabled" => Some("write `false`".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let words = ["storage", "size", "image", "iothread", "keep"];
        let check = |name, expect| assert_eq!(closest(name, words.iter().copied()), expect, "{name}");
        check("stroage", Some("storage"));
        check("Size", Some("size"));
        check("io-thread", Some("iothread"));
        check("imgae", Some("image"));
        check("bandwidth", None);
    }

    #[test]
    fn words_of_other_tools_are_known_even_misspelt() {
        let check =
            |text, words: &[&'static str], expect: &str| assert_eq!(word_hint(text, words), expect, "{text}");
        let ha = &["started", "stopped", "disabled", "ignored"];
        check("runing", ha, "did you mean `started`?");
        check("Running", ha, "did you mean `started`?");
        check("startd", ha, "did you mean `started`?");
        check("off", ha, "did you mean `stopped`?");
        check("om", ha, "use one of these values");
        check("uefi", &["seabios", "ovmf"], "did you mean `ovmf`?");
        check("shutdwon", &["running", "stopped"], "did you mean `stopped`?");
    }

    #[test]
    fn numbers_and_times_are_told_how_they_are_written() {
        let number = |text, range, expect: &str| assert_eq!(number_hint(text, range), expect, "{text}");
        number("0x4", (1, 1024), "write `4`");
        number("1.5", (1, 1024), "write `1` or `2`");
        number("99", (100, 999_999_999), "the minimum is `100`");
        number("70000", (1, 65535), "the maximum is `65535`");
        number("99999999999999999999", (1, 65535), "the maximum is `65535`");
        number("web", (100, 999_999_999), "write a VMID, such as `201`");
        number("many", (0, 10), "write digits only, such as `1`");
        number("2", (1, 1), "write `1`");
        let time = |text, expect: &str| assert_eq!(time_hint(text), expect, "{text}");
        time("-5m", "a duration cannot be negative: write `5m`");
        time("- 1h30m", "a duration cannot be negative: write `1h30m`");
        time("1.5h", "write `90m`");
        time("-5", "a duration cannot be negative: write `5s` or `5m`");
        time("-1.5h", "a duration cannot be negative: write `90m`");
        time("-", "write it like `30s`, `5m` or `1h30m`, at most `7d`");
        time("soon", "write it like `30s`, `5m` or `1h30m`, at most `7d`");
        time("200h", "write it like `30s`, `5m` or `1h30m`, at most `7d`");
    }
}
