//! What a VM needs in addition to its own configuration, from spec to empty second plan: zones, high availability, images.

use crate::fixture::{Fixture, IMAGE, Transports, quick_world};
use crate::spec::{carried_out, planned, spec, try_planned};
use pve_lab::WorldSpec;
use pve_types::Vmid;
use vmdeploy_executor::RunResult;
use vmdeploy_planner::plan::{CheckOutcome, Plan, PlanMode};
use vmdeploy_planner::spec::Deployment;

const VERSIONS: [&str; 2] = ["8.4.14", "9.2.11"];

/// A cluster of two nodes with a shared storage.
pub fn cluster(version: &str) -> WorldSpec {
    let mut world = quick_world();
    world.version = version.parse().unwrap();
    world.cluster = Some("lab".to_owned());
    let node = world.nodes["pve1"].clone();
    world.nodes.insert("pve2".to_owned(), node);
    let more = WorldSpec::from_yaml(
        "storages: {ceph: {type: rbd, content: [images], size: 1TiB, options: {pool: rbd}}}",
    );
    world.storages.insert("ceph".to_owned(), more.unwrap().storages.remove("ceph").unwrap());
    world
}

/// Adds what a world file says of zones, roles, users and rights.
fn with_zones(mut world: WorldSpec) -> WorldSpec {
    let text = "
zones:
  tenants: {type: vlan, vnets: {web: {tag: 100}, db: {tag: 200}}}
  far: {type: simple, nodes: [pve2], vnets: {far1: {}}}
roles: {Plug: [SDN.Use]}
users: {ci@pve: {tokens: {deploy: {secret: 11111111-2222-4333-8444-555555555555, privsep: false}}}}
token: {id: ci@pve!deploy, secret: 11111111-2222-4333-8444-555555555555}
acl:
  - {path: /vms, who: ci@pve, role: PVEVMAdmin}
  - {path: /storage, who: ci@pve, role: PVEDatastoreUser}
  - {path: /sdn/zones/tenants/web, who: ci@pve, role: Plug}
";
    let more = WorldSpec::from_yaml(text).unwrap();
    (world.zones, world.roles, world.users) = (more.zones, more.roles, more.users);
    (world.acl, world.token) = (more.acl, more.token);
    world
}

/// Plans, carries out, and plans again: then there is nothing to do.
async fn deployed(fixture: &Fixture, deployment: &Deployment, run: &str) -> Plan {
    let plan = planned(fixture, deployment, run, PlanMode::Deploy).await;
    let (report, _) = carried_out(fixture, plan.clone()).await;
    assert_eq!(report.result, RunResult::Done, "{run}: {:#?}", report.failures().collect::<Vec<_>>());
    let again = planned(fixture, deployment, &format!("{run}-again"), PlanMode::Deploy).await;
    assert!(again.is_empty(), "{run}: {:#?}", again.changes);
    plan
}

fn refusals(plan: &Plan) -> Vec<String> {
    let line = |check: &vmdeploy_planner::plan::Check| {
        format!("{}: {}", check.need, check.detail.clone().unwrap_or_default())
    };
    plan.refusals().map(line).collect()
}

fn steps(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| step.id.to_string()).collect()
}

