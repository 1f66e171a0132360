//! What values mean to PVE: what it rewrites, takes only together, treats otherwise than other disks, or has room for.

use crate::deploy::one_vm;
use crate::pve::Pve;
use crate::specs::{deploy, load, plan, refused, steps, try_plan_with};
use pve_types::{Bytes, Vmid};
use std::collections::BTreeMap;
use vmdeploy_planner::observed::{ObservedConfig, ObservedGuest};
use vmdeploy_planner::plan::{CheckOutcome, Plan, Verb};
use vmdeploy_planner::spec::{self, LoadOptions, SourceFile};

fn web01() -> Vmid {
    "201".parse().unwrap()
}

#[track_caller]
fn has_nothing_to_do(pve: &Pve, spec: &str) {
    let again = plan(pve, spec);
    assert_eq!(steps(&again), Vec::<String>::new(), "{:#?}", again.changes);
    assert_eq!(again.changes[0].verb, Verb::NoOp);
}

/// Returns the faults of a spec that does not validate.
#[track_caller]
fn faults(spec: &str) -> String {
    let files = [SourceFile::new("test.yaml", spec.to_owned())];
    match spec::load(&files, &LoadOptions::default()) {
        Ok(_) => panic!("this validates:\n{spec}"),
        Err(faults) => crate::specs::told(&faults),
    }
}

fn notes(plan: &Plan) -> String {
    plan.notes.iter().map(|note| format!("{}\n", note.text)).collect()
}

const WINDOWS: &str = "ostype: win11
machine: {type: q35, viommu: intel}
disks: {scsi0: {storage: fast, size: 64GiB}}";

#[test]
fn a_machine_version_that_pve_pins_for_windows_is_no_difference() {
    let mut pve = Pve::new();
    deploy(&mut pve, &one_vm(WINDOWS));
    assert_eq!(pve.guests[&web01()].values["machine"], "pc-q35-10.0+pve1,viommu=intel");
    has_nothing_to_do(&pve, &one_vm(WINDOWS));
    // Another field changes, and the version stays pinned.
    deploy(&mut pve, &one_vm(&WINDOWS.replace("viommu: intel", "viommu: virtio")));
    pve.guests.get_mut(&web01()).unwrap().pending.clear();
    let waits = one_vm(&WINDOWS.replace("viommu: intel", "viommu: null"));
    let changed = plan(&pve, &waits);
    let reasons = format!("{:?}", changed.changes[0].reasons);
    assert!(reasons.contains("viommu") && !reasons.contains("10.0"), "{reasons}");
    // Of a guest that is not Windows a pinned version is a choice.
    let linux = WINDOWS.replace("win11", "l26");
    assert_ne!(plan(&pve, &one_vm(&linux)).changes[0].verb, Verb::NoOp);
}

#[test]
fn a_guest_that_becomes_windows_is_pinned_in_the_same_call() {
    let linux = WINDOWS.replace("win11", "l26");
    let mut pve = Pve::new();
    deploy(&mut pve, &format!("{}\n    lifecycle: {{state: stopped}}\n", one_vm(&linux)));
    let windows = format!("{}\n    lifecycle: {{state: stopped}}\n", one_vm(WINDOWS));
    deploy(&mut pve, &windows);
    assert_eq!(pve.guests[&web01()].values["machine"], "pc-q35-10.0+pve1,viommu=intel");
    has_nothing_to_do(&pve, &windows);
}

const CDS: &str = "disks:
  scsi0: {storage: fast, size: 16GiB}
  sata0: {iso: 'local:iso/os.iso'}
  sata1: {iso: 'local:iso/drivers.iso'}
boot: [scsi0, sata0]";

#[test]
fn a_medium_that_changes_leaves_the_boot_order_as_it_was() {
    for transport in ["hybrid", "auto", "api", "ssh"] {
        for boot in ["\nboot: [scsi0, sata0]", ""] {
            let spec = |lines: &str| {
                let lines = lines.replace("\nboot: [scsi0, sata0]", boot);
                format!("transport: {transport}\n{}", one_vm(&lines)).replace("images:\n", "").replace(
                    "  debian-13: {path: /var/lib/vz/import/debian-13.qcow2}\n  tiny: {path: /var/lib/vz/import/tiny.qcow2}\n",
                    "",
                )
            };
            let mut pve = Pve::new();
            deploy(&mut pve, &spec(CDS));
            let before = pve.guests[&web01()].values["boot"].clone();
            for medium in ["none", "'local:iso/answers.iso'"] {
                let changed = spec(&CDS.replace("'local:iso/drivers.iso'", medium));
                deploy(&mut pve, &changed);
                let guest = &pve.guests[&web01()];
                assert_eq!(guest.values["boot"], before, "{transport} {medium}");
                assert_eq!(guest.pending.get("boot"), None, "{transport} {medium}");
                has_nothing_to_do(&pve, &changed);
            }
        }
    }
}

