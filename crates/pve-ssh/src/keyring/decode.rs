//! Reading a private key's text, and telling why it cannot be read.

use super::short_scalar;
use crate::text::Escaped;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::Error as SshKeyError;

/// What a text turned out to be.
pub(super) enum Decoded {
    Key(Box<PrivateKey>),
    /// A passphrase is needed.
    Locked,
    /// A passphrase was given, and it is not that of the key.
    WrongPassphrase,
    /// No passphrase can help.
    Bad(String),
}

/// Reads a private key in OpenSSH's form or in PEM.
pub(super) fn decode(text: &str, passphrase: Option<&str>) -> Decoded {
    let form = Form::of(text);
    if form == Form::OldEncryption {
        let reason =
            "it is encrypted in an old PEM format; `ssh-keygen -p -f FILE` rewrites it in OpenSSH's format";
        return Decoded::Bad(reason.to_owned());
    }
    if passphrase.is_none() && form == Form::EncryptedPkcs8 {
        return Decoded::Locked;
    }
    let error = match russh::keys::decode_secret_key(text, passphrase) {
        Ok(key) => return Decoded::Key(Box::new(key)),
        Err(russh::keys::Error::KeyIsEncrypted) => return Decoded::Locked,
        Err(error) => error,
    };
    if form != Form::OpenSsh {
        // A wrong passphrase makes noise of what it decrypts, and only OpenSSH's form says so for certain.
        return if passphrase.is_some() { Decoded::WrongPassphrase } else { bad(&error) };
    }
    match (&error, short_scalar::read(text, passphrase)) {
        (_, Ok(Some(key))) => Decoded::Key(Box::new(key)),
        (_, Err(reason)) => Decoded::Bad(reason),
        (russh::keys::Error::SshKey(SshKeyError::Crypto), _) if passphrase.is_some() => {
            Decoded::WrongPassphrase
        }
        _ => bad(&error),
    }
}

fn bad(error: &russh::keys::Error) -> Decoded {
    Decoded::Bad(Escaped(&error.to_string()).to_string())
}

/// The form that the first line of a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    OpenSsh,
    EncryptedPkcs8,
    /// PEM with encryption of its own, of a kind that russh cannot revert: all but RSA under AES-128-CBC.
    OldEncryption,
    Other,
}

impl Form {
    fn of(text: &str) -> Self {
        let has = |line: &str| text.lines().any(|candidate| candidate == line);
        if has("-----BEGIN OPENSSH PRIVATE KEY-----") {
            Self::OpenSsh
        } else if has("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            Self::EncryptedPkcs8
        } else if has("Proc-Type: 4,ENCRYPTED") {
            let known = has("-----BEGIN RSA PRIVATE KEY-----")
                && text.lines().any(|line| line.starts_with("DEK-Info: AES-128-CBC,"));
            if known { Self::Other } else { Self::OldEncryption }
        } else {
            Self::Other
        }
    }
}
