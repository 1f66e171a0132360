//! A guest's configuration language: the file under `/etc/pve`, its keys, and their property strings.
//!
//! Everything is parsed into values that print exactly as PVE prints them, and compared by meaning, not by text:
//! [`same_value`] considers PVE's defaults, its spellings of booleans, the order of its lists, and generated values.
//!
//! ```
//! use pve_config::{overlay, same_value};
//! assert!(same_value("scsi0", "local:1/vm-1.raw,ssd=1,size=32G", "file=local:1/vm-1.raw,size=32768M,ssd=on"));
//! assert!(same_value("tags", "b;a", "A,b"));
//! let cpu = overlay("cpu", Some("kvm64,flags=+aes"), [("cputype", Some("host"))]).unwrap();
//! assert_eq!(cpu, "host,flags=+aes");
//! ```

mod check;
mod compare;
mod conflicts;
mod drive;
mod guest;
mod keys;
mod mapping;
mod nic;
mod options;
mod property;
mod slot;
mod value;

pub use check::check_value;
pub use compare::{GuestTraits, overlay, same_config_value, same_field, same_value};
pub use conflicts::{Conflict, conflicts, cpu_flags, is_builtin_cpu};
pub use drive::{Drive, DriveSource, NewSize, NewVolume};
pub use guest::{
    GuestConfig, PASSWORD_MASK, Section, after_restart, decode_description, encode_description, file_digest,
};
pub use keys::{
    FIRST_VERSION, Field, KEYBOARDS, Key, LATEST_VERSION, NIC_MODELS, OSTYPES, Shape, VGA_TYPES, all_keys,
    find_key, is_generated, known_keys,
};
pub use mapping::{mapping_field, mapping_of};
pub use nic::{IpAddress, IpConfig, Nic, mac_addresses, mac_of, static_address};
pub use options::{Agent, Boot, Chipset, Cpu, Machine, Memory, Smbios1, Startup, Tags, machine_type};
pub use property::PropertyString;
pub use slot::{Bus, DeviceSlot};
pub use value::percent_decode;
