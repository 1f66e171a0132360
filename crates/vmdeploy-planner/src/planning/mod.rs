//! From a deployment and an observation to a plan.
//!
//! The stages: find each VM's guest (`resolve`), compare (`desired`, `existing_disks`, `marker`), write the steps (`create`,
//! `update`, `removal`), look what they need (`preflight`).

mod addresses;
mod allowed;
mod availability;
mod boot;
mod chain;
mod cloning;
mod create;
mod defaults;
mod desired;
mod disks;
mod existence;
mod existing_disks;
mod firmware;
mod hotplug;
mod images;
mod input;
mod keeping;
mod making;
mod mappings;
mod marker;
mod order;
mod outdated;
mod ownership;
mod pools;
mod preflight;
mod ready;
mod removal;
mod renames;
mod resolve;
mod room;
mod settings;
mod together;
mod transports;
mod update;

use crate::identity::{DEFAULT_CLUSTER, Marker, Owners};
use crate::observed::ObservedGuest;
use crate::plan::{
    Action, Change, GuestRef, Limits, Note, NoteTopic, OnFailure, OutdatedDisk, Owner, PLAN_FORMAT_VERSION,
    Plan, PlanContext, PlanMode, PlannedRollout, Step, StepId, Verb,
};
use crate::spec::{
    Deployment, Diagnostic, Disk, DiskContent, Image, PowerState, Replacement, Span, Vm, check_disk_version,
};
use chain::{Chain, Link};
use images::Shared;
use input::{Current, Findings, PlanInput, Resolved};
use keeping::Keeping;
use making::Making;
use pve_types::{GuestName, NodeName, StorageId, Vmid};
use removal::{Removal, losses, push_removal};
use std::collections::{BTreeMap, BTreeSet};
use transports::Shape;
use update::{ReplaceCause, ReplaceReason};

pub(crate) use images::store_queries;
pub(crate) use mappings::kinds_of;

/// Makes the plan that brings the cluster to what the spec says (or, to destroy, removes the spec's VMs).
///
/// A plan whose [`Plan::refusals`] are not empty must not be carried out: [`crate::plan::CheckedPlan`] sees to that.
///
/// # Errors
/// Everything that the spec asks for and that cannot be done, all at once, each at its place with the way out.
pub fn make_plan(deployment: &Deployment, context: &PlanContext<'_>) -> Result<Plan, Vec<Diagnostic>> {
    let with_addresses = pools::assigned(deployment, context)?;
    let deployment = with_addresses.as_ref().unwrap_or(deployment);
    let mut input = scene_of(deployment, context).map_err(|refused| vec![refused])?;
    let (owners, findings) = resolve_all(&mut input);
    planned(&input, &owners, findings).finish()
}

/// A plan that is maybe refused: to judge what it needs and how far VMs are from the spec, never to carry it out.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// What happens to those VMs that nothing is refused of.
    pub changes: Vec<Change>,
    /// The steps that could be written down.
    pub steps: Vec<Step>,
    /// What the spec asks for and cannot be done: its steps are not among them.
    pub refused: Vec<Diagnostic>,
}

/// Drafts the plan as [`make_plan`] makes it, and stops at nothing.
pub fn draft_plan(deployment: &Deployment, context: &PlanContext<'_>) -> Draft {
    let with_addresses = match pools::assigned(deployment, context) {
        Ok(with_addresses) => with_addresses,
        Err(refused) => return Draft { refused, ..Draft::default() },
    };
    let deployment = with_addresses.as_ref().unwrap_or(deployment);
    let mut input = match scene_of(deployment, context) {
        Ok(input) => input,
        Err(refused) => return Draft { refused: vec![refused], ..Draft::default() },
    };
    let (owners, findings) = resolve_all(&mut input);
    let mut planner = planned(&input, &owners, findings);
    let steps = planner.take_steps();
    let Findings { diagnostics, refused, .. } = planner.findings;
    planner.changes.retain(|change| !refused.contains(&change.vm));
    Draft { changes: planner.changes, steps, refused: diagnostics }
}

