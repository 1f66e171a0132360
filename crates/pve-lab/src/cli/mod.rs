//! The programs of a node: PVE's own (`qm`, `pvesm`, …) and what deployers use around them.
//!
//! Each is a function of this crate. What is not here is not found; nothing of the machine is ever run.

mod digest;
mod files;
mod frame;
mod listing;
mod options;
mod printf;
mod programs;
mod pve;
mod system;
mod test_command;
mod text;
mod wrappers;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fault::Moment;
use crate::shell::io::{Streams, WriteError};
use crate::shell::node::Node;
use crate::shell::process::Process;
use crate::shell::run::{Ended, normalize_keeping_slash};

pub(crate) use listing::utc;
pub(crate) use programs::path_of;

/// What a program has to work with.
pub(crate) struct Context {
    pub(crate) node: Arc<Node>,
    pub(crate) process: Arc<Process>,
    pub(crate) streams: Streams,
    pub(crate) directory: String,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) umask: u32,
    /// How many shells are around it.
    pub(crate) depth: u32,
}

/// How a program ends: its exit status, or a write that failed.
pub(crate) type Exit = Result<i32, WriteError>;

impl Context {
    /// Writes to stdout as it is.
    pub(crate) async fn print(&self, text: impl Into<bytes::Bytes>) -> Result<(), WriteError> {
        self.streams.stdout.write(text).await
    }

    /// Writes a line to stdout.
    pub(crate) async fn line(&self, text: impl AsRef<str>) -> Result<(), WriteError> {
        self.streams.stdout.line(text).await
    }

    /// Writes a line to stderr.
    pub(crate) async fn complain(&self, text: impl AsRef<str>) -> Result<(), WriteError> {
        self.streams.stderr.line(text).await
    }

    /// Writes a line to stderr and returns the status.
    pub(crate) async fn fail(&self, status: i32, text: impl AsRef<str>) -> Exit {
        self.complain(text).await?;
        Ok(status)
    }

    /// The absolute form of a path; a slash at its end is kept.
    pub(crate) fn absolute(&self, path: &str) -> String {
        normalize_keeping_slash(&self.directory, path)
    }

    /// Reads stdin to its end, up to `limit` bytes.
    pub(crate) async fn read_all(&self, limit: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(piece) = self.streams.stdin.read().await {
            let room = limit.saturating_sub(all.len());
            all.extend_from_slice(&piece[..piece.len().min(room)]);
            if room < piece.len() {
                break;
            }
        }
        all
    }

    /// The same program environment for another command line.
    pub(crate) fn again(&self) -> Self {
        Self {
            node: Arc::clone(&self.node),
            process: Arc::clone(&self.process),
            streams: self.streams.clone(),
            directory: self.directory.clone(),
            variables: self.variables.clone(),
            umask: self.umask,
            depth: self.depth,
        }
    }
}

/// Runs a program to its end, or until a signal ends it.
pub(crate) fn run(context: Context, arguments: Vec<String>) -> futures::future::BoxFuture<'static, Ended> {
    Box::pin(run_to_end(context, arguments))
}

async fn run_to_end(context: Context, arguments: Vec<String>) -> Ended {
    let process = Arc::clone(&context.process);
    let stderr = context.streams.stderr.clone();
    let name = arguments.first().cloned().unwrap_or_default();
    let handles_signals = programs::handles_signals(&arguments);
    let work = run_unless_struck(&context, &arguments);
    let ended = if handles_signals {
        tokio::select! {
            exit = work => exit,
            () = process.killed() => return Ended::Signal(crate::shell::process::KILL),
        }
    } else {
        tokio::select! {
            exit = work => exit,
            signal = process.signalled() => return Ended::Signal(signal),
        }
    };
    match ended {
        Ok(status) => Ended::Status(status),
        Err(WriteError::BrokenPipe) => Ended::Signal(13),
        Err(WriteError::Refused(text)) => {
            let _ = stderr.line(format!("{name}: write error: {text}")).await;
            Ended::Status(1)
        }
    }
}

/// Runs a program, unless a fault befalls it.
async fn run_unless_struck(context: &Context, arguments: &[String]) -> Exit {
    let line = arguments.join(" ");
    let (blow, cut) =
        context.node.world.with(|world| crate::fault::of_program(world, &context.node.name, &line));
    context.node.world.pause(blow.delay).await;
    if let Some(after) = cut {
        context.streams.connection.cut_after(after);
    }
    if blow.drop == Some(Moment::Before) {
        context.streams.connection.cut().await;
        return Ok(255);
    }
    if let Some((_, text, exit, Moment::Before)) = blow.refusal {
        return context.fail(exit, text).await;
    }
    let mut done = programs::run(context, arguments).await;
    if let (Ok(0), Some((_, text, exit, Moment::After))) = (&done, blow.refusal) {
        done = context.fail(exit, text).await;
    }
    // Its end is not reported before the connection is dropped.
    if blow.drop == Some(Moment::After) {
        context.streams.connection.cut().await;
    } else if cut.is_some() {
        context.streams.connection.is_down().await;
    }
    done
}
