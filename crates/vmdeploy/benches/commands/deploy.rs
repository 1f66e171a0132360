//! Part 1: deploying 20 VMs on a node that takes its time.

use crate::baselines;
use crate::document::Table;
use crate::floor::least;
use crate::ground::{Ground, image_for, spec, world};
use crate::measure::seconds;
use pve_lab::{Counts, Delays};
use std::time::Duration;

const VMS: u32 = 20;

/// The measurement of one tool.
struct Done {
    way: String,
    took: Duration,
    counts: Counts,
    /// The transport whose least time it is held against.
    transport: Option<&'static str>,
}

/// Measures all ways.
pub fn tables() -> Vec<Table> {
    let delays = Delays::real();
    let (playbook, counts) = baselines::playbook(VMS);
    let mut all = Vec::new();
    let mut estimates = Vec::new();
    for transport in ["hybrid", "auto", "api", "ssh"] {
        let ground = Ground::new(world(Delays::real()));
        ground.write("spec.yaml", &spec(VMS, 1, transport, &image_for(transport)));
        let timing = ground.run(&["plan", "spec.yaml", "--timing"]);
        let (usage, counts) = ground.counted(&["deploy", "spec.yaml", "--yes"]);
        estimates.push((transport, timing.stdout, usage.wall));
        let way = format!("vmdeploy, `transport: {transport}`");
        all.push(Done { way, took: usage.wall, counts, transport: Some(transport) });
    }
    let way = "vm-deploy's playbook: one `qm` per setting, one VM after another".to_owned();
    all.push(Done { way, took: playbook, counts, transport: None });
    let mut missing = None;
    match baselines::ansible(VMS) {
        Ok((took, counts)) => {
            let way = "Ansible, community.proxmox with `import-from`".to_owned();
            all.push(Done { way, took, counts, transport: None });
        }
        Err(reason) => missing = Some(reason),
    }
    let mut table = Table::new(
        format!("Deploying {VMS} VMs, `delays: real`"),
        &[
            "tool",
            "time",
            "critical path",
            "time ÷ critical path",
            "playbook ÷ time",
            "API requests",
            "SSH commands",
            "PVE programs",
        ],
    );
    for done in &all {
        let floor = done.transport.map(|transport| least(&delays, transport, u64::from(VMS)));
        let ratio = |ms: u64| done.took.as_secs_f64() * 1000.0 / ms as f64;
        table.row([
            done.way.clone(),
            seconds(done.took),
            floor.as_ref().map_or_else(String::new, |floor| format!("{:.2} s", floor.ms as f64 / 1000.0)),
            floor.as_ref().map_or_else(String::new, |floor| format!("{:.2}", ratio(floor.ms))),
            format!("{:.1}", playbook.as_secs_f64() / done.took.as_secs_f64()),
            done.counts.api_requests.to_string(),
            done.counts.ssh_commands.to_string(),
            done.counts.programs.values().sum::<u64>().to_string(),
        ]);
    }
    table.note("Each VM has a disk created from an image, a data disk and a cloud-init drive; the run waits until the guest agent reports an address, 12 s after the start");
    for (transport, name) in [("hybrid", "`hybrid`"), ("auto", "`auto` and `api`"), ("ssh", "`ssh`")] {
        table.note(format!(
            "The critical path of {name} is determined by {}",
            least(&delays, transport, u64::from(VMS)).by
        ));
    }
    table.note("`hybrid` and `ssh` use the image as a file on the node, `auto` and `api` as a volume");
    table.note("The playbook's fixed sleeps are not counted; its commands use one SSH connection");
    if let Some(reason) = missing {
        table.note(format!("Ansible is left out: {reason}"));
    }
    vec![table, timing_table(&estimates)]
}

/// `plan --timing` compared with the measurement.
fn timing_table(estimates: &[(&str, String, Duration)]) -> Table {
    let mut table = Table::new(
        "Estimates of `plan --timing` for these plans",
        &["transport", "estimate", "measured", "estimate ÷ measured"],
    );
    for (transport, text, took) in estimates {
        let estimate = estimate_s(text);
        table.row([
            format!("`{transport}`"),
            estimate.map_or_else(|| "?".to_owned(), |s| format!("{s:.0} s")),
            seconds(*took),
            estimate.map_or_else(|| "?".to_owned(), |s| format!("{:.2}", s / took.as_secs_f64())),
        ]);
    }
    table
}

/// The time in the first line of `plan --timing`.
fn estimate_s(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains("at least"))?;
    let words: Vec<&str> = line.split_once("at least ")?.1.split([' ', ',', ';']).collect();
    let mut sum = 0.0;
    for pair in words.chunks(2) {
        let (Some(number), Some(unit)) = (pair.first().and_then(|n| n.parse::<f64>().ok()), pair.get(1))
        else {
            break;
        };
        sum += number
            * match unit.trim_end_matches(['.', ':']) {
                "ms" => 0.001,
                "s" => 1.0,
                "min" => 60.0,
                "h" => 3600.0,
                _ => break,
            };
    }
    (sum > 0.0).then_some(sum)
}
