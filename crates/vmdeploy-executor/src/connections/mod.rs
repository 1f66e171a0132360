//! The connections of a run: the API client, and the hosts that are reached by SSH.

mod config;
mod pvesh;
mod ssh;

pub use config::{ApiAccess, ConnectionsConfig, SshAccess};

use crate::{Failure, FailureKind};
use pve_api::{Client, ClientConfig, Credentials, Endpoint, SecondFactor, SecondFactorSource, Trust};
use pve_ssh::Host;
use pve_types::NodeName;
use ssh::SshPool;
use std::sync::Arc;

/// The connections of a run. Cloning is cheap; clones share everything.
#[derive(Debug, Clone)]
pub struct Connections {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    api: Client,
    user: Option<String>,
    ssh: Option<SshPool>,
}

impl Connections {
    /// Makes the connections ready. Each is made when it is first needed.
    ///
    /// # Errors
    /// When the configuration names no transport, contradicts itself, or holds a certificate that cannot be read.
    pub async fn open(config: ConnectionsConfig) -> Result<Self, Failure> {
        let ssh = match config.ssh {
            Some(access) => Some(SshPool::new(access).await?),
            None => None,
        };
        let user = config.api.as_ref().map(|api| api.user.clone());
        let client = match (config.api, &ssh) {
            (Some(api), _) => Client::https(client_config(api)?).map_err(Failure::from)?,
            (None, Some(ssh)) => Client::pvesh(Arc::new(pvesh::Runner(ssh.first()))),
            (None, None) => {
                let text = "neither the API nor SSH is configured";
                return Err(Failure::new(FailureKind::Unreachable, text).hint(
                    "set PROXMOX_API_HOST and its credentials, or PROXMOX_SSH_HOST; `make init` writes a .env to fill in",
                ));
            }
        };
        Ok(Self { inner: Arc::new(Inner { api: client, user, ssh }) })
    }
    /// Makes connections of clients that exist already.
    ///
    /// # Errors
    /// When the SSH configuration contradicts itself.
    pub async fn from_client(
        api: Client,
        user: Option<String>,
        ssh: Option<SshAccess>,
    ) -> Result<Self, Failure> {
        let ssh = match ssh {
            Some(access) => Some(SshPool::new(access).await?),
            None => None,
        };
        Ok(Self { inner: Arc::new(Inner { api, user, ssh }) })
    }
    /// Returns the API client: over HTTPS, or through `pvesh` where there is SSH alone.
    pub fn api(&self) -> &Client {
        &self.inner.api
    }
    /// Returns the API's user or token; `None` on the `ssh` transport, where root does everything.
    pub fn user(&self) -> Option<&str> {
        self.inner.user.as_deref()
    }
    /// Tells whether nodes can be reached by SSH.
    pub fn has_ssh(&self) -> bool {
        self.inner.ssh.is_some()
    }
    /// Tells whether API calls go through `pvesh`.
    pub fn is_pvesh(&self) -> bool {
        self.inner.api.kind() == pve_api::TransportKind::Pvesh
    }
    /// Returns the node as a host that commands run on.
    ///
    /// # Errors
    /// If SSH is not configured, or the node's address is not known.
    pub async fn host(&self, node: &NodeName) -> Result<Host, Failure> {
        self.pool()?.host(node, &self.inner.api).await
    }
    /// Returns the host that the configuration names, whichever node it is.
    ///
    /// # Errors
    /// When there is no SSH.
    pub fn first_host(&self) -> Result<Host, Failure> {
        Ok(self.pool()?.first())
    }
    /// Closes what is open.
    pub async fn close(&self) {
        if let Some(ssh) = &self.inner.ssh {
            ssh.close().await;
        }
    }
    fn pool(&self) -> Result<&SshPool, Failure> {
        self.inner.ssh.as_ref().ok_or_else(|| {
            Failure::new(FailureKind::Unreachable, "this requires SSH to the node, which is not configured")
                .hint("set PROXMOX_SSH_HOST, PROXMOX_SSH_USER and PROXMOX_SSH_KEY, or use `transport: api`")
        })
    }
}

/// Returns the API client's own configuration.
fn client_config(api: ApiAccess) -> Result<ClientConfig, Failure> {
    let unusable = |error: &dyn std::error::Error| {
        Failure::new(FailureKind::Unauthenticated, error.to_string()).because(error)
    };
    let given =
        api.totp.as_ref().map(|code| SecondFactorSource::Value(SecondFactor::from_text(code.expose())));
    // A token never needs one, whatever the environment holds.
    let asked = if api.user.contains('!') { SecondFactorSource::None } else { api.ask_second_factor.clone() };
    let factor = given.unwrap_or(asked);
    let credentials = Credentials::from_user(&api.user, api.secret.clone(), factor).map_err(|error| {
        unusable(&error).hint("correct PROXMOX_API_USER: `user@realm`, or `user@realm!token`")
    })?;
    let mut endpoints = api.hosts.iter().map(|host| Endpoint::new(host, api.port));
    let first = endpoints
        .next()
        .ok_or_else(|| Failure::new(FailureKind::Unreachable, "no API host is configured"))?;
    let fingerprint = api.fingerprint.as_deref().map(str::parse).transpose();
    let fingerprint = fingerprint.map_err(|error: pve_types::ParseError| {
        unusable(&error).hint(
            "correct PROXMOX_API_FINGERPRINT or the spec's `fingerprint`; `pvenode cert info` on the node shows it",
        )
    })?;
    let trust = Trust {
        ca_pem: api.ca_pem.clone().map(String::into_bytes),
        fingerprints: fingerprint.into_iter().collect(),
    };
    Ok(endpoints.fold(ClientConfig::new(first, credentials).with_trust(trust), ClientConfig::with_endpoint))
}
