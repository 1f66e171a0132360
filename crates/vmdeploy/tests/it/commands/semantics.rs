//! What PVE makes of values, over the lab: a second plan has nothing to do, and what would fail is refused before.

use crate::lab_run::LabRun;
use pve_lab::WorldSpec;

const WORLD: &str = "version: 9.2.11
token: {id: root@pam!lab, privsep: false}
nodes:
  pve1: {cpus: 16, memory: 64GiB, rootfs: 200GiB, bridges: [vmbr0]}
  pve2: {cpus: 16, memory: 64GiB, rootfs: 200GiB, bridges: [vmbr0]}
storages:
  local: {type: dir, content: [iso, import, images, snippets], size: 200GiB, options: {path: /var/lib/vz}}
  thin: {type: lvmthin, content: [images], size: 50GiB, options: {vgname: pve, thinpool: data}}
  zfs: {type: zfspool, content: [images], size: 60GiB, options: {pool: tank}}
  ceph: {type: rbd, content: [images], size: 20TiB, options: {pool: rbd}}
files:
  - {path: /var/lib/vz/template/iso/os.iso, content: {format: raw, virtual_size: 4MiB, file_size: 4MiB, seed: 1}}
  - {path: /var/lib/vz/template/iso/drivers.iso, content: {format: raw, virtual_size: 8MiB, file_size: 8MiB, seed: 2}}
guests:
  9001: {node: pve1, config: {name: tmpl-ceph, template: '1', boot: order=scsi0, scsi0: 'ceph:base-9001-disk-0,size=4G', smbios1: uuid=fc7bc40a-e0dd-4461-9257-6a9e59009001}}
  9002: {node: pve1, config: {name: tmpl-zfs, template: '1', boot: order=scsi0, scsi0: 'zfs:base-9002-disk-0,size=4G', smbios1: uuid=fc7bc40a-e0dd-4461-9257-6a9e59009002}}
guest: {agent_ms: 100, cloud_init_ms: 100, dhcp: 192.0.2.0/24}
";

fn lab() -> LabRun {
    LabRun::start(WorldSpec::from_yaml(WORLD).expect("the world is one"), Vec::new())
}

/// Runs a command with this spec of one VM, and returns its exit code and what it printed.
fn run(lab: &LabRun, command: &[&str], vm: &str) -> (i32, String) {
    lab.user.write(
        "vm.yaml",
        &format!("version: 1\nproject: sem\nvms:\n  one:\n    vmid: 300\n    node: pve1\n{vm}"),
    );
    let arguments: Vec<&str> = command.iter().copied().chain(["vm.yaml"]).collect();
    let output = lab.user.output(&arguments);
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code().unwrap_or(-1), text.concat())
}

#[track_caller]
fn deployed(lab: &LabRun, vm: &str) {
    let (code, text) = run(lab, &["deploy", "--yes"], vm);
    assert_eq!(code, 0, "{vm}{text}");
    let (code, text) = run(lab, &["plan", "--detailed-exitcode"], vm);
    assert_eq!(code, 0, "a second plan has nothing to do: {vm}{text}");
}

#[track_caller]
fn refused(lab: &LabRun, vm: &str, why: &str) {
    let (code, text) = run(lab, &["plan"], vm);
    assert!(matches!(code, 2 | 4), "{vm}{text}");
    assert!(text.contains(why), "`{why}`: {text}");
}

