//! Commands that write specs or read several clusters: `adopt`, `import-env`, `--cluster`, `--allow-cluster-auth`, `image push`.

use crate::lab_run::LabRun;
use crate::transcript::Session;
use insta::assert_snapshot;

/// Runs a command that must succeed.
fn done(lab: &LabRun, command: &str) {
    let output = lab.user.output(&command.split(' ').collect::<Vec<_>>());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{command}: {said}");
}

#[test]
fn a_guest_made_by_hand_is_adopted_by_a_spec_that_changes_nothing_but_its_mark() {
    let lab = LabRun::demo();
    done(
        &lab,
        "api post /nodes/pve1/qemu vmid=250 name=old-db memory=2048 cores=2 net0=virtio=BC:24:11:00:00:50,bridge=vmbr0 \
         scsi0=local-lvm:4 scsihw=virtio-scsi-single smbios1=uuid=3f2b8f6e-6f5e-4a0a-9b1c-2d9c1a5d7e11 --wait --yes",
    );
    assert_snapshot!("adopt", lab.run(&["adopt", "250", "--project", "legacy"]));
    done(&lab, "adopt 250 --project legacy --out old.yaml");
    let before = lab.world().with(|world| world.guests.values().next().unwrap().config.clone());
    assert_snapshot!("adopt_plan", lab.run(&["plan", "old.yaml"]));
    done(&lab, "deploy old.yaml --yes");
    let after = lab.world().with(|world| world.guests.values().next().unwrap().config.clone());
    let changed: Vec<&String> =
        after.keys().chain(before.keys()).filter(|key| before.get(*key) != after.get(*key)).collect();
    assert!(changed.iter().all(|key| *key == "description" || *key == "digest"), "{changed:?}");
    assert_eq!(lab.user.output(&["plan", "old.yaml", "--detailed-exitcode"]).status.code(), Some(0));
    assert_snapshot!("adopt_again", lab.run(&["adopt", "250", "--project", "legacy"]));
    assert_snapshot!("adopt_absent", lab.run(&["adopt", "999", "--project", "legacy"]));
}

const OLD_ENV: &str = r#"
export PROXMOX_API_USER="root@pam"
export PROXMOX_API_PASSWORD="hunter2hunter2"
export PROXMOX_NODE="pve1"
export OPENSUSE_IMAGE_PATH="/var/lib/vz/import/debian-13.qcow2"
export STORAGE_POOL="local-lvm"
export DATA_DISK_SIZE="10G"
export MON_DISK_SIZE="5G"
export PRIVATE_BRIDGE="vmbr0"
export PUBLIC_BRIDGE="vmbr0"
export VM_DEFAULT_MEMORY="4096"
export VM_DEFAULT_CORES="2"
export VM_CPU_TYPE="host"
export VM_ROOT_PASSWORD="hunter3hunter3"
export NUM_VMS="1"
"#;

/// Its `.env` is not called so here: it would be read as this program's own.
#[test]
fn what_is_imported_makes_what_the_playbook_made_key_by_key() {
    let mut lab = LabRun::demo();
    lab.user.write("old.env", OLD_ENV);
    lab.user.add_variable("VM_ROOT_PASSWORD", "hunter3hunter3");
    assert_snapshot!("import_env", lab.run(&["import-env", "old.env", "--storage", "lvmthin"]));
    let imported = lab.user.output(&["import-env", "old.env", "--storage", "lvmthin"]);
    lab.user.write("vms/old.yaml", &String::from_utf8(imported.stdout).unwrap());
    done(&lab, "deploy vms/old.yaml --yes");
    let config = lab.world().with(|world| world.guests.values().next().unwrap().config.clone());
    // What deploy-vms.yml of vm-deploy sets by `qm create` and `qm set`, for an LVM thin pool.
    let expect = [
        ("name", "ceph-node1"),
        ("memory", "4096"),
        ("cores", "2"),
        ("sockets", "1"),
        ("numa", "1"),
        ("balloon", "0"),
        ("onboot", "1"),
        ("ostype", "l26"),
        ("scsihw", "virtio-scsi-single"),
        ("boot", "order=scsi0"),
        ("ciuser", "root"),
        ("searchdomain", "local"),
    ];
    for (key, value) in expect {
        assert_eq!(config.get(key).map(String::as_str), Some(value), "{key}: {config:#?}");
    }
    let parts = |key: &str| -> Vec<String> {
        let value = config.get(key).unwrap_or_else(|| panic!("{key}: {config:#?}"));
        value.split(',').map(str::to_owned).collect()
    };
    let has = |key: &str, wanted: &[&str]| {
        let parts = parts(key);
        assert!(wanted.iter().all(|wanted| parts.iter().any(|part| part == wanted)), "{key}: {parts:?}");
    };
    assert!(parts("cpu")[0].ends_with("host"), "{:?}", parts("cpu"));
    has("scsi0", &["cache=writeback", "discard=on", "ssd=1"]);
    ["scsi1", "scsi2", "scsi3", "scsi4"]
        .iter()
        .for_each(|disk| has(disk, &["cache=writeback", "discard=on", "size=10G"]));
    has("scsi5", &["cache=writeback", "discard=on", "size=5G"]);
    ["net0", "net1"].iter().for_each(|nic| has(nic, &["bridge=vmbr0", "firewall=0"]));
    assert!(parts("net0")[0].starts_with("virtio="), "{:?}", parts("net0"));
    assert!(parts("ide2")[0].starts_with("local-lvm:vm-") && parts("ide2")[0].ends_with("cloudinit"));
    assert!(config["cipassword"].starts_with("$6$"), "the password is a hash");
    assert!(!config.contains_key("scsi6") && !config.contains_key("net2"));
    // The playbook did it all again; this does nothing.
    assert_eq!(lab.user.output(&["plan", "vms/old.yaml", "--detailed-exitcode"]).status.code(), Some(0));
}

