//! Whose volumes are, and what becomes of disks that change slots, are kept, or belong to others.

use crate::deploy::{foreign, one_vm};
use crate::pve::Pve;
use crate::specs::{deploy, load, plan, refused, steps, told, try_plan_with};
use pve_types::Vmid;
use vmdeploy_planner::observed::{GuestVolumes, ObservedImage};
use vmdeploy_planner::plan::{Action, CheckOutcome, PlanMode};
use vmdeploy_planner::volumes::{VolumeOwner, VolumeUsers};

const TWO: &str = "scsi0: {storage: local-lvm, image: debian-13, size: 20GiB}";

fn vm(disks: &str, rest: &str) -> String {
    one_vm(&format!("{rest}disks:\n  {}\n", disks.replace('\n', "\n  ")))
}

fn with_foreign(pve: &mut Pve, vmid: u32, kind: &str, volumes: GuestVolumes) {
    let mut guest = foreign(vmid, kind);
    guest.volumes = Some(volumes);
    pve.foreign.insert(Vmid::new(vmid).unwrap(), guest);
}

fn ids(volumes: &[&str]) -> GuestVolumes {
    volumes.iter().map(|volume| volume.parse().unwrap()).collect()
}

fn paths(paths: &[&str]) -> GuestVolumes {
    GuestVolumes { paths: paths.iter().map(|path| (*path).to_owned()).collect(), ..GuestVolumes::default() }
}

fn own_steps(plan: &vmdeploy_planner::plan::Plan) -> Vec<String> {
    steps(plan).into_iter().filter(|step| !step.starts_with("-/")).collect()
}

fn stopped(pve: &mut Pve) {
    pve.guests.values_mut().for_each(|guest| guest.running = false);
}

fn refused_destroy(pve: &Pve, yaml: &str) -> String {
    let made = try_plan_with(&pve.observed(), &load(yaml), |context| context.mode = PlanMode::Destroy);
    told(&made.expect_err("it is refused"))
}

#[test]
fn a_volume_that_another_guest_uses_is_not_attached() {
    let spec = |volume: &str| vm(&format!("{TWO}\nscsi1: {{volume: '{volume}'}}"), "");
    let check = |kind: &str, used: GuestVolumes, volume: &str, expect: &str| {
        let mut pve = Pve::new();
        with_foreign(&mut pve, 100, kind, used);
        let told = refused(&pve, &spec(volume));
        assert!(told.contains("disks.scsi1") && told.contains(expect), "{volume}: {told}");
    };
    check("qemu", ids(&["fast:vm-100-disk-0"]), "fast:vm-100-disk-0", "VM 100 `other` uses it, which runs");
    check("qemu", ids(&["fast:vm-555-disk-0"]), "fast:vm-555-disk-0", "VM 100 `other` uses it");
    check("qemu", ids(&[]), "fast:vm-100-disk-7", "it belongs to VM 100 `other` by its name");
    check(
        "lxc",
        ids(&["local:100/vm-100-disk-0.raw"]),
        "local:100/vm-100-disk-0.raw",
        "VM 100 `other` uses it",
    );
    check("qemu", paths(&["/dev/pve/vm-201-disk-5"]), "local-lvm:vm-201-disk-5", "VM 100 `other` uses it");
    check("qemu", ids(&[]), "local:100/data.qcow2", "it belongs to VM 100 `other` by its name");
}

#[test]
fn a_volume_of_two_vms_of_a_spec_is_refused_and_one_of_no_guest_is_attached() {
    let two = |first: &str, second: &str| {
        let disks = |volume: &str| format!("{{scsi1: {{volume: '{volume}'}}}}");
        one_vm(&format!("disks: {}", disks(first)))
            + &format!("  web02:\n    vmid: 202\n    node: pve1\n    disks: {}\n", disks(second))
    };
    let told = refused(&Pve::new(), &two("fast:vm-555-disk-0", "fast:vm-555-disk-0"));
    assert!(told.contains("`web01` of this spec attaches it as well"), "{told}");
    let free = plan(&Pve::new(), &two("fast:vm-555-disk-0", "fast:vm-555-disk-1"));
    assert!(!free.is_empty());
}

#[test]
fn a_volume_that_does_not_exist_is_refused_when_planning() {
    let pve = Pve::new();
    let mut observed = pve.observed();
    observed.listings.insert("pve1/fast/images".to_owned());
    let check = |observed: &vmdeploy_planner::observed::Observed, expect: CheckOutcome| {
        let spec = vm("scsi1: {volume: 'fast:vm-201-disk-9'}", "");
        let plan = try_plan_with(observed, &load(&spec), |_| {}).unwrap();
        let check = plan.checks.iter().find(|check| check.need.contains("fast:vm-201-disk-9")).unwrap();
        assert_eq!(check.outcome, expect);
    };
    check(&observed, CheckOutcome::Refused);
    observed.images.push(ObservedImage {
        node: "pve1".parse().unwrap(),
        location: "fast:vm-201-disk-9".to_owned(),
        present: true,
        size: None,
        virtual_size: None,
        format: None,
    });
    check(&observed, CheckOutcome::Passed);
}

