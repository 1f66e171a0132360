//! `pve-ssh` against the lab's SSH listener.

use crate::{Needs, test};
use libtest_mimic::Trial;
use pve_lab::{Lab, LabOptions};
use pve_ssh::command::{Command, access, files, pvesm, qm};
use pve_ssh::{Credential, Ended, Error, Host, HostConfig, RunOptions, Upload, parse};
use pve_types::{Secret, StorageId, Vmid};
use std::time::Duration;

pub fn tests() -> Vec<Trial> {
    vec![
        test("lab::a_disk_is_imported_with_progress_and_attached", Needs::Nothing, import),
        test("lab::tables_and_json_are_read", Needs::Nothing, tables),
        test("lab::every_guest_s_configuration_comes_in_one_command", Needs::Nothing, configurations),
        test("lab::failures_are_told_apart", Needs::Nothing, failures),
        test("lab::arguments_arrive_as_they_went", Needs::Nothing, arguments),
        test("lab::a_command_that_is_given_up_is_ended", Needs::Nothing, given_up),
        test("lab::a_file_is_uploaded_and_checked_there", Needs::Nothing, upload),
        test("lab::the_cluster_lock_is_a_folder", Needs::Nothing, cluster_lock),
    ]
}

const LIMIT: Duration = Duration::from_secs(60);

struct Node {
    _lab: Lab,
    folder: tempfile::TempDir,
    host: Host,
}

async fn node() -> Node {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("known_hosts"), lab.known_hosts()).unwrap();
    let address = lab.ssh_addr("pve1").unwrap();
    let mut config = HostConfig::new(address.ip().to_string(), "root");
    config.port = address.port();
    config.credentials = vec![Credential::Key(Secret::new(lab.ssh_private_key()))];
    config.known_hosts.files = vec![folder.path().join("known_hosts")];
    Node { host: Host::new(config), folder, _lab: lab }
}

impl Node {
    async fn run(&self, command: Command) -> String {
        match self.host.run_to_success(&command, LIMIT).await {
            Ok(output) => output.stdout,
            Err(error) => panic!("{error}"),
        }
    }
}

fn vmid(number: u32) -> Vmid {
    Vmid::new(number).unwrap()
}

fn storage(name: &str) -> StorageId {
    name.parse().unwrap()
}

const IMAGE: &str = "/var/lib/vz/import/tiny.qcow2";

async fn import() {
    let node = node().await;
    node.run(qm::create(vmid(200), [("name", "web01"), ("memory", "512")])).await;
    let info = parse::image_info(&node.run(files::image_info(IMAGE)).await).unwrap();
    assert_eq!(info.format, "qcow2");
    let mut percents = Vec::new();
    let mut on_line = |_, line: &str| percents.extend(parse::progress(line).map(|progress| progress.percent));
    let command = qm::importdisk(vmid(200), IMAGE, &storage("local-lvm"));
    let output = node.host.run(&command, RunOptions::within(LIMIT), &mut on_line).await.unwrap();
    let made = parse::imported_disk(&output.stdout).unwrap();
    assert_eq!((made.slot.as_str(), made.volume.as_str()), ("unused0", "local-lvm:vm-200-disk-0"));
    assert!(percents.is_sorted() && percents.last() == Some(&100.0), "{percents:?}");
    let drive = qm::attach(&made.volume, "discard=on");
    let options = [("scsi0", drive.as_str()), ("ide2", "local-lvm:cloudinit"), ("boot", "order=scsi0")];
    let created = parse::created_disks(&node.run(qm::set(vmid(200), options)).await);
    assert_eq!(created[0].slot, "ide2");
    let config = parse::config(&node.run(qm::config(vmid(200))).await).unwrap();
    assert!(config["scsi0"].starts_with("local-lvm:vm-200-disk-0,discard=on"), "{config:?}");
}

