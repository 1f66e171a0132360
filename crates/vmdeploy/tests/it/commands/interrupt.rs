//! Signals stop a run cleanly, and it says how to go on; `resume` finishes it.

use crate::deploying::Deploying;
use crate::lab_run::LabRun;
use pve_lab::{Delays, WorldSpec};
use std::process::Stdio;
use std::time::{Duration, Instant};

const DEPLOY: [&str; 4] = ["deploy", "demo.yaml", "--yes", "--brief"];

/// The state of each step of the newest run, as `vmdeploy report` tells it.
fn states(lab: &LabRun) -> Vec<String> {
    let runs: serde_json::Value =
        serde_json::from_slice(&lab.user.output(&["runs", "--json"]).stdout).unwrap();
    let run = runs["runs"][0]["run"].as_str().unwrap();
    let report = lab.user.output(&["report", run, "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    let steps = report["steps"].as_array().unwrap();
    steps.iter().map(|step| step["state"]["state"].as_str().unwrap().to_owned()).collect()
}

fn is_finished_by_resume(lab: &LabRun) {
    let resumed = lab.user.output(&["resume"]);
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
    assert_eq!(lab.user.output(&["plan", "demo.yaml", "--detailed-exitcode"]).status.code(), Some(0));
}

#[test]
fn a_run_that_is_asked_to_stop_finishes_what_is_on_the_wire_and_is_finished_by_resume() {
    for signal in ["INT", "TERM"] {
        let world = WorldSpec { delays: Delays { start_ms: 1500, ..Delays::demo() }, ..WorldSpec::demo() };
        let lab = LabRun::start(world, Vec::new());
        let mut run = Deploying::start(&lab, &DEPLOY);
        // The first import that is through is a moment in the middle of the run.
        run.read_until("import scsi0");
        run.signal(signal);
        let code = run.end();
        assert_eq!(code, Some(8), "SIG{signal}: {}", run.said);
        assert!(run.said.contains("hint: `vmdeploy resume "), "SIG{signal}: {}", run.said);
        let states = states(&lab);
        assert!(states.iter().any(|state| state == "succeeded"), "SIG{signal}: {states:?}");
        assert!(states.iter().any(|state| state == "not_started"), "SIG{signal}: {states:?}");
        assert!(!states.iter().any(|state| state == "started"), "SIG{signal}, on the wire: {states:?}");
        is_finished_by_resume(&lab);
    }
}

#[test]
fn a_run_that_is_interrupted_twice_gives_up_what_is_on_the_wire_and_is_finished_by_resume() {
    // The copy takes as long as the test: who waits for it does not stop now.
    let delays = Delays { copy_ms_per_100_mib: 600_000, ..Delays::demo() };
    let lab = LabRun::start(WorldSpec { delays, ..WorldSpec::demo() }, Vec::new());
    let mut run = Deploying::start(&lab, &DEPLOY);
    let until = Instant::now() + Duration::from_secs(60);
    while lab.world().with(|world| world.block_stores.values().all(|store| store.volumes.is_empty())) {
        assert!(Instant::now() < until && run.child.try_wait().unwrap().is_none(), "nothing is copied");
        std::thread::sleep(Duration::from_millis(5));
    }
    run.signal("INT");
    run.read_until("press Ctrl-C again to stop now");
    run.signal("INT");
    let code = run.end();
    assert_eq!(code, Some(8), "{}", run.said);
    assert!(run.said.contains("hint: `vmdeploy resume "), "{}", run.said);
    lab.world().with(|world| world.delays.copy_ms_per_100_mib = 0);
    is_finished_by_resume(&lab);
}

#[test]
fn a_second_sigterm_still_lets_what_is_on_the_wire_finish() {
    let world = WorldSpec { delays: Delays { start_ms: 1500, ..Delays::demo() }, ..WorldSpec::demo() };
    let lab = LabRun::start(world, Vec::new());
    let mut run = Deploying::start(&lab, &DEPLOY);
    run.read_until("import scsi0");
    run.signal("TERM");
    run.signal("TERM");
    assert_eq!(run.end(), Some(8), "{}", run.said);
    let states = states(&lab);
    assert!(!states.iter().any(|state| state == "started"), "{states:?}");
    is_finished_by_resume(&lab);
}

/// Deploys, and kills the program without a warning while a creation is on its way to the node.
fn killed_while_creating() -> LabRun {
    killed_when("method: POST, path: '/nodes/*/qemu', times: 1")
}

/// The same while the first call is on its way that this is about.
fn killed_when(call: &str) -> LabRun {
    let faults = format!("[{{when: {{{call}}}, do: {{slow: {{ms: 2000}}}}}}]");
    let lab = LabRun::start(WorldSpec::demo(), pve_lab::fault::from_yaml(&faults).unwrap());
    let mut command = lab.user.command(&DEPLOY);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while lab.world().with(|world| world.faults.struck()) == 0 {
        assert!(Instant::now() < until && child.try_wait().unwrap().is_none(), "nothing is created");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    lab
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_kill_while_a_vm_is_being_created_is_rolled_back_and_deployed_again() {
    let lab = killed_while_creating();
    let rolled_back = lab.user.output(&["resume", "--rollback", "--yes"]);
    let said = text(&rolled_back.stderr);
    assert_eq!(rolled_back.status.code(), Some(5), "{said}");
    assert!(said.contains(": an earlier request had no answer and may still take effect"), "{said}");
    let is_over =
        |world: &mut pve_lab::World| world.guests.is_empty() && world.tasks.newest_first().count() > 0;
    assert!(lab.world().with(is_over), "what appeared late is gone: {said}");
    assert_eq!(lab.user.output(&["resume"]).status.code(), Some(0), "nothing is left to resume");
    let again = lab.user.output(&DEPLOY);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
}

#[test]
fn a_deployment_after_a_kill_names_the_unfinished_run_and_ends_right() {
    let lab = killed_while_creating();
    let deployed = lab.user.output(&DEPLOY);
    let said = text(&deployed.stderr);
    assert_eq!(deployed.status.code(), Some(0), "{said}");
    assert!(said.contains("note: run `20") && said.contains(": unfinished): `vmdeploy resume 20"), "{said}");
    assert!(
        said.contains(" --rollback` reverts it; this plan starts from the cluster's current state"),
        "{said}"
    );
    assert_eq!(lab.user.output(&["plan", "demo.yaml", "--detailed-exitcode"]).status.code(), Some(0));
    let resumed = lab.user.output(&["resume"]);
    let said = text(&resumed.stderr);
    assert!(said.contains("no unfinished run"), "the newer run has brought its VMs to their end: {said}");
}

#[test]
fn with_nothing_to_resume_all_is_well() {
    let lab = LabRun::demo();
    let said = |arguments: &[&str]| {
        let output = lab.user.output(arguments);
        (output.status.code(), text(&output.stderr))
    };
    assert_eq!(said(&["resume"]), (Some(0), "no unfinished run; nothing to resume\n".to_owned()));
    assert_eq!(said(&["deploy", "demo.yaml", "--yes", "--target", "web01"]).0, Some(0));
    assert_eq!(said(&["resume"]).0, Some(0));
    let runs = lab.user.output(&["runs", "--json"]);
    let runs: serde_json::Value = serde_json::from_slice(&runs.stdout).unwrap();
    let run = runs["runs"][0]["run"].as_str().unwrap();
    let (code, text) = said(&["resume", run]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("is finished"), "{text}");
    for command in [["resume", "nope"], ["report", "nope"]] {
        let (code, text) = said(&command);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.starts_with("error: there is no run `nope`"), "{text}");
        assert!(text.contains(&format!("hint: the most recent runs are {run}")), "{text}");
    }
}

#[test]
fn a_vmid_taken_since_the_kill_leads_to_a_new_deployment_and_not_to_resume() {
    let lab = killed_when("method: POST, path: '/nodes/*/qemu', vmid: 201, times: 1");
    let until = Instant::now() + Duration::from_secs(60);
    let taken = pve_types::Vmid::new(201).unwrap();
    while lab.world().with(|world| !world.guests.contains_key(&taken) || world.next_due().is_some()) {
        assert!(Instant::now() < until, "what was on its way does not arrive");
        std::thread::sleep(Duration::from_millis(5));
    }
    // Another user removes it and creates a guest with the same VMID.
    for command in [
        "api delete /nodes/pve1/qemu/201 --wait --yes",
        "api post /nodes/pve1/qemu vmid=201 name=theirs --wait --yes",
    ] {
        let output = lab.user.output(&command.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(0), "{command}: {}", text(&output.stderr));
    }
    let resumed = lab.user.output(&["resume"]);
    let said = text(&resumed.stderr);
    assert_eq!(resumed.status.code(), Some(6), "{said}");
    let hints: Vec<&str> = said.lines().filter(|line| line.starts_with("hint: ")).collect();
    assert_eq!(
        hints.last(),
        Some(
            &"hint: VM 201 does not belong to this run, so `vmdeploy resume` cannot continue web01: deploy again, with another `vmid:` for web01 if the spec has 201"
        ),
        "{said}"
    );
    let spec = crate::tidy::read("deployments/demo.yaml").replace("vmid: 201", "vmid: 211");
    lab.user.write("demo.yaml", &spec);
    let again = lab.user.output(&["plan", "demo.yaml", "--detailed-exitcode"]);
    assert_eq!(again.status.code(), Some(3), "{}", text(&again.stderr));
}
