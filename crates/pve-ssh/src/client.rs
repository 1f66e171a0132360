//! What a server says on its own: its host key, why it ends the connection, and channels that it opens.

use crate::known_hosts::{HostKeyError, Verifier};
use crate::text::Escaped;
use russh::Channel;
use russh::client::{self, DisconnectReason, Msg};
use russh::keys::PublicKeyOrCertificate;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// What is done about the things that a server says on its own.
pub(crate) struct Client {
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) refusal: Arc<Mutex<Option<HostKeyError>>>,
    pub(crate) lost: watch::Sender<Option<String>>,
}

/// Refuses a channel that the server opens: none was asked for.
macro_rules! refuse_channels {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        $(async fn $name(
            &mut self,
            _channel: Channel<Msg>,
            $($arg: $type,)*
            reply: client::ChannelOpenHandle,
            _session: &mut client::Session,
        ) -> Result<(), Self::Error> {
            reply.reject(russh::ChannelOpenFailure::AdministrativelyProhibited).await;
            Ok(())
        })*
    };
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        match self.verifier.check(&shown.public_key(), shown.certificate()) {
            Ok(()) => Ok(true),
            Err(error) => {
                if let Ok(mut slot) = self.refusal.lock() {
                    *slot = Some(error);
                }
                Ok(false)
            }
        }
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Self::Error>) -> Result<(), Self::Error> {
        let text = match reason {
            DisconnectReason::ReceivedDisconnect(info) if !info.message.is_empty() => {
                format!("the host sent `{}`", Escaped(&info.message))
            }
            DisconnectReason::ReceivedDisconnect(_) => "the host ended the connection".to_owned(),
            DisconnectReason::Error(russh::Error::KeepaliveTimeout) => {
                "the host no longer answers (keepalive)".to_owned()
            }
            DisconnectReason::Error(russh::Error::HUP | russh::Error::Disconnect) => {
                "the host closed the connection".to_owned()
            }
            DisconnectReason::Error(error) => Escaped(&error.to_string()).to_string(),
        };
        self.lost.send_replace(Some(text));
        Ok(())
    }

    refuse_channels! {
        server_channel_open_forwarded_tcpip(_a: &str, _b: u32, _c: &str, _d: u32);
        server_channel_open_forwarded_streamlocal(_path: &str);
        server_channel_open_agent_forward();
        server_channel_open_session();
        server_channel_open_direct_tcpip(_a: &str, _b: u32, _c: &str, _d: u32);
        server_channel_open_direct_streamlocal(_path: &str);
        server_channel_open_x11(_a: &str, _b: u32);
    }
}
