//! `vmdeploy demo`: a whole deployment on the embedded PVE, by the program's own commands.

use crate::environment;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::lab_session::LabSession;
use crate::output;
use crate::signals::Signals;
use owo_colors::OwoColorize as _;
use pve_lab::{Delays, WorldSpec};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Instant;
use tokio::process::{Child, Command};

/// Shows plan, deploy, status, inventory, a second deploy, and destroy, on an embedded PVE.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Specs to deploy [default: three demo VMs]
    #[arg(value_name = "SPEC")]
    specs: Vec<PathBuf>,
}

/// The demo's own spec, for an installed vmdeploy that runs outside the repository.
const SPEC: &str = include_str!("../../../../deployments/demo.yaml");
const SPEC_PATH: &str = "deployments/demo.yaml";
/// A public key; its private key was discarded.
const PUBLIC_KEY: &str = include_str!("../../../../deployments/demo.pub");

/// One command of the demo, and what the reader learns from it.
struct PlanInput {
    about: &'static str,
    arguments: &'static [&'static str],
}

const SCENES: &[PlanInput] = &[
    PlanInput { about: "Plan: `plan` reads the cluster and changes nothing.", arguments: &["plan"] },
    PlanInput {
        about: "Deploy: steps use the API or SSH, and the VMs are deployed in parallel.",
        arguments: &["deploy", "--yes", "--brief"],
    },
    PlanInput { about: "Status: read from the cluster and the guest agents.", arguments: &["status"] },
    PlanInput { about: "Inventory: the same VMs for Ansible.", arguments: &["inventory"] },
    PlanInput {
        about: "Deploy again: the cluster matches the spec, so nothing changes.",
        arguments: &["deploy", "--yes"],
    },
    PlanInput { about: "Destroy the VMs.", arguments: &["destroy", "--yes"] },
];

/// Runs the demo.
///
/// # Errors
/// The lab does not start, or a command of the demo fails.
pub async fn run(args: &Args) -> CommandResult {
    let began = Instant::now();
    let mut signals = Signals::catch()?;
    let world = WorldSpec { delays: Delays::demo(), ..WorldSpec::demo() };
    let session = LabSession::start(world, Vec::new()).await?;
    let work = tempfile::tempdir()
        .map_err(|error| Failure::of(Exit::INTERNAL, error).context("cannot create a folder for the demo"))?;
    let specs = specs(args, work.path())?;
    heading(&session);
    let result = show_all(&session, &specs, work.path(), &mut signals).await;
    session.stop().await;
    let exit = result?;
    if exit == Exit::DONE {
        closing(began);
    }
    Ok(exit)
}

/// Returns the specs to show: those given, or the demo's own, written to the work folder outside the repository.
fn specs(args: &Args, work: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !args.specs.is_empty() {
        return Ok(args.specs.clone());
    }
    if std::fs::read_to_string(SPEC_PATH).is_ok_and(|text| text == SPEC) {
        return Ok(vec![PathBuf::from(SPEC_PATH)]);
    }
    let path = work.join("demo.yaml");
    std::fs::write(&path, SPEC)
        .and_then(|()| std::fs::write(work.join("demo.pub"), PUBLIC_KEY))
        .map_err(|error| Failure::of(Exit::INTERNAL, error).context("cannot write the demo's spec"))?;
    Ok(vec![path])
}

async fn show_all(
    session: &LabSession,
    specs: &[PathBuf],
    work: &Path,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    for (index, input) in SCENES.iter().enumerate() {
        announce(index + 1, input, specs);
        let status = show(session, input, specs, work, signals).await?;
        match status {
            None => return Ok(Exit::INTERRUPTED),
            Some(status) if !status.success() => {
                let message = format!("`vmdeploy {}` ended with {status}", input.arguments.join(" "));
                return Err(Failure::new(Exit::INTERNAL, message)
                    .hint("this is a bug in vmdeploy; run `vmdeploy -vv demo` and report its output"));
            }
            Some(_) => {}
        }
    }
    Ok(Exit::DONE)
}

/// Runs one command to its end; `None` when the user interrupted it.
async fn show(
    session: &LabSession,
    input: &PlanInput,
    specs: &[PathBuf],
    work: &Path,
    signals: &mut Signals,
) -> Result<Option<ExitStatus>, Failure> {
    output::finish();
    let mut child = spawn(session, input, specs, work)?;
    let mut interrupted = false;
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(|error| Failure::of(Exit::INTERNAL, error).context("cannot wait for vmdeploy"))?;
                return Ok((!interrupted).then_some(status));
            }
            // The terminal sent it to the child, too; it stops cleanly and says so.
            _ = signals.next() => interrupted = true,
        }
    }
}

fn spawn(session: &LabSession, input: &PlanInput, specs: &[PathBuf], work: &Path) -> Result<Child, Failure> {
    let context = |error: std::io::Error| Failure::of(Exit::INTERNAL, error).context("cannot run vmdeploy");
    let mut command = Command::new(std::env::current_exe().map_err(context)?);
    command.args(input.arguments).args(specs);
    for variable in environment::ALL.iter().filter(|variable| variable.in_dotenv) {
        command.env(variable.name, "");
    }
    command.envs(session.variables().iter().map(|(name, value)| (name, value)));
    command.env(environment::names::RUNS, work.join("runs"));
    command.spawn().map_err(context)
}

fn heading(session: &LabSession) {
    output::write_stderr(&format!(
        "\n{}\n\nAn embedded Proxmox VE serves its API on https://{} and SSH on another port.\n\
         The commands below are vmdeploy's own, over real TLS and SSH.\n\
         Nothing outside this process is changed.\n",
        "vmdeploy demo".bold(),
        session.lab().api_addr(),
    ));
}

fn announce(number: usize, input: &PlanInput, specs: &[PathBuf]) {
    let specs: Vec<String> = specs.iter().map(|path| path.display().to_string()).collect();
    let command = format!("$ vmdeploy {} {}", input.arguments.join(" "), specs.join(" "));
    output::write_stderr(&format!(
        "\n{}\n{}\n\n",
        format!("{number}. {}", input.about).cyan(),
        command.bold(),
    ));
}

fn closing(began: Instant) {
    output::write_stderr(&format!(
        "\n{} in {:.0} s. The embedded Proxmox VE has stopped and left nothing behind.\n\
         Next: `make lab` runs one until Ctrl-C; `make init` writes the files to deploy to your own host.\n",
        "Done".green(),
        began.elapsed().as_secs_f64(),
    ));
}
