//! What a running VM takes on at once, and what waits until it is started again.
// PVE: qemu-server src/PVE/QemuServer.pm vmconfig_hotplug_pending, vmconfig_update_disk, vmconfig_update_net

use pve_types::PveVersion;

use super::drive::{Drive, is_slot, is_unused};
use super::{nets, settings};
use crate::schema::split_list;
use crate::world::{Config, World};

/// What becomes of one pending change of a running VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plug {
    /// It is in force.
    Now,
    /// It stays pending.
    Later,
    /// It stays pending, and the request is told why.
    Fails(String),
}

impl Plug {
    fn when(now: bool) -> Self {
        if now { Self::Now } else { Self::Later }
    }
}

/// Options that a running guest does not notice.
const UNNOTICED: &[&str] = &[
    "description",
    "hookscript",
    "lock",
    "migrate_downtime",
    "migrate_speed",
    "name",
    "onboot",
    "protection",
    "shares",
    "startup",
    "tags",
    "vmstatestorage",
];

/// Options of a drive that QEMU cannot change while it is open.
const FIXED_WHILE_OPEN: &[&str] =
    &["aio", "cache", "discard", "iothread", "product", "queues", "ro", "ssd", "vendor"];

/// Tells whether the option is in force at once, whatever is plugged.
pub fn is_unnoticed(option: &str) -> bool {
    UNNOTICED.contains(&option) || settings::is_cloudinit(option) || is_unused(option)
}

/// Tells whether the VM plugs `feature` (`network`, `disk`, `usb`, `cpu`, `memory`, `cloudinit`).
pub fn plugs(config: &Config, feature: &str) -> bool {
    let text = match config.get("hotplug").map_or("1", String::as_str) {
        "1" => "network,disk,usb",
        other => other,
    };
    split_list(text).any(|item| item == feature)
}

fn plugs_usb(config: &Config) -> bool {
    let new_windows = |ostype: &str| matches!(ostype, "win8" | "win10" | "win11");
    let ostype = config.get("ostype").map_or("", String::as_str);
    plugs(config, "usb") && (ostype == "l26" || new_windows(ostype))
}

fn base(option: &str) -> &str {
    option.trim_end_matches(|letter: char| letter.is_ascii_digit())
}

fn mentions(value: Option<&str>, feature: &str) -> bool {
    value.is_some_and(|value| value.contains(feature))
}

/// What the removal of `option` does.
pub fn removed(config: &Config, option: &str) -> Plug {
    let hotplug = config.get("hotplug").map(String::as_str);
    match base(option) {
        _ if is_unnoticed(option) => Plug::Now,
        "hotplug" => Plug::when(!mentions(hotplug, "cpu") && !mentions(hotplug, "memory")),
        "tablet" => Plug::when(plugs(config, "usb")),
        "usb" => Plug::when(plugs_usb(config)),
        "vcpus" => Plug::when(plugs(config, "cpu")),
        "memory" => Plug::when(plugs(config, "memory")),
        "balloon" => Plug::when(config.get("balloon").is_none_or(|now| now != "0")),
        "cpuunits" | "cpulimit" => Plug::Now,
        "net" => Plug::when(plugs(config, "network")),
        "scsi" | "virtio" if plugs(config, "disk") && is_booted_from(config, option) => {
            Plug::Fails(format!("can't unplug bootdisk '{option}'\n"))
        }
        "scsi" | "virtio" => Plug::when(plugs(config, "disk")),
        _ => Plug::Later,
    }
}

/// Tells whether the drive is in the boot order.
// PVE: qemu-server src/PVE/QemuServer.pm vm_deviceunplug
fn is_booted_from(config: &Config, slot: &str) -> bool {
    let boot = config.get("boot").map_or("", String::as_str);
    let order = boot.split(',').find_map(|part| part.strip_prefix("order="));
    order.is_some_and(|order| order.split(';').any(|device| device == slot))
}

/// What the new value of `option` does.
pub fn changed(world: &World, node: &str, config: &Config, option: &str, value: &str) -> Plug {
    let now = config.get(option).map(String::as_str);
    if is_unnoticed(option) {
        return Plug::Now;
    }
    if is_slot(option) {
        return drive(world.version, config, option, value);
    }
    match base(option) {
        "hotplug" => {
            let held = |feature| mentions(now, feature) || value.contains(feature);
            Plug::when(!held("memory") && !held("cpu"))
        }
        "tablet" => Plug::when(plugs(config, "usb")),
        "usb" => Plug::when(plugs_usb(config)),
        "vcpus" => Plug::when(plugs(config, "cpu")),
        "memory" => Plug::when(plugs(config, "memory")),
        "balloon" => Plug::when((now.is_none_or(|now| now != "0")) == (value != "0")),
        "cpuunits" | "cpulimit" => Plug::Now,
        "agent" => Plug::when(now.is_some_and(|now| agent_core(now) == agent_core(value))),
        "net" => card(world, node, config, option, value),
        _ => Plug::Later,
    }
}

/// The agent's options that matter to a running guest.
fn agent_core(text: &str) -> Vec<&str> {
    let mut parts: Vec<&str> =
        text.split(',').filter(|part| !part.starts_with("fstrim_cloned_disks=")).collect();
    if let Some(first) = parts.first_mut() {
        *first = first.trim_start_matches("enabled=");
    }
    parts.sort_unstable();
    parts
}

