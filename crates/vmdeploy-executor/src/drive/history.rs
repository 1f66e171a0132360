//! What the journal says of a step from before: its task, what its guest had, and what may still be on its way.

use crate::Failure;
use crate::journal::{Entry, Record};
use pve_types::{Upid, VolumeId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use vmdeploy_planner::plan::{Action, StepId};

/// What the journal says of one step from before.
#[derive(Debug, Clone, Default)]
pub(crate) struct StepHistory {
    /// Its task.
    pub(crate) upid: Option<Upid>,
    /// The volumes that the guest had before.
    pub(crate) volumes: Option<BTreeSet<VolumeId>>,
    /// When it was first begun.
    pub(crate) begun: Option<jiff::Timestamp>,
    /// Whether an attempt may have taken effect, and nothing since has shown that it did not.
    pub(crate) unsure: bool,
    /// Since when a request may be on its way whose answer nobody got.
    pub(crate) unanswered: Option<jiff::Timestamp>,
    /// What the first attempt failed with that may have taken effect.
    pub(crate) doubt: Option<String>,
}

impl StepHistory {
    /// Returns what the journal says of each step.
    pub(crate) fn of(records: &[Record]) -> BTreeMap<StepId, Self> {
        let mut sights: BTreeMap<StepId, Self> = BTreeMap::new();
        for record in records {
            match &record.entry {
                Entry::Started { step, .. } => {
                    let history = sights.entry(step.clone()).or_default();
                    history.begun.get_or_insert(record.at);
                    history.unsure = true;
                    history.unanswered = Some(record.at);
                }
                Entry::Submitted { step, upid } => {
                    let history = sights.entry(step.clone()).or_default();
                    history.upid = Some(upid.clone());
                    history.unanswered = None;
                }
                Entry::Saw { step, volumes } => {
                    let history = sights.entry(step.clone()).or_default();
                    history.volumes.get_or_insert_with(|| volumes.iter().cloned().collect());
                    // It is sent out right after this record.
                    history.unanswered = Some(record.at);
                }
                Entry::Failed { step, failure, .. } => match failure.took_effect {
                    crate::TookEffect::No => drop(sights.remove(step)),
                    _ => sights.entry(step.clone()).or_default().doubt(failure, record.at),
                },
                Entry::Succeeded { step, .. } => {
                    let history = sights.entry(step.clone()).or_default();
                    (history.unsure, history.unanswered, history.doubt) = (false, None, None);
                }
                _ => {}
            }
        }
        sights
    }

    /// Notes that the step is more than one request, so that the one that the journal knows may not be the last that was
    /// sent: others may be on their way since nobody knows when.
    pub(crate) fn expect_more_requests(&mut self, action: &Action) {
        let is_on_its_way = match action {
            // It is stopped first, by a task of its own.
            Action::DeleteVm { .. } => self.upid.as_ref().is_some_and(|upid| upid.task_type() != "qmdestroy"),
            Action::SetHa { .. } => true,
            _ => false,
        };
        if self.unsure && is_on_its_way {
            self.unanswered = Some(jiff::Timestamp::now());
        }
    }

    /// Notes a failure that may have taken effect.
    pub(crate) fn doubt(&mut self, failure: &Failure, at: jiff::Timestamp) {
        self.unsure = true;
        self.doubt.get_or_insert_with(|| failure.message.clone());
        self.unanswered = Some(at).filter(|_| failure.is_unheard());
    }

    /// Notes that a probe found nothing done. That is final only when no request can be on its way any more.
    pub(crate) fn found_reverted(&mut self, settle: Duration) {
        if self.settles_in(settle).is_zero() {
            (self.unsure, self.unanswered, self.doubt) = (false, None, None);
        }
    }

    /// Returns how long a request whose answer nobody got may still be on its way.
    pub(crate) fn settles_in(&self, settle: Duration) -> Duration {
        let Some(since) = self.unanswered else { return Duration::ZERO };
        // A clock that was set back makes the wait no longer than it can be.
        let gone = Duration::try_from(jiff::Timestamp::now().duration_since(since)).unwrap_or_default();
        settle.saturating_sub(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FailureKind;

    fn sight_after(entries: Vec<Entry>) -> StepHistory {
        let at = jiff::Timestamp::now();
        let records: Vec<Record> = entries.into_iter().map(|entry| Record { at, entry }).collect();
        StepHistory::of(&records).remove(&StepId("a/create".to_owned())).unwrap_or_default()
    }

    #[test]
    fn what_an_unclear_attempt_may_have_done_is_remembered() {
        let step = StepId("a/create".to_owned());
        let started = || Entry::Started { step: step.clone(), attempt: 1 };
        let failed = |kind, effect| {
            let failure = Failure::new(kind, "it broke").effect(effect);
            Entry::Failed { step: step.clone(), failure, again: true }
        };
        let long = Duration::from_secs(3600);

        let mut killed = sight_after(vec![started()]);
        assert!(killed.unsure && !killed.settles_in(long).is_zero());
        killed.found_reverted(long);
        assert!(killed.unsure, "the request may still be on its way");
        killed.found_reverted(Duration::ZERO);
        assert!(!killed.unsure, "its time is over, and nothing was found");

        let refused = sight_after(vec![started(), failed(FailureKind::Unreachable, crate::TookEffect::No)]);
        assert!(!refused.unsure);
        let unclear = sight_after(vec![started(), failed(FailureKind::NoAnswer, crate::TookEffect::Maybe)]);
        assert!(unclear.unsure && unclear.unanswered.is_some());
        assert_eq!(unclear.doubt.as_deref(), Some("it broke"));
        let answered =
            sight_after(vec![started(), failed(FailureKind::TaskFailed, crate::TookEffect::Maybe)]);
        assert!(answered.unsure && answered.unanswered.is_none(), "PVE answered; nothing is on its way");
    }
}
