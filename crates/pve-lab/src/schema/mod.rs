//! Which methods there are, and what each takes and needs: one table.

mod cpu;
mod firewall;
mod formats;
mod model;
pub mod property;
mod table;
mod verify;

use pve_types::PveVersion;

pub use formats::{Formats, is_new_disk, is_storage_id, is_user_id, split_list};
pub use model::{Check, Endpoint, Format, Kind, Param, ParamSet, Pattern, Permission, PropertyFormat};
pub use table::{Found, Table, table};
pub use verify::{Errors, check_object, normalise};

/// The endpoint of `version` with this method and (decoded) path, and the parameters that stand in the path.
pub fn method(version: PveVersion, method: &str, path: &str) -> Option<Found> {
    table(version).find(method, path)
}

/// Tells whether the text is the name of a drive that a VM may boot from: `scsi0`, `ide2`.
pub fn is_drive_slot(text: &str) -> bool {
    const BUSES: [(&str, u32); 4] = [("ide", 4), ("scsi", 31), ("virtio", 16), ("sata", 6)];
    BUSES.iter().any(|(bus, count)| {
        let number = text.strip_prefix(bus).filter(|number| *number == "0" || !number.starts_with('0'));
        number.and_then(|number| number.parse::<u32>().ok()).is_some_and(|number| number < *count)
    })
}
