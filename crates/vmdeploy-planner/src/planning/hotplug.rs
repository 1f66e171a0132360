//! Which changes a running guest takes at once, and which wait for its restart.

use pve_config::{Bus, Drive};

/// Keys that PVE applies to a running guest whatever its `hotplug` says.
// PVE: qemu-server src/PVE/QemuServer.pm vmconfig_hotplug_pending, $fast_plug_option and the branches below it.
const ALWAYS: [&str; 21] = [
    "cicustom",
    "cipassword",
    "citype",
    "ciupgrade",
    "ciuser",
    "cpulimit",
    "cpuunits",
    "description",
    "hookscript",
    "migrate_downtime",
    "migrate_speed",
    "name",
    "nameserver",
    "onboot",
    "protection",
    "searchdomain",
    "shares",
    "sshkeys",
    "startup",
    "tags",
    "vmstatestorage",
];

/// Tells whether a running guest takes the new value of `key` at once.
pub(crate) fn is_hot(key: &str, from: Option<&str>, to: Option<&str>, hotplug: Option<&str>) -> bool {
    let has = |feature| features(hotplug).contains(&feature);
    if ALWAYS.contains(&key) || matches!(Bus::of_key(key), Some(Bus::Ipconfig | Bus::Unused)) {
        return true;
    }
    match key {
        // Whether memory can be plugged is decided at a start.
        "hotplug" => return features(from).contains(&"memory") == features(to).contains(&"memory"),
        // A balloon that is there takes another size; one cannot be plugged in or taken out.
        "balloon" => return (from == Some("0")) == (to == Some("0")),
        "tablet" => return has("usb"),
        "vcpus" => return has("cpu"),
        "memory" => return has("memory"),
        _ => {}
    }
    let Some(bus) = Bus::of_key(key) else { return false };
    match bus {
        Bus::Net => has("network"),
        // SPICE's redirection is a device of its own kind.
        Bus::Usb => has("usb") && ![from, to].iter().flatten().any(|text| text.contains("spice")),
        Bus::Scsi | Bus::Virtio => has("disk") && drive_is_hot(key, from, to),
        // IDE and SATA take a change of the medium, nothing else.
        Bus::Ide | Bus::Sata => is_cd(key, from) && is_cd(key, to),
        _ => false,
    }
}

fn features(hotplug: Option<&str>) -> Vec<&str> {
    match hotplug.map(str::trim) {
        None | Some("1") => vec!["network", "disk", "usb"],
        Some("0" | "") => Vec::new(),
        Some(list) => list.split([',', ';', ' ']).filter(|word| !word.is_empty()).collect(),
    }
}

/// A drive can be plugged and unplugged; of one that stays, only limits, `backup`, `replicate` and such are hot.
fn drive_is_hot(key: &str, from: Option<&str>, to: Option<&str>) -> bool {
    let (Some(from), Some(to)) = (from, to) else { return true };
    let (Ok(from), Ok(to)) = (Drive::parse(key, from), Drive::parse(key, to)) else { return false };
    if from.is_cdrom() && to.is_cdrom() {
        return true;
    }
    let hot = |name: &str| {
        name.starts_with("mbps")
            || name.starts_with("iops")
            || name.starts_with("bps")
            || matches!(name, "backup" | "replicate" | "size" | "shared")
    };
    let changed = |name: &str| from.options.get(name) != to.options.get(name);
    let names = from.options.iter().chain(to.options.iter()).map(|(name, _)| name);
    from.source == to.source && names.into_iter().all(|name| hot(name) || !changed(name))
}

fn is_cd(key: &str, text: Option<&str>) -> bool {
    text.is_some_and(|text| {
        Drive::parse(key, text).is_ok_and(|drive| drive.is_cdrom() && !drive.is_cloud_init())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_takes_at_once_what_pve_can_plug() {
        let check = |key, from, to, hotplug, expect| {
            assert_eq!(is_hot(key, from, to, hotplug), expect, "{key} {from:?} -> {to:?} with {hotplug:?}");
        };
        check("description", None, Some("x"), None, true);
        check("cores", Some("1"), Some("2"), None, false);
        check("agent", Some("0"), Some("1"), None, false);
        check("balloon", None, Some("1024"), None, true);
        check("balloon", None, Some("0"), None, false);
        check("memory", Some("512"), Some("1024"), None, false);
        check("memory", Some("512"), Some("1024"), Some("memory,disk"), true);
        check("net1", None, Some("virtio,bridge=vmbr0"), None, true);
        check("net1", None, Some("virtio,bridge=vmbr0"), Some("0"), false);
        check("scsi1", None, Some("local:vm-1-disk-1"), None, true);
        check("scsi1", Some("ll:a,size=1G"), Some("ll:a,size=1G,iops=100"), None, true);
        check("scsi1", Some("ll:a,size=1G"), Some("ll:a,cache=none,size=1G"), None, false);
        check("sata0", None, Some("ll:a"), None, false);
        check("ide2", Some("none,media=cdrom"), Some("local:iso/x.iso,media=cdrom"), None, true);
        check("ide2", None, Some("local:iso/x.iso,media=cdrom"), None, false);
        check("tablet", Some("1"), Some("0"), Some("disk"), false);
        check("usb0", None, Some("mapping=ups"), None, true);
        check("usb0", None, Some("spice"), None, false);
        check("hotplug", None, Some("disk"), None, true);
        check("hotplug", None, Some("disk,memory"), None, false);
        check("migrate_speed", None, Some("10"), Some("0"), true);
        check("ipconfig0", None, Some("ip=dhcp"), Some("0"), true);
    }
}
