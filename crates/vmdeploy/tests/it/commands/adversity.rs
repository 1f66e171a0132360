//! The world turns against a run in its midst: what a person then reads is true, and the command that it names helps.

use crate::deploying::Deploying;
use crate::lab_run::LabRun;
use pve_lab::{Delays, World, WorldSpec};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DEPLOY: [&str; 4] = ["deploy", "demo.yaml", "--yes", "--brief"];
const KEEP: [&str; 5] = ["deploy", "demo.yaml", "--yes", "--brief", "--on-failure=keep"];

/// A world in which a deployment takes a few seconds.
fn slow_world() -> WorldSpec {
    WorldSpec { delays: Delays { start_ms: 800, ..Delays::demo() }, ..WorldSpec::demo() }
}

/// A deployment against which the world turns when the first import is through: the lab, the exit code, what was said.
fn turned_against(arguments: &[&str], turn: impl FnOnce(&mut World)) -> (LabRun, Option<i32>, String) {
    let lab = LabRun::start(slow_world(), Vec::new());
    let mut run = Deploying::start(&lab, arguments);
    run.read_until("import scsi0");
    // It stands still while the world turns: however slow this machine is, it does not finish first.
    run.signal("STOP");
    lab.world().with(turn);
    run.signal("CONT");
    let code = run.end();
    (lab, code, run.said)
}

/// Runs a command, and returns its exit code and everything that it says.
fn said(lab: &LabRun, arguments: &[&str]) -> (Option<i32>, String) {
    let output = lab.user.output(arguments);
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code(), text.concat())
}

/// The guests, by number, and how many volumes there are.
fn there(lab: &LabRun) -> (Vec<u32>, usize) {
    lab.world().with(|world| {
        let guests = world.guests.keys().map(|vmid| vmid.get()).collect();
        (guests, world.block_stores.values().map(|store| store.volumes.len()).sum())
    })
}

/// Asserts that everything that is there is named as left, with the command that removes it, and that the last word is
/// the command that helps. Returns the run's name.
fn names_what_is_left(lab: &LabRun, text: &str, then: &str) -> String {
    let (guests, _) = there(lab);
    assert!(!guests.is_empty(), "{text}");
    for vmid in guests {
        assert!(text.contains(&format!("left: VM {vmid} `")), "VM {vmid}: {text}");
        assert!(
            text.contains(&format!("hint: on the node, `qm destroy {vmid} --purge 1` removes it")),
            "{text}"
        );
    }
    let last = text.trim_end().lines().last().unwrap();
    let run = last.split("`vmdeploy resume ").nth(1).and_then(|rest| rest.split('`').next());
    let run = run.unwrap_or_else(|| panic!("{last}"));
    assert!(last.starts_with("hint: ") && last.contains(then), "{last}");
    run.to_owned()
}

/// Asserts that a deployment now does everything, and the next plan nothing.
fn is_deployed_by_the_same_command(lab: &LabRun) {
    let (code, text) = said(lab, &DEPLOY);
    assert_eq!(code, Some(0), "{text}");
    is_as_the_spec_says(lab);
}

