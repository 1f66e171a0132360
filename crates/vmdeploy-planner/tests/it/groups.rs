//! Groups of similar VMs: expansion, diagnostics, growth, and how their plans look.

use crate::pve::Pve;
use crate::specs::{deploy, plan, plan_with, steps, told};
use proptest::prelude::*;
use vmdeploy_planner::plan::{Plan, PlanMode, Verb};
use vmdeploy_planner::render::{self, RenderOptions};
use vmdeploy_planner::spec::{self, LoadOptions, SourceFile};

const HEAD: &str = "version: 1
project: fleet
images: {debian-13: {path: /var/lib/vz/import/debian-13.qcow2}}
";

/// A group of `count` workers with these lines below `worker`.
fn workers(count: u32, more: &str) -> String {
    format!(
        "{HEAD}profiles: {{small: {{cpu: 2, memory: 2GiB}}}}
groups:
  worker:
    count: {count}
    vm:
      profile: [small]
      node: pve1
      vmid: {{range: [300, 399]}}
      disks: {{scsi0: {{storage: local-lvm, image: debian-13, size: 20GiB}}}}
{more}"
    )
}

fn faults(yaml: &str) -> String {
    let files = [SourceFile::new("test.yaml", yaml.to_owned())];
    told(&spec::load(&files, &LoadOptions::default()).expect_err("it must be refused"))
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.changes.iter().map(|change| change.vm.as_str()).collect()
}

#[test]
fn a_group_is_as_many_vms_written_one_by_one() {
    let one_by_one: String = (1..=3)
        .map(|number| {
            let memory = if number == 2 { ", memory: 8GiB" } else { "" };
            format!(
                "  worker{number:02}: {{profile: [small], node: pve1, vmid: {{range: [300, 399]}}, disks: {{scsi0: {{storage: local-lvm, image: debian-13, size: 20GiB}}}}{memory}}}\n"
            )
        })
        .collect();
    let written = format!("{HEAD}profiles: {{small: {{cpu: 2, memory: 2GiB}}}}\nvms:\n{one_by_one}");
    let group = workers(3, "    overrides: {worker02: {memory: 8GiB}}\n");
    let (by_hand, of_group) = (plan(&Pve::new(), &written), plan(&Pve::new(), &group));
    assert_eq!(of_group.steps, by_hand.steps);
    let reasons = |plan: &Plan| plan.changes.iter().map(|change| change.reasons.clone()).collect::<Vec<_>>();
    assert_eq!(reasons(&of_group), reasons(&by_hand));
    assert!(of_group.changes.iter().all(|change| change.group.as_deref() == Some("worker")));
}

#[test]
fn members_can_be_named_and_a_pattern_can_be_given() {
    let named = workers(0, "").replace("count: 0", "members: [anna, berta]");
    assert_eq!(names(&plan(&Pve::new(), &named)), ["anna", "berta"]);
    let pattern = workers(2, "    name: \"w{}.lab\"\n");
    assert_eq!(names(&plan(&Pve::new(), &pattern)), ["w1.lab", "w2.lab"]);
    assert!(plan(&Pve::new(), &workers(0, "")).changes.is_empty());
}

#[test]
fn growing_renumbers_nothing_and_shrinking_deletes_only_by_number() {
    let mut pve = Pve::new();
    deploy(&mut pve, &workers(3, ""));
    let grown = plan(&pve, &workers(5, ""));
    let verbs: Vec<(&str, Verb)> =
        grown.changes.iter().map(|change| (change.vm.as_str(), change.verb)).collect();
    let new = |name| (name, Verb::Create);
    let same = |name| (name, Verb::NoOp);
    assert_eq!(
        verbs,
        [same("worker01"), same("worker02"), same("worker03"), new("worker04"), new("worker05")]
    );
    let shrunk = plan(&pve, &workers(1, ""));
    assert!(shrunk.is_empty());
    let told: Vec<&str> = shrunk.notes.iter().map(|note| note.text.as_str()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("VM 301 belongs to this project but is not in the spec"), "{told:?}");
    let pruned = plan_with(&pve, &workers(1, ""), |context| context.prune = Some(2));
    assert_eq!(steps(&pruned), ["worker02/delete API", "worker03/delete API"]);
}

#[test]
fn a_target_may_be_a_group() {
    let spec = workers(2, "vms:\n  db01: {node: pve1, disks: {scsi0: {storage: fast, size: 1GiB}}}\n");
    let target = |name: &str| {
        let name = name.parse().unwrap();
        plan_with(&Pve::new(), &spec, |context| context.targets = [name].into())
    };
    assert_eq!(names(&target("worker")), ["worker01", "worker02"]);
    assert_eq!(names(&target("worker02")), ["worker02"]);
    assert_eq!(names(&target("db01")), ["db01"]);
    let mut pve = Pve::new();
    deploy(&mut pve, &spec);
    let gone = plan_with(&pve, &spec, |context| {
        context.mode = PlanMode::Destroy;
        context.targets = ["worker".parse().unwrap()].into();
    });
    assert_eq!(steps(&gone), ["worker01/delete API", "worker02/delete API"]);
    let empty = workers(0, "vms:\n  db01: {node: pve1, disks: {scsi0: {storage: fast, size: 1GiB}}}\n");
    let none = plan_with(&Pve::new(), &empty, |context| context.targets = ["worker".parse().unwrap()].into());
    assert!(none.changes.is_empty(), "a group without members selects no VM");
}

