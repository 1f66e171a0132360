//! The one fold of a journal: [`RunHistory::apply`] takes each record as it is written, and again when a run is read
//! back. Scheduler, report, resume and the volumes that a run owns all rest on what it holds.

use super::record::{Entry, Record, ResumeMode};
use crate::{Failure, Found, Outcome, Span, SpanKind, StepState, TookEffect};
use jiff::Timestamp;
use pve_types::{Upid, Vmid, VolumeId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use vmdeploy_planner::plan::{Action, StepId};

/// What the journal says of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunHistory {
    steps: BTreeMap<StepId, StepHistory>,
    /// The volumes that the outcomes of steps name, each with the number of steps that name it.
    volumes: BTreeMap<VolumeId, usize>,
    /// What the last `resume` was asked to do; `None` for a run that was never resumed.
    pub(crate) mode: Option<ResumeMode>,
    /// Why the last process stopped before the end; the inner `None` when the user stopped it.
    pub(crate) stopped: Option<Option<String>>,
    /// Whether the last record says that the run is over.
    pub(crate) is_at_end: bool,
    /// When the first record was written.
    pub(crate) started: Option<Timestamp>,
    /// When the last record was written.
    pub(crate) ended: Option<Timestamp>,
    /// The time that the project's lock on the cluster bore last, by the node's clock.
    pub(crate) locked_s: Option<i64>,
    /// When a process that is dead sent a request out last that was not answered.
    lost: Option<Timestamp>,
    /// What guests were when a process of this run first looked at them, and after how many records that was.
    configs: BTreeMap<Vmid, (BTreeMap<String, String>, usize)>,
    /// How many records there are.
    count: usize,
    /// How long an unanswered request may be on its way; a probe that finds nothing earlier is not final.
    settle: Duration,
}

/// What the journal says of one step.
#[derive(Debug, Clone)]
pub(crate) struct StepHistory {
    /// How far it came. [`StepState::Skipped`] is never among these: it follows from other steps.
    pub(crate) state: StepState,
    /// Whether its revert was begun and is not finished.
    pub(crate) is_reverting: bool,
    /// Whether a revert of it was begun whose end is not known, or that failed: some of it may be done.
    pub(crate) revert_unsure: bool,
    /// How far it had come when its revert began.
    pub(crate) state_before_revert: StepState,
    /// Each time that it was sent out or rolled back.
    pub(crate) spans: Vec<Span>,
    /// Its task, the last one.
    pub(crate) upid: Option<Upid>,
    /// What came of it.
    pub(crate) outcome: Option<Outcome>,
    /// Warnings of its task.
    pub(crate) warnings: Vec<String>,
    /// What the step itself failed with last.
    pub(crate) failure: Option<Failure>,
    /// What its last revert failed with; `None` once it is rolled back.
    pub(crate) revert_failure: Option<Failure>,
    /// The volumes that the guest had right before the step was sent out first.
    pub(crate) volumes_before: Option<BTreeSet<VolumeId>>,
    /// When it was first begun.
    pub(crate) begun: Option<Timestamp>,
    /// After how many records of the journal the last one about it stands.
    pub(crate) last: usize,
    /// Whether an attempt was begun whose end the journal does not have.
    open: bool,
    /// When that attempt was sent out, as long as it is not answered.
    open_since: Option<Timestamp>,
    /// Whether an attempt may have taken effect, and nothing since has shown that it did not.
    pub(crate) unsure: bool,
    /// Since when a request of an earlier attempt may be on its way that was not answered.
    pub(crate) unanswered: Option<Timestamp>,
    /// Since when a request of its revert may be on its way that was not answered.
    revert_unanswered: Option<Timestamp>,
    /// What the first attempt failed with that may have taken effect.
    pub(crate) doubt: Option<String>,
}

impl Default for StepHistory {
    fn default() -> Self {
        Self {
            state: StepState::NotStarted,
            is_reverting: false,
            revert_unsure: false,
            state_before_revert: StepState::NotStarted,
            spans: Vec::new(),
            upid: None,
            outcome: None,
            warnings: Vec::new(),
            failure: None,
            revert_failure: None,
            volumes_before: None,
            begun: None,
            last: 0,
            open: false,
            open_since: None,
            unsure: false,
            unanswered: None,
            revert_unanswered: None,
            doubt: None,
        }
    }
}

impl RunHistory {
    /// Returns the history of these records. `settle` is how long an unanswered request may be on its way.
    pub(crate) fn of(records: &[Record], settle: Duration) -> Self {
        let mut history = Self { settle, ..Self::default() };
        records.iter().for_each(|record| history.apply(record));
        history
    }

