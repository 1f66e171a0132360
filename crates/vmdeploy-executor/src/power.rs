//! Whether a guest has the power state that it should have: what PVE's tasks do not say.
//!
//! A task that ended well is not enough: `qmreboot` ends when the guest is down, `hastart` and `hastop` when the request is
//! noted. One that failed is not enough either: QEMU may run although its monitor answered too late. So the guest itself
//! is asked, by `status/current`.

use crate::{Connections, Failure, FailureKind, TookEffect};
use pve_api::{Qemu, QemuStatus, TaskFilter, TaskSource};
use pve_types::{NodeName, PowerState, TaskStatus, Upid, Vmid};
use std::time::Duration;
use tokio::time::Instant;

/// For how long a start of PVE's own is waited for after a guest went down to reboot.
const OWN_START: Duration = Duration::from_secs(20);
/// The longest pause between two questions.
const SLOWEST: Duration = Duration::from_secs(2);

/// A guest whose state is asked for.
#[derive(Debug, Clone)]
pub struct PowerOf<'a> {
    /// The connections.
    pub connections: &'a Connections,
    /// Its node.
    pub node: NodeName,
    /// Its number.
    pub vmid: Vmid,
    /// Until when it is waited for.
    pub until: Instant,
}

/// How a reboot goes on once the guest is down.
#[derive(Debug)]
pub enum Reboot {
    /// It runs again, as another process.
    Back,
    /// It is down, and nothing starts it; the error of the start that failed, where there was one.
    Down(Option<String>),
}

impl PowerOf<'_> {
    fn qemu(&self) -> Qemu {
        self.connections.api().node(&self.node).qemu(self.vmid)
    }

    /// Returns how the guest is.
    ///
    /// # Errors
    /// It cannot be asked, or is not on this node.
    pub async fn now(&self) -> Result<QemuStatus, Failure> {
        Ok(self.qemu().status().await?)
    }

    /// Waits until the guest runs, or has no process.
    ///
    /// # Errors
    /// It is not so in time, or cannot be asked.
    pub async fn becomes(&self, on: bool) -> Result<(), Failure> {
        let mut pause = Duration::from_millis(100);
        loop {
            let state = self.now().await?.power();
            if (on && state == PowerState::Running) || (!on && state == PowerState::Stopped) {
                return Ok(());
            }
            if !self.pauses(&mut pause).await {
                let wanted = if on { "run" } else { "stop" };
                let text =
                    format!("VM {} should {wanted}, but its node reports that it is {state}", self.vmid);
                return Err(Failure::new(FailureKind::NotReady, text)
                    .effect(TookEffect::Maybe)
                    .at(&self.node));
            }
        }
    }

    /// Returns a warning when the guest is as it should be although the task that was to make it so failed.
    ///
    /// # Errors
    /// The failure, when the guest is not so or cannot be asked.
    pub async fn in_spite_of(&self, failure: Failure, on: bool) -> Result<String, Failure> {
        // Only a task can have done it; and it has ended.
        if failure.upid.is_none() || failure.kind == FailureKind::Deadline {
            return Err(failure);
        }
        let wanted = if on { PowerState::Running } else { PowerState::Stopped };
        match self.now().await {
            Ok(status) if status.power() == wanted => {
                Ok(format!("the guest is {wanted}, although {}", failure.message))
            }
            _ => Err(failure),
        }
    }

    /// Waits until a guest that was `before` runs as another process, after its `qmreboot` ended well.
    ///
    /// PVE starts it by a task of its own, which may fail. Then, or when no such task comes, the guest stays down.
    ///
    /// # Errors
    /// The guest cannot be asked, or still runs as the process that it was.
    // PVE: qemu-server src/PVE/QemuServer.pm vm_reboot; src/PVE/CLI/qm.pm cleanup, which qmeventd calls.
    pub async fn comes_back(&self, before: &QemuStatus, reboot: &Upid) -> Result<Reboot, Failure> {
        let mut pause = Duration::from_millis(100);
        let mut down_since = None;
        loop {
            let now = self.now().await?;
            if now.is_restart_of(before) {
                return Ok(Reboot::Back);
            }
            if now.power() == PowerState::Stopped {
                let since = *down_since.get_or_insert_with(Instant::now);
                match self.own_start(reboot).await? {
                    OwnStart::Failed(status) => return Ok(Reboot::Down(Some(status))),
                    OwnStart::None if since.elapsed() >= OWN_START => return Ok(Reboot::Down(None)),
                    OwnStart::None | OwnStart::Running => {}
                }
            }
            if !self.pauses(&mut pause).await {
                if down_since.is_some() {
                    return Ok(Reboot::Down(None));
                }
                let text = format!("VM {} should have rebooted, but is still running as before", self.vmid);
                return Err(Failure::new(FailureKind::NotReady, text)
                    .effect(TookEffect::Maybe)
                    .at(&self.node));
            }
        }
    }

    /// Looks for the start that PVE makes itself after a reboot.
    async fn own_start(&self, reboot: &Upid) -> Result<OwnStart, Failure> {
        let filter = TaskFilter {
            vmid: Some(self.vmid),
            task_type: Some("qmstart".to_owned()),
            source: Some(TaskSource::All),
            limit: Some(5),
            ..TaskFilter::default()
        };
        let tasks = match self.connections.api().node(&self.node).tasks(&filter).await {
            Ok(tasks) => tasks,
            // PVE: pve-manager PVE/API2/Tasks.pm: without Sys.Audit only one's own tasks are listed, and this one is root's.
            Err(error) if error.is_denied() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let began = started(reboot);
        let newest = tasks
            .iter()
            .filter_map(|task| Some((task.upid.parse::<Upid>().ok()?, task)))
            .filter(|(upid, _)| started(upid) > began)
            .max_by_key(|(upid, _)| started(upid));
        Ok(match newest {
            None => OwnStart::None,
            Some((_, task)) if task.endtime.is_none() => OwnStart::Running,
            Some((_, task)) => match TaskStatus::from_exitstatus(task.status.as_deref().unwrap_or("OK")) {
                TaskStatus::Failed(status) => OwnStart::Failed(crate::printable(&status)),
                // It ended well a moment ago; the next question about the guest shows it.
                _ => OwnStart::Running,
            },
        })
    }

    /// Waits a little, and a little longer each time; tells whether there is time left.
    async fn pauses(&self, pause: &mut Duration) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 3 / 2).min(SLOWEST);
        true
    }
}

/// What became of the start that PVE makes itself.
enum OwnStart {
    None,
    Running,
    Failed(String),
}

/// Returns when a task began: seconds of its node's clock, and the clock ticks since its node booted, which tell tasks of
/// one second apart.
// PVE: pve-common src/PVE/Tools.pm upid_encode: `UPID:node:pid:pstart:starttime:…`.
fn started(upid: &Upid) -> (u64, u64) {
    let field = |place| upid.as_str().split(':').nth(place).unwrap_or_default();
    let number = |place| u64::from_str_radix(field(place), 16).unwrap_or_default();
    (number(4), number(3))
}
