//! Faults that the state machine found, one by one: what belongs to others is left alone, what is left is said.

use crate::fixture::{Fixture, Transports, quick_world};
use crate::spec::{carried_out, planned, spec, try_planned};
use pve_types::Vmid;
use std::collections::BTreeSet;
use vmdeploy_executor::{
    EventKind, FailureKind, ResumeMode, RunError, RunOptions, RunReport, RunResult, VmState,
};
use vmdeploy_planner::plan::PlanMode;

/// One VM that is 201, stopped unless `more` says otherwise, with these disks.
fn yaml(transport: &str, more: &str, disks: &[&str]) -> String {
    let state = if more.contains("lifecycle") { "" } else { "    lifecycle: {state: stopped}\n" };
    let disks: String = disks.iter().map(|disk| format!("      {disk}\n")).collect();
    format!(
        "version: 1\nproject: web\ntransport: {transport}\nimages: {{tiny: {{volume: 'local:import/tiny.qcow2'}}}}\nvms:\n  \
         web01:\n    vmid: 201\n    node: pve1\n{state}{more}    disks:\n{disks}"
    )
}

const ROOT: &str = "scsi0: {storage: local-lvm, image: tiny, size: 2GiB}";
const DATA: &str = "scsi1: {storage: local-lvm, size: 1GiB}";

async fn deployed(fixture: &Fixture, yaml: &str, run: &str) -> RunReport {
    let plan = planned(fixture, &spec(yaml), run, PlanMode::Deploy).await;
    let (report, _) = carried_out(fixture, plan).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    report
}

fn vmid(number: u32) -> Vmid {
    Vmid::new(number).unwrap()
}

fn stored(fixture: &Fixture) -> BTreeSet<String> {
    fixture
        .lab
        .world()
        .with(|world| world.block_stores.values().flat_map(|store| store.volumes.keys().cloned()).collect())
}