    /// Takes the next record.
    pub(crate) fn apply(&mut self, record: &Record) {
        let (at, last) = (record.at, self.ended);
        self.started.get_or_insert(at);
        self.ended = Some(at);
        self.count += 1;
        self.is_at_end = matches!(record.entry, Entry::Finished { .. });
        match &record.entry {
            Entry::RunStarted { .. } | Entry::Finished { .. } => {}
            Entry::Resumed { mode } => self.resumed(*mode, last.unwrap_or(at)),
            Entry::Config { vmid, values, .. } => {
                self.configs.insert(*vmid, (values.clone(), self.count));
            }
            Entry::Locked { modified_s } => self.locked_s = Some(*modified_s),
            Entry::Stopped { because, .. } => self.stopped = Some(because.clone()),
            Entry::Succeeded { step, outcome, .. } => {
                let (settle, count) = (self.settle, self.count);
                let history = self.step_mut(step);
                history.last = count;
                let before = history.outcome.take();
                history.apply(record, settle);
                self.count_volume(before.as_ref(), -1);
                self.count_volume(Some(outcome), 1);
            }
            Entry::Started { step, .. }
            | Entry::Saw { step, .. }
            | Entry::Submitted { step, .. }
            | Entry::Failed { step, .. }
            | Entry::Probed { step, .. }
            | Entry::RevertStarted { step }
            | Entry::RevertFinished { step, .. }
            | Entry::RevertFailed { step, .. } => {
                let (settle, count) = (self.settle, self.count);
                let history = self.step_mut(step);
                history.last = count;
                history.apply(record, settle);
            }
        }
    }

    /// Another process resumed: what was open went no further than the process that did it, and may be on its way.
    fn resumed(&mut self, mode: ResumeMode, last_sign: Timestamp) {
        self.lost = self.unanswered_since();
        (self.mode, self.stopped) = (Some(mode), None);
        for step in self.steps.values_mut() {
            step.unsure |= std::mem::take(&mut step.open);
            step.unanswered = step.unanswered.max(step.open_since.take());
            step.revert_unanswered = None;
            step.revert_unsure |= step.is_reverting;
            for span in &mut step.spans {
                span.end.get_or_insert(last_sign);
            }
        }
    }

    fn step_mut(&mut self, step: &StepId) -> &mut StepHistory {
        if !self.steps.contains_key(step) {
            self.steps.insert(step.clone(), StepHistory::default());
        }
        self.steps.get_mut(step).expect("it was just inserted")
    }

    fn count_volume(&mut self, outcome: Option<&Outcome>, by: isize) {
        if let Some(volume) = outcome.and_then(Outcome::volume) {
            let count = self.volumes.entry(volume.clone()).or_default();
            *count = count.saturating_add_signed(by);
        }
    }

    /// Returns what is known of a step; `None` for one that was never begun.
    pub(crate) fn step(&self, step: &StepId) -> Option<&StepHistory> {
        self.steps.get(step)
    }
    /// Returns what came of a step.
    pub(crate) fn outcome(&self, step: &StepId) -> Option<&Outcome> {
        self.steps.get(step)?.outcome.as_ref()
    }
    /// Tells whether a step of this run gave the volume.
    pub(crate) fn gave(&self, volume: &VolumeId) -> bool {
        self.volumes.get(volume).is_some_and(|count| *count > 0)
    }
    /// Returns what the guest was when a process of this run first looked at it, and after how many records that was.
    pub(crate) fn config_before(&self, vmid: Vmid) -> Option<(&BTreeMap<String, String>, usize)> {
        self.configs.get(&vmid).map(|(values, at)| (values, *at))
    }
    /// Returns when a request was sent out last that was not answered, and may be on its way.
    pub(crate) fn unanswered_since(&self) -> Option<Timestamp> {
        let of_step = |step: &StepHistory| step.unanswered.max(step.open_since).max(step.revert_unanswered);
        self.steps.values().filter_map(of_step).max().max(self.lost)
    }
    /// Tells whether a step was begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.steps.values().any(|step| step.begun.is_some())
    }
    /// Notes that steps are more than one request, so that the one that the journal knows may not be the last sent.
    pub(crate) fn expect_more_requests<'a>(&mut self, steps: impl Iterator<Item = (&'a StepId, &'a Action)>) {
        for (id, action) in steps {
            if let Some(history) = self.steps.get_mut(id) {
                history.expect_more_requests(action);
            }
        }
    }
}

