//! `vmdeploy init`.

use crate::transcript::Session;
use insta::assert_snapshot;

#[test]
fn init_writes_what_is_missing_and_keeps_what_is_there() {
    let session = Session::new();
    let first = session.run(&["init"]);
    session.write(".env", "PROXMOX_API_HOST=mine\n");
    let second = session.run(&["init"]);
    assert_eq!(std::fs::read_to_string(session.path(".env")).unwrap(), "PROXMOX_API_HOST=mine\n");
    assert_snapshot!(format!("{first}{second}"));
}

#[test]
fn init_writes_files_that_only_the_owner_can_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let session = Session::new();
    session.run(&["init"]);
    assert_eq!(std::fs::metadata(session.path(".env")).unwrap().permissions().mode() & 0o777, 0o600);
}