/// Plans to place an image where the spec's VMs need it, as if none of them were there; on `node` where no VM uses it.
///
/// What else a deployment would be refused for does not matter here. An image that is already on its node, or that no
/// VM uses while `node` is not said, needs no step.
///
/// # Errors
/// Why the image cannot be placed.
pub fn plan_push(
    deployment: &Deployment,
    context: &PlanContext<'_>,
    image: &Image,
    node: Option<&NodeName>,
) -> Result<Plan, Vec<Diagnostic>> {
    let with_addresses = pools::assigned(deployment, context)?;
    let deployment = with_addresses.as_ref().unwrap_or(deployment);
    let mut input = scene_of(deployment, context).map_err(|refused| vec![refused])?;
    let (owners, findings) = resolve_all(&mut input);
    let places = |step: &Step| match &step.action {
        Action::PlaceImage { image: placed, node, .. } if *placed == image.name => Some(node.clone()),
        _ => None,
    };
    let mut wholly = planned(&input, &owners, findings);
    let mut nodes: BTreeSet<NodeName> = wholly.take_steps().iter().filter_map(places).collect();
    if nodes.is_empty() {
        nodes.extend(node.cloned());
    }
    let mut findings = wholly.findings;
    findings.diagnostics.retain(|fault| fault.path == images::path_of(image));
    findings.notes.clear();
    let mut planner = Planner::new(&input, findings);
    for node in &nodes {
        images::ready(&input, &mut planner.shared, &mut planner.findings, image, node, Shape::Classic);
    }
    if !planner.findings.diagnostics.is_empty() {
        return Err(planner.findings.diagnostics);
    }
    let steps = planner.take_steps().into_iter().filter(|step| places(step).is_some()).collect();
    Ok(planner.into_plan(steps))
}

fn scene_of<'a>(
    deployment: &'a Deployment,
    context: &'a PlanContext<'a>,
) -> Result<PlanInput<'a>, Diagnostic> {
    let cluster = cluster_of(deployment, context)?;
    Ok(PlanInput::new(deployment, context, cluster))
}

/// Finds each VM's guest, and what is refused before any step is written.
fn resolve_all<'a>(input: &mut PlanInput<'a>) -> (Owners<'a>, Findings) {
    let mut findings = Findings::default();
    let vms = vms_of(input);
    check_targets(input, &vms, &mut findings);
    if input.context.mode == PlanMode::Deploy {
        for vm in &vms {
            let before = findings.refusals();
            let faults = check_disk_version(input.deployment, vm, input.transports.version);
            faults.into_iter().for_each(|fault| findings.take(fault));
            findings.refused_since(before, &vm.name);
        }
    }
    let owners = Owners::of(input.observed);
    resolve::resolve(input, &owners, &vms, &mut findings);
    if input.context.mode == PlanMode::Deploy {
        addresses::check(input, &owners, &mut findings);
    }
    (owners, findings)
}

fn planned<'p, 'a>(input: &'p PlanInput<'a>, owners: &Owners<'a>, findings: Findings) -> Planner<'p, 'a> {
    let mut planner = Planner::new(input, findings);
    let vms = vms_of(input);
    match input.context.mode {
        PlanMode::Deploy => planner.deploy(&vms, owners),
        PlanMode::Destroy => planner.destroy(&vms),
    }
    planner
}

fn vms_of<'a>(input: &PlanInput<'a>) -> Vec<&'a Vm> {
    input.deployment.vms.iter().filter(|vm| vm.cluster == input.cluster).collect()
}

/// Returns the cluster that is planned: the one that was asked for, or the only one of the spec.
pub(crate) fn cluster_of(deployment: &Deployment, context: &PlanContext<'_>) -> Result<String, Diagnostic> {
    let used: BTreeSet<&str> = deployment.vms.iter().map(|vm| vm.cluster.as_str()).collect();
    if let Some(cluster) = &context.cluster {
        return Ok(cluster.clone());
    }
    match used.iter().collect::<Vec<_>>()[..] {
        [] => Ok(deployment.clusters.keys().next().cloned().unwrap_or_else(|| "default".to_owned())),
        [only] => Ok((*only).to_owned()),
        _ => {
            let list = used.into_iter().collect::<Vec<_>>().join(", ");
            let message = format!("the spec has VMs on several clusters ({list}); a plan covers one cluster");
            Err(deployment
                .refusal(deployment.project.span, "clusters", message)
                .with_hint("select one with `--cluster NAME`"))
        }
    }
}

