//! The plan: what will be done, in which order, by which transport, and how it would be rolled back.
//!
//! A plan is data. It is printed before anything happens, it is all that `apply` needs, and it holds no secret:
//! only [`SecretRef`]s, which are resolved when the step that needs one is dispatched.

mod action;
mod id;
mod rollout;
mod step;

pub use crate::ha::{DesiredHa, ha_place};
pub use action::{
    Action, CloneAction, Compression, Condition, ConfigPatch, DiskSource, GuestRef, ImageOrigin,
    ImportAction, IpFamily, MoveAction, PatchValue, Ref, SecretForm, SecretRef, Slot, Unpack,
};
pub use id::StepId;
pub use rollout::{PlannedRollout, RolloutFailure};
pub use step::{OnFailure, Revert, Step, Transport, TransportChoice};

use crate::observed::{ClusterIdentity, Observed};
use pve_config::{Bus, NewVolume};
use pve_types::{Bytes, GuestName, NodeName, PveVersion, Vmid};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The version of the plan's serialized form.
pub const PLAN_FORMAT_VERSION: u32 = 1;

/// Everything one run will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`PLAN_FORMAT_VERSION`] of the program that wrote it.
    pub format_version: u32,
    /// Names this run; it is part of the ownership marker that created guests carry.
    pub run_id: String,
    /// The project that the spec names.
    pub project: String,
    /// The cluster, as the spec names it (`default` when it names none).
    pub cluster: String,
    /// Which cluster was asked, and is changed; a stored plan is carried out on no other.
    #[serde(default)]
    pub answered_by: Option<ClusterIdentity>,
    /// The version of PVE the plan was made for.
    pub pve_version: PveVersion,
    /// What the spec or `--transport` asked for.
    pub transport: TransportChoice,
    /// SHA-256 of the merged spec, in hexadecimal.
    pub spec_digest: String,
    /// SHA-256 of the parts of the observation that the plan rests on, in hexadecimal.
    pub observed_digest: String,
    /// One entry per VM that was considered, those with nothing to do included, in the spec's order.
    pub changes: Vec<Change>,
    /// The steps, in an order that respects `after`.
    pub steps: Vec<Step>,
    /// How work that interrupts existing VMs is spread over time; the steps' `after` and `follows` hold it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollouts: Vec<PlannedRollout>,
    /// What is worth saying before it is done: pending changes, foreign guests in the way, missing locks.
    pub notes: Vec<Note>,
    /// The rights, space and places that these steps need, and whether they are there.
    pub checks: Vec<Check>,
    /// How many steps may run at once.
    pub limits: Limits,
}

impl Plan {
    /// Tells whether the plan has nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
    /// Returns the step with this identifier.
    pub fn step(&self, id: &StepId) -> Option<&Step> {
        self.steps.iter().find(|step| step.id == *id)
    }
    /// Returns the steps by the VM that they work for, each list in the plan's order; shared ones stand under `None`.
    pub fn steps_by_vm(&self) -> BTreeMap<Option<&GuestName>, Vec<&Step>> {
        let mut by_vm: BTreeMap<Option<&GuestName>, Vec<&Step>> = BTreeMap::new();
        for step in &self.steps {
            by_vm.entry(step.vm.as_ref()).or_default().push(step);
        }
        by_vm
    }
    /// Returns the checks that stand in the way of carrying the plan out.
    pub fn refusals(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.outcome == CheckOutcome::Refused)
    }
}

/// What happens to one VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The VM's name in the spec.
    pub vm: GuestName,
    /// The group that it is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The guest that it is or will be.
    pub guest: GuestRef,
    /// What is done to it.
    pub verb: Verb,
    /// Why, one entry per difference.
    pub reasons: Vec<Reason>,
    /// What follows when one of its steps fails.
    pub on_failure: OnFailure,
    /// The disks whose image has changed since they were made from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outdated: Vec<OutdatedDisk>,
    /// The addresses that its NICs have from address pools, by slot.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pool_addresses: BTreeMap<Slot, std::net::Ipv4Addr>,
    /// The owner that the guest's marker names before the run, where that is not the plan's project and the VM's name:
    /// the VM is renamed or moved in place. `None` for every other VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formerly: Option<Owner>,
}

/// A disk that was made from an image which is another one now. It works as before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutdatedDisk {
    /// Its slot.
    pub slot: Slot,
    /// The image's name in the spec.
    pub image: String,
    /// The digest of the image that it was made from, as the ownership marker remembers it.
    pub made_from: String,
    /// The digest of the image as it is now.
    pub now: String,
}

