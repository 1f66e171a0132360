//! Part 2: a deploy with nothing to do.

use crate::document::Table;
use crate::ground::{Ground, image_for, spec, world};
use crate::measure::costs;
use pve_lab::Delays;

/// Measures it for 10, 100 and 1,000 VMs by each transport.
pub fn tables() -> Vec<Table> {
    let mut table = Table::new(
        "A deploy with nothing to do",
        &[
            "transport",
            "VMs",
            "time",
            "CPU",
            "memory",
            "API requests",
            "API connections",
            "SSH commands",
            "PVE programs",
        ],
    );
    let grounds: Vec<(u32, Ground)> = [10, 100, 1_000].map(|vms| (vms, deployed(vms))).into();
    for transport in ["hybrid", "auto", "ssh", "api"] {
        for (vms, ground) in &grounds {
            let tasks = || ground.world().with(|world| world.tasks.newest_first().count());
            let before = tasks();
            let (usage, counts) = ground.counted(&["deploy", "spec.yaml", "--yes", "--transport", transport]);
            assert_eq!(tasks(), before, "something was done: {}{}", usage.stdout, usage.stderr);
            let head = [format!("`{transport}`"), vms.to_string()];
            let programs = [counts.programs.values().sum::<u64>().to_string()];
            table.row(head.into_iter().chain(costs(&usage, &counts)).chain(programs));
        }
    }
    table.note(
        "The VMs were deployed on a lab without delays; the measurement used the delays of a real node",
    );
    vec![table]
}

/// A lab where these VMs are as their spec says, and that has a real node's delays from then on.
pub fn deployed(vms: u32) -> Ground {
    let real = Delays::real();
    let ground = Ground::new(world(Delays {
        cpu_slots: real.cpu_slots,
        api_workers: real.api_workers,
        ..Delays::none()
    }));
    ground.write("spec.yaml", &spec(vms, 1, "auto", &image_for("auto")));
    ground.run(&["deploy", "spec.yaml", "--yes"]);
    ground.world().with(|world| world.delays = real);
    ground
}
