//! A whole hybrid deployment: the API is the lab's, and SSH is OpenSSH's, in a container whose `qm` and its like
//! are stand-ins that ask the lab's world.

use crate::node::{Node, eventually, run};
use crate::sudo::USERS;
use crate::test;
use libtest_mimic::Trial;
use pve_lab::{Delays, Lab, LabOptions, WorldSpec};
use pve_ssh::command::{pvesm, qm};
use pve_ssh::{Command, Host, RunOptions, Upload, parse};
use pve_types::Vmid;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub fn tests() -> Vec<Trial> {
    let mut trials =
        vec![test("deployment::an_import_through_openssh_reaches_the_lab_with_its_progress", import)];
    let of_program = [
        test("deployment::a_hybrid_deployment_goes_through_openssh", deploy),
        test("deployment::a_user_with_sudo_deploys_and_destroys_by_every_transport_that_uses_ssh", by_sudo),
        test("deployment::a_user_whose_sudo_wants_a_password_is_refused_before_anything_is_done", no_sudo),
        test("deployment::a_deployment_whose_server_restarts_in_mid_import_is_finished", restarted),
    ];
    trials.extend(of_program.map(|trial| {
        match binary() {
            Some(_) => trial,
            None => trial
                .with_kind("ignored: vmdeploy is not built; `make test-containers` builds it")
                .with_ignored_flag(true),
        }
    }));
    trials
}

/// The program, next to this test.
fn binary() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let path = own.parent()?.parent()?.join("vmdeploy");
    path.is_file().then_some(path)
}

/// What asks the lab, by name.
const STAND_INS: &str =
    "qm pvesm pveum pvesh pveversion hostname qemu-img stat test sha256sum sha512sum grep cat tail";

/// Starts a container whose PVE is the lab's.
async fn node_of(lab: &Lab) -> Node {
    let node = Node::start("", &format!("mkdir -m 700 /lab; {USERS}")).await;
    let gateway = node.sh("ip -4 route show default").await;
    let gateway = gateway.split_whitespace().nth(2).unwrap().to_owned();
    let port = relay(&gateway, lab.ssh_addr("pve1").unwrap()).await;
    let known = lab.known_hosts();
    let key = known.lines().next().and_then(|line| line.split_once(' ')).unwrap().1;
    let host = node.host();
    let put = async |text: &str, path: &str, mode: u32| {
        let upload = Upload { mode, ..Upload::private_text(text, path) };
        host.upload(&upload, &mut |_, _| {}).await.unwrap();
    };
    put(lab.ssh_private_key(), "/lab/key", 0o600).await;
    put(&format!("lab {key}\n"), "/lab/known_hosts", 0o600).await;
    put(&gateway, "/lab/host", 0o600).await;
    put(&port.to_string(), "/lab/port", 0o600).await;
    put(include_str!("../../image/stand-in"), "/lab/stand-in", 0o755).await;
    node.sh(&format!("for n in {STAND_INS}; do ln -s /lab/stand-in /usr/local/bin/$n; done")).await;
    node
}

/// Passes connections at the engine's own address on to the lab, which listens on loopback alone.
async fn relay(gateway: &str, lab: SocketAddr) -> u16 {
    let listener = tokio::net::TcpListener::bind((gateway, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut far) = tokio::net::TcpStream::connect(lab).await {
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }
            });
        }
    });
    port
}

async fn import() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let node = node_of(&lab).await;
    let host: Host = node.host();
    assert_eq!(run(&host, &["hostname"]).await, "pve1\n");
    let vmid = Vmid::new(200).unwrap();
    let limit = Duration::from_secs(60);
    host.run_to_success(&qm::create(vmid, [("name", "it-s-a-name")]), limit).await.unwrap();
    let command = qm::importdisk(vmid, "/var/lib/vz/import/tiny.qcow2", &"local-lvm".parse().unwrap());
    let mut percents = Vec::new();
    let mut on_line = |_, line: &str| percents.extend(parse::progress(line).map(|progress| progress.percent));
    let output = host.run(&command, RunOptions::within(limit), &mut on_line).await.unwrap();
    assert_eq!(parse::imported_disk(&output.stdout).unwrap().volume.as_str(), "local-lvm:vm-200-disk-0");
    assert_eq!(percents.last(), Some(&100.0));
    let storages = host.run_to_success(&pvesm::status(), limit).await.unwrap();
    assert!(!parse::pvesm_status(&storages.stdout).unwrap().is_empty());
    let missing =
        host.run(&qm::status(Vmid::new(999).unwrap()), RunOptions::within(limit), &mut |_, _| {}).await;
    let missing = missing.unwrap();
    assert_ne!(missing.status, 0);
    assert!(
        parse::failure(&missing.stderr).and_then(|failure| failure.error())
            == Some(pve_types::PveError::GuestGone)
    );
    let quoted = Command::new("qm").arg("set").arg("200").option("description", "it's $HOME\n`id`");
    host.run_to_success(&quoted, limit).await.unwrap();
    lab.stop().await;
}

