//! What no token may set.

use pve_config::{Bus, Drive, DriveSource, PropertyString, find_key};
use pve_types::PveVersion;

/// Tells whether only root@pam with a password may set the option by API, a token never.
// PVE: qemu-server src/PVE/API2/Qemu.pm check_vm_modify_config_perm, and the checks of serial, usb, hostpci.
pub fn is_root_only(key: &str, value: &str, version: PveVersion) -> bool {
    if let Some(found) = find_key(key)
        && found.only_root
    {
        return true;
    }
    let field = |name: &str| {
        PropertyString::parse(key, value).ok().and_then(|text| text.get(name).map(str::to_owned))
    };
    match key.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "serial" => value.starts_with("/dev/"),
        "parallel" => true,
        "usb" => field("host").is_some_and(|host| host != "spice"),
        "hostpci" => field("host").is_some() || field("romfile").is_some(),
        "rng" => !version.at_least(8, 0),
        // PVE: pve-storage src/PVE/Storage.pm check_volume_access: "Only root can pass arbitrary filesystem paths".
        "ide" | "sata" | "scsi" | "virtio" => {
            Drive::parse(key, value).is_ok_and(|drive| matches!(drive.source, DriveSource::Path(_)))
        }
        _ => false,
    }
}

/// Tells whether only root@pam with a password may change or remove the option by API while it has this value.
// PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api checks what is there of serial ports, USB and PCI devices; of a
// drive it checks only what is set.
pub fn is_root_only_while_set(key: &str, there: &str, version: PveVersion) -> bool {
    let of_drive = Bus::of_key(key).is_some_and(Bus::is_drive);
    !of_drive && is_root_only(key, there, version)
}
