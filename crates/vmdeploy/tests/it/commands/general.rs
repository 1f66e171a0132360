//! What every command has in common.

use crate::transcript::Session;
use insta::assert_snapshot;

#[test]
fn help_lists_what_exists() {
    assert_snapshot!(Session::new().run(&["--help"]));
}

#[test]
fn an_unknown_command_is_refused() {
    assert_snapshot!(Session::new().run(&["depoly"]));
}

#[test]
fn a_broken_dotenv_is_refused_without_showing_the_line() {
    let session = Session::new();
    session.write(".env", "PROXMOX_API_HOST=pve1\nPROXMOX_API_PASSWORD=two words\n");
    let said = session.run(&["init"]);
    assert!(!said.contains("two words"));
    assert_snapshot!(said);
}

#[test]
fn completions_and_the_manual_page_are_printed() {
    let session = Session::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = session.output(&["completions", shell]);
        assert!(
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains("vmdeploy"),
            "{shell}"
        );
    }
    let page = session.output(&["man"]);
    assert!(String::from_utf8_lossy(&page.stdout).starts_with(".ie \\n(.g"), "it is a manual page");
}

#[test]
fn what_cannot_be_read_or_reached_says_what_to_do_next() {
    use crate::lab_run::LabRun;
    let lab = LabRun::demo();
    lab.user.write("other_key", "no key at all");
    let check = |variable: Option<(&str, &str)>, arguments: &[&str], code: i32, hint: &str| {
        let mut command = lab.user.command(arguments);
        let output = command.envs(variable).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        let hints: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("hint: ")).collect();
        assert!(hints.iter().any(|said| said.contains(hint)), "{said}");
        assert!(!said.contains("`vmdeploy resume`"), "no run has begun: {said}");
    };
    check(None, &["plan", "nowhere.yaml"], 2, "pass the file or folder");
    check(None, &["validate", "/proc/self/fdinfo"], 2, "pass the file or folder");
    check(Some(("PROXMOX_API_PORT", "1")), &["plan", "demo.yaml"], 4, "PROXMOX_API_HOST");
    check(Some(("PROXMOX_SSH_PORT", "1")), &["plan", "demo.yaml"], 4, "PROXMOX_SSH_HOST");
    check(Some(("PROXMOX_SSH_KEY", "other_key")), &["plan", "demo.yaml"], 7, "PROXMOX_SSH_KEY");
}
