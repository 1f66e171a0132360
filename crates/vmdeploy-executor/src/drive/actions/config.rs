//! Changing a guest's configuration.

use super::late::Effect;
use super::patch::{Ready, Sent, missing};
use crate::drive::job::{Done, Job, volumes_of};
use crate::{Failure, FailureKind, Found, Outcome, TookEffect};
use pve_api::QemuConfig;
use pve_ssh::command::{Command, files, qm};
use pve_types::{NodeName, StorageId, Vmid, VolumeId};
use std::collections::BTreeSet;
use std::time::Duration;
use vmdeploy_planner::plan::{Action, ConfigPatch, GuestRef, SecretForm, Step, Transport, Verb};

/// How often an earlier attempt may come through while what it left rolled back is being sent.
const LATE_CHANGES: usize = 2;

impl Job {
    /// Sets and removes options in one call.
    ///
    /// Neither transport is a transaction. When it had begun before, what it allocated is found by reading, and only the
    /// rest is sent again; setting a value twice changes nothing.
    pub(super) async fn set_config(
        &self,
        guest: &GuestRef,
        patch: &ConfigPatch,
        digest: Option<&str>,
    ) -> Result<Done, Failure> {
        let patch = &self.on_what_is_there(guest, patch).await?;
        if !self.probe {
            let seen = self.refuse_occupied(guest, patch).await?;
            // A later look tells the volumes that this makes from those that were there.
            if let Some(seen) = &seen {
                self.saw(volumes_of(seen).into_values()).await?;
            }
            let seen = seen.and_then(|seen| seen.digest);
            let ready = self.ready(patch).await?;
            self.saw_before_allocating(guest, patch).await?;
            return self.send_config(guest, patch, ready, digest.or(seen.as_deref())).await;
        }
        self.reattach().await?;
        let had_digest = digest.is_some() || !allocating_slots(patch).is_empty();
        // An attempt that named no digest is kept out by nothing but time.
        if !had_digest
            && self.is_overwritten_later(guest, patch)
            && let Some(done) = self.came_through(guest, Effect::Set(patch)).await?
        {
            return Ok(done);
        }
        for _ in 0..LATE_CHANGES {
            match self.set_missing(guest, patch).await {
                // The earlier attempt came through meanwhile.
                Err(failure) if failure.kind == FailureKind::DigestChanged => {}
                other => return other,
            }
        }
        self.set_missing(guest, patch).await
    }

    /// Sends the part of the patch that is not applied yet, unless the guest was changed in the meantime.
    async fn set_missing(&self, guest: &GuestRef, patch: &ConfigPatch) -> Result<Done, Failure> {
        let seen = self.config(guest).await?;
        let rest = missing(patch, &seen.config);
        let found = match () {
            () if rest.is_empty() => Found::Done { outcome: Outcome::Done },
            () if rest == *patch => Found::NotDone,
            () => Found::Partly { what: "some of the options".to_owned() },
        };
        self.found(found);
        let ready = self.ready(&rest).await?;
        if ready.is_empty() {
            return Ok(Done::plain());
        }
        self.saw_before_allocating(guest, &rest).await?;
        // The digest of the plan no longer fits after a change of our own; that of now keeps out an attempt that is late.
        self.send_config(guest, &rest, ready, seen.config.digest.as_deref()).await
    }

    /// Writes down which volumes of its number a guest has before a change makes one for it, so that a revert can tell
    /// them apart. A guest that this run makes is removed with all its volumes.
    async fn saw_before_allocating(&self, guest: &GuestRef, patch: &ConfigPatch) -> Result<(), Failure> {
        let storages: BTreeSet<StorageId> = patch
            .set
            .values()
            .filter_map(vmdeploy_planner::plan::PatchValue::allocates_on)
            .cloned()
            .collect();
        if storages.is_empty() || self.is_created_here(guest) {
            return Ok(());
        }
        let seen = self.config(guest).await?;
        let mut volumes: Vec<VolumeId> = volumes_of(&seen.config).into_values().collect();
        for storage in storages {
            volumes.extend(self.volumes_on(&seen.node, &storage, guest.vmid).await?);
        }
        self.saw(volumes).await
    }