const SPEC: &str = "\
version: 1
project: containers
transport: hybrid
defaults: {node: pve1, agent: true}
images:
  tiny: {path: /var/lib/vz/import/tiny.qcow2}
vms:
  web01:
    vmid: 201
    memory: 1GiB
    disks:
      scsi0: {storage: local-lvm, image: tiny, size: 2GiB, discard: true}
      scsi1: {storage: local-lvm, size: 1GiB}
    nics:
      net0: {bridge: vmbr0, ip: 10.40.0.11/24, gateway: 10.40.0.1}
    cloud_init: {user: admin, ssh_keys: [{file: user.pub}]}
    ready: {ip: {nic: net0, timeout: 2m}}
  web02:
    vmid: 202
    memory: 1GiB
    disks:
      scsi0: {storage: local-lvm, image: tiny, size: 2GiB, discard: true}
    nics:
      net0: {bridge: vmbr0, ip: dhcp}
    cloud_init: {user: admin, ssh_keys: [{file: user.pub}]}
    ready: {ip: {nic: net0, timeout: 2m}}
";

async fn deploy() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let node = node_of(&lab).await;
    let project = Project::new(&lab, &node);
    let first = project.vmdeploy(&["deploy", "spec.yaml", "--yes"]).await;
    assert!(first.status.success(), "{}", told(&first));
    // What had to go by SSH went through OpenSSH.
    let asked = node.sh("cat /lab/asked").await;
    for vmid in ["201", "202"] {
        assert!(asked.contains(&format!("'{vmid}' '/var/lib/vz/import/tiny.qcow2'")), "{asked}");
        assert!(asked.contains(&format!("qm 'set' '{vmid}'")), "{asked}");
    }
    // The keys lay in a folder that is root's alone, and nothing of them is left.
    assert!(asked.contains("with a file in a folder of root 700\n"), "{asked}");
    assert_eq!(node.sh("find /run /tmp -name '*vmdeploy*'").await, "");
    // API and SSH show the same world, and nothing is left to do.
    let list = run(&node.host(), &["qm", "list"]).await;
    let guests = parse::qm_list(&list).unwrap();
    assert_eq!(guests.iter().filter(|guest| guest.status == "running").count(), 2, "{list}");
    let second = project.vmdeploy(&["plan", "spec.yaml", "--detailed-exitcode"]).await;
    assert_eq!(second.status.code(), Some(0), "{}", told(&second));
    assert_eq!(node.sh("ls /tmp /etc/pve/priv/lock").await.matches("vmdeploy").count(), 0);
    lab.stop().await;
}

/// How often there was a login to the container as this user.
async fn logins(node: &Node, user: &str) -> usize {
    node.sh("cat /var/log/sshd.log").await.matches(&format!("Accepted publickey for {user} ")).count()
}

async fn by_sudo() {
    for transport in ["hybrid", "auto", "ssh"] {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let node = node_of(&lab).await;
        let mut project = Project::new(&lab, &node);
        project.set("PROXMOX_SSH_USER", "deploy");
        let before = (logins(&node, "root").await, lab.world().counts().api_requests);
        let deploy = project.vmdeploy(&["deploy", "spec.yaml", "--yes", "--transport", transport]).await;
        assert!(deploy.status.success(), "{transport}: {}", told(&deploy));
        // Only root can query the lab: its key is in root's folder. There was no login as root for it.
        let asked = node.sh("cat /lab/asked").await;
        assert!(asked.contains("qm '") || asked.contains("pvesh '"), "{transport}: {asked}");
        assert_eq!(logins(&node, "root").await, before.0, "{transport}");
        assert!(logins(&node, "deploy").await > 0, "{transport}");
        if transport == "ssh" {
            assert_eq!(lab.world().counts().api_requests, before.1, "{transport}");
        }
        let guests = parse::qm_list(&run(&node.host(), &["qm", "list"]).await).unwrap();
        assert_eq!(
            guests.iter().filter(|guest| guest.status == "running").count(),
            2,
            "{transport}: {guests:?}"
        );
        let plan =
            project.vmdeploy(&["plan", "spec.yaml", "--detailed-exitcode", "--transport", transport]).await;
        assert_eq!(plan.status.code(), Some(0), "{transport}: {}", told(&plan));
        let destroy = project.vmdeploy(&["destroy", "spec.yaml", "--yes", "--transport", transport]).await;
        assert!(destroy.status.success(), "{transport}: {}", told(&destroy));
        assert!(lab.world().with(|world| world.guests.is_empty()), "{transport}");
        // Nothing that it made as root is left.
        assert_eq!(node.sh("find /run /tmp /etc/pve -name '*vmdeploy*'").await, "", "{transport}");
        lab.stop().await;
    }
}

