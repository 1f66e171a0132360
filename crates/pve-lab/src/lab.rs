//! A running lab.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use tokio::task::JoinHandle;

use crate::error::LabError;
use crate::fault::Fault;
use crate::http::HttpsDoor;
use crate::ssh::SshDoors;
use crate::world::{World, WorldHandle, WorldSpec};

/// What a lab starts with.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// The world.
    pub world: WorldSpec,
    /// What goes wrong in it.
    pub faults: Vec<Fault>,
    /// The seed of everything random in it: MAC addresses, UUIDs, secrets.
    pub seed: u64,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self { world: WorldSpec::demo(), faults: Vec::new(), seed: 1 }
    }
}

/// A background task that ends with its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A running lab; dropped or stopped, its doors are shut.
pub struct Lab {
    world: WorldHandle,
    https: HttpsDoor,
    ssh: SshDoors,
    agenda: AbortOnDrop,
    token: Option<(String, String)>,
    root_password: String,
}

impl Lab {
    /// Starts a lab: both doors listen on 127.0.0.1, on ports of the system's choice, when this returns.
    ///
    /// # Errors
    /// A door could not be opened.
    pub async fn start(options: LabOptions) -> Result<Self, LabError> {
        let mut world = World::new(&options.world, options.seed);
        world.faults = crate::fault::Faults::new(options.faults, options.seed);
        if world.nodes.is_empty() {
            return Err(LabError::NoNode);
        }
        let token = options.world.token.as_ref().and_then(|token| {
            let (_, found) = world.access.token(&token.id)?;
            Some((token.id.clone(), found.secret.clone()))
        });
        let root_password =
            world.access.users.get("root@pam").and_then(|root| root.password.clone()).unwrap_or_default();
        let door = world.door.clone();
        let world = WorldHandle::new(world);
        let https = HttpsDoor::start(world.clone(), &door).await?;
        let ssh = SshDoors::start(world.clone()).await.map_err(LabError::Listen)?;
        let agenda = AbortOnDrop(tokio::spawn(world.clone().run_agenda()));
        Ok(Self { world, https, ssh, agenda, token, root_password })
    }
    /// Where the API listens.
    pub fn api_addr(&self) -> SocketAddr {
        self.https.addr()
    }
    /// The certificate's SHA-256, as `AA:BB:…`.
    pub fn fingerprint(&self) -> &str {
        self.https.fingerprint()
    }
    /// The certificate of the lab's own authority, as PEM.
    pub fn ca_pem(&self) -> &str {
        self.https.ca_pem()
    }
    /// The world's token and its secret, when it has one.
    pub fn token(&self) -> Option<(&str, &str)> {
        self.token.as_ref().map(|(id, secret)| (id.as_str(), secret.as_str()))
    }
    /// The password of root@pam.
    pub fn root_password(&self) -> &str {
        &self.root_password
    }
    /// Where the SSH door of `node` listens.
    pub fn ssh_addr(&self, node: &str) -> Option<SocketAddr> {
        self.ssh.addr(node)
    }
    /// The private key that lets root in over SSH, as OpenSSH PEM.
    pub fn ssh_private_key(&self) -> &str {
        self.ssh.private_key()
    }
    /// The host keys of the SSH doors, in the form of a known_hosts file.
    pub fn known_hosts(&self) -> String {
        self.ssh.known_hosts()
    }
    /// The world, to look at it and to change it.
    pub fn world(&self) -> WorldHandle {
        self.world.clone()
    }
    /// Writes `lab_key` (0600), `known_hosts` and `ca.pem` into `dir`, and returns the environment that leads a client
    /// here: the `PROXMOX_…` names, and `PVE_LAB_ROOT_PASSWORD`.
    ///
    /// # Errors
    /// A file could not be written.
    pub fn write_environment(&self, dir: &Path) -> io::Result<Vec<(String, String)>> {
        std::fs::create_dir_all(dir)?;
        let (key, hosts, ca) = (dir.join("lab_key"), dir.join("known_hosts"), dir.join("ca.pem"));
        write_private(&key, self.ssh_private_key())?;
        std::fs::write(&hosts, self.known_hosts())?;
        std::fs::write(&ca, self.ca_pem())?;
        let node = self.world.with(|world| world.door.clone());
        let (user, password) = match self.token() {
            Some((id, secret)) => (id.to_owned(), secret.to_owned()),
            None => ("root@pam".to_owned(), self.root_password.clone()),
        };
        let ssh_port = self.ssh_addr(&node).map_or(22, |addr| addr.port());
        let pairs = [
            ("PROXMOX_API_HOST", self.api_addr().ip().to_string()),
            ("PROXMOX_API_PORT", self.api_addr().port().to_string()),
            ("PROXMOX_API_USER", user),
            ("PROXMOX_API_PASSWORD", password),
            ("PROXMOX_API_CA", ca.display().to_string()),
            ("PROXMOX_API_FINGERPRINT", self.fingerprint().to_owned()),
            ("PROXMOX_NODE", node),
            ("PROXMOX_SSH_HOST", self.api_addr().ip().to_string()),
            ("PROXMOX_SSH_PORT", ssh_port.to_string()),
            ("PROXMOX_SSH_USER", "root".to_owned()),
            ("PROXMOX_SSH_KEY", key.display().to_string()),
            ("PROXMOX_SSH_KNOWN_HOSTS", hosts.display().to_string()),
            ("PVE_LAB_ROOT_PASSWORD", self.root_password.clone()),
        ];
        Ok(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
    /// Shuts both doors and ends every connection.
    pub async fn stop(self) {
        drop(self.agenda);
        self.https.stop();
        self.ssh.stop().await;
    }
}

#[cfg(unix)]
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())
}

#[cfg(not(unix))]
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text)
}
