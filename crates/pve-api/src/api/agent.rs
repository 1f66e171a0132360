//! `/nodes/{node}/qemu/{vmid}/agent`: the guest agent.

use crate::client::Place;
use crate::error::ApiError;
use crate::request::Params;
use pve_types::{MacAddr, PveError, Secret};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The agent of a VM.
#[derive(Debug, Clone)]
pub struct Agent {
    place: Place,
}

/// What keeps the agent from answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentTrouble {
    /// The VM's configuration has no agent: there is nothing to wait for.
    NotConfigured,
    /// The agent is configured and does not run, or not yet.
    NotRunning,
    /// The VM itself does not run.
    VmNotRunning,
    /// The agent runs and did not answer in time.
    TimedOut,
}

impl AgentTrouble {
    /// Returns which trouble `error` is, or `None` if it is about something else.
    // PVE: qemu-server src/PVE/QemuServer/Agent.pm, qemu-server src/PVE/API2/Qemu/Agent.pm.
    pub fn of(error: &ApiError) -> Option<Self> {
        match error.meaning()? {
            PveError::AgentNotConfigured => Some(Self::NotConfigured),
            PveError::AgentNotRunning => Some(Self::NotRunning),
            PveError::NotRunning => Some(Self::VmNotRunning),
            PveError::AgentTimeout => Some(Self::TimedOut),
            _ => None,
        }
    }
}

/// A network interface, as the guest sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GuestInterface {
    /// Its name in the guest.
    pub name: String,
    /// Its MAC address.
    #[serde(rename = "hardware-address", default, deserialize_with = "mac_if_one")]
    pub mac: Option<MacAddr>,
    /// Its addresses, in the guest's order.
    #[serde(rename = "ip-addresses", default)]
    pub addresses: Vec<GuestAddress>,
}

/// An address of a guest's interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GuestAddress {
    /// The address.
    #[serde(rename = "ip-address")]
    pub address: IpAddr,
    /// The length of its network's prefix.
    pub prefix: Option<u8>,
}

impl GuestInterface {
    /// Returns an interface, for tests and other sources of addresses.
    pub fn new(name: &str, mac: Option<MacAddr>, addresses: impl IntoIterator<Item = (IpAddr, u8)>) -> Self {
        let addresses = addresses
            .into_iter()
            .map(|(address, prefix)| GuestAddress { address, prefix: Some(prefix) })
            .collect();
        Self { name: name.to_owned(), mac, addresses }
    }
}

/// Takes what is a MAC address and leaves out what is none, as tunnels have.
fn mac_if_one<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<MacAddr>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.and_then(|text| text.parse().ok()))
}

/// What the guest runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GuestOs {
    /// `debian`, `mswindows` …
    pub id: Option<String>,
    /// `Debian GNU/Linux`.
    pub name: Option<String>,
    /// `Debian GNU/Linux 13 (trixie)`.
    #[serde(rename = "pretty-name")]
    pub pretty_name: Option<String>,
    /// `13 (trixie)`.
    pub version: Option<String>,
    /// `13`.
    #[serde(rename = "version-id")]
    pub version_id: Option<String>,
    /// The kernel's release.
    #[serde(rename = "kernel-release")]
    pub kernel_release: Option<String>,
    /// The kernel's version.
    #[serde(rename = "kernel-version")]
    pub kernel_version: Option<String>,
    /// `x86_64`.
    pub machine: Option<String>,
}

/// A command that was started in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestProcess {
    /// Its number in the guest.
    pub pid: i64,
}

/// How a command in the guest does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GuestProcessStatus {
    /// Whether it has ended.
    pub exited: bool,
    /// Its exit status, once it has.
    pub exitcode: Option<i64>,
    /// The signal that ended it.
    pub signal: Option<i64>,
    /// What it wrote to its standard output.
    #[serde(rename = "out-data")]
    pub stdout: Option<String>,
    /// What it wrote to its standard error.
    #[serde(rename = "err-data")]
    pub stderr: Option<String>,
    /// Whether the first was cut.
    #[serde(rename = "out-truncated")]
    pub stdout_truncated: Option<bool>,
    /// Whether the second was cut.
    #[serde(rename = "err-truncated")]
    pub stderr_truncated: Option<bool>,
}

/// A file of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GuestFile {
    /// What is in it.
    pub content: String,
    /// Whether there is more of it than the 16 MiB that are read.
    pub truncated: Option<bool>,
    /// How many bytes were read.
    #[serde(rename = "bytes-read")]
    pub bytes_read: Option<u64>,
}

/// A file system of the guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GuestFilesystem {
    /// Its device's name in the guest.
    pub name: Option<String>,
    /// Where it is mounted.
    pub mountpoint: Option<String>,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its size in bytes.
    #[serde(rename = "total-bytes")]
    pub total_bytes: Option<u64>,
    /// How much is used, in bytes.
    #[serde(rename = "used-bytes")]
    pub used_bytes: Option<u64>,
}

