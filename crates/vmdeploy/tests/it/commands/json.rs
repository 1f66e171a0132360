//! What programs read: every document has its version, and a log of JSON holds nothing else.

use crate::lab_run::LabRun;
use crate::transcript::Session;
use serde_json::Value;

fn document(session: &Session, command: &str) -> Value {
    let output = session.output(&command.split(' ').collect::<Vec<_>>());
    let told = || format!("{command}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", told()))
}

#[test]
fn every_document_begins_with_its_version() {
    let lab = LabRun::demo();
    let deployed = lab.user.output(&["deploy", "demo.yaml", "--yes"]);
    assert_eq!(deployed.status.code(), Some(0), "{}", String::from_utf8_lossy(&deployed.stderr));
    for (command, name) in [
        ("status demo.yaml --json", "vms"),
        ("runs --json", "runs"),
        ("doctor demo.yaml --json", "checks"),
        ("image check demo.yaml --json", "images"),
        ("ip web01 --json", "found"),
        ("validate demo.yaml --json", "validation"),
        ("check-token demo.yaml --json", "required_privileges"),
        ("plan demo.yaml --json", "changes"),
        ("inventory demo.yaml --format json", "hosts"),
    ] {
        let document = document(&lab.user, command);
        assert!(document["format_version"].is_u64(), "{command}: {document}");
        assert!(!document[name].is_null(), "{command}: {document}");
    }
    let status = document(&lab.user, "status demo.yaml --json");
    assert_eq!(status["vms"][0]["vmid"], 201, "a number is a number");
}

#[test]
fn the_faults_of_a_spec_are_data() {
    let session = Session::new();
    session.write("bad.yaml", "version: 1\nproject: p\nvms:\n  a: {memory: 2}\n");
    let output = session.output(&["validate", "bad.yaml", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let fault = &document["validation"]["faults"][0];
    assert_eq!((&document["validation"]["valid"], &fault["line"]), (&Value::Bool(false), &Value::from(4)));
    assert!(fault["path"].is_string() && fault["message"].is_string(), "{document}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_log_of_json_holds_nothing_else() {
    let lab = LabRun::demo();
    let run = |arguments: &[&str]| {
        let output = lab.user.output(arguments);
        for line in String::from_utf8(output.stderr).unwrap().lines() {
            let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(record["level"].is_string() && record["fields"]["message"].is_string(), "{line}");
        }
        output.status.code()
    };
    assert_eq!(
        run(&["deploy", "demo.yaml", "--target", "db01", "--yes", "--json", "--log-format", "json"]),
        Some(0)
    );
    assert_eq!(run(&["-v", "status", "demo.yaml", "--log-format", "json"]), Some(0));
    assert_eq!(run(&["deploy", "nothing.yaml", "--log-format", "json"]), Some(2));
}

#[test]
fn a_reader_of_events_that_goes_away_does_not_stop_the_deployment() {
    use std::io::BufRead as _;
    let lab = LabRun::demo();
    let mut command = lab.user.command(&["deploy", "demo.yaml", "--yes", "--json"]);
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("run_started"), "{first}");
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said.matches("has closed the stream").count(), 1, "{said}");
    assert!(said.contains("3 created: done in"), "{said}");
}
