//! Guests that are being made: what an earlier attempt may still be doing on the server, and whose a guest is that bears
//! the number.

use crate::drive::job::{Done, Job, Seen};
use crate::{Failure, FailureKind, Found, TookEffect};
use pve_types::Upid;
use tokio::time::Instant;
use vmdeploy_planner::identity::{Marker, MarkerSearch, smbios_uuid};
use vmdeploy_planner::plan::{Action, CloneAction, GuestRef};

/// The owner of a guest that has the VMID of one to create.
#[derive(Debug)]
enum Whose {
    /// This run made it.
    ThisRun,
    /// It is this very VM, made by another run.
    Earlier(String),
    /// It is another VM of ours, or of another project.
    Other(Box<Marker>),
    /// Unknown.
    Unmarked,
}

impl Job {
    /// Finds out whether the guest was made by an earlier attempt; `None` when it may be made.
    ///
    /// Where nothing is seen, a request of that attempt may still be on its way. It need not be waited for: PVE makes a
    /// number once, so whichever request comes first makes the guest, and the other one is refused.
    pub(super) async fn found_made(&self, guest: &GuestRef) -> Result<Option<Done>, Failure> {
        let finished = self.reattach().await?;
        let Some(seen) = self.settled(guest, false).await? else {
            self.found(Found::NotDone);
            return Ok(None);
        };
        match self.whose(guest, &seen) {
            Whose::ThisRun => Ok(Some(self.found_done(Done::plain().with(finished)))),
            whose => Err(taken_by(guest, &whose)),
        }
    }

    /// Distinguishes a VMID taken by others from a guest that an unclear attempt created.
    pub(super) async fn taken_or(&self, guest: &GuestRef, failure: Failure) -> Result<Done, Failure> {
        if failure.kind != FailureKind::VmidTaken {
            return Err(failure);
        }
        let Some(seen) = self.settled(guest, false).await? else {
            let text =
                format!("VMID {} is used by a container, or by a guest that is being deleted", guest.vmid);
            return Err(Failure::new(FailureKind::VmidTaken, text));
        };
        match self.whose(guest, &seen) {
            Whose::ThisRun => Ok(self.found_done(Done::plain())),
            whose => Err(taken_by(guest, &whose)),
        }
    }

    /// Confirms that the guest which was made is this run's.
    ///
    /// `qm` and `pvesh` do not always tell their task. One that began meanwhile for the same number may be another run's,
    /// so the marker decides, which is written with the guest.
    pub(super) async fn confirm_made(&self, guest: &GuestRef, done: Done) -> Result<Done, Failure> {
        if !self.shared.connections.is_pvesh() {
            return Ok(done);
        }
        let Some(seen) = self.settled(guest, false).await? else {
            return Err(crate::drive::job::gone(guest));
        };
        match self.whose(guest, &seen) {
            Whose::ThisRun => Ok(done),
            whose => Err(taken_by(guest, &whose)),
        }
    }

    /// Returns the guest once no task is creating it any more; `None` if it does not exist.
    ///
    /// With `patient`, absence counts only when no request of an earlier attempt can be on its way any more.
    pub(super) async fn settled(&self, guest: &GuestRef, patient: bool) -> Result<Option<Seen>, Failure> {
        let settle = self.shared.options.0.settle;
        let mut wait = self.late_wait();
        let mut stale_at = None;
        loop {
            let asked = wait.ask();
            let makers = ["qmcreate", "qmrestore"];
            if let Some(upid) = self.running_task(&self.node_of(guest), guest.vmid, &makers).await? {
                self.see_through(&upid).await?;
            }
            let seen = self.look(guest).await?;
            wait.answered(asked);
            let lock = seen.as_ref().and_then(being_made).map(str::to_owned);
            let now = Instant::now();
            match (seen, lock) {
                (Some(seen), None) => return Ok(Some(seen)),
                (Some(_), Some(lock)) => {
                    // PVE writes the lock before it starts the task.
                    let stale_at: &mut Instant = stale_at.get_or_insert(now + settle);
                    if now >= self.until.min(*stale_at) && !self.is_being_cloned(guest).await? {
                        return Err(stale_lock(guest, &lock));
                    }
                    self.tell(None, format!("waits: the guest is being created (lock: {lock})"));
                }
                (None, _) if !patient || wait.is_over() || now >= self.until => return Ok(None),
                (None, _) => self.say_that_it_waits(&mut wait),
            }
            tokio::time::sleep(self.shared.options.0.poll).await;
        }
    }

