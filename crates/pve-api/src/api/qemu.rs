//! `/nodes/{node}/qemu`: VMs.

use super::{Agent, Node, Snapshots};
use crate::client::Place;
use crate::error::ApiError;
use crate::request::Params;
use crate::tasks::Task;
use pve_types::{NodeName, PoolId, PowerState, StorageId, Upid, Vmid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A VM in a node's list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QemuItem {
    /// Its number.
    pub vmid: Vmid,
    /// Its name.
    pub name: Option<String>,
    /// `running` or `stopped`.
    pub status: Option<String>,
    /// QEMU's own state, such as `paused`; only where it was asked for.
    pub qmpstatus: Option<String>,
    /// Whether it is a template.
    pub template: Option<bool>,
    /// Its tags, joined by `;`.
    pub tags: Option<String>,
    /// The lock on its configuration.
    pub lock: Option<String>,
    /// CPUs it may use.
    pub cpus: Option<f64>,
    /// Memory, in bytes.
    pub maxmem: Option<u64>,
    /// The size of its boot disk, in bytes.
    pub maxdisk: Option<u64>,
    /// How long it runs, in seconds.
    pub uptime: Option<u64>,
    /// Its process on the node.
    pub pid: Option<u64>,
}

impl QemuItem {
    /// Returns whether it runs; a paused guest shows only in [`Node::qemu_list_full`].
    pub fn power(&self) -> PowerState {
        PowerState::read(self.status.as_deref(), self.qmpstatus.as_deref())
    }
}

/// A VM's state at the moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QemuStatus {
    /// Its number.
    pub vmid: Option<Vmid>,
    /// Its name; `VM 100` where it has none.
    pub name: Option<String>,
    /// `running` or `stopped`.
    pub status: String,
    /// QEMU's own state: `running`, `paused`, `prelaunch`, `io-error` …
    pub qmpstatus: Option<String>,
    /// Whether a guest agent is configured; absent means no.
    pub agent: Option<bool>,
    /// Whether it is a template.
    pub template: Option<bool>,
    /// The lock on its configuration.
    pub lock: Option<String>,
    /// Its tags, joined by `;`.
    pub tags: Option<String>,
    /// CPUs it may use.
    pub cpus: Option<f64>,
    /// The share of them that is in use, 0 to 1.
    pub cpu: Option<f64>,
    /// Memory in use, in bytes.
    pub mem: Option<u64>,
    /// Memory, in bytes.
    pub maxmem: Option<u64>,
    /// The size of its boot disk, in bytes.
    pub maxdisk: Option<u64>,
    /// How long it runs, in seconds.
    pub uptime: Option<u64>,
    /// Its process on the node.
    pub pid: Option<u64>,
    /// Bytes received.
    pub netin: Option<u64>,
    /// Bytes sent.
    pub netout: Option<u64>,
    /// What HA says of it.
    pub ha: Option<HaManaged>,
    /// The machine it runs as, while it runs.
    #[serde(rename = "running-machine")]
    pub running_machine: Option<String>,
    /// The QEMU it runs on, while it runs.
    #[serde(rename = "running-qemu")]
    pub running_qemu: Option<String>,
}

impl QemuStatus {
    /// Returns whether it runs.
    pub fn power(&self) -> PowerState {
        PowerState::read(Some(&self.status), self.qmpstatus.as_deref())
    }
    /// Tells whether it runs, be it paused.
    pub fn is_running(&self) -> bool {
        self.power().is_on()
    }
    /// Tells whether it runs as another process than it did then: it was restarted since.
    pub fn is_restart_of(&self, before: &Self) -> bool {
        self.power() == PowerState::Running
            && (matches!((self.pid, before.pid), (Some(now), Some(then)) if now != then)
                || self.uptime < before.uptime)
    }
}

/// What HA says of a guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HaManaged {
    /// Whether HA manages it.
    #[serde(default)]
    pub managed: bool,
    /// The state that HA wants or has.
    pub state: Option<String>,
}

/// A VM's configuration: every key with its value as text, and the digest of the whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct QemuConfig {
    /// The SHA-1 of the configuration file, to be sent along with a change.
    pub digest: Option<String>,
    /// The values by key, without the digest. `cipassword` is shown by PVE as asterisks.
    pub values: BTreeMap<String, String>,
}

