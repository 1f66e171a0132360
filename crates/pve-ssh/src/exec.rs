//! Running one command on one connection.

use crate::command::{Command, Frame, Privilege};
use crate::connection::Connection;
use crate::error::{Ended, Error, Output};
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf};
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The command's stdout.
    Stdout,
    /// The command's stderr.
    Stderr,
}

/// Is given every line of a running command as it comes, without its line end.
pub type OnLine<'a> = &'a mut (dyn FnMut(Stream, &str) + Send);

/// What is kept of a command's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// All of it; a command that prints more than is taken is ended.
    All,
    /// Its last part: what was handed on as lines is forgotten when it becomes too much. For a build's log.
    Tail,
}

/// How one command is run.
pub struct RunOptions {
    /// After which time it is ended, on the host as well.
    pub deadline: Duration,
    /// What is taken of its stdout, in bytes. Half of it is taken of stderr.
    pub output_limit: usize,
    /// What happens to more than that.
    pub keep: Keep,
    /// Ends the command when it is cancelled.
    pub cancel: CancellationToken,
    /// What the command reads.
    pub stdin: Option<Box<dyn AsyncRead + Send + Unpin>>,
}

impl RunOptions {
    /// Returns the options for a command that may take `deadline`: nothing on stdin, 16 MiB of output.
    pub fn within(deadline: Duration) -> Self {
        Self {
            deadline,
            output_limit: 16 << 20,
            keep: Keep::All,
            cancel: CancellationToken::new(),
            stdin: None,
        }
    }
}

impl std::fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunOptions").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// What a run needs to know of its surroundings.
pub(crate) struct Surroundings<'a> {
    /// `host:port`, for errors.
    pub(crate) address: &'a str,
    pub(crate) privilege: Privilege,
    /// Ends a command on the host that is no longer awaited.
    pub(crate) abandon: &'a (dyn Fn(Running) + Send + Sync),
}

/// Why a command did not run to its end.
pub(crate) enum Stopped {
    /// It was left running, and must be ended by its process number.
    GiveUp { why: GiveUp, rest: Running },
    /// Anything else.
    Failed(Error),
}

/// Why a running command is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GiveUp {
    Deadline,
    Cancelled,
    TooMuchOutput,
}

impl GiveUp {
    /// Returns the error for it.
    pub(crate) fn error(self, address: &str, command: &Command, options: &RunOptions, ended: Ended) -> Error {
        let (address, command) = (address.to_owned(), command.summary());
        match self {
            Self::Deadline => Error::Deadline { address, command, limit: options.deadline, ended },
            Self::Cancelled => Error::Cancelled { address, command, ended },
            Self::TooMuchOutput => {
                Error::TooMuchOutput { address, command, limit: options.output_limit, ended }
            }
        }
    }
}

/// A channel whose command still runs.
pub(crate) struct Running {
    read: ChannelReadHalf,
    write: russh::ChannelWriteHalf<Msg>,
    gather: Gather,
}

impl Running {
    /// Returns the command's process number, waiting for it where the host has not said it yet.
    pub(crate) async fn pid(&mut self) -> Option<u32> {
        let look = async {
            while !self.gather.pid_looked_for {
                let message = self.read.wait().await?;
                self.gather.take(message, &mut |_, _| {});
            }
            self.gather.pid
        };
        tokio::time::timeout(PID_PATIENCE, look).await.unwrap_or(None)
    }

    /// Waits until the command has ended, discarding its output: a channel that is not read blocks all
    /// others of its connection.
    pub(crate) async fn wait_for_end(&mut self) {
        let ended = |message: &ChannelMsg| {
            matches!(
                message,
                ChannelMsg::ExitStatus { .. } | ChannelMsg::ExitSignal { .. } | ChannelMsg::Close
            )
        };
        while let Some(message) = self.read.wait().await {
            if ended(&message) {
                break;
            }
        }
        let _ = self.write.close().await;
    }
}

/// How long the host may take to say the number of a process that is to be ended.
const PID_PATIENCE: Duration = Duration::from_secs(20);

/// How far into stderr the process number is looked for, in bytes.
const PID_WITHIN: usize = 16 << 10;

/// How long the output may still come after the exit status did: something else may hold the channel open.
const AFTER_STATUS: Duration = Duration::from_secs(10);

/// The node ends a command this much later than vmdeploy does, in case the connection is lost.
const HOST_SLACK: Duration = Duration::from_secs(30);

