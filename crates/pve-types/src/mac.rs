//! MAC addresses.

use crate::ParseError;

/// An Ethernet address; printed upper-case with colons, as PVE stores it, and read in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// Returns the address with these bytes.
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }
    /// Returns the six bytes.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
    /// Tells whether the address is one station's, as PVE demands of a NIC.
    // PVE: pve-common src/PVE/JSONSchema.pm, format mac-addr: unicast only.
    pub const fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0
    }
}

impl std::fmt::Display for MacAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02X}:{b:02X}:{c:02X}:{d:02X}:{e:02X}:{g:02X}")
    }
}

impl std::str::FromStr for MacAddr {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = || ParseError::new("MAC address", text, "write it as `BC:24:11:00:00:01`");
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(refuse)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(refuse());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        if parts.next().is_some() { Err(refuse()) } else { Ok(Self(bytes)) }
    }
}

crate::serde_as_text!(MacAddr);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_matter_and_form_does() {
        let mac: MacAddr = "bc:24:11:00:02:0a".parse().unwrap();
        assert_eq!(mac.to_string(), "BC:24:11:00:02:0A");
        assert!(mac.is_unicast());
        for text in ["", "bc:24:11:00:02", "bc:24:11:00:02:0a:00", "bc-24-11-00-02-0a", "bc:24:11:00:02:+a"] {
            assert!(text.parse::<MacAddr>().is_err(), "`{text}`");
        }
    }
}
