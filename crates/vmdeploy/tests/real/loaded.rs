//! A node with busy processors: a number of VMs, half of them started, deployed and destroyed again and again.

use crate::battery::{clean_up, prepare};
use crate::ground::{Ground, Settings};
use libtest_mimic::Failed;
use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};

/// Processes of the node that do nothing but use its processors; they end with the test.
struct Busy(Vec<Child>);

impl Busy {
    /// Starts them on this machine: the node is on it, or `VMDEPLOY_REAL_BUSY` is a command that keeps the node busy.
    fn start() -> Result<Self, Failed> {
        let command =
            std::env::var("VMDEPLOY_REAL_BUSY").unwrap_or_else(|_| "while :; do :; done".to_owned());
        let one =
            || Command::new("sh").args(["-c", &command]).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Ok(Self((0..4).map(|_| one()).collect::<Result<_, _>>()?))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Deploys so many VMs, each time from nothing: as often as `VMDEPLOY_REAL_ROUNDS` says, once where it says nothing.
pub fn rounds(settings: &Settings, vms: u32) -> Result<(), Failed> {
    let rounds = std::env::var("VMDEPLOY_REAL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let ground = Ground::real(settings)?;
    prepare(&ground)?;
    ground.user.write("load.yaml", &spec(&ground, vms));
    let busy = Busy::start()?;
    let mut failed = Vec::new();
    for round in 1..=rounds {
        let began = std::time::Instant::now();
        let ended = ground
            .done(&["deploy", "load.yaml", "--yes", "--brief"])
            .and_then(|_| ground.done(&["plan", "load.yaml", "--detailed-exitcode"]));
        eprintln!("{vms} VMs, round {round} of {rounds}: {} s", began.elapsed().as_secs());
        failed.extend(ended.err().map(|failure| (round, failure.message().unwrap_or_default().to_owned())));
        ground.done(&["destroy", "load.yaml", "--yes"])?;
    }
    drop(busy);
    clean_up(&ground)?;
    let count = failed.len();
    if count == 0 { Ok(()) } else { Err(format!("{count} of {rounds} rounds failed: {failed:#?}").into()) }
}

fn spec(ground: &Ground, vms: u32) -> String {
    let settings = &ground.settings;
    let mut text = format!(
        "version: 1\nproject: real-load\ndefaults: {{node: {}, pool: {}}}\n\
         images: {{tiny: {{file: tiny.raw, store: {}}}}}\nvms:\n",
        ground.node, settings.pool, settings.images
    );
    for number in 0..vms {
        let state = if number % 2 == 0 { "running" } else { "stopped" };
        let _ = writeln!(
            text,
            "  load{number}: {{vmid: {}, memory: 32MiB, cpu: 1, lifecycle: {{state: {state}}}, \
             disks: {{scsi0: {{storage: {storage}, image: tiny, size: 16MiB}}, scsi1: {{storage: {storage}, size: 16MiB}}}}, \
             nics: {{net0: {{bridge: {}, ip: dhcp}}}}, cloud_init: {{user: admin}}}}",
            settings.first + number,
            settings.bridge,
            storage = settings.storage,
        );
    }
    text
}