/// A VM as an ownership marker names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The project.
    pub project: String,
    /// The VM's name in the spec.
    pub name: GuestName,
}

/// The closed set of things that can happen to a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// It was considered, and is as the spec says.
    NoOp,
    /// It does not exist and is made.
    Create,
    /// It is changed in place.
    Update,
    /// It is changed in place, but some of it takes effect only when the guest is restarted.
    UpdatePending,
    /// It is destroyed and recreated; only if the spec or the command line allows it explicitly.
    Replace,
    /// It is destroyed.
    Delete,
}

impl Verb {
    /// Returns the sign that stands before the VM in a printed plan.
    pub fn sign(self) -> &'static str {
        match self {
            Self::NoOp => "=",
            Self::Create => "+",
            Self::Update | Self::UpdatePending => "~",
            Self::Replace => "-/+",
            Self::Delete => "-",
        }
    }
}

/// One difference between the current and the desired state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Where in the VM's spec, e.g. `disks.scsi0.size` or `memory`.
    pub path: String,
    /// What it is now, printable; `None` where there is nothing.
    pub from: Option<String>,
    /// The desired value, printable; `None` if it is removed. A secret is shown as `<secret>`.
    pub to: Option<String>,
    /// A sentence fragment, where the values do not speak for themselves.
    pub note: Option<String>,
}

/// Something the plan's reader should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The VM it concerns, or `None` for the whole plan.
    pub vm: Option<GuestName>,
    /// One sentence, without a final period.
    pub text: String,
    /// What to do about it, if anything.
    pub hint: Option<String>,
    /// What it is about, for those who show only some notes.
    #[serde(default, skip_serializing_if = "NoteTopic::is_general")]
    pub topic: NoteTopic,
}

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteTopic {
    /// Anything else.
    #[default]
    General,
    /// Changes of a running guest that wait for its restart.
    Restart,
    /// Disks whose image has changed since they were made from it.
    Outdated,
}

impl NoteTopic {
    fn is_general(&self) -> bool {
        *self == Self::General
    }
}

/// One thing that the steps need of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What is needed, e.g. `VM.Allocate on /vms/201` or `60GiB free on local-lvm at pve1`.
    pub need: String,
    /// The steps that need it.
    pub needed_by: Vec<StepId>,
    /// Whether it is there.
    pub outcome: CheckOutcome,
    /// What is there instead, and what to do.
    pub detail: Option<String>,
    /// Whether the missing thing is a right (exit code 7) rather than a state of the cluster (exit code 4).
    pub is_right: bool,
}

/// Whether something needed is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// It is there.
    Passed,
    /// It could not be found out; the plan may be carried out.
    Unknown,
    /// It is missing; the plan is not carried out.
    Refused,
}

/// How many steps may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Maximum parallel steps per node, for SSH and for the API separately.
    pub per_node: u32,
    /// Steps that copy data to one storage.
    pub per_storage: u32,
    /// Clones of one source.
    pub per_source: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_node: 4, per_storage: 2, per_source: 1 }
    }
}

/// A plan that may be carried out: its graph is sound and nothing that it needs is known to be missing.
///
/// The only type that an executor takes; made by [`CheckedPlan::new`].
#[derive(Debug, Clone)]
pub struct CheckedPlan(Plan);

/// Why a plan may not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanRefusal {
    /// It was written by a program with another format.
    #[error("the plan has format {found}, but this version of vmdeploy reads format {PLAN_FORMAT_VERSION}")]
    Format {
        /// The format found.
        found: u32,
    },
    /// Its graph is not sound: a name is taken twice, missing, or a step would wait for itself.
    #[error("the steps of the plan are not in a valid order: {0}")]
    Graph(String),
    /// A new volume stands in it as a text. What a plan makes is judged before it is made, so it must be said.
    #[error("step `{step}` sets `{slot}` to a new volume as `text`; a plan writes it as `new_volume`")]
    VolumeAsText {
        /// The step.
        step: StepId,
        /// The slot.
        slot: String,
    },
    /// The cluster lacks something that the steps need.
    #[error("{} requirements of the plan are not met", .0.len())]
    Missing(Vec<Check>),
}

impl CheckedPlan {
    /// Checks the plan.
    ///
    /// # Errors
    /// See [`PlanRefusal`].
    pub fn new(plan: Plan) -> Result<Self, PlanRefusal> {
        if plan.format_version != PLAN_FORMAT_VERSION {
            return Err(PlanRefusal::Format { found: plan.format_version });
        }
        step::check_order(&plan.steps).map_err(PlanRefusal::Graph)?;
        if let Some((step, slot)) = plan.steps.iter().find_map(volume_as_text) {
            return Err(PlanRefusal::VolumeAsText { step: step.id.clone(), slot: slot.clone() });
        }
        let missing: Vec<Check> = plan.refusals().cloned().collect();
        if missing.is_empty() { Ok(Self(plan)) } else { Err(PlanRefusal::Missing(missing)) }
    }
    /// Returns the plan.
    pub fn plan(&self) -> &Plan {
        &self.0
    }
}

