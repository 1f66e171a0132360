//! Images of a spec that no VM of it uses: where they would be looked for, and what is there.

use super::{Looked, default_node};
use crate::context::Context;
use crate::failure::Failure;
use crate::local_files;
use crate::planning;
use crate::token::required_privileges::as_if_new;
use pve_types::NodeName;
use std::collections::BTreeSet;
use vmdeploy_executor::observe;
use vmdeploy_planner::observed::{Observed, Query};
use vmdeploy_planner::plan::{PlanContext, Step};
use vmdeploy_planner::spec::{Deployment, DiskContent, Image, ImageSource};
use vmdeploy_planner::{image_query, plan_push};

/// What can be said of unused images.
pub(super) struct Unused {
    /// Their names.
    pub names: BTreeSet<String>,
    /// Where they are looked for: the node that the environment names, or the only one.
    pub node: Option<NodeName>,
    /// What was asked of the node.
    pub queries: Vec<Query>,
    /// What was seen there; `None` if it could not be checked.
    pub observed: Option<Observed>,
    /// What would place them.
    pub steps: Vec<Step>,
}

/// Looks for the images that no VM uses. What cannot be found out of them is left open.
///
/// # Errors
/// PROXMOX_NODE is not a node name, or a local file that the spec names cannot be used.
pub(super) async fn look(looked: &Looked, context: &Context) -> Result<Unused, Failure> {
    let deployment = &looked.spec.deployment;
    let images = unused(deployment);
    let names = images.iter().map(|image| image.name.clone()).collect();
    let mut found = Unused { names, node: None, queries: Vec::new(), observed: None, steps: Vec::new() };
    if images.is_empty() {
        return Ok(found);
    }
    found.node = default_node(&looked.connections, context).await?;
    let Some(node) = found.node.clone() else { return Ok(found) };
    found.queries = images.iter().filter_map(|image| image_query(image, &node)).collect();
    let mut queries = looked.queries.clone();
    queries.push(Query::Node { node: node.clone() });
    queries.extend(found.queries.iter().cloned());
    found.observed = observe(&looked.connections, &queries)
        .await
        .inspect_err(|error| tracing::info!(%error, "unused images could not be listed"))
        .ok();
    let Some(observed) = &found.observed else { return Ok(found) };
    let empty = as_if_new(deployment, observed);
    let plan_context = PlanContext {
        default_node: Some(node.clone()),
        local_files: local_files::read(deployment, &looked.spec.folder, context)?,
        ssh_available: looked.connections.has_ssh(),
        ..PlanContext::new(planning::new_run_id(), &empty)
    };
    let plans = images.iter().filter_map(|image| {
        plan_push(deployment, &plan_context, image, Some(&node)).ok().map(|plan| plan.steps)
    });
    found.steps = plans.flatten().collect();
    Ok(found)
}

fn unused(deployment: &Deployment) -> Vec<&Image> {
    let disks = deployment.vms.iter().flat_map(|vm| vm.disks.values()).filter_map(|disk| disk.set());
    let used: BTreeSet<&str> = disks
        .filter_map(|disk| match &disk.content {
            DiskContent::Image(name) => Some(name.value.as_str()),
            _ => None,
        })
        .collect();
    deployment.images.values().filter(|image| !used.contains(image.name.as_str())).collect()
}

/// Returns where the spec says that an image comes from.
pub(super) fn origin(image: &Image) -> String {
    match &image.source {
        ImageSource::Path { path } | ImageSource::File { path } => path.value.clone(),
        ImageSource::Volume { volume } => volume.value.to_string(),
        ImageSource::Url { url } => url.value.clone(),
        ImageSource::Build(build) => {
            build.file.as_ref().map_or_else(|| build.output.value.clone(), |file| file.value.clone())
        }
    }
}
