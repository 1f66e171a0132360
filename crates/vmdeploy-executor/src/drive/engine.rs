//! The loop around the scheduler: it writes the journal, sends steps out, listens to them, and tells the world.

use super::history::StepHistory;
use super::job::{Done, Job, Message, Shared};
use super::lock::{ClusterLock, News};
use crate::describe;
use crate::journal::{Entry, JournalWriter};
use crate::schedule::{Command, Input, Rules, Scheduler, Verdict, tasks_of};
use crate::{
    Cancellation, Event, EventKind, Failure, FailureKind, Outcome, ResumeMode, RevertNote, RunError,
    RunReport, RunResult, Stop, TookEffect, report_of,
};
use jiff::Timestamp;
use rand::RngExt as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument as _;
use vmdeploy_planner::plan::{Plan, StepId};

/// How a run begins.
pub(crate) struct Begin {
    /// Its journal, with at least its first record.
    pub(crate) journal: JournalWriter,
    /// What is resumed, if it is.
    pub(crate) mode: Option<ResumeMode>,
    /// SHA-256 of the plan, in hexadecimal.
    pub(crate) plan_digest: String,
    /// The run of the project that was cut off last, and since when its request may be on its way.
    pub(crate) cut_off: Option<(String, Timestamp)>,
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
    sights: BTreeMap<StepId, StepHistory>,
    begun: BTreeMap<StepId, Instant>,
    jobs: JoinSet<Ended>,
    sender: UnboundedSender<Message>,
    messages: UnboundedReceiver<Message>,
    stop: Stop,
    wrote: usize,
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
    let mut engine = Engine::new(&begin.journal, begin.mode, shared, events).with_journal(begin.journal);
    engine.announce(begin.mode, &begin.plan_digest)?;
    let lock = engine.lock().await?;
    if let Some((run, since)) = &begin.cut_off {
        engine.let_come_first(run, *since, &mut cancellation).await;
    }
    let outcome = engine.run(&mut cancellation, lock.as_ref()).await;
    if let Some(lock) = lock
        && !matches!(outcome, Err(RunError::Died))
    {
        lock.release().await;
    }
    let stopped = outcome?;
    engine.finish(stopped)
}

/// An engine that has no journal yet.
struct Bare {
    scheduler: Scheduler,
    events: UnboundedSender<Event>,
    shared: Arc<Shared>,
    sights: BTreeMap<StepId, StepHistory>,
}

impl Bare {
    fn with_journal(self, journal: JournalWriter) -> Engine {
        let (sender, messages) = unbounded_channel();
        Engine {
            scheduler: self.scheduler,
            journal,
            events: self.events,
            shared: self.shared,
            sights: self.sights,
            begun: BTreeMap::new(),
            jobs: JoinSet::new(),
            sender,
            messages,
            stop: Stop::No,
            wrote: 0,
            pauses: BTreeMap::new(),
        }
    }
}

impl Engine {
    #[expect(clippy::new_ret_no_self, reason = "the journal is moved in afterwards")]
    fn new(
        journal: &JournalWriter,
        mode: Option<ResumeMode>,
        shared: Shared,
        events: UnboundedSender<Event>,
    ) -> Bare {
        let records = journal.records();
        for record in records {
            match &record.entry {
                Entry::Succeeded { step, outcome, .. } => shared.note_outcome(step, outcome),
                Entry::Saw { step, volumes } => shared.note_saw(step, volumes),
                _ => {}
            }
        }
        let options = &shared.options.0;
        let rule = |change: &vmdeploy_planner::plan::Change| {
            (change.vm.clone(), options.on_failure.unwrap_or(change.on_failure))
        };
        let rules = Rules {
            limits: shared.plan.limits,
            attempts: options.attempts,
            on_failure: shared.plan.changes.iter().map(rule).collect(),
            rollback_all: mode == Some(ResumeMode::Rollback),
        };
        let scheduler = Scheduler::new(tasks_of(&shared.plan, records), rules);
        let mut sights = StepHistory::of(records);
        for step in &shared.plan.steps {
            if let Some(history) = sights.get_mut(&step.id) {
                history.expect_more_requests(&step.action);
            }
        }
        Bare { scheduler, events, sights, shared: Arc::new(shared) }
    }

    fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    /// Says that the run begins, and writes down that it is resumed.
    fn announce(&mut self, mode: Option<ResumeMode>, plan_digest: &str) -> Result<(), RunError> {
        if let Some(mode) = mode {
            self.write(Entry::Resumed { mode })?;
            self.journal.flush()?;
        }
        self.tell(EventKind::RunStarted {
            project: self.plan().project.clone(),
            plan_digest: plan_digest.to_owned(),
            resumed: mode.is_some(),
            steps: describe::heads(self.plan()),
        });
        Ok(())
    }

