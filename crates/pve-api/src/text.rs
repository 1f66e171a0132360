//! Text of others, made fit for a terminal.

pub(crate) use pve_types::joined_lines as one_line;

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
    fn secrets_are_replaced() {
        assert_eq!(redact("got 'hunter2' x", ["hunter2"]), "got '<secret>' x");
        assert_eq!(redact("a cat", ["a"]), "a cat");
    }
}
