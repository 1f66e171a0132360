//! Starting, stopping, templates.

use super::late::Effect;
use crate::drive::job::{Done, Job};
use crate::{Failure, FailureKind};
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
        let task = self.qemu(guest).start().await?;
        match self.follow(task).await {
            Ok(finished) => Ok(Done::plain().with(Some(finished))),
            // PVE: qemu-server src/PVE/QemuServer.pm vm_start: somebody else was faster.
            Err(failure) if failure.message.ends_with("already running") => Ok(Done::already()),
            Err(failure) => Err(failure),
        }
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
        Ok(Done::plain().with(Some(self.follow(task).await?)))
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
        Ok(Done::plain().with(Some(self.follow(task).await?)))
    }

    /// Restarts the guest. When that had begun before, a guest that came up since then was restarted.
    pub(super) async fn reboot_vm(&self, guest: &GuestRef) -> Result<Done, Failure> {
        if self.probe
            && let Some(done) = self.came_through(guest, Effect::Restarted).await?
        {
            return Ok(done);
        }
        if !self.is_running(guest).await? {
            let task = self.qemu(guest).start().await?;
            return Ok(Done::plain().with(Some(self.follow(task).await?)));
        }
        let timeout = u32::try_from(self.time_left().as_secs().max(1)).ok();
        let task = self.qemu(guest).reboot(timeout).await?;
        Ok(Done::plain().with(Some(self.follow(task).await?)))
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
            format!("VM {} is no template although PVE said so", guest.vmid),
        ))
    }

    async fn is_template(&self, guest: &GuestRef) -> Result<bool, Failure> {
        Ok(self.config(guest).await?.config.get("template") == Some("1"))
    }
}