fn set(fixture: &Fixture, guest: u32, key: &str, value: &str) {
    fixture.lab.world().with(|world| {
        world.guests.get_mut(&vmid(guest)).unwrap().config.insert(key.to_owned(), value.to_owned());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_was_detached_since_is_not_taken_for_what_a_dead_run_left() {
    let fixture = Fixture::start().await;
    let both = yaml("hybrid", "", &[ROOT, DATA]);
    let plan = planned(&fixture, &spec(&both), "r1", PlanMode::Deploy).await;
    // Between the record that the creation begins and that it ended.
    let options = RunOptions { die_after_records: Some(6), ..fixture.options() };
    let (died, _) = fixture.try_run(plan, &options).await;
    assert!(matches!(died, Err(RunError::Died)), "{died:?}");
    deployed(&fixture, &both, "r2").await;
    let disks = stored(&fixture);
    deployed(&fixture, &yaml("hybrid", "", &[ROOT, "scsi1: null"]), "r3").await;
    deployed(&fixture, &yaml("hybrid", "    tags: [later]\n", &[ROOT, "scsi1: null"]), "r4").await;
    assert_eq!(stored(&fixture), disks, "the disk is an `unusedN`, and stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_is_no_longer_ours_is_neither_stopped_nor_robbed_of_its_disk() {
    for (transport, transports) in
        [("hybrid", Transports::Both), ("api", Transports::Api), ("ssh", Transports::Ssh)]
    {
        let fixture = Fixture::of(quick_world(), "[]", transports).await;
        fixture.lab.world().with(|world| {
            let config = [("name".to_owned(), "holder".to_owned())].into();
            let now = world.now_seconds();
            let holder =
                pve_lab::world::Guest::new(vmid(999), pve_lab::world::GuestKind::Qemu, "pve1", config, now);
            world.guests.insert(vmid(999), holder);
        });
        let kept = "scsi1: {storage: local-lvm, size: 1GiB, keep: {holder: 999}}";
        let text = yaml(transport, "    lifecycle: {state: running}\n", &[ROOT, kept]);
        deployed(&fixture, &text, "r1").await;
        let plan = planned(&fixture, &spec(&text), "r2", PlanMode::Destroy).await;
        set(&fixture, 201, "description", "mine now");
        let before = (fixture.guests(), stored(&fixture));
        let (report, _) = carried_out(&fixture, plan).await;
        assert!(
            report.failures().any(|failure| failure.kind == FailureKind::NotOurs),
            "{transport}: {:#?}",
            report.vms
        );
        assert_eq!((fixture.guests(), stored(&fixture)), before, "{transport}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_in_spite_of_an_error_is_done() {
    for (transport, transports, fault) in [
        (
            "api",
            Transports::Api,
            "{when: {path: '*/resize'}, do: {refuse: {status: 500, reason: no, at: after}}}",
        ),
        ("api", Transports::Api, "{when: {task: resize}, do: {fail-task: {text: no, at: after}}}"),
        (
            "ssh",
            Transports::Ssh,
            "{when: {command: 'qm disk resize *'}, do: {refuse: {reason: no, exit: 255, at: after}}}",
        ),
    ] {
        let fixture = Fixture::of(quick_world(), "[]", transports).await;
        deployed(&fixture, &yaml(transport, "", &[ROOT]), "r1").await;
        fixture.add_faults(&format!("[{fault}]"));
        let grown = ROOT.replace("2GiB", "3GiB");
        let report = deployed(&fixture, &yaml(transport, "", &[&grown]), "r2").await;
        let warned =
            report.steps.iter().any(|step| step.warnings.iter().any(|text| text.contains("in spite of")));
        assert!(warned, "{fault}: {:#?}", report.steps);
        assert_eq!(report.vms[0].state, VmState::Done);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_order_is_put_back_with_the_disk_that_it_names() {
    for (transport, transports) in
        [("hybrid", Transports::Both), ("api", Transports::Api), ("ssh", Transports::Ssh)]
    {
        let fixture = Fixture::of(quick_world(), "[]", transports).await;
        deployed(&fixture, &yaml(transport, "", &[ROOT, DATA]), "r1").await;
        let before = fixture.guests();
        // The disk comes to another slot, and then a new one cannot be made.
        let moved = ROOT.replace("scsi0", "virtio0");
        let text = yaml(transport, "", &[&moved, DATA, "scsi3: {storage: local, size: 1GiB}"]);
        let mut plan = planned(&fixture, &spec(&text), "r2", PlanMode::Deploy).await;
        fixture.add_faults("[{when: {storage: local}, do: storage-full}]");
        plan.changes[0].on_failure = vmdeploy_planner::plan::OnFailure::Rollback;
        let (report, _) = carried_out(&fixture, plan).await;
        assert_eq!(report.result, RunResult::RolledBack, "{transport}: {:#?}", report.vms);
        assert_eq!(fixture.guests(), before, "{transport}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_leaves_no_keys_and_no_snippet_on_the_node() {
    let more = "    cloud_init: {user: admin, ssh_keys: [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9y6Ie6yQy5x4Jm0o7U0v3Yg6o8Vn0C5Yw0u7Yv0abc me@here\"]}\n";
    let of_ours = |fixture: &Fixture| -> Vec<String> {
        fixture.lab.world().with(|world| {
            let names = world.nodes["pve1"].files.list("/run").unwrap_or_default();
            names.into_iter().filter(|name| name.contains("vmdeploy")).collect()
        })
    };
    let fixture = Fixture::start().await;
    let plan = planned(&fixture, &spec(&yaml("hybrid", more, &[ROOT])), "r1", PlanMode::Deploy).await;
    // The process dies while `qm set` reads the keys.
    fixture.add_faults("[{when: {command: 'qm set *', times: 1}, do: {slow: {ms: 1500}}}]");
    let has_keys = |world: &mut pve_lab::World| {
        world.nodes["pve1"]
            .files
            .list("/run")
            .unwrap_or_default()
            .iter()
            .any(|name| name.contains("vmdeploy"))
    };
    fixture.killed_when(plan, has_keys).await;
    assert!(!of_ours(&fixture).is_empty(), "the keys are there");
    let report = fixture.resume("r1", ResumeMode::Rollback).await.unwrap();
    assert_eq!(report.result, RunResult::RolledBack, "{:#?}", report.failures().collect::<Vec<_>>());
    assert_eq!(of_ours(&fixture), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_no_guest_names_is_said_and_left_alone() {
    for (transport, transports) in
        [("hybrid", Transports::Both), ("api", Transports::Api), ("ssh", Transports::Ssh)]
    {
        let fixture = Fixture::of(quick_world(), "[]", transports).await;
        fixture.lab.world().with(|world| {
            let new = pve_lab::world::NewVolume {
                node: "pve1",
                storage: "local-lvm",
                vmid: vmid(201),
                format: "raw",
                name: None,
                size: 1 << 30,
                data: 0,
            };
            drop(world.allocate(&new).unwrap());
        });
        let plan = planned(&fixture, &spec(&yaml(transport, "", &[ROOT])), "r1", PlanMode::Deploy).await;
        let (report, events) = carried_out(&fixture, plan).await;
        assert_eq!(report.result, RunResult::Done, "{transport}");
        let said = events.iter().any(|event| {
            matches!(&event.event, EventKind::Note { text, .. } if text.contains("pvesm free local-lvm:vm-201-disk-0"))
        });
        assert!(said, "{transport}: {events:#?}");
        assert!(stored(&fixture).contains("vm-201-disk-0"), "{transport}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_in_a_snapshot_or_in_two_slots_is_not_moved() {
    let fixture = Fixture::start().await;
    let moved = DATA.replace("local-lvm", "local");
    deployed(&fixture, &yaml("hybrid", "", &[ROOT, DATA]), "r1").await;
    let volume = "local-lvm:vm-201-disk-1,size=1G";
    set(&fixture, 201, "virtio7", volume);
    let refused =
        try_planned(&fixture, &spec(&yaml("hybrid", "", &[ROOT, &moved])), "r2", PlanMode::Deploy).await;
    assert!(refused.unwrap_err().contains("`virtio7` has the volume of `scsi1`"));
    fixture.lab.world().with(|world| {
        let guest = world.guests.get_mut(&vmid(201)).unwrap();
        guest.config.remove("virtio7");
        let config = guest.config.clone();
        guest.snapshots.insert("s1".to_owned(), pve_lab::world::Snapshot { config, ..Default::default() });
    });
    let refused =
        try_planned(&fixture, &spec(&yaml("hybrid", "", &[ROOT, &moved])), "r3", PlanMode::Deploy).await;
    assert!(refused.unwrap_err().contains("is part of a snapshot"));
}
