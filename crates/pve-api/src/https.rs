//! The HTTPS transport: connections, TLS, tickets and retries.

mod config;
mod endpoint;
mod login;
mod tls;
mod transport;
mod upload;

pub use config::{ClientConfig, Endpoint, Limits, Timeouts, Trust};
pub use tls::{CertificateProblem, Fingerprint};
pub use transport::HttpsTransport;
pub use upload::{Upload, UploadProgress, UploadSource};
