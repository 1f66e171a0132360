//! What the steps need of the cluster, and whether it is there: said before anything is done.

use super::existence;
use super::input::PlanInput;
use super::mappings;
use super::settings::check;
use crate::observed::{ObservedStorage, Rights};
use crate::plan::{
    Action, Change, Check, CheckOutcome, CloneAction, ImportAction, MoveAction, PatchValue, Step, StepId,
    Transport, Verb,
};
use crate::rights::{Need, bridge_path, needs_of_steps};
use pve_config::{Bus, PropertyString};
use pve_types::{BridgeName, NodeName, PoolId, Privilege, StorageId, VolumeId};
use std::collections::{BTreeMap, BTreeSet};

/// Returns every check of the plan, those of places first.
pub(crate) fn checks(input: &PlanInput<'_>, changes: &[Change], steps: &[Step]) -> Vec<Check> {
    let mut checks = nodes(input, steps);
    checks.extend(nodes_of_ha(input, steps));
    checks.extend(shells(input, steps));
    checks.extend(storages(input, steps));
    checks.extend(bridges(input, steps));
    checks.extend(mappings::checks(input, steps));
    checks.extend(pools(input, steps));
    checks.extend(existence::checks(input, steps));
    checks.extend(existence::cpu_models(input, steps));
    checks.extend(processors(input, steps));
    checks.extend(locks(input, changes, steps));
    checks.extend(hidden_guests(input, changes));
    checks.extend(rights(input, steps));
    checks
}

fn nodes(input: &PlanInput<'_>, steps: &[Step]) -> Vec<Check> {
    let mut by_node: BTreeMap<&NodeName, Vec<StepId>> = BTreeMap::new();
    for step in steps {
        by_node.entry(step.action.node()).or_default().push(step.id.clone());
    }
    let judged = by_node.into_iter().map(|(node, needed_by)| {
        let need = format!("node {node} online");
        match input.observed.nodes.get(node) {
            Some(seen) if seen.online => check(need, needed_by, CheckOutcome::Passed, None),
            Some(_) => {
                let detail = format!("{node} is offline; start it, or create the VMs on another node");
                check(need, needed_by, CheckOutcome::Refused, Some(detail))
            }
            None => {
                let known: Vec<&str> = input.observed.nodes.keys().map(NodeName::as_str).collect();
                let detail = format!("the cluster has no node {node}; its nodes are {}", known.join(", "));
                check(need, needed_by, CheckOutcome::Refused, Some(detail))
            }
        }
    });
    judged.collect()
}

/// High availability takes nodes of the cluster only.
// PVE: pve-ha-manager src/PVE/HA/Config.pm, src/PVE/HA/Rules/NodeAffinity.pm: each node is looked up in the cluster.
fn nodes_of_ha(input: &PlanInput<'_>, steps: &[Step]) -> Vec<Check> {
    let mut missing: BTreeMap<&NodeName, Vec<StepId>> = BTreeMap::new();
    for step in steps {
        let Action::SetHa { ha: Some(desired), .. } = &step.action else { continue };
        for node in desired.on_nodes.keys().filter(|node| !input.observed.nodes.contains_key(*node)) {
            missing.entry(node).or_default().push(step.id.clone());
        }
    }
    let known: Vec<&str> = input.observed.nodes.keys().map(NodeName::as_str).collect();
    let refused = missing.into_iter().map(|(node, needed_by)| {
        let detail =
            format!("the cluster has no node {node}; its nodes are {}; correct `on_nodes`", known.join(", "));
        check(format!("node {node} for high availability"), needed_by, CheckOutcome::Refused, Some(detail))
    });
    refused.collect()
}

/// Steps by SSH need SSH to be set up.
fn shells(input: &PlanInput<'_>, steps: &[Step]) -> Option<Check> {
    let needed_by: Vec<StepId> =
        steps.iter().filter(|step| step.transport == Transport::Ssh).map(|step| step.id.clone()).collect();
    if needed_by.is_empty() || input.transports.ssh_available {
        return None;
    }
    let detail =
        "SSH is not configured: set PROXMOX_SSH_KEY and PROXMOX_SSH_KNOWN_HOSTS, or use `transport: api`";
    Some(check("SSH to the nodes".to_owned(), needed_by, CheckOutcome::Refused, Some(detail.to_owned())))
}