fn drive(version: PveVersion, config: &Config, slot: &str, value: &str) -> Plug {
    if slot.starts_with("efidisk") || slot.starts_with("tpmstate") {
        return Plug::Later;
    }
    let Some(new) = Drive::parse(version, slot, value) else { return Plug::Later };
    let old = config.get(slot).and_then(|now| Drive::parse(version, slot, now));
    let plugs_disks = plugs(config, "disk");
    match old {
        None => Plug::when(plugs_disks && !slot.starts_with("ide") && !slot.starts_with("sata")),
        Some(old) if new.is_cdrom() != old.is_cdrom() => {
            Plug::Fails("unable to change media type\n".to_owned())
        }
        Some(old) if old.is_cdrom() => Plug::Now,
        Some(old) if old.file() != new.file() => {
            Plug::when(plugs_disks && !slot.starts_with("ide") && !slot.starts_with("sata"))
        }
        Some(old) => {
            Plug::when(FIXED_WHILE_OPEN.iter().all(|option| old.option(option) == new.option(option)))
        }
    }
}

fn card(world: &World, node: &str, config: &Config, option: &str, value: &str) -> Plug {
    let Some(new) = nets::parse(world.version, value) else { return Plug::Later };
    let old = config.get(option).and_then(|now| nets::parse(world.version, now));
    let bridge = new.get("bridge");
    let missing = bridge.filter(|bridge| !world.has_bridge(node, bridge));
    let plugged = || match missing {
        Some(bridge) => Plug::Fails(format!("interface {bridge} does not exist\n")),
        None => Plug::Now,
    };
    let Some(old) = old else {
        return if plugs(config, "network") { plugged() } else { Plug::Later };
    };
    let differs = |key: &str| old.get(key) != new.get(key);
    let is_new_device = ["model", "macaddr", "queues", "mtu"].iter().any(|key| differs(key))
        || bridge.is_none()
        || !old.contains_key("bridge");
    match is_new_device {
        true if !plugs(config, "network") => Plug::Later,
        true => plugged(),
        false if ["bridge", "tag", "trunks", "firewall"].iter().any(|key| differs(key)) => plugged(),
        false => Plug::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::WorldSpec;

    fn check(config: &[(&str, &str)], option: &str, value: Option<&str>, expect: Plug) {
        let world = World::new(&WorldSpec::demo(), 1);
        let config: Config = config.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let found = match value {
            Some(value) => changed(&world, "pve1", &config, option, value),
            None => removed(&config, option),
        };
        assert_eq!(found, expect, "{option} {value:?}");
    }

    #[test]
    fn a_running_vm_takes_on_what_can_be_plugged() {
        check(&[], "cores", Some("4"), Plug::Later);
        check(&[], "name", Some("x"), Plug::Now);
        check(&[], "boot", Some("order=scsi0"), Plug::Later);
        check(&[], "net1", Some("virtio"), Plug::Now);
        check(&[("hotplug", "disk")], "net1", Some("virtio"), Plug::Later);
        check(&[], "memory", Some("4096"), Plug::Later);
        check(&[("hotplug", "memory"), ("numa", "1")], "memory", Some("4096"), Plug::Now);
        check(&[], "ciuser", Some("a"), Plug::Now);
        check(&[], "cpulimit", Some("2"), Plug::Now);
        check(&[], "balloon", Some("0"), Plug::Later);
        check(&[], "usb0", Some("spice"), Plug::Later);
        check(&[("ostype", "l26")], "usb0", Some("spice"), Plug::Now);
        check(&[], "agent", Some("1"), Plug::Later);
        check(&[("agent", "1")], "agent", Some("enabled=1,fstrim_cloned_disks=1"), Plug::Now);
        check(&[("scsi1", "a:b")], "scsi1", None, Plug::Now);
        check(&[("sata1", "a:b")], "sata1", None, Plug::Later);
        check(&[("hotplug", "cpu")], "hotplug", None, Plug::Later);
    }

    #[test]
    fn a_drive_keeps_what_qemu_cannot_change() {
        let now = &[("scsi1", "a:vm-1-disk-0,size=1G,cache=none")];
        check(now, "scsi1", Some("a:vm-1-disk-0,size=1G,cache=writeback"), Plug::Later);
        check(now, "scsi1", Some("a:vm-1-disk-0,size=1G,cache=none,ssd=1"), Plug::Later);
        check(now, "scsi1", Some("a:vm-1-disk-0,size=1G,cache=none,mbps=5"), Plug::Now);
        check(now, "scsi1", Some("a:vm-1-disk-0,size=1G,cache=none,backup=0"), Plug::Now);
        check(&[], "scsi2", Some("a:vm-1-disk-1"), Plug::Now);
        check(&[], "sata2", Some("a:vm-1-disk-1"), Plug::Later);
        let media = Plug::Fails("unable to change media type\n".into());
        check(&[("ide2", "none,media=cdrom")], "ide2", Some("a:vm-1-disk-1"), media);
        check(&[("ide2", "none,media=cdrom")], "ide2", Some("a:iso/x.iso,media=cdrom"), Plug::Now);
    }

    #[test]
    fn a_card_needs_its_bridge_only_when_it_is_plugged() {
        let now = &[("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0")];
        let gone = Plug::Fails("interface none9 does not exist\n".into());
        check(now, "net0", Some("virtio=BC:24:11:00:00:01,bridge=none9"), gone.clone());
        check(now, "net1", Some("virtio=BC:24:11:00:00:02,bridge=none9"), gone);
        check(now, "net0", Some("virtio=BC:24:11:00:00:01,bridge=vmbr0,link_down=1"), Plug::Now);
        check(
            &[("net0", "virtio=BC:24:11:00:00:01,bridge=none9"), ("hotplug", "0")],
            "net0",
            Some("e1000=BC:24:11:00:00:01,bridge=none9"),
            Plug::Later,
        );
    }
}
