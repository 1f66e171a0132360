//! What each action does. The one `match` over the closed set.

mod cluster;
mod config;
mod disks;
mod guests;
mod images;
mod kept;
mod late;
mod making;
mod owners;
mod patch;
mod power;
mod readback;
mod revert;
mod wait;

use super::job::{Done, Job};
use crate::Failure;
use vmdeploy_planner::plan::Action;

impl Job {
    /// Does the step. With `probe` set it first finds out what is there already, and does only what is missing.
    pub(crate) async fn act(&self) -> Result<Done, Failure> {
        let guest = self.step.action.guest().filter(|_| !crate::describe::is_wait(&self.step.action));
        self.check_volumes().await?;
        let _work = guest.map(|guest| self.shared.pace.work(self.node_of(guest)));
        match self.send().await {
            Err(failure) => self.unless_done(failure).await,
            done => done,
        }
    }

    /// Sends the step's request, whatever that is.
    async fn send(&self) -> Result<Done, Failure> {
        match &self.step.action {
            Action::ProbeStorage { node, needed } => self.probe_storage(node, needed).await,
            Action::PlaceImage { node, volume, origin, checksum, .. } => {
                self.place_image(node, volume, origin, checksum.as_deref()).await
            }
            Action::VerifyImage { node, path, checksum, .. } => {
                self.verify_image(node, path, checksum.as_deref()).await
            }
            Action::PlaceSnippet { node, volume, source, sha256 } => {
                self.place_snippet(node, volume, source, sha256).await
            }
            Action::CreateVm { guest, config, pool } => self.create_vm(guest, config, pool.as_ref()).await,
            Action::CloneVm(clone) => self.clone_vm(clone).await,
            Action::ImportDisk(import) => self.import_disk(import).await,
            Action::SetConfig { guest, patch, digest } => {
                let before = self.config_before().await?;
                let now = before.as_ref().and_then(|seen| seen.config.digest.as_deref());
                let digest = if self.was_changed_by_this_run(guest) { now } else { digest.as_deref() };
                match self.set_config(guest, patch, digest).await {
                    Err(failure) => Err(self.after_refusal(before.as_ref(), failure).await),
                    done => done,
                }
            }
            Action::ResizeDisk { guest, slot, size, volume } => {
                self.resize_disk(guest, &slot.to_string(), *size, volume.as_ref()).await
            }
            Action::MoveDisk(moved) => self.move_disk(moved).await,
            Action::ReassignDisk { guest, slot, volume, holder } => {
                self.reassign_disk(guest, &slot.to_string(), volume, *holder).await
            }
            Action::TakeDisk { guest, holder, volume } => self.take_disk(guest, holder, volume).await,
            Action::ConvertToTemplate { guest } => self.convert_to_template(guest).await,
            Action::RegenerateCloudInit { guest } => self.regenerate_cloud_init(guest).await,
            Action::SetHa { guest, ha } => self.set_ha(guest, ha.as_ref()).await,
            Action::SetPool { guest, pool } => self.set_pool(guest, pool.as_ref()).await,
            Action::StartVm { guest } => self.start_vm(guest).await,
            Action::ShutdownVm { guest, timeout_s, force } => {
                self.shutdown_vm(guest, *timeout_s, *force).await
            }
            Action::StopVm { guest } => self.stop_vm(guest).await,
            Action::RebootVm { guest } => self.reboot_vm(guest).await,
            Action::DeleteVm { guest, stop } => self.delete_vm(guest, *stop).await,
            Action::FreeVolume { node, volume } => self.free_own_volume(node, volume).await,
            Action::Await { guest, condition } => self.wait_for(guest, condition).await,
        }
    }
}
