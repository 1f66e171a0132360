//! What PVE's error texts and HTTP statuses mean: one table for the API and for the command line.
//!
//! Each row cites where PVE says it. A row tells three things: what happened, whether the call that ended so may have
//! changed something, and what a caller may do next.
//!
//! ```
//! use pve_types::{PveError, Reaction, TookEffect, read_error};
//! let told = read_error("got no worker upid - start worker failed").unwrap();
//! assert_eq!(told.error, PveError::WorkerNotStarted);
//! assert_eq!((told.effect(), told.reaction()), (TookEffect::No, Reaction::Retry));
//! ```

mod presence;

pub use presence::{DestroyObstacle, says_absent, says_already_there};

use crate::TookEffect;

/// What went wrong on the server, as far as callers treat it differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PveError {
    /// The cluster has no quorum.
    NoQuorum,
    /// The guest's configuration file is locked by another process.
    ConfigLock,
    /// A storage or a file of the cluster is locked by another process.
    StorageLock,
    /// The guest's configuration has a `lock`.
    GuestLocked,
    /// The server could not start the process that does the work.
    WorkerNotStarted,
    /// The server has no process, port or cluster file system to work with at the moment.
    NoResources,
    /// The server refuses because too many requests come at once.
    TooManyRequests,
    /// QEMU's monitor did not answer in time, or answered another question.
    Monitor,
    /// The proxy did not reach the node: nothing arrived there.
    NodeUnreachable,
    /// The proxy lost the node after it had sent the request.
    NodeSilent,
    /// The VMID belongs to a guest.
    VmidTaken,
    /// Something of that name exists.
    AlreadyExists,
    /// The disk slot holds a disk.
    SlotOccupied,
    /// The guest runs already.
    AlreadyRunning,
    /// The guest did not shut down in time.
    ShutdownTimeout,
    /// A disk would have to shrink.
    Shrink,
    /// The storage or file system is full.
    StorageFull,
    /// The storage is absent, disabled, offline, or does not take this content.
    StorageUnfit,
    /// Only root@pam may do it.
    RootOnly,
    /// The credentials may not do it.
    Forbidden,
    /// This version of PVE does it in another way.
    Version,
    /// The guest's configuration names no agent.
    AgentNotConfigured,
    /// The guest agent is not there.
    AgentNotRunning,
    /// The guest agent did not answer in time.
    AgentTimeout,
    /// The guest does not run.
    NotRunning,
    /// The guest is a template, which cannot be started.
    IsTemplate,
    /// The request asks for nothing.
    NothingToDo,
    /// A change could not be made to the running guest.
    Hotplug,
    /// The guest's configuration file does not exist on this node.
    GuestGone,
    /// PVE refuses to destroy the guest as it is.
    DestroyRefused,
    /// Another user changed the configuration since it was read.
    DigestChanged,
    /// A file, image or checksum is not what it should be.
    ImageUnfit,
    /// The credentials were refused.
    Unauthenticated,
}

impl PveError {
    /// Tells whether the error passes without anything being done about it.
    pub fn is_passing(self) -> bool {
        matches!(
            self,
            Self::ConfigLock
                | Self::StorageLock
                | Self::WorkerNotStarted
                | Self::NoResources
                | Self::TooManyRequests
                | Self::Monitor
                | Self::NodeUnreachable
                | Self::NodeSilent
        )
    }
}

/// What a caller may do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reaction {
    /// Send the same call again after a pause.
    Retry,
    /// Read what is there, and do only what is missing.
    Probe,
    /// Stop: another attempt fails in the same way.
    Stop,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The parts of the text, in their order. The text is only this error when it begins with the first of them.
    pub parts: &'static [&'static str],
    /// What it means.
    pub error: PveError,
    /// Whether the call changed something when the text is only this error.
    pub effect: TookEffect,
    /// What may be done.
    pub reaction: Reaction,
    /// Where PVE says it.
    pub source: &'static str,
}

const fn row(
    parts: &'static [&'static str],
    error: PveError,
    effect: TookEffect,
    reaction: Reaction,
    source: &'static str,
) -> Row {
    Row { parts, error, effect, reaction, source }
}

use PveError as E;
use Reaction::{Probe, Retry, Stop};
use TookEffect::{Maybe, No};

