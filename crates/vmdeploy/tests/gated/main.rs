//! Tests that need something which not every machine has: reported as ignored, with what is missing, where it is not there.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics when something is not as expected, and explains it on the terminal"
)]

mod build;
mod lab_session;
mod terminal;
mod third_party;

#[expect(dead_code, reason = "the other test program uses more of it")]
#[path = "../it/transcript.rs"]
mod transcript;

#[expect(dead_code, reason = "the tests of pve-ssh use all of it")]
#[path = "../../../pve-ssh/tests/it/sshd.rs"]
mod sshd;

use libtest_mimic::{Arguments, Failed, Trial};
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || sshd::missing().map_or(Ok(()), Err);
    let trials = vec![
        gated("an_image_is_built_on_a_host_and_placed", builder(), build::built_and_placed),
        gated("an_image_is_built_in_a_vm_that_the_planner_deploys", builder(), build::built_in_a_vm),
        gated(
            "make_deploys_a_builder_builds_on_it_and_removes_it",
            builder().and(works("make", &["--version"])),
            build::by_make,
        ),
        gated("a_builder_is_reached_through_another_host", builder(), build::through_a_jump_host),
        gated("a_build_that_fails_leaves_only_its_log", builder(), build::failing),
        gated("a_build_that_takes_too_long_is_ended_on_the_builder", builder(), build::too_slow),
        gated("an_interrupted_build_is_ended_on_the_builder", builder(), build::interrupted),
        gated("a_builder_that_is_not_known_gets_nothing", builder(), build::not_trusted),
        gated("the_source_is_formatted", works("cargo", &["fmt", "--version"]), formatted),
        gated(
            "curl_reads_the_lab_with_the_written_variables",
            works("curl", &["--version"]),
            third_party::curl,
        ),
        gated(
            "ssh_runs_commands_in_the_lab_with_the_written_variables",
            works("ssh", &["-V"]),
            third_party::ssh,
        ),
        gated("a_shell_reads_the_written_variables", works("sh", &["-c", "true"]), third_party::shell),
        gated("a_wrong_passphrase_is_asked_for_again_unseen", with_a_terminal(), terminal::retry),
        gated("ctrl_c_at_the_passphrase_leaves_the_terminal_sane", with_a_terminal(), terminal::interrupt),
        gated(
            "ansible_reads_every_inventory",
            third_party::ansible_inventory().map(|_| ()),
            third_party::ansible,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Returns the test, ignored with the reason in its name where what it needs is missing.
fn gated(name: &str, there: Result<(), String>, test: fn() -> Result<(), Failed>) -> Trial {
    match there {
        Ok(()) => Trial::test(name, test),
        Err(missing) => Trial::test(format!("{name} [ignored: {missing}]"), test).with_ignored_flag(true),
    }
}

/// Tells whether a program can be run.
fn works(program: &str, arguments: &[&str]) -> Result<(), String> {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if status.is_ok_and(|status| status.success()) { Ok(()) } else { Err(format!("{program} is not here")) }
}

/// What a test at a terminal needs: `setsid --ctty` of util-linux, and keys.
fn with_a_terminal() -> Result<(), String> {
    works("setsid", &["--ctty", "--version"])?;
    // It has no option that does nothing but succeed.
    let found = Command::new("ssh-keygen").arg("-?").stderr(Stdio::null()).status();
    found.map(|_| ()).map_err(|_| "ssh-keygen is not here".to_owned())
}

fn root() -> PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn formatted() -> Result<(), Failed> {
    let output = Command::new("cargo").args(["fmt", "--all", "--check"]).current_dir(root()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("run `make fmt`:\n{}", String::from_utf8_lossy(&output.stdout)).into())
}
