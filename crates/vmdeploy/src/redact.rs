//! A last net under the rule that no secret is printed: values known to be secret are cut from everything written.
//!
//! The libraries do not put secrets into texts; this catches what a remote side echoes back.

use std::borrow::Cow;
use std::sync::{OnceLock, RwLock};
use zeroize::Zeroizing;

/// Values shorter than this are not cut: they would blank ordinary words.
const SHORTEST: usize = 6;

fn known() -> &'static RwLock<Vec<Zeroizing<String>>> {
    static KNOWN: OnceLock<RwLock<Vec<Zeroizing<String>>>> = OnceLock::new();
    KNOWN.get_or_init(RwLock::default)
}

/// Makes the value known as a secret for the rest of the process.
pub fn register(secret: &str) {
    if secret.len() < SHORTEST {
        return;
    }
    let mut list = known().write().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !list.iter().any(|entry| entry.as_str() == secret) {
        list.push(Zeroizing::new(secret.to_owned()));
    }
}

/// Returns the text with every known secret replaced by `<secret>`.
pub fn redact(text: &str) -> Cow<'_, str> {
    let list = known().read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut out = Cow::Borrowed(text);
    for secret in list.iter() {
        if out.contains(secret.as_str()) {
            out = Cow::Owned(out.replace(secret.as_str(), "<secret>"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registered_secret_is_cut_from_text_and_a_short_word_is_not() {
        register("correct-horse");
        register("root");
        assert_eq!(redact("got correct-horse from root"), "got <secret> from root");
    }
}
