//! Nothing that came from outside moves a terminal's cursor, changes its title or hides a line.

/// Returns the text with every control character written as an escape, on one line.
///
/// Also the characters that reorder or hide text (bidirectional controls, zero-width ones) are written out.
pub fn one_line(text: &str) -> String {
    pve_types::Escaped(text).to_string()
}

/// Returns the text with every control character but the line feed and the tab written as an escape.
pub fn lines(text: &str) -> String {
    pve_types::escaped_lines(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expect: &str) {
        assert_eq!(one_line(input), expect);
    }

    #[test]
    fn what_would_move_the_cursor_is_written_out() {
        check("web01 – grün", "web01 – grün");
        check("a\x1b[2Jb", "a\\u{1b}[2Jb");
        check("a\nb\r\x07", "a\\u{a}b\\u{d}\\u{7}");
        check("\u{9b}31m", "\\u{9b}31m");
        check("a\u{202e}b\u{200b}c", "a\\u{202e}b\\u{200b}c");
    }

    #[test]
    fn line_feeds_stay_where_lines_are_wanted() {
        assert_eq!(lines("a\n\tb\x1b"), "a\n\tb\\u{1b}");
    }
}
