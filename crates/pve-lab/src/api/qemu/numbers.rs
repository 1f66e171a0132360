//! Numbers of guests: which are free, and which their configurations say.

use crate::api::Refusal;
use crate::world::{Config, Guest, GuestKind, World};
use pve_types::Vmid;

/// Refuses a VMID that is taken.
///
/// # Errors
/// `VM 100 already exists on node 'pve1'`, after `prefix`.
pub fn unused_id(world: &World, vmid: Vmid, prefix: &str) -> Result<(), Refusal> {
    match world.guests.get(&vmid) {
        None => Ok(()),
        Some(guest) => {
            let kind = if guest.kind == GuestKind::Qemu { "VM" } else { "CT" };
            Err(Refusal::died(format!("{prefix}{kind} {vmid} already exists on node '{}'", guest.node)))
        }
    }
}

/// An option's number, `default` when it is not set.
pub(super) fn number(config: &Config, option: &str, default: u64) -> u64 {
    let text = config.get(option).map(|text| text.trim_start_matches("current="));
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A guest's memory in bytes.
pub fn memory(guest: &Guest) -> u64 {
    number(&guest.config, "memory", 512) << 20
}
