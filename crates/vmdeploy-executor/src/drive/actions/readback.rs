//! Reading back after a request that failed: what PVE wrote before it refused is found, and set back.
//!
//! PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api writes the pending section option by option, and does not take
//! back what it wrote when a later option fails.

use super::disks::size_of;
use crate::drive::job::{Done, Job, Seen, volumes_of};
use crate::{Failure, FailureKind, TookEffect};
use pve_api::{Params, QemuConfig};
use pve_config::Bus;
use std::collections::BTreeSet;
use vmdeploy_planner::plan::{Action, CloneAction, GuestRef, ImportAction};

/// Keys that change with every write.
const VOLATILE: [&str; 3] = ["digest", "lock", "meta"];

impl Job {
    /// Reads back whether a request that PVE refused, or whose task failed, was done all the same: then the step is, with a
    /// warning.
    pub(super) async fn unless_done(&self, failure: Failure) -> Result<Done, Failure> {
        let is_refused = matches!(
            failure.kind,
            FailureKind::Refused | FailureKind::TaskFailed | FailureKind::CommandFailed
        );
        if !is_refused || failure.took_effect == TookEffect::Yes {
            return Err(failure);
        }
        match self.is_done().await {
            Ok(Some(done)) => Ok(done.warned(format!("it was done, in spite of an error: {failure}"))),
            Ok(None) if self.has_begun().await.unwrap_or(false) => {
                Err(failure.effect_at_least(TookEffect::Maybe))
            }
            Ok(None) | Err(_) => Err(failure),
        }
    }

    /// Tells whether something of a step that makes or hands over something is there, which then has to be reverted.
    async fn has_begun(&self) -> Result<bool, Failure> {
        Ok(match &self.step.action {
            Action::CreateVm { guest, .. } | Action::CloneVm(CloneAction { guest, .. }) => {
                let seen = self.look(guest).await?;
                let marker = seen.and_then(|seen| self.check_ours(guest, &seen.config).ok());
                marker.is_some_and(|marker| marker.run == self.shared.plan.run_id)
            }
            Action::ImportDisk(ImportAction { guest, slot, .. }) => {
                volumes_of(&self.config(guest).await?.config).contains_key(&slot.to_string())
            }
            Action::ReassignDisk { guest, slot, .. } => {
                !volumes_of(&self.config(guest).await?.config).contains_key(&slot.to_string())
            }
            _ => false,
        })
    }

    /// Tells whether what the step is to bring about is so; `None` also for steps of which one look does not tell.
    async fn is_done(&self) -> Result<Option<Done>, Failure> {
        let plain = |is_so: bool| is_so.then(Done::plain);
        Ok(match &self.step.action {
            Action::ResizeDisk { guest, slot, size, .. } => {
                let now = size_of(&self.config(guest).await?.config, &slot.to_string());
                plain(now.is_some_and(|now| now >= *size))
            }
            Action::MoveDisk(moved) => {
                let there =
                    volumes_of(&self.config(&moved.guest).await?.config).remove(&moved.slot.to_string());
                there.filter(|volume| *volume.storage() == moved.storage).map(Done::volume)
            }
            Action::StartVm { guest } => plain(self.is_running(guest).await?),
            Action::ShutdownVm { guest, .. } | Action::StopVm { guest } => {
                plain(!self.is_running(guest).await?)
            }
            Action::ConvertToTemplate { guest } => {
                plain(self.config(guest).await?.config.get("template") == Some("1"))
            }
            Action::DeleteVm { guest, .. } => plain(self.look(guest).await?.is_none()),
            _ => None,
        })
    }

    /// Returns what the guest is before a step changes its configuration, where a failure will be read back.
    pub(super) async fn config_before(&self) -> Result<Option<Seen>, Failure> {
        let Action::SetConfig { guest, .. } = &self.step.action else { return Ok(None) };
        // One that is being made is removed or finished as a whole.
        if self.is_created_here(guest) {
            return Ok(None);
        }
        self.look(guest).await
    }

