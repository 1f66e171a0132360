//! Every other action over the lab's real doors: images, snippets, disks, templates, pools, high availability, restarts,
//! commands of the user's.

use crate::stage::{
    Roads, Stage, chain, guest, mark, patch, plan, plan_by_api, plan_of, quick_world, step, text,
};
use pve_ssh::command::{Command, files};
use pve_types::Vmid;
use sha2::{Digest as _, Sha256};
use vmdeploy_executor::{FailureKind, Outcome, RunReport, RunResult, StepState, TookEffect};
use vmdeploy_planner::plan::{Action, HaWish, ImageOrigin, OnFailure, Plan, Road, Step, Verb};

const URL: &str = "https://images.example.org/disk.qcow2";

/// A plan that changes a guest that is there already.
fn change(run: &str, steps: Vec<Step>) -> Plan {
    let mut plan = plan_of(run, &[guest(1)], steps);
    plan.changes[0].verb = Verb::Update;
    plan.changes[0].on_failure = OnFailure::Keep;
    plan
}

fn of_vm1(what: &str, action: Action) -> Step {
    step("vm1", what, action, Road::Api, &[])
}

fn done(report: &RunReport) {
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
}

/// Carries one step out on VM 201, and looks whether doing it again changes nothing.
async fn does_once(stage: &Stage, action: &Action) {
    let runs = stage.runs().list().unwrap().len();
    let run = |time: usize| change(&format!("run-{}", runs + time), vec![of_vm1("it", action.clone())]);
    let (report, _) = stage.run(run(1)).await;
    done(&report);
    let before = stage.guests();
    let (report, _) = stage.run(run(2)).await;
    done(&report);
    assert_eq!(stage.guests(), before);
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
    plan.steps.insert(0, Step { vm: None, ..step("-", "place", action, Road::Api, &[]) });
    let create = plan.steps.iter_mut().find(|step| step.id.0 == "vm1/create").unwrap();
    create.after.insert(vmdeploy_planner::plan::StepId("-/place".to_owned()));
    plan
}

