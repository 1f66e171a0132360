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
    // What is as the spec says needs no right to be changed.
    let checked = lab.user.output(&["check-token", "demo.yaml"]);
    assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn an_unmanaged_guest_at_a_vmid_of_the_spec_is_a_note() {
    let lab = LabRun::demo();
    let made =
        lab.user.output(&["api", "post", "/nodes/pve1/qemu", "vmid=202", "name=other", "--wait", "--yes"]);
    assert_eq!(made.status.code(), Some(0), "{}", String::from_utf8_lossy(&made.stderr));
    assert_snapshot!("a_number_is_taken", lab.run(&["check-token", "demo.yaml"]));
    assert_eq!(lab.user.output(&["plan", "demo.yaml"]).status.code(), Some(4), "the plan is refused for it");
}

/// The demo's deployment with another image.
fn with_image(lab: &LabRun, image: &str) {
    let path = "{path: /var/lib/vz/import/debian-13.qcow2}";
    lab.user.write("demo.yaml", &crate::tidy::read("deployments/demo.yaml").replace(path, image));
}

#[test]
fn the_verdict_is_about_rights_where_deploy_is_refused_for_something_else() {
    let mut lab = LabRun::demo();
    let verdict = |lab: &LabRun| {
        let output = lab.user.output(&["check-token", "demo.yaml", "--json"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).expect(&text);
        (output.status.code(), verdict)
    };
    let (_, whole) = verdict(&lab);
    let rights = whole["required_privileges"].as_array().unwrap().len();
    // An image that is nowhere: on the node, here, and not built yet. The same rights are judged.
    with_image(&lab, "{path: /var/lib/vz/import/none.qcow2}");
    assert_snapshot!("image_is_missing", lab.run(&["check-token", "demo.yaml"]));
    assert_eq!(lab.user.output(&["plan", "demo.yaml"]).status.code(), Some(4), "the plan is refused for it");
    assert_eq!(verdict(&lab).1["required_privileges"].as_array().unwrap().len(), rights);
    with_image(&lab, "{file: none.qcow2, size: 1GiB}");
    let (code, here) = verdict(&lab);
    assert_eq!((code, here["enough"].as_bool()), (Some(0), Some(true)), "{here}");
    assert!(here["notes"][0].as_str().unwrap().contains("`none.qcow2`"), "{here}");
    assert!(here["required_privileges"].to_string().contains("Datastore.AllocateTemplate"), "{here}");
    with_image(
        &lab,
        "{format: qcow2, build: {vm: maker, command: make, output: disk.qcow2, file: disk.qcow2}}",
    );
    let spec = std::fs::read_to_string(lab.user.path("demo.yaml")).unwrap();
    lab.user.write("demo.yaml", &spec.replacen("vms:\n", "vms:\n  maker: {vmid: 209}\n", 1));
    let (code, built) = verdict(&lab);
    assert_eq!((code, built["unjudged"].as_array().map(Vec::len)), (Some(0), Some(0)), "{built}");
    assert!(built["notes"].to_string().contains("has not been built yet"), "{built}");
    // What no step can be written for is said, and the rest is judged.
    with_image(&lab, "{path: /var/lib/vz/import/debian-13.qcow2}");
    let spec = std::fs::read_to_string(lab.user.path("demo.yaml")).unwrap();
    lab.user.write("demo.yaml", &spec.replacen("storage: local-lvm", "storage: nowhere", 1));
    let (code, wrong) = verdict(&lab);
    assert_eq!(code, Some(0), "{wrong}");
    assert!(wrong["required_privileges"].to_string().contains("VM.Allocate"), "{wrong}");
    // And a token without rights is not enough, whatever else is wrong.
    with_image(&lab, "{path: /var/lib/vz/import/none.qcow2}");
    let made = lab.user.output(&["access", "users", "add", "ci@pve", "--yes"]);
    assert_eq!(made.status.code(), Some(0), "{}", String::from_utf8_lossy(&made.stderr));
    let made = lab.user.output(&["access", "tokens", "add", "ci@pve", "poor", "--yes"]);
    let secret = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    lab.user.add_variable("PROXMOX_API_USER", "ci@pve!poor");
    lab.user.add_variable("PROXMOX_API_PASSWORD", &secret);
    let (code, poor) = verdict(&lab);
    assert_eq!((code, poor["enough"].as_bool()), (Some(7), Some(false)), "{poor}");
}
