//! Which keys and signatures are strong enough, for hosts and for logging in.
//!
//! SHA-1 signatures (`ssh-rsa`), DSA, and RSA keys under 2048 bits are refused. A host that offers nothing else is not
//! connected to.

use russh::keys::{Algorithm, Certificate, PublicKey};

/// The shortest RSA key that is taken, in bits.
// NIST SP 800-131A: shorter RSA keys and SHA-1 signatures are disallowed.
const SHORTEST_RSA: u32 = 2048;

/// Tells whether signatures of this algorithm may be relied on.
pub(crate) fn is_strong(algorithm: &Algorithm) -> bool {
    !matches!(algorithm, Algorithm::Dsa | Algorithm::Rsa { hash: None })
}

/// Returns why a key is not used, in words; `None` for one that is strong enough.
pub(crate) fn weakness(key: &PublicKey) -> Option<String> {
    if key.algorithm() == Algorithm::Dsa {
        return Some("it is a DSA key, which is no longer secure".to_owned());
    }
    let bits = key.key_data().rsa()?.key_size();
    (bits < SHORTEST_RSA)
        .then(|| format!("it is an RSA key of {bits} bits; fewer than {SHORTEST_RSA} are not secure"))
}

/// Returns why a certificate is not used: its key, its authority's key, or the hash that it was signed with.
pub(crate) fn weakness_of_certificate(certificate: &Certificate) -> Option<String> {
    let authority = PublicKey::from(certificate.signature_key().clone());
    if !is_strong(&certificate.signature().algorithm()) {
        return Some("it was signed with SHA-1 or DSA".to_owned());
    }
    weakness(&authority).map(|why| format!("of its authority's key: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::HashAlg;

    /// An RSA key of 1024 bits.
    const SHORT: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQCeBQbTQvCKU6LLkojrhISvxnysjF8ruzN7/kFnEoIFF8CEZzwh+2XTJEpJMEHPvAK84o3ZjJawbreI5SSkfcedruLq1CSYCNb2bGI/6koaQAJG0gdv4n9VRHNuFOdhKaVRkDIe55ZxJMRFzQMImJQmZHJqPu4SpShM+UZViMzv5w==";

    #[test]
    fn a_short_rsa_key_is_weak() {
        let key = PublicKey::from_openssh(SHORT).unwrap();
        assert!(weakness(&key).unwrap().contains("RSA key of 1024 bits"));
        let ed25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDigm3MJiAskgW7NtxpqqmJ2bz0mcMdZdJxmpm2F3DMR";
        assert_eq!(PublicKey::from_openssh(ed25519).ok().and_then(|key| weakness(&key)), None);
    }

    #[test]
    fn sha_1_and_dsa_are_weak() {
        for weak in [Algorithm::Dsa, Algorithm::Rsa { hash: None }] {
            assert!(!is_strong(&weak), "{weak}");
        }
        for strong in [Algorithm::Ed25519, Algorithm::Rsa { hash: Some(HashAlg::Sha256) }] {
            assert!(is_strong(&strong), "{strong}");
        }
    }
}
