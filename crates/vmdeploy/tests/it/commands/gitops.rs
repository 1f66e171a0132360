//! The commands of docs/gitops.md, as its pipelines run them.

use crate::lab_run::LabRun;
use crate::transcript::Session;
use std::collections::BTreeSet;

/// The commands that the guide's pipelines hold, without what a shell does with their output.
fn documented() -> BTreeSet<String> {
    let guide = crate::tidy::read("docs/gitops.md");
    let mut inside = false;
    let mut commands = BTreeSet::new();
    for line in guide.lines() {
        if line.starts_with("```") {
            inside = line == "```yaml";
        } else if let (true, Some((_, rest))) = (inside, line.split_once("vmdeploy ")) {
            // What a comment says is not run.
            let rest = if line.split_once('#').is_some_and(|(before, _)| !before.contains("vmdeploy ")) {
                continue;
            } else {
                rest
            };
            let command = rest.split(['>', ']', '"']).next().unwrap_or_default();
            commands.insert(command.trim().to_owned());
        }
    }
    commands
}

const VALIDATE: &str = "validate vms/";
const PLAN: &str = "plan vms/ --read-only --markdown";
const DEPLOY: &str = "deploy vms/ --yes --json";
const DRIFT: &str = "plan vms/ --read-only --detailed-exitcode";

fn code(session: &Session, command: &str) -> (Option<i32>, String) {
    let output = session.output(&command.split(' ').collect::<Vec<_>>());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &said)
}

#[test]
fn the_pipelines_of_the_guide_do_what_it_says() {
    let commands: BTreeSet<String> = [VALIDATE, PLAN, DEPLOY, DRIFT].map(str::to_owned).into();
    assert_eq!(documented(), commands, "this test runs the guide's commands and no others");
    let spec =
        crate::tidy::read("deployments/demo.yaml").replace("{file: demo.pub}", "{file: keys/demo.pub}");
    let key = crate::tidy::read("deployments/demo.pub");
    // A fork's pipeline: no credentials at all.
    let fork = Session::new();
    fork.write("vms/demo.yaml", &spec).write("vms/keys/demo.pub", &key);
    assert_eq!(code(&fork, VALIDATE).0, Some(0));
    assert_eq!(code(&fork, PLAN).0, Some(2), "without credentials nothing is contacted");
    fork.write("vms/demo.yaml", &spec.replace("2GiB", "2"));
    assert_eq!(code(&fork, VALIDATE).0, Some(2));
    // A merge request of the repository itself, the merge, and the nights after it.
    let lab = LabRun::demo();
    lab.user.write("vms/demo.yaml", &spec).write("vms/keys/demo.pub", &key);
    let (exit, comment) = code(&lab.user, PLAN);
    assert_eq!(exit, Some(0), "{comment}");
    assert!(comment.contains("| ") && comment.contains("web01"), "{comment}");
    assert_eq!(code(&lab.user, DRIFT).0, Some(3), "nothing is deployed yet");
    let (exit, said) = code(&lab.user, DEPLOY);
    assert_eq!(exit, Some(0), "{said}");
    assert_eq!(code(&lab.user, DRIFT).0, Some(0), "all is as the specs say");
    lab.world().with(|world| {
        let guest = world.guests.values_mut().next().unwrap();
        guest.config.insert("memory".to_owned(), "4096".to_owned());
    });
    let (exit, said) = code(&lab.user, DRIFT);
    assert_eq!(exit, Some(3), "a VM was changed manually: {said}");
    assert!(said.contains("memory"), "{said}");
}

#[test]
fn a_token_that_may_only_look_is_enough_to_plan_and_not_to_deploy() {
    let mut lab = LabRun::demo();
    for command in [
        "access users add look@pve --yes",
        "access acl grant / --role PVEAuditor --user look@pve --yes",
        "access tokens add look@pve ci --secret-to secret --yes",
        "access acl grant / --role PVEAuditor --token look@pve!ci --yes",
    ] {
        let (exit, said) = code(&lab.user, command);
        assert_eq!(exit, Some(0), "{command}: {said}");
    }
    let secret = std::fs::read_to_string(lab.user.path("secret")).unwrap();
    lab.user.add_variable("PROXMOX_API_USER", "look@pve!ci");
    lab.user.add_variable("PROXMOX_API_PASSWORD", secret.trim());
    let (exit, said) = code(&lab.user, "plan demo.yaml --read-only --detailed-exitcode");
    assert_eq!(exit, Some(3), "{said}");
    assert_eq!(code(&lab.user, "plan demo.yaml").0, Some(7), "without the word a missing right is told");
    let (exit, said) = code(&lab.user, "deploy demo.yaml --yes");
    assert_eq!(exit, Some(7), "{said}");
    assert!(lab.world().with(|world| world.guests.is_empty()));
}