#[test]
fn faults_name_the_line_of_the_group_and_the_member() {
    let check = |yaml: &str, parts: &[&str]| {
        let told = faults(yaml);
        for part in parts {
            assert!(told.contains(part), "{part}\n---\n{told}");
        }
        told
    };
    let two = |more: &str| workers(2, more);
    check(&two("    overrides: {worker3: {cpu: 4}}\n"), &["no member `worker3`", "did you mean `worker0"]);
    check(&two("    members: [a]\n"), &["only one of the keys `count`, `members`"]);
    check(&two("").replace("    count: 2\n", ""), &["one of the keys `count`, `members` is missing"]);
    check(&two("").replace("count: 2", "members: [a, b]\n    name: \"x{}\""), &["has no pattern of names"]);
    check(&two("    name: worker\n"), &["`worker` is not a valid pattern", "one `{}`"]);
    check(&two("vms: {worker01: {cpu: 1}}\n"), &["member `worker01` of group `worker` is in `vms` already"]);
    check(&two("vms: {worker: {cpu: 1}}\n"), &["`worker` is the name of a VM, too"]);
    check(&two("").replace("size: 20GiB", "size: 20G"), &["12:67: groups.worker.vm.disks.scsi0.size"]);
    check(&two("").replace("[small]", "[smal]"), &["no profile `smal`", "groups.worker.worker01.profile"]);
    check(&two("").replace("count: 2", "count: 20000"), &["from 0 to 10000"]);
    check(&two("").replace("  worker:", "  1worker:"), &["must start with a letter"]);
    let told = check(
        &workers(50, "").replace("vmid: {range: [300, 399]}", "vmid: 300"),
        &["members of group `worker` would share VMID 300: `worker01`, `worker02`", "range"],
    );
    assert_eq!(told.lines().count(), 1, "{told}");
    check(&workers(200, ""), &["the range 300 to 399 has fewer VMIDs"]);
    let one = workers(1, "").replace("vmid: {range: [300, 399]}", "vmid: 300");
    assert_eq!(plan(&Pve::new(), &one).changes[0].guest.vmid.get(), 300, "one member may have a number");
}

#[test]
fn null_in_overrides_takes_out_what_the_group_says() {
    let spec = workers(2, "    overrides: {worker02: {profile: null, cpu: 1, memory: null}}\n");
    let plan = plan(&Pve::new(), &spec);
    let paths = |place: usize| -> Vec<&str> {
        plan.changes[place].reasons.iter().map(|reason| reason.path.as_str()).collect()
    };
    assert!(paths(0).contains(&"memory") && !paths(1).contains(&"memory"), "{:?}", paths(1));
}

#[test]
fn the_plan_of_ten_similar_vms_fits_on_a_screen() {
    let spec = workers(10, "    overrides: {worker07: {memory: 8GiB}}\n");
    let mut pve = Pve::new();
    let create = deploy(&mut pve, &spec);
    let text = render::text(&create, RenderOptions::default());
    assert!(text.lines().count() <= 40, "{text}");
    insta::assert_snapshot!("ten_alike", text);
    insta::assert_snapshot!("ten_alike_markdown", render::markdown(&create));
    let everything = render::text(&create, RenderOptions::verbose());
    assert!((1..=10).all(|number| everything.contains(&format!("+ worker{number:02}  create VM"))));
    let changed = spec.replace("cpu: 2", "cpu: 4");
    let update = plan(&pve, &changed);
    insta::assert_snapshot!("ten_changed_alike", render::text(&update, RenderOptions::default()));
    assert!(render::brief(&update).contains("note: worker03: takes effect when the guest is restarted"));
    let restarting = plan(&pve, &format!("{changed}defaults: {{lifecycle: {{restart: if-needed}}}}\n"));
    let brief = render::brief(&restarting);
    assert!(brief.contains("~ worker03 (302)  restarts the guest"), "{brief}");
    assert_eq!(render::consequences(&restarting), "change 10 (RESTARTING 10) VMs");
    let text = render::text(&restarting, RenderOptions::default());
    assert!(text.contains("update and RESTART 10 VMs of group worker"), "{text}");
}

proptest! {
    #![proptest_config(crate::properties::quarter())]

    #[test]
    fn any_group_plans_once_and_then_nothing(count in 0_u32..30, keep in 0_u32..30, memory in 1_u32..4) {
        let overrides = if count > 1 { format!("    overrides: {{worker02: {{memory: {memory}GiB}}}}\n") } else { String::new() };
        let mut pve = Pve::new();
        let first = deploy(&mut pve, &workers(count, &overrides));
        prop_assert_eq!(first.changes.len(), count as usize);
        prop_assert!(plan(&pve, &workers(count, &overrides)).is_empty());
        let kept = keep.min(count);
        let overrides = if kept > 1 { overrides } else { String::new() };
        let fewer = workers(kept, &overrides);
        prop_assert!(plan(&pve, &fewer).is_empty(), "fewer members change none of those that stay");
        let pruned = plan_with(&pve, &fewer, |context| context.prune = Some((count - kept) as usize));
        pve.apply(&pruned);
        prop_assert_eq!(pve.guests.len(), kept as usize);
    }

    #[test]
    fn every_vm_of_a_plan_is_in_its_text_or_between_two_that_are(count in 3_u32..40) {
        let create = plan(&Pve::new(), &workers(count, ""));
        let text = render::text(&create, RenderOptions::default());
        let listed = |number: u32| text.contains(&format!("worker{number:02} ("));
        let row = text.contains(&format!("worker01 to worker{count:02} (300 to {})", 299 + count));
        prop_assert!(row || (1..=count).all(listed), "{}", text);
    }
}