/// Runs `command` on `channel` and gathers its output.
pub(crate) async fn run(
    around: &Surroundings<'_>,
    connection: &Connection,
    channel: Channel<Msg>,
    command: &Command,
    options: &mut RunOptions,
    on_line: OnLine<'_>,
) -> Result<Output, Stopped> {
    let frame = Frame { privilege: around.privilege, limit: options.deadline + HOST_SLACK };
    let text = frame.shell_text(command).map_err(|error| Stopped::Failed(error.into()))?;
    start(around, &channel, command, text).await.map_err(Stopped::Failed)?;
    if let (None, Some(secret)) = (&options.stdin, command.stdin()) {
        options.stdin = Some(Box::new(std::io::Cursor::new(secret.expose().as_bytes().to_vec())));
    }
    let (read, write) = channel.split();
    let running = Running { read, write, gather: Gather::new(options.output_limit, options.keep) };
    let mut guard = EndWhenDropped { abandon: around.abandon, running: Some(running) };
    let end = match guard.running.as_mut() {
        Some(running) => attend(running, options, on_line).await,
        None => End::Closed,
    };
    let Some(mut running) = guard.running.take() else { return Err(Stopped::Failed(gone(around, command))) };
    running.gather.flush(on_line);
    match end {
        End::GiveUp(why) => Err(Stopped::GiveUp { why, rest: running }),
        End::Closed => {
            let _ = running.write.close().await;
            running.gather.finish(around, connection, command).await.map_err(Stopped::Failed)
        }
    }
}

/// Attends to a running command: reads what it says, writes what it reads, and looks at the clock.
async fn attend(running: &mut Running, options: &mut RunOptions, on_line: OnLine<'_>) -> End {
    let Running { read, write, gather } = running;
    let mut writing = std::pin::pin!(feed(write, options.stdin.take()));
    let mut written = false;
    let mut deadline = std::pin::pin!(tokio::time::sleep(options.deadline));
    loop {
        tokio::select! {
            biased;
            message = read.wait() => match message {
                Some(message) => {
                    if let Some(end) = gather.take(message, on_line) {
                        return end;
                    }
                    if gather.has_ended() && !gather.waits_for_rest {
                        gather.waits_for_rest = true;
                        deadline.as_mut().reset(tokio::time::Instant::now() + AFTER_STATUS);
                    }
                }
                None => return End::Closed,
            },
            () = &mut writing, if !written => written = true,
            () = options.cancel.cancelled(), if !gather.waits_for_rest => return End::GiveUp(GiveUp::Cancelled),
            () = &mut deadline => {
                return if gather.waits_for_rest { End::Closed } else { End::GiveUp(GiveUp::Deadline) };
            }
        }
    }
}

fn gone(around: &Surroundings<'_>, command: &Command) -> Error {
    let (address, command) = (around.address.to_owned(), command.summary());
    Error::Refused { address, command, reason: "its channel is closed".to_owned() }
}

/// Ends the command on the host when the future that waits for it is dropped.
struct EndWhenDropped<'a> {
    abandon: &'a (dyn Fn(Running) + Send + Sync),
    running: Option<Running>,
}

impl Drop for EndWhenDropped<'_> {
    fn drop(&mut self) {
        let Some(running) = self.running.take().filter(|running| !running.gather.has_ended()) else { return };
        (self.abandon)(running);
    }
}

/// Starts the command; what is refused here was not run.
async fn start(
    around: &Surroundings<'_>,
    channel: &Channel<Msg>,
    command: &Command,
    text: Vec<u8>,
) -> Result<(), Error> {
    // Messages in English and names in UTF-8; Debian's sshd accepts LC_*, and another answers nothing to it.
    let _ = channel.set_env(false, "LC_ALL", "C.UTF-8").await;
    let refused = |error: russh::Error| Error::Refused {
        address: around.address.to_owned(),
        command: command.summary(),
        reason: error.to_string(),
    };
    channel.exec(true, text).await.map_err(refused)
}

/// Copies `stdin` to the channel. Runs concurrently with reading, and is dropped if the command ends first.
async fn feed(write: &russh::ChannelWriteHalf<Msg>, stdin: Option<Box<dyn AsyncRead + Send + Unpin>>) {
    if let Some(stdin) = stdin {
        let _ = write.data(stdin).await;
    }
    let _ = write.eof().await;
}

enum End {
    Closed,
    GiveUp(GiveUp),
}

/// What has come of a command so far.
pub(crate) struct Gather {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// How much of each was handed on as lines.
    told: (usize, usize),
    limit: usize,
    keep: Keep,
    pid: Option<u32>,
    pid_looked_for: bool,
    /// How much of stderr is known to hold no process number.
    no_pid_until: usize,
    status: Option<u32>,
    signal: Option<String>,
    eof: bool,
    closed: bool,
    refused: bool,
    waits_for_rest: bool,
}

impl Gather {
    fn new(limit: usize, keep: Keep) -> Self {
        Self {
            stdout: Vec::new(),
            stderr: Vec::new(),
            told: (0, 0),
            limit,
            keep,
            pid: None,
            pid_looked_for: false,
            no_pid_until: 0,
            status: None,
            signal: None,
            eof: false,
            closed: false,
            refused: false,
            waits_for_rest: false,
        }
    }