fn is_as_the_spec_says(lab: &LabRun) {
    let (code, text) = said(lab, &["plan", "demo.yaml", "--detailed-exitcode"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(there(lab), (vec![201, 202, 203], 9));
}

/// Takes root's tokens away; what is returned gives them back.
fn revoke(world: &mut World) -> impl FnOnce(&mut World) + use<> {
    let tokens = std::mem::take(&mut world.access.users.get_mut("root@pam").unwrap().tokens);
    move |world| world.access.users.get_mut("root@pam").unwrap().tokens = tokens
}

#[test]
fn the_next_resume_reverts_what_a_revoked_token_left() {
    let mut give_back = None;
    let (lab, code, text) = turned_against(&DEPLOY, |world| give_back = Some(revoke(world)));
    assert_eq!(code, Some(6), "{text}");
    assert!(text.contains("was refused with 401: Authentication failed!"), "{text}");
    assert!(text.contains("hint: check the user, the token's name and the secret"), "{text}");
    let run = names_what_is_left(&lab, &text, "to revert what remains");
    let before = there(&lab);

    let (code, text) = said(&lab, &["resume", &run]);
    assert_eq!(code, Some(7), "which cluster it is cannot be asked without the token: {text}");
    assert!(text.contains("the run was not resumed; nothing was changed"), "{text}");
    assert_eq!(there(&lab), before);

    lab.world().with(give_back.unwrap());
    let (code, text) = said(&lab, &["resume", &run]);
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("rolled back; nothing of this run remains"), "{text}");
    assert!(!text.contains("its revert failed"), "that is over: {text}");
    assert_eq!(there(&lab), (Vec::new(), 0));
    is_deployed_by_the_same_command(&lab);
}

#[test]
fn a_token_that_is_revoked_while_failures_are_kept_leaves_what_the_next_resume_finishes() {
    let mut give_back = None;
    let (lab, code, text) = turned_against(&KEEP, |world| give_back = Some(revoke(world)));
    assert_eq!(code, Some(6), "{text}");
    let run = names_what_is_left(&lab, &text, "retries what is missing");
    lab.world().with(give_back.unwrap());
    let (code, text) = said(&lab, &["resume", &run]);
    assert_eq!(code, Some(0), "{text}");
    is_as_the_spec_says(&lab);
}

#[test]
fn a_storage_that_fills_up_is_left_as_it_was_found() {
    let (lab, code, text) = turned_against(&DEPLOY, |world| {
        let full = "[{when: {storage: local-lvm}, do: storage-full}]";
        pve_lab::fault::from_yaml(full).unwrap().into_iter().for_each(|fault| world.faults.add(fault));
    });
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("free space in thin pool pve/data reached threshold"), "{text}");
    assert!(text.contains("effect: its changes are rolled back"), "{text}");
    assert!(text.contains("hint: free or add space, then run the same command again"), "{text}");
    assert!(text.contains("rolled back; nothing of this run remains"), "{text}");
    assert_eq!(there(&lab), (Vec::new(), 0));
    lab.world().with(|world| world.faults.clear());
    is_deployed_by_the_same_command(&lab);
}

#[test]
fn the_next_resume_reverts_what_a_lost_quorum_left() {
    let (lab, code, text) = turned_against(&DEPLOY, |world| world.quorate = false);
    assert_eq!(code, Some(6), "{text}");
    assert!(text.contains("cluster not ready - no quorum?"), "{text}");
    assert!(text.contains("hint: `pvecm status` on a node shows which nodes are missing"), "{text}");
    let run = names_what_is_left(&lab, &text, "to revert what remains");
    let before = there(&lab);

    for arguments in [&["resume", &run][..], &DEPLOY] {
        let (code, text) = said(&lab, arguments);
        assert_eq!(code, Some(4), "{arguments:?}: {text}");
        assert!(text.contains(&format!("`vmdeploy resume {run}`")), "{arguments:?}: {text}");
    }
    let (_, text) = said(&lab, &["resume", &run]);
    assert!(text.contains("caused by: the cluster has no quorum"), "{text}");
    assert!(!text.contains("another run"), "there is none: {text}");
    assert_eq!(there(&lab), before);

    lab.world().with(|world| world.quorate = true);
    let (code, text) = said(&lab, &["resume", &run]);
    assert_eq!(code, Some(5), "{text}");
    assert_eq!(there(&lab), (Vec::new(), 0));
    is_deployed_by_the_same_command(&lab);
}

#[test]
fn of_two_runs_of_a_project_one_waits_for_the_other_wherever_it_is() {
    let lab = LabRun::start(slow_world(), Vec::new());
    let mut run = Deploying::start(&lab, &DEPLOY);
    run.read_until("import scsi0");
    run.signal("STOP");
    let (code, text) = said(&lab, &DEPLOY);
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("error: another run of project `demo` is active on this machine"), "{text}");
    assert!(
        text.contains("hint: wait for it to end, or stop it: run 20") && text.contains(", process "),
        "{text}"
    );
    // Another machine is another folder of runs.
    let mut elsewhere = lab.user.command(&DEPLOY);
    elsewhere.env("VMDEPLOY_RUNS", lab.user.path("elsewhere"));
    let refused = elsewhere.output().unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{text}");
    assert!(
        text.contains("another run of project `demo` holds the cluster lock; it was last renewed "),
        "{text}"
    );
    assert!(text.contains("hint: wait for it to end"), "{text}");
    run.signal("CONT");
    assert_eq!(run.end(), Some(0), "it was not disturbed: {}", run.said);
    let done = elsewhere.output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    is_as_the_spec_says(&lab);
}

