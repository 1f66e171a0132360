//! From what PVE says to a kind of failure, and from a kind to what a person may do. One table, used for both transports.

use super::{Failure, FailureKind as K};
use pve_types::{DestroyObstacle, NodeName, PveError, Vmid};

/// Returns the kind of failure that a text of PVE tells, and `Refused` for an unknown text.
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
        E::NodeUnreachable => K::NodeUnreachable,
        E::NodeSilent => K::NoAnswer,
        E::VmidTaken => K::VmidTaken,
        E::AlreadyExists | E::NotRunning | E::IsTemplate | E::NothingToDo => K::Refused,
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
        E::AgentNotRunning | E::AgentTimeout => K::AgentNotRunning,
        E::Hotplug => K::Hotplug,
        E::GuestGone => K::GuestGone,
        E::DestroyRefused => K::DestroyRefused,
        E::DigestChanged => K::DigestChanged,
        E::ImageUnfit => K::ImageUnfit,
        E::Unauthenticated => K::Unauthenticated,
    }
}

/// Tells whether another attempt may succeed without user action.
pub fn is_passing(kind: K) -> bool {
    matches!(
        kind,
        K::ConfigLock
            | K::StorageLock
            | K::GuestLocked
            | K::NoAnswer
            | K::Unreachable
            | K::NodeUnreachable
            | K::GuestGone
            | K::NodeBusy
            | K::MonitorTimeout
    )
}

/// How a run goes on once the cause of its failure is removed. It is written as the end of a hint: `then run {next}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// The run is resumed.
    Resume,
    /// There is nothing to resume: the command that made the plan is given once more.
    SameCommand,
}

impl std::fmt::Display for NextStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Resume => "`vmdeploy resume`",
            Self::SameCommand => "the same command again",
        })
    }
}

/// The guest and node that a hint refers to.
#[derive(Debug, Clone, Copy)]
struct About<'a> {
    /// The guest's number.
    vmid: Option<Vmid>,
    /// The node.
    node: Option<&'a NodeName>,
    /// What PVE said.
    said: &'a str,
}

/// Returns what a person may do about a failure; `None` where its text says it already.
fn hint_of(kind: K, about: About<'_>, next: NextStep) -> Option<String> {
    let vmid = about.vmid.map_or_else(|| "VMID".to_owned(), |vmid| vmid.to_string());
    let node = about.node.map_or("the node", NodeName::as_str);
    Some(match kind {
        K::ConfigLock => format!("another task works on VM {vmid}; see `pvesh get /cluster/tasks`, then run {next}"),
        K::StorageLock => format!("another task works on the storage; see `pvesh get /cluster/tasks`, then run {next}"),
        K::NodeBusy => format!("{node} has no free process for it; lower `limits`, or wait, then run {next}"),
        K::MonitorTimeout => format!("QEMU on {node} does not answer in time; `qm status {vmid} --verbose` shows more, then run {next}"),
        K::ShutdownTimeout => format!("the guest ignores the shutdown request; `vmdeploy shutdown --force` stops it after the timeout, `qm stop {vmid}` on {node} at once"),
        K::GuestLocked => format!(
            "wait for the backup, clone or migration to end, then run {next}; if no task runs, the lock is stale: \
             `qm unlock {vmid}` on {node}"
        ),
        K::VmidTaken => format!("use another `vmid:`, or inspect the guest with `qm config {vmid}` on its node"),
        K::NoAnswer => format!("{next} finds out whether it was done, and goes on"),
        K::TaskFailed | K::CommandFailed => format!("remove the cause, then run {next}"),
        K::SlotOccupied => "the disk slot is in use; `vmdeploy plan` shows the current state".into(),
        K::Resize => "a disk can only grow; set at least its current size".into(),
        K::StorageUnfit => format!("check `pvesm status` on {node}; enable the storage or its content type, or use another storage"),
        K::StorageFull => format!("free or add space, then run {next}"),
        K::Forbidden => "`vmdeploy check-token` shows which privilege is missing, `vmdeploy fix-token` grants it".into(),
        K::RootOnly => "use `transport: hybrid` or `transport: ssh`, which do this as root, or remove the option from the spec".into(),
        K::Version => "this PVE version does not support the request; `vmdeploy plan` creates a new plan for the version it finds".into(),
        K::Unauthenticated => "check PROXMOX_API_USER and PROXMOX_API_PASSWORD; `vmdeploy doctor` shows details".into(),
        K::Untrusted => "if you changed it, pin the new fingerprint or host key; otherwise this may be a man-in-the-middle attack".into(),
        K::AgentNotConfigured => "set `agent: true` for the VM and restart it".into(),
        K::AgentNotRunning => format!("check that qemu-guest-agent is installed and running in the guest; `qm terminal {vmid}` on {node} shows the console"),
        K::NoAddress => "check the NIC's bridge and VLAN, and the cloud-init network settings".into(),
        K::NotReady => format!("look at the guest's console: `qm terminal {vmid}` on {node}; then run {next}"),
        K::Hotplug => format!("the change is pending until a restart: restart the VM with `vmdeploy reboot`; `qm pending {vmid}` on {node} shows it"),
        K::GuestGone => "`vmdeploy plan` shows its current node".into(),
        K::DestroyRefused => destroy_hint(DestroyObstacle::of(about.said), &vmid),
        K::NotOurs => format!("`qm config {vmid}` on {node} shows its ownership marker; `vmdeploy adopt {vmid} --project NAME` prints a spec that adopts it"),
        K::DigestChanged => "`vmdeploy plan` shows a new plan".into(),
        K::NoQuorum => "`pvecm status` on a node shows which nodes are missing; changes are refused until they are back".into(),
        K::NodeUnreachable => format!(
            "the contacted node cannot reach {node}: check `pvesh get /nodes` and `pvecm status`, \
             then run {next}"
        ),
        K::Unreachable => format!(
            "check PROXMOX_API_HOST, PROXMOX_SSH_HOST and the network (`vmdeploy doctor` shows details), then run {next}"
        ),
        K::Deadline => format!("it may still go on; {next} finds out"),
        K::ImageUnfit => "check the image and its checksum in the spec; `vmdeploy image check` shows details".into(),
        K::Interrupted => format!("{next} goes on from here"),
        K::AlreadyRunning => format!("`qm status {vmid}` on {node} shows details"),
        K::Secret | K::Refused | K::Answer | K::Internal | K::OtherCluster => return None,
    })
}