#[test]
fn an_order_that_changes_with_a_cd_is_set_after_it() {
    let mut pve = Pve::new();
    deploy(&mut pve, &one_vm(CDS));
    let changed = one_vm(
        &CDS.replace("boot: [scsi0, sata0]", "boot: [sata2, scsi0]")
            .replace("  sata1:", "  sata2: {iso: 'local:iso/answers.iso'}\n  sata1:"),
    );
    let planned = deploy(&mut pve, &changed);
    assert_eq!(steps(&planned).last().unwrap(), "web01/boot API");
    let guest = &pve.guests[&web01()];
    let boot = guest.pending.get("boot").cloned().flatten().unwrap_or_else(|| guest.values["boot"].clone());
    assert_eq!(boot, "order=sata2;scsi0");
    has_nothing_to_do(&pve, &changed);
}

const CLOUD: &str = "disks: {scsi0: {storage: local-lvm, image: debian-13}}
nics: {net0: {bridge: vmbr0, vlan: 10, ip: dhcp}}
cloud_init: {user: admin}";

#[test]
fn what_is_on_the_cloud_init_drive_is_written_in_the_run_that_changes_it() {
    let changes: [(&str, String); 4] = [
        ("a VLAN", CLOUD.replace("vlan: 10", "vlan: 20")),
        ("a NIC more", CLOUD.replace("nics: {", "nics: {net1: {bridge: vmbr1}, ")),
        ("a user", CLOUD.replace("user: admin", "user: root")),
        ("an address", CLOUD.replace("ip: dhcp", "ip: 10.0.0.5/24, gateway: 10.0.0.1")),
    ];
    for (what, lines) in changes {
        let mut pve = Pve::new();
        deploy(&mut pve, &one_vm(CLOUD));
        let planned = deploy(&mut pve, &one_vm(&lines));
        assert!(
            steps(&planned).contains(&"web01/cloud-init API".to_owned()),
            "{what}: {:?}",
            steps(&planned)
        );
        has_nothing_to_do(&pve, &one_vm(&lines));
    }
}

#[test]
fn new_vms_get_what_pves_own_interface_would_choose() {
    let made = |lines: &str| {
        let mut pve = Pve::new();
        deploy(&mut pve, &one_vm(lines));
        has_nothing_to_do(&pve, &one_vm(lines));
        pve.guests.remove(&web01()).unwrap().values
    };
    let value = |values: &BTreeMap<String, String>, key: &str| values.get(key).cloned().unwrap_or_default();
    let linux = made(CLOUD);
    for (key, expect) in
        [("scsihw", "virtio-scsi-single"), ("ostype", "l26"), ("serial0", "socket"), ("vga", "")]
    {
        assert_eq!(value(&linux, key), expect, "{key}");
    }
    assert!(linux.contains_key("ide2") && linux["net0"].starts_with("virtio="));
    for firmware in ["machine: q35", "bios: {type: ovmf, efi: {storage: fast}}"] {
        let values = made(&format!("{CLOUD}\n{firmware}"));
        assert_eq!(value(&values, "scsi30"), "local-lvm:vm-201-cloudinit,media=cdrom", "{firmware}");
        assert!(!values.contains_key("ide2"), "{firmware}");
    }
    let windows = made(&format!("{CLOUD}\nmachine: q35\nostype: win11"));
    assert!(windows.contains_key("ide2") && !windows.contains_key("serial0"), "{windows:?}");
    let own = made(&format!("{CLOUD}\nscsihw: pvscsi\nostype: null\nraw: {{serial0: null}}"));
    assert_eq!((value(&own, "scsihw"), value(&own, "ostype")), ("pvscsi".to_owned(), String::new()));
    assert!(!own.contains_key("serial0"));
}

