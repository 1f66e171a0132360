//! The project's lock on the cluster: a directory of `/etc/pve/priv/lock`, as PVE's own locks are.
//!
//! `mkdir` takes it, touching it every 30 s keeps it, PVE lets a lock go after 120 s, `rmdir` frees it. The times at
//! which it was touched stand in the journal: so a run that is resumed knows the lock of its own dead process.

use crate::{Connections, Failure, FailureKind};
use jiff::Timestamp;
use pve_ssh::command::files;
use pve_ssh::{Host, parse};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

// PVE: pve-cluster src/PVE/Cluster.pm cfs_lock; pmxcfs lets a lock go that was not touched for 120 s.
const FOLDER: &str = "/etc/pve/priv/lock";
const KEEP_EVERY: Duration = Duration::from_secs(30);
const STALE_AFTER_S: i64 = 120;
const PATIENCE: Duration = Duration::from_secs(30);

/// The lock, while it is held.
#[derive(Debug)]
pub(crate) struct ClusterLock {
    host: Host,
    path: String,
    modified_s: Arc<AtomicI64>,
    kept: Mutex<UnboundedReceiver<i64>>,
    keeper: JoinHandle<()>,
}

impl ClusterLock {
    /// Takes the lock. `last` is when an earlier process of this very run touched it last.
    pub(crate) async fn take(
        connections: &Connections,
        project: &str,
        last: Option<i64>,
    ) -> Result<Self, Failure> {
        let host = connections.first_host()?;
        let path = format!("{FOLDER}/vmdeploy-{project}");
        if !make(&host, &path).await? {
            let modified_s = modified(&host, &path).await?;
            let now = node_time(&host).await;
            let age = modified_s.map(|modified_s| now - modified_s);
            let is_own = modified_s.is_some() && modified_s == last;
            let is_stale = age.is_none_or(|age| age > STALE_AFTER_S);
            if !is_own && !is_stale {
                return Err(held(project, age.unwrap_or(0)));
            }
            let _ = host.run_to_success(&files::rmdir(&path), PATIENCE).await;
            if !make(&host, &path).await? {
                return Err(held(project, 0));
            }
        }
        let modified_s = modified(&host, &path).await?.unwrap_or(0);
        Ok(Self::keep(host, path, modified_s))
    }

    fn keep(host: Host, path: String, modified_s: i64) -> Self {
        let (sender, kept) = unbounded_channel();
        let modified_s = Arc::new(AtomicI64::new(modified_s));
        let (touched, at, known) = (host.clone(), path.clone(), modified_s.clone());
        let keeper = tokio::spawn(async move {
            loop {
                tokio::time::sleep(KEEP_EVERY).await;
                if touched.run_to_success(&files::touch(&at), PATIENCE).await.is_err() {
                    tracing::warn!(lock = %at, "the cluster lock could not be kept");
                    continue;
                }
                if let Ok(Some(now)) = modified(&touched, &at).await {
                    known.store(now, Ordering::Relaxed);
                    let _ = sender.send(now);
                }
            }
        });
        Self { host, path, modified_s, kept: Mutex::new(kept), keeper }
    }

    /// Returns when it was touched last, by the node's clock; `None` where the node did not say.
    pub(crate) fn modified_s(&self) -> Option<i64> {
        Some(self.modified_s.load(Ordering::Relaxed)).filter(|seconds| *seconds != 0)
    }

    /// Waits until it was touched again; for ever when there is no lock.
    pub(crate) async fn kept(lock: Option<&Self>) -> i64 {
        let Some(lock) = lock else { return std::future::pending().await };
        match lock.kept.lock().await.recv().await {
            Some(modified_s) => modified_s,
            None => std::future::pending().await,
        }
    }

    /// Frees the lock.
    pub(crate) async fn release(self) {
        self.keeper.abort();
        if let Err(error) = self.host.run_to_success(&files::rmdir(&self.path), PATIENCE).await {
            tracing::warn!(%error, "the cluster lock could not be freed; it frees itself after two minutes");
        }
    }
}

impl Drop for ClusterLock {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Makes the directory; `false` when it is there already.
async fn make(host: &Host, path: &str) -> Result<bool, Failure> {
    let run = |command| async move {
        host.run(&command, pve_ssh::RunOptions::within(PATIENCE), &mut |_, _| {}).await
    };
    let mut output = run(files::mkdir(path)).await.map_err(Failure::from)?;
    if !output.success() && output.stderr.contains("No such file or directory") {
        run(files::mkdir_parents(FOLDER)).await.map_err(Failure::from)?;
        output = run(files::mkdir(path)).await.map_err(Failure::from)?;
    }
    match () {
        () if output.success() => Ok(true),
        () if output.stderr.contains("File exists") => Ok(false),
        // PVE: pmxcfs is read-only without quorum.
        () if output.stderr.contains("Permission denied")
            || output.stderr.contains("Read-only file system") =>
        {
            Err(Failure::new(FailureKind::NoQuorum, "the cluster has no quorum").with_usual_hint(None))
        }
        () => Err(Failure::new(FailureKind::CommandFailed, format!("the lock `{path}` could not be taken"))
            .log(output.stderr.lines().map(str::to_owned))),
    }
}

/// Returns the time by the node's clock, by which the lock's age counts.
async fn node_time(host: &Host) -> i64 {
    let command = pve_ssh::command::Command::new("date").arg("+%s");
    let output = host.run_to_success(&command, PATIENCE).await.ok();
    let seconds = output.and_then(|output| output.stdout.trim().parse().ok());
    seconds.unwrap_or_else(|| Timestamp::now().as_second())
}

/// Returns when the lock was touched last; `None` when it is not there any more.
async fn modified(host: &Host, path: &str) -> Result<Option<i64>, Failure> {
    let options = pve_ssh::RunOptions::within(PATIENCE);
    let output = host.run(&files::stat(path), options, &mut |_, _| {}).await.map_err(Failure::from)?;
    if !output.success() {
        return Ok(None);
    }
    let stat = parse::file_stat(output.stdout.trim_end()).map_err(pve_ssh::Error::from)?;
    Ok(Some(stat.modified_s))
}

fn held(project: &str, age: i64) -> Failure {
    let text =
        format!("another run of the project `{project}` holds the cluster's lock; it was kept {age} s ago");
    Failure::new(FailureKind::StorageLock, text).hint(format!(
        "wait for it to end; if its process is dead, the lock frees itself within two minutes of its last sign \
         (or: `rmdir {FOLDER}/vmdeploy-{project}` on a node)"
    ))
}
