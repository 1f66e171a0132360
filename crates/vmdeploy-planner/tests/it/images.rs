//! Images: placed once, verified, reused, and seen when they change; and what is cloned from them.

use crate::pve::Pve;
use crate::specs::{deploy, load, plan, plan_with, refused, steps, try_plan_with};
use pve_types::{Bytes, Vmid};
use vmdeploy_planner::plan::{LocalFileFacts, NoteTopic, PlanMode, Verb};

const BUILT: &str = "version: 1
project: farm
images:
  base: {volume: 'local:import/debian-13.qcow2'}
  golden:
    build: {vm: builder, command: ./build.sh, output: out/golden.qcow2, file: images/golden.qcow2}
vms:
  builder: {vmid: 200, node: pve1, disks: {scsi0: {storage: fast, image: base}}}
  web01: {vmid: 201, node: pve1, disks: {scsi0: {storage: fast, image: golden}}}
";

fn file(letter: char) -> LocalFileFacts {
    LocalFileFacts::Content {
        sha256: letter.to_string().repeat(64),
        size: Bytes::from_mib(300),
        compression: None,
    }
}

fn guest(number: u32) -> Vmid {
    Vmid::new(number).unwrap()
}

#[test]
fn an_image_that_is_not_built_yet_is_refused_with_the_command_that_builds_it() {
    let pve = Pve::new();
    let deployment = load(BUILT);
    let nothing = try_plan_with(&pve.observed(), &deployment, |context| context.local_files.clear());
    let told = crate::specs::told(&nothing.unwrap_err());
    assert!(
        told.contains("images.golden: image `golden` has not been built yet [build it with `vmdeploy image build golden`, which uses VM `builder`; `--target builder` deploys that VM first]"),
        "{told}"
    );
    let builder = plan_with(&pve, BUILT, |context| {
        context.local_files.clear();
        context.targets.insert("builder".parse().unwrap());
    });
    assert!(steps(&builder).contains(&"builder/create API".to_owned()));
}

#[test]
fn a_rebuilt_image_is_uploaded_again_and_noted_at_vms_created_from_the_old_one() {
    let mut pve = Pve::new();
    let with = |letter| {
        move |context: &mut vmdeploy_planner::plan::PlanContext<'_>| {
            context.local_files.insert("images/golden.qcow2".to_owned(), file(letter));
        }
    };
    let first = plan_with(&pve, BUILT, with('a'));
    pve.apply(&first);
    assert!(pve.images.contains("local:import/golden-aaaaaaaaaaaa.qcow2"), "{:?}", pve.images);
    assert!(plan_with(&pve, BUILT, with('a')).is_empty());

    // Nothing is replaced without a word, and it is said.
    let rebuilt = plan_with(&pve, BUILT, with('b'));
    assert!(rebuilt.is_empty(), "{:?}", steps(&rebuilt));
    let note = rebuilt.notes.iter().find(|note| note.topic == NoteTopic::Outdated).unwrap();
    assert_eq!(
        note.text,
        "outdated: image `golden` has changed since scsi0 was made from it; the disk stays as it is"
    );
    assert!(note.hint.as_ref().unwrap().starts_with("`--replace web01` remakes the VM"), "{note:?}");

    // A VM that is made now gets the new image, and the old one keeps its own.
    let more = format!(
        "{BUILT}  web02: {{vmid: 202, node: pve1, disks: {{scsi0: {{storage: fast, image: golden}}}}}}\n"
    );
    let second = plan_with(&pve, &more, with('b'));
    let place = second.steps.iter().find(|step| step.id.0.starts_with("-/place-golden")).unwrap();
    let told = vmdeploy_planner::render::text(&second, Default::default());
    assert!(told.contains("local:import/golden-bbbbbbbbbbbb.qcow2"), "{told}");
    assert!(place.vm.is_none());

    let replaced = plan_with(&pve, BUILT, |context| {
        with('b')(context);
        context.replace.insert("web01".parse().unwrap());
    });
    let change = replaced.changes.iter().find(|change| change.vm.as_str() == "web01").unwrap();
    assert_eq!(change.verb, Verb::Replace);
    pve.apply(&replaced);
    assert!(plan_with(&pve, BUILT, with('b')).is_empty());
}

#[test]
fn an_image_whose_source_changed_since_it_was_built_is_said() {
    let plan = |image: &str, mode| {
        plan_with(&Pve::new(), BUILT, |context| {
            context.local_files.insert("images/golden.qcow2".to_owned(), file('a'));
            context.outdated_builds.insert(image.to_owned());
            context.mode = mode;
        })
    };
    let notes = plan("golden", PlanMode::Deploy).notes;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!(
        notes[0].text,
        "the source, command or environment of image `golden` has changed since it was built"
    );
    assert_eq!(plan("unused", PlanMode::Deploy).notes, []);
    assert_eq!(plan("golden", PlanMode::Destroy).notes, []);
}