#[test]
fn of_many_that_fail_alike_some_are_shown_and_the_others_named() {
    let faults = "[{when: {task: qmstart}, do: {fail-task: {text: no luck}}}]";
    let lab = LabRun::start(WorldSpec::demo(), pve_lab::fault::from_yaml(faults).unwrap());
    let vms = (1..=6).map(|number| {
        format!(
            "  vm{number}: {{vmid: {}, node: pve1, disks: {{scsi0: {{storage: local-lvm, size: 1GiB}}}}}}\n",
            300 + number
        )
    });
    let spec = format!("version: 1\nproject: many\ntransport: api\nvms:\n{}", vms.collect::<String>());
    lab.user.write("many.yaml", &spec);
    let (code, text) = said(&lab, &["deploy", "many.yaml", "--yes", "--brief"]);
    assert_eq!(code, Some(5), "{text}");
    let (_, summary) = text.split_once("\nerror: ").unwrap();
    assert_eq!(
        summary.matches("failed: no luck\n  effect: its changes are rolled back").count(),
        3,
        "{summary}"
    );
    assert!(
        summary.contains("error: 3 more steps failed with the same error: vm4/start, vm5/start, vm6/start\n"),
        "{summary}"
    );
    assert!(
        summary.contains("6 rolled back: failed; rolled back; nothing of this run remains ("),
        "{summary}"
    );
}

/// Kills a deployment without a warning once its journal has so many records, or it is at its end.
fn killed_after(records: usize) -> LabRun {
    let lab = LabRun::demo();
    let mut run = Deploying::start(&lab, &DEPLOY);
    let runs = lab.user.path(".vmdeploy/runs");
    let written = || {
        let folders = std::fs::read_dir(&runs).into_iter().flatten().filter_map(Result::ok);
        let journals = folders.filter_map(|folder| std::fs::read(folder.path().join("journal.jsonl")).ok());
        journals.map(|bytes| bytes.iter().filter(|byte| **byte == b'\n').count()).max().unwrap_or(0)
    };
    let until = Instant::now() + Duration::from_secs(120);
    while written() < records && run.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "the run does not come to record {records}");
        std::thread::sleep(Duration::from_millis(2));
    }
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    lab
}

/// Drawn once, from a journal that has some sixty records.
const FINISHED: [usize; 6] = [2, 11, 19, 34, 46, 58];
const ROLLED_BACK: [usize; 4] = [7, 23, 38, 51];

#[test]
fn a_program_that_is_killed_anywhere_is_finished_by_one_command() {
    for records in FINISHED {
        let lab = killed_after(records);
        let (code, text) = said(&lab, &["resume"]);
        assert_eq!(code, Some(0), "killed after {records}: {text}");
        is_as_the_spec_says(&lab);
    }
}

