//! One run from its beginning to its end: what is asked for, and why it may not begin.

use crate::drive::{Begin, CutOff, Shared, drive};
use crate::observe::check_cluster;
use crate::{Cancellation, Connections, Event, ResumeMode, RunError, RunOptions, RunReport, StoredRun};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tracing::Instrument as _;
use vmdeploy_planner::plan::CheckedPlan;

/// Carries the plan out, and tells about it on `events`.
///
/// # Errors
/// When the run cannot begin, see [`RunError`]. A step that fails is no error here; the report says so.
pub async fn execute(
    plan: CheckedPlan,
    connections: &Connections,
    options: &RunOptions,
    events: UnboundedSender<Event>,
    cancellation: Cancellation,
) -> Result<RunReport, RunError> {
    let plan = plan.plan().clone();
    let _lock = options.runs.lock(&plan.project, &holder(&format!("run {}", plan.run_id)))?;
    let cut_off = CutOff::of(&options.runs.recent(&plan.project, LOOKED_BACK));
    let (stored, journal) = options.runs.begin(&plan)?;
    let shared = Shared::new(connections.clone(), plan, options.clone());
    let begin = Begin { journal, mode: None, plan_digest: stored.plan_digest, cut_off };
    drive(begin, shared, events, cancellation).instrument(span(&stored.run)).await
}

/// Goes on with a run that was interrupted or failed: what had begun is probed, and nothing is repeated blindly.
///
/// # Errors
/// See [`RunError`]; [`RunError::NothingToResume`] when the run is at its end.
pub async fn resume(
    stored: StoredRun,
    mode: ResumeMode,
    connections: &Connections,
    options: &RunOptions,
    events: UnboundedSender<Event>,
    cancellation: Cancellation,
) -> Result<RunReport, RunError> {
    let _lock = options.runs.lock(&stored.plan.project, &holder(&format!("run {}", stored.run)))?;
    // Another process may have gone on with it since it was read.
    let stored = options.runs.open(&stored.run)?;
    if !stored.is_resumable(mode) {
        return Err(RunError::NothingToResume { run: stored.run });
    }
    check_cluster(&stored.plan, connections)
        .await
        .map_err(|failure| RunError::OtherCluster(Box::new(failure)))?;
    let journal = stored.reopen()?;
    let shared = Shared::new(connections.clone(), stored.plan, options.clone()).after_an_interruption();
    let begin =
        Begin { journal, mode: Some(mode), plan_digest: stored.plan_digest, cut_off: CutOff::default() };
    drive(begin, shared, events, cancellation).instrument(span(&stored.run)).await
}

/// Waits until nothing that a dead run of the project has sent can still change what a new plan is made from. Returns at
/// once where every run came to its end, or where one is alive on this machine. `note` is called with the reason of a wait.
///
/// # Errors
/// The cluster cannot be asked, or a task of the dead run does not end within an hour.
pub async fn drain_in_flight(
    project: &str,
    connections: &Connections,
    options: &RunOptions,
    note: impl FnMut(String),
) -> Result<(), crate::Failure> {
    let Ok(_lock) = options.runs.lock(project, &holder("planning")) else { return Ok(()) };
    let cut_off = CutOff::of(&options.runs.recent(project, LOOKED_BACK));
    if cut_off.is_empty() {
        return Ok(());
    }
    cut_off.drain(connections, options, note).await
}

/// Runs whose journal was written to longer ago than this are not asked about: their tasks are at their end.
const LOOKED_BACK: Duration = Duration::from_secs(24 * 3600);

/// Says who holds a lock: what it does, as which process, since when.
fn holder(what: &str) -> String {
    let since = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC");
    format!("{what}, process {} since {since}", std::process::id())
}

fn span(run: &str) -> tracing::Span {
    tracing::info_span!("run", run)
}
