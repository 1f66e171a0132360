//! `vmdeploy plan`, `deploy`, `status`, `inventory` and `destroy`, against the lab's real doors.

use crate::lab_run::LabRun;
use crate::transcript::Session;
use insta::assert_snapshot;

#[test]
fn the_demo_is_planned_deployed_shown_and_destroyed() {
    let lab = LabRun::demo();
    assert_snapshot!("demo_plan", lab.run(&["plan", "demo.yaml"]));
    let deployed = lab.user.output(&["deploy", "demo.yaml", "--yes"]);
    assert_eq!(deployed.status.code(), Some(0), "{}", String::from_utf8_lossy(&deployed.stderr));
    assert_snapshot!("demo_status", lab.run(&["status", "demo.yaml"]));
    assert_snapshot!("demo_inventory", lab.run(&["inventory", "demo.yaml"]));
    assert_snapshot!("demo_deploy_again", lab.run(&["deploy", "demo.yaml", "--yes"]));
    let code = |arguments: &[&str]| lab.user.output(arguments).status.code();
    assert_eq!(code(&["plan", "demo.yaml", "--detailed-exitcode"]), Some(0));
    let destroyed = lab.user.output(&["destroy", "demo.yaml", "--yes"]);
    assert_eq!(destroyed.status.code(), Some(0), "{}", String::from_utf8_lossy(&destroyed.stderr));
    assert_eq!(code(&["plan", "demo.yaml", "--detailed-exitcode"]), Some(3));
}

#[test]
fn without_a_host_the_reader_is_told_what_to_do() {
    let session = Session::new();
    session.write("demo.yaml", &crate::tidy::read("deployments/demo.yaml"));
    session.write("demo.pub", &crate::tidy::read("deployments/demo.pub"));
    for command in ["plan", "deploy", "status", "inventory", "destroy"] {
        assert_eq!(session.output(&[command, "demo.yaml"]).status.code(), Some(2), "{command}");
    }
    assert_snapshot!(session.run(&["plan", "demo.yaml"]));
}

#[test]
fn without_a_spec_nothing_is_implied() {
    let lab = LabRun::demo();
    for command in ["validate", "plan", "deploy", "status", "inventory", "destroy"] {
        assert_eq!(lab.user.output(&[command]).status.code(), Some(2), "{command}");
    }
    assert_snapshot!(lab.run(&["deploy"]));
}

#[test]
fn a_change_without_a_yes_is_refused_where_nobody_can_be_asked() {
    let lab = LabRun::demo();
    let said = lab.run(&["deploy", "demo.yaml"]);
    let end: Vec<&str> = said.lines().rev().take(3).collect();
    assert_snapshot!(end.into_iter().rev().collect::<Vec<_>>().join("\n"));
    assert!(lab.world().with(|world| world.guests.is_empty()));
}

#[test]
fn a_plan_file_is_carried_out_as_it_is() {
    let lab = LabRun::demo();
    let code = |arguments: &[&str]| lab.user.output(arguments).status.code();
    assert_eq!(code(&["plan", "demo.yaml", "--target", "web01", "--out", "plan.json"]), Some(0));
    assert_eq!(code(&["deploy", "--plan", "plan.json", "--yes"]), Some(0));
    assert_eq!(lab.world().with(|world| world.guests.len()), 1);
}

#[test]
fn events_are_one_json_object_a_line() {
    let lab = LabRun::demo();
    let output = lab.user.output(&["deploy", "demo.yaml", "--target", "db01", "--yes", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let events: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().all(|event| event["format_version"] == 1));
    assert_eq!(events.first().unwrap()["event"]["type"], "run_started");
    assert_eq!(events.last().unwrap()["event"]["type"], "run_finished");
}
