//! HTTP/1 as PVE's own server reads and writes it.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::body::Body;
use crate::api::Refusal;

/// A request, read whole.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// `GET`, …
    pub method: String,
    /// The path, not decoded.
    pub path: String,
    /// What stands after `?`.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
    /// Whether the client wants the connection closed after it.
    pub closes: bool,
}

impl Request {
    /// A header's value, empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// What came of reading.
pub(super) enum Read {
    /// A request.
    Request(Request),
    /// What is not a request, or not one that is taken: the answer to it.
    Refused(Refusal),
    /// The client is gone, or was silent for too long, or went on too long with its head.
    Gone,
}

// PVE: pve-http-server src/PVE/APIServer/AnyEvent.pm: limits of a request's head.
const HEAD_BYTES: usize = 8 << 10;
const HEADER_LINES: usize = 64;
const IDLE: Duration = Duration::from_secs(5);
const BODY_PAUSE: Duration = Duration::from_secs(30);
/// Bytes of a body that are read at once.
const PIECE: usize = 64 << 10;

/// Reads one request; `kept` holds what was read beyond the one before. `limit` says how long a body may be.
pub(super) async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    kept: &mut Vec<u8>,
    limit: impl Fn(&Request) -> Option<usize>,
) -> Read {
    let head = loop {
        if let Some(end) = find_end(kept) {
            let rest = kept.split_off(end);
            break std::mem::replace(kept, rest);
        }
        if kept.len() >= HEAD_BYTES {
            return Read::Gone;
        }
        match tokio::time::timeout(IDLE, stream.read_buf(kept)).await {
            Ok(Ok(count)) if count > 0 => {}
            _ => return Read::Gone,
        }
    };
    let mut request = match parse_head(&head) {
        Ok(Some(request)) => request,
        Ok(None) => return Read::Gone,
        Err(refusal) => return Read::Refused(refusal),
    };
    match request.header("transfer-encoding") {
        "" => {}
        "chunked" => return Read::Refused(Refusal::new(501, "chunked transfer encoding not supported")),
        other => return Read::Refused(Refusal::new(501, format!("Unknown transfer encoding '{other}'"))),
    }
    let length: usize = request.header("content-length").trim().parse().unwrap_or(0);
    if limit(&request).is_some_and(|limit| length > limit) {
        return Read::Refused(Refusal::new(501, "for data too large"));
    }
    if length > 0 && request.header("expect").eq_ignore_ascii_case("100-continue") && kept.is_empty() {
        let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
    }
    let rest = kept.split_off(length.min(kept.len()));
    let mut piece = std::mem::replace(kept, rest);
    let mut left = length - piece.len();
    loop {
        if request.body.push(&piece).is_err() {
            return Read::Refused(Refusal::new(500, "write failed - No space left on device"));
        }
        if left == 0 {
            return Read::Request(request);
        }
        piece.clear();
        piece.reserve(left.min(PIECE));
        let mut part = (&mut *stream).take(left.min(PIECE) as u64);
        match tokio::time::timeout(BODY_PAUSE, part.read_buf(&mut piece)).await {
            Ok(Ok(count)) if count > 0 => left -= count,
            _ => return Read::Gone,
        }
    }
}

/// Where the head ends: after its empty line.
fn find_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|part| part == b"\r\n\r\n").map(|at| at + 4)
}

/// Takes a head apart; `None` for one with too many lines.
fn parse_head(head: &[u8]) -> Result<Option<Request>, Refusal> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
    let bad = || Refusal::new(400, "bad request");
    let mut words = lines.next().unwrap_or_default().split_whitespace();
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad());
    };
    let minor = version.strip_prefix("HTTP/1.").ok_or_else(|| match version.starts_with("HTTP/") {
        true => Refusal::new(506, format!("http protocol version {} not supported", &version[5..])),
        false => bad(),
    })?;
    let mut request = Request { method: method.to_owned(), ..Request::default() };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !path.starts_with('/') {
        let text = if path.contains('@') { "invalid url" } else { "bad request" };
        return Err(Refusal::new(400, text));
    }
    (request.path, request.query) = (path.to_owned(), query.to_owned());
    for line in lines {
        let (name, value) =
            line.split_once(':').ok_or_else(|| Refusal::new(506, "unable to parse request header"))?;
        request.headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    if request.headers.len() >= HEADER_LINES {
        return Ok(None);
    }
    let connection = request.header("connection").to_ascii_lowercase();
    request.closes = connection.contains("close") || (minor == "0" && !connection.contains("keep-alive"));
    Ok(Some(request))
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The status.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// The body's type; empty without a body.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

/// Writes an answer, with the headers that every one has; `closes` says what becomes of the connection.
pub(super) async fn write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    answer: &Answer,
    now: u64,
    closes: bool,
) -> std::io::Result<()> {
    let date = crate::calendar::http_date(now);
    let connection = if closes { "close" } else { "Keep-Alive" };
    let mut text = format!(
        "HTTP/1.1 {} {}\r\nCache-Control: max-age=0\r\nConnection: {connection}\r\nDate: {date}\r\nPragma: no-cache\r\n\
         Server: pve-api-daemon/3.0\r\nExpires: {date}\r\n",
        answer.status, answer.reason
    );
    if !answer.body.is_empty() {
        text.push_str(&format!(
            "Content-Length: {}\r\nContent-Type: {}\r\n",
            answer.body.len(),
            answer.content_type
        ));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(&answer.body);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(text: &str, expect: Result<(&str, &str, &str), (u16, &str)>) {
        let (mut client, mut server) = tokio::io::duplex(1 << 16);
        client.write_all(text.as_bytes()).await.unwrap();
        let mut kept = Vec::new();
        let got = match read(&mut server, &mut kept, |_| Some(1024)).await {
            Read::Request(request) => Ok((
                request.method,
                format!("{}?{}", request.path, request.query),
                String::from_utf8(request.body.small().to_vec()).unwrap(),
            )),
            Read::Refused(refusal) => Err((refusal.status, refusal.message)),
            Read::Gone => Err((0, "gone".to_owned())),
        };
        let expect = expect
            .map(|(method, path, body)| (method.to_owned(), path.to_owned(), body.to_owned()))
            .map_err(|(status, text)| (status, text.to_owned()));
        assert_eq!(got, expect, "{text}");
    }

    #[tokio::test]
    async fn requests_are_read_as_pves_server_reads_them() {
        check("GET /a>b?c=d HTTP/1.1\r\nHost: x\r\n\r\n", Ok(("GET", "/a>b?c=d", ""))).await;
        check("POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcd", Ok(("POST", "/a?", "abc"))).await;
        check("POST /a HTTP/1.1\r\nContent-Length: 2000\r\n\r\n", Err((501, "for data too large"))).await;
        let chunked = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(chunked, Err((501, "chunked transfer encoding not supported"))).await;
        check("hello\r\n\r\n", Err((400, "bad request"))).await;
        check("GET /a HTTP/1.1\r\nnonsense\r\n\r\n", Err((506, "unable to parse request header"))).await;
        let many: String = (0..64).map(|number| format!("X-{number}: 1\r\n")).collect();
        check(&format!("GET /a HTTP/1.1\r\n{many}\r\n"), Err((0, "gone"))).await;
    }
}
