//! Starting, stopping, templates.

use super::late::Effect;
use crate::drive::job::{Done, Job};
use crate::power::{PowerOf, Reboot};
use crate::{Failure, FailureKind, TookEffect};
use pve_api::Shutdown;
use vmdeploy_planner::plan::GuestRef;

impl Job {
    pub(super) async fn is_running(&self, guest: &GuestRef) -> Result<bool, Failure> {
        Ok(self.qemu(guest).status().await?.is_running())
    }

    pub(super) async fn start_vm(&self, guest: &GuestRef) -> Result<Done, Failure> {
        if self.probe {
            let finished = self.reattach().await?;
            if self.is_running(guest).await? {
                return Ok(self.found_done(Done::plain().with(finished)));
            }
            if self.is_stopped_later(guest) {
                self.let_pass().await?;
            }
        }
        self.start_until_it_runs(guest).await
    }

    /// Starts the guest. A start whose task failed and whose guest runs is one with a warning.
    async fn start_until_it_runs(&self, guest: &GuestRef) -> Result<Done, Failure> {
        let task = self.qemu(guest).start().await?;
        self.after_task(guest, task, true).await
    }

    /// Follows a task that switches the guest, and makes sure that it is on, or off.
    pub(super) async fn after_task(
        &self,
        guest: &GuestRef,
        task: pve_api::Task,
        on: bool,
    ) -> Result<Done, Failure> {
        let power = self.power_of(guest);
        match self.follow(task).await {
            Ok(finished) => {
                power.becomes(on).await?;
                Ok(Done::plain().with(Some(finished)))
            }
            Err(failure) if failure.kind == FailureKind::AlreadyRunning => Ok(Done::already()),
            Err(failure) => Ok(Done::plain().warned(power.in_spite_of(failure, on).await?)),
        }
    }

    fn power_of(&self, guest: &GuestRef) -> PowerOf<'_> {
        let (node, vmid) = (self.node_of(guest), guest.vmid);
        PowerOf { connections: &self.shared.connections, node, vmid, until: self.until }
    }

    pub(super) async fn shutdown_vm(
        &self,
        guest: &GuestRef,
        timeout_s: u64,
        force: bool,
    ) -> Result<Done, Failure> {
        if self.probe
            && let Some(done) = self.came_through(guest, Effect::Stopped).await?
        {
            return Ok(done);
        }
        if !self.is_running(guest).await? {
            return Ok(Done::already());
        }
        let how = Shutdown { timeout_s: u32::try_from(timeout_s).ok(), force_stop: force };
        let task = self.qemu(guest).shutdown(how).await?;
        self.after_task(guest, task, false).await
    }

    pub(super) async fn stop_vm(&self, guest: &GuestRef) -> Result<Done, Failure> {
        if self.probe
            && let Some(done) = self.came_through(guest, Effect::Stopped).await?
        {
            return Ok(done);
        }
        if !self.is_running(guest).await? {
            return Ok(Done::already());
        }
        let task = self.qemu(guest).stop().await?;
        self.after_task(guest, task, false).await
    }

    /// Restarts the guest. When that had begun before, a guest that came up since then was restarted.
    pub(super) async fn reboot_vm(&self, guest: &GuestRef) -> Result<Done, Failure> {
        if self.probe
            && let Some(done) = self.came_through(guest, Effect::Restarted).await?
        {
            return Ok(done);
        }
        let power = self.power_of(guest);
        let before = power.now().await?;
        if !before.is_running() {
            return self.start_until_it_runs(guest).await;
        }
        let timeout = u32::try_from((self.time_left() / 2).as_secs().max(1)).ok();
        let task = self.qemu(guest).reboot(timeout).await?;
        let upid = task.upid().clone();
        let finished = self.follow(task).await?;
        let failed = match power.comes_back(&before, &upid).await? {
            Reboot::Back => return Ok(Done::plain().with(Some(finished))),
            Reboot::Down(failed) => failed,
        };
        let why = failed.unwrap_or_else(|| "PVE did not start it".to_owned());
        self.note(format!("VM {} is stopped after its reboot and is started again: {why}", guest.vmid));
        let done = self.start_until_it_runs(guest).await.map_err(|failure| {
            failure
                .effect_at_least(TookEffect::Yes)
                .log([format!("the start after its reboot failed: {why}")])
        })?;
        Ok(done.warned(format!("the start after the reboot failed; the guest was started again: {why}")))
    }

    /// Tells whether the guest runs, and came up after this step was first begun.
    pub(super) async fn came_up_since(&self, guest: &GuestRef) -> Result<bool, Failure> {
        let status = self.qemu(guest).status().await?;
        let since = self.history.begun.map(|begun| jiff::Timestamp::now().duration_since(begun).as_secs());
        let up = status.uptime.and_then(|uptime| i64::try_from(uptime).ok());
        let is_later = matches!((since, up), (Some(since), Some(up)) if up < since);
        Ok(status.is_running() && is_later)
    }

    pub(super) async fn convert_to_template(&self, guest: &GuestRef) -> Result<Done, Failure> {
        if self.probe {
            self.reattach().await?;
        }
        self.check_still_ours(guest, &self.config(guest).await?.config)?;
        if self.is_template(guest).await? {
            return Ok(if self.probe { self.found_done(Done::plain()) } else { Done::already() });
        }
        let task = self.qemu(guest).make_template().await?;
        let finished = self.follow(task).await?;
        if self.is_template(guest).await? {
            return Ok(Done::plain().with(Some(finished)));
        }
        Err(Failure::new(
            FailureKind::TaskFailed,
            format!("VM {} is not a template although PVE reported success", guest.vmid),
        ))
    }

    async fn is_template(&self, guest: &GuestRef) -> Result<bool, Failure> {
        Ok(self.config(guest).await?.config.get("template") == Some("1"))
    }
}
