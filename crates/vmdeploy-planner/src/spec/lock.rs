//! Lock files: the VMID that was allocated for each VM, committed to git next to the spec.

use super::check::check_object;
use super::faults::{Faults, Path};
use super::model::{Deployment, Pin};
use super::schema::LOCK;
use super::tree::Tree;
use super::view::{View, check_complete};
use pve_types::{GuestName, Vmid};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Reads the pins of all lock files.
pub(crate) fn read_pins(trees: &[&Tree], faults: &mut Faults) -> BTreeMap<(String, GuestName), Pin> {
    let mut pins = BTreeMap::new();
    for document in trees.iter().flat_map(|tree| tree.documents()) {
        check_object(document, &LOCK, Path::TOP, faults);
        let Some(view) = View::of(vec![document]) else { continue };
        check_complete(&view, &LOCK, Path::TOP, faults);
        let vmids = view.some(&LOCK, "vmids").map_or_else(Vec::new, |view| view.entries());
        for (cluster, _, names) in vmids {
            for (name, span, vmid) in names.entries() {
                let (Ok(guest), Some(vmid)) = (name.parse::<GuestName>(), vmid.parse::<Vmid>()) else {
                    continue;
                };
                let pin = Pin { vmid: vmid.value, span: vmid.span };
                if pins.insert((cluster.to_owned(), guest), pin).is_some() {
                    faults.error_hint(
                        span,
                        Path::TOP.key("vmids"),
                        format!("`{name}` is pinned in two lock files"),
                        "keep the line in the lock file of the project that owns the VM",
                    );
                }
            }
        }
    }
    pins
}

/// Reads the addresses of all lock files.
pub(crate) fn read_address_pins(trees: &[&Tree]) -> BTreeMap<(String, GuestName, String), Ipv4Addr> {
    let mut pins = BTreeMap::new();
    for document in trees.iter().flat_map(|tree| tree.documents()) {
        let addresses = View::of(vec![document]).and_then(|view| view.some(&LOCK, "addresses"));
        for (cluster, _, vms) in addresses.map_or_else(Vec::new, |view| view.entries()) {
            for (vm, _, nics) in vms.entries() {
                for (slot, _, address) in nics.entries() {
                    if let (Ok(vm), Some(address)) = (vm.parse(), address.parse::<Ipv4Addr>()) {
                        pins.insert((cluster.to_owned(), vm, slot.to_owned()), address.value);
                    }
                }
            }
        }
    }
    pins
}

/// Addresses by cluster, VM and NIC slot, as a lock file holds them.
type Addresses<'a> = BTreeMap<&'a str, BTreeMap<&'a str, BTreeMap<&'a str, Ipv4Addr>>>;

/// A lock file, as it is written.
#[derive(Serialize)]
struct LockFile<'a> {
    version: u32,
    project: &'a str,
    vmids: BTreeMap<&'a str, BTreeMap<&'a str, u32>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    addresses: Addresses<'a>,
}

/// What a lock file pins of VMs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Drawn {
    /// VMIDs by cluster and VM.
    pub vmids: BTreeMap<(String, GuestName), Vmid>,
    /// Addresses by cluster, VM and NIC slot.
    pub addresses: BTreeMap<(String, GuestName, String), Ipv4Addr>,
}

/// Returns the text of a lock file with what was drawn.
pub fn print_lock(project: &str, drawn: &Drawn) -> String {
    let mut vmids: BTreeMap<&str, BTreeMap<&str, u32>> = BTreeMap::new();
    for ((cluster, name), vmid) in &drawn.vmids {
        vmids.entry(cluster).or_default().insert(name.as_str(), vmid.get());
    }
    let mut addresses: Addresses<'_> = BTreeMap::new();
    for ((cluster, name, slot), address) in &drawn.addresses {
        let of_vm = addresses.entry(cluster).or_default().entry(name.as_str()).or_default();
        of_vm.insert(slot, *address);
    }
    let lock = LockFile { version: 1, project, vmids, addresses };
    // Maps of texts and numbers always serialize.
    let text = serde_yaml::to_string(&lock).unwrap_or_default();
    format!("# Allocated VMIDs and addresses. Written by `vmdeploy plan --pin`; commit this file.\n{text}")
}

/// Returns the text of the lock file with the pins of `deployment` and those in `drawn`.
///
/// Pins of VMs that the deployment has no more are left out.
pub fn updated_lock(deployment: &Deployment, drawn: &Drawn) -> String {
    let is_there = |cluster: &str, name: &GuestName| {
        deployment.vms.iter().any(|vm| (vm.cluster.as_str(), &vm.name.value) == (cluster, name))
    };
    let kept = deployment.pins.iter().map(|(key, pin)| (key.clone(), pin.vmid));
    let vmids = kept.chain(drawn.vmids.clone()).filter(|((cluster, name), _)| is_there(cluster, name));
    let addresses = deployment.address_pins.clone().into_iter().chain(drawn.addresses.clone());
    let addresses = addresses.filter(|((cluster, name, _), _)| is_there(cluster, name));
    print_lock(&deployment.project.value, &Drawn { vmids: vmids.collect(), addresses: addresses.collect() })
}
