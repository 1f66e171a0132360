//! `vmdeploy lab`.

use crate::lab_run::LabRun;
use crate::transcript::{Session, transcript};
use insta::assert_snapshot;
use pve_lab::WorldSpec;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

/// Starts the lab, and returns it with what it had said when it was ready.
fn start(session: &Session, arguments: &[&str]) -> (Child, String, BufReader<std::process::ChildStderr>) {
    let mut child = session.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    // The end of the output ends the wait, too, so that a lab that dies fails the test instead of hanging it.
    while !said.contains("press Ctrl-C to stop") && lines.read_line(&mut said).unwrap() > 0 {}
    (child, said, lines)
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn the_lab_writes_its_variables_when_ready_and_removes_them_when_told_to_stop() {
    use std::os::unix::fs::PermissionsExt as _;
    for name in ["INT", "TERM"] {
        let session = Session::new();
        let arguments = ["lab", "--env-file", "lab.env"];
        let (child, mut said, mut rest) = start(&session, &arguments);
        let file = session.path("lab.env");
        let text =
            std::fs::read_to_string(&file).expect("the file is there when the lab says that it is ready");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let key = text
            .lines()
            .find_map(|line| line.strip_prefix("export PROXMOX_SSH_KEY="))
            .unwrap()
            .trim_matches('\'');
        assert!(std::path::Path::new(key).exists());
        signal(&child, name);
        rest.read_to_string(&mut said).unwrap();
        let mut output = child.wait_with_output().unwrap();
        output.stderr = said.into_bytes();
        assert!(!file.exists() && !std::path::Path::new(key).exists(), "the secrets are gone");
        assert_snapshot!("the_lab_says_where_it_is", transcript(&arguments, &output, &session.path("")));
    }
}

#[test]
fn a_file_that_no_lab_wrote_is_not_overwritten() {
    let session = Session::new();
    session.write(".env", "PROXMOX_API_HOST=mine\n");
    assert_snapshot!(session.run(&["lab", "--env-file", ".env"]));
}

#[test]
fn a_world_that_is_not_understood_is_refused() {
    let session = Session::new();
    session.write("world.yaml", "nodes: 7\n");
    assert_snapshot!(session.run(&["lab", "--world", "world.yaml"]));
}

const TWO_NODES: &str = "
cluster: lab
nodes: {pve1: {}, pve2: {}}
token: {id: root@pam!lab, privsep: false}
files:
  - {path: /var/lib/vz/import/debian-13.qcow2, content: {format: qcow2, virtual_size: 3GiB, file_size: 400MiB, seed: 7}}
";

#[test]
fn the_variables_of_a_lab_lead_to_every_node() {
    let lab = LabRun::start(WorldSpec::from_yaml(TWO_NODES).unwrap(), Vec::new());
    let spec = crate::tidy::read("deployments/demo.yaml").replace("node: pve1", "node: pve2");
    lab.user.write("second.yaml", &spec);
    // The plan reads the image's file on the node, over SSH.
    let output = lab.user.output(&["plan", "second.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("3 to create"), "{output:?}");
}
