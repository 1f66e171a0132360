//! Tasks (workers), their logs, and the per-guest lock that they hold.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use pve_types::Vmid;

use super::World;
use crate::api::{Refusal, Reply};

/// What a stage of a worker says when it is done.
pub enum Next {
    /// Go on with the next stage.
    Go,
    /// Do these first.
    Then(Vec<Stage>),
}

/// The work of one stage. The task's key lets it write to the task's log.
pub type Work = Box<dyn FnOnce(&mut World, TaskKey) -> Result<Next, String> + Send>;

/// What takes a worker's effect back.
pub type Revert = Box<dyn FnOnce(&mut World, TaskKey) + Send>;

/// One stage of a worker: after this delay, this happens.
pub struct Stage {
    /// How long it takes.
    pub takes: Duration,
    /// What it does at the end of that time.
    pub work: Work,
}

impl Stage {
    /// A stage whose work cannot ask for further stages.
    pub fn new(
        takes: Duration,
        work: impl FnOnce(&mut World, TaskKey) -> Result<(), String> + Send + 'static,
    ) -> Self {
        Self { takes, work: Box::new(move |world, key| work(world, key).map(|()| Next::Go)) }
    }
    /// A stage that takes no time.
    pub fn now(work: impl FnOnce(&mut World, TaskKey) -> Result<(), String> + Send + 'static) -> Self {
        Self::new(Duration::ZERO, work)
    }
}

/// What a worker is to be started with.
pub struct Worker {
    /// The node it runs on.
    pub node: String,
    /// PVE's task type, e.g. `qmstart`.
    pub kind: &'static str,
    /// The task's id: a VMID, or what PVE writes there.
    pub id: String,
    /// Who starts it: `user@realm`, or the full token id.
    pub owner: String,
    /// The guest whose lock it needs first, and for how long it waits for it.
    pub lock: Option<(Vmid, Duration)>,
    /// Its stages.
    pub stages: Vec<Stage>,
    /// What is rolled back when a stage fails or the task is stopped.
    pub on_failure: Option<Revert>,
    /// Put before an error text, e.g. `unable to create VM 100 - `.
    pub error_prefix: String,
}

/// A task's number in this world.
pub type TaskKey = u64;

/// A task that runs or has run.
pub struct Task {
    /// Its full UPID.
    pub upid: String,
    /// The node it ran on.
    pub node: String,
    /// Process id and start, as the UPID has them.
    pub pid: u32,
    /// The process's start in clock ticks.
    pub pstart: u64,
    /// Seconds of the Unix epoch.
    pub started: u64,
    /// Seconds of the Unix epoch, once it has ended.
    pub ended: Option<u64>,
    /// PVE's task type.
    pub kind: String,
    /// The task's id.
    pub id: String,
    /// `user@realm`.
    pub user: String,
    /// The full token id, when a token started it.
    pub token: Option<String>,
    log: Vec<String>,
    exit: Option<String>,
    warnings: u32,
    stages: VecDeque<Stage>,
    on_failure: Option<Revert>,
    error_prefix: String,
    holds: Option<Vmid>,
    scheduled: Option<(u64, u64)>,
}

impl Task {
    /// `OK`, `WARNINGS: n`, or the error's text; `None` while it runs.
    pub fn exit_status(&self) -> Option<&str> {
        self.exit.as_deref()
    }
    /// The whole log, with its closing `TASK …` line once it has ended.
    pub fn log(&self) -> &[String] {
        &self.log
    }
    /// The log without the closing line: what the same work prints in the foreground.
    pub fn output(&self) -> &[String] {
        match self.exit {
            Some(_) => &self.log[..self.log.len().saturating_sub(1)],
            None => &self.log,
        }
    }
    /// How many lines were warnings.
    pub fn warnings(&self) -> u32 {
        self.warnings
    }
}

/// All tasks of a world, and who holds and awaits which guest's lock.
#[derive(Default)]
pub struct Tasks {
    by_key: BTreeMap<TaskKey, Task>,
    by_upid: BTreeMap<String, TaskKey>,
    locks: BTreeMap<Vmid, GuestLock>,
    results: BTreeMap<TaskKey, Result<Reply, Refusal>>,
    next_key: TaskKey,
}

struct GuestLock {
    holder: TaskKey,
    waiting: VecDeque<TaskKey>,
}

