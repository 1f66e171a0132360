//! Tasks: what PVE does in the background, followed to its end.

use crate::client::{Client, Place};
use crate::error::ApiError;
use crate::request::{Method, Params, Request};
use pve_types::{TaskStatus, Upid};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;

/// A task's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskState {
    /// `running` or `stopped`.
    pub status: String,
    /// How it ended, once it is stopped.
    pub exitstatus: Option<String>,
    /// Its type, such as `qmstart`.
    #[serde(rename = "type")]
    pub task_type: Option<String>,
    /// What it works on.
    pub id: Option<String>,
    /// Who started it, without the token.
    pub user: Option<String>,
    /// The token that started it.
    pub tokenid: Option<String>,
    /// The node.
    pub node: Option<String>,
    /// When it started, in seconds since 1970.
    pub starttime: Option<u64>,
    /// Its process on the node.
    pub pid: Option<u64>,
}

impl TaskState {
    /// Returns how the task ended, or `None` while it runs.
    pub fn outcome(&self) -> Option<TaskStatus> {
        match self.status.as_str() {
            "running" => None,
            _ => Some(TaskStatus::from_exitstatus(self.exitstatus.as_deref().unwrap_or("unknown"))),
        }
    }
}

/// A line of a task's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskLogLine {
    /// Its number, from 1.
    pub n: u64,
    /// The line.
    #[serde(default)]
    pub t: String,
}

/// A part of a task's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskLog {
    /// The lines that were asked for.
    pub lines: Vec<TaskLogLine>,
    /// How many lines there are in all, if PVE says.
    pub total: Option<u64>,
}

/// How long and how often to look at a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// How long to wait for its end.
    pub timeout: Duration,
    /// The time between the first two looks; it doubles up to `slowest`.
    pub fastest: Duration,
    /// The longest time between two looks.
    pub slowest: Duration,
    /// The log of a task that ends within this time is not asked for.
    pub follow_after: Duration,
}

impl Wait {
    /// Returns the usual way of waiting, for at most `timeout`.
    pub fn at_most(timeout: Duration) -> Self {
        let (fastest, slowest) = (Duration::from_millis(50), Duration::from_secs(1));
        Self { timeout, fastest, slowest, follow_after: Duration::ZERO }
    }
}

/// What is told while a task runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TaskProgress<'a> {
    /// The task.
    pub upid: &'a Upid,
    /// The log lines that are new, as PVE wrote them: they may hold control characters.
    pub lines: &'a [TaskLogLine],
    /// The last percentage that the log named, 0 to 100.
    pub percent: Option<f64>,
}

/// How a task ended that did its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The task.
    pub upid: Upid,
    /// `Ok`, or the number of warnings; never a failure.
    pub status: TaskStatus,
    /// The lines that begin with `WARN: `, where there were warnings.
    pub warnings: Vec<String>,
}

/// One task.
#[derive(Debug, Clone)]
pub struct Task {
    place: Place,
    upid: Upid,
}

impl Client {
    /// Returns the task of this UPID.
    pub fn task(&self, upid: &Upid) -> Task {
        let place = Place::new(self, ["nodes", upid.node().as_str(), "tasks", upid.as_str()]);
        Task { place, upid: upid.clone() }
    }
}

/// This many looks at a task, each sent again while its failure may pass, may fail one after the other.
const FAILED_LOOKS: u32 = 2;
/// How many of a failed task's last lines are kept.
const LAST_LINES: usize = 20;
/// How many log lines are asked for at once.
const PAGE: u64 = 500;