fn destroy_hint(obstacle: DestroyObstacle, vmid: &str) -> String {
    match obstacle {
        DestroyObstacle::Protection => {
            format!("disable `protection` first: in the spec, or with `qm set {vmid} --protection 0`")
        }
        DestroyObstacle::HighAvailability => {
            format!("remove it from high availability: `ha-manager remove vm:{vmid}`")
        }
        DestroyObstacle::LinkedClones => "destroy the linked clones first".to_owned(),
        DestroyObstacle::Replication => {
            format!("remove the replication job first: `pvesr list` shows the jobs of VM {vmid}")
        }
        DestroyObstacle::Running => format!("stop it first: `qm shutdown {vmid}`"),
    }
}

/// Returns a hint and, where it is another one, what it becomes when the run cannot be resumed.
fn two_hints(resume: Option<String>, again: Option<String>) -> (Option<String>, Option<String>) {
    let again = again.filter(|again| resume.as_ref() != Some(again));
    (resume, again)
}

impl Failure {
    /// Says what to do, and how the run goes on afterwards.
    #[must_use]
    pub(crate) fn hint_then(mut self, hint: impl Fn(NextStep) -> String) -> Self {
        let (resume, again) = (hint(NextStep::Resume), hint(NextStep::SameCommand));
        (self.hint, self.hint_without_run) = two_hints(Some(resume), Some(again));
        self
    }
    /// Adds the hint that fits its kind, unless it has one.
    #[must_use]
    pub(crate) fn with_usual_hint(mut self, vmid: Option<Vmid>) -> Self {
        if self.hint.is_none() {
            let about = About { vmid, node: self.node.as_ref(), said: &self.message };
            let hint = |next| hint_of(self.kind, about, next);
            (self.hint, self.hint_without_run) =
                two_hints(hint(NextStep::Resume), hint(NextStep::SameCommand));
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
    fn what_cannot_be_resumed_is_done_by_the_same_command() {
        let failure = Failure::new(K::StorageFull, "no space").with_usual_hint(None);
        assert_eq!(failure.hint.as_deref(), Some("free or add space, then run `vmdeploy resume`"));
        let reverted = failure.of_what_is_reverted();
        assert_eq!(reverted.hint.as_deref(), Some("free or add space, then run the same command again"));
        assert_eq!(reverted.clone().of_what_is_reverted(), reverted);
        let own = Failure::new(K::Refused, "no").hint("`vmdeploy resume` is a word like any other here");
        assert_eq!(own.clone().of_what_is_reverted(), own);
    }

    #[test]
    fn nearly_every_kind_tells_what_to_do() {
        let about = About { vmid: Vmid::new(201).ok(), node: None, said: "" };
        let hint_of = |kind| hint_of(kind, about, NextStep::Resume);
        let silent = [K::Secret, K::Refused, K::Answer, K::Internal];
        for kind in
            [K::ConfigLock, K::GuestLocked, K::VmidTaken, K::Forbidden, K::DestroyRefused, K::Interrupted]
        {
            assert!(hint_of(kind).is_some_and(|hint| !hint.ends_with('.')), "{kind:?}");
        }
        assert!(silent.iter().all(|kind| hint_of(*kind).is_none()));
    }
}
