//! Which certificate is trusted, and what is said of one that is not.

use super::Trust;
use crate::error::ApiError;
use pve_types::ParseError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use sha2::Digest as _;
use std::sync::{Arc, Mutex, PoisonError};

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
            let reason = "it is a SHA-256 of 64 hexadecimal digits, as in `4E:77:F7:…`";
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
                "compare the new fingerprint with what `pvenode cert info` shows on the node before you trust it"
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

/// The fingerprint of the certificate that was accepted last, once there is one.
pub(super) type Seen = Arc<Mutex<Option<Fingerprint>>>;

/// Returns the TLS configuration of an endpoint.
pub(super) fn client_config(
    trust: &Trust,
    fingerprint: Option<Fingerprint>,
    seen: &Seen,
) -> Result<rustls::ClientConfig, ApiError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pins = match fingerprint {
        Some(fingerprint) => vec![fingerprint],
        None => trust.fingerprints.clone(),
    };
    let chain = chain_verifier(trust, &pins, &provider)?;
    let algorithms = provider.signature_verification_algorithms;
    let verifier = Verifier { chain, pins, algorithms, seen: seen.clone() };
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ApiError::Unusable(format!("TLS cannot be set up: {error}")))?;
    Ok(config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// Returns who checks the certificate's chain, or `None` where the pin alone decides.
fn chain_verifier(
    trust: &Trust,
    pins: &[Fingerprint],
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ServerCertVerifier>>, ApiError> {
    let unusable =
        |what: &str, why: &dyn std::fmt::Display| ApiError::Unusable(format!("{what} cannot be used: {why}"));
    let Some(pem) = &trust.ca_pem else {
        if !pins.is_empty() {
            return Ok(None);
        }
        let verifier = rustls_platform_verifier::Verifier::new(provider.clone())
            .map_err(|error| unusable("the system's root certificates", &error))?;
        return Ok(Some(Arc::new(verifier)));
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| unusable("the CA file", &error))?;
        roots.add(certificate).map_err(|error| unusable("the CA file", &error))?;
    }
    if roots.is_empty() {
        return Err(unusable("the CA file", &"it holds no certificate in PEM form"));
    }
    let verifier =
        rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .map_err(|error| unusable("the CA file", &error))?;
    Ok(Some(verifier))
}

/// Checks the chain where there is one to check, and the fingerprint where one is set.
#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<dyn ServerCertVerifier>>,
    pins: Vec<Fingerprint>,
    algorithms: WebPkiSupportedAlgorithms,
    seen: Seen,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen = Fingerprint::of_der(end_entity);
        let refuse = |reason: Option<String>| {
            let problem = CertificateProblem { expected: self.pins.clone(), seen, reason };
            rustls::Error::Other(OtherError(Arc::new(problem)))
        };
        if !self.pins.is_empty() && !self.pins.contains(&seen) {
            return Err(refuse(None));
        }
        let verified = match &self.chain {
            Some(chain) => chain
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| refuse(Some(error.to_string())))?,
            None => ServerCertVerified::assertion(),
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        Ok(verified)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Finds the certificate problem among the causes of a failed connection.
pub(super) fn find_problem(error: &(dyn std::error::Error + 'static)) -> Option<CertificateProblem> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(problem) = error.downcast_ref::<CertificateProblem>() {
            return Some(problem.clone());
        }
        if let Some(rustls::Error::Other(other)) = error.downcast_ref::<rustls::Error>() {
            return other.0.downcast_ref::<CertificateProblem>().cloned();
        }
        // An I/O error's `source` is its inner error's source: the inner error itself would be missed.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    None
}

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

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        for pem in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(client_config(&Trust::ca(pem), None, &Seen::default()).is_err(), "{pem}");
        }
    }
}
