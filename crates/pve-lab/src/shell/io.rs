//! Where a command reads from and writes to.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::node::Node;

/// Bytes read or written at once.
pub(crate) const PIECE: usize = 32 * 1024;
/// Pieces that wait in a pipe.
const PIPE_DEPTH: usize = 4;

/// Which stream of a session's channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// An output; cheap to clone.
#[derive(Clone)]
pub(crate) enum Output {
    /// Thrown away.
    Null,
    /// `>&-`: writing fails.
    Closed,
    /// To the owner of the session. When it is gone, the bytes are dropped and the command continues.
    Session(mpsc::Sender<(Stream, Bytes)>, Stream),
    /// Into a pipe.
    Pipe(mpsc::Sender<Bytes>),
    /// Kept, for `$(…)`.
    Capture(Arc<Mutex<Vec<u8>>>),
    /// To a file, at the given place; the place is shared by duplicates.
    File(Arc<OpenFile>),
}

/// A file open for writing.
pub(crate) struct OpenFile {
    pub(crate) node: Arc<Node>,
    pub(crate) path: String,
    pub(crate) append: bool,
    pub(crate) position: Mutex<u64>,
}

/// Captured output beyond this is cut (a variable is no place for an image).
const MAX_CAPTURE: usize = 16 << 20;

impl Output {
    /// Writes all bytes.
    ///
    /// # Errors
    /// The text of the failure: a closed pipe, a full file system.
    pub(crate) async fn write(&self, bytes: impl Into<Bytes>) -> Result<(), WriteError> {
        let bytes = bytes.into();
        match self {
            Self::Null => Ok(()),
            Self::Closed => Err(WriteError::Refused("Bad file descriptor".into())),
            Self::Session(sender, stream) => {
                // As with a real sshd, a command lives on when its channel is gone.
                let _ = sender.send((*stream, bytes)).await;
                Ok(())
            }
            Self::Pipe(sender) => sender.send(bytes).await.map_err(|_| WriteError::BrokenPipe),
            Self::Capture(kept) => {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() + bytes.len() <= MAX_CAPTURE {
                    kept.extend_from_slice(&bytes);
                }
                Ok(())
            }
            Self::File(file) => file.write(&bytes),
        }
    }

    /// Writes a line.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub(crate) async fn line(&self, text: impl AsRef<str>) -> Result<(), WriteError> {
        self.write(format!("{}\n", text.as_ref())).await
    }
}

/// Why a write failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WriteError {
    /// The reader of the pipe has ended: SIGPIPE.
    BrokenPipe,
    /// The file system's words.
    Refused(String),
}

impl OpenFile {
    fn write(&self, bytes: &[u8]) -> Result<(), WriteError> {
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.node.files(|files| {
            if self.append {
                *position = files.stat(&self.path)?.size;
            }
            files.write_at(&self.path, *position, bytes)
        });
        match done {
            Ok(()) => {
                *position += bytes.len() as u64;
                Ok(())
            }
            Err(error) => Err(WriteError::Refused(error.to_string())),
        }
    }
}

/// An input; clones read on from the same place.
#[derive(Clone)]
pub(crate) struct Input(Arc<tokio::sync::Mutex<Source>>);

enum Source {
    Empty,
    Bytes(Bytes),
    Stream(mpsc::Receiver<Bytes>),
    File { node: Arc<Node>, path: String, position: u64 },
    Rest(Bytes, Box<Source>),
}

impl Input {
    fn new(source: Source) -> Self {
        Self(Arc::new(tokio::sync::Mutex::new(source)))
    }

    /// Nothing to read.
    pub(crate) fn empty() -> Self {
        Self::new(Source::Empty)
    }

    /// These bytes.
    pub(crate) fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::new(Source::Bytes(bytes.into()))
    }

    /// What comes through a channel.
    pub(crate) fn stream(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self::new(Source::Stream(receiver))
    }

    /// A file of the node.
    pub(crate) fn file(node: Arc<Node>, path: String) -> Self {
        Self::new(Source::File { node, path, position: 0 })
    }

    /// Returns the next bytes; `None` at the end.
    pub(crate) async fn read(&self) -> Option<Bytes> {
        self.0.lock().await.read().await
    }

    /// Returns the next line with its newline, or what is left without one.
    pub(crate) async fn read_line(&self) -> Option<Bytes> {
        let mut source = self.0.lock().await;
        let mut line = Vec::new();
        while let Some(piece) = source.read().await {
            match piece.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    line.extend_from_slice(&piece[..=end]);
                    let rest = piece.slice(end + 1..);
                    if !rest.is_empty() {
                        let after = std::mem::replace(&mut *source, Source::Empty);
                        *source = Source::Rest(rest, Box::new(after));
                    }
                    return Some(line.into());
                }
                None => line.extend_from_slice(&piece),
            }
            if line.len() > MAX_CAPTURE {
                break;
            }
        }
        (!line.is_empty()).then(|| line.into())
    }
}

impl Source {
    async fn read(&mut self) -> Option<Bytes> {
        if let Self::Rest(..) = self
            && let Self::Rest(bytes, after) = std::mem::replace(self, Self::Empty)
        {
            *self = *after;
            return Some(bytes);
        }
        match self {
            Self::Empty | Self::Rest(..) => None,
            Self::Bytes(bytes) => {
                let piece = bytes.split_to(bytes.len().min(PIECE));
                (!piece.is_empty()).then_some(piece)
            }
            Self::Stream(receiver) => receiver.recv().await,
            Self::File { node, path, position } => {
                let piece = node.files(|files| files.read_at(path, *position, PIECE as u64)).ok()?;
                *position += piece.len() as u64;
                (!piece.is_empty()).then(|| piece.into())
            }
        }
    }
}

/// Returns both ends of a pipe.
pub(crate) fn pipe() -> (Output, Input) {
    let (sender, receiver) = mpsc::channel(PIPE_DEPTH);
    (Output::Pipe(sender), Input::stream(receiver))
}

/// The three streams of a command.
#[derive(Clone)]
pub(crate) struct Streams {
    pub(crate) stdin: Input,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    pub(crate) connection: Connection,
}

/// The connection that a command came by; faults cut it.
#[derive(Clone)]
pub(crate) struct Connection(Arc<watch::Sender<bool>>);

impl Connection {
    /// Returns the connection whose line `cut` cuts.
    pub(crate) fn new(cut: Arc<watch::Sender<bool>>) -> Self {
        Self(cut)
    }

    /// Drops the connection after a while; commands on the node continue.
    pub(crate) fn cut_after(&self, delay: std::time::Duration) {
        let cut = Arc::clone(&self.0);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            cut.send_replace(true);
        });
    }

    /// Returns when the line is down: from then on nothing reaches the client.
    pub(crate) async fn is_down(&self) {
        self.0.closed().await;
    }

    /// Cuts the line, and returns when it is down.
    pub(crate) async fn cut(&self) {
        self.0.send_replace(true);
        self.is_down().await;
    }
}
