//! Reverting a step: *ensure absent*, so that twice is safe; only what this run created.

use super::disks::half_made;
use crate::drive::job::{Job, volumes_of};
use crate::{Failure, FailureKind, Found, Outcome, RevertNote, TookEffect};
use pve_config::{Bus, Drive};
use pve_ssh::command::files;
use pve_types::{NodeName, VolumeId};
use std::collections::BTreeSet;
use vmdeploy_planner::plan::{Action, ConfigPatch, GuestRef, ImportAction, PatchValue, Revert, Transport};

impl Job {
    /// Reverts the step, and reads back that what it made is gone.
    pub(crate) async fn revert(&self) -> Result<RevertNote, Failure> {
        let Revert::Run { action } = self.step.revert.clone() else { return Ok(RevertNote::NothingThere) };
        let job = self.with_action(*action);
        if !matches!(job.step.action, Action::DeleteVm { .. }) {
            // What the step itself still has on its way would come after what takes it back.
            self.let_pass().await?;
            job.check_still_the_same().await?;
        }
        self.sweep_keys().await;
        let note = match (&self.step.action, &job.step.action) {
            (_, Action::DeleteVm { guest, .. }) => job.remove_made(guest).await?,
            (Action::PlaceSnippet { node, volume, .. }, _) => self.remove_snippet(node, volume).await?,
            (Action::ImportDisk(_), _) => RevertNote::NothingThere,
            (_, Action::FreeVolume { node, volume }) => {
                let Ok(volume) = job.resolve(volume) else { return Ok(RevertNote::NothingThere) };
                if !self.shared.is_of_this_run(&volume) {
                    let text = format!("volume {volume} is not recorded in this run's journal");
                    return Err(Failure::new(FailureKind::NotOurs, text));
                }
                let done = job.free_volume(node, &vmdeploy_planner::plan::Ref::Known(volume.clone())).await?;
                note(&done.outcome, format!("volume {volume}"))
            }
            (_, other) => {
                let what = vmdeploy_planner::render::summary(other);
                let order = job.order_with_cds(other).await?;
                let done = job.act().await?;
                job.set_order_back(other, order).await?;
                note(&done.outcome, what)
            }
        };
        let freed = self.free_made_volumes().await?;
        Ok(match (note, freed.is_empty()) {
            (note, true) => note,
            (RevertNote::NothingThere, false) => RevertNote::Removed { what: volumes_listed(&freed) },
            (RevertNote::Removed { what }, false) => {
                RevertNote::Removed { what: format!("{what}; {}", volumes_listed(&freed)) }
            }
        })
    }

    /// Returns the boot order that holds after the next restart, where the action sets a CD drive and no order.
    // PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api: each CD drive that is set is appended to the boot order.
    async fn order_with_cds(&self, action: &Action) -> Result<Option<String>, Failure> {
        match action {
            Action::SetConfig { guest, patch, .. } if sets_cd(patch) && !patch.set.contains_key("boot") => {
                self.order_of(guest).await
            }
            _ => Ok(None),
        }
    }

    async fn order_of(&self, guest: &GuestRef) -> Result<Option<String>, Failure> {
        let values = self.qemu(guest).pending().await?;
        let boot = values.into_iter().find(|value| value.key == "boot");
        Ok(boot.and_then(|boot| boot.pending.or(boot.value)))
    }

    /// Sets the boot order back to what it was before a CD drive was.
    async fn set_order_back(&self, action: &Action, order: Option<String>) -> Result<(), Failure> {
        let (Some(order), Some(guest)) = (order, action.guest()) else { return Ok(()) };
        if self.order_of(guest).await?.as_ref() != Some(&order) {
            let set = [("boot".to_owned(), PatchValue::Text(order))].into();
            let patch = ConfigPatch { set, ..ConfigPatch::default() };
            self.set_config(guest, &patch, None).await?;
        }
        Ok(())
    }

