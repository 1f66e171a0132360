//! What a guest's configuration must be by the journal of this run, compared with what it is: what differs, another run
//! or a person has changed since. Pure.

use crate::journal::{RunHistory, StepHistory};
use crate::{Outcome, StepState};
use pve_config::{Bus, Drive, PropertyString};
use pve_types::{Vmid, VolumeId};
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_planner::plan::{
    Action, ConfigPatch, ImportAction, MoveAction, PatchValue, Plan, Ref, Revert, Step,
};

/// Keys that PVE sets, and those whose value it hides.
const OF_PVE: [&str; 8] =
    ["digest", "meta", "vmgenid", "lock", "cipassword", "vmstate", "runningmachine", "runningcpu"];
/// Keys that PVE sets when it makes a guest, where the request does not.
const OF_CREATION: [&str; 3] = ["boot", "smbios1", "machine"];

/// What a key must hold.
#[derive(Debug, Clone, PartialEq)]
enum Expected {
    /// This value; fields that the run did not name are PVE's.
    Is(String),
    /// Exactly this, as it was before the run changed the guest.
    Was(String),
    /// A volume of the guest's own.
    OwnVolume,
    /// This volume.
    Holds(VolumeId),
    /// Nothing.
    Absent,
    /// Anything: a step whose end is not known writes it.
    Any,
}

/// Returns what another run or a person has changed in the guest since this run, in words; empty where nothing is known
/// of how the run left it.
pub(super) fn changes_of_others(
    plan: &Plan,
    history: &RunHistory,
    vmid: Vmid,
    now: &BTreeMap<String, String>,
) -> Vec<String> {
    let Some(expected) = expected(plan, history, vmid) else { return Vec::new() };
    let keys: BTreeSet<&String> = expected.values.keys().chain(now.keys()).collect();
    let mut found = Vec::new();
    for key in keys {
        let is_free = OF_PVE.contains(&key.as_str())
            || (expected.is_created && OF_CREATION.contains(&key.as_str()))
            || (expected.any_unused && Bus::of_key(key) == Some(Bus::Unused));
        let value = now.get(key).map(String::as_str);
        let wanted = expected.values.get(key);
        if is_free && !matches!(wanted, Some(Expected::Is(_))) {
            continue;
        }
        if !wanted.unwrap_or(&Expected::Absent).fits(key, value, vmid) {
            found.push(difference(key, wanted, value));
        }
    }
    found
}

/// What is expected of a guest.
struct Guest {
    values: BTreeMap<String, Expected>,
    is_created: bool,
    any_unused: bool,
}

/// Returns what the journal expects of the guest; `None` where it does not know what the guest was before.
fn expected(plan: &Plan, history: &RunHistory, vmid: Vmid) -> Option<Guest> {
    let base = history.config_before(vmid);
    let own = || plan.steps.iter().filter(|step| step.action.guest().is_some_and(|guest| guest.vmid == vmid));
    let is_begun = |step: &Step| history.step(&step.id).is_some_and(|history| history.begun.is_some());
    let is_created = own().any(|step| matches!(step.action, Action::CreateVm { .. }) && is_begun(step));
    let mut guest = match base {
        Some((values, _)) => Guest {
            values: values.iter().map(|(key, value)| (key.clone(), Expected::Was(value.clone()))).collect(),
            is_created,
            any_unused: false,
        },
        None if is_created => Guest { values: BTreeMap::new(), is_created, any_unused: false },
        None => return None,
    };
    for step in own() {
        let Some(of_step) = history.step(&step.id) else { continue };
        let is_since = base.is_none_or(|(_, at)| of_step.last > at);
        let is_open = of_step.unsure || of_step.revert_unsure;
        if is_since || is_open {
            guest.apply(history, step, of_step);
        }
    }
    Some(guest)
}

