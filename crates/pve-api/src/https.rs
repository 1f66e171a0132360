//! The HTTPS transport: connections, TLS, tickets and retries.

mod config;
mod endpoint;
mod login;
mod tls;
mod transport;
mod upload;

pub use config::{ClientConfig, Endpoint, Limits, Timeouts, Trust};
pub use transport::HttpsTransport;