#[test]
fn a_disk_that_another_guest_uses_is_neither_moved_nor_grown_nor_detached_nor_destroyed() {
    let spec = |disk: &str| vm(&format!("{TWO}\n{disk}"), "");
    let made = spec("scsi1: {storage: fast, size: 5GiB}");
    let mut pve = Pve::new();
    deploy(&mut pve, &made);
    with_foreign(&mut pve, 100, "qemu", ids(&["fast:vm-201-disk-0"]));
    for (disk, verb) in [
        ("scsi1: {storage: local-lvm, size: 5GiB}", "would move `fast:vm-201-disk-0`"),
        ("scsi1: {storage: fast, size: 9GiB}", "would grow `fast:vm-201-disk-0`"),
        ("scsi1: null", "would detach `fast:vm-201-disk-0`"),
    ] {
        let told = refused(&pve, &spec(disk));
        assert!(told.contains(verb) && told.contains("VM 100 `other` uses it, which runs"), "{told}");
        assert!(told.contains("`qm set 201 --delete scsi1` on pve1"), "{told}");
    }
    let told = refused_destroy(&pve, &made);
    assert!(told.contains("would free `fast:vm-201-disk-0`"), "{told}");
    let other =
        try_plan_with(&pve.observed(), &load(&made.replace("image: debian-13", "image: tiny")), |context| {
            context.replace.insert("web01".parse().unwrap());
        });
    assert!(crate::specs::told(&other.unwrap_err()).contains("would free `fast:vm-201-disk-0`"));
}

#[test]
fn what_cannot_be_seen_is_not_taken_for_free() {
    let mut pve = Pve::new();
    with_foreign(&mut pve, 100, "qemu", ids(&[]));
    pve.foreign.get_mut(&Vmid::new(100).unwrap()).unwrap().volumes = None;
    let observed = pve.observed();
    let users = VolumeUsers::of(&observed);
    let this = Vmid::new(201).unwrap();
    let owner = |volume: &str| users.owner(&volume.parse().unwrap(), this);
    assert!(matches!(owner("fast:vm-555-disk-0"), VolumeOwner::Unknown { .. }));
    assert_eq!(owner("fast:vm-201-disk-0"), VolumeOwner::Unowned, "PVE takes it for this VM's");
}

#[test]
fn a_disk_in_another_slot_is_the_same_disk() {
    let spec = |disk: &str| vm(&format!("{TWO}\n{disk}"), "");
    for to in ["scsi2", "virtio1", "sata3"] {
        let mut pve = Pve::new();
        deploy(&mut pve, &spec("scsi1: {storage: fast, size: 5GiB}"));
        stopped(&mut pve);
        let moved = deploy(&mut pve, &spec(&format!("{to}: {{storage: fast, size: 9GiB}}")));
        let values = &pve.guests[&Vmid::new(201).unwrap()].values;
        assert!(values[to].starts_with("fast:vm-201-disk-0") && values[to].contains("size=9G"), "{values:?}");
        assert!(!values.contains_key("scsi1") && !values.contains_key("unused0"), "{values:?}");
        assert_eq!(own_steps(&moved), ["web01/configure API".to_owned(), format!("web01/resize-{to} API")]);
        assert!(plan(&pve, &spec(&format!("{to}: {{storage: fast, size: 9GiB}}"))).is_empty());
    }
}

#[test]
fn a_boot_disk_that_changes_its_slot_is_booted_from() {
    let spec = |slot: &str| vm(&format!("{slot}: {{storage: local-lvm, image: debian-13, size: 20GiB}}"), "");
    let mut pve = Pve::new();
    deploy(&mut pve, &spec("scsi0"));
    stopped(&mut pve);
    deploy(&mut pve, &spec("virtio0"));
    let values = &pve.guests[&Vmid::new(201).unwrap()].values;
    assert_eq!(values["boot"], "order=virtio0");
    assert!(plan(&pve, &spec("virtio0")).is_empty());
}

#[test]
fn a_running_guest_keeps_its_disks_where_they_are_unless_it_may_be_restarted() {
    let spec = |disk: &str, rest: &str| vm(&format!("{TWO}\n{disk}"), rest);
    let mut pve = Pve::new();
    deploy(&mut pve, &spec("scsi1: {storage: fast, size: 5GiB}", ""));
    let told = refused(&pve, &spec("scsi2: {storage: fast, size: 5GiB}", ""));
    assert!(told.contains("changes its slot, which is not possible while the guest is running"), "{told}");
    let allowed = spec("scsi2: {storage: fast, size: 5GiB}", "lifecycle: {restart: if-needed}\n");
    let plan = deploy(&mut pve, &allowed);
    assert_eq!(own_steps(&plan)[..3], ["web01/shutdown API", "web01/configure API", "web01/start API"]);
    assert!(pve.guests[&Vmid::new(201).unwrap()].running);
}

