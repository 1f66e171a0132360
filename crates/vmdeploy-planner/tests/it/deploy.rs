//! Deploying, changing and destroying VMs.

use crate::pve::Pve;
use crate::specs::{deploy, destroy, plan, plan_with, refused, steps};
use pve_types::Vmid;
use vmdeploy_planner::observed::{GuestFacts, GuestVolumes, ObservedGuest};
use vmdeploy_planner::plan::{CheckOutcome, TransportChoice, Verb};

const HEAD: &str = "version: 1\nproject: web\n";

/// A spec of one VM with these lines below its name.
pub fn one_vm(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "{HEAD}images:\n  debian-13: {{path: /var/lib/vz/import/debian-13.qcow2}}\n  tiny: {{path: /var/lib/vz/import/tiny.qcow2}}\nvms:\n  web01:\n    vmid: 201\n    node: pve1\n{lines}"
    )
}

const PLAIN: &str = "cpu: 2
agent: true
memory: 2GiB
disks:
  scsi0: {storage: local-lvm, image: debian-13, size: 20GiB, discard: true}
  scsi1: {storage: fast, size: 50GiB}
nics:
  net0: {bridge: vmbr0, vlan: 40, ip: 10.40.0.5/24, gateway: 10.40.0.1}
cloud_init: {user: admin, ssh_keys: [{file: demo.pub}]}
ready: {ip: {nic: net0, timeout: 2m}}";

fn web01() -> Vmid {
    "201".parse().unwrap()
}

#[track_caller]
fn verb(plan: &vmdeploy_planner::plan::Plan) -> Verb {
    plan.changes[0].verb
}

#[test]
fn the_hybrid_transport_creates_by_api_and_attaches_by_one_qm_set() {
    let mut pve = Pve::new();
    let spec = one_vm(PLAIN);
    let plan = deploy(&mut pve, &spec);
    assert_eq!(
        steps(&plan),
        [
            "-/probe-pve1 SSH",
            "web01/create API",
            "web01/import-scsi0 SSH",
            "web01/attach SSH",
            "web01/resize-scsi0 API",
            "web01/start API",
            "web01/await-address API",
        ]
    );
    let create = plan.step(&vmdeploy_planner::plan::StepId("web01/create".to_owned())).unwrap();
    assert!(create.after.iter().any(|id| id.0 == "-/probe-pve1"), "where there is no room no VM is begun");
    let values = &pve.guests[&web01()].values;
    assert_eq!(values["scsi0"], "local-lvm:vm-201-disk-0,discard=on,size=20G");
    assert_eq!(values["scsi1"], "fast:vm-201-disk-0,size=50G");
    assert_eq!(values["ide2"], "local-lvm:vm-201-cloudinit,media=cdrom");
    assert_eq!(values["boot"], "order=scsi0");
    assert_eq!(values["ipconfig0"], "gw=10.40.0.1,ip=10.40.0.5/24");
    assert!(values["net0"].starts_with("virtio=BC:24:11:"), "{}", values["net0"]);
    assert!(pve.guests[&web01()].running);
    assert!(!values.keys().any(|key| key.starts_with("unused")), "{values:?}");
}

#[test]
fn a_second_deploy_has_nothing_to_do_on_any_transport() {
    for transport in ["hybrid", "auto", "ssh"] {
        let mut pve = Pve::new();
        let spec = format!("transport: {transport}\n{}", one_vm(PLAIN));
        deploy(&mut pve, &spec);
        let again = plan(&pve, &spec);
        assert_eq!(steps(&again), Vec::<String>::new(), "{transport}");
        assert_eq!(verb(&again), Verb::NoOp);
    }
}

#[test]
fn all_transports_end_with_the_same_configuration() {
    let configuration = |transport: &str| {
        let mut pve = Pve::new();
        let spec = one_vm(&PLAIN.replace("image: debian-13", "image: placed"))
            .replace("images:\n", "images:\n  placed: {volume: 'local:import/debian-13.qcow2'}\n");
        deploy(&mut pve, &format!("transport: {transport}\n{spec}"));
        pve.guests.remove(&web01()).unwrap().values
    };
    let hybrid = configuration("hybrid");
    for transport in ["auto", "api", "ssh"] {
        assert_eq!(configuration(transport), hybrid, "{transport}");
    }
}

