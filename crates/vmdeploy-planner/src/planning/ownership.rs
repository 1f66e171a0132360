//! Whether the steps of a VM touch volumes of others.

use super::input::{Findings, PlanInput};
use crate::plan::{Action, GuestRef, PlanMode, Step};
use crate::spec::{Desired, DiskContent, Span, Vm};
use crate::volumes::{self, DiskName, Touched, VolumeOwner, VolumeUse};
use pve_types::{GuestName, Vmid};
use std::collections::{BTreeMap, BTreeSet};

/// The disks that steps of this plan attach, each with its VM.
pub(crate) type Claimed = BTreeMap<DiskName, GuestName>;

/// The VM whose steps are judged.
pub(crate) struct Judged<'j> {
    pub(crate) guest: &'j GuestRef,
    /// The spec's VM; `None` for one that the spec no longer has.
    pub(crate) vm: Option<&'j Vm>,
}

/// Refuses steps that touch volumes of others, and records which disks they attach.
pub(crate) fn check(
    input: &PlanInput<'_>,
    findings: &mut Findings,
    claimed: &mut Claimed,
    judged: &Judged<'_>,
    steps: &[Step],
) {
    let vmid = judged.guest.vmid;
    let gone = gone_too(input);
    let config = input.observed.guests.get(&vmid).and_then(|guest| guest.config.as_ref());
    let mut now = config.map(crate::observed::ObservedConfig::after_restart).unwrap_or_default();
    let mut said = BTreeSet::new();
    for step in steps {
        for touched in volumes::touched(&step.action, &now, &input.volumes) {
            let owner = input.volumes.owner_of(&touched.disk, vmid);
            let mut why = owner.refusal(&gone).map(|why| named_in_spec(input, &owner, why));
            if why.is_none() && touched.how == VolumeUse::Attach {
                let other = claimed.insert(touched.disk.clone(), judged.guest.name.clone());
                let other = other.filter(|other| *other != judged.guest.name);
                why = other.map(|other| format!("`{other}` of this spec attaches it as well"));
            }
            if let Some(why) = why.filter(|_| said.insert(touched.disk.clone())) {
                refuse(input, findings, judged, &touched, &owner, &why);
            }
        }
        match step.action {
            Action::DeleteVm { .. } => now.clear(),
            ref action => volumes::after(action, &mut now),
        }
    }
}

/// Adds which VM of the spec the owner is.
fn named_in_spec(input: &PlanInput<'_>, owner: &VolumeOwner, why: String) -> String {
    let VolumeOwner::Guest { vmid, .. } = owner else { return why };
    match input.guests.values().any(|resolved| resolved.guest.vmid == *vmid && resolved.current.is_some()) {
        true => format!("{why} (a VM of this spec)"),
        false => why,
    }
}

fn refuse(
    input: &PlanInput<'_>,
    findings: &mut Findings,
    judged: &Judged<'_>,
    touched: &Touched,
    owner: &VolumeOwner,
    why: &str,
) {
    let Judged { guest, vm } = judged;
    let Touched { slot, disk, how } = touched;
    let desired = slot.as_ref().zip(*vm).and_then(|(slot, vm)| vm.disks.get(&slot.parse().ok()?));
    let set = desired.and_then(Desired::set);
    let span = match set.map(|disk| &disk.content) {
        Some(DiskContent::Volume(volume)) => volume.span,
        _ => set.map(|disk| disk.span).or(vm.map(|vm| vm.name.span)).unwrap_or_else(Span::default),
    };
    let path = match slot {
        Some(slot) => format!("vms.{}.disks.{slot}", guest.name),
        None => format!("vms.{}", guest.name),
    };
    let at = slot.as_ref().map(|slot| format!(" (`{slot}`)")).unwrap_or_default();
    let message = format!("`{}` would {} `{disk}`{at}, but {why}", guest.name, how.verb());
    findings.refuse(input.deployment, (span, path), message, hint(guest, touched, owner));
}

fn hint(guest: &GuestRef, touched: &Touched, owner: &VolumeOwner) -> String {
    match (owner, touched.how, &touched.slot) {
        (VolumeOwner::Base { clones }, ..) => {
            let clone = clones.first().map_or_else(|| "VMID".to_owned(), ToString::to_string);
            format!("destroy VM {clone} first, or move its disks: `qm disk move {clone} SLOT STORAGE`")
        }
        (_, VolumeUse::Attach, _) => {
            "a disk belongs to one VM: detach it there first, or write `storage:` and `size:` for a new disk"
                .to_owned()
        }
        (VolumeOwner::Unknown { .. }, ..) => {
            "use credentials that see every guest, or `transport: hybrid`, which reads the guests on the node"
                .to_owned()
        }
        (_, _, Some(slot)) => format!(
            "`qm set {} --delete {slot}` on {} detaches it from this VM and keeps the volume",
            guest.vmid, guest.node
        ),
        (_, _, None) => format!("check `qm config {}` on {}", guest.vmid, guest.node),
    }
}

/// Returns the guests that a destroying plan removes: linked clones go before what they lie upon.
fn gone_too(input: &PlanInput<'_>) -> BTreeSet<Vmid> {
    if input.context.mode != PlanMode::Destroy {
        return BTreeSet::new();
    }
    let going = input.guests.values().filter(|one| one.current.is_some() && input.is_target(&one.guest.name));
    going.map(|one| one.guest.vmid).collect()
}
