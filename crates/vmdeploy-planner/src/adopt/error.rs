//! Why a guest cannot be adopted, and what to do about it.

use crate::identity::Marker;
use pve_config::PropertyString;
use pve_types::Vmid;

/// Why a guest cannot be adopted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// There is no such guest.
    #[error("there is no guest {0}")]
    Missing(Vmid),
    /// It is a container.
    #[error("{0} is a container, and only VMs can be adopted")]
    NotAVm(Vmid),
    /// Its configuration was not observed.
    #[error("the configuration of VM {0} was not read")]
    NoConfig(Vmid),
    /// It is a VM of a project already.
    #[error("VM {} is `{}` of project `{}` already", marker.vmid, marker.name, marker.project.escape_debug())]
    Owned {
        /// The project that it should have been adopted into.
        wanted: String,
        /// Its marker.
        marker: Box<Marker>,
    },
    /// Two of them have one name, and a spec names each VM once.
    #[error("VMs {one} and {other} are both called `{name}`")]
    SameName {
        /// The first.
        one: Vmid,
        /// The second.
        other: Vmid,
        /// Their name.
        name: String,
    },
    /// It has no UUID that could tell it from others.
    #[error("VM {vmid} has no UUID")]
    NoUuid {
        /// The VM.
        vmid: Vmid,
        /// Its `smbios1` with a UUID.
        smbios1: Option<String>,
    },
    /// Another guest has its UUID.
    #[error("VMs {vmid} and {other} have the same UUID")]
    SharedUuid {
        /// The VM.
        vmid: Vmid,
        /// The other guest.
        other: Vmid,
        /// Its `smbios1` with a UUID of its own.
        smbios1: Option<String>,
    },
    /// Its notes leave no room for an ownership marker.
    #[error("the notes of VM {vmid} are {over} characters too long for an ownership marker below them")]
    LongDescription {
        /// The VM.
        vmid: Vmid,
        /// How many characters have to go.
        over: usize,
    },
}

impl AdoptError {
    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing(_) => "`qm list` on the nodes shows the VMs".to_owned(),
            Self::NotAVm(_) => "leave it as it is".to_owned(),
            Self::NoConfig(vmid) => format!("the credentials need VM.Audit on /vms/{vmid}"),
            Self::Owned { wanted, marker } if marker.project == *wanted => {
                format!("write `{}` below `vms:` in the project's spec", marker.name)
            }
            Self::Owned { marker, .. } => format!(
                "to move it here, write `moved_from: {{project: {}}}` at `{}` in this project's spec",
                marker.project.escape_debug(),
                marker.name
            ),
            Self::SameName { other, .. } => {
                format!("adopt them into two projects, or rename one: `qm set {other} --name NEW`")
            }
            Self::NoUuid { vmid, smbios1 } => set_smbios(*vmid, smbios1.as_deref(), "gives it one"),
            Self::SharedUuid { vmid, smbios1, .. } => {
                set_smbios(*vmid, smbios1.as_deref(), "gives it a new one")
            }
            Self::LongDescription { vmid, over } => {
                format!("shorten the notes of VM {vmid} by {over} characters in the web interface")
            }
        }
    }
}

fn set_smbios(vmid: Vmid, smbios1: Option<&str>, what: &str) -> String {
    match smbios1 {
        Some(text) => format!("`qm set {vmid} --smbios1 {text}` {what} and keeps the other fields"),
        None => format!("set a UUID for VM {vmid} in the web interface: Options, SMBIOS settings"),
    }
}

/// Returns an `smbios1` with another UUID and all its other fields; `None` where it cannot be printed into a command.
// PVE: qemu-server src/PVE/QemuServer.pm: the fields are base64 or letters and digits.
pub(super) fn smbios_with(smbios1: &str, uuid: &str) -> Option<String> {
    let mut value = PropertyString::parse("smbios1", smbios1).ok()?;
    value.set("uuid", uuid);
    let text = value.print("smbios1");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "+/=,._-".contains(c);
    text.chars().all(is_plain).then_some(text)
}