fn check_targets(input: &PlanInput<'_>, vms: &[&Vm], findings: &mut Findings) {
    let named = input.context.targets.iter().map(|name| ("--target", name));
    for (option, name) in named.chain(input.context.replace.iter().map(|name| ("--replace", name))) {
        let is_group = input.deployment.groups.contains_key(name.as_str());
        if !is_group && !vms.iter().any(|vm| vm.name.value == *name) {
            let at = (Span::default(), format!("vms.{name}"));
            let message = format!("`{option} {name}` names no VM or group of the spec");
            findings.refuse(input.deployment, at, message, "the names are the keys of `vms:` and `groups:`");
        }
    }
}

/// Under high availability its manager decides whether a guest runs: two desired that differ would fight for ever.
fn check_power_settings(deployment: &Deployment, vm: &Vm, findings: &mut Findings) {
    let (Some(ha), Some(state)) = (vm.ha.set(), &vm.lifecycle.state) else { return };
    let runs = ha.state.is_started();
    let fights = match state.value {
        PowerState::Running => ha.state.is_stopped(),
        PowerState::Stopped => runs,
        PowerState::Unmanaged => false,
    };
    if fights {
        let message = format!("this contradicts `ha: {}`", ha.state);
        let hint = "high availability controls whether the VM runs: remove `lifecycle.state`";
        findings.refuse(deployment, (state.span, vm.path("lifecycle.state")), message, hint);
    }
}

/// Tells whether the spec or the command line allows destroying and recreating the VM.
pub(crate) fn may_replace(input: &PlanInput<'_>, vm: &Vm) -> bool {
    vm.lifecycle.replace == Replacement::IfNeeded || input.replace.contains(&vm.name.value)
}

/// Tells whether the spec or the command line lets the VM be destroyed and remade because its image has changed.
pub(crate) fn may_replace_outdated(input: &PlanInput<'_>, vm: &Vm) -> bool {
    may_replace(input, vm)
        || vm.lifecycle.replace == Replacement::OnImageChange
        || input.context.replace_outdated
}

/// Refuses a clear password on the `ssh` transport, where it would stand on a command line.
pub(crate) fn wanted_password_by_ssh(input: &PlanInput<'_>, findings: &mut Findings, vm: &Vm) {
    let Some(password) = vm.cloud_init.as_ref().and_then(|cloud| cloud.password.as_ref()) else { return };
    if password.clear {
        let at = (password.source.span, vm.path("cloud_init.password"));
        let message =
            "an unhashed password can only be sent through the API, which the `ssh` transport does not use";
        findings.refuse(input.deployment, at, message, "use `transport: hybrid`, or remove `clear: true`");
    }
}

struct Planner<'p, 'a> {
    input: &'p PlanInput<'a>,
    shared: Shared,
    findings: Findings,
    changes: Vec<Change>,
    claimed: ownership::Claimed,
    /// The steps of each VM.
    steps: BTreeMap<GuestName, Vec<Step>>,
    rollouts: Vec<PlannedRollout>,
    /// The VMIDs of holders that this plan makes.
    holders: BTreeSet<Vmid>,
}

impl<'p, 'a> Planner<'p, 'a> {
    fn new(input: &'p PlanInput<'a>, findings: Findings) -> Self {
        let (changes, claimed, steps) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        let rollouts = Vec::new();
        Self {
            input,
            shared: Shared::default(),
            findings,
            changes,
            claimed,
            steps,
            rollouts,
            holders: BTreeSet::new(),
        }
    }

    /// Returns the VMs that `--target` leaves, with the guests that they are or will be.
    fn targets(&self, vms: &[&Vm]) -> Vec<&'p Resolved<'a>> {
        let desired = vms.iter().filter(|vm| self.input.is_target(&vm.name.value));
        desired.filter_map(|vm| self.input.guests.get(&vm.name.value)).collect()
    }

    fn deploy(&mut self, vms: &[&Vm], owners: &Owners<'a>) {
        let held = keeping::held_disks(&gone(self.input, owners));
        for resolved in self.targets(vms) {
            let before = self.findings.refusals();
            if resolved.current.is_none()
                && let Some(held) = held.get(&resolved.vm.name.value)
            {
                keeping::refuse_new(self.input, &mut self.findings, resolved.vm, held);
            }
            check_power_settings(self.input.deployment, resolved.vm, &mut self.findings);
            match &resolved.current {
                None => self.create(resolved),
                Some(current) => self.update(resolved, current),
            }
            self.findings.refused_since(before, &resolved.vm.name);
        }
        self.prune(owners);
    }

