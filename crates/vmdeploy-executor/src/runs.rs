//! The folder of runs: `RUN/plan.json` and `RUN/journal.jsonl` for each, and one lock file per project.

use crate::journal::{
    Entry, JOURNAL_FORMAT_VERSION, JournalError, JournalWriter, Record, ResumeMode, RunHistory, read,
};
use crate::report::{Resuming, RunReport, RunResult, StepState, VmReport, VmState};
use crate::summarize::report_of;
use jiff::Timestamp;
use pve_types::GuestName;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs::{DirBuilder, DirEntry, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmdeploy_planner::digest;
use vmdeploy_planner::plan::{Action, Plan, Verb};

/// The folder in which runs are kept, `.vmdeploy/runs` as a rule.
#[derive(Debug, Clone)]
pub struct RunsFolder(PathBuf);

/// Why a stored run cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// The file system refused.
    #[error("`{}` could not be {doing}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The journal is not readable.
    #[error("the journal of the run cannot be read")]
    Journal(#[from] JournalError),
    /// The stored plan is not readable.
    #[error("the plan in `{}` cannot be read", path.display())]
    Plan {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// The stored plan is not the one that the journal was begun with.
    #[error("the plan in `{}` was changed after the run started", path.display())]
    PlanChanged {
        /// The file.
        path: PathBuf,
    },
    /// There is no such run.
    #[error("there is no run `{}` in `{}`", run.escape_debug(), folder.display())]
    NoSuchRun {
        /// The run.
        run: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// The project's lock is held.
    #[error("another run of project `{project}` is active on this machine")]
    Locked {
        /// The project.
        project: String,
        /// What the lock file says of its holder.
        holder: String,
    },
}

/// A run as it is stored.
#[derive(Debug, Clone)]
pub struct StoredRun {
    /// Its name.
    pub run: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its plan.
    pub plan: Plan,
    /// SHA-256 of the stored plan, in hexadecimal.
    pub plan_digest: String,
    /// Its journal.
    pub records: Vec<Record>,
}

/// One line of the list of runs.
#[derive(Debug, Clone, Serialize)]
pub struct RunSummary {
    /// The run.
    pub run: String,
    /// The project; empty where the run is not readable.
    pub project: String,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When its journal ends.
    pub ended: Option<Timestamp>,
    /// How it ended; `None` where it is not readable.
    pub result: Option<RunResult>,
    /// The end in one line, see [`RunReport::headline`]; empty where the run is not readable.
    pub headline: String,
    /// How many steps are done.
    pub steps_done: usize,
    /// How many steps the plan has.
    pub steps: usize,
    /// Why it is not readable.
    pub trouble: Option<String>,
}

/// The lock of a project on this machine; let go when dropped, and by the system when the process dies.
#[derive(Debug)]
pub struct ProjectLock {
    file: File,
}

impl Drop for ProjectLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that is just being started has it open for a moment, too.
        let _ = self.file.unlock();
    }
}

impl RunsFolder {
    /// Names the folder; it is made when the first run is.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
    /// Returns the folder's path.
    pub fn path(&self) -> &Path {
        &self.0
    }
    /// Takes the project's lock.
    ///
    /// # Errors
    /// [`RunsError::Locked`] when another process has it; else when the file cannot be made.
    pub fn lock(&self, project: &str, holder: &str) -> Result<ProjectLock, RunsError> {
        self.make()?;
        let path = self.0.join(format!("{project}.lock"));
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            // A link would lead the lock, and what is written into it, to a file of others.
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(&path)
            .map_err(|source| failed(&path, "opened", source))?;
        let is_file = file.metadata().is_ok_and(|found| found.is_file());
        if !is_file {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
            return Err(failed(&path, "locked", source));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = io::Read::read_to_string(&mut file, &mut holder);
                let holder = crate::printable(holder.trim());
                return Err(RunsError::Locked { project: project.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed(&path, "locked", source)),
        }
        file.set_len(0).and_then(|()| writeln!(file, "{holder}")).map_err(|s| failed(&path, "written", s))?;
        Ok(ProjectLock { file })
    }
    /// Makes a run's folder with its plan and the first record of its journal, all of it on disk when this returns.
    ///
    /// # Errors
    /// When the run exists already or the file system refuses.
    pub fn begin(&self, plan: &Plan) -> Result<(StoredRun, JournalWriter), RunsError> {
        self.make()?;
        let folder = self.folder_of(&plan.run_id)?;
        DirBuilder::new().mode(0o700).create(&folder).map_err(|source| failed(&folder, "made", source))?;
        // What could not be written in full is not a run: nothing was sent yet.
        self.write_beginning(plan, folder.clone()).inspect_err(|_| {
            if let Err(error) = std::fs::remove_dir_all(&folder) {
                tracing::warn!(%error, "the folder of a run that did not begin is left");
            }
        })
    }
    fn write_beginning(&self, plan: &Plan, folder: PathBuf) -> Result<(StoredRun, JournalWriter), RunsError> {
        let text = serde_json::to_vec_pretty(plan).expect("a plan has string keys only");
        let path = folder.join("plan.json");
        write_private(&path, &text).map_err(|source| failed(&path, "written", source))?;
        let plan_digest = digest::of_bytes(&text);
        let mut journal = JournalWriter::create(&folder.join("journal.jsonl"))?;
        journal.append(Entry::RunStarted {
            format_version: JOURNAL_FORMAT_VERSION,
            run: plan.run_id.clone(),
            project: plan.project.clone(),
            plan_digest: plan_digest.clone(),
        })?;
        journal.flush()?;
        sync_folder(&folder)
            .and_then(|()| sync_folder(&self.0))
            .map_err(|s| failed(&folder, "written", s))?;
        let records = journal.records().to_vec();
        let stored = StoredRun { run: plan.run_id.clone(), folder, plan: plan.clone(), plan_digest, records };
        Ok((stored, journal))
    }
    /// Reads a run.
    ///
    /// # Errors
    /// When there is none, it is not readable, or its plan was changed.
    pub fn open(&self, run: &str) -> Result<StoredRun, RunsError> {
        let folder = self.folder_of(run)?;
        let path = folder.join("plan.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.no_such(run)),
            Err(source) => return Err(failed(&path, "read", source)),
        };
        let plan =
            serde_json::from_slice(&text).map_err(|s| RunsError::Plan { path: path.clone(), source: s })?;
        let records = read(&folder.join("journal.jsonl"))?;
        let plan_digest = digest::of_bytes(&text);
        match records.first().map(|record| &record.entry) {
            Some(Entry::RunStarted { plan_digest: begun_with, .. }) if *begun_with == plan_digest => {}
            _ => return Err(RunsError::PlanChanged { path }),
        }
        Ok(StoredRun { run: run.to_owned(), folder, plan, plan_digest, records })
    }
    /// Lists the runs, the newest first; those that are not readable are listed with the reason.
    ///
    /// # Errors
    /// When the folder cannot be read; a missing folder is an empty list.
    pub fn list(&self) -> Result<Vec<RunSummary>, RunsError> {
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed(&self.0, "read", source)),
        };
        let mut runs: Vec<RunSummary> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .map(|run| self.summary(run))
            .collect();
        runs.sort_by(|a, b| (b.started, &b.run).cmp(&(a.started, &a.run)));
        Ok(runs)
    }
    /// Returns the newest run that may be resumed in this mode, of this project if one is named. A run whose open VMs a
    /// newer run has brought to their end is superseded, and not among these. A run that was refused before its
    /// first step comes after all that began one: there is something to finish in those.
    ///
    /// # Errors
    /// As [`Self::list`] and [`Self::open`].
    pub fn newest_unfinished(
        &self,
        project: Option<&str>,
        mode: ResumeMode,
    ) -> Result<Option<StoredRun>, RunsError> {
        let mut not_begun = None;
        // The VMs, each with its project, that a newer run has brought to their end.
        let mut done_since = BTreeSet::new();
        for summary in self.list()? {
            let is_asked = project.is_none_or(|project| project == summary.project);
            if !is_asked || summary.trouble.is_some() {
                continue;
            }
            let stored = self.open(&summary.run)?;
            let report = stored.report();
            let key = |vm: &VmReport| (stored.plan.project.clone(), vm.vm.clone());
            let is_superseded =
                report.has_open_vms() && report.open_vms().all(|vm| done_since.contains(&key(vm)));
            if !is_superseded && stored.is_resumable(mode) {
                match stored.has_begun() {
                    true => return Ok(Some(stored)),
                    false => not_begun = not_begun.or_else(|| Some(stored.clone())),
                }
            }
            done_since.extend(report.vms.iter().filter(|vm| vm.state == VmState::Done).map(key));
        }
        Ok(not_begun)
    }
    /// Returns the VMs whose creation a run of the project began, did not roll back, and ended before it started them, and
    /// that no newer run has brought to their end.
    ///
    /// # Errors
    /// As [`Self::list`] and [`Self::open`].
    pub fn unfinished_creates(&self, project: &str) -> Result<BTreeSet<GuestName>, RunsError> {
        let (mut found, mut done_since) = (BTreeSet::new(), BTreeSet::new());
        for summary in self.list()? {
            if summary.project != project || summary.trouble.is_some() {
                continue;
            }
            let stored = self.open(&summary.run)?;
            let report = stored.report();
            let is_started = |vm: &VmReport| {
                let mut starts = stored.plan.steps.iter().zip(&report.steps).filter(|(step, _)| {
                    matches!(step.action, Action::StartVm { .. }) && step.vm.as_ref() == Some(&vm.vm)
                });
                starts.all(|(_, report)| report.state == StepState::Succeeded)
            };
            let is_created = |vm: &VmReport| matches!(vm.verb, Verb::Create | Verb::Replace);
            let is_open = |vm: &VmReport| matches!(vm.state, VmState::Failed | VmState::Unfinished);
            for vm in &report.vms {
                if is_created(vm) && is_open(vm) && !is_started(vm) && !done_since.contains(&vm.vm) {
                    found.insert(vm.vm.clone());
                }
            }
            done_since
                .extend(report.vms.iter().filter(|vm| vm.state == VmState::Done).map(|vm| vm.vm.clone()));
        }
        Ok(found)
    }
    /// Returns the project's runs whose journal was written to within `of_late`, the one that was written to last at the
    /// end.
    pub(crate) fn recent(&self, project: &str, of_late: Duration) -> Vec<StoredRun> {
        let Ok(entries) = std::fs::read_dir(&self.0) else { return Vec::new() };
        let is_recent = |entry: &DirEntry| {
            let written = entry.path().join("journal.jsonl").metadata().and_then(|file| file.modified());
            // A time to come is that of a clock that was set back.
            written.is_ok_and(|at| at.elapsed().unwrap_or_default() <= of_late)
        };
        let recent = entries.filter_map(Result::ok).filter(is_recent);
        let stored = recent.filter_map(|entry| self.open(&entry.file_name().into_string().ok()?).ok());
        let mut own: Vec<StoredRun> = stored.filter(|run| run.plan.project == project).collect();
        own.sort_by_key(|run| run.records.last().map(|record| record.at));
        own
    }
    fn summary(&self, run: String) -> RunSummary {
        match self.open(&run) {
            Ok(stored) => stored.summary(),
            Err(error) => RunSummary {
                run,
                project: String::new(),
                started: None,
                ended: None,
                result: None,
                headline: String::new(),
                steps_done: 0,
                steps: 0,
                trouble: Some(error.to_string()),
            },
        }
    }
    /// Returns the folder of a run, whose name must not lead elsewhere.
    fn folder_of(&self, run: &str) -> Result<PathBuf, RunsError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if run.is_empty() || run.starts_with('.') || !run.chars().all(is_plain) {
            return Err(self.no_such(run));
        }
        Ok(self.0.join(run))
    }
    fn no_such(&self, run: &str) -> RunsError {
        RunsError::NoSuchRun { run: run.to_owned(), folder: self.0.clone() }
    }
    fn make(&self) -> Result<(), RunsError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(|source| failed(&self.0, "made", source))
    }
}

