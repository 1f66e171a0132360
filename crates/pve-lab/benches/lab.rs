//! How fast the lab is with 2,000 VMs: from start to ready, and requests a second over HTTPS on one core.
//!
//! `cargo bench -p pve-lab --bench lab`. Client and server share one thread, so a figure holds the client's half too:
//! its TLS, its reading. Connections are kept alive as far as PVE keeps them, which is for 100 requests; the handshakes
//! in between are counted. Times are CPU time of the thread where the system tells it, else wall-clock time; of several
//! rounds the best counts, for what disturbs only ever adds.

#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pve_lab::{Lab, LabOptions, WorldSpec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

const VMS: u32 = 2_000;
const ROUNDS: u32 = 5;
const REQUESTS_PER_CONNECTION: u32 = 100;

type Failed = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failed> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run())
}

async fn run() -> Result<(), Failed> {
    let spec = WorldSpec::from_yaml(&world_text())?;
    let mut ready = Duration::MAX;
    for _ in 0..ROUNDS {
        let world = spec.clone();
        let watch = Watch::start();
        let lab = Lab::start(LabOptions { world, ..LabOptions::default() }).await?;
        ready = ready.min(watch.stop());
        lab.stop().await;
    }
    let lab = Lab::start(LabOptions { world: spec, ..LabOptions::default() }).await?;
    let client = Client::new(&lab)?;
    println!("| the lab with {VMS} VMs | | wanted |");
    println!("|---|---|---|");
    println!("| start to ready | {:.1} ms | less than 100 ms |", ready.as_secs_f64() * 1e3);
    let wanted = "at least 1000/s";
    for (what, method, path, body, count, wanted) in [
        ("the version", "GET", "/version", "", 2_000, wanted),
        ("a VM's status", "GET", "/nodes/pve1/qemu/{vmid}/status/current", "", 2_000, wanted),
        ("a VM's configuration", "GET", "/nodes/pve1/qemu/{vmid}/config", "", 2_000, wanted),
        ("a change of a VM", "PUT", "/nodes/pve1/qemu/{vmid}/config", "description=x", 2_000, wanted),
        ("a start, with its task", "POST", "/nodes/pve1/qemu/{vmid}/status/start", "", 300, wanted),
        ("the list of VMs", "GET", "/nodes/pve1/qemu", "", 50, ""),
        ("the cluster's resources", "GET", "/cluster/resources", "", 50, ""),
    ] {
        let mut best = Duration::MAX;
        for round in 0..ROUNDS {
            let watch = Watch::start();
            client.send(method, path, body, round * count, count).await?;
            best = best.min(watch.stop());
        }
        let rate = f64::from(count) / best.as_secs_f64();
        println!("| {what}: `{method} {path}` | {rate:.0}/s | {wanted} |");
    }
    lab.stop().await;
    Ok(())
}

fn world_text() -> String {
    let mut text = String::from(
        "token: {id: 'root@pam!lab', privsep: false}\nnodes: {pve1: {memory: 64TiB}}\nguests:\n",
    );
    for vmid in 1000..1000 + VMS {
        let _ = writeln!(
            text,
            "  {vmid}: {{node: pve1, config: {{name: vm{vmid}, cores: '2', memory: '1024', scsihw: virtio-scsi-single, \
             scsi0: 'local-lvm:vm-{vmid}-disk-0,size=32M', net0: 'virtio=BC:24:11:00:{:02X}:{:02X},bridge=vmbr0'}}}}",
            vmid >> 8 & 255,
            vmid & 255
        );
    }
    text
}

/// Measures a stretch of this thread's work.
struct Watch(Instant, Option<Duration>);

impl Watch {
    fn start() -> Self {
        Self(Instant::now(), cpu_time())
    }
    fn stop(self) -> Duration {
        match (self.1, cpu_time()) {
            (Some(before), Some(after)) => after - before,
            _ => self.0.elapsed(),
        }
    }
}

/// The CPU time that this thread has used, where the system tells.
fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(stat.split_whitespace().next()?.parse().ok()?))
}

/// As little of a client as there can be.
struct Client {
    connector: TlsConnector,
    address: std::net::SocketAddr,
    authorization: String,
}

impl Client {
    fn new(lab: &Lab) -> Result<Self, Failed> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(lab.ca_pem().as_bytes())?)?;
        let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (id, secret) = lab.token().ok_or("the world has no token")?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            address: lab.api_addr(),
            authorization: format!("PVEAPIToken={id}={secret}"),
        })
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, Failed> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(self.connector.connect(ServerName::try_from("localhost")?, stream).await?)
    }

    /// Sends so many requests, one after the other, to one VM after the other; each must succeed.
    async fn send(&self, method: &str, path: &str, body: &str, from: u32, count: u32) -> Result<(), Failed> {
        let mut stream = self.connect().await?;
        let mut answer = Vec::new();
        for number in 0..count {
            if number > 0 && number % REQUESTS_PER_CONNECTION == 0 {
                stream = self.connect().await?;
            }
            let path = path.replace("{vmid}", &(1000 + (from + number) % VMS).to_string());
            let request = format!(
                "{method} /api2/json{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nContent-Length: {}\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
                self.authorization,
                body.len()
            );
            stream.write_all(request.as_bytes()).await?;
            stream.flush().await?;
            read_answer(&mut stream, &mut answer).await?;
            if !answer.starts_with(b"HTTP/1.1 200 ") {
                return Err(format!("{method} {path}: {}", String::from_utf8_lossy(&answer)).into());
            }
        }
        Ok(())
    }
}

async fn read_answer(stream: &mut TlsStream<TcpStream>, answer: &mut Vec<u8>) -> Result<(), Failed> {
    answer.clear();
    let mut whole = None;
    while whole.is_none_or(|length| answer.len() < length) {
        if stream.read_buf(answer).await? == 0 {
            return Err("the lab closed the connection".into());
        }
        if whole.is_none()
            && let Some(end) = answer.windows(4).position(|part| part == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&answer[..end]);
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            whole = Some(end + 4 + length.map_or(Ok(0), str::parse)?);
        }
    }
    Ok(())
}