#[test]
fn what_a_transport_cannot_do_is_refused_at_its_line() {
    let spec = format!("transport: api\n{}", one_vm(PLAIN));
    let mut pve = Pve::new();
    pve.rights = None;
    let told = refused(&pve, &spec);
    assert!(told.contains("5:21: images.debian-13: image `debian-13` is a file on the node"), "{told}");
    let spec = format!(
        "transport: api\n{}",
        one_vm("args: -no-reboot\ndisks: {scsi0: {storage: fast, size: 1GiB}}")
    );
    let told = refused(&pve, &spec);
    assert!(
        told.contains("vms.web01.args: the API allows only root@pam with a password to set `args`"),
        "{told}"
    );
    // On the hybrid transport the same option goes by `qm set`.
    let plan = plan(&pve, &spec.replace("transport: api", "transport: hybrid"));
    assert!(steps(&plan).contains(&"web01/attach SSH".to_owned()), "{:?}", steps(&plan));
}

#[test]
fn disks_grow_and_are_added_detached_and_moved() {
    let mut pve = Pve::new();
    deploy(&mut pve, &one_vm(PLAIN));
    let bigger = PLAIN.replace("size: 50GiB", "size: 80GiB");
    let plan = deploy(&mut pve, &one_vm(&bigger));
    assert_eq!(steps(&plan), ["-/probe-pve1 SSH", "web01/resize-scsi1 API"]);
    assert_eq!(pve.guests[&web01()].values["scsi1"], "fast:vm-201-disk-0,size=80G");
    let moved = bigger.replace("scsi1: {storage: fast", "scsi1: {storage: local-lvm");
    let plan = deploy(&mut pve, &one_vm(&moved));
    assert_eq!(steps(&plan), ["-/probe-pve1 SSH", "web01/move-scsi1 API"]);
    let more = moved.replace("nics:", "  virtio3: {storage: fast, size: 4GiB, serial: osd-1}\nnics:");
    let plan = deploy(&mut pve, &one_vm(&more));
    assert_eq!(steps(&plan), ["-/probe-pve1 SSH", "web01/configure API", "web01/attach SSH"]);
    let gone = more.replace("  virtio3: {storage: fast, size: 4GiB, serial: osd-1}\n", "  virtio3: null\n");
    let plan = deploy(&mut pve, &one_vm(&gone));
    assert_eq!(steps(&plan), ["web01/configure API"]);
    let values = &pve.guests[&web01()].values;
    assert!(
        !values.contains_key("virtio3") && values.keys().any(|key| key.starts_with("unused")),
        "{values:?}"
    );
    assert!(crate::specs::plan(&pve, &one_vm(&gone)).is_empty());
}

#[test]
fn a_shrink_is_refused_and_a_changed_image_replaces_only_when_told() {
    let mut pve = Pve::new();
    deploy(&mut pve, &one_vm(PLAIN));
    let told = refused(&pve, &one_vm(&PLAIN.replace("size: 50GiB", "size: 40GiB")));
    assert!(
        told.contains(
            "disks.scsi1.size: `scsi1` has 50GiB; a disk cannot shrink to 40GiB [write `size: 50GiB`"
        ),
        "{told}"
    );
    let quiet = plan(&pve, &one_vm(&PLAIN.replace("image: debian-13", "image: tiny")));
    assert!(quiet.is_empty(), "{:?}", steps(&quiet));
    assert_eq!((quiet.changes[0].outdated[0].slot.as_str(), verb(&quiet)), ("scsi0", Verb::NoOp));
    let other = one_vm(&PLAIN.replace("image: debian-13", "image: tiny"));
    let plan = plan_with(&pve, &other, |context| {
        context.replace.insert("web01".parse().unwrap());
    });
    assert_eq!(verb(&plan), Verb::Replace);
    assert_eq!(steps(&plan)[..3], ["-/probe-pve1 SSH", "web01/delete API", "web01/create API"]);
    pve.apply(&plan);
    assert!(crate::specs::plan(&pve, &other).is_empty());
}

