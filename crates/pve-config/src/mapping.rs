//! Resource mappings that a guest names.

use crate::property::PropertyString;
use crate::slot::Bus;
use pve_types::MappingKind;

/// Returns the kind of mapping that a key can name, and the field that names it.
// PVE: qemu-server src/PVE/QemuServer/{PCI,USB,Virtiofs}.pm.
pub fn mapping_field(key: &str) -> Option<(MappingKind, &'static str)> {
    match Bus::of_key(key)? {
        Bus::Hostpci => Some((MappingKind::Pci, "mapping")),
        Bus::Usb => Some((MappingKind::Usb, "mapping")),
        Bus::Virtiofs => Some((MappingKind::Dir, "dirid")),
        _ => None,
    }
}

/// Returns the mapping that a value of a key names.
pub fn mapping_of(key: &str, text: &str) -> Option<(MappingKind, String)> {
    let (kind, field) = mapping_field(key)?;
    let name = PropertyString::parse(key, text).ok()?.get(field)?.to_owned();
    Some((kind, name))
}
