//! A plan's other forms, what is asked before it, and how long it takes.

use crate::pve::Pve;
use crate::specs::{load, plan};
use std::collections::BTreeSet;
use vmdeploy_planner::observed::{Observed, Query};
use vmdeploy_planner::plan::{CheckOutcome, PLAN_FORMAT_VERSION, Plan, Transport};
use vmdeploy_planner::render::{RenderOptions, dot, markdown, text, timing_text};
use vmdeploy_planner::timing::timing;
use vmdeploy_planner::{AskContext, ask};

const SPEC: &str = "version: 1
project: forms
images:
  debian-13: {path: /var/lib/vz/import/debian-13.qcow2}
vms:
  web01:
    vmid: 201
    node: pve1
    cpu: 2
    agent: true
    description: \"<b>bold</b> | table\"
    disks: {scsi0: {storage: local-lvm, image: debian-13, size: 20GiB}, ide0: {iso: 'local:iso/x.iso'}}
    nics: {net0: {bridge: vmbr0}}
    ready: {ip: 1m}
";

#[test]
fn markdown_and_graph_are_what_was_reviewed() {
    let plan = plan(&Pve::new(), SPEC);
    insta::assert_snapshot!("markdown", markdown(&plan));
    insta::assert_snapshot!("dot", dot(&plan));
    insta::assert_snapshot!("timing", timing_text(&plan));
}

#[test]
fn colors_are_there_only_when_asked_for_and_change_nothing_else() {
    let plan = plan(&Pve::new(), SPEC);
    let plain = text(&plan, RenderOptions::default());
    let colored = text(&plan, RenderOptions { color: true, ..RenderOptions::default() });
    assert!(!plain.contains('\u{1b}') && colored.contains("\u{1b}[32m"));
    let mut stripped = colored.clone();
    while let Some(start) = stripped.find('\u{1b}') {
        let end = start + stripped[start..].find('m').expect("a color ends with m");
        stripped.replace_range(start..=end, "");
    }
    assert_eq!(stripped.lines().map(str::trim_end).collect::<Vec<_>>(), plain.lines().collect::<Vec<_>>());
}

#[test]
fn the_critical_path_is_the_longest_chain() {
    let plan = plan(&Pve::new(), SPEC);
    let timing = timing(&plan);
    let names: Vec<&str> = timing.critical_path.iter().map(|id| id.0.as_str()).collect();
    assert_eq!(names.first(), Some(&"-/probe-pve1"));
    assert_eq!(names.last(), Some(&"web01/await-address"));
    let sum: u64 =
        timing.critical_path.iter().filter_map(|id| plan.step(id)).map(|step| step.estimate_ms).sum();
    assert_eq!(timing.critical_ms, sum);
    assert!(timing.total_ms >= timing.critical_ms);
}

#[test]
fn many_vms_take_what_their_node_needs_for_all_of_them() {
    let vm = |vmid: u32| {
        format!(
            "  web{vmid}: {{vmid: {vmid}, node: pve1, disks: {{scsi0: {{storage: local-lvm, image: debian-13, size: 20GiB}}}}}}\n"
        )
    };
    let spec = |count: u32| {
        let vms: String = (201..201 + count).map(vm).collect();
        format!(
            "version: 1\nproject: web\nimages:\n  debian-13: {{path: /var/lib/vz/import/debian-13.qcow2}}\nvms:\n{vms}"
        )
    };
    assert_eq!(timing(&plan(&Pve::new(), &spec(1))).busiest, None);
    let plan = plan(&Pve::new(), &spec(20));
    let timing = timing(&plan);
    let busiest = timing.busiest.as_ref().expect("20 VMs have more to do than one");
    assert_eq!(busiest.what, "the processors of pve1, with 40 commands of PVE");
    let by_ssh = plan.steps.iter().filter(|step| step.transport == Transport::Ssh && step.vm.is_some());
    assert_eq!(busiest.work_ms, by_ssh.map(|step| step.estimate_ms).sum::<u64>() / 2);
    assert!(timing.least_ms() > timing.critical_ms && timing.least_ms() < timing.total_ms);
    let said = timing_text(&plan);
    assert!(said.contains("busiest: the processors of pve1"), "{said}");
}

#[test]
fn an_observation_written_down_gives_the_same_plan() {
    let pve = Pve::new();
    let observed = pve.observed();
    let written = serde_json::to_string(&observed).unwrap();
    let read: Observed = serde_json::from_str(&written).unwrap();
    assert_eq!(read, observed);
    let deployment = load(SPEC);
    let plan_of = |observed: &Observed| crate::specs::try_plan_with(observed, &deployment, |_| {}).unwrap();
    assert_eq!(plan_of(&read), plan_of(&observed));
}

#[test]
fn only_what_is_needed_is_asked_and_in_bulk() {
    let queries: BTreeSet<Query> = ask(&load(SPEC), &AskContext::default()).into_iter().collect();
    let node = || "pve1".parse().unwrap();
    assert!(queries.contains(&Query::Node { node: node() }));
    assert!(
        queries
            .contains(&Query::File { node: node(), path: "/var/lib/vz/import/debian-13.qcow2".to_owned() })
    );
    let (storage, content) = ("local".parse().unwrap(), "iso".to_owned());
    assert!(queries.contains(&Query::Content { node: node(), storage, content }));
    assert_eq!(queries.iter().filter(|query| matches!(query, Query::Configs { .. })).count(), 1);
    assert_eq!(queries.len(), 10, "{queries:?}");
}

#[test]
fn without_ssh_the_steps_by_ssh_are_refused_before_anything_is_done() {
    let observed = Pve::new().observed();
    let plan =
        crate::specs::try_plan_with(&observed, &load(SPEC), |context| context.ssh_available = false).unwrap();
    let refused: Vec<&str> = plan.refusals().map(|check| check.need.as_str()).collect();
    assert_eq!(refused, ["SSH to the nodes"]);
    assert!(plan.checks.iter().any(|check| check.outcome == CheckOutcome::Passed));
}

#[test]
fn a_plan_of_another_format_is_not_taken() {
    let mut plan = plan(&Pve::new(), SPEC);
    plan.format_version = PLAN_FORMAT_VERSION + 1;
    let written = serde_json::to_string(&plan).unwrap();
    let read: Plan = serde_json::from_str(&written).unwrap();
    let refusal = vmdeploy_planner::plan::CheckedPlan::new(read).unwrap_err();
    assert_eq!(refusal.to_string(), "the plan has format 2, but this version of vmdeploy reads format 1");
}

#[test]
fn hostile_names_from_the_cluster_stay_on_their_line() {
    let mut pve = Pve::new();
    crate::specs::deploy(&mut pve, SPEC);
    let guest = pve.guests.get_mut(&"201".parse().unwrap()).unwrap();
    guest.values.insert("cores".to_owned(), "1\u{1b}[2J\u{7}".to_owned());
    let plan = plan(&pve, SPEC);
    for printed in [text(&plan, RenderOptions::default()), markdown(&plan), dot(&plan)] {
        assert!(!printed.chars().any(|c| c.is_control() && c != '\n'), "{printed:?}");
    }
}