impl StepHistory {
    fn apply(&mut self, record: &Record, settle: Duration) {
        let at = record.at;
        match &record.entry {
            Entry::Started { .. } => {
                self.begun.get_or_insert(at);
                (self.open, self.open_since) = (true, Some(at));
                self.begin(at, SpanKind::Work);
                self.state = StepState::Started;
            }
            Entry::Saw { volumes, .. } => {
                self.volumes_before.get_or_insert_with(|| volumes.iter().cloned().collect());
                // It is sent out right after this record.
                self.open_since = Some(at);
            }
            Entry::Submitted { upid, .. } => {
                self.upid = Some(upid.clone());
                (self.unanswered, self.open_since, self.revert_unanswered) = (None, None, None);
            }
            Entry::Succeeded { outcome, warnings, .. } => {
                self.outcome = Some(outcome.clone());
                self.warnings.clone_from(warnings);
                self.settled();
                self.end(at, StepState::Succeeded);
            }
            Entry::Failed { failure, again, .. } => self.failed(failure, *again, at),
            Entry::Probed { found: Found::NotDone, .. } => self.found_nothing(settle, at),
            Entry::RevertStarted { .. } => {
                if !self.is_reverting {
                    self.state_before_revert = self.state.clone();
                }
                (self.is_reverting, self.revert_unanswered) = (true, Some(at));
                self.begin(at, SpanKind::Revert);
            }
            Entry::RevertFinished { .. } => {
                (self.is_reverting, self.revert_failure, self.revert_unanswered) = (false, None, None);
                self.settled();
                self.end(at, StepState::RolledBack);
            }
            Entry::RevertFailed { failure, .. } => {
                self.revert_unanswered = Some(at).filter(|_| failure.is_unheard());
                self.revert_failure = Some(failure.clone());
                self.revert_unsure |= failure.took_effect != TookEffect::No;
                self.end(at, StepState::RevertFailed);
            }
            // They say nothing of one step.
            Entry::Probed { .. }
            | Entry::RunStarted { .. }
            | Entry::Resumed { .. }
            | Entry::Config { .. }
            | Entry::Locked { .. }
            | Entry::Stopped { .. }
            | Entry::Finished { .. } => {}
        }
    }

    fn failed(&mut self, failure: &Failure, again: bool, at: Timestamp) {
        self.failure = Some(failure.clone());
        match failure.took_effect {
            TookEffect::No => {
                self.settled();
                (self.upid, self.volumes_before) = (None, None);
            }
            TookEffect::Maybe | TookEffect::Yes => {
                self.doubt.get_or_insert_with(|| failure.message.clone());
                self.unsure = true;
                (self.open, self.open_since) = (false, None);
                self.unanswered = Some(at).filter(|_| failure.is_unheard());
            }
        }
        self.end(at, if again { StepState::Started } else { StepState::Failed });
        if let (true, Some(span)) = (again, self.spans.last_mut()) {
            span.kind = SpanKind::Retried;
        }
    }

    fn begin(&mut self, start: Timestamp, kind: SpanKind) {
        self.spans.push(Span { kind, start, end: None });
    }

    fn end(&mut self, at: Timestamp, state: StepState) {
        if let Some(span) = self.spans.last_mut() {
            span.end.get_or_insert(at);
        }
        self.state = state;
    }

    /// Nothing of the step is open any more.
    fn settled(&mut self) {
        (self.open, self.open_since) = (false, None);
        (self.unsure, self.unanswered, self.doubt) = (false, None, None);
    }

    /// Notes that a probe found nothing done. That is final only when no request can be on its way any more.
    fn found_nothing(&mut self, settle: Duration, now: Timestamp) {
        if remaining(self.unanswered, settle, now).is_zero() {
            (self.unsure, self.unanswered, self.doubt) = (false, None, None);
        }
    }

    /// Notes that the step is more than one request, so that the one that the journal knows may not be the last that was
    /// sent: others may be on their way since an unknown time.
    fn expect_more_requests(&mut self, action: &Action) {
        let is_on_its_way = match action {
            // It is stopped first, by a task of its own.
            Action::DeleteVm { .. } => self.upid.as_ref().is_some_and(|upid| upid.task_type() != "qmdestroy"),
            Action::SetHa { .. } => true,
            _ => false,
        };
        if self.unsure && is_on_its_way {
            self.unanswered = Some(Timestamp::now());
        }
    }

    /// Tells whether the step is done and changed something.
    pub(crate) fn has_changed(&self) -> bool {
        self.outcome.as_ref().is_some_and(|outcome| *outcome != Outcome::AlreadyDone)
    }
}

