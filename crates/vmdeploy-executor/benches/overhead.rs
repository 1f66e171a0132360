//! The overhead of a run in addition to its steps: N VMs on the lab with the delays of a real node, against the time that
//! the same steps take in the scheduler's order under the plan's limits and with nothing else to wait for.
//!
//! `cargo bench --package vmdeploy-executor --bench overhead`

#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

#[expect(dead_code, reason = "the integration tests use the rest of it")]
#[path = "../tests/it/fixture.rs"]
mod fixture;

use fixture::{Fixture, Transports, plan};
use pve_lab::{Delays, WorldSpec};
use std::collections::BTreeMap;
use vmdeploy_executor::{RunReport, ideal_ms};
use vmdeploy_planner::plan::StepId;

/// The most that a run may take over the ideal.
const MOST: f64 = 1.10;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut worst: f64 = 0.0;
    println!("{:>4} {:>10} {:>10} {:>8}", "VMs", "wall ms", "ideal ms", "ratio");
    for vms in [1, 4, 10, 20] {
        let (wall, ideal) = runtime.block_on(measured(vms));
        let ratio = wall as f64 / ideal as f64;
        worst = worst.max(ratio);
        println!("{vms:>4} {wall:>10} {ideal:>10} {ratio:>8.3}");
    }
    println!(
        "a run takes {:.1} % more than its steps; {:.0} % are allowed",
        (worst - 1.0) * 100.0,
        (MOST - 1.0) * 100.0
    );
    assert!(worst <= MOST, "the overhead is too large");
}

async fn measured(vms: u32) -> (u64, u64) {
    let mut world = WorldSpec::demo();
    world.delays = Delays::real();
    world.guest.agent_ms = Some(1_000);
    let fixture = Fixture::of(world, "[]", Transports::Both).await;
    let plan = plan("r1", vms);
    let (report, _) = fixture.run(plan.clone()).await;
    assert_eq!(report.exit_code(), 0, "{:#?}", report.failures().collect::<Vec<_>>());
    let took = durations(&report);
    let wall = report.ended.as_millisecond() - report.started.as_millisecond();
    (
        u64::try_from(wall).expect("time goes forward"),
        ideal_ms(&plan, |step| took.get(step).copied().unwrap_or(0)),
    )
}

fn durations(report: &RunReport) -> BTreeMap<StepId, u64> {
    let span = |span: &vmdeploy_executor::Span| {
        let end = span.end.unwrap_or(span.start);
        u64::try_from(end.as_millisecond() - span.start.as_millisecond()).unwrap_or(0)
    };
    report.steps.iter().map(|step| (step.step.clone(), step.spans.iter().map(span).sum())).collect()
}