/// Returns the storages that new volumes go to, by node, with the steps that make them.
fn targets(steps: &[Step]) -> BTreeMap<(NodeName, StorageId), Vec<StepId>> {
    let mut targets: BTreeMap<(NodeName, StorageId), Vec<StepId>> = BTreeMap::new();
    let mut add = |node: &NodeName, storage: &StorageId, step: &Step| {
        targets.entry((node.clone(), storage.clone())).or_default().push(step.id.clone());
    };
    for step in steps {
        let Some(guest) = step.action.guest() else { continue };
        match &step.action {
            Action::ImportDisk(ImportAction { storage, .. })
            | Action::MoveDisk(MoveAction { storage, .. }) => add(&guest.node, storage, step),
            Action::CloneVm(CloneAction { storage: Some(storage), .. }) => add(&guest.node, storage, step),
            Action::CreateVm { config: patch, .. } | Action::SetConfig { patch, .. } => {
                patch
                    .set
                    .values()
                    .filter_map(PatchValue::allocates_on)
                    .for_each(|storage| add(&guest.node, storage, step));
            }
            _ => {}
        }
    }
    targets
}

fn storages(input: &PlanInput<'_>, steps: &[Step]) -> Vec<Check> {
    let mut checks = Vec::new();
    for ((node, storage), needed_by) in targets(steps) {
        checks.push(takes(input, &node, &storage, ("images", "disk images"), needed_by));
    }
    for ((node, volume), needed_by) in placed(steps) {
        let content = volume.name().split('/').next().unwrap_or_default();
        let what = if content == "snippets" { "snippets" } else { "uploaded images" };
        checks.push(takes(input, node, volume.storage(), (content, what), needed_by));
    }
    checks
}

/// Returns the first volume that is placed on each storage as each kind of content, with the steps that place one.
fn placed(steps: &[Step]) -> impl Iterator<Item = ((&NodeName, &VolumeId), Vec<StepId>)> {
    let mut all: BTreeMap<(&NodeName, &StorageId, &str), (&VolumeId, Vec<StepId>)> = BTreeMap::new();
    for step in steps {
        let (Action::PlaceImage { node, volume, .. } | Action::PlaceSnippet { node, volume, .. }) =
            &step.action
        else {
            continue;
        };
        let content = volume.name().split('/').next().unwrap_or_default();
        let entry = all.entry((node, volume.storage(), content)).or_insert_with(|| (volume, Vec::new()));
        entry.1.push(step.id.clone());
    }
    all.into_iter().map(|((node, ..), (volume, steps))| ((node, volume), steps))
}

fn takes(
    input: &PlanInput<'_>,
    node: &NodeName,
    storage: &StorageId,
    (content, what): (&str, &str),
    needed_by: Vec<StepId>,
) -> Check {
    let need = format!("storage {storage} at {node}, active, for {what}");
    let refused = |detail: String| (CheckOutcome::Refused, Some(detail));
    let (outcome, detail) = match input.storage(node, storage) {
        None if input.observed.storages.iter().any(|seen| seen.node == *node) => refused(format!(
            "{node} has no storage {storage}, or these credentials do not see it; visible storages are {}",
            names(input, node)
        )),
        None => (CheckOutcome::Unknown, Some(format!("the storages of {node} could not be read"))),
        Some(seen) if !seen.enabled => {
            refused(format!("it is disabled; `pvesm set {storage} --disable 0` enables it"))
        }
        Some(seen) if !seen.content.contains(content) => refused(format!(
            "it allows {} content only; `pvesm set {storage} --content …,{content}` changes that",
            seen.content.iter().cloned().collect::<Vec<_>>().join(", ")
        )),
        Some(ObservedStorage { active: Some(false), .. }) => {
            refused("it is not active; check `pvesm status`".to_owned())
        }
        Some(ObservedStorage { active: None, .. }) => {
            (CheckOutcome::Unknown, Some("its status is not known".to_owned()))
        }
        Some(_) => (CheckOutcome::Passed, None),
    };
    check(need, needed_by, outcome, detail)
}

