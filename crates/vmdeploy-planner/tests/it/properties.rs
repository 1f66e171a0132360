//! For any spec, deploy then plan is empty; for any two, deploy A, deploy B, plan B is empty.

use crate::generator::{NUMBERS, spec};
use crate::pve::Pve;
use crate::specs::{steps, told, try_plan_with};
use proptest::prelude::*;
use pve_types::{Privilege, PveVersion};
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_planner::observed::Rights;
use vmdeploy_planner::plan::{Plan, Step};
use vmdeploy_planner::spec::Deployment;

/// Reads a spec; a combination that the spec's own rules refuse is no case.
fn try_load(yaml: &str) -> Result<Deployment, String> {
    let files = [vmdeploy_planner::spec::SourceFile::new("any.yaml", yaml.to_owned())];
    let loaded = vmdeploy_planner::spec::load(&files, &Default::default());
    loaded.map(|loaded| loaded.deployment).map_err(|faults| told(&faults))
}

fn shown(plan: &Plan) -> String {
    let reasons = plan.changes.iter().flat_map(|change| &change.reasons);
    let lines: Vec<String> =
        reasons.map(|why| format!("  {} {:?} -> {:?} {:?}", why.path, why.from, why.to, why.note)).collect();
    format!("{:?}\n{}", steps(plan), lines.join("\n"))
}

/// A cluster of one of the versions, with root or with a token that may everything but what no token may.
fn world(kind: u8) -> Pve {
    let mut pve = Pve::new();
    pve.version = if kind & 1 == 0 { PveVersion::new(9, 2, 11) } else { PveVersion::new(8, 4, 1) };
    if kind & 2 != 0 {
        let all = Privilege::all().map(|privilege| (privilege, true)).collect();
        let paths = BTreeMap::from([("/".to_owned(), all)]);
        pve.rights = Some(Rights { user: "deploy@pve!ci".to_owned(), is_root: false, paths });
    }
    pve
}

/// Prints the spec when the model refuses what the plan does.
struct Told<'y>(&'y str);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

/// Deploys, unless the spec or the step to it is refused (a shrink, say): then nothing happened.
fn deploys_and_is_done(pve: &mut Pve, yaml: &str) -> Result<Option<Vec<Step>>, TestCaseError> {
    let Ok(deployment) = try_load(yaml) else { return Ok(None) };
    let Ok(plan) = try_plan_with(&pve.observed(), &deployment, |_| {}) else { return Ok(None) };
    let shown_if_refused = Told(yaml);
    pve.apply(&plan);
    drop(shown_if_refused);
    let again = try_plan_with(&pve.observed(), &deployment, |_| {});
    let again = again.map_err(|faults| TestCaseError::fail(format!("{}\n{yaml}", told(&faults))))?;
    let guests: Vec<_> =
        pve.guests.iter().map(|(vmid, guest)| (vmid, &guest.values, &guest.pending)).collect();
    prop_assert!(again.is_empty(), "after {:?}\nstill {}\n{yaml}\n{guests:#?}", steps(&plan), shown(&again),);
    Ok(Some(plan.steps))
}

/// The name of what a step does.
fn name(step: &Step) -> String {
    let told = format!("{:?}", step.action);
    told.split([' ', '{']).next().unwrap_or_default().to_owned()
}

/// How many cases are run: few enough for a slow machine, or what `PROPTEST_CASES` says.
fn cases(usual: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 500, ..ProptestConfig::default() }
}

/// A quarter of proptest's usual cases, for properties whose cases each plan several times.
pub fn quarter() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.div_ceil(4), failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(cases(80))]

    #[test]
    fn after_any_deploy_the_same_plan_is_empty(
        numbers in proptest::collection::vec(any::<u16>(), NUMBERS), kind in 0..4u8
    ) {
        deploys_and_is_done(&mut world(kind), &spec(&numbers))?;
    }

    #[test]
    fn after_deploys_of_any_two_specs_the_second_plan_is_empty(
        one in proptest::collection::vec(any::<u16>(), NUMBERS),
        changed in proptest::collection::vec((0..NUMBERS, any::<u16>()), 1..40),
        kind in 0..4u8,
    ) {
        let mut other = one.clone();
        for (at, number) in changed {
            other[at] = number;
        }
        let mut pve = world(kind);
        if deploys_and_is_done(&mut pve, &spec(&one))?.is_some() {
            deploys_and_is_done(&mut pve, &spec(&other))?;
        }
    }
}

#[test]
fn most_of_the_specs_of_the_properties_are_specs_and_all_kinds_of_steps_come_up() {
    let (mut read, mut planned) = (0, 0);
    let mut actions = BTreeSet::new();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..150u64 {
        let numbers: Vec<u16> = (0..NUMBERS as u64)
            .map(|at| {
                (seed.wrapping_mul(0x9E37_79B9).wrapping_add(at).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40)
                    as u16
            })
            .collect();
        let deployment = match try_load(&spec(&numbers)) {
            Ok(deployment) => deployment,
            Err(faults) => {
                *refused.entry(faults).or_default() += 1;
                continue;
            }
        };
        read += 1;
        match try_plan_with(&world(seed as u8 % 4).observed(), &deployment, |_| {}) {
            Ok(plan) => {
                planned += 1;
                actions.extend(plan.steps.iter().map(name));
            }
            Err(faults) => *refused.entry(told(&faults)).or_default() += 1,
        }
    }
    assert!(read > 75 && planned > 50, "{read} read, {planned} planned: {refused:#?}");
    assert!(actions.len() >= 9, "{actions:?}");
}
