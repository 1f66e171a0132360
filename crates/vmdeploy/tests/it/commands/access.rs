//! `vmdeploy api`, `access` and `ip`, against the lab's listeners.

use crate::lab_run::LabRun;
use insta::assert_snapshot;

/// Runs commands one after the other, and returns what a person sees of all of them.
fn session(lab: &LabRun, commands: &[&str]) -> String {
    let words = |command: &str| command.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let run = |command: &&str| {
        let words = words(command);
        lab.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    commands.iter().map(run).collect::<Vec<_>>().join("\n")
}

fn stdout(lab: &LabRun, command: &str) -> (String, Option<i32>) {
    let output = lab.user.output(&command.split(' ').collect::<Vec<_>>());
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

#[test]
fn users_groups_roles_acls_and_realms_come_and_go() {
    let lab = LabRun::demo();
    assert_snapshot!(session(
        &lab,
        &[
            "access groups add staff --comment People --yes",
            "access groups list",
            "access roles add Viewer VM.Audit Datastore.Audit --yes",
            "access roles show Viewer",
            "access roles change Viewer VM.Console --append --yes",
            "access users add ann@pve --firstname Ann --groups staff --yes",
            "access users add ann@pve --yes",
            "access users show ann@pve",
            "access users show ann@pve --json",
            "access acl grant /vms --role Viewer --group staff --yes",
            "access acl list /vms",
            "access acl revoke /vms --role Viewer --group staff --yes",
            "access realms change pve comment=Ours --yes",
            "access realms list",
            "access realms sync pve --yes",
            "access users remove ann@pve",
            "access users remove ann@pve --yes",
            "access groups remove staff --yes",
            "access roles remove Viewer --yes",
            "access roles add Viewer VM.Nonsense --yes",
        ],
    ));
}

#[test]
fn a_token_s_secret_is_told_once_or_kept_in_a_private_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = LabRun::demo();
    let (secret, code) = stdout(&lab, "access tokens add root@pam ci --yes");
    assert_eq!((code, secret.trim().len()), (Some(0), 36), "{secret}");
    assert_eq!(
        stdout(&lab, "access tokens add root@pam file --secret-to secret.txt --yes"),
        (String::new(), Some(0))
    );
    let mode = std::fs::metadata(lab.user.path("secret.txt")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A file that is there is not written over, and then no token is made.
    assert_eq!(stdout(&lab, "access tokens add root@pam other --secret-to secret.txt --yes").1, Some(2));
    let (listed, _) = stdout(&lab, "access tokens list root@pam");
    assert!(
        listed.contains("ci ") && !listed.contains("other") && !listed.contains(secret.trim()),
        "{listed}"
    );
    // With --json the secret is a value like any other.
    let (made, _) = stdout(&lab, "access tokens add root@pam third --json --yes");
    assert!(made.contains("\"full-tokenid\": \"root@pam!third\""), "{made}");
}

#[test]
fn a_secret_parameter_on_the_command_line_is_refused() {
    let lab = LabRun::demo();
    lab.user.write("pw", "correct-horse-battery\n");
    assert_snapshot!(session(
        &lab,
        &[
            "access realms add corp --type ldap password=hunter2hunter2 --yes",
            "access users add bob@pve --password-file pw --yes",
            "access users add eve@pve --password-env NOT_SET --yes",
            "access password bob@pve --yes",
        ],
    ));
}

#[test]
fn any_call_can_be_made_and_errors_show_the_parameters() {
    let lab = LabRun::demo();
    assert_snapshot!(
        session(
            &lab,
            &[
                "api get /version",
                "api get version --json",
                "api post /nodes/pve1/qemu vmid=201 name=web01 memory=256 --yes",
                "api put /nodes/pve1/qemu/201/config cores=many --yes",
                "api put /nodes/pve1/qemu/201/config cores=many --json --yes",
                "api get /nodes/pve1/qemu/999/config",
                "api delete /nodes/pve1/qemu/201 nonsense=1 --yes",
                "api get /nodes/../x",
                "api get /nodes?type=vm",
                "api get /nodes type",
            ],
        )
        .lines()
        .filter(|line| !line.starts_with("UPID:"))
        .map(|line| format!("{line}\n"))
        .collect::<String>()
    );
}

#[test]
fn the_address_is_found_and_each_reason_for_none_has_its_own_status() {
    let lab = LabRun::demo();
    let create = "api post /nodes/pve1/qemu vmid=201 name=web01 memory=256 net0=virtio,bridge=vmbr0 \
                  scsi0=local-lvm:0,import-from=local:import/debian-13.qcow2 ide2=local-lvm:cloudinit \
                  ipconfig0=ip=10.40.0.5/24 boot=order=scsi0 --wait --yes";
    assert_eq!(stdout(&lab, create).1, Some(0));
    assert_eq!(stdout(&lab, "ip web01"), (String::new(), Some(20)));
    assert_eq!(stdout(&lab, "api put /nodes/pve1/qemu/201/config agent=1 --yes").1, Some(0));
    assert_eq!(stdout(&lab, "ip 201"), (String::new(), Some(21)));
    assert_eq!(stdout(&lab, "api post /nodes/pve1/qemu/201/status/start --wait --yes").1, Some(0));
    assert_eq!(stdout(&lab, "ip web01 --wait 60"), ("10.40.0.5\n".to_owned(), Some(0)));
    assert_eq!(stdout(&lab, "ip web01 --cidr 192.168.0.0/16 --no-neighbors"), (String::new(), Some(22)));
    let (json, _) = stdout(&lab, "ip web01 --nic net0 --json");
    assert!(json.contains("\"source\": \"guest-agent\""), "{json}");
    assert_snapshot!(session(&lab, &["ip absent", "ip web01 --nic net9", "ip web01 --cidr nonsense"]));
    // Without the agent the node's neighbor table is asked over SSH, and the address is labeled.
    assert_eq!(stdout(&lab, "api put /nodes/pve1/qemu/201/config agent=0 --yes").1, Some(0));
    assert_eq!(stdout(&lab, "ip web01 --no-neighbors"), (String::new(), Some(20)));
    let (json, code) = stdout(&lab, "ip web01 --json");
    assert!(code == Some(0) && json.contains("\"source\": \"neighbor-table\""), "{json}");
}
