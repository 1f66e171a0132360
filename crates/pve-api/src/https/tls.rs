//! Which certificate is trusted, and what is said of one that is not.

use super::config::Trust;
use crate::certificate::{CertificateProblem, Fingerprint};
use crate::error::ApiError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use std::sync::{Arc, Mutex, PoisonError};

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
        return Err(unusable("the CA file", &"it contains no certificate in PEM format"));
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
    fn a_ca_file_without_certificates_is_refused() {
        for pem in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(client_config(&Trust::ca(pem), None, &Seen::default()).is_err(), "{pem}");
        }
    }
}
