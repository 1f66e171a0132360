//! `vmdeploy init`: a `.env` and a first spec to fill in.

use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::output;
use std::io::Write as _;
use std::path::Path;

/// Writes `.env` (mode 0600), `vms/first.yaml` and its cloud-init data, unless they exist.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// What `.env` begins as.
const DOTENV: &str = include_str!("../../../../.env.example");
/// What the first spec begins as.
const FIRST_SPEC: &str = include_str!("first-spec.yaml");
const FIRST_SPEC_PATH: &str = "vms/first.yaml";
/// The cloud-init data that the first spec names, relative to its own folder.
const GUEST_AGENT: &str = include_str!("guest-agent.yaml");
const GUEST_AGENT_PATH: &str = "vms/cloud/guest-agent.yaml";

/// Writes what is missing, and never over anything.
///
/// # Errors
/// A file that cannot be written.
pub fn run(_args: &Args) -> CommandResult {
    let files = [(".env", DOTENV), (FIRST_SPEC_PATH, FIRST_SPEC), (GUEST_AGENT_PATH, GUEST_AGENT)];
    let made = files.map(|(path, text)| write_new(Path::new(path), text));
    let made = made.into_iter().collect::<Result<Vec<bool>, Failure>>()?;
    if !made.contains(&true) {
        output::say("nothing to write: .env and the first spec exist already");
    }
    let make = |target: &str| format!("`make {target} SPEC={FIRST_SPEC_PATH}`");
    output::say(&format!("next: fill in .env (host, user, password or token) and edit {FIRST_SPEC_PATH}"));
    output::say(&format!(
        "no token yet: {} creates one with exactly the privileges that this spec needs",
        make("fix-token ARGS=--create")
    ));
    output::say(&format!(
        "then: {} checks the connection, and {} shows what would be done",
        make("test-connection"),
        make("plan")
    ));
    output::say(
        "without make: `vmdeploy fix-token SPEC --create`, `vmdeploy doctor SPEC`, `vmdeploy plan SPEC`",
    );
    Ok(Exit::DONE)
}

/// Writes a file that only its owner may read, and says so; leaves one that is there.
fn write_new(path: &Path, text: &str) -> Result<bool, Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let context = |error: std::io::Error| {
        Failure::of(Exit::USAGE, error).context(format!("cannot write `{}`", path.display()))
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.map_or(Ok(()), std::fs::create_dir_all).map_err(context)?;
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map_err(context)?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            output::say(&format!("kept:  {} (exists already)", path.display()));
            return Ok(false);
        }
        Err(error) => return Err(context(error)),
    }
    output::say(&format!("wrote: {}", path.display()));
    Ok(true)
}