const LOCK_FILE: &str = "pve-common src/PVE/Tools.pm lock_file_full";
const CFS_LOCK: &str = "pve-cluster src/PVE/Cluster.pm cfs_lock";
const FORK: &str = "pve-common src/PVE/RESTEnvironment.pm fork_worker";
const QMP: &str = "qemu-server src/PVE/QMPClient.pm";
const GUEST: &str = "pve-guest-common src/PVE/AbstractConfig.pm";
const QEMU_API: &str = "qemu-server src/PVE/API2/Qemu.pm";
const QEMU: &str = "qemu-server src/PVE/QemuServer.pm";
const AGENT: &str = "qemu-server src/PVE/QemuServer/Agent.pm";
const STORAGE: &str = "pve-storage src/PVE/Storage.pm, src/PVE/Storage/*.pm";
const ACCESS: &str = "pve-access-control src/PVE/RPCEnvironment.pm";

/// The texts: the first row all of whose parts occur is the one that counts, so order matters.
pub const TEXTS: &[Row] = &[
    row(
        &["cluster not ready - no quorum?"],
        E::NoQuorum,
        No,
        Stop,
        "pve-cluster src/PVE/Cluster.pm check_cfs_quorum",
    ),
    row(&["cfs-lock '", "' error: no quorum!"], E::NoQuorum, No, Stop, CFS_LOCK),
    row(&["no quorum"], E::NoQuorum, Maybe, Stop, CFS_LOCK),
    row(&["cfs-lock '", "' error: got lock request timeout"], E::StorageLock, No, Retry, CFS_LOCK),
    row(&["cfs-lock '", "' error: pve cluster filesystem not online"], E::NoResources, No, Retry, CFS_LOCK),
    row(&["got lock request timeout"], E::StorageLock, No, Retry, CFS_LOCK),
    row(&["'-locked command timed out - aborting"], E::StorageLock, Maybe, Probe, CFS_LOCK),
    row(
        &["can't lock file '/var/lock/pve-manager/pve-storage-", "got timeout"],
        E::StorageLock,
        No,
        Retry,
        LOCK_FILE,
    ),
    row(&["can't lock file '", "got timeout"], E::ConfigLock, No, Retry, LOCK_FILE),
    row(&["can't acquire lock '"], E::ConfigLock, No, Retry, LOCK_FILE),
    row(&["VM is locked (", ")"], E::GuestLocked, No, Retry, GUEST),
    row(&["CT is locked (", ")"], E::GuestLocked, No, Retry, GUEST),
    row(&[" is locked (", ")"], E::GuestLocked, Maybe, Probe, GUEST),
    row(&["got no worker upid - start worker failed"], E::WorkerNotStarted, No, Retry, FORK),
    row(&["got strange worker upid", "start worker failed"], E::WorkerNotStarted, No, Retry, FORK),
    row(&["starting worker failed: "], E::WorkerNotStarted, No, Retry, FORK),
    row(&["unable to fork worker"], E::WorkerNotStarted, No, Retry, FORK),
    row(&["unable to read process start time"], E::WorkerNotStarted, No, Retry, FORK),
    row(&["parent setup error"], E::WorkerNotStarted, No, Retry, FORK),
    row(
        &["unable to find free port ("],
        E::NoResources,
        Maybe,
        Probe,
        "pve-common src/PVE/Tools.pm next_unused_port",
    ),
    row(
        &["unable to find a free "],
        E::NoResources,
        Maybe,
        Probe,
        "pve-common src/PVE/Tools.pm next_unused_port",
    ),
    row(
        &["ipcc_send_rec[", "] failed: "],
        E::NoResources,
        Maybe,
        Probe,
        "pve-cluster src/PVE/Cluster.pm ipcc_send_rec",
    ),
    row(&["pve cluster filesystem not online"], E::NoResources, No, Retry, CFS_LOCK),
    row(&["qga command", "got timeout"], E::AgentTimeout, Maybe, Probe, QMP),
    row(&["QEMU guest agent is not running"], E::AgentNotRunning, No, Probe, AGENT),
    row(&["No QEMU guest agent configured"], E::AgentNotConfigured, No, Stop, AGENT),
    row(&["got wrong command id '"], E::Monitor, Maybe, Probe, QMP),
    row(&[" qmp command '", "' failed - got timeout"], E::Monitor, Maybe, Probe, QMP),
    row(&[" qmp command '", "' failed - client closed connection"], E::Monitor, Maybe, Probe, QMP),
    row(&[" qmp command '", "' failed - unable to connect to "], E::Monitor, Maybe, Probe, QMP),
    row(&["unable to connect to VM ", " socket - "], E::Monitor, Maybe, Probe, QMP),
    row(&["client closed connection"], E::Monitor, Maybe, Probe, QMP),
    row(
        &["VM quit/powerdown failed"],
        E::ShutdownTimeout,
        Maybe,
        Stop,
        "qemu-server src/PVE/QemuServer.pm _do_vm_stop",
    ),
    row(&["you can't start a vm if it's a template"], E::IsTemplate, No, Stop, QEMU),
    row(&["no options specified"], E::NothingToDo, No, Stop, QEMU_API),
    row(
        &["hostname lookup '", "' failed"],
        E::NodeUnreachable,
        No,
        Retry,
        "pve-common src/PVE/Tools.pm getaddrinfo_all: the name is looked up before the request is handed on",
    ),
    row(
        &["VM ", " already running"],
        E::AlreadyRunning,
        No,
        Stop,
        "qemu-server src/PVE/QemuServer.pm vm_start",
    ),
    row(&["unable to create VM ", "already exists"], E::VmidTaken, No, Stop, QEMU_API),
    row(&["config file already exists"], E::VmidTaken, No, Stop, QEMU_API),
    row(&["cowardly refusing to overwrite existing entry"], E::SlotOccupied, Maybe, Stop, QEMU_API),
    row(&["shrinking disks is not supported"], E::Shrink, Maybe, Stop, QEMU_API),
    row(&["No space left on device"], E::StorageFull, Maybe, Stop, STORAGE),
    row(&["not enough free space"], E::StorageFull, Maybe, Stop, STORAGE),
    row(&["insufficient free space"], E::StorageFull, Maybe, Stop, STORAGE),
    row(&["out of space"], E::StorageFull, Maybe, Stop, STORAGE),
    row(&["thin pool", "reached threshold"], E::StorageFull, Maybe, Stop, STORAGE),
    row(&["storage '", "' does not exist"], E::StorageUnfit, Maybe, Stop, STORAGE),
    row(&["storage '", "' is disabled"], E::StorageUnfit, Maybe, Stop, STORAGE),
    row(&["storage '", "is not online"], E::StorageUnfit, Maybe, Stop, STORAGE),
    row(&["storage '", "is not available on node"], E::StorageUnfit, Maybe, Stop, STORAGE),
    row(&["does not support vm images"], E::StorageUnfit, Maybe, Stop, QEMU_API),
    row(&["does not support content-type"], E::StorageUnfit, Maybe, Stop, STORAGE),
    row(&["unable to activate storage"], E::StorageUnfit, Maybe, Stop, STORAGE),
    row(&["No such storage"], E::StorageUnfit, Maybe, Stop, STORAGE),
    row(&["no such volume group"], E::StorageUnfit, Maybe, Stop, STORAGE),
    row(&["Only root can pass arbitrary filesystem paths"], E::RootOnly, Maybe, Stop, QEMU_API),
    row(&["only root can set"], E::RootOnly, No, Stop, QEMU_API),
    row(&["Only root may"], E::RootOnly, Maybe, Stop, QEMU_API),
    row(&["only root may"], E::RootOnly, Maybe, Stop, QEMU_API),
    row(&["Permission check failed"], E::Forbidden, Maybe, Stop, ACCESS),
    row(&["permission denied"], E::Forbidden, Maybe, Stop, ACCESS),
    row(
        &["Permission denied"],
        E::NoQuorum,
        Maybe,
        Stop,
        "pve-cluster src/pmxcfs: without quorum /etc/pve is read-only",
    ),
    row(
        &["ha groups have been migrated to rules"],
        E::Version,
        Maybe,
        Stop,
        "pve-ha-manager src/PVE/API2/HA/Groups.pm",
    ),
    row(&["unknown command"], E::Version, Maybe, Stop, "pve-common src/PVE/CLIHandler.pm"),
    row(&["property is not defined in schema"], E::Version, Maybe, Stop, "pve-common src/PVE/JSONSchema.pm"),
    row(&["hotplug problem"], E::Hotplug, Maybe, Stop, QEMU),
    row(&["unable to apply pending change"], E::Hotplug, Maybe, Stop, QEMU),
    row(&["Configuration file 'nodes/", "does not exist"], E::GuestGone, No, Stop, GUEST),
    row(&["Configuration file '", "does not exist"], E::GuestGone, Maybe, Stop, GUEST),
    row(
        &["unable to find configuration file for "],
        E::GuestGone,
        No,
        Stop,
        "qemu-server src/PVE/QemuConfig.pm",
    ),
    row(&["VM ", "is running - destroy failed"], E::DestroyRefused, No, Stop, QEMU_API),
    row(&["destroy failed"], E::DestroyRefused, Maybe, Stop, QEMU_API),
    row(&["VM ", " is not running"], E::NotRunning, Maybe, Stop, QEMU),
    row(&["protection mode enabled"], E::DestroyRefused, Maybe, Stop, GUEST),
    row(&["used in HA resources"], E::DestroyRefused, Maybe, Stop, QEMU_API),
    row(&["replication job"], E::DestroyRefused, Maybe, Stop, QEMU_API),
    row(&["still in use by linked clone"], E::DestroyRefused, Maybe, Stop, QEMU),
    row(&["checksum mismatch (file change by other user?)"], E::DigestChanged, No, Stop, QEMU_API),
    row(
        &["detected modified configuration - file change"],
        E::DigestChanged,
        No,
        Stop,
        "pve-common src/PVE/Tools.pm assert_if_modified",
    ),
    row(&["non-existent or non-regular file"], E::ImageUnfit, Maybe, Stop, QEMU_API),
    row(&["Could not open", "qcow2"], E::ImageUnfit, Maybe, Stop, STORAGE),
    row(
        &["checksum mismatch"],
        E::ImageUnfit,
        Maybe,
        Stop,
        "pve-storage src/PVE/API2/Storage/Status.pm download_url",
    ),
    row(&["authentication failure"], E::Unauthenticated, No, Stop, ACCESS),
    row(&["invalid token"], E::Unauthenticated, No, Stop, ACCESS),
];

