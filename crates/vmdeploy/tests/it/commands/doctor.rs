//! `vmdeploy doctor`: each thing broken is named, with what to do about it.

use crate::lab_run::LabRun;
use std::io::{Read as _, Write as _};

/// Runs `doctor` with these variables set, and returns its code and all that it said.
fn doctor(lab: &LabRun, variables: &[(&str, &str)]) -> (i32, String) {
    let mut command = lab.user.command(&["doctor", "demo.yaml"]);
    let output = command.envs(variables.iter().copied()).output().expect("the program can be run");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().expect("it ends"), text)
}

/// Breaks one thing: the code is this, and the line that fails and its hint say this.
fn check(lab: &LabRun, variables: &[(&str, &str)], code: i32, failed: &str, hint: &str) {
    let (found, text) = doctor(lab, variables);
    assert_eq!(found, code, "{variables:?}\n{text}");
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| line.starts_with("FAILED ") && line.contains(failed));
    let at = at.unwrap_or_else(|| panic!("{failed}\n{text}"));
    let said = lines[at + 1].trim_start();
    assert!(said.starts_with("hint: ") && said.contains(hint), "{variables:?}\n{text}");
}

#[test]
fn each_thing_that_is_broken_is_named_with_the_way_out() {
    let lab = LabRun::demo();
    let (code, text) = doctor(&lab, &[]);
    assert!(code == 0 && text.ends_with("all checks passed\n"), "{text}");
    let ssh = lab.variable("PROXMOX_SSH_PORT");
    let other = ["AA"; 32].join(":");
    for (variables, code, failed, hint) in [
        (&[("PROXMOX_API_HOST", "no-such-host.invalid")][..], 4, "API name", "correct the name in .env"),
        (
            &[("PROXMOX_API_HOST", "https://127.0.0.1")],
            7,
            "without `https://` and port",
            "correct it in .env",
        ),
        (&[("PROXMOX_API_PORT", "1")], 4, "API port", "check the port"),
        (&[("PROXMOX_API_PORT", &ssh)], 4, "API", "does not speak TLS"),
        (&[("PROXMOX_API_FINGERPRINT", &other)], 7, "is not trusted", "`pvenode cert info`"),
        (&[("PROXMOX_API_CA", "/etc/hostname")], 7, "no certificate in PEM form", "correct it"),
        (&[("PROXMOX_API_USER", "root")], 7, "settings", "correct PROXMOX_API_USER"),
        (&[("PROXMOX_NODE", "pve9")], 4, "node pve9", "the nodes are pve1"),
        (&[("PROXMOX_SSH_HOST", "no-such-host.invalid")], 4, "SSH name", "correct the name in .env"),
        (&[("PROXMOX_SSH_PORT", "1")], 4, "SSH port", "`sshd`"),
        (&[("PROXMOX_SSH_KNOWN_HOSTS", "/dev/null")], 7, "is not known", "ssh-keygen -lf"),
        (&[("PROXMOX_SSH_USER", "nobody")], 7, "SSH login", "authorized_keys"),
        (&[("PROXMOX_SSH_JUMP", "no-such-host.invalid")], 4, "through `no-such-host.invalid:22`", ""),
    ] {
        check(&lab, variables, code, failed, hint);
    }
    // The reason that PVE keeps to itself is asked of root.
    let secret = [("PROXMOX_API_PASSWORD", "00000000-0000-0000-0000-000000000000")];
    check(&lab, &secret, 7, "credentials", "an expired token");
    check(&lab, &secret, 7, "the configured secret is wrong", "pveum user token remove root@pam lab");
    check(&lab, &[("PROXMOX_API_USER", "ann@pve!ci")], 7, "there is no user ann@pve", "fix-token --create");
    check(&lab, &[("PROXMOX_API_USER", "root@pam!other")], 7, "root@pam has no token other", "--create");
    let spec = std::fs::read_to_string(lab.user.path("demo.yaml")).unwrap();
    lab.user.write("demo.yaml", &spec.replace("local-lvm", "nowhere").replace("vmbr0", "vmbr7"));
    check(&lab, &[], 4, "storage nowhere", "visible there: local, local-lvm");
    check(&lab, &[], 4, "bridge vmbr7", "visible there: vmbr0");
    lab.user.write("demo.yaml", &spec.replace("node: pve1", "node: pve7"));
    check(&lab, &[], 4, "node pve7", "the nodes are pve1");
}