impl QemuConfig {
    /// Returns the value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }
    /// Tells whether the agent is switched on: `1`, `enabled=1,…`.
    // PVE: qemu-server src/PVE/QemuServer/Agent.pm, $agent_fmt.
    pub fn agent_enabled(&self) -> bool {
        self.get("agent").is_some_and(|text| pve_config::Agent::parse(text).is_ok_and(|agent| agent.enabled))
    }
    /// Returns the MAC addresses of its NICs by slot, `net0` first.
    pub fn mac_addresses(&self) -> Vec<(pve_config::DeviceSlot, pve_types::MacAddr)> {
        pve_config::mac_addresses(&self.values)
    }
}

impl<'de> Deserialize<'de> for QemuConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
        let text = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Bool(flag) => u8::from(flag).to_string(),
            other => other.to_string(),
        };
        let mut values: BTreeMap<String, String> =
            raw.into_iter().map(|(key, value)| (key, text(value))).collect();
        let digest = values.remove("digest");
        Ok(Self { digest, values })
    }
}

/// A key of a configuration, and what it will be after the next start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PendingValue {
    /// The key.
    pub key: String,
    /// What holds now.
    pub value: Option<String>,
    /// What will hold.
    pub pending: Option<String>,
    /// 1 if it will be gone, 2 if by force.
    pub delete: Option<u8>,
}

impl PendingValue {
    /// Tells whether something changes with the next start.
    pub fn is_pending(&self) -> bool {
        self.pending.is_some() || self.delete.is_some_and(|delete| delete > 0)
    }
}

/// A cloud-init key, and its value after the drive is regenerated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CloudInitValue {
    /// The key.
    pub key: String,
    /// What holds now.
    pub value: Option<String>,
    /// What will hold.
    #[serde(alias = "new")]
    pub pending: Option<String>,
    /// What the drive holds.
    pub old: Option<String>,
    /// 1 if it will be gone.
    pub delete: Option<u8>,
}

/// Which of the documents on the cloud-init drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloudInitPart {
    /// `user-data`.
    User,
    /// `network-config`.
    Network,
    /// `meta-data`.
    Meta,
}

/// How to shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shutdown {
    /// How long the guest may take, in seconds; else what `startup` says, or 60.
    pub timeout_s: Option<u32>,
    /// Whether to pull the plug after that.
    pub force_stop: bool,
}

/// How to delete a VM. The default leaves everything that its configuration does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeleteVm {
    /// Whether to remove it from backup jobs, replication, HA and firewall too.
    pub purge: bool,
    /// Whether to free volumes of its number that its configuration does not name.
    pub destroy_unreferenced_disks: bool,
}

/// How to clone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CloneVm {
    /// The new VM's number; required.
    pub new_vmid: Option<Vmid>,
    /// Its name.
    pub name: Option<String>,
    /// Its description.
    pub description: Option<String>,
    /// Its pool.
    pub pool: Option<PoolId>,
    /// Whether to copy the disks of a template instead of linking to them. Others are always copied.
    pub full: Option<bool>,
    /// Where copies go.
    pub storage: Option<StorageId>,
    /// The format of copies on a file storage.
    pub format: Option<String>,
    /// The snapshot to clone.
    pub snapshot: Option<String>,
    /// The node for the clone, where all disks are shared.
    pub target: Option<NodeName>,
    /// A limit in KiB/s.
    pub bwlimit: Option<u64>,
}

/// How to move a disk: to another storage, or to another VM.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MoveDisk {
    /// The slot it is in; required.
    pub disk: String,
    /// The storage to move it to.
    pub storage: Option<StorageId>,
    /// Its format there.
    pub format: Option<String>,
    /// Whether to delete the original instead of keeping it as unused.
    pub delete_original: bool,
    /// The VM to hand it to.
    pub target_vmid: Option<Vmid>,
    /// The slot there.
    pub target_disk: Option<String>,
    /// The digest that the configuration must have.
    pub digest: Option<String>,
    /// The digest that the other VM's configuration must have.
    pub target_digest: Option<String>,
    /// A limit in KiB/s.
    pub bwlimit: Option<u64>,
}

/// How to migrate.
#[derive(Debug, Clone, PartialEq)]
pub struct Migrate {
    /// The node to go to.
    pub target: NodeName,
    /// Whether it runs on meanwhile.
    pub online: bool,
    /// Whether local disks move too.
    pub with_local_disks: bool,
    /// The storage for them.
    pub target_storage: Option<StorageId>,
}

