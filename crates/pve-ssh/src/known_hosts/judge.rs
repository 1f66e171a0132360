//! The decision on a host's key.

use super::entry::{Entry, HostName, Marker};
use crate::text::Escaped;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};
use std::path::{Path, PathBuf};

/// What the files say of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The key is known for this host, or certified by an authority that is.
    Trusted,
    /// The host is in no file.
    Unknown,
    /// A line says that the key must not be believed.
    Revoked {
        /// The file.
        file: PathBuf,
        /// The line in it.
        line: usize,
    },
    /// The host is known with another key.
    Changed {
        /// The file.
        file: PathBuf,
        /// The line in it.
        line: usize,
        /// The known key's fingerprint.
        known: String,
    },
    /// The host's certificate does not hold.
    BadCertificate {
        /// Why, in words.
        reason: String,
    },
}

/// Judges the key, or the certificate, that the host at `name` shows at `now_s` (seconds since 1970).
///
/// A revoked key is refused before all else. Several keys of one type may be known: any of them will do. A host
/// that is known with keys of other types only counts as changed, because an attacker could offer any type.
pub fn judge(
    files: &[(PathBuf, Vec<Entry>)],
    name: &HostName,
    key: &PublicKey,
    certificate: Option<&Certificate>,
    now_s: u64,
) -> Verdict {
    let written = name.as_written();
    let matching: Vec<(&Path, &Entry)> = files
        .iter()
        .flat_map(|(file, entries)| entries.iter().map(move |entry| (file.as_path(), entry)))
        .filter(|(_, entry)| entry.patterns.matches(&written))
        .collect();
    let authority = certificate.map(|certificate| certificate.signature_key());
    let is_shown =
        |entry: &Entry| entry.key.key_data() == key.key_data() || Some(entry.key.key_data()) == authority;
    if let Some((file, entry)) =
        matching.iter().find(|(_, e)| e.marker == Some(Marker::Revoked) && is_shown(e))
    {
        return Verdict::Revoked { file: file.to_path_buf(), line: entry.line };
    }
    if let Some(certificate) = certificate {
        let known = |entry: &Entry| {
            entry.marker == Some(Marker::CertAuthority) && entry.key.key_data() == certificate.signature_key()
        };
        if matching.iter().any(|(_, entry)| known(entry)) {
            return judge_certificate(certificate, name, now_s);
        }
    }
    judge_plain(&matching, files, name, key)
}

fn judge_plain(
    matching: &[(&Path, &Entry)],
    files: &[(PathBuf, Vec<Entry>)],
    name: &HostName,
    key: &PublicKey,
) -> Verdict {
    let plain = || matching.iter().filter(|(_, entry)| entry.marker.is_none());
    if plain().any(|(_, entry)| entry.key.key_data() == key.key_data()) {
        return Verdict::Trusted;
    }
    let same_type = plain().find(|(_, entry)| entry.key.algorithm() == key.algorithm());
    if let Some((file, entry)) = same_type.or_else(|| plain().next()) {
        let known = entry.key.fingerprint(HashAlg::Sha256).to_string();
        return Verdict::Changed { file: file.to_path_buf(), line: entry.line, known };
    }
    // OpenSSH: a host at another port is also believed by the key that is known for its name alone.
    if name.port() != 22 && known_without_port(files, name, key) {
        return Verdict::Trusted;
    }
    Verdict::Unknown
}

fn known_without_port(files: &[(PathBuf, Vec<Entry>)], name: &HostName, key: &PublicKey) -> bool {
    let (bare, whole) = (name.without_port().as_written(), name.as_written());
    let fits = |entry: &&Entry| entry.patterns.matches(&bare) && !entry.patterns.excludes(&whole);
    let all: Vec<&Entry> = files.iter().flat_map(|(_, entries)| entries).filter(fits).collect();
    let revoked =
        |entry: &Entry| entry.marker == Some(Marker::Revoked) && entry.key.key_data() == key.key_data();
    !all.iter().any(|entry| revoked(entry))
        && all.iter().any(|entry| entry.marker.is_none() && entry.key.key_data() == key.key_data())
}

