//! The project's lock on the cluster: a directory of `/etc/pve/priv/lock`, as PVE's own locks are.
//!
//! `mkdir` takes it, touching it every 30 s keeps it, PVE lets a lock go after 120 s, `rmdir` frees it. The times at
//! which it was touched stand in the journal: so a run that is resumed knows the lock of its own dead process. By the
//! same times a run sees that another one has its lock: before it touches the directory, it must be as it left it.

use crate::{Connections, Failure, FailureKind};
use jiff::Timestamp;
use pve_ssh::command::files;
use pve_ssh::{Host, parse};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

// PVE: pve-cluster src/PVE/Cluster.pm cfs_lock; pmxcfs lets a lock go that was not touched for 120 s.
const FOLDER: &str = "/etc/pve/priv/lock";
const STALE_AFTER_S: i64 = 120;
const PATIENCE: Duration = Duration::from_secs(30);
/// After so many touches that did not come about, another run may take the lock: 120 s of 30 s each.
const MISSED_UNTIL_STALE: u32 = 4;
/// A lock that was touched longer ago is looked at before anything is sent out.
const CONFIRM_AFTER: Duration = Duration::from_secs(60);
/// The same as time, for touches that hang.
const STALE_AFTER: Duration = Duration::from_secs(120);

/// What the keeper of the lock tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// It was touched; when, by the node's clock.
    Kept(i64),
    /// It could not be touched this time.
    Trouble(String),
    /// Another run has it, or may have it.
    Lost(String),
}

/// The lock, while it is held.
#[derive(Debug)]
pub(crate) struct ClusterLock {
    held: Held,
    news: Mutex<UnboundedReceiver<News>>,
    keeper: JoinHandle<()>,
    stop: CancellationToken,
}

/// What is known of the lock that is held.
#[derive(Debug, Clone)]
struct Held {
    host: Host,
    path: String,
    /// When it was touched last, by the node's clock; 0 where the node did not say.
    modified_s: Arc<AtomicI64>,
    is_lost: Arc<AtomicBool>,
    /// Held while the directory is looked at and touched: between the two its time is that of neither.
    busy: Arc<Mutex<()>>,
    confirmed: Arc<std::sync::Mutex<Confirmed>>,
}

/// When the lock was known to be ours, by two clocks: one stands still while the machine is suspended, and the other may
/// be set.
#[derive(Debug, Clone, Copy)]
struct Confirmed {
    steady: std::time::Instant,
    wall: SystemTime,
}

impl Confirmed {
    fn now() -> Self {
        Self { steady: std::time::Instant::now(), wall: SystemTime::now() }
    }
    /// Returns the longer of the times that have passed; a clock that was set back says nothing.
    fn age(self) -> Duration {
        self.steady.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }
}

impl ClusterLock {
    /// Takes the lock. `known` are the times at which dead processes of this machine touched it last.
    pub(crate) async fn take(
        connections: &Connections,
        project: &str,
        known: &[i64],
        keep_every: Duration,
    ) -> Result<Self, Failure> {
        let host = connections.first_host()?;
        let path = format!("{FOLDER}/vmdeploy-{project}");
        if !make_surely(&host, &path, keep_every).await? {
            let modified_s = modified(&host, &path).await?;
            let now = node_time(&host).await;
            let age = modified_s.map(|modified_s| now - modified_s);
            let is_own = modified_s.is_some_and(|modified_s| known.contains(&modified_s));
            let is_stale = age.is_none_or(|age| age > STALE_AFTER_S);
            if !is_own && !is_stale {
                return Err(held(project, age.unwrap_or(0)));
            }
            let freed = host.run(&files::rmdir(&path), options(), &mut |_, _| {}).await?;
            // A concurrent release is not an error; a refusal of the cluster is.
            if is_read_only(&freed.stderr) {
                return Err(no_quorum());
            }
            if !make(&host, &path).await? {
                return Err(held(project, 0));
            }
        }
        let confirmed = Arc::new(std::sync::Mutex::new(Confirmed::now()));
        let modified_s = Arc::new(AtomicI64::new(modified(&host, &path).await?.unwrap_or(0)));
        let held = Held { host, path, modified_s, is_lost: Arc::default(), busy: Arc::default(), confirmed };
        let (sender, news) = unbounded_channel();
        let stop = CancellationToken::new();
        let keeper = tokio::spawn(keep(held.clone(), keep_every, sender, stop.clone()));
        Ok(Self { held, news: Mutex::new(news), keeper, stop })
    }

