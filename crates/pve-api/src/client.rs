//! The client: raw verbs, and the way to the typed calls.

use crate::certificate::Fingerprint;
use crate::error::{Answer, ApiError, Call};
use crate::https::{ClientConfig, HttpsTransport};
use crate::pvesh::{PveshRunner, PveshTransport};
use crate::request::{ApiPath, Method, Params, Request};
use crate::response::Response;
use crate::retry::Attempts;
use crate::transport::{Transport, TransportKind};
use crate::upload::Upload;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A client of one cluster. Cloning it is cheap: the clones share connections and ticket.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    attempts: Arc<Attempts>,
}

impl Client {
    /// Returns a client over HTTPS. Nothing is sent until the first call.
    ///
    /// # Errors
    /// There is no endpoint, a host makes no URL, or the CA file cannot be used.
    pub fn https(config: ClientConfig) -> Result<Self, ApiError> {
        Ok(Self::over(HttpsTransport::new(config)?))
    }
    /// Returns a client that runs `pvesh` on a node. A call must end within two minutes; tasks are waited for
    /// as long as [`crate::Wait`] says.
    pub fn pvesh(runner: Arc<dyn PveshRunner>) -> Self {
        Self::over(PveshTransport::new(runner, Duration::from_secs(120)))
    }
    /// Returns a client over any other transport.
    pub fn over(transport: impl Transport + 'static) -> Self {
        Self { transport: Arc::new(transport), attempts: Arc::default() }
    }
    /// Tells which way the calls travel.
    pub fn kind(&self) -> TransportKind {
        self.transport.kind()
    }

    /// Returns where calls go, as `host:port`: the place that answered last comes first.
    pub fn addresses(&self) -> Vec<String> {
        self.transport.addresses()
    }
    /// Returns the SHA-256 of the certificate that the cluster showed last, over HTTPS.
    pub fn certificate(&self) -> Option<Fingerprint> {
        self.transport.certificate()
    }

    /// Logs in now; without it the first call does. With a token there is nothing to do.
    ///
    /// # Errors
    /// The credentials are refused, a second factor is missing, or no endpoint can be reached.
    pub async fn log_in(&self) -> Result<(), ApiError> {
        self.transport.log_in().await
    }
    /// Tells whether the client holds a ticket that is still good, or a token.
    pub async fn is_logged_in(&self) -> bool {
        self.transport.is_logged_in().await
    }
    /// Forgets the ticket. PVE keeps no sessions: a ticket ends by its age alone.
    pub async fn log_out(&self) {
        self.transport.log_out().await;
    }

    /// Sends `request` and returns its successful answer.
    ///
    /// A read changes nothing: it is sent again, with growing pauses, while its failure may pass
    /// ([`pve_types::Backoff::READS`]). A write is sent again only while it certainly changed nothing and its failure may
    /// pass ([`pve_types::Backoff::WRITES`]).
    ///
    /// # Errors
    /// It could not be sent, was not answered, or was answered with an error.
    pub async fn send(&self, request: &Request) -> Result<Response, ApiError> {
        let began = Instant::now();
        let mut failed = 0;
        loop {
            let error = match self.send_once(request).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            failed += 1;
            let pause = match (&error, self.kind()) {
                // The session tries to connect again itself, and knows whether its host key or login was refused.
                (ApiError::Connect { .. }, TransportKind::Pvesh) => None,
                _ => self.attempts.pause(request, &error, failed, began.elapsed()),
            };
            match pause {
                Some(pause) => {
                    tracing::debug!(%error, failed, "a read is sent again");
                    tokio::time::sleep(pause).await;
                }
                None => return Err(error),
            }
        }
    }

    async fn send_once(&self, request: &Request) -> Result<Response, ApiError> {
        let response = self.transport.call(request).await?;
        self.attempts.note_answer();
        accept(request, response)
    }
    /// Sends `request` and returns its answer as `T`.
    ///
    /// # Errors
    /// As [`Client::send`], and when the answer has another shape.
    pub async fn fetch<T: DeserializeOwned>(&self, request: &Request) -> Result<T, ApiError> {
        let response = self.send(request).await?;
        response.decode().map_err(|source| ApiError::Decode { call: Call::of(request), source })
    }
    /// Sends `request` together with a file.
    ///
    /// # Errors
    /// As [`Client::send`]; an upload is never repeated. The `pvesh` transport has none.
    pub async fn send_upload<'a>(
        &'a self,
        request: &'a Request,
        upload: Upload<'a>,
    ) -> Result<Response, ApiError> {
        let response = self.transport.upload(request, upload).await?;
        accept(request, response)
    }

    /// Reads any path, typed or as [`serde_json::Value`].
    ///
    /// # Errors
    /// As [`Client::fetch`]; and the path may be malformed.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, params: Params) -> Result<T, ApiError> {
        self.fetch(&raw(Method::Get, path, params)?).await
    }
    /// Posts to any path, typed or as [`serde_json::Value`].
    ///
    /// # Errors
    /// As [`Client::fetch`]; and the path may be malformed.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, params: Params) -> Result<T, ApiError> {
        self.fetch(&raw(Method::Post, path, params)?).await
    }
    /// Puts to any path, typed or as [`serde_json::Value`].
    ///
    /// # Errors
    /// As [`Client::fetch`]; and the path may be malformed.
    pub async fn put<T: DeserializeOwned>(&self, path: &str, params: Params) -> Result<T, ApiError> {
        self.fetch(&raw(Method::Put, path, params)?).await
    }
    /// Deletes any path, with its parameters in the query.
    ///
    /// # Errors
    /// As [`Client::fetch`]; and the path may be malformed.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str, params: Params) -> Result<T, ApiError> {
        self.fetch(&raw(Method::Delete, path, params)?).await
    }
}

/// Returns the request of a raw verb.
fn raw(method: Method, path: &str, params: Params) -> Result<Request, ApiError> {
    let path: ApiPath = path.parse().map_err(|error| ApiError::Unusable(format!("{error}")))?;
    Ok(Request::new(method, path).with(params))
}

fn accept(request: &Request, response: Response) -> Result<Response, ApiError> {
    match response.is_success() {
        true => Ok(response),
        false => Err(ApiError::Answered(Box::new(Answer::of(Call::of(request), &response)))),
    }
}

/// A place in the API's tree that typed calls are made from: a client and a path.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub client: Client,
    pub path: ApiPath,
}

impl Place {
    pub fn new<S: AsRef<str>>(client: &Client, segments: impl IntoIterator<Item = S>) -> Self {
        Self { client: client.clone(), path: ApiPath::new(segments) }
    }
    pub fn join(&self, segment: impl AsRef<str>) -> Self {
        Self { client: self.client.clone(), path: self.path.join(segment) }
    }
    pub async fn get<T: DeserializeOwned>(&self, params: Params) -> Result<T, ApiError> {
        self.fetch(Method::Get, params).await
    }
    pub async fn post<T: DeserializeOwned>(&self, params: Params) -> Result<T, ApiError> {
        self.fetch(Method::Post, params).await
    }
    pub async fn put<T: DeserializeOwned>(&self, params: Params) -> Result<T, ApiError> {
        self.fetch(Method::Put, params).await
    }
    pub async fn delete<T: DeserializeOwned>(&self, params: Params) -> Result<T, ApiError> {
        self.fetch(Method::Delete, params).await
    }
    async fn fetch<T: DeserializeOwned>(&self, method: Method, params: Params) -> Result<T, ApiError> {
        self.client.fetch(&Request::new(method, self.path.clone()).with(params)).await
    }
}