async fn checksum_of(stage: &Stage, path: &str) -> String {
    let sum = stage.on_node(&files::checksum(256, path)).await;
    format!("sha256:{}", sum.split(' ').next().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_placed_by_url_and_a_wrong_checksum_stops_everything_behind_it() {
    let mut world = quick_world();
    let tiny = world.files.iter().find(|file| file.path == crate::stage::IMAGE).unwrap().content.clone();
    world.urls.insert(URL.to_owned(), tiny);
    let stage = Stage::of(world, "[]", Roads::Api).await;
    let with_ssh = Stage::start().await;
    let right = checksum_of(&with_ssh, crate::stage::IMAGE).await;
    let by_url = || ImageOrigin::Url { url: URL.to_owned() };

    let wrong = format!("sha256:{}", "0".repeat(64));
    let (report, _) = stage.run(place(by_url(), "local:import/disk.qcow2", Some(wrong))).await;
    let failure = report.failures().next().unwrap().clone();
    assert_eq!(failure.kind, FailureKind::ImageUnfit, "{failure:?}");
    assert!(failure.message.contains("checksum mismatch") && failure.upid.is_some(), "{failure:?}");
    assert!(failure.hint.unwrap().contains("vmdeploy image check"));
    assert!(stage.guests().is_empty(), "nothing is made of an image that is not the one that was meant");
    assert_eq!(report.result, RunResult::Undone, "{:?}", report.left);

    let mut plan = place(by_url(), "local:import/disk.qcow2", Some(right));
    plan.run_id = "r2".to_owned();
    let (report, _) = stage.run(plan.clone()).await;
    assert_eq!(report.steps[0].state, StepState::Succeeded, "{report:#?}");
    assert!(matches!(report.steps[0].outcome, Some(Outcome::Volume { .. })));
    plan.run_id = "r3".to_owned();
    let (report, _) = stage.run(plan).await;
    assert_eq!(report.steps[0].outcome, Some(Outcome::AlreadyDone), "one that is there is left as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_placed_by_upload_and_on_the_ssh_road_by_sftp() {
    // 100 KiB are more than one part of either way.
    let image: Vec<u8> = (0..100 << 10).map(|place| u8::try_from(place % 251).unwrap()).collect();
    let checksum = format!("sha256:{}", hex(&Sha256::digest(&image)));
    for roads in [Roads::Both, Roads::Ssh] {
        let stage = Stage::of(quick_world(), "[]", roads).await;
        std::fs::write(stage.folder.path().join("disk.iso"), &image).unwrap();
        let origin = ImageOrigin::File { path: "disk.iso".to_owned(), unpack: None };
        let action = Action::PlaceImage {
            image: "disk".to_owned(),
            node: "pve1".parse().unwrap(),
            volume: "local:iso/disk.iso".parse().unwrap(),
            origin,
            checksum: Some(checksum.clone()),
        };
        let road = if roads == Roads::Ssh { Road::Ssh } else { Road::Api };
        let (report, _) = stage.run(change("r1", vec![step("vm1", "place", action, road, &[])])).await;
        done(&report);
        let found = checksum_of(&stage, "/var/lib/vz/template/iso/disk.iso").await;
        assert_eq!(found, checksum, "{roads:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_on_the_node_is_verified_by_its_checksum() {
    let stage = Stage::start().await;
    let right = checksum_of(&stage, crate::stage::IMAGE).await;
    let verify = |path: &str, checksum: Option<String>| Action::VerifyImage {
        image: "disk".to_owned(),
        node: "pve1".parse().unwrap(),
        path: path.to_owned(),
        checksum,
    };
    for (run, path, checksum, expect) in [
        ("r1", crate::stage::IMAGE, Some(right), None),
        ("r2", crate::stage::IMAGE, Some(format!("sha256:{}", "0".repeat(64))), Some("has checksum sha256:")),
        ("r3", crate::stage::IMAGE, None, None),
        ("r4", "/var/lib/vz/import/none.qcow2", None, Some("there is no file")),
    ] {
        let step = step("vm1", "verify", verify(path, checksum), Road::Ssh, &[]);
        let (report, _) = stage.run(change(run, vec![step])).await;
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
    let stage = Stage::start().await;
    let text = "#cloud-config\npackages: [qemu-guest-agent]\n";
    std::fs::write(stage.folder.path().join("user.yaml"), text).unwrap();
    let snippet = Action::PlaceSnippet {
        node: "pve1".parse().unwrap(),
        volume: "local:snippets/vmdeploy-test-vm1.yaml".parse().unwrap(),
        source: "user.yaml".to_owned(),
        sha256: hex(&Sha256::digest(text)),
    };
    let place = |run: &str| change(run, vec![step("vm1", "snippet", snippet.clone(), Road::Ssh, &[])]);
    let (report, _) = stage.run(place("r1")).await;
    done(&report);
    let path = "/var/lib/vz/snippets/vmdeploy-test-vm1.yaml";
    assert_eq!(stage.on_node(&files::read(path)).await, text);
    let mode = stage.on_node(&Command::new("stat").args(["-c", "%a"]).arg(path)).await;
    assert_eq!(mode.trim(), "600", "a snippet may hold what is nobody's business");
    std::fs::write(stage.folder.path().join("user.yaml"), "#cloud-config\n").unwrap();
    let (report, _) = stage.run(place("r2")).await;
    let failure = report.failures().next().unwrap();
    assert_eq!((failure.kind, failure.took_effect), (FailureKind::ImageUnfit, TookEffect::No));
    assert!(failure.message.contains("changed after the plan was made"), "{failure:?}");
    assert_eq!(stage.on_node(&files::read(path)).await, text, "it is left as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_moves_to_another_storage_and_the_old_volume_goes() {
    let stage = Stage::start().await;
    stage.run(plan("r1", 1)).await;
    let action = Action::MoveDisk {
        guest: guest(1),
        slot: "scsi1".to_owned(),
        storage: "local".parse().unwrap(),
        format: Some("qcow2".to_owned()),
    };
    does_once(&stage, &action).await;
    let config = stage.guests().remove(&Vmid::new(201).unwrap()).unwrap();
    assert!(config["scsi1"].starts_with("local:201/vm-201-disk-"), "{config:?}");
    assert!(!config.keys().any(|key| key.starts_with("unused")), "{config:?}");
    assert_eq!(stage.volumes(), 2, "the old volume is gone");
    assert_eq!(config["running"], "true", "nobody restarted it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_made_and_cloned_linked() {
    let stage = Stage::start().await;
    let mut make = chain("r1", &guest(1));
    make.retain(|step| !step.id.0.ends_with("start") && !step.id.0.ends_with("await-address"));
    make.iter_mut().for_each(|step| step.after.retain(|id| !id.0.starts_with("-/")));
    make.push(step(
        "vm1",
        "template",
        Action::ConvertToTemplate { guest: guest(1) },
        Road::Api,
        &["resize-scsi0"],
    ));
    let (report, _) = stage.run(plan_of("r1", &[guest(1)], make)).await;
    done(&report);
    does_once(&stage, &Action::ConvertToTemplate { guest: guest(1) }).await;
    let config = stage.guests().remove(&Vmid::new(201).unwrap()).unwrap();
    assert_eq!(config["template"], "1");
    assert!(config["scsi0"].contains("base-201-disk-"), "{config:?}");
    let clone = Action::CloneVm {
        source: guest(1),
        guest: guest(2),
        full: false,
        storage: None,
        description: mark("r2", &guest(2)),
        pool: None,
    };
    let (report, _) =
        stage.run(plan_of("r2", &[guest(2)], vec![step("vm2", "clone", clone, Road::Api, &[])])).await;
    done(&report);
    assert!(stage.guests().contains_key(&guest(2).vmid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_comes_into_a_pool_changes_it_and_leaves_it() {
    let mut world = quick_world();
    for pool in ["web", "db"] {
        world.pools.insert(pool.to_owned(), pve_lab::world::PoolSpec::default());
    }
    let stage = Stage::of(world, "[]", Roads::Both).await;
    stage.run(plan("r1", 1)).await;
    let pool_of = || {
        stage.lab.world().with(|world| {
            let mut pools = world.access.pools.iter();
            pools.find(|(_, pool)| pool.guests.contains(&201)).map(|(name, _)| name.clone())
        })
    };
    for (pool, expect) in [(Some("web"), Some("web")), (Some("db"), Some("db")), (None, None)] {
        let pool = pool.map(|pool| pool.parse().unwrap());
        does_once(&stage, &Action::SetPool { guest: guest(1), pool }).await;
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
        let stage = Stage::of(cluster(version), "[]", Roads::Both).await;
        let run = |run: &str, ha: Option<HaWish>| {
            let mut plan = change(run, vec![of_vm1("ha", Action::SetHa { guest: guest(1), ha })]);
            plan.pve_version = version.parse().unwrap();
            plan
        };
        let mut create = plan("r1", 1);
        create.pve_version = version.parse().unwrap();
        done(&stage.run(create).await.0);
        let wish = |nodes: &[(&str, u32)], strict: bool| HaWish {
            state: "started".to_owned(),
            max_restart: Some(2),
            max_relocate: None,
            on_nodes: nodes.iter().map(|(node, priority)| (node.parse().unwrap(), *priority)).collect(),
            strict,
        };
        let api = |path: &'static str| async {
            let rows: Vec<serde_json::Value> =
                stage.connections.api().get(path, pve_api::Params::new()).await.unwrap();
            rows
        };
        let both = wish(&[("pve1", 2), ("pve2", 1)], true);
        for (name, ha) in [("r2", &both), ("r3", &both)] {
            done(&stage.run(run(name, Some(ha.clone()))).await.0);
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
        done(&stage.run(run("r4", Some(wish(&[], false)))).await.0);
        for name in ["r5", "r6"] {
            done(&stage.run(run(name, None)).await.0);
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
    let stage = Stage::start().await;
    stage.run(plan("r1", 1)).await;
    let set = Action::SetConfig {
        guest: guest(1),
        patch: patch([("scsihw", text("virtio-scsi-pci"))]),
        digest: None,
    };
    let reboot = Action::RebootVm { guest: guest(1) };
    let steps = vec![of_vm1("set", set), step("vm1", "reboot", reboot.clone(), Road::Api, &["set"])];
    let (report, _) = stage.run(change("r2", steps)).await;
    done(&report);
    assert_eq!(report.steps[0].outcome, Some(Outcome::Pending { keys: vec!["scsihw".to_owned()] }));
    let state = || stage.guests().remove(&Vmid::new(201).unwrap()).unwrap();
    assert_eq!((state()["scsihw"].as_str(), state()["running"].as_str()), ("virtio-scsi-pci", "true"));
    let stop = Action::ShutdownVm { guest: guest(1), timeout_s: 60, force: false };
    done(&stage.run(change("r3", vec![of_vm1("stop", stop)])).await.0);
    assert_eq!(state()["running"], "false");
    done(&stage.run(change("r4", vec![of_vm1("reboot", reboot)])).await.0);
    assert_eq!(state()["running"], "true");
}
