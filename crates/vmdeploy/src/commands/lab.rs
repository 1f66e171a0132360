//! `vmdeploy lab`: the embedded PVE in the foreground, until it is told to stop.

use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::lab_session::{EnvironmentFile, LabSession};
use crate::output;
use crate::signals::Signals;
use pve_lab::{Fault, WorldSpec};
use std::path::{Path, PathBuf};

/// Runs an embedded Proxmox VE on free ports of 127.0.0.1 until Ctrl-C or SIGTERM.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write the variables that point to the lab to this file (mode 0600), and remove it at the end
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Initial state as YAML (see docs/lab.md) [default: one node with an image and no guests]
    #[arg(long, value_name = "FILE")]
    world: Option<PathBuf>,
    /// Faults to inject, as YAML (see docs/lab.md)
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
}

/// Runs the lab.
///
/// # Errors
/// A world or faults file that is not understood, a port or a file that cannot be had.
pub async fn run(args: &Args) -> CommandResult {
    let world = args.world.as_deref().map_or_else(|| Ok(WorldSpec::demo()), read_world)?;
    let faults = args.faults.as_deref().map_or_else(|| Ok(Vec::new()), read_faults)?;
    args.env_file.as_deref().map_or(Ok(()), EnvironmentFile::check)?;
    let mut signals = Signals::catch()?;
    let session = LabSession::start(world, faults).await?;
    let file = match &args.env_file {
        Some(path) => Some(EnvironmentFile::write(path, session.environment_text())?),
        None => None,
    };
    announce(&session, file.as_ref());
    signals.next().await;
    drop(file);
    session.stop().await;
    output::say("lab: stopped; its keys, passwords and tokens are deleted");
    Ok(Exit::DONE)
}

fn announce(session: &LabSession, file: Option<&EnvironmentFile>) {
    let value = |wanted: &str| {
        let found = session.variables().iter().find(|(name, _)| name == wanted);
        found.map_or("", |(_, value)| value.as_str()).to_owned()
    };
    let ssh = format!("127.0.0.1:{}", value("PROXMOX_SSH_PORT"));
    output::say(&format!("lab: ready; the API is https://{}, SSH is {ssh}", session.lab().api_addr()));
    match file {
        Some(file) => {
            output::say(&format!(
                "lab: in another shell: `. {}`, then `vmdeploy plan SPEC`, or `make plan SPEC=…` in the repository",
                shown(file.path())
            ));
        }
        None => output::say("lab: `--env-file FILE` writes the variables that point to it"),
    }
    output::say("lab: press Ctrl-C to stop");
}

/// Returns a path that the shell's `.` finds: one without a slash would be looked for in PATH.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    if text.contains('/') { text } else { format!("./{text}") }
}

fn read_world(path: &Path) -> Result<WorldSpec, Failure> {
    WorldSpec::from_yaml(&read(path)?).map_err(|error| {
        Failure::of(Exit::USAGE, error).context(format!("`{}` is not a world file", path.display()))
    })
}

fn read_faults(path: &Path) -> Result<Vec<Fault>, Failure> {
    serde_yaml::from_str(&read(path)?).map_err(|error| {
        Failure::of(Exit::USAGE, error).context(format!("`{}` is not a faults file", path.display()))
    })
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::of(Exit::USAGE, error).context(format!("cannot read `{}`", path.display())))
}
