//! Part 2: a deploy with nothing to do.

use crate::document::Table;
use crate::ground::{Ground, image_for, spec, world};
use crate::measure::{cpu, mib, seconds};
use pve_lab::Delays;

/// Measures it for 10, 100 and 1,000 VMs by each road.
pub fn tables() -> Vec<Table> {
    let mut table = Table::new(
        "A deploy with nothing to do",
        &[
            "road",
            "VMs",
            "time",
            "CPU",
            "memory",
            "API requests",
            "API connections",
            "SSH commands",
            "PVE's programs",
        ],
    );
    for road in ["hybrid", "auto", "api", "ssh"] {
        for vms in [10, 100, 1_000] {
            let ground = deployed(vms, road);
            let (usage, counts) = ground.counted(&["deploy", "spec.yaml", "--yes"]);
            assert!(
                usage.stdout.contains("0 steps") || usage.stderr.contains("othing"),
                "{}{}",
                usage.stdout,
                usage.stderr
            );
            table.row([
                format!("`{road}`"),
                vms.to_string(),
                seconds(usage.wall),
                cpu(&usage),
                mib(&usage),
                counts.api_requests.to_string(),
                counts.api_connections.to_string(),
                counts.ssh_commands.to_string(),
                counts.programs.values().sum::<u64>().to_string(),
            ]);
        }
    }
    table.note("The VMs were deployed before, without delays; then the node got `delays: real`, so that each request, connection and command costs what it costs there");
    vec![table]
}

/// A lab where these VMs are as their spec says, and that has a real node's delays from then on.
pub fn deployed(vms: u32, road: &str) -> Ground {
    let ground = Ground::new(world(Delays::none()));
    let first = if road == "ssh" { "hybrid" } else { road };
    ground.write("spec.yaml", &spec(vms, 1, first, &image_for(road)));
    ground.run(&["deploy", "spec.yaml", "--yes"]);
    ground.write("spec.yaml", &spec(vms, 1, road, &image_for(road)));
    ground.world().with(|world| world.delays = Delays { agent_ms: 0, ..Delays::real() });
    ground
}
