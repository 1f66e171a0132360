//! A loaded node: every transient error that PVE is known to say, at once, and nothing is lost.

use crate::lab_run::LabRun;
use pve_lab::WorldSpec;
use pve_lab::fault::loaded_node;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Output;

/// A spec of so many VMs with an imported disk, an empty one, cloud-init and a start.
fn spec(vms: u32) -> String {
    let mut text = "version: 1\nproject: load\ndefaults: {node: pve1}\nimages:\n  \
                    tiny: {volume: 'local:import/tiny.qcow2'}\nvms:\n"
        .to_owned();
    for number in 0..vms {
        let vmid = 300 + number;
        let _ = write!(
            text,
            "  vm{number:02}:\n    vmid: {vmid}\n    memory: 1GiB\n    disks:\n      \
             scsi0: {{storage: local-lvm, image: tiny, size: 2GiB}}\n      \
             scsi1: {{storage: local-lvm, size: 1GiB}}\n    nics: {{net0: {{bridge: vmbr0, ip: dhcp}}}}\n    \
             cloud_init: {{user: admin}}\n"
        );
    }
    text
}

fn ended(what: &str, output: &Output, code: i32) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let tail = |text: &str| {
        text.lines().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    };
    assert_eq!(output.status.code(), Some(code), "{what}\n{}\n{}", tail(&out), tail(&err));
}

/// Deploys so many VMs while each fault strikes five of a hundred calls, and accounts for everything afterwards.
fn nothing_is_lost(transport: &str, vms: u32) {
    let lab = LabRun::start(WorldSpec::demo(), Vec::new());
    lab.user.write("load.yaml", &spec(vms));
    // Through the API, only root@pam may remove what a creation leaves whose worker did not start: another test covers it.
    let faults = loaded_node(0.05, transport != "api");
    lab.world().with(|world| faults.into_iter().for_each(|fault| world.faults.add(fault)));
    let deploy = lab.user.output(&["deploy", "load.yaml", "--yes", "--transport", transport]);
    let struck = lab.world().with(|world| {
        let struck = world.faults.struck();
        world.faults.clear();
        struck
    });
    ended(&format!("{transport}: {struck} faults"), &deploy, 0);
    assert!(struck > u64::from(vms), "{struck} faults are too few to tell anything");
    let plan = lab.user.output(&["plan", "load.yaml", "--detailed-exitcode", "--transport", transport]);
    ended(&format!("{transport}: the second plan is empty"), &plan, 0);
    lab.world().with(|world| {
        let expected: BTreeSet<u32> = (300..300 + vms).collect();
        let found: BTreeSet<u32> =
            world.guests.keys().map(|vmid| vmid.get()).filter(|vmid| *vmid >= 300).collect();
        assert_eq!(found, expected, "{transport}: no guest is missing, and none is too many");
        assert!(
            world.guests.values().filter(|guest| guest.vmid.get() >= 300).all(|guest| guest.is_running())
        );
        let named: BTreeSet<String> = world
            .guests
            .values()
            .flat_map(|guest| guest.config.values())
            .filter_map(|value| value.split(',').next()?.strip_prefix("local-lvm:").map(str::to_owned))
            .collect();
        let there: BTreeSet<String> = world
            .block_stores
            .iter()
            .filter(|((_, storage), _)| storage == "local-lvm")
            .flat_map(|(_, store)| store.volumes.keys().cloned())
            .collect();
        let orphans: Vec<&String> =
            there.iter().filter(|name| !named.iter().any(|named| name.ends_with(named.as_str()))).collect();
        assert!(orphans.is_empty(), "{transport}: orphans {orphans:?}");
    });
}

#[test]
fn a_few_vms_are_deployed_by_each_transport() {
    for transport in ["api", "hybrid"] {
        nothing_is_lost(transport, 5);
    }
}

/// `make fuzz` runs it: some minutes.
#[test]
fn fifty_vms_are_deployed_by_each_transport() {
    if std::env::var_os("VMDEPLOY_TEST_ALL").is_none() {
        return;
    }
    for transport in ["api", "hybrid", "auto", "ssh"] {
        nothing_is_lost(transport, 50);
    }
}

/// Every fifth request is refused: reads are sent again, and what is done is done once.
#[test]
fn every_fifth_request_may_be_refused() {
    for status in [429, 500, 503, 596] {
        let faults: String = (5..600)
            .step_by(5)
            .map(|nth| {
                let when = if status == 500 { "listener: api, method: GET" } else { "listener: api" };
                format!(
                    "- {{when: {{{when}, nth: {nth}}}, do: {{refuse: {{status: {status}, reason: x}}}}}}\n"
                )
            })
            .collect();
        let lab = LabRun::start(WorldSpec::demo(), pve_lab::fault::from_yaml(&faults).unwrap());
        lab.user.write("load.yaml", &spec(1));
        let deploy = lab.user.output(&["deploy", "load.yaml", "--yes", "--transport", "api"]);
        ended(&format!("{status}"), &deploy, 0);
        let plan = lab.user.output(&["plan", "load.yaml", "--detailed-exitcode", "--transport", "api"]);
        ended(&format!("{status}: second plan"), &plan, 0);
    }
}