#[test]
fn a_change_that_needs_a_restart_is_said_to_be_pending_and_made_only_where_allowed() {
    let mut pve = Pve::new();
    deploy(&mut pve, &one_vm(PLAIN));
    let more = PLAIN.replace("cpu: 2", "cpu: 4");
    let plan = deploy(&mut pve, &one_vm(&more));
    assert_eq!((verb(&plan), steps(&plan)), (Verb::UpdatePending, vec!["web01/configure API".to_owned()]));
    assert_eq!(pve.guests[&web01()].pending["cores"], Some("4".to_owned()));
    let again = crate::specs::plan(&pve, &one_vm(&more));
    assert!(again.is_empty(), "{:?}", steps(&again));
    assert!(again.notes.iter().any(|note| note.text.contains("restarted: cores")), "{:?}", again.notes);
    let allowed = one_vm(&format!("{more}\nlifecycle: {{restart: if-needed}}"));
    let plan = deploy(&mut pve, &allowed);
    assert_eq!(steps(&plan), ["web01/reboot API", "web01/await-address API"]);
    assert_eq!(pve.guests[&web01()].values["cores"], "4");
    assert!(crate::specs::plan(&pve, &allowed).is_empty());
}

#[test]
fn a_lost_lock_file_never_makes_a_second_vm() {
    let mut pve = Pve::new();
    let spec = one_vm(PLAIN).replace("vmid: 201", "vmid: {range: [300, 399]}");
    pve.foreign.insert("300".parse().unwrap(), foreign(300, "qemu"));
    let plan = deploy(&mut pve, &spec);
    assert_eq!(plan.changes[0].guest.vmid.get(), 301);
    assert!(crate::specs::plan(&pve, &spec).is_empty());
}

pub fn foreign(vmid: u32, kind: &str) -> ObservedGuest {
    ObservedGuest {
        vmid: Vmid::new(vmid).unwrap(),
        node: "pve1".parse().unwrap(),
        name: Some("other".to_owned()),
        kind: kind.parse().unwrap(),
        status: pve_types::PowerState::Running,
        template: false,
        pool: None,
        volumes: Some(GuestVolumes::default()),
        facts: GuestFacts {
            uuid: Some("2b2b2b2b-0000-4000-8000-000000000001".to_owned()),
            ..GuestFacts::default()
        },
        config: None,
    }
}

#[test]
fn a_foreign_guest_in_the_way_is_refused_with_the_command_to_adopt_it() {
    let mut pve = Pve::new();
    pve.foreign.insert(web01(), foreign(201, "qemu"));
    let told = refused(&pve, &one_vm(PLAIN));
    assert!(
        told.contains(
            "VMID 201 is used by a VM that vmdeploy does not manage: `other` on pve1 [a spec printed by `vmdeploy"
        ),
        "{told}"
    );
    assert!(told.contains("`vmdeploy adopt 201 --project "), "{told}");
    pve.foreign.insert(web01(), foreign(201, "lxc"));
    assert!(refused(&pve, &one_vm(PLAIN)).contains("is used by a container that vmdeploy does not manage"));
}

#[test]
fn a_copy_with_the_same_uuid_is_told_and_stays_as_it_is() {
    let mut pve = Pve::new();
    deploy(&mut pve, &one_vm(PLAIN));
    let mut copy = pve.observed().guests.remove(&web01()).unwrap();
    copy.vmid = "305".parse().unwrap();
    pve.foreign.insert(copy.vmid, copy);
    let unchanged = plan(&pve, &one_vm(PLAIN));
    assert!(unchanged.is_empty());
    let told: Vec<&str> = unchanged.notes.iter().map(|note| note.text.as_str()).collect();
    assert!(told.contains(&"VMID 305 has the same UUID: it is a copy and is left unchanged"), "{told:?}");
}

#[test]
fn a_vm_that_left_the_spec_is_reported_and_deleted_only_by_its_number() {
    let mut pve = Pve::new();
    let two = format!(
        "{}  web02:\n    vmid: 202\n    disks: {{scsi0: {{storage: fast, size: 1GiB}}}}\n",
        one_vm(PLAIN)
    );
    deploy(&mut pve, &two);
    let one = one_vm(PLAIN);
    let quiet = plan(&pve, &one);
    assert!(quiet.is_empty());
    assert!(
        quiet
            .notes
            .iter()
            .any(|note| note.text.contains("VM 202 belongs to this project but is not in the spec"))
    );
    let wrong = crate::specs::try_plan_with(&pve.observed(), &crate::specs::load(&one), |context| {
        context.prune = Some(2)
    });
    assert!(crate::specs::told(&wrong.unwrap_err()).contains("1 VMs would be deleted: web02 (202)"));
    let plan = plan_with(&pve, &one, |context| context.prune = Some(1));
    assert_eq!(steps(&plan), ["web02/delete API"]);
    pve.apply(&plan);
    assert_eq!(pve.guests.len(), 1);
}

