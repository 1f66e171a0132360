//! The HTTPS door.

mod answer;
mod body;
mod format;
mod request;
mod tls;
mod upload;
mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::error::LabError;
use crate::world::WorldHandle;

/// An open HTTPS door.
pub(crate) struct HttpsDoor {
    addr: SocketAddr,
    identity: tls::Identity,
    shut: watch::Sender<bool>,
}

/// What every connection needs.
#[derive(Clone)]
struct Door {
    world: WorldHandle,
    node: String,
    acceptor: TlsAcceptor,
}

impl HttpsDoor {
    /// Opens the API's door of `node` on 127.0.0.1.
    pub(crate) async fn start(world: WorldHandle, node: &str) -> Result<Self, LabError> {
        let identity = tls::Identity::new(node)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(LabError::Listen)?;
        let addr = listener.local_addr().map_err(LabError::Listen)?;
        let (shut, shutting) = watch::channel(false);
        let door = Door { world, node: node.to_owned(), acceptor: identity.acceptor() };
        tokio::spawn(accept_all(listener, door, shutting));
        Ok(Self { addr, identity, shut })
    }
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
    pub(crate) fn fingerprint(&self) -> &str {
        self.identity.fingerprint()
    }
    pub(crate) fn ca_pem(&self) -> &str {
        self.identity.ca_pem()
    }
    /// Stops listening and ends every connection (dropping the door does the same).
    pub(crate) fn stop(self) {
        self.shut.send_replace(true);
    }
}

async fn accept_all(listener: TcpListener, door: Door, mut shutting: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutting.changed() => return,
        };
        if let Ok((stream, _)) = accepted {
            let (door, mut shutting) = (door.clone(), shutting.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = serve_connection(stream, door) => {}
                    _ = shutting.changed() => {}
                }
            });
        }
    }
}

// PVE: pve-http-server src/PVE/APIServer/AnyEvent.pm: 100 requests a connection, 5 s idle.
const REQUESTS_PER_CONNECTION: u32 = 100;
const IDLE: Duration = Duration::from_secs(5);

/// The first byte of a TLS connection.
const TLS_HANDSHAKE: u8 = 22;

/// Tells a client that speaks plain HTTP where to go.
// PVE: pve-http-server src/PVE/APIServer/AnyEvent.pm accept_connections
async fn redirect(stream: TcpStream) {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let mut stream = BufReader::new(stream);
    let (mut line, mut host, mut path, mut is_read) = (String::new(), String::new(), String::from("/"), true);
    let head = async {
        while stream.read_line(&mut line).await.is_ok_and(|count| count > 2) {
            if let Some(name) = line.to_ascii_lowercase().strip_prefix("host:") {
                host = name.trim().to_owned();
            } else if line.contains(" HTTP/1.") {
                let mut words = line.split(' ');
                is_read = matches!(words.next(), Some("GET" | "HEAD"));
                path = words.next().unwrap_or("/").to_owned();
            }
            line.clear();
        }
    };
    if tokio::time::timeout(IDLE, head).await.is_err() {
        return;
    }
    let status = if is_read { "301 Moved Permanently" } else { "308 Permanent Redirect" };
    let answer = format!(
        "HTTP/1.1 {status}\r\nLocation: https://{host}{path}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    let _ = stream.get_mut().write_all(answer.as_bytes()).await;
}

async fn serve_connection(stream: TcpStream, door: Door) {
    let _ = stream.set_nodelay(true);
    let mut first = [0];
    match tokio::time::timeout(IDLE, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first[0] == TLS_HANDSHAKE => {}
        Ok(Ok(1)) => return redirect(stream).await,
        _ => return,
    }
    let Ok(Ok(mut stream)) = tokio::time::timeout(IDLE, door.acceptor.accept(stream)).await else { return };
    door.world.load().count(|counts| counts.api_connections += 1);
    let version = door.world.with(|world| world.version);
    let mut kept = Vec::new();
    for count in 1..=REQUESTS_PER_CONNECTION {
        let answered =
            match wire::read(&mut stream, &mut kept, |request| request::body_limit(request, version)).await {
                wire::Read::Gone => break,
                wire::Read::Refused(refusal) => {
                    Ok((answer::refused(&refusal, version, format::Format::Json), true))
                }
                wire::Read::Request(request) => {
                    let closes = request.closes;
                    request::answer(&door.world, &door.node, request).await.map(|answer| (answer, closes))
                }
            };
        let Ok((answer, wants_close)) = answered else { break };
        let now = door.world.with(|world| world.now_seconds());
        let closes = wants_close || count == REQUESTS_PER_CONNECTION || answer.status >= 400;
        if wire::write(&mut stream, &answer, now, closes).await.is_err() || closes {
            break;
        }
    }
    let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
}
