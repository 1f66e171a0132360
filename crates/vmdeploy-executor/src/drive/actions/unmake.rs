//! Taking back volumes that a step made for a guest that stays: no volume and no `unusedN` of the run is left.

use super::disks::half_made;
use crate::drive::job::{Job, volumes_of};
use crate::{Failure, Found};
use pve_types::{StorageId, VolumeId};
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_planner::plan::{ConfigPatch, GuestRef, Ref};

impl Job {
    /// Returns the volumes that this step made and that slots hold which its revert empties.
    pub(super) async fn made_in(
        &self,
        guest: &GuestRef,
        revert: &ConfigPatch,
    ) -> Result<BTreeSet<VolumeId>, Failure> {
        if revert.delete.is_empty() {
            return Ok(BTreeSet::new());
        }
        let Some(seen) = self.look(guest).await? else { return Ok(BTreeSet::new()) };
        let there = volumes_of(&seen.config).into_iter();
        let emptied = there.filter(|(slot, _)| revert.delete.contains(slot)).map(|(_, volume)| volume);
        Ok(emptied.filter(|volume| self.made(volume)).collect())
    }

    /// Tells whether this run made the volume: an outcome names it, or it was not there right before this step.
    fn made(&self, volume: &VolumeId) -> bool {
        let is_new = self.history.volumes.as_ref().is_some_and(|before| !before.contains(volume));
        self.shared.is_of_this_run(volume) || is_new
    }

    /// Frees volumes that became `unusedN` when their slots were emptied. A guest that has them until its restart keeps
    /// them; they are left and returned.
    // PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api: deleting an `unusedN` frees its volume.
    pub(super) async fn free_unused(
        &self,
        guest: &GuestRef,
        volumes: &BTreeSet<VolumeId>,
    ) -> Result<Vec<VolumeId>, Failure> {
        if volumes.is_empty() {
            return Ok(Vec::new());
        }
        let seen = self.config(guest).await?;
        let unused: BTreeMap<String, VolumeId> = volumes_of(&seen.config)
            .into_iter()
            .filter(|(slot, volume)| slot.starts_with("unused") && volumes.contains(volume))
            .collect();
        if unused.is_empty() {
            return Ok(Vec::new());
        }
        let params = pve_api::Params::new()
            .with_list("delete", unused.keys())
            .with_some("digest", seen.config.digest.as_deref());
        self.qemu_at(&seen.node, guest.vmid).set_config(params).await?;
        Ok(unused.into_values().collect())
    }

    /// Takes back an import for a guest that stays: its `unusedN`, or the half of a volume that no configuration names.
    pub(super) async fn unimport(
        &self,
        guest: &GuestRef,
        storage: &StorageId,
    ) -> Result<Vec<VolumeId>, Failure> {
        let Some(seen) = self.look(guest).await? else { return Ok(Vec::new()) };
        let named = volumes_of(&seen.config);
        let unused = named.iter().filter(|(slot, _)| slot.starts_with("unused")).map(|(_, volume)| volume);
        let own: BTreeSet<VolumeId> = unused.filter(|volume| self.made(volume)).cloned().collect();
        let mut freed = self.free_unused(guest, &own).await?;
        let named: BTreeSet<VolumeId> = named.into_values().collect();
        for volume in self.volumes_on(&seen.node, storage, guest.vmid).await? {
            if !named.contains(&volume) && self.made(&volume) && self.history.volumes.is_some() {
                self.found(Found::Partly { what: half_made(&volume) });
                self.free_volume(&seen.node, &Ref::Known(volume.clone())).await?;
                freed.push(volume);
            }
        }
        Ok(freed)
    }
}
