//! Sending a call and taking its answer.

use super::config::ClientConfig;
use super::endpoint::{Host, Taken, innermost};
use crate::auth::ticket::Ticket;
use crate::auth::{Credentials, Session};
use crate::certificate::Fingerprint;
use crate::error::{ApiError, Call};
use crate::request::{Method, Request};
use crate::response::Response;
use crate::transport::{Transport, TransportKind};
use crate::upload::Upload;
use futures::future::{BoxFuture, FutureExt as _};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use pve_types::Secret;
use reqwest::header::HeaderValue;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tracing::Instrument as _;

/// How often a call that changes nothing is sent again on a new connection.
const READ_RETRIES: u32 = 2;
/// A write goes on a connection that was used within this time, or on a new one: a server that is just closing
/// an idle connection would leave it open whether the write was done.
const FRESH_FOR_WRITES: Duration = Duration::from_secs(2);

/// PVE's API over HTTPS.
#[derive(Debug, Clone)]
pub struct HttpsTransport {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub config: ClientConfig,
    pub session: tokio::sync::Mutex<Session>,
    hosts: Vec<Host>,
    /// The endpoint that answered last.
    current: AtomicUsize,
}

/// What a call is sent with.
#[derive(Debug)]
pub(super) enum Authorisation {
    None,
    Token { id: String, secret: Secret },
    Ticket { ticket: Ticket, generation: u64 },
}

impl HttpsTransport {
    /// Returns the transport of `config`. Nothing is sent yet.
    ///
    /// # Errors
    /// There is no endpoint, a host makes no URL, or the CA file cannot be read.
    pub fn new(config: ClientConfig) -> Result<Self, ApiError> {
        let hosts: Result<Vec<Host>, ApiError> =
            config.endpoints.iter().map(|endpoint| Host::new(endpoint, &config)).collect();
        let hosts = hosts?;
        if hosts.is_empty() {
            return Err(ApiError::Unusable("no API host is set".to_owned()));
        }
        let (session, current) = Default::default();
        Ok(Self { inner: Arc::new(Inner { config, session, hosts, current }) })
    }
}

impl Transport for HttpsTransport {
    fn kind(&self) -> TransportKind {
        TransportKind::Https
    }
    fn addresses(&self) -> Vec<String> {
        let current = self.inner.current_host().authority.clone();
        let others =
            self.inner.hosts.iter().map(|host| host.authority.clone()).filter(|other| *other != current);
        std::iter::once(current.clone()).chain(others).collect()
    }
    fn certificate(&self) -> Option<Fingerprint> {
        self.inner.current_host().certificate()
    }
    fn call<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, ApiError>> {
        async move { self.inner.call(request).await.map(|response| self.inner.explained(response)) }.boxed()
    }
    fn upload<'a>(
        &'a self,
        request: &'a Request,
        upload: Upload<'a>,
    ) -> BoxFuture<'a, Result<Response, ApiError>> {
        self.inner.upload(request, upload).boxed()
    }
    fn log_in(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        async { self.inner.authorisation().await.map(drop) }.boxed()
    }
    fn is_logged_in(&self) -> BoxFuture<'_, bool> {
        async {
            match &self.inner.config.credentials {
                Credentials::Token { .. } => true,
                Credentials::Anonymous => false,
                Credentials::Password { .. } => {
                    self.inner.session.lock().await.is_live(self.inner.config.clock.elapsed())
                }
            }
        }
        .boxed()
    }
    fn log_out(&self) -> BoxFuture<'_, ()> {
        async { self.inner.session.lock().await.clear() }.boxed()
    }
}

impl Inner {
    /// Sends a call with credentials, and once more with new ones if the ticket is refused.
    pub(super) async fn call(&self, request: &Request) -> Result<Response, ApiError> {
        let authorisation = self.authorisation().await?;
        let response = self.send(request, &authorisation).await?;
        let Authorisation::Ticket { generation, .. } = authorisation else {
            return Ok(response);
        };
        if response.status != 401 {
            return Ok(response);
        }
        tracing::debug!("the ticket was refused: logging in again");
        self.session.lock().await.refuse(generation);
        let authorisation = self.authorisation().await?;
        self.send(request, &authorisation).await
    }