#[test]
fn kept_disks_change_hands_before_their_vm_is_destroyed_even_when_the_spec_forgot_them() {
    let keep = PLAIN.replace("size: 50GiB}", "size: 50GiB, keep: {holder: 999}}");
    for prunes in [false, true] {
        let mut pve = Pve::new();
        pve.foreign.insert("999".parse().unwrap(), foreign(999, "qemu"));
        deploy(&mut pve, &one_vm(&keep));
        assert!(plan(&pve, &one_vm(&keep)).is_empty());
        let destroyed = if prunes {
            let other = format!(
                "{HEAD}vms:\n  other:\n    vmid: 777\n    disks: {{scsi0: {{storage: fast, size: 1GiB}}}}\n"
            );
            let plan = plan_with(&pve, &other, |context| context.prune = Some(1));
            pve.apply(&plan);
            plan
        } else {
            destroy(&mut pve, &one_vm(&keep))
        };
        let own: Vec<String> =
            steps(&destroyed).into_iter().filter(|step| step.starts_with("web01")).collect();
        assert_eq!(own, ["web01/shutdown API", "web01/keep-scsi1 API", "web01/delete API"]);
        assert!(pve.volumes.contains("fast:vm-999-disk-0"), "{:?}", pve.volumes);
        assert!(!pve.volumes.iter().any(|volume| volume.contains("vm-201-")), "{:?}", pve.volumes);
    }
    let mut pve = Pve::new();
    let no_holder = one_vm(&PLAIN.replace("size: 50GiB}", "size: 50GiB, keep: true}"));
    deploy(&mut pve, &no_holder);
    let refused = crate::specs::try_plan_with(&pve.observed(), &crate::specs::load(&no_holder), |context| {
        context.mode = vmdeploy_planner::plan::PlanMode::Destroy;
    });
    assert!(crate::specs::told(&refused.unwrap_err()).contains("but no holder is set"));
}

#[test]
fn a_protected_vm_is_not_destroyed() {
    let mut pve = Pve::new();
    let spec = one_vm(&format!("{PLAIN}\nprotection: true"));
    let plan = deploy(&mut pve, &spec);
    assert!(steps(&plan).contains(&"web01/protect API".to_owned()));
    let refused = crate::specs::try_plan_with(&pve.observed(), &crate::specs::load(&spec), |context| {
        context.mode = vmdeploy_planner::plan::PlanMode::Destroy;
    });
    assert!(
        crate::specs::told(&refused.unwrap_err()).contains("VM 201 is protected [write `protection: false`")
    );
}

#[test]
fn templates_are_cloned_linked_or_full_and_get_their_uuid_right_after() {
    let spec = format!(
        "{HEAD}images:\n  debian-13: {{path: /var/lib/vz/import/debian-13.qcow2}}
vms:
  tmpl:
    vmid: 9000
    template: true
    cpu: 1
    disks: {{scsi0: {{storage: local-lvm, image: debian-13, size: 10GiB}}}}
    nics: {{net0: {{bridge: vmbr0}}}}
    cloud_init: {{user: admin}}
  web01:
    vmid: 201
    clone: {{from: tmpl, mode: linked}}
    cpu: 2
    disks: {{scsi0: {{size: 20GiB}}}}
    nics: {{net0: {{bridge: vmbr0, ip: dhcp}}}}
    tags: [web]
  web02:
    vmid: 202
    clone: {{from: tmpl, mode: full, storage: fast}}
"
    );
    let mut pve = Pve::new();
    let plan = deploy(&mut pve, &spec);
    let own: Vec<String> = steps(&plan).into_iter().filter(|step| step.starts_with("web01")).collect();
    assert_eq!(own[..2], ["web01/clone API", "web01/configure API"]);
    assert!(
        plan.step(&vmdeploy_planner::plan::StepId("web01/clone".to_owned()))
            .unwrap()
            .after
            .iter()
            .any(|id| id.0 == "tmpl/template")
    );
    assert_eq!(pve.guests[&web01()].values["scsi0"], "local-lvm:vm-201-disk-0,size=20G");
    let again = crate::specs::plan(&pve, &spec);
    assert!(again.is_empty(), "{:#?}", again.changes);
    // Linked clones go before their template.
    let gone = destroy(&mut pve, &spec);
    let order: Vec<String> = steps(&gone);
    let at = |name: &str| order.iter().position(|step| step.starts_with(name)).unwrap();
    assert!(at("web01/delete") < at("tmpl/delete") && at("web02/delete") < at("tmpl/delete"), "{order:?}");
    assert!(pve.guests.is_empty());
}

