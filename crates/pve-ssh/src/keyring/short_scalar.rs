//! ECDSA keys whose private number is short.
//!
//! OpenSSH writes the number without leading zero bytes: one P-256 key in 256 has 31 bytes or fewer, and
//! `ssh-key` refuses fewer than 32. Such a key is taken apart here and its number filled up.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use russh::keys::PrivateKey;
use russh::keys::ssh_encoding::{Decode, Reader};
use russh::keys::ssh_key::cipher::{self, Cipher, Tag};
use russh::keys::ssh_key::private::{EcdsaKeypair, EcdsaPrivateKey, KeypairData};
use russh::keys::ssh_key::public::{EcdsaPublicKey, KeyData};
use russh::keys::ssh_key::{Error, Kdf};
use zeroize::Zeroizing;

/// What stands before a key in OpenSSH's form (OpenSSH: PROTOCOL.key).
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// Reads an ECDSA key in OpenSSH's form, however short its number is. `None` is for everything else, a wrong
/// passphrase included.
///
/// # Errors
/// Words for a key that is encrypted by a cipher that is not supported.
pub(super) fn read(text: &str, passphrase: Option<&str>) -> Result<Option<PrivateKey>, String> {
    let Some(container) = container(text) else { return Ok(None) };
    match open(&container, passphrase) {
        Ok(key) => Ok(Some(key)),
        Err(Refused::Cipher(cipher)) => Err(format!("it is encrypted by {cipher}, which is not supported")),
        Err(Refused::Other) => Ok(None),
    }
}

enum Refused {
    Cipher(Cipher),
    Other,
}

impl<E: Into<Error>> From<E> for Refused {
    fn from(_: E) -> Self {
        Self::Other
    }
}

/// Returns the bytes between the first and the last line.
fn container(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let lines = text.lines().map(str::trim).skip_while(|line| !line.starts_with("-----BEGIN OPENSSH"));
    let body = lines.skip(1).take_while(|line| !line.starts_with("-----END"));
    // Enough room from the start: a string that grows leaves copies behind.
    let mut base64 = Zeroizing::new(String::with_capacity(text.len()));
    body.for_each(|line| base64.push_str(line));
    BASE64_STANDARD.decode(base64.as_bytes()).ok().map(Zeroizing::new)
}

fn open(container: &[u8], passphrase: Option<&str>) -> Result<PrivateKey, Refused> {
    let mut rest = container.strip_prefix(MAGIC).ok_or(Refused::Other)?;
    let reader = &mut rest;
    let cipher = Cipher::decode(reader)?;
    let kdf = Kdf::decode(reader)?;
    if u32::decode(reader)? != 1 {
        return Err(Refused::Other);
    }
    let public = reader.read_prefixed(KeyData::decode)?;
    let mut secret = Zeroizing::new(Vec::<u8>::decode(reader)?);
    if cipher != Cipher::None {
        let mut tag = Tag::default();
        if cipher.has_tag() {
            reader.read(&mut tag)?;
        }
        let (key, iv) = kdf.derive_key_and_iv(cipher, passphrase.ok_or(Refused::Other)?)?;
        cipher.decrypt(&key, &iv, &mut secret, cipher.has_tag().then_some(tag)).map_err(
            |error| match error {
                cipher::Error::UnsupportedCipher(cipher) => Refused::Cipher(cipher),
                _ => Refused::Other,
            },
        )?;
    }
    reader.ensure_finished()?;
    let KeyData::Ecdsa(public) = public else { return Err(Refused::Other) };
    read_secret(&secret, public, cipher.block_size())
}

/// Reads the part that was encrypted: a number twice, by which a right passphrase is known, the key, a comment
/// and padding.
fn read_secret(mut secret: &[u8], public: EcdsaPublicKey, block: usize) -> Result<PrivateKey, Refused> {
    let reader = &mut secret;
    if u32::decode(reader)? != u32::decode(reader)? || KeyData::decode(reader)? != KeyData::Ecdsa(public) {
        return Err(Refused::Other);
    }
    let number = Zeroizing::new(Vec::<u8>::decode(reader)?);
    let pair = match public {
        EcdsaPublicKey::NistP256(public) => EcdsaKeypair::NistP256 { public, private: filled(&number)? },
        EcdsaPublicKey::NistP384(public) => EcdsaKeypair::NistP384 { public, private: filled(&number)? },
        EcdsaPublicKey::NistP521(public) => EcdsaKeypair::NistP521 { public, private: filled(&number)? },
    };
    let comment = String::decode(reader)?;
    let padding = *reader;
    if padding.len() >= block || !padding.iter().copied().eq((1..).take(padding.len())) {
        return Err(Refused::Other);
    }
    Ok(PrivateKey::new(KeypairData::Ecdsa(pair), comment)?)
}

/// Returns the number in `SIZE` bytes.
fn filled<const SIZE: usize>(number: &[u8]) -> Result<EcdsaPrivateKey<SIZE>, Refused> {
    // One zero byte stands before a number whose first bit is set.
    let number = number.strip_prefix(&[0]).unwrap_or(number);
    let zeros = SIZE.checked_sub(number.len()).ok_or(Refused::Other)?;
    let mut bytes = Zeroizing::new([0; SIZE]);
    bytes[zeros..].copy_from_slice(number);
    Ok(EcdsaPrivateKey::from(*bytes))
}
