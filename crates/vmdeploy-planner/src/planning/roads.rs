//! Which road a step takes, and why.

use super::scene::Scene;
use crate::plan::{Action, PatchValue, PlanContext, Road, RoadChoice, Step};
use crate::rights::needs_of_step;
use crate::spec::Deployment;
use pve_types::PveVersion;

/// The road that was asked for, with what decides about single steps.
pub(crate) struct Roads {
    pub(crate) choice: RoadChoice,
    pub(crate) version: PveVersion,
    /// Whether the API's credentials are root@pam by password, who alone may set root-only options there.
    pub(crate) is_root: bool,
    pub(crate) ssh_available: bool,
}

/// How a VM is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Create, import each disk, attach everything in one `qm set`.
    Classic,
    /// One create call that imports the disks itself.
    Single(Road),
}

/// A step's road with the reason.
pub(crate) type RoadWithWhy = (Road, String);

const NO_TOKEN: &str = "the `ssh` road goes by commands on the node alone";

impl Roads {
    /// Takes the road of the command line, the spec, or the default.
    pub(crate) fn new(deployment: &Deployment, context: &PlanContext<'_>) -> Self {
        let spec = deployment.road.as_ref().map(|road| road.value);
        Self {
            choice: context.road.or(spec).unwrap_or_default(),
            version: context.observed.version,
            is_root: context.observed.rights.as_ref().is_some_and(|rights| rights.is_root),
            ssh_available: context.ssh_available,
        }
    }
    /// Returns the road of a call that any road can do and the API does best.
    pub(crate) fn api_first(&self, why: &str) -> RoadWithWhy {
        if self.choice == RoadChoice::Ssh {
            (Road::Ssh, NO_TOKEN.to_owned())
        } else {
            (Road::Api, why.to_owned())
        }
    }
    /// Returns the road of what the hybrid road does on the node; the `api` and `auto` roads do it by API.
    pub(crate) fn node_first(&self, why: &str, api_why: &str) -> RoadWithWhy {
        match self.choice {
            RoadChoice::Hybrid => (Road::Ssh, why.to_owned()),
            RoadChoice::Ssh => (Road::Ssh, NO_TOKEN.to_owned()),
            RoadChoice::Api | RoadChoice::Auto => (Road::Api, api_why.to_owned()),
        }
    }
    /// Returns the road of what only a command on the node can do, or `None` on the `api` road.
    pub(crate) fn node_only(&self, why: &str) -> Option<RoadWithWhy> {
        match self.choice {
            RoadChoice::Hybrid => Some((Road::Ssh, why.to_owned())),
            RoadChoice::Auto if self.ssh_available => Some((Road::Ssh, why.to_owned())),
            RoadChoice::Ssh => Some((Road::Ssh, NO_TOKEN.to_owned())),
            RoadChoice::Api | RoadChoice::Auto => None,
        }
    }
    /// Returns how a VM is made that `needs_node` (a root-only option, an image by path).
    pub(crate) fn shape(&self, needs_node: bool) -> Shape {
        // PVE: qemu-server 7.1-5 (PVE 7.2) introduced import-from.
        let imports = self.version.at_least(7, 2);
        match self.choice {
            RoadChoice::Hybrid => Shape::Classic,
            _ if !imports => Shape::Classic,
            RoadChoice::Ssh => Shape::Single(Road::Ssh),
            RoadChoice::Auto if needs_node && !self.is_root && self.ssh_available => Shape::Single(Road::Ssh),
            RoadChoice::Auto | RoadChoice::Api => Shape::Single(Road::Api),
        }
    }
    /// Tells whether a root-only option may go by API.
    pub(crate) fn api_may_set_root_only(&self) -> bool {
        self.is_root
    }
}

/// On the `auto` road, lets steps go by SSH that these credentials may not do by API.
pub(crate) fn take_allowed(scene: &Scene<'_>, steps: &mut [Step]) {
    let Some(rights) = &scene.observed.rights else { return };
    if scene.roads.choice != RoadChoice::Auto || !scene.roads.ssh_available {
        return;
    }
    for step in steps.iter_mut().filter(|step| step.road == Road::Api && !carries_secret(&step.action)) {
        if needs_of_step(step, scene.observed).iter().any(|need| !need.is_met(rights)) {
            step.road = Road::Ssh;
            step.why = format!("`{}` may not do it by API", rights.user.escape_debug());
        }
    }
}

/// A secret never stands on a command line, so its step has one road only.
fn carries_secret(action: &Action) -> bool {
    match action {
        Action::CreateVm { config: patch, .. } | Action::SetConfig { patch, .. } => {
            patch.set.values().any(|value| matches!(value, PatchValue::Secret { .. }))
        }
        _ => false,
    }
}