    /// Removes the volumes that the step made for a guest that stays: those of its number that were not there right
    /// before the step, and that no slot of the guest holds. Nothing where the journal does not say what was there.
    async fn free_made_volumes(&self) -> Result<Vec<VolumeId>, Failure> {
        let storages = match &self.step.action {
            Action::ImportDisk(ImportAction { storage, .. }) => BTreeSet::from([storage.clone()]),
            Action::SetConfig { patch, .. } => {
                let names = patch.set.values().filter_map(PatchValue::allocates_on);
                names.cloned().collect()
            }
            _ => return Ok(Vec::new()),
        };
        let (Some(guest), Some(before)) = (self.step.action.guest(), &self.history.volumes_before) else {
            return Ok(Vec::new());
        };
        let Some(seen) = self.look(guest).await? else { return Ok(Vec::new()) };
        let named = volumes_of(&seen.config);
        let is_unused = |slot: &str| Bus::of_key(slot) == Some(Bus::Unused);
        let is_made = |volume: &VolumeId| volume.owner() == Some(guest.vmid) && !before.contains(volume);
        let mut freed = Vec::new();
        for (slot, volume) in named.iter().filter(|(slot, volume)| is_unused(slot) && is_made(volume)) {
            self.remove_unused(&seen.node, guest, slot).await?;
            freed.push(volume.clone());
        }
        for storage in storages {
            for volume in self.volumes_on(&seen.node, &storage, guest.vmid).await? {
                let is_in_slot = named.iter().any(|(_, named)| *named == volume);
                if is_made(&volume) && !is_in_slot {
                    if !self.is_nobodys(&volume, guest.vmid).await? {
                        return Err(left_until_restart(guest, &volume));
                    }
                    self.free_left(&seen.node, &volume).await?;
                    freed.push(volume);
                }
            }
        }
        self.check_gone(&seen.node, &freed).await?;
        Ok(freed)
    }

    /// Removes volumes that this step of a run that did not come to its end left, and that no slot of the guest holds:
    /// the one that its journal names, those that no configuration names, and a new `unusedN` where only one can be the
    /// step's. Others may be of people.
    pub(crate) async fn free_abandoned(&self) -> Result<Vec<VolumeId>, Failure> {
        let (Some(guest), Some(before)) = (self.step.action.guest(), &self.history.volumes_before) else {
            return Ok(Vec::new());
        };
        let Some(seen) = self.look(guest).await? else { return Ok(Vec::new()) };
        self.check_ours(guest, &seen.config)?;
        let named = volumes_of(&seen.config);
        let outcome = self.history.outcome.as_ref().and_then(Outcome::volume);
        let is_unused = |slot: &str| Bus::of_key(slot) == Some(Bus::Unused);
        // A disk that was plugged in when this run began is in use, no matter which run made it.
        let plugged = self.shared.history(|history| {
            let values = history.config_before(guest.vmid).map(|(values, _)| values);
            let volumes = values.into_iter().flatten().filter(|(slot, _)| !is_unused(slot));
            let volume = |(slot, text): (&String, &String)| Drive::parse(slot, text).ok()?.volume().cloned();
            volumes.filter_map(volume).collect::<BTreeSet<_>>()
        });
        let is_new = |volume: &VolumeId| {
            volume.owner() == Some(guest.vmid) && !before.contains(volume) && !plugged.contains(volume)
        };
        let new: Vec<_> = named.iter().filter(|(slot, volume)| is_unused(slot) && is_new(volume)).collect();
        // Only an import leaves a volume in no slot.
        let is_import = matches!(&self.step.action, Action::ImportDisk(import)
            if new.iter().all(|(_, volume)| *volume.storage() == import.storage));
        let is_sole = new.len() == 1 && outcome.is_none() && self.history.unsure && is_import;
        let mut freed = Vec::new();
        for (slot, volume) in new.into_iter().filter(|(_, volume)| is_sole || Some(*volume) == outcome) {
            self.remove_unused(&seen.node, guest, slot).await?;
            freed.push(volume.clone());
        }
        for storage in crate::schedule::claims_of(&self.step.action, self.step.transport)
            .storages
            .iter()
            .chain(&crate::describe::fills(&self.step.action))
        {
            for volume in self.volumes_on(&seen.node, storage, guest.vmid).await? {
                let is_left = is_new(&volume) && !named.values().any(|named| *named == volume);
                if is_left && self.is_nobodys(&volume, guest.vmid).await? {
                    self.free_left(&seen.node, &volume).await?;
                    freed.push(volume);
                }
            }
        }
        Ok(freed)
    }

    /// Removes an `unusedN` entry of a guest, and its volume with it.
    // PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api: removing an `unusedN` removes its volume.
    pub(super) async fn remove_unused(
        &self,
        node: &NodeName,
        guest: &GuestRef,
        slot: &str,
    ) -> Result<(), Failure> {
        let params = pve_api::Params::new().with_list("delete", [slot]);
        self.qemu_at(node, guest.vmid).set_config(params).await?;
        Ok(())
    }

    /// Reads back that volumes are gone.
    async fn check_gone(&self, node: &NodeName, volumes: &[VolumeId]) -> Result<(), Failure> {
        for volume in volumes {
            if self.is_there(node, volume).await? {
                let text = format!("volume {volume} was removed, but still exists");
                let failure = Failure::new(FailureKind::TaskFailed, text).effect(TookEffect::Yes);
                return Err(failure.hint(format!("on {node}: `pvesm free {volume}`")));
            }
        }
        Ok(())
    }

