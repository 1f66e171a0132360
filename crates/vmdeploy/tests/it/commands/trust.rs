//! What a repository and a spec may do: their `.env`, their `clusters:`, the files that they name, and where output goes.

use crate::lab_run::LabRun;
use std::net::TcpListener;
use std::process::Output;

const SETTINGS: [&str; 4] =
    ["PROXMOX_API_USER", "PROXMOX_API_PASSWORD", "PROXMOX_API_CA", "PROXMOX_API_FINGERPRINT"];

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Runs a command in the lab's folder with these variables and no others of `PROXMOX_*`.
fn with_only(lab: &LabRun, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = lab.user.command(arguments);
    for variable in vmdeploy::environment::ALL.iter().filter(|variable| variable.name.starts_with("PROXMOX_"))
    {
        command.env_remove(variable.name);
    }
    command.envs(variables.iter().copied()).output().unwrap()
}

#[test]
fn credentials_of_the_environment_go_to_no_host_of_a_found_file() {
    let lab = LabRun::demo();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    lab.user.write(".env", &format!("PROXMOX_API_HOST=127.0.0.1\nPROXMOX_API_PORT={port}\n"));
    let token = [("PROXMOX_API_USER", "root@pam!lab"), ("PROXMOX_API_PASSWORD", "the-token-of-ci")];
    for command in ["plan", "status", "destroy", "check-token", "doctor"] {
        let output = with_only(&lab, &token, &[command, "demo.yaml"]);
        assert!(!output.status.success(), "{command}");
        let said = text(&output);
        assert!(said.contains("PROXMOX_API_USER") && said.contains("`.env` sets PROXMOX_API_HOST"), "{said}");
        assert!(listener.accept().is_err(), "{command} went there");
    }
}

#[test]
fn a_found_file_that_says_everything_is_used_and_a_named_one_may_be_combined() {
    let lab = LabRun::demo();
    let all: Vec<String> = vmdeploy::environment::ALL
        .iter()
        .filter(|variable| variable.name.starts_with("PROXMOX_"))
        .map(|variable| format!("{}='{}'\n", variable.name, lab.variable(variable.name)))
        .collect();
    lab.user.write(".env", &all.concat());
    let whole = with_only(&lab, &[], &["plan", "demo.yaml"]);
    assert!(whole.status.success(), "{}", text(&whole));
    let secret = lab.variable("PROXMOX_API_PASSWORD");
    let rest: Vec<&String> = all.iter().filter(|line| !line.starts_with("PROXMOX_API_PASSWORD")).collect();
    lab.user.write("ci.env", &rest.iter().map(|line| line.as_str()).collect::<String>());
    let own = [("PROXMOX_API_PASSWORD", secret.as_str())];
    let named = with_only(&lab, &own, &["plan", "demo.yaml", "--env-file", "ci.env"]);
    assert!(named.status.success(), "{}", text(&named));
    std::fs::rename(lab.user.path("ci.env"), lab.user.path(".env")).unwrap();
    assert_eq!(with_only(&lab, &own, &["plan", "demo.yaml"]).status.code(), Some(7));
}

#[test]
fn a_found_file_runs_no_command() {
    let lab = LabRun::demo();
    let witness = lab.user.path("witness");
    let all: Vec<String> =
        ["PROXMOX_SSH_HOST=127.0.0.1", "PROXMOX_SSH_KEY=/nowhere"].map(|line| format!("{line}\n")).into();
    let command = format!("PROXMOX_SSH_PASSPHRASE_COMMAND='touch {}'\n", witness.display());
    lab.user.write(".env", &(all.concat() + &command));
    let output = with_only(&lab, &[], &["plan", "demo.yaml", "--transport", "ssh"]);
    assert!(text(&output).contains("may not set a command to run"), "{}", text(&output));
    assert!(!witness.exists());
    assert!(lab.user.output(&["validate", "demo.yaml"]).status.success());
}

