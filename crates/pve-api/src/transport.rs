//! The seam between typed calls and the way they travel.

use crate::certificate::Fingerprint;
use crate::error::ApiError;
use crate::request::Request;
use crate::response::Response;
use crate::upload::Upload;
use futures::future::{BoxFuture, FutureExt as _};

/// The way calls travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportKind {
    /// HTTPS to a pveproxy.
    Https,
    /// `pvesh` on a node, over SSH.
    Pvesh,
    /// Something that a test or another program put in its place.
    Other,
}

/// Carries calls. Every typed call of this crate is a [`Request`] given to one of these.
pub trait Transport: Send + Sync + std::fmt::Debug {
    /// Tells which way it goes.
    fn kind(&self) -> TransportKind {
        TransportKind::Other
    }
    /// Returns where calls go, as `host:port`: the place that answered last comes first. Empty where there is no such place.
    fn addresses(&self) -> Vec<String> {
        Vec::new()
    }
    /// Returns the SHA-256 of the certificate that was shown last, where calls go by TLS and one was made.
    fn certificate(&self) -> Option<Fingerprint> {
        None
    }
    /// Sends a call; an error that PVE answers with is a `Response`, not an `Err`.
    fn call<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, ApiError>>;
    /// Sends a call together with a file.
    fn upload<'a>(
        &'a self,
        request: &'a Request,
        upload: Upload<'a>,
    ) -> BoxFuture<'a, Result<Response, ApiError>> {
        let _ = (request, upload);
        let why = "this transport cannot upload: copy the file to the node over SSH";
        async move { Err(ApiError::Unusable(why.to_owned())) }.boxed()
    }
    /// Logs in now, where that means something.
    fn log_in(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        async { Ok(()) }.boxed()
    }
    /// Tells whether the next call needs no login.
    fn is_logged_in(&self) -> BoxFuture<'_, bool> {
        async { true }.boxed()
    }
    /// Forgets the ticket.
    fn log_out(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}
