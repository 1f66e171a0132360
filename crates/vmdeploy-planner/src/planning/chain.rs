//! The steps of one VM, one after the other.

use super::transports::TransportWithWhy;
use crate::plan::{Action, GuestRef, Ref, Revert, Step, StepId};
use crate::timing;
use pve_types::{Bytes, GuestName};
use std::collections::BTreeSet;

/// A growing list of steps of which each waits for the one before.
pub(crate) struct Chain {
    vm: GuestName,
    last: BTreeSet<StepId>,
    pub(crate) steps: Vec<Step>,
}

/// A step to be.
pub(crate) struct Link {
    pub(crate) what: String,
    pub(crate) action: Action,
    pub(crate) transport: TransportWithWhy,
    pub(crate) revert: Revert,
    pub(crate) deadline_s: u64,
    /// How much is copied, for the estimate.
    pub(crate) copied: Bytes,
}

impl Link {
    /// Returns a step that copies nothing and leaves nothing that an earlier revert does not cover.
    pub(crate) fn new(
        what: impl Into<String>,
        action: Action,
        transport: TransportWithWhy,
        deadline_s: u64,
    ) -> Self {
        Self {
            what: what.into(),
            action,
            transport,
            revert: Revert::Nothing,
            deadline_s,
            copied: Bytes::new(0),
        }
    }
    /// Sets what reverts it.
    pub(crate) fn revert(mut self, action: Action) -> Self {
        self.revert = Revert::Run { action: Box::new(action) };
        self
    }
    /// Says why it cannot be rolled back.
    pub(crate) fn cannot_revert(mut self, why: &str) -> Self {
        self.revert = Revert::CannotRevert { why: why.to_owned() };
        self
    }
    /// Lets its revert free the volume that it gives.
    pub(crate) fn frees_its_volume(self, guest: &GuestRef, chain: &Chain) -> Self {
        let volume = output_of(&chain.id_of(&self.what));
        self.revert(Action::FreeVolume { node: guest.node.clone(), volume })
    }
    /// Says how much it copies.
    pub(crate) fn copies(mut self, copied: Bytes) -> Self {
        self.copied = copied;
        self
    }
    /// Returns the step, named for the VM, or shared (`-/what`).
    pub(crate) fn into_step(self, vm: Option<&GuestName>, after: BTreeSet<StepId>) -> Step {
        let id = vm.map_or_else(|| format!("-/{}", self.what), |vm| format!("{vm}/{}", self.what));
        let (transport, why) = self.transport;
        Step {
            id: StepId(id),
            vm: vm.cloned(),
            estimate_ms: timing::estimate_ms(&timing::MEASURED, &self.action, transport, self.copied),
            action: self.action,
            transport,
            why,
            after,
            follows: BTreeSet::new(),
            revert: self.revert,
            deadline_s: self.deadline_s,
        }
    }
}

impl Chain {
    /// Starts an empty chain.
    pub(crate) fn new(vm: &GuestName) -> Self {
        Self { vm: vm.clone(), last: BTreeSet::new(), steps: Vec::new() }
    }
    /// Tells whether a step of it makes the VM.
    pub(crate) fn makes_guest(&self) -> bool {
        self.steps.iter().any(|step| step.action.made_guest().is_some())
    }
    fn id_of(&self, what: &str) -> StepId {
        StepId(format!("{}/{what}", self.vm))
    }
    /// Lets the next step wait for these, too.
    pub(crate) fn wait_for(&mut self, steps: impl IntoIterator<Item = StepId>) {
        self.last.extend(steps);
    }
    /// Lets the step that makes the VM wait for everything shared that a later one needs: where there is no room, or
    /// an image is not what it should be, no VM is begun.
    pub(crate) fn wait_for_shared_first(&mut self) {
        let makes = |step: &Step| step.action.made_guest().is_some();
        let Some(at) = self.steps.iter().position(makes) else { return };
        let mut shared = BTreeSet::new();
        for step in &mut self.steps[at..] {
            let own = std::mem::take(&mut step.after);
            let (of_all, of_vm) = own.into_iter().partition(|id: &StepId| id.0.starts_with("-/"));
            step.after = of_vm;
            shared.extend::<BTreeSet<StepId>>(of_all);
        }
        self.steps[at].after.extend(shared);
    }
    /// Orders everything that can fail independently of the VM before it is destroyed for a replacement: what is shared (images,
    /// room), and snippets.
    pub(crate) fn remove_last_of_all(&mut self) {
        let is_snippet = |step: &Step| matches!(step.action, Action::PlaceSnippet { .. });
        let (mut ordered, rest): (Vec<Step>, Vec<Step>) = self.steps.drain(..).partition(is_snippet);
        ordered.extend(rest);
        let own: BTreeSet<StepId> = ordered.iter().map(|step| step.id.clone()).collect();
        let mut shared = BTreeSet::new();
        let mut before: Option<StepId> = None;
        for step in &mut ordered {
            let others = std::mem::take(&mut step.after).into_iter().filter(|id| !own.contains(id));
            let (of_all, of_others): (BTreeSet<StepId>, BTreeSet<StepId>) =
                others.partition(|id| id.0.starts_with("-/"));
            shared.extend(of_all);
            shared.extend(of_others);
            step.after.extend(before.replace(step.id.clone()));
        }
        if let Some(first) = ordered.first_mut() {
            first.after.extend(shared);
        }
        self.steps = ordered;
    }
    /// Lets a rollback leave the VM that is made: it takes disks over that must survive.
    pub(crate) fn never_revert_creation(&mut self) {
        for step in &mut self.steps {
            if matches!(step.action, Action::CreateVm { .. } | Action::CloneVm { .. }) {
                step.revert = Revert::CannotRevert { why: "it has or gets disks that are kept".to_owned() };
            }
        }
    }
    /// Appends a step, which waits for the last one.
    pub(crate) fn push(&mut self, link: Link) -> StepId {
        let step = link.into_step(Some(&self.vm), std::mem::take(&mut self.last));
        let id = step.id.clone();
        self.last.insert(id.clone());
        self.steps.push(step);
        id
    }
}

/// Returns the action that reverts making the guest.
pub(crate) fn delete_guest(guest: &GuestRef) -> Action {
    Action::DeleteVm { guest: guest.clone(), stop: true }
}

/// Returns the value that a step will give.
pub(crate) fn output_of<T>(step: &StepId) -> Ref<T> {
    Ref::OutputOf(step.clone())
}