#[test]
fn cloud_init_changes_regenerate_the_drive_and_passwords_use_the_api() {
    let mut pve = Pve::new();
    let with_password = PLAIN.replace("user: admin", "user: admin, password: {env: WEB_PASSWORD}");
    let plan = deploy(&mut pve, &one_vm(&with_password));
    let text = serde_json::to_string(&plan).unwrap();
    assert!(text.contains("WEB_PASSWORD") && text.contains("sha512_crypt"));
    assert!(crate::specs::plan(&pve, &one_vm(&with_password)).is_empty(), "a password is never compared");
    let again = plan_with(&pve, &one_vm(&with_password), |context| context.set_passwords = true);
    assert_eq!(steps(&again), ["web01/configure API", "web01/cloud-init API"]);
    let changed = one_vm(&PLAIN.replace("10.40.0.5/24", "10.40.0.6/24"));
    let plan = deploy(&mut pve, &changed);
    assert_eq!(steps(&plan), ["web01/configure API", "web01/cloud-init API"]);
    assert!(crate::specs::plan(&pve, &changed).is_empty());
    let dhcp = one_vm(&PLAIN.replace("ip: 10.40.0.5/24, gateway: 10.40.0.1", "ip: dhcp"));
    deploy(&mut pve, &dhcp);
    assert_eq!(
        pve.guests[&web01()].values["ipconfig0"],
        "ip=dhcp",
        "the old gateway is gone with its address"
    );
}

#[test]
fn keys_of_accounts_are_fetched_when_deploying_and_never_an_endless_change() {
    let mut pve = Pve::new();
    let accounts = |list: &str| one_vm(&PLAIN.replace("[{file: demo.pub}]", list));
    let one = accounts("['github:octocat', {file: demo.pub}]");
    deploy(&mut pve, &one);
    assert!(plan(&pve, &one).is_empty());
    let two = accounts("['github:octocat', 'github:hubot', {file: demo.pub}]");
    let change = deploy(&mut pve, &two);
    assert!(steps(&change).iter().any(|step| step.starts_with("web01/configure")), "{:?}", steps(&change));
    assert!(plan(&pve, &two).is_empty());
}

#[test]
fn adopting_adds_only_the_ownership_marker() {
    let mut pve = Pve::new();
    deploy(
        &mut pve,
        &one_vm(&format!(
            "{PLAIN}\ntags: [b, a]\nserial: {{serial0: socket}}\nbios: {{type: ovmf, efi: {{storage: fast}}}}\nscsihw: virtio-scsi-single\nwatchdog: {{model: i6300esb, action: reset}}\nstartup: {{order: 2, up: 30s}}"
        )),
    );
    let guest = pve.guests.get_mut(&web01()).unwrap();
    guest.values.insert("description".to_owned(), "made by hand\n".to_owned());
    guest.values.insert("smbios1".to_owned(), "uuid=AAAAAAAA-0000-4000-8000-000000000001".to_owned());
    let before = guest.values.clone();
    let observed = pve.observed();
    let yaml = vmdeploy_planner::adopt("web", &[web01()], &observed).spec.unwrap();
    let plan = deploy(&mut pve, &yaml);
    assert_eq!(steps(&plan), ["web01/configure API"], "{yaml}");
    let mut after = pve.guests[&web01()].values.clone();
    let described = after.remove("description").unwrap();
    assert!(
        described
            .starts_with("made by hand\n\n<!-- vmdeploy cluster=default project=web name=web01 vmid=201 "),
        "{described}"
    );
    let mut before = before;
    before.remove("description");
    assert_eq!(after, before, "{yaml}");
    assert!(crate::specs::plan(&pve, &yaml).is_empty());
}

