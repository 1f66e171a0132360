//! `vmdeploy status`.

use crate::lab_run::LabRun;
use insta::assert_snapshot;

/// The demo, deployed; then the spec with faults of some VMs and a difference of another.
fn with_faults() -> LabRun {
    let lab = LabRun::demo();
    for command in [
        "deploy demo.yaml --yes",
        "stop --all --yes --spec demo.yaml",
        "api post /nodes/pve1/qemu vmid=250 name=theirs --wait --yes",
    ] {
        let output = lab.user.output(&command.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let demo = crate::tidy::read("deployments/demo.yaml")
        .replace("memory: 4GiB", "memory: 6GiB")
        .replacen("demo.pub", "lost.pub", 1);
    let more = "  taken: {vmid: 250, disks: {scsi0: {storage: local-lvm, size: 1GiB}}}
  lost: {vmid: 251, disks: {scsi0: {storage: local-lvm, image: lost}}}
  new: {vmid: 252, disks: {scsi0: {storage: local-lvm, image: debian-13}}}
";
    let images = "images:\n  lost: {path: /var/lib/vz/import/lost.qcow2}\n";
    lab.user.write("demo.yaml", &format!("{}{more}", demo.replace("images:\n", images)));
    lab
}

#[test]
fn a_fault_of_one_vm_leaves_how_far_the_others_are_from_the_spec() {
    let lab = with_faults();
    assert_snapshot!("faults_of_some", lab.run(&["status", "demo.yaml"]));
    // VMs that were not selected are not mentioned.
    assert_snapshot!("faults_of_others", lab.run(&["status", "demo.yaml", "--target", "db01"]));
}