    fn create(&mut self, resolved: &Resolved<'a>) {
        let mut making = Making::new(self.input, &mut self.shared, &mut self.findings, resolved);
        making.make();
        let (steps, reasons) = (making.chain.steps, making.reasons);
        let on_failure = resolved.vm.lifecycle.on_failure.unwrap_or(OnFailure::RollbackIncomplete);
        self.add(resolved.guest.clone(), Verb::Create, reasons, on_failure, steps);
    }

    fn update(&mut self, resolved: &Resolved<'a>, current: &Current<'a>) {
        if self.input.replace.contains(&resolved.vm.name.value) {
            return self.replace_as_told(resolved, current);
        }
        let update = update::plan_update(self.input, &mut self.shared, &mut self.findings, resolved, current);
        if !update.replace.is_empty() && !may_replace(self.input, resolved.vm) {
            return self.refuse_replacement(resolved.vm, &update.replace);
        }
        let (outdated, why) = (update.outdated.clone(), update.why_replaced());
        if !why.is_empty() {
            return self.replace(resolved, current, why, outdated);
        }
        let on_failure = resolved.vm.lifecycle.on_failure.unwrap_or(OnFailure::Keep);
        self.add(resolved.guest.clone(), update.verb, update.reasons, on_failure, update.steps);
        self.note_outdated(outdated);
    }

    fn note_outdated(&mut self, outdated: Vec<OutdatedDisk>) {
        if let Some(change) = self.changes.last_mut() {
            change.outdated = outdated;
        }
    }

    /// Replaces a VM that `--replace` names, even where nothing has changed.
    fn replace_as_told(&mut self, resolved: &Resolved<'a>, current: &Current<'a>) {
        if current.marker.is_none() {
            let name = &resolved.vm.name;
            let message = format!(
                "`{}` is not managed yet: VM {} has no ownership marker",
                name.value, resolved.guest.vmid
            );
            let at = (name.span, resolved.vm.path(""));
            let hint = "deploy it without `--replace` first";
            return self.findings.refuse(self.input.deployment, at, message, hint);
        }
        // Changes in place are not made: they only say why.
        let (mut shared, mut findings) = (Shared::default(), Findings::default());
        let update = update::plan_update(self.input, &mut shared, &mut findings, resolved, current);
        let mut why = update.why_replaced();
        if why.is_empty() {
            let mut told = input::reason("(whole VM)", None, None);
            told.note = Some("`--replace` asks for it".to_owned());
            why.push(told);
        }
        self.replace(resolved, current, why, update.outdated);
    }

    fn replace(
        &mut self,
        resolved: &Resolved<'a>,
        current: &Current<'a>,
        why: Vec<crate::plan::Reason>,
        outdated: Vec<OutdatedDisk>,
    ) {
        let vm = resolved.vm;
        let guest = GuestRef { node: current.guest.node.clone(), ..resolved.guest.clone() };
        let Some(keeping) = Keeping::of(self.input, &mut self.findings, vm, &guest, current, &self.holders)
        else {
            return;
        };
        self.holders.extend(keeping.made.as_ref().map(|holder| holder.vmid));
        let holder = keeping.made.as_ref().map(|holder| holder.vmid);
        let removal = Removal { guest: &guest, current, vm: Some(vm), holder };
        let fresh = Resolved::new(vm, guest.clone(), None);
        let mut making = Making::new(self.input, &mut self.shared, &mut self.findings, &fresh);
        keeping.push_holder(self.input, &mut making.chain);
        push_removal(self.input, making.findings, &mut making.chain, &removal);
        making.keeping = keeping;
        making.make();
        let keeps = making.keeping.keeps_disks();
        making.chain.remove_last_of_all();
        if keeps {
            making.chain.never_revert_creation();
        }
        let (steps, made) = (making.chain.steps, making.reasons);
        let reasons = why.into_iter().chain(losses(&removal)).chain(made).collect();
        self.add(guest, Verb::Replace, reasons, OnFailure::Keep, steps);
        self.note_outdated(outdated);
    }

    fn refuse_replacement(&mut self, vm: &Vm, why: &[ReplaceReason]) {
        for ReplaceReason { cause, reason } in why {
            let name = &vm.name.value;
            let message = match cause {
                ReplaceCause::Template => {
                    format!("`{name}` is a template, which cannot become a VM again")
                }
                ReplaceCause::CloneSource => {
                    format!("`{name}` was cloned from another source, which cannot be changed afterwards")
                }
            };
            let span = vm.clone.as_ref().map_or(vm.name.span, |clone| clone.span);
            let hint = format!(
                "recreate the VM with `--replace {name}` (its disks are lost), or ignore the change: `lifecycle: {{ignore: [{}]}}`",
                reason.path
            );
            self.findings.refuse(self.input.deployment, (span, vm.path(&reason.path)), message, hint);
        }
    }

