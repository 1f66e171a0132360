//! The loop around the scheduler: it writes the journal, sends steps out, listens to them, and tells the world.

use super::in_flight::{Abandoned, CutOff};
use super::job::{Done, Job, Message, Shared};
use super::lock::{ClusterLock, News};
use crate::describe;
use crate::journal::{Entry, JournalWriter, RunHistory};
use crate::schedule::{Command, Input, Rules, Scheduler, Verdict, tasks_of};
use crate::summarize::{report_at_end, report_from};
use crate::{
    Cancellation, Event, EventKind, Failure, FailureKind, Outcome, ResumeMode, RevertNote, RunError,
    RunReport, Stop, TookEffect,
};
use jiff::Timestamp;
use pve_types::GuestName;
use rand::RngExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument as _;
use vmdeploy_planner::plan::{Plan, PlannedRollout, StepId, Verb};

/// How a run begins.
pub(crate) struct Begin {
    /// Its journal, with at least its first record.
    pub(crate) journal: JournalWriter,
    /// What is resumed, if it is.
    pub(crate) mode: Option<ResumeMode>,
    /// SHA-256 of the plan, in hexadecimal.
    pub(crate) plan_digest: String,
    /// What dead runs of the project may still have on their way.
    pub(crate) cut_off: CutOff,
}

/// What the run has to react to.
enum Woken {
    /// The user asked it to stop.
    Stop(Stop),
    /// A step, a revert or a pause ended.
    Ended(Box<Ended>),
    /// The cluster's lock was renewed, or lost.
    Lock(News),
}

/// What a task of the loop ends with.
enum Ended {
    Step(StepId, Result<Done, Failure>),
    Revert(StepId, Result<RevertNote, Failure>),
    Waited(StepId),
}

struct Engine {
    scheduler: Scheduler,
    journal: JournalWriter,
    events: UnboundedSender<Event>,
    shared: Arc<Shared>,
    begun: BTreeMap<StepId, Instant>,
    jobs: JoinSet<Ended>,
    sender: UnboundedSender<Message>,
    messages: UnboundedReceiver<Message>,
    stop: Stop,
    wrote: usize,
    /// The batches of rollouts that were told of: the rollout's place, and the batch's.
    told_batches: BTreeSet<(usize, usize)>,
    /// How long to wait before the next attempt, as it was told.
    pauses: BTreeMap<StepId, Duration>,
}

/// How long steps that are given up may take to end what they began on a node.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(25);
/// The longest wait before another attempt.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Drives a run to its end.
pub(crate) async fn drive(
    begin: Begin,
    shared: Shared,
    events: UnboundedSender<Event>,
    mut cancellation: Cancellation,
) -> Result<RunReport, RunError> {
    let mut engine = Engine::begin(begin.journal, begin.mode, &begin.plan_digest, shared, events)?;
    let lock = engine.lock(&begin.cut_off.locked_s).await?;
    engine.let_come_first(&begin.cut_off, &mut cancellation).await;
    let mut outcome = engine.run(&mut cancellation, lock.as_ref()).await;
    if matches!(outcome, Ok(false)) {
        engine.free_abandoned(&begin.cut_off).await;
        // What was told meanwhile is written down.
        outcome = engine.hear_all().map(|()| false);
    }
    if let Some(lock) = lock
        && !matches!(outcome, Err(RunError::Died))
    {
        lock.release().await;
    }
    let stopped = outcome?;
    engine.finish(stopped)
}

