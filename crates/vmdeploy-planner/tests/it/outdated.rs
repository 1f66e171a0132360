//! Images that move on: VMs that were made from the old one are outdated, never refused and never replaced unasked.

use crate::pve::Pve;
use crate::specs::{deploy, plan, plan_with, steps};
use vmdeploy_planner::plan::{NoteTopic, Plan, Verb};

fn spec(image: &str, lifecycle: &str) -> String {
    format!(
        "version: 1
project: web
defaults: {{node: pve1, agent: true, ready: {{agent: 1m}}}}
images: {{debian: {{{image}}}}}
groups:
  web:
    count: 3
    vm:
      lifecycle: {{{lifecycle}}}
      disks: {{scsi0: {{storage: local-lvm, image: debian, size: 20GiB}}}}
"
    )
}

const OLD: &str = "path: /var/lib/vz/import/debian-13.qcow2";
const NEW: &str = "volume: 'local:import/debian-13.qcow2'";

fn verbs(plan: &Plan) -> Vec<Verb> {
    plan.changes.iter().map(|change| change.verb).collect()
}

#[test]
fn a_changed_image_is_a_note_and_nothing_more() {
    let mut pve = Pve::new();
    deploy(&mut pve, &spec(OLD, ""));
    let moved = plan(&pve, &spec(NEW, ""));
    assert!(moved.is_empty(), "{:?}", steps(&moved));
    assert!(
        moved.changes.iter().all(|change| change.outdated.len() == 1 && change.outdated[0].image == "debian")
    );
    let notes: Vec<_> = moved.notes.iter().filter(|note| note.topic == NoteTopic::Outdated).collect();
    assert_eq!(notes.len(), 3);
    let text = vmdeploy_planner::render::text(&moved, Default::default());
    assert!(text.contains("note: web01, web02, web03: outdated: image `debian` has changed"), "{text}");
    assert!(text.contains("`--replace NAME` remakes the VM"), "{text}");
    // Another change is made in place all the same, and the VM stays outdated.
    let tagged =
        deploy(&mut pve, &spec(NEW, "").replace("      lifecycle", "      tags: [x]\n      lifecycle"));
    assert_eq!(verbs(&tagged), [Verb::Update; 3]);
    assert_eq!(plan(&pve, &spec(NEW, "")).changes[0].outdated.len(), 1);
    assert!(plan(&pve, &spec(OLD, "")).changes.iter().all(|change| change.outdated.is_empty()));
    let ignored = plan(&pve, &spec(NEW, "ignore: [disks.scsi0.image]"));
    assert!(ignored.changes.iter().all(|change| change.outdated.is_empty()));
}

#[test]
fn a_word_replaces_outdated_vms_one_after_the_other() {
    let mut pve = Pve::new();
    deploy(&mut pve, &spec(OLD, ""));
    let policy = plan(&pve, &spec(NEW, "replace: on-image-change"));
    assert_eq!(verbs(&policy), [Verb::Replace; 3]);
    assert_eq!(policy.rollouts[0].batches.len(), 3);
    let told = plan_with(&pve, &spec(NEW, ""), |context| context.replace_outdated = true);
    assert_eq!(verbs(&told), [Verb::Replace; 3]);
    pve.apply(&told);
    assert!(plan(&pve, &spec(NEW, "replace: on-image-change")).is_empty());
    let nothing = plan_with(&pve, &spec(NEW, ""), |context| context.replace_outdated = true);
    assert!(nothing.is_empty(), "what is not outdated stays");
}

#[test]
fn replace_replaces_even_if_nothing_changed_and_takes_groups() {
    let mut pve = Pve::new();
    deploy(&mut pve, &spec(OLD, ""));
    let one = plan_with(&pve, &spec(OLD, ""), |context| context.replace = ["web02".parse().unwrap()].into());
    assert_eq!(verbs(&one), [Verb::NoOp, Verb::Replace, Verb::NoOp]);
    let reason = &one.changes[1].reasons[0];
    assert_eq!(
        (reason.path.as_str(), reason.note.as_deref()),
        ("(whole VM)", Some("`--replace` asks for it"))
    );
    assert!(one.changes[1].guest == one.changes[1].guest && one.notes.is_empty(), "{:?}", one.notes);
    let group = plan_with(&pve, &spec(OLD, ""), |context| context.replace = ["web".parse().unwrap()].into());
    assert_eq!(verbs(&group), [Verb::Replace; 3]);
    assert_eq!(group.rollouts[0].batches.len(), 3);
    pve.apply(&group);
    assert!(plan(&pve, &spec(OLD, "")).is_empty());
}

#[test]
fn the_policy_for_images_covers_no_other_change() {
    let mut pve = Pve::new();
    let cloned = |from: &str| {
        format!(
            "version: 1\nproject: p\ndefaults: {{node: pve1}}\nvms:\n  one: {{disks: {{scsi0: {{storage: fast, size: 1GiB}}}}}}\n  two: {{disks: {{scsi0: {{storage: fast, size: 1GiB}}}}}}\n  copy: {{clone: {from}, lifecycle: {{replace: on-image-change}}}}\n"
        )
    };
    deploy(&mut pve, &cloned("one"));
    let told = crate::specs::refused(&pve, &cloned("two"));
    assert!(told.contains("`copy` was cloned from another source"), "{told}");
}
