//! Logging in.

use crate::client::Client;
use crate::config::{Credential, HostConfig};
use crate::error::{ConnectCause, Error};
use crate::keyring::{self, KeyError};
use crate::strength;
use crate::text::Escaped;
use pve_types::Secret;
use russh::MethodKind;
use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

/// How one try ended.
enum Tried {
    In,
    /// Refused; the methods that the host still accepts.
    Out(Vec<MethodKind>),
}

/// Everything that logging in to one host needs.
struct LogIn<'a> {
    handle: &'a mut Handle<Client>,
    config: &'a HostConfig,
    lost: &'a watch::Receiver<Option<String>>,
    tried: Vec<String>,
    accepted: Vec<MethodKind>,
}

/// Logs the user in by the first credential that the host takes.
pub(crate) async fn log_in(
    handle: &mut Handle<Client>,
    config: &HostConfig,
    lost: &watch::Receiver<Option<String>>,
) -> Result<(), Error> {
    let mut state = LogIn { handle, config, lost, tried: Vec::new(), accepted: Vec::new() };
    let mut key_error = None;
    for credential in &config.credentials {
        match state.try_credential(credential).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // A key file that cannot be used does not keep the next way from being tried.
            Err(Error::Key(error)) => {
                state.tried.push(format!("{} (not usable)", describe(credential)));
                key_error.get_or_insert(error);
            }
            Err(other) => return Err(other),
        }
    }
    match key_error {
        Some(error) => Err(Error::Key(error)),
        None => Err(state.refused()),
    }
}

fn describe(credential: &Credential) -> String {
    match credential {
        Credential::KeyFile { path, .. } => format!("key {}", path.display()),
        Credential::Key(_) => "key in memory".to_owned(),
        Credential::Agent { .. } => "ssh-agent".to_owned(),
        Credential::Password(_) => "password".to_owned(),
    }
}

