//! A host: its connections, shared by everything that is done on it at once.

use crate::command::{Command, Privilege, end_process, process_is_alive};
use crate::config::{HostConfig, RunsAs};
use crate::connection::Connection;
use crate::error::{Ended, Error, Output, SudoProblem};
use crate::exec::{self, OnLine, RunOptions, Running, Stopped, Surroundings};
use crate::retry;
use crate::text;
use pve_types::Backoff;
use russh::Channel;
use russh::client::Msg;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OnceCell};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// The exit status by which a shell says that it found no such program.
// POSIX: Shell Command Language, 2.8.2 Exit Status for Commands.
const NO_SUCH_PROGRAM: u32 = 127;

/// A host that commands run on and files go to. Cheap to clone; clones share the connections.
///
/// Connections are made when they are needed: eight channels on each, four connections at most
/// ([`crate::Capacity`]); more wait for their turn.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    config: HostConfig,
    address: String,
    lines: Mutex<Vec<Line>>,
    /// Taken while a connection is set up: one at a time, which sshd's MaxStartups likes.
    connecting: tokio::sync::Mutex<()>,
    freed: Notify,
    privilege: OnceCell<Privilege>,
    /// Commands whose futures were dropped, and that are being ended.
    endings: TaskTracker,
}

/// A connection and how much of it is in use.
struct Line {
    connection: Arc<Connection>,
    used: usize,
    /// How many channels it gives; less than configured after sshd has refused one.
    capacity: usize,
    /// Whether it has ever given one.
    proven: bool,
}

/// A channel's place on a connection.
pub(crate) struct Slot {
    inner: Arc<Inner>,
    pub(crate) connection: Arc<Connection>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut lines = self.inner.lines();
        if let Some(line) = lines.iter_mut().find(|line| Arc::ptr_eq(&line.connection, &self.connection)) {
            line.used = line.used.saturating_sub(1);
        }
        drop(lines);
        self.inner.freed.notify_one();
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Host({}@{})", self.inner.config.user, self.inner.address)
    }
}

