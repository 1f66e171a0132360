use super::*;
use crate::plan::{Condition, GuestRef, ImageOrigin};
use pve_config::NewVolume;
use pve_types::PveVersion;

fn rights(entries: &[(&str, &[(&str, bool)])]) -> Rights {
    let privileges = |list: &[(&str, bool)]| {
        list.iter().map(|(name, propagates)| (name.parse().unwrap(), *propagates)).collect::<BTreeMap<_, _>>()
    };
    let paths = entries.iter().map(|(path, list)| ((*path).to_owned(), privileges(list))).collect();
    Rights { user: "ci@pve!t".to_owned(), is_root: false, paths }
}

#[test]
fn the_nearest_path_decides_and_only_propagating_rights_go_down() {
    let rights = rights(&[
        ("/", &[("VM.Audit", true), ("VM.Allocate", false)]),
        ("/vms/100", &[("VM.PowerMgmt", false)]),
        ("/storage", &[("Datastore.AllocateSpace", true)]),
    ]);
    let check = |privilege: &str, path, expect| {
        assert_eq!(rights.holds(privilege.parse().unwrap(), path), expect, "{privilege} on {path}");
    };
    check("VM.Audit", "/vms/200", true);
    check("VM.Allocate", "/vms/200", false);
    check("VM.Allocate", "/", true);
    check("VM.Audit", "/vms/100", false);
    check("VM.PowerMgmt", "/vms/100", true);
    check("Datastore.AllocateSpace", "/storage/local-lvm", true);
    check("Datastore.Audit", "/storage/local-lvm", false);
}

fn guest() -> GuestRef {
    GuestRef {
        name: "web01".parse().unwrap(),
        vmid: "201".parse().unwrap(),
        node: "pve1".parse().unwrap(),
        uuid: String::new(),
    }
}

/// What every step needs that works on the guest by API.
const SEEN: &str = "VM.Audit on /vms/201";

fn step(action: Action) -> Step {
    Step {
        id: StepId("web01/test".to_owned()),
        vm: None,
        action,
        transport: Transport::Api,
        why: String::new(),
        after: BTreeSet::new(),
        follows: Default::default(),
        revert: crate::plan::Revert::Nothing,
        deadline_s: 1,
        estimate_ms: 0,
    }
}

fn check(version: PveVersion, action: Action, expect: &[&str]) {
    let mut observed = Observed::nothing(version);
    observed.vnets.insert("tenant1".parse().unwrap(), "zone1".to_owned());
    let step = step(action.clone());
    let needs = Requirements::new(&observed, [&step]).next(&step);
    let needs: Vec<String> = needs.iter().map(ToString::to_string).filter(|need| need != SEEN).collect();
    assert_eq!(needs, expect, "{action:?} on {version}");
}

fn set(key: &str, value: &str) -> Action {
    let new = NewVolume::read(key, value).map(PatchValue::NewVolume);
    let value = new.unwrap_or_else(|| PatchValue::Text(value.to_owned()));
    let set = BTreeMap::from([(key.to_owned(), value)]);
    Action::SetConfig { guest: guest(), patch: ConfigPatch { set, delete: Default::default() }, digest: None }
}

const SEVEN: PveVersion = PveVersion::new(7, 4, 0);
const EIGHT: PveVersion = PveVersion::new(8, 4, 1);
const NINE: PveVersion = PveVersion::new(9, 2, 11);

#[test]
fn options_need_the_privilege_of_their_group() {
    check(NINE, set("cores", "2"), &["VM.Config.CPU on /vms/201"]);
    check(NINE, set("description", "x"), &["VM.Config.Options on /vms/201"]);
    check(NINE, set("smbios1", "uuid=x"), &["VM.Config.HWType on /vms/201"]);
    check(NINE, set("startup", "order=1"), &["Sys.Modify on /", "VM.Config.Options on /vms/201"]);
    check(
        NINE,
        set("hostpci0", "mapping=nvme"),
        &["Mapping.Use on /mapping/pci/nvme", "VM.Config.HWType on /vms/201"],
    );
    check(NINE, set("ciuser", "x"), &["VM.Config.Cloudinit on /vms/201, or VM.Config.Network on /vms/201"]);
    check(SEVEN, set("ipconfig0", "ip=dhcp"), &["VM.Config.Network on /vms/201"]);
}

