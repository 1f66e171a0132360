//! Compares the lab with the recorded answers of a real PVE: `conformance [GOLDEN_DIR]`.
//!
//! For each record it starts a fresh lab, runs `replay.py check` against it and prints a line; the last line counts
//! the steps: `N passed, M failed`. It exits with 1 when a step differs, with 2 when it cannot run.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example prints its results")]

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Output};

use pve_lab::{Lab, LabOptions, WorldSpec};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let run = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run()));
    match run {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::from(2)
        }
    }
}

/// Where the records are, and the script that replays them.
fn places() -> Result<(PathBuf, PathBuf), Failure> {
    let facts = std::env::var_os("PVE_FACTS_DIR").map(PathBuf::from);
    let golden = std::env::args_os().nth(1).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let golden = golden.or_else(|| facts.as_ref().map(|facts| facts.join("golden")));
    let golden = golden.ok_or("name a folder of records, or set PVE_FACTS_DIR")?;
    let scripts = [Some(golden.join("replay.py")), facts.map(|facts| facts.join("golden/replay.py"))];
    let script = scripts.into_iter().flatten().find(|path| path.is_file());
    Ok((golden, script.ok_or("there is no replay.py next to the records or in PVE_FACTS_DIR/golden")?))
}

async fn run() -> Result<u64, Failure> {
    let (golden, script) = places()?;
    let mut records: Vec<PathBuf> =
        std::fs::read_dir(&golden)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    records.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    records.sort();
    if records.is_empty() {
        return Err(format!("{} holds no records", golden.display()).into());
    }
    let (mut passed, mut failed) = (0, 0);
    for record in records {
        let output = replay(&script, &record).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let counts = text.lines().last().and_then(counts);
        let Some((good, bad)) = counts else {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{}: replay.py could not run: {}", record.display(), why.trim()).into());
        };
        text.lines().take(text.lines().count() - 1).for_each(|line| println!("{line}"));
        passed += good;
        failed += bad;
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed)
}

/// N and M of `N passed, M failed`.
fn counts(line: &str) -> Option<(u64, u64)> {
    let (passed, failed) = line.split_once(" passed, ")?;
    Some((passed.parse().ok()?, failed.strip_suffix(" failed")?.parse().ok()?))
}

async fn replay(script: &Path, record: &Path) -> Result<Output, Failure> {
    let lab = Lab::start(LabOptions { world: WorldSpec::golden(), ..LabOptions::default() }).await?;
    let folder = tempfile::tempdir()?;
    let environment = lab.write_environment(folder.path())?;
    let value =
        |name: &str| environment.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let ssh = format!(
        "ssh -F /dev/null -i {} -p {} -o UserKnownHostsFile={} -o StrictHostKeyChecking=yes -o BatchMode=yes \
         -o IdentitiesOnly=yes -o LogLevel=ERROR {}@{}",
        value("PROXMOX_SSH_KEY"),
        value("PROXMOX_SSH_PORT"),
        value("PROXMOX_SSH_KNOWN_HOSTS"),
        value("PROXMOX_SSH_USER"),
        value("PROXMOX_SSH_HOST"),
    );
    let mut command = tokio::process::Command::new("python3");
    command
        .arg(script)
        .arg("check")
        .arg("--url")
        .arg(format!("https://{}", lab.api_addr()))
        .arg("--ssh")
        .arg(ssh);
    command.arg("--password").arg(value("PVE_LAB_ROOT_PASSWORD")).arg(record);
    let output = command.output().await?;
    lab.stop().await;
    Ok(output)
}
