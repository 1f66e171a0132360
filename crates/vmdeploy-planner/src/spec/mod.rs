//! From YAML to a typed and checked [`Deployment`].
//!
//! A file is parsed into a tree in which every value knows its place, checked against one table ([`schema`], which also
//! gives the JSON Schema and the reference), merged with profiles and defaults, typed, and checked as a whole. All faults
//! come at once.

pub mod diagnostic;
pub mod model;

mod check;
mod excerpt;
mod faults;
mod group;
mod hints;
mod import_env;
mod json_schema;
mod lock;
mod lower;
mod pin;
mod pools;
pub(crate) mod raise;
mod read;
mod reference;
mod rename;
mod scalar;
mod schema;
mod spanned;
mod tree;
mod validate;
mod version;
mod view;

pub use diagnostic::{Diagnostic, Excerpt, Severity, SourceFile, Span};
pub use group::{NamePattern, Rollout, Unavailable};
pub use import_env::{Imported, StorageKind, import_env};
pub use json_schema::json_schema;
pub use lock::{Drawn, print_lock, updated_lock};
pub(crate) use lower::smbios_in_base64;
pub use model::*;
pub use pin::{PinError, published_checksum, with_checksum};
pub use pools::AddressPool;
pub use read::{LoadOptions, Loaded, errors, load};
pub use reference::reference_markdown;
pub use rename::renamed;
pub use tree::{MAX_DEPTH, MAX_FILE_BYTES, MAX_NODES};
pub(crate) use validate::password_form_fault;
pub use validate::{boot_order, cloud_init_storage};
pub use version::check_disk_version;
