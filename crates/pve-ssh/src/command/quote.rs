//! The one quoting function.

/// The text holds a NUL byte, which no argument of a program can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text contains a NUL byte")]
pub struct NulByte;

/// Returns `word` so that a POSIX shell reads it as one word of exactly these bytes.
///
/// Words of harmless characters stay as they are; all else goes between single quotes, in which a shell changes
/// nothing. A quote inside becomes `'\''`.
///
/// # Errors
/// [`NulByte`]: a program cannot be given one.
///
/// ```
/// use pve_ssh::command::quote;
/// assert_eq!(quote(b"local-lvm:vm-100-disk-0").unwrap(), b"local-lvm:vm-100-disk-0");
/// assert_eq!(quote(b"a b$c").unwrap(), b"'a b$c'");
/// assert_eq!(quote(b"it's").unwrap(), br"'it'\''s'");
/// assert_eq!(quote(b"").unwrap(), b"''");
/// ```
pub fn quote(word: &[u8]) -> Result<Vec<u8>, NulByte> {
    if word.contains(&0) {
        return Err(NulByte);
    }
    if is_plain(word) {
        return Ok(word.to_vec());
    }
    let mut quoted = Vec::with_capacity(word.len() + 2);
    quoted.push(b'\'');
    for &byte in word {
        match byte {
            b'\'' => quoted.extend_from_slice(br"'\''"),
            _ => quoted.push(byte),
        }
    }
    quoted.push(b'\'');
    Ok(quoted)
}

/// Tells whether no shell sees anything special in `word`.
fn is_plain(word: &[u8]) -> bool {
    // zsh expands a leading `=`. An inner `=` would be an assignment in the first place of a command, where the
    // frame never puts a word of ours.
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:,@+%=".contains(&byte);
    word.iter().copied().all(harmless) && !word.is_empty() && word[0] != b'='
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str, expect: &str) {
        assert_eq!(String::from_utf8(quote(word.as_bytes()).unwrap()).unwrap(), expect);
    }

    #[test]
    fn harmless_words_stay_readable() {
        for word in
            ["qm", "--scsi0", "/var/lib/vz/a.qcow2", "local:100/vm-100-disk-0.raw,size=2G", "user@pam"]
        {
            check(word, word);
        }
    }

    #[test]
    fn everything_else_is_quoted() {
        check("", "''");
        check("a b", "'a b'");
        check("~", "'~'");
        check("*", "'*'");
        check("{a,b}", "'{a,b}'");
        check("#x", "'#x'");
        check("=ls", "'=ls'");
        check("a\nb", "'a\nb'");
        check("'", r"''\'''");
        check("root@pam!lab", "'root@pam!lab'");
    }

    #[test]
    fn nul_is_refused() {
        assert_eq!(quote(b"a\0"), Err(NulByte));
    }
}