    /// Reads back what a refused change left, and sets it back. Says in the failure what was found.
    pub(super) async fn after_refusal(&self, before: Option<&Seen>, failure: Failure) -> Failure {
        let Some(guest) = self.step.action.guest() else { return failure };
        let Some(before) = before.filter(|_| is_an_answer(&failure)) else { return failure };
        match self.set_back(guest, before).await {
            Ok(written) if written.is_empty() => failure.effect(TookEffect::No),
            Ok(written) => {
                let text = format!(
                    "PVE had written {} before it refused; the old value was restored and verified",
                    written.join(", ")
                );
                let mut failure = failure.effect(TookEffect::No);
                failure.causes.push(text);
                failure
            }
            Err((written, why)) => {
                let text = format!(
                    "PVE had written {} before it refused, and the old value could not be restored: {why}",
                    written.join(", ")
                );
                let mut failure = failure.effect(TookEffect::Yes);
                failure.causes.push(text);
                failure
            }
        }
    }

    /// Sets back what differs from before; returns the keys that did.
    async fn set_back(&self, guest: &GuestRef, before: &Seen) -> Result<Vec<String>, (Vec<String>, Failure)> {
        let look =
            async || self.config(guest).await.map_err(|failure| (vec!["something".to_owned()], failure));
        let written = differing(&before.config, &look().await?.config);
        if written.is_empty() {
            return Ok(written);
        }
        let qemu = self.qemu(guest);
        // What waits is given up by its name; what is in effect already is set back.
        let _ = qemu.set_config(Params::new().with_list("revert", &written)).await;
        let now = look().await?;
        let rest = differing(&before.config, &now.config);
        let failed = |failure: Failure| (written.clone(), failure);
        if !rest.is_empty() {
            let mut params = Params::new();
            let mut delete = Vec::new();
            for key in &rest {
                match before.config.get(key) {
                    Some(value) => params = params.with(key, value),
                    None => delete.push(key.clone()),
                }
            }
            let params = params.with_list("delete", &delete);
            qemu.set_config(params).await.map_err(|error| failed(error.into()))?;
        }
        self.remove_new_unused(guest, before).await.map_err(failed)?;
        let left = differing(&before.config, &look().await?.config);
        if left.is_empty() {
            return Ok(written);
        }
        let text = format!("{} of VM {} differ from before", left.join(", "), guest.vmid);
        Err((written, Failure::new(FailureKind::Refused, text)))
    }

    /// Removes volumes that the refused request made, and that setting it back detached.
    async fn remove_new_unused(&self, guest: &GuestRef, before: &Seen) -> Result<(), Failure> {
        let had: BTreeSet<_> = volumes_of(&before.config).into_values().collect();
        let now = self.config(guest).await?;
        for (slot, volume) in volumes_of(&now.config) {
            let is_new = volume.owner() == Some(guest.vmid) && !had.contains(&volume);
            if is_new && Bus::of_key(&slot) == Some(Bus::Unused) {
                self.remove_unused(&now.node, guest, &slot).await?;
            }
        }
        Ok(())
    }
}

/// Tells whether PVE answered, so that nothing is at work any more.
fn is_an_answer(failure: &Failure) -> bool {
    use FailureKind as K;
    let is_open = matches!(
        failure.kind,
        K::NoAnswer | K::Unreachable | K::NodeUnreachable | K::Interrupted | K::Deadline | K::GuestGone
    );
    // A change that waits for a restart is one that PVE took.
    !is_open && failure.kind != K::Hotplug
}

/// Returns the keys that differ by meaning.
fn differing(before: &QemuConfig, now: &QemuConfig) -> Vec<String> {
    let keys: BTreeSet<&String> = before.values.keys().chain(now.values.keys()).collect();
    let differs = |key: &&String| match (before.get(key), now.get(key)) {
        (Some(before), Some(now)) => !pve_config::same_value(key, before, now),
        (None, None) => false,
        _ => true,
    };
    keys.into_iter().filter(|key| !VOLATILE.contains(&key.as_str())).filter(differs).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_refused_request_wrote_is_seen_by_key() {
        let config = |text: &str| -> QemuConfig { serde_json::from_str(text).unwrap() };
        let before = config(
            r#"{"cores":2,"ide2":"l:vm-1-cloudinit,media=cdrom","net0":"virtio,bridge=vmbr0","digest":"a"}"#,
        );
        let after =
            config(r#"{"cores":"2","net0":"bridge=vmbr0,model=virtio","boot":"order=scsi0","digest":"b"}"#);
        assert_eq!(differing(&before, &after), ["boot", "ide2"]);
    }
}
