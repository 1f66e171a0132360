//! The 25 failures that deployers of Proxmox VE meet most: each is made to happen by a fault of the lab, and what a
//! person then sees stands in docs/failures.md.

use crate::fixture::{
    Fixture, Transports, chain, config, create_action, guest, marker, new_disk, patch, plan, plan_by_api,
    plan_of, quick_world, step, text,
};
use pve_types::{HaState, Vmid};
use std::collections::BTreeSet;
use vmdeploy_executor::{
    Connections, EventKind, Failure, FailureKind, Found, Outcome, RunReport, RunResult, TookEffect,
};
use vmdeploy_planner::plan::{
    Action, CloneAction, Condition, ConfigPatch, DesiredHa, GuestRef, ImportAction, IpFamily, OnFailure,
    Plan, Step, Transport, Verb,
};

/// Asserts that the row of docs/failures.md names this kind and shows this message.
fn documented(row: u32, kind: &str, message: &str) {
    let path = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/failures.md");
    let document = std::fs::read_to_string(path).unwrap();
    let line = document.lines().find(|line| line.starts_with(&format!("| {row} |")));
    let line = line.unwrap_or_else(|| panic!("docs/failures.md has no row {row}"));
    assert!(line.contains(&format!("`{kind}`")), "row {row} does not name `{kind}`");
    assert!(line.contains(message), "row {row} does not show: {message}");
}

fn kind_name(kind: FailureKind) -> String {
    serde_json::to_value(kind).unwrap().as_str().unwrap().to_owned()
}

/// Asserts that a failure is documented in the row, and says all that a person needs.
fn documented_failure(row: u32, failure: &Failure) {
    let message = failure.message.replace('|', "\\|");
    documented(row, &kind_name(failure.kind), &message);
    assert!(failure.step.is_some() && failure.vm.is_some(), "{failure:?}");
    assert!(failure.hint.is_some(), "what to do next is missing: {failure:?}");
}

/// Returns the failure of a step.
fn failure_of(report: &RunReport, step: &str) -> Failure {
    let found = report.steps.iter().find(|report| report.step.0 == step).unwrap();
    found.failure.clone().unwrap_or_else(|| panic!("{step} did not fail: {:?}", found.state))
}

fn retried(events: &[vmdeploy_executor::Event], step: &str) -> Vec<Failure> {
    let failure = |event: &vmdeploy_executor::Event| match &event.event {
        EventKind::StepRetrying { step: id, failure, .. } if id.0 == step => Some(failure.clone()),
        _ => None,
    };
    events.iter().filter_map(failure).collect()
}

/// A plan that changes a guest that is there already.
fn change(run: &str, guest: &GuestRef, steps: Vec<Step>) -> Plan {
    let mut plan = plan_of(run, std::slice::from_ref(guest), steps);
    plan.changes[0].verb = Verb::Update;
    plan.changes[0].on_failure = OnFailure::Keep;
    plan
}

fn set(guest: &GuestRef, patch: ConfigPatch, transport: Transport) -> Step {
    let action = Action::SetConfig { guest: guest.clone(), patch, digest: None };
    step(guest.name.as_ref(), "set", action, transport, &[])
}

fn wait(guest: &GuestRef, condition: Condition, deadline_s: u64) -> Step {
    let action = Action::Await { guest: guest.clone(), condition };
    Step { deadline_s, ..step(guest.name.as_ref(), "await", action, Transport::Api, &[]) }
}