    /// Removes a snippet that this run wrote, with what a killed transfer left of it.
    async fn remove_snippet(&self, node: &NodeName, volume: &VolumeId) -> Result<RevertNote, Failure> {
        let is_ours = self.history.volumes_before.is_some() || self.shared.is_of_this_run(volume);
        if !is_ours {
            return Ok(RevertNote::NothingThere);
        }
        let path = self.path_of(node, volume).await?;
        let host = self.host(node).await?;
        let time = self.time_left();
        let is_there = async || host.run_to_success(&files::is_file(&path), time).await.is_ok();
        let was_there = is_there().await;
        host.run_to_success(&files::remove(&path), time)
            .await
            .map_err(|error| Failure::from(error).at(node))?;
        match (was_there, is_there().await) {
            (_, true) => {
                let text = format!("`{path}` on {node} was removed, but still exists");
                Err(Failure::new(FailureKind::CommandFailed, text).effect(TookEffect::Yes))
            }
            (true, false) => Ok(RevertNote::Removed { what: format!("volume {volume}") }),
            (false, false) => Ok(RevertNote::NothingThere),
        }
    }

    /// Removes a guest that this run made: it must have the ownership marker, and the marker must be of this run.
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
                    false => RevertNote::Removed { what: volumes_listed(&freed) },
                }
            });
        };
        let marker = self.check_ours(guest, &seen.config)?;
        if marker.run != self.shared.plan.run_id {
            let run = crate::printable(&marker.run);
            let text = format!("VM {} was created by another run, `{run}`", guest.vmid);
            let hint = format!("`vmdeploy resume {run} --rollback` removes it, if that run is recorded here");
            return Err(Failure::new(FailureKind::NotOurs, text).hint(hint));
        }
        self.check_unchanged(guest, &seen)?;
        self.check_volumes().await?;
        self.remove(guest, &seen, true).await?;
        self.free_new_volumes(guest, &seen.node).await?;
        Ok(RevertNote::Removed { what: format!("VM {} `{}`", guest.vmid, guest.name) })
    }

    /// Waits for commands of this run that may still work on the guest. A node that cannot be asked is not a reason to
    /// leave the guest where it is: it is deleted by the API.
    async fn wait_for_own_commands(&self, guest: &GuestRef) -> Result<(), Failure> {
        let mut own = self.shared.steps_of(&guest.name);
        if !own.any(|step| step.transport == Transport::Ssh) {
            return Ok(());
        }
        match self.wait_for_commands_on(guest).await {
            Err(failure)
                if matches!(
                    failure.kind,
                    FailureKind::Unreachable | FailureKind::NodeUnreachable | FailureKind::NoAnswer
                ) && !self.shared.connections.is_pvesh() =>
            {
                self.note(format!(
                    "cannot determine whether a command is still running on VM {}: {failure}",
                    guest.vmid
                ));
                Ok(())
            }
            other => other,
        }
    }

    /// Frees volumes of a guest that is gone, which steps of this run made: those that the journal names, and those that
    /// were not there when it looked right before a volume was made. All others are ignored here.
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
            let text = format!("the VM is removed, but its volume {volume} remains: {}", failure.message);
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

/// Tells whether a change sets a CD drive, other than cloud-init's.
fn sets_cd(patch: &ConfigPatch) -> bool {
    patch.set.iter().any(|(slot, value)| {
        let PatchValue::Text(text) = value else { return false };
        let is_drive = Bus::of_key(slot).is_some_and(Bus::is_drive);
        let is_cd = |drive: Drive| drive.is_cdrom() && !drive.is_cloud_init();
        is_drive && Drive::parse(slot, text).is_ok_and(is_cd)
    })
}

/// Says that a volume is left because a guest has it: a running one keeps a disk that is taken out until its restart.
fn left_until_restart(guest: &GuestRef, volume: &VolumeId) -> Failure {
    let text =
        format!("volume {volume} remains: a guest uses it, or VM {} does until its restart", guest.vmid);
    let hint = format!(
        "`vmdeploy reboot {}` turns it into `unusedN`, and `qm set {} --delete unusedN` deletes it",
        guest.name, guest.vmid
    );
    Failure::new(FailureKind::Hotplug, text).effect(TookEffect::Yes).hint(hint)
}

fn volumes_listed(volumes: &[VolumeId]) -> String {
    let names: Vec<&str> = volumes.iter().map(VolumeId::as_str).collect();
    format!("volumes {}", names.join(", "))
}

fn note(outcome: &Outcome, what: String) -> RevertNote {
    match outcome {
        Outcome::AlreadyDone => RevertNote::NothingThere,
        _ => RevertNote::Removed { what },
    }
}
