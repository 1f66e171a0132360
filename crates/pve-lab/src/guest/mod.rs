//! The inside of a running guest: how long it boots, when its agent answers, which addresses it has.
//!
//! What a guest will have is settled when it is switched on, from its configuration at that moment: an operating
//! system if it boots from a disk, addresses from cloud-init (or from DHCP where the image asks for it), an agent
//! after the boot, `cloud-init status` done later still.

mod agent;
mod network;

use std::collections::BTreeMap;
use std::time::Duration;

use pve_types::Vmid;

pub use agent::agent_command;
pub(crate) use network::neighbors;
pub use network::{Address, Leases, Nic};

use crate::world::{Config, Guest, GuestBehavior, World};

/// What the guest's inside is doing; default for one that is off.
#[derive(Debug, Clone, Default)]
pub struct Runtime {
    /// When the agent answers, in microseconds of the world's clock; `None` when it never does.
    pub agent_from: Option<u64>,
    /// When the addresses are there.
    pub addresses_from: u64,
    /// When cloud-init has done its work; `None` for a guest without cloud-init.
    pub cloud_init_from: Option<u64>,
    /// Whether cloud-init ends with an error.
    pub cloud_init_fails: bool,
    /// The name it gave itself.
    pub hostname: String,
    /// Its interfaces but for `lo` and the noise.
    pub nics: Vec<Nic>,
    /// Whether `docker0` is there, too.
    pub has_noise: bool,
    /// Commands that the agent has run, by process number.
    pub(crate) commands: BTreeMap<u64, agent::Command>,
    /// Files that the agent has written.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) is_frozen: bool,
}

/// How the inside of this guest behaves.
fn behavior(world: &World, vmid: Vmid) -> GuestBehavior {
    world.guest_behaviors.get(&vmid).unwrap_or(&world.guest_behavior).clone()
}

/// The guest was switched on.
pub fn started(world: &mut World, vmid: Vmid) {
    let Some(guest) = world.guests.get(&vmid).cloned() else { return };
    let behavior = behavior(world, vmid);
    let boot_ms = match behavior.agent_ms {
        None => Some(world.delays.agent_ms),
        Some(ms) => u64::try_from(ms).ok(),
    };
    let never = !boots(&guest.config) || crate::fault::agent_never_comes(world, vmid, &guest.node);
    let agent_from = boot_ms.filter(|_| !never).map(|ms| world.now() + ms * 1000);
    let up_from = world.now() + boot_ms.unwrap_or(world.delays.agent_ms) * 1000;
    let has_cloud_init = network::has_cloud_init_drive(&guest.config);
    let nics = if boots(&guest.config) { network::nics(world, &guest, &behavior) } else { Vec::new() };
    let runtime = Runtime {
        agent_from,
        addresses_from: up_from + behavior.address_ms * 1000,
        cloud_init_from: has_cloud_init.then(|| up_from + behavior.cloud_init_ms * 1000),
        cloud_init_fails: behavior.cloud_init_fails,
        hostname: hostname(&guest, has_cloud_init),
        nics,
        has_noise: behavior.noise,
        ..Runtime::default()
    };
    if let Some(guest) = world.guests.get_mut(&vmid) {
        guest.runtime = runtime;
    }
}

fn hostname(guest: &Guest, has_cloud_init: bool) -> String {
    let name = guest.config.get("name").filter(|_| has_cloud_init);
    name.map_or_else(|| "localhost".to_owned(), |name| name.split('.').next().unwrap_or_default().to_owned())
}

/// Tells whether the firmware finds a disk to boot from: one that `boot` names, or any where it names none.
// PVE: qemu-server src/PVE/QemuServer/BootOrder.pm
fn boots(config: &Config) -> bool {
    let is_disk = |slot: &str| {
        let drive = ["scsi", "virtio", "sata", "ide"].iter().any(|bus| {
            slot.strip_prefix(bus)
                .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        });
        drive
            && config
                .get(slot)
                .is_some_and(|value| !value.contains("media=cdrom") && !value.starts_with("none"))
    };
    match config.get("boot").map(String::as_str) {
        None => config.keys().any(|slot| is_disk(slot)),
        Some(boot) => match boot.strip_prefix("order=") {
            Some(order) => order.split(';').any(is_disk),
            None => boot.contains('c') && config.keys().any(|slot| is_disk(slot)),
        },
    }
}

/// The guest was switched off (or reset, before [`started`] is called again).
pub fn stopped(world: &mut World, vmid: Vmid) {
    if let Some(guest) = world.guests.get_mut(&vmid) {
        guest.runtime = Runtime::default();
    }
}

/// How long the guest takes to power itself off when asked to; `None`: it never does. A guest without an operating
/// system, or one that has not booted yet, does not hear the request.
pub fn shutdown_duration(world: &World, vmid: Vmid) -> Option<Duration> {
    let hears =
        world.guests.get(&vmid).is_some_and(|guest| boots(&guest.config)) && behavior(world, vmid).shuts_down;
    hears.then(|| Duration::from_millis(world.delays.shutdown_ms))
}

/// Tells whether the agent of a running guest answers a ping.
pub fn agent_answers(world: &World, vmid: Vmid) -> bool {
    let now = world.now();
    world.guests.get(&vmid).is_some_and(|guest| guest.runtime.agent_from.is_some_and(|from| from <= now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_guest_boots_from_the_disks_that_its_boot_order_names() {
        let disk = ("scsi0", "local-lvm:vm-100-disk-0,size=3G");
        let cdrom = ("ide2", "local:iso/x.iso,media=cdrom");
        for (pairs, expect) in [
            (vec![disk], true),
            (vec![disk, ("boot", "order=scsi0;net0")], true),
            (vec![disk, ("boot", "order=net0")], false),
            (vec![disk, ("boot", "")], false),
            (vec![disk, ("boot", "cdn")], true),
            (vec![cdrom], false),
            (vec![("scsihw", "virtio-scsi-pci")], false),
        ] {
            assert_eq!(boots(&config(&pairs)), expect, "{pairs:?}");
        }
    }
}
