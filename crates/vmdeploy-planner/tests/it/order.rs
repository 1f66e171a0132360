//! `after` and rollouts: what waits for what, which batches there are, and what is refused.

use crate::pve::Pve;
use crate::specs::{deploy, plan, plan_with, steps, told, try_plan_with};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_planner::plan::{Action, Plan, PlanMode, Step, StepId, Verb};
use vmdeploy_planner::render::{self, RenderOptions};
use vmdeploy_planner::spec::{self, LoadOptions, SourceFile};

/// A database, and three web servers that come after it.
const SHOP: &str = "version: 1
project: shop
defaults: {node: pve1, agent: true, lifecycle: {restart: if-needed}, ready: {agent: 2m}}
images: {debian-13: {path: /var/lib/vz/import/debian-13.qcow2}}
vms:
  db01:
    cpu: 2
    disks: {scsi0: {storage: local-lvm, image: debian-13, size: 20GiB}}
groups:
  web:
    count: 3
    vm:
      cpu: 1
      after: db01
      disks: {scsi0: {storage: fast, size: 4GiB}}
";

fn faults(yaml: &str) -> String {
    let files = [SourceFile::new("test.yaml", yaml.to_owned())];
    told(&spec::load(&files, &LoadOptions::default()).expect_err("it must be refused"))
}

fn step<'p>(plan: &'p Plan, id: &str) -> &'p Step {
    plan.step(&StepId(id.to_owned())).unwrap_or_else(|| panic!("no step {id}: {:?}", steps(plan)))
}

fn waits(plan: &Plan, id: &str, before: &str) -> bool {
    step(plan, id).after.contains(&StepId(before.to_owned()))
}

fn batches(plan: &Plan) -> Vec<Vec<&str>> {
    let all = plan.rollouts.iter().flat_map(|rollout| &rollout.batches);
    all.map(|batch| batch.iter().map(|vm| vm.as_str()).collect()).collect()
}

#[test]
fn a_vm_is_made_when_those_before_it_are_ready() {
    let create = plan(&Pve::new(), SHOP);
    for web in ["web01", "web02", "web03"] {
        assert!(waits(&create, &format!("{web}/create"), "db01/await-agent"));
        assert!(!waits(&create, &format!("{web}/start"), "db01/await-agent"), "its first step waits for all");
    }
    assert!(step(&create, "db01/create").after.iter().all(|id| id.0.starts_with("-/")));
    let reversed = SHOP
        .replace("after: db01", "cpu: 1")
        .replace("      cpu: 1\n      cpu: 1", "      cpu: 1")
        .replace("  db01:\n", "  db01:\n    after: [web]\n");
    let create = plan(&Pve::new(), &reversed);
    assert!(["web01", "web02", "web03"].iter().all(|web| waits(
        &create,
        "db01/create",
        &format!("{web}/await-agent")
    )));
}

#[test]
fn destruction_runs_in_reverse() {
    let mut pve = Pve::new();
    deploy(&mut pve, SHOP);
    let gone = plan_with(&pve, SHOP, |context| context.mode = PlanMode::Destroy);
    let last = gone.steps.last().map(|step| step.id.0.as_str());
    assert_eq!(last, Some("db01/delete"));
    assert!(["web01", "web02", "web03"].iter().all(|web| waits(
        &gone,
        "db01/delete",
        &format!("{web}/delete")
    )));
}

#[test]
fn a_vm_that_runs_already_is_asked_whether_it_is_ready() {
    let mut pve = Pve::new();
    deploy(&mut pve, SHOP);
    let more = SHOP.replace("count: 3", "count: 4");
    let grown = plan(&pve, &more);
    assert!(waits(&grown, "web04/create", "db01/await-agent"));
    let db = grown.changes.iter().find(|change| change.vm.as_str() == "db01").unwrap();
    assert_eq!(db.verb, Verb::NoOp);
    let text = render::text(&grown, RenderOptions::default());
    assert!(text.contains("= db01  wait until it is ready: VM 100 on pve1"), "{text}");
    pve.guests.get_mut(&"100".parse().unwrap()).unwrap().running = false;
    let grown = plan(&pve, &more);
    assert!(step(&grown, "web04/create").after.iter().all(|id| id.0.starts_with("-/")));
    assert!(grown.notes.iter().any(|note| note.text.contains("does not wait for db01")), "{:?}", grown.notes);
    let target = |pve: &Pve| {
        let deployment = crate::specs::load(SHOP);
        try_plan_with(&pve.observed(), &deployment, |context| {
            context.targets = ["web".parse().unwrap()].into()
        })
    };
    let refused = told(&target(&Pve::new()).expect_err("db01 is not there, and not planned"));
    assert!(
        refused.contains("`web01` comes after `db01`, which does not exist yet [add `--target db01`]"),
        "{refused}"
    );
}

