//! A lab in this process, and the program as a child that is led to it.

use crate::measure::{self, Usage};
use pve_lab::{Counts, Delays, WorldSpec};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use vmdeploy::lab_session::LabSession;

/// The image that disks are made of: as a file of the node, and as a volume.
pub const IMAGE_PATH: &str = "/var/lib/vz/import/tiny.qcow2";
/// The same, by its name in PVE.
pub const IMAGE_VOLUME: &str = "local:import/tiny.qcow2";

/// A lab and a folder to work in.
pub struct Ground {
    folder: TempDir,
    runtime: Runtime,
    lab: Option<LabSession>,
}

/// One node with room for everything, and the delays of a real one.
pub fn world(delays: Delays) -> WorldSpec {
    nodes(1, delays)
}

/// So many nodes, each with its own storages.
pub fn nodes(count: u32, delays: Delays) -> WorldSpec {
    let mut text = String::from("token: {id: 'root@pam!lab', privsep: false}\ncluster: lab\nnodes:\n");
    for number in 1..=count {
        let _ = writeln!(text, "  pve{number}: {{cpus: 64, memory: 64TiB}}");
    }
    text += "storages:
  local: {type: dir, content: [iso, import, images, snippets, rootdir], size: 100TiB, options: {path: /var/lib/vz}}
  local-lvm: {type: lvmthin, content: [images, rootdir], size: 1000TiB, options: {vgname: pve, thinpool: data}}
files:
  - {path: /var/lib/vz/import/tiny.qcow2, content: {format: qcow2, virtual_size: 160MiB, file_size: 18093056B, seed: 1}}
";
    let mut spec = WorldSpec::from_yaml(&text).expect("the world is understood");
    spec.delays = delays;
    spec
}

/// A spec of `vms` VMs, spread over `nodes` nodes: an image, a data disk, cloud-init, an address.
pub fn spec(vms: u32, nodes: u32, transport: &str, image: &str) -> String {
    let mut text = format!(
        "version: 1\nproject: bench\ntransport: {transport}\ndefaults: {{agent: true, onboot: true}}\nimages:\n  tiny: {{{image}}}\nvms:\n"
    );
    for number in 0..vms {
        let (vmid, third, fourth) = (1000 + number, number / 250, number % 250 + 2);
        let _ = write!(
            text,
            "  vm{number:05}:
    vmid: {vmid}
    node: pve{}
    cpu: 2
    memory: 2GiB
    tags: [bench]
    disks:
      scsi0: {{storage: local-lvm, image: tiny, size: 20GiB, discard: true, ssd: true}}
      scsi1: {{storage: local-lvm, size: 50GiB}}
    nics:
      net0: {{bridge: vmbr0, ip: 10.40.{third}.{fourth}/16, gateway: 10.40.255.1}}
    cloud_init: {{user: admin}}
    ready: {{ip: {{nic: net0, timeout: 5m}}}}
",
            number % nodes + 1
        );
    }
    text
}

/// The image as a transport can take it: by its volume through the API, by its path on the node.
pub fn image_for(transport: &str) -> String {
    match transport {
        "api" | "auto" => format!("volume: \"{IMAGE_VOLUME}\""),
        _ => format!("path: {IMAGE_PATH}"),
    }
}

impl Ground {
    /// Starts a lab.
    pub fn new(world: WorldSpec) -> Self {
        let runtime = Runtime::new().expect("a runtime can be made");
        let lab = runtime
            .block_on(LabSession::start(world, Vec::new()))
            .unwrap_or_else(|failure| panic!("{}", failure.render()));
        let folder = tempfile::Builder::new().prefix("vmdeploy-bench-").tempdir().expect("a folder");
        Self { folder, runtime, lab: Some(lab) }
    }
    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
    /// Writes a file into the folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path
    }
    /// One of the variables that lead to the lab.
    pub fn variable(&self, name: &str) -> String {
        let found = self.lab().variables().iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.clone()).expect(name)
    }
    /// Runs async work while the lab runs.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
    /// The lab's world.
    pub fn world(&self) -> pve_lab::WorldHandle {
        self.lab().lab().world()
    }
    /// Runs the program, which must end well.
    pub fn run(&self, arguments: &[&str]) -> Usage {
        let usage = self.try_run(arguments);
        assert!(
            usage.status.success(),
            "vmdeploy {}: {}\n{}",
            arguments.join(" "),
            usage.stdout,
            usage.stderr
        );
        usage
    }
    /// Runs the program.
    pub fn try_run(&self, arguments: &[&str]) -> Usage {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmdeploy"));
        command.args(arguments).current_dir(self.folder()).env_clear();
        command.env("HOME", self.folder()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.lab().variables().iter().map(|(name, value)| (name, value)));
        measure::run(&mut command, self.folder())
    }
    /// Runs the program, which must end well; returns also what it asked of the lab.
    pub fn counted(&self, arguments: &[&str]) -> (Usage, Counts) {
        let before = self.world().counts();
        let usage = self.run(arguments);
        (usage, difference(&before, &self.world().counts()))
    }
    fn lab(&self) -> &LabSession {
        self.lab.as_ref().expect("it runs until it is dropped")
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(lab) = self.lab.take() {
            self.runtime.block_on(lab.stop());
        }
    }
}

/// What was asked between two looks.
fn difference(before: &Counts, after: &Counts) -> Counts {
    let count = |name: &String| after.programs[name] - before.programs.get(name).copied().unwrap_or(0);
    Counts {
        api_connections: after.api_connections - before.api_connections,
        api_requests: after.api_requests - before.api_requests,
        ssh_connections: after.ssh_connections - before.ssh_connections,
        ssh_commands: after.ssh_commands - before.ssh_commands,
        sftp_sessions: after.sftp_sessions - before.sftp_sessions,
        programs: after.programs.keys().map(|name| (name.clone(), count(name))).collect(),
    }
}
