//! Executes a checked plan: prints events, handles signals, prints the result.

use crate::context::Context;
use crate::environment::names;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::local_files;
use crate::output;
use crate::run_output::{RunOutput, summary};
use crate::secrets::Resolver;
use crate::signals::Signals;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use vmdeploy_executor::{
    Cancellation, Canceller, Connections, Event, EventKind, JournalError, ResumeMode, RunError, RunOptions,
    RunReport, RunsError, RunsFolder, StoredRun, cancellation, drain_in_flight, execute, resume,
};
use vmdeploy_planner::plan::{CheckedPlan, OnFailure};

/// The file in a run's folder that says which folder relative paths start from.
const SPEC_FOLDER_FILE: &str = "spec-folder";

/// How many runs are named where one is not found.
const LAST_RUNS: usize = 5;

/// Options of a run, in addition to its plan.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RunArgs {
    /// Print events to stdout, one JSON object per line
    #[arg(long)]
    pub json: bool,
    /// What to do when a step fails [default: roll back created VMs, keep updated ones]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub on_failure: Option<OnFailureArg>,
    /// Allow the spec to run commands on this machine, for secrets and readiness checks
    #[arg(long)]
    pub allow_commands: bool,
}

/// `--on-failure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnFailureArg {
    /// Revert what the run did to the VM
    Rollback,
    /// Keep what was done, to continue with `resume`
    Keep,
}

impl From<OnFailureArg> for OnFailure {
    fn from(arg: OnFailureArg) -> Self {
        match arg {
            OnFailureArg::Rollback => Self::Rollback,
            OnFailureArg::Keep => Self::Keep,
        }
    }
}

/// Returns the folder in which runs are kept.
pub fn runs_folder(context: &Context) -> RunsFolder {
    RunsFolder::new(context.environment.path(names::RUNS).unwrap_or_else(|| PathBuf::from(".vmdeploy/runs")))
}

/// Says that a run of the project is unfinished, and how it is continued or rolled back instead of deploying again.
/// Returns the run's name.
pub fn note_unfinished(project: &str, context: &Context) -> Option<String> {
    let folder = runs_folder(context);
    let unfinished = folder.newest_unfinished(Some(project), ResumeMode::Finish).ok().flatten();
    let stored = unfinished.filter(StoredRun::has_begun)?;
    let run = &stored.run;
    output::say(&format!(
        "note: run `{run}` of this project is unfinished ({}): `vmdeploy resume {run}` continues it, and \
         `vmdeploy resume {run} --rollback` reverts it; this plan starts from the cluster's current state",
        stored.report().headline()
    ));
    Some(stored.run)
}

/// Lets what dead runs of the project have sent come to its end, and says so where that takes a while.
///
/// # Errors
/// The cluster cannot be asked.
pub async fn after_dead_runs(
    project: &str,
    connections: &Connections,
    context: &Context,
) -> Result<(), Failure> {
    let options = options(Path::new("."), &RunArgs::default(), context);
    let say = |text: String| output::say(&format!("note: {text}"));
    drain_in_flight(project, connections, &options, say)
        .await
        .map_err(|failure| crate::reach::executor_failure(&failure))
}

/// Carries the plan out, and returns how it ended.
///
/// # Errors
/// The run cannot begin. A step that fails is no error here: the report says so, and the exit code with it.
pub async fn carry_out(
    plan: CheckedPlan,
    connections: &Connections,
    spec_folder: &Path,
    args: &RunArgs,
    context: &Context,
) -> Result<RunReport, Failure> {
    let options = options(spec_folder, args, context);
    let folder = spec_folder.to_owned();
    follow(args.json, &options, &folder, |events, stop| execute(plan, connections, &options, events, stop))
        .await
}

/// Goes on with a stored run, or takes it back.
///
/// # Errors
/// As [`carry_out`].
pub async fn go_on(
    stored: StoredRun,
    mode: ResumeMode,
    connections: &Connections,
    args: &RunArgs,
    context: &Context,
) -> Result<RunReport, Failure> {
    let spec_folder =
        std::fs::read_to_string(stored.folder.join(SPEC_FOLDER_FILE)).unwrap_or_else(|_| ".".to_owned());
    let folder = PathBuf::from(spec_folder);
    let options = options(&folder, args, context);
    follow(args.json, &options, &folder, |events, stop| {
        resume(stored, mode, connections, &options, events, stop)
    })
    .await
}

fn options(spec_folder: &Path, args: &RunArgs, context: &Context) -> RunOptions {
    let files = local_files::of(context, spec_folder);
    let secrets = Arc::new(Resolver::new(&context.environment, files.clone(), args.allow_commands));
    RunOptions {
        on_failure: args.on_failure.map(OnFailure::from),
        allow_commands: args.allow_commands,
        files,
        ..RunOptions::new(runs_folder(context), spec_folder, secrets)
    }
}

/// Shows a run's events and hands signals to it until it is over; then says how it ended.
async fn follow<F>(
    json: bool,
    options: &RunOptions,
    spec_folder: &Path,
    start: impl FnOnce(mpsc::UnboundedSender<Event>, Cancellation) -> F,
) -> Result<RunReport, Failure>
where
    F: Future<Output = Result<RunReport, RunError>>,
{
    let mut signals = Signals::catch()?;
    output::begin_run();
    let (sender, mut events) = mpsc::unbounded_channel();
    let (canceller, stop) = cancellation();
    let mut shown = RunOutput::choose(json);
    let run = start(sender, stop);
    tokio::pin!(run);
    let mut heard = 0;
    let result = loop {
        tokio::select! {
            biased;
            () = signals.next() => heard = pass_on(heard, &canceller),
            Some(event) = events.recv() => note(&mut shown, &event, options, spec_folder),
            result = &mut run => break result,
        }
    };
    while let Ok(event) = events.try_recv() {
        shown.show(&event);
    }
    shown.finish();
    let report = result.map_err(|error| led_to_resume(error, &options.runs))?;
    output::write_stderr(&summary(&report));
    Ok(report)
}

