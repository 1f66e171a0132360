//! Which characters of foreign text may reach a terminal, a log or a document as they are: one set for all crates.

use std::fmt::{self, Write as _};

/// Tells whether a character could move a cursor, end a line, or reorder or hide the text around it: the control
/// characters C0 and C1, line and paragraph separators, bidirectional controls, and characters without a width.
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Shows a text on one line, each unprintable character as `\u{…}`.
///
/// ```
/// use pve_types::Escaped;
/// assert_eq!(Escaped("a\u{1b}[2J\nb").to_string(), "a\\u{1b}[2J\\u{a}b");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match is_unprintable(character) {
            true => write!(f, "{}", character.escape_unicode()),
            false => f.write_char(character),
        })
    }
}

/// Returns the text on one line: its lines joined by `; `, tabs as blanks, each unprintable character as `\u{…}`. Blanks
/// and line ends after the last word are left out.
///
/// ```
/// assert_eq!(pve_types::joined_lines("two\nlines\ta\u{1b}[2J\r\n"), "two; lines a\\u{1b}[2J");
/// ```
pub fn joined_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.trim_end().chars() {
        match character {
            '\n' => out.push_str("; "),
            '\t' => out.push(' '),
            character if is_unprintable(character) => out.extend(character.escape_unicode()),
            character => out.push(character),
        }
    }
    out
}

/// Returns the text with each unprintable character as `\u{…}`; line feeds and tabs stay.
pub fn escaped_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => out.push(character),
            character if is_unprintable(character) => out.extend(character.escape_unicode()),
            character => out.push(character),
        }
    }
    out
}

/// Returns a JSON document with every unprintable character of its strings as a JSON escape; its line feeds stay.
pub fn escape_json(document: &str) -> String {
    let mut out = String::with_capacity(document.len());
    for character in document.chars() {
        if character != '\n' && is_unprintable(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_terminal_or_hides_text_is_escaped() {
        for character in
            "\0\n\r\u{7f}\u{85}\u{9b}\u{ad}\u{200b}\u{2028}\u{202e}\u{2066}\u{feff}\u{e0041}".chars()
        {
            assert!(is_unprintable(character), "{character:?}");
        }
        for character in "a ü–€漢🦀\u{300}".chars() {
            assert!(!is_unprintable(character), "{character:?}");
        }
    }

    #[test]
    fn a_document_keeps_its_value_when_it_is_escaped() {
        let document = "{\n  \"a\": \"\u{9b}31m\u{2028}\u{202e}\u{e0041}ü\"\n}\n";
        let escaped = escape_json(document);
        assert_eq!(escaped, "{\n  \"a\": \"\\u009b31m\\u2028\\u202e\\udb40\\udc41ü\"\n}\n");
    }
}
