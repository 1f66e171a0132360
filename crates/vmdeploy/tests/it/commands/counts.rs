//! What a deploy with nothing to do asks of the cluster: it must not grow with the number of VMs.

use crate::lab_run::LabRun;
use insta::assert_snapshot;
use pve_lab::{Counts, WorldSpec};
use std::fmt::Write as _;

const ROADS: [&str; 4] = ["hybrid", "auto", "ssh", "api"];

fn spec(vms: u32) -> String {
    let mut text = String::from(
        "version: 1\nproject: counts\ndefaults: {node: pve1, agent: true}\nimages:\n  tiny: {volume: 'local:import/tiny.qcow2'}\nvms:\n",
    );
    for vmid in 200..200 + vms {
        let _ = writeln!(
            text,
            "  vm{vmid}: {{vmid: {vmid}, memory: 256MiB, disks: {{scsi0: {{storage: local-lvm, image: tiny, size: 1GiB}}}}, \
             nics: {{net0: {{bridge: vmbr0, ip: dhcp}}}}, cloud_init: {{user: admin}}}}"
        );
    }
    text
}

/// Deploys so many VMs; returns what each road then asks to find that nothing is to do.
fn asked(vms: u32) -> Vec<Counts> {
    let lab = LabRun::start(WorldSpec::demo(), Vec::new());
    lab.user.write("spec.yaml", &spec(vms));
    let deploy = |road: &str| {
        let output = lab.user.output(&["deploy", "spec.yaml", "--yes", "--road", road]);
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{said}");
    };
    deploy("auto");
    assert_eq!(lab.world().with(|world| world.guests.len()), vms as usize);
    let starts = || lab.world().with(|world| world.tasks.newest_first().count());
    let tasks = starts();
    let one = |road: &&str| {
        let before = lab.world().counts();
        deploy(road);
        let after = lab.world().counts();
        let programs = after.programs.values().sum::<u64>() - before.programs.values().sum::<u64>();
        Counts {
            api_requests: after.api_requests - before.api_requests,
            ssh_commands: after.ssh_commands - before.ssh_commands,
            programs: [("all".to_owned(), programs)].into(),
            ..Counts::default()
        }
    };
    let counts = ROADS.iter().map(one).collect();
    assert_eq!(starts(), tasks, "something was done");
    counts
}

#[test]
fn finding_that_nothing_is_to_do_costs_the_same_for_5_and_for_40_vms() {
    let (few, many) = (asked(5), asked(40));
    let mut text = String::new();
    for (number, road) in ROADS.iter().enumerate() {
        let (few, many) = (&few[number], &many[number]);
        if *road == "api" {
            assert_eq!(
                many.api_requests - few.api_requests,
                35,
                "one request for each VM more: {few:?} {many:?}"
            );
        } else {
            assert_eq!(few, many, "{road}");
        }
        let _ = writeln!(
            text,
            "{road}: {} API requests, {} SSH commands, {} of them PVE's programs",
            few.api_requests, few.ssh_commands, few.programs["all"]
        );
    }
    assert_snapshot!(text);
}