    /// Returns when it was touched last, by the node's clock; `None` where the node did not say.
    pub(crate) fn modified_s(&self) -> Option<i64> {
        Some(self.held.modified_s.load(Ordering::Relaxed)).filter(|seconds| *seconds != 0)
    }

    /// Waits for the keeper's next word; for ever when there is no lock.
    pub(crate) async fn news(lock: Option<&Self>) -> News {
        let Some(lock) = lock else { return std::future::pending().await };
        match lock.news.lock().await.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// Makes sure, before anything is sent out, that the lock is still ours; asks the node only where the last touch is
    /// long enough ago that another run may take it soon: the process was stopped, the machine suspended.
    pub(crate) async fn confirm(lock: Option<&Self>) -> Option<News> {
        let held = &lock?.held;
        if held.age() < CONFIRM_AFTER || held.is_lost.load(Ordering::Relaxed) {
            return None;
        }
        let news = match held.renew().await {
            Ok(News::Trouble(text)) if held.age() >= STALE_AFTER => News::Lost(text),
            Ok(news) => news,
            Err(failure) if held.age() >= STALE_AFTER => News::Lost(format!(
                "the cluster lock may belong to another run, and cannot be read: {failure}"
            )),
            Err(failure) => News::Trouble(format!("the cluster lock could not be renewed: {failure}")),
        };
        if matches!(news, News::Lost(_)) {
            held.is_lost.store(true, Ordering::Relaxed);
        }
        Some(news)
    }

    /// Frees the lock, if it is still ours.
    pub(crate) async fn release(mut self) {
        // A touch that is on its way is let through: it changes the time by which the lock is known.
        self.stop.cancel();
        let _ = (&mut self.keeper).await;
        let held = &self.held;
        if held.is_lost.load(Ordering::Relaxed) || !matches!(held.look().await, Ok(Look::Ours)) {
            return;
        }
        if let Err(error) = held.host.run_to_success(&files::rmdir(&held.path), PATIENCE).await {
            tracing::warn!(%error, "the cluster lock could not be released; it expires after two minutes");
        }
    }
}

/// What a look at the lock's directory found.
enum Look {
    /// It is as this run left it.
    Ours,
    /// It is not there.
    Gone,
    /// Another process created or renewed it.
    Others,
}

impl Held {
    async fn look(&self) -> Result<Look, Failure> {
        let known = self.modified_s.load(Ordering::Relaxed);
        Ok(match modified(&self.host, &self.path).await? {
            None => Look::Gone,
            Some(now) if now == known || known == 0 => Look::Ours,
            Some(_) => Look::Others,
        })
    }

    /// Returns how long ago the lock was known to be ours.
    fn age(&self) -> Duration {
        self.confirmed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).age()
    }

    /// Touches the lock, if it is still ours. One that was removed and is free is acquired again.
    async fn renew(&self) -> Result<News, Failure> {
        let _busy = self.busy.lock().await;
        let before = Confirmed::now();
        match self.look().await? {
            Look::Ours => drop(self.host.run_to_success(&files::touch(&self.path), PATIENCE).await?),
            Look::Gone if make(&self.host, &self.path).await? => {}
            Look::Gone | Look::Others => {
                return Ok(News::Lost("another run of the project took the cluster lock".into()));
            }
        }
        match modified(&self.host, &self.path).await? {
            Some(now) => {
                self.modified_s.store(now, Ordering::Relaxed);
                *self.confirmed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = before;
                Ok(News::Kept(now))
            }
            None => Ok(News::Trouble("the cluster lock was removed by another process".into())),
        }
    }
}