/// Returns what is left at `now` of the time that an unanswered request may be on its way.
pub(crate) fn remaining(since: Option<Timestamp>, settle: Duration, now: Timestamp) -> Duration {
    let Some(since) = since else { return Duration::ZERO };
    // A clock that was set back makes the wait no longer than it can be.
    let gone = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    settle.saturating_sub(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FailureKind as K;
    use TookEffect as T;

    const LONG: Duration = Duration::from_secs(3600);

    fn step(name: &str) -> StepId {
        StepId(name.to_owned())
    }
    fn a() -> StepId {
        step("a/stop")
    }
    fn started(step: StepId) -> Entry {
        Entry::Started { step, attempt: 1 }
    }
    fn done(step: StepId) -> Entry {
        Entry::Succeeded { step, outcome: Outcome::Done, warnings: Vec::new() }
    }
    fn failed(kind: K, effect: T) -> Entry {
        let failure = Failure::new(kind, "it broke").effect(effect);
        Entry::Failed { step: a(), failure, again: true }
    }
    fn resumed() -> Entry {
        Entry::Resumed { mode: ResumeMode::Finish }
    }
    fn history_of(entries: Vec<Entry>, settle: Duration) -> RunHistory {
        let at = |second: usize| Timestamp::from_second(i64::try_from(second).unwrap()).unwrap();
        let records: Vec<Record> =
            entries.into_iter().enumerate().map(|(second, entry)| Record { at: at(second), entry }).collect();
        RunHistory::of(&records, settle)
    }
    fn step_after(entries: Vec<Entry>, settle: Duration) -> StepHistory {
        history_of(entries, settle).step(&a()).cloned().unwrap_or_default()
    }

    #[test]
    fn what_an_unclear_attempt_may_have_done_is_remembered() {
        assert!(
            !step_after(vec![started(a())], LONG).unsure,
            "the process that sent it out waits for its answer"
        );
        let nothing = Entry::Probed { step: a(), found: Found::NotDone };
        let killed = vec![started(a()), resumed(), nothing];
        assert!(step_after(killed.clone(), LONG).unsure, "the request may still be on its way");
        assert!(!step_after(killed, Duration::ZERO).unsure, "its time is over, and nothing was found");

        assert!(!step_after(vec![started(a()), failed(K::Unreachable, T::No)], LONG).unsure);
        let unclear = step_after(vec![started(a()), failed(K::NoAnswer, T::Maybe)], LONG);
        assert!(unclear.unsure && unclear.unanswered.is_some());
        assert_eq!(unclear.doubt.as_deref(), Some("it broke"));
        let answered = step_after(vec![started(a()), failed(K::TaskFailed, T::Maybe)], LONG);
        assert!(answered.unsure && answered.unanswered.is_none(), "PVE answered; nothing is on its way");
    }

    #[test]
    fn a_request_without_an_answer_is_known_by_its_time() {
        let check = |entries: Vec<Entry>, expect: Option<i64>| {
            let since = history_of(entries.clone(), LONG).unanswered_since();
            assert_eq!(since.map(Timestamp::as_second), expect, "{entries:?}");
        };
        let b = || step("b/stop");
        check(vec![started(a()), done(a())], None);
        check(vec![started(a()), started(b()), done(b())], Some(0));
        check(vec![started(a()), started(b()), done(a())], Some(1));
        check(vec![started(a()), failed(K::NoAnswer, T::Maybe)], Some(1));
        check(vec![started(a()), failed(K::Unreachable, T::No)], None);
        check(vec![started(a()), failed(K::TaskFailed, T::Maybe)], None);
        check(vec![started(a()), resumed(), started(a()), done(a())], Some(0));
        check(vec![Entry::RevertStarted { step: a() }], Some(0));
        check(vec![done(a()), Entry::RevertStarted { step: a() }, resumed()], Some(1));
    }

    #[test]
    fn a_volume_belongs_to_the_run_while_an_outcome_names_it() {
        let volume = |name: &str| Entry::Succeeded {
            step: a(),
            outcome: Outcome::Volume { volume: name.parse().unwrap() },
            warnings: Vec::new(),
        };
        let history = history_of(vec![volume("lvm:vm-1-disk-0"), volume("lvm:vm-1-disk-1")], LONG);
        assert!(!history.gave(&"lvm:vm-1-disk-0".parse().unwrap()));
        assert!(history.gave(&"lvm:vm-1-disk-1".parse().unwrap()));
    }

    #[test]
    fn a_revert_that_failed_and_then_succeeded_leaves_the_steps_own_failure() {
        let of = |entries| step_after(entries, LONG);
        let entries = vec![
            started(a()),
            failed(K::TaskFailed, T::Maybe),
            Entry::RevertStarted { step: a() },
            Entry::RevertFailed { step: a(), failure: Failure::new(K::Forbidden, "no") },
        ];
        let stuck = of(entries.clone());
        assert_eq!(
            (stuck.state, stuck.revert_failure.unwrap().kind),
            (StepState::RevertFailed, K::Forbidden)
        );
        let again = [
            Entry::RevertStarted { step: a() },
            Entry::RevertFinished { step: a(), note: crate::RevertNote::NothingThere },
        ];
        let through = of(entries.into_iter().chain(again).collect());
        assert_eq!((through.state, through.revert_failure), (StepState::RolledBack, None));
        assert_eq!(through.failure.unwrap().kind, K::TaskFailed);
    }
}