/// Returns the command, with no file allowed to grow over so many bytes: a disk that is full, as far as writers see.
fn on_a_full_disk(command: &Command, bytes: u64) -> Command {
    let mut full = Command::new("sh");
    // What sh calls a block is 512 bytes.
    full.args(["-c", &format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", bytes / 512)]);
    full.arg(command.get_program()).args(command.get_args()).env_clear();
    full.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    full.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
    full
}

#[test]
fn a_disk_of_this_machine_that_fills_up_ends_the_run_and_resume_goes_on() {
    let lab = LabRun::demo();
    let refused = on_a_full_disk(&lab.user.command(&DEPLOY), 512).output().unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{text}");
    assert!(text.contains("could not be written") && text.contains("hint: free disk space, or"), "{text}");
    assert_eq!(there(&lab), (Vec::new(), 0), "nothing is sent out that is not written down");
    let runs = lab.user.output(&["runs", "--json"]);
    let runs: serde_json::Value = serde_json::from_slice(&runs.stdout).unwrap();
    assert_eq!(runs["runs"], serde_json::json!([]), "a run that did not begin is none");

    let lab = killed_after(19);
    let journal = std::fs::read_dir(lab.user.path(".vmdeploy/runs")).unwrap().filter_map(Result::ok);
    let written =
        journal.filter_map(|run| run.path().join("journal.jsonl").metadata().ok()).next().unwrap().len();
    let stopped = on_a_full_disk(&lab.user.command(&["resume"]), written + 2048).output().unwrap();
    let text = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert_eq!(stopped.status.code(), Some(8), "{text}");
    assert!(text.contains("the run was stopped because its journal could not be written"), "{text}");
    assert!(text.contains("hint: free disk space, then run `vmdeploy resume`"), "{text}");
    let (code, text) = said(&lab, &["resume"]);
    assert_eq!(code, Some(0), "{text}");
    is_as_the_spec_says(&lab);
}

#[test]
fn a_vm_that_is_removed_during_a_run_is_reported_and_recreated() {
    let (lab, code, text) = turned_against(&DEPLOY, |world| {
        let volumes: Vec<_> = world.block_stores.values_mut().collect();
        volumes.into_iter().for_each(|store| store.volumes.retain(|name, _| !name.contains("-203-")));
        world.guests.retain(|vmid, _| vmid.get() != 203);
    });
    assert_eq!(code, Some(6), "{text}");
    assert!(text.contains("error: db01/"), "{text}");
    assert!(text.contains("2 created, 1 rolled back: partially failed"), "{text}");
    assert_eq!(there(&lab).0, [201, 202]);
    is_deployed_by_the_same_command(&lab);
}

/// One VM by SSH alone, which is restarted where a change needs it.
fn spec_by_ssh(cores: u32) -> String {
    format!(
        "version: 1\nproject: one\ntransport: ssh\nimages:\n  debian-13: {{path: /var/lib/vz/import/debian-13.qcow2}}\n\
         vms:\n  one01:\n    vmid: 401\n    node: pve1\n    agent: true\n    cpu: {cores}\n    memory: 1GiB\n\
         \x20   disks: {{scsi0: {{storage: local-lvm, image: debian-13}}}}\n\
         \x20   lifecycle: {{restart: if-needed}}\n"
    )
}

#[test]
fn a_command_that_runs_on_after_the_kill_is_waited_for_and_not_given_again() {
    let lab = LabRun::demo();
    let deploy = ["deploy", "one.yaml", "--yes", "--brief"];
    lab.user.write("one.yaml", &spec_by_ssh(1));
    let (code, text) = said(&lab, &deploy);
    assert_eq!(code, Some(0), "{text}");
    lab.user.write("one.yaml", &spec_by_ssh(2));
    let slow = "[{when: {command: 'pvesh create /nodes/pve1/qemu/401/status/reboot *', times: 1}, do: {slow: {ms: 3000}}}]";
    let slow = pve_lab::fault::from_yaml(slow).unwrap();
    lab.world().with(|world| slow.into_iter().for_each(|fault| world.faults.add(fault)));
    let mut run = Deploying::start(&lab, &deploy);
    let until = Instant::now() + Duration::from_secs(60);
    while lab.world().with(|world| world.faults.struck()) == 0 {
        assert!(Instant::now() < until && run.child.try_wait().unwrap().is_none(), "it is not restarted");
        std::thread::sleep(Duration::from_millis(5));
    }
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    let restarts = || {
        lab.world().with(|world| world.tasks.newest_first().filter(|task| task.kind == "qmreboot").count())
    };
    assert_eq!(restarts(), 0, "the command has not come to it yet");
    let (code, text) = said(&lab, &["resume"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(restarts(), 1, "{text}");
    let (code, text) = said(&lab, &["plan", "one.yaml", "--detailed-exitcode"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_program_that_is_killed_anywhere_is_rolled_back_by_one_command() {
    for records in ROLLED_BACK {
        let lab = killed_after(records);
        let (code, text) = said(&lab, &["resume", "--rollback", "--yes"]);
        assert_eq!(code, Some(5), "killed after {records}: {text}");
        assert!(text.contains("rolled back; nothing of this run remains"), "killed after {records}: {text}");
        assert_eq!(there(&lab), (Vec::new(), 0), "killed after {records}: {text}");
        assert_eq!(said(&lab, &["resume"]).0, Some(0));
    }
}
