//! The certificate of a server: its fingerprint, and what is wrong with it.

use pve_types::ParseError;
use sha2::Digest as _;

/// The SHA-256 of a certificate, as PVE shows it: `4E:77:F7:…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Returns the fingerprint of a certificate in DER.
    pub fn of_der(certificate: &[u8]) -> Self {
        Self(sha2::Sha256::digest(certificate).into())
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            let colon = if place == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = ParseError;
    /// Reads 64 hexadecimal digits, with or without colons, in either case, and a leading `SHA256:` if any.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = || {
            let reason = "it must be a SHA-256 of 64 hexadecimal digits, such as `4E:77:F7:…`";
            ParseError::new("certificate fingerprint", text, reason)
        };
        let trimmed = text.trim();
        let digits = match trimmed.split_at_checked(7) {
            Some((head, rest)) if head.eq_ignore_ascii_case("sha256:") => rest,
            _ => trimmed,
        };
        let digits: Vec<u8> = digits.bytes().filter(|&byte| byte != b':').collect();
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return Err(refuse());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let nibble = |digit: u8| char::from(digit).to_digit(16);
            let (high, low) = nibble(pair[0]).zip(nibble(pair[1])).ok_or_else(refuse)?;
            *byte = u8::try_from(high * 16 + low).map_err(|_| refuse())?;
        }
        Ok(Self(bytes))
    }
}

/// Why a server's certificate is not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateProblem {
    /// The fingerprints that would have been taken.
    pub expected: Vec<Fingerprint>,
    /// The fingerprint of the certificate that the server showed.
    pub seen: Fingerprint,
    /// What the check of its signatures, names and dates said, if that is what failed.
    pub reason: Option<String>,
}

impl CertificateProblem {
    /// Returns what to do about it.
    pub(crate) fn hint(&self) -> String {
        match self.expected.is_empty() {
            true => format!(
                "if the node's own `pvenode cert info` shows the fingerprint {}, set PROXMOX_API_FINGERPRINT to it, or PROXMOX_API_CA to /etc/pve/pve-root-ca.pem",
                self.seen
            ),
            false => {
                "compare the new fingerprint with the output of `pvenode cert info` on the node before you trust it"
                    .to_owned()
            }
        }
    }
}

impl std::fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.reason, self.expected.as_slice()) {
            (Some(reason), _) => write!(f, "{reason}; its fingerprint is {}", self.seen),
            (None, expected) => {
                let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
                write!(f, "its fingerprint was {} and is now {}", expected.join(" or "), self.seen)
            }
        }
    }
}

impl std::error::Error for CertificateProblem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_in_every_usual_form() {
        let plain = "4e77f7f37e34ac465621428f4603ffc0f8a4b7066d6bb87eb15017570fe0e65b";
        let colons =
            "4E:77:F7:F3:7E:34:AC:46:56:21:42:8F:46:03:FF:C0:F8:A4:B7:06:6D:6B:B8:7E:B1:50:17:57:0F:E0:E6:5B";
        let fingerprint: Fingerprint = plain.parse().unwrap();
        assert_eq!(fingerprint.to_string(), colons);
        for text in [colons, &format!("SHA256:{plain}"), &format!(" {colons}\n")] {
            assert_eq!(text.parse::<Fingerprint>().unwrap(), fingerprint, "{text}");
        }
        for text in ["", "4E:77", &plain[1..], &format!("{plain}00"), &plain.replace('e', "g")] {
            assert!(text.parse::<Fingerprint>().is_err(), "`{text}`");
        }
    }

    #[test]
    fn a_changed_certificate_prints_old_and_new() {
        let problem = CertificateProblem {
            expected: vec![Fingerprint([1; 32])],
            seen: Fingerprint([2; 32]),
            reason: None,
        };
        let text = problem.to_string();
        assert!(text.contains("01:01:01") && text.contains("02:02:02"), "{text}");
    }
}