#[test]
fn an_odd_guest_is_adopted_by_every_transport_without_another_change() {
    let odd = "
guests:
  250:
    running: true
    config:
      name: odd
      bios: ovmf
      machine: 'pc-q35-9.2+pve1,viommu=virtio'
      efidisk0: 'local-lvm:vm-250-disk-0,efitype=4m,pre-enrolled-keys=1,size=4M'
      tpmstate0: 'local-lvm:vm-250-disk-1,size=4M,version=v2.0'
      hostpci0: 'mapping=gpu,pcie=1'
      hostpci1: '0000:02:00,rombar=0,brandnew=1'
      usb0: spice
      usb1: 'host=0951:1666,usb3=1'
      virtiofs0: 'share,cache=always,expose-acl=1'
      serial1: /dev/ttyS0
      parallel0: /dev/parport0
      numa: '1'
      numa0: 'cpus=0,hostnodes=0,memory=1024,policy=bind'
      args: \"-device 'x,y=1' -no-reboot\"
      cpu: 'cputype=host,flags=+aes'
      memory: '1024'
      smbios1: 'uuid=3f2b8f6e-6f5e-4a0a-9b1c-2d9c1a5d7e11,serial=eDE=,base64=1'
      scsi0: 'local-lvm:vm-250-disk-2,cache=writeback,iothread=1,size=4G'
      scsi30: 'local-lvm:vm-250-disk-3,size=1G,serial=a%20b,mbps_rd=100'
      virtio15: 'local-lvm:vm-250-disk-4,size=1G'
      ide2: 'local-lvm:vm-250-cloudinit,media=cdrom'
      ide3: 'none,media=cdrom'
      unused0: 'local-lvm:vm-250-disk-9'
      net0: 'e1000e=BC:24:11:00:00:50,bridge=vmbr0,tag=40,trunks=10;20-22,link_down=1'
      net7: 'virtio=BC:24:11:00:00:57,bridge=vmbr0,queues=2,mtu=1400'
      cicustom: 'user=local:snippets/own.yaml'
      ipconfig0: 'ip=10.0.0.5/32,gw=192.168.1.1'
      ipconfig7: 'ip=10.40.0.7/24,gw=10.40.0.1'
      boot: 'order=scsi5;scsi0;net0'
      description: '# notes%0A%0Awith %25 and \"quotes\"'
      tags: b;a
      vmgenid: 00000000-0000-4000-8000-000000000000
";
    let world = pve_lab::WorldSpec::from_yaml(odd).unwrap();
    for transport in ["hybrid", "auto", "api", "ssh"] {
        let lab = LabRun::start(
            pve_lab::WorldSpec { guests: world.guests.clone(), ..pve_lab::WorldSpec::demo() },
            Vec::new(),
        );
        let config = || lab.world().with(|world| world.guests.values().next().unwrap().config.clone());
        let before = config();
        done(&lab, "adopt 250 --project legacy --out odd.yaml");
        let adopted = std::fs::read_to_string(lab.user.path("odd.yaml")).unwrap();
        for said in
            ["efi: {", "tpm: {", "hostpci0: {mapping", "usb1: {host", "virtiofs0: {mapping", "numa0: {"]
        {
            assert!(
                adopted.lines().any(|line| !line.contains('#') && line.contains(said)),
                "{said}: {adopted}"
            );
        }
        done(&lab, &format!("deploy odd.yaml --yes --transport {transport}"));
        let after = config();
        let changed: Vec<&String> =
            after.keys().chain(before.keys()).filter(|key| before.get(*key) != after.get(*key)).collect();
        assert!(
            changed.iter().all(|key| *key == "description" || *key == "digest"),
            "{transport}: {changed:?}"
        );
        assert!(
            lab.world().with(|world| world.guests.values().next().unwrap().pending.is_empty()),
            "{transport}"
        );
        let again = lab.user.output(&["plan", "odd.yaml", "--detailed-exitcode", "--transport", transport]);
        assert_eq!(again.status.code(), Some(0), "{transport}: {}", String::from_utf8_lossy(&again.stdout));
    }
}

