//! Making guests and taking them away.

use super::late::Effect;
use super::patch::Ready;
use crate::drive::job::{Done, Job, Seen};
use crate::{Failure, FailureKind, TookEffect};
use pve_api::{CloneVm, DeleteVm, Finished, Params};
use pve_ssh::command::Command;
use pve_types::PoolId;
use std::collections::BTreeSet;
use vmdeploy_planner::plan::{CloneAction, ConfigPatch, GuestRef, Transport};

/// How often a guest that keeps being started is stopped before it is deleted.
const STOPS: usize = 2;

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
        if self.step.transport == Transport::Ssh && !self.shared.connections.is_pvesh() {
            self.saw_volumes_before(guest).await?;
            return self.qm_create(guest, &ready, pool).await;
        }
        let hashes = if self.shared.connections.is_pvesh() { ready.split_off_hashes() } else { Vec::new() };
        let params: Params = ready.params().with_some("pool", pool);
        self.saw_volumes_before(guest).await?;
        let node = self.shared.connections.api().node(&self.node_of(guest));
        let finished = match node.qemu_create(guest.vmid, params).await {
            Ok(task) => self.follow(task).await?,
            Err(error) => return self.not_created(guest, error.into()).await,
        };
        let done = self.confirm_made(guest, Done::plain().with(Some(finished))).await?;
        if !hashes.is_empty() {
            let ready = Ready { set: hashes, delete: Vec::new() };
            self.qm_set(&self.node_of(guest), guest.vmid, &ready, None).await?;
        }
        Ok(done)
    }

    /// Writes down the volumes of the guest's number that are there before it is made, on the storages that it gets some
    /// on. Where they cannot be listed nothing is written, and none is ever taken for new.
    async fn saw_volumes_before(&self, guest: &GuestRef) -> Result<(), Failure> {
        let mut volumes = Vec::new();
        for storage in crate::describe::fills(&self.step.action) {
            match self.volumes_before(&self.node_of(guest), &storage, guest.vmid).await {
                Ok(found) => volumes.extend(found),
                Err(_) => return Ok(()),
            }
        }
        self.note_strays(&self.node_of(guest), &volumes, &BTreeSet::new()).await;
        self.saw(volumes).await
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
            Err(failure) => self.not_created(guest, failure).await,
        }
    }

    /// Tells what a creation left that PVE refused: another's guest, our own of an unclear attempt, or the empty
    /// configuration of one whose worker was not started, which is removed so that the number is free again.
    async fn not_created(&self, guest: &GuestRef, failure: Failure) -> Result<Done, Failure> {
        if failure.kind != FailureKind::NodeBusy {
            return self.taken_or(guest, failure).await;
        }
        match self.remove_unbegun(guest).await {
            Ok(true) => Err(failure.effect(TookEffect::No)),
            Ok(false) => {
                let vmid = guest.vmid;
                let text = format!("an empty configuration of VM {vmid} with the lock `create` remains");
                let node = self.node_of(guest);
                let hint = |next| {
                    format!(
                        "on {node}: `qm unlock {vmid}`, then `qm destroy {vmid}`, then run {next}; only root may remove it"
                    )
                };
                Err(failure.effect(TookEffect::Yes).log([text]).hint_then(hint))
            }
            Err(other) => Err(failure.effect(TookEffect::Yes).log([other.message])),
        }
    }

    /// Removes the configuration that PVE wrote before it could not start the worker: only one that holds nothing but
    /// the lock, and on which no task works. Returns whether the number is free; only root may remove it.
    // PVE: qemu-server src/PVE/API2/Qemu.pm create_vm: create_and_lock_config comes before fork_worker, and destroy_vm
    // refuses a locked guest to all but root.
    async fn remove_unbegun(&self, guest: &GuestRef) -> Result<bool, Failure> {
        let Some(seen) = self.look(guest).await? else { return Ok(true) };
        let is_empty = seen.config.values.iter().all(|(key, value)| key == "lock" && value == "create");
        if !is_empty || self.running_task(&seen.node, guest.vmid, &["qmcreate"]).await?.is_some() {
            return Ok(false);
        }
        if !self.shared.connections.has_ssh() {
            return Ok(false);
        }
        self.tell(None, "removes the empty configuration of a creation that did not start");
        let command = pve_ssh::command::qm::destroy(guest.vmid, [("skiplock", "1")]);
        self.run(&seen.node, &command).await?;
        Ok(self.look(guest).await?.is_none())
    }

    pub(super) async fn clone_vm(&self, action: &CloneAction) -> Result<Done, Failure> {
        let CloneAction { source, guest, full, storage, format, description, pool } = action;
        if self.probe
            && let Some(done) = self.found_made(guest).await?
        {
            return Ok(done);
        }
        let node = self.find_node(source.vmid).await?.unwrap_or_else(|| self.node_of(source));
        self.saw(Vec::new()).await?;
        let how = CloneVm {
            name: Some(guest.name.to_string()),
            description: Some(description.clone()),
            pool: pool.clone(),
            full: Some(*full),
            storage: storage.clone().filter(|_| *full),
            format: format.clone().filter(|_| *full),
            target: (guest.node != node).then(|| guest.node.clone()),
            ..CloneVm::default()
        };
        match self.qemu_at(&node, source.vmid).clone_to(guest.vmid, &how).await {
            Ok(task) => {
                let done = Done::plain().with(Some(self.follow(task).await?));
                self.confirm_made(guest, done).await
            }
            Err(error) => self.taken_or(guest, error.into()).await,
        }
    }

    /// Deletes the guest, if it is ours. A guest that is not there is deleted already.
    pub(super) async fn delete_vm(&self, guest: &GuestRef, stop: bool) -> Result<Done, Failure> {
        if self.probe
            && let Some(done) = self.came_through(guest, Effect::Gone).await?
        {
            return Ok(done);
        }
        let Some(seen) = self.look(guest).await? else { return Ok(Done::already()) };
        self.check_ours(guest, &seen.config)?;
        self.check_remaking(guest).await?;
        let finished = self.remove(guest, &seen, stop).await?;
        Ok(Done::plain().with(finished))
    }

    /// Where the guest is made again afterwards, checks that its secrets can be had: it is not destroyed for want of one.
    async fn check_remaking(&self, guest: &GuestRef) -> Result<(), Failure> {
        let behind = self.shared.steps_of(&guest.name).skip_while(|step| step.id != self.step.id);
        let patches: Vec<&ConfigPatch> = behind.filter_map(|step| step.action.patch()).collect();
        for patch in patches {
            self.try_secrets(patch).await?;
        }
        Ok(())
    }

    /// Stops the guest where that is allowed, and deletes it with the volumes that its configuration names. Returns
    /// nothing if another process was faster.
    pub(super) async fn remove(
        &self,
        guest: &GuestRef,
        seen: &Seen,
        stop: bool,
    ) -> Result<Option<Finished>, Failure> {
        // A start that was on its way may come between the two.
        for _ in 0..STOPS {
            match self.remove_once(guest, seen, stop).await {
                Ok(finished) => return Ok(Some(finished)),
                Err(failure) if failure.kind == FailureKind::GuestGone => {
                    return match self.look(guest).await? {
                        None => Ok(None),
                        Some(_) => Err(failure),
                    };
                }
                Err(failure)
                    if stop
                        && failure.kind == FailureKind::DestroyRefused
                        && self.qemu_at(&seen.node, guest.vmid).status().await?.is_running() => {}
                Err(failure) => return Err(failure),
            }
        }
        self.remove_once(guest, seen, stop).await.map(Some)
    }

    async fn remove_once(&self, guest: &GuestRef, seen: &Seen, stop: bool) -> Result<Finished, Failure> {
        let qemu = self.qemu_at(&seen.node, guest.vmid);
        if stop && qemu.status().await?.is_running() {
            self.tell(None, "stops the guest");
            let task = qemu.stop().await?;
            self.after_task(guest, task, false).await?;
        }
        let how = DeleteVm { purge: true, destroy_unreferenced_disks: false };
        let task = qemu.delete(how).await?;
        self.follow(task).await
    }
}