#[test]
fn defaults_are_for_vms_that_are_made() {
    let mut pve = Pve::new();
    deploy(&mut pve, &one_vm(CLOUD));
    let guest = pve.guests.get_mut(&web01()).unwrap();
    guest.values.retain(|key, _| !matches!(key.as_str(), "scsihw" | "ostype" | "serial0"));
    // Its cloud-init drive stays where it is, too.
    let drive = guest.values.remove("ide2").unwrap();
    guest.values.insert("sata3".to_owned(), drive);
    has_nothing_to_do(&pve, &one_vm(CLOUD));
}

#[test]
fn the_default_order_goes_by_pves_order_of_the_buses() {
    let mut pve = Pve::new();
    deploy(
        &mut pve,
        &one_vm("disks: {sata1: {storage: fast, size: 1GiB}, scsi0: {storage: fast, size: 1GiB}}"),
    );
    assert_eq!(pve.guests[&web01()].values["boot"], "order=scsi0");
}

const FIRMWARE: &str = "machine: q35
bios: {type: ovmf, efi: {storage: local-lvm}}
tpm: local-lvm
disks: {scsi0: {storage: local-lvm, size: 64GiB}}";

#[test]
fn firmware_disks_are_no_ordinary_disks() {
    let mut pve = Pve::new();
    deploy(&mut pve, &one_vm(FIRMWARE));
    for (lines, message) in [
        (
            FIRMWARE.replace("tpm: local-lvm", "tpm: {storage: local-lvm, version: v1.2}"),
            "was created with `version` v2.0",
        ),
        (
            FIRMWARE.replace("efi: {storage: local-lvm}", "efi: {storage: local-lvm, type: 2m}"),
            "was created with `type` 4m",
        ),
        (
            FIRMWARE
                .replace("efi: {storage: local-lvm}", "efi: {storage: local-lvm, secure_boot_keys: true}"),
            "was created with `secure_boot_keys`",
        ),
        (FIRMWARE.replace("tpm: local-lvm", "tpm: fast"), "only while the VM is stopped"),
    ] {
        let told = refused(&pve, &one_vm(&lines));
        assert!(told.contains(message), "{told}");
    }
    let moved = one_vm(&FIRMWARE.replace("tpm: local-lvm", "tpm: fast"));
    pve.guests.get_mut(&web01()).unwrap().running = false;
    assert!(steps(&plan(&pve, &moved)).contains(&"web01/move-tpmstate0 API".to_owned()));
}

#[test]
fn options_that_pve_takes_only_together_are_refused_by_the_spec() {
    let disk = "disks: {scsi0: {storage: fast, size: 4GiB}}\n";
    for (lines, message) in [
        ("cpu: {type: x86-64-v2-aes}", "did you mean `x86-64-v2-AES`?"),
        ("cpu: {type: host, flags: ['+avx512f']}", "not allowed: `+avx512f`"),
        ("cpu: {reported_model: kvm64}", "reported-model"),
        ("memory: {size: 16GiB, hugepages: 1024}", "huge pages need NUMA"),
        (
            "memory: 8GiB\ncpu: {cores: 4, numa: true}\nnuma: {numa0: {cpus: 0-3, memory: 8GiB, host_nodes: '0'}}",
            "policy",
        ),
        (
            "memory: 16GiB\ncpu: {cores: 4, numa: true}\nnuma: {numa0: {cpus: 0-3, memory: 8GiB}}",
            "8192MiB in total, but the VM has 16384MiB",
        ),
        ("memory: 2GiB\nhotplug: [memory]", "memory hotplug needs NUMA"),
        ("machine: {type: pc, viommu: intel}", "needs a q35 machine"),
    ] {
        let told = faults(&one_vm(&format!("{disk}{lines}")));
        assert!(told.contains(message), "{lines}: {told}");
    }
}

#[test]
fn options_that_pve_takes_only_together_are_refused_where_a_change_leads_to_them() {
    let pinned = "memory: 8GiB
cpu: {cores: 4, numa: true}
numa: {numa0: {cpus: 0-3, memory: 8GiB}}
disks: {scsi0: {storage: fast, size: 4GiB}}";
    let mut pve = Pve::new();
    deploy(&mut pve, &one_vm(pinned));
    // The spec says nothing of the nodes any more, and they are there all the same.
    let bigger = pinned
        .replace("memory: 8GiB\ncpu", "memory: 16GiB\ncpu")
        .replace("numa: {numa0: {cpus: 0-3, memory: 8GiB}}\n", "");
    let told = refused(&pve, &one_vm(&bigger));
    assert!(told.contains("8192MiB in total, but the VM has 16384MiB"), "{told}");
    // What is wrong already and not changed is left alone.
    pve.guests.get_mut(&web01()).unwrap().values.insert("memory".to_owned(), "4096".to_owned());
    let other = "disks: {scsi0: {storage: fast, size: 4GiB}}\nonboot: true";
    assert_eq!(plan(&pve, &one_vm(other)).changes[0].verb, Verb::Update);
}