#[test]
fn a_nic_needs_its_bridge_or_its_vlan_from_version_8_on() {
    let network = "VM.Config.Network on /vms/201";
    check(NINE, set("net0", "virtio,bridge=vmbr0"), &["SDN.Use on /sdn/zones/localnetwork/vmbr0", network]);
    check(
        EIGHT,
        set("net0", "virtio,bridge=vmbr0,tag=40"),
        &["SDN.Use on /sdn/zones/localnetwork/vmbr0/40", network],
    );
    check(NINE, set("net0", "virtio,bridge=tenant1"), &["SDN.Use on /sdn/zones/zone1/tenant1", network]);
    check(SEVEN, set("net0", "virtio,bridge=vmbr0"), &[network]);
    let trunk = |vlan: u16| format!("SDN.Use on /sdn/zones/localnetwork/vmbr0/{vlan}");
    check(
        NINE,
        set("net0", "virtio,bridge=vmbr0,tag=9,trunks=10;20-22"),
        &[&trunk(10), &trunk(20), &trunk(21), &trunk(22), &trunk(9), network],
    );
}

#[test]
fn the_agent_needs_monitor_up_to_8_and_its_own_rights_from_9_on() {
    let wait = |condition| Action::Await { guest: guest(), condition };
    check(EIGHT, wait(Condition::Agent), &["VM.Monitor on /vms/201"]);
    check(
        NINE,
        wait(Condition::Agent),
        &["VM.GuestAgent.Audit on /vms/201, or VM.GuestAgent.Unrestricted on /vms/201"],
    );
    check(NINE, wait(Condition::CloudInit), &["VM.GuestAgent.Unrestricted on /vms/201"]);
    check(NINE, wait(Condition::Tcp { port: 22 }), &[]);
}

#[test]
fn a_new_disk_needs_its_storage_and_a_change_its_slot() {
    check(
        NINE,
        set("scsi1", "local-lvm:32"),
        &["Datastore.AllocateSpace on /storage/local-lvm", "VM.Config.Disk on /vms/201"],
    );
    let config = ConfigPatch {
        set: BTreeMap::from([(
            "scsi1".to_owned(),
            PatchValue::NewVolume(NewVolume::of_gib("local-lvm".parse().unwrap(), "32")),
        )]),
        delete: Default::default(),
    };
    let create = Action::CreateVm { guest: guest(), config, pool: Some("lab".parse().unwrap()) };
    check(
        NINE,
        create,
        &[
            "Datastore.AllocateSpace on /storage/local-lvm",
            "VM.Allocate on /vms/201, or VM.Allocate on /pool/lab",
            "VM.Audit on /vms/201, or VM.Audit on /pool/lab",
        ],
    );
    check(
        NINE,
        set("ide2", "local-lvm:cloudinit"),
        &["VM.Config.CDROM on /vms/201", "VM.Config.Cloudinit on /vms/201"],
    );
}

#[test]
fn a_download_needs_the_network_of_the_node() {
    let place = Action::PlaceImage {
        image: "debian".to_owned(),
        node: "pve1".parse().unwrap(),
        volume: "local:import/debian.qcow2".parse().unwrap(),
        origin: ImageOrigin::Url { url: "https://images.example.org/debian.qcow2".to_owned() },
        checksum: None,
    };
    let template = "Datastore.AllocateTemplate on /storage/local";
    check(
        NINE,
        place.clone(),
        &[template, "Sys.AccessNetwork on /nodes/pve1, or Sys.Audit on / and Sys.Modify on /"],
    );
    check(SEVEN, place, &[template, "Sys.Audit on / and Sys.Modify on /"]);
}

#[test]
fn options_that_no_token_may_set_are_known() {
    let check =
        |key, value, version, expect| assert_eq!(is_root_only(key, value, version), expect, "{key}={value}");
    for (key, value) in [
        ("args", "-x"),
        ("hookscript", "local:snippets/x"),
        ("affinity", "0-3"),
        ("hostpci0", "host=01:00.0"),
        ("usb0", "host=1234:5678"),
        ("serial0", "/dev/ttyS0"),
        ("hugepages", "2"),
    ] {
        check(key, value, NINE, true);
    }
    for (key, value) in [
        ("usb0", "spice"),
        ("usb0", "mapping=ups"),
        ("hostpci0", "mapping=nvme"),
        ("serial0", "socket"),
        ("rng0", "/dev/urandom"),
        ("cores", "2"),
    ] {
        check(key, value, NINE, false);
    }
    check("rng0", "/dev/urandom", SEVEN, true);
}

/// The needs of the last of these steps, where the guest is as this configuration says.
fn after(config: &[(&str, &str)], actions: &[Action]) -> Vec<String> {
    let mut observed = Observed::nothing(NINE);
    let values = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let steps: Vec<Step> = actions.iter().cloned().map(step).collect();
    let mut requirements = Requirements::new(&observed, &steps);
    requirements.configs.insert(guest().vmid, values);
    let last = steps.iter().map(|step| requirements.next(step)).last().unwrap_or_default();
    observed.every_guest = true;
    last.iter().map(ToString::to_string).filter(|need| need != SEEN).collect()
}

