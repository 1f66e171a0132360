//! The SSH doors: one per node, with real SSH in front and the lab's own shell and file tree behind.

mod connection;
mod sftp;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::shell::node::Node;
use crate::world::WorldHandle;
use connection::Connection;

/// The SSH doors of a lab, with the key that opens them.
#[derive(Default)]
pub(crate) struct SshDoors {
    addresses: BTreeMap<String, SocketAddr>,
    private_key: String,
    known_hosts: String,
    nodes: Vec<Arc<Node>>,
    shut: watch::Sender<bool>,
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

impl SshDoors {
    /// Opens a door for every node of the world, on 127.0.0.1 with a port of the system's choice. The key that opens
    /// them and the host keys are made anew.
    pub(crate) async fn start(world: WorldHandle) -> io::Result<Self> {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).map_err(failed)?;
        let public = key.public_key().to_openssh().map_err(failed)?;
        let mut doors = Self::default();
        doors.private_key = key.to_openssh(LineEnding::LF).map_err(failed)?.to_string();
        for name in world.with(|world| world.nodes.keys().cloned().collect::<Vec<_>>()) {
            let node = Node::new(world.clone(), &name);
            place_files(&node, &public);
            let host_key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).map_err(failed)?;
            let host_public = host_key.public_key().to_openssh().map_err(failed)?;
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            doors.known_hosts.push_str(&format!("[127.0.0.1]:{} {host_public}\n", address.port()));
            doors.addresses.insert(name, address);
            tokio::spawn(accept_all(
                listener,
                Arc::clone(&node),
                Arc::new(config(host_key)),
                doors.shut.subscribe(),
            ));
            doors.nodes.push(node);
        }
        Ok(doors)
    }
    /// Where the door of `node` is.
    pub(crate) fn addr(&self, node: &str) -> Option<SocketAddr> {
        self.addresses.get(node).copied()
    }
    /// The private key that lets root in, as OpenSSH PEM.
    pub(crate) fn private_key(&self) -> &str {
        &self.private_key
    }
    /// The host keys, one `[127.0.0.1]:PORT …` line per node.
    pub(crate) fn known_hosts(&self) -> String {
        self.known_hosts.clone()
    }
    /// Closes the doors, every connection, and every command that still runs.
    pub(crate) async fn stop(self) {
        self.shut.send_replace(true);
        self.nodes.iter().for_each(|node| node.processes.kill_all());
    }
}

impl Drop for SshDoors {
    fn drop(&mut self) {
        self.shut.send_replace(true);
        self.nodes.iter().for_each(|node| node.processes.kill_all());
    }
}

fn config(host_key: PrivateKey) -> russh::server::Config {
    let methods = [russh::MethodKind::PublicKey, russh::MethodKind::Password];
    russh::server::Config {
        server_id: russh::SshId::Standard("SSH-2.0-OpenSSH_10.0p2 Debian-7".into()),
        methods: russh::MethodSet::from(methods.as_slice()),
        auth_rejection_time: Duration::from_millis(20),
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![host_key],
        nodelay: true,
        max_auth_attempts: 6,
        inactivity_timeout: None,
        ..russh::server::Config::default()
    }
}

/// What lies on every node beside PVE's own: what deployers look at.
fn place_files(node: &Arc<Node>, public_key: &str) {
    let name = node.name.clone();
    let (address, version) = node.world.with(|world| {
        (world.nodes.get(&name).map(|node| node.address.clone()).unwrap_or_default(), world.version)
    });
    let (debian, codename) = if version.at_least(9, 0) { ("13", "trixie") } else { ("12", "bookworm") };
    let texts = [
        ("/etc/hostname", format!("{name}\n")),
        (
            "/etc/hosts",
            format!("127.0.0.1 localhost.localdomain localhost\n{address} {name}.lab.test {name}\n"),
        ),
        ("/etc/resolv.conf", "nameserver 127.0.0.1\n".to_owned()),
        ("/etc/debian_version", format!("{debian}.0\n")),
        (
            "/etc/os-release",
            format!(
                "PRETTY_NAME=\"Debian GNU/Linux {debian} ({codename})\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"{debian}\"\nVERSION=\"{debian} ({codename})\"\nVERSION_CODENAME={codename}\nID=debian\n"
            ),
        ),
        ("/root/.ssh/authorized_keys", format!("{public_key} lab\n")),
    ];
    node.files(|files| {
        for folder in
            ["/root/.ssh", "/var/lib/vz/snippets", "/var/lib/vz/template/iso", "/run/lock", "/mnt/pve"]
        {
            let _ = files.create_dir_all(folder);
        }
        for (path, text) in texts {
            if !files.exists(path) {
                let _ = files.write(path, text.as_bytes());
            }
        }
        let _ = files.set_mode("/root/.ssh", 0o700);
        let _ = files.set_mode("/root/.ssh/authorized_keys", 0o600);
    });
}

async fn accept_all(
    listener: TcpListener,
    node: Arc<Node>,
    config: Arc<russh::server::Config>,
    mut shutting: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                tokio::spawn(serve(stream, Arc::clone(&node), Arc::clone(&config), shutting.clone()));
            }
            _ = shutting.changed() => return,
        }
    }
}

/// Serves one connection. The bytes go through a pair of pipes, so that the line can be cut at any moment.
async fn serve(
    mut stream: TcpStream,
    node: Arc<Node>,
    config: Arc<russh::server::Config>,
    mut shutting: watch::Receiver<bool>,
) {
    let (is_up, delay) = node.world.with(|world| {
        (world.nodes.get(&node.name).is_some_and(|node| node.spec.up), world.delays.ssh_connect_ms)
    });
    if !is_up || *shutting.borrow() {
        return;
    }
    node.world.load().count(|counts| counts.ssh_connections += 1);
    let _ = stream.set_nodelay(true);
    node.world.pause(Duration::from_millis(delay)).await;
    let (mut outside, inside) = tokio::io::duplex(256 * 1024);
    let (connection, mut cut) = Connection::new(node);
    let session = tokio::spawn(async move {
        if let Ok(running) = russh::server::run_stream(config, inside, connection).await {
            let _ = running.await;
        }
    });
    tokio::select! {
        _ = tokio::io::copy_bidirectional_with_sizes(&mut stream, &mut outside, 64 * 1024, 64 * 1024) => {}
        _ = cut.wait_for(|cut| *cut) => {}
        _ = shutting.wait_for(|shut| *shut) => {}
    }
    drop(outside);
    // Whoever cut the line waits for this: nothing goes through it any more.
    drop(cut);
    session.abort();
}