/// The HTTP statuses that mean something before any text is read, with what they mean. `effect` is that of a write.
///
/// 595 to 599 are AnyEvent::HTTP's own: no connection; broken while sending or before the answer; broken within the
/// answer; given up; anything else, such as a kept connection that the other side had closed.
pub const STATUSES: &[(u16, PveError, TookEffect, Reaction, &str)] = &[
    (429, E::TooManyRequests, No, Retry, "a proxy in front of PVE"),
    (502, E::NodeSilent, Maybe, Probe, "a proxy in front of PVE"),
    (503, E::NodeSilent, Maybe, Probe, "a proxy in front of PVE"),
    (504, E::NodeSilent, Maybe, Probe, "a proxy in front of PVE"),
    (595, E::NodeUnreachable, No, Retry, "pve-http-server src/PVE/APIServer/AnyEvent.pm proxy_request"),
    (596, E::NodeSilent, Maybe, Probe, "pve-http-server src/PVE/APIServer/AnyEvent.pm proxy_request"),
    (597, E::NodeSilent, Maybe, Probe, "pve-http-server src/PVE/APIServer/AnyEvent.pm proxy_request"),
    (598, E::NodeSilent, Maybe, Probe, "pve-http-server src/PVE/APIServer/AnyEvent.pm proxy_request"),
    (599, E::NodeSilent, Maybe, Probe, "pve-http-server src/PVE/APIServer/AnyEvent.pm proxy_request"),
];

