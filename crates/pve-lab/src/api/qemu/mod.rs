//! `/nodes/{node}/qemu`: VMs.

mod agent;
mod allowed;
mod clone;
pub(crate) mod cloudinit;
pub(crate) mod config;
mod create;
mod destroy;
mod disks;
mod drive;
mod hotplug;
mod migrate;
mod nets;
pub(crate) mod numbers;
mod power;
mod restore;
mod settings;
mod snapshot;
pub(crate) mod status;
mod update;

pub(crate) use allowed::Asker;
pub use disks::{ImportDisk, ImportedDisk, import_disk};
pub(crate) use drive::{drives, owner};
pub(crate) use power::{start_in_background, switch_off};

use super::Methods;

/// The methods below `/nodes/{node}/qemu`.
pub const METHODS: &[Methods] = &[
    agent::METHODS,
    clone::METHODS,
    cloudinit::METHODS,
    config::METHODS,
    create::METHODS,
    destroy::METHODS,
    migrate::METHODS,
    power::METHODS,
    snapshot::METHODS,
    status::METHODS,
    update::METHODS,
];
