//! Images that moved on: disks that were made from an image which is another one now.
//!
//! Such a disk works as before. Nothing is refused for it, and nothing is replaced unless the spec or the command line says
//! so in words.

use super::desired::is_ignored;
use super::input::{Current, Findings, PlanInput, reason};
use super::marker;
use crate::plan::{NoteTopic, OutdatedDisk, Reason};
use crate::spec::{Disk, DiskContent, Vm};
use pve_types::GuestName;

/// Returns the disks of a guest whose image has changed, in the order of their slots.
pub(crate) fn outdated_disks(input: &PlanInput<'_>, vm: &Vm, current: &Current<'_>) -> Vec<OutdatedDisk> {
    let disks = vm.disks.values().filter_map(|desired| desired.set());
    disks.filter_map(|disk| outdated(input, vm, current, disk)).collect()
}

fn outdated(input: &PlanInput<'_>, vm: &Vm, current: &Current<'_>, disk: &Disk) -> Option<OutdatedDisk> {
    let DiskContent::Image(image) = &disk.content else { return None };
    let (slot, marker) = (disk.slot.to_string(), current.marker.as_ref()?);
    current.effective(&slot)?;
    if is_ignored(vm, &format!("disks.{slot}.image")) {
        return None;
    }
    let of_source = || Some((marker.sources.get(&slot)?.clone(), marker::image_digest(input, disk)?));
    let of_content =
        || Some((marker::remembered_content(marker, &slot)?.clone(), marker::content_digest(input, disk)?));
    let changed = |pair: &(String, String)| pair.0 != pair.1;
    let (made_from, now) = of_source().filter(changed).or_else(|| of_content().filter(changed))?;
    Some(OutdatedDisk { slot, image: image.value.clone(), made_from, now })
}

/// Returns a disk's image as the reason of a replacement.
pub(crate) fn reason_of(disk: &OutdatedDisk) -> Reason {
    let path = format!("disks.{}.image", disk.slot);
    let from = format!("{} with digest {}", disk.image, disk.made_from);
    let mut why = reason(path, Some(from), Some(disk.now.clone()));
    why.note = Some("the image has changed since".to_owned());
    why
}

/// Notes that a VM stays as it is although its image has changed.
pub(crate) fn note(findings: &mut Findings, vm: &GuestName, disks: &[OutdatedDisk]) {
    for OutdatedDisk { slot, image, .. } in disks {
        let text = format!(
            "outdated: image `{image}` has changed since {slot} was made from it; the disk stays as it is"
        );
        let hint = format!(
            "`--replace {vm}` remakes the VM; `lifecycle: {{replace: on-image-change}}` does so for every change"
        );
        findings.note_about(NoteTopic::Outdated, vm, text, Some(&hint));
    }
}
