//! Groups, order and rollouts, from the command line to the lab's guests.

use crate::lab_run::LabRun;
use pve_lab::WorldSpec;
use serde_json::Value;

/// Three workers behind a database; `memory` is that of each worker.
fn spec(memory: u32, more: &str) -> String {
    format!(
        "version: 1
project: fleet
defaults: {{node: pve1, agent: true, lifecycle: {{restart: if-needed}}, ready: {{agent: 30s}}}}
images: {{debian-13: {{path: /var/lib/vz/import/debian-13.qcow2}}}}
vms:
  db01:
    vmid: 300
    disks: {{scsi0: {{storage: local-lvm, image: debian-13, size: 4GiB}}}}
groups:
  worker:
    count: 3
{more}    vm:
      after: db01
      vmid: {{range: [301, 310]}}
      memory: {memory}MiB
      inventory: {{host: 192.0.2.50}}
      disks: {{scsi0: {{storage: local-lvm, image: debian-13, size: 4GiB}}}}
"
    )
}

fn said(lab: &LabRun, arguments: &[&str]) -> (Option<i32>, String) {
    let output = lab.user.output(arguments);
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code(), text.concat())
}

#[track_caller]
fn does(lab: &LabRun, arguments: &[&str]) -> String {
    let (code, text) = said(lab, arguments);
    assert_eq!(code, Some(0), "{arguments:?}\n{text}");
    text
}

/// Returns the events of a run that `--json` printed.
fn events(text: &str) -> Vec<Value> {
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].clone()).collect()
}

/// Returns the place of the event of this type about this step.
fn place(events: &[Value], kind: &str, step: &str) -> usize {
    let is_it = |event: &Value| event["type"] == kind && event["step"] == step;
    events.iter().position(is_it).unwrap_or_else(|| panic!("no {kind} of {step}"))
}

fn memory_of(lab: &LabRun, vmid: u32) -> String {
    let vmid = vmid.to_string().parse().unwrap();
    lab.world().with(|world| world.guests[&vmid].config.get("memory").cloned().unwrap_or_default())
}

#[test]
fn a_group_is_deployed_in_order_and_a_change_rolls_through_it() {
    let lab = LabRun::demo();
    lab.user.write("fleet.yaml", &spec(1024, ""));
    let created = events(&does(&lab, &["deploy", "fleet.yaml", "--yes", "--json"]));
    let ready = place(&created, "step_succeeded", "db01/await-agent");
    for worker in ["worker01", "worker02", "worker03"] {
        assert!(place(&created, "step_started", &format!("{worker}/create")) > ready, "{worker}");
    }
    let inventory = does(&lab, &["inventory", "fleet.yaml"]);
    assert!(inventory.contains("[worker]"), "{inventory}");
    let status = does(&lab, &["status", "fleet.yaml", "--target", "worker"]);
    assert!(status.contains("worker03") && !status.contains("db01"), "{status}");

    lab.user.write("fleet.yaml", &spec(2048, ""));
    let brief = does(&lab, &["plan", "fleet.yaml", "--brief"]);
    assert!(brief.contains("~ worker02 (302)  restarts the guest"), "{brief}");
    assert!(brief.contains("rollout of group worker: 3 batches"), "{brief}");
    let (code, asked) = said(&lab, &["deploy", "fleet.yaml"]);
    assert_eq!(code, Some(2));
    assert!(asked.contains("this would change 3 (RESTARTING 3) VMs"), "{asked}");
    let rolled = events(&does(&lab, &["deploy", "fleet.yaml", "--yes", "--json"]));
    let batches: Vec<&Value> = rolled.iter().filter(|event| event["type"] == "batch_started").collect();
    assert_eq!(batches.len(), 3);
    assert_eq!((&batches[1]["batch"], &batches[1]["vms"][0]), (&Value::from(2), &Value::from("worker02")));
    for (before, after) in [("worker01", "worker02"), ("worker02", "worker03")] {
        let ready = place(&rolled, "step_succeeded", &format!("{before}/await-agent"));
        assert!(
            place(&rolled, "step_started", &format!("{after}/configure")) > ready,
            "{after} waits for {before}"
        );
    }
    assert_eq!([301, 302, 303].map(|vmid| memory_of(&lab, vmid)), ["2048", "2048", "2048"]);
    assert_eq!(said(&lab, &["plan", "fleet.yaml", "--detailed-exitcode"]).0, Some(0));
}

#[test]
fn a_member_that_fails_stops_the_rollout_and_resume_goes_on_there() {
    let lab = LabRun::start(WorldSpec::demo(), Vec::new());
    lab.user.write("fleet.yaml", &spec(1024, ""));
    does(&lab, &["deploy", "fleet.yaml", "--yes"]);
    let faults = "[{when: {task: qmreboot, vmid: 302}, do: {fail-task: {text: no luck}}}]";
    let faults = pve_lab::fault::from_yaml(faults).unwrap();
    lab.world().with(|world| faults.into_iter().for_each(|fault| world.faults.add(fault)));
    lab.user.write("fleet.yaml", &spec(2048, ""));
    let (code, text) = said(&lab, &["deploy", "fleet.yaml", "--yes"]);
    assert_eq!(code, Some(6), "{text}");
    assert!(text.contains("batch 2 of 3 of group worker: worker02"), "{text}");
    assert!(
        text.contains("rollout of group worker: stopped at batch 2 of 3; not started: worker03"),
        "{text}"
    );
    assert_eq!(memory_of(&lab, 303), "1024", "a later batch is not begun");
    lab.world().with(|world| world.faults.clear());
    let run = text.split("`vmdeploy resume ").nth(1).and_then(|rest| rest.split(['`', ' ']).next()).unwrap();
    does(&lab, &["resume", run]);
    assert_eq!(memory_of(&lab, 303), "2048");
    assert_eq!(said(&lab, &["plan", "fleet.yaml", "--detailed-exitcode"]).0, Some(0));
}

#[test]
fn a_rollout_that_goes_on_leaves_only_the_member_that_failed() {
    let lab = LabRun::start(WorldSpec::demo(), Vec::new());
    let goes_on = "    rollout: {on_failure: continue}\n";
    lab.user.write("fleet.yaml", &spec(1024, goes_on));
    does(&lab, &["deploy", "fleet.yaml", "--yes"]);
    let faults = "[{when: {task: qmreboot, vmid: 301}, do: {fail-task: {text: no luck}}}]";
    let faults = pve_lab::fault::from_yaml(faults).unwrap();
    lab.world().with(|world| faults.into_iter().for_each(|fault| world.faults.add(fault)));
    lab.user.write("fleet.yaml", &spec(2048, goes_on));
    let (code, text) = said(&lab, &["deploy", "fleet.yaml", "--yes"]);
    assert_eq!(code, Some(6), "{text}");
    assert!(text.contains("batch 3 of 3 of group worker: worker03"), "{text}");
    assert_eq!([302, 303].map(|vmid| memory_of(&lab, vmid)), ["2048", "2048"]);
}
