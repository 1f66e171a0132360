//! Part 7: many nodes, and many VMs on each.

use crate::document::Table;
use crate::ground::{Ground, image_for, nodes, spec};
use crate::measure::costs;
use pve_lab::Delays;

/// Nodes, and VMs on each.
const CLUSTERS: [(u32, u32); 4] = [(1, 20), (10, 20), (100, 20), (100, 100)];

/// Plans, deploys and does nothing on larger and larger clusters.
pub fn tables() -> Vec<Table> {
    let mut table = Table::new(
        "Larger clusters, `transport: auto`, a lab without delays",
        &[
            "nodes",
            "VMs",
            "command",
            "time",
            "CPU",
            "memory",
            "API requests",
            "API connections",
            "SSH commands",
        ],
    );
    for (count, on_each) in CLUSTERS {
        let vms = count * on_each;
        let ground = Ground::new(nodes(count, Delays::none()));
        ground.write("spec.yaml", &spec(vms, count, "auto", &image_for("auto")));
        for (what, arguments) in [
            ("plan", &["plan", "spec.yaml"][..]),
            ("deploy", &["deploy", "spec.yaml", "--yes"]),
            ("deploy again", &["deploy", "spec.yaml", "--yes"]),
        ] {
            let (usage, counts) = ground.counted(arguments);
            let head = [count.to_string(), vms.to_string(), what.to_owned()];
            table.row(head.into_iter().chain(costs(&usage, &counts)));
        }
    }
    vec![table]
}