impl Engine {
    /// Takes up the run where its journal ends; writes down that it is resumed, and says that it begins.
    fn begin(
        mut journal: JournalWriter,
        mode: Option<ResumeMode>,
        plan_digest: &str,
        shared: Shared,
        events: UnboundedSender<Event>,
    ) -> Result<Self, RunError> {
        let mut history = RunHistory::of(journal.records(), shared.options.0.settle);
        if let Some(mode) = mode {
            history.apply(journal.append(Entry::Resumed { mode })?);
            journal.flush()?;
        }
        history.expect_more_requests(shared.plan.steps.iter().map(|step| (&step.id, &step.action)));
        let scheduler = Scheduler::new(tasks_of(&shared.plan, &history), rules(&shared, mode));
        let (sender, messages) = unbounded_channel();
        let engine = Self {
            scheduler,
            journal,
            events,
            shared: Arc::new(shared.with_history(history)),
            begun: BTreeMap::new(),
            jobs: JoinSet::new(),
            sender,
            messages,
            stop: Stop::No,
            wrote: usize::from(mode.is_some()),
            told_batches: BTreeSet::new(),
            pauses: BTreeMap::new(),
        };
        engine.tell(EventKind::RunStarted {
            project: engine.plan().project.clone(),
            plan_digest: plan_digest.to_owned(),
            resumed: mode.is_some(),
            steps: describe::heads(engine.plan()),
        });
        Ok(engine)
    }

    fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    /// Takes the project's lock on the cluster, on transports that have SSH.
    ///
    /// `of_dead` are the times that dead runs of the project on this machine left on it: such a lock is taken over.
    async fn lock(&mut self, of_dead: &[i64]) -> Result<Option<ClusterLock>, RunError> {
        let is_api_only = self.plan().transport == vmdeploy_planner::plan::TransportChoice::Api;
        if is_api_only || !self.shared.connections.has_ssh() || self.plan().is_empty() {
            return Ok(None);
        }
        let own = self.shared.history(|history| history.locked_s);
        let known: Vec<i64> = own.into_iter().chain(of_dead.iter().copied()).collect();
        let project = self.plan().project.clone();
        let every = self.shared.options.0.keep_lock_every;
        let taken = ClusterLock::take(&self.shared.connections, &project, &known, every).await;
        let lock = taken.map_err(|failure| RunError::ClusterLock { project, source: Box::new(failure) })?;
        if let Some(modified_s) = lock.modified_s() {
            self.write(Entry::Locked { modified_s })?;
        }
        Ok(Some(lock))
    }

    /// Waits until what dead runs of the project have sent out can come no more, or the user stops the run.
    async fn let_come_first(&mut self, cut_off: &CutOff, cancellation: &mut Cancellation) {
        if cut_off.is_empty() || self.plan().steps.iter().all(|step| step.action.only_reads()) {
            return;
        }
        let drained = cut_off.drain(&self.shared.connections, &self.shared.options.0, |text| {
            self.tell(EventKind::Note { vm: None, text });
        });
        let drained = tokio::select! {
            drained = drained => drained,
            _ = cancellation.beyond(self.stop) => Ok(()),
        };
        if let Err(failure) = drained {
            let text = format!(
                "cannot determine whether the interrupted run is still active on the cluster: {failure}"
            );
            self.tell(EventKind::Note { vm: None, text });
        }
    }

    /// Obeys the scheduler until it says that nothing is left; returns whether the user stopped it before.
    async fn run(
        &mut self,
        cancellation: &mut Cancellation,
        lock: Option<&ClusterLock>,
    ) -> Result<bool, RunError> {
        // Who stops a run before its first step wants none.
        let first = match cancellation.current() {
            Stop::No => Input::Begin,
            stop => self.stopping(stop, None)?,
        };
        let mut commands = self.scheduler.on(first);
        loop {
            if let Some(stopped) = self.obey(std::mem::take(&mut commands))? {
                return Ok(stopped);
            }
            let woken = tokio::select! {
                biased;
                Some(message) = self.messages.recv() => {
                    self.hear(message)?;
                    continue;
                }
                stop = cancellation.beyond(self.stop) => Woken::Stop(stop),
                Some(joined) = self.jobs.join_next() => match joined {
                    Ok(ended) => Woken::Ended(Box::new(ended)),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => continue,
                },
                news = ClusterLock::news(lock) => Woken::Lock(news),
            };
            // A run that was paused, and lost its lock meanwhile, dispatches nothing more.
            if let Some(news) = ClusterLock::confirm(lock).await
                && let Some(stop) = self.heed(news)?
            {
                let commands = self.scheduler.on(stop);
                if let Some(stopped) = self.obey(commands)? {
                    return Ok(stopped);
                }
            }
            commands = match woken {
                Woken::Stop(stop) => {
                    let input = self.stopping(stop, None)?;
                    self.scheduler.on(input)
                }
                Woken::Ended(ended) => self.ended(*ended)?,
                Woken::Lock(news) => match self.heed(news)? {
                    Some(input) => self.scheduler.on(input),
                    None => continue,
                },
            };
        }
    }

