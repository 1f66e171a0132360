//! From what PVE says to a kind of failure, and from a kind to what a person may do. One table, used for both transports.

use super::{Failure, FailureKind as K};
use pve_types::{NodeName, PveError, Vmid};

/// Returns the kind of failure that a text of PVE tells, and `Refused` for a text that nobody knows.
pub fn kind_of(said: &str) -> K {
    pve_types::read_error(said).map_or(K::Refused, |told| kind_of_error(told.error))
}

/// Returns the kind of an error of PVE.
pub(super) fn kind_of_error(error: PveError) -> K {
    use PveError as E;
    match error {
        E::NoQuorum => K::NoQuorum,
        E::ConfigLock => K::ConfigLock,
        E::StorageLock => K::StorageLock,
        E::GuestLocked => K::GuestLocked,
        E::WorkerNotStarted | E::NoResources | E::TooManyRequests => K::NodeBusy,
        E::Monitor => K::MonitorTimeout,
        E::NodeUnreachable => K::Unreachable,
        E::NodeSilent => K::NoAnswer,
        E::VmidTaken => K::VmidTaken,
        E::AlreadyExists => K::Refused,
        E::AlreadyRunning => K::AlreadyRunning,
        E::SlotOccupied => K::SlotOccupied,
        E::ShutdownTimeout => K::ShutdownTimeout,
        E::Shrink => K::Resize,
        E::StorageFull => K::StorageFull,
        E::StorageUnfit => K::StorageUnfit,
        E::RootOnly => K::RootOnly,
        E::Forbidden => K::Forbidden,
        E::Version => K::Version,
        E::AgentNotConfigured => K::AgentNotConfigured,
        E::AgentNotRunning => K::AgentNotRunning,
        E::Hotplug => K::Hotplug,
        E::GuestGone => K::GuestGone,
        E::DestroyRefused => K::DestroyRefused,
        E::DigestChanged => K::DigestChanged,
        E::ImageUnfit => K::ImageUnfit,
        E::Unauthenticated => K::Unauthenticated,
    }
}

/// Tells whether another attempt may succeed without anybody doing something.
pub fn is_passing(kind: K) -> bool {
    matches!(
        kind,
        K::ConfigLock
            | K::StorageLock
            | K::GuestLocked
            | K::NoAnswer
            | K::Unreachable
            | K::GuestGone
            | K::NodeBusy
            | K::MonitorTimeout
    )
}

/// Whom a hint is about.
#[derive(Debug, Clone, Copy, Default)]
pub struct About<'a> {
    /// The guest's number.
    pub vmid: Option<Vmid>,
    /// The node.
    pub node: Option<&'a NodeName>,
    /// What PVE said.
    pub said: &'a str,
}

/// Returns what a person may do about a failure; `None` where its text says it already.
pub fn hint_of(kind: K, about: About<'_>) -> Option<String> {
    let vmid = about.vmid.map_or_else(|| "VMID".to_owned(), |vmid| vmid.to_string());
    let node = about.node.map_or("the node", NodeName::as_str);
    Some(match kind {
        K::ConfigLock => format!("another task works on VM {vmid}; see `pvesh get /cluster/tasks`, then `vmdeploy resume`"),
        K::StorageLock => "another task works on the storage; see `pvesh get /cluster/tasks`, then `vmdeploy resume`".into(),
        K::NodeBusy => format!("{node} has no free process for it; lower `limits`, or wait, then `vmdeploy resume`"),
        K::MonitorTimeout => format!("QEMU on {node} does not answer in time; `qm status {vmid} --verbose` shows more, then `vmdeploy resume`"),
        K::ShutdownTimeout => format!("the guest ignores the shutdown request; `vmdeploy shutdown --force` stops it after the timeout, `qm stop {vmid}` on {node} at once"),
        K::GuestLocked => format!(
            "wait for the backup, clone or migration to end, then `vmdeploy resume`; if no task runs, the lock is stale: \
             `qm unlock {vmid}` on {node}"
        ),
        K::VmidTaken => format!("give the VM another `vmid:`, or look at the guest with `qm config {vmid}` on its node"),
        K::NoAnswer => "`vmdeploy resume` finds out whether it was done, and goes on".into(),
        K::TaskFailed | K::CommandFailed => "remove the cause, then `vmdeploy resume`".into(),
        K::SlotOccupied => "the disk slot is taken; `vmdeploy plan` shows what is there".into(),
        K::Resize => "a disk can only grow; give it at least its present size".into(),
        K::StorageUnfit => format!("see `pvesm status` on {node}; enable the storage or its content type, or choose another"),
        K::StorageFull => "free or add space, then `vmdeploy resume`".into(),
        K::Forbidden => "`vmdeploy check-token` shows which privilege is missing, `vmdeploy fix-token` grants it".into(),
        K::RootOnly => "use `transport: hybrid` or `transport: ssh`, which do this as root, or take the option out of the spec".into(),
        K::Version => "this PVE does it in another way; `vmdeploy plan` makes the plan anew for the version that it finds".into(),
        K::Unauthenticated => "check PROXMOX_API_USER and PROXMOX_API_PASSWORD; `vmdeploy doctor` tells more".into(),
        K::Untrusted => "if the change is yours, pin the new fingerprint or host key; else somebody is in between".into(),
        K::AgentNotConfigured => "set `agent: true` for the VM and restart it".into(),
        K::AgentNotRunning => format!("is qemu-guest-agent installed and started in the image? `qm terminal {vmid}` on {node} shows the console"),
        K::NoAddress => "check the NIC's bridge and VLAN, and the cloud-init network settings".into(),
        K::NotReady => format!("look at the guest's console: `qm terminal {vmid}` on {node}; then `vmdeploy resume`"),
        K::Hotplug => format!("the change waits for a restart: `vmdeploy reboot` the VM, or `qm pending {vmid}` on {node} shows it"),
        K::GuestGone => "`vmdeploy plan` shows where it is now".into(),
        K::DestroyRefused => destroy_hint(about.said, &vmid),
        K::NotOurs => format!("`qm config {vmid}` on {node} shows whose it is; the spec that `vmdeploy adopt {vmid} --project NAME` prints takes it over"),
        K::DigestChanged => "`vmdeploy plan` shows what it would do now".into(),
        K::NoQuorum => "`pvecm status` on a node shows which nodes are missing; nothing can be changed until they are back".into(),
        K::Unreachable if about.said.contains("was refused with") => format!(
            "the node that was asked does not reach {node}; is it up? `pvesh get /nodes` and `pvecm status` tell, \
             then `vmdeploy resume`"
        ),
        K::Unreachable => {
            "check PROXMOX_API_HOST, PROXMOX_SSH_HOST and the network (`vmdeploy doctor` tells more), then `vmdeploy resume`"
                .into()
        }
        K::Deadline => "it may still go on; `vmdeploy resume` finds out".into(),
        K::ImageUnfit => "check the image and its checksum in the spec; `vmdeploy image check` tells more".into(),
        K::Interrupted => "`vmdeploy resume` goes on from here".into(),
        K::AlreadyRunning => format!("`qm status {vmid}` on {node} shows since when"),
        K::Secret | K::Refused | K::Answer | K::Internal | K::OtherCluster => return None,
    })
}

