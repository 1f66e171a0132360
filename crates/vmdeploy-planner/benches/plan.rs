//! How long 5,000 VMs take: reading their spec, planning them from nothing, and finding that nothing is to do.
//!
//! `cargo bench -p vmdeploy-planner` prints seconds of CPU time (wall-clock time where the system does not tell) and the
//! peak memory of the process.

#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

#[path = "../tests/it/pve.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod pve;

use std::fmt::Write as _;
use std::time::{Duration, Instant};
use vmdeploy_planner::plan::{Plan, PlanContext};
use vmdeploy_planner::spec::{self, Deployment, LoadOptions, SourceFile};
use vmdeploy_planner::{AskContext, ask, make_plan};

const VMS: u32 = 5_000;

fn spec_text() -> String {
    let mut text = String::from(
        "version: 1\nproject: bench\ndefaults: {node: pve1, agent: true, onboot: true}\nimages:\n  debian-13: {path: /var/lib/vz/import/debian-13.qcow2}\nvms:\n",
    );
    for number in 0..VMS {
        let (vmid, third, fourth) = (10_000 + number, number / 250, number % 250 + 2);
        let _ = write!(
            text,
            "  web{number:04}:
    vmid: {vmid}
    cpu: 2
    memory: 4GiB
    tags: [web, bench]
    disks:
      scsi0: {{storage: local-lvm, image: debian-13, size: 20GiB, discard: true, ssd: true}}
      scsi1: {{storage: fast, size: 50GiB}}
    nics:
      net0: {{bridge: vmbr0, vlan: 40, ip: 10.40.{third}.{fourth}/16, gateway: 10.40.255.1}}
    cloud_init: {{user: admin, dns: {{servers: [10.40.255.1]}}}}
    ready: {{ip: {{nic: net0, timeout: 5m}}}}
"
        );
    }
    text
}

/// The CPU time that this thread has used, where the system tells.
fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(stat.split_whitespace().next()?.parse().ok()?))
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (start, cpu_start) = (Instant::now(), cpu_time());
    let result = work();
    let took = match (cpu_start, cpu_time()) {
        (Some(before), Some(after)) => after - before,
        _ => start.elapsed(),
    };
    println!("{what:<44} {:>7.3} s", took.as_secs_f64());
    result
}

fn plan(deployment: &Deployment, observed: &vmdeploy_planner::observed::Observed) -> Plan {
    make_plan(deployment, &PlanContext::new("bench", observed)).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

/// The most memory that the process had, in MiB, where the system tells.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

/// A group of 1,000 members that draw their addresses from a pool, in as few lines as a person writes.
fn group_text() -> String {
    "version: 1
project: fleet
images: {debian-13: {path: /var/lib/vz/import/debian-13.qcow2}}
address_pools: {lan: {range: 10.40.0.10-10.40.7.250, prefix: 16, gateway: 10.40.255.1}}
groups:
  worker:
    count: 1000
    name: \"worker{:04}\"
    vm:
      node: pve1
      cpu: 2
      memory: 4GiB
      agent: true
      disks: {scsi0: {storage: local-lvm, image: debian-13, size: 20GiB, discard: true}}
      nics: {net0: {bridge: vmbr0, ip: {pool: lan}}}
      cloud_init: {user: admin}
      lifecycle: {restart: if-needed}
      ready: {agent: 5m}
"
    .to_owned()
}

/// Reads and plans the group, and then a change that restarts every member.
fn bench_group() {
    let read = |text: String| {
        let files = [SourceFile::new("group.yaml", text)];
        let loaded = timed("read a group of 1,000 members", || spec::load(&files, &LoadOptions::default()));
        loaded.unwrap_or_else(|faults| panic!("{faults:#?}")).deployment
    };
    let deployment = read(group_text());
    let mut pve = pve::Pve::new();
    pve.space = pve_types::Bytes::from_gib(1 << 30);
    let observed = pve.observed();
    let create = timed("plan its creation", || plan(&deployment, &observed));
    pve.apply(&create);
    let changed = read(group_text().replace("cpu: 2", "cpu: 4"));
    let observed = pve.observed();
    let rollout = timed("plan a rollout of 1,000 batches", || plan(&changed, &observed));
    assert_eq!(rollout.rollouts[0].batches.len(), 1_000);
    let text = timed("print the rollout", || {
        vmdeploy_planner::render::text(&rollout, vmdeploy_planner::render::RenderOptions::default())
    });
    println!("{} lines", text.lines().count());
}

fn main() {
    bench_group();
    let files = [SourceFile::new("bench.yaml", spec_text())];
    println!("{VMS} VMs, {} KiB of YAML", files[0].text.len() / 1024);
    let loaded = timed("read, check and merge the spec", || spec::load(&files, &LoadOptions::default()));
    let deployment = loaded.unwrap_or_else(|faults| panic!("{faults:#?}")).deployment;
    let queries = timed("ask", || ask(&deployment, &AskContext::default()));
    let mut pve = pve::Pve::new();
    pve.space = pve_types::Bytes::from_gib(1 << 30);
    let observed = pve.observed();
    let create = timed("plan 5,000 creates", || plan(&deployment, &observed));
    println!("{} queries, {} steps; peak {:?} MiB", queries.len(), create.steps.len(), peak_mib());
    pve.apply(&create);
    let observed = pve.observed();
    let nothing = timed("plan 5,000 VMs without changes", || plan(&deployment, &observed));
    assert!(nothing.is_empty(), "{:#?}", nothing.steps.first());
    let text = timed("print 5,000 creates", || {
        vmdeploy_planner::render::text(&create, vmdeploy_planner::render::RenderOptions::default())
    });
    println!("{} lines; peak {:?} MiB (the model of PVE included)", text.lines().count(), peak_mib());
}
