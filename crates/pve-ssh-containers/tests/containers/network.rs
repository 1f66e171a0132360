//! Networks that break and heal, servers that go and come back.

use crate::node::{LIMIT, Node, big_file, eventually};
use crate::test;
use libtest_mimic::Trial;
use pve_ssh::{Command, Ended, Error, Host, RunOptions, TookEffect, Upload, UploadError};
use std::time::{Duration, Instant};

pub fn tests() -> Vec<Trial> {
    vec![
        test("network::an_upload_outlives_a_cut_shorter_than_the_keepalive", short_cut),
        test("network::an_upload_cut_for_longer_is_lost_and_resumed", long_cut),
        test("network::a_command_cut_off_is_lost_within_the_keepalive_time", command_cut),
        test("network::an_import_outlives_its_server_and_is_never_called_done", import_without_server),
    ]
}

/// Takes the container's network away, and gives it back after some seconds.
async fn cut(node: &Node, seconds: u32) {
    let route = "r=$(ip -4 route show default)";
    node.detached(&format!(
        "{route}; ip link set eth0 down; sleep {seconds}; ip link set eth0 up; ip route replace $r"
    ))
    .await;
    eventually("the network is cut", async || !reachable(node).await).await;
}

async fn reachable(node: &Node) -> bool {
    let connect = tokio::net::TcpStream::connect((node.address, 22));
    matches!(tokio::time::timeout(Duration::from_millis(500), connect).await, Ok(Ok(_)))
}

fn upload_of(node: &Node) -> Upload {
    let source = node.path("source.iso");
    big_file(&source, 256 << 20);
    Upload::file(source, "/var/lib/vz/template/iso/a.iso")
}

async fn arrived(node: &Node) -> bool {
    let here = std::process::Command::new("sha256sum").arg(node.path("source.iso")).output().unwrap();
    let there = node.sh("sha256sum /var/lib/vz/template/iso/a.iso").await;
    String::from_utf8_lossy(&here.stdout).split_whitespace().next() == there.split_whitespace().next()
}

/// Starts an upload, and cuts the network when the upload is on its way.
async fn upload_and_cut(node: &Node, host: &Host, seconds: u32) -> Result<pve_ssh::Uploaded, Error> {
    let upload = upload_of(node);
    let (started, begun) = tokio::sync::watch::channel(false);
    let mut on_progress = |done: pve_types::Bytes, _| {
        if done.get() > 16 << 20 {
            started.send_replace(true);
        }
    };
    let cutting = async {
        let mut begun = begun;
        begun.wait_for(|begun| *begun).await.unwrap();
        cut(node, seconds).await;
    };
    let (outcome, ()) = tokio::join!(host.upload(&upload, &mut on_progress), cutting);
    outcome
}

async fn short_cut() {
    let node = Node::start("", "").await;
    let host = node.host();
    upload_and_cut(&node, &host, 5).await.unwrap();
    assert!(arrived(&node).await);
}

async fn long_cut() {
    let node = Node::start("", "").await;
    let mut config = node.config();
    config.timeouts.keepalive = Duration::from_secs(1);
    config.timeouts.keepalive_max = 2;
    let host = Host::new(config);
    let error = upload_and_cut(&node, &host, 20).await.unwrap_err();
    assert!(matches!(&error, Error::Upload(UploadError::Lost { .. })), "{error}");
    assert_eq!(error.took_effect(), TookEffect::No);
    assert_eq!(node.sh("ls /var/lib/vz/template/iso").await, "");
    eventually("the network is back", async || reachable(&node).await).await;
    let done = host.upload(&upload_of_again(&node), &mut |_, _| {}).await.unwrap();
    assert!(done.resumed.get() > 0);
    assert!(arrived(&node).await);
}

/// The same upload, of the file that is there already.
fn upload_of_again(node: &Node) -> Upload {
    Upload::file(node.path("source.iso"), "/var/lib/vz/template/iso/a.iso")
}

async fn command_cut() {
    let node = Node::start("", "").await;
    let mut config = node.config();
    config.timeouts.keepalive = Duration::from_secs(1);
    config.timeouts.keepalive_max = 2;
    let host = Host::new(config);
    let command = Command::new("sh").arg("-c").arg("echo go; sleep 4000.2");
    let (started, begun) = tokio::sync::watch::channel(false);
    let mut on_line = |_, _: &str| {
        started.send_replace(true);
    };
    let cutting = async {
        let mut begun = begun;
        begun.wait_for(|begun| *begun).await.unwrap();
        let at = Instant::now();
        cut(&node, 15).await;
        at
    };
    let options = RunOptions::within(Duration::from_secs(120));
    let (outcome, at) = tokio::join!(host.run(&command, options, &mut on_line), cutting);
    let error = outcome.unwrap_err();
    let Error::Lost { pid: Some(pid), .. } = error else { panic!("{error}") };
    assert!(at.elapsed() < Duration::from_secs(14), "{:?}", at.elapsed());
    eventually("the network is back", async || reachable(&node).await).await;
    assert_eq!(host.end_left_behind(pid).await, Ended::Yes);
    eventually("the process is gone", async || !node.runs("4000.2").await).await;
}

/// An import as `qm` does one: it says how far it is, and what it made at the very end.
const IMPORT: &str = "#!/bin/sh\ntrap '' HUP PIPE\nfor n in 1 2 3 4 5 6 7 8 9 10; do \
    echo \"transferred $n.0 GiB of 10.0 GiB (${n}0.00%)\" || :; sleep 0.5; done\n\
    echo done > /tmp/imported\necho \"unused0: successfully imported disk 'local-lvm:vm-100-disk-0'\" || :\n";

async fn import_without_server() {
    let node =
        Node::start("", &format!("cat > /usr/sbin/qm <<'EOF'\n{IMPORT}EOF\nchmod +x /usr/sbin/qm;")).await;
    let host = node.host();
    let command = pve_ssh::command::qm::importdisk(
        pve_types::Vmid::new(100).unwrap(),
        "/var/lib/vz/import/a.qcow2",
        &"local-lvm".parse().unwrap(),
    );
    let (started, begun) = tokio::sync::watch::channel(false);
    let mut on_line = |_, line: &str| {
        if pve_ssh::parse::progress(line).is_some_and(|progress| progress.percent >= 20.0) {
            started.send_replace(true);
        }
    };
    let restarting = async {
        let mut begun = begun;
        begun.wait_for(|begun| *begun).await.unwrap();
        node.stop_sshd().await;
        node.start_sshd().await;
    };
    let (outcome, ()) = tokio::join!(host.run(&command, RunOptions::within(LIMIT), &mut on_line), restarting);
    let error = outcome.unwrap_err();
    assert!(matches!(&error, Error::Lost { .. }), "{error}");
    assert_eq!(error.took_effect(), TookEffect::Maybe);
    // The node goes on with it, so whoever asks afterwards over a new connection learns how it ended.
    eventually("the import has ended", async || {
        let output = host.run_to_success(&Command::new("test").arg("-f").arg("/tmp/imported"), LIMIT).await;
        output.is_ok()
    })
    .await;
}
