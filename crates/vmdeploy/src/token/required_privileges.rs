//! What the credentials are needed for: a privilege on a path, and the steps that need it. Pure.

use crate::local_files;
use pve_types::{Privilege, PveVersion, Vmid};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_planner::observed::{Observed, ObservedGuest, Rights};
use vmdeploy_planner::plan::{PlanContext, PlanMode, Step};
use vmdeploy_planner::rights::{Grant, Need, needs_of_hidden_source, needs_of_steps};
use vmdeploy_planner::spec::{CloneSource, Deployment, Diagnostic, VmidWish};
use vmdeploy_planner::{Draft, draft_plan};

/// One thing that must be allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequiredPrivilege {
    /// The privilege.
    pub privilege: Privilege,
    /// The ACL path.
    pub path: String,
    /// What needs it: steps, or a general required in words.
    pub needed_by: BTreeSet<String>,
    /// Whether it is granted, directly or through an alternative.
    pub held: bool,
    /// What would do as well, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub or: Option<String>,
    /// Where it is granted.
    #[serde(skip)]
    pub reach: Reach,
}

/// Where a privilege is granted, so that it is held on its path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// On the path itself.
    Path,
    /// On all guests: VMs of the spec come and go, and PVE forgets what was granted on one when it is destroyed.
    Guests,
    /// On this pool, which the VM is in or will be.
    Pool(String),
}

/// What a deployment needs, as far as it can be told.
#[derive(Debug)]
pub struct Judged {
    /// What its steps need, each with those that need it.
    pub needs: Needs,
    /// The guests that the steps make, change or destroy.
    pub ours: BTreeSet<Vmid>,
    /// Why the plan of today is refused, where it is.
    pub refused: Vec<Diagnostic>,
    /// What could not be planned, so that its required privileges are unknown.
    pub unjudged: Vec<Diagnostic>,
}

/// Needs, each with the steps that have it.
pub type Needs = BTreeMap<Need, BTreeSet<String>>;

/// Returns what creating, changing and destroying the deployment's VMs needs.
///
/// That a number is taken or an image is missing does not change which rights are needed: both are looked past.
pub fn spec_needs(deployment: &Deployment, observed: &Observed, context: &PlanContext<'_>) -> Judged {
    let empty = with_every_image(&as_if_new(deployment, observed));
    let local_files = local_files::stand_ins(deployment);
    let fresh = PlanContext { observed: &empty, mode: PlanMode::Deploy, local_files, ..context.clone() };
    let Draft { steps, refused: unjudged, .. } = draft_plan(deployment, &fresh);
    let of_today = |mode| draft_plan(deployment, &PlanContext { observed, mode, ..context.clone() });
    let (deploy, destroy) = (of_today(PlanMode::Deploy), of_today(PlanMode::Destroy));
    let mut judged = Judged { needs: Needs::new(), ours: BTreeSet::new(), refused: deploy.refused, unjudged };
    judged.collect(&steps, &empty);
    judged.collect(&deploy.steps, observed);
    judged.collect(&destroy.steps, observed);
    judged.collect_hidden_sources(deployment, observed);
    judged
}

impl Judged {
    fn collect(&mut self, steps: &[Step], observed: &Observed) {
        self.ours.extend(steps.iter().filter_map(|step| Some(step.action.guest()?.vmid)));
        for (need, steps) in needs_of_steps(steps, observed) {
            self.needs.entry(need).or_default().extend(steps.iter().map(ToString::to_string));
        }
    }

    /// A guest that is cloned by its number and not seen may be there: nothing can be planned before it is seen.
    fn collect_hidden_sources(&mut self, deployment: &Deployment, observed: &Observed) {
        for vm in &deployment.vms {
            let Some(CloneSource::Vmid(vmid)) = vm.clone.as_ref().map(|clone| &clone.from.value) else {
                continue;
            };
            let sees = |rights: &Rights| rights.holds(Privilege::VmAudit, &format!("/vms/{vmid}"));
            if observed.guests.contains_key(vmid) || observed.rights.as_ref().is_none_or(sees) {
                continue;
            }
            for need in needs_of_hidden_source(*vmid) {
                self.needs.entry(need).or_default().insert(format!("{}/clone", vm.name.value));
            }
        }
    }

    /// Returns the privileges that the needs come to, judged by what is held.
    pub fn required_privileges(&self, rights: &Rights) -> Vec<RequiredPrivilege> {
        let mut required_privileges: BTreeMap<(String, Privilege), RequiredPrivilege> = BTreeMap::new();
        let definite: BTreeSet<&Grant> = self
            .needs
            .keys()
            .filter(|need| need.is_definite())
            .flat_map(|need| need.any.first())
            .flatten()
            .collect();
        let given = |grant: &Grant| definite.contains(grant) || rights.holds(grant.privilege, &grant.path);
        for (need, steps) in &self.needs {
            let met = need.is_met(rights);
            let missing = need.missing(rights);
            let chosen = need.cheapest(given);
            let others = need.any.iter().filter(|grants| grants.as_slice() != chosen);
            let alternatives: Vec<String> = others.map(|grants| words(grants)).collect();
            for grant in chosen {
                let key = (grant.path.clone(), grant.privilege);
                let required = required_privileges.entry(key).or_insert_with(|| self.required(need, grant));
                let is_held = rights.holds(grant.privilege, &grant.path) && !missing.contains(&grant);
                required.held &= met || is_held;
                required.needed_by.extend(steps.iter().cloned());
                required.or = required
                    .or
                    .take()
                    .or_else(|| (!alternatives.is_empty()).then(|| alternatives.join(", or ")));
            }
        }
        required_privileges.into_values().collect()
    }

