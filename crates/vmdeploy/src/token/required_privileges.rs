//! What the credentials are needed for: a privilege on a path, and the steps that need it. Pure.

use crate::local_files;
use pve_types::{Privilege, PveVersion, Vmid};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_planner::observed::{Observed, ObservedGuest, Rights};
use vmdeploy_planner::plan::{PlanContext, PlanMode, Step};
use vmdeploy_planner::rights::{Need, needs_of_steps};
use vmdeploy_planner::spec::{Deployment, Diagnostic, VmidWish};
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
    /// Whether it is allowed, by itself or by an alternative.
    pub held: bool,
    /// What would do as well, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub or: Option<String>,
}

/// What a deployment needs, as far as it can be told.
#[derive(Debug)]
pub struct Judged {
    /// What its steps need.
    pub required_privileges: Vec<RequiredPrivilege>,
    /// Why the plan of today is refused, where it is.
    pub refused: Vec<Diagnostic>,
    /// What no step could be written for, so that nobody knows what it needs.
    pub unjudged: Vec<Diagnostic>,
}

/// Returns what creating, changing and destroying the deployment's VMs needs.
///
/// That a number is taken or an image is missing does not change which rights are needed: both are looked past.
pub fn spec_required_privileges(
    deployment: &Deployment,
    observed: &Observed,
    context: &PlanContext<'_>,
    rights: &Rights,
) -> Judged {
    let empty = with_every_image(&as_if_new(deployment, observed));
    let mut needs = BTreeMap::new();
    let local_files = local_files::stand_ins(deployment);
    let fresh = PlanContext { observed: &empty, mode: PlanMode::Deploy, local_files, ..context.clone() };
    let Draft { steps, refused: unjudged, .. } = draft_plan(deployment, &fresh);
    collect(&steps, &empty, &mut needs);
    let of_today = |mode| draft_plan(deployment, &PlanContext { observed, mode, ..context.clone() });
    let (deploy, destroy) = (of_today(PlanMode::Deploy), of_today(PlanMode::Destroy));
    collect(&deploy.steps, observed, &mut needs);
    collect(&destroy.steps, observed, &mut needs);
    Judged { required_privileges: required_privileges(needs, rights), refused: deploy.refused, unjudged }
}

/// Returns the observation as if every image were where the spec says.
fn with_every_image(observed: &Observed) -> Observed {
    let mut world = observed.clone();
    world.images.retain(|seen| seen.present);
    world.listings.clear();
    world
}

/// Returns the observation as if none of the deployment's VMs were there yet, and nobody had their numbers.
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

type Needs = BTreeMap<Need, BTreeSet<String>>;

fn collect(steps: &[Step], observed: &Observed, needs: &mut Needs) {
    for (need, steps) in needs_of_steps(steps, observed) {
        needs.entry(need).or_default().extend(steps.iter().map(ToString::to_string));
    }
}

fn required_privileges(needs: Needs, rights: &Rights) -> Vec<RequiredPrivilege> {
    let mut required_privileges: BTreeMap<(String, Privilege), RequiredPrivilege> = BTreeMap::new();
    for (need, steps) in needs {
        let met = need.is_met(rights);
        let alternatives: Vec<String> = need.any.iter().skip(1).map(|grants| words(grants)).collect();
        for grant in need.any.first().into_iter().flatten() {
            let required =
                required_privileges.entry((grant.path.clone(), grant.privilege)).or_insert_with(|| {
                    RequiredPrivilege {
                        privilege: grant.privilege,
                        path: grant.path.clone(),
                        needed_by: BTreeSet::new(),
                        held: true,
                        or: None,
                    }
                });
            required.held &= met || rights.holds(grant.privilege, &grant.path);
            required.needed_by.extend(steps.iter().cloned());
            required.or =
                required.or.take().or_else(|| (!alternatives.is_empty()).then(|| alternatives.join(", or ")));
        }
    }
    required_privileges.into_values().collect()
}

fn words(grants: &[vmdeploy_planner::rights::Grant]) -> String {
    grants.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// Returns what deployments need as a rule, for credentials that no spec is named for.
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
        ("/vms", &[agent], "ask the guest agent for addresses"),
        ("/storage", &[P::DatastoreAllocateSpace], "make disks"),
        ("/storage", &[P::DatastoreAudit], "see storages and what is free on them"),
        ("/sdn/zones", &[P::SdnUse], "plug NICs into bridges and VNets"),
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
