//! Text of others, made fit for a terminal.

/// Returns `text` with control characters escaped and anything that follows a newline kept on the same line.
pub(crate) fn one_line(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        match c {
            '\n' => clean.push_str("; "),
            '\t' => clean.push(' '),
            c if pve_types::is_unprintable(c) => clean.extend(c.escape_unicode()),
            c => clean.push(c),
        }
    }
    clean
}

/// Returns `text` with every one of `secrets` replaced.
pub(crate) fn redact<'a>(text: &str, secrets: impl IntoIterator<Item = &'a str>) -> String {
    let mut clean = text.to_owned();
    for secret in secrets {
        // A shorter value would blot out words that have nothing to do with it.
        if secret.len() >= 4 {
            clean = clean.replace(secret, "<secret>");
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_is_left() {
        assert_eq!(one_line("a\u{1b}[2Jb\nc\td\r\n"), "a\\u{1b}[2Jb; c d");
        assert_eq!(one_line("x\u{202e}y"), "x\\u{202e}y");
    }

    #[test]
    fn secrets_are_replaced() {
        assert_eq!(redact("got 'hunter2' x", ["hunter2"]), "got '<secret>' x");
        assert_eq!(redact("a cat", ["a"]), "a cat");
    }
}
