//! What a client needs to know before its first call.

use crate::auth::{Clock, Credentials, SystemClock};
use crate::certificate::Fingerprint;
use std::sync::Arc;
use std::time::Duration;

/// One pveproxy of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address, without brackets.
    pub host: String,
    /// Usually 8006.
    pub port: u16,
    /// The SHA-256 of this node's certificate; without one, those of [`Trust`] hold.
    pub fingerprint: Option<Fingerprint>,
}

impl Endpoint {
    /// The port pveproxy listens on.
    pub const PORT: u16 = 8006;

    /// Returns the endpoint at `host` and `port`.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        let host = host.into();
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host);
        Self { host: host.to_owned(), port, fingerprint: None }
    }
    /// Returns the endpoint whose certificate must have this SHA-256.
    pub fn with_fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.fingerprint = Some(fingerprint);
        self
    }
    /// Returns `host:port`, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Which certificates are trusted. There is no way to trust all of them.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The CA certificates to trust, as PEM, instead of the system's roots.
    pub ca_pem: Option<Vec<u8>>,
    /// The SHA-256 of the certificates that are taken. When this is not empty, the server's must be among them:
    /// alone it is trusted regardless of the signer, and with `ca_pem` both must match.
    pub fingerprints: Vec<Fingerprint>,
}

impl Trust {
    /// Returns the trust in the system's roots.
    pub fn system() -> Self {
        Self::default()
    }
    /// Returns the trust in the CA certificates of this PEM text.
    pub fn ca(pem: impl Into<Vec<u8>>) -> Self {
        Self { ca_pem: Some(pem.into()), fingerprints: Vec::new() }
    }
    /// Returns the trust in one certificate.
    pub fn fingerprint(fingerprint: Fingerprint) -> Self {
        Self { ca_pem: None, fingerprints: vec![fingerprint] }
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect and to agree on TLS.
    pub connect: Duration,
    /// From sending a call to the end of its answer.
    pub request: Duration,
    /// From the head of an answer to its end: PVE has the whole answer when it sends the head.
    pub body: Duration,
    /// An upload's time without a byte going out, and then until its answer comes.
    pub upload_stall: Duration,
}

impl Default for Timeouts {
    // PVE: pveproxy gives another node 30 s, and answers 401 and 403 after 3 s.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            request: Duration::from_secs(60),
            body: Duration::from_secs(20),
            upload_stall: Duration::from_secs(120),
        }
    }
}

/// How hard a host may be worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Calls at the same time to one host, each on a connection of its own.
    pub concurrent: usize,
    /// Calls on one connection before it is closed.
    // PVE: pve-http-server src/PVE/APIServer/AnyEvent.pm: max_requests 100.
    pub calls_per_connection: u32,
    /// How long an idle connection is kept.
    // PVE: pve-http-server src/PVE/APIServer/AnyEvent.pm: keep_alive timeout 5 s.
    pub idle: Duration,
    /// The most bytes an answer may have.
    pub answer_bytes: usize,
    /// The most values (of lists and objects, at any depth) that an answer may have: each takes many times the memory of
    /// its text.
    pub answer_values: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent: 8,
            calls_per_connection: 100,
            idle: Duration::from_secs(4),
            answer_bytes: 32 << 20,
            // 10,000 guests are about 400,000 values.
            answer_values: 1_500_000,
        }
    }
}

/// All that an HTTPS client is made of. Its `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The endpoints of one cluster, tried in order when one cannot be reached.
    pub endpoints: Vec<Endpoint>,
    /// Who the client is.
    pub credentials: Credentials,
    /// Which certificates are trusted.
    pub trust: Trust,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How hard a host may be worked.
    pub limits: Limits,
    /// What tickets are aged by.
    pub clock: Arc<dyn Clock>,
}

impl ClientConfig {
    /// Returns the configuration of a client of one endpoint that trusts the system's roots.
    pub fn new(endpoint: Endpoint, credentials: Credentials) -> Self {
        Self {
            endpoints: vec![endpoint],
            credentials,
            trust: Trust::system(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            clock: Arc::new(SystemClock::default()),
        }
    }
    /// Returns the configuration with this trust.
    pub fn with_trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }
    /// Returns the configuration with one more endpoint of the same cluster.
    pub fn with_endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.push(endpoint);
        self
    }
    /// Returns the configuration with these timeouts.
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }
}
