//! `vmdeploy start`, `shutdown`, `stop` and `reboot`: which VMs, in which order, and what is never touched.

use crate::lab_run::LabRun;
use pve_lab::WorldSpec;
use serde_json::Value;
use std::process::Output;

/// The demo's VMs with an order of start-up, two of them in a pool, deployed; and a foreign guest named as one of them.
fn deployed(world: WorldSpec) -> LabRun {
    let lab = LabRun::start(world, Vec::new());
    for command in [
        "api post /pools poolid=front --yes",
        "api post /nodes/pve1/qemu vmid=900 name=web01 scsi0=local-lvm:1 --wait --yes",
        "api post /nodes/pve1/qemu/900/status/start --wait --yes",
    ] {
        ended(&lab.user.output(&command.split(' ').collect::<Vec<_>>()), 0);
    }
    let demo = crate::tidy::read("deployments/demo.yaml")
        .replace("    vmid: 201\n", "    vmid: 201\n    startup: {order: 2}\n    pool: front\n")
        .replace("    vmid: 202\n", "    vmid: 202\n    startup: {order: 3}\n    pool: front\n")
        .replace("    vmid: 203\n", "    vmid: 203\n    startup: {order: 1}\n");
    lab.user.write("demo.yaml", &demo);
    ended(&lab.user.output(&["deploy", "demo.yaml", "--yes"]), 0);
    lab
}

/// Returns what was printed, both streams, of a command that ended with this code.
fn ended(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    (out, err)
}

/// Runs a command on the spec's VMs, and returns what it printed.
fn run(lab: &LabRun, command: &str, code: i32) -> (String, String) {
    let words: Vec<&str> = command.split(' ').chain(["--spec", "demo.yaml"]).collect();
    ended(&lab.user.output(&words), code)
}

/// Returns the spec's VMs that run, in the spec's order; the foreign one always does.
fn running(lab: &LabRun) -> Vec<String> {
    let (out, _) = ended(&lab.user.output(&["api", "get", "/nodes/pve1/qemu/900/status/current"]), 0);
    assert!(out.contains("running"), "other guests are not touched: {out}");
    let (out, _) = ended(&lab.user.output(&["status", "demo.yaml", "--json"]), 0);
    let document: Value = serde_json::from_str(&out).unwrap();
    let vms = document["vms"].as_array().expect(&out).iter();
    let on = vms.filter(|vm| vm["state"] == "running");
    on.map(|vm| vm["vm"].as_str().expect(&out).to_owned()).collect()
}

#[test]
fn vms_are_switched_by_name_tag_pool_and_all_in_their_order() {
    let lab = deployed(WorldSpec::demo());
    assert_eq!(running(&lab), ["web01", "web02", "db01"]);
    let (_, err) = run(&lab, "stop --all", 2);
    assert!(err.contains("this would stop at once web01, web02, db01"), "{err}");
    assert_eq!(running(&lab), ["web01", "web02", "db01"], "it was not confirmed");
    let (out, _) = run(&lab, "shutdown --all --tag web --yes", 0);
    assert_eq!(out, "web02: shut down\nweb01: shut down\n", "the last to start is the first to go");
    assert_eq!(running(&lab), ["db01"]);
    let (out, _) = run(&lab, "start --pool front --yes", 0);
    assert_eq!(out, "web01: started\nweb02: started\n");
    let (out, _) = run(&lab, "reboot db01 --yes", 0);
    assert_eq!(out, "db01: rebooted\n");
    let (out, _) = run(&lab, "stop --all --yes", 0);
    assert_eq!(out, "web02: stopped\nweb01: stopped\ndb01: stopped\n");
    assert_eq!(running(&lab), Vec::<String>::new());
    // What is so already needs no word, and what does not run is not started by a reboot.
    let (out, _) = run(&lab, "stop --all", 0);
    assert_eq!(out, "web01: not running\nweb02: not running\ndb01: not running\n");
    let (out, _) = run(&lab, "reboot --all", 0);
    assert_eq!(out.matches("not running; left as it is").count(), 3, "{out}");
    let (out, _) = run(&lab, "start --all --yes", 0);
    assert_eq!(out, "db01: started\nweb01: started\nweb02: started\n");
    let (out, _) = run(&lab, "start web02", 0);
    assert_eq!(out, "web02: already running\n");
    ended(&lab.user.output(&["destroy", "demo.yaml", "--target", "web01", "--yes"]), 0);
    let (out, _) = run(&lab, "start --all", 0);
    assert!(out.starts_with("web01: absent\n"), "{out}");
}

