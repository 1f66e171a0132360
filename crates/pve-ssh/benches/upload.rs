//! How fast an upload is, against `scp` and `sftp` of this machine, on one loopback and in one run.
//!
//! `cargo bench -p pve-ssh --bench upload [-- MEBIBYTES]`. The transfer alone is compared, as `scp` neither flushes
//! to the disk nor compares checksums; the whole upload is shown as well.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its results")]

#[path = "../tests/it/sshd.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod sshd;

use pve_ssh::{Host, Upload};
use sshd::Sshd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How often each way is measured; the best time counts, for what disturbs only ever adds.
const ROUNDS: usize = 5;

fn main() {
    let size = std::env::args().skip(1).find_map(|word| word.parse::<u64>().ok()).unwrap_or(1024);
    if let Some(reason) = sshd::missing() {
        eprintln!("upload: ignored: {reason}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(compare(size << 20)),
        Err(error) => eprintln!("upload: {error}"),
    }
}

async fn compare(size: u64) {
    let sshd = Sshd::start("");
    // In memory where there is such a place, so that no disk is measured.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let place = place.expect("a folder for the files");
    let source = place.path().join("source.img");
    fill(&source, size);
    let target = place.path().join("target.img");
    let host = sshd.host();
    // Connecting is not measured: ours is open already, and the time of an empty file is subtracted from theirs.
    host.check().await.expect("the local sshd lets in");
    let empty = place.path().join("empty");
    fill(&empty, 0);
    let connect = (0..ROUNDS).map(|_| run_scp(&sshd, &empty, &target, None)).min().unwrap_or_default();
    let connect_sftp = (0..ROUNDS).map(|_| run_sftp(&sshd, &empty, &target)).min().unwrap_or_default();
    let (mut ours, mut whole, mut scp, mut scp_same) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut sftp = Vec::new();
    for _ in 0..ROUNDS {
        let (transfer, all) = upload(&host, &source, &target).await;
        ours.push(transfer);
        whole.push(all);
        scp.push(run_scp(&sshd, &source, &target, None).saturating_sub(connect));
        sftp.push(run_sftp(&sshd, &source, &target).saturating_sub(connect_sftp));
        scp_same
            .push(run_scp(&sshd, &source, &target, Some("aes256-gcm@openssh.com")).saturating_sub(connect));
    }
    let speed = |times: &[Duration]| {
        let best = times.iter().min().copied().unwrap_or_default();
        size as f64 / 1e6 / best.as_secs_f64()
    };
    let (ours, whole, scp, scp_same) = (speed(&ours), speed(&whole), speed(&scp), speed(&scp_same));
    let sftp = speed(&sftp);
    println!("| upload of {} MiB over loopback | MB/s | ratio | wanted |", size >> 20);
    println!("|---|---|---|---|");
    println!("| pve-ssh, transfer | {ours:.0} | 1.00 | |");
    println!("| pve-ssh, with fsync and SHA-256 on both sides | {whole:.0} | | |");
    println!("| scp, its default cipher | {scp:.0} | {:.2} | at least 1.00 |", ours / scp);
    println!("| sftp, its default cipher | {sftp:.0} | {:.2} | |", ours / sftp);
    println!("| scp, aes256-gcm | {scp_same:.0} | {:.2} | at least 0.85 |", ours / scp_same);
}

/// Uploads once; returns the time from the first byte to the last, and that of the whole call.
async fn upload(host: &Host, source: &Path, target: &Path) -> (Duration, Duration) {
    let started = Instant::now();
    let (mut first, mut last) = (None, started);
    let upload = Upload::file(source, target.to_string_lossy());
    let done = host
        .upload(&upload, &mut |_, _| {
            first.get_or_insert_with(Instant::now);
            last = Instant::now();
        })
        .await;
    done.expect("the upload succeeds");
    let all = started.elapsed();
    let _ = std::fs::remove_file(target);
    (last - first.unwrap_or(started), all)
}

/// Returns a program of OpenSSH's with the options that lead it to the server.
fn openssh(program: &str, sshd: &Sshd) -> Command {
    let known: PathBuf = sshd.path("known_hosts");
    let mut command = Command::new(program);
    command.args(["-q", "-F", "none", "-P", &sshd.port.to_string(), "-i"]).arg(sshd.path("user"));
    command.arg("-o").arg(format!("UserKnownHostsFile={}", known.display()));
    command
}

fn run_sftp(sshd: &Sshd, source: &Path, target: &Path) -> Duration {
    let batch = sshd.path("batch");
    let text = format!("put {} {}\n", source.display(), target.display());
    std::fs::write(&batch, text).expect("the batch can be written");
    let mut command = openssh("sftp", sshd);
    command.arg("-b").arg(&batch).arg("root@127.0.0.1").stdout(std::process::Stdio::null());
    time(command, target)
}

fn run_scp(sshd: &Sshd, source: &Path, target: &Path, cipher: Option<&str>) -> Duration {
    let mut command = openssh("scp", sshd);
    if let Some(cipher) = cipher {
        command.args(["-c", cipher]);
    }
    command.arg(source).arg(format!("root@127.0.0.1:{}", target.display()));
    time(command, target)
}

/// Runs a program that makes the target, and removes that.
fn time(mut command: Command, target: &Path) -> Duration {
    let started = Instant::now();
    let status = command.status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?} fails");
    let elapsed = started.elapsed();
    let _ = std::fs::remove_file(target);
    elapsed
}

/// Writes bytes that repeat nowhere.
fn fill(path: &Path, size: u64) {
    use std::io::Write as _;
    let file = std::fs::File::create(path).expect("the source can be written");
    let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
    let mut state = 88_172_645_463_325_252u64;
    for _ in 0..size / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes()).expect("the source can be written");
    }
}
