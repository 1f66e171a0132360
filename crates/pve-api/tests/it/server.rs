//! A small HTTPS server that answers as a test says: dropped connections, odd phrases, changed certificates.

use pve_api::{
    Client, ClientConfig, Credentials, Endpoint, Fingerprint, SecondFactorSource, Timeouts, Trust,
};
use pve_types::Secret;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Which connection, from 0.
    pub connection: usize,
    pub method: String,
    pub target: String,
    /// The head, as it came.
    pub head: String,
    pub body: Vec<u8>,
    /// How many reads it took until all of it was there.
    pub reads: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What to do with a request.
#[derive(Debug, Clone)]
pub struct Reply {
    bytes: Vec<u8>,
    close: bool,
    delay: Duration,
}

impl Reply {
    pub fn json(body: &str) -> Self {
        Self::status("200 OK", body)
    }
    pub fn status(status: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: Keep-Alive\r\n\r\n");
        Self::raw([head.as_bytes(), body.as_bytes()].concat())
    }
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), close: false, delay: Duration::ZERO }
    }
    /// Closes the connection without an answer.
    pub fn drop() -> Self {
        Self::raw("").and_close()
    }
    pub fn and_close(mut self) -> Self {
        self.close = true;
        self
    }
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

type Answer = dyn Fn(&Seen) -> Reply + Send + Sync;

/// The server, and what it has seen.
pub struct Server {
    pub address: SocketAddr,
    pub fingerprint: Fingerprint,
    pub ca_pem: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    in_flight: Arc<(AtomicUsize, AtomicUsize)>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Certificate {
    tls: Arc<rustls::ServerConfig>,
    fingerprint: Fingerprint,
    ca_pem: String,
}

fn certificate() -> Certificate {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new([]).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    let fingerprint = Fingerprint::of_der(leaf.der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let private = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .unwrap();
    Certificate { tls: Arc::new(tls), fingerprint, ca_pem }
}

impl Server {
    pub async fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let certificate = certificate();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, in_flight) = (Arc::new(Mutex::new(Vec::new())), Arc::default());
        let acceptor = TlsAcceptor::from(certificate.tls);
        let shared = (seen.clone(), Arc::clone(&in_flight), Arc::new(answer) as Arc<Answer>);
        let accepting = tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, (seen, in_flight, answer)) = (acceptor.clone(), shared.clone());
                let number = connection;
                connection += 1;
                tokio::spawn(async move {
                    if let Ok(tls) = acceptor.accept(socket).await {
                        serve(tls, number, &seen, &in_flight, &*answer).await;
                    }
                });
            }
        });
        let (fingerprint, ca_pem) = (certificate.fingerprint, certificate.ca_pem);
        Self { address, fingerprint, ca_pem, seen, in_flight, accepting }
    }
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
    /// The most requests that were being answered at one time.
    pub fn most_in_flight(&self) -> usize {
        self.in_flight.1.load(Ordering::SeqCst)
    }
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new("127.0.0.1", self.address.port()).with_fingerprint(self.fingerprint)
    }
    pub fn config(&self, credentials: Credentials) -> ClientConfig {
        ClientConfig::new(self.endpoint(), credentials).with_trust(Trust::system()).with_timeouts(timeouts())
    }
    pub fn client(&self, credentials: Credentials) -> Client {
        Client::https(self.config(credentials)).unwrap()
    }
}

pub fn timeouts() -> Timeouts {
    let long = Duration::from_secs(20);
    Timeouts { connect: long, request: long, body: long, upload_stall: long }
}

pub fn token() -> Credentials {
    let secret = Secret::new("11111111-2222-3333-4444-555555555555");
    Credentials::from_user("root@pam!ci", secret, SecondFactorSource::None).unwrap()
}

pub fn password(factor: SecondFactorSource) -> Credentials {
    Credentials::from_user("ann@pve", Secret::new("annspassword"), factor).unwrap()
}

async fn serve(
    mut stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    connection: usize,
    seen: &Mutex<Vec<Seen>>,
    in_flight: &(AtomicUsize, AtomicUsize),
    answer: &Answer,
) {
    loop {
        let Some(request) = read_request(&mut stream, connection).await else { return };
        let now = in_flight.0.fetch_add(1, Ordering::SeqCst) + 1;
        in_flight.1.fetch_max(now, Ordering::SeqCst);
        seen.lock().unwrap().push(request.clone());
        let reply = answer(&request);
        if reply.delay > Duration::ZERO {
            tokio::time::sleep(reply.delay).await;
        }
        in_flight.0.fetch_sub(1, Ordering::SeqCst);
        let written = stream.write_all(&reply.bytes).await.is_ok() && stream.flush().await.is_ok();
        if reply.close || !written {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

async fn read_request(
    stream: &mut tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    connection: usize,
) -> Option<Seen> {
    let (mut bytes, mut reads) = (Vec::new(), 0);
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
        reads += 1;
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut parts = head.split_whitespace();
    let (method, target) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut request = Seen { connection, method, target, head, body: bytes[end + 4..].to_vec(), reads };
    let length: usize = request.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    while request.body.len() < length {
        let mut chunk = vec![0; 64 << 10];
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        request.body.extend_from_slice(&chunk[..count]);
        request.reads += 1;
    }
    Some(request)
}
