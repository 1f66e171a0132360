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

/// A lock file, as it is written.
#[derive(Serialize)]
struct LockFile<'a> {
    version: u32,
    project: &'a str,
    vmids: BTreeMap<&'a str, BTreeMap<&'a str, u32>>,
}

/// Returns the text of a lock file with these numbers, by cluster and VM.
pub fn print_lock(project: &str, pins: &BTreeMap<(String, GuestName), Vmid>) -> String {
    let mut vmids: BTreeMap<&str, BTreeMap<&str, u32>> = BTreeMap::new();
    for ((cluster, name), vmid) in pins {
        vmids.entry(cluster).or_default().insert(name.as_str(), vmid.get());
    }
    let lock = LockFile { version: 1, project, vmids };
    // Maps of texts and numbers always serialize.
    let text = serde_yaml::to_string(&lock).unwrap_or_default();
    format!(
        "# VMIDs that were allocated from ranges. Written by `vmdeploy plan --pin`; commit this file.\n{text}"
    )
}

/// Returns the text of the lock file with the pins of `deployment` and those in `drawn`.
///
/// Pins of VMs that the deployment has no more are left out.
pub fn updated_lock(deployment: &Deployment, drawn: &BTreeMap<(String, GuestName), Vmid>) -> String {
    let is_wanted = |key: &(String, GuestName)| {
        deployment.vms.iter().any(|vm| (&vm.cluster, &vm.name.value) == (&key.0, &key.1))
    };
    let kept = deployment.pins.iter().map(|(key, pin)| (key.clone(), pin.vmid));
    let drawn = drawn.iter().map(|(key, vmid)| (key.clone(), *vmid));
    let pins = kept.chain(drawn).filter(|(key, _)| is_wanted(key)).collect();
    print_lock(&deployment.project.value, &pins)
}
