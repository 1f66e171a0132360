//! Part 4: addresses and inventory of many VMs.

use crate::document::Table;
use crate::idle;
use crate::measure::costs;

const VMS: u32 = 1_000;

/// Measures both on 1,000 running VMs.
pub fn tables() -> Vec<Table> {
    let mut table = Table::new(
        format!("Addresses and inventory of {VMS} running VMs, `delays: real`"),
        &["command", "time", "CPU", "memory", "API requests", "API connections", "SSH commands"],
    );
    let ground = idle::deployed(VMS);
    for arguments in [&["status", "spec.yaml"][..], &["inventory", "spec.yaml"]] {
        let (usage, counts) = ground.counted(arguments);
        let lines = usage.stdout.lines().count();
        assert!(lines >= VMS as usize, "{lines} lines\n{}", usage.stderr);
        let head = [format!("`vmdeploy {}`", arguments.join(" "))];
        table.row(head.into_iter().chain(costs(&usage, &counts)));
    }
    table.note(
        "Addresses are read from the guest agents: one request per running VM, three at a time on the node",
    );
    vec![table]
}