fn plugged_into(bridge: &str) -> Deployment {
    spec(&format!(
        "version: 1\nproject: web\ntransport: api\nimages:\n  tiny: {{volume: 'local:import/tiny.qcow2'}}\nvms:\n  \
         web01: {{vmid: 201, node: pve1, disks: {{scsi0: {{storage: local-lvm, image: tiny}}}}, \
         nics: {{net0: {{bridge: {bridge}}}}}}}\n"
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vnet_is_used_with_the_right_on_it_alone_and_refused_without_it() {
    for version in VERSIONS {
        let fixture = Fixture::of(with_zones(cluster(version)), "[]", Transports::Api).await;
        let plan = deployed(&fixture, &plugged_into("web"), "r1").await;
        let is_met = |need: &str| {
            plan.checks.iter().any(|check| check.need == need && check.outcome == CheckOutcome::Passed)
        };
        // The right to use a VNet shows neither it nor its zone in the list of VNets.
        assert!(is_met("SDN.Use on /sdn/zones/tenants/web"), "{version}: {:#?}", plan.checks);
        assert!(is_met("bridge web at pve1"), "{version}: {:#?}", plan.checks);

        let other = planned(&fixture, &plugged_into("db"), "r2", PlanMode::Deploy).await;
        let told = refusals(&other);
        assert_eq!(told.len(), 1, "{version}: {told:?}");
        assert!(told[0].starts_with("SDN.Use on /sdn/zones/"), "{version}: {told:?}");
        let hidden = other.checks.iter().find(|check| check.need == "bridge db at pve1").unwrap();
        assert_eq!(hidden.outcome, CheckOutcome::Unknown, "{hidden:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vnet_that_the_node_has_not_is_refused_before_anything_is_done() {
    for version in VERSIONS {
        let mut world = with_zones(cluster(version));
        world.token = quick_world().token;
        let fixture = Fixture::of(world, "[]", Transports::Both).await;
        let plan = planned(&fixture, &plugged_into("far1"), "r1", PlanMode::Deploy).await;
        assert_eq!(
            refusals(&plan),
            ["bridge far1 at pve1: pve1 has db, vmbr0, web; correct `bridge:`, or create the bridge"]
        );
        let rights = plan.checks.iter().find(|check| check.need.starts_with("SDN.Use")).unwrap();
        assert_eq!(rights.need, "SDN.Use on /sdn/zones/far/far1", "{version}");
        let to_web = deployed(&fixture, &plugged_into("db"), "r2").await;
        assert!(
            to_web.checks.iter().any(|check| check.need == "SDN.Use on /sdn/zones/tenants/db"),
            "{version}"
        );
    }
}

/// A VM with a device by each kind of mapping.
fn mapped(gpu: &str, stick: &str, share: &str) -> Deployment {
    spec(&format!(
        "version: 1\nproject: web\ntransport: auto\nimages:\n  tiny: {{volume: 'local:import/tiny.qcow2'}}\nvms:\n  \
         web01: {{vmid: 201, node: pve1, disks: {{scsi0: {{storage: local-lvm, image: tiny}}}}, \
         pci: {{hostpci0: {gpu}}}, usb: {{usb0: {stick}}}, virtiofs: {{virtiofs0: {share}}}}}\n"
    ))
}

/// Adds mappings of which some have nothing of the first node.
fn with_mappings(mut world: WorldSpec) -> WorldSpec {
    let text = "
mappings:
  pci:
    gpu: {map: ['node=pve1,id=10de:2204,path=0000:01:00.0', 'node=pve2,id=10de:2204,path=0000:01:00.0']}
    far: {map: ['node=pve2,id=8086:1521,path=0000:02:00.0']}
  usb: {stick: {map: ['node=pve1,id=0951:1666']}}
  dir: {share: {map: ['node=pve1,path=/srv/share']}, logs: {map: ['node=pve2,path=/srv/logs']}}
";
    world.mappings = WorldSpec::from_yaml(text).unwrap().mappings;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_the_node_has_not_is_refused_before_anything_is_done_by_api_and_ssh() {
    for (version, transports) in
        VERSIONS.into_iter().zip([Transports::Api, Transports::Ssh]).chain([("8.4.14", Transports::Ssh)])
    {
        let fixture = Fixture::of(with_mappings(cluster(version)), "[]", transports).await;
        let transport = fixture.connections.api().kind();
        let wrong = planned(&fixture, &mapped("far", "ups", "logs"), "r1", PlanMode::Deploy).await;
        let told: Vec<String> = refusals(&wrong)
            .iter()
            .map(|line| line.split_once(['(', ';']).map_or(line.as_str(), |(start, _)| start).to_owned())
            .collect();
        let expect = [
            "PCI mapping far at pve1: it has no entry for pve1, only for pve2",
            "USB mapping ups at pve1: the cluster has stick",
            "directory mapping logs at pve1: it has no entry for pve1, only for pve2",
        ];
        assert_eq!(told, expect, "{version} by {transport:?}");
        assert!(vmdeploy_planner::plan::CheckedPlan::new(wrong).is_err());
        let right = deployed(&fixture, &mapped("gpu", "stick", "share"), "r2").await;
        let passed = right.checks.iter().filter(|check| check.need.contains(" mapping "));
        assert_eq!(passed.filter(|check| check.outcome == CheckOutcome::Passed).count(), 3, "{version}");
    }
    // A cluster without any mapping says so; the `ssh` transport sees that no file of them is there.
    for transports in [Transports::Api, Transports::Ssh] {
        let fixture = Fixture::of(cluster("9.2.11"), "[]", transports).await;
        let plan = planned(&fixture, &mapped("gpu", "stick", "share"), "r1", PlanMode::Deploy).await;
        assert_eq!(refusals(&plan).iter().filter(|line| line.contains("the cluster has none")).count(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_the_token_does_not_see_is_a_missing_right_and_otherwise_not_known() {
    for version in VERSIONS {
        let mut world = with_mappings(with_zones(cluster(version)));
        let more = WorldSpec::from_yaml(
            "roles: {Use: [Mapping.Use]}\nacl: [{path: /mapping/usb/stick, who: ci@pve, role: Use}, \
             {path: /mapping/pci/gone, who: ci@pve, role: Use}]",
        )
        .unwrap();
        world.roles.extend(more.roles);
        world.acl.extend(more.acl);
        let fixture = Fixture::of(world, "[]", Transports::Api).await;
        let plan = planned(&fixture, &mapped("gone", "stick", "share"), "r1", PlanMode::Deploy).await;
        let outcome = |need: &str| plan.checks.iter().find(|check| check.need == need).unwrap().outcome;
        assert_eq!(outcome("PCI mapping gone at pve1"), CheckOutcome::Refused, "{version}");
        assert_eq!(outcome("USB mapping stick at pve1"), CheckOutcome::Passed, "{version}");
        assert_eq!(outcome("directory mapping share at pve1"), CheckOutcome::Unknown, "{version}");
        assert_eq!(outcome("Mapping.Use on /mapping/dir/share"), CheckOutcome::Refused, "{version}");
    }
}

fn highly_available(ha: &str) -> Deployment {
    spec(&format!(
        "version: 1\nproject: web\nimages:\n  tiny: {{volume: 'local:import/tiny.qcow2'}}\nvms:\n  \
         web01:\n    vmid: 201\n    node: pve1\n    agent: true\n    \
         disks: {{scsi0: {{storage: ceph, image: tiny}}}}\n    nics: {{net0: {{bridge: vmbr0}}}}\n    ha: {ha}\n"
    ))
}

/// The rows that high availability has: resources, and groups (8) or rules (9).
async fn rows(fixture: &Fixture, version: &str) -> (Vec<serde_json::Value>, Vec<serde_json::Value>) {
    let get = async |path: &str| {
        let rows: Vec<serde_json::Value> =
            fixture.connections.api().get(path, pve_api::Params::new()).await.unwrap();
        rows
    };
    let places = if version.starts_with('8') { "/cluster/ha/groups" } else { "/cluster/ha/rules" };
    (get("/cluster/ha/resources").await, get(places).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn high_availability_is_planned_made_changed_and_left() {
    for version in VERSIONS {
        let fixture = Fixture::of(cluster(version), "[]", Transports::Both).await;
        let vmid = Vmid::new(201).unwrap();
        let desired = highly_available("{state: started, max_restart: 3, on_nodes: {pve1: 2, pve2: 1}}");
        let made = deployed(&fixture, &desired, "r1").await;
        let at = |what: &str| {
            steps(&made)
                .iter()
                .position(|step| step == what)
                .unwrap_or_else(|| panic!("{what}: {:?}", steps(&made)))
        };
        assert!(
            at("web01/attach") < at("web01/ha") && at("web01/ha") < at("web01/running"),
            "{:?}",
            steps(&made)
        );
        let (resources, places) = rows(&fixture, version).await;
        assert_eq!(
            (resources[0]["sid"].as_str(), resources[0]["max_restart"].as_u64()),
            (Some("vm:201"), Some(3))
        );
        assert!(places[0].to_string().contains("pve1:2,pve2:1"), "{version}: {places:?}");
        assert!(fixture.lab.world().with(|world| world.guests[&vmid].is_running()), "HA starts it");

        // Where HA moved it is where it is.
        fixture.lab.world().with(|world| world.guests.get_mut(&vmid).unwrap().node = "pve2".to_owned());
        let moved = planned(&fixture, &desired, "r2", PlanMode::Deploy).await;
        assert!(
            moved.is_empty() && moved.notes.is_empty(),
            "{version}: {:?} {:?}",
            moved.changes,
            moved.notes
        );

        let stricter =
            highly_available("{state: started, max_restart: 3, on_nodes: {pve2: 1}, strict: true}");
        let changed = deployed(&fixture, &stricter, "r3").await;
        assert_eq!(steps(&changed), ["web01/ha"], "{version}");
        let (_, places) = rows(&fixture, version).await;
        let word = if version.starts_with('8') { "restricted" } else { "strict" };
        assert_eq!((places.len(), places[0][word].as_u64()), (1, Some(1)), "{version}: {places:?}");

        let stopped = deployed(&fixture, &highly_available("{state: stopped}"), "r4").await;
        assert_eq!(steps(&stopped), ["web01/ha"], "{version}: HA stops it");
        assert!(!fixture.lab.world().with(|world| world.guests[&vmid].is_running()));

        let left = deployed(&fixture, &highly_available("null"), "r5").await;
        assert_eq!(steps(&left)[0], "web01/ha", "{version}");
        let (resources, places) = rows(&fixture, version).await;
        assert!(resources.is_empty() && places.is_empty(), "{version}: {resources:?} {places:?}");

        deployed(&fixture, &desired, "r6").await;
        let destroy = planned(&fixture, &desired, "r7", PlanMode::Destroy).await;
        let order = steps(&destroy);
        assert_eq!(
            (order.first().map(String::as_str), order.last().map(String::as_str)),
            (Some("web01/ha"), Some("web01/delete"))
        );
        let (report, _) = carried_out(&fixture, destroy).await;
        assert_eq!(report.result, RunResult::Done, "{version}: {:#?}", report.failures().collect::<Vec<_>>());
        let (resources, places) = rows(&fixture, version).await;
        assert!(resources.is_empty() && places.is_empty() && fixture.guests().is_empty(), "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmanaged_rule_is_not_changed() {
    for version in VERSIONS {
        let fixture = Fixture::of(cluster(version), "[]", Transports::Both).await;
        deployed(&fixture, &highly_available("started"), "r1").await;
        // The VM is in a group or rule that vmdeploy does not manage.
        fixture.lab.world().with(|world| {
            let pairs = |pairs: &[(&str, &str)]| {
                pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
            };
            if version.starts_with('8') {
                let group = pairs(&[("nodes", "pve1:5")]);
                world.sections.entry("ha/groups").or_default().insert("theirs".to_owned(), group);
                let resources = world.sections.get_mut("ha/resources").unwrap();
                resources.get_mut("vm:201").unwrap().insert("group".to_owned(), "theirs".to_owned());
            } else {
                let rule = pairs(&[("type", "node-affinity"), ("resources", "vm:201"), ("nodes", "pve1:5")]);
                world.sections.entry("ha/rules").or_default().insert("theirs".to_owned(), rule);
            }
        });
        let theirs = |fixture: &Fixture| {
            fixture.lab.world().with(|world| {
                let places = if version.starts_with('8') { "ha/groups" } else { "ha/rules" };
                (
                    world.sections[places].clone(),
                    world.sections["ha/resources"]["vm:201"].get("group").cloned(),
                )
            })
        };
        let before = theirs(&fixture);
        let more = deployed(&fixture, &highly_available("{state: started, max_restart: 4}"), "r2").await;
        assert_eq!(steps(&more), ["web01/ha"], "{version}");
        assert_eq!(theirs(&fixture), before, "{version}");
        // The same nodes are no difference; on 9 others are refused at their line, for PVE takes one rule.
        let same = highly_available("{state: started, max_restart: 4, on_nodes: {pve1: 5}}");
        assert!(planned(&fixture, &same, "r3", PlanMode::Deploy).await.is_empty(), "{version}");
        let other = highly_available("{state: started, on_nodes: {pve2: 1}}");
        let told = try_planned(&fixture, &other, "r4", PlanMode::Deploy).await;
        match version.starts_with('8') {
            true => assert_eq!(steps(&told.unwrap()), ["web01/ha"]),
            false => {
                let told = told.unwrap_err();
                assert!(told.contains("the HA rule `theirs` contains VM 201 already"), "{told}");
                assert!(told.contains("hint: remove `vm:201` from `theirs`"), "{told}");
            }
        }
    }
}

const URL: &str = "https://images.example.org/tiny.qcow2";

#[tokio::test(flavor = "multi_thread")]
async fn an_image_by_url_is_placed_once_where_it_is_needed_and_reused() {
    for version in VERSIONS {
        let mut world = cluster(version);
        let tiny = world.files.iter().find(|file| file.path == IMAGE).unwrap().content.clone();
        world.urls.insert(URL.to_owned(), tiny);
        let more = "storages: {nfs: {type: nfs, content: [import, images], size: 1TiB, options: {server: 192.0.2.9, export: /srv}}}";
        let nfs = WorldSpec::from_yaml(more).unwrap().storages.remove("nfs").unwrap();
        world.storages.insert("nfs".to_owned(), nfs);
        let fixture = Fixture::of(world, "[]", Transports::Both).await;
        let sum = fixture.on_node(&pve_ssh::command::files::checksum(256, IMAGE)).await;
        let checksum = format!("sha256:{}", sum.split(' ').next().unwrap());
        let of = |project: &str, first: u32, store: &str, checksum: &str| {
            let vm = |number: u32, node: &str| {
                format!(
                    "  {project}{number}: {{vmid: {number}, node: {node}, disks: {{scsi0: {{storage: ceph, image: by-url, size: 1GiB}}}}}}\n"
                )
            };
            spec(&format!(
                "version: 1\nproject: {project}\ntransport: api\nimages:\n  by-url: {{url: '{URL}', checksum: '{checksum}', store: {store}}}\nvms:\n{}{}{}",
                vm(first, "pve1"),
                vm(first + 1, "pve1"),
                vm(first + 2, "pve2")
            ))
        };
        // On a storage of each node: once on each.
        let local = deployed(&fixture, &of("own", 201, "local", &checksum), "r1").await;
        let placed = |plan: &Plan| steps(plan).iter().filter(|step| step.starts_with("-/place-")).count();
        assert_eq!((placed(&local), fixture.tasks("download")), (2, 2), "{version}: {:?}", steps(&local));
        // On a shared storage: once.
        let shared = deployed(&fixture, &of("shared", 211, "nfs", &checksum), "r2").await;
        assert_eq!((placed(&shared), fixture.tasks("download")), (1, 3), "{version}: {:?}", steps(&shared));
        // What is there is looked at and used.
        deployed(&fixture, &of("third", 221, "nfs", &checksum), "r3").await;
        assert_eq!(fixture.tasks("download"), 3, "{version}");
        // What is not what was meant is never used.
        let wrong = of("wrong", 231, "nfs", &format!("sha256:{}", "0".repeat(64)));
        let plan = planned(&fixture, &wrong, "r4", PlanMode::Deploy).await;
        let (report, _) = carried_out(&fixture, plan).await;
        assert_eq!(report.result, RunResult::RolledBack, "{version}");
        assert_eq!(fixture.guests().len(), 9, "{version}");
        let disk = fixture.guests().remove(&Vmid::new(201).unwrap()).unwrap().remove("scsi0").unwrap();
        assert!(disk.starts_with("ceph:") && disk.ends_with("size=1G"), "{version}: {disk}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smaller_disk_than_the_image_is_refused_at_its_line() {
    let fixture = Fixture::start().await;
    let small = spec(
        "version: 1\nproject: web\nimages:\n  tiny: {path: /var/lib/vz/import/tiny.qcow2}\nvms:\n  web01: {vmid: 201, node: pve1, disks: {scsi0: {storage: local-lvm, image: tiny, size: 100MiB}}}\n",
    );
    let told = try_planned(&fixture, &small, "r1", PlanMode::Deploy).await.unwrap_err();
    assert!(told.contains("160MiB") && told.contains("web.yaml:6:"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_of_a_range_is_found_by_its_mark_and_never_made_twice() {
    for (transport, transports) in [
        ("hybrid", Transports::Both),
        ("auto", Transports::Both),
        ("api", Transports::Api),
        ("ssh", Transports::Ssh),
    ] {
        let fixture = Fixture::of(quick_world(), "[]", transports).await;
        // No plan here knows a lock file: each finds the VM by its marker, or draws a number.
        let deployment = spec(&format!(
            "version: 1\nproject: web\ntransport: {transport}\nvms:\n  web01: {{vmid: {{range: [300, 310]}}, node: pve1, disks: {{scsi0: {{storage: local-lvm, size: 1GiB}}}}}}\n"
        ));
        deployed(&fixture, &deployment, "r1").await;
        // A number before it in the range is free again, and still it is the same VM.
        fixture.lab.world().with(|world| {
            let mut guest = world.guests.remove(&Vmid::new(300).unwrap()).unwrap();
            let vmid = Vmid::new(305).unwrap();
            guest.vmid = vmid;
            let description = guest.config.get_mut("description").unwrap();
            *description = description.replace("vmid=300", "vmid=305");
            world.guests.insert(vmid, guest);
        });
        let again = planned(&fixture, &deployment, "r2", PlanMode::Deploy).await;
        assert!(again.is_empty(), "{transport}: {:#?}", again.changes);
        assert_eq!(again.changes[0].guest.vmid.get(), 305, "{transport}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_disks_are_read_back_at_their_holder_when_their_vm_is_destroyed() {
    for version in VERSIONS {
        for (transport, transports) in
            [("hybrid", Transports::Both), ("api", Transports::Api), ("ssh", Transports::Ssh)]
        {
            let mut world = cluster(version);
            let more = "guests: {999: {config: {name: holder, memory: '16'}}}";
            world.guests = WorldSpec::from_yaml(more).unwrap().guests;
            let fixture = Fixture::of(world, "[]", transports).await;
            let deployment = spec(&format!(
                "version: 1\nproject: web\ntransport: {transport}\nvms:\n  db01:\n    vmid: 201\n    node: pve1\n    disks:\n      \
                 scsi0: {{storage: local-lvm, size: 1GiB}}\n      \
                 scsi1: {{storage: local-lvm, size: 3GiB, keep: {{holder: 999}}}}\n      \
                 virtio0: {{storage: ceph, size: 5GiB, keep: {{holder: 999}}}}\n"
            ));
            deployed(&fixture, &deployment, "r1").await;
            assert_eq!(fixture.volumes(), 3);
            let destroy = planned(&fixture, &deployment, "r2", PlanMode::Destroy).await;
            let (report, _) = carried_out(&fixture, destroy).await;
            assert_eq!(
                report.result,
                RunResult::Done,
                "{transport}: {:#?}",
                report.failures().collect::<Vec<_>>()
            );
            let guests = fixture.guests();
            assert_eq!(
                guests.keys().map(|vmid| vmid.get()).collect::<Vec<_>>(),
                [999],
                "{transport} on {version}"
            );
            let held: Vec<&String> = guests
                .values()
                .flatten()
                .filter(|(key, _)| key.starts_with("unused"))
                .map(|(_, value)| value)
                .collect();
            assert_eq!(held.len(), 2, "{transport} on {version}: {guests:#?}");
            assert!(held.iter().all(|volume| volume.contains("vm-999-disk-")), "{held:?}");
            // The volumes are there, with their sizes, and the one that was not kept is gone.
            let mut sizes: Vec<u64> = fixture.lab.world().with(|world| {
                world
                    .block_stores
                    .values()
                    .flat_map(|store| store.volumes.values())
                    .map(|volume| volume.size >> 30)
                    .collect()
            });
            sizes.sort_unstable();
            assert_eq!(sizes, [3, 5], "{transport} on {version}");
        }
    }
}