    /// Takes the project's lock on the cluster, on transports that have SSH.
    async fn lock(&mut self) -> Result<Option<ClusterLock>, RunError> {
        let is_api_only = self.plan().transport == vmdeploy_planner::plan::TransportChoice::Api;
        if is_api_only || !self.shared.connections.has_ssh() || self.plan().is_empty() {
            return Ok(None);
        }
        let last = self.journal.records().iter().rev().find_map(|record| match record.entry {
            Entry::Locked { modified_s } => Some(modified_s),
            _ => None,
        });
        let project = self.plan().project.clone();
        let every = self.shared.options.0.keep_lock_every;
        let taken = ClusterLock::take(&self.shared.connections, &project, last, every).await;
        let lock = taken.map_err(|failure| RunError::ClusterLock { project, source: Box::new(failure) })?;
        if let Some(modified_s) = lock.modified_s() {
            self.write(Entry::Locked { modified_s })?;
        }
        Ok(Some(lock))
    }

    /// Waits until what a killed run of the project has sent out can come no more, or the user stops the run.
    async fn let_come_first(&mut self, run: &str, since: Timestamp, cancellation: &mut Cancellation) {
        let history = StepHistory { unanswered: Some(since), ..StepHistory::default() };
        let left = history.settles_in(self.shared.options.0.settle);
        if left.is_zero() || self.plan().steps.iter().all(|step| step.action.only_reads()) {
            return;
        }
        let text = format!(
            "run `{run}` was cut off a moment ago, and what it sent out may still be on its way: it is waited for during \
             {} s",
            left.as_secs() + 1
        );
        self.tell(EventKind::Note { vm: None, text });
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            _ = cancellation.beyond(self.stop) => {}
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
        let commands = self.scheduler.on(first);
        if let Some(stopped) = self.obey(commands)? {
            return Ok(stopped);
        }
        loop {
            let input = tokio::select! {
                biased;
                Some(message) = self.messages.recv() => {
                    self.hear(message)?;
                    continue;
                }
                stop = cancellation.beyond(self.stop) => self.stopping(stop, None)?,
                Some(joined) = self.jobs.join_next() => match joined {
                    Ok(ended) => self.ended(ended)?,
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => continue,
                },
                news = ClusterLock::news(lock) => match self.heed(news)? {
                    Some(input) => input,
                    None => continue,
                },
            };
            let commands = self.scheduler.on(input);
            if let Some(stopped) = self.obey(commands)? {
                return Ok(stopped);
            }
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
        let history = self.sights.get(id).cloned().unwrap_or_default();
        Some(Job { shared: self.shared.clone(), step, probe, history, messages: self.sender.clone(), until })
    }

    fn start(&mut self, id: &StepId, attempt: u32, probe: bool) {
        let Some(job) = self.job(id, probe) else { return };
        self.begun.entry(id.clone()).or_insert_with(Instant::now);
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
                let history = self.sights.entry(step.clone()).or_default();
                (history.upid, history.unanswered) = (Some(upid.clone()), None);
                self.tell(EventKind::StepSubmitted { step, upid });
            }
            Message::Progress(step, percent, text) => {
                self.tell(EventKind::StepProgress { step, percent, text })
            }
            Message::Saw(step, volumes, written) => {
                self.write(Entry::Saw { step: step.clone(), volumes: volumes.clone() })?;
                self.journal.flush()?;
                self.shared.note_saw(&step, &volumes);
                self.sights.entry(step).or_default().volumes = Some(volumes.into_iter().collect());
                let _ = written.send(());
            }
            Message::Probed(step, found) => {
                self.write(Entry::Probed { step: step.clone(), found: found.clone() })?;
                if let (crate::Found::NotDone, Some(history)) = (&found, self.sights.get_mut(&step)) {
                    history.found_reverted(self.shared.options.0.settle);
                }
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

    /// Takes the end of a step or an revert.
    fn ended(&mut self, ended: Ended) -> Result<Input, RunError> {
        match ended {
            Ended::Waited(step) => Ok(Input::Waited { step }),
            Ended::Step(step, Ok(done)) => self.succeeded(step, done),
            Ended::Step(step, Err(failure)) => self.failed(step, failure),
            Ended::Revert(step, Ok(note)) => {
                self.write(Entry::RevertFinished { step: step.clone(), note: note.clone() })?;
                self.tell(EventKind::RevertFinished { step: step.clone(), note });
                Ok(Input::RevertFinished { step })
            }
            Ended::Revert(step, Err(failure)) => {
                let failure = self.dressed(&step, failure);
                self.write(Entry::RevertFailed { step: step.clone(), failure: failure.clone() })?;
                self.tell(EventKind::RevertFailed { step: step.clone(), failure });
                Ok(Input::RevertFailed { step })
            }
        }
    }

    fn succeeded(&mut self, step: StepId, done: Done) -> Result<Input, RunError> {
        let Done { outcome, warnings } = done;
        self.shared.note_outcome(&step, &outcome);
        let entry =
            Entry::Succeeded { step: step.clone(), outcome: outcome.clone(), warnings: warnings.clone() };
        self.write(entry)?;
        if let Some(history) = self.sights.get_mut(&step) {
            (history.unsure, history.unanswered, history.doubt) = (false, None, None);
        }
        let changed = outcome != Outcome::AlreadyDone;
        let took_ms = self.took_ms(&step);
        self.tell(EventKind::StepSucceeded { step: step.clone(), outcome, warnings, took_ms });
        Ok(Input::Succeeded { step, changed })
    }

    fn failed(&mut self, step: StepId, failure: Failure) -> Result<Input, RunError> {
        let (failure, verdict) = self.judged(&step, failure);
        let failure = self.dressed(&step, failure);
        let input = Input::Failed { step: step.clone(), verdict };
        // Whether it is tried again is the scheduler's to say; a copy is asked, so that the journal can tell.
        let mut foresight = self.scheduler.clone();
        let commands = foresight.on(input.clone());
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
                tracing::warn!(%step, %failure, "a step failed");
                let took_ms = self.took_ms(&step);
                let revert = foresight.will_revert(&step);
                let failure = if revert { failure.of_what_is_reverted() } else { failure };
                self.tell(EventKind::StepFailed { step, failure, took_ms, revert });
            }
        }
        Ok(input)
    }