#[test]
fn windows_media_and_firmware_are_compared_by_what_pve_makes_of_them() {
    let lab = lab();
    let windows = "    ostype: win11
    machine: q35
    bios: {type: ovmf, efi: {storage: thin}}
    tpm: thin
    smbios: {product: Client PC}
    lifecycle: {restart: if-needed}
    disks:
      scsi0: {storage: thin, size: 8GiB}
      sata0: {iso: 'local:iso/os.iso'}
      sata1: {iso: 'local:iso/drivers.iso'}
    boot: [scsi0, sata0]
    nics: {net0: {bridge: vmbr0, vlan: 10}}
";
    deployed(&lab, windows);
    deployed(&lab, &windows.replace("'local:iso/drivers.iso'", "none"));
    // Where the spec leaves the boot order alone, it stays.
    let unmanaged = windows.replace("    boot: [scsi0, sata0]\n", "");
    deployed(&lab, &unmanaged);
    let (_, text) = run(&lab, &["plan"], windows);
    assert!(!text.contains("boot"), "{text}");
    refused(&lab, &windows.replace("tpm: thin", "tpm: {storage: thin, version: v1.2}"), "`version` v2.0");
    refused(&lab, &windows.replace("tpm: thin", "tpm: ceph"), "only while the VM is stopped");
}

#[test]
fn cloud_init_data_of_a_running_guest_is_written_in_the_same_run() {
    let lab = lab();
    let cloud = "    disks: {scsi0: {storage: thin, size: 4GiB}}
    nics: {net0: {bridge: vmbr0, vlan: 10, ip: dhcp}}
    cloud_init: {user: admin}
";
    deployed(&lab, cloud);
    deployed(&lab, &cloud.replace("vlan: 10", "vlan: 20"));
    deployed(&lab, &cloud.replace("nics: {", "nics: {net1: {bridge: vmbr0}, "));
    deployed(&lab, &cloud.replace("nics: {", "nics: {net1: null, "));
}

#[test]
fn storages_are_asked_where_a_clone_begins_and_have_room_for_what_is_written() {
    let lab = lab();
    deployed(&lab, "    disks: {scsi0: {storage: thin, size: 100GiB}}\n");
    let limited = "    disks: {scsi0: {storage: thin, size: 100GiB}, scsi1: {storage: thin, size: 10GiB}}\n";
    let (code, text) = run(&lab, &["plan"], limited);
    assert_eq!(code, 0, "{text}");
    let elsewhere = |from: u32| {
        format!(
            "version: 1\nproject: other\nvms:\n  two:\n    vmid: 301\n    node: pve2\n    clone: {{from: {from}, mode: linked}}\n"
        )
    };
    for (from, code) in [(9001, 0), (9002, 4)] {
        lab.user.write("other.yaml", &elsewhere(from));
        let output = lab.user.output(&["deploy", "--yes", "other.yaml"]);
        assert_eq!(output.status.code(), Some(code), "{from}: {}", String::from_utf8_lossy(&output.stderr));
    }
    lab.user.write(
        "grown.yaml",
        "version: 1\nproject: grown\nvms:\n  three: {vmid: 302, node: pve1, clone: {from: 9002}, disks: {scsi0: {size: 104GiB}}}\n",
    );
    let output = lab.user.output(&["plan", "grown.yaml"]);
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn what_is_not_there_is_said_before_anything_is_made() {
    let lab = lab();
    let disk = "    disks: {scsi0: {storage: thin, size: 4GiB}}\n";
    refused(
        &lab,
        &format!("{disk}    hookscript: 'local:snippets/pin.sh'\n"),
        "hook script local:snippets/pin.sh",
    );
    let data = "    cloud_init: {user_data: {volume: 'local:snippets/a.yaml'}}\n";
    refused(&lab, &format!("{disk}{data}"), "cloud-init data local:snippets/a.yaml");
    refused(&lab, &format!("{disk}    cpu: {{type: custom-none}}\n"), "CPU model custom-none");
    refused(&lab, &format!("{disk}    memory: {{size: 2GiB, hugepages: 2}}\n"), "huge pages need NUMA");
}

#[test]
fn a_device_of_the_node_is_set_by_ssh() {
    let lab = lab();
    deployed(
        &lab,
        "    disks: {sata0: {storage: thin, size: 4GiB}}\n    raw: {scsi1: '/dev/disk/by-id/ata-A,backup=0'}\n    boot: [sata0]\n",
    );
}