/// The agent's own answers come one level deeper, and its errors as a success.
#[derive(Debug, Deserialize)]
struct Wrapped {
    #[serde(default)]
    result: serde_json::Value,
}

impl Agent {
    pub(super) fn new(place: Place) -> Self {
        Self { place }
    }
    /// Makes sure that it runs.
    ///
    /// # Errors
    /// The call fails; [`AgentTrouble::of`] tells why.
    pub async fn ping(&self) -> Result<(), ApiError> {
        self.place.join("ping").post(Params::new()).await
    }
    /// Lists the guest's network interfaces with their addresses, loopback included.
    ///
    /// # Errors
    /// As [`Agent::ping`].
    pub async fn network_interfaces(&self) -> Result<Vec<GuestInterface>, ApiError> {
        self.info("network-get-interfaces").await
    }
    /// Returns what the guest runs.
    ///
    /// # Errors
    /// As [`Agent::ping`].
    pub async fn os_info(&self) -> Result<GuestOs, ApiError> {
        self.info("get-osinfo").await
    }
    /// Returns the guest's own name.
    ///
    /// # Errors
    /// As [`Agent::ping`].
    pub async fn host_name(&self) -> Result<String, ApiError> {
        #[derive(Deserialize)]
        struct HostName {
            #[serde(rename = "host-name")]
            host_name: String,
        }
        Ok(self.info::<HostName>("get-host-name").await?.host_name)
    }
    /// Lists the guest's file systems.
    ///
    /// # Errors
    /// As [`Agent::ping`].
    pub async fn filesystems(&self) -> Result<Vec<GuestFilesystem>, ApiError> {
        self.info("get-fsinfo").await
    }
    /// Starts a command in the guest, without a shell. Before 8 its arguments must hold no comma.
    ///
    /// # Errors
    /// As [`Agent::ping`].
    pub async fn exec<S: AsRef<str>>(&self, command: &[S]) -> Result<GuestProcess, ApiError> {
        let params = Params::new().with_each("command", command.iter().map(|part| part.as_ref().to_owned()));
        self.place.join("exec").post(params).await
    }
    /// Starts a command in the guest and gives it something to read, at most 64 KiB.
    ///
    /// # Errors
    /// As [`Agent::ping`].
    pub async fn exec_with_input<S: AsRef<str>>(
        &self,
        command: &[S],
        input: &Secret,
    ) -> Result<GuestProcess, ApiError> {
        let params = Params::new()
            .with_each("command", command.iter().map(|part| part.as_ref().to_owned()))
            .with_secret("input-data", input);
        self.place.join("exec").post(params).await
    }
    /// Returns how a command in the guest does.
    ///
    /// # Errors
    /// As [`Agent::ping`].
    pub async fn exec_status(&self, process: &GuestProcess) -> Result<GuestProcessStatus, ApiError> {
        self.place.join("exec-status").get(Params::new().with("pid", process.pid)).await
    }
    /// Reads a file of the guest, at most 16 MiB.
    ///
    /// # Errors
    /// As [`Agent::ping`].
    pub async fn read_file(&self, path: &str) -> Result<GuestFile, ApiError> {
        self.place.join("file-read").get(Params::new().with("file", path)).await
    }
    /// Writes a file of the guest, at most 60 KiB.
    ///
    /// # Errors
    /// As [`Agent::ping`].
    pub async fn write_file(&self, path: &str, content: &str) -> Result<(), ApiError> {
        let params = Params::new().with("file", path).with("content", content);
        self.place.join("file-write").post(params).await
    }
    /// Writes a file of the guest that must not be seen in a log, at most 60 KiB.
    ///
    /// # Errors
    /// As [`Agent::ping`].
    pub async fn write_secret_file(&self, path: &str, content: &Secret) -> Result<(), ApiError> {
        let params = Params::new().with("file", path).with_secret("content", content);
        self.place.join("file-write").post(params).await
    }
    /// Sets a user's password in the guest.
    ///
    /// # Errors
    /// As [`Agent::ping`].
    pub async fn set_user_password(&self, user: &str, password: &Secret) -> Result<(), ApiError> {
        let params = Params::new().with("username", user).with_secret("password", password);
        self.place.join("set-user-password").post(params).await
    }

    async fn info<T: DeserializeOwned>(&self, command: &str) -> Result<T, ApiError> {
        let wrapped: Wrapped = self.place.join(command).get(Params::new()).await?;
        let call = || {
            let path = self.place.path.join(command);
            crate::Call::of(&crate::Request::new(crate::Method::Get, path))
        };
        // PVE: qemu-server src/PVE/API2/Qemu/Agent.pm: an agent's error comes with status 200.
        if let Some(desc) = wrapped.result.pointer("/error/desc").and_then(|desc| desc.as_str()) {
            let response = crate::Response::empty(500, &format!("Agent error: {desc}"));
            return Err(ApiError::Answered(Box::new(crate::Answer::of(call(), &response))));
        }
        crate::lenient::from_value(wrapped.result)
            .map_err(|why| ApiError::Decode { call: call(), source: crate::response::DecodeError(why) })
    }
}
