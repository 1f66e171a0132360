//! A guest's number.

use crate::ParseError;
use serde::{Deserialize, Deserializer, Serialize};

/// A guest's number in its cluster: 100 to 999,999,999, shared by VMs and containers.
// PVE: pve-common src/PVE/JSONSchema.pm, format pve-vmid `[1-9][0-9]{2,8}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Vmid(u32);

impl Vmid {
    /// The lowest VMID that PVE accepts.
    pub const MIN: u32 = 100;
    /// The highest VMID that PVE accepts.
    pub const MAX: u32 = 999_999_999;

    /// Returns the VMID for `number`.
    ///
    /// # Errors
    /// The number is below [`Vmid::MIN`] or above [`Vmid::MAX`].
    pub fn new(number: u32) -> Result<Self, ParseError> {
        if (Self::MIN..=Self::MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(ParseError::new("VMID", &number.to_string(), "it must be 100 to 999999999"))
        }
    }

    /// Returns the number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for Vmid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

impl std::str::FromStr for Vmid {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let digits = (3..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits && !text.starts_with('0') => Self::new(number),
            _ => Err(ParseError::new("VMID", text, "it must be a number from 100 to 999999999")),
        }
    }
}

impl<'de> Deserialize<'de> for Vmid {
    /// Reads a number, or a string of digits (PVE's `nextid` answers one).
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Vmid;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a VMID, 100 to 999999999")
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Vmid, E> {
                let number = u32::try_from(number).map_err(|_| E::custom("the VMID is too large"))?;
                Vmid::new(number).map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Vmid, E> {
                let number = u64::try_from(number).map_err(|_| E::custom("a VMID is not negative"))?;
                self.visit_u64(number)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vmid, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_100_to_999999999_is_a_vmid() {
        assert_eq!("100".parse::<Vmid>().unwrap().get(), 100);
        assert_eq!("999999999".parse::<Vmid>().unwrap().get(), 999_999_999);
        for text in ["99", "0100", "1000000000", "", "-100", "+100", "1e3", "100 ", "１００"] {
            assert!(text.parse::<Vmid>().is_err(), "`{text}`");
        }
    }

    #[test]
    fn json_takes_number_or_string_and_writes_a_number() {
        assert_eq!(serde_json::from_str::<Vmid>("100").unwrap(), serde_json::from_str("\"100\"").unwrap());
        assert_eq!(serde_json::to_string(&Vmid(100)).unwrap(), "100");
        assert!(serde_json::from_str::<Vmid>("99").is_err());
    }
}
