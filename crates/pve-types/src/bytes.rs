//! Sizes.

use crate::ParseError;

/// A number of bytes. Read with a unit (`4GiB`), printed with the largest unit that divides it evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(u64);

const UNITS: [(&str, u32); 5] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("PiB", 50)];

impl Bytes {
    /// Returns the quantity of `count` bytes.
    pub const fn new(count: u64) -> Self {
        Self(count)
    }
    /// Returns `count` mebibytes, saturating.
    pub const fn from_mib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 20))
    }
    /// Returns `count` gibibytes, saturating.
    pub const fn from_gib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 30))
    }
    /// Returns the number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
    /// Returns the number of whole mebibytes, or `None` when it is not a whole number.
    pub const fn as_whole_mib(self) -> Option<u64> {
        if self.0.is_multiple_of(1 << 20) { Some(self.0 >> 20) } else { None }
    }
    /// Returns the size in gibibytes as PVE's `STORAGE:SIZE` wants it: decimal, without trailing zeros.
    // PVE: qemu-server src/PVE/QemuServer/Drive.pm, NEW_DISK_RE `\d+(\.\d+)?`, unit GiB.
    pub fn to_gib_decimal(self) -> String {
        let whole = self.0 >> 30;
        let rest = self.0 & ((1 << 30) - 1);
        if rest == 0 {
            return whole.to_string();
        }
        // rest / 2^30 = rest * 5^30 / 10^30: thirty digits, exact, and within 100 bits.
        let fraction = u128::from(rest) * 5u128.pow(30);
        let digits = format!("{fraction:030}");
        format!("{whole}.{}", digits.trim_end_matches('0'))
    }
    /// Returns the size as PVE stores it in a drive's `size=`: `32G`, `2252M`, `528K`, or plain bytes.
    // PVE: qemu-server src/PVE/JSONSchema.pm format_size: the largest unit that divides evenly.
    pub fn to_pve_size(self) -> String {
        match self.largest_unit() {
            Some((name, shift)) if shift <= 40 => format!("{}{}", self.0 >> shift, &name[..1]),
            Some(_) => format!("{}T", self.0 >> 40),
            None => self.0.to_string(),
        }
    }
    /// Returns the size that PVE writes as `32G`, `2252M`, `1.5T` or plain bytes.
    ///
    /// # Errors
    /// The text is not PVE's `\d+(\.\d+)?[KMGT]?`, or does not fit.
    pub fn from_pve_size(text: &str) -> Result<Self, ParseError> {
        let (number, shift) = match text.char_indices().last() {
            Some((at, 'K' | 'k')) => (&text[..at], 10),
            Some((at, 'M' | 'm')) => (&text[..at], 20),
            Some((at, 'G' | 'g')) => (&text[..at], 30),
            Some((at, 'T' | 't')) => (&text[..at], 40),
            _ => (text, 0),
        };
        scaled(number, shift).ok_or_else(|| {
            ParseError::new("size", text, "PVE writes sizes as `32G`, `512M` or a number of bytes")
        })
    }

    fn largest_unit(self) -> Option<(&'static str, u32)> {
        UNITS.into_iter().rev().find(|&(_, shift)| self.0 != 0 && self.0.is_multiple_of(1 << shift))
    }
}

/// Returns `number`, a decimal text, times two to the `shift`, if that is a whole number of bytes (rounded up).
fn scaled(number: &str, shift: u32) -> Option<Bytes> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 20 || number.ends_with('.')
    {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let whole = whole.checked_mul(1u64.checked_shl(shift)?)?;
    let rest = if fraction.is_empty() {
        0
    } else {
        let numerator: u128 = fraction.parse().ok()?;
        // The fraction has at most 20 digits (67 bits) and the shift is at most 50: it fits 128 bits.
        let scaled = numerator.checked_shl(shift)?;
        u64::try_from(scaled.div_ceil(10u128.pow(u32::try_from(fraction.len()).ok()?))).ok()?
    };
    whole.checked_add(rest).map(Bytes)
}

impl std::ops::Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self(0), |sum, item| sum + item)
    }
}

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.largest_unit() {
            Some((name, shift)) => f.pad(&format!("{}{name}", self.0 >> shift)),
            None => f.pad(&format!("{}B", self.0)),
        }
    }
}

impl std::str::FromStr for Bytes {
    type Err = ParseError;
    /// Reads a number with a binary unit: `512MiB`, `4GiB`, `1.5TiB`, `100B`. A unit is required.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = |reason: &str| ParseError::new("size", text, reason);
        if let Some((name, shift)) = UNITS.into_iter().find(|(name, _)| text.ends_with(name)) {
            let number = text[..text.len() - name.len()].trim_end();
            return scaled(number, shift).ok_or_else(|| refuse("a number must stand before the unit"));
        }
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        match &text[number.len()..] {
            "B" => scaled(number.trim_end(), 0).ok_or_else(|| refuse("a number must stand before the unit")),
            "" => Err(refuse("the unit is missing: write `GiB` or `MiB` after the number")),
            "K" | "M" | "G" | "T" | "KB" | "MB" | "GB" | "TB" | "k" | "m" | "g" | "t" => {
                Err(refuse("the unit must be binary: KiB, MiB, GiB or TiB"))
            }
            _ => Err(refuse("the unit must be B, KiB, MiB, GiB or TiB")),
        }
    }
}

crate::serde_as_text!(Bytes);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_needs_a_binary_unit() {
        assert_eq!("4GiB".parse::<Bytes>().unwrap(), Bytes::from_gib(4));
        assert_eq!("1.5 GiB".parse::<Bytes>().unwrap(), Bytes::from_mib(1536));
        assert_eq!("0.1KiB".parse::<Bytes>().unwrap().get(), 103);
        for text in ["4", "4G", "4GB", "GiB", "-4GiB", "4.GiB", "4e3GiB", "99999999999PiB", "٣GiB"] {
            assert!(text.parse::<Bytes>().is_err(), "`{text}`");
        }
    }

    #[test]
    fn pve_sizes_use_the_largest_even_unit() {
        assert_eq!(Bytes::from_gib(32).to_pve_size(), "32G");
        assert_eq!(Bytes::from_mib(2252).to_pve_size(), "2252M");
        assert_eq!(Bytes::new(528 << 10).to_pve_size(), "528K");
        assert_eq!(Bytes::from_pve_size("1.5G").unwrap(), Bytes::from_mib(1536));
        assert_eq!(Bytes::from_pve_size("167772160").unwrap(), Bytes::from_mib(160));
        assert!(Bytes::from_pve_size("G").is_err());
    }

    #[test]
    fn gib_decimals_are_exact() {
        assert_eq!(Bytes::from_gib(20).to_gib_decimal(), "20");
        assert_eq!(Bytes::from_mib(512).to_gib_decimal(), "0.5");
        assert_eq!(Bytes::from_mib(1).to_gib_decimal(), "0.0009765625");
    }

    proptest::proptest! {
        #[test]
        fn display_and_parse_are_inverse(count: u64) {
            let bytes = Bytes::new(count);
            proptest::prop_assert_eq!(bytes.to_string().parse::<Bytes>().unwrap(), bytes);
            proptest::prop_assert_eq!(Bytes::from_pve_size(&bytes.to_pve_size()).unwrap(), bytes);
        }
    }
}