/// A spec whose clusters are the two labs, with one VM on each.
fn spec_of(one: &LabRun, other: &LabRun) -> String {
    let cluster = |name: &str, lab: &LabRun| {
        let port = lab.variable("PROXMOX_API_PORT");
        format!("  {name}: {{endpoints: ['https://127.0.0.1:{port}']}}\n")
    };
    let vm = |name: &str, cluster: &str, vmid: u32| {
        let disk = "disks: {scsi0: {storage: local-lvm, size: 1GiB}}";
        format!("  {name}: {{cluster: {cluster}, vmid: {vmid}, node: pve1, {disk}}}\n")
    };
    let clusters = cluster("a", one) + &cluster("b", other);
    let vms = vm("web01", "a", 901) + &vm("web02", "b", 902);
    format!("version: 1\nproject: two\ntransport: api\nclusters:\n{clusters}vms:\n{vms}")
}

#[test]
fn a_cluster_of_the_spec_is_reached_at_its_own_endpoint_or_not_at_all() {
    let (one, other) = (LabRun::demo(), LabRun::demo());
    let count = |lab: &LabRun| lab.world().with(|world| world.guests.len());
    let before = (count(&one), count(&other));
    one.user.write("two.yaml", &spec_of(&one, &other));
    let done = one.user.output(&["deploy", "two.yaml", "--yes", "--cluster", "a"]);
    assert!(done.status.success(), "{}", text(&done));
    let port = |lab: &LabRun| lab.variable("PROXMOX_API_PORT");
    let first = text(&done).lines().next().unwrap_or_default().to_owned();
    assert!(first.contains(&format!("at 127.0.0.1:{} ", port(&one))), "{first}");
    for command in ["deploy", "destroy"] {
        let refused = one.user.output(&[command, "two.yaml", "--yes", "--cluster", "b"]);
        let said = text(&refused);
        assert_eq!(refused.status.code(), Some(7), "{said}");
        assert!(
            said.contains(&port(&one)) && said.contains(&port(&other)) && said.contains("PROXMOX_API_HOST"),
            "{said}"
        );
    }
    assert_eq!((count(&one), count(&other)), (before.0 + 1, before.1));
}

#[test]
fn trust_anchors_of_the_spec_do_not_decide_who_gets_the_token() {
    let lab = LabRun::demo();
    let (port, pin) = (lab.variable("PROXMOX_API_PORT"), lab.variable("PROXMOX_API_FINGERPRINT"));
    let ca = lab.variable("PROXMOX_API_CA");
    std::fs::copy(&ca, lab.user.path("ca.pem")).unwrap();
    let spec = |tls: &str| {
        let clusters =
            format!("clusters:\n  default: {{endpoints: ['https://127.0.0.1:{port}'], tls: {{{tls}}}}}\n");
        crate::tidy::read("deployments/demo.yaml").replace("images:\n", &format!("{clusters}images:\n"))
    };
    let own: Vec<(&str, String)> = SETTINGS[..2]
        .iter()
        .chain(&["PROXMOX_API_PORT", "PROXMOX_API_HOST"])
        .map(|name| (*name, lab.variable(name)))
        .collect();
    let own: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let plan = |more: &[(&str, &str)], options: &[&str]| {
        let arguments = [&["plan", "demo.yaml", "--transport", "api"], options].concat();
        with_only(&lab, &[&own[..], more].concat(), &arguments)
    };
    lab.user.write("demo.yaml", &spec("ca_file: ca.pem"));
    let refused = plan(&[], &[]);
    assert!(text(&refused).contains("`tls.ca_file` of the spec's cluster"), "{}", text(&refused));
    let same = plan(&[("PROXMOX_API_CA", &ca)], &[]);
    assert!(!text(&same).contains("ca_file"), "{}", text(&same));
    let allowed = plan(&[], &["--allow-cluster-auth"]);
    assert!(!text(&allowed).contains("ca_file"), "{}", text(&allowed));
    if !pin.is_empty() {
        lab.user.write("demo.yaml", &spec(&format!("fingerprint: '{}'", "AA:".repeat(31) + "AA")));
        let other = plan(&[("PROXMOX_API_FINGERPRINT", &pin)], &[]);
        assert!(text(&other).contains("PROXMOX_API_FINGERPRINT in the environment is"), "{}", text(&other));
    }
}

