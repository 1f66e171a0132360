//! A draft: what is wrong with one VM is in the way of that VM alone.

use crate::pve::Pve;
use crate::specs::{deploy, load, local_files, told};
use vmdeploy_planner::plan::{PlanContext, Verb};
use vmdeploy_planner::{Draft, draft_plan};

/// VMs that there are, with a foreign guest at number 299.
const OLD: &str = "version: 1
project: farm
defaults: {node: pve1}
images:
  base: {volume: 'local:import/debian-13.qcow2'}
  gone: {volume: 'local:import/gone.qcow2'}
  here: {file: here.qcow2}
vms:
  same: {vmid: 201, memory: 1GiB, disks: {scsi0: {storage: fast, size: 4GiB}}}
  changed: {vmid: 202, memory: 1GiB, disks: {scsi0: {storage: fast, size: 4GiB}}}
  shrunk: {vmid: 203, memory: 1GiB, disks: {scsi0: {storage: fast, size: 4GiB}}}
  renumbered: {vmid: 204, memory: 1GiB, disks: {scsi0: {storage: fast, size: 4GiB}}}
";
/// VMs that are still to be made.
const NEW: &str = "  new: {vmid: 205, disks: {scsi0: {storage: fast, image: base}}}
  taken: {vmid: 299, disks: {scsi0: {storage: fast, size: 1GiB}}}
  lost1: {vmid: 206, disks: {scsi0: {storage: fast, image: gone}}}
  lost2: {vmid: 207, disks: {scsi0: {storage: fast, image: gone}}}
  unread1: {vmid: 208, disks: {scsi0: {storage: fast, image: here}}}
  unread2: {vmid: 209, disks: {scsi0: {storage: fast, image: here}}}
  keyless: {vmid: 210, disks: {scsi0: {storage: fast, size: 1GiB}}, cloud_init: {user: a, ssh_keys: [{file: lost.pub}]}}
";
const FOREIGN: &str = "version: 1\nproject: other\nvms:\n  theirs: {vmid: 299, node: pve1, disks: {scsi0: {storage: fast, size: 1GiB}}}\n";

/// Drafts what is to be done, where these local files could not be read and all import volumes are listed.
fn draft(pve: &Pve, spec: &str, unread: &[&str]) -> Draft {
    let (deployment, mut observed) = (load(spec), pve.observed());
    observed.listings.insert("pve1/local/import".to_owned());
    let mut context = PlanContext::new("run-1", &observed);
    context.local_files = local_files(&deployment);
    context.local_files.retain(|path, _| !unread.contains(&path.as_str()));
    draft_plan(&deployment, &context)
}

fn verbs(draft: &Draft) -> Vec<(&str, Verb)> {
    draft.changes.iter().map(|change| (change.vm.as_str(), change.verb)).collect()
}

#[test]
fn what_is_refused_of_one_vm_leaves_what_happens_to_the_others() {
    let mut pve = Pve::new();
    deploy(&mut pve, OLD);
    deploy(&mut pve, FOREIGN);
    let faulty = format!("{OLD}{NEW}")
        .replace("202, memory: 1GiB", "202, memory: 2GiB")
        .replace(
            "203, memory: 1GiB, disks: {scsi0: {storage: fast, size: 4GiB",
            "203, disks: {scsi0: {storage: fast, size: 2GiB",
        )
        .replace("vmid: 204", "vmid: 304");
    let drafted = draft(&pve, &faulty, &["here.qcow2", "lost.pub"]);
    let expect = [("same", Verb::NoOp), ("changed", Verb::UpdatePending), ("new", Verb::Create)];
    assert_eq!(verbs(&drafted), expect, "{}", told(&drafted.refused));
    // What several VMs share is said once, and it is in the way of each of them.
    let paths: Vec<&str> = drafted.refused.iter().map(|fault| fault.path.as_str()).collect();
    let shared = |path: &str| paths.iter().filter(|found| **found == path).count();
    assert_eq!((shared("images.gone"), shared("images.here")), (1, 1), "{}", told(&drafted.refused));
    assert_eq!(drafted.refused.len(), 6, "{}", told(&drafted.refused));

    let sound = draft(&pve, OLD, &[]);
    assert_eq!(verbs(&sound).len(), 4);
    assert!(sound.refused.is_empty() && verbs(&sound).iter().all(|(_, verb)| *verb == Verb::NoOp));
}
