//! `vmdeploy plan`, `deploy`, `status`, `inventory` and `destroy`, against the lab's listeners.

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
    // What VMs are made of is not needed to take them away.
    std::fs::remove_file(lab.user.path("demo.pub")).unwrap();
    assert_eq!(code(&["plan", "demo.yaml"]), Some(2), "a plan needs the key");
    let destroyed = lab.user.output(&["destroy", "demo.yaml", "--yes"]);
    assert_eq!(destroyed.status.code(), Some(0), "{}", String::from_utf8_lossy(&destroyed.stderr));
    lab.user.write("demo.pub", &crate::tidy::read("deployments/demo.pub"));
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
fn a_change_without_a_yes_is_refused_without_a_terminal() {
    let lab = LabRun::demo();
    let said = lab.run(&["deploy", "demo.yaml"]);
    let end: Vec<&str> = said.lines().rev().take(3).collect();
    assert_snapshot!(end.into_iter().rev().collect::<Vec<_>>().join("\n"));
    assert!(lab.world().with(|world| world.guests.is_empty()));
}

#[test]
fn the_exit_code_of_a_plan_tells_drift_from_none_and_from_a_refusal() {
    let lab = LabRun::demo();
    let spec = |cores: u32, more: &str| {
        format!(
            "version: 1\nproject: drift\nvms:\n  web01: {{vmid: 201, node: pve1, cpu: {cores}, disks: {{scsi0: {{storage: local-lvm, size: 1GiB}}}}{more}}}\n"
        )
    };
    lab.user.write("one.yaml", &spec(1, ""));
    let code = |arguments: &str| {
        let output = lab.user.output(&arguments.split_whitespace().collect::<Vec<_>>());
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let drift = |file: &str| code(&format!("plan {file} --detailed-exitcode"));
    assert_eq!(drift("one.yaml").0, Some(3), "a VM is to be made");
    assert_eq!(code("plan one.yaml").0, Some(0), "without the option only a failure is one");
    assert_eq!(code("deploy one.yaml --yes").0, Some(0));
    assert_eq!(drift("one.yaml").0, Some(0), "all is as the spec says");

    // A change that takes effect at a restart is one until it is made; then it waits, and a deploy has nothing to do.
    lab.user.write("two.yaml", &spec(2, ""));
    let (exit, said) = drift("two.yaml");
    assert_eq!(exit, Some(3), "{said}");
    assert!(said.contains("takes effect when the guest is restarted: cores"), "{said}");
    assert_eq!(code("deploy two.yaml --yes").0, Some(0));
    let (exit, said) = drift("two.yaml");
    assert_eq!(exit, Some(0), "{said}");
    assert!(said.contains("takes effect when the guest is restarted: cores"), "{said}");
    // Where the spec lets the VM be restarted for it, there is something to do.
    lab.user.write("restart.yaml", &spec(2, ", lifecycle: {restart: if-needed}"));
    assert_eq!(drift("restart.yaml").0, Some(3));

    // A refusal is a refusal, whatever would change.
    lab.user.write("faulty.yaml", &spec(2, ", memory: 4GB"));
    assert_eq!(drift("faulty.yaml").0, Some(2));
    lab.user.write("nowhere.yaml", &spec(2, ", nics: {net0: {bridge: vmbr9}}"));
    assert_eq!(drift("nowhere.yaml").0, Some(4));
    lab.user.write("shrunk.yaml", &spec(2, "").replace("1GiB", "512MiB"));
    assert_eq!(drift("shrunk.yaml").0, Some(4));
    let arguments = ["plan", "one.yaml", "--write-observed", "observed.json"];
    assert_eq!(lab.user.output(&arguments).status.code(), Some(0));
    assert_eq!(
        code("plan one.yaml --observed observed.json --detailed-exitcode").0,
        Some(3),
        "back to one core"
    );
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
fn a_plan_file_is_refused_when_the_world_is_no_longer_what_it_was_made_for() {
    let lab = LabRun::demo();
    let run = |arguments: &str| {
        let output = lab.user.output(&arguments.split_whitespace().collect::<Vec<_>>());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let spec = |cores: u32| {
        format!(
            "version: 1\nproject: p\nvms:\n  web01: {{vmid: 201, node: pve1, cpu: {cores}, disks: {{scsi0: {{storage: local-lvm, size: 1GiB}}}}}}\n"
        )
    };
    lab.user.write("spec.yaml", &spec(1));
    assert_eq!(run("plan spec.yaml --out first.json").0, Some(0));
    assert_eq!(run("deploy --plan first.json --yes").0, Some(0));
    // What it was to make is there now.
    let (exit, said) = run("deploy --plan first.json --yes");
    assert_eq!(exit, Some(4), "{said}");
    assert!(said.contains("hint: "), "{said}");
    lab.user.write("spec.yaml", &spec(2));
    assert_eq!(run("plan spec.yaml --out second.json").0, Some(0));
    // Not the spec counts any more, but the plan; another guest does not matter.
    lab.user.write("spec.yaml", &spec(4));
    lab.user.write(
        "other.yaml",
        &spec(1).replace("project: p", "project: q").replace("201", "301").replace("web01", "db01"),
    );
    assert_eq!(run("deploy other.yaml --yes").0, Some(0));
    let cores = |vmid: u32| {
        lab.world().with(|world| {
            let guest = &world.guests[&pve_types::Vmid::new(vmid).unwrap()];
            let pending = guest.pending.set.get("cores").cloned();
            pending.or_else(|| guest.config.get("cores").cloned())
        })
    };
    // A user changes the VM manually: the plan is refused, and nothing is done.
    lab.world().with(|world| {
        let guest = world.guests.get_mut(&pve_types::Vmid::new(201).unwrap()).unwrap();
        guest.config.insert("memory".to_owned(), "4096".to_owned());
    });
    let (exit, said) = run("deploy --plan second.json --yes");
    assert_eq!(exit, Some(4), "{said}");
    assert_eq!(cores(201).as_deref(), Some("1"));
    lab.world().with(|world| {
        let guest = world.guests.get_mut(&pve_types::Vmid::new(201).unwrap()).unwrap();
        guest.config.remove("memory");
    });
    let (exit, said) = run("deploy --plan second.json --yes");
    assert_eq!(exit, Some(0), "{said}");
    assert_eq!(cores(201).as_deref(), Some("2"));
}

#[test]
fn a_number_of_a_range_is_pinned_and_a_lost_lock_file_makes_no_second_vm() {
    let lab = LabRun::demo();
    let code = |arguments: &str| {
        let output = lab.user.output(&arguments.split_whitespace().collect::<Vec<_>>());
        assert!(output.status.code() != Some(2), "{}", String::from_utf8_lossy(&output.stderr));
        output.status.code()
    };
    let spec = "version: 1\nproject: p\nvms:\n  web01: {vmid: {range: [210, 219]}, node: pve1, disks: {scsi0: {storage: local-lvm, size: 1GiB}}}\n";
    lab.user.write("web.yaml", spec);
    assert_eq!(code("plan web.yaml --pin"), Some(0));
    let pinned = std::fs::read_to_string(lab.user.path("web.lock.yaml")).unwrap();
    assert!(pinned.contains("web01: 210"), "{pinned}");
    assert_eq!(code("deploy web.yaml --yes"), Some(0));
    std::fs::remove_file(lab.user.path("web.lock.yaml")).unwrap();
    assert_eq!(code("plan web.yaml --detailed-exitcode"), Some(0), "it is found by its marker");
    assert_eq!(code("deploy web.yaml --yes"), Some(0));
    assert_eq!(lab.world().with(|world| world.guests.len()), 1);
    assert_eq!(code("plan web.yaml --pin"), Some(0));
    assert_eq!(std::fs::read_to_string(lab.user.path("web.lock.yaml")).unwrap(), pinned);
}

#[test]
fn a_number_that_is_taken_is_in_the_way_of_its_own_vm_alone() {
    let lab = LabRun::demo();
    let code = |arguments: &[&str]| {
        let output = lab.user.output(arguments);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let foreign = ["api", "post", "/nodes/pve1/qemu", "vmid=201", "name=other", "--wait", "--yes"];
    assert_eq!(code(&foreign).0, Some(0));
    let (refused, said) = code(&["deploy", "demo.yaml", "--yes"]);
    assert!(refused == Some(4) && said.contains("VMID 201 is used"), "{said}");
    assert_eq!(code(&["deploy", "demo.yaml", "--target", "db01", "--yes"]).0, Some(0));
    let (checked, said) = code(&["image", "check", "demo.yaml"]);
    assert!(checked == Some(0) && said.is_empty(), "{said}");
    // A VMID that is not the guest's stops every command.
    let spec = std::fs::read_to_string(lab.user.path("demo.yaml")).unwrap();
    lab.user.write("demo.yaml", &spec.replace("vmid: 203", "vmid: 293"));
    let (refused, said) = code(&["deploy", "demo.yaml", "--target", "db01", "--yes"]);
    assert!(refused == Some(4) && said.contains("a VMID cannot be changed"), "{said}");
    let (refused, said) = code(&["destroy", "demo.yaml", "--yes"]);
    assert!(refused == Some(4) && said.contains("exists as VMID 203"), "{said}");
    lab.user.write("demo.yaml", &spec);
    let (destroyed, said) = code(&["destroy", "demo.yaml", "--yes"]);
    assert_eq!(destroyed, Some(0), "{said}");
    let left: Vec<u32> = lab.world().with(|world| world.guests.keys().map(|vmid| vmid.get()).collect());
    assert_eq!(left, [201], "the foreign one stays");
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

#[test]
fn a_refused_ssh_login_is_reported_alike_by_every_transport_that_uses_ssh() {
    let lab = LabRun::demo();
    for (name, value, code, told) in [
        ("PROXMOX_SSH_KNOWN_HOSTS", "/dev/null", 7, "is not known: ssh-"),
        ("PROXMOX_SSH_USER", "nobody", 7, "hint: check PROXMOX_SSH_USER and PROXMOX_SSH_KEY"),
        ("PROXMOX_SSH_PORT", "1", 4, "error: cannot connect to `127.0.0.1:1`"),
    ] {
        for transport in ["hybrid", "auto", "ssh"] {
            let mut run = lab.user.command(&["deploy", "demo.yaml", "--yes", "--transport", transport]);
            let output = run.env(name, value).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{transport}, {name}={value}: {said}");
            assert!(said.contains(told), "{transport}, {name}={value}: {said}");
        }
    }
    assert!(lab.world().with(|world| world.guests.is_empty()));
}
