//! What must hold after a run: nothing of others changed, every volume is accounted for, and the report says what
//! there is.

use super::world::{GuestState, HOLDER, OURS, State, volume_in};
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_executor::{Outcome, RunReport, RunResult, StepState, VmReport, VmState};
use vmdeploy_planner::plan::{Action, MoveAction, Plan, Verb};

/// What is known besides the state of the cluster.
#[derive(Debug, Default)]
pub struct Known {
    /// Volumes that runs made which did not come to a good end: later runs may remove them.
    pub of_failed_runs: BTreeSet<String>,
    /// The volumes of disks that survive their VM, once a run that is done made them so.
    pub kept: BTreeSet<String>,
}

/// Compares what others have: `expected` is what there was before the run, with what people did since.
pub fn others_are_untouched(expected: &State, now: &State) -> Result<(), String> {
    for (vmid, guest) in expected.guests.iter().filter(|(_, guest)| !guest.is_ours) {
        let Some(there) = now.guests.get(vmid) else {
            return Err(format!("the foreign guest {vmid} is gone"));
        };
        let may_gain = |key: &str| *vmid == HOLDER && key.starts_with("unused");
        for key in guest.values.keys().chain(there.values.keys()) {
            let (before, after) = (guest.values.get(key), there.values.get(key));
            if before != after && !(before.is_none() && may_gain(key)) {
                return Err(format!("{key} of the foreign guest {vmid} was {before:?} and is {after:?}"));
            }
        }
        if guest.is_running != there.is_running {
            return Err(format!("the foreign guest {vmid} was started or stopped"));
        }
        for volume in guest.volumes() {
            if expected.volumes.get(&volume) != now.volumes.get(&volume) {
                return Err(format!(
                    "volume {volume} of the foreign guest {vmid} changed: {:?}",
                    now.volumes.get(&volume)
                ));
            }
        }
    }
    let is_new = |(vmid, guest): &(&u32, &GuestState)| !guest.is_ours && !expected.guests.contains_key(vmid);
    match now.guests.iter().find(is_new) {
        Some((vmid, _)) => Err(format!("the guest {vmid} was made, and is not marked as ours")),
        None => Ok(()),
    }
}

/// Tells whether the plan says that the volume goes: with its guest, or because its disk is moved.
fn is_planned(plan: &Plan, volume: &str, expected: &State) -> bool {
    plan.steps.iter().any(|step| match &step.action {
        Action::DeleteVm { guest, .. } => {
            let named = expected.guests.get(&guest.vmid.get()).map(GuestState::volumes).unwrap_or_default();
            named.contains(volume) || volume.contains(&format!("vm-{}-", guest.vmid))
        }
        Action::MoveDisk(MoveAction { volume: moved, .. }) => moved.as_str() == volume,
        // PVE renames it for the holder.
        Action::ReassignDisk { volume: kept, .. } => kept.as_str() == volume,
        Action::ConvertToTemplate { guest } => volume.contains(&format!("vm-{}-", guest.vmid)),
        Action::FreeVolume { volume: vmdeploy_planner::plan::Ref::Known(freed), .. } => {
            freed.as_str() == volume
        }
        _ => false,
    })
}

/// No volume is gone that the plan does not say goes.
pub fn nothing_is_lost(plan: &Plan, known: &Known, expected: &State, now: &State) -> Result<(), String> {
    let gone = expected.volumes.keys().filter(|volume| !now.volumes.contains_key(*volume));
    for volume in gone {
        let is_cloud_init = volume.contains("cloudinit");
        if !is_cloud_init && !known.of_failed_runs.contains(volume) && !is_planned(plan, volume, expected) {
            return Err(format!("volume {volume} is gone, and the plan does not say so"));
        }
    }
    for volume in known.kept.iter().filter(|volume| expected.volumes.contains_key(*volume)) {
        let is_moved = plan.steps.iter().any(|step| match &step.action {
            Action::ReassignDisk { volume: kept, .. } | Action::MoveDisk(MoveAction { volume: kept, .. }) => {
                kept.as_str() == volume
            }
            _ => false,
        });
        if !now.volumes.contains_key(volume) && !is_moved {
            return Err(format!("the kept volume {volume} is gone"));
        }
    }
    Ok(())
}

/// Every volume that no guest names was there like that before, or is mentioned in what was said.
pub fn all_is_accounted_for(expected: &State, now: &State, said: &str) -> Result<(), String> {
    let before = expected.unnamed();
    match now.unnamed().into_iter().find(|volume| !before.contains(volume) && !said.contains(volume.as_str()))
    {
        Some(volume) => Err(format!("no guest names volume {volume}, and nothing is said of it")),
        None => Ok(()),
    }
}

/// No guest names a volume that is not there, but for what was so before.
pub fn no_name_is_dangling(expected: &State, now: &State) -> Result<(), String> {
    for (vmid, guest) in &now.guests {
        for (key, value) in &guest.values {
            let Some(volume) = volume_in(key, value).filter(|volume| !now.volumes.contains_key(volume))
            else {
                continue;
            };
            let was_so = expected.guests.get(vmid).is_some_and(|guest| guest.volumes().contains(&volume))
                && !expected.volumes.contains_key(&volume);
            if !was_so {
                return Err(format!("{key} of {vmid} names volume {volume}, which is not there"));
            }
        }
    }
    Ok(())
}