#[test]
fn a_device_of_the_node_goes_by_ssh() {
    let lines = "disks: {sata0: {storage: fast, size: 16GiB}}
raw: {scsi1: '/dev/disk/by-id/ata-A,backup=0'}
boot: [sata0]";
    let pve = Pve::new();
    let planned = plan(&pve, &one_vm(lines));
    let by_api = planned.steps.iter().filter(|step| step.transport == vmdeploy_planner::plan::Transport::Api);
    for step in by_api {
        assert!(!format!("{:?}", step.action).contains("/dev/disk"), "{step:?}");
    }
    let mut with_token = Pve::new();
    with_token.rights.as_mut().unwrap().is_root = false;
    let told = refused(&with_token, &format!("transport: api\n{}", one_vm(lines)));
    assert!(told.contains("vms.web01.raw.scsi1: the API allows only root@pam"), "{told}");
    let as_volume = "disks: {scsi1: {volume: /dev/disk/by-id/ata-A, serial: A}}";
    let told = faults(&one_vm(as_volume));
    assert!(told.contains("`raw: {scsi1:") && !told.contains("is missing"), "{told}");
}

#[test]
fn snippets_and_hook_scripts_that_are_not_there_are_named() {
    let data = format!("{CLOUD}\nhookscript: 'local:snippets/pin.sh'")
        .replace("user: admin", "user_data: {volume: 'local:snippets/a.yaml'}");
    let pve = Pve::new();
    let deployment = load(&one_vm(&data));
    let mut observed = pve.observed();
    observed.listings.insert("pve1/local/snippets".to_owned());
    let refused = |plan: &Plan| -> Vec<String> {
        let refused = plan.checks.iter().filter(|check| check.outcome == CheckOutcome::Refused);
        refused.map(|check| check.need.clone()).collect()
    };
    let planned = try_plan_with(&observed, &deployment, |_| {}).unwrap();
    assert_eq!(
        refused(&planned),
        ["cloud-init data local:snippets/a.yaml at pve1", "hook script local:snippets/pin.sh at pve1"]
    );
    // Those who may not see snippets cannot tell.
    let rights = observed.rights.as_mut().unwrap();
    rights.is_root = false;
    let planned = try_plan_with(&observed, &deployment, |context| context.ssh_available = false);
    if let Ok(planned) = planned {
        assert_eq!(refused(&planned).iter().filter(|need| need.contains("snippets")).count(), 0);
    }
}

fn template(pve: &mut Pve, storage: &str, node: &str) {
    let vmid: Vmid = "9000".parse().unwrap();
    let values = [
        ("name", "tmpl"),
        ("template", "1"),
        ("ostype", "win11"),
        ("boot", "order=scsi0"),
        ("scsi0", &format!("{storage}:base-9000-disk-0,size=4G")),
    ];
    let values = values.into_iter().map(|(key, text)| (key.to_owned(), text.to_owned())).collect();
    let config = ObservedConfig {
        values,
        pending: BTreeMap::new(),
        digest: None,
        lock: None,
        snapshots: false,
        cloud_init_stale: Default::default(),
    };
    let guest = ObservedGuest {
        vmid,
        node: node.parse().unwrap(),
        name: Some("tmpl".to_owned()),
        kind: pve_types::GuestKind::Vm,
        status: pve_types::PowerState::Stopped,
        template: true,
        pool: None,
        volumes: Default::default(),
        facts: Default::default(),
        config: Some(config),
    };
    pve.foreign.insert(vmid, guest);
}

#[test]
fn storages_that_were_not_asked_are_not_local() {
    let spec = one_vm("clone: {from: 9000, mode: linked}");
    let deployment = load(&spec);
    let mut pve = Pve::new();
    template(&mut pve, "local-lvm", "pve2");
    let mut observed = pve.observed();
    let told = crate::specs::told(&try_plan_with(&observed, &deployment, |_| {}).unwrap_err());
    assert!(told.contains("has a disk on the local storage local-lvm"), "{told}");
    observed.storages.iter_mut().for_each(|seen| seen.shared = true);
    try_plan_with(&observed, &deployment, |_| {}).unwrap();
    observed.storages.retain(|seen| seen.node.as_str() == "pve1" && seen.storage.as_str() == "local");
    try_plan_with(&observed, &deployment, |_| {}).unwrap();
}