impl Tasks {
    /// The task with this UPID.
    pub fn get(&self, upid: &str) -> Option<&Task> {
        self.by_upid.get(upid).and_then(|key| self.by_key.get(key))
    }
    /// The key of the task with this UPID.
    pub fn key(&self, upid: &str) -> Option<TaskKey> {
        self.by_upid.get(upid).copied()
    }
    /// The task with this key.
    pub fn by_key(&self, key: TaskKey) -> Option<&Task> {
        self.by_key.get(&key)
    }
    /// Every task, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Task> {
        self.by_key.values().rev()
    }
    /// Takes the result of a change that took its time, once it is there.
    pub(crate) fn take_result(&mut self, number: u64) -> Option<Result<Reply, Refusal>> {
        self.results.remove(&number)
    }
    /// Tells whether a task holds the guest's lock.
    pub fn lock_is_held(&self, vmid: Vmid) -> bool {
        self.locks.contains_key(&vmid)
    }
}

impl World {
    /// Starts a worker; returns its UPID. Its first stage runs no earlier than [`World::settle`].
    pub fn start_worker(&mut self, worker: Worker) -> String {
        self.tasks.next_key += 1;
        let key = self.tasks.next_key;
        let pid = 1000 + u32::try_from(key % 4_000_000).unwrap_or(0);
        let started = self.now_seconds();
        let pstart = self.uptime_ticks() + key;
        let upid = format!(
            "UPID:{}:{pid:08X}:{pstart:08X}:{started:08X}:{}:{}:{}:",
            worker.node, worker.kind, worker.id, worker.owner
        );
        let user = worker.owner.split('!').next().unwrap_or_default().to_owned();
        let token = worker.owner.contains('!').then(|| worker.owner.clone());
        let task = Task {
            upid: upid.clone(),
            node: worker.node,
            pid,
            pstart,
            started,
            ended: None,
            kind: worker.kind.to_owned(),
            id: worker.id,
            user,
            token,
            log: Vec::new(),
            exit: None,
            warnings: 0,
            stages: worker.stages.into(),
            on_failure: worker.on_failure,
            error_prefix: worker.error_prefix,
            holds: None,
            scheduled: None,
        };
        let fault = crate::fault::of_task(self, &task.kind, &task.id, &task.node);
        let mut task = task;
        if let Some((moment, text)) = fault {
            let took_effect = moment == crate::fault::Moment::After;
            let fail = Stage::now(move |world, key| {
                if let (Some(task), true) = (world.tasks.by_key.get_mut(&key), took_effect) {
                    task.on_failure = None;
                }
                Err(text)
            });
            match moment {
                crate::fault::Moment::Before => task.stages.push_front(fail),
                crate::fault::Moment::After => task.stages.push_back(fail),
            }
        }
        self.tasks.by_key.insert(key, task);
        self.tasks.by_upid.insert(upid.clone(), key);
        match worker.lock {
            Some((vmid, patience)) => self.acquire_guest_lock(key, vmid, patience),
            None => self.schedule_next_stage(key),
        }
        upid
    }

    /// Does a change that is not a worker and takes its time: the guest's lock is held until its end, when `work` is done.
    /// Its result is found under the number that this returns. No other task may hold the lock.
    pub(crate) fn change_later(
        &mut self,
        vmid: Vmid,
        takes: Duration,
        work: impl FnOnce(&mut World) -> Result<Reply, Refusal> + Send + 'static,
    ) -> u64 {
        self.tasks.next_key += 1;
        let key = self.tasks.next_key;
        self.tasks.locks.insert(vmid, GuestLock { holder: key, waiting: VecDeque::new() });
        let done = move |world: &mut World| {
            let result = work(world);
            world.tasks.results.insert(key, result);
            world.release_guest_lock(vmid);
        };
        self.after(takes, Box::new(done));
        key
    }

    /// Adds lines to a task's log.
    pub fn log_lines(&mut self, key: TaskKey, lines: impl IntoIterator<Item = impl Into<String>>) {
        if let Some(task) = self.tasks.by_key.get_mut(&key) {
            task.log.extend(lines.into_iter().map(Into::into));
        }
        self.touch();
    }

    /// Adds one line to a task's log.
    pub fn log(&mut self, key: TaskKey, line: impl Into<String>) {
        self.log_lines(key, [line.into()]);
    }

    /// Adds a counted warning (`WARN: …`) to a task's log.
    pub fn warn(&mut self, key: TaskKey, text: &str) {
        if let Some(task) = self.tasks.by_key.get_mut(&key) {
            task.warnings += 1;
        }
        self.log(key, format!("WARN: {text}"));
    }

