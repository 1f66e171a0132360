//! Ctrl-C stops a run cleanly and says how to go on; `resume` finishes it.

use crate::lab_run::LabRun;
use pve_lab::{Delays, WorldSpec};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

#[test]
fn an_interrupted_run_says_how_to_resume_and_is_finished_by_it() {
    let world = WorldSpec { delays: Delays { start_ms: 1500, ..Delays::demo() }, ..WorldSpec::demo() };
    let lab = LabRun::start(world, Vec::new());
    let mut command = lab.user.command(&["deploy", "demo.yaml", "--yes", "--brief"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    // The first import that is through is a moment in the middle of the run.
    while !said.contains("import scsi0") {
        assert!(lines.read_line(&mut said).unwrap() > 0, "the run ended: {said}");
    }
    let status = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    lines.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(8), "{said}");
    assert!(said.contains("hint: `vmdeploy resume "), "{said}");
    let resumed = lab.user.output(&["resume"]);
    assert_eq!(resumed.status.code(), Some(0), "{}", String::from_utf8_lossy(&resumed.stderr));
    assert_eq!(lab.user.output(&["plan", "demo.yaml", "--detailed-exitcode"]).status.code(), Some(0));
}
