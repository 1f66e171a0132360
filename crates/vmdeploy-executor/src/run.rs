//! One run from its beginning to its end: what is asked for, and why it may not begin.

use crate::drive::{Begin, CutOff, Shared, drive};
use crate::journal::{JournalError, RunsError, RunsFolder};
use crate::observe::check_cluster;
use crate::secrets::SecretResolver;
use crate::{Cancellation, Connections, Event, LocalFiles, ResumeMode, RunReport, StoredRun};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tracing::Instrument as _;
use vmdeploy_planner::plan::{CheckedPlan, OnFailure};

/// What a run is told beside its plan. Nothing here changes what a step means.
#[derive(Clone)]
pub struct RunOptions {
    /// Where plan and journal are kept.
    pub runs: RunsFolder,
    /// The files of this machine that the plan may name, and the spec's folder, from which relative paths start.
    pub files: LocalFiles,
    /// What follows when a step fails, if the command line says so; else each VM's own rule holds.
    pub on_failure: Option<OnFailure>,
    /// Gets secrets and public keys when they are needed.
    pub secrets: Arc<dyn SecretResolver>,
    /// Whether commands on this machine may be run, for `ready: {command: …}`.
    pub allow_commands: bool,
    /// How often tasks and guests are asked how far they are.
    pub poll: Duration,
    /// How often a step that certainly changed nothing is tried in all.
    pub attempts: u32,
    /// The first wait before a step is tried again; it doubles each time, and is spread by chance.
    pub first_wait: Duration,
    /// The longest time that a request without an answer may still be on its way: until then its effect is looked for
    /// before it is taken for absent.
    pub settle: Duration,
    /// The same where the cluster answers promptly meanwhile: a daemon that answers our questions at once does not hold
    /// an earlier request back for long.
    pub settle_when_prompt: Duration,
    /// How often the project's lock on the cluster is touched. PVE lets a lock go that was not touched four times as long.
    pub keep_lock_every: Duration,
    /// For tests: the run ends without another word after that many records, as if the process had been killed.
    #[doc(hidden)]
    pub die_after_records: Option<usize>,
}

impl RunOptions {
    /// Returns the options that suit a cluster.
    pub fn new(runs: RunsFolder, spec_folder: impl Into<PathBuf>, secrets: Arc<dyn SecretResolver>) -> Self {
        Self {
            runs,
            files: LocalFiles::of(spec_folder),
            on_failure: None,
            secrets,
            allow_commands: false,
            poll: Duration::from_millis(500),
            attempts: 10,
            first_wait: Duration::from_secs(1),
            // PVE: pveproxy waits 30 s for the daemon or the node that it hands a request to.
            settle: Duration::from_secs(30),
            settle_when_prompt: Duration::from_secs(5),
            keep_lock_every: Duration::from_secs(30),
            die_after_records: None,
        }
    }
}

/// Why a run could not begin, or could not be followed to its end. Steps that fail are in the report instead.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The folder of runs refused, or another run of the project is going on on this machine.
    #[error("the run could not be recorded")]
    Runs(#[from] RunsError),
    /// The journal could not be written; nothing is sent out that is not written down.
    #[error("the run was stopped because its journal could not be written")]
    Journal(#[from] JournalError),
    /// The cluster refused the project's lock.
    #[error("the project `{project}` could not be locked on the cluster")]
    ClusterLock {
        /// The project.
        project: String,
        /// Why, and what to do.
        source: Box<crate::Failure>,
    },
    /// The connections lead to another cluster than the run's, or it could not be asked which it is.
    #[error("the run is not resumed: nothing was asked to change")]
    OtherCluster(#[source] Box<crate::Failure>),
    /// The stored run is at its end.
    #[error("the run `{run}` is finished; there is nothing to resume")]
    NothingToResume {
        /// The run.
        run: String,
    },
    /// The run was made to end as if it had been killed. Only tests ask for that.
    #[doc(hidden)]
    #[error("the run was ended after the records that were asked for")]
    Died,
}

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
    let cut_off = options.runs.cut_off(&plan.project, LOOKED_BACK);
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
    let cut_off = options.runs.cut_off(project, LOOKED_BACK);
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
