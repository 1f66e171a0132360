//! Part 6: the cost of the program itself.

use crate::document::Table;
use crate::ground::{Ground, image_for, spec, world};
use crate::measure::{cpu, mib, seconds};
use pve_lab::Delays;
use std::time::Duration;

const RUNS: usize = 50;

/// Start-up, size, and memory at rest and at work.
pub fn tables() -> Vec<Table> {
    let ground = Ground::new(world(Delays::none()));
    let mut starts: Vec<Duration> = (0..RUNS).map(|_| ground.run(&["--version"]).wall).collect();
    starts.sort_unstable();
    // Long enough for a look at its memory.
    let waiting = Ground::new(world(Delays { agent_ms: 1_000, ..Delays::none() }));
    waiting.write("spec.yaml", &spec(1, 1, "auto", &image_for("auto")));
    let rest = waiting.run(&["deploy", "spec.yaml", "--yes"]);
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_vmdeploy")).map_or(0, |file| file.len());
    ground.write("spec.yaml", &spec(1_000, 1, "auto", &image_for("auto")));
    let work = ground.run(&["deploy", "spec.yaml", "--yes"]);
    let mut table = Table::new("Cost of the program itself", &["what", "figure"]);
    table.row([
        format!("start to end of `--version`, median of {RUNS}"),
        format!("{:.1} ms", starts[RUNS / 2].as_secs_f64() * 1000.0),
    ]);
    table.row([
        "size of the program, including the lab".to_owned(),
        format!("{:.1} MiB", size as f64 / (1 << 20) as f64),
    ]);
    table.row(["peak memory while waiting for one VM".to_owned(), mib(&rest)]);
    table.row(["peak memory while deploying 1,000 VMs".to_owned(), mib(&work)]);
    table.row([
        "time and CPU for that, on a lab without delays".to_owned(),
        format!("{}, {}", seconds(work.wall), cpu(&work)),
    ]);
    vec![table]
}