    /// Stops a running task as `DELETE …/tasks/UPID` does; nothing for one that has ended.
    pub fn interrupt_task(&mut self, key: TaskKey) {
        if self.tasks.by_key.get(&key).is_some_and(|task| task.exit.is_none()) {
            self.finish_task(key, Err("interrupted by signal".to_owned()));
        }
    }

    fn acquire_guest_lock(&mut self, key: TaskKey, vmid: Vmid, patience: Duration) {
        match self.tasks.locks.get_mut(&vmid) {
            None => {
                self.tasks.locks.insert(vmid, GuestLock { holder: key, waiting: VecDeque::new() });
                self.lock_granted(key, vmid);
            }
            Some(lock) => {
                lock.waiting.push_back(key);
                self.log(key, "trying to acquire lock...");
                let give_up = move |world: &mut World| world.guest_lock_timed_out(key, vmid);
                let entry = self.after(patience, Box::new(give_up));
                if let Some(task) = self.tasks.by_key.get_mut(&key) {
                    task.scheduled = Some(entry);
                }
            }
        }
    }

    fn lock_granted(&mut self, key: TaskKey, vmid: Vmid) {
        if let Some(task) = self.tasks.by_key.get_mut(&key) {
            task.holds = Some(vmid);
        }
        self.schedule_next_stage(key);
    }

    fn guest_lock_timed_out(&mut self, key: TaskKey, vmid: Vmid) {
        if let Some(lock) = self.tasks.locks.get_mut(&vmid) {
            lock.waiting.retain(|waiting| *waiting != key);
        }
        // PVE: pve-common src/PVE/Tools.pm lock_file_full
        let text = format!("can't lock file '/var/lock/qemu-server/lock-{vmid}.conf' - got timeout");
        self.finish_task(key, Err(text));
    }

    fn release_guest_lock(&mut self, vmid: Vmid) {
        let Some(lock) = self.tasks.locks.get_mut(&vmid) else { return };
        match lock.waiting.pop_front() {
            None => {
                self.tasks.locks.remove(&vmid);
            }
            Some(next) => {
                lock.holder = next;
                let give_up = self.tasks.by_key.get_mut(&next).and_then(|task| task.scheduled.take());
                give_up.into_iter().for_each(|entry| self.strike(entry));
                self.log(next, " OK");
                self.lock_granted(next, vmid);
            }
        }
        self.touch();
    }

    fn schedule_next_stage(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.by_key.get(&key) else { return };
        match task.stages.front().map(|stage| stage.takes) {
            None => self.finish_task(key, Ok(())),
            Some(takes) => {
                let entry = self.after(takes, Box::new(move |world: &mut World| world.run_stage(key)));
                if let Some(task) = self.tasks.by_key.get_mut(&key) {
                    task.scheduled = Some(entry);
                }
            }
        }
    }

    fn run_stage(&mut self, key: TaskKey) {
        let Some(stage) = self.tasks.by_key.get_mut(&key).and_then(|task| task.stages.pop_front()) else {
            return;
        };
        match (stage.work)(self, key) {
            Err(text) => self.finish_task(key, Err(text)),
            Ok(next) => {
                if let (Next::Then(stages), Some(task)) = (next, self.tasks.by_key.get_mut(&key)) {
                    stages.into_iter().rev().for_each(|stage| task.stages.push_front(stage));
                }
                self.schedule_next_stage(key);
            }
        }
    }

    fn finish_task(&mut self, key: TaskKey, result: Result<(), String>) {
        let now = self.now_seconds();
        let revert = self.tasks.by_key.get_mut(&key).and_then(|task| task.on_failure.take());
        if let (Err(_), Some(revert)) = (&result, revert) {
            revert(self, key);
        }
        let Some(task) = self.tasks.by_key.get_mut(&key) else { return };
        let (exit, line) = match result {
            Ok(()) if task.warnings > 0 => {
                (format!("WARNINGS: {}", task.warnings), format!("TASK WARNINGS: {}", task.warnings))
            }
            Ok(()) => ("OK".to_owned(), "TASK OK".to_owned()),
            Err(text) => {
                let text = format!("{}{}", task.error_prefix, text.trim_end()).replace('\n', " ");
                (text.clone(), format!("TASK ERROR: {text}"))
            }
        };
        task.log.push(line);
        task.exit = Some(exit);
        task.ended = Some(now);
        task.stages.clear();
        let held = task.holds.take();
        if let Some(entry) = task.scheduled.take() {
            self.strike(entry);
        }
        self.touch();
        if let Some(vmid) = held {
            self.release_guest_lock(vmid);
        }
    }
}