async fn tables() {
    let node = node().await;
    let storages = parse::pvesm_status(&node.run(pvesm::status()).await).unwrap();
    assert!(storages.iter().any(|row| row.id == storage("local-lvm")));
    assert_eq!(parse::qm_list(&node.run(qm::list()).await).unwrap(), []);
    node.run(qm::create(vmid(200), [("name", "web01")])).await;
    assert_eq!(parse::qm_list(&node.run(qm::list()).await).unwrap()[0].name, "web01");
    assert_eq!(parse::status(&node.run(qm::status(vmid(200))).await).unwrap(), "stopped");
    assert!(!parse::pending(&node.run(qm::pending(vmid(200))).await).unwrap().is_empty());
    let volumes = parse::pvesm_list(&node.run(pvesm::list(&storage("local"))).await).unwrap();
    assert!(volumes.iter().any(|row| row.volume.as_str().starts_with("local:import/")), "{volumes:?}");
    let none: [(&str, &str); 0] = [];
    let text = node.run(access::pvesh(access::PveshVerb::Get, "/version", none)).await;
    let version: serde_json::Value = parse::json("pvesh", &text).unwrap();
    assert!(version["version"].is_string());
    assert_eq!(parse::hostname(&node.run(files::hostname()).await).unwrap().as_str(), "pve1");
    parse::pveversion(&node.run(access::pveversion()).await).unwrap();
}

async fn configurations() {
    let node = node().await;
    for number in [200, 201] {
        node.run(qm::create(vmid(number), [("name", "web"), ("description", "a: b\nname: forged")])).await;
    }
    let guests = parse::guest_configs(&node.run(files::guest_configs()).await).unwrap();
    assert_eq!(guests.iter().map(|guest| guest.vmid.get()).collect::<Vec<_>>(), [200, 201]);
    assert!(guests[0].text.contains("name: web\n"), "{}", guests[0].text);
}

async fn failures() {
    let node = node().await;
    let check = async |command: Command, expect: fn(&parse::Failure) -> bool| {
        let output = node.host.run(&command, RunOptions::within(LIMIT), &mut |_, _| {}).await.unwrap();
        assert_ne!(output.status, 0, "{command}");
        let failure = parse::failure(&output.stderr);
        assert!(failure.as_ref().is_some_and(expect), "{command}: {failure:?} of {}", output.stderr);
    };
    use parse::Failure as F;
    use pve_types::PveError as E;
    check(qm::config(vmid(999)), |f| f.error() == Some(E::GuestGone)).await;
    check(pvesm::status_of(&storage("nope")), |f| f.error() == Some(E::StorageUnfit)).await;
    node.run(qm::create(vmid(200), [("name", "web")])).await;
    check(qm::create(vmid(200), [("name", "web")]), |f| f.error() == Some(E::VmidTaken)).await;
    check(qm::set(vmid(200), [("memory", "lots")]), |f| matches!(f, F::Parameters { .. })).await;
    check(qm::importdisk(vmid(200), IMAGE, &storage("nope")), |f| f.error() == Some(E::StorageUnfit)).await;
}

async fn arguments() {
    let node = node().await;
    let words = ["it's", "$HOME", "`id`", "a;b", "", "-n", "é\t|", "\\n", "{a,b}", "*"];
    let mut command = Command::new("printf").arg("%s|");
    for word in words {
        command = command.arg(word);
    }
    assert_eq!(node.run(command).await, words.map(|word| format!("{word}|")).concat());
}

async fn given_up() {
    let node = node().await;
    let options = RunOptions::within(Duration::from_millis(500));
    let command = Command::new("sleep").arg("4000");
    let error = node.host.run(&command, options, &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(&error, Error::Deadline { ended: Ended::Yes, .. }), "{error}");
}

async fn upload() {
    let node = node().await;
    let source = node.folder.path().join("image.iso");
    std::fs::write(&source, vec![7; 3_000_001]).unwrap();
    let target = "/var/lib/vz/template/iso/it's an image.iso";
    node.run(files::mkdir_parents("/var/lib/vz/template/iso")).await;
    let done = node.host.upload(&Upload::file(&source, target), &mut |_, _| {}).await.unwrap();
    assert_eq!(parse::checksum(256, &node.run(files::checksum(256, target)).await).unwrap(), done.sha256);
    assert_eq!(parse::file_stat(&node.run(files::stat(target)).await).unwrap().size.get(), 3_000_001);
    let huge = node.folder.path().join("huge.iso");
    std::fs::File::create(&huge).unwrap().set_len(1 << 43).unwrap();
    let error = node.host.upload(&Upload::file(&huge, target), &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(error, Error::Upload(pve_ssh::UploadError::NoSpace { .. })), "{error}");
}

async fn cluster_lock() {
    let node = node().await;
    let lock = "/etc/pve/priv/lock/vmdeploy-web";
    node.run(files::mkdir(lock)).await;
    let error = node.host.run_to_success(&files::mkdir(lock), LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("File exists"), "{error}");
    node.run(files::touch(lock)).await;
    parse::file_stat(&node.run(files::stat(lock)).await).unwrap();
    node.run(files::rmdir(lock)).await;
}