    /// Follows a task to its end, regardless of the result.
    pub(super) async fn see_through(&self, upid: &Upid) -> Result<(), Failure> {
        self.tell(None, format!("waits for the {} task to end", upid.task_type()));
        match self.follow_again(self.shared.connections.api().task(upid)).await {
            Ok(_) => Ok(()),
            // It failed; what it left is seen by looking.
            Err(failure) if failure.upid.is_some() && failure.kind != FailureKind::Deadline => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Tells whether a clone to this guest may be going on: its task names the source only.
    async fn is_being_cloned(&self, guest: &GuestRef) -> Result<bool, Failure> {
        let source_of = |action: &Action| match action {
            Action::CloneVm(CloneAction { source, guest: made, .. }) if made.vmid == guest.vmid => {
                Some(source.clone())
            }
            _ => None,
        };
        let Some(source) = self.shared.plan.steps.iter().find_map(|step| source_of(&step.action)) else {
            return Ok(false);
        };
        Ok(self.running_task(&self.node_of(&source), source.vmid, &["qmclone"]).await?.is_some())
    }

    fn whose(&self, guest: &GuestRef, seen: &Seen) -> Whose {
        let uuid = seen.config.get("smbios1").and_then(smbios_uuid);
        match Marker::find(seen.config.get("description").unwrap_or_default()) {
            MarkerSearch::Found(marker) if self.is_marker_of(&marker, guest) => match uuid {
                // A clone's UUID may not be written yet; its marker is of this very run.
                _ if marker.run == self.shared.plan.run_id => Whose::ThisRun,
                Some(uuid) if uuid == guest.uuid => Whose::Earlier(marker.run),
                _ => Whose::Unmarked,
            },
            MarkerSearch::Found(marker) => Whose::Other(Box::new(marker)),
            _ => Whose::Unmarked,
        }
    }
}

/// Returns the lock of a guest that is being made.
fn being_made(seen: &Seen) -> Option<&str> {
    seen.config.get("lock").filter(|lock| matches!(*lock, "create" | "clone"))
}

fn stale_lock(guest: &GuestRef, lock: &str) -> Failure {
    let vmid = guest.vmid;
    let text = format!("VM {vmid} is locked ({lock}), but no task is running on it");
    let failure = Failure::new(FailureKind::GuestLocked, text).effect(TookEffect::Maybe);
    failure.hint_then(|next| {
        format!("the lock is stale: `qm unlock {vmid}`, then `qm destroy {vmid}`, then run {next}")
    })
}

fn taken_by(guest: &GuestRef, whose: &Whose) -> Failure {
    let vmid = guest.vmid;
    let failure = |text: String| Failure::new(FailureKind::VmidTaken, text);
    match whose {
        Whose::ThisRun => failure(format!("VMID {vmid} is used by another VM of this run")),
        Whose::Earlier(run) => {
            let run = crate::printable(run);
            let text = format!("VMID {vmid} is used by this VM: run `{run}` created it after this plan");
            failure(text).hint(format!(
                "`vmdeploy resume {run}` finishes it, `vmdeploy resume {run} --rollback` removes it; or deploy again: the new plan \
                 continues from the current state"
            ))
        }
        Whose::Other(marker) => failure(format!(
            "VMID {vmid} is used by VM `{}` of project `{}`, which run `{}` created",
            marker.name,
            crate::printable(&marker.project),
            crate::printable(&marker.run)
        )),
        Whose::Unmarked => failure(format!("VMID {vmid} is used by a guest that vmdeploy does not manage")),
    }
}