/// What the report says of each VM and of the whole run is so.
pub fn the_report_is_true(
    plan: &Plan,
    report: &RunReport,
    expected: &State,
    now: &State,
) -> Result<(), String> {
    for vm in &report.vms {
        of_vm(plan, report, vm, expected, now)
            .map_err(|what| format!("{} is {:?} ({:?}): {what}", vm.vm, vm.state, vm.verb))?;
    }
    let is_clean = |vm: &VmReport| {
        matches!(vm.state, VmState::Untouched | VmState::RolledBack)
            || (vm.state == VmState::Done && vm.verb == Verb::NoOp)
    };
    let is_done = |vm: &VmReport| vm.state == VmState::Done;
    let all = |is_such: &dyn Fn(&VmReport) -> bool| report.vms.iter().all(is_such);
    match report.result {
        RunResult::Done if !all(&is_done) => return Err("it is done, and not all VMs are".to_owned()),
        RunResult::RolledBack => {
            for vmid in OURS {
                let difference = expected.difference(now, vmid);
                if !difference.is_empty() {
                    return Err(format!("nothing is said to remain, and of {vmid} {difference}"));
                }
            }
            if expected.files != now.files {
                return Err(format!("nothing is said to remain, and there are {:?}", now.files));
            }
        }
        RunResult::Left | RunResult::PartlyDone
            if all(&is_clean) && report.left.is_empty() && !places(report) =>
        {
            return Err(format!("{:?}, and every VM is as it was", report.result));
        }
        _ => {}
    }
    let has_failed = report.steps.iter().any(|step| step.failure.is_some());
    match report.result {
        RunResult::Done => Ok(()),
        RunResult::Unfinished => Ok(()),
        // A run that had done nothing when it was told to take everything back.
        RunResult::RolledBack if all(&is_clean) => Ok(()),
        // What was interrupted, and cannot be reverted, may have taken effect.
        RunResult::Left if report.vms.iter().any(|vm| !vm.remains.is_empty()) => Ok(()),
        _ if has_failed || report.vms.iter().any(|vm| vm.state == VmState::RolledBack) => Ok(()),
        _ => Err(format!("{:?} without a failure", report.result)),
    }
}

/// Tells whether something for all VMs was done that stays, such as an image that was placed.
fn places(report: &RunReport) -> bool {
    let is_made = |step: &vmdeploy_executor::StepReport| {
        step.state == StepState::Succeeded
            && step.outcome.as_ref().is_some_and(|outcome| *outcome != Outcome::AlreadyDone)
    };
    report.steps.iter().any(|step| step.vm.is_none() && is_made(step))
}

fn of_vm(
    plan: &Plan,
    report: &RunReport,
    vm: &VmReport,
    expected: &State,
    now: &State,
) -> Result<(), String> {
    let vmid = vm.vmid.get();
    let is_there = now.guests.get(&vmid).is_some_and(|guest| guest.is_ours);
    match vm.state {
        VmState::Done if vm.verb == Verb::Delete && is_there => Err("it is there".to_owned()),
        // A person may have taken it away since.
        VmState::Done if vm.verb != Verb::Delete && !is_there && expected_there(vm, expected) => {
            Err("it is not there".to_owned())
        }
        VmState::NotReady if !is_there => Err("it is not there".to_owned()),
        VmState::Untouched | VmState::RolledBack => unchanged(expected, now, vmid),
        VmState::Failed | VmState::Unfinished if vm.remains.is_empty() => unchanged(expected, now, vmid),
        VmState::Failed if report.result == RunResult::RolledBack => unchanged(expected, now, vmid),
        VmState::Done if vm.verb == Verb::NoOp && !plan_touches(plan, vm) => unchanged(expected, now, vmid),
        _ => Ok(()),
    }
}

fn expected_there(vm: &VmReport, expected: &State) -> bool {
    let before = expected.guests.get(&vm.vmid.get());
    before.map_or(vm.verb == Verb::Create, |guest| guest.is_ours)
}

fn plan_touches(plan: &Plan, vm: &VmReport) -> bool {
    plan.steps.iter().any(|step| step.vm.as_ref() == Some(&vm.vm))
}

fn unchanged(expected: &State, now: &State, vmid: u32) -> Result<(), String> {
    let difference = expected.difference(now, vmid);
    if difference.is_empty() { Ok(()) } else { Err(difference) }
}

/// Returns the volumes of disks that survive, of guests of ours as their markers say.
pub fn kept_volumes(now: &State) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    for (vmid, guest) in now.guests.iter().filter(|(_, guest)| guest.is_ours) {
        let description = guest.values.get("description").map(String::as_str).unwrap_or_default();
        let kept =
            description.split_whitespace().filter_map(|word| word.strip_prefix("keep:")?.split_once('='));
        for (slot, _) in kept {
            let volume = guest.values.get(slot).and_then(|value| volume_in(slot, value));
            found.extend(volume.map(|volume| (volume, *vmid)));
        }
    }
    found
}