fn note(shown: &mut RunOutput, event: &Event, options: &RunOptions, spec_folder: &Path) {
    if matches!(event.event, EventKind::RunStarted { .. }) {
        remember_spec_folder(&options.runs.path().join(&event.run), spec_folder);
    }
    shown.show(event);
}

/// Written for `resume`; where it cannot be, relative paths start from the working folder.
fn remember_spec_folder(run: &Path, spec_folder: &Path) {
    let absolute = std::path::absolute(spec_folder).unwrap_or_else(|_| spec_folder.to_owned());
    if let Err(error) = crate::files::write_own(&run.join(SPEC_FOLDER_FILE), &absolute.display().to_string())
    {
        tracing::warn!(%error, "the spec's folder could not be recorded for `resume`");
    }
}

fn pass_on(heard: u32, canceller: &Canceller) -> u32 {
    if heard > 0 {
        canceller.stop_now();
    } else {
        canceller.stop_when_idle();
    }
    heard + 1
}

/// Turns a run that could not begin into a failure; where an unfinished run of the project holds the lock, it is the one
/// to go on with.
fn led_to_resume(error: RunError, runs: &RunsFolder) -> Failure {
    let RunError::ClusterLock { project, .. } = &error else { return run_failure(error) };
    let unfinished = runs.newest_unfinished(Some(project), ResumeMode::Finish).ok().flatten();
    let hint = unfinished.filter(StoredRun::has_begun).map(|stored| {
        format!("`vmdeploy resume {}` continues the unfinished run of this project", stored.run)
    });
    hint.into_iter().fold(run_failure(error), Failure::hint)
}

/// Returns the exit code of a run.
pub fn exit_of(report: &RunReport) -> Exit {
    Exit::from_run(report.result)
}

/// Turns a run that could not begin, or not be followed, into a failure with an exit code.
pub fn run_failure(error: RunError) -> Failure {
    if let RunError::Runs(error) = error {
        return runs_failure(error);
    }
    if let RunError::OtherCluster(failure) = &error {
        let exit = crate::reach::executor_failure(failure).exit();
        let hint = failure.hint.clone();
        return hint.into_iter().fold(Failure::of(exit, error), Failure::hint);
    }
    let (exit, hint) = match &error {
        RunError::Journal(_) => {
            (Exit::INTERRUPTED, Some("free disk space, then run `vmdeploy resume`".to_owned()))
        }
        RunError::NothingToResume { .. } => {
            (Exit::USAGE, Some("`vmdeploy runs` lists all recorded runs".to_owned()))
        }
        RunError::ClusterLock { source, .. } => (Exit::OBSERVED, source.hint.clone()),
        _ => (Exit::INTERNAL, None),
    };
    let failure = Failure::of(exit, error);
    hint.into_iter().fold(failure, Failure::hint)
}

/// Opens a recorded run.
///
/// # Errors
/// There is no such run, then the last ones are named; or it cannot be read.
pub fn open_run(run: &str, context: &Context) -> Result<StoredRun, Failure> {
    let folder = runs_folder(context);
    folder.open(run).map_err(|error| match error {
        RunsError::NoSuchRun { .. } => {
            let failure = runs_failure(error);
            last_runs(&folder).into_iter().fold(failure, Failure::hint)
        }
        other => runs_failure(other),
    })
}

/// Returns a hint that names the newest runs, if there are any.
fn last_runs(folder: &RunsFolder) -> Option<String> {
    let runs = folder.list().ok()?;
    let names: Vec<&str> = runs.iter().take(LAST_RUNS).map(|run| run.run.as_str()).collect();
    (!names.is_empty()).then(|| format!("the most recent runs are {}", names.join(", ")))
}

/// Tells whether what is written has no room.
fn is_full(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(kind, StorageFull | QuotaExceeded | FileTooLarge)
}

fn runs_failure(error: RunsError) -> Failure {
    let (exit, hint) = match &error {
        RunsError::Locked { holder, .. } => {
            (Exit::OBSERVED, Some(format!("wait for it to end, or stop it: {holder} holds the lock")))
        }
        RunsError::NoSuchRun { .. } => (Exit::USAGE, Some("`vmdeploy runs` lists all recorded runs".to_owned())),
        RunsError::PlanChanged { .. } => (
            Exit::USAGE,
            Some("restore the original file, which the run needs; or use `vmdeploy plan` to see the current state".to_owned()),
        ),
        RunsError::Plan { .. } | RunsError::Journal(JournalError::Line { .. } | JournalError::Format { .. }) => {
            (Exit::USAGE, Some("`vmdeploy plan` shows the current state of the cluster, regardless of recorded runs".to_owned()))
        }
        RunsError::Io { source, .. } | RunsError::Journal(JournalError::Io { source, .. })
            if is_full(source.kind()) => (

            Exit::USAGE,
            Some(format!("free disk space, or set another folder in {}", names::RUNS)),
        ),
        RunsError::Io { path, .. } | RunsError::Journal(JournalError::Io { path, .. }) => (
            Exit::USAGE,
            Some(format!("check that `{}` exists and is writable, or set another folder in {}", path.display(), names::RUNS)),
        ),
    };
    let failure = Failure::of(exit, error);
    hint.into_iter().fold(failure, Failure::hint)
}