    /// Does what the scheduler says. What is sent out stands in the journal, on the disk, before.
    fn obey(&mut self, commands: Vec<Command>) -> Result<Option<bool>, RunError> {
        for command in &commands {
            match command {
                Command::Start { step, attempt, .. } => {
                    self.write(Entry::Started { step: step.clone(), attempt: *attempt })?;
                }
                Command::Revert { step } => self.write(Entry::RevertStarted { step: step.clone() })?,
                _ => {}
            }
        }
        self.journal.flush()?;
        for command in commands {
            match command {
                Command::Start { step, attempt, probe } => self.start(&step, attempt, probe),
                Command::Revert { step } => self.revert(&step),
                Command::Wait { step, attempt } => self.wait(step, attempt),
                Command::GiveUp => self.shared.cancel.cancel(),
                Command::Finish { stopped } => return Ok(Some(stopped)),
            }
        }
        Ok(None)
    }

    fn job(&self, id: &StepId, probe: bool) -> Option<Job> {
        let step = self.shared.step(id)?.clone();
        let until = Instant::now() + Duration::from_secs(step.deadline_s.max(1));
        let history = self.shared.history(|history| history.step(id).cloned()).unwrap_or_default();
        Some(Job { shared: self.shared.clone(), step, probe, history, messages: self.sender.clone(), until })
    }

    fn start(&mut self, id: &StepId, attempt: u32, probe: bool) {
        let Some(job) = self.job(id, probe) else { return };
        self.begun.entry(id.clone()).or_insert_with(Instant::now);
        self.tell_batch(job.step.vm.as_ref());
        self.tell(EventKind::StepStarted { step: id.clone(), attempt });
        let span = tracing::info_span!("step", step = %id, transport = %job.step.transport, attempt);
        let (id, cancel) = (id.clone(), self.shared.cancel.clone());
        let work = async move {
            let done = tokio::select! {
                done = job.carry_out() => done,
                () = given_up(&cancel, &job) => Err(interrupted(&job)),
            };
            Ended::Step(id, done)
        };
        self.jobs.spawn(work.instrument(span));
    }

    /// Tells once that the batch of a VM begins.
    fn tell_batch(&mut self, vm: Option<&GuestName>) {
        let Some(vm) = vm else { return };
        let place = |(at, rollout): (usize, &PlannedRollout)| Some((at, rollout.batch_of(vm)?));
        let Some((at, batch)) = self.plan().rollouts.iter().enumerate().find_map(place) else { return };
        if !self.told_batches.insert((at, batch)) {
            return;
        }
        let rollout = &self.plan().rollouts[at];
        self.tell(EventKind::BatchStarted {
            group: rollout.group.clone(),
            batch: batch + 1,
            batches: rollout.batches.len(),
            vms: rollout.batches[batch].clone(),
        });
    }

