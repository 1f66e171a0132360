//! Which methods there are, and what each takes and needs: one table.

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