impl Guest {
    /// Lays over what the step wrote, or may have written.
    fn apply(&mut self, history: &RunHistory, step: &Step, of_step: &StepHistory) {
        // A revert that this process has just begun has done nothing yet when it is asked what the guest must be.
        let state = match of_step.state {
            StepState::RevertFailed => &of_step.state_before_revert,
            _ => &of_step.state,
        };
        let is_certain = *state == StepState::Succeeded && !of_step.revert_unsure;
        let did_nothing = matches!(state, StepState::Failed | StepState::Started | StepState::NotStarted)
            && !of_step.unsure
            && !of_step.revert_unsure;
        if did_nothing {
            return;
        }
        let mut written = written(&step.action, of_step.outcome.as_ref(), history);
        if !is_certain {
            if let Revert::Run { action } = &step.revert {
                written.extend(self::written(action, None, history));
            }
            written.values_mut().for_each(|expected| *expected = Expected::Any);
        }
        self.any_unused |= makes_unused(&step.action);
        self.values.extend(written);
    }
}

/// Tells whether the action may leave a volume in an `unusedN`.
fn makes_unused(action: &Action) -> bool {
    match action {
        Action::ImportDisk(_)
        | Action::MoveDisk(_)
        | Action::ReassignDisk { .. }
        | Action::TakeDisk { .. } => true,
        Action::SetConfig { patch, .. } => {
            patch.set.keys().chain(&patch.delete).any(|key| Bus::of_key(key).is_some_and(Bus::holds_volume))
        }
        Action::ProbeStorage { .. }
        | Action::PlaceImage { .. }
        | Action::VerifyImage { .. }
        | Action::PlaceSnippet { .. }
        | Action::CreateVm { .. }
        | Action::CloneVm(_)
        | Action::ResizeDisk { .. }
        | Action::ConvertToTemplate { .. }
        | Action::RegenerateCloudInit { .. }
        | Action::SetHa { .. }
        | Action::SetPool { .. }
        | Action::StartVm { .. }
        | Action::ShutdownVm { .. }
        | Action::StopVm { .. }
        | Action::RebootVm { .. }
        | Action::DeleteVm { .. }
        | Action::FreeVolume { .. }
        | Action::Await { .. } => false,
    }
}

/// Returns the keys that an action writes, with what they hold afterwards.
fn written(action: &Action, outcome: Option<&Outcome>, history: &RunHistory) -> BTreeMap<String, Expected> {
    let one = |key: &str, expected| BTreeMap::from([(key.to_owned(), expected)]);
    let volume = || outcome.and_then(Outcome::volume).cloned().map_or(Expected::OwnVolume, Expected::Holds);
    match action {
        Action::CreateVm { config, .. } | Action::SetConfig { patch: config, .. } => {
            of_patch(config, history)
        }
        Action::ImportDisk(ImportAction { slot, attach: true, .. }) => one(&slot.to_string(), volume()),
        Action::ImportDisk(_) => BTreeMap::new(),
        Action::MoveDisk(MoveAction { slot, .. }) => one(&slot.to_string(), volume()),
        Action::ResizeDisk { slot, .. } => one(&slot.to_string(), Expected::OwnVolume),
        Action::ReassignDisk { slot, .. } => one(&slot.to_string(), Expected::Absent),
        Action::ConvertToTemplate { .. } => {
            let kinds = ["scsi", "virtio", "sata", "ide", "efidisk", "tpmstate"];
            let slots = kinds.iter().flat_map(|kind| (0..31).map(move |number| format!("{kind}{number}")));
            let slots = slots.map(|slot| (slot, Expected::Any));
            slots.chain([("template".to_owned(), Expected::Any)]).collect()
        }
        Action::ProbeStorage { .. }
        | Action::PlaceImage { .. }
        | Action::VerifyImage { .. }
        | Action::PlaceSnippet { .. }
        | Action::CloneVm(_)
        | Action::TakeDisk { .. }
        | Action::RegenerateCloudInit { .. }
        | Action::SetHa { .. }
        | Action::SetPool { .. }
        | Action::StartVm { .. }
        | Action::ShutdownVm { .. }
        | Action::StopVm { .. }
        | Action::RebootVm { .. }
        | Action::DeleteVm { .. }
        | Action::FreeVolume { .. }
        | Action::Await { .. } => BTreeMap::new(),
    }
}