#[test]
fn where_an_image_is_placed_is_looked_at_before_anything_is_done() {
    let spec = |store: &str| {
        format!(
            "version: 1\nproject: web\nimages:\n  here: {{file: golden.qcow2, store: {store}}}\nvms:\n  web01: {{vmid: 201, node: pve1, disks: {{scsi0: {{storage: fast, image: here}}}}}}\n"
        )
    };
    let pve = Pve::new();
    let observed = pve.observed();
    let refusals = |store: &str, change: &dyn Fn(&mut vmdeploy_planner::observed::Observed)| {
        let mut observed = observed.clone();
        change(&mut observed);
        let plan = try_plan_with(&observed, &load(&spec(store)), |_| {}).unwrap();
        plan.refusals()
            .map(|check| format!("{}: {}", check.need, check.detail.clone().unwrap_or_default()))
            .collect::<Vec<_>>()
    };
    assert_eq!(refusals("local", &|_| {}), Vec::<String>::new());
    assert_eq!(
        refusals("local-lvm", &|_| {}),
        [
            "storage local-lvm at pve1, active, for uploaded images: it allows images, rootdir content only; `pvesm set local-lvm --content …,import` changes that"
        ]
    );
    let full = refusals("local", &|observed| {
        for storage in observed.storages.iter_mut().filter(|storage| storage.storage.as_str() == "local") {
            storage.available = Some(Bytes::from_mib(100));
        }
    });
    assert_eq!(full, ["300MiB free on local at pve1: 100MiB free; use smaller disks or another storage"]);
}

const CLONES: &str = "version: 1
project: farm
images:
  base: {volume: 'local:import/debian-13.qcow2'}
vms:
  tmpl:
    vmid: 9000
    node: pve1
    template: true
    disks:
      scsi0: {storage: fast, image: base, discard: true}
      ide0: {iso: none}
    nics: {net0: {bridge: vmbr0, mac: 'bc:24:11:00:00:01'}}
  web01:
    vmid: 201
    node: pve1
    clone: {from: tmpl, mode: full}
    disks:
      scsi0: {discard: false, ssd: true, size: 20GiB}
      ide0: {iso: 'local:iso/tools.iso'}
    nics: {net0: {mac: 'bc:24:11:00:00:02'}}
";

#[test]
fn a_clone_has_the_options_media_and_addresses_that_the_spec_says() {
    for transport in ["hybrid", "auto", "api", "ssh"] {
        let mut pve = Pve::new();
        let spec = format!("transport: {transport}\n{CLONES}");
        deploy(&mut pve, &spec);
        let values = &pve.guests[&guest(201)].values;
        assert_eq!(values["scsi0"], "fast:vm-201-disk-0,discard=ignore,size=20G,ssd=1", "{transport}");
        assert!(values["ide0"].starts_with("local:iso/tools.iso,media=cdrom"), "{}", values["ide0"]);
        assert_eq!(values["net0"], "virtio=BC:24:11:00:00:02,bridge=vmbr0", "{transport}");
        assert!(plan(&pve, &spec).is_empty(), "{transport}");
    }
}

#[test]
fn a_clone_of_a_template_that_is_changed_by_the_same_plan_begins_with_what_it_is_then() {
    let only_the_template = CLONES.split("  web01:").next().unwrap();
    let changed = CLONES
        .replace("    template: true", "    template: true\n    protection: true\n    cpu: {type: host}")
        .replace(
            "    clone: {from: tmpl, mode: full}",
            "    clone: {from: tmpl, mode: full}\n    protection: null\n    cpu: {type: null}",
        );
    for transport in ["hybrid", "auto", "api", "ssh"] {
        let mut pve = Pve::new();
        deploy(&mut pve, &format!("transport: {transport}\n{only_the_template}"));
        let spec = format!("transport: {transport}\n{changed}");
        let both = deploy(&mut pve, &spec);
        let clone = both.steps.iter().find(|step| step.id.0 == "web01/clone").unwrap();
        assert!(clone.after.iter().any(|id| id.0.starts_with("tmpl/")), "{transport}: {:?}", clone.after);
        let values = &pve.guests[&guest(201)].values;
        assert!(!values.contains_key("protection") && !values.contains_key("cpu"), "{transport}: {values:?}");
        assert!(plan(&pve, &spec).is_empty(), "{transport}");
    }
}