    /// Refuses to make a volume for a slot that holds one: PVE would silently detach the old one.
    ///
    /// Returns what it saw. Its digest, sent along, sees to it that of two attempts only one makes a volume.
    async fn refuse_occupied(
        &self,
        guest: &GuestRef,
        patch: &ConfigPatch,
    ) -> Result<Option<QemuConfig>, Failure> {
        let slots = allocating_slots(patch);
        if slots.is_empty() {
            return Ok(None);
        }
        let config = self.config(guest).await?.config;
        let volumes = volumes_of(&config);
        match slots.into_iter().find_map(|slot| Some((slot, volumes.get(slot)?))) {
            None => Ok(Some(config)),
            Some((slot, volume)) => {
                let text = format!("`{slot}` of VM {} has {volume} already", guest.vmid);
                Err(Failure::new(FailureKind::SlotOccupied, text))
            }
        }
    }

    async fn send_config(
        &self,
        guest: &GuestRef,
        patch: &ConfigPatch,
        ready: Ready,
        digest: Option<&str>,
    ) -> Result<Done, Failure> {
        let done = match self.step.transport {
            Transport::Ssh => {
                self.qm_set(&self.node_of(guest), guest.vmid, &ready, digest).await?;
                Done::plain()
            }
            Transport::Api | Transport::Local => self.put_config(guest, patch, ready, digest).await?,
        };
        self.with_pending(guest, patch, done).await
    }

    async fn put_config(
        &self,
        guest: &GuestRef,
        patch: &ConfigPatch,
        mut ready: Ready,
        digest: Option<&str>,
    ) -> Result<Done, Failure> {
        let hashes = if self.shared.connections.is_pvesh() { ready.split_off_hashes() } else { Vec::new() };
        let params = ready.params().with_some("digest", digest);
        let qemu = self.qemu(guest);
        // What allocates may take long; as a task it is followed, and found again.
        let done = if patch.set.values().any(|value| value.allocates_on().is_some()) {
            let finished = match qemu.set_config_async(params).await? {
                Some(task) => Some(self.follow(task).await?),
                None => None,
            };
            Done::plain().with(finished)
        } else {
            if !ready.is_empty() {
                qemu.set_config(params).await?;
            }
            Done::plain()
        };
        if !hashes.is_empty() {
            let ready = Ready { set: hashes, delete: Vec::new() };
            self.qm_set(&self.node_of(guest), guest.vmid, &ready, None).await?;
        }
        Ok(done)
    }

    /// Runs one `qm set`.
    pub(super) async fn qm_set(
        &self,
        node: &NodeName,
        vmid: Vmid,
        ready: &Ready,
        digest: Option<&str>,
    ) -> Result<(), Failure> {
        let command = Command::new("qm").arg("set").arg(vmid.to_string());
        let command = digest.into_iter().fold(command, |command, digest| command.option("digest", digest));
        self.qm_with(node, vmid, command, ready).await.map(|_| ())
    }

    /// Runs a `qm` command with the values as its options.
    pub(super) async fn qm_with(
        &self,
        node: &NodeName,
        vmid: Vmid,
        mut command: Command,
        ready: &Ready,
    ) -> Result<pve_ssh::Output, Failure> {
        let mut placed = None;
        for (key, sent) in &ready.set {
            command = match sent {
                Sent::Text(text) => command.option(key, text),
                Sent::Secret(hash, SecretForm::Sha512Crypt) => command.secret_option(key, hash),
                Sent::Secret(_, SecretForm::Clear) => return Err(clear_on_a_command_line(key)),
                Sent::Keys(keys) => {
                    let folder = self.place_keys(node, vmid, keys).await?;
                    let command = command.option(key, key_file_in(&folder));
                    placed = Some(folder);
                    command
                }
            };
        }
        if !ready.delete.is_empty() {
            command = command.option("delete", ready.delete.join(","));
        }
        let outcome = self.run(node, &command).await;
        if let Some(folder) = placed {
            // The file holds public keys only; that it could not be removed is not a failure of the step.
            let host = self.host(node).await?;
            for command in [files::remove(&key_file_in(&folder)), files::rmdir(&folder)] {
                let _ = host.run_to_success(&command, Duration::from_secs(20)).await;
            }
        }
        outcome
    }

    /// Returns the folder on a node in which a command of this run finds public keys for the guest.
    fn key_folder(&self, vmid: Vmid) -> String {
        format!("/run/vmdeploy-{}-{vmid}", self.shared.plan.run_id)
    }