    fn required(&self, need: &Need, grant: &Grant) -> RequiredPrivilege {
        let of_guest = grant.path.strip_prefix("/vms/").and_then(|vmid| vmid.parse().ok());
        let is_ours = of_guest.is_some_and(|vmid: Vmid| self.ours.contains(&vmid));
        RequiredPrivilege {
            privilege: grant.privilege,
            path: grant.path.clone(),
            needed_by: BTreeSet::new(),
            held: true,
            or: None,
            reach: match need.pool_of(grant) {
                Some(pool) => Reach::Pool(pool.to_owned()),
                None if is_ours => Reach::Guests,
                None => Reach::Path,
            },
        }
    }
}

/// Returns the observation as if every image were where the spec says.
fn with_every_image(observed: &Observed) -> Observed {
    let mut world = observed.clone();
    world.images.retain(|seen| seen.present);
    world.listings.clear();
    world
}

/// Returns the observation as if none of the deployment's VMs existed and their VMIDs were free.
pub fn as_if_new(deployment: &Deployment, observed: &Observed) -> Observed {
    without_their_numbers(deployment, &without_our_guests(deployment, observed))
}

/// Returns the observation as if none of the deployment's VMs were there yet.
fn without_our_guests(deployment: &Deployment, observed: &Observed) -> Observed {
    let members = crate::fleet::find(deployment, observed);
    let ours: BTreeSet<Vmid> = members.iter().filter_map(|member| Some(member.place()?.1)).collect();
    let mut world = observed.clone();
    world.guests.retain(|vmid, _| !ours.contains(vmid));
    world
}

/// Returns the guests that are not ours and have a number that the spec wants: a deployment is refused for them.
fn in_the_way<'a>(deployment: &Deployment, observed: &'a Observed) -> Vec<&'a ObservedGuest> {
    let wanted: BTreeSet<Vmid> = deployment
        .vms
        .iter()
        .filter_map(|vm| match &vm.vmid {
            VmidWish::Fixed(vmid) => Some(vmid.value),
            VmidWish::Any | VmidWish::Range(_) => None,
        })
        .collect();
    let others = without_our_guests(deployment, observed);
    let taken = observed.guests.values().filter(|guest| wanted.contains(&guest.vmid));
    taken.filter(|guest| others.guests.contains_key(&guest.vmid)).collect()
}

/// Which rights are needed does not depend on who has a number now.
fn without_their_numbers(deployment: &Deployment, observed: &Observed) -> Observed {
    let taken: BTreeSet<Vmid> = in_the_way(deployment, observed).iter().map(|guest| guest.vmid).collect();
    let mut world = observed.clone();
    world.guests.retain(|vmid, _| !taken.contains(vmid));
    world
}

fn words(grants: &[Grant]) -> String {
    grants.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// Returns what deployments need as a rule, for credentials that no spec was given for.
pub fn general_required_privileges(version: PveVersion, rights: &Rights) -> Vec<RequiredPrivilege> {
    use Privilege as P;
    let agent = if version.at_least(9, 0) { P::VmGuestAgentAudit } else { P::VmMonitor };
    let rows: &[(&str, &[P], &str)] = &[
        ("/vms", &[P::VmAllocate], "create and delete VMs"),
        ("/vms", &[P::VmAudit], "find VMs and compare them with the spec"),
        (
            "/vms",
            &[
                P::VmConfigCpu,
                P::VmConfigMemory,
                P::VmConfigDisk,
                P::VmConfigNetwork,
                P::VmConfigHwType,
                P::VmConfigOptions,
            ],
            "configure VMs",
        ),
        ("/vms", &[P::VmConfigCdrom, P::VmConfigCloudinit], "cloud-init"),
        ("/vms", &[P::VmPowerMgmt], "start, stop and reboot"),
        ("/vms", &[agent], "read addresses from the guest agent"),
        ("/storage", &[P::DatastoreAllocateSpace], "create disks"),
        ("/storage", &[P::DatastoreAudit], "read storages and their free space"),
        ("/sdn/zones", &[P::SdnUse], "attach NICs to bridges and VNets"),
    ];
    let required = |(path, privileges, why): &(&str, &[P], &str)| {
        let (path, why) = ((*path).to_owned(), (*why).to_owned());
        privileges
            .iter()
            .map(|&privilege| RequiredPrivilege {
                privilege,
                path: path.clone(),
                needed_by: BTreeSet::from([why.clone()]),
                held: rights.holds(privilege, &path),
                or: None,
                reach: Reach::Path,
            })
            .collect::<Vec<_>>()
    };
    let required_privileges = rows.iter().flat_map(required).filter(|required| needs_sdn(required, version));
    required_privileges.collect()
}

/// Before 8 a bridge needs no privilege.
// PVE: qemu-server 8.0: check_bridge_access.
fn needs_sdn(required: &RequiredPrivilege, version: PveVersion) -> bool {
    required.privilege != Privilege::SdnUse || version.at_least(8, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_privilege_depends_on_the_version() {
        let of = |major| {
            let required_privileges =
                general_required_privileges(PveVersion::new(major, 0, 0), &Rights::default());
            assert!(
                required_privileges
                    .iter()
                    .all(|required| required.privilege.exists_in(PveVersion::new(major, 0, 0))
                        && !required.held)
            );
            required_privileges.iter().map(|required| required.privilege).collect::<BTreeSet<_>>()
        };
        assert!(of(8).contains(&Privilege::VmMonitor) && of(9).contains(&Privilege::VmGuestAgentAudit));
        assert!(!of(7).contains(&Privilege::SdnUse));
    }
}
