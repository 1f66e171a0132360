//! Reverting a step: *ensure absent*, so that twice is safe; only what this run made, and nothing else.

use super::disks::half_made;
use crate::drive::job::Job;
use crate::{Failure, FailureKind, Found, Outcome, RevertNote, TookEffect};
use pve_types::{NodeName, VolumeId};
use vmdeploy_planner::plan::{Action, GuestRef, Revert, Transport};

impl Job {
    /// Reverts the step.
    pub(crate) async fn revert(&self) -> Result<RevertNote, Failure> {
        let Revert::Run { action } = self.step.revert.clone() else { return Ok(RevertNote::NothingThere) };
        let job = self.with_action(*action);
        if !matches!(job.step.action, Action::DeleteVm { .. }) {
            // What the step itself still has on its way would come after what takes it back.
            self.let_pass().await?;
            job.check_still_the_same().await?;
        }
        match &job.step.action {
            Action::DeleteVm { guest, .. } => job.remove_made(guest).await,
            Action::FreeVolume { .. } if let Action::ImportDisk { guest, storage, .. } = &self.step.action => {
                let freed = self.unimport(guest, storage).await?;
                Ok(removed(&freed))
            }
            Action::FreeVolume { node, volume } => {
                let Ok(volume) = job.resolve(volume) else { return Ok(RevertNote::NothingThere) };
                if !self.shared.is_of_this_run(&volume) {
                    let text = format!("volume {volume} is not named by this run's journal");
                    return Err(Failure::new(FailureKind::NotOurs, text));
                }
                let done = job.free_volume(node, &vmdeploy_planner::plan::Ref::Known(volume.clone())).await?;
                Ok(note(&done.outcome, format!("volume {volume}")))
            }
            Action::SetConfig { guest, patch, .. } => {
                let made = self.made_in(guest, patch).await?;
                let what = vmdeploy_planner::render::summary(&job.step.action);
                let done = job.act().await?;
                self.free_unused(guest, &made).await?;
                Ok(note(&done.outcome, what))
            }
            other => {
                let what = vmdeploy_planner::render::summary(other);
                let done = job.act().await?;
                Ok(note(&done.outcome, what))
            }
        }
    }

    /// Removes a guest that this run made: it must bear our mark, and the mark must be of this run.
    ///
    /// Before, whatever may still work on it on the server is let come to its end, so that nothing appears afterwards.
    async fn remove_made(&self, guest: &GuestRef) -> Result<RevertNote, Failure> {
        self.wait_for_own_commands(guest).await?;
        if let Some(seen) = self.settled(guest, true).await? {
            while let Some(upid) = self.running_task(&seen.node, guest.vmid, &[]).await? {
                self.see_through(&upid).await?;
            }
        }
        let Some(seen) = self.look(guest).await? else {
            return self.free_new_volumes(guest, &self.node_of(guest)).await.map(|freed| {
                match freed.is_empty() {
                    true => RevertNote::NothingThere,
                    false => RevertNote::Removed { what: listed(&freed) },
                }
            });
        };
        let marker = self.check_ours(guest, &seen.config)?;
        if marker.run != self.shared.plan.run_id {
            let run = crate::printable(&marker.run);
            let text = format!("VM {} was made by another run, `{run}`", guest.vmid);
            let hint =
                format!("`vmdeploy resume {run} --rollback` takes it away, if that run is recorded here");
            return Err(Failure::new(FailureKind::NotOurs, text).hint(hint));
        }
        self.check_volumes().await?;
        self.remove(guest, &seen, true).await?;
        self.free_new_volumes(guest, &seen.node).await?;
        Ok(RevertNote::Removed { what: format!("VM {} `{}`", guest.vmid, guest.name) })
    }

    /// Waits for commands of this run that may still work on the guest. A node that cannot be asked is no reason to
    /// leave the guest where it is: it is deleted by the API.
    async fn wait_for_own_commands(&self, guest: &GuestRef) -> Result<(), Failure> {
        let mut own = self.shared.steps_of(&guest.name);
        if !own.any(|step| step.transport == Transport::Ssh) {
            return Ok(());
        }
        match self.wait_for_commands_on(guest).await {
            Err(failure)
                if matches!(failure.kind, FailureKind::Unreachable | FailureKind::NoAnswer)
                    && !self.shared.connections.is_pvesh() =>
            {
                self.note(format!(
                    "whether a command still works on VM {} cannot be asked: {failure}",
                    guest.vmid
                ));
                Ok(())
            }
            other => other,
        }
    }

    /// Frees volumes of a guest that is gone, which steps of this run made: those that the journal names, and those that
    /// were not there when it looked right before a volume was made. All others are nobody's business here.
    async fn free_new_volumes(&self, guest: &GuestRef, node: &NodeName) -> Result<Vec<VolumeId>, Failure> {
        let mut freed = Vec::new();
        for storage in self.storages_written(guest) {
            for volume in self.volumes_on(node, &storage, guest.vmid).await? {
                let is_named = self.shared.is_of_this_run(&volume);
                if !is_named && !self.shared.is_new(&guest.name, &volume) {
                    continue;
                }
                if !is_named {
                    self.found(Found::Partly { what: half_made(&volume) });
                }
                self.free_left(node, &volume).await?;
                freed.push(volume);
            }
        }
        Ok(freed)
    }

    async fn free_left(&self, node: &NodeName, volume: &VolumeId) -> Result<(), Failure> {
        let freed = async {
            if let Some(task) =
                self.shared.connections.api().node(node).storage(volume.storage()).free(volume).await?
            {
                self.follow(task).await?;
            }
            Ok::<(), Failure>(())
        };
        freed.await.map_err(|failure| {
            let text = format!("the VM is removed, but its volume {volume} is left: {}", failure.message);
            let left = Failure::new(failure.kind, text).effect(TookEffect::Yes).log(failure.log);
            left.hint(format!("on {node}: `pvesm free {volume}`"))
        })
    }

    /// Returns the storages that steps of this plan write to for the guest.
    fn storages_written(&self, guest: &GuestRef) -> std::collections::BTreeSet<pve_types::StorageId> {
        let own = self.shared.steps_of(&guest.name);
        own.flat_map(|step| crate::schedule::claims_of(&step.action, step.transport).storages).collect()
    }
}

fn removed(freed: &[VolumeId]) -> RevertNote {
    match freed.is_empty() {
        true => RevertNote::NothingThere,
        false => RevertNote::Removed { what: listed(freed) },
    }
}

fn listed(volumes: &[VolumeId]) -> String {
    let names: Vec<&str> = volumes.iter().map(VolumeId::as_str).collect();
    format!("half-made volumes {}", names.join(", "))
}

fn note(outcome: &Outcome, what: String) -> RevertNote {
    match outcome {
        Outcome::AlreadyDone => RevertNote::NothingThere,
        _ => RevertNote::Removed { what },
    }
}
