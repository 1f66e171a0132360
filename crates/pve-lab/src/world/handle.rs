//! The shared world: one lock, one notification for everything that others wait for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};

use super::World;
use crate::api::{self, Caller, Params, Refusal, Reply};
use crate::load::{Counts, Load};

/// A cheap clone of access to the lab's world.
#[derive(Clone)]
pub struct WorldHandle {
    shared: Arc<Shared>,
}

struct Shared {
    world: Mutex<World>,
    load: Load,
    changed: watch::Sender<u64>,
    agenda_changed: Notify,
}

impl WorldHandle {
    /// Takes the world into shared keeping.
    pub fn new(world: World) -> Self {
        let (changed, _) = watch::channel(0);
        let load = Load::new(&world);
        let agenda_changed = Notify::new();
        Self { shared: Arc::new(Shared { world: Mutex::new(world), load, changed, agenda_changed }) }
    }

    /// What a node has to work with, and what was asked of the lab.
    pub(crate) fn load(&self) -> &Load {
        &self.shared.load
    }

    /// What was asked of the lab since it started.
    pub fn counts(&self) -> Counts {
        self.shared.load.counts()
    }

    /// Resolves when so much of the world's time has passed.
    pub(crate) async fn pause(&self, takes: Duration) {
        if takes.is_zero() {
            return;
        }
        let (tell, told) = oneshot::channel();
        let over = move |_: &mut World| {
            let _ = tell.send(());
        };
        self.with(|world| world.after(takes, Box::new(over)));
        let _ = told.await;
    }

    /// Runs `work` on the world, with everything that is due done before and after.
    pub fn with<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.shared.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.settle();
        let due_before = world.next_due();
        let result = work(&mut world);
        world.settle();
        let (revision, due) = (world.revision(), world.next_due());
        drop(world);
        if *self.shared.changed.borrow() != revision {
            self.shared.changed.send_replace(revision);
        }
        if due != due_before {
            self.shared.agenda_changed.notify_one();
        }
        result
    }

    /// Resolves when something that others may wait for (a task's log or end, a lock, a guest's state) has changed
    /// since the receiver was made or last asked.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Resolves to `found(world)` as soon as that is `Some`; `None` when `deadline` passes first.
    pub async fn wait_until<T>(
        &self,
        deadline: Duration,
        mut found: impl FnMut(&mut World) -> Option<T>,
    ) -> Option<T> {
        let mut changes = self.subscribe();
        let wait = async {
            loop {
                if let Some(value) = self.with(&mut found) {
                    return value;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(deadline, wait).await.ok()
    }

    /// One whole API request: dispatched, and dispatched again while a VM's lock is held by another, for as long as
    /// PVE waits (10 s).
    ///
    /// # Errors
    /// What PVE answers instead: status, reason, parameter errors.
    pub async fn call(
        &self,
        caller: &Caller,
        method: &str,
        path: &str,
        params: &Params,
    ) -> Result<Reply, Refusal> {
        let once = |world: &mut World| match api::dispatch(world, caller, method, path, params) {
            Err(refusal) if refusal.lock_is_busy => None,
            answer => Some(answer),
        };
        let answer = match self.wait_until(Duration::from_secs(10), once).await {
            Some(answer) => answer,
            None => self.with(|world| api::dispatch(world, caller, method, path, params)),
        }?;
        match answer.later {
            None => Ok(answer),
            Some(number) => self.result_of(number).await,
        }
    }

    /// The answer of a change that takes its time.
    async fn result_of(&self, number: u64) -> Result<Reply, Refusal> {
        let mut changes = self.subscribe();
        loop {
            if let Some(result) = self.with(|world| world.tasks.take_result(number)) {
                return result;
            }
            if changes.changed().await.is_err() {
                return Err(Refusal::died("the lab is stopped"));
            }
        }
    }

    /// Follows a task to its end: hands every log line but the closing `TASK …` one to `line`, returns the exit
    /// status (`OK`, `WARNINGS: n`, or the error's text); `None` when there is no such task.
    pub async fn wait_task(&self, upid: &str, mut line: impl FnMut(&str)) -> Option<String> {
        let mut changes = self.subscribe();
        let mut seen = 0;
        loop {
            let (fresh, exit) = self.with(|world| {
                let task = world.tasks.get(upid)?;
                let output = task.output();
                let fresh: Vec<String> = output.get(seen..).unwrap_or_default().to_vec();
                Some((fresh, task.exit_status().map(str::to_owned)))
            })?;
            seen += fresh.len();
            fresh.iter().for_each(|text| line(text));
            if exit.is_some() {
                return exit;
            }
            if changes.changed().await.is_err() {
                return None;
            }
        }
    }

    /// Does what is due when it is due, for as long as it is polled.
    pub(crate) async fn run_agenda(self) {
        loop {
            let wait = self.with(|world| {
                world.next_due().map(|due| Duration::from_micros(due.saturating_sub(world.now())))
            });
            let noticed = self.shared.agenda_changed.notified();
            match wait {
                Some(wait) => {
                    let _ = tokio::time::timeout(wait, noticed).await;
                }
                None => noticed.await,
            }
        }
    }
}
