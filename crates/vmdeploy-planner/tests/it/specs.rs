//! Reading specs and creating plans, with all other inputs fixed.

use crate::pve::Pve;
use std::collections::BTreeMap;
use vmdeploy_planner::plan::{CheckedPlan, LocalFileFacts, Plan, PlanContext, PlanMode};
use vmdeploy_planner::spec::{self, Deployment, Diagnostic, LoadOptions, LocalFileUse, SourceFile};
use vmdeploy_planner::{make_plan, observed::Observed};

/// Reads one file's text.
#[track_caller]
pub fn load(yaml: &str) -> Deployment {
    let files = [SourceFile::new("test.yaml", yaml.to_owned())];
    match spec::load(&files, &LoadOptions::default()) {
        Ok(loaded) => loaded.deployment,
        Err(faults) => panic!("{}\n---\n{yaml}", told(&faults)),
    }
}

/// Returns the faults, one a line.
pub fn told(faults: &[Diagnostic]) -> String {
    let line = |fault: &Diagnostic| {
        let hint = fault.hint.as_ref().map(|hint| format!(" [{hint}]")).unwrap_or_default();
        format!("{}:{}: {}: {}{hint}", fault.span.line, fault.span.column, fault.path, fault.message)
    };
    faults.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Returns what the local files of a deployment hold: a key each, or a digest made of the path.
pub fn local_files(deployment: &Deployment) -> BTreeMap<String, LocalFileFacts> {
    let facts = deployment.local_files().into_iter().map(|file| {
        let facts = match file.used_as {
            LocalFileUse::PublicKeys => {
                LocalFileFacts::PublicKeys(vec![format!("ssh-ed25519 AAAA{} demo", file.path.value)])
            }
            LocalFileUse::Snippet | LocalFileUse::Image | LocalFileUse::BuiltImage => {
                LocalFileFacts::Content {
                    sha256: vmdeploy_planner::digest::of_bytes(file.path.value.as_bytes()),
                    size: pve_types::Bytes::from_mib(300),
                    compression: None,
                }
            }
        };
        (file.path.value, facts)
    });
    facts.collect()
}

/// Plans with a context that `change` may change.
pub fn try_plan_with(
    observed: &Observed,
    deployment: &Deployment,
    change: impl FnOnce(&mut PlanContext<'_>),
) -> Result<Plan, Vec<Diagnostic>> {
    let mut context = PlanContext::new("run-1", observed);
    context.default_node = "pve1".parse().ok();
    context.local_files = local_files(deployment);
    change(&mut context);
    make_plan(deployment, &context)
}

/// Plans, and checks that the plan may be carried out.
#[track_caller]
pub fn plan(pve: &Pve, yaml: &str) -> Plan {
    plan_with(pve, yaml, |_| {})
}

/// Plans with a changed context, and checks that the plan may be carried out.
#[track_caller]
pub fn plan_with(pve: &Pve, yaml: &str, change: impl FnOnce(&mut PlanContext<'_>)) -> Plan {
    match try_plan_with(&pve.observed(), &load(yaml), change) {
        Ok(plan) => {
            if let Err(refusal) = CheckedPlan::new(plan.clone()) {
                panic!("{refusal}: {:#?}", plan.refusals().collect::<Vec<_>>());
            }
            plan
        }
        Err(faults) => panic!("{}", told(&faults)),
    }
}

/// Plans what must be refused; returns the faults.
#[track_caller]
pub fn refused(pve: &Pve, yaml: &str) -> String {
    match try_plan_with(&pve.observed(), &load(yaml), |_| {}) {
        Ok(plan) => panic!("it was planned: {:#?}", plan.steps),
        Err(faults) => told(&faults),
    }
}

/// Deploys, and returns the plan that was carried out.
#[track_caller]
pub fn deploy(pve: &mut Pve, yaml: &str) -> Plan {
    let plan = plan(pve, yaml);
    pve.apply(&plan);
    plan
}

/// Destroys the spec's VMs.
#[track_caller]
pub fn destroy(pve: &mut Pve, yaml: &str) -> Plan {
    let plan = plan_with(pve, yaml, |context| context.mode = PlanMode::Destroy);
    pve.apply(&plan);
    plan
}

/// Returns the steps as `VM/what TRANSPORT`.
pub fn steps(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| format!("{} {}", step.id, step.transport)).collect()
}