fn names(input: &PlanInput<'_>, node: &NodeName) -> String {
    let of_node = input.observed.storages.iter().filter(|seen| seen.node == *node);
    let names: BTreeSet<&str> = of_node.map(|seen| seen.storage.as_str()).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn bridges(input: &PlanInput<'_>, steps: &[Step]) -> Vec<Check> {
    let mut desired: BTreeMap<(NodeName, BridgeName), Vec<StepId>> = BTreeMap::new();
    for step in steps {
        let (Action::CreateVm { guest, config: patch, .. } | Action::SetConfig { guest, patch, .. }) =
            &step.action
        else {
            continue;
        };
        for (key, value) in &patch.set {
            let PatchValue::Text(text) = value else { continue };
            if Bus::of_key(key) != Some(Bus::Net) {
                continue;
            }
            let bridge =
                PropertyString::parse(key, text).ok().and_then(|nic| nic.get("bridge")?.parse().ok());
            let Some(bridge) = bridge else { continue };
            desired.entry((guest.node.clone(), bridge)).or_default().push(step.id.clone());
        }
    }
    let judged = desired.into_iter().map(|((node, bridge), needed_by)| {
        let need = format!("bridge {bridge} at {node}");
        let known = input.observed.nodes.get(&node).and_then(|seen| seen.bridges.as_ref());
        match known {
            None => check(
                need,
                needed_by,
                CheckOutcome::Unknown,
                Some("the node's bridges could not be read".to_owned()),
            ),
            Some(known) if known.contains(&bridge) => check(need, needed_by, CheckOutcome::Passed, None),
            Some(_) if is_hidden(input, &bridge) => {
                let detail = "these credentials do not see it; SDN.Use on it is needed".to_owned();
                check(need, needed_by, CheckOutcome::Unknown, Some(detail))
            }
            Some(known) => {
                let list: Vec<&str> = known.iter().map(BridgeName::as_str).collect();
                let detail =
                    format!("{node} has {}; correct `bridge:`, or create the bridge", list.join(", "));
                check(need, needed_by, CheckOutcome::Refused, Some(detail))
            }
        }
    });
    judged.collect()
}

/// Tells whether a bridge may be there that the credentials do not see.
// PVE: pve-manager PVE/API2/Network.pm index: bridges that one may use or look at; enforced since 8.0.
fn is_hidden(input: &PlanInput<'_>, bridge: &BridgeName) -> bool {
    let path = bridge_path(bridge.as_str(), input.observed);
    let hides = |rights: &Rights| {
        !rights.is_root
            && ![Privilege::SdnUse, Privilege::SdnAudit].iter().any(|right| rights.holds(*right, &path))
    };
    input.observed.version.at_least(8, 0) && input.observed.rights.as_ref().is_some_and(hides)
}

fn pools(input: &PlanInput<'_>, steps: &[Step]) -> Vec<Check> {
    let mut desired: BTreeMap<&PoolId, Vec<StepId>> = BTreeMap::new();
    for step in steps {
        let pool = match &step.action {
            Action::CreateVm { pool, .. }
            | Action::CloneVm(CloneAction { pool, .. })
            | Action::SetPool { pool, .. } => pool,
            _ => continue,
        };
        if let Some(pool) = pool {
            desired.entry(pool).or_default().push(step.id.clone());
        }
    }
    let judged = desired.into_iter().map(|(pool, needed_by)| {
        let need = format!("pool {pool}");
        let path = format!("/pool/{pool}");
        let sees = |rights: &Rights| {
            rights.holds(Privilege::PoolAudit, &path) || rights.holds(Privilege::PoolAllocate, &path)
        };
        if input.observed.pools.contains(pool) {
            check(need, needed_by, CheckOutcome::Passed, None)
        } else if input.observed.rights.as_ref().is_some_and(sees) {
            let detail = format!("no such pool; `pvesh create /pools --poolid {pool}` creates it");
            check(need, needed_by, CheckOutcome::Refused, Some(detail))
        } else {
            let detail = "these credentials do not see it; Pool.Audit is needed".to_owned();
            check(need, needed_by, CheckOutcome::Unknown, Some(detail))
        }
    });
    judged.collect()
}

/// A guest with more processors than its node does not start.
// PVE: qemu-server src/PVE/QemuServer.pm config_to_command: `MAX n vcpus allowed per VM on this node`.
fn processors(input: &PlanInput<'_>, steps: &[Step]) -> Vec<Check> {
    let mut checks = Vec::new();
    for step in steps {
        let Action::CreateVm { guest, config, .. } = &step.action else { continue };
        let number = |key: &str| match config.set.get(key) {
            Some(PatchValue::Text(text)) => text.parse::<u32>().ok(),
            _ => None,
        };
        let desired = number("vcpus")
            .unwrap_or(number("cores").unwrap_or(1).saturating_mul(number("sockets").unwrap_or(1)));
        let Some(there) = input.observed.nodes.get(&guest.node).and_then(|seen| seen.cpus) else { continue };
        if desired > there {
            let need = format!("{desired} CPUs at {}", guest.node);
            let detail = format!("the node has {there}, and a VM with more does not start; reduce `cores`");
            checks.push(check(need, vec![step.id.clone()], CheckOutcome::Refused, Some(detail)));
        }
    }
    checks
}

/// Without the right to see all guests a VMID that looks free may be taken.
fn hidden_guests(input: &PlanInput<'_>, changes: &[Change]) -> Option<Check> {
    let rights = input.observed.rights.as_ref()?;
    let creates = changes.iter().any(|change| change.verb == Verb::Create);
    if !creates || rights.sees_every_guest() {
        return None;
    }
    let need = "VM.Audit on /vms, to see every guest".to_owned();
    let detail =
        "these credentials may not see all guests, so a VMID that looks free may be in use".to_owned();
    Some(check(need, Vec::new(), CheckOutcome::Unknown, Some(detail)))
}

fn locks(input: &PlanInput<'_>, changes: &[Change], steps: &[Step]) -> Vec<Check> {
    let locked = changes.iter().filter(|change| change.verb != Verb::NoOp && change.verb != Verb::Create);
    let judged = locked.filter_map(|change| {
        let config = input.observed.guests.get(&change.guest.vmid)?.config.as_ref()?;
        let lock = config.lock.as_ref()?;
        let needed_by = steps
            .iter()
            .filter(|step| step.vm.as_ref() == Some(&change.vm))
            .map(|step| step.id.clone())
            .collect();
        let need = format!("VM {} unlocked", change.guest.vmid);
        let lock = lock.escape_debug();
        let detail = format!(
            "it is locked ({lock}); wait until the task ends, or, if no task runs, run `qm unlock {}` on {}",
            change.guest.vmid, change.guest.node
        );
        Some(check(need, needed_by, CheckOutcome::Refused, Some(detail)))
    });
    judged.collect()
}

fn rights(input: &PlanInput<'_>, steps: &[Step]) -> Vec<Check> {
    let needs: BTreeMap<Need, Vec<StepId>> = needs_of_steps(steps, input.observed);
    let judged = needs.into_iter().map(|(need, needed_by)| {
        let (outcome, detail) = match &input.observed.rights {
            None => (
                CheckOutcome::Unknown,
                Some("the privileges of the credentials could not be read".to_owned()),
            ),
            Some(rights) if need.is_met(rights) => (CheckOutcome::Passed, None),
            Some(rights) => {
                let missing: Vec<String> = need.missing(rights).iter().map(ToString::to_string).collect();
                let detail = format!(
                    "`{}` has not {}; `vmdeploy fix-token` shows the command that grants it",
                    rights.user.escape_debug(),
                    missing.join(" and ")
                );
                (CheckOutcome::Refused, Some(detail))
            }
        };
        Check { need: need.to_string(), needed_by, outcome, detail, is_right: true }
    });
    let (refused, others): (Vec<Check>, Vec<Check>) =
        judged.partition(|check| check.outcome == CheckOutcome::Refused);
    others.into_iter().chain(grouped(refused, input, steps)).collect()
}

/// One check for each privilege that is missing, however many VMs or storages lack it.
fn grouped(refused: Vec<Check>, input: &PlanInput<'_>, steps: &[Step]) -> Vec<Check> {
    let Some(rights) = input.observed.rights.as_ref().filter(|_| !refused.is_empty()) else { return refused };
    let mut missing: BTreeMap<(Privilege, String), (BTreeSet<String>, BTreeSet<StepId>)> = BTreeMap::new();
    for (need, needed_by) in needs_of_steps(steps, input.observed) {
        if need.is_met(rights) {
            continue;
        }
        for grant in need.missing(rights) {
            let kind = grant.path.rsplit_once('/').map_or("", |(above, _)| above).to_owned();
            let (paths, by) = missing.entry((grant.privilege, kind)).or_default();
            paths.insert(grant.path.clone());
            by.extend(needed_by.iter().cloned());
        }
    }
    let user = rights.user.escape_debug();
    let one = |((privilege, _), (paths, by)): ((Privilege, String), (BTreeSet<String>, BTreeSet<StepId>))| {
        let need = format!("{privilege} on {}", listed(&paths));
        let detail =
            format!("`{user}` has not {need}; `vmdeploy fix-token` shows the command that grants it");
        Check {
            need,
            needed_by: by.into_iter().collect(),
            outcome: CheckOutcome::Refused,
            detail: Some(detail),
            is_right: true,
        }
    };
    missing.into_iter().map(one).collect()
}

/// `/vms/401`, `/vms/401 and /vms/402`, `/vms/401 and 5 more`.
fn listed(paths: &BTreeSet<String>) -> String {
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    match paths.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [one, two] => format!("{one} and {two}"),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}