#[test]
fn a_node_that_ha_chose_is_no_difference() {
    let mut pve = Pve::new();
    let spec = one_vm(&format!("{PLAIN}\nha: {{state: started, on_nodes: {{pve1: 2, pve2: 1}}}}"));
    let plan = deploy(&mut pve, &spec);
    let own: Vec<String> =
        steps(&plan).into_iter().skip_while(|step| !step.starts_with("web01/ha")).collect();
    assert_eq!(own, ["web01/ha API", "web01/running API", "web01/await-address API"]);
    pve.guests.get_mut(&web01()).unwrap().node = "pve2".parse().unwrap();
    let quiet = crate::specs::plan(&pve, &spec);
    assert!(quiet.is_empty() && quiet.notes.is_empty(), "{:?}", quiet.notes);
    let gone = destroy(&mut pve, &spec);
    assert_eq!(steps(&gone), ["web01/ha API", "web01/delete API"]);
}

#[test]
fn missing_rights_bridges_space_and_nodes_are_checks_that_refuse() {
    let mut pve = Pve::new();
    pve.rights =
        Some(vmdeploy_planner::observed::Rights { user: "ci@pve!t".to_owned(), ..Default::default() });
    let spec = one_vm(
        &PLAIN
            .replace("vmbr0", "vmbr7")
            .replace("50GiB", "900TiB")
            .replace("storage: fast", "storage: local"),
    );
    let mut observed = pve.observed();
    observed.storages.iter_mut().for_each(|seen| seen.kind = "lvm".into());
    let plan = crate::specs::try_plan_with(&observed, &crate::specs::load(&spec), |_| {}).unwrap();
    let missing: Vec<&str> = plan.refusals().map(|check| check.need.as_str()).collect();
    let bridge = plan.checks.iter().find(|check| check.need == "bridge vmbr7 at pve1").unwrap();
    assert_eq!(bridge.outcome, CheckOutcome::Unknown, "without a right on it a bridge is hidden");
    assert!(missing.contains(&"900TiB free on local at pve1"), "{missing:?}");
    assert!(missing.contains(&"VM.Allocate on /vms/201"), "{missing:?}");
    assert!(missing.contains(&"SDN.Use on /sdn/zones/localnetwork/vmbr7/40"), "{missing:?}");
    assert!(plan.refusals().filter(|check| check.is_right).count() > 5);
    assert!(vmdeploy_planner::plan::CheckedPlan::new(plan).is_err());
    pve.rights = Pve::new().rights;
    let mut observed = pve.observed();
    observed.storages.iter_mut().for_each(|seen| seen.kind = "lvm".into());
    let plan = crate::specs::try_plan_with(&observed, &crate::specs::load(&spec), |_| {}).unwrap();
    let missing: Vec<&str> = plan.refusals().map(|check| check.need.as_str()).collect();
    assert_eq!(missing, ["bridge vmbr7 at pve1", "900TiB free on local at pve1"]);
}

#[test]
fn a_node_of_high_availability_that_is_not_there_is_a_check_that_refuses() {
    let pve = Pve::new();
    let spec = one_vm(&format!("{PLAIN}\nha: {{state: started, on_nodes: {{pve1: 2, pev2: 1}}}}"));
    let plan = crate::specs::try_plan_with(&pve.observed(), &crate::specs::load(&spec), |_| {}).unwrap();
    let missing: Vec<_> =
        plan.refusals().map(|check| (check.need.as_str(), check.detail.as_deref())).collect();
    let detail = "the cluster has no node pev2; its nodes are pve1, pve2; correct `on_nodes`";
    assert_eq!(missing, [("node pev2 for high availability", Some(detail))]);
}