    /// Takes a message; returns how the run ends when it does.
    fn take(&mut self, message: ChannelMsg, on_line: OnLine<'_>) -> Option<End> {
        match message {
            ChannelMsg::Data { data } => {
                self.stdout.extend_from_slice(&data);
                tell(&self.stdout, &mut self.told.0, Stream::Stdout, on_line);
            }
            ChannelMsg::ExtendedData { data, ext: 1 } => {
                self.stderr.extend_from_slice(&data);
                self.look_for_pid();
                if self.pid_looked_for {
                    tell(&self.stderr, &mut self.told.1, Stream::Stderr, on_line);
                }
            }
            ChannelMsg::Eof => self.eof = true,
            ChannelMsg::ExitStatus { exit_status } => self.status = Some(exit_status),
            ChannelMsg::ExitSignal { signal_name, .. } => self.signal = Some(signal_text(&signal_name)),
            ChannelMsg::Failure => {
                self.refused = true;
                return Some(End::Closed);
            }
            ChannelMsg::Close => {
                self.closed = true;
                return Some(End::Closed);
            }
            _ => {}
        }
        if self.keep == Keep::Tail {
            forget(&mut self.stdout, &mut self.told.0, self.limit);
            forget(&mut self.stderr, &mut self.told.1, self.limit / 2);
        }
        let too_much = self.stdout.len() > self.limit || self.stderr.len() > self.limit / 2 + 256;
        too_much.then_some(End::GiveUp(GiveUp::TooMuchOutput))
    }

    /// Takes the frame's line out of stderr. What a start-up file of the shell or a missing locale says may come first.
    fn look_for_pid(&mut self) {
        while !self.pid_looked_for {
            let rest = self.stderr.get(self.no_pid_until..).unwrap_or_default();
            let Some(length) = rest.iter().position(|&byte| byte == b'\n') else { return };
            let (start, end) = (self.no_pid_until, self.no_pid_until + length);
            self.pid = crate::command::pid_line(&self.stderr[start..end]);
            if self.pid.is_some() {
                self.stderr.drain(start..=end);
            } else {
                self.no_pid_until = end + 1;
            }
            self.pid_looked_for = self.pid.is_some() || end > PID_WITHIN;
        }
    }

    /// Hands on a last line without a line end.
    fn flush(&mut self, on_line: OnLine<'_>) {
        // Where no process number came, its lines were held back.
        tell(&self.stderr, &mut self.told.1, Stream::Stderr, on_line);
        for (text, told, stream) in
            [(&self.stdout, self.told.0, Stream::Stdout), (&self.stderr, self.told.1, Stream::Stderr)]
        {
            if told < text.len() {
                on_line(stream, String::from_utf8_lossy(&text[told..]).trim_end_matches('\r'));
            }
        }
    }

    /// Tells whether the command has said how it ended.
    fn has_ended(&self) -> bool {
        self.status.is_some() || self.signal.is_some()
    }

    async fn finish(
        self,
        around: &Surroundings<'_>,
        connection: &Connection,
        command: &Command,
    ) -> Result<Output, Error> {
        let (address, command) = (around.address.to_owned(), command.summary());
        if self.refused {
            let reason = "the host starts no commands for this user".to_owned();
            return Err(Error::Refused { address, command, reason });
        }
        if let Some(signal) = self.signal {
            return Err(Error::Signal { address, command, signal });
        }
        match self.status {
            // The status counts only when the host also ended the output, or is still there.
            Some(status) if self.eof || self.closed || !connection.is_closed() => Ok(Output {
                status,
                stdout: String::from_utf8_lossy(&self.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&self.stderr).into_owned(),
            }),
            _ => Err(Error::Lost { address, command, reason: connection.reason().await, pid: self.pid }),
        }
    }
}

fn signal_text(signal: &russh::Sig) -> String {
    match signal {
        russh::Sig::Custom(name) => crate::text::Escaped(name).to_string(),
        known => format!("{known:?}"),
    }
}

/// Forgets the older half of a text that is longer than `limit`, handed on or not.
fn forget(text: &mut Vec<u8>, told: &mut usize, limit: usize) {
    if text.len() > limit {
        let count = text.len() - limit / 2;
        text.drain(..count);
        *told = told.saturating_sub(count);
    }
}

/// Hands on every complete line that was not handed on before.
fn tell(text: &[u8], told: &mut usize, stream: Stream, on_line: OnLine<'_>) {
    while let Some(length) = text[*told..].iter().position(|&byte| byte == b'\n') {
        let line = &text[*told..*told + length];
        on_line(stream, String::from_utf8_lossy(line).trim_end_matches('\r'));
        *told += length + 1;
    }
}