    /// Puts public keys into a file, from which `qm set --sshkeys` reads them, and returns its folder: one of
    /// this step alone, where only root can create or change anything.
    async fn place_keys(&self, node: &NodeName, vmid: Vmid, keys: &str) -> Result<String, Failure> {
        let folder = self.key_folder(vmid);
        let nothing_done = |error| Failure::from(error).at(node).effect(TookEffect::No);
        let host = self.host(node).await?;
        let made = host.run_to_success(&files::mkdir_private(&folder), Duration::from_secs(20)).await;
        made.map_err(nothing_done)?;
        // Without a line feed at the end, so that the value is the same as by API.
        let upload = pve_ssh::Upload::private_text(keys, key_file_in(&folder));
        host.upload(&upload, &mut |_, _| {}).await.map_err(nothing_done)?;
        Ok(folder)
    }

    /// Tells whether this step, or where it makes the guest any of the guest's steps, puts keys on the node.
    fn may_have_placed_keys(&self, guest: &GuestRef) -> bool {
        let places = |step: &Step| match &step.action {
            Action::CreateVm { config, .. } | Action::SetConfig { patch: config, .. } => {
                step.transport == Transport::Ssh && config.set.contains_key("sshkeys")
            }
            _ => false,
        };
        match &self.step.action {
            Action::CreateVm { .. } => self.shared.steps_of(&guest.name).any(places),
            _ => places(&self.step),
        }
    }

    /// Removes the folder of public keys that a dead process of this run may have left on the node.
    pub(crate) async fn sweep_keys(&self) {
        if !self.shared.is_resumed() {
            return;
        }
        let Some(guest) = self.step.action.guest().filter(|guest| self.may_have_placed_keys(guest)) else {
            return;
        };
        let Ok(host) = self.host(&self.node_of(guest)).await else { return };
        let folder = self.key_folder(guest.vmid);
        // The transfer may have been cut off, too: what it left has a name of its own. Most times nothing is there.
        let command = Command::new("rm").args(["-r", "-f", "--"]).arg(&folder);
        let options = pve_ssh::RunOptions::within(Duration::from_secs(20));
        let _ = host.run(&command, options, &mut |_, _| {}).await;
    }

    /// Finds out what of a change waits for a restart; a VM that is being made does not run.
    async fn with_pending(&self, guest: &GuestRef, patch: &ConfigPatch, done: Done) -> Result<Done, Failure> {
        let is_new = self.shared.plan.changes.iter().any(|change| {
            change.guest.vmid == guest.vmid && matches!(change.verb, Verb::Create | Verb::Replace)
        });
        if is_new {
            return Ok(done);
        }
        let pending = self.qemu(guest).pending().await?;
        let concerns = |key: &String| patch.set.contains_key(key) || patch.delete.contains(key);
        let keys: Vec<String> = pending
            .into_iter()
            .filter(|value| value.is_pending())
            .map(|value| value.key)
            .filter(concerns)
            .collect();
        let outcome = if keys.is_empty() { done.outcome } else { Outcome::Pending { keys } };
        Ok(Done { outcome, ..done })
    }

    pub(super) async fn regenerate_cloud_init(&self, guest: &GuestRef) -> Result<Done, Failure> {
        match self.step.transport {
            Transport::Ssh => drop(self.run(&self.node_of(guest), &qm::cloudinit_update(guest.vmid)).await?),
            Transport::Api | Transport::Local => self.qemu(guest).cloud_init_regenerate().await?,
        }
        Ok(Done::plain())
    }
}

fn key_file_in(folder: &str) -> String {
    format!("{folder}/keys.pub")
}

/// Returns the slots for which the patch makes a volume.
fn allocating_slots(patch: &ConfigPatch) -> Vec<&String> {
    patch.set.iter().filter(|(_, value)| value.allocates_on().is_some()).map(|(slot, _)| slot).collect()
}

fn clear_on_a_command_line(key: &str) -> Failure {
    let text =
        format!("`{key}` must be sent unhashed, but other users of the node could read it on a command line");
    Failure::new(FailureKind::Secret, text)
        .hint("use a transport with API access for this VM: `transport: hybrid`, `auto` or `api`")
}