#[test]
fn an_image_is_pushed_once_and_an_unknown_one_is_named() {
    let lab = LabRun::demo();
    lab.user.write("disk.raw", &"not much of a disk".repeat(64));
    let spec = crate::tidy::read("deployments/demo.yaml").replace(
        "debian-13: {path: /var/lib/vz/import/debian-13.qcow2}",
        "debian-13: {file: disk.raw, format: raw, size: 1GiB}",
    );
    lab.user.write("demo.yaml", &spec);
    assert_snapshot!("image_push", lab.run(&["image", "push", "debian-13", "--spec", "demo.yaml", "--yes"]));
    assert_snapshot!("image_push_unasked", lab.run(&["image", "push", "debian-13", "--spec", "demo.yaml"]));
    assert_snapshot!(
        "image_push_unknown",
        lab.run(&["image", "push", "debian-12", "--spec", "demo.yaml", "--yes"])
    );
}

/// A spec with two clusters: the lab, and one that answers nowhere.
fn two_clusters(lab: &LabRun) -> String {
    let demo = crate::tidy::read("deployments/demo.yaml");
    let auth = "auth: {token_id: root@pam!lab, secret: {env: EAST_SECRET}}";
    let port = lab.variable("PROXMOX_API_PORT");
    let fingerprint = lab.variable("PROXMOX_API_FINGERPRINT");
    let tls = if fingerprint.is_empty() {
        String::new()
    } else {
        format!(", tls: {{fingerprint: '{fingerprint}'}}")
    };
    let clusters = format!(
        "clusters:\n  east: {{endpoints: ['https://127.0.0.1:{port}'], {auth}{tls}}}\n  \
         west: {{endpoints: ['https://pve.west.invalid:8006'], {auth}}}\n"
    );
    demo.replace("images:\n", &format!("{clusters}images:\n"))
        .replace("    vmid: 201\n", "    vmid: 201\n    cluster: east\n")
        .replace("    vmid: 202\n", "    vmid: 202\n    cluster: east\n")
        .replace("    vmid: 203\n", "    vmid: 203\n    cluster: west\n")
}

#[test]
fn of_several_clusters_one_is_named_and_credentials_go_to_no_other_host() {
    let mut lab = LabRun::demo();
    lab.user.write("demo.yaml", &two_clusters(&lab));
    assert_snapshot!("clusters_unnamed", lab.run(&["plan", "demo.yaml"]));
    assert_snapshot!("clusters_unknown", lab.run(&["plan", "demo.yaml", "--cluster", "north"]));
    assert_snapshot!("clusters_elsewhere", lab.run(&["plan", "demo.yaml", "--cluster", "west"]));
    assert_snapshot!(
        "clusters_no_secret",
        lab.run(&["plan", "demo.yaml", "--cluster", "east", "--allow-cluster-auth"])
    );
    let secret = lab.variable("PROXMOX_API_PASSWORD");
    lab.user.add_variable("EAST_SECRET", &secret);
    done(&lab, "deploy demo.yaml --cluster east --allow-cluster-auth --yes");
    assert_eq!(lab.world().with(|world| world.guests.len()), 2, "those of the east alone");
    let again = lab.user.output(&["plan", "demo.yaml", "--cluster", "east", "--detailed-exitcode"]);
    assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
}

#[test]
fn ssh_becomes_the_system_s_ssh_with_user_address_and_alias() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut lab = LabRun::demo();
    done(&lab, "deploy demo.yaml --target web01 --yes");
    lab.user.write("bin/ssh", "#!/bin/sh\nfor word in \"$@\"; do echo \"[$word]\"; done\n");
    std::fs::set_permissions(lab.user.path("bin/ssh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let bin = lab.user.path("bin").display().to_string();
    lab.user.add_variable("PATH", &format!("{bin}:{path}"));
    assert_snapshot!("ssh", lab.run(&["ssh", "web01", "--spec", "demo.yaml", "uptime", "-p"]));
    assert_snapshot!("ssh_absent", lab.run(&["ssh", "web02", "--spec", "demo.yaml"]));
    assert!(!lab.user.home(".ssh").exists(), "it is the system's ssh that knows hosts");
    assert_snapshot!("ssh_unknown", lab.run(&["ssh", "web09", "--spec", "demo.yaml"]));
}

#[test]
fn completions_are_scripts_and_the_manual_has_every_command() {
    let session = Session::new();
    for (shell, mark) in
        [("bash", "complete -F _vmdeploy"), ("zsh", "#compdef vmdeploy"), ("fish", "complete -c vmdeploy")]
    {
        let output = session.output(&["completions", shell]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains(mark) && text.contains("check-token"), "{shell}");
    }
    assert_snapshot!("completions_unknown", session.run(&["completions", "tcsh"]));
    let page = String::from_utf8(session.output(&["man"]).stdout).unwrap();
    assert!(
        page.starts_with(".ie") && page.contains(".TH vmdeploy 1") && page.contains("fix\\-token"),
        "{page}"
    );
    let written = session.output(&["man", "--out", "pages"]);
    assert_eq!(written.status.code(), Some(0), "{}", String::from_utf8_lossy(&written.stderr));
    let pages: Vec<String> = std::fs::read_dir(session.path("pages"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    for name in ["vmdeploy.1", "vmdeploy-deploy.1", "vmdeploy-image.1"] {
        assert!(pages.iter().any(|page| page == name), "{name}: {pages:?}");
    }
}
