//! `vmdeploy check-token` and `fix-token`.

use crate::lab_run::LabRun;
use insta::assert_snapshot;

/// Leads later commands to a token that does not exist yet.
fn as_new_token(lab: &mut LabRun) {
    lab.user.add_variable("PROXMOX_API_USER", "ci@pve!deploy");
    lab.user.add_variable("PROXMOX_API_PASSWORD", "");
}

#[test]
fn a_token_that_may_do_everything_is_enough() {
    let lab = LabRun::demo();
    assert_snapshot!("token_is_enough", lab.run(&["check-token", "demo.yaml"]));
    assert_eq!(lab.user.output(&["fix-token", "demo.yaml", "--yes"]).status.code(), Some(0));
}

#[test]
fn a_least_privilege_token_is_made_from_nothing_and_deploys() {
    let mut lab = LabRun::demo();
    as_new_token(&mut lab);
    let made = lab.user.output(&["fix-token", "demo.yaml", "--create", "--yes"]);
    let said = format!("{}{}", String::from_utf8_lossy(&made.stdout), String::from_utf8_lossy(&made.stderr));
    assert_eq!(made.status.code(), Some(0), "{said}");
    let dotenv = std::fs::read_to_string(lab.user.path(".env")).expect("the secret is in .env");
    let secret =
        dotenv.lines().find_map(|line| line.strip_prefix("PROXMOX_API_PASSWORD=")).unwrap().to_owned();
    assert!(!said.contains(&secret), "the secret is not shown");
    lab.user.add_variable("PROXMOX_API_PASSWORD", &secret);
    assert_snapshot!("least_privilege_is_enough", lab.run(&["check-token", "demo.yaml"]));
    let again = lab.user.output(&["fix-token", "demo.yaml", "--yes"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("nothing is missing"), "it is idempotent");
    let deployed = lab.user.output(&["deploy", "demo.yaml", "--yes"]);
    assert_eq!(deployed.status.code(), Some(0), "{}", String::from_utf8_lossy(&deployed.stderr));
}

#[test]
fn a_foreign_guest_on_a_number_of_the_spec_is_a_note_beside_the_verdict() {
    let lab = LabRun::demo();
    let made =
        lab.user.output(&["api", "post", "/nodes/pve1/qemu", "vmid=202", "name=other", "--wait", "--yes"]);
    assert_eq!(made.status.code(), Some(0), "{}", String::from_utf8_lossy(&made.stderr));
    assert_snapshot!("a_number_is_taken", lab.run(&["check-token", "demo.yaml"]));
    assert_eq!(lab.user.output(&["plan", "demo.yaml"]).status.code(), Some(4), "the plan is refused for it");
}
