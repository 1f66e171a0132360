//! Which guest each VM is: under another name, project or cluster key, as a copy, and with another's address.

use crate::pve::Pve;
use crate::specs::{deploy, destroy, load, plan, plan_with, refused, steps, told, try_plan_with};
use pve_types::Vmid;
use vmdeploy_planner::observed::GuestFacts;
use vmdeploy_planner::plan::{PlanMode, Verb};

/// A spec of one VM; `vm` is what stands in its map.
fn spec(project: &str, top: &str, name: &str, vm: &str) -> String {
    format!(
        "version: 1\nproject: {project}\n{top}vms:\n  {name}: {{node: pve1, lifecycle: {{state: stopped}}, \
         disks: {{scsi0: {{storage: fast, size: 1GiB}}}}{vm}}}\n"
    )
}

fn vmid(number: u32) -> Vmid {
    Vmid::new(number).unwrap()
}

/// A world in which `web01` of project `shop` is VMID 400.
fn shop(vm: &str) -> Pve {
    let mut pve = Pve::new();
    deploy(&mut pve, &spec("shop", "", "web01", &format!(", vmid: 400{vm}")));
    pve
}

/// Plans, checks that the one guest is changed in place and keeps its UUID, and that the second plan is empty.
#[track_caller]
fn in_place(mut pve: Pve, yaml: &str) -> Pve {
    let uuid = pve.guests[&vmid(400)].values["smbios1"].clone();
    let first = deploy(&mut pve, yaml);
    assert_eq!(first.changes.iter().map(|change| change.verb).collect::<Vec<_>>(), [Verb::Update], "{yaml}");
    assert_eq!(first.changes[0].guest.vmid, vmid(400));
    assert_eq!(pve.guests.len(), 1);
    assert_eq!(pve.guests[&vmid(400)].values["smbios1"], uuid);
    let again = plan(&pve, yaml);
    assert!(again.is_empty(), "{:#?}", again.changes);
    pve
}

#[test]
fn a_vm_is_renamed_in_place_and_keeps_its_uuid() {
    for vmid in ["", ", vmid: 400"] {
        let pve = shop("");
        let new = spec("shop", "", "front", &format!("{vmid}, renamed_from: web01"));
        let first = plan(&pve, &new);
        assert_eq!(steps(&first), ["front/configure API"]);
        let formerly = first.changes[0].formerly.as_ref().unwrap();
        assert_eq!((formerly.project.as_str(), formerly.name.as_str()), ("shop", "web01"));
        let mut pve = in_place(pve, &new);
        assert_eq!(pve.guests[&self::vmid(400)].values["name"], "front");
        // The key has done its work, and what it says is not a condition for anything later.
        let plain = spec("shop", "", "front", vmid);
        assert!(plan(&pve, &plain).is_empty());
        // Its old name is free, and the VM that gets it is another one.
        let both = plain.clone() + "  web01: {node: pve1, vmid: 401, lifecycle: {state: stopped}}\n";
        let made = deploy(&mut pve, &both);
        assert_eq!(made.changes[1].verb, Verb::Create);
        assert_ne!(made.changes[0].guest.uuid, made.changes[1].guest.uuid);
        assert!(plan(&pve, &both).is_empty());
        destroy(&mut pve, &both);
        assert!(pve.guests.is_empty());
    }
}

#[test]
fn a_vm_moves_to_another_project_in_place() {
    let pve = in_place(shop(""), &spec("store", "moved_from: {project: shop}\n", "web01", ""));
    assert!(pve.guests[&vmid(400)].values["description"].contains("project=store"));
    in_place(shop(""), &spec("store", "", "web01", ", moved_from: shop"));
    in_place(shop(""), &spec("store", "", "front", ", moved_from: {project: shop}, renamed_from: web01"));
    // What is said at the VM counts, not what is said for all.
    let other = spec("store", "moved_from: {project: elsewhere}\n", "web01", ", moved_from: {project: shop}");
    in_place(shop(""), &other);
}

#[test]
fn a_renamed_template_keeps_its_clones() {
    let yaml = |source: &str, more: &str| {
        format!(
            "version: 1\nproject: shop\nvms:\n  {source}: {{vmid: 400, node: pve1, template: true, \
             disks: {{scsi0: {{storage: fast, size: 1GiB}}}}{more}}}\n  worker: {{vmid: 401, node: pve1, \
             clone: {{from: {source}, mode: linked}}, lifecycle: {{state: stopped}}}}\n"
        )
    };
    let mut pve = Pve::new();
    deploy(&mut pve, &yaml("base", ""));
    let first = deploy(&mut pve, &yaml("debian", ", renamed_from: base"));
    let verbs: Vec<Verb> = first.changes.iter().map(|change| change.verb).collect();
    assert_eq!(verbs, [Verb::Update, Verb::Update], "{:#?}", first.changes);
    let again = plan(&pve, &yaml("debian", ""));
    assert!(again.is_empty(), "{:#?}", again.changes);
}

