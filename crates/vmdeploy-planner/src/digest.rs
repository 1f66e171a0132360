//! Digests of specs, observations and sources.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// Returns the SHA-256 of a value's JSON form, in hexadecimal. Maps must be sorted ones.
pub fn of_value<T: Serialize + ?Sized>(value: &T) -> String {
    // A value of our own types cannot fail to serialize: it has string keys and no failing `Serialize`.
    of_bytes(&serde_json::to_vec(value).unwrap_or_default())
}

/// Returns the SHA-256 of the bytes, in hexadecimal.
pub fn of_bytes(bytes: &[u8]) -> String {
    pve_types::hex(Sha256::digest(bytes))
}

/// Returns the first eight digits of the text's SHA-256: enough to tell two sources of one disk apart.
pub fn short(text: &str) -> String {
    of_bytes(text.as_bytes()).chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn digests_are_sha256_in_hexadecimal() {
        let expect = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(super::of_bytes(b"abc"), expect);
        assert_eq!(super::short("abc"), "ba7816bf");
        assert_eq!(super::of_value(&["x"]), super::of_bytes(b"[\"x\"]"));
    }
}