/// Keeps the lock until it is lost.
async fn keep(held: Held, every: Duration, news: UnboundedSender<News>, stop: CancellationToken) {
    let (mut last, mut missed) = (Instant::now(), 0);
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = stop.cancelled() => return,
        }
        let told = match held.renew().await {
            Ok(told) => told,
            Err(failure) => News::Trouble(format!("the cluster lock could not be renewed: {failure}")),
        };
        let told = match told {
            News::Kept(modified_s) => {
                (last, missed) = (Instant::now(), 0);
                News::Kept(modified_s)
            }
            News::Trouble(text) => {
                missed += 1;
                if missed >= MISSED_UNTIL_STALE || last.elapsed() >= STALE_AFTER {
                    News::Lost(format!("{text}, {missed} times in a row; another run may take it"))
                } else {
                    News::Trouble(text)
                }
            }
            lost @ News::Lost(_) => lost,
        };
        let is_lost = matches!(told, News::Lost(_));
        held.is_lost.fetch_or(is_lost, Ordering::Relaxed);
        let _ = news.send(told);
        if is_lost {
            return;
        }
    }
}

impl Drop for ClusterLock {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// How often the directory is made when the connection to the node breaks.
const ATTEMPTS: u32 = 10;

/// Makes the directory, also when the connection breaks meanwhile; `false` when another run has it.
///
/// After a break nothing tells a directory of this attempt from one of another run, but that the other run renews it.
async fn make_surely(host: &Host, path: &str, keep_every: Duration) -> Result<bool, Failure> {
    let mut is_unsure = false;
    let mut attempt = 1;
    loop {
        match make(host, path).await {
            Ok(false) if is_unsure => {
                let before = modified(host, path).await?;
                tokio::time::sleep(keep_every + Duration::from_secs(5)).await;
                return Ok(before.is_some() && modified(host, path).await? == before);
            }
            Err(failure) if failure.kind == FailureKind::NoAnswer && attempt < ATTEMPTS => is_unsure = true,
            Err(failure) if failure.kind == FailureKind::Unreachable && attempt < ATTEMPTS => {}
            made => return made,
        }
        attempt += 1;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Makes the directory; `false` when it is there already.
async fn make(host: &Host, path: &str) -> Result<bool, Failure> {
    let run = |command| async move { host.run(&command, options(), &mut |_, _| {}).await };
    let mut output = run(files::mkdir(path)).await.map_err(Failure::from)?;
    if !output.success() && output.stderr.contains("No such file or directory") {
        run(files::mkdir_parents(FOLDER)).await.map_err(Failure::from)?;
        output = run(files::mkdir(path)).await.map_err(Failure::from)?;
    }
    match () {
        () if output.success() => Ok(true),
        () if output.stderr.contains("File exists") => Ok(false),
        () if is_read_only(&output.stderr) => Err(no_quorum()),
        () => {
            Err(Failure::new(FailureKind::CommandFailed, format!("the lock `{path}` could not be acquired"))
                .log(output.stderr.lines().map(str::to_owned)))
        }
    }
}

fn options() -> pve_ssh::RunOptions {
    pve_ssh::RunOptions::within(PATIENCE)
}

// PVE: pve-cluster src/pmxcfs: it is read-only without quorum.
fn is_read_only(stderr: &str) -> bool {
    stderr.contains("Permission denied") || stderr.contains("Read-only file system")
}

fn no_quorum() -> Failure {
    Failure::new(FailureKind::NoQuorum, "the cluster has no quorum").with_usual_hint(None)
}

/// Returns the time by the node's clock, by which the lock's age counts.
async fn node_time(host: &Host) -> i64 {
    let command = pve_ssh::command::Command::new("date").arg("+%s").only_reads();
    let output = host.run_to_success(&command, PATIENCE).await.ok();
    let seconds = output.and_then(|output| output.stdout.trim().parse().ok());
    seconds.unwrap_or_else(|| Timestamp::now().as_second())
}

/// Returns when the lock was touched last; `None` when it is not there any more.
async fn modified(host: &Host, path: &str) -> Result<Option<i64>, Failure> {
    let output = host.run(&files::stat(path), options(), &mut |_, _| {}).await.map_err(Failure::from)?;
    if !output.success() {
        return Ok(None);
    }
    let stat = parse::file_stat(output.stdout.trim_end()).map_err(pve_ssh::Error::from)?;
    Ok(Some(stat.modified_s))
}

fn held(project: &str, age: i64) -> Failure {
    let text =
        format!("another run of project `{project}` holds the cluster lock; it was last renewed {age} s ago");
    Failure::new(FailureKind::StorageLock, text).hint(format!(
        "wait for it to end; if its process has died, the lock expires two minutes after its last renewal \
         (or: `rmdir {FOLDER}/vmdeploy-{project}` on a node)"
    ))
}