/// Checks what OpenSSH checks of a host certificate whose authority is known: signature, type, time, names, options.
// OpenSSH: PROTOCOL.certkeys; sshkey.c sshkey_cert_check_authority.
fn judge_certificate(certificate: &Certificate, name: &HostName, now_s: u64) -> Verdict {
    let bad = |reason: &str| Verdict::BadCertificate { reason: reason.to_owned() };
    if certificate.verify_signature().is_err() {
        return bad("its signature is invalid");
    }
    if certificate.cert_type() != CertType::Host {
        return bad("it is a user's certificate, not a host's");
    }
    if now_s < certificate.valid_after() {
        return bad("it is not valid yet");
    }
    if now_s >= certificate.valid_before() {
        return bad("it has expired");
    }
    if !certificate.critical_options().is_empty() {
        return bad("it has critical options, which are not supported for hosts");
    }
    if !certificate.valid_principals().iter().any(|principal| principal.eq_ignore_ascii_case(name.name())) {
        return bad("it is not for this host");
    }
    Verdict::Trusted
}

/// Returns the types of keys that are known for `name`, so that the host can be asked for one of these.
pub(crate) fn known_types(files: &[(PathBuf, Vec<Entry>)], name: &HostName) -> Vec<Algorithm> {
    let written = name.as_written();
    let mut entries: Vec<&Entry> = files
        .iter()
        .flat_map(|(_, e)| e)
        .filter(|e| e.patterns.matches(&written) && e.marker.is_none())
        .collect();
    if entries.is_empty() && name.port() != 22 {
        let written = name.without_port().as_written();
        entries = files
            .iter()
            .flat_map(|(_, e)| e)
            .filter(|e| e.patterns.matches(&written) && e.marker.is_none())
            .collect();
    }
    entries.into_iter().map(|entry| entry.key.algorithm()).collect()
}

/// Tells whether an authority is known for `name`, so that the host may show a certificate.
pub(crate) fn has_authority(files: &[(PathBuf, Vec<Entry>)], name: &HostName) -> bool {
    let written = name.as_written();
    let mut entries = files.iter().flat_map(|(_, entries)| entries);
    entries.any(|entry| entry.marker == Some(Marker::CertAuthority) && entry.patterns.matches(&written))
}

/// Why a host is not believed. Nothing was sent to it but the beginning of the key exchange.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostKeyError {
    /// The host is in no file.
    #[error(transparent)]
    Unknown(Box<UnknownHostKey>),
    /// The host shows another key than the known one.
    #[error(transparent)]
    Changed(Box<ChangedHostKey>),
    /// The key was revoked.
    #[error("the key {fingerprint} of `{address}` is revoked by {}:{line}", .file.display())]
    Revoked {
        /// `host:port`.
        address: String,
        /// The shown key's fingerprint.
        fingerprint: String,
        /// The file that says so.
        file: PathBuf,
        /// The line in it.
        line: usize,
    },
    /// The key is too weak to be accepted.
    #[error(
        "the host key of `{address}` is not accepted: {reason}; create a new one with `ssh-keygen -A` there"
    )]
    Weak {
        /// `host:port`.
        address: String,
        /// Why, in words.
        reason: String,
    },
    /// The host's certificate does not hold.
    #[error("the host certificate of `{address}` is not valid: {reason}")]
    BadCertificate {
        /// `host:port`.
        address: String,
        /// Why, in words.
        reason: String,
    },
    /// A file could not be read or, for a first use, written.
    #[error("cannot use the known hosts file `{}`: {}", .file.display(), Escaped(.reason))]
    File {
        /// The file.
        file: PathBuf,
        /// Why, in words.
        reason: String,
    },
}

/// A host that is in no file, and what would put it there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the key of `{address}` is not known: {algorithm} {fingerprint}; compare the fingerprint with the host's own, \
     and add the key with `{keyscan} >> {}`, or run the same command with `--trust-on-first-use`", .file.display()
)]
pub struct UnknownHostKey {
    /// `host:port`.
    pub address: String,
    /// The key's type.
    pub algorithm: String,
    /// `SHA256:…`.
    pub fingerprint: String,
    /// The `ssh-keyscan` command that prints the line to add.
    pub keyscan: String,
    /// The line to add.
    pub line: String,
    /// The file to add it to.
    pub file: PathBuf,
}

/// A host that shows another key than the known one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the key of `{address}` has changed: it is {algorithm} {fingerprint}, but {}:{line} has {known}; this may \
     be a man-in-the-middle attack; if the host was reinstalled, remove the old key with `ssh-keygen -f {} -R '{written}'` \
     and add the new one", .file.display(), .file.display()
)]
pub struct ChangedHostKey {
    /// `host:port`.
    pub address: String,
    /// The shown key's type.
    pub algorithm: String,
    /// The shown key's fingerprint.
    pub fingerprint: String,
    /// The file that knows another key.
    pub file: PathBuf,
    /// The line in it.
    pub line: usize,
    /// The known key's fingerprint.
    pub known: String,
    /// The host's name as files have it.
    pub written: String,
}