    fn prune(&mut self, owners: &Owners<'a>) {
        let mut gone = gone(self.input, owners);
        gone.sort_by_key(|(guest, _)| guest.vmid);
        let Some(allowed) = self.input.context.prune else {
            for (guest, marker) in &gone {
                let text = format!(
                    "VM {} belongs to this project but is not in the spec; it is left unchanged",
                    guest.vmid
                );
                let prune = format!(
                    "`--prune={}` deletes the {} VMs that are not in the spec",
                    gone.len(),
                    gone.len()
                );
                let is_new = |change: &&Change| change.verb == Verb::Create;
                let hint = match self.changes.iter().find(is_new) {
                    Some(made) => format!(
                        "{prune}; if it has a new name, such as `{}`, write `renamed_from: {}` there",
                        made.vm, marker.name
                    ),
                    None => prune,
                };
                self.findings.note(&marker.name, text, Some(&hint));
            }
            return;
        };
        if !self.input.context.targets.is_empty() {
            return self.refuse_prune(
                "`--prune` applies to the whole project and cannot be used with `--target`",
                "remove one of them",
            );
        }
        if allowed != gone.len() {
            let list: Vec<String> =
                gone.iter().map(|(guest, marker)| format!("{} ({})", marker.name, guest.vmid)).collect();
            let message = format!(
                "`--prune={allowed}` allows another number of deletions: {} VMs would be deleted: {}",
                gone.len(),
                list.join(", ")
            );
            return self.refuse_prune(&message, &format!("to delete them: `--prune={}`", gone.len()));
        }
        for (guest, marker) in gone {
            self.remove_pruned(guest, marker);
        }
    }

    fn refuse_prune(&mut self, message: &str, hint: &str) {
        let at = (Span::default(), "--prune".to_owned());
        self.findings.refuse(self.input.deployment, at, message, hint);
    }

    fn remove_pruned(&mut self, seen: &'a ObservedGuest, marker: &Marker) {
        let Some(config) = &seen.config else { return };
        let guest = GuestRef {
            name: marker.name.clone(),
            vmid: seen.vmid,
            node: seen.node.clone(),
            uuid: marker.expected_uuid(),
        };
        let current = Current { guest: seen, config, marker: Some(marker.clone()) };
        let mut chain = Chain::new(&guest.name);
        let removal = Removal { guest: &guest, current: &current, vm: None, holder: None };
        push_removal(self.input, &mut self.findings, &mut chain, &removal);
        let mut gone = input::reason("(whole VM)", None, None);
        gone.note = Some("it is not in the spec, and `--prune` allows its deletion".to_owned());
        let reasons = std::iter::once(gone).chain(losses(&removal)).collect();
        self.add(guest.clone(), Verb::Delete, reasons, OnFailure::Keep, chain.steps);
    }

    fn destroy(&mut self, vms: &[&Vm]) {
        for resolved in self.targets(vms) {
            let vm = resolved.vm;
            let Some(current) = resolved.current.as_ref().filter(|current| current.marker.is_some()) else {
                continue;
            };
            let before = self.findings.refusals();
            let mut chain = Chain::new(&vm.name);
            let removal = Removal { guest: &resolved.guest, current, vm: Some(vm), holder: None };
            push_removal(self.input, &mut self.findings, &mut chain, &removal);
            let reasons = losses(&removal);
            self.add(resolved.guest.clone(), Verb::Delete, reasons, OnFailure::Keep, chain.steps);
            self.findings.refused_since(before, &vm.name);
        }
        self.delete_clones_first(vms);
        order::arrange_removal(self.input, vms, &mut self.steps);
    }

    /// A template's disks cannot be freed while linked clones use them.
    fn delete_clones_first(&mut self, vms: &[&Vm]) {
        let last = |steps: &BTreeMap<GuestName, Vec<Step>>, name: &GuestName| -> Option<StepId> {
            steps.get(name).and_then(|steps| steps.last()).map(|step| step.id.clone())
        };
        for vm in vms {
            let Some(clone_gone) = last(&self.steps, &vm.name) else { continue };
            for ancestor in cloning::ancestors(self.input, vm) {
                if let Some(step) = self.steps.get_mut(ancestor).and_then(|steps| steps.last_mut()) {
                    step.after.insert(clone_gone.clone());
                }
            }
        }
    }

