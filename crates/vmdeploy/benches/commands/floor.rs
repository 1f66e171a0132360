//! The least time that a deployment can take: computed from the lab's delays and from what its node can do at once, not
//! from the program's own estimates.
//!
//! Each transport has its steps (docs/plan.md). A chain of them takes the sum of its delays. What a place does for all VMs
//! takes at least the sum of its work over what it does at once; before its first work comes the shortest head, after
//! its last the shortest tail. The largest of these times is a lower bound, whatever the order.

use pve_lab::Delays;

/// The image's data: what is copied for each VM.
const IMAGE_BYTES: u64 = 18_093_056;

/// A place where the VMs' work meets: PVE's commands on the node's processors, or allocations on the storage.
struct Place {
    name: &'static str,
    at_once: u64,
    head: u64,
    /// Work that is done once.
    once: u64,
    per_vm: u64,
    tail: u64,
}

/// A lower bound, in milliseconds, and what sets it.
pub struct Least {
    /// Milliseconds.
    pub ms: u64,
    /// What sets it.
    pub by: &'static str,
}

/// Returns the least time for so many VMs (image, data disk, cloud-init drive, start, address) on one node.
pub fn least(d: &Delays, transport: &str, vms: u64) -> Least {
    let copy = IMAGE_BYTES * d.copy_ms_per_100_mib / (100 << 20);
    let login = d.ssh_connect_ms + d.ssh_exec_ms;
    // Nothing can be planned before the node's storages are known.
    let (look, write) = match transport {
        "ssh" => (login + d.pvesh_ms, 0),
        _ => (d.api_storage_ms, d.api_write_ms),
    };
    let (start, grow, question) = match transport {
        "ssh" => (d.qm_ms + d.start_ms, d.qm_ms, d.qm_ms),
        _ => (write + d.start_ms, write, d.api_read_ms),
    };
    let ready = d.agent_ms + question;
    let tail = grow + start + ready;
    let three = 3 * d.allocate_ms;
    let (chain, places) = match transport {
        "hybrid" => {
            let create = write + d.create_ms;
            let import = d.qm_ms + d.allocate_ms + copy;
            let attach = d.qm_ms + 2 * d.allocate_ms;
            let commands = Place {
                name: "the node's processors",
                at_once: d.cpu_slots,
                head: login,
                once: d.pvesm_ms,
                per_vm: import + attach,
                tail,
            };
            (look + create + import + attach + tail, vec![commands, storage(look + d.qm_ms, three, tail)])
        }
        "ssh" => {
            let create = d.qm_ms + d.create_ms + three + copy;
            let per_vm = create + d.qm_ms + d.qm_ms + d.start_ms;
            let commands = Place {
                name: "the node's processors",
                at_once: d.cpu_slots,
                head: look,
                once: 0,
                per_vm,
                tail: ready,
            };
            (look + create + tail, vec![commands, storage(look + d.qm_ms + d.create_ms, three, tail)])
        }
        _ => {
            let create = write + d.create_ms + three + copy;
            let workers = Place {
                name: "the API's workers",
                at_once: d.api_workers,
                head: look,
                once: 0,
                per_vm: 3 * write,
                tail: d.start_ms + ready,
            };
            (look + create + tail, vec![workers, storage(look + write + d.create_ms, three, tail)])
        }
    };
    let alone = Least { ms: chain, by: "the steps of one VM" };
    let of_place = |place: Place| Least {
        ms: place.head + (place.once + vms * place.per_vm) / place.at_once.max(1) + place.tail,
        by: place.name,
    };
    places.into_iter().map(of_place).fold(alone, |most, next| if next.ms > most.ms { next } else { most })
}

fn storage(head: u64, per_vm: u64, tail: u64) -> Place {
    Place { name: "allocations on the storage", at_once: 1, head, once: 0, per_vm, tail }
}