impl LogIn<'_> {
    async fn try_credential(&mut self, credential: &Credential) -> Result<bool, Error> {
        match credential {
            Credential::KeyFile { path, certificate } => {
                // Unlocking can mean asking a person, which the log-in's time limit does not count.
                let key = self.config.keyring.load(path).await?;
                let certificate = keyring::certificate_of(path, certificate.as_deref())?;
                self.try_key(&format!("key {}", path.display()), key, certificate).await
            }
            Credential::Key(text) => {
                let key = Arc::new(keyring::decode_unlocked(text)?);
                self.try_key("key in memory", key, None).await
            }
            Credential::Agent { socket, only } => self.try_agent(socket, only).await,
            Credential::Password(password) => self.try_password(password).await,
        }
    }

    async fn try_key(
        &mut self,
        name: &str,
        key: Arc<PrivateKey>,
        certificate: Option<Certificate>,
    ) -> Result<bool, Error> {
        if let Some(why) = strength::weakness(key.public_key()) {
            self.tried.push(format!("{name} (not used: {why})"));
            return Ok(false);
        }
        let Some(hash) = self.rsa_hash(name, key.algorithm().is_rsa()).await? else { return Ok(false) };
        if let Some(certificate) = certificate {
            self.tried.push(format!("{name} with its certificate"));
            let user = self.config.user.clone();
            let tried = if key.algorithm().is_rsa() {
                let mut signer = LocalSigner { key: key.clone() };
                let attempt = self.handle.authenticate_certificate_with(user, certificate, hash, &mut signer);
                limit(self.config, attempt).await?.map_err(|error| self.broken(error.to_string()))?
            } else {
                let attempt = self.handle.authenticate_openssh_cert(user, key.clone(), certificate);
                limit(self.config, attempt).await?.map_err(|error| self.broken(error.to_string()))?
            };
            if self.settle(tried)? {
                return Ok(true);
            }
        }
        self.tried.push(name.to_owned());
        let key = PrivateKeyWithHashAlg::new(key, hash);
        let attempt = self.handle.authenticate_publickey(self.config.user.clone(), key);
        let tried = limit(self.config, attempt).await?.map_err(|error| self.broken(error.to_string()))?;
        self.settle(tried)
    }

    async fn try_agent(&mut self, socket: &Path, only: &[String]) -> Result<bool, Error> {
        let silent = |error: russh::keys::Error| {
            let reason = Escaped(&error.to_string()).to_string();
            Error::Key(KeyError::Agent { socket: socket.to_owned(), reason })
        };
        let mut agent = AgentClient::connect_uds(socket).await.map_err(silent)?;
        let wanted: Vec<PublicKey> =
            only.iter().filter_map(|text| PublicKey::from_openssh(text).ok()).collect();
        let identities = agent.request_identities().await.map_err(silent)?;
        for identity in identities {
            let key = identity.public_key().into_owned();
            if !only.is_empty() && !wanted.iter().any(|wanted| wanted.key_data() == key.key_data()) {
                continue;
            }
            let name = format!("agent key {}", Escaped(identity.comment()));
            if let Some(why) = strength::weakness(&key) {
                self.tried.push(format!("{name} (not used: {why})"));
                continue;
            }
            let Some(hash) = self.rsa_hash(&name, key.algorithm().is_rsa()).await? else { continue };
            self.tried.push(name);
            let user = self.config.user.clone();
            let outcome = match identity {
                AgentIdentity::PublicKey { .. } => {
                    let attempt = self.handle.authenticate_publickey_with(user, key, hash, &mut agent);
                    limit(self.config, attempt).await?
                }
                AgentIdentity::Certificate { certificate, .. } => {
                    let attempt =
                        self.handle.authenticate_certificate_with(user, certificate, hash, &mut agent);
                    limit(self.config, attempt).await?
                }
            };
            // An agent that will not sign with one key may with the next.
            let Ok(tried) = outcome else { continue };
            if self.settle(tried)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn try_password(&mut self, password: &Secret) -> Result<bool, Error> {
        self.tried.push("password".to_owned());
        let user = self.config.user.clone();
        let attempt = self.handle.authenticate_password(user.clone(), password.expose());
        let tried = limit(self.config, attempt).await?.map_err(|error| self.broken(error.to_string()))?;
        if self.settle(tried)? {
            return Ok(true);
        }
        if !self.accepted.contains(&MethodKind::KeyboardInteractive) {
            return Ok(false);
        }
        let attempt = answer_prompts(self.handle, &user, password);
        let tried = limit(self.config, attempt).await?.map_err(|error| self.broken(error.to_string()))?;
        self.settle(tried)
    }

    /// Takes note of an answer. No method left means that the connection ended: russh says it that way.
    fn settle(&mut self, answer: AuthResult) -> Result<bool, Error> {
        match tried(answer) {
            Tried::In => Ok(true),
            Tried::Out(methods) if methods.is_empty() => Err(self.dropped()),
            Tried::Out(methods) => {
                self.accepted = methods;
                Ok(false)
            }
        }
    }

    /// Returns the strongest hash for RSA signatures; `None` where the host takes only SHA-1, with which nothing is
    /// signed.
    async fn rsa_hash(&mut self, name: &str, is_rsa: bool) -> Result<Option<Option<HashAlg>>, Error> {
        if !is_rsa {
            return Ok(Some(None));
        }
        let asked = limit(self.config, self.handle.best_supported_rsa_hash()).await?;
        match asked.map_err(|error| self.broken(error.to_string()))? {
            Some(None) => {
                self.tried.push(format!("{name} (not used: the host takes RSA signatures with SHA-1 only)"));
                Ok(None)
            }
            Some(best) => Ok(Some(best)),
            // A host that does not say what it takes.
            None => Ok(Some(Some(HashAlg::Sha512))),
        }
    }

    fn broken(&self, reason: String) -> Error {
        let reason = format!("the connection broke during log-in: {reason}");
        Error::Connect { address: self.config.address(), source: ConnectCause::Protocol(reason) }
    }

    fn dropped(&self) -> Error {
        let said = self.lost.borrow().clone().unwrap_or_else(|| "no reason was given".to_owned());
        if said.contains("Too many authentication failures") {
            return self.refused();
        }
        self.broken(said)
    }

    fn refused(&self) -> Error {
        let names = |methods: &[MethodKind]| methods.iter().map(<&str>::from).collect::<Vec<_>>().join(", ");
        Error::Auth {
            address: self.config.address(),
            user: self.config.user.clone(),
            tried: if self.tried.is_empty() {
                "nothing, as no key was given".to_owned()
            } else {
                self.tried.join(", ")
            },
            accepted: if self.accepted.is_empty() { "other ways".to_owned() } else { names(&self.accepted) },
        }
    }
}

fn tried(answer: AuthResult) -> Tried {
    match answer {
        AuthResult::Success => Tried::In,
        AuthResult::Failure { remaining_methods, .. } => {
            Tried::Out(remaining_methods.iter().copied().collect())
        }
    }
}

/// Bounds one step of the log-in.
async fn limit<T>(config: &HostConfig, step: impl Future<Output = T>) -> Result<T, Error> {
    let limit = config.timeouts.auth;
    tokio::time::timeout(limit, step)
        .await
        .map_err(|_| Error::Connect { address: config.address(), source: ConnectCause::Timeout(limit) })
}

/// Answers every hidden prompt with the password, as `ssh` with a stored password would; asks back nothing.
async fn answer_prompts(
    handle: &mut Handle<Client>,
    user: &str,
    password: &Secret,
) -> Result<AuthResult, russh::Error> {
    let mut answer = handle.authenticate_keyboard_interactive_start(user, None).await?;
    for _round in 0..4 {
        match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(AuthResult::Success),
            KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success } => {
                return Ok(AuthResult::Failure { remaining_methods, partial_success });
            }
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                let reply = |prompt: &russh::client::Prompt| {
                    if prompt.echo { String::new() } else { password.expose().to_owned() }
                };
                let replies = prompts.iter().map(reply).collect();
                answer = handle.authenticate_keyboard_interactive_respond(replies).await?;
            }
        }
    }
    Err(russh::Error::Inconsistent)
}

/// Signs with our own code for RSA certificates, for which russh would use SHA-1.
struct LocalSigner {
    key: Arc<PrivateKey>,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
enum SignError {
    #[error("the log-in ended")]
    Gone,
    #[error("the key cannot sign")]
    Cannot,
}

impl From<russh::SendError> for SignError {
    fn from(_: russh::SendError) -> Self {
        Self::Gone
    }
}

impl russh::Signer for LocalSigner {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        _key: &AgentIdentity,
        hash: Option<HashAlg>,
        mut to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, Self::Error> {
        use russh::keys::signature::Signer as _;
        use russh::keys::ssh_encoding::Encode as _;
        let pair = self.key.key_data().rsa().ok_or(SignError::Cannot)?;
        let signature = (pair, hash).try_sign(&to_sign).map_err(|_| SignError::Cannot)?;
        let mut wire = Vec::new();
        signature.encode(&mut wire).map_err(|_| SignError::Cannot)?;
        wire.encode(&mut to_sign).map_err(|_| SignError::Cannot)?;
        Ok(to_sign)
    }
}