    fn add(
        &mut self,
        guest: GuestRef,
        verb: Verb,
        reasons: Vec<crate::plan::Reason>,
        on_failure: OnFailure,
        steps: Vec<Step>,
    ) {
        let vm = self.input.guests.get(&guest.name).map(|resolved| resolved.vm);
        let judged = ownership::Judged { guest: &guest, vm };
        ownership::check(self.input, &mut self.findings, &mut self.claimed, &judged, &steps);
        self.steps.insert(guest.name.clone(), steps);
        let current = self.input.guests.get(&guest.name).and_then(|resolved| resolved.current.as_ref());
        let marker = current.and_then(|current| current.marker.as_ref());
        let formerly = marker
            .filter(|marker| self.is_other_identity(marker, &guest.name))
            .map(|marker| Owner { project: marker.project.clone(), name: marker.name.clone() });
        let group = vm.and_then(|vm| vm.group.clone());
        let pool_addresses = vm.map(pools::drawn).unwrap_or_default();
        let vm = guest.name.clone();
        self.changes.push(Change {
            vm,
            group,
            guest,
            verb,
            reasons,
            on_failure,
            outdated: Vec::new(),
            pool_addresses,
            formerly,
        });
    }

    /// Tells whether a marker is that of a VM which was renamed or moved since.
    fn is_other_identity(&self, marker: &Marker, name: &GuestName) -> bool {
        marker.name != *name || marker.project != *self.input.deployment.project
    }

    fn finish(mut self) -> Result<Plan, Vec<Diagnostic>> {
        let steps = self.take_steps();
        if !self.findings.diagnostics.is_empty() {
            return Err(self.findings.diagnostics);
        }
        Ok(self.into_plan(steps))
    }

    fn into_plan(self, steps: Vec<Step>) -> Plan {
        let input = self.input;
        let mut notes = self.findings.notes;
        let mut checks = preflight::checks(input, &self.changes, &steps);
        checks.extend(room::checks(input, &self.shared.space, &mut notes));
        notes.extend(general_notes(input, &steps));
        let mut plan = Plan {
            format_version: PLAN_FORMAT_VERSION,
            run_id: input.context.run_id.clone(),
            project: input.deployment.project.value.clone(),
            cluster: input.cluster.clone(),
            answered_by: input.observed.answered_by.clone(),
            pve_version: input.transports.version,
            transport: input.transports.choice,
            spec_digest: input.deployment.digest.clone(),
            observed_digest: String::new(),
            changes: self.changes,
            steps,
            rollouts: self.rollouts,
            notes,
            checks,
            limits: limits(input),
        };
        plan.observed_digest = crate::verify::world_digest(&plan, input.observed);
        plan
    }

    /// Returns all steps in their order, each with the transport that it takes.
    fn take_steps(&mut self) -> Vec<Step> {
        self.add_probes();
        let (shared, mut by_vm) = (std::mem::take(&mut self.shared.steps), std::mem::take(&mut self.steps));
        cloning::follow_sources(&mut by_vm);
        if self.input.context.mode == PlanMode::Deploy {
            self.rollouts = order::arrange(self.input, &mut self.findings, &self.changes, &mut by_vm);
        }
        let mut steps = ordered(shared, by_vm, &self.changes);
        allowed::take_allowed(self.input, &mut steps);
        steps
    }

    /// Adds one look at the storages of each node that is written to.
    fn add_probes(&mut self) {
        for (node, needed) in &self.shared.space {
            let transport = self.input.transports.node_first(
                "one `pvesm status` covers all storages of the node",
                "one call covers all storages of the node",
            );
            let of_storage = |(storage, room): (&StorageId, &images::Room)| {
                (storage.clone(), room.needed(self.input.is_thin(node, storage)))
            };
            let needed = needed.iter().map(of_storage).collect();
            let action = Action::ProbeStorage { node: node.clone(), needed };
            let step =
                Link::new(images::probe_name(node), action, transport, 60).into_step(None, BTreeSet::new());
            self.shared.steps.insert(step.id.clone(), step);
        }
    }
}

