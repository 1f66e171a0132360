//! From a plan to running VMs, and back.

use crate::fixture::{Fixture, Transports, guest, plan, plan_by_api, plan_of, quick_world, step};
use vmdeploy_executor::{EventKind, Outcome, RunResult, StepState, VmState, observe};
use vmdeploy_planner::observed::Query;
use vmdeploy_planner::plan::{Action, Transport, Verb};

#[tokio::test(flavor = "multi_thread")]
async fn a_hybrid_plan_ends_with_running_vms_that_have_addresses() {
    let fixture = Fixture::start().await;
    let (report, events) = fixture.run(plan("r1", 3)).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    for vm in &report.vms {
        assert_eq!(vm.state, VmState::Done);
        assert_eq!(vm.addresses.len(), 1, "{vm:?}");
    }
    for (vmid, config) in fixture.guests() {
        assert_eq!(config["running"], "true", "{vmid}");
        assert!(
            config["scsi0"].starts_with("local-lvm:vm-") && config["scsi0"].contains("size=1G"),
            "{config:?}"
        );
        assert!(config["scsi1"].contains("size=2G"));
        assert!(!config.contains_key("unused0"));
    }
    let is_progress = |kind: &EventKind| matches!(kind, EventKind::StepProgress { percent: Some(_), .. });
    assert!(events.iter().any(|event| is_progress(&event.event)), "an import tells its percentage");
    assert!(matches!(events.first().unwrap().event, EventKind::RunStarted { resumed: false, .. }));
    assert!(matches!(events.last().unwrap().event, EventKind::RunFinished { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_transport_needs_no_ssh() {
    let fixture = Fixture::of(quick_world(), "[]", Transports::Api).await;
    let (report, _) = fixture.run(plan_by_api("r1", 3)).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    assert!(report.vms.iter().all(|vm| vm.addresses.len() == 1));
    let guests = fixture.guests();
    assert_eq!(guests.len(), 3);
    assert!(guests.values().all(|config| config["running"] == "true" && config["scsi0"].contains("size=1G")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deployed_is_observed_and_destroyed() {
    let fixture = Fixture::start().await;
    fixture.run(plan("r1", 2)).await;
    let queries = [
        Query::Version,
        Query::Resources,
        Query::Rights,
        Query::Node { node: "pve1".parse().unwrap() },
        Query::File { node: "pve1".parse().unwrap(), path: crate::fixture::IMAGE.to_owned() },
        Query::Configs {
            projects: ["test".to_owned()].into(),
            uuids: [guest(1).uuid].into(),
            also: [].into(),
        },
    ];
    let observed = observe(&fixture.connections, &queries).await.unwrap();
    assert_eq!(observed.guests.len(), 2);
    for guest in observed.guests.values() {
        assert_eq!(guest.status, pve_types::PowerState::Running);
        assert_eq!(guest.volumes.as_ref().unwrap().ids.len(), 3, "{guest:?}");
        assert!(guest.config.as_ref().unwrap().digest.is_some());
    }
    assert!(observed.images[0].present && observed.images[0].virtual_size.is_some());
    assert!(observed.storage(&"pve1".parse().unwrap(), &"local-lvm".parse().unwrap()).is_some());
    assert!(observed.rights.is_some());

    let guests = [guest(1), guest(2)];
    let delete = |guest: &vmdeploy_planner::plan::GuestRef| {
        let action = Action::DeleteVm { guest: guest.clone(), stop: true };
        step(guest.name.as_ref(), "delete", action, Transport::Api, &[])
    };
    let mut destroy = plan_of("r2", &guests, guests.iter().map(delete).collect());
    destroy.changes.iter_mut().for_each(|change| change.verb = Verb::Delete);
    let (report, _) = fixture.run(destroy.clone()).await;
    assert_eq!(report.result, RunResult::Done);
    assert!(fixture.guests().is_empty());
    assert_eq!(fixture.volumes(), 0);

    destroy.run_id = "r3".to_owned();
    let (again, _) = fixture.run(destroy).await;
    assert_eq!(again.result, RunResult::Done);
    assert!(again.steps.iter().all(|step| step.outcome == Some(Outcome::AlreadyDone)));
}

#[tokio::test(flavor = "multi_thread")]
async fn observing_by_api_and_by_ssh_sees_the_same() {
    let fixture = Fixture::start().await;
    fixture.run(plan("r1", 1)).await;
    let queries = [
        Query::Resources,
        Query::Configs { projects: ["test".to_owned()].into(), uuids: [].into(), also: [].into() },
        Query::Pending { vms: [guest(1).name].into() },
    ];
    let config = crate::fixture::config(&fixture.lab, &fixture.folder, Transports::Api);
    let by_api = vmdeploy_executor::Connections::open(config).await.unwrap();
    let one = observe(&by_api, &queries).await.unwrap();
    let two = observe(&fixture.connections, &queries).await.unwrap();
    assert_eq!(one.guests, two.guests);
}

/// What large clusters with many snapshots have: each line comes with its path, so that this is more than 16 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn very_many_configurations_are_read_whole() {
    let mut world = quick_world();
    for vmid in 1000..1100 {
        let config = [("description".to_owned(), "x\n".repeat(4_000))].into();
        let guest = pve_lab::world::GuestSpec { config, ..Default::default() };
        world.guests.insert(pve_types::Vmid::new(vmid).unwrap(), guest);
    }
    let fixture = Fixture::of(world, "[]", Transports::Both).await;
    let queries =
        [Query::Configs { projects: ["test".to_owned()].into(), uuids: [].into(), also: [].into() }];
    let observed = observe(&fixture.connections, &queries).await.unwrap();
    assert_eq!(observed.guests.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_guest_is_never_deleted() {
    let fixture = Fixture::start().await;
    fixture.run(plan("r1", 1)).await;
    let mut stranger = guest(1);
    stranger.name = "other".parse().unwrap();
    let delete = Action::DeleteVm { guest: stranger.clone(), stop: true };
    let plan = plan_of("r2", &[stranger.clone()], vec![step("other", "delete", delete, Transport::Api, &[])]);
    let (report, _) = fixture.run(plan).await;
    assert_eq!(report.steps[0].state, StepState::Failed);
    let failure = report.steps[0].failure.clone().unwrap();
    assert_eq!(failure.kind, vmdeploy_executor::FailureKind::NotOurs);
    assert_eq!(fixture.guests().len(), 1);
    assert_eq!(report.exit_code(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ssh_transport_alone_ends_with_the_same_guests() {
    let hybrid = Fixture::start().await;
    hybrid.run(plan("r1", 1)).await;
    let ssh = Fixture::of(quick_world(), "[]", Transports::Ssh).await;
    let mut plan = plan("r1", 1);
    plan.transport = vmdeploy_planner::plan::TransportChoice::Ssh;
    plan.steps.iter_mut().for_each(|step| step.transport = Transport::Ssh);
    let (report, _) = ssh.run(plan).await;
    assert_eq!(report.result, RunResult::Done, "{:#?}", report.failures().collect::<Vec<_>>());
    assert_eq!(ssh.guests(), hybrid.guests());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_values_arrive_literally_by_either_transport() {
    let fixture = Fixture::start().await;
    fixture.run(plan("r1", 1)).await;
    let own = crate::fixture::marker("r1", &guest(1));
    for (number, transport) in [(2, Transport::Ssh), (3, Transport::Api)] {
        for (place, hostile) in HOSTILE.iter().enumerate() {
            let run = format!("r{number}-{place}");
            let patch = crate::fixture::patch([
                ("description", vmdeploy_planner::plan::PatchValue::Text(format!("{hostile}\n{own}"))),
                ("ciuser", crate::fixture::text("admin")),
            ]);
            let action = Action::SetConfig { guest: guest(1), patch, digest: None };
            let mut plan = plan_of(&run, &[guest(1)], vec![step("vm1", "set", action, transport, &[])]);
            plan.changes[0].verb = Verb::Update;
            let (report, _) = fixture.run(plan).await;
            assert_eq!(
                report.result,
                RunResult::Done,
                "{hostile:?}: {:#?}",
                report.failures().collect::<Vec<_>>()
            );
            let found =
                fixture.connections.api().node(&guest(1).node).qemu(guest(1).vmid).config().await.unwrap();
            let description = found.get("description").unwrap();
            assert!(description.starts_with(hostile), "{hostile:?} became {description:?} by {transport}");
        }
    }
}

const HOSTILE: [&str; 8] = [
    "it's \"quoted\"",
    "; rm -rf /; #",
    "$(reboot) `reboot` ${HOME} $$",
    "-delete scsi0",
    "--purge",
    "a\nb\tc\\n",
    "umläut ☃ \u{1F4A9}",
    "*?[a-z] ~ ! & | < > ( ) { }",
];

#[tokio::test(flavor = "multi_thread")]
async fn without_quorum_nothing_is_begun() {
    let mut world = quick_world();
    world.cluster = Some("lab".to_owned());
    let node = world.nodes["pve1"].clone();
    world.nodes.insert("pve2".to_owned(), node);
    world.quorate = false;
    let fixture = Fixture::of(world, "[]", Transports::Both).await;
    let (result, _) = fixture.try_run(plan("r1", 1), &fixture.options()).await;
    let Err(vmdeploy_executor::RunError::ClusterLock { source, .. }) = result else { panic!("{result:?}") };
    assert_eq!(source.kind, vmdeploy_executor::FailureKind::NoQuorum, "{source:?}");
    let (report, _) = fixture.run(plan_by_api("r2", 1)).await;
    assert_eq!(report.exit_code(), 4, "{:#?}", report.failures().collect::<Vec<_>>());
    assert!(fixture.guests().is_empty());
    let observed = observe(&fixture.connections, &[Query::Version, Query::Resources]).await.unwrap();
    assert_eq!(observed.quorate, Some(false));
}
