//! Making guests and taking them away.

use super::patch::Ready;
use crate::drive::job::{Done, Job, Seen};
use crate::{Failure, FailureKind, Found, Outcome, TookEffect};
use pve_api::{CloneVm, DeleteVm, Finished, Params};
use pve_ssh::command::Command;
use pve_types::PoolId;
use vmdeploy_planner::plan::{Action, ConfigPatch, GuestRef, Road};

/// What a guest that shall be made was found to be.
enum Made {
    /// It is there, and ours.
    Ours(Box<Seen>),
    /// It is not there.
    Absent,
}

impl Job {
    pub(super) async fn create_vm(
        &self,
        guest: &GuestRef,
        config: &ConfigPatch,
        pool: Option<&PoolId>,
    ) -> Result<Done, Failure> {
        if self.probe
            && let Some(done) = self.found_made(guest).await?
        {
            return Ok(done);
        }
        let mut ready = self.ready(config).await?;
        if self.step.road == Road::Ssh && !self.shared.connections.is_pvesh() {
            return self.qm_create(guest, &ready, pool).await;
        }
        let hashes = if self.shared.connections.is_pvesh() { ready.split_off_hashes() } else { Vec::new() };
        let params: Params = ready.params().with_some("pool", pool);
        let node = self.shared.connections.api().node(&self.node_of(guest));
        let finished = match node.qemu_create(guest.vmid, params).await {
            Ok(task) => self.follow(task).await?,
            Err(error) => return self.taken_or(guest, error.into()).await,
        };
        if !hashes.is_empty() {
            let ready = Ready { set: hashes, delete: Vec::new() };
            self.qm_set(&self.node_of(guest), guest.vmid, &ready, None).await?;
        }
        Ok(Done::plain().with(Some(finished)))
    }

    /// Makes the guest by `qm create`, which may name an image by its path.
    async fn qm_create(
        &self,
        guest: &GuestRef,
        ready: &Ready,
        pool: Option<&PoolId>,
    ) -> Result<Done, Failure> {
        let command = Command::new("qm").arg("create").arg(guest.vmid.to_string());
        let command = pool.into_iter().fold(command, |command, pool| command.option("pool", pool.as_str()));
        match self.qm_with(&self.node_of(guest), guest.vmid, command, ready).await {
            Ok(_) => Ok(Done::plain()),
            Err(failure) => self.taken_or(guest, failure).await,
        }
    }

    pub(super) async fn clone_vm(&self, action: &Action) -> Result<Done, Failure> {
        let Action::CloneVm { source, guest, full, storage, description, pool } = action else {
            return Err(Failure::new(FailureKind::Internal, "this is no clone"));
        };
        if self.probe
            && let Some(done) = self.found_made(guest).await?
        {
            return Ok(done);
        }
        let node = self.find_node(source.vmid).await?.unwrap_or_else(|| self.node_of(source));
        let how = CloneVm {
            name: Some(guest.name.to_string()),
            description: Some(description.clone()),
            pool: pool.clone(),
            full: Some(*full),
            storage: storage.clone().filter(|_| *full),
            target: (guest.node != node).then(|| guest.node.clone()),
            ..CloneVm::default()
        };
        match self.qemu_at(&node, source.vmid).clone_to(guest.vmid, &how).await {
            Ok(task) => Ok(Done::plain().with(Some(self.follow(task).await?))),
            Err(error) => self.taken_or(guest, error.into()).await,
        }
    }

    /// Finds out whether the guest was made by an earlier attempt; `None` when it may be made.
    async fn found_made(&self, guest: &GuestRef) -> Result<Option<Done>, Failure> {
        let finished: Option<Finished> = self.reattach().await?;
        match self.look_made(guest).await? {
            Made::Absent => {
                self.found(Found::NotDone);
                Ok(None)
            }
            Made::Ours(seen) => match seen.config.get("lock") {
                Some(lock @ ("create" | "clone")) => self.wait_until_made(guest, lock).await.map(Some),
                _ => Ok(Some(self.found_done(Done::plain().with(finished)))),
            },
        }
    }