fn of_patch(patch: &ConfigPatch, history: &RunHistory) -> BTreeMap<String, Expected> {
    let expected = |value: &PatchValue| match value {
        PatchValue::NewVolume(_) => Expected::OwnVolume,
        PatchValue::Text(text) => Expected::Is(text.clone()),
        PatchValue::Drive { volume: Ref::Known(volume), .. } => Expected::Holds(volume.clone()),
        PatchValue::Drive { volume: Ref::OutputOf(step), .. } => {
            let volume = history.outcome(step).and_then(Outcome::volume);
            volume.cloned().map_or(Expected::OwnVolume, Expected::Holds)
        }
        PatchValue::ImportFrom { .. } => Expected::OwnVolume,
        PatchValue::Options { .. }
        | PatchValue::KeptVolumes { .. }
        | PatchValue::Secret { .. }
        | PatchValue::PublicKeys { .. } => Expected::Any,
    };
    let set = patch.set.iter().map(|(key, value)| (key.clone(), expected(value)));
    set.chain(patch.delete.iter().map(|key| (key.clone(), Expected::Absent))).collect()
}

impl Expected {
    fn fits(&self, key: &str, now: Option<&str>, vmid: Vmid) -> bool {
        let volume = || Drive::parse(key, now?).ok()?.volume().cloned();
        match self {
            Self::Any => true,
            Self::Absent => now.is_none(),
            Self::Was(value) => now.is_some_and(|now| pve_config::same_value(key, now, value)),
            Self::Is(value) => now.is_some_and(|now| has_all_of(key, now, value)),
            Self::OwnVolume => volume().is_some_and(|volume| volume.owner() == Some(vmid)),
            Self::Holds(expected) => volume().as_ref() == Some(expected),
        }
    }
}

/// Tells whether `now` means what was written; what PVE added to it, such as a MAC or a size, does not count.
fn has_all_of(key: &str, now: &str, written: &str) -> bool {
    if pve_config::same_value(key, now, written) {
        return true;
    }
    if !written.contains(['=', ',']) {
        return false;
    }
    let (Ok(now), Ok(written)) = (PropertyString::parse(key, now), PropertyString::parse(key, written))
    else {
        return false;
    };
    written.iter().all(|(name, value)| {
        let found = now.get(name);
        found.is_some_and(|found| found.eq_ignore_ascii_case(value))
            || pve_config::same_field(key, name, found, Some(value))
    })
}

