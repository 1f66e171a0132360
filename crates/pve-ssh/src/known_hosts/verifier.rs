//! The files, loaded for one host, and what is done about its key.

use super::entry::{Entry, HostName, parse};
use super::judge::{self, ChangedHostKey, HostKeyError, UnknownHostKey, Verdict};
use crate::command::quote;
use crate::config::{HostConfig, UnknownHost};
use crate::strength;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Judges one host by the files as they were when it was loaded.
pub(crate) struct Verifier {
    address: String,
    name: HostName,
    /// Host and port for `ssh-keyscan`, which knows no alias.
    scan: (String, u16),
    files: Vec<(PathBuf, Vec<Entry>)>,
    unknown: UnknownHost,
}

impl Verifier {
    /// Reads the files of `config`.
    pub(crate) fn load(config: &HostConfig) -> Result<Self, HostKeyError> {
        let name = match &config.known_hosts.alias {
            // OpenSSH: sshconnect.c get_hostfile_hostname_ipaddr: an alias is looked up without the port.
            Some(alias) => HostName::new(alias, 22),
            None => HostName::new(&config.host, config.port),
        };
        let files = config.known_hosts.files.iter().map(|file| Ok((file.clone(), read(file)?)));
        Ok(Self {
            address: config.address(),
            name,
            scan: (config.host.clone(), config.port),
            files: files.collect::<Result<_, _>>()?,
            unknown: config.known_hosts.unknown,
        })
    }

    /// Returns the host key types in the order to ask for: those that are known come first.
    pub(crate) fn preferred_types(&self, all: &[Algorithm]) -> Vec<Algorithm> {
        let known = judge::known_types(&self.files, &self.name);
        let is_known = |algorithm: &Algorithm| known.iter().any(|other| same_type(algorithm, other));
        let (mut first, rest): (Vec<_>, Vec<_>) = all.iter().cloned().partition(is_known);
        first.extend(rest);
        first
    }

    /// Tells whether the host may show a certificate.
    pub(crate) fn has_authority(&self) -> bool {
        judge::has_authority(&self.files, &self.name)
    }

    /// Decides on the key; on the first use, when that was asked for, adds it to the first file.
    pub(crate) fn check(
        &self,
        key: &PublicKey,
        certificate: Option<&Certificate>,
    ) -> Result<(), HostKeyError> {
        let now_s =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let address = self.address.clone();
        let weak =
            strength::weakness(key).or_else(|| certificate.and_then(strength::weakness_of_certificate));
        if let Some(reason) = weak {
            return Err(HostKeyError::Weak { address, reason });
        }
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        match judge::judge(&self.files, &self.name, key, certificate, now_s) {
            Verdict::Trusted => Ok(()),
            Verdict::Unknown => self.unknown(key, fingerprint),
            Verdict::Revoked { file, line } => {
                Err(HostKeyError::Revoked { address, fingerprint, file, line })
            }
            Verdict::BadCertificate { reason } => Err(HostKeyError::BadCertificate { address, reason }),
            Verdict::Changed { file, line, known } => Err(HostKeyError::Changed(Box::new(ChangedHostKey {
                address,
                algorithm: key.algorithm().to_string(),
                fingerprint,
                file,
                line,
                known,
                written: self.name.as_written(),
            }))),
        }
    }

    fn unknown(&self, key: &PublicKey, fingerprint: String) -> Result<(), HostKeyError> {
        let line = self.line_for(key);
        let file = self.files.first().map_or_else(|| PathBuf::from("known_hosts"), |(file, _)| file.clone());
        match (self.unknown, self.files.first()) {
            (UnknownHost::TrustOnFirstUse, Some((file, _))) => {
                tracing::warn!(host = %self.address, %fingerprint, file = %file.display(), "host key added on first use");
                append(file, &line)
            }
            _ => Err(HostKeyError::Unknown(Box::new(UnknownHostKey {
                address: self.address.clone(),
                algorithm: key.algorithm().to_string(),
                fingerprint,
                keyscan: self.keyscan(key),
                line,
                file,
            }))),
        }
    }

    fn line_for(&self, key: &PublicKey) -> String {
        let mut bare = key.clone();
        bare.set_comment("");
        format!("{} {}", self.name.as_written(), bare.to_openssh().unwrap_or_default().trim_end())
    }

    fn keyscan(&self, key: &PublicKey) -> String {
        let kind = match key.algorithm() {
            Algorithm::Ed25519 => "ed25519",
            Algorithm::Ecdsa { .. } => "ecdsa",
            Algorithm::Rsa { .. } => "rsa",
            _ => "ed25519,ecdsa,rsa",
        };
        let (host, port) = &self.scan;
        let host = quote(host.as_bytes())
            .map_or_else(|_| host.clone(), |q| String::from_utf8_lossy(&q).into_owned());
        if *port == 22 {
            format!("ssh-keyscan -t {kind} {host}")
        } else {
            format!("ssh-keyscan -p {port} -t {kind} {host}")
        }
    }
}

/// RSA keys have one type, whichever hash they sign with.
fn same_type(one: &Algorithm, other: &Algorithm) -> bool {
    one == other || (matches!(one, Algorithm::Rsa { .. }) && matches!(other, Algorithm::Rsa { .. }))
}

fn read(file: &Path) -> Result<Vec<Entry>, HostKeyError> {
    match std::fs::read(file) {
        Ok(bytes) => Ok(parse(&String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(HostKeyError::File { file: file.to_owned(), reason: error.to_string() }),
    }
}

/// Adds a line to a file that only its owner can write, making file and folder where they are missing.
fn append(file: &Path, line: &str) -> Result<(), HostKeyError> {
    let write = || -> std::io::Result<()> {
        if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let mut options = std::fs::OpenOptions::new();
        options.create(true).append(true).read(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let before = std::fs::read(file).unwrap_or_default();
        let mut open = options.open(file)?;
        let gap = if before.last().is_none_or(|&byte| byte == b'\n') { "" } else { "\n" };
        open.write_all(format!("{gap}{line}\n").as_bytes())?;
        open.sync_all()
    };
    write().map_err(|error| HostKeyError::File { file: file.to_owned(), reason: error.to_string() })
}