    fn revert(&mut self, id: &StepId) {
        let Some(job) = self.job(id, false) else { return };
        self.tell(EventKind::RevertStarted { step: id.clone() });
        let span = tracing::info_span!("revert", step = %id);
        let pauses: Vec<Duration> =
            (1..self.shared.options.0.attempts).map(|attempt| self.pause(attempt)).collect();
        let (id, cancel) = (id.clone(), self.shared.cancel.clone());
        let work = async move {
            let note = tokio::select! {
                note = rolled_back(&job, &pauses) => note,
                () = given_up(&cancel, &job) => Err(interrupted(&job)),
            };
            Ended::Revert(id, note)
        };
        self.jobs.spawn(work.instrument(span));
    }

    fn wait(&mut self, step: StepId, attempt: u32) {
        let pause = self.pauses.remove(&step).unwrap_or_else(|| self.pause(attempt));
        let cancel = self.shared.cancel.clone();
        self.jobs.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cancel.cancelled() => {}
            }
            Ended::Waited(step)
        });
    }

    /// Returns how long to wait after that attempt: doubling, and spread by chance, so that many do not come at once.
    fn pause(&self, attempt: u32) -> Duration {
        let doubled = self.shared.options.0.first_wait.saturating_mul(1 << attempt.saturating_sub(1).min(10));
        doubled.min(LONGEST_WAIT).mul_f64(rand::rng().random_range(0.5..1.0))
    }

    /// Listens to a step that is on its way.
    fn hear(&mut self, message: Message) -> Result<(), RunError> {
        match message {
            Message::Submitted(step, upid) => {
                self.write(Entry::Submitted { step: step.clone(), upid: upid.clone() })?;
                self.journal.flush()?;
                self.tell(EventKind::StepSubmitted { step, upid });
            }
            Message::Progress(step, percent, text) => {
                self.tell(EventKind::StepProgress { step, percent, text })
            }
            Message::Saw(step, volumes, written) => {
                self.write(Entry::Saw { step, volumes })?;
                self.journal.flush()?;
                let _ = written.send(());
            }
            Message::Config(step, vmid, values, written) => {
                self.write(Entry::Config { step, vmid, values })?;
                self.journal.flush()?;
                let _ = written.send(());
            }
            Message::Probed(step, found) => {
                self.write(Entry::Probed { step: step.clone(), found: found.clone() })?;
                self.tell(EventKind::StepProbed { step, found });
            }
            Message::Note(vm, text) => self.tell(EventKind::Note { vm, text }),
        }
        Ok(())
    }

    /// Takes what the keeper of the project's lock tells. A run whose lock another one has begins nothing new.
    fn heed(&mut self, news: News) -> Result<Option<Input>, RunError> {
        match news {
            News::Kept(modified_s) => self.write(Entry::Locked { modified_s })?,
            News::Trouble(text) => self.tell(EventKind::Note { vm: None, text }),
            News::Lost(text) => {
                self.tell(EventKind::Note { vm: None, text: text.clone() });
                if self.stop == Stop::No {
                    return self.stopping(Stop::WhenIdle, Some(text)).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// Takes the end of a step or a revert, and returns what to do now.
    fn ended(&mut self, ended: Ended) -> Result<Vec<Command>, RunError> {
        let input = match ended {
            Ended::Waited(step) => Input::Waited { step },
            Ended::Step(step, Ok(done)) => self.succeeded(step, done)?,
            Ended::Step(step, Err(failure)) => return self.failed(step, failure),
            Ended::Revert(step, Ok(note)) => {
                self.write(Entry::RevertFinished { step: step.clone(), note: note.clone() })?;
                self.tell(EventKind::RevertFinished { step: step.clone(), note });
                Input::RevertFinished { step }
            }
            Ended::Revert(step, Err(failure)) => {
                let failure = self.dressed(&step, failure);
                self.write(Entry::RevertFailed { step: step.clone(), failure: failure.clone() })?;
                self.tell(EventKind::RevertFailed { step: step.clone(), failure });
                Input::RevertFailed { step }
            }
        };
        Ok(self.scheduler.on(input))
    }

    fn succeeded(&mut self, step: StepId, done: Done) -> Result<Input, RunError> {
        let Done { outcome, warnings } = done;
        let entry =
            Entry::Succeeded { step: step.clone(), outcome: outcome.clone(), warnings: warnings.clone() };
        self.write(entry)?;
        let changed = outcome != Outcome::AlreadyDone;
        let took_ms = self.took_ms(&step);
        self.tell(EventKind::StepSucceeded { step: step.clone(), outcome, warnings, took_ms });
        Ok(Input::Succeeded { step, changed })
    }

    /// Lets the scheduler decide about a failure, and writes down what it decided before anything of it is done.
    fn failed(&mut self, step: StepId, failure: Failure) -> Result<Vec<Command>, RunError> {
        let (failure, verdict) = self.judged(&step, failure);
        let failure = self.dressed(&step, failure);
        let commands = self.scheduler.on(Input::Failed { step: step.clone(), verdict });
        let again = commands.iter().find_map(|command| match command {
            Command::Wait { step: waits, attempt } if *waits == step => Some(*attempt),
            _ => None,
        });
        let entry = Entry::Failed { step: step.clone(), failure: failure.clone(), again: again.is_some() };
        self.write(entry)?;
        match again {
            Some(attempt) => {
                let pause = self.pause(attempt);
                self.pauses.insert(step.clone(), pause);
                let wait_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                self.tell(EventKind::StepRetrying { step, attempt: attempt + 1, wait_ms, failure });
            }
            None => {
                tracing::info!(%step, %failure, "a step failed");
                let took_ms = self.took_ms(&step);
                let revert = self.scheduler.will_revert(&step);
                let failure = if revert { failure.of_what_is_reverted() } else { failure };
                self.tell(EventKind::StepFailed { step, failure, took_ms, revert });
            }
        }
        Ok(commands)
    }

    /// Decides what may be done about a failure, in the light of the attempts before: one of those may have taken
    /// effect although this one did not.
    fn judged(&self, id: &StepId, mut failure: Failure) -> (Failure, Verdict) {
        let only_reads = self.shared.step(id).is_none_or(|step| step.action.only_reads());
        let history = self.shared.history(|history| history.step(id).cloned()).unwrap_or_default();
        let mut verdict = verdict(&failure);
        if failure.took_effect == TookEffect::No && history.unsure && !only_reads {
            verdict = match verdict {
                Verdict::Again => Verdict::AgainAfterProbe,
                _ => Verdict::Final(TookEffect::Maybe),
            };
            failure.took_effect = TookEffect::Maybe;
            if let Some(doubt) = history.doubt.filter(|doubt| *doubt != failure.message) {
                failure.causes.push(format!("an earlier attempt: {doubt}"));
            }
        }
        (failure, verdict)
    }

    /// Adds to a failure what the step does not know of itself.
    fn dressed(&self, id: &StepId, mut failure: Failure) -> Failure {
        let step = self.shared.step(id);
        failure.step = Some(id.clone());
        failure.vm = step.and_then(|step| step.vm.clone());
        let vmid = step.and_then(|step| step.action.guest()).map(|guest| guest.vmid);
        if failure.node.is_none() {
            failure.node = step.map(|step| step.action.node().clone());
        }
        failure.with_usual_hint(vmid)
    }

    fn stopping(&mut self, stop: Stop, because: Option<String>) -> Result<Input, RunError> {
        self.stop = stop;
        // What stops of itself has time; a person has not.
        if because.is_none() {
            self.shared.no_more_waits.cancel();
        }
        let now = stop == Stop::Now;
        self.write(Entry::Stopped { now, because })?;
        self.tell(EventKind::Cancelling { now });
        Ok(Input::Stop(stop))
    }

    /// Removes what unfinished runs left for the VMs that this run brought to their end, and tells what that was.
    async fn free_abandoned(&mut self, cut_off: &CutOff) {
        if cut_off.abandoned.is_empty() {
            return;
        }
        let report = self.shared.history(|history| report_at_end(self.plan(), history));
        let done: BTreeSet<_> = report
            .vms
            .iter()
            .filter(|vm| vm.state == crate::VmState::Done && vm.verb != Verb::Delete)
            .map(|vm| vm.vmid)
            .collect();
        for Abandoned { run, step, history } in &cut_off.abandoned {
            let Some(guest) = step.action.guest().filter(|guest| done.contains(&guest.vmid)) else {
                continue;
            };
            let until = Instant::now() + Duration::from_secs(step.deadline_s.max(1));
            let (step, history) = (step.clone(), history.clone());
            let job = Job {
                shared: self.shared.clone(),
                step: step.clone(),
                probe: true,
                history,
                messages: self.sender.clone(),
                until,
            };
            let text = match job.free_abandoned().await {
                Ok(freed) if freed.is_empty() => continue,
                Ok(freed) => {
                    let names: Vec<&str> = freed.iter().map(pve_types::VolumeId::as_str).collect();
                    format!("removed {}, left by the unfinished run `{run}`", names.join(", "))
                }
                Err(failure) => {
                    format!("volumes left by the unfinished run `{run}` could not be removed: {failure}")
                }
            };
            self.tell(EventKind::Note { vm: Some(guest.name.clone()), text });
        }
    }

    fn hear_all(&mut self) -> Result<(), RunError> {
        while let Ok(message) = self.messages.try_recv() {
            // The journal knows the steps of this run only.
            let is_own = |step: &StepId| self.shared.step(step).is_some();
            match &message {
                Message::Submitted(step, _) | Message::Probed(step, _) if !is_own(step) => {}
                _ => self.hear(message)?,
            }
        }
        Ok(())
    }

    /// Writes the end down and makes the report.
    fn finish(mut self, stopped: bool) -> Result<RunReport, RunError> {
        self.hear_all()?;
        if !stopped {
            let result = self.shared.history(|history| report_at_end(self.plan(), history)).result;
            self.write(Entry::Finished { result })?;
        }
        self.journal.flush()?;
        let report = self.shared.history(|history| report_from(self.plan(), history));
        for step in &report.steps {
            if let crate::StepState::Skipped { because } = &step.state {
                self.tell(EventKind::StepSkipped { step: step.step.clone(), because: because.clone() });
            }
        }
        self.tell(EventKind::RunFinished { report: Box::new(report.clone()) });
        Ok(report)
    }

    fn took_ms(&self, step: &StepId) -> u64 {
        let took = self.begun.get(step).map(Instant::elapsed).unwrap_or_default();
        u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
    }

    fn write(&mut self, entry: Entry) -> Result<(), RunError> {
        let record = self.journal.append(entry)?;
        self.shared.apply(record);
        self.wrote += 1;
        match self.shared.options.0.die_after_records {
            Some(limit) if self.wrote >= limit => Err(RunError::Died),
            _ => Ok(()),
        }
    }

    fn tell(&self, event: EventKind) {
        let run = self.plan().run_id.clone();
        let event = Event { format_version: crate::EVENT_FORMAT_VERSION, at: Timestamp::now(), run, event };
        // The receiver is gone: the journal has all that matters.
        let _ = self.events.send(event);
    }
}

/// Returns the scheduler's rules for a run.
fn rules(shared: &Shared, mode: Option<ResumeMode>) -> Rules {
    let options = &shared.options.0;
    let rule = |change: &vmdeploy_planner::plan::Change| {
        (change.vm.clone(), options.on_failure.unwrap_or(change.on_failure))
    };
    Rules {
        limits: shared.plan.limits,
        attempts: options.attempts,
        on_failure: shared.plan.changes.iter().map(rule).collect(),
        rollback_all: mode == Some(ResumeMode::Rollback),
    }
}

/// Reverts a step. To revert is to ensure that something is absent: twice is safe, so whatever may pass is tried again.
async fn rolled_back(job: &Job, pauses: &[Duration]) -> Result<RevertNote, Failure> {
    for pause in pauses {
        match job.revert().await {
            Err(failure) if may_pass_for_an_revert(failure.kind) => {
                job.tell(None, format!("retrying the revert: {failure}"));
                tokio::time::sleep(*pause).await;
            }
            other => return other,
        }
    }
    job.revert().await
}

fn may_pass_for_an_revert(kind: FailureKind) -> bool {
    use FailureKind as K;
    matches!(
        kind,
        K::ConfigLock
            | K::StorageLock
            | K::NoAnswer
            | K::Unreachable
            | K::NodeUnreachable
            | K::NodeBusy
            | K::MonitorTimeout
    )
}

/// Waits until the run is given up; a step that works over SSH then has a moment to end its command on the node.
async fn given_up(cancel: &tokio_util::sync::CancellationToken, job: &Job) {
    let action = &job.step.action;
    // A wait begins nothing that must be ended, and who stops a run does not want to wait.
    if describe::is_wait(action) {
        return job.shared.no_more_waits.cancelled().await;
    }
    cancel.cancelled().await;
    if job.step.transport == vmdeploy_planner::plan::Transport::Ssh {
        tokio::time::sleep(LAST_WORDS).await;
    }
}

fn interrupted(job: &Job) -> Failure {
    let failure = |text: &str| Failure::new(FailureKind::Interrupted, text);
    if job.step.action.only_reads() {
        return failure("the run was stopped before the step's result was known").effect(TookEffect::No);
    }
    failure("the run was stopped while the step was in progress").effect(TookEffect::Maybe)
}

/// Decides by kind and effect what may be done about a failure.
fn verdict(failure: &Failure) -> Verdict {
    use FailureKind as K;
    let may_pass = crate::is_passing(failure.kind);
    match failure.took_effect {
        TookEffect::No if may_pass && failure.kind != K::GuestGone => Verdict::Again,
        // The table of PVE's errors says of these that they are to be probed: docs/failures.md.
        TookEffect::Maybe
            if matches!(failure.kind, K::NoAnswer | K::NodeBusy | K::MonitorTimeout)
                || (failure.upid.is_none() && matches!(failure.kind, K::ConfigLock | K::StorageLock)) =>
        {
            Verdict::AgainAfterProbe
        }
        effect => Verdict::Final(effect),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_certainly_did_nothing_is_repeated_unasked() {
        use FailureKind as K;
        let check = |kind: K, effect: TookEffect, expect: Verdict| {
            assert_eq!(verdict(&Failure::new(kind, "x").effect(effect)), expect, "{kind:?} {effect:?}");
        };
        check(K::ConfigLock, TookEffect::No, Verdict::Again);
        check(K::StorageLock, TookEffect::No, Verdict::Again);
        check(K::Unreachable, TookEffect::No, Verdict::Again);
        check(K::ConfigLock, TookEffect::Maybe, Verdict::AgainAfterProbe);
        check(K::NodeBusy, TookEffect::No, Verdict::Again);
        check(K::NodeBusy, TookEffect::Yes, Verdict::Final(TookEffect::Yes));
        check(K::MonitorTimeout, TookEffect::Maybe, Verdict::AgainAfterProbe);
        check(K::ShutdownTimeout, TookEffect::Maybe, Verdict::Final(TookEffect::Maybe));
        check(K::NoAnswer, TookEffect::Maybe, Verdict::AgainAfterProbe);
        check(K::TaskFailed, TookEffect::Maybe, Verdict::Final(TookEffect::Maybe));
        check(K::CommandFailed, TookEffect::Maybe, Verdict::Final(TookEffect::Maybe));
        check(K::Forbidden, TookEffect::No, Verdict::Final(TookEffect::No));
        check(K::NoQuorum, TookEffect::No, Verdict::Final(TookEffect::No));
        check(K::Deadline, TookEffect::Maybe, Verdict::Final(TookEffect::Maybe));
    }
}