    /// Says of refused credentials whose they are and who refused them: PVE's own words name neither.
    fn explained(&self, mut response: Response) -> Response {
        let user = match &self.config.credentials {
            Credentials::Token { id, .. } => id.to_string(),
            Credentials::Password { user, .. } => user.to_string(),
            Credentials::Anonymous => return response,
        };
        if response.status == 401 {
            let (said, host) = (response.said(), &self.current_host().authority);
            response.message = Some(format!("{said} (the credentials of `{user}` at {host})"));
        }
        response
    }

    /// Sends a call to the endpoint that answered last, and to the others while it certainly was not sent.
    pub(super) async fn send(
        &self,
        request: &Request,
        authorisation: &Authorisation,
    ) -> Result<Response, ApiError> {
        let first = self.current.load(Ordering::Relaxed);
        let mut tried = Vec::new();
        let mut last = None;
        for place in (0..self.hosts.len()).map(|step| (first + step) % self.hosts.len()) {
            let host = &self.hosts[place];
            let span = tracing::debug_span!(
                "pve_api", method = %request.method, path = %request.path, host = %host.authority
            );
            match self.send_to(host, request, authorisation).instrument(span).await {
                Err(ApiError::Connect { source, .. }) => {
                    tried.push(host.authority.clone());
                    last = Some(source);
                }
                result => {
                    self.current.store(place, Ordering::Relaxed);
                    return result;
                }
            }
        }
        let source = last.unwrap_or_else(|| "there is no endpoint".into());
        Err(ApiError::Connect { endpoints: tried, source })
    }

    /// Sends a call to one endpoint; one that changes nothing is repeated when its connection broke.
    async fn send_to(
        &self,
        host: &Host,
        request: &Request,
        authorisation: &Authorisation,
    ) -> Result<Response, ApiError> {
        let mut attempt = 0;
        loop {
            let lane = match (attempt, request.method) {
                (0, Method::Get) => host.take(Duration::MAX).await?,
                (0, _) => host.take(FRESH_FOR_WRITES).await?,
                _ => host.take_new().await?,
            };
            let reused = lane.is_reused();
            let result = self.send_on(host, lane, request, authorisation).await;
            // A server closes idle connections, and after a number of calls: on a new one a read may go at once.
            let may_repeat = (request.method == Method::Get && reused) || is_login(request);
            match result {
                Err(ApiError::Interrupted { source, .. })
                    if may_repeat
                        && attempt < READ_RETRIES
                        && !source.is::<crate::error::AnswerTooLarge>() =>
                {
                    attempt += 1;
                }
                Err(ApiError::Connect { .. }) if reused && attempt < READ_RETRIES => attempt += 1,
                result => return result,
            }
        }
    }

    /// Sends a call on one connection.
    async fn send_on(
        &self,
        host: &Host,
        lane: Taken<'_>,
        request: &Request,
        authorisation: &Authorisation,
    ) -> Result<Response, ApiError> {
        let method = reqwest_method(request.method);
        let mut builder = lane.client().request(method, host.url(&request.target()));
        builder = authorise(builder, authorisation, request.method)?;
        if let Some(body) = request.body() {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            builder = builder.header(reqwest::header::CONTENT_TYPE, form).body(body);
        }
        let after = self.config.timeouts.request;
        let started = Instant::now();
        let exchange = self.exchange(host, request, builder);
        let response = match tokio::time::timeout(after, exchange).await {
            Ok(result) => result?,
            Err(_) => return Err(ApiError::Timeout { call: Call::of(request), after }),
        };
        tracing::debug!(status = response.status, ms = started.elapsed().as_millis(), "answered");
        // PVE closes the connection after any error.
        if response.status < 400 {
            lane.give_back().await;
        }
        Ok(response)
    }

