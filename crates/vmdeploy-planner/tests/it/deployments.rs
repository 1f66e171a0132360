//! Every file in `deployments/` is planned, and its plan is what it was when a person looked at it last.

use crate::pve::Pve;
use crate::specs::{load, local_files, told};
use std::path::{Path, PathBuf};
use vmdeploy_planner::make_plan;
use vmdeploy_planner::plan::{CheckedPlan, PlanContext};
use vmdeploy_planner::render::{self, RenderOptions};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the specs in `deployments/`, by name.
fn specs() -> Vec<(String, String)> {
    let folder = std::fs::read_dir(root().join("deployments")).expect("the folder is there");
    let paths = folder.map(|entry| entry.expect("it can be read").path());
    let mut specs: Vec<(String, String)> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .filter(|path| !path.to_string_lossy().ends_with(".lock.yaml"))
        .map(|path| {
            let name = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("it is text"))
        })
        .collect();
    specs.extend(folders());
    specs.sort();
    specs
}

/// Returns the specs that are folders, their files as the documents of one.
fn folders() -> Vec<(String, String)> {
    let folder = std::fs::read_dir(root().join("deployments")).expect("the folder is there");
    let paths = folder.map(|entry| entry.expect("it can be read").path()).filter(|path| path.is_dir());
    let read = |path: PathBuf| {
        let mut files: Vec<PathBuf> = std::fs::read_dir(&path)
            .expect("it can be read")
            .map(|entry| entry.expect("it can be read").path())
            .filter(|file| file.extension().is_some_and(|ending| ending == "yaml"))
            .filter(|file| !file.to_string_lossy().ends_with(".lock.yaml"))
            .collect();
        files.sort();
        let texts: Vec<String> =
            files.iter().map(|file| std::fs::read_to_string(file).expect("it is text")).collect();
        (path.file_name().expect("it has a name").to_string_lossy().into_owned(), texts.join("\n---\n"))
    };
    paths.map(read).filter(|(_, text)| !text.is_empty()).collect()
}

/// Returns the names of the clusters that the spec's VMs are on.
fn clusters(deployment: &vmdeploy_planner::spec::Deployment) -> Vec<String> {
    let mut names: Vec<String> = deployment.vms.iter().map(|vm| vm.cluster.clone()).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn every_deployment_is_planned_as_it_was_reviewed_and_a_second_plan_is_empty() {
    assert!(!specs().is_empty());
    for (name, yaml) in specs() {
        let deployment = load(&yaml);
        for cluster in clusters(&deployment) {
            let mut pve = Pve::for_spec(&deployment);
            let observed = pve.observed();
            let mut context = PlanContext::new("run-1", &observed);
            context.default_node = "pve1".parse().ok();
            context.local_files = local_files(&deployment);
            context.cluster = Some(cluster.clone());
            let plan =
                make_plan(&deployment, &context).unwrap_or_else(|faults| panic!("{name}: {}", told(&faults)));
            insta::assert_snapshot!(
                format!("{name}-{cluster}"),
                render::text(&plan, RenderOptions::default())
            );
            let checked = CheckedPlan::new(plan.clone());
            assert!(checked.is_ok(), "{name}: {:#?}", plan.refusals().collect::<Vec<_>>());
            pve.apply(&plan);
            let observed = pve.observed();
            context.observed = &observed;
            let again =
                make_plan(&deployment, &context).unwrap_or_else(|faults| panic!("{name}: {}", told(&faults)));
            assert!(again.is_empty(), "{name}: {:#?}\n{:#?}", again.changes, again.steps);
        }
    }
}
