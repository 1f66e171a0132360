//! Taking a disk back from the VM that held it while its own was replaced.

use super::disks::{free_unused, new_unused};
use crate::drive::job::{Done, Job, volumes_of};
use crate::{Failure, FailureKind, TookEffect};
use pve_api::MoveDisk;
use pve_types::VolumeId;
use std::collections::BTreeSet;
use vmdeploy_planner::plan::{GuestRef, Ref};

impl Job {
    /// Moves a volume from the holder's `unusedN` to one of the guest, and reads it back there.
    ///
    /// PVE renames the volume. Where the holder does not have it any more, an earlier attempt has moved it: it is then the
    /// one that the guest has got since.
    pub(super) async fn take_disk(
        &self,
        guest: &GuestRef,
        holder: &GuestRef,
        volume: &Ref<VolumeId>,
    ) -> Result<Done, Failure> {
        if self.probe {
            self.reattach().await?;
        }
        let volume = self.resolve(volume)?;
        let seen = self.config(guest).await?;
        self.check_ours(guest, &seen.config)?;
        let before: BTreeSet<VolumeId> = match (&self.history.volumes_before, self.probe) {
            (Some(volumes), true) => volumes.clone(),
            _ => volumes_of(&seen.config).into_values().collect(),
        };
        let there = self.holder(guest, holder.vmid).await?;
        let held = volumes_of(&there.config).into_iter().find(|(_, held)| *held == volume);
        let Some((slot, _)) = held else {
            let taken = new_unused(&seen.config, &before).filter(|_| self.probe);
            return match taken {
                Some(taken) => Ok(self.found_done(Done::volume(taken))),
                None => Err(not_held(holder, &volume)),
            };
        };
        self.saw(before.iter().cloned()).await?;
        let how = MoveDisk {
            disk: slot,
            target_vmid: Some(guest.vmid),
            target_disk: Some(free_unused(&seen.config)),
            digest: there.config.digest,
            ..MoveDisk::default()
        };
        let task = self.qemu_at(&there.node, holder.vmid).move_disk(&how).await?;
        let finished = self.follow(task).await?;
        let seen = self.config(guest).await?;
        let taken = new_unused(&seen.config, &before).ok_or_else(|| {
            let text = format!("{volume} was moved to VM {}, and is not there", guest.vmid);
            Failure::new(FailureKind::Answer, text).effect(TookEffect::Maybe)
        })?;
        Ok(Done::volume(taken).with(Some(finished)))
    }
}

fn not_held(holder: &GuestRef, volume: &VolumeId) -> Failure {
    let text = format!("VM {} does not hold {volume} as an unused disk", holder.vmid);
    let hint = format!("`qm config {}` on {} shows what it has", holder.vmid, holder.node);
    Failure::new(FailureKind::SlotOccupied, text).at(&holder.node).hint(hint)
}
