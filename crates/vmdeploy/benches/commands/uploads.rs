//! Part 5: an image upload against `scp` and `sftp`, as the bench of pve-ssh measures it.

use crate::document::{Table, root};
use std::process::Command;

/// Runs that bench and takes over its table.
pub fn tables() -> Vec<Table> {
    let mut table = Table::new(
        "Uploading an image of 1 GiB over loopback, with OpenSSH's sshd on the other side",
        &["tool", "MB/s", "ratio", "target"],
    );
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["bench", "--quiet", "--package", "pve-ssh", "--bench", "upload"])
        .current_dir(root())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            table.note(format!("Left out: cargo cannot be run: {error}"));
            return vec![table];
        }
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in text.lines().filter(|line| line.starts_with("| ") && !line.contains("MB/s")) {
        let cells: Vec<String> =
            line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        table.row((0..4).map(|place| cells.get(place).cloned().unwrap_or_default()));
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if let Some(reason) = said.lines().find(|line| line.starts_with("upload: ")) {
        table.note(format!("Left out: {}", reason.trim_start_matches("upload: ")));
    } else if !output.status.success() {
        table.note("Left out: `cargo bench --package pve-ssh --bench upload` failed");
    }
    vec![table]
}
