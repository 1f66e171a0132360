//! Everything that planning one cluster's VMs looks at.

use super::transports::Transports;
use crate::identity::Marker;
use crate::observed::{Observed, ObservedConfig, ObservedGuest, ObservedStorage};
use crate::plan::{GuestRef, Note, NoteTopic, PlanContext, Reason};
use crate::spec::{Deployment, Diagnostic, Span, Vm};
use crate::volumes::VolumeUsers;
use pve_types::{GuestName, NodeName, StorageId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The spec, the observation and the choices made once for the whole plan.
pub(crate) struct PlanInput<'a> {
    pub(crate) deployment: &'a Deployment,
    pub(crate) context: &'a PlanContext<'a>,
    pub(crate) observed: &'a Observed,
    pub(crate) cluster: String,
    pub(crate) transports: Transports,
    pub(crate) guests: BTreeMap<GuestName, Resolved<'a>>,
    /// The VMs that `--target` names, the members of groups included; empty for all.
    pub(crate) targets: BTreeSet<GuestName>,
    /// The VMs that `--replace` names, the members of groups included.
    pub(crate) replace: BTreeSet<GuestName>,
    /// Whose each volume is.
    pub(crate) volumes: VolumeUsers<'a>,
    storages: HashMap<(&'a NodeName, &'a StorageId), &'a ObservedStorage>,
}

/// A VM of the spec with the guest that it is, or will be.
pub(crate) struct Resolved<'a> {
    pub(crate) vm: &'a Vm,
    pub(crate) guest: GuestRef,
    pub(crate) current: Option<Current<'a>>,
    /// What a clone of it begins with, once that was asked for.
    pub(crate) as_source: std::cell::OnceCell<BTreeMap<String, String>>,
}

impl<'a> Resolved<'a> {
    /// Returns a VM with its guest.
    pub(crate) fn new(vm: &'a Vm, guest: GuestRef, current: Option<Current<'a>>) -> Self {
        Self { vm, guest, current, as_source: std::cell::OnceCell::new() }
    }
}

/// A guest of ours as it is.
#[derive(Clone)]
pub(crate) struct Current<'a> {
    pub(crate) guest: &'a ObservedGuest,
    pub(crate) config: &'a ObservedConfig,
    /// `None` for a guest that this plan adopts.
    pub(crate) marker: Option<Marker>,
}

impl Current<'_> {
    /// Returns a key's value as it will be after the next restart.
    pub(crate) fn effective(&self, key: &str) -> Option<&str> {
        match self.config.pending.get(key) {
            Some(pending) => pending.as_deref(),
            None => self.config.values.get(key).map(String::as_str),
        }
    }
    /// Returns the configuration as it will be after the next restart.
    pub(crate) fn effective_config(&self) -> BTreeMap<String, String> {
        self.config.after_restart()
    }
    /// Tells whether it runs.
    pub(crate) fn is_running(&self) -> bool {
        self.guest.status.is_on()
    }
}

impl<'a> PlanInput<'a> {
    /// Builds the input, still without guests.
    pub(crate) fn new(deployment: &'a Deployment, context: &'a PlanContext<'a>, cluster: String) -> Self {
        let observed = context.observed;
        let storages = observed.storages.iter().map(|seen| ((&seen.node, &seen.storage), seen)).collect();
        let transports = Transports::new(deployment, context);
        let volumes = VolumeUsers::of(observed);
        Self {
            deployment,
            context,
            observed,
            cluster,
            transports,
            guests: BTreeMap::new(),
            targets: members_of(deployment, &context.targets),
            replace: members_of(deployment, &context.replace),
            volumes,
            storages,
        }
    }
    /// Tells whether the VM is one of those that `--target` leaves.
    pub(crate) fn is_target(&self, name: &GuestName) -> bool {
        self.targets.is_empty() || self.targets.contains(name)
    }
    /// Returns a storage as the node sees it.
    pub(crate) fn storage(&self, node: &NodeName, storage: &StorageId) -> Option<&'a ObservedStorage> {
        self.storages.get(&(node, storage)).copied()
    }
    /// Returns the first storage (by name) of the node that takes this content and works.
    pub(crate) fn storage_for(&self, node: &NodeName, content: &str) -> Option<&'a ObservedStorage> {
        let fits = |seen: &&ObservedStorage| {
            seen.node == *node && seen.enabled && seen.active != Some(false) && seen.content.contains(content)
        };
        self.observed.storages.iter().filter(fits).min_by(|a, b| a.storage.cmp(&b.storage))
    }
    /// Tells whether the storage sets nothing aside for what is not written; one that is not known does.
    pub(crate) fn is_thin(&self, node: &NodeName, storage: &StorageId) -> bool {
        self.storage(node, storage).is_some_and(ObservedStorage::is_thin)
    }
    /// Tells whether all nodes see the same on this storage.
    pub(crate) fn is_shared(&self, node: &NodeName, storage: &StorageId) -> bool {
        self.storage(node, storage).is_some_and(|seen| seen.shared)
    }
}

/// Returns the VMs that these names of VMs and groups stand for. A name without VMs stays, so that it selects none.
fn members_of(deployment: &Deployment, names: &BTreeSet<GuestName>) -> BTreeSet<GuestName> {
    let members = |name: &GuestName| match deployment.named(name)[..] {
        [] => vec![name.clone()],
        ref members => members.iter().map(|member| (*member).clone()).collect(),
    };
    names.iter().flat_map(members).collect()
}

/// What planning finds out on its way.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) notes: Vec<Note>,
    /// The VMs that something is refused of.
    pub(crate) refused: BTreeSet<GuestName>,
    /// How often something was refused, be it said already or not.
    refusals: usize,
}

impl Findings {
    /// Records that the spec asks for something that cannot be done, with the way out; once, however many VMs ask.
    pub(crate) fn refuse(
        &mut self,
        deployment: &Deployment,
        at: (Span, String),
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.take(deployment.refusal(at.0, at.1, message).with_hint(hint));
    }
    /// Records a refusal, as [`Self::refuse`] does.
    pub(crate) fn take(&mut self, refusal: Diagnostic) {
        self.refusals += 1;
        if !self.diagnostics.contains(&refusal) {
            self.diagnostics.push(refusal);
        }
    }
    /// Returns how often something was refused.
    pub(crate) fn refusals(&self) -> usize {
        self.refusals
    }
    /// Records that the VM is refused, if anything was since there were so many refusals.
    pub(crate) fn refused_since(&mut self, refusals: usize, vm: &GuestName) {
        if self.refusals > refusals {
            self.refused.insert(vm.clone());
        }
    }
    /// Records something worth saying about a VM.
    pub(crate) fn note(&mut self, vm: &GuestName, text: impl Into<String>, hint: Option<&str>) {
        self.note_about(NoteTopic::General, vm, text, hint);
    }
    /// Records something worth saying about a VM, with what it is about.
    pub(crate) fn note_about(
        &mut self,
        topic: NoteTopic,
        vm: &GuestName,
        text: impl Into<String>,
        hint: Option<&str>,
    ) {
        let hint = hint.map(str::to_owned);
        self.notes.push(Note { vm: Some(vm.clone()), text: text.into(), hint, topic });
    }
}

/// Returns a difference without a note.
pub(crate) fn reason(path: impl Into<String>, from: Option<String>, to: Option<String>) -> Reason {
    Reason { path: path.into(), from, to, note: None }
}
