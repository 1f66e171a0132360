//! Networks that break and heal, servers that go and come back.

use crate::node::{LIMIT, Node, big_file, eventually};
use crate::test;
use libtest_mimic::Trial;
use pve_ssh::{Command, Ended, Error, Host, RunOptions, TookEffect, Upload, UploadError};
use pve_types::Bytes;
use std::time::{Duration, Instant};

pub fn tests() -> Vec<Trial> {
    vec![
        test("network::an_upload_outlives_a_cut_shorter_than_the_keepalive", short_cut),
        test("network::an_upload_cut_for_longer_is_lost_and_resumed", long_cut),
        test("network::a_command_cut_off_is_lost_within_the_keepalive_time", command_cut),
        test("network::an_import_outlives_its_server_and_is_never_called_done", import_without_server),
    ]
}

fn upload_of(node: &Node) -> Upload {
    let source = node.path("source.iso");
    big_file(&source, 64 << 20);
    Upload::file(source, "/var/lib/vz/template/iso/a.iso")
}

async fn arrived(node: &Node) -> bool {
    let here = std::process::Command::new("sha256sum").arg(node.path("source.iso")).output().unwrap();
    let there = node.sh("sha256sum /var/lib/vz/template/iso/a.iso").await;
    String::from_utf8_lossy(&here.stdout).split_whitespace().next() == there.split_whitespace().next()
}

/// Uploads the file, cuts the network when the upload is on its way, and lets the upload go on only then; `after`
/// follows the cut.
async fn upload_and_cut(
    node: &Node,
    host: &Host,
    after: impl AsyncFnOnce(),
) -> Result<pve_ssh::Uploaded, Error> {
    let upload = upload_of(node);
    let (begin, begun) = tokio::sync::oneshot::channel();
    let (cut, is_cut) = std::sync::mpsc::channel();
    let mut begin = Some(begin);
    let mut on_progress = move |done: Bytes, _| {
        if done.get() > 16 << 20
            && let Some(begin) = begin.take()
        {
            begin.send(()).unwrap();
            tokio::task::block_in_place(|| is_cut.recv().unwrap());
        }
    };
    let host = host.clone();
    let uploading = tokio::spawn(async move { host.upload(&upload, &mut on_progress).await });
    begun.await.unwrap();
    node.cut_network().await;
    cut.send(()).unwrap();
    after().await;
    uploading.await.unwrap()
}

async fn short_cut() {
    let node = Node::start("", "").await;
    upload_and_cut(&node, &node.host(), async || node.heal_network().await).await.unwrap();
    assert!(arrived(&node).await);
}

/// A host that is taken for lost after three seconds of silence.
fn impatient(node: &Node) -> Host {
    let mut config = node.config();
    config.timeouts.keepalive = Duration::from_secs(1);
    config.timeouts.keepalive_max = 2;
    Host::new(config)
}

async fn long_cut() {
    let node = Node::start("", "").await;
    let host = impatient(&node);
    // The network stays away until the upload has failed.
    let error = upload_and_cut(&node, &host, async || {}).await.unwrap_err();
    assert!(matches!(&error, Error::Upload(UploadError::Lost { .. })), "{error}");
    assert_eq!(error.took_effect(), TookEffect::No);
    assert_eq!(node.sh("ls /var/lib/vz/template/iso").await, "");
    node.heal_network().await;
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
    let host = impatient(&node);
    let command = Command::new("sh").arg("-c").arg("echo go; sleep 4000.2");
    let (started, mut begun) = tokio::sync::watch::channel(false);
    let mut on_line = |_, _: &str| {
        started.send_replace(true);
    };
    let cutting = async {
        begun.wait_for(|begun| *begun).await.unwrap();
        node.cut_network().await;
        Instant::now()
    };
    let options = RunOptions::within(Duration::from_secs(120));
    let (outcome, at) = tokio::join!(host.run(&command, options, &mut on_line), cutting);
    let error = outcome.unwrap_err();
    let Error::Lost { pid: Some(pid), .. } = error else { panic!("{error}") };
    assert!(at.elapsed() < Duration::from_secs(30), "{:?}", at.elapsed());
    node.heal_network().await;
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
    // The node continues it, so a query over a new connection learns how it ended.
    eventually("the import has ended", async || {
        let output = host.run_to_success(&Command::new("test").arg("-f").arg("/tmp/imported"), LIMIT).await;
        output.is_ok()
    })
    .await;
}