    /// Sends what was built and reads the whole answer.
    pub(super) async fn exchange(
        &self,
        host: &Host,
        request: &Request,
        builder: reqwest::RequestBuilder,
    ) -> Result<Response, ApiError> {
        let interrupted = |error| ApiError::Interrupted { call: Call::of(request), source: innermost(error) };
        let mut answer = match builder.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => return Err(host.connect_error(error)),
            Err(error) => return Err(interrupted(error)),
        };
        let status = answer.status().as_u16();
        let reason = reason_phrase(&answer);
        let after = self.config.timeouts.body;
        let body = match tokio::time::timeout(after, self.read_body(&mut answer)).await {
            Ok(Ok(Some(body))) => body,
            Ok(Ok(None)) => {
                let source = Box::new(crate::error::AnswerTooLarge);
                return Err(ApiError::Interrupted { call: Call::of(request), source });
            }
            Ok(Err(error)) => return Err(interrupted(error)),
            Err(_) => return Err(ApiError::Timeout { call: Call::of(request), after }),
        };
        Ok(Response::from_http(status, &reason, &body).without(request.params.secrets()))
    }

    /// Reads an answer's body; `None` for one that has more bytes or values than the client takes.
    async fn read_body(&self, answer: &mut reqwest::Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
        let limits = self.config.limits;
        let (mut body, mut values) = (Vec::new(), 0);
        while let Some(chunk) = answer.chunk().await? {
            // Every value but the first of a list or object follows one of these. Those within texts are counted, too.
            values += chunk.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{' | b':')).count();
            body.extend_from_slice(&chunk);
            if body.len() > limits.answer_bytes || values > limits.answer_values {
                return Ok(None);
            }
        }
        Ok(Some(body))
    }

    /// Returns the endpoint that answered last.
    pub(super) fn current_host(&self) -> &Host {
        let place = self.current.load(Ordering::Relaxed);
        self.hosts.get(place).unwrap_or(&self.hosts[0])
    }
}

/// Tells whether a write may be repeated because a second one does no harm: asking for a ticket.
fn is_login(request: &Request) -> bool {
    request.method == Method::Post && request.path.segments() == ["access", "ticket"]
}

fn reqwest_method(method: Method) -> reqwest::Method {
    match method {
        Method::Get => reqwest::Method::GET,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Delete => reqwest::Method::DELETE,
    }
}

/// Returns the phrase the server sent, if it is other than the usual one of its status.
///
/// hyper gives an empty one for a phrase with other than ASCII in it: then the body must do.
fn reason_phrase(answer: &reqwest::Response) -> String {
    let phrase = answer.extensions().get::<hyper::ext::ReasonPhrase>();
    let phrase = phrase.map(|phrase| String::from_utf8_lossy(phrase.as_bytes()).into_owned());
    phrase.unwrap_or_else(|| answer.status().canonical_reason().unwrap_or_default().to_owned())
}

/// What ends or changes a value that PVE percent-decodes after reading it up to `;`.
const IN_HEADER: &AsciiSet = &CONTROLS.add(b'%').add(b';').add(b' ').add(b',').add(b'"');

/// Adds the headers that `authorisation` needs, marked as secrets.
pub(super) fn authorise(
    builder: reqwest::RequestBuilder,
    authorisation: &Authorisation,
    method: Method,
) -> Result<reqwest::RequestBuilder, ApiError> {
    let header = |text: String| {
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| ApiError::Unusable("the credentials cannot be sent in a header".to_owned()))?;
        value.set_sensitive(true);
        Ok::<_, ApiError>(value)
    };
    Ok(match authorisation {
        Authorisation::None => builder,
        Authorisation::Token { id, secret } => {
            let id = utf8_percent_encode(id, IN_HEADER);
            let secret = utf8_percent_encode(secret.expose(), IN_HEADER);
            builder.header("authorization", header(format!("PVEAPIToken={id}={secret}"))?)
        }
        Authorisation::Ticket { ticket, .. } => {
            let cookie = utf8_percent_encode(ticket.ticket.expose(), NON_ALPHANUMERIC);
            let builder = builder.header("cookie", header(format!("PVEAuthCookie={cookie}"))?);
            match method {
                Method::Get => builder,
                _ => builder.header("CSRFPreventionToken", header(ticket.csrf.expose().to_owned())?),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoint;

    #[test]
    fn what_is_no_host_is_refused_before_the_first_call() {
        let check = |host: &str, expect: bool| {
            let config = ClientConfig::new(Endpoint::new(host, 8006), Credentials::Anonymous);
            let pin = "00".repeat(32).parse().unwrap();
            let config = config.with_trust(crate::Trust::fingerprint(pin));
            assert_eq!(HttpsTransport::new(config).is_ok(), expect, "`{host}`");
        };
        check("pve1.example.net", true);
        check("10.0.0.1", true);
        check("fd00::1", true);
        check("[fd00::1]", true);
        for host in ["", "https://pve1", "pve1:8006", "a b", "a/b", "user@pve1", "fd00::zz"] {
            check(host, false);
        }
    }
}