/// Changes a guest of the world by hand.
fn by_hand(fixture: &Fixture, vmid: u32, key: &str, value: &str) {
    fixture.lab.world().with(|world| {
        let guest = world.guests.get_mut(&Vmid::new(vmid).unwrap()).unwrap();
        guest.config.insert(key.to_owned(), value.to_owned());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn row_01_a_config_lock_is_waited_for() {
    let faults = "[{when: {command: 'qm set 201 *', times: 2}, do: lock-timeout}]";
    let fixture = Fixture::with_faults(faults).await;
    let (report, events) = fixture.run(plan("r1", 1)).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    let failures = retried(&events, "vm1/attach");
    assert_eq!(failures.len(), 2);
    assert_eq!((failures[0].kind, failures[0].took_effect), (FailureKind::ConfigLock, TookEffect::No));
    documented(1, "config_lock", "can't lock file '/var/lock/qemu-server/lock-201.conf' - got timeout");
    assert!(failures[0].message.ends_with("lock-201.conf' - got timeout") && failures[0].hint.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_02_a_storage_lock_is_waited_for() {
    let faults = "[{when: {method: POST, path: '/nodes/*/qemu', times: 1}, \
                    do: {refuse: {reason: \"cfs-lock 'storage-ceph' error: got lock request timeout\"}}}]";
    let fixture = Fixture::with_faults(faults).await;
    let (report, events) = fixture.run(plan_by_api("r1", 1)).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    let failures = retried(&events, "vm1/create");
    assert_eq!(failures[0].kind, FailureKind::StorageLock);
    documented_failure(2, &failures[0]);
    assert_eq!(fixture.volumes(), 3, "no orphans");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_03_clones_of_one_source_wait_for_each_other() {
    let fixture = Fixture::start().await;
    let template = guest(9);
    let mut make = chain("r1", &template);
    make.retain(|step| !step.id.0.ends_with("start") && !step.id.0.ends_with("await-address"));
    make.iter_mut().for_each(|step| step.after.retain(|id| !id.0.starts_with("-/")));
    let (report, _) = fixture.run(plan_of("r1", std::slice::from_ref(&template), make)).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    let clone = |number: u32| {
        let guest = guest(number);
        let action = Action::CloneVm(CloneAction {
            source: template.clone(),
            guest: guest.clone(),
            full: true,
            storage: None,
            format: None,
            description: marker("r2", &guest),
            pool: None,
        });
        step(guest.name.as_ref(), "clone", action, Transport::Api, &[])
    };
    let guests: Vec<GuestRef> = (1..=3).map(guest).collect();
    let (report, events) = fixture.run(plan_of("r2", &guests, (1..=3).map(clone).collect())).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    let mut running = 0;
    for event in &events {
        match event.event {
            EventKind::StepStarted { .. } => running += 1,
            EventKind::StepSucceeded { .. } => running -= 1,
            _ => {}
        }
        assert!(running <= 1, "two clones of one source at once");
    }
    documented(3, "per_source", "one clone of a source at a time");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_04_a_stale_lock_is_left_to_a_person() {
    let fixture = Fixture::start().await;
    fixture.run(plan("r1", 1)).await;
    by_hand(&fixture, 201, "lock", "backup");
    let change =
        change("r2", &guest(1), vec![set(&guest(1), patch([("memory", text("1024"))]), Transport::Api)]);
    let (report, _) = fixture.run(change).await;
    let failure = failure_of(&report, "vm1/set");
    assert_eq!((failure.kind, failure.took_effect), (FailureKind::GuestLocked, TookEffect::No));
    documented_failure(4, &failure);
    assert!(failure.hint.unwrap().contains("qm unlock 201"));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_05_a_vmid_taken_by_others_is_never_touched() {
    let fixture = Fixture::start().await;
    let mut stranger = guest(1);
    stranger.name = "stranger".parse().unwrap();
    let create = create_action("r0", &stranger);
    fixture
        .run(plan_of(
            "r0",
            std::slice::from_ref(&stranger),
            vec![step("stranger", "create", create, Transport::Api, &[])],
        ))
        .await;
    let before = fixture.guests();
    let (report, _) = fixture.run(plan("r1", 1)).await;
    let failure = failure_of(&report, "vm1/create");
    assert_eq!((failure.kind, failure.took_effect), (FailureKind::VmidTaken, TookEffect::No));
    assert_eq!(
        failure.message,
        "VMID 201 is used by VM `stranger` of project `test`, which run `r0` created"
    );
    by_hand(&fixture, 201, "description", "made by hand");
    let (report, _) = fixture.run(plan("r2", 1)).await;
    let failure = failure_of(&report, "vm1/create");
    documented_failure(5, &failure);
    assert_eq!(fixture.guests(), before);
    assert_eq!(report.exit_code(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_06_an_unanswered_create_is_probed_and_not_repeated_blindly() {
    for (moment, made) in [("after", true), ("before", false)] {
        let faults =
            format!("[{{when: {{method: POST, path: '/nodes/*/qemu', times: 1}}, do: {{drop: {moment}}}}}]");
        let fixture = Fixture::with_faults(&faults).await;
        let (report, events) = fixture.run(plan_by_api("r1", 1)).await;
        assert_eq!(report.result, RunResult::Done, "{moment}: {:#?}", report.failures().collect::<Vec<_>>());
        assert_eq!(fixture.volumes(), 3, "{moment}: nothing was made twice");
        let found = events.iter().find_map(|event| match &event.event {
            EventKind::StepProbed { found, .. } => Some(found.clone()),
            _ => None,
        });
        let failures = retried(&events, "vm1/create");
        if made {
            assert!(matches!(found, Some(Found::Done { .. })), "{found:?}");
            assert_eq!(
                (failures[0].kind, failures[0].took_effect),
                (FailureKind::NoAnswer, TookEffect::Maybe)
            );
            documented_failure(6, &failures[0]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_07_warnings_of_a_task_are_shown() {
    let mut world = quick_world();
    world.guest.shuts_down = false;
    let fixture = Fixture::of(world, "[]", Transports::Both).await;
    fixture.run(plan("r1", 1)).await;
    let action = Action::ShutdownVm { guest: guest(1), timeout_s: 1, force: true };
    let (report, _) = fixture
        .run(change("r2", &guest(1), vec![step("vm1", "shutdown", action, Transport::Api, &[])]))
        .await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    let warnings = &report.steps[0].warnings;
    assert!(!warnings.is_empty());
    documented(7, "warnings", &warnings[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_08_a_failed_task_shows_its_log_node_and_upid() {
    let fixture = Fixture::with_faults(
        "[{when: {task: qmstart}, do: {fail-task: {text: 'start failed: QEMU exited with code 1'}}}]",
    )
    .await;
    let (report, _) = fixture.run(plan("r1", 1)).await;
    let failure = failure_of(&report, "vm1/start");
    assert_eq!(failure.kind, FailureKind::TaskFailed);
    assert!(failure.upid.is_some() && failure.node.is_some() && !failure.log.is_empty(), "{failure:?}");
    documented_failure(8, &failure);
}

#[test]
fn row_09_a_dead_process_is_documented() {
    // The test is `a_run_killed_after_any_record_is_finished_by_resume`.
    documented(9, "resume", "vmdeploy resume");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_10_a_cut_import_leaves_no_orphan() {
    let faults = "[{when: {command: 'qm importdisk 201 *', times: 1}, do: {cut: {after_ms: 0}}}]";
    let mut world = quick_world();
    // The import must not be through before the connection is cut.
    world.delays.copy_ms_per_100_mib = 1000;
    let fixture = Fixture::of(world, faults, Transports::Both).await;
    let (report, events) = fixture.run(plan("r1", 1)).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    let failures = retried(&events, "vm1/import-scsi0");
    assert_eq!((failures[0].kind, failures[0].took_effect), (FailureKind::NoAnswer, TookEffect::Maybe));
    documented(10, "no_answer", "was lost while");
    assert!(fixture.guests().values().all(|config| !config.keys().any(|key| key.starts_with("unused"))));
    assert_eq!(fixture.volumes(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_11_a_slot_that_holds_a_volume_gets_no_other() {
    let fixture = Fixture::start().await;
    fixture.run(plan("r1", 1)).await;
    let before = fixture.guests();
    let again = set(&guest(1), patch([("scsi1", new_disk("2"))]), Transport::Ssh);
    let (report, _) = fixture.run(change("r2", &guest(1), vec![again])).await;
    let failure = failure_of(&report, "vm1/set");
    assert_eq!((failure.kind, failure.took_effect), (FailureKind::SlotOccupied, TookEffect::No));
    documented(11, "slot_occupied", "`scsi1` of VM 201 has local-lvm:vm-201-disk-");
    assert_eq!(fixture.guests(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_12_a_disk_never_shrinks_and_its_size_is_read_back() {
    let fixture = Fixture::with_faults(
        "[{when: {method: PUT, path: '/nodes/*/qemu/*/resize'}, do: {refuse: {reason: shrinking disks is not supported}}}]",
    )
    .await;
    let (report, _) = fixture.run(plan("r1", 1)).await;
    let failure = failure_of(&report, "vm1/resize-scsi0");
    assert_eq!(failure.kind, FailureKind::Resize);
    documented_failure(12, &failure);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_13_the_volume_that_pve_named_is_used() {
    let fixture = Fixture::start().await;
    let mut plan = plan("r1", 1);
    for step in &mut plan.steps {
        if let Action::ImportDisk(ImportAction { storage, format, .. }) = &mut step.action {
            *storage = "local".parse().unwrap();
            *format = Some("qcow2".to_owned());
        }
    }
    let (report, _) = fixture.run(plan).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    let import = report.steps.iter().find(|step| step.step.0 == "vm1/import-scsi0").unwrap();
    let Some(Outcome::Volume { volume }) = &import.outcome else { panic!("{import:?}") };
    assert_eq!(volume.as_str(), "local:201/vm-201-disk-0.qcow2");
    documented(13, "outcome", "local:201/vm-201-disk-0.qcow2");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_14_an_unfit_storage_is_named() {
    let fixture = Fixture::start().await;
    fixture.lab.world().with(|world| {
        let storage = world.storages.get_mut("local-lvm").unwrap();
        storage.offline_on.insert("pve1".to_owned());
    });
    let (report, _) = fixture.run(plan("r1", 1)).await;
    let failure = failure_of(&report, "-/probe");
    assert_eq!(failure.kind, FailureKind::StorageUnfit);
    documented(14, "storage_unfit", &failure.message);
    assert!(fixture.guests().is_empty());
    let full = Fixture::with_faults("[{when: {storage: local-lvm}, do: storage-full}]").await;
    let (report, _) = full.run(plan("r1", 1)).await;
    let failure = failure_of(&report, "vm1/import-scsi0");
    assert_eq!(failure.kind, FailureKind::StorageFull, "{failure:?}");
    documented(14, "storage_full", "");
    assert!(full.guests().is_empty(), "what was made is rolled back");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_15_a_missing_right_is_exit_code_7() {
    let fixture = Fixture::with_faults(
        "[{when: {method: POST, path: '/nodes/*/qemu'}, \
          do: {refuse: {status: 403, reason: 'Permission check failed (/vms/201, VM.Allocate)'}}}]",
    )
    .await;
    let (report, _) = fixture.run(plan_by_api("r1", 1)).await;
    let failure = failure_of(&report, "vm1/create");
    assert_eq!(failure.kind, FailureKind::Forbidden);
    documented_failure(15, &failure);
    assert_eq!(report.exit_code(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_16_what_only_root_may_is_told_apart() {
    let fixture = Fixture::start().await;
    let mut plan = plan("r1", 1);
    if let Action::CreateVm { config, .. } = &mut plan.steps[1].action {
        config.set.insert("args".to_owned(), text("-no-hpet"));
    }
    let (report, _) = fixture.run(plan).await;
    let failure = failure_of(&report, "vm1/create");
    assert_eq!((failure.kind, failure.took_effect), (FailureKind::RootOnly, TookEffect::No), "{failure:?}");
    documented_failure(16, &failure);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_high_availability_is_made_as_the_version_wants() {
    let fixture = Fixture::start().await;
    fixture.run(plan("r1", 1)).await;
    let desired = DesiredHa {
        state: HaState::Started,
        max_restart: Some(2),
        max_relocate: None,
        on_nodes: [("pve1".parse().unwrap(), 100)].into(),
        strict: false,
    };
    let set_ha = |ha| step("vm1", "ha", Action::SetHa { guest: guest(1), ha }, Transport::Api, &[]);
    let (report, _) = fixture.run(change("r2", &guest(1), vec![set_ha(Some(desired.clone()))])).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    let rules = fixture.connections.api().cluster().ha().rules().await.unwrap();
    assert_eq!(rules.len(), 1, "a rule, for groups are gone in 9");
    // The same plan by the way of version 8 is refused by 9, and says so.
    let mut old = change("r3", &guest(1), vec![set_ha(Some(desired))]);
    old.pve_version = "8.4.1".parse().unwrap();
    let (report, _) = fixture.run(old).await;
    let failure = failure_of(&report, "vm1/ha");
    assert_eq!(failure.kind, FailureKind::Version, "{failure:?}");
    documented_failure(17, &failure);
    let (report, _) = fixture.run(change("r4", &guest(1), vec![set_ha(None)])).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_18_refused_credentials_are_exit_code_7() {
    let fixture = Fixture::start().await;
    let mut wrong = config(&fixture.lab, &fixture.folder, Transports::Api);
    wrong.api.as_mut().unwrap().secret = pve_types::Secret::new("00000000-0000-0000-0000-000000000000");
    let other = Fixture { connections: Connections::open(wrong).await.unwrap(), ..fixture };
    let (report, _) = other.run(plan_by_api("r1", 1)).await;
    let failure = failure_of(&report, "vm1/create");
    assert_eq!(
        (failure.kind, failure.took_effect),
        (FailureKind::Unauthenticated, TookEffect::No),
        "{failure:?}"
    );
    let (message, credentials) = failure.message.split_once(" (the credentials of ").expect(&failure.message);
    assert!(credentials.starts_with("`root@pam!lab` at 127.0.0.1:"), "{credentials}");
    documented_failure(18, &Failure { message: message.to_owned(), ..failure.clone() });
    assert_eq!(report.exit_code(), 7);
    assert!(!serde_json::to_string(&report).unwrap().contains("00000000-0000"), "no secret is shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_19_a_changed_certificate_fails_closed() {
    let fixture = Fixture::start().await;
    let mut wrong = config(&fixture.lab, &fixture.folder, Transports::Api);
    wrong.api.as_mut().unwrap().fingerprint = Some(vec!["AB"; 32].join(":"));
    let other = Fixture { connections: Connections::open(wrong).await.unwrap(), ..fixture };
    let (report, _) = other.run(plan_by_api("r1", 1)).await;
    let failure = failure_of(&report, "vm1/create");
    assert_eq!((failure.kind, failure.took_effect), (FailureKind::Untrusted, TookEffect::No), "{failure:?}");
    documented(19, "untrusted", "is not trusted");
    assert!(failure.causes.iter().any(|cause| cause.contains("AB:AB")), "old and new are shown: {failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_20_an_agent_that_never_answers_ends_the_wait_at_its_deadline() {
    let fixture = Fixture::with_faults("[{when: {vmid: 201}, do: no-agent}]").await;
    let mut plan = plan("r1", 1);
    plan.changes[0].on_failure = OnFailure::Keep;
    plan.steps.last_mut().unwrap().deadline_s = 1;
    let (report, _) = fixture.run(plan).await;
    let failure = failure_of(&report, "vm1/await-address");
    assert_eq!(
        (failure.kind, failure.took_effect),
        (FailureKind::AgentNotRunning, TookEffect::No),
        "{failure:?}"
    );
    documented_failure(20, &failure);
    assert_eq!(report.exit_code(), 6, "the VM is kept");
    assert_eq!(report.vms[0].state, vmdeploy_executor::VmState::NotReady);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_21_an_agent_that_is_not_configured_is_not_waited_for() {
    let fixture = Fixture::start().await;
    let mut plan = plan("r1", 1);
    if let Action::CreateVm { config, .. } = &mut plan.steps[1].action {
        config.set.remove("agent");
    }
    let (report, _) = fixture.run(plan).await;
    let failure = failure_of(&report, "vm1/await-address");
    assert_eq!(failure.kind, FailureKind::AgentNotConfigured);
    documented_failure(21, &failure);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_22_a_cloud_init_change_takes_effect_by_a_step_of_its_own() {
    let fixture = Fixture::start().await;
    fixture.run(plan("r1", 1)).await;
    let steps = vec![
        set(&guest(1), patch([("ciuser", text("other"))]), Transport::Api),
        step("vm1", "regenerate", Action::RegenerateCloudInit { guest: guest(1) }, Transport::Api, &["set"]),
    ];
    let (report, _) = fixture.run(change("r2", &guest(1), steps)).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    assert_eq!(fixture.guests()[&Vmid::new(201).unwrap()]["ciuser"], "other");
    documented(22, "regenerate_cloud_init", "regenerate the cloud-init drive");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_23_a_change_that_waits_for_a_restart_is_said_to() {
    let fixture = Fixture::start().await;
    fixture.run(plan("r1", 1)).await;
    let steps = vec![set(&guest(1), patch([("scsihw", text("virtio-scsi-pci"))]), Transport::Api)];
    let (report, _) = fixture.run(change("r2", &guest(1), steps)).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    assert_eq!(report.steps[0].outcome, Some(Outcome::Pending { keys: vec!["scsihw".to_owned()] }));
    documented(23, "pending", "pending until restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_24_a_guest_that_moved_is_followed() {
    let mut world = quick_world();
    world.cluster = Some("lab".to_owned());
    let node = world.nodes["pve1"].clone();
    world.nodes.insert("pve2".to_owned(), node);
    let fixture = Fixture::of(world, "[]", Transports::Both).await;
    let mut elsewhere = guest(1);
    elsewhere.node = "pve2".parse().unwrap();
    let create = step("vm1", "create", create_action("r1", &elsewhere), Transport::Api, &[]);
    fixture.run(plan_of("r1", std::slice::from_ref(&elsewhere), vec![create])).await;
    let steps = vec![set(&guest(1), patch([("memory", text("1024"))]), Transport::Api)];
    let (report, events) = fixture.run(change("r2", &guest(1), steps)).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    let said = events.iter().find_map(|event| match &event.event {
        EventKind::StepProgress { text, .. } if text.contains("pve2") => Some(text.clone()),
        _ => None,
    });
    documented(24, "guest_gone", &said.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_25_a_protected_guest_is_not_destroyed() {
    let fixture = Fixture::start().await;
    fixture.run(plan("r1", 1)).await;
    by_hand(&fixture, 201, "protection", "1");
    let action = Action::DeleteVm { guest: guest(1), stop: true };
    let (report, _) =
        fixture.run(change("r2", &guest(1), vec![step("vm1", "delete", action, Transport::Api, &[])])).await;
    let failure = failure_of(&report, "vm1/delete");
    assert_eq!(failure.kind, FailureKind::DestroyRefused);
    documented_failure(25, &failure);
    assert!(failure.hint.unwrap().contains("qm set 201 --protection 0"));
    assert_eq!(fixture.guests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_kept_is_handed_to_its_holder_before_its_vm_goes() {
    let fixture = Fixture::start().await;
    fixture.run(plan("r1", 1)).await;
    let holder = guest(9);
    let make = step("vm9", "create", create_action("r2", &holder), Transport::Api, &[]);
    fixture.run(plan_of("r2", std::slice::from_ref(&holder), vec![make])).await;
    let stop = Action::StopVm { guest: guest(1) };
    let keep = Action::ReassignDisk {
        guest: guest(1),
        slot: "scsi1".parse().unwrap(),
        volume: "local-lvm:vm-201-disk-1".parse().unwrap(),
        holder: holder.vmid,
    };
    let delete = Action::DeleteVm { guest: guest(1), stop: false };
    let steps = vec![
        step("vm1", "stop", stop, Transport::Api, &[]),
        step("vm1", "keep-scsi1", keep, Transport::Api, &["stop"]),
        step("vm1", "delete", delete, Transport::Api, &["keep-scsi1"]),
    ];
    let (report, _) = fixture.run(change("r3", &guest(1), steps)).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    let guests = fixture.guests();
    assert_eq!(guests.len(), 1);
    assert!(guests[&holder.vmid]["unused0"].starts_with("local-lvm:vm-209-disk-"), "{guests:?}");
    assert_eq!(fixture.volumes(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_concurrent_change_is_not_overwritten() {
    let fixture = Fixture::start().await;
    fixture.run(plan("r1", 1)).await;
    let action = Action::SetConfig {
        guest: guest(1),
        patch: patch([("memory", text("1024"))]),
        digest: Some("0000000000000000000000000000000000000000".to_owned()),
    };
    let (report, _) =
        fixture.run(change("r2", &guest(1), vec![step("vm1", "set", action, Transport::Api, &[])])).await;
    let failure = failure_of(&report, "vm1/set");
    assert_eq!((failure.kind, failure.took_effect), (FailureKind::DigestChanged, TookEffect::No));
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_tell_what_they_saw_and_end_at_their_deadline() {
    let fixture = Fixture::start().await;
    fixture.run(plan("r1", 1)).await;
    let nowhere = Condition::Address {
        nic: None,
        mac: None,
        family: IpFamily::V4,
        within: "203.0.113.0/24".parse().ok(),
    };
    let (report, _) = fixture.run(change("r2", &guest(1), vec![wait(&guest(1), nowhere, 1)])).await;
    let failure = failure_of(&report, "vm1/await");
    assert_eq!(failure.kind, FailureKind::NoAddress);
    assert!(failure.message.contains("last seen"), "{failure:?}");
    let (report, _) =
        fixture.run(change("r3", &guest(1), vec![wait(&guest(1), Condition::CloudInit, 20)])).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    let own = Condition::Command { argv: vec!["true".to_owned()] };
    let (report, _) = fixture.run(change("r4", &guest(1), vec![wait(&guest(1), own, 5)])).await;
    let failure = failure_of(&report, "vm1/await");
    assert!(failure.hint.unwrap().contains("--allow-commands"));
}

#[test]
fn the_table_has_25_rows() {
    let path = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/failures.md");
    let document = std::fs::read_to_string(path).unwrap();
    let rows: BTreeSet<u32> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(rows, (1..=25).collect());
    let source = include_str!("failures.rs");
    for row in 1..=25 {
        assert!(source.contains(&format!("fn row_{row:02}_")), "row {row} has no test");
    }
}
