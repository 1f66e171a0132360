//! One SSH connection: who may come in, and the sessions on it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use russh::keys::PublicKey;
use russh::server::{
    self, Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};

use super::sftp::SftpSession;
use crate::shell::io::{Connection as ShellConnection, Input, Output, Stream, Streams};
use crate::shell::node::Node;
use crate::shell::run::{Ended, Shell};

/// Sessions that one connection may have, as in OpenSSH's `MaxSessions`.
const MAX_SESSIONS: usize = 10;
/// Pieces of standard input that wait for a command that does not read.
const STDIN_DEPTH: usize = 4096;

/// One connection of a client.
pub(super) struct Connection {
    node: Arc<Node>,
    waiting: HashMap<ChannelId, (Channel<Msg>, Slot)>,
    sessions: Arc<AtomicUsize>,
    cut: Arc<watch::Sender<bool>>,
}

/// One of the sessions a connection may have; it stays taken while its command runs, closed or not.
pub(super) struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Connection {
    /// Returns a connection to `node`, and what tells that its line is to be cut.
    pub(super) fn new(node: Arc<Node>) -> (Self, watch::Receiver<bool>) {
        let (cut, cutting) = watch::channel(false);
        (Self { node, waiting: HashMap::new(), sessions: Arc::default(), cut: Arc::new(cut) }, cutting)
    }

    fn take_slot(&self) -> Option<Slot> {
        let taken = self.sessions.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
            (count < MAX_SESSIONS).then_some(count + 1)
        });
        taken.ok().map(|_| Slot(Arc::clone(&self.sessions)))
    }

    /// Tells whether root's authorized_keys on the node has this key.
    fn is_authorized(&self, user: &str, key: &PublicKey) -> bool {
        let listed = self.node.files(|files| files.read("/root/.ssh/authorized_keys")).unwrap_or_default();
        let text = String::from_utf8_lossy(&listed).into_owned();
        let known = |line: &str| {
            PublicKey::from_openssh(line.trim()).is_ok_and(|known| known.key_data() == key.key_data())
        };
        user == "root" && text.lines().any(known)
    }

    fn start_command(
        &mut self,
        id: ChannelId,
        command: Option<String>,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        match self.waiting.remove(&id) {
            Some((channel, slot)) => {
                session.channel_success(id)?;
                tokio::spawn(run_command(
                    Arc::clone(&self.node),
                    channel,
                    command,
                    slot,
                    Arc::clone(&self.cut),
                    session.handle(),
                ));
                Ok(())
            }
            None => session.channel_failure(id),
        }
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(if self.is_authorized(user, offer.public_key) { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(if self.is_authorized(user, key.public_key) { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        let expected = self
            .node
            .world
            .with(|world| world.access.users.get("root@pam").and_then(|root| root.password.clone()));
        Ok(if user == "root" && expected.as_deref() == Some(password) {
            Auth::Accept
        } else {
            Auth::reject()
        })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.take_slot() {
            Some(slot) => {
                self.waiting.insert(channel.id(), (channel, slot));
                reply.accept().await;
            }
            // OpenSSH: "open failed", with the code for a failed connection.
            None => reply.reject(ChannelOpenFailure::ConnectFailed).await,
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.waiting.remove(&channel);
        Ok(())
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        // Debian's sshd_config: AcceptEnv LANG LC_*. The lab speaks one language, whatever they say.
        if name == "LANG" || name.starts_with("LC_") {
            session.channel_success(channel)
        } else {
            session.channel_failure(channel)
        }
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(russh::Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        self.start_command(channel, None, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let command = String::from_utf8_lossy(data).into_owned();
        self.start_command(channel, Some(command), session)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.waiting.remove(&id).filter(|_| name == "sftp") {
            Some((channel, slot)) => {
                session.channel_success(id)?;
                self.node.world.load().count(|counts| counts.sftp_sessions += 1);
                tokio::spawn(run_sftp(Arc::clone(&self.node), channel, slot));
                Ok(())
            }
            None => session.channel_failure(id),
        }
    }

    async fn signal(
        &mut self,
        _channel: ChannelId,
        _signal: Sig,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        // sshd: "session signalling requires privilege separation", so for root it does nothing.
        Ok(())
    }
}

/// Runs SFTP on a channel, and ends the channel as a program that has ended well.
async fn run_sftp(node: Arc<Node>, channel: Channel<Msg>, slot: Slot) {
    let (mut reader, writer) = channel.split();
    let (outside, inside) = tokio::io::duplex(1 << 20);
    let config = russh_sftp::server::Config { max_client_packet_len: 512 * 1024 };
    russh_sftp::server::run_with_config(inside, SftpSession::new(node, slot), config).await;
    let (mut answers, mut requests) = tokio::io::split(outside);
    let reading = tokio::spawn(async move {
        while let Some(message) = reader.wait().await {
            match message {
                ChannelMsg::Data { data } if requests.write_all(&data).await.is_ok() => {}
                ChannelMsg::Data { .. } | ChannelMsg::Eof | ChannelMsg::Close => break,
                _ => {}
            }
        }
        let _ = requests.shutdown().await;
    });
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    while answers.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {
        if writer.data_bytes(buffer.split().freeze()).await.is_err() {
            break;
        }
        buffer.reserve(64 * 1024);
    }
    let _ = writer.eof().await;
    let _ = writer.exit_status(0).await;
    let _ = writer.close().await;
    reading.abort();
}

/// Runs one command line on a channel, and ends the channel with its status.
async fn run_command(
    node: Arc<Node>,
    channel: Channel<Msg>,
    command: Option<String>,
    slot: Slot,
    cut: Arc<watch::Sender<bool>>,
    handle: server::Handle,
) {
    let id = channel.id();
    let (reader, writer) = channel.split();
    let (stdin_sender, stdin) = mpsc::channel(STDIN_DEPTH);
    let (output_sender, output) = mpsc::channel(16);
    let (closed_sender, closed) = watch::channel(false);
    let reading = tokio::spawn(read_channel(reader, stdin_sender, closed_sender));
    let writing = tokio::spawn(write_channel(Arc::new(writer), output, closed));
    let streams = Streams {
        stdin: Input::stream(stdin),
        stdout: Output::Session(output_sender.clone(), Stream::Stdout),
        stderr: Output::Session(output_sender, Stream::Stderr),
        connection: ShellConnection::new(cut),
    };
    let ended = run_in_shell(&node, command, streams).await;
    drop(slot);
    if let Ok(writer) = writing.await {
        finish(&writer, &handle, id, ended).await;
    }
    reading.abort();
}

async fn run_in_shell(node: &Arc<Node>, command: Option<String>, streams: Streams) -> Ended {
    node.world.load().count(|counts| counts.ssh_commands += 1);
    let delay = node.world.with(|world| world.delays.ssh_exec_ms);
    node.world.pause(std::time::Duration::from_millis(delay)).await;
    let script = match command {
        Some(command) => command,
        None => match read_script(&streams).await {
            Some(script) => script,
            None => return Ended::Status(0),
        },
    };
    let running = Arc::new(node.processes.start(None, &script));
    let shell = Shell::new(Arc::clone(node), Arc::clone(&running));
    crate::shell::run_session(shell, running, script, streams).await
}

/// Without a command, the script comes on standard input.
async fn read_script(streams: &Streams) -> Option<String> {
    let mut script = Vec::new();
    while let Some(piece) = streams.stdin.read().await {
        script.extend_from_slice(&piece);
        if script.len() > 1 << 20 {
            let _ = streams.stderr.line("the lab's shell takes no script of more than a MiB").await;
            return None;
        }
    }
    Some(String::from_utf8_lossy(&script).into_owned())
}

async fn read_channel(mut reader: ChannelReadHalf, stdin: mpsc::Sender<Bytes>, closed: watch::Sender<bool>) {
    let mut stdin = Some(stdin);
    while let Some(message) = reader.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                if let Some(sender) = &stdin
                    && sender.send(data).await.is_err()
                {
                    stdin = None;
                }
            }
            ChannelMsg::Eof => stdin = None,
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    closed.send_replace(true);
}

/// Sends what the command writes; once the channel is closed, what comes is dropped and the command goes on.
async fn write_channel(
    writer: Arc<ChannelWriteHalf<Msg>>,
    mut output: mpsc::Receiver<(Stream, Bytes)>,
    mut closed: watch::Receiver<bool>,
) -> Arc<ChannelWriteHalf<Msg>> {
    while let Some((stream, bytes)) = output.recv().await {
        if *closed.borrow() {
            continue;
        }
        let sending = async {
            match stream {
                Stream::Stdout => writer.data_bytes(bytes).await,
                Stream::Stderr => writer.extended_data_bytes(1, bytes).await,
            }
        };
        tokio::select! {
            _ = sending => {}
            _ = closed.wait_for(|closed| *closed) => {}
        }
    }
    writer
}

async fn finish(writer: &ChannelWriteHalf<Msg>, handle: &server::Handle, id: ChannelId, ended: Ended) {
    let _ = writer.eof().await;
    match ended {
        Ended::Status(status) => {
            let _ = writer.exit_status(status.cast_unsigned() & 255).await;
        }
        Ended::Signal(signal) => {
            let _ =
                handle.exit_signal_request(id, signal_of(signal), false, String::new(), String::new()).await;
        }
    }
    let _ = writer.close().await;
}

fn signal_of(signal: i32) -> Sig {
    match signal {
        1 => Sig::HUP,
        2 => Sig::INT,
        3 => Sig::QUIT,
        9 => Sig::KILL,
        13 => Sig::PIPE,
        15 => Sig::TERM,
        other => Sig::Custom(other.to_string()),
    }
}
