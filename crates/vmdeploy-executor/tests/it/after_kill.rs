//! What becomes of changes of existing VMs when a run is killed: rolled back to what was there before, or deployed
//! again instead of resumed; by every transport.

use crate::fixture::{Fixture, Transports, guest, plan, quick_world};
use crate::spec::{carried_out, planned, spec};
use futures::StreamExt as _;
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_executor::{FailureKind, ResumeMode, RunError, RunOptions, RunResult};
use vmdeploy_planner::plan::PlanMode;

const TRANSPORTS: [(&str, Transports); 4] = [
    ("hybrid", Transports::Both),
    ("auto", Transports::Both),
    ("api", Transports::Api),
    ("ssh", Transports::Ssh),
];

/// One VM with a disk of an image, stopped; with `more` as further keys and disks.
fn yaml(transport: &str, more: &str, disks: &str) -> String {
    format!(
        "version: 1\nproject: web\ntransport: {transport}\nimages:\n  tiny: {{volume: 'local:import/tiny.qcow2'}}\nvms:\n  \
         web01:\n    vmid: 201\n    node: pve1\n    cpu: 2\n    memory: 1GiB\n    lifecycle: {{state: stopped}}\n{more}    \
         disks:\n      scsi0: {{storage: local-lvm, image: tiny, size: 2GiB}}\n{disks}    nics:\n      net0: {{bridge: vmbr0}}\n    \
         cloud_init: {{user: admin, ssh_keys: [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9y6Ie6yQy5x4Jm0o7U0v3Yg6o8Vn0C5Yw0u7Yv0abc me@here\"]}}\n"
    )
}

fn before(transport: &str) -> String {
    yaml(transport, "", "")
}

/// The same, and started.
fn started(transport: &str) -> String {
    before(transport).replace("    lifecycle: {state: stopped}\n", "")
}

/// A change with a new value, an empty disk and one of an image.
fn changed(transport: &str) -> String {
    let disks = "      scsi1: {storage: local-lvm, size: 1GiB}\n      scsi2: {storage: local-lvm, image: tiny, size: 2GiB}\n";
    yaml(transport, "    tags: [changed]\n    onboot: true\n", disks)
}

/// Everything that a run may leave: configurations, volumes, and files on the node.
#[derive(Debug, PartialEq)]
struct Left {
    guests: BTreeMap<pve_types::Vmid, BTreeMap<String, String>>,
    volumes: BTreeSet<String>,
    files: Vec<String>,
}

fn left(fixture: &Fixture) -> Left {
    let guests = fixture.guests();
    fixture.lab.world().with(|world| Left {
        guests,
        volumes: world.block_stores.values().flat_map(|store| store.volumes.keys().cloned()).collect(),
        files: ["/run", "/var/lib/vz/snippets"]
            .iter()
            .flat_map(|folder| world.nodes["pve1"].files.list(folder).unwrap_or_default())
            .filter(|name| name.contains("vmdeploy"))
            .collect(),
    })
}

/// Where a run is killed: after every fifth record, or after each where `VMDEPLOY_TEST_ALL` is set.
fn places(records: usize) -> impl Iterator<Item = usize> {
    let step = if std::env::var_os("VMDEPLOY_TEST_ALL").is_some() { 1 } else { 5 };
    (1..records).step_by(step)
}

async fn deployed(transport: &str, transports: Transports, text: &str) -> Fixture {
    let fixture = Fixture::of(quick_world(), "[]", transports).await;
    let plan = planned(&fixture, &spec(text), "r0", PlanMode::Deploy).await;
    let (report, _) = carried_out(&fixture, plan).await;
    assert_eq!(report.result, RunResult::Done, "{transport}: {:#?}", report.failures().collect::<Vec<_>>());
    fixture
}

