//! Which guest a VM is, through whole commands: names, numbers, copies, and the rule that all commands share.

use crate::lab_run::LabRun;
use pve_lab::WorldSpec;
use serde_json::Value;
use std::process::{Output, Stdio};

/// A spec of one VM.
fn spec(name: &str, vm: &str) -> String {
    format!(
        "# the shop\nversion: 1\nproject: shop\nvms:\n  {name}: # in front\n    node: pve1\n{vm}    lifecycle: {{state: stopped}}\n    \
         disks: {{scsi0: {{storage: local-lvm, size: 1GiB}}}}\n"
    )
}

fn ended(output: &Output, code: i32) -> String {
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

fn run(lab: &LabRun, line: &str, code: i32) -> String {
    ended(&lab.user.output(&line.split(' ').collect::<Vec<_>>()), code)
}

/// Returns a guest's configuration as the API tells it.
fn config(lab: &LabRun, vmid: u32) -> Value {
    let path = format!("/nodes/pve1/qemu/{vmid}/config");
    let output = lab.user.output(&["api", "get", &path, "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[test]
fn a_vmid_that_is_not_the_guest_s_stops_every_command() {
    let lab = LabRun::demo();
    lab.user.write("right.yaml", &spec("web01", "    vmid: 301\n"));
    lab.user.write("wrong.yaml", &spec("web01", "    vmid: 305\n"));
    run(&lab, "deploy right.yaml --yes", 0);
    let before = config(&lab, 301);
    let mut commands: Vec<String> =
        ["plan wrong.yaml", "deploy wrong.yaml --yes", "destroy wrong.yaml --yes"]
            .into_iter()
            .flat_map(|line| {
                ["hybrid", "auto", "api", "ssh"].map(|transport| format!("{line} --transport {transport}"))
            })
            .collect();
    for verb in ["start", "shutdown", "stop", "reboot"] {
        commands.push(format!("{verb} web01 --spec wrong.yaml --yes"));
        commands.push(format!("{verb} --all --spec wrong.yaml --yes"));
    }
    commands.extend(["ssh web01 --spec wrong.yaml", "ip web01 --spec wrong.yaml"].map(str::to_owned));
    for line in commands {
        let text = run(&lab, &line, 4);
        assert!(text.contains("`web01` exists as VMID 301, but the spec has 305"), "{line}: {text}");
        assert!(text.contains("write `vmid: 301`"), "{line}: {text}");
    }
    let status = run(&lab, "status wrong.yaml", 0);
    assert!(status.contains("`web01` exists as VMID 301"), "{status}");
    assert_eq!(config(&lab, 301), before);
}

#[test]
fn rename_changes_only_guest_and_spec() {
    let lab = LabRun::demo();
    let before = spec("web01", "    vmid: {range: [300, 310]}\n");
    lab.user.write("shop.yaml", &before);
    run(&lab, "plan shop.yaml --pin", 0);
    run(&lab, "deploy shop.yaml --yes", 0);
    let uuid = config(&lab, 300)["smbios1"].clone();
    let text = run(&lab, "rename web01 front --spec shop.yaml --plan-only", 0);
    assert!(text.contains("it was `web01` of project `shop`; the UUID is kept"), "{text}");
    assert_eq!(config(&lab, 300)["name"], "web01");
    run(&lab, "rename web02 front --spec shop.yaml --yes", 2);
    run(&lab, "rename web01 front --spec shop.yaml --yes", 0);
    let after = std::fs::read_to_string(lab.user.path("shop.yaml")).unwrap();
    assert_eq!(after, before.replace("  web01: # in front", "  front: # in front"));
    let lock = std::fs::read_to_string(lab.user.path("shop.lock.yaml")).unwrap();
    assert!(lock.contains("front: 300") && !lock.contains("web01"), "{lock}");
    let now = config(&lab, 300);
    assert_eq!((&now["name"], &now["smbios1"]), (&Value::from("front"), &uuid));
    run(&lab, "plan shop.yaml --detailed-exitcode", 0);
    // Once more is nothing to do; a VM that is not there is not made by it.
    run(&lab, "rename web01 front --spec shop.yaml --yes", 0);
    run(&lab, "destroy shop.yaml --yes", 0);
    let text = run(&lab, "rename front web01 --spec shop.yaml --yes", 4);
    assert!(text.contains("`front` has no guest to rename"), "{text}");
    // By hand, and with a `clusters:` block that comes with it.
    lab.user.write("shop.yaml", &before);
    run(&lab, "deploy shop.yaml --yes", 0);
    let by_hand =
        spec("second", "    renamed_from: web01\n").replace("vms:", "clusters: {lab: {node: pve1}}\nvms:");
    lab.user.write("shop.yaml", &by_hand);
    for transport in ["api", "ssh"] {
        let text = run(&lab, &format!("plan shop.yaml --detailed-exitcode --transport {transport}"), 3);
        assert!(text.contains("~ second"), "{text}");
    }
    run(&lab, "deploy shop.yaml --yes", 0);
    run(&lab, "plan shop.yaml --detailed-exitcode", 0);
}

#[test]
fn a_copy_and_a_wrong_node_are_told_alike_by_every_transport() {
    let lab = LabRun::demo();
    lab.user.write("shop.yaml", &spec("web01", "    vmid: 301\n    agent: true\n"));
    run(&lab, "deploy shop.yaml --yes", 0);
    let marked = config(&lab, 301);
    let description = format!("description={}", marked["description"].as_str().unwrap());
    let smbios1 = format!("smbios1={}", marked["smbios1"].as_str().unwrap());
    run(&lab, "destroy shop.yaml --yes", 0);
    let create = [
        "api",
        "post",
        "/nodes/pve1/qemu",
        "vmid=302",
        "name=web01",
        &description,
        &smbios1,
        "--wait",
        "--yes",
    ];
    ended(&lab.user.output(&create), 0);
    lab.user.write("node.yaml", &spec("web02", "").replace("pve1", "pve7"));
    for transport in ["hybrid", "auto", "api", "ssh"] {
        for command in ["plan", "destroy --yes"] {
            let text = run(&lab, &format!("{command} shop.yaml --transport {transport}"), 4);
            assert!(text.contains("VMID 302 is a copy of `web01` of project `shop`"), "{text}");
        }
        let text = run(&lab, &format!("plan node.yaml --transport {transport}"), 4);
        assert!(
            text.contains("the cluster has no node `pve7`") && text.contains("the cluster has pve1"),
            "{text}"
        );
    }
    for line in ["ip web01", "ip web01 --spec shop.yaml"] {
        let text = run(&lab, line, 4);
        assert!(text.contains("is a copy of"), "{line}: {text}");
    }
    let adopted = run(&lab, "adopt 302 --project shop --out adopted.yaml", 0);
    assert!(adopted.contains("only the marker is added"), "{adopted}");
    run(&lab, "deploy adopted.yaml --yes", 0);
    run(&lab, "plan adopted.yaml --detailed-exitcode", 0);
}

#[test]
fn of_two_runs_that_make_one_vmid_by_ssh_one_makes_it_and_the_other_says_so() {
    let delays = "delays: {qm_ms: 100, pvesm_ms: 50, pvesh_ms: 100, create_ms: 400}";
    let world = WorldSpec { delays: WorldSpec::from_yaml(delays).unwrap().delays, ..WorldSpec::demo() };
    let lab = LabRun::start(world, Vec::new());
    let children: Vec<_> = [("one", 1), ("two", 7)]
        .into_iter()
        .map(|(name, size)| {
            let text = spec(name, "    vmid: 301\n").replace("project: shop", &format!("project: {name}"));
            lab.user.write(&format!("{name}/spec.yaml"), &text.replace("1GiB", &format!("{size}GiB")));
            let mut command = lab.user.command(&["deploy", "spec.yaml", "--yes", "--transport", "ssh"]);
            command.current_dir(lab.user.path(name)).stdout(Stdio::piped()).stderr(Stdio::piped());
            (name, size, command.spawn().unwrap())
        })
        .collect();
    let ends: Vec<(&str, i32, Output)> = children
        .into_iter()
        .map(|(name, size, child)| (name, size, child.wait_with_output().unwrap()))
        .collect();
    let winners: Vec<&(&str, i32, Output)> =
        ends.iter().filter(|(_, _, output)| output.status.success()).collect();
    let [(name, size, _)] = &winners[..] else { panic!("{ends:?}") };
    let made = config(&lab, 301);
    assert_eq!(made["name"], *name);
    assert!(made["scsi0"].as_str().unwrap().contains(&format!("size={size}G")), "{made}");
    assert!(made["description"].as_str().unwrap().contains(&format!("project={name} ")), "{made}");
}
