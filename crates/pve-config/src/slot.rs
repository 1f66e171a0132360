//! Device slots: `scsi0`, `net1`, `hostpci3`.

use pve_types::ParseError;

/// What kind of device a slot takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bus {
    /// `ide0` to `ide3`.
    Ide,
    /// `sata0` to `sata5`.
    Sata,
    /// `scsi0` to `scsi30`.
    Scsi,
    /// `virtio0` to `virtio15`.
    Virtio,
    /// `efidisk0`.
    Efidisk,
    /// `tpmstate0`.
    Tpmstate,
    /// `unused0` to `unused255`: volumes that belong to the guest and are attached nowhere.
    Unused,
    /// `net0` to `net31`.
    Net,
    /// `ipconfig0` to `ipconfig31`.
    Ipconfig,
    /// `hostpci0` to `hostpci15`.
    Hostpci,
    /// `usb0` to `usb13`.
    Usb,
    /// `serial0` to `serial3`.
    Serial,
    /// `parallel0` to `parallel2`.
    Parallel,
    /// `numa0` to `numa7`.
    Numa,
    /// `virtiofs0` to `virtiofs9`.
    Virtiofs,
}

impl Bus {
    /// Every kind of slot.
    // PVE: qemu-server src/PVE/QemuServer/Drive.pm, Network.pm, PCI.pm, USB.pm, Virtiofs.pm: the MAX constants.
    pub const ALL: [(Self, &'static str, u16); 15] = [
        (Self::Ide, "ide", 4),
        (Self::Sata, "sata", 6),
        (Self::Scsi, "scsi", 31),
        (Self::Virtio, "virtio", 16),
        (Self::Efidisk, "efidisk", 1),
        (Self::Tpmstate, "tpmstate", 1),
        (Self::Unused, "unused", 256),
        (Self::Net, "net", 32),
        (Self::Ipconfig, "ipconfig", 32),
        (Self::Hostpci, "hostpci", 16),
        (Self::Usb, "usb", 14),
        (Self::Serial, "serial", 4),
        (Self::Parallel, "parallel", 3),
        (Self::Numa, "numa", 8),
        (Self::Virtiofs, "virtiofs", 10),
    ];

    /// Returns what kind of slot a configuration key names; `None` for one that names no slot: `memory`, `scsi31`.
    ///
    /// ```
    /// use pve_config::Bus;
    /// assert_eq!(Bus::of_key("unused12"), Some(Bus::Unused));
    /// assert_eq!(Bus::of_key("numa"), None);
    /// ```
    pub fn of_key(key: &str) -> Option<Self> {
        split(key).filter(|(bus, index)| *index < bus.count()).map(|(bus, _)| bus)
    }
    /// Returns the slot's name without its number.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|entry| entry.0 == self).map_or("", |entry| entry.1)
    }
    /// Returns how many slots of this kind there are.
    pub fn count(self) -> u16 {
        Self::ALL.iter().find(|entry| entry.0 == self).map_or(0, |entry| entry.2)
    }
    /// Tells whether a guest sees a disk or CD drive there (`ide`, `sata`, `scsi`, `virtio`).
    pub fn is_drive(self) -> bool {
        matches!(self, Self::Ide | Self::Sata | Self::Scsi | Self::Virtio)
    }
    /// Tells whether a volume stands there: drives, EFI disk, TPM state and unused volumes.
    pub fn holds_volume(self) -> bool {
        self.is_drive() || matches!(self, Self::Efidisk | Self::Tpmstate | Self::Unused)
    }
}

/// A device slot, printed as PVE writes it; ordered by kind, then by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceSlot {
    bus: Bus,
    index: u16,
}

impl DeviceSlot {
    /// Returns the slot with this number.
    ///
    /// # Errors
    /// The kind has fewer slots.
    pub fn new(bus: Bus, index: u16) -> Result<Self, ParseError> {
        if index < bus.count() {
            Ok(Self { bus, index })
        } else {
            let reason = format!("the last slot is `{}{}`", bus.name(), bus.count() - 1);
            Err(ParseError::new("device slot", &format!("{}{index}", bus.name()), reason))
        }
    }
    /// Returns its kind.
    pub fn bus(self) -> Bus {
        self.bus
    }
    /// Returns its number.
    pub fn index(self) -> u16 {
        self.index
    }
}

impl std::fmt::Display for DeviceSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}{}", self.bus.name(), self.index))
    }
}

impl std::str::FromStr for DeviceSlot {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = || ParseError::new("device slot", text, "write it as `scsi0` or `net1`");
        let (bus, index) = split(text).ok_or_else(refuse)?;
        Self::new(bus, index)
    }
}

/// Splits a key into the kind of its slot and the number, which may be too large for the kind.
fn split(key: &str) -> Option<(Bus, u16)> {
    let name = key.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &key[name.len()..];
    let (bus, ..) = Bus::ALL.into_iter().find(|entry| entry.1 == name)?;
    let is_padded = digits.len() > 1 && digits.starts_with('0');
    digits.parse().ok().filter(|_| !is_padded).map(|index| (bus, index))
}

pve_types::serde_as_text!(DeviceSlot);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_have_kind_number_and_order() {
        let slot = |text: &str| text.parse::<DeviceSlot>().unwrap();
        assert!(slot("scsi2") < slot("scsi10") && slot("ide2") < slot("scsi0"));
        assert_eq!(slot("net31").to_string(), "net31");
        for text in
            ["", "scsi", "scsi31", "scsi01", "net32", "foo0", "0", "scsi-1", "ide4", "SCSI0", "scsi99999999"]
        {
            assert!(text.parse::<DeviceSlot>().is_err(), "`{text}`");
            assert_eq!(Bus::of_key(text), None, "`{text}`");
        }
    }
}
