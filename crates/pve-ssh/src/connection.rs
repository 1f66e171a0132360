//! One connection to one host: TCP or a jump, key exchange, host key, log-in.

use crate::auth;
use crate::banner::Banner;
use crate::client::Client;
use crate::config::{HostConfig, Timeouts};
use crate::error::{ConnectCause, Error};
use crate::known_hosts::Verifier;
use crate::patience::Patient;
use crate::strength;
use crate::text::Escaped;
use russh::client::{self, Handle, Msg};
use russh::{Channel, cipher};
use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// A connection whose user is logged in.
pub(crate) struct Connection {
    handle: Handle<Client>,
    lost: watch::Receiver<Option<String>>,
    /// The connection that this one runs through; dropped after it.
    _jump: Option<Box<Connection>>,
}

/// How often a connection that the host dropped before it was set up is tried again.
const SETUP_ATTEMPTS: u32 = 5;

impl Connection {
    /// Connects and logs in.
    pub(crate) async fn open(config: &HostConfig) -> Result<Self, Error> {
        let verifier = Arc::new(Verifier::load(config)?);
        let mut attempt = 1;
        let mut patience = config.timeouts.banner;
        let (mut handle, lost, jump) = loop {
            match Self::set_up(config, &verifier, &mut patience).await {
                Err(Error::Connect { source: ConnectCause::Dropped, .. }) if attempt < SETUP_ATTEMPTS => {
                    tracing::debug!(host = %config.address(), attempt, "dropped before setup; retrying");
                    tokio::time::sleep(backoff(attempt)).await;
                    attempt += 1;
                }
                other => break other?,
            }
        };
        auth::log_in(&mut handle, config, &lost).await?;
        Ok(Self { handle, lost, _jump: jump })
    }

    async fn set_up(
        config: &HostConfig,
        verifier: &Arc<Verifier>,
        patience: &mut Duration,
    ) -> Result<(Handle<Client>, watch::Receiver<Option<String>>, Option<Box<Self>>), Error> {
        let (lost_sender, lost) = watch::channel(None);
        let refusal = Arc::new(Mutex::new(None));
        let client = Client { verifier: verifier.clone(), refusal: refusal.clone(), lost: lost_sender };
        let settings = Arc::new(settings(&config.timeouts, verifier));
        let fail = |source| Error::Connect { address: config.address(), source };
        let banner = Banner::default();
        let limit = config.timeouts.connect;
        // Reaching the host between has its own time, in which a person may be typing a passphrase.
        let jump = match &config.jump {
            Some(hop) => {
                Some(Box::new(Box::pin(Self::open(hop)).await.map_err(|e| jump_failed(config, hop, e))?))
            }
            None => None,
        };
        let timed = async {
            let outcome = match (&jump, &config.jump) {
                (Some(jump), Some(hop)) => {
                    let stream = banner.listen(forward(config, hop, jump).await?, *patience);
                    client::connect_stream(settings, stream, client).await
                }
                _ => {
                    let stream = tokio::net::TcpStream::connect((config.host.as_str(), config.port))
                        .await
                        .map_err(|error| fail(ConnectCause::Io(error)))?;
                    stream.set_nodelay(true).map_err(|error| fail(ConnectCause::Io(error)))?;
                    let stream = banner.listen(stream, *patience);
                    let stream = Patient::new(stream, config.timeouts.silence());
                    client::connect_stream(settings, stream, client).await
                }
            };
            Ok::<_, Error>(outcome)
        };
        let outcome = tokio::time::timeout(limit, timed).await;
        let is_in_time = outcome.is_ok();
        *patience = patience.saturating_sub(banner.waited().unwrap_or_default());
        let explained = |cause| {
            let allowed = config.timeouts.banner.min(limit);
            fail(banner.explain(cause, allowed, !is_in_time || patience.is_zero()))
        };
        match outcome {
            Ok(Ok(Ok(handle))) => Ok((handle, lost, jump)),
            Ok(Ok(Err(error))) => {
                let refused = refusal.lock().ok().and_then(|mut slot| slot.take());
                Err(refused.map_or_else(|| explained(cause(error)), Error::HostKey))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(explained(ConnectCause::Timeout(limit))),
        }
    }

    /// Opens a channel for a session.
    pub(crate) async fn open_channel(&self) -> Result<Channel<Msg>, russh::Error> {
        self.handle.channel_open_session().await
    }

    /// Tells whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.handle.is_closed() || self.lost.borrow().is_some()
    }

