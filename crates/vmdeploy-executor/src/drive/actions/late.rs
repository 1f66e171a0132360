//! Requests of an earlier attempt that arrive late: what they would undo, and how long to wait for them.
//!
//! A process that is killed may have a request on its way: in the network, or in the queue of a daemon. Most do no harm
//! when they come after all: PVE makes a number once, a change that makes a volume carries the digest of what was seen,
//! and a size or a value that is set twice is the same. A late `shutdown`, `reboot` or `delete` is another matter: it
//! would revert what the resumed run did since. So before such a step is sent again, and before any step is rolled back, the
//! earlier request is looked for until it is seen, or can be on its way no more.

use super::patch::missing;
use crate::drive::in_flight::LateWait;
use crate::drive::job::{Done, Job};
use crate::{Failure, Found};
use std::collections::BTreeSet;
use vmdeploy_planner::plan::{Action, ConfigPatch, GuestRef};

/// What an earlier attempt may have done to the guest.
#[derive(Debug, Clone, Copy)]
pub(super) enum Effect<'a> {
    /// It does not run any more.
    Stopped,
    /// It was restarted.
    Restarted,
    /// It is nowhere any more.
    Gone,
    /// Its configuration is as this says.
    Set(&'a ConfigPatch),
}

impl Job {
    /// Finds out whether an earlier attempt had its effect on the guest, or still has it while this waits; `None` when it
    /// did not, and its request can be on its way no more.
    pub(super) async fn came_through(
        &self,
        guest: &GuestRef,
        effect: Effect<'_>,
    ) -> Result<Option<Done>, Failure> {
        let mut wait = self.late_wait();
        loop {
            let asked = wait.ask();
            self.wait_for_earlier_command().await?;
            let finished = self.reattach().await?;
            let is_through = finished.is_some();
            let is_there = match effect {
                Effect::Stopped => !self.is_running(guest).await?,
                Effect::Restarted => {
                    (is_through && self.is_running(guest).await?) || self.came_up_since(guest).await?
                }
                Effect::Gone => self.look(guest).await?.is_none(),
                Effect::Set(patch) => missing(patch, &self.config(guest).await?.config).is_empty(),
            };
            wait.answered(asked);
            if is_there {
                return Ok(Some(self.found_done(Done::plain().with(finished))));
            }
            if is_through || wait.is_over() {
                self.found(Found::NotDone);
                return Ok(None);
            }
            self.say_that_it_waits(&mut wait);
            tokio::time::sleep(self.shared.options.0.poll).await;
        }
    }

    /// Waits until no request of an earlier attempt of this step can be on its way any more, and what one of them began
    /// is at its end.
    pub(super) async fn let_pass(&self) -> Result<(), Failure> {
        if !self.history.unsure {
            return Ok(());
        }
        let mut wait = self.late_wait();
        loop {
            let asked = wait.ask();
            self.wait_for_earlier_command().await?;
            self.reattach().await?;
            wait.answered(asked);
            if wait.is_over() {
                return Ok(());
            }
            self.say_that_it_waits(&mut wait);
            tokio::time::sleep(self.shared.options.0.poll).await;
        }
    }

    /// Tells whether the plan stops or removes the guest after this step.
    pub(super) fn is_stopped_later(&self, guest: &GuestRef) -> bool {
        let stops = |action: &Action| {
            matches!(
                action,
                Action::StopVm { .. }
                    | Action::ShutdownVm { .. }
                    | Action::DeleteVm { .. }
                    | Action::ConvertToTemplate { .. }
            )
        };
        self.steps_behind(guest).any(stops)
    }

    /// Tells whether the plan sets one of the keys again after this step.
    pub(super) fn is_overwritten_later(&self, guest: &GuestRef, patch: &ConfigPatch) -> bool {
        let keys =
            |patch: &ConfigPatch| patch.set.keys().chain(&patch.delete).cloned().collect::<BTreeSet<_>>();
        let own = keys(patch);
        self.steps_behind(guest).any(|action| match action {
            Action::SetConfig { patch, .. } => !keys(patch).is_disjoint(&own),
            _ => false,
        })
    }

    /// Returns what the plan does to the guest after this step.
    fn steps_behind(&self, guest: &GuestRef) -> impl Iterator<Item = &Action> {
        let (id, vmid) = (self.step.id.clone(), guest.vmid);
        let behind = self.shared.plan.steps.iter().skip_while(move |step| step.id != id).skip(1);
        let is_about = move |action: &&Action| action.guest().is_some_and(|other| other.vmid == vmid);
        behind.map(|step| &step.action).filter(is_about)
    }

    /// Returns how long a request of an earlier attempt is waited for.
    pub(super) fn late_wait(&self) -> LateWait {
        LateWait::new(self.history.unanswered, &self.shared.options.0, self.shared.connections.is_pvesh())
    }

    pub(super) fn say_that_it_waits(&self, wait: &mut LateWait) {
        if let Some(how_long) = wait.say_once() {
            self.note(format!(
                "{}: an earlier request had no answer and may still take effect; checking for its effect {how_long}",
                self.step.id
            ));
        }
    }
}
