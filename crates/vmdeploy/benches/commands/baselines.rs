//! Other ways to the same VMs.

use crate::ground::{Ground, IMAGE_PATH, IMAGE_VOLUME, world};
use crate::{document, measure};
use pve_lab::{Counts, Delays};
use pve_ssh::command::Command as NodeCommand;
use pve_ssh::{Credential, Host, HostConfig};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// What vm-deploy's playbook runs on the node, in its order: task by task, one VM after the other.
/// Its VMs have five data disks and two NICs; these have one of each, as ours have.
const PLAYBOOK: [&[&str]; 8] = [
    &["qm status {id}", "pct status {id}"],
    &[
        "qm create {id} --name vm{id} --memory 2048 --cores 2 --sockets 1 --cpu host --ostype l26 --scsihw virtio-scsi-single --agent enabled=1",
    ],
    &[
        "qm importdisk {id} {image} local-lvm",
        "qm set {id} --scsi0 local-lvm:vm-{id}-disk-0,discard=on,size=50G,ssd=1,cache=writeback",
        "qm set {id} --boot order=scsi0",
    ],
    &["qm set {id} --scsi1 local-lvm:50,discard=on,cache=writeback"],
    &["qm set {id} --net0 virtio,bridge=vmbr0,firewall=0"],
    &[
        "qm set {id} --ciuser root --searchdomain local --nameserver 8.8.8.8 --ipconfig0 ip=dhcp",
        "qm set {id} --ide2 local-lvm:cloudinit",
    ],
    &["qm set {id} --numa 1 --balloon 0 --onboot 1"],
    &["qm start {id}"],
];

/// Deploys as vm-deploy's playbook does, until the last VM's agent reports its address.
pub fn playbook(vms: u32) -> (Duration, Counts) {
    let ground = Ground::new(world(Delays::real()));
    let mut config = HostConfig::new("127.0.0.1", "root");
    config.port = ground.variable("PROXMOX_SSH_PORT").parse().expect("a port");
    config.credentials = vec![Credential::key_file(ground.variable("PROXMOX_SSH_KEY"))];
    config.known_hosts.files = vec![PathBuf::from(ground.variable("PROXMOX_SSH_KNOWN_HOSTS"))];
    let began = Instant::now();
    ground.block_on(async {
        let host = Host::new(config);
        let run = async |line: &str, vmid: u32, may_fail: bool| {
            let line = line.replace("{id}", &vmid.to_string()).replace("{image}", IMAGE_PATH);
            let mut words = line.split(' ');
            let command = NodeCommand::new(words.next().unwrap_or_default()).args(words);
            let options = pve_ssh::RunOptions::within(Duration::from_secs(60));
            let output = host.run(&command, options, &mut |_, _| {}).await.expect("the connection holds");
            assert!(may_fail || output.success(), "{line}: {}{}", output.stdout, output.stderr);
        };
        run("pvesm status -storage local-lvm", 0, false).await;
        run("stat {image}", 0, false).await;
        for (number, task) in PLAYBOOK.iter().enumerate() {
            for vmid in 1000..1000 + vms {
                for line in *task {
                    run(line, vmid, number == 0).await;
                }
            }
        }
        host.close().await;
    });
    wait_for_addresses(&ground, vms);
    (began.elapsed(), ground.world().counts())
}

/// Waits until every guest's agent answers; a look costs nothing. Time alone makes an agent answer, which is not a change
/// of the world that could be waited for.
fn wait_for_addresses(ground: &Ground, vms: u32) {
    let up = |world: &mut pve_lab::World| {
        world.guests.keys().filter(|vmid| pve_lab::guest::agent_answers(world, **vmid)).count()
    };
    let until = Instant::now() + Duration::from_secs(120);
    while ground.world().with(up) < vms as usize {
        assert!(Instant::now() < until, "all guests come up");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Where `make test-third-party` puts Python's programs, and where else they may be.
fn program(name: &str) -> Option<PathBuf> {
    let own = document::root().join("target/third-party/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(own)
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Deploys with Ansible's community.proxmox: one create call per VM with `import-from`, then a start.
///
/// # Errors
/// Says what is missing.
pub fn ansible(vms: u32) -> Result<(Duration, Counts), String> {
    let python = program("python3").ok_or("there is no python3")?;
    let has = |module: &str| {
        let mut command = Command::new(&python);
        command.args(["-c", &format!("import {module}")]).stderr(std::process::Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !has("proxmoxer") || !has("ansible_collections.community.proxmox") {
        return Err("community.proxmox is not installed; `make test-third-party` installs it".to_owned());
    }
    let ansible = program("ansible-playbook").ok_or("there is no ansible-playbook")?;
    let ground = Ground::new(world(Delays::real()));
    let playbook = ground.write("playbook.yaml", &playbook_text(vms));
    let mut command = Command::new(&python);
    command.arg(ansible).args(["-i", "localhost,"]).arg(&playbook).current_dir(ground.folder());
    for (name, variable) in [
        ("LAB_HOST", "PROXMOX_API_HOST"),
        ("LAB_PORT", "PROXMOX_API_PORT"),
        ("LAB_SECRET", "PROXMOX_API_PASSWORD"),
    ] {
        command.env(name, ground.variable(variable));
    }
    command.env("REQUESTS_CA_BUNDLE", ground.variable("PROXMOX_API_CA")).env("HOME", ground.folder());
    command.env("ANSIBLE_PYTHON_INTERPRETER", &python).env("LC_ALL", "C.UTF-8");
    let began = Instant::now();
    let usage = measure::run(&mut command, ground.folder());
    if !usage.status.success() {
        return Err(format!("its playbook failed: {}", usage.stdout.lines().last().unwrap_or_default()));
    }
    wait_for_addresses(&ground, vms);
    Ok((began.elapsed(), ground.world().counts()))
}

fn playbook_text(vms: u32) -> String {
    let mut text = String::from(
        "- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    api: &api
      api_host: \"{{ lookup('env', 'LAB_HOST') }}\"
      api_port: \"{{ lookup('env', 'LAB_PORT') | int }}\"
      api_user: root@pam
      api_token_id: lab
      api_token_secret: \"{{ lookup('env', 'LAB_SECRET') }}\"
      validate_certs: true
  module_defaults:
    group/community.proxmox.proxmox: *api
  tasks:
    - community.proxmox.proxmox_kvm:
        node: pve1
        vmid: \"{{ item }}\"
        name: \"vm{{ item }}\"
        memory: 2048
        cores: 2
        scsihw: virtio-scsi-single
",
    );
    let _ = write!(
        text,
        "        scsi: {{scsi0: 'local-lvm:0,import-from={IMAGE_VOLUME}', scsi1: 'local-lvm:50'}}
        net: {{net0: 'virtio,bridge=vmbr0'}}
        ide: {{ide2: 'local-lvm:cloudinit'}}
        ipconfig: {{ipconfig0: 'ip=dhcp'}}
        ciuser: admin
        boot: order=scsi0
        agent: \"1\"
        state: present
      loop: \"{{{{ range(1000, {end}) | list }}}}\"
    - community.proxmox.proxmox_kvm: {{node: pve1, vmid: \"{{{{ item }}}}\", state: started}}
      loop: \"{{{{ range(1000, {end}) | list }}}}\"
",
        end = 1000 + vms
    );
    text
}
