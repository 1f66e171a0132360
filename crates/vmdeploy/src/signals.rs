//! SIGINT and SIGTERM as something that can be awaited.

use crate::exit::Exit;
use crate::failure::Failure;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Catches the signals from when it is made on.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Begins to catch them.
    ///
    /// # Errors
    /// The system refuses handlers.
    pub fn catch() -> Result<Self, Failure> {
        let handler = |kind| {
            signal(kind).map_err(|error| Failure::of(Exit::INTERNAL, error).context("cannot catch signals"))
        };
        Ok(Self {
            interrupt: handler(SignalKind::interrupt())?,
            terminate: handler(SignalKind::terminate())?,
            hangup: handler(SignalKind::hangup())?,
        })
    }
    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
