//! HTTPS to servers other than the cluster: those that show an account's public keys, and publishers of images.

use reqwest::{Client, ClientBuilder};
use std::time::Duration;

/// Returns what all such clients have in common: certificates are verified against the system's roots, no proxy is used,
/// and a connection must come about within 10 s. Redirects and the limits of an answer are the caller's choice.
pub(crate) fn client_builder() -> ClientBuilder {
    // Fails where another part of the program did so before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .no_proxy()
        .connect_timeout(Duration::from_secs(10))
        .user_agent(concat!("vmdeploy/", env!("CARGO_PKG_VERSION")))
}