    /// Decides what may be done about a failure, in the light of the attempts before: one of those may have taken
    /// effect although this one did not.
    fn judged(&mut self, id: &StepId, mut failure: Failure) -> (Failure, Verdict) {
        let only_reads = self.shared.step(id).is_none_or(|step| step.action.only_reads());
        let history = self.sights.entry(id.clone()).or_default();
        match failure.took_effect {
            TookEffect::No if history.unsure && !only_reads => {
                let verdict = match verdict(&failure) {
                    Verdict::Again => Verdict::AgainAfterProbe,
                    _ => Verdict::Final(TookEffect::Maybe),
                };
                failure.took_effect = TookEffect::Maybe;
                if let Some(doubt) = history.doubt.as_ref().filter(|doubt| **doubt != failure.message) {
                    failure.causes.push(format!("an attempt before: {doubt}"));
                }
                (failure, verdict)
            }
            TookEffect::No => {
                let verdict = verdict(&failure);
                (failure, verdict)
            }
            TookEffect::Maybe | TookEffect::Yes => {
                history.doubt(&failure, Timestamp::now());
                let verdict = verdict(&failure);
                (failure, verdict)
            }
        }
    }

    /// Adds to a failure what the step does not know of itself.
    fn dressed(&self, id: &StepId, mut failure: Failure) -> Failure {
        let step = self.shared.step(id);
        failure.step = Some(id.clone());
        failure.vm = step.and_then(|step| step.vm.clone());
        let vmid = step.and_then(|step| step.action.guest()).map(|guest| guest.vmid);
        if failure.node.is_none() {
            failure.node = step.and_then(|step| describe::node(&step.action)).cloned();
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

    /// Writes the end down and makes the report.
    fn finish(mut self, stopped: bool) -> Result<RunReport, RunError> {
        while let Ok(message) = self.messages.try_recv() {
            self.hear(message)?;
        }
        if !stopped {
            let mut records = self.journal.records().to_vec();
            let probe = Entry::Finished { result: RunResult::Done };
            records.push(crate::Record { at: Timestamp::now(), entry: probe });
            let result = report_of(self.plan(), &records).result;
            self.write(Entry::Finished { result })?;
        }
        self.journal.flush()?;
        let report = report_of(self.plan(), self.journal.records());
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
        self.journal.append(entry)?;
        self.wrote += 1;
        match self.shared.options.0.die_after_records {
            Some(limit) if self.wrote >= limit => Err(RunError::Died),
            _ => Ok(()),
        }
    }

    fn tell(&self, event: EventKind) {
        let run = self.plan().run_id.clone();
        let event = Event { format_version: crate::EVENT_FORMAT_VERSION, at: Timestamp::now(), run, event };
        // Nobody listens any more: the journal holds what counts.
        let _ = self.events.send(event);
    }
}

/// Reverts a step. To revert is to ensure that something is absent: twice is safe, so whatever may pass is tried again.
async fn rolled_back(job: &Job, pauses: &[Duration]) -> Result<RevertNote, Failure> {
    for pause in pauses {
        match job.revert().await {
            Err(failure) if may_pass_for_an_revert(failure.kind) => {
                job.tell(None, format!("the revert is tried again: {failure}"));
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
        K::ConfigLock | K::StorageLock | K::NoAnswer | K::Unreachable | K::NodeBusy | K::MonitorTimeout
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
        return failure("the run was stopped before the step had its answer").effect(TookEffect::No);
    }
    failure("the run was stopped while the step was on its way").effect(TookEffect::Maybe)
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
