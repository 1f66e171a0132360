//! Opening SFTP on a channel, by the right that the host's commands have.

use crate::command::{Privilege, sftp_as_root};
use crate::error::{Error, UploadError};
use crate::host::Host;
use crate::text::Escaped;
use russh::client::Msg;
use russh::{Channel, ChannelMsg};
use russh_sftp::client::SftpSession;
use std::time::Duration;

/// Reads or writes in flight, and the size of each. Larger ones gained nothing where it was measured.
const IN_FLIGHT: usize = 64;
const PACKET: u32 = 32 * 1024;

/// Opens SFTP on `channel`; a request that is not answered within `patience` fails.
pub(crate) async fn open(
    host: &Host,
    mut channel: Channel<Msg>,
    privilege: Privilege,
    patience: Duration,
) -> Result<SftpSession, Error> {
    let no = |reason: String| UploadError::NoSftp { address: host.address().to_owned(), reason };
    let limit = host.config().timeouts.channel;
    let open = async {
        match privilege {
            Privilege::Direct => channel.request_subsystem(true, "sftp").await,
            Privilege::Sudo => channel.exec(true, sftp_as_root()).await,
        }
        .map_err(|error| no(error.to_string()))?;
        loop {
            match channel.wait().await {
                Some(ChannelMsg::Success) => break,
                Some(ChannelMsg::Failure) => return Err(no("it is disabled".to_owned())),
                Some(_) => {}
                None => return Err(no("the connection ended".to_owned())),
            }
        }
        let config = russh_sftp::client::Config {
            max_concurrent_reads: IN_FLIGHT,
            max_concurrent_writes: IN_FLIGHT,
            max_write_packet_len: PACKET,
            request_timeout_secs: patience.as_secs().max(1),
            ..Default::default()
        };
        let session = SftpSession::new_with_config(channel.into_stream(), config).await;
        session.map_err(|error| no(Escaped(&error.to_string()).to_string()))
    };
    match tokio::time::timeout(limit, open).await {
        Ok(session) => Ok(session?),
        Err(_) => Err(no("it did not answer in time".to_owned()).into()),
    }
}