/// Says how a key differs.
fn difference(key: &str, expected: Option<&Expected>, now: Option<&str>) -> String {
    let shown = |text: &str| {
        let text = crate::printable(text);
        if text.chars().count() > 60 {
            format!("{}…", text.chars().take(60).collect::<String>())
        } else {
            text
        }
    };
    let was = match expected {
        Some(Expected::Is(value) | Expected::Was(value)) => format!("`{}`", shown(value)),
        Some(Expected::Holds(volume)) => format!("`{volume}`"),
        Some(Expected::OwnVolume) => "a volume that this run created".to_owned(),
        Some(Expected::Absent | Expected::Any) | None => "not set".to_owned(),
    };
    match now {
        _ if key == "description" => "description has changed".to_owned(),
        Some(now) => format!("{key} is `{}` and was {was}", shown(now)),
        None => format!("{key} is not set and was {was}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Entry, Record};
    use std::time::Duration;
    use vmdeploy_planner::plan::StepId;

    const PLAN: &str = include_str!("../../tests/samples/hostile-plan.json");

    fn config(values: &[(&str, &str)]) -> BTreeMap<String, String> {
        values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// A plan with one step that sets cores, and adds a disk.
    fn plan() -> Plan {
        let mut plan: Plan = serde_json::from_str(PLAN).unwrap();
        let mut step = plan.steps[0].clone();
        let guest = plan.changes[0].guest.clone();
        let new = pve_config::NewVolume::of_gib("local-lvm".parse().unwrap(), "5");
        let set = [
            ("cores".to_owned(), PatchValue::Text("4".to_owned())),
            ("scsi1".to_owned(), PatchValue::NewVolume(new)),
        ]
        .into();
        step.id = StepId("a/set".into());
        step.action = Action::SetConfig {
            guest,
            patch: ConfigPatch { set, delete: ["net1".to_owned()].into() },
            digest: None,
        };
        plan.steps = vec![step];
        plan
    }

    fn changes(entries: Vec<Entry>, now: &[(&str, &str)]) -> Vec<String> {
        let plan = plan();
        let vmid = plan.changes[0].guest.vmid;
        let before = Entry::Config {
            step: StepId("a/set".into()),
            vmid,
            values: config(&[
                ("cores", "2"),
                ("net1", "virtio"),
                ("memory", "512"),
                ("scsi0", "lvm:vm-1-disk-0,size=1G"),
            ]),
        };
        let at = jiff::Timestamp::now();
        let records: Vec<Record> =
            [before].into_iter().chain(entries).map(|entry| Record { at, entry }).collect();
        let history = RunHistory::of(&records, Duration::ZERO);
        changes_of_others(&plan, &history, vmid, &config(now))
    }

    fn own_disk() -> String {
        format!("local-lvm:vm-{}-disk-1,size=5G", plan().changes[0].guest.vmid)
    }

    #[test]
    fn what_the_run_wrote_is_its_own_and_everything_else_is_told() {
        let step = || StepId("a/set".to_owned());
        let started = || Entry::Started { step: step(), attempt: 1 };
        let done = || Entry::Succeeded { step: step(), outcome: Outcome::Done, warnings: Vec::new() };
        let resumed = || Entry::Resumed { mode: crate::ResumeMode::Finish };
        let disk = own_disk();
        let as_left = [
            ("cores", "4"),
            ("memory", "512"),
            ("scsi0", "lvm:vm-1-disk-0,size=1G"),
            ("scsi1", disk.as_str()),
        ];
        let of = |entries: Vec<Entry>, now: &[(&str, &str)]| changes(entries, now).join("; ");
        assert_eq!(of(vec![started(), done()], &as_left), "");
        let grown = as_left.map(|(key, value)| if key == "memory" { (key, "1024") } else { (key, value) });
        assert_eq!(of(vec![started(), done()], &grown), "memory is `1024` and was `512`");
        let back = as_left.map(|(key, value)| if key == "cores" { (key, "2") } else { (key, value) });
        assert_eq!(of(vec![started(), done()], &back), "cores is `2` and was `4`");
        let doubled = as_left.map(|(key, value)| if key == "cores" { (key, "8") } else { (key, value) });
        assert_eq!(of(vec![started(), done()], &doubled), "cores is `8` and was `4`");
        assert_eq!(of(vec![started(), resumed()], &back), "", "the step may be done or not");
        let more: Vec<_> = as_left.into_iter().chain([("scsi5", "lvm:vm-9-disk-0")]).collect();
        assert_eq!(of(vec![started(), resumed()], &more), "scsi5 is `lvm:vm-9-disk-0` and was not set");
        let swapped =
            as_left.map(|(key, value)| if key == "scsi1" { (key, "lvm:vm-9-disk-0") } else { (key, value) });
        assert!(
            of(vec![started(), done()], &swapped).starts_with("scsi1 is `lvm:vm-9-disk-0` and was a volume")
        );
    }
}
