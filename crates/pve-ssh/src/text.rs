//! Text from afar, made fit for a terminal.

pub use pve_types::Escaped;

use pve_types::Bytes;

/// Returns the last `limit` lines of `text` that hold something, each escaped, joined by ` | `.
pub(crate) fn tail(text: &str, limit: usize) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let kept = &lines[lines.len().saturating_sub(limit)..];
    kept.iter().map(|line| cut(&Escaped(line).to_string(), 300)).collect::<Vec<_>>().join(" | ")
}

/// Returns `text` cut to `limit` characters, with an ellipsis where something is missing.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Returns a size for people: one decimal of a binary unit.
pub(crate) fn human(bytes: Bytes) -> String {
    let mut value = bytes.get() as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 || unit == "TiB" {
            return if unit == "B" { format!("{value:.0} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_afar_drives_a_terminal() {
        for (text, expect) in [
            ("plain ü", "plain ü"),
            ("\u{1b}[2J", r"\u{1b}[2J"),
            ("a\r\nb\tc", r"a\u{d}\u{a}b\u{9}c"),
            ("\u{9b}31m", r"\u{9b}31m"),
            ("a\u{202e}b", r"a\u{202e}b"),
        ] {
            assert_eq!(Escaped(text).to_string(), expect);
        }
    }

    #[test]
    fn a_tail_is_the_last_lines_that_say_something() {
        assert_eq!(tail("a\n\nb\nc\n\n", 2), "b | c");
        assert_eq!(tail("", 2), "");
    }
}
