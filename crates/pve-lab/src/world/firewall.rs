//! The files of the firewall, by what they are for.

use std::collections::BTreeMap;

use pve_types::Vmid;

/// What a firewall is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FirewallScope {
    /// The cluster: `/etc/pve/firewall/cluster.fw`.
    Cluster,
    /// A node: `/etc/pve/nodes/NODE/host.fw`.
    Node(String),
    /// A guest: `/etc/pve/firewall/VMID.fw`.
    Guest(Vmid),
}

/// A rule's properties by name; `type`, `action` and `enable` are always there.
pub type Rule = BTreeMap<String, String>;

/// Options and rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Firewall {
    /// The options that are set.
    pub options: BTreeMap<String, String>,
    /// The rules, the first to be looked at first.
    pub rules: Vec<Rule>,
}
