//! Runs a program to its end and says what it took.

use pve_lab::Counts;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What a program took.
pub struct Usage {
    /// From its start to its end.
    pub wall: Duration,
    /// Its processor time, where the system tells.
    pub cpu: Option<Duration>,
    /// The most memory that it had, in MiB, where the system tells.
    pub peak_mib: Option<f64>,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout and stderr.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// Runs the command; `folder` is for its output.
pub fn run(command: &mut Command, folder: &Path) -> Usage {
    let (out, err) = (folder.join("stdout"), folder.join("stderr"));
    let file = |path: &Path| File::create(path).expect("a file for the output");
    command.stdin(Stdio::null()).stdout(file(&out)).stderr(file(&err));
    let began = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut seen = Seen::default();
    while !seen.look(&child) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let wall = began.elapsed();
    let status = child.wait().expect("it can be waited for");
    let text = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    Usage { wall, cpu: seen.cpu, peak_mib: seen.peak_mib, status, stdout: text(&out), stderr: text(&err) }
}

#[derive(Default)]
struct Seen {
    cpu: Option<Duration>,
    peak_mib: Option<f64>,
}

/// Ticks a second in /proc, on every Linux that Rust's standard library runs on.
const TICKS: u64 = 100;

impl Seen {
    /// Looks at a running child; returns whether it has ended. A child that is not waited for keeps its times.
    fn look(&mut self, child: &Child) -> bool {
        let file = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", child.id()));
        let Ok(stat) = file("stat") else { return true };
        let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
        let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<u64>().ok());
        if let (Some(user), Some(system)) = (ticks(11), ticks(12)) {
            self.cpu = Some(Duration::from_millis((user + system) * 1000 / TICKS));
        }
        if let Some(kib) = file("status").ok().and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.to_owned();
            line.split_whitespace().next()?.parse::<f64>().ok()
        }) {
            self.peak_mib = Some(kib / 1024.0);
        }
        fields.first() == Some(&"Z")
    }
}

/// What a program took of this machine and of the lab, as cells of a table: time, CPU, memory, API requests,
/// API connections, SSH commands.
pub fn costs(usage: &Usage, counts: &Counts) -> [String; 6] {
    [
        seconds(usage.wall),
        cpu(usage),
        mib(usage),
        counts.api_requests.to_string(),
        counts.api_connections.to_string(),
        counts.ssh_commands.to_string(),
    ]
}

/// Seconds with two decimals.
pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Seconds, or a dash.
pub fn cpu(usage: &Usage) -> String {
    usage.cpu.map_or_else(|| "–".to_owned(), seconds)
}

/// MiB, or a dash.
pub fn mib(usage: &Usage) -> String {
    usage.peak_mib.map_or_else(|| "–".to_owned(), |mib| format!("{mib:.0} MiB"))
}
