//! One step within its time: what is waited for before it, and what is done when others are in its way.

use super::engine::LAST_WORDS;
use super::job::{Done, Job};
use crate::{Failure, FailureKind, TookEffect};
use tokio::time::Instant;

impl Job {
    /// Does the step within its time; waits for locks of others, and follows a guest that moved.
    pub(super) async fn carry_out(&self) -> Result<Done, Failure> {
        let work = async {
            if self.probe {
                self.wait_for_earlier_command().await?;
                self.sweep_keys().await;
            }
            self.check_still_the_same().await?;
            match self.act().await {
                Err(failure)
                    if failure.took_effect == TookEffect::No && failure.kind == FailureKind::GuestGone =>
                {
                    self.act_where_it_is_now(failure).await
                }
                Err(failure)
                    if failure.took_effect == TookEffect::No && failure.kind == FailureKind::GuestLocked =>
                {
                    self.act_when_unlocked(failure).await
                }
                Err(failure) if failure.kind == FailureKind::ConfigLock => {
                    Err(self.with_busy_task(failure).await)
                }
                other => other,
            }
        };
        match tokio::time::timeout_at(self.until + LAST_WORDS, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(failure)) if self.step.action.only_reads() => Err(failure.effect(TookEffect::No)),
            Ok(Err(failure)) => Err(self.with_what_arrived(failure).await),
            Err(_) => {
                let text = format!("the step took longer than {} s", self.step.deadline_s);
                let effect = if self.step.action.only_reads() { TookEffect::No } else { TookEffect::Maybe };
                Err(Failure::new(FailureKind::Deadline, text).effect(effect))
            }
        }
    }

    async fn act_where_it_is_now(&self, failure: Failure) -> Result<Done, Failure> {
        let Some(guest) = self.step.action.guest() else { return Err(failure) };
        let before = self.node_of(guest);
        match self.find_node(guest.vmid).await? {
            Some(node) if node != before => {
                self.tell(None, format!("the guest is on {node} now"));
                self.act().await
            }
            _ => Err(failure),
        }
    }

    /// Waits until the guest is not locked. A lock without a task is left for the user to remove.
    async fn act_when_unlocked(&self, failure: Failure) -> Result<Done, Failure> {
        let Some(guest) = self.step.action.guest() else { return Err(failure) };
        loop {
            let Some(lock) = self.config(guest).await?.config.get("lock").map(str::to_owned) else {
                return self.act().await;
            };
            let Some(task) = self.task_on(guest.vmid).await? else {
                let text = format!(
                    "VM {} is locked ({}), but no task is running on it",
                    guest.vmid,
                    crate::printable(&lock)
                );
                return Err(Failure::new(FailureKind::GuestLocked, text));
            };
            if Instant::now() >= self.until {
                let line = format!("task {task} is still running on VM {}", guest.vmid);
                return Err(failure.log([line]));
            }
            self.tell(None, format!("waits: the guest is locked ({lock})"));
            tokio::time::sleep(self.shared.options.0.poll).await;
        }
    }

    /// Adds which task holds the guest, where the cluster tells.
    async fn with_busy_task(&self, failure: Failure) -> Failure {
        let Some(guest) = self.step.action.guest() else { return failure };
        match self.task_on(guest.vmid).await {
            Ok(Some(task)) => failure.log([format!("task {task} is running on VM {}", guest.vmid)]),
            _ => failure,
        }
    }

    /// Returns the task that works on a guest, if one does.
    async fn task_on(&self, vmid: pve_types::Vmid) -> Result<Option<String>, Failure> {
        let tasks = self.shared.connections.api().cluster().tasks().await?;
        let is_on = |task: &&pve_api::TaskItem| {
            let about = task.upid.split(':').nth(6).unwrap_or_default();
            task.endtime.is_none()
                && (about == vmid.to_string() || task.task_type.as_deref() == Some("vzdump"))
        };
        Ok(tasks.iter().find(is_on).map(|task| task.upid.clone()))
    }
}
