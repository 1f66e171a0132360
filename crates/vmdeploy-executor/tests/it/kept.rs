//! A VM that is replaced keeps its data disk: the same volume in the same slot with the same options, whatever happens to
//! the run on its way.

use crate::fixture::{Fixture, Transports, quick_world};
use crate::spec::{carried_out, planned, spec};
use futures::StreamExt as _;
use std::collections::BTreeMap;
use vmdeploy_executor::{ResumeMode, RunError, RunOptions, RunResult};
use vmdeploy_planner::plan::{PlanMode, Verb};

/// What is in the data disk, and in no other volume.
const DATA: u64 = 123_456_789;

const TRANSPORTS: [(&str, Transports); 3] =
    [("hybrid", Transports::Both), ("api", Transports::Api), ("ssh", Transports::Ssh)];

fn yaml(transport: &str, keep: &str, image: &str, size: u32, replace: &str) -> String {
    format!(
        "version: 1\nproject: web\ntransport: {transport}\nimages:\n  system: {{{image}}}\nvms:\n  db01:\n    vmid: 201\n    node: pve1\n    lifecycle: {{{replace}}}\n    disks:\n      scsi0: {{storage: local-lvm, image: system, size: 2GiB}}\n      scsi1: {{storage: local-lvm, size: {size}GiB, keep: {keep}, serial: data-1, discard: true}}\n    nics: {{net0: {{bridge: vmbr0}}}}\n"
    )
}

const OLD: &str = "volume: 'local:import/tiny.qcow2'";
/// Returns the same image as another one: its checksum names what is in it.
fn new_image() -> String {
    format!("{OLD}, checksum: 'sha256:{}'", "a".repeat(64))
}

/// Returns the configuration of each guest as it is.
fn configs(fixture: &Fixture) -> BTreeMap<u32, BTreeMap<String, String>> {
    let config = |guest: &pve_lab::world::Guest| guest.config.clone().into_iter().collect();
    let world = fixture.lab.world();
    world.with(|world| world.guests.iter().map(|(vmid, guest)| (vmid.get(), config(guest))).collect())
}

/// Returns the volumes that hold the data, with the guest and slot that name each.
fn data(fixture: &Fixture) -> Vec<(String, Option<(u32, String)>)> {
    let guests = configs(fixture);
    fixture.lab.world().with(|world| {
        let volumes = world.block_stores.iter().flat_map(|((_, storage), store)| {
            let holds = store.volumes.iter().filter(|(_, volume)| volume.seed == DATA);
            holds.map(move |(name, _)| format!("{storage}:{name}"))
        });
        let owner = |volume: &String| {
            guests.iter().find_map(|(vmid, config)| {
                let slot = config.iter().find(|(_, value)| value.split(',').next() == Some(volume));
                slot.map(|(slot, _)| (*vmid, slot.clone()))
            })
        };
        volumes.map(|volume| (volume.clone(), owner(&volume))).collect()
    })
}

async fn deployed(transport: &str, transports: Transports, keep: &str) -> Fixture {
    let fixture = Fixture::of(quick_world(), "[]", transports).await;
    let plan = planned(&fixture, &spec(&yaml(transport, keep, OLD, 3, "")), "r0", PlanMode::Deploy).await;
    let (report, _) = carried_out(&fixture, plan).await;
    assert_eq!(report.result, RunResult::Done, "{transport}: {:#?}", report.failures().collect::<Vec<_>>());
    let slot = configs(&fixture)[&201]["scsi1"].clone();
    let name = slot.split([':', ',']).nth(1).expect("a volume").to_owned();
    fixture.lab.world().with(|world| {
        let mut stores = world.block_stores.values_mut();
        stores.find_map(|store| store.volumes.get_mut(&name)).expect("the data disk").seed = DATA;
    });
    fixture
}

fn check_kept(fixture: &Fixture, what: &str) {
    let found = data(fixture);
    assert_eq!(found.len(), 1, "{what}: {found:?}");
    assert_eq!(found[0].1, Some((201, "scsi1".to_owned())), "{what}: {found:?}");
    let config = &configs(fixture)[&201];
    for option in ["serial=data-1", "discard=on", "size=3G"] {
        assert!(config["scsi1"].contains(option), "{what}: {}", config["scsi1"]);
    }
    assert!(!config.keys().any(|key| key.starts_with("unused")), "{what}: {config:?}");
    assert_eq!(fixture.guests().len(), 1, "{what}: the holder is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_vm_gets_its_data_disk_and_its_mac_back() {
    for (transport, transports) in TRANSPORTS {
        let fixture = deployed(transport, transports, "true").await;
        let mac = |fixture: &Fixture| configs(fixture)[&201]["net0"].clone();
        let before = mac(&fixture);
        let text = yaml(transport, "true", &new_image(), 3, "replace: on-image-change");
        let plan = planned(&fixture, &spec(&text), "r1", PlanMode::Deploy).await;
        assert_eq!(plan.changes[0].verb, Verb::Replace);
        let (report, _) = carried_out(&fixture, plan).await;
        assert_eq!(
            report.result,
            RunResult::Done,
            "{transport}: {:#?}",
            report.failures().collect::<Vec<_>>()
        );
        check_kept(&fixture, transport);
        assert_eq!(mac(&fixture), before, "{transport}");
        let again = planned(&fixture, &spec(&text), "r2", PlanMode::Deploy).await;
        assert!(again.is_empty(), "{transport}: {:#?}", again.changes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_killed_after_any_record_never_leaves_the_data_without_an_owner() {
    let step = if std::env::var_os("VMDEPLOY_TEST_ALL").is_some() { 1 } else { 3 };
    for (transport, transports) in [TRANSPORTS[0], TRANSPORTS[1]] {
        let killed = |place: usize| async move {
            let fixture = deployed(transport, transports, "true").await;
            let text = yaml(transport, "true", &new_image(), 3, "replace: on-image-change");
            let plan = planned(&fixture, &spec(&text), "r1", PlanMode::Deploy).await;
            let options = RunOptions { die_after_records: Some(place), ..fixture.options() };
            if !matches!(fixture.try_run(plan, &options).await.0, Err(RunError::Died)) {
                return false;
            }
            let what = format!("{transport}, killed after {place}");
            let found = data(&fixture);
            assert_eq!(found.len(), 1, "{what}: {found:?}");
            assert!(found[0].1.is_some(), "{what}: no guest names {found:?}");
            match fixture.resume("r1", ResumeMode::Finish).await {
                Err(RunError::NothingToResume { .. }) => {}
                Err(error) => panic!("{what}: {error}"),
                Ok(report) => {
                    let failures: Vec<_> = report.failures().collect();
                    assert_eq!(report.result, RunResult::Done, "{what}: {failures:#?}");
                }
            }
            check_kept(&fixture, &what);
            true
        };
        let died = futures::stream::iter((1..90).step_by(step).map(killed)).buffer_unordered(4);
        let died = died.filter(|died| std::future::ready(*died)).count().await;
        assert!(died > 8, "{transport}: {died}");
    }
}
