//! Replacing a VM that has disks which survive it.

use crate::pve::Pve;
use crate::specs::{deploy, load, plan, plan_with, told, try_plan_with};
use vmdeploy_planner::plan::{Action, Plan, PlanContext, Revert, Verb};

fn spec(keep: &str, more: &str) -> String {
    format!(
        "version: 1
project: web
images: {{debian-13: {{path: /var/lib/vz/import/debian-13.qcow2}}}}
vms:
  db01:
    vmid: 201
    node: pve1
    agent: true
    disks:
      scsi0: {{storage: local-lvm, image: debian-13, size: 20GiB}}
      scsi1: {{storage: fast, size: 50GiB, keep: {keep}, serial: data-1, discard: true{more}}}
    nics: {{net0: {{bridge: vmbr0}}}}
    ready: {{agent: 1m}}
"
    )
}

fn replace(context: &mut PlanContext<'_>) {
    context.replace = ["db01".parse().unwrap()].into();
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|step| step.id.0.as_str()).collect()
}

#[test]
fn the_new_vm_takes_the_disk_back_before_it_starts() {
    let mut pve = Pve::new();
    deploy(&mut pve, &spec("true", ""));
    let mac = pve.guests[&"201".parse().unwrap()].values["net0"].clone();
    let replaced = plan_with(&pve, &spec("true", ""), replace);
    assert_eq!(
        names(&replaced)[1..],
        [
            "db01/holder",
            "db01/shutdown",
            "db01/keep-scsi1",
            "db01/delete",
            "db01/create",
            "db01/import-scsi0",
            "db01/attach",
            "db01/resize-scsi0",
            "db01/take-scsi1",
            "db01/attach-kept",
            "db01/remove-holder",
            "db01/remember",
            "db01/start",
            "db01/await-agent",
        ]
    );
    let reverts = replaced.steps.iter().filter(|step| {
        matches!(step.action, Action::CreateVm { .. }) && matches!(step.revert, Revert::Run { .. })
    });
    assert_eq!(reverts.count(), 0, "a rollback deletes no VM that holds the disk");
    pve.apply(&replaced);
    let guest = &pve.guests[&"201".parse().unwrap()];
    assert_eq!(guest.values["scsi1"].split(',').next(), Some("fast:vm-201-disk-0"));
    assert!(guest.values["scsi1"].contains("discard=on") && guest.values["scsi1"].contains("serial=data-1"));
    assert_eq!(guest.values["net0"], mac, "the MAC address stays");
    assert!(!guest.values.keys().any(|key| key.starts_with("unused")), "{:?}", guest.values);
    assert_eq!(pve.guests.len(), 1, "the holder is gone");
    assert!(plan(&pve, &spec("true", "")).is_empty());
    insta::assert_snapshot!(
        "replaced",
        vmdeploy_planner::render::text(&replaced, vmdeploy_planner::render::RenderOptions::default())
    );
}

#[test]
fn a_named_holder_is_used_and_stays() {
    let mut pve = Pve::new();
    let holder = crate::deploy::foreign(999, "qemu");
    pve.foreign.insert(holder.vmid, holder);
    deploy(&mut pve, &spec("{holder: 999}", ""));
    let replaced = plan_with(&pve, &spec("{holder: 999}", ""), replace);
    assert!(!names(&replaced).iter().any(|name| name.ends_with("holder")), "{:?}", names(&replaced));
    pve.apply(&replaced);
    assert!(plan(&pve, &spec("{holder: 999}", "")).is_empty());
    assert!(pve.foreign.contains_key(&"999".parse().unwrap()));
}

#[test]
fn a_disk_that_grows_is_grown_after_it_came_back() {
    let mut pve = Pve::new();
    deploy(&mut pve, &spec("true", ""));
    let larger = spec("true", "").replace("50GiB", "80GiB");
    let replaced = plan_with(&pve, &larger, replace);
    let place = |name: &str| names(&replaced).iter().position(|step| *step == name).unwrap();
    assert!(place("db01/attach-kept") < place("db01/resize-scsi1"));
    pve.apply(&replaced);
    assert!(pve.guests[&"201".parse().unwrap()].values["scsi1"].contains("size=80G"));
    assert!(plan(&pve, &larger).is_empty());
}

#[test]
fn a_disk_that_could_not_be_the_same_refuses_the_replacement() {
    let mut pve = Pve::new();
    deploy(&mut pve, &spec("true", ""));
    let refused = |yaml: &str| told(&try_plan_with(&pve.observed(), &load(yaml), replace).unwrap_err());
    let moved = refused(&spec("true", "").replace("storage: fast", "storage: local-lvm"));
    assert!(moved.contains("`scsi1` is kept, and would move from fast to local-lvm"), "{moved}");
    let line = "      scsi1: {storage: fast, size: 50GiB, keep: true, serial: data-1, discard: true}\n";
    let gone = refused(&spec("true", "").replace(line, ""));
    assert!(gone.contains("its kept disk `scsi1` (fast:vm-201-disk-0) has no slot in the spec"), "{gone}");
}

/// Carries out so many steps of a plan, as if the run had been killed then.
fn apply_some(pve: &mut Pve, plan: &Plan, count: usize) {
    let mut part = plan.clone();
    part.steps.truncate(count);
    pve.apply(&part);
}

#[test]
fn at_every_step_the_disk_has_an_owner_and_nothing_makes_an_empty_one_in_its_place() {
    let total = {
        let mut pve = Pve::new();
        deploy(&mut pve, &spec("true", ""));
        plan_with(&pve, &spec("true", ""), replace).steps.len()
    };
    for count in 0..=total {
        let mut pve = Pve::new();
        deploy(&mut pve, &spec("true", ""));
        let replaced = plan_with(&pve, &spec("true", ""), replace);
        apply_some(&mut pve, &replaced, count);
        let named = |value: &String| {
            let volume = value.split(',').next().unwrap_or_default();
            volume.starts_with("fast:") && pve.volumes.contains(volume)
        };
        let owners = pve.guests.values().flat_map(|guest| guest.values.values()).filter(|value| named(value));
        assert_eq!(owners.count(), 1, "after {count} steps one guest names the disk");
        // A new plan, where someone deploys instead of resuming: it makes no empty disk and prunes no holder.
        let again = try_plan_with(&pve.observed(), &load(&spec("true", "")), |_| {});
        let makes_new = |plan: &Plan| plan.changes.iter().any(|change| change.verb == Verb::Create);
        match again {
            Ok(plan) => assert!(!makes_new(&plan), "after {count} steps: {:?}", names(&plan)),
            // While a holder has the disk the run is named; when it is back and not attached yet, the disk is.
            Err(faults) => {
                let told = told(&faults);
                let is_back = told.contains("its disk may be one of fast:vm-201-disk-0 (`unused0`)");
                assert!(told.contains("`vmdeploy resume run-1`") || is_back, "{told}");
            }
        }
        let pruned =
            try_plan_with(&pve.observed(), &load(&spec("true", "")), |context| context.prune = Some(1));
        if let Ok(plan) = pruned {
            let held = pve.guests.values().any(|guest| {
                guest.values.iter().any(|(key, value)| key.starts_with("unused") && named(value))
            });
            let deletes = plan.changes.iter().any(|change| change.verb == Verb::Delete);
            assert!(!(held && deletes), "after {count} steps the holder would be deleted with the disk");
        }
    }
}