impl Task {
    /// Returns its identifier.
    pub fn upid(&self) -> &Upid {
        &self.upid
    }
    /// Returns whether it runs, and how it ended.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_absent`] if PVE knows no such task.
    pub async fn status(&self) -> Result<TaskState, ApiError> {
        self.place.join("status").get(Params::new()).await
    }
    /// Returns up to `limit` lines of its log after the first `start`.
    ///
    /// # Errors
    /// The call fails.
    pub async fn log(&self, start: u64, limit: u64) -> Result<TaskLog, ApiError> {
        let params = Params::new().with("start", start).with("limit", limit);
        let request = Request::new(Method::Get, self.place.path.join("log")).with(params);
        let response = self.place.client.send(&request).await?;
        let lines: Vec<TaskLogLine> = response
            .decode()
            .map_err(|source| ApiError::Decode { call: crate::Call::of(&request), source })?;
        // PVE: pve-common src/PVE/Tools.pm dump_logfile: this is its word for an empty file.
        let empty = matches!(lines.as_slice(), [line] if line.n == 1 && line.t == "no content");
        let lines = if empty { Vec::new() } else { lines };
        Ok(TaskLog { lines, total: response.total })
    }
    /// Returns the whole log, page by page.
    ///
    /// # Errors
    /// A call fails.
    pub async fn whole_log(&self) -> Result<Vec<TaskLogLine>, ApiError> {
        let mut lines = Vec::new();
        loop {
            let page = self.log(lines.len() as u64, PAGE).await?;
            let full = page.lines.len() as u64 == PAGE;
            lines.extend(page.lines);
            if !full {
                return Ok(lines);
            }
        }
    }
    /// Asks PVE to stop it: a signal, and after five seconds a stronger one.
    ///
    /// # Errors
    /// The call fails.
    pub async fn stop(&self) -> Result<(), ApiError> {
        self.place.delete(Params::new()).await
    }
    /// Waits for its end.
    ///
    /// # Errors
    /// [`ApiError::Task`] if it failed, [`ApiError::TaskTimeout`] if it still runs when the time is over (it is
    /// left running), or what looks at it failed with, one after the other.
    pub async fn wait(&self, wait: Wait) -> Result<Finished, ApiError> {
        self.wait_until_ended(wait, None).await
    }
    /// Waits for its end, and tells of its log meanwhile.
    ///
    /// # Errors
    /// As [`Task::wait`].
    pub async fn wait_with(
        &self,
        wait: Wait,
        mut tell: impl FnMut(TaskProgress<'_>) + Send,
    ) -> Result<Finished, ApiError> {
        self.wait_until_ended(wait, Some(&mut tell)).await
    }

    async fn wait_until_ended(
        &self,
        wait: Wait,
        mut tell: Option<&mut (dyn FnMut(TaskProgress<'_>) + Send)>,
    ) -> Result<Finished, ApiError> {
        let began = Instant::now();
        let deadline = began + wait.timeout;
        let (mut pause, mut failed) = (wait.fastest.max(Duration::from_millis(1)), 0);
        let mut follow = Follow::default();
        loop {
            match self.status().await {
                Ok(state) => {
                    failed = 0;
                    let outcome = state.outcome();
                    let is_followed = began.elapsed() >= wait.follow_after;
                    if let Some(tell) = tell.as_deref_mut().filter(|_| is_followed) {
                        follow.look(self, tell, outcome.is_some()).await;
                    }
                    if let Some(outcome) = outcome {
                        return self.ended(outcome).await;
                    }
                }
                Err(error) if !is_passing(&error) || failed >= FAILED_LOOKS => return Err(error),
                Err(error) => {
                    failed += 1;
                    tracing::debug!(%error, upid = %self.upid, "reading the task failed");
                }
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(ApiError::TaskTimeout { upid: self.upid.clone(), after: wait.timeout });
            }
            tokio::time::sleep_until((now + pause).min(deadline)).await;
            pause = (pause * 3 / 2).min(wait.slowest.max(wait.fastest));
        }
    }

    async fn ended(&self, outcome: TaskStatus) -> Result<Finished, ApiError> {
        let lines = match outcome {
            TaskStatus::Ok => Vec::new(),
            // How it ended is known; the log is a kindness that may fail.
            _ => self.whole_log().await.unwrap_or_default(),
        };
        let texts = lines.iter().map(|line| crate::text::one_line(&line.t));
        match outcome {
            TaskStatus::Failed(status) => {
                let texts: Vec<String> = texts.filter(|line| !line.is_empty()).collect();
                let log = texts[texts.len().saturating_sub(LAST_LINES)..].to_vec();
                let status = crate::text::one_line(&status);
                Err(ApiError::Task { upid: self.upid.clone(), status, log })
            }
            status => {
                let warnings = texts.filter(|line| line.starts_with("WARN")).collect();
                Ok(Finished { upid: self.upid.clone(), status, warnings })
            }
        }
    }
}

/// Tells whether the next look may well succeed: the task does not depend on the connection to it.
fn is_passing(error: &ApiError) -> bool {
    match error {
        ApiError::Connect { .. } | ApiError::Interrupted { .. } | ApiError::Timeout { .. } => true,
        ApiError::Answered(answer) => answer.status >= 502,
        _ => false,
    }
}

/// How much of a task's log has been told.
#[derive(Debug, Default)]
struct Follow {
    told: u64,
    percent: Option<f64>,
}

impl Follow {
    async fn look(&mut self, task: &Task, tell: &mut (dyn FnMut(TaskProgress<'_>) + Send), is_last: bool) {
        loop {
            // A log that cannot be read is not a reason to stop waiting.
            let Ok(page) = task.log(self.told, PAGE).await else { return };
            // The first line after a failed open is a message, not a line: it has no number of its own to skip.
            let lines = page.lines;
            if lines.is_empty() {
                return;
            }
            self.told += lines.len() as u64;
            self.percent = lines.iter().rev().find_map(|line| percent_in(&line.t)).or(self.percent);
            tell(TaskProgress { upid: &task.upid, lines: &lines, percent: self.percent });
            if !is_last || (lines.len() as u64) < PAGE {
                return;
            }
        }
    }
}

/// Returns the percentage that a line names: `transferred 45.1 MiB of 2.2 GiB (2.00%)`.
// PVE: pve-common src/PVE/Format.pm; qemu-server src/PVE/QemuServer/QemuImage.pm.
fn percent_in(line: &str) -> Option<f64> {
    let head = &line[..line.rfind('%')?];
    let start = head.rfind(|c: char| !c.is_ascii_digit() && c != '.').map_or(0, |at| at + 1);
    // The character before is ASCII or ends at a boundary: `rfind` gives the start of the character.
    let number =
        head.get(start..).or_else(|| head.rsplit(|c: char| !c.is_ascii_digit() && c != '.').next())?;
    number.parse().ok().filter(|percent| (0.0..=100.0).contains(percent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_found_in_a_log_line() {
        let check = |line: &str, expect: Option<f64>| assert_eq!(percent_in(line), expect, "{line}");
        check("transferred 45.1 MiB of 2.2 GiB (2.00%)", Some(2.0));
        check("100%", Some(100.0));
        check("INFO:  12% (1.2 GiB of 10.0 GiB) in 3s", Some(12.0));
        check("ü50%", Some(50.0));
        check("no number %", None);
        check("plain", None);
        check("999%", None);
    }

    #[test]
    fn a_state_is_running_or_has_an_outcome() {
        let state = |text: &str| -> TaskState { serde_json::from_str(text).unwrap() };
        assert_eq!(state(r#"{"status":"running"}"#).outcome(), None);
        assert_eq!(state(r#"{"status":"stopped","exitstatus":"OK"}"#).outcome(), Some(TaskStatus::Ok));
        let failed = state(r#"{"status":"stopped","exitstatus":"VM 100 already running"}"#).outcome();
        assert_eq!(failed, Some(TaskStatus::Failed("VM 100 already running".into())));
        assert!(!state(r#"{"status":"stopped"}"#).outcome().unwrap().is_success());
    }

    proptest::proptest! {
        #[test]
        fn no_log_line_is_a_trap(line in ".{0,30}%?.{0,5}") {
            if let Some(percent) = percent_in(&line) {
                proptest::prop_assert!((0.0..=100.0).contains(&percent));
            }
        }
    }
}