#[test]
fn a_name_tag_or_pool_that_no_vm_has_switches_nothing() {
    let lab = deployed(WorldSpec::demo());
    for verb in ["start", "shutdown", "stop", "reboot"] {
        for (which, said) in [
            ("--tag nope", "no VM of the spec has tag `nope`"),
            ("--tag web --tag nope", "no VM of the spec has tag `nope`"),
            ("--pool nope", "no VM of the spec is in pool `nope`"),
            ("nobody", "the spec has no VM or group `nobody`"),
            ("db01 --tag web", "no VM of the spec matches all of these options"),
        ] {
            let (out, err) = run(&lab, &format!("{verb} {which} --yes"), 2);
            assert!(out.is_empty() && err.contains(said) && err.contains("hint: "), "{verb} {which}: {err}");
        }
        let (_, err) = run(&lab, &format!("{verb} --yes"), 2);
        assert!(err.contains("no VM was given") && err.contains("--all"), "{err}");
    }
    assert_eq!(running(&lab), ["web01", "web02", "db01"]);
}

#[test]
fn a_guest_that_does_not_react_is_left_running_without_force() {
    let mut world = WorldSpec::demo();
    world.guest.shuts_down = false;
    let lab = deployed(world);
    let (_, err) = run(&lab, "shutdown db01 --timeout 1 --yes", 23);
    assert!(err.contains("cannot shut down db01 (VM 203 on pve1)") && err.contains("hint: "), "{err}");
    assert_eq!(running(&lab), ["web01", "web02", "db01"]);
    let (out, _) = run(&lab, "shutdown db01 --timeout 1 --force --yes", 0);
    assert_eq!(out, "db01: shut down\n");
    assert_eq!(running(&lab), ["web01", "web02"]);
}

/// A small spec of two VMs that start at once, deployed by a transport.
fn small(transport: &str) -> LabRun {
    let lab = LabRun::start(WorldSpec::demo(), Vec::new());
    let vm = |name: &str, vmid: u32, tag: &str| {
        format!(
            "  {name}: {{vmid: {vmid}, node: pve1, tags: [{tag}], memory: 512MiB, \
             disks: {{scsi0: {{storage: local-lvm, size: 1GiB}}}}, lifecycle: {{state: running}}}}\n"
        )
    };
    let vms = format!("{}{}", vm("p1", 301, "a"), vm("p2", 302, "b"));
    lab.user.write("small.yaml", &format!("version: 1\nproject: small\ntransport: {transport}\nvms:\n{vms}"));
    ended(&lab.user.output(&["deploy", "small.yaml", "--yes"]), 0);
    lab
}

fn switched(lab: &LabRun, command: &str, code: i32) -> (String, String) {
    ended(&lab.user.output(&command.split(' ').collect::<Vec<_>>()), code)
}

/// Tells whether a guest of the world runs.
fn runs(lab: &LabRun, vmid: u32) -> bool {
    lab.world().with(|world| world.guests[&pve_types::Vmid::new(vmid).unwrap()].is_running())
}