    /// Waits until the connection has ended, and returns why.
    pub(crate) async fn ended(&self) -> String {
        let mut lost = self.lost.clone();
        match lost.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the connection ended".to_owned(),
        }
    }

    /// Returns why the connection has ended, waiting a moment for the reason to be known.
    pub(crate) async fn reason(&self) -> String {
        match tokio::time::timeout(Duration::from_millis(200), self.ended()).await {
            Ok(reason) => reason,
            Err(_) => "the host closed the channel without an exit status".to_owned(),
        }
    }

    /// Says good-bye. Running commands are not ended by it.
    pub(crate) async fn close(&self) {
        let _ = self.handle.disconnect(russh::Disconnect::ByApplication, "", "en").await;
    }
}

fn jump_failed(config: &HostConfig, hop: &HostConfig, source: Error) -> Error {
    Error::Jump { address: config.address(), jump: hop.address(), source: Box::new(source) }
}

/// Opens a stream to the goal through the host between.
async fn forward(
    config: &HostConfig,
    hop: &HostConfig,
    jump: &Connection,
) -> Result<russh::ChannelStream<Msg>, Error> {
    let opened = jump
        .handle
        .channel_open_direct_tcpip(config.host.clone(), u32::from(config.port), "127.0.0.1", 0)
        .await;
    match opened {
        Ok(channel) => Ok(channel.into_stream()),
        Err(error) => {
            let reason = match error {
                russh::Error::ChannelOpenFailure(why) => {
                    format!("the jump host could not reach it, or does not forward connections ({why:?})")
                }
                other => other.to_string(),
            };
            let source = Error::Connect { address: config.address(), source: ConnectCause::Protocol(reason) };
            Err(jump_failed(config, hop, source))
        }
    }
}

/// Waits longer each time, by an amount that differs between clients.
fn backoff(attempt: u32) -> Duration {
    let base = 100u64 << attempt.min(6);
    Duration::from_millis(base + rand::random_range(0..=base))
}

fn cause(error: russh::Error) -> ConnectCause {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error {
        russh::Error::IO(error)
            if [BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof].contains(&error.kind()) =>
        {
            ConnectCause::Dropped
        }
        russh::Error::Disconnect | russh::Error::HUP => ConnectCause::Dropped,
        russh::Error::IO(error) => ConnectCause::Io(error),
        russh::Error::NoCommonAlgo { kind: russh::AlgorithmKind::Key, theirs, .. } => {
            ConnectCause::WeakHostKey {
                offered: theirs.iter().map(|name| Escaped(name).to_string()).collect::<Vec<_>>().join(", "),
            }
        }
        other => ConnectCause::Protocol(other.to_string()),
    }
}

fn settings(timeouts: &Timeouts, verifier: &Verifier) -> client::Config {
    let mut preferred = russh::Preferred::default();
    let strong: Vec<_> =
        preferred.key.iter().filter(|algorithm| strength::is_strong(algorithm)).cloned().collect();
    let types = verifier.preferred_types(&strong);
    if verifier.has_authority() {
        preferred.host_key_certificates = Cow::Owned(types.clone());
    }
    preferred.key = Cow::Owned(types);
    // AES-256-GCM runs on the processor's own instructions, and is the fastest of those that both sides have.
    preferred.cipher = Cow::Borrowed(&[
        cipher::AES_256_GCM,
        cipher::AES_128_GCM,
        cipher::CHACHA20_POLY1305,
        cipher::AES_256_CTR,
        cipher::AES_192_CTR,
        cipher::AES_128_CTR,
    ]);
    preferred.compression = Cow::Borrowed(&[russh::compression::NONE]);
    client::Config {
        preferred,
        keepalive_interval: Some(timeouts.keepalive),
        keepalive_max: timeouts.keepalive_max,
        nodelay: true,
        ..Default::default()
    }
}