#[test]
fn where_it_is_not_clear_which_disk_a_new_slot_is_the_plan_asks() {
    let spec = |disks: &str| vm(&format!("{TWO}\n{disks}"), "");
    let mut pve = Pve::new();
    deploy(&mut pve, &spec("scsi1: {storage: fast, size: 5GiB}\nscsi2: {storage: fast, size: 5GiB}"));
    stopped(&mut pve);
    let told = refused(&pve, &spec("scsi3: {storage: fast, size: 5GiB}"));
    assert!(told.contains("this may be the same disk"), "{told}");
    let said = spec("scsi3: {volume: 'fast:vm-201-disk-1'}\nscsi1: {storage: fast, size: 5GiB}");
    deploy(&mut pve, &said);
    let values = &pve.guests[&Vmid::new(201).unwrap()].values;
    assert!(values["scsi3"].starts_with("fast:vm-201-disk-1") && !values.contains_key("scsi2"), "{values:?}");
    let dropped = plan(&pve, &vm(TWO, ""));
    assert!(dropped.notes.iter().any(|note| note.text.contains("`scsi1` is no longer in the spec")));
}

#[test]
fn an_import_that_was_cut_off_is_plugged_in_instead_of_made_again() {
    let spec = vm(&format!("{TWO}\nscsi1: {{storage: fast, size: 5GiB}}"), "");
    let mut pve = Pve::new();
    deploy(&mut pve, &spec);
    stopped(&mut pve);
    let guest = pve.guests.get_mut(&Vmid::new(201).unwrap()).unwrap();
    guest.values.remove("scsi0");
    guest.values.insert("unused0".to_owned(), "local-lvm:vm-201-disk-0".to_owned());
    let again = deploy(&mut pve, &spec);
    assert!(!again.steps.iter().any(|step| matches!(step.action, Action::ImportDisk(_))));
    let values = &pve.guests[&Vmid::new(201).unwrap()].values;
    assert!(values["scsi0"].starts_with("local-lvm:vm-201-disk-0"), "{values:?}");
    assert!(!values.contains_key("unused0"), "{values:?}");
}

#[test]
fn a_kept_disk_is_kept_in_whatever_slot_it_is() {
    let kept = "scsi1: {storage: fast, size: 5GiB, keep: {holder: 999}}\nscsi2: {storage: fast, size: 1GiB}";
    let spec = vm(&format!("{TWO}\n{kept}"), "");
    for place in ["unused0", "scsi7", "scsi2"] {
        let mut pve = Pve::new();
        pve.foreign.insert("999".parse().unwrap(), foreign(999, "qemu"));
        deploy(&mut pve, &spec);
        assert!(plan(&pve, &spec).is_empty());
        stopped(&mut pve);
        let values = &mut pve.guests.get_mut(&Vmid::new(201).unwrap()).unwrap().values;
        let disk = values.remove("scsi1").unwrap();
        let volume = disk.split(',').next().unwrap().to_owned();
        if let Some(other) =
            values.insert(place.to_owned(), if place == "unused0" { volume.clone() } else { disk })
        {
            values.insert("scsi1".to_owned(), other);
        }
        let plan = crate::specs::destroy(&mut pve, &spec);
        let handed = plan.steps.iter().any(|step| {
            matches!(&step.action, Action::ReassignDisk { slot, volume: given, .. }
                if slot.to_string() == place && given.as_str() == volume)
        });
        assert!(handed, "{place}: {:?}", steps(&plan));
    }
}

#[test]
fn nothing_is_destroyed_before_what_can_fail_has_been_done() {
    let spec = |image: &str| {
        vm(
            &format!("scsi0: {{storage: local-lvm, image: {image}, size: 20GiB}}"),
            "lifecycle: {replace: if-needed}\n",
        )
    };
    let mut pve = Pve::new();
    deploy(&mut pve, &spec("debian-13"));
    let replaced = plan(&pve, &spec("tiny"));
    let own = |step: &&vmdeploy_planner::plan::Step| step.vm.is_some();
    let first = replaced.steps.iter().find(own).unwrap();
    assert!(matches!(first.action, Action::DeleteVm { .. }), "{:?}", steps(&replaced));
    let shared = replaced.steps.iter().filter(|step| step.vm.is_none()).map(|step| &step.id);
    for id in shared {
        assert!(first.after.contains(id), "{id} comes before the VM goes");
    }
}

#[test]
fn a_cloud_init_drive_changes_its_slot_in_two_steps() {
    let spec =
        |slot: &str, rest: &str| vm(TWO, &format!("{rest}cloud_init: {{user: admin, slot: {slot}}}\n"));
    let mut pve = Pve::new();
    deploy(&mut pve, &spec("ide2", ""));
    let told = refused(&pve, &spec("scsi9", ""));
    assert!(told.contains("cloud_init.slot") && told.contains("`vmdeploy shutdown web01` first"), "{told}");
    stopped(&mut pve);
    let moved = deploy(&mut pve, &spec("scsi9", ""));
    assert_eq!(own_steps(&moved)[0], "web01/remove-cloud-init API");
    let values = &pve.guests[&Vmid::new(201).unwrap()].values;
    assert!(values["scsi9"].contains("cloudinit") && !values.contains_key("ide2"), "{values:?}");
    assert!(plan(&pve, &spec("scsi9", "")).is_empty());
}