#[test]
fn a_written_plan_is_refused_when_the_world_has_changed() {
    use vmdeploy_planner::verify::check_world;
    let mut pve = Pve::new();
    deploy(&mut pve, &one_vm(PLAIN));
    let change = plan(&pve, &one_vm(&PLAIN.replace("cpu: 2", "cpu: 4")));
    assert!(check_world(&change, &pve.observed()).is_ok());
    let written = serde_json::to_string(&change).unwrap();
    assert_eq!(serde_json::from_str::<vmdeploy_planner::plan::Plan>(&written).unwrap(), change);
    pve.foreign.insert("888".parse().unwrap(), foreign(888, "qemu"));
    assert!(check_world(&change, &pve.observed()).is_ok(), "another guest does not matter");
    pve.guests.get_mut(&web01()).unwrap().values.insert("cores".to_owned(), "3".to_owned());
    assert!(check_world(&change, &pve.observed()).is_err());
}

#[test]
fn the_command_lines_transport_overrides_the_specs() {
    let mut pve = Pve::new();
    pve.rights = None;
    let plan = plan_with(&pve, &one_vm(PLAIN), |context| context.transport = Some(TransportChoice::Ssh));
    assert!(
        plan.steps.iter().all(|step| step.transport == vmdeploy_planner::plan::Transport::Ssh),
        "{:?}",
        steps(&plan)
    );
    assert_eq!(plan.transport, TransportChoice::Ssh);
}

#[test]
fn the_auto_transport_takes_the_cheapest_way_that_rights_and_spec_allow() {
    let token = |paths: &[(&str, &[&str])]| {
        let held = |names: &[&str]| names.iter().map(|name| (name.parse().unwrap(), true)).collect();
        let paths = paths.iter().map(|(path, names)| ((*path).to_owned(), held(names))).collect();
        vmdeploy_planner::observed::Rights { user: "ci@pve!t".to_owned(), is_root: false, paths }
    };
    let all = pve_types::Privilege::all().map(pve_types::Privilege::as_str).collect::<Vec<_>>();
    let mut pve = Pve::new();
    let by_path = format!("transport: auto\n{}", one_vm(PLAIN));
    let by_volume =
        by_path.replace("path: /var/lib/vz/import/debian-13.qcow2", "volume: 'local:import/debian-13.qcow2'");
    // A token that may do everything, and an image that it may name: one call by API.
    pve.rights = Some(token(&[("/", &all)]));
    assert_eq!(steps(&plan(&pve, &by_volume))[..2], ["-/probe-pve1 API", "web01/create API"]);
    // An image by its path is for root alone: one `qm create`.
    assert_eq!(steps(&plan(&pve, &by_path))[..2], ["-/probe-pve1 API", "web01/create SSH"]);
    // A token that may not start: that one step goes by SSH.
    let without = |taken: &str| all.iter().copied().filter(|name| *name != taken).collect::<Vec<_>>();
    pve.rights = Some(token(&[("/", &without("VM.PowerMgmt"))]));
    let plan = plan(&pve, &by_volume);
    let start = plan.steps.iter().find(|step| step.id.0 == "web01/start").unwrap();
    assert_eq!(
        (start.transport, start.why.as_str()),
        (vmdeploy_planner::plan::Transport::Ssh, "`ci@pve!t` may not do this through the API")
    );
    assert_eq!(
        plan.steps.iter().filter(|step| step.transport == vmdeploy_planner::plan::Transport::Ssh).count(),
        1
    );
}

#[test]
fn a_format_that_the_storage_cannot_hold_is_refused_at_its_line() {
    let spec = one_vm("disks: {scsi0: {storage: local-lvm, size: 1GiB, format: qcow2}}");
    let told = refused(&Pve::new(), &spec);
    assert!(told.contains("disks.scsi0.format: local-lvm (lvmthin) holds raw, not qcow2"), "{told}");
}

#[test]
fn an_option_that_the_version_does_not_know_is_refused_at_its_line() {
    let mut pve = Pve::new();
    pve.version = pve_types::PveVersion::new(8, 4, 1);
    let told = refused(&pve, &one_vm("raw: {allow-ksm: 1}\ndisks: {scsi0: {storage: fast, size: 1GiB}}"));
    assert!(
        told.contains("vms.web01.raw.allow-ksm:") && told.contains("the cluster has PVE 8.4.1"),
        "{told}"
    );
    let spec = "bios: {type: ovmf, efi: {storage: fast, ms_cert: '2023k'}}\ndisks: {scsi0: {storage: fast, size: 1GiB}}";
    pve.version = pve_types::PveVersion::new(8, 1, 0);
    let told = refused(&pve, &one_vm(spec));
    assert!(told.contains("ms_cert: PVE 8.1.0 does not support this"), "{told}");
}

