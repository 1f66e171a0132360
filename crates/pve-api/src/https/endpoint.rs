//! The connections to one endpoint.
//!
//! Each call has a lane to itself: an HTTP client that keeps one connection. So the calls on a connection can be
//! counted, an idle one is used only while the server still keeps it, and one that saw an error is dropped.

use super::config::{ClientConfig, Endpoint};
use super::tls;
use crate::cause::Cause;
use crate::error::ApiError;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// An endpoint, and its lanes that are free.
#[derive(Debug)]
pub(super) struct Host {
    pub authority: String,
    tls: rustls::ClientConfig,
    seen: tls::Seen,
    connect_timeout: Duration,
    idle: Duration,
    calls_per_connection: u32,
    permits: Semaphore,
    free: Mutex<Vec<Lane>>,
}

/// How often others may run before a lane is free again.
const SETTLING_TURNS: u32 = 3;

/// One connection's client.
#[derive(Debug)]
struct Lane {
    client: reqwest::Client,
    calls: u32,
    used_at: Instant,
}

/// A lane taken for one call. Dropped without [`Taken::give_back`], its connection is closed.
pub(super) struct Taken<'a> {
    host: &'a Host,
    lane: Lane,
    _permit: SemaphorePermit<'a>,
}

impl Host {
    pub fn new(endpoint: &Endpoint, config: &ClientConfig) -> Result<Self, ApiError> {
        let seen = tls::Seen::default();
        let host = Self {
            authority: endpoint.authority(),
            tls: tls::client_config(&config.trust, endpoint.fingerprint, &seen)?,
            seen,
            connect_timeout: config.timeouts.connect,
            idle: config.limits.idle,
            calls_per_connection: config.limits.calls_per_connection.max(1),
            permits: Semaphore::new(config.limits.concurrent.max(1)),
            free: Mutex::default(),
        };
        // What is not a host is found out here, and not at the first call.
        let is_name = !endpoint.host.contains([':', '/', '@', '?', '#', '\\', '%', ' ']);
        let is_host = is_name || endpoint.host.parse::<std::net::Ipv6Addr>().is_ok();
        if !is_host || reqwest::Url::parse(&host.url("/")).is_err() {
            let shown = crate::text::one_line(&endpoint.host);
            let why =
                format!("`{shown}` is not a host: use a name or an address, without `https://` and port");
            return Err(ApiError::Unusable(why));
        }
        Ok(host)
    }
    /// Returns the fingerprint of the certificate that was accepted last.
    pub fn certificate(&self) -> Option<crate::certificate::Fingerprint> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Returns the URL of a target such as `/api2/json/version`.
    pub fn url(&self, target: &str) -> String {
        format!("https://{}{target}", self.authority)
    }
    /// Takes a lane, waiting while all are in use. `fresh_within` is how long its connection may have been idle.
    pub async fn take(&self, fresh_within: Duration) -> Result<Taken<'_>, ApiError> {
        let permit = self.permits.acquire().await;
        let permit = permit.map_err(|_| ApiError::Unusable("the client is closed".to_owned()))?;
        let lane = match self.pop(fresh_within.min(self.idle)) {
            Some(lane) => lane,
            None => self.new_lane()?,
        };
        Ok(Taken { host: self, lane, _permit: permit })
    }
    /// Takes a lane with a new connection.
    pub async fn take_new(&self) -> Result<Taken<'_>, ApiError> {
        self.take(Duration::ZERO).await
    }
    fn pop(&self, fresh_within: Duration) -> Option<Lane> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        // The lane used last is the freshest; those below it are only staler.
        match free.pop() {
            Some(lane) if lane.used_at.elapsed() < fresh_within => Some(lane),
            Some(lane) if lane.used_at.elapsed() < self.idle => {
                free.push(lane);
                None
            }
            _ => {
                free.clear();
                None
            }
        }
    }
    fn new_lane(&self) -> Result<Lane, ApiError> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(self.idle)
            .user_agent(concat!("vmdeploy/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ApiError::Unusable(format!("the HTTP client cannot be created: {error}")))?;
        Ok(Lane { client, calls: 0, used_at: Instant::now() })
    }
    /// Returns the error of a connection that could not be made.
    pub fn connect_error(&self, error: reqwest::Error) -> ApiError {
        match tls::find_problem(&error) {
            Some(source) => ApiError::Certificate { endpoint: self.authority.clone(), source },
            None => ApiError::Connect { endpoints: vec![self.authority.clone()], source: innermost(error) },
        }
    }
}

impl Taken<'_> {
    pub fn client(&self) -> &reqwest::Client {
        &self.lane.client
    }
    /// Tells whether the lane has had a call before, so that its connection may have been closed meanwhile.
    pub fn is_reused(&self) -> bool {
        self.lane.calls > 0
    }
    /// Returns the lane for the next call, unless its connection has had its share.
    pub async fn give_back(mut self) {
        // The connection returns to its client in tasks of its own: a call that came before they ran would open
        // another one.
        for _ in 0..SETTLING_TURNS {
            tokio::task::yield_now().await;
        }
        self.lane.calls += 1;
        self.lane.used_at = Instant::now();
        if self.lane.calls < self.host.calls_per_connection {
            self.host.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.lane);
        }
    }
}

/// Returns the error without its URL, which holds parameters, and without the layers that say nothing.
pub(super) fn innermost(error: reqwest::Error) -> Cause {
    let error = error.without_url();
    let mut causes = vec![];
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(cause) = next {
        causes.push(crate::text::one_line(&cause.to_string()));
        next = cause.source();
    }
    match causes.pop() {
        Some(last) => last.into(),
        None => Box::new(error),
    }
}