#[test]
fn what_a_clone_cannot_have_otherwise_is_refused() {
    let pve = Pve::new();
    let told = refused(&pve, &CLONES.replace("size: 20GiB}", "size: 20GiB, storage: local-lvm}"));
    assert!(
        told.contains("vms.web01.disks.scsi0.storage: the spec has `scsi0` on local-lvm, but the clone has it on fast [write `clone: {mode: full, storage: local-lvm}`, or remove `storage`]"),
        "{told}"
    );
    let told = refused(
        &pve,
        &CLONES.replace("ide0: {iso: 'local:iso/tools.iso'}", "ide0: {size: 1GiB, storage: fast}"),
    );
    assert!(
        told.contains("vms.web01.disks.ide0: the spec has a disk at `ide0`, but the source has a CD drive"),
        "{told}"
    );
}

#[test]
fn a_disk_that_is_moved_or_grown_gets_its_new_options_afterwards() {
    let spec = |disk: &str| {
        format!(
            "version: 1\nproject: web\nvms:\n  web01: {{vmid: 201, node: pve1, disks: {{scsi0: {disk}}}}}\n"
        )
    };
    let mut pve = Pve::new();
    deploy(&mut pve, &spec("{storage: fast, size: 8GiB}"));
    let moved = spec("{storage: local-lvm, size: 16GiB, cache: writeback}");
    let plan_of_move = deploy(&mut pve, &moved);
    assert_eq!(
        steps(&plan_of_move),
        ["-/probe-pve1 SSH", "web01/move-scsi0 API", "web01/resize-scsi0 API", "web01/options API"]
    );
    let guest = &pve.guests[&guest(201)];
    assert_eq!(guest.values["scsi0"], "local-lvm:vm-201-disk-0,size=16G");
    // What waits for the restart has the new volume and the new size.
    assert_eq!(guest.pending["scsi0"].as_deref(), Some("local-lvm:vm-201-disk-0,cache=writeback,size=16G"));
    assert!(plan(&pve, &moved).is_empty());
    let told = refused(&pve, &moved.replace("16GiB", "32GiB"));
    assert!(
        told.contains("vms.web01.disks.scsi0: `scsi0` has a change that is pending until a restart and cannot be moved or grown before [`vmdeploy reboot web01` first, then deploy]"),
        "{told}"
    );
}

#[test]
fn a_disk_that_is_plugged_in_at_a_restart_is_not_grown_before() {
    let spec = |more: &str| {
        format!(
            "version: 1\nproject: web\nimages:\n  base: {{volume: 'local:import/debian-13.qcow2'}}\nvms:\n  web01: {{vmid: 201, node: pve1, disks: {{scsi0: {{storage: fast, size: 8GiB}}{more}}}}}\n"
        )
    };
    let mut pve = Pve::new();
    deploy(&mut pve, &spec(""));
    let told = refused(&pve, &spec(", sata0: {storage: fast, image: base, size: 20GiB}"));
    assert!(told.contains("vms.web01.disks.sata0.size: `sata0` is attached at the next restart and can be grown to 20GiB only afterwards"), "{told}");
    deploy(&mut pve, &spec(", scsi1: {storage: fast, image: base, size: 20GiB}"));
}

#[test]
fn a_destroy_asks_nothing_of_options_that_the_version_does_not_know() {
    let spec = "version: 1\nproject: web\nvms:\n  web01: {vmid: 201, node: pve1, bios: {type: ovmf, efi: {storage: fast, ms_cert: 2023}}}\n";
    let mut pve = Pve::new();
    deploy(&mut pve, spec);
    pve.version = pve_types::PveVersion::new(8, 3, 1);
    let told = refused(&pve, spec);
    assert_eq!(told.matches("PVE 8.3.1 does not support").count(), 1, "{told}");
    let gone = plan_with(&pve, spec, |context| context.mode = PlanMode::Destroy);
    assert_eq!(gone.changes[0].verb, Verb::Delete);
}

#[test]
fn a_cd_drive_that_is_added_does_not_get_into_the_boot_order() {
    let spec = |more: &str| {
        format!(
            "version: 1\nproject: web\nvms:\n  web01: {{vmid: 201, node: pve1, boot: [scsi0], disks: {{scsi0: {{storage: fast, size: 8GiB}}{more}}}}}\n"
        )
    };
    for transport in ["hybrid", "auto", "api", "ssh"] {
        let with = |more: &str| format!("transport: {transport}\n{}", spec(more));
        let mut pve = Pve::new();
        deploy(&mut pve, &with(", ide0: {iso: none}"));
        assert_eq!(pve.guests[&guest(201)].values["boot"], "order=scsi0", "{transport}");
        assert!(plan(&pve, &with(", ide0: {iso: none}")).is_empty(), "{transport}");
        let more = with(", ide0: {iso: none}, scsi1: {iso: 'local:iso/tools.iso'}");
        let added = deploy(&mut pve, &more);
        assert!(steps(&added).iter().any(|step| step.starts_with("web01/boot")), "{:?}", steps(&added));
        assert!(plan(&pve, &more).is_empty(), "{transport}");
    }
}
