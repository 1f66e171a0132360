//! Hostile input arrives unchanged or is refused, and secrets stay secret: over real SSH.

use crate::lab_run::LabRun;
use std::path::Path;

/// A text that does harm wherever a shell, a property string or a terminal takes it for its own.
const HOSTILE: &str =
    "it's \"$(touch /tmp/was-here)\" `id`; rm -rf / | cat > x & $HOME ${IFS} \\n %41 é\n<b>second</b> line";
const GUEST_PASSWORD: &str = "pa'ss$(id) \"w\" correct-horse";
const ODD_IMAGE: &str = "/var/lib/vz/import/od d'$(x);`y`.qcow2";

fn spec(description: &str, user: &str) -> String {
    let text = |text: &str| serde_json::to_string(text).unwrap();
    format!(
        "version: 1\nproject: hostile\ndefaults: {{node: pve1, agent: true}}\n\
         images:\n  odd: {{path: {}}}\n\
         vms:\n  h01:\n    vmid: 666\n    description: {}\n    cpu: 1\n    memory: 1GiB\n\
         \x20   disks:\n      scsi0: {{storage: local-lvm, image: odd, size: 10GiB}}\n\
         \x20   nics:\n      net0: {{bridge: vmbr0, ip: dhcp}}\n\
         \x20   cloud_init:\n      user: {}\n      password: {{env: GUEST_PASSWORD}}\n      ssh_keys: [{{file: demo.pub}}]\n",
        text(ODD_IMAGE),
        text(description),
        text(user),
    )
}

fn lab_with_odd_image() -> LabRun {
    let mut lab = LabRun::demo();
    lab.world().with(|world| {
        let mut files = pve_lab::vfs::NodeFiles::new(world, "pve1");
        files.copy("/var/lib/vz/import/debian-13.qcow2", ODD_IMAGE).expect("the demo's world has the image");
    });
    lab.user.add_variable("GUEST_PASSWORD", GUEST_PASSWORD);
    lab
}

#[test]
fn hostile_text_arrives_literally_by_api_and_ssh() {
    for transport in ["hybrid", "ssh"] {
        let lab = lab_with_odd_image();
        lab.user.write("h.yaml", &spec(HOSTILE, "o'brien"));
        let output = lab.user.output(&["deploy", "h.yaml", "--yes", "--transport", transport]);
        assert_eq!(output.status.code(), Some(0), "{transport}: {}", String::from_utf8_lossy(&output.stderr));
        lab.world().with(|world| {
            let guest = world.guests.values().next().expect("the VM is there");
            let value = |key: &str| guest.config.get(key).cloned().unwrap_or_default();
            assert!(value("description").starts_with(HOSTILE), "{transport}: {}", value("description"));
            assert_eq!(value("ciuser"), "o'brien", "{transport}");
            assert!(value("cipassword").starts_with("$6$"), "{transport}: the password is hashed");
            let files = pve_lab::vfs::NodeFiles::new(world, "pve1");
            assert!(!files.exists("/tmp/was-here") && files.exists("/etc"), "{transport}: nothing was run");
        });
    }
}

#[test]
fn what_pve_could_not_hold_is_refused_by_validation() {
    let lab = LabRun::demo();
    let names = ["a;b", "a b", "$(id)", "a\u{1b}[2J", "-rf", "a\nb", "../x", ""];
    for name in names {
        let key = serde_json::to_string(name).unwrap();
        lab.user
            .write("n.yaml", &format!("version: 1\nproject: x\nvms:\n  {key}: {{cpu: 1, memory: 1GiB}}\n"));
        let output = lab.user.output(&["validate", "n.yaml"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name:?}: {said}");
        assert!(!said.contains('\u{1b}'), "{name:?} reached the terminal: {said:?}");
    }
}

#[test]
fn no_secret_is_in_anything_that_a_run_says_or_writes() {
    let lab = lab_with_odd_image();
    lab.user.write("h.yaml", &spec("plain", "admin"));
    let mut everything = String::new();
    for arguments in [
        &["plan", "h.yaml", "-vvv", "--out", "plan.json"][..],
        &["deploy", "h.yaml", "--yes", "--json", "-vvv", "--log-format", "json"],
        &["status", "h.yaml", "-vvv"],
        &["inventory", "h.yaml", "-vvv"],
        &["check-token", "h.yaml", "-vvv"],
        &["doctor", "h.yaml", "-vvv"],
        &["destroy", "h.yaml", "--yes", "-vvv"],
    ] {
        let output = lab.user.output(arguments);
        everything.push_str(&String::from_utf8_lossy(&output.stdout));
        everything.push_str(&String::from_utf8_lossy(&output.stderr));
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    collect(&lab.user.path(""), &mut everything);
    assert!(everything.contains("h01/create") && everything.len() > 10_000, "the run left its traces");
    let secrets = [
        GUEST_PASSWORD,
        "correct-horse",
        &lab.variable("PROXMOX_API_PASSWORD"),
        &lab.variable("PVE_LAB_ROOT_PASSWORD"),
    ]
    .map(str::to_owned);
    for secret in secrets {
        if let Some(at) = everything.find(&secret) {
            panic!("a secret was said: {}", &everything[at.saturating_sub(200)..at]);
        }
    }
}

/// Adds the text of every file below the folder.
fn collect(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, text);
        } else {
            text.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
        }
    }
}