/// What must hold for a migration, as the node says.
// PVE: qemu-server src/PVE/API2/Qemu.pm migrate_vm_precondition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MigrateConditions {
    /// Whether the VM runs.
    pub running: bool,
    /// The nodes to which it can be migrated offline; `None` where the node does not say.
    pub allowed_nodes: Option<Vec<NodeName>>,
    /// The disks on storages that are not shared.
    #[serde(default)]
    pub local_disks: Vec<LocalDisk>,
    /// Devices of the node that it uses, such as `hostpci0`.
    #[serde(default)]
    pub local_resources: Vec<String>,
}

/// A disk on a storage that is not shared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LocalDisk {
    /// Its volume.
    pub volid: String,
    /// Whether it is a CD drive.
    #[serde(default)]
    pub cdrom: bool,
}

/// One VM.
#[derive(Debug, Clone)]
pub struct Qemu {
    pub(super) place: Place,
    vmid: Vmid,
}

impl Node {
    /// Lists its VMs that the caller may see.
    ///
    /// # Errors
    /// The call fails.
    pub async fn qemu_list(&self) -> Result<Vec<QemuItem>, ApiError> {
        self.place.join("qemu").get(Params::new()).await
    }
    /// Lists its VMs with what QEMU itself says of each, which takes longer.
    ///
    /// # Errors
    /// The call fails.
    pub async fn qemu_list_full(&self) -> Result<Vec<QemuItem>, ApiError> {
        self.place.join("qemu").get(Params::new().with("full", true)).await
    }
    /// Creates a VM. The parameters are those of its configuration, and `pool`, `start`, `storage` …
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_already_there`] if the number is taken.
    pub async fn qemu_create(&self, vmid: Vmid, params: Params) -> Result<Task, ApiError> {
        self.start_task("qemu", Params::new().with("vmid", vmid).and(params)).await
    }
}

impl Qemu {
    pub(super) fn new(place: Place, vmid: Vmid) -> Self {
        Self { place, vmid }
    }
    /// Returns its number.
    pub fn vmid(&self) -> Vmid {
        self.vmid
    }
    /// Returns its configuration, with values that are pending.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_absent`] if there is no such VM on this node.
    pub async fn config(&self) -> Result<QemuConfig, ApiError> {
        self.place.join("config").get(Params::new()).await
    }
    /// Returns the configuration it runs with, without values that are pending.
    ///
    /// # Errors
    /// As [`Qemu::config`].
    pub async fn current_config(&self) -> Result<QemuConfig, ApiError> {
        self.place.join("config").get(Params::new().with("current", true)).await
    }
    /// Returns its configuration in a snapshot.
    ///
    /// # Errors
    /// As [`Qemu::config`].
    pub async fn config_of_snapshot(&self, snapshot: &str) -> Result<QemuConfig, ApiError> {
        self.place.join("config").get(Params::new().with("snapshot", snapshot)).await
    }
    /// Changes its configuration and waits for that. It is not a transaction: see [`ApiError::effect`].
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_digest_mismatch`] if a `digest` was sent that does not hold any more.
    pub async fn set_config(&self, params: Params) -> Result<(), ApiError> {
        self.place.join("config").put(params).await
    }
    /// Changes its configuration in a task. `None` where it was done at once (`background_delay`).
    ///
    /// # Errors
    /// As [`Qemu::set_config`].
    pub async fn set_config_async(&self, params: Params) -> Result<Option<Task>, ApiError> {
        let answer: super::MaybeUpid = self.place.join("config").post(params).await?;
        Ok(answer.task(&self.place.client))
    }
    /// Lists every key with its value now and after the next start.
    ///
    /// # Errors
    /// As [`Qemu::config`].
    pub async fn pending(&self) -> Result<Vec<PendingValue>, ApiError> {
        self.place.join("pending").get(Params::new()).await
    }
    /// Returns its state.
    ///
    /// # Errors
    /// As [`Qemu::config`].
    pub async fn status(&self) -> Result<QemuStatus, ApiError> {
        self.place.join("status").join("current").get(Params::new()).await
    }
    /// Starts it. Whether it can be started shows only in the task.
    ///
    /// # Errors
    /// The call fails.
    pub async fn start(&self) -> Result<Task, ApiError> {
        self.change_state("start", Params::new()).await
    }
    /// Pulls its plug.
    ///
    /// # Errors
    /// The call fails.
    pub async fn stop(&self) -> Result<Task, ApiError> {
        self.change_state("stop", Params::new()).await
    }
    /// Pulls its plug although a shutdown is under way, which is given up. Since 8.
    ///
    /// # Errors
    /// The call fails.
    pub async fn stop_instead_of_shutdown(&self) -> Result<Task, ApiError> {
        self.change_state("stop", Params::new().with("overrule-shutdown", true)).await
    }
    /// Asks its guest to shut down.
    ///
    /// # Errors
    /// The call fails.
    pub async fn shutdown(&self, how: Shutdown) -> Result<Task, ApiError> {
        let params = Params::new()
            .with_some("timeout", how.timeout_s)
            .with_some("forceStop", how.force_stop.then_some(true));
        self.change_state("shutdown", params).await
    }
    /// Shuts it down and starts it, so that pending values take effect.
    ///
    /// # Errors
    /// The call fails, also if it does not run.
    pub async fn reboot(&self, timeout_s: Option<u32>) -> Result<Task, ApiError> {
        self.change_state("reboot", Params::new().with_some("timeout", timeout_s)).await
    }
    /// Presses its reset button.
    ///
    /// # Errors
    /// The call fails, also if it does not run.
    pub async fn reset(&self) -> Result<Task, ApiError> {
        self.change_state("reset", Params::new()).await
    }
    /// Stops its CPUs.
    ///
    /// # Errors
    /// The call fails, also if it does not run.
    pub async fn suspend(&self) -> Result<Task, ApiError> {
        self.change_state("suspend", Params::new()).await
    }
    /// Writes its memory to a storage and stops it.
    ///
    /// # Errors
    /// The call fails, also if it does not run.
    pub async fn hibernate(&self, storage: Option<&StorageId>) -> Result<Task, ApiError> {
        let params = Params::new().with("todisk", true).with_some("statestorage", storage);
        self.change_state("suspend", params).await
    }
    /// Lets its CPUs run again.
    ///
    /// # Errors
    /// The call fails, also if it does not run.
    pub async fn resume(&self) -> Result<Task, ApiError> {
        self.change_state("resume", Params::new()).await
    }
    async fn change_state(&self, verb: &str, params: Params) -> Result<Task, ApiError> {
        let upid: Upid = self.place.join("status").join(verb).post(params).await?;
        super::started(&self.place.client, upid)
    }
    /// Deletes it, with every volume that its configuration names, `unusedN` included.
    ///
    /// # Errors
    /// The call fails; it refuses a VM that runs, is protected or locked.
    pub async fn delete(&self, how: DeleteVm) -> Result<Task, ApiError> {
        let params = Params::new()
            .with_some("purge", how.purge.then_some(true))
            .with("destroy-unreferenced-disks", how.destroy_unreferenced_disks);
        let upid: Upid = self.place.delete(params).await?;
        super::started(&self.place.client, upid)
    }
    /// Clones it.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_already_there`] if the new number is taken.
    pub async fn clone_to(&self, new_vmid: Vmid, how: &CloneVm) -> Result<Task, ApiError> {
        let params = Params::new()
            .with("newid", new_vmid)
            .with_some("name", how.name.as_deref())
            .with_some("description", how.description.as_deref())
            .with_some("pool", how.pool.as_ref())
            .with_some("full", how.full)
            .with_some("storage", how.storage.as_ref())
            .with_some("format", how.format.as_deref())
            .with_some("snapname", how.snapshot.as_deref())
            .with_some("target", how.target.as_ref())
            .with_some("bwlimit", how.bwlimit);
        self.post_task("clone", params).await
    }
    /// Turns it into a template, for good.
    ///
    /// # Errors
    /// The call fails.
    pub async fn make_template(&self) -> Result<Task, ApiError> {
        self.post_task("template", Params::new()).await
    }
    /// Grows a disk to `size` (`20G`) or by it (`+20G`). `None` before 8, where it is done at once.
    ///
    /// # Errors
    /// The call fails; that a disk cannot shrink shows in the task since 8.
    pub async fn resize(&self, disk: &str, size: &str) -> Result<Option<Task>, ApiError> {
        let params = Params::new().with("disk", disk).with("size", size);
        let answer: super::MaybeUpid = self.place.join("resize").put(params).await?;
        Ok(answer.task(&self.place.client))
    }
    /// Moves a disk to another storage or to another VM.
    ///
    /// # Errors
    /// The call fails.
    pub async fn move_disk(&self, how: &MoveDisk) -> Result<Task, ApiError> {
        let params = Params::new()
            .with("disk", &how.disk)
            .with_some("storage", how.storage.as_ref())
            .with_some("format", how.format.as_deref())
            .with_some("delete", how.delete_original.then_some(true))
            .with_some("target-vmid", how.target_vmid)
            .with_some("target-disk", how.target_disk.as_deref())
            .with_some("digest", how.digest.as_deref())
            .with_some("target-digest", how.target_digest.as_deref())
            .with_some("bwlimit", how.bwlimit);
        self.post_task("move_disk", params).await
    }
    /// Detaches drives; with `force` their volumes are freed instead of kept as unused.
    ///
    /// # Errors
    /// The call fails.
    pub async fn unlink(&self, drives: &[&str], force: bool) -> Result<(), ApiError> {
        let params = Params::new()
            .with_list("idlist", drives.iter().copied())
            .with_some("force", force.then_some(true));
        self.place.join("unlink").put(params).await
    }
    /// Asks what must hold for a migration.
    ///
    /// # Errors
    /// The call fails.
    pub async fn migrate_conditions(&self) -> Result<MigrateConditions, ApiError> {
        self.place.join("migrate").get(Params::new()).await
    }
    /// Moves it to another node.
    ///
    /// # Errors
    /// The call fails.
    pub async fn migrate(&self, how: &Migrate) -> Result<Task, ApiError> {
        let params = Params::new()
            .with("target", &how.target)
            .with("online", how.online)
            .with_some("with-local-disks", how.with_local_disks.then_some(true))
            .with_some("targetstorage", how.target_storage.as_ref());
        self.post_task("migrate", params).await
    }
    async fn post_task(&self, at: &str, params: Params) -> Result<Task, ApiError> {
        let upid: Upid = self.place.join(at).post(params).await?;
        super::started(&self.place.client, upid)
    }
    /// Lists its cloud-init values and those that the drive does not have yet. Since 7.2.
    ///
    /// # Errors
    /// The call fails.
    pub async fn cloud_init(&self) -> Result<Vec<CloudInitValue>, ApiError> {
        self.place.join("cloudinit").get(Params::new()).await
    }
    /// Returns a document as it would be on the cloud-init drive.
    ///
    /// # Errors
    /// The call fails.
    pub async fn cloud_init_dump(&self, part: CloudInitPart) -> Result<String, ApiError> {
        let part = match part {
            CloudInitPart::User => "user",
            CloudInitPart::Network => "network",
            CloudInitPart::Meta => "meta",
        };
        self.place.join("cloudinit").join("dump").get(Params::new().with("type", part)).await
    }
    /// Regenerates the cloud-init drive; the guest sees it after its next start.
    ///
    /// # Errors
    /// The call fails.
    pub async fn cloud_init_regenerate(&self) -> Result<(), ApiError> {
        self.place.join("cloudinit").put(Params::new()).await
    }
    /// Presses keys, such as `ctrl-alt-delete`.
    ///
    /// # Errors
    /// The call fails.
    pub async fn send_key(&self, key: &str) -> Result<(), ApiError> {
        self.place.join("sendkey").put(Params::new().with("key", key)).await
    }
    /// Returns its snapshots.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots::new(self.place.join("snapshot"))
    }
    /// Returns its guest agent.
    pub fn agent(&self) -> Agent {
        Agent::new(self.place.join("agent"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> QemuConfig {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_configuration_is_texts_and_a_digest() {
        let config = config(r#"{"digest":"abc","cores":2,"memory":"2048","onboot":true,"name":"web"}"#);
        assert_eq!(config.digest.as_deref(), Some("abc"));
        assert_eq!((config.get("cores"), config.get("onboot")), (Some("2"), Some("1")));
        assert_eq!(config.get("digest"), None);
    }

    #[test]
    fn the_agent_is_on_where_its_property_string_says_so() {
        let check = |agent: &str, expect| {
            assert_eq!(config(&format!(r#"{{"agent":"{agent}"}}"#)).agent_enabled(), expect, "{agent}");
        };
        check("1", true);
        check("enabled=1,fstrim_cloned_disks=1", true);
        check("fstrim_cloned_disks=1,enabled=1", true);
        check("0", false);
        check("type=virtio", false);
        assert!(!config("{}").agent_enabled());
    }

    #[test]
    fn mac_addresses_come_in_the_order_of_their_slots() {
        let config = config(
            r#"{"net10":"virtio=BC:24:11:00:00:0A,bridge=vmbr0","net2":"model=e1000,macaddr=BC:24:11:00:00:02","net0":"virtio=BC:24:11:00:00:00","network":"x","net1":"virtio,bridge=vmbr0"}"#,
        );
        let slots: Vec<String> = config.mac_addresses().iter().map(|(slot, _)| slot.to_string()).collect();
        assert_eq!(slots, ["net0", "net2", "net10"]);
    }
}