/// Returns the project's guests that are no VM of the spec, under a new name neither.
pub(super) fn gone<'a, 'o>(
    input: &PlanInput<'a>,
    owners: &'o Owners<'a>,
) -> Vec<(&'a ObservedGuest, &'o Marker)> {
    let names: BTreeSet<&GuestName> = input.deployment.vms.iter().map(|vm| &vm.name.value).collect();
    let current = input.guests.values().filter_map(|resolved| resolved.current.as_ref());
    let known: BTreeSet<Vmid> = current.map(|current| current.guest.vmid).collect();
    let is_gone = |guest: &ObservedGuest, marker: &Marker| {
        // A guest that no `clusters:` was there for belongs to the cluster that it is seen on.
        (marker.cluster == input.cluster || marker.cluster == DEFAULT_CLUSTER)
            && marker.project == *input.deployment.project
            && !names.contains(&marker.name)
            && !known.contains(&guest.vmid)
    };
    owners.ours().filter(|(guest, marker)| is_gone(guest, marker)).collect()
}

/// Puts the steps into an order that respects `after`: shared ones first, then VM by VM, those that wait later.
/// Returns where the spec says what keeps a VM from being changed in place.
fn ordered(
    shared: BTreeMap<StepId, Step>,
    mut by_vm: BTreeMap<GuestName, Vec<Step>>,
    changes: &[Change],
) -> Vec<Step> {
    let mut steps: Vec<Step> = shared.into_values().collect();
    let mut done: BTreeSet<StepId> = steps.iter().map(|step| step.id.clone()).collect();
    let mut waiting: Vec<Vec<Step>> = changes.iter().filter_map(|change| by_vm.remove(&change.vm)).collect();
    loop {
        let before = steps.len();
        let mut later = Vec::new();
        for mut chain in waiting {
            let ready = chain
                .iter()
                .take_while(|step| {
                    let is_ready = step.after.iter().chain(&step.follows).all(|id| done.contains(id));
                    if is_ready {
                        done.insert(step.id.clone());
                    }
                    is_ready
                })
                .count();
            let rest = chain.split_off(ready);
            steps.extend(chain);
            if !rest.is_empty() {
                later.push(rest);
            }
        }
        // What still waits after a round without progress waits for itself; `CheckedPlan` refuses it by name.
        if later.is_empty() || steps.len() == before {
            steps.extend(later.into_iter().flatten());
            return steps;
        }
        waiting = later;
    }
}

fn limits(input: &PlanInput<'_>) -> Limits {
    let default = Limits::default();
    let Some(cluster) = input.deployment.clusters.get(&input.cluster) else { return default };
    let said = &cluster.limits;
    Limits {
        per_node: said.per_node.unwrap_or(default.per_node),
        per_storage: said.per_storage.unwrap_or(default.per_storage),
        per_source: said.per_source.unwrap_or(default.per_source),
    }
}

fn general_notes(input: &PlanInput<'_>, steps: &[Step]) -> Vec<Note> {
    let mut notes = Vec::new();
    if input.transports.choice == crate::plan::TransportChoice::Api && !steps.is_empty() {
        notes.push(Note {
            vm: None,
            topic: NoteTopic::General,
            text: "the `api` transport takes no lock on the cluster: a concurrent `vmdeploy` run is detected only by configuration digests".to_owned(),
            hint: Some("run one deployment at a time, or use `transport: hybrid`, which takes a lock on the node".to_owned()),
        });
    }
    let used = || {
        input
            .guests
            .values()
            .flat_map(|resolved| resolved.vm.disks.values().filter_map(|desired| desired.set()))
    };
    for image in &input.context.outdated_builds {
        let is_image =
            |disk: &Disk| matches!(&disk.content, DiskContent::Image(name) if name.value == *image);
        if input.context.mode == PlanMode::Deploy && used().any(is_image) {
            notes.push(Note {
                vm: None,
                topic: NoteTopic::General,
                text: format!(
                    "the source, command or environment of image `{image}` has changed since it was built"
                ),
                hint: Some(format!(
                    "`vmdeploy image build {image}` rebuilds it; until then the old image is used"
                )),
            });
        }
    }
    if input.context.cluster.is_none() && input.observed.quorate == Some(false) {
        notes.push(Note {
            vm: None,
            topic: NoteTopic::General,
            text: "the cluster has no quorum and refuses changes".to_owned(),
            hint: None,
        });
    }
    notes
}