/// Returns a slot for which a step, or its revert, would make a volume without saying so.
fn volume_as_text(step: &Step) -> Option<(&Step, &String)> {
    let revert = match &step.revert {
        Revert::Run { action } => Some(&**action),
        Revert::Nothing | Revert::CannotRevert { .. } => None,
    };
    let is_such = |key: &str, value: &PatchValue| {
        matches!(value, PatchValue::Text(text)
            if Bus::of_key(key).is_some_and(Bus::holds_volume) && NewVolume::read(key, text).is_some())
    };
    [Some(&step.action), revert].into_iter().flatten().find_map(|action| {
        action.patch()?.set.iter().find(|(key, value)| is_such(key, value)).map(|(key, _)| (step, key))
    })
}

/// What a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlanMode {
    /// Create and update VMs to match the spec.
    #[default]
    Deploy,
    /// Destroy the spec's VMs.
    Destroy,
}

/// What is in a local file that the spec names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalFileFacts {
    /// Its public keys, one entry per line that is neither blank nor a comment.
    PublicKeys(Vec<String>),
    /// Its content's digest and length: a snippet or an image.
    Content {
        /// SHA-256, in hexadecimal.
        sha256: String,
        /// The length.
        size: Bytes,
        /// How it is compressed, for an image that is.
        compression: Option<Compression>,
    },
}

/// The inputs of planning in addition to the spec: everything that would otherwise be a clock, randomness or the environment.
///
/// Built with [`PlanContext::new`] and then changed field by field.
#[derive(Debug, Clone)]
pub struct PlanContext<'a> {
    /// The run's name, drawn by the caller: letters, digits and `-`.
    pub run_id: String,
    /// What was seen of the cluster.
    pub observed: &'a Observed,
    /// Deploy or destroy.
    pub mode: PlanMode,
    /// The cluster whose VMs are planned, where the spec names several.
    pub cluster: Option<String>,
    /// `--transport`, which overrides the spec's.
    pub transport: Option<TransportChoice>,
    /// The node to use where the spec names none (`PROXMOX_NODE`).
    pub default_node: Option<NodeName>,
    /// `--target`: the only VMs that are planned, by their names or those of groups; empty for all.
    pub targets: BTreeSet<GuestName>,
    /// `--prune=N`: the number of VMs that may be deleted because the spec no longer has them.
    pub prune: Option<usize>,
    /// `--replace`: the VMs, by their names or those of groups, that may be destroyed and remade.
    pub replace: BTreeSet<GuestName>,
    /// `--replace-outdated`: VMs whose image has changed are destroyed and remade.
    pub replace_outdated: bool,
    /// `--set-passwords`: passwords are set on VMs that exist already, too.
    pub set_passwords: bool,
    /// VMs whose creation an earlier run of the project began, and ended or was killed before it started them: they are
    /// started where the spec does not say that they stay stopped. Set by the caller that stores the runs.
    pub unfinished_creates: BTreeSet<GuestName>,
    /// The VMIDs that were drawn earlier, from `*.lock.yaml`.
    pub pins: BTreeMap<GuestName, Vmid>,
    /// What the caller found in the local files that [`crate::spec::Deployment::local_files`] names, by path.
    pub local_files: BTreeMap<String, LocalFileFacts>,
    /// The images with `build:` that were built of another source, command or environment than the spec has now.
    pub outdated_builds: BTreeSet<String>,
    /// Whether SSH to the nodes is configured; the `auto` transport goes without it where it is not.
    pub ssh_available: bool,
}

impl<'a> PlanContext<'a> {
    /// Returns the context of a plain `plan` of the whole spec.
    pub fn new(run_id: impl Into<String>, observed: &'a Observed) -> Self {
        Self {
            run_id: run_id.into(),
            observed,
            mode: PlanMode::Deploy,
            cluster: None,
            transport: None,
            default_node: None,
            targets: BTreeSet::new(),
            prune: None,
            replace: BTreeSet::new(),
            replace_outdated: false,
            set_passwords: false,
            unfinished_creates: BTreeSet::new(),
            pins: BTreeMap::new(),
            local_files: BTreeMap::new(),
            outdated_builds: BTreeSet::new(),
            ssh_available: true,
        }
    }
}
