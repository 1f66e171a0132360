//! What a run is told in addition to its plan.

use crate::local_files::LocalFiles;
use crate::runs::RunsFolder;
use crate::secrets::SecretResolver;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use vmdeploy_planner::plan::OnFailure;

/// Options of a run in addition to its plan. None of them changes what a step means.
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