#[test]
fn a_setting_that_is_wrong_leaves_the_other_checks() {
    let lab = LabRun::demo();
    let folder = lab.user.path("").display().to_string();
    let nowhere = lab.user.path("nowhere").display().to_string();
    // What the other transport, and what is left of this one, still tells.
    let (api, ssh) =
        (&["ok     credentials", "ok     node pve1"][..], &["ok     SSH login", "ok     qm"][..]);
    let port = &["ok     API port", "-      API "][..];
    let by_ssh = [port, ssh, &["ok     node pve1", "ok     storage local-lvm"][..]].concat();
    let by_api = [api, &["-      SSH "][..]].concat();
    let known = [api, &["FAILED SSH host key"][..]].concat();
    let keyless = [api, &["ok     SSH port", "FAILED SSH login"][..]].concat();
    for (name, value, code, failed, hint, still) in [
        ("PROXMOX_API_CA", nowhere.as_str(), 7, "cannot read PROXMOX_API_CA", "pve-root-ca.pem", &by_ssh),
        ("PROXMOX_API_CA", &folder, 7, "cannot read PROXMOX_API_CA", "in PEM form", &by_ssh),
        ("PROXMOX_API_FINGERPRINT", "AA:BB", 7, "64 hexadecimal digits", "`pvenode cert info`", &by_ssh),
        ("PROXMOX_API_PASSWORD", "", 7, "PROXMOX_API_PASSWORD is not", "fix-token --create", &by_ssh),
        ("PROXMOX_SSH_KEY", &nowhere, 7, "PROXMOX_SSH_KEY is", "leave it empty", &keyless),
        ("PROXMOX_SSH_KEY", &folder, 7, "PROXMOX_SSH_KEY is", "leave it empty", &keyless),
        ("PROXMOX_SSH_KNOWN_HOSTS", &nowhere, 7, "SSH known hosts", "PROXMOX_SSH_KNOWN_HOSTS", &known),
        ("PROXMOX_SSH_KNOWN_HOSTS", &folder, 7, "SSH known hosts", "PROXMOX_SSH_KNOWN_HOSTS", &known),
        ("PROXMOX_SSH_PORT", "ssh", 4, "not a number in the allowed range", "correct it", &by_api),
        ("PROXMOX_SSH_JUMP", "a b", 4, "PROXMOX_SSH_JUMP does not contain a host", "correct it", &by_api),
        ("PROXMOX_NODE", "no node", 4, "PROXMOX_NODE is wrong", "correct it", &[api, ssh].concat()),
    ] {
        check(&lab, &[(name, value)], code, failed, hint);
        let (_, text) = doctor(&lab, &[(name, value)]);
        for line in still {
            assert!(text.contains(line), "{name}={value}: {line}\n{text}");
        }
    }
    // Nothing is sent to a host that could not be verified as was wished.
    let (_, text) = doctor(&lab, &[("PROXMOX_API_FINGERPRINT", "AA:BB")]);
    assert!(!text.contains("credentials"), "{text}");
    let both = [("PROXMOX_API_CA", nowhere.as_str()), ("PROXMOX_SSH_PORT", "0x16")];
    check(&lab, &both, 7, "PROXMOX_API_CA", "PEM");
    check(&lab, &both, 7, "PROXMOX_SSH_PORT", "correct it");
}

#[test]
fn a_port_that_speaks_something_else_is_said_at_once() {
    let lab = LabRun::demo();
    for (says, expect) in
        [(&b"\x15\x03\x01\0\x02\x02\x28"[..], "TLS"), (b"HTTP/1.1 400 Bad Request\r\n", "HTTP")]
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let server = std::thread::spawn(move || {
            // The first connection is that of the check of the port.
            drop(listener.accept().unwrap());
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 8]).unwrap();
            stream.write_all(says).unwrap();
        });
        let failed = format!("not an SSH server: it speaks {expect}");
        check(&lab, &[("PROXMOX_SSH_PORT", &port)], 4, &failed, "correct PROXMOX_SSH_PORT");
        server.join().unwrap();
    }
}

#[test]
fn an_expired_token_is_called_expired() {
    let lab = LabRun::demo();
    let change = ["access", "tokens", "change", "root@pam", "lab", "--expire", "1000", "--yes"];
    assert_eq!(lab.user.output(&change).status.code(), Some(0));
    check(
        &lab,
        &[],
        7,
        "the token has expired (1970-01-01)",
        "pveum user token modify root@pam lab --expire 0",
    );
    let verdict = lab.user.output(&["check-token", "demo.yaml"]);
    let said = String::from_utf8_lossy(&verdict.stderr).into_owned();
    assert_eq!(verdict.status.code(), Some(7), "{said}");
    assert!(said.contains("the token has expired (1970-01-01)") && said.contains("hint: "), "{said}");
}

#[test]
fn the_way_that_ssh_config_says_is_the_one_that_is_looked_at() {
    let lab = LabRun::demo();
    let config =
        format!("Host node-one\n  HostName 127.0.0.1\n  Port {}\n", lab.variable("PROXMOX_SSH_PORT"));
    std::fs::create_dir_all(lab.user.home(".ssh")).unwrap();
    std::fs::write(lab.user.home(".ssh/config"), config).unwrap();
    let mut command = lab.user.command(&["doctor", "demo.yaml"]);
    command.env("PROXMOX_SSH_HOST", "node-one").env_remove("PROXMOX_SSH_PORT");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let has_ssh = std::process::Command::new("ssh").arg("-V").output().is_ok();
    assert_eq!(output.status.code(), Some(if has_ssh { 0 } else { 4 }), "{text}");
}
