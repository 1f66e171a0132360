//! Part 3: planning many VMs.

use crate::document::Table;
use crate::ground::{Ground, image_for, spec, world};
use crate::measure::{Usage, mib, seconds};
use pve_lab::Delays;
use std::time::Duration;

/// Plans new VMs against a stored observation, without a cluster.
pub fn tables() -> Vec<Table> {
    let mut table = Table::new(
        "Planning new VMs (`plan --observed`)",
        &["VMs", "time", "CPU", "CPU per VM", "memory", "steps"],
    );
    let ground = Ground::new(world(Delays::none()));
    let mut per_vm = Vec::new();
    for vms in [500, 1_000, 5_000, 10_000] {
        ground.write("spec.yaml", &spec(vms, 1, "auto", &image_for("auto")));
        ground.run(&["plan", "spec.yaml", "--write-observed", "observed.json"]);
        let plan = || ground.run(&["plan", "spec.yaml", "--observed", "observed.json", "--out", "plan.json"]);
        // The system counts processor time in hundredths of a second: small plans are made several times.
        let runs = (5_000 / vms).max(1);
        let cpu_of = |usage: &Usage| usage.cpu.unwrap_or(usage.wall);
        let before: Duration = (1..runs).map(|_| cpu_of(&plan())).sum();
        let usage = plan();
        let cpu = (before + cpu_of(&usage)) / runs;
        let plan = std::fs::read_to_string(ground.folder().join("plan.json")).unwrap_or_default();
        let plan: serde_json::Value = serde_json::from_str(&plan).expect("a plan is JSON");
        let steps = plan["steps"].as_array().map_or(0, Vec::len);
        let each = cpu.as_secs_f64() * 1000.0 / f64::from(vms);
        per_vm.push(each);
        table.row([
            vms.to_string(),
            seconds(usage.wall),
            seconds(cpu),
            format!("{each:.3} ms"),
            mib(&usage),
            steps.to_string(),
        ]);
    }
    if let [first, .., before, last] = per_vm[..] {
        table.note(format!(
            "Linear would be 1.00: a VM among 10,000 takes {:.2} × the CPU of one among 5,000, and {:.2} × that of one \
             among 500",
            last / before,
            last / first
        ));
    }
    vec![table]
}
