//! Programs that know nothing of vmdeploy read what it writes and talk to its lab.

use crate::lab_session::RunningLab;
use crate::root;
use libtest_mimic::Failed;
use std::path::PathBuf;
use std::process::{Command, Output};

fn expect(condition: bool, output: &Output) -> Result<(), Failed> {
    if condition && output.status.success() { Ok(()) } else { Err(format!("{output:?}").into()) }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `curl --cacert` believes the lab's certificate, and the token is let in.
pub fn curl() -> Result<(), Failed> {
    let lab = RunningLab::start();
    let address = format!("https://127.0.0.1:{}/api2/json/version", lab.variable("PROXMOX_API_PORT"));
    let token = format!(
        "Authorization: PVEAPIToken={}={}",
        lab.variable("PROXMOX_API_USER"),
        lab.variable("PROXMOX_API_PASSWORD")
    );
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--cacert",
            &lab.variable("PROXMOX_API_CA"),
            "--header",
            &token,
        ])
        .arg(address)
        .output()?;
    expect(stdout(&output).contains("\"version\""), &output)
}

/// Stock ssh believes the lab's host key, and its key is let in.
pub fn ssh() -> Result<(), Failed> {
    let lab = RunningLab::start();
    let known_hosts = format!("UserKnownHostsFile={}", lab.variable("PROXMOX_SSH_KNOWN_HOSTS"));
    let output = Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", &known_hosts])
        .args(["-i", &lab.variable("PROXMOX_SSH_KEY"), "-p", &lab.variable("PROXMOX_SSH_PORT")])
        .args(["root@127.0.0.1", "pvesm", "status"])
        .output()?;
    expect(stdout(&output).contains("local"), &output)
}

/// A shell that sources the file sees exactly the values that were meant.
pub fn shell() -> Result<(), Failed> {
    let lab = RunningLab::start();
    for (name, value) in lab.variables() {
        let script = format!(". \"$1\"; printf %s \"${name}\"");
        let output = Command::new("sh").args(["-c", &script, "sh"]).arg(lab.env_file()).output()?;
        expect(stdout(&output) == value, &output)?;
    }
    Ok(())
}

/// Returns `ansible-inventory`: from the PATH, or from the environment that `make test-ansible` makes.
pub fn ansible_inventory() -> Result<PathBuf, String> {
    let own = root().join("target/ansible/bin/ansible-inventory");
    if own.exists() {
        return Ok(own);
    }
    crate::works("ansible-inventory", &["--version"])
        .map(|()| PathBuf::from("ansible-inventory"))
        .map_err(|_| "ansible-inventory is not here; make test-ansible installs it".to_owned())
}

/// Stock ansible-inventory reads INI, YAML and the dynamic protocol alike, awkward values included.
pub fn ansible() -> Result<(), Failed> {
    let program = ansible_inventory().map_err(Failed::from)?;
    let folder = tempfile::tempdir()?;
    let inventory = sample();
    let read = |name: &str, text: &str| -> Result<serde_json::Value, Failed> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        if name == "dynamic" {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
        }
        let output = Command::new(&program).args(["--list", "-i"]).arg(&path).output()?;
        expect(true, &output)?;
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    use vmdeploy::inventory::Format;
    let list = folder.path().join("list.json");
    std::fs::write(&list, inventory.ansible_list())?;
    let script = format!("#!/bin/sh\ncat '{}'\n", list.display());
    let readings = [
        ("hosts.ini", read("hosts.ini", &inventory.render(Format::Ini))?),
        ("hosts.yaml", read("hosts.yaml", &inventory.render(Format::Yaml))?),
        ("dynamic", read("dynamic", &script)?),
    ];
    for (name, reading) in &readings {
        let host = &reading["_meta"]["hostvars"]["web01"];
        let wanted = &inventory.hosts[0];
        let same = host["ansible_host"] == wanted.address.to_string()
            && wanted.vars.iter().all(|(key, value)| host[key] == *value)
            && reading["web"]["hosts"] == serde_json::json!(["web01"]);
        if !same {
            return Err(format!("{name}: {reading:#}").into());
        }
    }
    Ok(())
}

fn sample() -> vmdeploy::inventory::Inventory {
    use serde_json::json;
    let vars = [
        ("text", json!("it's a \"test\" # no comment")),
        ("looks_like_a_number", json!("0755")),
        ("number", json!(5)),
        ("flag", json!(true)),
        ("list", json!(["a", {"b": null}])),
    ];
    vmdeploy::inventory::Inventory {
        format_version: 1,
        project: "demo".to_owned(),
        hosts: vec![vmdeploy::inventory::Host {
            name: "web01".to_owned(),
            address: [10, 40, 0, 11].into(),
            source: "agent",
            user: Some("admin".to_owned()),
            groups: ["web".to_owned()].into(),
            vars: vars.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        }],
    }
}
