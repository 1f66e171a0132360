//! Part 7: many nodes.

use crate::document::Table;
use crate::ground::{Ground, image_for, nodes, spec};
use crate::measure::costs;
use pve_lab::Delays;

/// Plans, deploys and does nothing on more and more nodes, 20 VMs on each.
pub fn tables() -> Vec<Table> {
    let mut table = Table::new(
        "More nodes, 20 VMs on each, `road: auto`, a lab without delays",
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
    for count in [1, 10, 100] {
        let ground = Ground::new(nodes(count, Delays::none()));
        ground.write("spec.yaml", &spec(20 * count, count, "auto", &image_for("auto")));
        for (what, arguments) in [
            ("plan", &["plan", "spec.yaml"][..]),
            ("deploy", &["deploy", "spec.yaml", "--yes"]),
            ("deploy again", &["deploy", "spec.yaml", "--yes"]),
        ] {
            let (usage, counts) = ground.counted(arguments);
            let head = [count.to_string(), (20 * count).to_string(), what.to_owned()];
            table.row(head.into_iter().chain(costs(&usage, &counts)));
        }
    }
    vec![table]
}