#[test]
fn orders_that_do_not_exist_are_refused_with_both_lines() {
    let check = |from: &str, to: &str, parts: &[&str]| {
        assert!(SHOP.contains(from), "{from}");
        let told = faults(&SHOP.replacen(from, to, 1));
        for part in parts {
            assert!(told.contains(part), "{part}\n---\n{told}");
        }
    };
    let circle = "  db01:\n    after: web\n";
    check(
        "  db01:\n",
        circle,
        &["these wait for each other: `db01` after `web` (test.yaml:7), `web01` after `db01` (test.yaml:15)"],
    );
    check("after: db01", "after: web", &["`web01` cannot come after the group that it is a member of"]);
    check("after: db01", "after: db1", &["there is no VM or group `db1`", "did you mean `db01`?"]);
    check("  db01:\n", "  db01:\n    after: db01\n", &["`db01` cannot come after itself"]);
    check("defaults: {", "defaults: {after: [db01], ", &["`db01` cannot come after itself", "after: []"]);
    check("cpu: 2", "depends_on: [x]", &["write `after: [NAME]`"]);
    check("count: 3", "count: 3\n    rollout: 0", &["rollout"]);
    check("count: 3", "count: 3\n    rollout: {max_unavailable: 120%}", &["it is `1%` to `100%`"]);
}

#[test]
fn restarts_go_through_a_group_batch_by_batch() {
    let mut pve = Pve::new();
    deploy(&mut pve, SHOP);
    let changed = SHOP.replace("      cpu: 1", "      cpu: 4");
    let update = plan(&pve, &changed);
    assert_eq!(batches(&update), [["web01"], ["web02"], ["web03"]]);
    assert!(
        waits(&update, "web02/configure", "web01/await-agent"),
        "the whole change waits, not only the restart"
    );
    assert!(waits(&update, "web03/configure", "web02/await-agent"));
    insta::assert_snapshot!("rollout", render::text(&update, RenderOptions::default()));
    let two =
        changed.replace("count: 3", "count: 3\n    rollout: {max_unavailable: 67%, on_failure: continue}");
    let update = plan(&pve, &two);
    assert_eq!(batches(&update), [vec!["web01", "web02"], vec!["web03"]]);
    let third = step(&update, "web03/configure");
    let follows: Vec<&str> = third.follows.iter().map(|id| id.0.as_str()).collect();
    assert_eq!(follows, ["web01/await-agent", "web02/await-agent"]);
    assert!(!third.after.iter().any(|id| id.0.starts_with("web0")));
    let all = plan(&pve, &changed.replace("project: shop", "project: shop\nrollout: 100%"));
    assert_eq!(batches(&all), [["web01", "web02", "web03"]]);
}

#[test]
fn what_interrupts_nothing_does_not_wait() {
    let mut pve = Pve::new();
    deploy(&mut pve, SHOP);
    let tagged = SHOP.replace("      cpu: 1", "      cpu: 1\n      tags: [web]");
    let update = plan(&pve, &tagged);
    assert!(update.rollouts.is_empty());
    assert!(update.steps.iter().all(|step| step.after.is_empty()), "{:?}", update.steps);
}