impl StoredRun {
    /// Returns the run's report.
    pub fn report(&self) -> RunReport {
        report_of(&self.plan, &self.records)
    }
    /// Returns the fold of its journal.
    pub(crate) fn history(&self) -> RunHistory {
        RunHistory::of(&self.records, Duration::ZERO)
    }
    /// Tells whether `resume` has anything to do in this mode. A run that was rolled back is only rolled back again if
    /// that failed.
    pub fn is_resumable(&self, mode: ResumeMode) -> bool {
        let report = self.report();
        match (report.result, mode) {
            (RunResult::Unfinished | RunResult::Left, _) => true,
            (RunResult::PartlyDone, ResumeMode::Finish) => report.resume != Resuming::Nothing,
            (RunResult::PartlyDone, ResumeMode::Rollback) => {
                self.history().mode != Some(ResumeMode::Rollback)
            }
            _ => false,
        }
    }
    /// Tells whether a step of it was begun.
    pub fn has_begun(&self) -> bool {
        self.history().has_begun()
    }
    /// Returns the run's line in the list.
    pub fn summary(&self) -> RunSummary {
        let report = self.report();
        let is_done = |step: &&crate::StepReport| step.state == crate::StepState::Succeeded;
        RunSummary {
            run: self.run.clone(),
            project: report.project.clone(),
            started: Some(report.started),
            ended: Some(report.ended),
            result: Some(report.result),
            headline: report.headline(),
            steps_done: report.steps.iter().filter(is_done).count(),
            steps: report.steps.len(),
            trouble: None,
        }
    }
    /// Opens the journal to go on with it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn reopen(&self) -> Result<JournalWriter, JournalError> {
        JournalWriter::reopen(&self.folder.join("journal.jsonl"))
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn failed(path: &Path, doing: &'static str, source: io::Error) -> RunsError {
    RunsError::Io { path: path.to_owned(), doing, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_locked_once() {
        let folder = tempfile::tempdir().unwrap();
        let runs = RunsFolder::new(folder.path().join("runs"));
        let held = runs.lock("web", "run r1").unwrap();
        let refused = runs.lock("web", "run r2").unwrap_err();
        assert!(matches!(&refused, RunsError::Locked { holder, .. } if holder == "run r1"), "{refused}");
        runs.lock("other", "run r3").unwrap();
        drop(held);
        runs.lock("web", "run r2").unwrap();
    }

    #[test]
    fn a_run_name_cannot_lead_out_of_the_folder() {
        let runs = RunsFolder::new("/nowhere");
        for name in ["..", "../x", "a/b", "", ".hidden", "a\0b"] {
            assert!(matches!(runs.open(name), Err(RunsError::NoSuchRun { .. })), "{name}");
        }
    }
}
