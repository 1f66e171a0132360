//! What the nodes have to work with, and what was asked of the lab.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::world::World;

/// What was asked of a lab since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections to the API, each with its TLS handshake.
    pub api_connections: u64,
    /// Requests to the API, refused ones included.
    pub api_requests: u64,
    /// SSH connections to nodes that are up.
    pub ssh_connections: u64,
    /// Command lines and scripts that were run over SSH.
    pub ssh_commands: u64,
    /// SFTP sessions.
    pub sftp_sessions: u64,
    /// How often each of PVE's own programs was run: `qm`, `pvesm`, `pvesh`, …
    pub programs: BTreeMap<String, u64>,
}

/// What the nodes have to work with. It is dealt out in the order in which it is asked for.
pub(crate) struct Load {
    nodes: BTreeMap<String, Machine>,
    counts: Mutex<Counts>,
}

struct Machine {
    cpu: Option<Arc<Semaphore>>,
    api: Option<Arc<Semaphore>>,
}

impl Load {
    /// What the world's delays give each of its nodes.
    pub(crate) fn new(world: &World) -> Self {
        let places = |count: u64| {
            let count = usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
            (count > 0).then(|| Arc::new(Semaphore::new(count)))
        };
        let machine =
            || Machine { cpu: places(world.delays.cpu_slots), api: places(world.delays.api_workers) };
        let nodes = world.nodes.keys().map(|name| (name.clone(), machine())).collect();
        Self { nodes, counts: Mutex::default() }
    }

    /// Waits for one of the node's processors; `None` where there is no limit.
    pub(crate) async fn cpu_slot(&self, node: &str) -> Option<OwnedSemaphorePermit> {
        Arc::clone(self.nodes.get(node)?.cpu.as_ref()?).acquire_owned().await.ok()
    }

    /// Waits for one of the node's API workers; `None` where there is no limit.
    pub(crate) async fn api_worker(&self, node: &str) -> Option<OwnedSemaphorePermit> {
        Arc::clone(self.nodes.get(node)?.api.as_ref()?).acquire_owned().await.ok()
    }

    /// Counts something.
    pub(crate) fn count(&self, note: impl FnOnce(&mut Counts)) {
        note(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What was counted.
    pub(crate) fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::io::{Connection, Input, Output, Streams};
    use crate::shell::node::Node;
    use crate::shell::run::{Ended, Shell};
    use crate::still_tests as still;
    use crate::world::{WorldHandle, WorldSpec};

    async fn run_line(node: Arc<Node>, line: String) -> String {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let (cut, _) = tokio::sync::watch::channel(false);
        let streams = Streams {
            stdin: Input::empty(),
            stdout: Output::Capture(Arc::clone(&kept)),
            stderr: Output::Capture(Arc::clone(&kept)),
            connection: Connection::new(Arc::new(cut)),
        };
        let running = Arc::new(node.processes.start(None, &line));
        let shell = Shell::new(Arc::clone(&node), Arc::clone(&running));
        let ended = crate::shell::run_session(shell, running, line.clone(), streams).await;
        let text = String::from_utf8_lossy(&kept.lock().unwrap()).into_owned();
        assert!(matches!(ended, Ended::Status(0)), "{line}: {text}");
        text
    }

    /// Runs command lines at once; returns how many milliseconds each took, and what they printed.
    fn run(node: &Arc<Node>, lines: &[&str]) -> (Vec<u64>, Vec<String>) {
        let works = lines.iter().map(|line| run_line(Arc::clone(node), (*line).to_owned())).collect();
        still::run(&node.world, works).into_iter().unzip()
    }

    fn check(node: &Arc<Node>, lines: &[&str], expect: &[u64]) {
        assert_eq!(run(node, lines).0, expect, "{lines:?}");
    }

    const IMAGE: &str = "/var/lib/vz/import/tiny.qcow2";

    #[test]
    fn commands_take_what_they_take_on_a_node() {
        let node = Node::new(still::world(), "pve1");
        check(&node, &["qm list"], &[670]);
        check(&node, &["pvesm status"], &[521]);
        check(&node, &["pvesh get /version"], &[830]);
        check(&node, &["cat /etc/pve/nodes/pve1/qemu-server/*.conf || true"], &[0]);
        check(&node, &["qm create 100 --memory 512 --net0 virtio,bridge=vmbr0"], &[820]);
        check(&node, &["qm set 100 --cores 2"], &[670]);
        check(&node, &["qm set 100 --scsi1 local-lvm:1"], &[800]);
        // 17.3 MiB are copied.
        check(&node, &[&format!("qm set 100 --scsi0 local-lvm:0,import-from={IMAGE}")], &[818]);
        check(&node, &["qm start 100"], &[970]);
        check(&node, &["qm stop 100"], &[1670]);
    }

    #[test]
    fn an_import_tells_how_far_it_is() {
        let node = Node::new(still::world(), "pve1");
        node.world.with(|world| world.delays.copy_ms_per_100_mib = 60_000);
        run(&node, &["qm create 100 --memory 512"]);
        let (took, text) =
            run(&node, &[&format!("qm disk import 100 {IMAGE} local-lvm --target-disk scsi0")]);
        assert_eq!(took, [670 + 130 + 10_352]);
        assert_eq!(text[0].matches("transferred ").count(), 102, "{}", text[0]);
    }

    #[test]
    fn a_node_runs_two_of_pves_commands_at_once() {
        let node = Node::new(still::world(), "pve1");
        check(&node, &["qm list", "qm list", "qm list"], &[670, 670, 1340]);
        check(&node, &["qm list", "pvesm status", "pvesh get /version"], &[670, 521, 521 + 830]);
        // A command keeps its place to its end, also while it copies; other programs need none.
        check(&node, &["qm create 100", "qm create 101"], &[820, 820]);
        let import = |vmid: u32| format!("qm disk import {vmid} {IMAGE} local-lvm");
        // A storage allocates one volume after the other, in 130 ms each.
        check(&node, &[&import(100), &import(101), "qm list", "true"], &[818, 818 + 130, 818 + 670, 0]);
        // One that waits for a guest gives it back.
        check(&node, &["qm wait 100", "qm wait 101", "qm list"], &[670, 670, 1340]);
        run(&node, &["qm start 100", "qm start 101"]);
        let shutdown = |vmid: u32| format!("qm shutdown {vmid} --timeout 60 --forceStop 1");
        let (took, _) = run(&node, &[&shutdown(100), &shutdown(101), "qm list"]);
        assert_eq!(took[2], 1340, "{took:?}");
    }

    #[test]
    fn without_delays_there_is_no_limit() {
        let node = Node::new(WorldHandle::new(World::new(&WorldSpec::demo(), 1)), "pve1");
        node.world.with(|world| world.clock.stand_still());
        check(&node, &["qm list", "qm list", "qm list"], &[0, 0, 0]);
    }

    #[test]
    fn what_is_asked_is_counted() {
        let node = Node::new(still::world(), "pve1");
        run(&node, &["qm list; qm list", "pvesm status", "true"]);
        let counts = node.world.counts();
        assert_eq!(counts.programs, [("pvesm".to_owned(), 1), ("qm".to_owned(), 2)].into());
    }
}
