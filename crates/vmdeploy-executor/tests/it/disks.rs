//! Disks of VMs that exist, changed at random by every transport: what is there afterwards is what the spec says, every
//! volume is accounted for, and those of others are as they were.

use crate::draw::Draw;
use crate::fixture::{Fixture, Transports};
use crate::spec::{carried_out, planned, spec, try_planned};
use pve_lab::WorldSpec;
use pve_types::Vmid;
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_executor::{FailureKind, RunResult};
use vmdeploy_planner::plan::{Action, PlanMode};

const WORLD: &str = "
token: {id: root@pam!lab, privsep: false}
storages:
  local: {type: dir, content: [images, iso, import, snippets], size: 100GiB, options: {path: /var/lib/vz}}
  local-lvm: {type: lvmthin, content: [images, rootdir], size: 500GiB, options: {vgname: pve, thinpool: data}}
  fast: {type: lvmthin, content: [images, rootdir], size: 500GiB, options: {vgname: fast, thinpool: data}}
files:
  - {path: /var/lib/vz/import/tiny.qcow2, content: {format: qcow2, virtual_size: 1GiB, file_size: 400MiB, seed: 7}}
guests:
  100: {node: pve1, running: true, config: {name: db, scsi0: 'local-lvm:vm-100-disk-0,size=32G', scsi1: 'fast:vm-100-disk-0,size=8G'}}
";

const TRANSPORTS: [(&str, Transports); 4] = [
    ("hybrid", Transports::Both),
    ("auto", Transports::Both),
    ("api", Transports::Api),
    ("ssh", Transports::Ssh),
];

fn world() -> WorldSpec {
    WorldSpec::from_yaml(WORLD).unwrap()
}

/// What the spec says of one disk, and the volume that it has; `None` until it is made.
#[derive(Debug, Clone)]
struct Disk {
    storage: &'static str,
    gib: u32,
    image: bool,
    volume: Option<String>,
}

type Disks = BTreeMap<String, Disk>;

/// The spec of a VM with these disks; `gone` are the slots that are to be emptied.
fn yaml(transport: &str, disks: &Disks, gone: Option<&str>) -> String {
    let mut text = format!(
        "version: 1\nproject: web\ntransport: {transport}\nimages: {{tiny: {{volume: 'local:import/tiny.qcow2'}}}}\nvms:\n  \
         web01:\n    vmid: 201\n    node: pve1\n    lifecycle: {{state: stopped}}\n    disks:\n"
    );
    for (slot, disk) in disks {
        let image = if disk.image { ", image: tiny" } else { "" };
        text.push_str(&format!(
            "      {slot}: {{storage: {}, size: {}GiB{image}}}\n",
            disk.storage, disk.gib
        ));
    }
    text.extend(gone.map(|slot| format!("      {slot}: null\n")));
    text
}

fn vmid(number: u32) -> Vmid {
    Vmid::new(number).unwrap()
}

/// All volumes of guests of the block storages: where each is, and its name.
fn stored(fixture: &Fixture) -> BTreeSet<String> {
    fixture.lab.world().with(|world| {
        let of_store = |(place, store): (&(String, String), &pve_lab::world::BlockStore)| {
            store.volumes.keys().map(|name| format!("{}/{}:{name}", place.0, place.1)).collect::<Vec<_>>()
        };
        world.block_stores.iter().flat_map(of_store).collect()
    })
}

/// What a guest names as disks, by slot.
fn named(fixture: &Fixture, number: u32) -> BTreeMap<String, String> {
    fixture.lab.world().with(|world| {
        let config = &world.guests[&vmid(number)].config;
        let disk = |(slot, text): (&String, &String)| {
            let volume = text.split(',').next()?;
            volume.contains(":vm-").then(|| (slot.clone(), volume.to_owned()))
        };
        config.iter().filter_map(disk).collect()
    })
}

/// Changes one thing; returns the slot that is emptied, if one is.
fn change(disks: &mut Disks, draw: &mut Draw) -> Option<String> {
    let free: Vec<String> = ["scsi", "virtio"]
        .iter()
        .flat_map(|bus| (1..5).map(move |number| format!("{bus}{number}")))
        .filter(|slot| !disks.contains_key(slot))
        .collect();
    let there: Vec<String> = disks.keys().filter(|slot| *slot != "scsi0").cloned().collect();
    match draw.below(if there.is_empty() { 2 } else { 6 }) {
        kind @ (0 | 1) => {
            let image = kind == 1;
            let (storage, gib) = (draw.of(&["local-lvm", "fast"]), 1 + u32::try_from(draw.below(4)).unwrap());
            disks.insert(draw.of(&free), Disk { storage, gib, image, volume: None });
            None
        }
        2 => {
            let slot = draw.of(&there);
            disks.remove(&slot);
            Some(slot)
        }
        3 => {
            disks.get_mut(&draw.of(&there)).unwrap().gib += 1;
            None
        }
        4 => {
            let disk = disks.get_mut(&draw.of(&there)).unwrap();
            disk.storage = if disk.storage == "fast" { "local-lvm" } else { "fast" };
            disk.volume = None;
            None
        }
        _ => {
            let disk = disks.remove(&draw.of(&there)).unwrap();
            disks.insert(draw.of(&free), disk);
            None
        }
    }
}