/// What a text means.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// What it means.
    pub error: PveError,
    /// Whether the text is only this error. In a longer one it can have come after something was done.
    pub is_whole: bool,
    row: &'static Row,
}

impl Reading {
    /// Returns whether the call that ended with this text may have changed something.
    pub fn effect(&self) -> TookEffect {
        if self.is_whole { self.row.effect } else { TookEffect::Maybe }
    }
    /// Returns what may be done. What came after something else is looked at before it is repeated.
    pub fn reaction(&self) -> Reaction {
        match self.row.reaction {
            Reaction::Retry if !self.is_whole => Reaction::Probe,
            reaction => reaction,
        }
    }
}

/// Reads an error text of PVE: an answer's reason phrase, a task's exit status, or a line of a command's stderr.
///
/// `None` for a text that no row knows. Lines may be joined by a line feed or by `; `.
pub fn read_error(text: &str) -> Option<Reading> {
    let text = text.trim();
    let bare = without_prefix(text);
    let row = TEXTS.iter().find(|row| follows(text, row.parts))?;
    let is_one_line = !text.contains('\n') && !text.contains("; ");
    let begins = |text: &str| row.parts.first().is_some_and(|first| text.starts_with(first));
    Some(Reading { error: row.error, is_whole: is_one_line && (begins(text) || begins(bare)), row })
}

/// Returns what an HTTP status means, whatever the text says; `None` for those that say nothing about the transport.
pub fn read_status(status: u16) -> Option<(PveError, TookEffect, Reaction)> {
    let row = STATUSES.iter().find(|row| row.0 == status)?;
    Some((row.1, row.2, row.3))
}