#[test]
fn a_stored_plan_is_carried_out_on_its_own_cluster_only() {
    let (one, other) = (LabRun::demo(), LabRun::demo());
    let stored = one.user.path("plan.json");
    let written = one.user.output(&["plan", "demo.yaml", "--out", stored.to_str().unwrap()]);
    assert!(written.status.success(), "{}", text(&written));
    let folder = one.user.path("");
    let arguments =
        ["deploy", "--plan", stored.to_str().unwrap(), "--spec-folder", folder.to_str().unwrap(), "--yes"];
    let refused = other.user.output(&arguments);
    assert!(
        !refused.status.success() && text(&refused).contains("but this is the cluster at"),
        "{}",
        text(&refused)
    );
    assert_eq!(
        other.world().with(|world| world.guests.len()),
        LabRun::demo().world().with(|world| world.guests.len())
    );
}

#[test]
fn user_data_and_images_are_read_from_the_spec_s_folder_alone() {
    let lab = LabRun::demo();
    std::os::unix::fs::symlink("/etc/hostname", lab.user.path("link")).unwrap();
    lab.user.write(".env", "# the token would be here\n");
    let spec = |file: &str| {
        format!(
            "version: 1\nproject: p\ntransport: hybrid\nvms:\n  w: {{vmid: 901, node: pve1, \
             disks: {{scsi0: {{storage: local-lvm, size: 1GiB}}}}, cloud_init: {{user: a, user_data: {file}}}}}\n"
        )
    };
    for (file, why) in [
        ("link", "is outside"),
        ("/etc/hostname", "is outside"),
        ("../../etc/hostname", "is outside"),
        ("/dev/zero", "is outside"),
        (".env", "contains credentials"),
    ] {
        lab.user.write("s.yaml", &spec(file));
        let output = lab.user.output(&["plan", "s.yaml"]);
        let said = text(&output);
        assert!(
            !output.status.success() && (said.contains(why) || said.contains("cannot be read")),
            "{file}: {said}"
        );
    }
    lab.user.write("s.yaml", &spec("link"));
    let allowed = lab.user.output(&["plan", "s.yaml", "--allow-path", "/etc"]);
    assert!(!text(&allowed).contains("is outside"), "{}", text(&allowed));
}

#[test]
fn output_is_written_to_a_device_and_a_pipe_and_not_over_them() {
    let lab = LabRun::demo();
    for option in ["--out", "--write-observed"] {
        let output = lab.user.output(&["plan", "demo.yaml", option, "/dev/stdout"]);
        assert!(output.status.success(), "{}", text(&output));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("\"format_version\": 1"), "{option}: {said}");
        let null = lab.user.path("null");
        let _ = std::os::unix::fs::symlink("/dev/null", &null);
        assert!(lab.user.output(&["plan", "demo.yaml", option, null.to_str().unwrap()]).status.success());
        assert!(std::fs::symlink_metadata(&null).unwrap().is_symlink());
    }
}

#[test]
fn a_lock_file_that_is_a_link_is_not_followed() {
    let lab = LabRun::demo();
    lab.user.write("victim", "precious");
    lab.user.write(".vmdeploy/runs/.keep", "");
    let project = crate::tidy::read("deployments/demo.yaml");
    let project = project.lines().find_map(|line| line.strip_prefix("project: ")).unwrap().trim().to_owned();
    let lock = lab.user.path(&format!(".vmdeploy/runs/{project}.lock"));
    std::os::unix::fs::symlink(lab.user.path("victim"), lock).unwrap();
    let output = lab.user.output(&["deploy", "demo.yaml", "--yes"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert_eq!(std::fs::read_to_string(lab.user.path("victim")).unwrap(), "precious");
}