#[test]
fn a_state_of_a_moment_ago_decides_nothing() {
    for transport in ["api", "hybrid", "auto", "ssh"] {
        let lab = small(transport);
        assert!(runs(&lab, 301) && runs(&lab, 302), "{transport}");
        // `/cluster/resources` still says what was, for ten seconds.
        let (out, _) = switched(&lab, "stop small.yaml p1 --yes", 0);
        assert_eq!((out.as_str(), runs(&lab, 301)), ("p1: stopped\n", false), "{transport}");
        let (out, _) = switched(&lab, "start small.yaml p1 --yes", 0);
        assert_eq!((out.as_str(), runs(&lab, 301)), ("p1: started\n", true), "{transport}");
        let (out, _) = switched(&lab, "shutdown small.yaml --all --tag a --yes", 0);
        assert_eq!((out.as_str(), runs(&lab, 301)), ("p1: shut down\n", false), "{transport}");
        let (out, _) = switched(&lab, "status small.yaml", 0);
        assert!(out.contains("stopped") && out.contains("running"), "{transport}: {out}");
        let (out, _) = switched(&lab, "start small.yaml --all --yes", 0);
        assert_eq!(out, "p2: already running\np1: started\n", "{transport}");
        let (out, _) = switched(&lab, "plan small.yaml --detailed-exitcode", 0);
        assert!(!out.contains("shut down"), "{transport}: {out}");
    }
}

#[test]
fn a_reboot_is_done_when_the_guest_runs_again() {
    for transport in ["api", "ssh"] {
        let lab = small(transport);
        let fault = "- {when: {task: qmstart, vmid: 301, times: 1}, do: {fail-task: {text: 'start failed: QEMU exited with code 1'}}}";
        lab.world().with(|world| {
            pve_lab::fault::from_yaml(fault).unwrap().into_iter().for_each(|fault| world.faults.add(fault));
        });
        let (out, err) = switched(&lab, "reboot small.yaml p1 --yes", 0);
        assert_eq!((out.as_str(), runs(&lab, 301)), ("p1: rebooted\n", true), "{transport}");
        assert!(err.contains("started again"), "{transport}: {err}");
        let fault = fault.replace(", times: 1", "");
        lab.world().with(|world| {
            pve_lab::fault::from_yaml(&fault).unwrap().into_iter().for_each(|fault| world.faults.add(fault));
        });
        let (out, err) = switched(&lab, "reboot small.yaml p1 --timeout 5 --yes", 6);
        assert!(
            out.is_empty() && err.contains("cannot reboot p1 (VM 301 on pve1)"),
            "{transport}: {out}{err}"
        );
        assert!(err.contains("QEMU exited with code 1") && !runs(&lab, 301), "{transport}: {err}");
    }
}

#[test]
fn a_start_whose_task_failed_and_whose_guest_runs_is_one_with_a_warning() {
    let lab = small("api");
    switched(&lab, "stop small.yaml --all --yes", 0);
    let fault = "- {when: {task: qmstart}, do: {fail-task: {text: \"got wrong command id '1:2' (expected 1:3)\", at: after}}}";
    lab.world().with(|world| {
        pve_lab::fault::from_yaml(fault).unwrap().into_iter().for_each(|fault| world.faults.add(fault));
    });
    let (out, err) = switched(&lab, "start small.yaml p1 --yes", 0);
    assert_eq!((out.as_str(), runs(&lab, 301)), ("p1: started\n", true));
    assert!(
        err.contains("warning: p1: the guest is running, although") && err.contains("got wrong command id"),
        "{err}"
    );
}

#[test]
fn own_vms_are_found_by_their_markers_where_no_spec_is_named() {
    let lab = small("hybrid");
    ended(
        &lab.user.output(&["api", "post", "/nodes/pve1/qemu", "vmid=900", "name=p1", "--wait", "--yes"]),
        0,
    );
    let (out, _) = switched(&lab, "reboot p1 --yes", 0);
    assert_eq!(out, "p1: rebooted\n", "the foreign guest of the same name is not meant");
    let (_, err) = switched(&lab, "stop theirs --yes", 4);
    assert!(
        err.contains("no VM named `theirs` has vmdeploy's ownership marker") && err.contains("hint: "),
        "{err}"
    );
    let (_, err) = switched(&lab, "stop --all --yes", 2);
    assert!(err.contains("no spec was given"), "{err}");
    let (_, err) = switched(&lab, "ip small.yaml p1", 20);
    assert!(err.contains("no guest agent"), "{err}");
}
