//! `vmdeploy import-env`: the `.env` of the vm-deploy project becomes a spec.

use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::output;
use crate::spec_files::refused;
use std::path::PathBuf;
use vmdeploy_planner::spec::{SourceFile, StorageKind, import_env};

/// Prints a spec for the VMs that vm-deploy would create from its `.env`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The .env file of vm-deploy
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Project for the VMs
    #[arg(long, value_name = "NAME", default_value = "vm-deploy")]
    project: String,
    /// Storage type of STORAGE_POOL
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    storage: KindArg,
}

/// `--storage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum KindArg {
    /// A ZFS pool
    #[default]
    Zfs,
    /// An LVM thin pool
    Lvmthin,
    /// A directory, NFS and the like
    Dir,
}

/// Prints the spec.
///
/// # Errors
/// The file cannot be read, or holds what PVE would refuse.
pub fn run(args: &Args) -> CommandResult {
    let text = std::fs::read_to_string(&args.file).map_err(|error| {
        Failure::of(Exit::USAGE, error).context(format!("cannot read `{}`", args.file.display()))
    })?;
    let kind = match args.storage {
        KindArg::Zfs => StorageKind::Zfs,
        KindArg::Lvmthin => StorageKind::LvmThin,
        KindArg::Dir => StorageKind::Directory,
    };
    let file = SourceFile::new(args.file.display().to_string(), text);
    let imported = import_env(&file, &args.project, kind).map_err(|faults| {
        refused(&faults)
            .replaced("the file cannot be read as a `.env` of vm-deploy; nothing was written", Exit::USAGE)
    })?;
    output::write_stdout(&imported.yaml);
    imported.notes.iter().for_each(|note| output::say(&format!("note: {note}")));
    output::say(
        "next: write this to a file, such as vms/vm-deploy.yaml, and run `vmdeploy plan vms/vm-deploy.yaml`",
    );
    Ok(Exit::DONE)
}
