//! A `.env` of vm-deploy becomes a spec that makes what its playbook makes.

use crate::spec_files::load;
use vmdeploy_planner::spec::{self, Deployment, OptionValue, SourceFile, StorageKind};

const ENV: &str = r#"
export PROXMOX_API_USER="root@pam"
export PROXMOX_API_PASSWORD="hunter2"
export PROXMOX_API_HOST="proxmox.example.com"
export PROXMOX_NODE="pve"  # Usually the host name
export OPENSUSE_IMAGE_PATH="/var/lib/vz/template/iso/opensuse-leap-custom.qcow2"
export KIWI_LOCALE="en_GB"
export GITHUB_USERNAME="octocat"
export STORAGE_POOL="nvme-pool"
export DATA_DISK_SIZE="1000G"
export MON_DISK_SIZE="100G"
export PRIVATE_BRIDGE="vmbr1"
export PUBLIC_BRIDGE="vmbr0"
export VM_DEFAULT_MEMORY="32768"
export VM_DEFAULT_CORES="8"
export VM_CPU_TYPE="host"
export VM_ROOT_PASSWORD="hunter3"
export NUM_VMS="2"
export VM2_NAME="ceph-b"
export VM2_VMID="299"
export VM2_MEMORY="$VM_DEFAULT_MEMORY"
export VM2_ONBOOT="0"
export VM2_IP="192.168.1.101"
"#;

fn import(env: &str, kind: StorageKind) -> (String, Vec<String>) {
    let imported = spec::import_env(&SourceFile::new(".env", env), "ceph", kind).unwrap_or_else(|faults| {
        panic!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    });
    (imported.yaml, imported.notes)
}

fn deployment(env: &str, kind: StorageKind) -> Deployment {
    load(&[SourceFile::new("ceph.yaml", import(env, kind).0)])
}

/// Returns the VM's configuration as `qm` was told it by the playbook: keys and values, sorted.
fn told(deployment: &Deployment, name: &str) -> Vec<String> {
    let vm = deployment.vm(&name.parse().unwrap()).unwrap();
    let fields = |fields: &spec::DesiredFields| {
        let one = |(name, desired): (&String, &spec::DesiredField)| {
            format!("{name}={}", desired.value.as_deref().unwrap())
        };
        fields.iter().map(one).collect::<Vec<_>>().join(",")
    };
    let option = |(key, desired): (&String, &spec::DesiredOption)| match &desired.value {
        OptionValue::Whole(text) => format!("{key}: {text}"),
        OptionValue::Fields(inner) => format!("{key}: {}", fields(inner)),
        OptionValue::Remove => format!("{key}: -"),
    };
    let mut lines: Vec<String> = vm.options.iter().map(option).collect();
    let cloud = vm.cloud_init.as_ref().unwrap();
    lines.extend(cloud.options.iter().map(option));
    lines.push(format!("{}: {}:cloudinit", cloud.slot.unwrap().value, cloud.storage.as_ref().unwrap().value));
    for disk in vm.disks.values().filter_map(|disk| disk.set()) {
        let size = disk.size.map_or_else(|| "image".to_owned(), |size| size.value.to_string());
        let format =
            disk.format.as_ref().map_or_else(String::new, |format| format!(",format={}", format.value));
        lines.push(format!(
            "{}: {}:{size}{format},{}",
            disk.slot,
            disk.storage.as_ref().unwrap().value,
            fields(&disk.options)
        ));
    }
    lines.extend(
        vm.nics
            .values()
            .filter_map(|nic| nic.set())
            .map(|nic| format!("{}: {}", nic.slot, fields(&nic.options))),
    );
    lines.sort();
    lines
}

#[test]
fn the_deployment_is_what_the_playbook_makes() {
    let deployment = deployment(ENV, StorageKind::Zfs);
    let expect = [
        "agent: enabled=1",
        "balloon: 0",
        "boot: order=scsi0",
        "ciuser: root",
        "cores: 8",
        "cpu: cputype=host",
        "ide2: nvme-pool:cloudinit",
        "memory: current=32768",
        "nameserver: 8.8.8.8",
        "net0: bridge=vmbr1,firewall=0,model=virtio",
        "net1: bridge=vmbr0,firewall=0,model=virtio",
        "numa: 1",
        "onboot: 1",
        "ostype: l26",
        "scsi0: nvme-pool:image,discard=on",
        "scsi1: nvme-pool:1000GiB,discard=on",
        "scsi2: nvme-pool:1000GiB,discard=on",
        "scsi3: nvme-pool:1000GiB,discard=on",
        "scsi4: nvme-pool:1000GiB,discard=on",
        "scsi5: nvme-pool:100GiB,discard=on",
        "scsihw: virtio-scsi-single",
        "searchdomain: local",
        "sockets: 1",
    ];
    assert_eq!(told(&deployment, "ceph-node1"), expect);
    assert!(told(&deployment, "ceph-b").contains(&"onboot: 0".to_owned()));
    assert_eq!(deployment.vms.len(), 2);
}

