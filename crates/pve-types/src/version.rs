//! PVE's own version.

use crate::ParseError;

/// A PVE version such as `9.2.11` or `7.4-20`; compares by its numbers.
// PVE: pve-manager PVE/API2.pm version: `version` is the package's, `release` its first two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PveVersion {
    /// The release line: 7, 8, 9.
    pub major: u32,
    /// The point release.
    pub minor: u32,
    /// The package revision, 0 when it is not said.
    pub patch: u32,
}

impl PveVersion {
    /// Returns the version with these numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }
    /// Tells whether this is `major.minor` or newer.
    pub fn at_least(self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

impl std::fmt::Display for PveVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl std::str::FromStr for PveVersion {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = || ParseError::new("PVE version", text, "write it as `9.2.11`");
        // `7.4-20`, `8.4.1`, `9.0.0~11`, `9.2`: numbers separated by `.`, `-` or `~`.
        let mut parts = text.split(['.', '-', '~']);
        let mut next = |required: bool| match parts.next() {
            Some(part) => part.parse().map_err(|_| refuse()),
            None if required => Err(refuse()),
            None => Ok(0),
        };
        Ok(Self { major: next(true)?, minor: next(true)?, patch: next(false)? })
    }
}

crate::serde_as_text!(PveVersion);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_every_line_are_read_and_compared() {
        let version = |text: &str| text.parse::<PveVersion>().unwrap();
        assert_eq!(version("9.2.11"), PveVersion::new(9, 2, 11));
        assert_eq!(version("7.4-20"), PveVersion::new(7, 4, 20));
        assert_eq!(version("8.4"), PveVersion::new(8, 4, 0));
        assert!(version("8.4.10") > version("8.4.9") && version("9.0.0").at_least(8, 3));
        assert!("".parse::<PveVersion>().is_err() && "9".parse::<PveVersion>().is_err());
    }
}