#[test]
fn a_cluster_key_is_no_identity() {
    let clusters = "clusters: {lab: {node: pve1}}\n";
    let one = spec("shop", clusters, "web01", "");
    assert!(plan(&shop(""), &one).is_empty(), "a `clusters:` block was added");
    let mut pve = Pve::new();
    deploy(&mut pve, &spec("shop", clusters, "web01", ", vmid: 400"));
    assert!(plan(&pve, &spec("shop", "", "web01", "")).is_empty(), "it was taken out");
    let other = spec("shop", "clusters: {prod: {node: pve1}}\n", "web01", "");
    let told = refused(&pve, &other);
    assert!(
        told.contains("VMID 400 is `web01` of project `shop` on the cluster that was called `lab`"),
        "{told}"
    );
    assert!(told.contains("`moved_from: {cluster: lab}`"), "{told}");
    in_place(pve, &other.replace("vms:", "moved_from: {cluster: lab}\nvms:"));
}

#[test]
fn an_own_guest_under_another_name_or_project_is_named_and_never_made_twice() {
    let pve = shop(
        ", nics: {net0: {bridge: vmbr0, ip: 10.0.0.5/24, gateway: 10.0.0.1}}, cloud_init: {user: a, storage: fast}",
    );
    let check = |yaml: &str, parts: &[&str]| {
        let told = refused(&pve, yaml);
        for part in parts {
            assert!(told.contains(part), "{yaml}: {told}");
        }
        assert!(!told.contains("not ours") && !told.contains("adopt"), "{told}");
    };
    let is = "VMID 400 is `web01` of project `shop`";
    check(&spec("shop", "", "front", ", vmid: 400"), &[is, "`renamed_from: web01`"]);
    check(&spec("store", "", "web01", ", vmid: 400"), &[is, "`moved_from: {project: shop}`"]);
    check(&spec("store", "", "web01", ""), &[is, "`moved_from: {project: shop}`", "`allow_duplicate: name`"]);
    let both = &[is, "`moved_from: {project: shop}` and `renamed_from: web01`"][..];
    check(&spec("store", "", "front", ", vmid: 400"), both);
    // A number that the lock file pins is no other case.
    let deployment = load(&spec("shop", "", "front", ""));
    let pinned = try_plan_with(&pve.observed(), &deployment, |context| {
        context.pins.insert("front".parse().unwrap(), vmid(400));
    });
    assert!(told(&pinned.unwrap_err()).contains(is));
    // A second VM of that name is made where the spec says that it is meant.
    let second = plan(&pve, &spec("store", "", "web01", ", allow_duplicate: name"));
    assert_eq!(second.changes[0].verb, Verb::Create);
    // A new name without a word on the old one is a new VM, and the plan says what it may be.
    let new = plan(&pve, &spec("shop", "", "front", ""));
    assert_eq!(new.changes[0].verb, Verb::Create);
    let hints: Vec<&str> = new.notes.iter().filter_map(|note| note.hint.as_deref()).collect();
    assert!(hints.iter().any(|hint| hint.contains("`renamed_from: web01`")), "{hints:?}");
}

#[test]
fn a_vmid_that_is_not_the_guest_s_stops_every_mode() {
    let pve = shop("");
    let wrong = load(&spec("shop", "", "web01", ", vmid: 405"));
    for mode in [PlanMode::Deploy, PlanMode::Destroy] {
        let told = told(&try_plan_with(&pve.observed(), &wrong, |context| context.mode = mode).unwrap_err());
        assert!(told.contains("`web01` exists as VMID 400, but the spec has 405"), "{told}");
        assert!(told.contains("[write `vmid: 400`]"), "{told}");
    }
    // One VM's fault is in the way of that VM alone.
    let two =
        spec("shop", "", "web01", ", vmid: 405") + "  web02: {node: pve1, lifecycle: {state: stopped}}\n";
    let other = plan_with(&pve, &two, |context| context.targets = ["web02".parse().unwrap()].into());
    assert_eq!(other.changes[0].verb, Verb::Create);
    let pinned = spec("shop", "", "web01", ", uuid: 2b2b2b2b-0000-4000-8000-000000000001");
    assert!(refused(&pve, &pinned).contains("but the spec has a different one"));
}

/// A world in which a backup of `web01` was restored as VMID 500.
fn restored(original: bool) -> Pve {
    let mut pve = shop("");
    let guest = pve.guests[&vmid(400)].clone();
    pve.guests.insert(vmid(500), guest);
    if !original {
        pve.guests.remove(&vmid(400));
    }
    pve
}

