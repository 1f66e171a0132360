//! Private keys: loaded once, unlocked once, shared by all hosts.

mod decode;
mod short_scalar;

use crate::text::Escaped;
use decode::{Decoded, decode};
use pve_types::Secret;
use russh::keys::{Certificate, PrivateKey};
use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

/// The passphrase of an encrypted key, or why there is none, in words.
pub type Passphrase = Pin<Box<dyn Future<Output = Result<Secret, String>> + Send>>;

/// A source of passphrases for encrypted keys: a user at a terminal, a file, a command.
pub trait AskPassphrase: Send + Sync {
    /// Asks for the passphrase of the key in `path`. `attempt` counts from 1; an answer of the same wrong
    /// passphrase ends the asking.
    fn ask(&self, path: &Path, attempt: u32) -> Passphrase;
}

/// How often a passphrase is asked for before the key is given up.
const ATTEMPTS: u32 = 3;

/// Keys that have been loaded. Two tasks that need the same key at once ask for its passphrase once.
#[derive(Default)]
pub struct Keyring {
    asker: Option<Arc<dyn AskPassphrase>>,
    loaded: tokio::sync::Mutex<HashMap<PathBuf, Arc<PrivateKey>>>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyring")
    }
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key file `{}`", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others may read the file.
    #[error(
        "the key file `{}` can be read by other users (mode {mode:04o}), so it is not used; run `chmod 600 {}`",
        .path.display(), .path.display()
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is not a private key, or of a kind that is not known.
    #[error("`{}` contains no readable private key: {reason}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why, in words.
        reason: String,
    },
    /// It is encrypted, and no passphrase is available.
    #[error("the key `{}` is encrypted and no passphrase is available: {reason}", .path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// Why, in words.
        reason: String,
    },
    /// It is encrypted, and the passphrase is wrong.
    #[error("the passphrase for the key `{}` is wrong", .path.display())]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// ssh-agent does not answer.
    #[error("cannot use ssh-agent at `{}`: {reason}", .socket.display())]
    Agent {
        /// Its socket.
        socket: PathBuf,
        /// Why, in words.
        reason: String,
    },
    /// The certificate cannot be read.
    #[error("`{}` contains no readable OpenSSH certificate: {reason}", .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why, in words.
        reason: String,
    },
}

impl Keyring {
    /// Returns a keyring that asks `asker` for passphrases.
    pub fn with_asker(asker: Arc<dyn AskPassphrase>) -> Self {
        Self { asker: Some(asker), loaded: tokio::sync::Mutex::default() }
    }

    /// Returns the key in `path`, from memory where it was loaded before.
    ///
    /// # Errors
    /// [`KeyError`], saying which file and why.
    pub async fn load(&self, path: &Path) -> Result<Arc<PrivateKey>, KeyError> {
        let mut loaded = self.loaded.lock().await;
        if let Some(key) = loaded.get(path) {
            return Ok(key.clone());
        }
        let text = read_private(path)?;
        let key = Arc::new(self.decode(path, text).await?);
        loaded.insert(path.to_owned(), key.clone());
        Ok(key)
    }

    async fn decode(&self, path: &Path, text: zeroize::Zeroizing<String>) -> Result<PrivateKey, KeyError> {
        match decode(&text, None) {
            Decoded::Key(key) => return Ok(*key),
            Decoded::Bad(reason) => return Err(KeyError::Format { path: path.to_owned(), reason }),
            Decoded::Locked | Decoded::WrongPassphrase => {}
        }
        let Some(asker) = &self.asker else {
            let reason = "there is no source for it".to_owned();
            return Err(KeyError::Locked { path: path.to_owned(), reason });
        };
        let mut last: Option<Secret> = None;
        for attempt in 1..=ATTEMPTS {
            let locked = |reason| KeyError::Locked { path: path.to_owned(), reason };
            let passphrase = asker.ask(path, attempt).await.map_err(locked)?;
            if last.as_ref() == Some(&passphrase) {
                break;
            }
            match decode(&text, Some(passphrase.expose())) {
                Decoded::Key(key) => return Ok(*key),
                Decoded::Bad(reason) => return Err(KeyError::Format { path: path.to_owned(), reason }),
                Decoded::Locked | Decoded::WrongPassphrase => {}
            }
            last = Some(passphrase);
        }
        Err(KeyError::WrongPassphrase { path: path.to_owned() })
    }
}

/// Reads a private key's file, if only its owner can.
fn read_private(path: &Path) -> Result<zeroize::Zeroizing<String>, KeyError> {
    let read = |source| KeyError::Read { path: path.to_owned(), source };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let mode = std::fs::metadata(path).map_err(read)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Permissions { path: path.to_owned(), mode });
        }
    }
    std::fs::read_to_string(path).map(zeroize::Zeroizing::new).map_err(read)
}

/// Decodes a key held in memory, which must not be encrypted.
pub(crate) fn decode_unlocked(text: &Secret) -> Result<PrivateKey, KeyError> {
    let path = PathBuf::from("(key in memory)");
    match decode(text.expose(), None) {
        Decoded::Key(key) => Ok(*key),
        Decoded::Locked | Decoded::WrongPassphrase => {
            Err(KeyError::Locked { path, reason: "there is no source for it".to_owned() })
        }
        Decoded::Bad(reason) => Err(KeyError::Format { path, reason }),
    }
}

/// Reads the certificate that belongs to the key in `path`: the given file, or `PATH-cert.pub` where it exists.
pub(crate) fn certificate_of(path: &Path, given: Option<&Path>) -> Result<Option<Certificate>, KeyError> {
    let sibling = PathBuf::from(format!("{}-cert.pub", path.display()));
    let file = match given {
        Some(file) => file.to_owned(),
        None if sibling.is_file() => sibling,
        None => return Ok(None),
    };
    let text =
        std::fs::read_to_string(&file).map_err(|source| KeyError::Read { path: file.clone(), source })?;
    Certificate::from_openssh(text.trim()).map(Some).map_err(|error| KeyError::Certificate {
        path: file,
        reason: Escaped(&error.to_string()).to_string(),
    })
}