fn destroy_hint(said: &str, vmid: &str) -> String {
    match () {
        () if said.contains("protection") => {
            format!("take `protection` off first: `qm set {vmid} --protection 0`, or in the spec")
        }
        () if said.contains("HA resources") => {
            format!("take it out of high availability: `ha-manager remove vm:{vmid}`")
        }
        () if said.contains("linked clone") => "destroy the clones first".to_owned(),
        () if said.contains("replication") => {
            format!("remove the replication job first: `pvesr list` shows those of VM {vmid}")
        }
        () => format!("stop it first: `qm shutdown {vmid}`"),
    }
}

impl Failure {
    /// Adds the hint that fits its kind, unless it has one.
    #[must_use]
    pub(crate) fn with_usual_hint(mut self, vmid: Option<Vmid>) -> Self {
        if self.hint.is_none() {
            let about = About { vmid, node: self.node.as_ref(), said: &self.message };
            self.hint = hint_of(self.kind, about);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pve_says_is_understood() {
        let check = |said: &str, expect: K| assert_eq!(kind_of(said), expect, "{said}");
        check("can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout", K::ConfigLock);
        check("cfs-lock 'storage-ceph' error: got lock request timeout", K::StorageLock);
        check("can't lock file '/var/lock/pve-manager/pve-storage-local' - got timeout", K::StorageLock);
        check("VM is locked (backup)", K::GuestLocked);
        check("unable to create VM 100 - VM 100 already exists on node 'pve1'", K::VmidTaken);
        check("unable to create VM 101: config file already exists", K::VmidTaken);
        check("storage 'x' is disabled", K::StorageUnfit);
        check("unable to create VM 100 - storage 'fast' does not exist", K::StorageUnfit);
        check("copy failed: … No space left on device", K::StorageFull);
        check("Permission check failed (/vms/100, VM.Allocate)", K::Forbidden);
        check("only root can set 'args' config", K::RootOnly);
        check("Only root can pass arbitrary filesystem paths.", K::RootOnly);
        check("invalid parameter 'group': ha groups have been migrated to rules", K::Version);
        check("No QEMU guest agent configured", K::AgentNotConfigured);
        check("VM 100 qga command 'guest-ping' failed - got timeout", K::AgentNotRunning);
        check("hotplug problem - unable to unplug", K::Hotplug);
        check("VM 100 is running - destroy failed", K::DestroyRefused);
        check("can't remove VM 100 - protection mode enabled", K::DestroyRefused);
        check("checksum mismatch (file change by other user?)", K::DigestChanged);
        check("checksum mismatch: got 'x' desired 'y'", K::ImageUnfit);
        check("cluster not ready - no quorum?", K::NoQuorum);
        check("got no worker upid - start worker failed", K::NodeBusy);
        check("got wrong command id '1:2' (expected 1:3)", K::MonitorTimeout);
        check("VM quit/powerdown failed - got timeout", K::ShutdownTimeout);
        check("something new", K::Refused);
    }

    #[test]
    fn nearly_every_kind_tells_what_to_do() {
        let about = About { vmid: Vmid::new(201).ok(), node: None, said: "" };
        let silent = [K::Secret, K::Refused, K::Answer, K::Internal];
        for kind in
            [K::ConfigLock, K::GuestLocked, K::VmidTaken, K::Forbidden, K::DestroyRefused, K::Interrupted]
        {
            assert!(hint_of(kind, about).is_some_and(|hint| !hint.ends_with('.')), "{kind:?}");
        }
        assert!(silent.iter().all(|kind| hint_of(*kind, about).is_none()));
    }
}