/// Returns the value of the configuration's `lock` in `VM is locked (backup)`.
pub fn lock_in(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(" is locked (")?;
    rest.split_once(')').map(|(name, _)| name)
}

/// Tells whether a text says that a change was written and then could not be applied to the running guest: unlike other
/// errors it comes last, whatever else is said.
pub fn says_applied_late(text: &str) -> bool {
    TEXTS.iter().any(|row| row.error == PveError::Hotplug && follows(text, row.parts))
}

/// Tells whether the parts occur in the text, one after the other.
fn follows(text: &str, parts: &[&str]) -> bool {
    let mut rest = text;
    parts.iter().all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// Returns the text without what PVE puts before an error that it passes on.
// PVE: qemu-server src/PVE/API2/Qemu.pm create_vm: a creation that fails takes its configuration file back.
fn without_prefix(text: &str) -> &str {
    let text = text.strip_prefix("ERROR: ").unwrap_or(text);
    let created = || {
        let rest = text.strip_prefix("unable to create VM ")?;
        let (number, rest) = rest.split_once(" - ")?;
        number.bytes().all(|byte| byte.is_ascii_digit()).then_some(rest)
    };
    created().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, error: PveError, effect: TookEffect, reaction: Reaction) {
        let told = read_error(text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!((told.error, told.effect(), told.reaction()), (error, effect, reaction), "{text}");
    }

    #[test]
    fn transient_errors_are_retried_or_probed() {
        check("got no worker upid - start worker failed", E::WorkerNotStarted, No, Retry);
        check("unable to fork worker - Cannot allocate memory at x line 3.", E::WorkerNotStarted, No, Retry);
        check("got wrong command id '4711:3' (expected 4711:4)", E::Monitor, Maybe, Probe);
        check("VM 100 qmp command 'query-status' failed - got timeout", E::Monitor, Maybe, Probe);
        check(
            "VM 100 qmp command 'quit' failed - unable to connect to VM 100 qmp socket - timeout after 51 retries",
            E::Monitor,
            Maybe,
            Probe,
        );
        check("unable to find free port (61000-61999)", E::NoResources, Maybe, Probe);
        check(
            "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout",
            E::ConfigLock,
            No,
            Retry,
        );
        check("cfs-lock 'storage-ceph' error: got lock request timeout", E::StorageLock, No, Retry);
        check("cfs-lock 'file-user_cfg' error: no quorum!", E::NoQuorum, No, Stop);
        check("cluster not ready - no quorum?", E::NoQuorum, No, Stop);
        check("'storage-x'-locked command timed out - aborting", E::StorageLock, Maybe, Probe);
    }

    #[test]
    fn an_error_after_something_else_is_looked_at_first() {
        let lock = "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout";
        check(&format!("a volume was made\n{lock}"), E::ConfigLock, Maybe, Probe);
        check(&format!("a volume was made; {lock}"), E::ConfigLock, Maybe, Probe);
        check("clone failed: VM is locked (backup)", E::GuestLocked, Maybe, Probe);
        check(&format!("unable to create VM 100 - {lock}"), E::ConfigLock, No, Retry);
    }

    #[test]
    fn the_two_checksum_mismatches_are_two_things() {
        check("checksum mismatch (file change by other user?)", E::DigestChanged, No, Stop);
        check(
            "detected modified configuration - file changed by other user? Try again.",
            E::DigestChanged,
            No,
            Stop,
        );
        check("checksum mismatch: got 'x' != expect 'y'", E::ImageUnfit, Maybe, Stop);
    }

    #[test]
    fn a_lock_has_a_name_and_unknown_texts_have_no_meaning() {
        assert_eq!(lock_in("VM is locked (snapshot-delete)"), Some("snapshot-delete"));
        assert!(read_error("something new").is_none());
        assert!(read_error("").is_none());
        assert_eq!(read_status(595), Some((E::NodeUnreachable, No, Retry)));
        assert_eq!(read_status(500), None);
    }

    #[test]
    fn no_row_hides_another() {
        for (at, row) in TEXTS.iter().enumerate() {
            let text = row.parts.join(" … ");
            let first = TEXTS.iter().position(|other| follows(&text, other.parts));
            assert_eq!(first, Some(at), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_trap(text: String) {
            let _ = read_error(&text);
            let _ = read_error(&format!("can't lock file '{text}' - got timeout"));
        }
    }
}
