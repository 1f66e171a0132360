//! How long things take, in milliseconds.

use serde::Deserialize;

/// Durations in milliseconds, and how much a node does at once: `none`, `demo`, `real`, or a map of the fields below (the
/// rest as in `none`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "DelaysText")]
pub struct Delays {
    /// A request that reads.
    pub api_read_ms: u64,
    /// A request that changes something.
    pub api_write_ms: u64,
    /// The storages of a node.
    pub api_storage_ms: u64,
    /// The answer to a wrong password, ticket or token.
    pub auth_failure_ms: u64,
    /// A new SSH connection.
    pub ssh_connect_ms: u64,
    /// Any command over SSH.
    pub ssh_exec_ms: u64,
    /// `qm config`, `qm list`, `qm set`: starting Perl.
    pub qm_ms: u64,
    /// `pvesm`.
    pub pvesm_ms: u64,
    /// `pvesh`.
    pub pvesh_ms: u64,
    /// `qm create` beyond any `qm`.
    pub create_ms: u64,
    /// Making one volume.
    pub allocate_ms: u64,
    /// Copying an image: for each MiB written.
    pub copy_ms_per_100_mib: u64,
    /// Starting a guest.
    pub start_ms: u64,
    /// Stopping a guest.
    pub stop_ms: u64,
    /// From the shutdown request until the guest is off.
    pub shutdown_ms: u64,
    /// Destroying a guest.
    pub destroy_ms: u64,
    /// From the start until the guest's agent answers.
    pub agent_ms: u64,
    /// How many of PVE's own programs (`qm`, `pvesm`, …) a node runs at once, each from its start to its end; 0 for
    /// any number.
    pub cpu_slots: u64,
    /// How many API requests a node works on at once; 0 for any number.
    pub api_workers: u64,
}

impl Delays {
    /// Nothing takes time, but for a guest's boot.
    pub fn none() -> Self {
        Self {
            api_read_ms: 0,
            api_write_ms: 0,
            api_storage_ms: 0,
            auth_failure_ms: 0,
            ssh_connect_ms: 0,
            ssh_exec_ms: 0,
            qm_ms: 0,
            pvesm_ms: 0,
            pvesh_ms: 0,
            create_ms: 0,
            allocate_ms: 0,
            copy_ms_per_100_mib: 0,
            start_ms: 0,
            stop_ms: 0,
            shutdown_ms: 0,
            destroy_ms: 0,
            agent_ms: 50,
            cpu_slots: 0,
            api_workers: 0,
        }
    }
    /// Long enough to watch, short enough not to wait.
    pub fn demo() -> Self {
        Self {
            create_ms: 150,
            allocate_ms: 100,
            copy_ms_per_100_mib: 60,
            start_ms: 300,
            stop_ms: 300,
            shutdown_ms: 500,
            destroy_ms: 150,
            agent_ms: 1500,
            ..Self::none()
        }
    }
    /// What was measured on a real node: two cores, PVE 9.2.
    pub fn real() -> Self {
        Self {
            api_read_ms: 17,
            api_write_ms: 28,
            api_storage_ms: 120,
            auth_failure_ms: 3000,
            ssh_connect_ms: 182,
            ssh_exec_ms: 10,
            qm_ms: 670,
            pvesm_ms: 521,
            pvesh_ms: 830,
            create_ms: 150,
            allocate_ms: 130,
            copy_ms_per_100_mib: 110,
            start_ms: 300,
            stop_ms: 1000,
            shutdown_ms: 4000,
            destroy_ms: 300,
            agent_ms: 12_000,
            cpu_slots: 2,
            // PVE: pve-manager PVE/Service/pveproxy.pm: three workers, each busy with one method at a time.
            api_workers: 3,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum DelaysText {
    Preset(String),
    Fields(std::collections::BTreeMap<String, u64>),
}

impl TryFrom<DelaysText> for Delays {
    type Error = String;
    fn try_from(text: DelaysText) -> Result<Self, String> {
        match text {
            DelaysText::Preset(name) => match name.as_str() {
                "none" => Ok(Self::none()),
                "demo" => Ok(Self::demo()),
                "real" => Ok(Self::real()),
                _ => Err(format!("delays `{}` are not none, demo, real or a map", name.escape_debug())),
            },
            DelaysText::Fields(fields) => {
                let mut delays = Self::none();
                for (name, value) in fields {
                    *delays
                        .field(&name)
                        .ok_or_else(|| format!("there is no delay `{}`", name.escape_debug()))? = value;
                }
                Ok(delays)
            }
        }
    }
}

impl Delays {
    fn field(&mut self, name: &str) -> Option<&mut u64> {
        Some(match name {
            "api_read_ms" => &mut self.api_read_ms,
            "api_write_ms" => &mut self.api_write_ms,
            "api_storage_ms" => &mut self.api_storage_ms,
            "auth_failure_ms" => &mut self.auth_failure_ms,
            "ssh_connect_ms" => &mut self.ssh_connect_ms,
            "ssh_exec_ms" => &mut self.ssh_exec_ms,
            "qm_ms" => &mut self.qm_ms,
            "pvesm_ms" => &mut self.pvesm_ms,
            "pvesh_ms" => &mut self.pvesh_ms,
            "create_ms" => &mut self.create_ms,
            "allocate_ms" => &mut self.allocate_ms,
            "copy_ms_per_100_mib" => &mut self.copy_ms_per_100_mib,
            "start_ms" => &mut self.start_ms,
            "stop_ms" => &mut self.stop_ms,
            "shutdown_ms" => &mut self.shutdown_ms,
            "destroy_ms" => &mut self.destroy_ms,
            "agent_ms" => &mut self.agent_ms,
            "cpu_slots" => &mut self.cpu_slots,
            "api_workers" => &mut self.api_workers,
            _ => return None,
        })
    }
}
