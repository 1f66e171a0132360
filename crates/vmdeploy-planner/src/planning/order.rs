//! The order between VMs: `after`, and rollouts.
//!
//! Both only add edges between the steps of different VMs. All edges go from VMs that stand earlier in one order to VMs
//! that stand later, so that no cycle can come of them.

use super::chain::Chain;
use super::input::{Findings, PlanInput, Resolved};
use super::ready;
use crate::plan::{Action, Change, PlannedRollout, RolloutFailure, Step, StepId, Verb};
use crate::spec::{CloneSource, Rollout, Vm};
use pve_types::GuestName;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The steps of each VM.
pub(super) type StepsOf = BTreeMap<GuestName, Vec<Step>>;

/// Lets VMs wait for those that they come after, and returns the rollouts that the steps are bound to.
pub(super) fn arrange(
    input: &PlanInput<'_>,
    findings: &mut Findings,
    changes: &[Change],
    steps: &mut StepsOf,
) -> Vec<PlannedRollout> {
    let order = order(input);
    let verbs: BTreeMap<&GuestName, Verb> = changes.iter().map(|change| (&change.vm, change.verb)).collect();
    for vm in order.iter().filter_map(|name| input.guests.get(name)) {
        wait_for_earlier(input, findings, &verbs, steps, vm);
    }
    plan_rollouts(input, &order, &verbs, steps)
}

/// Lets a VM be destroyed only when those that come after it are gone.
pub(super) fn arrange_removal(input: &PlanInput<'_>, vms: &[&Vm], steps: &mut StepsOf) {
    for vm in vms {
        let Some(gone) = last(steps, &vm.name.value) else { continue };
        for earlier in earlier_vms(input, vm) {
            if let Some(step) = steps.get_mut(earlier).and_then(|steps| steps.first_mut()) {
                step.after.insert(gone.clone());
            }
        }
    }
}

/// Returns the VMs that a VM comes after.
fn earlier_vms<'p>(input: &'p PlanInput<'_>, vm: &Vm) -> BTreeSet<&'p GuestName> {
    vm.after
        .iter()
        .flat_map(|name| input.deployment.named(&name.value))
        .filter(|name| **name != vm.name.value)
        .collect()
}

fn last(steps: &StepsOf, vm: &GuestName) -> Option<StepId> {
    steps.get(vm).and_then(|steps| steps.last()).map(|step| step.id.clone())
}

/// Returns all VMs in an order in which each stands behind those that it comes after, or is cloned from; else in the
/// spec's order. The spec has no cycle: it would have been refused.
fn order(input: &PlanInput<'_>) -> Vec<GuestName> {
    let vms: Vec<&Vm> = input.deployment.vms.iter().filter(|vm| vm.cluster == input.cluster).collect();
    let place: BTreeMap<&GuestName, usize> =
        vms.iter().enumerate().map(|(place, vm)| (&vm.name.value, place)).collect();
    let mut behind: Vec<Vec<usize>> = vec![Vec::new(); vms.len()];
    let mut waits: Vec<usize> = vec![0; vms.len()];
    for (own, vm) in vms.iter().enumerate() {
        let mut before: BTreeSet<&GuestName> = earlier_vms(input, vm);
        if let Some(CloneSource::Vm(source)) = vm.clone.as_ref().map(|clone| &clone.from.value) {
            before.insert(source);
        }
        for earlier in before.into_iter().filter_map(|name| place.get(name)) {
            behind[*earlier].push(own);
            waits[own] += 1;
        }
    }
    let mut ready: BTreeSet<usize> = (0..vms.len()).filter(|place| waits[*place] == 0).collect();
    let mut order = Vec::with_capacity(vms.len());
    while let Some(next) = ready.pop_first() {
        order.push(vms[next].name.value.clone());
        for later in &behind[next] {
            waits[*later] -= 1;
            if waits[*later] == 0 {
                ready.insert(*later);
            }
        }
    }
    order
}

/// Tells whether a step stops a guest that may run.
fn interrupts(step: &Step) -> bool {
    matches!(
        step.action,
        Action::RebootVm { .. } | Action::ShutdownVm { .. } | Action::StopVm { .. } | Action::DeleteVm { .. }
    )
}

/// Returns the place of the first of a VM's steps that waits for VMs that come earlier: the first one of a VM that is
/// made, replaced or interrupted; the start of one that only starts; none of any other.
fn gate(verb: Verb, steps: &[Step]) -> Option<usize> {
    match verb {
        Verb::Create | Verb::Replace => (!steps.is_empty()).then_some(0),
        Verb::Update | Verb::UpdatePending if steps.iter().any(interrupts) => Some(0),
        Verb::Update | Verb::UpdatePending => {
            steps.iter().position(|step| matches!(step.action, Action::StartVm { .. }))
        }
        Verb::NoOp | Verb::Delete => None,
    }
}

