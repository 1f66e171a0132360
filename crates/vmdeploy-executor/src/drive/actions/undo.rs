//! Undoing a step: *ensure absent*, so that twice is safe; only what this run made, and nothing else.

use crate::drive::job::Job;
use crate::{Failure, FailureKind, Outcome, TookEffect, UndoNote};
use pve_types::VolumeId;
use vmdeploy_planner::plan::{Action, GuestRef, Undo};

impl Job {
    /// Undoes the step.
    pub(crate) async fn undo(&self) -> Result<UndoNote, Failure> {
        let Undo::Run { action } = self.step.undo.clone() else { return Ok(UndoNote::NothingThere) };
        let job = self.with_action(*action);
        match &job.step.action {
            Action::DeleteVm { guest, .. } => job.remove_made(guest).await,
            Action::FreeVolume { node, volume } => {
                let Ok(volume) = job.resolve(volume) else { return Ok(UndoNote::NothingThere) };
                if !self.shared.volumes_of_this_run().contains(&volume) {
                    let text = format!("volume {volume} is not named by this run's journal");
                    return Err(Failure::new(FailureKind::NotOurs, text));
                }
                let done = job.free_volume(node, &vmdeploy_planner::plan::Ref::Known(volume.clone())).await?;
                Ok(note(&done.outcome, format!("volume {volume}")))
            }
            other => {
                let what = crate::describe::title(other);
                let done = job.act().await?;
                Ok(note(&done.outcome, what))
            }
        }
    }

    /// Removes a guest that this run made: it must bear our mark, and the mark must be of this run.
    async fn remove_made(&self, guest: &GuestRef) -> Result<UndoNote, Failure> {
        // A task that still makes the guest is let come to its end first.
        let made = Self { probe: true, ..self.clone() };
        made.reattach().await?;
        let Some(seen) = self.look(guest).await? else { return Ok(UndoNote::NothingThere) };
        let marker = self.check_ours(guest, &seen.config)?;
        if marker.run != self.shared.plan.run_id {
            let text = format!("VM {} was made by another run, `{}`", guest.vmid, marker.run);
            return Err(Failure::new(FailureKind::NotOurs, text));
        }
        self.remove(guest, &seen, true).await?;
        let orphans = self.volumes_left(guest).await?;
        if orphans.is_empty() {
            return Ok(UndoNote::Removed { what: format!("VM {} `{}`", guest.vmid, guest.name) });
        }
        let list: Vec<&str> = orphans.iter().map(VolumeId::as_str).collect();
        let text =
            format!("VM {} is removed, but volumes of its number are left: {}", guest.vmid, list.join(", "));
        let command =
            list.iter().map(|volume| format!("pvesm free {volume}")).collect::<Vec<_>>().join(" && ");
        Err(Failure::new(FailureKind::TaskFailed, text).effect(TookEffect::Yes).hint(command))
    }

    /// Frees volumes of a removed guest that this journal names, and returns those that it does not name.
    async fn volumes_left(&self, guest: &GuestRef) -> Result<Vec<VolumeId>, Failure> {
        let ours = self.shared.volumes_of_this_run();
        let node = self.node_of(guest);
        let mut left = Vec::new();
        let storages: std::collections::BTreeSet<_> = self.storages_written(guest);
        for storage in storages {
            let place = self.shared.connections.api().node(&node).storage(&storage);
            let filter =
                pve_api::ContentFilter { vmid: Some(guest.vmid), ..pve_api::ContentFilter::default() };
            for volume in place.content(&filter).await?.into_iter().map(|found| found.volid) {
                if ours.contains(&volume) {
                    if let Some(task) = place.free(&volume).await? {
                        self.follow(task).await?;
                    }
                } else {
                    left.push(volume);
                }
            }
        }
        Ok(left)
    }

    /// Returns the storages that steps of this plan write to for the guest.
    fn storages_written(&self, guest: &GuestRef) -> std::collections::BTreeSet<pve_types::StorageId> {
        let own = self.shared.plan.steps.iter().filter(|step| step.vm.as_ref() == Some(&guest.name));
        own.flat_map(|step| crate::schedule::claims_of(&step.action, step.road).storages).collect()
    }
}

fn note(outcome: &Outcome, what: String) -> UndoNote {
    match outcome {
        Outcome::AlreadyDone => UndoNote::NothingThere,
        _ => UndoNote::Removed { what },
    }
}