    async fn look_made(&self, guest: &GuestRef) -> Result<Made, Failure> {
        match self.look(guest).await? {
            None => Ok(Made::Absent),
            Some(seen) => match self.check_ours(guest, &seen.config) {
                Ok(_) => Ok(Made::Ours(Box::new(seen))),
                Err(_) => Err(taken(guest)),
            },
        }
    }

    /// Follows the task that still makes the guest; without one the lock is stale, and a person must decide.
    async fn wait_until_made(&self, guest: &GuestRef, lock: &str) -> Result<Done, Failure> {
        let kind = if lock == "clone" { "qmclone" } else { "qmcreate" };
        let tasks = self.shared.connections.api().cluster().tasks().await?;
        let is_it = |task: &&pve_api::TaskItem| {
            let about = task.upid.split(':').nth(6).unwrap_or_default();
            task.endtime.is_none()
                && task.task_type.as_deref() == Some(kind)
                && about == guest.vmid.to_string()
        };
        let upid = tasks.iter().find(is_it).and_then(|task| task.upid.parse().ok());
        if let Some(upid) = upid {
            let finished = self.follow(self.shared.connections.api().task(&upid)).await?;
            return Ok(self.found_done(Done::plain().with(Some(finished))));
        }
        let vmid = guest.vmid;
        let text = format!("VM {vmid} is locked ({lock}), and no task works on it");
        let failure = Failure::new(FailureKind::GuestLocked, text).effect(TookEffect::Maybe);
        Err(failure.hint(format!(
            "the lock is stale: `qm unlock {vmid}`, then `qm destroy {vmid}`, then `vmdeploy resume`"
        )))
    }

    /// Tells a number that somebody else took from a guest of our own that an unclear attempt made.
    async fn taken_or(&self, guest: &GuestRef, failure: Failure) -> Result<Done, Failure> {
        if failure.kind != FailureKind::VmidTaken {
            return Err(failure);
        }
        match self.look(guest).await? {
            Some(seen) if self.is_of_this_run(guest, &seen) => Ok(self.found_done(Done::plain())),
            _ => Err(taken(guest)),
        }
    }

    fn is_of_this_run(&self, guest: &GuestRef, seen: &Seen) -> bool {
        let marker = self.check_ours(guest, &seen.config);
        seen.config.get("lock").is_none() && marker.is_ok_and(|marker| marker.run == self.shared.plan.run_id)
    }

    /// Deletes the guest, if it is ours. A guest that is not there is deleted already.
    pub(super) async fn delete_vm(&self, guest: &GuestRef, stop: bool) -> Result<Done, Failure> {
        if self.probe {
            self.reattach().await?;
        }
        let Some(seen) = self.look(guest).await? else {
            return Ok(if self.probe { self.found_done(Done::plain()) } else { Done::already() });
        };
        self.check_ours(guest, &seen.config)?;
        let finished = self.remove(guest, &seen, stop).await?;
        Ok(Done { outcome: Outcome::Done, warnings: Vec::new() }.with(Some(finished)))
    }

    /// Stops the guest where that is allowed, and deletes it with the volumes that its configuration names.
    pub(super) async fn remove(
        &self,
        guest: &GuestRef,
        seen: &Seen,
        stop: bool,
    ) -> Result<Finished, Failure> {
        let qemu = self.qemu_at(&seen.node, guest.vmid);
        if stop && qemu.status().await?.is_running() {
            self.tell(None, "stops the guest");
            let task = qemu.stop().await?;
            self.follow(task).await?;
        }
        let how = DeleteVm { purge: true, destroy_unreferenced_disks: false };
        let task = qemu.delete(how).await?;
        self.follow(task).await
    }
}

fn taken(guest: &GuestRef) -> Failure {
    let text = format!("VMID {} is taken by a guest that is not ours", guest.vmid);
    Failure::new(FailureKind::VmidTaken, text)
}
