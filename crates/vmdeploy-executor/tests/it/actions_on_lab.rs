//! Every other action against the lab's listeners: images, snippets, disks, templates, pools, high availability, restarts,
//! commands of the user's.

use crate::fixture::{
    Fixture, Transports, chain, guest, marker, patch, plan, plan_by_api, plan_of, quick_world, step, text,
};
use pve_ssh::command::{Command, files};
use pve_types::{HaState, Vmid};
use sha2::{Digest as _, Sha256};
use vmdeploy_executor::{FailureKind, Outcome, RunReport, RunResult, StepState, TookEffect};
use vmdeploy_planner::plan::{
    Action, CloneAction, DesiredHa, ImageOrigin, MoveAction, OnFailure, Plan, Step, Transport, Verb,
};

const URL: &str = "https://images.example.org/disk.qcow2";

/// A plan that changes a guest that is there already.
fn change(run: &str, steps: Vec<Step>) -> Plan {
    let mut plan = plan_of(run, &[guest(1)], steps);
    plan.changes[0].verb = Verb::Update;
    plan.changes[0].on_failure = OnFailure::Keep;
    plan
}

fn of_vm1(what: &str, action: Action) -> Step {
    step("vm1", what, action, Transport::Api, &[])
}

fn done(report: &RunReport) {
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
}