#[test]
fn a_template_whose_linked_clones_stay_is_not_destroyed() {
    let mut pve = Pve::new();
    let spec = one_vm("template: true\ndisks: {scsi0: {storage: fast, size: 1GiB}}");
    deploy(&mut pve, &spec);
    let mut clone = foreign(300, "qemu");
    clone.volumes =
        ["fast:base-201-disk-0/vm-300-disk-0".parse().unwrap()].into_iter().collect::<GuestVolumes>().into();
    pve.foreign.insert("300".parse().unwrap(), clone);
    let refused = crate::specs::try_plan_with(&pve.observed(), &crate::specs::load(&spec), |context| {
        context.mode = vmdeploy_planner::plan::PlanMode::Destroy;
    });
    assert!(crate::specs::told(&refused.unwrap_err()).contains("but linked clones depend on it: VM 300"));
}

#[test]
fn contradicting_ha_and_lifecycle_states_are_refused() {
    let spec =
        one_vm("ha: stopped\nlifecycle: {state: running}\ndisks: {scsi0: {storage: fast, size: 1GiB}}");
    assert!(refused(&Pve::new(), &spec).contains("this contradicts `ha: stopped`"));
}

#[test]
fn a_guest_with_the_marker_and_another_uuid_is_an_interrupted_clone_or_was_changed_by_hand() {
    let mut pve = Pve::new();
    deploy(&mut pve, &one_vm(PLAIN));
    let guest = pve.guests.get_mut(&web01()).unwrap();
    guest.values.insert("smbios1".to_owned(), "uuid=11111111-1111-4111-8111-111111111111".to_owned());
    let told = refused(&pve, &one_vm(PLAIN));
    assert!(
        told.contains("VMID 201 has the ownership marker of `web01` of project `web`, but a different UUID"),
        "{told}"
    );
    assert!(
        told.contains(
            "[`vmdeploy resume run-1` finishes an interrupted clone; if the UUID was changed manually"
        ),
        "{told}"
    );
}

#[test]
fn images_of_this_machine_and_by_url_are_placed_once_and_used_by_every_transport() {
    let spec = |transport: &str| {
        format!(
            "transport: {transport}\n{HEAD}images:
  here: {{file: images/golden.qcow2}}
  there: {{url: 'https://images.example.org/debian.qcow2', checksum: 'sha256:{}', size: 3GiB}}
vms:
  one: {{vmid: 201, node: pve1, disks: {{scsi0: {{storage: fast, image: here, size: 8GiB}}, scsi1: {{storage: fast, image: there, size: 3GiB}}}}}}
  two: {{vmid: 202, node: pve1, disks: {{scsi0: {{storage: fast, image: here, size: 8GiB}}}}}}
",
            "ab".repeat(32)
        )
    };
    for transport in ["hybrid", "auto", "api", "ssh"] {
        let mut pve = Pve::new();
        let plan = deploy(&mut pve, &spec(transport));
        let shared: Vec<String> =
            steps(&plan).into_iter().filter(|step| step.starts_with("-/place")).collect();
        assert_eq!(shared.len(), 2, "{transport}: {shared:?}");
        assert!(
            pve.images.iter().any(|image| image == "local:import/there-abababababab.qcow2"),
            "{:?}",
            pve.images
        );
        assert!(crate::specs::plan(&pve, &spec(transport)).is_empty(), "{transport}");
    }
}

#[test]
fn what_the_spec_does_not_say_of_high_availability_stays() {
    let mut pve = Pve::new();
    deploy(
        &mut pve,
        &one_vm(&format!(
            "{PLAIN}\nha: {{state: started, max_relocate: 4, on_nodes: {{pve1: 2}}, strict: true}}"
        )),
    );
    let less = one_vm(&format!("{PLAIN}\nha: {{state: started, max_restart: 3}}"));
    deploy(&mut pve, &less);
    let there = &pve.ha.resources[&web01()];
    assert_eq!(
        (there.max_restart, there.max_relocate, there.on_nodes.len(), there.strict),
        (Some(3), Some(4), 1, true)
    );
    assert!(plan(&pve, &less).is_empty());
}
