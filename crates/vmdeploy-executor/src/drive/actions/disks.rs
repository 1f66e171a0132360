//! Disks: imported, grown, moved, handed over, freed.

use crate::drive::job::{Done, Job, Seen, gone, volumes_of};
use crate::{Failure, FailureKind, Found, TookEffect};
use pve_api::{MoveDisk, Params, QemuConfig};
use pve_config::Bus;
use pve_ssh::command::{Command, pvesm, qm};
use pve_ssh::parse;
use pve_types::{Bytes, NodeName, StorageId, Vmid, VolumeId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use vmdeploy_planner::plan::{Action, DiskSource, GuestRef, ImportAction, MoveAction, Ref, Transport};

/// How long a list of a storage's volumes is shared between guests that are made.
const SHARED_FOR: Duration = Duration::from_secs(30);

impl Job {
    /// Imports an image as a disk. Before, it writes down which volumes the guest has, so that whatever happens, the
    /// one that the import made can be told from the others.
    pub(super) async fn import_disk(&self, action: &ImportAction) -> Result<Done, Failure> {
        let ImportAction { guest, slot, source, storage, format, attach, digest } = action;
        let slot = &slot.to_string();
        if self.probe {
            self.reattach().await?;
        }
        let seen = self.config(guest).await?;
        self.check_still_ours(guest, &seen.config)?;
        if self.probe {
            if let Some(volume) = self.imported_before(guest, slot, *attach).await? {
                return Ok(self.found_done(Done::volume(volume)));
            }
            self.found(Found::NotDone);
            self.free_half_imported(guest, &seen, storage).await?;
        }
        if !self.probe && digest.is_some() && *digest != seen.config.digest {
            let text =
                format!("the configuration of VM {} has changed since the plan was created", guest.vmid);
            return Err(Failure::new(FailureKind::DigestChanged, text));
        }
        let in_slot = volumes_of(&seen.config).remove(slot);
        if let (true, Some(volume)) = (*attach || self.step.transport != Transport::Ssh, in_slot) {
            let text = format!("`{slot}` of VM {} has {volume} already", guest.vmid);
            return Err(Failure::new(FailureKind::SlotOccupied, text));
        }
        let on_storage = self.volumes_on(&seen.node, storage, guest.vmid).await?;
        self.note_strays(&seen.node, &on_storage, &volumes_of(&seen.config).into_values().collect()).await;
        self.saw(volumes_of(&seen.config).into_values().chain(on_storage)).await?;
        let source = match source {
            DiskSource::Path(path) => path.clone(),
            // `qm importdisk` accepts only a path.
            DiskSource::Volume(volume) if self.step.transport == Transport::Ssh => {
                let found = self.run(&seen.node, &pvesm::path(&self.resolve(volume)?)).await?;
                found.stdout.trim().to_owned()
            }
            DiskSource::Volume(volume) => self.resolve(volume)?.to_string(),
        };
        if self.step.transport == Transport::Ssh {
            let command =
                import_command(guest.vmid, &source, storage, format.as_deref(), attach.then_some(slot));
            let output = self.run(&seen.node, &command).await?;
            return match parse::imported_disk(&output.stdout) {
                Ok(disk) => Ok(Done::volume(disk.volume)),
                Err(_) => self.read_back(guest, slot, *attach).await,
            };
        }
        let value = format!("{storage}:0,import-from={source}");
        let value = format.iter().fold(value, |value, format| format!("{value},format={format}"));
        // With the digest of what was seen, only one of two attempts makes a volume.
        let params = Params::new().with(slot, value).with_some("digest", seen.config.digest.as_deref());
        let task = self.qemu(guest).set_config_async(params).await?;
        let finished = match task {
            Some(task) => Some(self.follow(task).await?),
            None => None,
        };
        Ok(self.read_back(guest, slot, true).await?.with(finished))
    }

    /// Says which volumes of the guest's number are there that no guest names: an earlier run may have left them whose
    /// journal is not at hand. They may as well be of a person, and are left alone.
    pub(super) async fn note_strays(&self, node: &NodeName, there: &[VolumeId], named: &BTreeSet<VolumeId>) {
        for volume in
            there.iter().filter(|volume| !named.contains(*volume) && !self.shared.is_of_this_run(volume))
        {
            let is_stray = match volume.owner() {
                Some(vmid) => self.is_nobodys(volume, vmid).await.unwrap_or(false),
                None => false,
            };
            if is_stray {
                self.note(format!(
                    "volume {volume} is on {node}, and no guest names it: an earlier run may have left it; `pvesm free {volume}` there removes it"
                ));
            }
        }
    }

    /// Returns the volumes of a guest's number on a storage.
    pub(super) async fn volumes_on(
        &self,
        node: &NodeName,
        storage: &StorageId,
        vmid: Vmid,
    ) -> Result<Vec<VolumeId>, Failure> {
        if self.shared.connections.is_pvesh() {
            // `pvesm` lists a storage in two thirds of the time that `pvesh` takes.
            let listed = self.listed(node, &pvesm::list_of(storage, vmid)).await?;
            return Ok(listed.into_iter().filter(|volume| volume.owner() == Some(vmid)).collect());
        }
        let place = self.shared.connections.api().node(node).storage(storage);
        let filter = pve_api::ContentFilter { vmid: Some(vmid), ..pve_api::ContentFilter::default() };
        // Images and snippets of the storage are listed, too: they belong to no VM.
        let found = place.content(&filter).await?.into_iter().map(|found| found.volid);
        Ok(found.filter(|volume| volume.owner() == Some(vmid)).collect())
    }

    /// Returns the volumes of a number that no guest has yet.
    ///
    /// Where a list takes half a second of the node's processors, guests that are made within some seconds share it: only
    /// we make guests of these numbers.
    pub(super) async fn volumes_before(
        &self,
        node: &NodeName,
        storage: &StorageId,
        vmid: Vmid,
    ) -> Result<Vec<VolumeId>, Failure> {
        if !self.shared.connections.is_pvesh() {
            return self.volumes_on(node, storage, vmid).await;
        }
        let shared = self.shared_list(node, storage).await?;
        let has_some = shared.iter().any(|volume| volume.owner() == Some(vmid));
        // The list is read again if this run has deleted a volume since.
        if has_some { self.volumes_on(node, storage, vmid).await } else { Ok(Vec::new()) }
    }

    /// Returns the volumes of a storage, as they were some seconds ago at most.
    async fn shared_list(&self, node: &NodeName, storage: &StorageId) -> Result<Arc<[VolumeId]>, Failure> {
        // Callers that arrive during the listing wait for it and share the result.
        let shared = self.shared.list_of(node, storage);
        let mut list = shared.lock().await;
        if let Some((at, volumes)) = &*list
            && at.elapsed() < SHARED_FOR
        {
            return Ok(volumes.clone());
        }
        let at = tokio::time::Instant::now();
        let volumes: Arc<[VolumeId]> = self.listed(node, &pvesm::list(storage)).await?.into();
        *list = Some((at, volumes.clone()));
        Ok(volumes)
    }

    /// Lists the storages of a node that guests which this run makes by commands get volumes on. Where one cannot be
    /// listed, the callers that need the list get the error.
    pub(super) async fn list_ahead(&self, node: &NodeName) {
        if !self.shared.connections.is_pvesh() {
            return;
        }
        let steps = self.shared.plan.steps.iter().map(|step| &step.action);
        let made =
            steps.filter(|action| matches!(action, Action::CreateVm { guest, .. } if guest.node == *node));
        let storages: BTreeSet<StorageId> = made.flat_map(crate::describe::fills).collect();
        futures::future::join_all(storages.iter().map(|storage| self.shared_list(node, storage))).await;
    }

    async fn listed(&self, node: &NodeName, list: &Command) -> Result<Vec<VolumeId>, Failure> {
        let output = self.run(node, list).await?;
        let rows = parse::pvesm_list(&output.stdout).map_err(pve_ssh::Error::from)?;
        Ok(rows.into_iter().map(|row| row.volume).collect())
    }

    /// Frees what an import of this step left when it was ended in its midst: a volume of the guest's number that was
    /// not there when the journal looked, right before the import, and that no configuration names.
    async fn free_half_imported(
        &self,
        guest: &GuestRef,
        seen: &Seen,
        storage: &StorageId,
    ) -> Result<(), Failure> {
        let Some(before) = self.history.volumes_before.clone() else { return Ok(()) };
        let named: BTreeSet<VolumeId> = volumes_of(&seen.config).into_values().collect();
        for volume in self.volumes_on(&seen.node, storage, guest.vmid).await? {
            if before.contains(&volume) || named.contains(&volume) || self.shared.is_of_this_run(&volume) {
                continue;
            }
            self.found(Found::Partly { what: half_made(&volume) });
            self.free_volume(&seen.node, &Ref::Known(volume)).await?;
        }
        Ok(())
    }

    async fn read_back(&self, guest: &GuestRef, slot: &str, attach: bool) -> Result<Done, Failure> {
        self.imported_before(guest, slot, attach).await?.map(Done::volume).ok_or_else(|| {
            let text = format!("the import succeeded, but VM {} has no new disk", guest.vmid);
            Failure::new(FailureKind::Answer, text).effect(TookEffect::Maybe)
        })
    }

    /// Returns the volume that an import of this step made: the one in its slot, or the new unused one.
    async fn imported_before(
        &self,
        guest: &GuestRef,
        slot: &str,
        attach: bool,
    ) -> Result<Option<VolumeId>, Failure> {
        let seen = self.look(guest).await?.ok_or_else(|| gone(guest))?;
        let before = self.history.volumes_before.clone().unwrap_or_default();
        let is_new = |volume: &VolumeId| !before.contains(volume) && !self.shared.is_of_this_run(volume);
        let mut new = volumes_of(&seen.config)
            .into_iter()
            .filter(|(key, volume)| is_new(volume) && if attach { key == slot } else { is_unused(key) })
            .map(|(_, volume)| volume);
        Ok(new.next())
    }

    /// Grows a disk; does nothing where it is that large already. Reads the size back, since `qm resize` exits 0
    /// whatever happened.
    pub(super) async fn resize_disk(
        &self,
        guest: &GuestRef,
        slot: &str,
        size: Bytes,
        volume: Option<&VolumeId>,
    ) -> Result<Done, Failure> {
        if self.probe {
            self.reattach().await?;
        }
        let seen = self.config(guest).await?;
        self.check_still_ours(guest, &seen.config)?;
        if let Some(volume) = volume {
            holds(guest, &seen.config, slot, volume)?;
        }
        if size_of(&seen.config, slot).is_some_and(|now| now >= size) {
            return Ok(if self.probe { self.found_done(Done::plain()) } else { Done::already() });
        }
        let desired = size.to_pve_size();
        let finished = match self.step.transport {
            Transport::Ssh => {
                let command = qm::disk_resize(guest.vmid, slot, &desired);
                let output = self.run(&seen.node, &command).await?;
                if let kind @ (FailureKind::ConfigLock | FailureKind::GuestLocked) =
                    crate::kind_of(&output.stderr)
                {
                    return Err(Failure::new(kind, output.stderr));
                }
                None
            }
            Transport::Api | Transport::Local => {
                match self.qemu_at(&seen.node, guest.vmid).resize(slot, &desired).await? {
                    Some(task) => Some(self.follow(task).await?),
                    None => None,
                }
            }
        };
        let now = size_of(&self.config(guest).await?.config, slot);
        if now.is_some_and(|now| now >= size) {
            return Ok(Done::plain().with(finished));
        }
        let now = now.map_or_else(|| "unknown".to_owned(), |now| now.to_pve_size());
        let text = format!("`{slot}` of VM {} was resized to {desired}, but its size is {now}", guest.vmid);
        Err(Failure::new(FailureKind::Resize, text).effect(TookEffect::Maybe))
    }

    /// Copies a disk to another storage, where it is the planned one still. PVE then deletes the old volume, whosesoever
    /// it is.
    // PVE: qemu-server src/PVE/API2/Qemu.pm move_vm_disk: the source is freed without a look at its owner.
    pub(super) async fn move_disk(&self, action: &MoveAction) -> Result<Done, Failure> {
        let MoveAction { guest, slot, volume, storage, format } = action;
        let slot = &slot.to_string();
        if self.probe {
            self.reattach().await?;
        }
        let seen = self.config(guest).await?;
        self.check_still_ours(guest, &seen.config)?;
        if let Some(volume) = volumes_of(&seen.config).remove(slot)
            && volume.storage() == storage
        {
            let done = Done::volume(volume);
            return Ok(if self.probe { self.found_done(done) } else { done });
        }
        holds(guest, &seen.config, slot, volume)?;
        // With the digest of what was seen, an attempt that comes late moves nothing else.
        let how = MoveDisk {
            disk: slot.clone(),
            storage: Some(storage.clone()),
            format: format.clone(),
            delete_original: true,
            digest: seen.config.digest,
            ..MoveDisk::default()
        };
        let task = self.qemu(guest).move_disk(&how).await?;
        let finished = self.follow(task).await?;
        match self.volume_in(guest, slot).await? {
            Some(volume) if volume.storage() == storage => Ok(Done::volume(volume).with(Some(finished))),
            _ => Err(moved_nowhere(guest, slot)),
        }
    }

    async fn volume_in(&self, guest: &GuestRef, slot: &str) -> Result<Option<VolumeId>, Failure> {
        let seen = self.config(guest).await?;
        Ok(volumes_of(&seen.config).remove(slot))
    }

    /// Hands a disk to the holder, and reads it back there: only then may its old owner be deleted.
    pub(super) async fn reassign_disk(
        &self,
        guest: &GuestRef,
        slot: &str,
        volume: &VolumeId,
        holder: Vmid,
    ) -> Result<Done, Failure> {
        if self.probe {
            self.reattach().await?;
        }
        let there = self.holder(guest, holder).await?;
        let seen = self.config(guest).await?;
        self.check_still_ours(guest, &seen.config)?;
        let given = volumes_of(&seen.config).remove(slot);
        let before: BTreeSet<VolumeId> = match (&self.history.volumes_before, self.probe) {
            (Some(volumes), true) => volumes.clone(),
            _ => volumes_of(&there.config).into_values().collect(),
        };
        if given.is_none() {
            let volume = new_unused(&there.config, &before);
            let text = format!("`{slot}` of VM {} has no disk to hand over", guest.vmid);
            let volume = volume.ok_or_else(|| Failure::new(FailureKind::SlotOccupied, text))?;
            return Ok(self.found_done(Done::volume(volume)));
        }
        holds(guest, &seen.config, slot, volume)?;
        self.saw(before.iter().cloned()).await?;
        let how = MoveDisk {
            disk: slot.to_owned(),
            target_vmid: Some(holder),
            target_disk: Some(free_unused(&there.config)),
            digest: seen.config.digest,
            ..MoveDisk::default()
        };
        let task = self.qemu(guest).move_disk(&how).await?;
        let finished = self.follow(task).await?;
        let there = self.holder(guest, holder).await?;
        let volume = new_unused(&there.config, &before).ok_or_else(|| moved_nowhere(guest, slot))?;
        Ok(Done::volume(volume).with(Some(finished)))
    }

    pub(super) async fn holder(&self, guest: &GuestRef, holder: Vmid) -> Result<Seen, Failure> {
        let node = self.find_node(holder).await?.unwrap_or_else(|| self.node_of(guest));
        let config = self.qemu_at(&node, holder).config().await?;
        Ok(Seen { node, config })
    }

    /// Frees a volume, as a step of its own: only one that this run made.
    pub(super) async fn free_own_volume(
        &self,
        node: &NodeName,
        volume: &Ref<VolumeId>,
    ) -> Result<Done, Failure> {
        let known = self.resolve(volume)?;
        if !self.shared.is_of_this_run(&known) {
            let text = format!("volume {known} is not recorded in this run's journal");
            return Err(Failure::new(FailureKind::NotOurs, text).at(node));
        }
        self.free_volume(node, volume).await
    }

    /// Frees a volume that this run created, after making sure that no configuration of its owner names it.
    pub(super) async fn free_volume(&self, node: &NodeName, volume: &Ref<VolumeId>) -> Result<Done, Failure> {
        let volume = self.resolve(volume)?;
        if !self.is_there(node, &volume).await? {
            return Ok(Done::already());
        }
        match self.step.transport {
            Transport::Ssh => drop(self.run(node, &pvesm::free(&volume)).await?),
            Transport::Api | Transport::Local => {
                let storage = self.shared.connections.api().node(node).storage(volume.storage());
                if let Some(task) = storage.free(&volume).await? {
                    self.follow(task).await?;
                }
            }
        }
        // `pvesm free` exits 0 even where its task failed.
        match self.is_there(node, &volume).await? {
            false => Ok(Done::plain()),
            true => {
                let text = format!("volume {volume} still exists");
                Err(Failure::new(FailureKind::TaskFailed, text).effect(TookEffect::Maybe))
            }
        }
    }

    /// Tells whether the volume exists on its storage.
    pub(super) async fn is_there(&self, node: &NodeName, volume: &VolumeId) -> Result<bool, Failure> {
        let storage = self.shared.connections.api().node(node).storage(volume.storage());
        let filter = pve_api::ContentFilter { vmid: volume.owner(), ..pve_api::ContentFilter::default() };
        Ok(storage.content(&filter).await?.iter().any(|found| found.volid == *volume))
    }
}

/// Says of a volume that an attempt left it; so the journal names what is freed.
pub(super) fn half_made(volume: &VolumeId) -> String {
    format!("deletes the incomplete volume {volume}")
}

/// Returns the import command: the old name where the disk stays unused, which every version knows.
fn import_command(
    vmid: Vmid,
    source: &str,
    storage: &StorageId,
    format: Option<&str>,
    slot: Option<&String>,
) -> Command {
    let command = match slot {
        Some(slot) => qm::disk_import_to(vmid, source, storage, slot),
        None => qm::importdisk(vmid, source, storage),
    };
    format.into_iter().fold(command, |command, format| command.option("format", format))
}

/// Refuses a slot that holds another volume than the plan was made with.
fn holds(guest: &GuestRef, config: &QemuConfig, slot: &str, planned: &VolumeId) -> Result<(), Failure> {
    let there = volumes_of(config).remove(slot);
    if there.as_ref() == Some(planned) {
        return Ok(());
    }
    let there = there.map_or_else(|| "nothing".to_owned(), |volume| volume.to_string());
    let text = format!("`{slot}` of VM {} has {there}, but the plan expects {planned}", guest.vmid);
    Err(Failure::new(FailureKind::DigestChanged, text))
}

/// Returns the size that PVE noted for a disk.
pub(super) fn size_of(config: &QemuConfig, slot: &str) -> Option<Bytes> {
    pve_config::Drive::parse(slot, config.get(slot)?).ok()?.size()
}

/// Returns the lowest free `unusedN`.
pub(super) fn free_unused(config: &QemuConfig) -> String {
    let free = (0..256).map(|number| format!("unused{number}")).find(|slot| config.get(slot).is_none());
    free.unwrap_or_else(|| "unused0".to_owned())
}

pub(super) fn new_unused(config: &QemuConfig, before: &BTreeSet<VolumeId>) -> Option<VolumeId> {
    let is_new = |(key, volume): &(String, VolumeId)| is_unused(key) && !before.contains(volume);
    volumes_of(config).into_iter().find(is_new).map(|(_, volume)| volume)
}

fn is_unused(key: &str) -> bool {
    Bus::of_key(key) == Some(Bus::Unused)
}

fn moved_nowhere(guest: &GuestRef, slot: &str) -> Failure {
    let text = format!("`{slot}` of VM {} was moved, but is not on the expected storage", guest.vmid);
    Failure::new(FailureKind::Answer, text).effect(TookEffect::Maybe)
}
