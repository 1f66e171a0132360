//! Kinds of resource mappings.

use crate::{ParseError, PveVersion, string_form};

/// What a resource mapping of the datacenter maps, node by node.
// PVE: pve-guest-common src/PVE/Mapping/{PCI,USB,Dir}.pm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MappingKind {
    /// PCI devices.
    Pci,
    /// USB devices.
    Usb,
    /// Folders, for virtiofs.
    Dir,
}

impl MappingKind {
    /// Returns PVE's word for it, as in `/mapping/pci/gpu` and `/cluster/mapping/pci`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pci => "pci",
            Self::Usb => "usb",
            Self::Dir => "dir",
        }
    }
    /// Tells whether this version has such mappings.
    // PVE: pve-manager PVE/API2/Cluster/Mapping.pm: devices since 8.0, folders since 8.4.
    pub fn is_known_to(self, version: PveVersion) -> bool {
        match self {
            Self::Pci | Self::Usb => version.at_least(8, 0),
            Self::Dir => version.at_least(8, 4),
        }
    }
}

impl std::str::FromStr for MappingKind {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let all = [Self::Pci, Self::Usb, Self::Dir];
        let found = all.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| ParseError::new("kind of mapping", text, "it must be pci, usb or dir"))
    }
}

string_form!(MappingKind);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_pve_s_words_and_folders_came_later() {
        for kind in [MappingKind::Pci, MappingKind::Usb, MappingKind::Dir] {
            assert_eq!(kind.to_string().parse::<MappingKind>().unwrap(), kind);
        }
        assert!("hwrng".parse::<MappingKind>().is_err());
        let known = |major, minor| {
            [MappingKind::Pci, MappingKind::Usb, MappingKind::Dir]
                .map(|kind| kind.is_known_to(PveVersion::new(major, minor, 0)))
        };
        assert_eq!((known(7, 4), known(8, 3)), ([false; 3], [true, true, false]));
        assert_eq!((known(8, 4), known(9, 0)), ([true; 3], [true; 3]));
    }
}
