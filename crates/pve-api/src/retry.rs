//! Another attempt: of reads, which change nothing, and of writes that certainly changed nothing.

use crate::TookEffect;
use crate::error::{AnswerTooLarge, ApiError};
use crate::request::{Method, Request};
use pve_types::{Backoff, PveError as E};
use rand::RngExt as _;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How often a read is sent whose failure nothing is known about.
const UNKNOWN: u32 = 3;
/// How often a server is tried that has never answered: a wrong address is told soon.
const FIRST_CONTACT: u32 = 3;
/// For how long a node that could not be reached is asked only once.
const DOWN_FOR: Duration = Duration::from_secs(30);

/// What a client remembers of its attempts.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// Whether PVE has answered, and has not been given up since.
    answered: std::sync::atomic::AtomicBool,
    /// The nodes that the others did not reach, and when that was.
    down: Mutex<BTreeMap<String, Instant>>,
}

impl Attempts {
    /// Notes that PVE answered.
    pub(crate) fn note_answer(&self) {
        self.answered.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Returns how long to wait before `request` is sent again, or `None` when its error stands: a read while its
    /// failure may pass, a write a few times while it certainly changed nothing.
    pub(crate) fn pause(
        &self,
        request: &Request,
        error: &ApiError,
        failed: u32,
        elapsed: Duration,
    ) -> Option<Duration> {
        if request.method != Method::Get {
            // PVE has waited for a lock itself; whether it is worth another wait is the caller's to say.
            let is_lock = matches!(error.meaning(), Some(E::ConfigLock | E::StorageLock));
            let may_repeat = !is_lock && error.effect() == TookEffect::No && reads(error) == Read::Passing;
            let attempts = if may_repeat { Backoff::WRITES.attempts } else { 1 };
            let has_answered = self.answered.load(std::sync::atomic::Ordering::Relaxed);
            let attempts = if has_answered { attempts } else { attempts.min(FIRST_CONTACT) };
            return Backoff::WRITES.at_most(attempts).pause(failed, elapsed, chance());
        }
        let attempts = match reads(error) {
            Read::Passing => Backoff::READS.attempts,
            // The agent's own answers are polled by those who wait for it.
            Read::Hung => 2,
            Read::Unknown if request.path.segments().iter().any(|segment| segment == "agent") => 1,
            Read::Unknown => UNKNOWN,
            Read::Stands => 1,
        };
        let has_answered = self.answered.load(std::sync::atomic::Ordering::Relaxed);
        let attempts = match error {
            ApiError::Connect { .. } if !has_answered => attempts.min(FIRST_CONTACT),
            _ => attempts,
        };
        let node = node_of(request).filter(|_| error.meaning() == Some(E::NodeUnreachable));
        let attempts = if node.is_some_and(|node| self.is_down(node)) { 1 } else { attempts };
        let pause = Backoff::READS.at_most(attempts).pause(failed, elapsed, chance());
        if let (Some(node), None) = (node, pause) {
            self.down().insert(node.to_owned(), Instant::now());
        }
        if pause.is_none() && matches!(error, ApiError::Connect { .. }) {
            // What comes next is told soon, until the server answers again.
            self.answered.store(false, std::sync::atomic::Ordering::Relaxed);
        }
        pause
    }

    fn is_down(&self, node: &str) -> bool {
        self.down().get(node).is_some_and(|since| since.elapsed() < DOWN_FOR)
    }

    fn down(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Instant>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn node_of(request: &Request) -> Option<&str> {
    match request.path.segments() {
        [first, node, ..] if first == "nodes" => Some(node),
        _ => None,
    }
}

fn chance() -> f64 {
    rand::rng().random_range(0.0..1.0)
}

/// What a failed read tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    /// Another attempt may well succeed.
    Passing,
    /// There was no answer at all.
    Hung,
    /// Nothing is known: another attempt may succeed.
    Unknown,
    /// Another attempt fails in the same way.
    Stands,
}

fn reads(error: &ApiError) -> Read {
    match error {
        ApiError::Connect { source, .. } => match source.downcast_ref::<std::io::Error>() {
            // A name that is unknown stays so.
            Some(error) if error.kind() == std::io::ErrorKind::NotFound => Read::Stands,
            _ => Read::Passing,
        },
        ApiError::Interrupted { source, .. } if source.is::<AnswerTooLarge>() => Read::Stands,
        ApiError::Interrupted { .. } => Read::Passing,
        // It has had its half minute; once more, for a connection that hung.
        ApiError::Timeout { .. } => Read::Hung,
        ApiError::Login(login) => match &**login {
            crate::error::LoginError::Api(error) => reads(error),
            crate::error::LoginError::Refused(answer) if answer.meaning().is_some_and(E::is_passing) => {
                Read::Passing
            }
            _ => Read::Stands,
        },
        ApiError::Answered(answer) => match error.meaning() {
            Some(error) if error.is_passing() => Read::Passing,
            Some(_) => Read::Stands,
            None if answer.status == 500 && !answer.is_absent() => Read::Unknown,
            None => Read::Stands,
        },
        _ => Read::Stands,
    }
}

/// Does something, and again after a pause while it failed without having changed anything and another attempt may
/// succeed: for writes whose caller keeps no journal.
///
/// # Errors
/// That of the last attempt.
pub async fn while_nothing_was_done<T>(
    backoff: Backoff,
    mut call: impl AsyncFnMut() -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let began = Instant::now();
    let mut failed = 0;
    loop {
        let error = match call().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        failed += 1;
        let may_pass = match reads(&error) {
            Read::Passing => true,
            // A lock of a backup or a clone ends with its task.
            Read::Hung | Read::Unknown | Read::Stands => error.meaning() == Some(E::GuestLocked),
        };
        let may_repeat = error.effect() == TookEffect::No && may_pass;
        match backoff.pause(failed, began.elapsed(), chance()).filter(|_| may_repeat) {
            Some(pause) => {
                tracing::debug!(%error, failed, "nothing was done; sending it again");
                tokio::time::sleep(pause).await;
            }
            None => return Err(error),
        }
    }
}