/// Kills the deployment of this spec after so many records; returns whether it was killed.
async fn killed(fixture: &Fixture, text: &str, place: usize) -> bool {
    let plan = planned(fixture, &spec(text), "r1", PlanMode::Deploy).await;
    let options = RunOptions { die_after_records: Some(place), ..fixture.options() };
    matches!(fixture.try_run(plan, &options).await.0, Err(RunError::Died))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_killed_after_any_record_is_rolled_back_to_what_was_there() {
    for (transport, transports) in TRANSPORTS {
        let records = 40;
        let rolled_back = |place: usize| async move {
            let fixture = deployed(transport, transports, &before(transport)).await;
            let was = left(&fixture);
            if !killed(&fixture, &changed(transport), place).await {
                return false;
            }
            let report = match fixture.resume("r1", ResumeMode::Rollback).await {
                Err(RunError::NothingToResume { .. }) => return false,
                other => other.unwrap(),
            };
            let failures: Vec<_> = report.failures().collect();
            assert_eq!(
                report.result,
                RunResult::RolledBack,
                "{transport}, killed after {place}: {failures:#?}"
            );
            assert_eq!(left(&fixture), was, "{transport}, killed after {place}");
            true
        };
        let died = futures::stream::iter(places(records).map(rolled_back))
            .buffer_unordered(4)
            .filter(|died| std::future::ready(*died))
            .count()
            .await;
        assert!(died > 1, "{transport}: {died}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deploying_again_instead_of_resuming_ends_right_and_leaves_no_volume() {
    for (transport, transports) in TRANSPORTS {
        let undisturbed = deployed(transport, transports, &started(transport)).await;
        let expect = left(&undisturbed);
        let again = |place: usize| {
            let expect = &expect;
            async move {
                let fixture = Fixture::of(quick_world(), "[]", transports).await;
                if !killed(&fixture, &started(transport), place).await {
                    return false;
                }
                let mut notes = Vec::new();
                vmdeploy_executor::drain_in_flight("web", &fixture.connections, &fixture.options(), |note| {
                    notes.push(note);
                })
                .await
                .unwrap();
                let plan = planned(&fixture, &spec(&started(transport)), "r2", PlanMode::Deploy).await;
                let (report, _) = carried_out(&fixture, plan).await;
                let failures: Vec<_> = report.failures().collect();
                assert_eq!(
                    report.result,
                    RunResult::Done,
                    "{transport}, killed after {place}: {failures:#?}"
                );
                let now = left(&fixture);
                assert_eq!(
                    now.volumes.len(),
                    expect.volumes.len(),
                    "{transport}, killed after {place}: {now:#?}"
                );
                let running = |left: &Left| -> Vec<String> {
                    left.guests.values().map(|guest| guest["running"].clone()).collect()
                };
                assert_eq!(running(&now), running(expect), "{transport}, killed after {place}");
                let plan = planned(&fixture, &spec(&started(transport)), "r3", PlanMode::Deploy).await;
                assert!(plan.is_empty(), "{transport}, killed after {place}: {:#?}", plan.changes);
                let unfinished = fixture.runs().newest_unfinished(None, ResumeMode::Finish).unwrap();
                assert!(unfinished.is_none(), "{transport}, killed after {place}: it is superseded");
                true
            }
        };
        let died = futures::stream::iter(places(30).map(again))
            .buffer_unordered(4)
            .filter(|died| std::future::ready(*died))
            .count()
            .await;
        assert!(died > 1, "{transport}: {died}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_others_changed_since_the_kill_is_left_alone() {
    let theirs = [
        ("memory", "4096"),
        ("scsi7", "local-lvm:vm-999-disk-0,size=1G"),
        ("net3", "virtio=BC:24:11:00:00:99,bridge=vmbr0"),
    ];
    for (key, value) in theirs {
        for mode in [ResumeMode::Finish, ResumeMode::Rollback] {
            let fixture = Fixture::start().await;
            // After the creation, the import and what follows: the VM is there, and not started.
            let options = RunOptions { die_after_records: Some(14), ..fixture.options() };
            let (died, _) = fixture.try_run(plan("r1", 1), &options).await;
            assert!(matches!(died, Err(RunError::Died)), "{died:?}");
            fixture.lab.world().with(|world| {
                let guest = world.guests.values_mut().next().expect("the VM is made");
                guest.config.insert(key.to_owned(), value.to_owned());
            });
            let was = (fixture.guests(), fixture.volumes());
            let report = fixture.resume("r1", mode).await.unwrap();
            assert_eq!((fixture.guests(), fixture.volumes()), was, "{key}, {mode:?}: nothing was touched");
            assert_eq!(report.result, RunResult::Left, "{key}, {mode:?}");
            let failure = report.failures().find(|failure| failure.kind == FailureKind::DigestChanged);
            let failure = failure.unwrap_or_else(|| panic!("{:#?}", report.failures().collect::<Vec<_>>()));
            assert!(failure.message.contains(key), "{failure:?}");
            assert!(failure.message.contains(&guest(1).vmid.to_string()), "{failure:?}");
        }
    }
}
