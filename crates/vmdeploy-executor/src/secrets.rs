//! Secrets: resolved when the step that needs one is dispatched, by a resolver that can read the environment.

use pve_types::Secret;
use rand::Rng as _;
use vmdeploy_planner::plan::{SecretForm, SecretRef};

/// Why a secret or a public key could not be had. Never holds any of it.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct SecretError {
    /// What is missing, as a lowercase fragment: "the variable `WEB_PASSWORD` is not set".
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Gets secrets and keys from outside. The program implements it, since this crate reads no environment.
///
/// Both methods may block; they are called on a thread where that is allowed.
pub trait SecretResolver: Send + Sync {
    /// Returns the secret.
    ///
    /// # Errors
    /// When it is not there, or the command line does not allow to get it.
    fn secret(&self, source: &SecretRef) -> Result<Secret, SecretError>;
    /// Returns the public SSH keys of an account, e.g. `github:NAME`.
    ///
    /// # Errors
    /// When they cannot be had.
    fn public_keys(&self, account: &str) -> Result<Vec<String>, SecretError>;
}

/// A resolver that has nothing: for plans without secrets.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSecrets;

impl SecretResolver for NoSecrets {
    fn secret(&self, _source: &SecretRef) -> Result<Secret, SecretError> {
        Err(SecretError { what: "secrets are not available here".into(), hint: None })
    }
    fn public_keys(&self, account: &str) -> Result<Vec<String>, SecretError> {
        Err(SecretError { what: format!("the keys of `{account}` are not available here"), hint: None })
    }
}

/// Returns the secret in the form in which it is sent.
///
/// # Errors
/// When it cannot be hashed, which no input is known to cause.
pub fn in_form(secret: &Secret, form: SecretForm) -> Result<Secret, SecretError> {
    match form {
        SecretForm::Clear => Ok(secret.clone()),
        SecretForm::Sha512Crypt => sha512_crypt(secret),
    }
}

/// Hashes as crypt(3) does with `$6$`.
///
/// The salt is twelve random bytes, which are sixteen characters: crypt(3) cuts longer ones, and the hash would fit no login.
fn sha512_crypt(secret: &Secret) -> Result<Secret, SecretError> {
    use sha_crypt::PasswordHasher as _;
    let mut salt = [0_u8; 12];
    rand::rng().fill_bytes(&mut salt);
    let failed = |_| SecretError { what: "the password could not be hashed".into(), hint: None };
    let hash = sha_crypt::ShaCrypt::SHA512
        .hash_password_with_salt(secret.expose().as_bytes(), &salt)
        .map_err(failed)?;
    Ok(Secret::new(hash.to_string()))
}
