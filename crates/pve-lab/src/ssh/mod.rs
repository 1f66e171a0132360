//! The SSH listeners: one per node, with real SSH in front and the lab's own shell and file tree behind.

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
use crate::world::{World, WorldHandle};
use connection::Connection;

/// The SSH listeners of a lab, with the key that they accept.
#[derive(Default)]
pub(crate) struct SshListeners {
    addresses: BTreeMap<String, SocketAddr>,
    private_key: String,
    known_hosts: String,
    nodes: Vec<Arc<Node>>,
    shut: watch::Sender<bool>,
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

impl SshListeners {
    /// Opens a listener for every node of the world. The key that they accept and the host keys are generated.
    ///
    /// The API's node listens on 127.0.0.1, the others on 127.0.0.2 and so on with the same port, and `/cluster/status`
    /// shows these addresses: one `PROXMOX_SSH_PORT` leads to every node. If the system has no such address, a node listens
    /// on 127.0.0.1 with a port of its own.
    pub(crate) async fn start(world: WorldHandle) -> io::Result<Self> {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).map_err(failed)?;
        let public = key.public_key().to_openssh().map_err(failed)?;
        let mut listeners = Self::default();
        listeners.private_key = key.to_openssh(LineEnding::LF).map_err(failed)?.to_string();
        let names = world.with(|world| {
            let others = world.nodes.keys().filter(|name| **name != world.api_node).cloned();
            std::iter::once(world.api_node.clone()).chain(others).collect::<Vec<_>>()
        });
        let mut port = 0;
        for (index, name) in names.into_iter().enumerate() {
            let listener = bind(index, port).await?;
            let address = listener.local_addr()?;
            if index == 0 {
                port = address.port();
            } else if address.ip() != Ipv4Addr::LOCALHOST {
                world.with(|world| set_address(world, &name, address));
            }
            let node = Node::new(world.clone(), &name);
            place_files(&node, &public);
            let host_key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).map_err(failed)?;
            let host_public = host_key.public_key().to_openssh().map_err(failed)?;
            let known = format!("[{}]:{} {host_public}\n", address.ip(), address.port());
            listeners.known_hosts.push_str(&known);
            listeners.addresses.insert(name, address);
            tokio::spawn(accept_all(
                listener,
                Arc::clone(&node),
                Arc::new(config(host_key)),
                listeners.shut.subscribe(),
            ));
            listeners.nodes.push(node);
        }
        Ok(listeners)
    }
    /// The address of the listener of `node`.
    pub(crate) fn addr(&self, node: &str) -> Option<SocketAddr> {
        self.addresses.get(node).copied()
    }
    /// The private key that lets root in, as OpenSSH PEM.
    pub(crate) fn private_key(&self) -> &str {
        &self.private_key
    }
    /// The host keys, one `[ADDRESS]:PORT …` line per node.
    pub(crate) fn known_hosts(&self) -> String {
        self.known_hosts.clone()
    }
    /// Closes the listeners, every connection, and every running command.
    pub(crate) async fn stop(self) {
        self.shut.send_replace(true);
        self.nodes.iter().for_each(|node| node.processes.kill_all());
    }
}

impl Drop for SshListeners {
    fn drop(&mut self) {
        self.shut.send_replace(true);
        self.nodes.iter().for_each(|node| node.processes.kill_all());
    }
}

/// Binds the listener of the node with this index: see [`SshListeners::start`].
async fn bind(index: usize, port: u16) -> io::Result<TcpListener> {
    if let (1.., Ok(last)) = (index, u8::try_from(index + 1))
        && let Ok(listener) = TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), port)).await
    {
        return Ok(listener);
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
}

/// Sets the address that the cluster reports for a node, unless the world file sets one.
fn set_address(world: &mut World, name: &str, address: SocketAddr) {
    if let Some(node) = world.nodes.get_mut(name).filter(|node| node.spec.address.is_none()) {
        node.address = address.ip().to_string();
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

/// Files on every node in addition to PVE's own.
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
    // The fault waits for this: nothing passes through the connection any more.
    drop(cut);
    session.abort();
}