async fn no_sudo() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let node = node_of(&lab).await;
    let mut project = Project::new(&lab, &node);
    project.set("PROXMOX_SSH_USER", "asked");
    let line = "`asked ALL=(root) NOPASSWD: ALL` in /etc/sudoers.d/vmdeploy";
    for transport in ["hybrid", "auto", "ssh"] {
        let deploy = project.vmdeploy(&["deploy", "spec.yaml", "--yes", "--transport", transport]).await;
        let said = told(&deploy);
        assert_eq!(deploy.status.code(), Some(7), "{transport}: {said}");
        assert!(said.contains("a password is required") && said.contains(line), "{transport}: {said}");
    }
    let doctor = project.vmdeploy(&["doctor", "spec.yaml"]).await;
    assert!(told(&doctor).contains(line), "{}", told(&doctor));
    assert!(lab.world().with(|world| world.guests.is_empty()));
    assert_eq!(node.sh("ls /lab").await.matches("asked").count(), 0, "nothing was asked of PVE");
    lab.stop().await;
}

async fn restarted() {
    // Slow enough that the import is still on its way when the server goes.
    let delays = Delays { copy_ms_per_100_mib: 30_000, ..WorldSpec::demo().delays };
    let world = WorldSpec { delays, ..WorldSpec::demo() };
    let lab = Lab::start(LabOptions { world, ..LabOptions::default() }).await.unwrap();
    let node = node_of(&lab).await;
    let project = Project::new(&lab, &node);
    let restarting = async {
        let imports = "grep importdisk /lab/asked || :";
        eventually("an import has begun", async || !node.sh(imports).await.is_empty()).await;
        node.stop_sshd().await;
        node.start_sshd().await;
    };
    let deploy = ["deploy", "spec.yaml", "--yes"];
    let (first, ()) = tokio::join!(project.vmdeploy(&deploy), restarting);
    assert!(told(&first).contains("the connection to"), "the loss is told: {}", told(&first));
    if !first.status.success() {
        assert!(told(&first).contains("vmdeploy resume "), "{}", told(&first));
        let resumed = project.vmdeploy(&["resume"]).await;
        assert!(resumed.status.success(), "{}\n{}", told(&first), told(&resumed));
    }
    let plan = project.vmdeploy(&["plan", "spec.yaml", "--detailed-exitcode"]).await;
    assert_eq!(plan.status.code(), Some(0), "{}", told(&plan));
    // Nothing was imported twice.
    let volumes = run(&node.host(), &["pvesm", "list", "local-lvm"]).await;
    for (vmid, disks) in [(201, 2), (202, 1)] {
        assert_eq!(volumes.matches(&format!("vm-{vmid}-disk-")).count(), disks, "{volumes}");
    }
    lab.stop().await;
}

/// A folder with a spec, and the variables that lead to the lab's API and to the container's sshd.
struct Project {
    folder: PathBuf,
    environment: Vec<(String, String)>,
}

impl Project {
    fn new(lab: &Lab, node: &Node) -> Self {
        let folder = node.path("project");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("spec.yaml"), SPEC).unwrap();
        std::fs::copy(node.path("user.pub"), folder.join("user.pub")).unwrap();
        let mut environment = lab.write_environment(&folder.join("lab")).unwrap();
        let of_container = [
            ("PROXMOX_SSH_HOST", node.address.to_string()),
            ("PROXMOX_SSH_PORT", "22".to_owned()),
            ("PROXMOX_SSH_KEY", node.path("user").display().to_string()),
            ("PROXMOX_SSH_KNOWN_HOSTS", node.path("known_hosts").display().to_string()),
            ("HOME", folder.display().to_string()),
            ("PATH", "/usr/bin:/bin".to_owned()),
        ];
        environment.extend(of_container.map(|(name, value)| (name.to_owned(), value)));
        Self { folder, environment }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    async fn vmdeploy(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = tokio::process::Command::new(binary().unwrap());
        command.args(arguments).current_dir(&self.folder).env_clear().stdin(std::process::Stdio::null());
        command.envs(self.environment.iter().cloned()).kill_on_drop(true);
        command.output().await.unwrap()
    }
}

fn told(output: &std::process::Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