#[test]
fn a_restored_backup_is_the_vm_at_the_same_vmid_and_a_copy_at_another() {
    let yaml = spec("shop", "", "web01", "");
    let both = plan(&restored(true), &yaml);
    assert!(both.is_empty());
    assert!(
        both.notes.iter().any(|note| note.text.contains("VMID 500 has the same UUID")),
        "{:?}",
        both.notes
    );
    let pve = restored(false);
    let told = refused(&pve, &yaml);
    assert!(told.contains("VMID 500 is a copy of `web01` of project `shop`"), "{told}");
    assert!(told.contains("`vmdeploy adopt 500 --project shop`"), "{told}");
    // The hint leads somewhere.
    let adopted = vmdeploy_planner::adopt("shop", &[vmid(500)], &pve.observed());
    assert_eq!(adopted.refused, []);
    let mut pve = pve;
    let yaml = adopted.spec.unwrap();
    assert_eq!(steps(&deploy(&mut pve, &yaml)), ["web01/configure API"], "{yaml}");
    assert!(plan(&pve, &yaml).is_empty());
    // Where the original is there, the copy needs a UUID of its own first.
    let adopted = vmdeploy_planner::adopt("shop", &[vmid(500)], &restored(true).observed());
    let hint = adopted.refused[0].hint();
    assert!(hint.starts_with("`qm set 500 --smbios1 uuid="), "{hint}");
}

const ADDRESS: &str = ", cloud_init: {user: a, storage: fast}, nics: {net0: {bridge: vmbr0, ip: 10.0.0.5/24, gateway: 10.0.0.1}}";

#[test]
fn a_static_address_that_a_guest_has_is_refused_on_the_same_network() {
    let pve = shop(ADDRESS);
    let with = |more: &str| spec("other", "", "db01", &ADDRESS.replace("bridge: vmbr0", more));
    let told = refused(&pve, &with("bridge: vmbr0"));
    assert!(told.contains("vms.db01.nics.net0.ip: the address 10.0.0.5 is already used by VMID 400, `web01` of project `shop`"), "{told}");
    plan(&pve, &with("bridge: vmbr1"));
    plan(&pve, &with("bridge: vmbr0, vlan: 20"));
    plan(&pve, &spec("other", "", "db01", &format!("{ADDRESS}, allow_duplicate: [address]")));
    // A VM that has the address already is not disturbed, and says so.
    let mut pve = pve;
    deploy(&mut pve, &spec("other", "", "db01", &format!("{ADDRESS}, allow_duplicate: [address]")));
    let kept = plan(&pve, &with("bridge: vmbr0"));
    assert!(
        kept.is_empty() && kept.notes.iter().any(|note| note.text.contains("10.0.0.5")),
        "{:?}",
        kept.notes
    );
}

#[test]
fn foreign_guests_and_containers_have_addresses_too_and_templates_and_leaving_vms_give_them_up() {
    let values = |kind: &str, text: &str| {
        let values = text.split("; ").filter_map(|pair| pair.split_once(": "));
        vmdeploy_planner::identity::facts_of(
            kind.parse().unwrap(),
            &values.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        )
    };
    let yaml = spec("other", "", "db01", ADDRESS);
    for (kind, text) in [
        ("qemu", "net0: virtio=BC:24:11:00:00:01,bridge=vmbr0; ipconfig0: ip=10.0.0.5/24"),
        ("lxc", "net3: name=eth0,bridge=vmbr0,ip=10.0.0.5/16"),
    ] {
        let mut pve = Pve::new();
        let facts: GuestFacts = values(kind, text);
        let mut guest = crate::deploy::foreign(300, kind);
        guest.facts = facts;
        pve.foreign.insert(vmid(300), guest);
        let told = refused(&pve, &yaml);
        assert!(told.contains("10.0.0.5 is already used by VMID 300, `other`"), "{told}");
        pve.foreign.get_mut(&vmid(300)).unwrap().template = true;
        plan(&pve, &yaml);
    }
    // The VM whose address it was gets another one, or goes, by the same plan.
    let pve = shop(ADDRESS);
    let swapped = spec("shop", "", "web01", &ADDRESS.replace("10.0.0.5", "10.0.0.6"))
        + spec("shop", "", "web02", ADDRESS).split("vms:\n").nth(1).unwrap();
    plan(&pve, &swapped);
    let only_new = spec("shop", "", "web02", ADDRESS);
    assert!(refused(&pve, &only_new).contains("is already used by VMID 400"));
    plan_with(&pve, &only_new, |context| context.prune = Some(1));
}

#[test]
fn a_node_that_is_not_there_is_told_with_those_that_are() {
    for image in [
        "{url: \"https://example.org/a.qcow2\", checksum: \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"}",
        "{path: /var/lib/vz/import/a.qcow2}",
    ] {
        let yaml = format!(
            "version: 1\nproject: shop\nimages: {{a: {image}}}\nvms:\n  web01: {{node: pve9, disks: {{scsi0: {{storage: fast, \
             image: a, size: 10GiB}}}}}}\n"
        );
        let told = refused(&Pve::new(), &yaml);
        assert!(
            told.contains("vms.web01.node: the cluster has no node `pve9` [the cluster has pve1"),
            "{told}"
        );
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}