impl Host {
    /// Returns the host. Nothing is sent before something is asked of it.
    pub fn new(config: HostConfig) -> Self {
        let address = config.address();
        let inner = Inner {
            config,
            address,
            lines: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            freed: Notify::new(),
            privilege: OnceCell::new(),
            endings: TaskTracker::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns `host:port`.
    pub fn address(&self) -> &str {
        &self.inner.address
    }

    /// Returns the configuration.
    pub fn config(&self) -> &HostConfig {
        &self.inner.config
    }

    /// Connects, logs in, and finds out by which right commands run, if that is not known yet.
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::HostKey`], [`Error::Key`], [`Error::Auth`] or [`Error::Sudo`]; nothing has run.
    pub async fn check(&self) -> Result<Privilege, Error> {
        self.privilege().await
    }

    /// Runs `command` as root (or as [`RunsAs`] says), and returns its output whatever its exit status is.
    ///
    /// The command is ended on the host when the deadline passes or the options' token is cancelled, and by the
    /// host itself should the connection be lost. When the future is dropped, a task of its own ends it.
    ///
    /// # Errors
    /// Everything but [`Error::Exit`]. A lost connection is [`Error::Lost`], never a status.
    ///
    /// A command that only reads ([`Command::only_reads`]) is run again, with growing pauses, while its failure may pass;
    /// any other one only while no connection comes about.
    pub async fn run(
        &self,
        command: &Command,
        mut options: RunOptions,
        on_line: OnLine<'_>,
    ) -> Result<Output, Error> {
        let began = Instant::now();
        let mut failed = 0;
        loop {
            let again = RunOptions {
                deadline: options.deadline.saturating_sub(began.elapsed()),
                output_limit: options.output_limit,
                keep: options.keep,
                cancel: options.cancel.clone(),
                // What was read is not there a second time: then there is no second attempt.
                stdin: options.stdin.take(),
            };
            let has_stdin = again.stdin.is_some();
            let outcome = match self.privilege().await {
                Ok(privilege) => {
                    let attempt = self.run_as(privilege, command, again, &mut *on_line).await;
                    attempt.map_err(|error| error.with_limit(options.deadline))
                }
                Err(error) => Err(error),
            };
            failed += 1;
            let attempts = if has_stdin { 1 } else { retry::attempts(command, &outcome) };
            let backoff = Backoff { within: options.deadline.min(Backoff::READS.within), ..Backoff::READS };
            let chance = rand::RngExt::random_range(&mut rand::rng(), 0.0..1.0);
            match backoff.at_most(attempts).pause(failed, began.elapsed(), chance) {
                Some(pause) if !options.cancel.is_cancelled() => tokio::time::sleep(pause).await,
                _ => return outcome,
            }
        }
    }

    /// Runs `command` as [`Host::run`] does, throws its lines away, and takes any exit status but 0 for an error.
    ///
    /// # Errors
    /// As [`Host::run`], and [`Error::Exit`] with the whole output.
    pub async fn run_to_success(&self, command: &Command, deadline: Duration) -> Result<Output, Error> {
        let output = self.run(command, RunOptions::within(deadline), &mut |_, _| {}).await?;
        self.require_success(command, output)
    }

    /// Returns the output when its exit status is 0.
    ///
    /// # Errors
    /// [`Error::Exit`] with the command's last words and the whole output.
    pub fn require_success(&self, command: &Command, output: Output) -> Result<Output, Error> {
        if output.success() {
            return Ok(output);
        }
        let said = if output.stderr.trim().is_empty() { &output.stdout } else { &output.stderr };
        let tail = text::tail(said, 5);
        Err(Error::Exit {
            address: self.inner.address.clone(),
            command: command.summary(),
            status: output.status,
            message: if tail.is_empty() { "it printed nothing".to_owned() } else { tail },
            output: Box::new(output),
        })
    }

    /// Closes all connections, once the commands whose futures were dropped have been ended, or have had 30 s to end.
    ///
    /// Commands that still run are left to the time limit that the host itself holds them to.
    pub async fn close(&self) {
        self.inner.endings.close();
        let _ = tokio::time::timeout(Duration::from_secs(30), self.inner.endings.wait()).await;
        let connections: Vec<_> = self.inner.lines().drain(..).map(|line| line.connection).collect();
        for connection in connections {
            connection.close().await;
        }
    }

    pub(crate) async fn privilege(&self) -> Result<Privilege, Error> {
        self.inner.privilege.get_or_try_init(|| self.find_privilege()).await.copied()
    }

    /// Root runs commands directly; any other user needs `sudo -n`, which is tried once.
    async fn find_privilege(&self) -> Result<Privilege, Error> {
        if self.inner.config.user == "root" || self.inner.config.runs_as == RunsAs::Login {
            drop(self.slot().await?);
            return Ok(Privilege::Direct);
        }
        let options = RunOptions::within(Duration::from_secs(20));
        let output = self.run_as(Privilege::Sudo, &Command::new("true"), options, &mut |_, _| {}).await?;
        if output.success() {
            return Ok(Privilege::Sudo);
        }
        let why = match output.status {
            NO_SUCH_PROGRAM => SudoProblem::NotInstalled,
            _ => SudoProblem::Refused(text::tail(&output.stderr, 2)),
        };
        Err(Error::Sudo { address: self.inner.address.clone(), user: self.inner.config.user.clone(), why })
    }

    async fn run_as(
        &self,
        privilege: Privilege,
        command: &Command,
        options: RunOptions,
        on_line: OnLine<'_>,
    ) -> Result<Output, Error> {
        let span = tracing::info_span!("ssh", host = %self.inner.address, command = %command.summary());
        let started = std::time::Instant::now();
        let work = async {
            let outcome = self.run_on_some_connection(privilege, command, options, on_line).await;
            let elapsed_ms = started.elapsed().as_millis() as u64;
            match &outcome {
                Ok(output) => tracing::debug!(status = output.status, elapsed_ms, "command ended"),
                Err(error) => tracing::debug!(%error, elapsed_ms, "command failed"),
            }
            outcome
        };
        work.instrument(span).await
    }

    async fn run_on_some_connection(
        &self,
        privilege: Privilege,
        command: &Command,
        mut options: RunOptions,
        on_line: OnLine<'_>,
    ) -> Result<Output, Error> {
        let (slot, channel) = self.open_channel(&command.summary()).await?;
        let abandon = |rest| self.end_in_background(privilege, rest);
        let around = Surroundings { address: &self.inner.address, privilege, abandon: &abandon };
        match exec::run(&around, &slot.connection, channel, command, &mut options, on_line).await {
            Ok(output) => Ok(output),
            Err(Stopped::Failed(error)) => Err(error),
            Err(Stopped::GiveUp { why, rest }) => {
                let ended = self.end(privilege, rest).await;
                Err(why.error(&self.inner.address, command, &options, ended))
            }
        }
    }

    /// Opens a channel for `purpose`, on a shared connection that has room or on a new one.
    pub(crate) async fn open_channel(&self, purpose: &str) -> Result<(Slot, Channel<Msg>), Error> {
        let refused = |reason: String| Error::Refused {
            address: self.inner.address.clone(),
            command: purpose.to_owned(),
            reason,
        };
        let mut attempt = 0;
        loop {
            let slot = self.slot().await?;
            let open = slot.connection.open_channel();
            match tokio::time::timeout(self.inner.config.timeouts.channel, open).await {
                Ok(Ok(channel)) => {
                    self.inner.note_channel(&slot);
                    return Ok((slot, channel));
                }
                Ok(Err(russh::Error::ChannelOpenFailure(why))) => {
                    attempt += 1;
                    let reason =
                        format!("it refuses another channel on this connection ({why:?}; MaxSessions)");
                    match self.inner.note_refusal(&slot) {
                        Room::Elsewhere => {}
                        // sshd frees a place a moment after it has said that the channel is closed.
                        Room::Later if attempt < 50 => tokio::time::sleep(Duration::from_millis(20)).await,
                        Room::Later | Room::Never => return Err(refused(reason)),
                    }
                }
                Ok(Err(error)) if attempt == 0 && slot.connection.is_closed() => {
                    // It was lost while idle. Nothing was sent, so another one may be opened.
                    tracing::debug!(%error, "the connection was lost");
                    attempt += 1;
                }
                Ok(Err(error)) => {
                    let reason = slot.connection.reason().await;
                    return Err(refused(format!("{}: {reason}", text::Escaped(&error.to_string()))));
                }
                Err(_) => {
                    // A connection that a firewall has forgotten looks alive for a while: the next one is a new one.
                    self.inner.forget(&slot);
                    return Err(refused("no channel was opened in time".to_owned()));
                }
            }
        }
    }

    /// Takes a place on a connection, making one where all are full, and waiting where no more may be made.
    pub(crate) async fn slot(&self) -> Result<Slot, Error> {
        loop {
            let freed = self.inner.freed.notified();
            if let Some(slot) = self.take_free_slot() {
                return Ok(slot);
            }
            if self.inner.may_connect() {
                let _one_at_a_time = self.inner.connecting.lock().await;
                // Another task may have connected or disconnected in the meantime.
                if let Some(slot) = self.take_free_slot() {
                    return Ok(slot);
                }
                if self.inner.may_connect() {
                    let connection = Arc::new(Connection::open(&self.inner.config).await?);
                    return Ok(self.add_line(connection));
                }
            }
            freed.await;
        }
    }

    fn take_free_slot(&self) -> Option<Slot> {
        let mut lines = self.inner.lines();
        lines.retain(|line| !line.connection.is_closed());
        let line = lines.iter_mut().find(|line| line.used < line.capacity)?;
        line.used += 1;
        Some(Slot { inner: self.inner.clone(), connection: line.connection.clone() })
    }

    fn add_line(&self, connection: Arc<Connection>) -> Slot {
        let capacity = self.inner.config.capacity.channels.max(1);
        self.inner.lines().push(Line { connection: connection.clone(), used: 1, capacity, proven: false });
        // Those who wait for a place find seven more.
        self.inner.freed.notify_waiters();
        Slot { inner: self.inner.clone(), connection }
    }

    /// Ends the process `pid`, which a command that was lost has left behind, and says what became of it.
    ///
    /// `pid` is that of [`Error::Lost`]. The host can have given the number to another process in the meantime, so
    /// this is for the moments right after the loss.
    pub async fn end_left_behind(&self, pid: u32) -> Ended {
        let ending = async {
            let privilege = self.privilege().await?;
            let connection = self.connection_for_ending().await?;
            self.aside(&connection, privilege, &end_process(pid)).await?;
            Ok::<_, Error>((connection, privilege))
        };
        match ending.await {
            Ok((connection, privilege)) => {
                patiently(pid, self.wait_until_gone(&connection, privilege, pid)).await
            }
            Err(error) => Ended::Unknown(error.to_string()),
        }
    }

    /// Ends a running command that is no longer awaited, in a separate task.
    fn end_in_background(&self, privilege: Privilege, rest: Running) {
        // Without a runtime it cannot be done here; the command's time limit ends it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let host = self.clone();
            self.inner.endings.spawn_on(async move { host.end(privilege, rest).await }, &runtime);
        }
    }

    /// Ends a running command, and says what became of it.
    pub(crate) async fn end(&self, privilege: Privilege, mut rest: Running) -> Ended {
        let Some(pid) = rest.pid().await else {
            return Ended::Unknown("the host did not report its process ID".to_owned());
        };
        // The command's channel is read from meanwhile, for what it still prints would block the connection.
        let kill = async {
            let connection = self.connection_for_ending().await?;
            self.aside(&connection, privilege, &end_process(pid)).await
        };
        let (gone, killed) = tokio::join!(patiently(pid, rest.wait_for_end()), kill);
        let ended = match (gone, killed) {
            (Ended::Unknown(_), Err(error)) => Ended::Unknown(error.to_string()),
            (gone, _) => gone,
        };
        tracing::debug!(pid, ?ended, "stopped an aborted command");
        ended
    }

    /// Returns a connection for a reserved channel: two of sshd's ten sessions are never used by commands.
    async fn connection_for_ending(&self) -> Result<Arc<Connection>, Error> {
        let open = self.inner.lines().iter().map(|line| line.connection.clone()).find(|c| !c.is_closed());
        if let Some(connection) = open
            && let Ok(Ok(channel)) =
                tokio::time::timeout(self.inner.config.timeouts.channel, connection.open_channel()).await
        {
            let _ = channel.close().await;
            return Ok(connection);
        }
        Ok(Arc::new(Connection::open(&self.inner.config).await?))
    }

    async fn wait_until_gone(&self, connection: &Connection, privilege: Privilege, pid: u32) {
        while let Ok(output) = self.aside(connection, privilege, &process_is_alive(pid)).await {
            if !output.success() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        std::future::pending::<()>().await;
    }

    /// Runs a short command on a connection without taking a place on it.
    async fn aside(
        &self,
        connection: &Connection,
        privilege: Privilege,
        command: &Command,
    ) -> Result<Output, Error> {
        let refused = |reason| Error::Refused {
            address: self.inner.address.clone(),
            command: command.summary(),
            reason,
        };
        let open = tokio::time::timeout(self.inner.config.timeouts.channel, connection.open_channel()).await;
        let channel = match open {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(refused(error.to_string())),
            Err(_) => return Err(refused("no channel was opened in time".to_owned())),
        };
        let abandon = |rest| self.end_in_background(privilege, rest);
        let around = Surroundings { address: &self.inner.address, privilege, abandon: &abandon };
        let mut options = RunOptions::within(Duration::from_secs(15));
        match exec::run(&around, connection, channel, command, &mut options, &mut |_, _| {}).await {
            Ok(output) => Ok(output),
            Err(Stopped::Failed(error)) => Err(error),
            Err(Stopped::GiveUp { why, .. }) => {
                let ended = Ended::Unknown("it is the command that stops others".to_owned());
                Err(why.error(&self.inner.address, command, &options, ended))
            }
        }
    }
}

/// Waits for a process to be gone, for as long as `timeout` may take to kill it, and then some.
async fn patiently(pid: u32, gone: impl Future<Output = ()>) -> Ended {
    let patience = Duration::from_secs(20);
    match tokio::time::timeout(patience, gone).await {
        Ok(()) => Ended::Yes,
        Err(_) => Ended::Unknown(format!("process {pid} did not end within {} s", patience.as_secs())),
    }
}

/// Where there is room for a channel that sshd has refused.
enum Room {
    /// On another connection, or here when one of the others is done.
    Elsewhere,
    /// Here, when sshd has noticed that the last channel is closed.
    Later,
    /// Nowhere: a new connection gives none at all.
    Never,
}

impl Inner {
    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_channel(&self, slot: &Slot) {
        if let Some(line) =
            self.lines().iter_mut().find(|line| Arc::ptr_eq(&line.connection, &slot.connection))
        {
            line.proven = true;
        }
    }

    fn forget(&self, slot: &Slot) {
        self.lines().retain(|line| !Arc::ptr_eq(&line.connection, &slot.connection));
    }

    /// Notes that a connection gives fewer channels than thought.
    fn note_refusal(&self, slot: &Slot) -> Room {
        let mut lines = self.lines();
        let Some(line) = lines.iter_mut().find(|line| Arc::ptr_eq(&line.connection, &slot.connection)) else {
            return Room::Elsewhere;
        };
        line.capacity = line.capacity.min(line.used.saturating_sub(1)).max(1);
        match (line.used, line.proven) {
            (0 | 1, false) => Room::Never,
            (0 | 1, true) => Room::Later,
            _ => Room::Elsewhere,
        }
    }

    fn may_connect(&self) -> bool {
        let open = self.lines().iter().filter(|line| !line.connection.is_closed()).count();
        open < self.config.capacity.connections.max(1)
    }
}
