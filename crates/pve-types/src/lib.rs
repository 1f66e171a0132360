//! Identifiers and units of Proxmox VE (PVE), parsed once at the edge and unconstructable when wrong.
//!
//! Everything here is pure: no I/O, no clock, no randomness. Each type prints exactly what PVE reads.
//!
//! ```
//! use pve_types::{Bytes, Vmid, VolumeId};
//! let vmid: Vmid = "201".parse().unwrap();
//! let volume: VolumeId = "local-lvm:vm-201-disk-0".parse().unwrap();
//! assert_eq!(volume.storage().as_str(), "local-lvm");
//! assert_eq!("4GiB".parse::<Bytes>().unwrap().get(), 4 << 30);
//! assert_eq!(vmid.to_string(), "201");
//! ```

mod backoff;
mod bytes;
mod effect;
mod error;
mod family;
mod ha;
mod hex;
mod kinds;
mod mac;
mod mapping;
mod names;
mod power;
mod printable;
mod privilege;
mod pve_error;
mod secret;
mod upid;
mod version;
mod vmid;
mod volume;

pub use backoff::Backoff;
pub use bytes::Bytes;
pub use effect::TookEffect;
pub use error::ParseError;
pub use family::IpFamily;
pub use ha::HaState;
pub use hex::hex;
pub use kinds::{GuestKind, StorageKind};
pub use mac::MacAddr;
pub use mapping::MappingKind;
pub use names::{
    BridgeName, GroupId, GuestName, NodeName, PoolId, RealmId, RoleId, StorageId, TokenName, UserId,
};
pub use power::PowerState;
pub use printable::{Escaped, escape_json, escaped_lines, is_unprintable, joined_lines};
pub use privilege::Privilege;
pub use pve_error::{
    DestroyObstacle, PveError, Reaction, Reading, Row, STATUSES, TEXTS, lock_in, read_error, read_status,
    says_absent, says_already_there, says_applied_late,
};
pub use secret::Secret;
pub use upid::{TaskStatus, Upid};
pub use version::PveVersion;
pub use vmid::Vmid;
pub use volume::VolumeId;

pub(crate) use error::string_form;