#[test]
fn vms_in_no_group_are_restarted_one_by_one_too() {
    let spec = |cpu: u32| {
        let vm = |number: u32| {
            format!("  v{number}: {{cpu: {cpu}, disks: {{scsi0: {{storage: fast, size: 1GiB}}}}}}\n")
        };
        let vms: String = (1..=5).map(vm).collect();
        format!(
            "version: 1\nproject: p\ndefaults: {{node: pve1, lifecycle: {{restart: if-needed}}}}\nvms:\n{vms}"
        )
    };
    let mut pve = Pve::new();
    deploy(&mut pve, &spec(1));
    let update = plan(&pve, &spec(2));
    assert_eq!(batches(&update), [["v1"], ["v2"], ["v3"], ["v4"], ["v5"]]);
    let text = render::text(&update, RenderOptions::default());
    assert!(text.contains("rollout of VMs in no group  at most 1 at a time"), "{text}");
}

/// A spec of groups with members, orders among them by index, and rollouts.
fn any_fleet() -> impl Strategy<Value = (String, Vec<u32>)> {
    let group =
        (1_u32..6, 1_u32..4, any::<bool>(), prop::collection::vec(any::<prop::sample::Index>(), 0..2));
    prop::collection::vec(group, 1..5).prop_map(|groups| {
        let mut text = "version: 1\nproject: p\ndefaults: {node: pve1, agent: true, lifecycle: {restart: if-needed}, ready: {agent: 1m}}\ngroups:\n".to_owned();
        let mut limits = Vec::new();
        for (place, (count, limit, goes_on, after)) in groups.into_iter().enumerate() {
            let after: BTreeSet<String> =
                after.iter().filter(|_| place > 0).map(|index| format!("g{}", index.index(place))).collect();
            let after = after.into_iter().collect::<Vec<_>>().join(", ");
            let on_failure = if goes_on { "continue" } else { "stop" };
            text.push_str(&format!(
                "  g{place}:\n    count: {count}\n    rollout: {{max_unavailable: {limit}, on_failure: {on_failure}}}\n    vm: {{after: [{after}], cpu: CPU, disks: {{scsi0: {{storage: fast, size: 1GiB}}}}}}\n"
            ));
            limits.push(limit);
        }
        (text, limits)
    })
}

/// Returns everything that a step waits for, directly or not.
fn all_before<'p>(
    plan: &'p Plan,
    id: &'p StepId,
    known: &mut BTreeMap<&'p StepId, BTreeSet<&'p StepId>>,
) -> BTreeSet<&'p StepId> {
    if let Some(before) = known.get(id) {
        return before.clone();
    }
    let step = plan.step(id).expect("it is there");
    let mut found = BTreeSet::new();
    for before in step.after.iter().chain(&step.follows) {
        found.insert(before);
        found.extend(all_before(plan, before, known));
    }
    known.insert(id, found.clone());
    found
}

proptest! {
    #![proptest_config(crate::properties::quarter())]

    #[test]
    fn no_more_vms_than_allowed_are_ever_interrupted_together((spec, limits) in any_fleet()) {
        let mut pve = Pve::new();
        deploy(&mut pve, &spec.replace("CPU", "1"));
        let changed = spec.replace("CPU", "2");
        let update = plan(&pve, &changed);
        let mut known = BTreeMap::new();
        for rollout in &update.rollouts {
            let group = rollout.group.as_deref().unwrap_or_default();
            let limit = limits[group.trim_start_matches('g').parse::<usize>().unwrap()] as usize;
            prop_assert_eq!(rollout.max_unavailable, limit);
            prop_assert!(rollout.batches.iter().all(|batch| batch.len() <= limit));
            for (at, batch) in rollout.batches.iter().enumerate().skip(1) {
                for vm in batch {
                    let first = update.steps.iter().find(|step| step.vm.as_ref() == Some(vm)).unwrap();
                    let before = all_before(&update, &first.id, &mut known);
                    for earlier in rollout.batches[..at].iter().flatten() {
                        let own: Vec<&Step> = update.steps.iter().filter(|step| step.vm.as_ref() == Some(earlier)).collect();
                        let is_wait = |step: &&&Step| matches!(step.action, Action::Await { .. });
                        prop_assert!(own.last().iter().any(is_wait), "a batch ends when its VMs are ready");
                        prop_assert!(own.iter().all(|step| before.contains(&step.id)), "{} begins before {} is ready", vm, earlier);
                    }
                }
            }
        }
        pve.apply(&update);
        prop_assert!(plan(&pve, &changed).is_empty());
    }
}