fn delete(key: &str) -> Action {
    let patch = ConfigPatch { set: BTreeMap::new(), delete: BTreeSet::from([key.to_owned()]) };
    Action::SetConfig { guest: guest(), patch, digest: None }
}

#[test]
fn what_is_there_counts_as_what_is_set_does() {
    let cd = [("ide2", "none,media=cdrom")];
    assert_eq!(after(&cd, &[delete("ide2")]), ["VM.Config.CDROM on /vms/201"]);
    let space = "Datastore.AllocateSpace on /storage/local-lvm";
    let disk = "VM.Config.Disk on /vms/201";
    let made = [set("ide2", "local-lvm:4")];
    assert_eq!(after(&cd, &made), [space, "VM.Config.CDROM on /vms/201", disk]);
    let cloud_init = [("ide2", "local-lvm:vm-201-cloudinit,media=cdrom")];
    let both = ["VM.Config.CDROM on /vms/201", "VM.Config.Cloudinit on /vms/201"];
    assert_eq!(after(&cloud_init, &[delete("ide2")]), both);
    // The step before has taken the drive away.
    assert_eq!(after(&cloud_init, &[delete("ide2"), set("ide2", "local-lvm:4")]), [space, disk]);
    let nic = [("net0", "virtio,bridge=vmbr1")];
    let used = "SDN.Use on /sdn/zones/localnetwork/vmbr1";
    assert_eq!(after(&nic, &[delete("net0")]), [used, "VM.Config.Network on /vms/201"]);
    let unused = [("unused0", "local-lvm:vm-201-disk-1")];
    assert_eq!(after(&unused, &[delete("unused0")]), [space, disk]);
    let resize = Action::ResizeDisk {
        guest: guest(),
        slot: "scsi0".parse().unwrap(),
        size: pve_types::Bytes::from_gib(2),
        volume: None,
    };
    assert_eq!(after(&[("scsi0", "local-lvm:vm-201-disk-0")], &[resize]), [space, disk]);
    let custom = [("cpu", "custom-mine")];
    assert_eq!(after(&custom, &[set("cpu", "custom-mine,flags=+aes")]), ["VM.Config.CPU on /vms/201"]);
    let other = ["Mapping.Use on /mapping/cpu/other", "VM.Config.CPU on /vms/201"];
    assert_eq!(after(&custom, &[set("cpu", "custom-other")]), other);
}

#[test]
fn a_pool_gives_its_members_what_it_gives_and_takes_what_it_shuts() {
    let set = BTreeMap::from([("tags".to_owned(), PatchValue::Text("blue".to_owned()))]);
    let config = ConfigPatch { set, delete: BTreeSet::new() };
    let create = step(Action::CreateVm { guest: guest(), config, pool: Some("web".parse().unwrap()) });
    let start = step(Action::StartVm { guest: guest() });
    let observed = Observed::nothing(NINE);
    let mut requirements = Requirements::new(&observed, [&create, &start]);
    let created: Vec<String> = requirements.next(&create).iter().map(ToString::to_string).collect();
    // The tags are asked about while the VM is in no pool yet.
    assert!(created.contains(&"VM.Config.Options on /vms/201".to_owned()), "{created:?}");
    let needs = requirements.next(&start);
    let check = |entries: &[(&str, &[(&str, bool)])], expect| {
        assert_eq!(needs.iter().all(|need| need.is_met(&rights(entries))), expect, "{entries:?}");
    };
    let power: &[(&str, bool)] = &[("VM.PowerMgmt", true), ("VM.Audit", true)];
    check(&[("/vms", power)], true);
    check(&[("/pool/web", power)], true);
    check(&[("/pool/other", power)], false);
    check(&[("/", power), ("/pool/web", &[])], false);
    check(&[("/pool/web", power), ("/", power), ("/vms/201", &[])], false);
    check(&[("/pool/web", power), ("/vms/201", &[])], true);
}

#[test]
fn only_what_pves_list_leaves_open_is_asked_about() {
    let held = rights(&[("/vms", &[("VM.PowerMgmt", true), ("VM.Audit", true)]), ("/storage/local", &[])]);
    let uncertain = |action: Action| {
        let observed = Observed::nothing(NINE);
        let step = step(action);
        let needs = Requirements::new(&observed, [&step]).next(&step);
        held.uncertain(&needs).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(uncertain(Action::StartVm { guest: guest() }), ["/vms/201"]);
    // Nothing is inherited there, so that nothing can be taken away.
    let needed = BTreeMap::from([("other".parse().unwrap(), pve_types::Bytes::from_gib(1))]);
    assert_eq!(uncertain(Action::ProbeStorage { node: "pve1".parse().unwrap(), needed }), [""; 0]);
}