#[test]
fn disk_options_follow_the_kind_of_storage() {
    let thin = told(&deployment(ENV, StorageKind::LvmThin), "ceph-node1");
    assert!(thin.contains(&"scsi0: nvme-pool:image,cache=writeback,discard=on,ssd=1".to_owned()), "{thin:?}");
    assert!(thin.contains(&"scsi5: nvme-pool:100GiB,cache=writeback,discard=on".to_owned()), "{thin:?}");
    let folder = told(&deployment(ENV, StorageKind::Directory), "ceph-node1");
    assert!(
        folder.contains(&"scsi1: nvme-pool:1000GiB,format=qcow2,cache=writeback,discard=on".to_owned()),
        "{folder:?}"
    );
}

#[test]
fn no_secret_of_the_environment_gets_into_the_spec() {
    let (yaml, notes) = import(ENV, StorageKind::Zfs);
    assert!(!yaml.contains("hunter") && !notes.join(" ").contains("hunter"), "{yaml}");
    assert!(yaml.contains("password: {env: VM_ROOT_PASSWORD}"));
    let broken = "export VM_ROOT_PASSWORD=\"hunter2\nexport PROXMOX_API_PASSWORD hunter2\nNUM_VMS=9 # password=hunter2\n";
    let faults = spec::import_env(&SourceFile::new(".env", broken), "ceph", StorageKind::Zfs).unwrap_err();
    let text = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(faults.len() == 3 && !text.contains("hunter"), "{text}");
}

#[test]
fn defaults_are_those_of_vm_deploy_and_faults_have_their_place() {
    let deployment = deployment("", StorageKind::Zfs);
    let names: Vec<&str> = deployment.vms.iter().map(|vm| vm.name.value.as_str()).collect();
    assert_eq!(names, ["ceph-node1", "ceph-node2", "ceph-node3", "ceph-node4"]);
    let faults = spec::import_env(
        &SourceFile::new(".env", "STORAGE_POOL=x\nVM1_NAME=\"a b\"\nDATA_DISK_SIZE=big\n"),
        "ceph",
        StorageKind::Zfs,
    )
    .unwrap_err();
    let places: Vec<(u32, u32)> = faults.iter().map(|fault| (fault.span.line, fault.span.column)).collect();
    assert_eq!(places, [(1, 14), (2, 10), (3, 16)]);
    let (_, notes) = import("STORAGE_POL=nvme\n", StorageKind::Zfs);
    assert!(notes.iter().any(|note| note.contains("did you mean STORAGE_POOL?")), "{notes:?}");
}

#[test]
fn line_ends_quotes_and_comments_of_other_editors_are_read_and_what_is_missing_is_said() {
    let odd = "\u{feff}export STORAGE_POOL='tank'   # the pool\r\n\r\n# NUM_VMS=4\r\nNUM_VMS=1\r\n  export   PROXMOX_NODE=\"pve1\"\r\n";
    let (yaml, notes) = import(odd, StorageKind::Zfs);
    assert!(yaml.contains("storage: tank,") && yaml.contains("node: pve1\n"), "{yaml}");
    assert!(!yaml.contains('\r') && !yaml.contains("ceph-node2"), "{yaml}");
    let said = notes.iter().find(|note| note.starts_with("not set")).unwrap();
    assert!(said.contains("DATA_DISK_SIZE (1000GiB)") && !said.contains("PROXMOX_NODE"), "{said}");
    assert!(!said.contains("is this the"), "{said}");
    let (_, notes) = import("PATH=/bin\n", StorageKind::Zfs);
    assert!(
        notes.iter().any(|note| note.ends_with("check that this is the `.env` of vm-deploy")),
        "{notes:?}"
    );
}