/// Carries one step out on VM 201, and looks whether doing it again changes nothing.
async fn does_once(fixture: &Fixture, action: &Action) {
    let runs = fixture.runs().list().unwrap().len();
    let run = |time: usize| change(&format!("run-{}", runs + time), vec![of_vm1("it", action.clone())]);
    let (report, _) = fixture.run(run(1)).await;
    done(&report);
    let before = fixture.guests();
    let (report, _) = fixture.run(run(2)).await;
    done(&report);
    assert_eq!(fixture.guests(), before);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn place(origin: ImageOrigin, volume: &str, checksum: Option<String>) -> Plan {
    let action = Action::PlaceImage {
        image: "disk".to_owned(),
        node: "pve1".parse().unwrap(),
        volume: volume.parse().unwrap(),
        origin,
        checksum,
    };
    let mut plan = plan_by_api("r1", 1);
    plan.steps.insert(0, Step { vm: None, ..step("-", "place", action, Transport::Api, &[]) });
    let create = plan.steps.iter_mut().find(|step| step.id.0 == "vm1/create").unwrap();
    create.after.insert(vmdeploy_planner::plan::StepId("-/place".to_owned()));
    plan
}

async fn checksum_of(fixture: &Fixture, path: &str) -> String {
    let sum = fixture.on_node(&files::checksum(256, path)).await;
    format!("sha256:{}", sum.split(' ').next().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_placed_by_url_and_a_wrong_checksum_stops_everything_behind_it() {
    let mut world = quick_world();
    let tiny = world.files.iter().find(|file| file.path == crate::fixture::IMAGE).unwrap().content.clone();
    world.urls.insert(URL.to_owned(), tiny);
    let fixture = Fixture::of(world, "[]", Transports::Api).await;
    let with_ssh = Fixture::start().await;
    let right = checksum_of(&with_ssh, crate::fixture::IMAGE).await;
    let by_url = || ImageOrigin::Url { url: URL.to_owned() };

    let wrong = format!("sha256:{}", "0".repeat(64));
    let (report, _) = fixture.run(place(by_url(), "local:import/disk.qcow2", Some(wrong))).await;
    let failure = report.failures().next().unwrap().clone();
    assert_eq!(failure.kind, FailureKind::ImageUnfit, "{failure:?}");
    assert!(failure.message.contains("checksum mismatch") && failure.upid.is_some(), "{failure:?}");
    assert!(failure.hint.unwrap().contains("vmdeploy image check"));
    assert!(fixture.guests().is_empty(), "nothing is made of an image that is not the one that was meant");
    assert_eq!(report.result, RunResult::RolledBack, "{:?}", report.left);

    let mut plan = place(by_url(), "local:import/disk.qcow2", Some(right));
    plan.run_id = "r2".to_owned();
    let (report, _) = fixture.run(plan.clone()).await;
    assert_eq!(report.steps[0].state, StepState::Succeeded, "{report:#?}");
    assert!(matches!(report.steps[0].outcome, Some(Outcome::Volume { .. })));
    plan.run_id = "r3".to_owned();
    let (report, _) = fixture.run(plan).await;
    assert_eq!(report.steps[0].outcome, Some(Outcome::AlreadyDone), "one that is there is left as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_placed_by_upload_and_on_the_ssh_transport_by_sftp() {
    // 100 KiB are more than one part of either way.
    let image: Vec<u8> = (0..100 << 10).map(|place| u8::try_from(place % 251).unwrap()).collect();
    let checksum = format!("sha256:{}", hex(&Sha256::digest(&image)));
    for transports in [Transports::Both, Transports::Ssh] {
        let fixture = Fixture::of(quick_world(), "[]", transports).await;
        std::fs::write(fixture.folder.path().join("disk.iso"), &image).unwrap();
        let origin = ImageOrigin::File { path: "disk.iso".to_owned(), unpack: None };
        let action = Action::PlaceImage {
            image: "disk".to_owned(),
            node: "pve1".parse().unwrap(),
            volume: "local:iso/disk.iso".parse().unwrap(),
            origin,
            checksum: Some(checksum.clone()),
        };
        let transport = if transports == Transports::Ssh { Transport::Ssh } else { Transport::Api };
        let (report, _) = fixture.run(change("r1", vec![step("vm1", "place", action, transport, &[])])).await;
        done(&report);
        let found = checksum_of(&fixture, "/var/lib/vz/template/iso/disk.iso").await;
        assert_eq!(found, checksum, "{transports:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_on_the_node_is_verified_by_its_checksum() {
    let fixture = Fixture::start().await;
    let right = checksum_of(&fixture, crate::fixture::IMAGE).await;
    let verify = |path: &str, checksum: Option<String>| Action::VerifyImage {
        image: "disk".to_owned(),
        node: "pve1".parse().unwrap(),
        path: path.to_owned(),
        checksum,
    };
    for (run, path, checksum, expect) in [
        ("r1", crate::fixture::IMAGE, Some(right), None),
        (
            "r2",
            crate::fixture::IMAGE,
            Some(format!("sha256:{}", "0".repeat(64))),
            Some("has checksum sha256:"),
        ),
        ("r3", crate::fixture::IMAGE, None, None),
        ("r4", "/var/lib/vz/import/none.qcow2", None, Some("does not exist")),
    ] {
        let step = step("vm1", "verify", verify(path, checksum), Transport::Ssh, &[]);
        let (report, _) = fixture.run(change(run, vec![step])).await;
        let failure = report.failures().next().cloned();
        match expect {
            None => done(&report),
            Some(words) => {
                let failure = failure.unwrap();
                assert_eq!((failure.kind, failure.took_effect), (FailureKind::ImageUnfit, TookEffect::No));
                assert!(failure.message.contains(words) && failure.hint.is_some(), "{failure:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snippet_is_written_by_sftp_and_a_file_that_changed_since_is_refused() {
    let fixture = Fixture::start().await;
    let text = "#cloud-config\npackages: [qemu-guest-agent]\n";
    std::fs::write(fixture.folder.path().join("user.yaml"), text).unwrap();
    let snippet = Action::PlaceSnippet {
        node: "pve1".parse().unwrap(),
        volume: "local:snippets/vmdeploy-test-vm1.yaml".parse().unwrap(),
        source: "user.yaml".to_owned(),
        sha256: hex(&Sha256::digest(text)),
    };
    let place = |run: &str| change(run, vec![step("vm1", "snippet", snippet.clone(), Transport::Ssh, &[])]);
    let (report, _) = fixture.run(place("r1")).await;
    done(&report);
    let path = "/var/lib/vz/snippets/vmdeploy-test-vm1.yaml";
    assert_eq!(fixture.on_node(&files::read(path)).await, text);
    let mode = fixture.on_node(&Command::new("stat").args(["-c", "%a"]).arg(path)).await;
    assert_eq!(mode.trim(), "600", "a snippet may contain private data");
    std::fs::write(fixture.folder.path().join("user.yaml"), "#cloud-config\n").unwrap();
    let (report, _) = fixture.run(place("r2")).await;
    let failure = report.failures().next().unwrap();
    assert_eq!((failure.kind, failure.took_effect), (FailureKind::ImageUnfit, TookEffect::No));
    assert!(failure.message.contains("has changed since the plan was created"), "{failure:?}");
    assert_eq!(fixture.on_node(&files::read(path)).await, text, "it is left as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_moves_to_another_storage_and_the_old_volume_goes() {
    let fixture = Fixture::start().await;
    fixture.run(plan("r1", 1)).await;
    let action = Action::MoveDisk(MoveAction {
        guest: guest(1),
        slot: "scsi1".parse().unwrap(),
        volume: "local-lvm:vm-201-disk-1".parse().unwrap(),
        storage: "local".parse().unwrap(),
        format: Some("qcow2".to_owned()),
    });
    does_once(&fixture, &action).await;
    let config = fixture.guests().remove(&Vmid::new(201).unwrap()).unwrap();
    assert!(config["scsi1"].starts_with("local:201/vm-201-disk-"), "{config:?}");
    assert!(!config.keys().any(|key| key.starts_with("unused")), "{config:?}");
    assert_eq!(fixture.volumes(), 2, "the old volume is gone");
    assert_eq!(config["running"], "true", "it was not restarted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_made_and_cloned_linked() {
    let fixture = Fixture::start().await;
    let mut make = chain("r1", &guest(1));
    make.retain(|step| !step.id.0.ends_with("start") && !step.id.0.ends_with("await-address"));
    make.iter_mut().for_each(|step| step.after.retain(|id| !id.0.starts_with("-/")));
    make.push(step(
        "vm1",
        "template",
        Action::ConvertToTemplate { guest: guest(1) },
        Transport::Api,
        &["resize-scsi0"],
    ));
    let (report, _) = fixture.run(plan_of("r1", &[guest(1)], make)).await;
    done(&report);
    does_once(&fixture, &Action::ConvertToTemplate { guest: guest(1) }).await;
    let config = fixture.guests().remove(&Vmid::new(201).unwrap()).unwrap();
    assert_eq!(config["template"], "1");
    assert!(config["scsi0"].contains("base-201-disk-"), "{config:?}");
    let clone = Action::CloneVm(CloneAction {
        source: guest(1),
        guest: guest(2),
        full: false,
        storage: None,
        format: None,
        description: marker("r2", &guest(2)),
        pool: None,
    });
    let (report, _) =
        fixture.run(plan_of("r2", &[guest(2)], vec![step("vm2", "clone", clone, Transport::Api, &[])])).await;
    done(&report);
    assert!(fixture.guests().contains_key(&guest(2).vmid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_comes_into_a_pool_changes_it_and_leaves_it() {
    let mut world = quick_world();
    for pool in ["web", "db"] {
        world.pools.insert(pool.to_owned(), pve_lab::world::PoolSpec::default());
    }
    let fixture = Fixture::of(world, "[]", Transports::Both).await;
    fixture.run(plan("r1", 1)).await;
    let pool_of = || {
        fixture.lab.world().with(|world| {
            let mut pools = world.access.pools.iter();
            pools.find(|(_, pool)| pool.guests.contains(&201)).map(|(name, _)| name.clone())
        })
    };
    for (pool, expect) in [(Some("web"), Some("web")), (Some("db"), Some("db")), (None, None)] {
        let pool = pool.map(|pool| pool.parse().unwrap());
        does_once(&fixture, &Action::SetPool { guest: guest(1), pool }).await;
        assert_eq!(pool_of().as_deref(), expect);
    }
}

/// A cluster of two nodes of this version.
fn cluster(version: &str) -> pve_lab::WorldSpec {
    let mut world = quick_world();
    world.version = version.parse().unwrap();
    world.cluster = Some("lab".to_owned());
    let node = world.nodes["pve1"].clone();
    world.nodes.insert("pve2".to_owned(), node);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn high_availability_takes_groups_on_8_and_rules_on_9() {
    for (version, section) in [("8.4.14", "groups"), ("9.2.11", "rules")] {
        let fixture = Fixture::of(cluster(version), "[]", Transports::Both).await;
        let run = |run: &str, ha: Option<DesiredHa>| {
            let mut plan = change(run, vec![of_vm1("ha", Action::SetHa { guest: guest(1), ha })]);
            plan.pve_version = version.parse().unwrap();
            plan
        };
        let mut create = plan("r1", 1);
        create.pve_version = version.parse().unwrap();
        done(&fixture.run(create).await.0);
        let desired = |nodes: &[(&str, u32)], strict: bool| DesiredHa {
            state: HaState::Started,
            max_restart: Some(2),
            max_relocate: None,
            on_nodes: nodes.iter().map(|(node, priority)| (node.parse().unwrap(), *priority)).collect(),
            strict,
        };
        let api = |path: &'static str| async {
            let rows: Vec<serde_json::Value> =
                fixture.connections.api().get(path, pve_api::Params::new()).await.unwrap();
            rows
        };
        let both = desired(&[("pve1", 2), ("pve2", 1)], true);
        for (name, ha) in [("r2", &both), ("r3", &both)] {
            done(&fixture.run(run(name, Some(ha.clone()))).await.0);
            let resources = api("/cluster/ha/resources").await;
            assert_eq!(resources.len(), 1, "{version}: {resources:?}");
            assert_eq!(resources[0]["sid"], "vm:201");
            let text = if section == "groups" {
                serde_json::to_string(&api("/cluster/ha/groups").await).unwrap()
            } else {
                serde_json::to_string(&api("/cluster/ha/rules").await).unwrap()
            };
            assert!(text.contains("vmdeploy-test-201") && text.contains("pve2"), "{version}: {text}");
        }
        done(&fixture.run(run("r4", Some(desired(&[], false)))).await.0);
        for name in ["r5", "r6"] {
            done(&fixture.run(run(name, None)).await.0);
            assert!(api("/cluster/ha/resources").await.is_empty(), "{version}");
            let left = if section == "groups" {
                api("/cluster/ha/groups").await
            } else {
                api("/cluster/ha/rules").await
            };
            assert!(left.is_empty(), "{version}: {left:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_applies_what_was_pending_and_a_guest_that_is_off_is_started() {
    let fixture = Fixture::start().await;
    fixture.run(plan("r1", 1)).await;
    let set = Action::SetConfig {
        guest: guest(1),
        patch: patch([("scsihw", text("virtio-scsi-pci"))]),
        digest: None,
    };
    let reboot = Action::RebootVm { guest: guest(1) };
    let steps = vec![of_vm1("set", set), step("vm1", "reboot", reboot.clone(), Transport::Api, &["set"])];
    let (report, _) = fixture.run(change("r2", steps)).await;
    done(&report);
    assert_eq!(report.steps[0].outcome, Some(Outcome::Pending { keys: vec!["scsihw".to_owned()] }));
    let state = || fixture.guests().remove(&Vmid::new(201).unwrap()).unwrap();
    assert_eq!((state()["scsihw"].as_str(), state()["running"].as_str()), ("virtio-scsi-pci", "true"));
    let stop = Action::ShutdownVm { guest: guest(1), timeout_s: 60, force: false };
    done(&fixture.run(change("r3", vec![of_vm1("stop", stop)])).await.0);
    assert_eq!(state()["running"], "false");
    done(&fixture.run(change("r4", vec![of_vm1("reboot", reboot)])).await.0);
    assert_eq!(state()["running"], "true");
}
