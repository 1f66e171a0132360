//! Part 3: planning many VMs.

use crate::document::Table;
use crate::ground::{Ground, image_for, spec, world};
use crate::measure::{cpu, mib, seconds};
use pve_lab::Delays;

/// Plans from nothing, against what was observed of a cluster, with nobody to ask.
pub fn tables() -> Vec<Table> {
    let mut table = Table::new(
        "Planning from nothing (`plan --observed`)",
        &["VMs", "time", "CPU", "CPU per VM", "memory", "steps"],
    );
    let ground = Ground::new(world(Delays::none()));
    let mut per_vm = Vec::new();
    for vms in [500, 1_000, 5_000] {
        ground.write("spec.yaml", &spec(vms, 1, "auto", &image_for("auto")));
        ground.run(&["plan", "spec.yaml", "--write-observed", "observed.json"]);
        let usage = ground.run(&["plan", "spec.yaml", "--observed", "observed.json", "--out", "plan.json"]);
        let plan = std::fs::read_to_string(ground.folder().join("plan.json")).unwrap_or_default();
        let plan: serde_json::Value = serde_json::from_str(&plan).expect("a plan is JSON");
        let steps = plan["steps"].as_array().map_or(0, Vec::len);
        let each = usage.cpu.unwrap_or(usage.wall).as_secs_f64() * 1000.0 / f64::from(vms);
        per_vm.push(each);
        table.row([
            vms.to_string(),
            seconds(usage.wall),
            cpu(&usage),
            format!("{each:.3} ms"),
            mib(&usage),
            steps.to_string(),
        ]);
    }
    if let (Some(first), Some(last)) = (per_vm.first(), per_vm.last()) {
        table.note(format!(
            "Linear would be 1.00: a VM among 5,000 takes {:.2} × the CPU of one among 500",
            last / first
        ));
    }
    vec![table]
}
