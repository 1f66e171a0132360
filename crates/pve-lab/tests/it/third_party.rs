//! Python's clients of Proxmox VE: proxmoxer, and Ansible's community.proxmox as PyPI's `ansible` package has it.
//!
//! They are looked for in `target/third-party` (`make test-third-party` puts them there), then on the PATH.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::stock::{Ground, show, text};
use crate::{Need, Test};

pub const TESTS: &[Test] = &[
    Test {
        name: "proxmoxer_creates_starts_asks_and_deletes",
        needs: &[Need::Python("proxmoxer"), Need::Python("requests")],
        run: proxmoxer,
    },
    Test {
        name: "ansible_community_proxmox_runs_a_playbook_twice",
        needs: &[Need::Python("proxmoxer"), Need::Python("ansible_collections.community.proxmox")],
        run: ansible,
    },
];

/// Where Python's programs are looked for.
pub fn program(name: &str) -> Option<PathBuf> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/third-party/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(own)
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Tells whether Python has a module.
pub fn has_module(module: &str) -> bool {
    let Some(python) = program("python3") else { return false };
    let mut command = Command::new(python);
    command.args(["-c", &format!("import {module}")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn run(ground: &Ground, command: &mut Command) -> Result<String, String> {
    for (name, value) in &ground.environment {
        command.env(name, value);
    }
    command.env("REQUESTS_CA_BUNDLE", ground.value("PROXMOX_API_CA")).env("HOME", ground.folder.path());
    let output = command.stdin(Stdio::null()).current_dir(ground.folder.path()).output().map_err(text)?;
    let said = format!("{}\n{}", show(&output.stdout), show(&output.stderr));
    if output.status.success() { Ok(said) } else { Err(said) }
}

fn proxmoxer() -> Result<(), String> {
    let ground = Ground::demo()?;
    let python = program("python3").ok_or("no python3")?;
    let said = run(&ground, Command::new(python).args(["-c", include_str!("proxmoxer_drive.py")]))?;
    if said.contains("driven") { Ok(()) } else { Err(said) }
}

fn ansible() -> Result<(), String> {
    let ground = Ground::demo()?;
    let playbook = ground.path("playbook.yaml");
    std::fs::write(&playbook, include_str!("playbook.yaml")).map_err(text)?;
    let python = program("python3").ok_or("no python3")?;
    let ansible = program("ansible-playbook").ok_or("no ansible-playbook")?;
    let mut command = Command::new(&python);
    command.arg(ansible).args(["-i", "localhost,"]).arg(&playbook);
    command
        .env("ANSIBLE_PYTHON_INTERPRETER", &python)
        .env("ANSIBLE_LOCALHOST_WARNING", "False")
        .env("LC_ALL", "C.UTF-8");
    command
        .env("LAB_HOST", ground.value("PROXMOX_API_HOST"))
        .env("LAB_PORT", ground.value("PROXMOX_API_PORT"));
    command.env("LAB_SECRET", ground.value("PROXMOX_API_PASSWORD"));
    let said = run(&ground, &mut command)?;
    if said.contains("failed=0") { Ok(()) } else { Err(said) }
}