fn wait_for_earlier(
    input: &PlanInput<'_>,
    findings: &mut Findings,
    verbs: &BTreeMap<&GuestName, Verb>,
    steps: &mut StepsOf,
    resolved: &Resolved<'_>,
) {
    let vm = resolved.vm;
    let Some(verb) = verbs.get(&vm.name.value) else { return };
    let gate = steps.get(&vm.name.value).and_then(|own| gate(*verb, own));
    let Some(gate) = gate.filter(|_| !vm.after.is_empty()) else { return };
    let mut before = BTreeSet::new();
    for name in &vm.after {
        for earlier in input.deployment.named(&name.value) {
            let Some(earlier) = input.guests.get(earlier) else { continue };
            if earlier.current.is_none() && !input.is_target(&earlier.vm.name.value) {
                let message = format!(
                    "`{}` comes after `{}`, which does not exist yet",
                    vm.name.value, earlier.vm.name.value
                );
                let hint = format!("add `--target {}`", earlier.vm.name.value);
                findings.refuse(input.deployment, (name.span, vm.path("after")), message, hint);
                continue;
            }
            before.extend(readiness(input, findings, steps, earlier, vm));
        }
    }
    if let Some(step) = steps.get_mut(&vm.name.value).and_then(|own| own.get_mut(gate)) {
        step.after.extend(before);
    }
}

/// Returns the step whose end says that a VM is ready. A VM that runs and is not touched is asked whether it is.
fn readiness(
    input: &PlanInput<'_>,
    findings: &mut Findings,
    steps: &mut StepsOf,
    earlier: &Resolved<'_>,
    later: &Vm,
) -> Option<StepId> {
    let name = &earlier.vm.name.value;
    let own = steps.entry(name.clone()).or_default();
    let starts = own.iter().any(|step| matches!(step.action, Action::StartVm { .. } | Action::Await { .. }));
    let stops = own.iter().any(interrupts);
    let runs = earlier.current.as_ref().is_some_and(|current| current.is_running());
    if runs && !starts && !stops {
        let mut chain = Chain::new(name);
        chain.wait_for(own.last().map(|step| step.id.clone()));
        ready::push_conditions(input, &mut chain, earlier.vm, &earlier.guest, earlier.current.as_ref());
        own.extend(chain.steps);
    }
    let is_down = earlier.current.is_some() && !runs && !starts && !earlier.vm.template;
    if is_down {
        let text = format!("it does not wait for {name}, which is stopped and stays so");
        findings.note(&later.name, text, Some("`lifecycle: {state: running}` would start that VM first"));
    }
    own.last().map(|step| step.id.clone())
}

/// Returns the rollouts, and binds the steps of each batch to the batch before it.
fn plan_rollouts(
    input: &PlanInput<'_>,
    order: &[GuestName],
    verbs: &BTreeMap<&GuestName, Verb>,
    steps: &mut StepsOf,
) -> Vec<PlannedRollout> {
    let mut scopes: Vec<(Option<&str>, Vec<GuestName>)> = Vec::new();
    for name in order {
        let Some(resolved) = input.guests.get(name).filter(|one| one.current.is_some()) else { continue };
        let is_changed = verbs.get(name).is_some_and(|verb| !matches!(verb, Verb::NoOp | Verb::Delete));
        if !is_changed || !steps.get(name).is_some_and(|own| own.iter().any(interrupts)) {
            continue;
        }
        let group = resolved.vm.group.as_deref();
        match scopes.iter_mut().find(|(known, _)| *known == group) {
            Some((_, members)) => members.push(name.clone()),
            None => scopes.push((group, vec![name.clone()])),
        }
    }
    let rollout = |(group, members): (Option<&str>, Vec<GuestName>)| {
        let planned = batches(input, group, members);
        bind(&planned, steps);
        planned
    };
    scopes.into_iter().filter(|(_, members)| members.len() > 1).map(rollout).collect()
}

fn batches(input: &PlanInput<'_>, group: Option<&str>, members: Vec<GuestName>) -> PlannedRollout {
    let of_group = group.and_then(|group| input.deployment.groups.get(group)).and_then(|group| group.rollout);
    let Rollout { max_unavailable, on_failure } = of_group.or(input.deployment.rollout).unwrap_or_default();
    let in_scope = |vm: &&Vm| vm.cluster == input.cluster && vm.group.as_deref() == group;
    let size = input.deployment.vms.iter().filter(in_scope).count();
    let at_once = max_unavailable.of(size);
    let mut rest: VecDeque<GuestName> = members.into();
    let mut batches = Vec::new();
    while !rest.is_empty() {
        batches.push(rest.drain(..at_once.min(rest.len())).collect());
    }
    PlannedRollout { group: group.map(str::to_owned), max_unavailable: at_once, on_failure, batches }
}

/// Lets each batch begin when the one before is ready. A batch that failed and is followed all the same is at its end
/// when all of it has ended.
fn bind(rollout: &PlannedRollout, steps: &mut StepsOf) {
    for pair in rollout.batches.windows(2) {
        let before: BTreeSet<StepId> = pair[0].iter().filter_map(|name| last(steps, name)).collect();
        for name in &pair[1] {
            let Some(first) = steps.get_mut(name).and_then(|own| own.first_mut()) else { continue };
            match rollout.on_failure {
                RolloutFailure::Stop => first.after.extend(before.iter().cloned()),
                RolloutFailure::Continue => first.follows.extend(before.iter().cloned()),
            }
        }
    }
}
