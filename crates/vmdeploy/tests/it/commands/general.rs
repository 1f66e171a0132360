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
