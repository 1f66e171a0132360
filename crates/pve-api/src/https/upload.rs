//! Uploading a file without holding it in memory.

use super::endpoint::Host;
use super::transport::{Authorisation, Inner, authorise};
use crate::error::{ApiError, Call};
use crate::request::Request;
use crate::response::Response;
use crate::upload::{Upload, UploadProgress, UploadSource};
use futures::StreamExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How often progress is told.
const TICK: Duration = Duration::from_millis(200);

impl Inner {
    pub(super) async fn upload(&self, request: &Request, upload: Upload<'_>) -> Result<Response, ApiError> {
        // An upload cannot be repeated, so a cheap call first makes sure that the endpoint is there and the
        // ticket good; it may log in or move to another endpoint.
        let version = Request::new(crate::Method::Get, crate::ApiPath::new(["version"]));
        let response = self.call(&version).await?;
        if !response.is_success() {
            return Ok(response);
        }
        let authorisation = self.authorisation().await?;
        let host = self.current_host();
        self.upload_to(host, request, &authorisation, upload).await
    }

    async fn upload_to(
        &self,
        host: &Host,
        request: &Request,
        authorisation: &Authorisation,
        upload: Upload<'_>,
    ) -> Result<Response, ApiError> {
        let lane = host.take_new().await?;
        let sent = Arc::new(AtomicU64::new(0));
        let total = upload.source.length;
        let form = multipart(request, upload.file_name, upload.source, sent.clone())?;
        let builder = lane.client().post(host.url(&request.upload_target()));
        let builder = authorise(builder, authorisation, request.method)?.multipart(form);
        let exchange = self.exchange(host, request, builder);
        tokio::pin!(exchange);
        let stall = self.config.timeouts.upload_stall;
        let (mut seen, mut moved_at) = (0, Instant::now());
        loop {
            tokio::select! {
                result = &mut exchange => {
                    (upload.progress)(UploadProgress { sent: sent.load(Ordering::Relaxed), total });
                    return result;
                }
                () = tokio::time::sleep(TICK) => {}
            }
            let now = sent.load(Ordering::Relaxed);
            if now != seen {
                (seen, moved_at) = (now, Instant::now());
                (upload.progress)(UploadProgress { sent: now, total });
            } else if moved_at.elapsed() >= stall {
                return Err(ApiError::Timeout { call: Call::of(request), after: stall });
            }
        }
    }
}

/// Returns the parameters and then the file, which must come last and be called `filename`.
// PVE: pve-http-server src/PVE/APIServer/AnyEvent.pm: a Content-Length is needed, no chunks.
fn multipart(
    request: &Request,
    file_name: String,
    source: UploadSource,
    sent: Arc<AtomicU64>,
) -> Result<reqwest::multipart::Form, ApiError> {
    let mut form = reqwest::multipart::Form::new();
    for param in request.params.iter().filter(|param| param.key() != "filename") {
        form = form.text(param.key().to_owned(), param.value().to_owned());
    }
    let counted =
        tokio_util::io::ReaderStream::with_capacity(source.reader, 256 << 10).inspect(move |chunk| {
            if let Ok(chunk) = chunk {
                sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
        });
    let file =
        reqwest::multipart::Part::stream_with_length(reqwest::Body::wrap_stream(counted), source.length)
            .file_name(file_name)
            .mime_str("application/octet-stream")
            .map_err(|_| ApiError::Unusable("the file's type cannot be sent".to_owned()))?;
    Ok(form.part("filename", file))
}
