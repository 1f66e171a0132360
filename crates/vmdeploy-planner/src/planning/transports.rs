//! Which transport a step takes, and why.

use crate::plan::{PlanContext, Transport, TransportChoice};
use crate::spec::Deployment;
use pve_types::PveVersion;

/// The transport that was asked for, with what decides about single steps.
pub(crate) struct Transports {
    pub(crate) choice: TransportChoice,
    pub(crate) version: PveVersion,
    /// Whether the API's credentials are root@pam by password, who alone may set root-only options there.
    pub(crate) is_root: bool,
    pub(crate) ssh_available: bool,
}

/// How a VM is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Create, import each disk, attach everything in one `qm set`.
    Classic,
    /// One create call that imports the disks itself.
    Single(Transport),
}

/// A step's transport with the reason.
pub(crate) type TransportWithWhy = (Transport, String);

const NO_TOKEN: &str = "the `ssh` transport uses only commands on the node";

impl Transports {
    /// Takes the transport of the command line, the spec, or the default.
    pub(crate) fn new(deployment: &Deployment, context: &PlanContext<'_>) -> Self {
        let spec = deployment.transport.as_ref().map(|transport| transport.value);
        Self {
            choice: context.transport.or(spec).unwrap_or_default(),
            version: context.observed.version,
            is_root: context.observed.rights.as_ref().is_some_and(|rights| rights.is_root),
            ssh_available: context.ssh_available,
        }
    }
    /// Returns the transport of a call that any transport can do and the API does best.
    pub(crate) fn api_first(&self, why: &str) -> TransportWithWhy {
        if self.choice == TransportChoice::Ssh {
            (Transport::Ssh, NO_TOKEN.to_owned())
        } else {
            (Transport::Api, why.to_owned())
        }
    }
    /// Returns the transport of what the hybrid transport does on the node; the `api` and `auto` transports do it by API.
    pub(crate) fn node_first(&self, why: &str, api_why: &str) -> TransportWithWhy {
        match self.choice {
            TransportChoice::Hybrid => (Transport::Ssh, why.to_owned()),
            TransportChoice::Ssh => (Transport::Ssh, NO_TOKEN.to_owned()),
            TransportChoice::Api | TransportChoice::Auto => (Transport::Api, api_why.to_owned()),
        }
    }
    /// Returns the transport of what only a command on the node can do, or `None` on the `api` transport.
    pub(crate) fn node_only(&self, why: &str) -> Option<TransportWithWhy> {
        match self.choice {
            TransportChoice::Hybrid => Some((Transport::Ssh, why.to_owned())),
            TransportChoice::Auto if self.ssh_available => Some((Transport::Ssh, why.to_owned())),
            TransportChoice::Ssh => Some((Transport::Ssh, NO_TOKEN.to_owned())),
            TransportChoice::Api | TransportChoice::Auto => None,
        }
    }
    /// Returns how a VM is made that `needs_node` (a root-only option, an image by path).
    pub(crate) fn shape(&self, needs_node: bool) -> Shape {
        // PVE: qemu-server 7.1-5 (PVE 7.2) introduced import-from.
        let imports = self.version.at_least(7, 2);
        match self.choice {
            TransportChoice::Hybrid => Shape::Classic,
            _ if !imports => Shape::Classic,
            TransportChoice::Ssh => Shape::Single(Transport::Ssh),
            TransportChoice::Auto if needs_node && !self.is_root && self.ssh_available => {
                Shape::Single(Transport::Ssh)
            }
            TransportChoice::Auto | TransportChoice::Api => Shape::Single(Transport::Api),
        }
    }
    /// Tells whether a root-only option may go by API.
    pub(crate) fn api_may_set_root_only(&self) -> bool {
        self.is_root
    }
}
