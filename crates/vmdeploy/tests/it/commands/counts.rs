//! What a deploy with nothing to do asks of the cluster: it must not grow with the number of VMs.

use crate::lab_run::LabRun;
use insta::assert_snapshot;
use pve_lab::{Counts, WorldSpec};
use std::fmt::Write as _;

const TRANSPORTS: [&str; 4] = ["hybrid", "auto", "ssh", "api"];

/// A device or folder of the node by each kind of mapping.
const MAPPED: &str = ", pci: {hostpci0: {mapping: gpu}}, usb: {usb0: {mapping: stick}}, virtiofs: {virtiofs0: {mapping: share}}";

fn spec(vms: u32, more: &str) -> String {
    let mut text = String::from(
        "version: 1\nproject: counts\ndefaults: {node: pve1, agent: true}\nimages:\n  tiny: {volume: 'local:import/tiny.qcow2'}\nvms:\n",
    );
    for vmid in 200..200 + vms {
        let _ = writeln!(
            text,
            "  vm{vmid}: {{vmid: {vmid}, memory: 256MiB, disks: {{scsi0: {{storage: local-lvm, image: tiny, size: 1GiB}}}}, \
             nics: {{net0: {{bridge: vmbr0, ip: dhcp}}}}, cloud_init: {{user: admin}}{more}}}"
        );
    }
    text
}

/// Deploys so many VMs; returns what each transport then asks to find that nothing is to do.
fn asked(vms: u32, more: &str) -> Vec<Counts> {
    let mut world = WorldSpec::demo();
    let mappings = "{pci: {gpu: {map: ['node=pve1,id=10de:2204,path=0000:01:00.0']}}, \
                    usb: {stick: {map: ['node=pve1,id=0951:1666']}}, dir: {share: {map: ['node=pve1,path=/srv']}}}";
    world.mappings = WorldSpec::from_yaml(&format!("mappings: {mappings}")).unwrap().mappings;
    let lab = LabRun::start(world, Vec::new());
    lab.user.write("spec.yaml", &spec(vms, more));
    let deploy = |transport: &str| {
        let output = lab.user.output(&["deploy", "spec.yaml", "--yes", "--transport", transport]);
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{said}");
    };
    deploy("auto");
    assert_eq!(lab.world().with(|world| world.guests.len()), vms as usize);
    let starts = || lab.world().with(|world| world.tasks.newest_first().count());
    let tasks = starts();
    let one = |transport: &&str| {
        let before = lab.world().counts();
        deploy(transport);
        let after = lab.world().counts();
        let programs = after.programs.values().sum::<u64>() - before.programs.values().sum::<u64>();
        Counts {
            api_requests: after.api_requests - before.api_requests,
            ssh_commands: after.ssh_commands - before.ssh_commands,
            programs: [("all".to_owned(), programs)].into(),
            ..Counts::default()
        }
    };
    let counts = TRANSPORTS.iter().map(one).collect();
    assert_eq!(starts(), tasks, "something was done");
    counts
}

#[test]
fn finding_that_nothing_is_to_do_costs_the_same_for_5_and_for_40_vms() {
    let (few, many) = (asked(5, ""), asked(40, ""));
    assert_snapshot!(told(&few, &many));
}

#[test]
fn mappings_cost_one_question_a_kind_however_many_vms_use_them() {
    let (few, many) = (asked(5, MAPPED), asked(40, MAPPED));
    assert_snapshot!(told(&few, &many));
}

/// Says what few VMs cost, once it is certain that many cost the same.
fn told(few: &[Counts], many: &[Counts]) -> String {
    let mut text = String::new();
    for (number, transport) in TRANSPORTS.iter().enumerate() {
        let (few, many) = (&few[number], &many[number]);
        if *transport == "api" {
            assert_eq!(
                many.api_requests - few.api_requests,
                35,
                "one request for each VM more: {few:?} {many:?}"
            );
        } else {
            assert_eq!(few, many, "{transport}");
        }
        let _ = writeln!(
            text,
            "{transport}: {} API requests, {} SSH commands, {} of them PVE's programs",
            few.api_requests, few.ssh_commands, few.programs["all"]
        );
    }
    text
}