#[test]
fn a_password_fits_what_the_clone_s_source_is() {
    let lines = "clone: {from: 9000}\ncloud_init: {user: Administrator, storage: fast, password: {env: PW}}";
    let mut pve = Pve::new();
    template(&mut pve, "fast", "pve1");
    assert!(notes(&plan(&pve, &one_vm(lines))).contains("unhashed"));
    let clear = lines.replace("{env: PW}", "{env: PW, clear: true}");
    assert!(!notes(&plan(&pve, &one_vm(&clear))).contains("unhashed"));
}

#[test]
fn room_is_what_is_written_on_thin_storages_and_the_size_on_others() {
    let check = |kind: &str, lines: &str, limits: &str| {
        let deployment = load(&one_vm(lines).replace("project: web\n", &format!("project: web\n{limits}")));
        let mut pve = Pve::new();
        template(&mut pve, "fast", "pve1");
        pve.space = Bytes::from_gib(60);
        let mut observed = pve.observed();
        for seen in observed.storages.iter_mut().filter(|seen| seen.storage.as_str() == "fast") {
            (seen.kind, seen.sparse) = match kind {
                "sparse" => ("zfspool".into(), Some(true)),
                kind => (kind.into(), None),
            };
        }
        let plan = try_plan_with(&observed, &deployment, |_| {}).unwrap();
        let refused = plan.checks.iter().find(|check| check.outcome == CheckOutcome::Refused);
        let refused =
            refused.map(|check| format!("{}: {}", check.need, check.detail.clone().unwrap_or_default()));
        (refused.unwrap_or_default(), notes(&plan))
    };
    let blank = "disks: {scsi0: {storage: fast, size: 100GiB}}";
    for thick in ["lvm", "zfspool"] {
        let (refused, _) = check(thick, blank, "");
        assert!(refused.contains("100GiB free on fast"), "{thick}: {refused}");
    }
    for thin in ["lvmthin", "rbd", "dir", "sparse"] {
        let (refused, notes) = check(thin, blank, "");
        assert_eq!(refused, "", "{thin}");
        assert!(notes.contains("may grow to 100GiB, but it has 60GiB free"), "{thin}: {notes}");
    }
    let limited = "clusters: {default: {limits: {overcommit: 1.5}}}\n";
    assert!(check("lvmthin", blank, limited).0.contains("`limits.overcommit` allows 90GiB of its 60GiB"));
    assert_eq!(check("lvmthin", &blank.replace("100GiB", "80GiB"), limited).0, "");
    // A clone's growth counts.
    let clone = "clone: {from: 9000}\ndisks: {scsi0: {size: 104GiB}}";
    assert!(check("zfspool", clone, "").0.contains("104GiB free on fast"));
    assert_eq!(check("zfspool", &clone.replace("104", "24"), "").0, "");
}

#[test]
fn a_clone_s_format_is_said_or_refused() {
    let deployment = load(&one_vm("clone: {from: 9000, storage: fast, format: qcow2}"));
    let mut pve = Pve::new();
    template(&mut pve, "fast", "pve1");
    let mut observed = pve.observed();
    let told = crate::specs::told(&try_plan_with(&observed, &deployment, |_| {}).unwrap_err());
    assert!(told.contains("vms.web01.clone.format: fast holds raw, not qcow2"), "{told}");
    for seen in observed.storages.iter_mut().filter(|seen| seen.storage.as_str() == "fast") {
        seen.kind = "dir".into();
        seen.formats = ["raw", "qcow2"].map(str::to_owned).into();
    }
    let plan = try_plan_with(&observed, &deployment, |_| {}).unwrap();
    let json = serde_json::to_string(&plan.steps).unwrap();
    assert!(json.contains("\"format\":\"qcow2\""), "{json}");
}

#[test]
fn a_gateway_on_the_link_is_allowed() {
    let spec = |ip: &str| CLOUD.replace("ip: dhcp", ip);
    let pve = Pve::new();
    plan(&pve, &one_vm(&spec("ip: 203.0.113.7/32, gateway: 192.0.2.1")));
    plan(&pve, &one_vm(&spec("ip6: 'fd00::7/128', gateway6: 'fd01::1', ip: dhcp")));
}