async fn goes_well(fixture: &Fixture, yaml: &str, run: &str) {
    let deployment = spec(yaml);
    let plan = planned(fixture, &deployment, run, PlanMode::Deploy).await;
    let (report, _) = carried_out(fixture, plan).await;
    assert_eq!(report.result, RunResult::Done, "{yaml}\n{:#?}", report.failures().collect::<Vec<_>>());
}

async fn random_changes(transport: &str, transports: Transports, seed: u64) {
    let fixture = Fixture::of(world(), "[]", transports).await;
    let mut draw = Draw::new(seed);
    let root = Disk { storage: "local-lvm", gib: 2, image: true, volume: None };
    let mut disks = Disks::from([("scsi0".to_owned(), root)]);
    goes_well(&fixture, &yaml(transport, &disks, None), "r0").await;
    let foreign = named(&fixture, 100);
    let of_others = |stored: &BTreeSet<String>| -> BTreeSet<String> {
        stored.iter().filter(|name| !name.contains("vm-201-")).cloned().collect()
    };
    let others = of_others(&stored(&fixture));
    assert_eq!(others.len(), 2);
    let mut detached = 0;
    for round in 1..=8 {
        let what = format!("{transport}, seed {seed}, round {round}");
        let gone = change(&mut disks, &mut draw);
        detached += usize::from(gone.is_some());
        goes_well(&fixture, &yaml(transport, &disks, gone.as_deref()), &format!("r{round}")).await;
        let there = named(&fixture, 201);
        for (slot, disk) in &mut disks {
            let volume = there.get(slot).unwrap_or_else(|| panic!("{what}: no {slot} in {there:?}"));
            assert!(volume.starts_with(&format!("{}:", disk.storage)), "{what}: {slot} is {volume}");
            let known = disk.volume.get_or_insert_with(|| volume.clone());
            assert_eq!(known, volume, "{what}: {slot} is the disk that it was");
        }
        let unused = there.keys().filter(|slot| slot.starts_with("unused")).count();
        assert_eq!((there.len(), unused), (disks.len() + detached, detached), "{what}: {there:?}");
        let stored = stored(&fixture);
        let own = stored.iter().filter(|name| name.contains("vm-201-")).count();
        assert_eq!(own, there.len(), "{what}: every volume is named: {stored:?} {there:?}");
        assert_eq!(of_others(&stored), others, "{what}");
        assert_eq!(named(&fixture, 100), foreign, "{what}");
        let again = planned(&fixture, &spec(&yaml(transport, &disks, None)), "again", PlanMode::Deploy).await;
        assert!(again.is_empty(), "{what}: {:#?}", again.changes);
    }
    let destroy = planned(&fixture, &spec(&yaml(transport, &disks, None)), "gone", PlanMode::Destroy).await;
    let (report, _) = carried_out(&fixture, destroy).await;
    assert_eq!(report.result, RunResult::Done);
    assert_eq!(stored(&fixture), others, "{transport}, seed {seed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_changes_of_disks_by_all_transports_account_for_every_volume() {
    for (transport, transports) in TRANSPORTS {
        for seed in 1..=3 {
            random_changes(transport, transports, seed).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_another_guest_took_since_the_plan_was_made_is_left_alone() {
    for (transport, transports) in TRANSPORTS {
        let fixture = Fixture::of(world(), "[]", transports).await;
        let disk = |storage: &'static str| Disk { storage, gib: 2, image: false, volume: None };
        let disks = Disks::from([("scsi1".to_owned(), disk("fast"))]);
        let moved = Disks::from([("scsi1".to_owned(), disk("local-lvm"))]);
        let grown = Disks::from([("scsi1".to_owned(), Disk { gib: 3, ..disk("fast") })]);
        goes_well(&fixture, &yaml(transport, &disks, None), "r0").await;
        let plans = [
            planned(&fixture, &spec(&yaml(transport, &moved, None)), "r1", PlanMode::Deploy).await,
            planned(&fixture, &spec(&yaml(transport, &grown, None)), "r2", PlanMode::Deploy).await,
            planned(&fixture, &spec(&yaml(transport, &Disks::new(), Some("scsi1"))), "r3", PlanMode::Deploy)
                .await,
            planned(&fixture, &spec(&yaml(transport, &disks, None)), "r4", PlanMode::Destroy).await,
        ];
        fixture.lab.world().with(|world| {
            let guest = world.guests.get_mut(&vmid(100)).unwrap();
            guest.config.insert("scsi7".to_owned(), "fast:vm-201-disk-0,size=2G".to_owned());
        });
        let before = (named(&fixture, 201), stored(&fixture));
        for plan in plans {
            let run = plan.run_id.clone();
            let (report, _) = carried_out(&fixture, plan).await;
            let failures: Vec<_> = report.failures().collect();
            assert!(
                failures.iter().any(|failure| failure.kind == FailureKind::NotOurs
                    && failure.message.contains("VM 100 `db` uses it, which runs")),
                "{transport} {run}: {failures:#?}"
            );
            assert_eq!((named(&fixture, 201), stored(&fixture)), before, "{transport} {run}");
        }
        assert!(
            try_planned(&fixture, &spec(&yaml(transport, &moved, None)), "r5", PlanMode::Deploy)
                .await
                .is_err()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_was_changed_by_hand_touches_nothing_of_others() {
    let fixture = Fixture::of(world(), "[]", Transports::Both).await;
    let disk = Disk { storage: "fast", gib: 2, image: false, volume: None };
    let disks = Disks::from([("scsi1".to_owned(), disk)]);
    goes_well(&fixture, &yaml("hybrid", &disks, None), "r0").await;
    let grown = Disks::from([("scsi1".to_owned(), Disk { gib: 3, ..disks["scsi1"].clone() })]);
    let before = stored(&fixture);
    let foreign: pve_types::VolumeId = "fast:vm-100-disk-0".parse().unwrap();
    let free = Action::FreeVolume {
        node: "pve1".parse().unwrap(),
        volume: vmdeploy_planner::plan::Ref::Known(foreign.clone()),
    };
    let mut plan = planned(&fixture, &spec(&yaml("hybrid", &grown, None)), "r1", PlanMode::Deploy).await;
    let guest = plan.changes[0].guest.clone();
    let attach = Action::SetConfig {
        guest,
        patch: vmdeploy_planner::plan::ConfigPatch {
            set: [("scsi5".to_owned(), vmdeploy_planner::plan::PatchValue::Text(foreign.to_string()))].into(),
            ..Default::default()
        },
        digest: None,
    };
    for (number, action) in [free, attach].into_iter().enumerate() {
        let last = plan.steps.last_mut().unwrap();
        last.action = action;
        plan.run_id = format!("t{number}");
        let (report, _) = carried_out(&fixture, plan.clone()).await;
        assert!(report.failures().any(|failure| failure.kind == FailureKind::NotOurs), "{report:#?}");
        assert_eq!(stored(&fixture), before);
        assert_eq!(named(&fixture, 201).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_is_rolled_back_leaves_no_volume() {
    for (transport, transports) in TRANSPORTS {
        let refuse = match transports {
            Transports::Ssh => {
                "[{when: {command: 'qm disk resize 201 *'}, do: {refuse: {reason: no, exit: 255}}}]"
            }
            _ => "[{when: {path: '/nodes/*/qemu/201/resize'}, do: {refuse: {status: 500, reason: no}}}]",
        };
        let fixture = Fixture::of(world(), "[]", transports).await;
        let root = Disk { storage: "local-lvm", gib: 2, image: true, volume: None };
        let mut disks = Disks::from([("scsi0".to_owned(), root)]);
        goes_well(&fixture, &yaml(transport, &disks, None), "r0").await;
        let before = (named(&fixture, 201), stored(&fixture));
        disks.insert("scsi1".to_owned(), Disk { storage: "fast", gib: 2, image: false, volume: None });
        disks.insert("scsi2".to_owned(), Disk { storage: "fast", gib: 2, image: true, volume: None });
        disks.get_mut("scsi0").unwrap().gib = 5;
        fixture.add_faults(refuse);
        let mut plan = planned(&fixture, &spec(&yaml(transport, &disks, None)), "r1", PlanMode::Deploy).await;
        for change in &mut plan.changes {
            change.on_failure = vmdeploy_planner::plan::OnFailure::Rollback;
        }
        let (report, _) = carried_out(&fixture, plan).await;
        assert_ne!(report.result, RunResult::Done, "{transport}");
        assert_eq!((named(&fixture, 201), stored(&fixture)), before, "{transport}: {report:#?}");
    }
}
