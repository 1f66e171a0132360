//! Whether what the spec names and the plan does not make is there: ISO images, cloud-init data, hook scripts.

use super::input::PlanInput;
use super::settings::{check, is_volume_slot, settings};
use crate::observed::Rights;
use crate::plan::{Action, Check, CheckOutcome, Step, StepId};
use pve_config::{Cpu, Drive, PropertyString};
use pve_types::{NodeName, Privilege, VolumeId};
use std::collections::{BTreeMap, BTreeSet};

/// What a volume is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Iso,
    Disk,
    CloudInit,
    HookScript,
}

impl Use {
    fn name(self) -> &'static str {
        match self {
            Self::Iso => "ISO image",
            Self::Disk => "volume",
            Self::CloudInit => "cloud-init data",
            Self::HookScript => "hook script",
        }
    }
    fn hint(self) -> &'static str {
        match self {
            Self::Iso => "upload it, or correct `iso:`",
            Self::Disk => "correct `volume:`",
            Self::CloudInit => "create it, correct the volume, or use a file of the spec: `{file: …}`",
            Self::HookScript => "create it and make it executable, or correct `hookscript:`",
        }
    }
}

/// Returns a check for each volume that steps name.
// PVE: pve-guest-common src/PVE/GuestHelpers.pm check_hookscript, qemu-server src/PVE/QemuServer/Cloudinit.pm
// read_cloudinit_snippets_file: both die when the file is not there.
pub(super) fn checks(input: &PlanInput<'_>, steps: &[Step]) -> Vec<Check> {
    let placed: BTreeSet<&VolumeId> = steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::PlaceSnippet { volume, .. } => Some(volume),
            _ => None,
        })
        .collect();
    let mut desired: BTreeMap<(&NodeName, Use, VolumeId), Vec<StepId>> = BTreeMap::new();
    for (step, node, key, text) in settings(steps) {
        for (used_as, volume) in volumes(key, text) {
            if !placed.contains(&volume) {
                desired.entry((node, used_as, volume)).or_default().push(step.id.clone());
            }
        }
    }
    let judged = desired.into_iter().filter_map(|((node, used_as, volume), needed_by)| {
        let is_there = input.observed.has_volume(node, &volume)?;
        let need = format!("{} {volume} at {node}", used_as.name());
        Some(match is_there {
            true => check(need, needed_by, CheckOutcome::Passed, None),
            false if is_hidden(input, used_as, &volume) => {
                let detail = format!(
                    "these credentials do not see it; Datastore.Allocate on /storage/{} is needed",
                    volume.storage()
                );
                check(need, needed_by, CheckOutcome::Unknown, Some(detail))
            }
            false => {
                let detail = format!("it does not exist; {}", used_as.hint());
                check(need, needed_by, CheckOutcome::Refused, Some(detail))
            }
        })
    });
    judged.collect()
}

/// Returns a check for each custom CPU model that steps name.
// PVE: qemu-server src/PVE/QemuServer/CPUConfig.pm get_custom_model: "Custom cputype 'NAME' not found".
pub(super) fn cpu_models(input: &PlanInput<'_>, steps: &[Step]) -> Vec<Check> {
    let mut desired: BTreeMap<(&NodeName, String), Vec<StepId>> = BTreeMap::new();
    for (step, node, _, text) in settings(steps).filter(|(_, _, key, _)| *key == "cpu") {
        if let Ok(cpu) = Cpu::parse(text)
            && cpu.custom_model().is_some()
        {
            desired.entry((node, cpu.cputype)).or_default().push(step.id.clone());
        }
    }
    let judged = desired.into_iter().filter_map(|((node, model), needed_by)| {
        let known = input.observed.nodes.get(node)?.cpu_models.as_ref()?;
        let need = format!("CPU model {} at {node}", model.escape_debug());
        if known.contains(&model) {
            return Some(check(need, needed_by, CheckOutcome::Passed, None));
        }
        // PVE: qemu-server src/PVE/API2/Qemu/CPU.pm index.
        let path = format!("/mapping/cpu/{}", model.trim_start_matches("custom-"));
        let shows = |rights: &Rights| {
            rights.holds(Privilege::SysAudit, "/nodes")
                || [Privilege::MappingAudit, Privilege::MappingUse, Privilege::MappingModify]
                    .iter()
                    .any(|privilege| rights.holds(*privilege, &path))
        };
        let (outcome, detail) = match &input.observed.rights {
            Some(rights) if !shows(rights) => (
                CheckOutcome::Unknown,
                format!("these credentials do not see it; Mapping.Use on {path} is needed"),
            ),
            _ => {
                let custom: Vec<&str> =
                    known.iter().map(String::as_str).filter(|name| name.starts_with("custom-")).collect();
                let has = if custom.is_empty() { "no custom model".to_owned() } else { custom.join(", ") };
                (CheckOutcome::Refused, format!("the cluster has {has}; correct `cpu.type`, or define it"))
            }
        };
        Some(check(need, needed_by, outcome, Some(detail)))
    });
    judged.collect()
}

fn volumes(key: &str, text: &str) -> Vec<(Use, VolumeId)> {
    match key {
        "cicustom" => {
            let fields = PropertyString::parse(key, text).unwrap_or_default();
            let volumes = fields.iter().filter_map(|(_, volume)| volume.parse().ok());
            volumes.map(|volume| (Use::CloudInit, volume)).collect()
        }
        "hookscript" => text.parse().ok().map(|volume| (Use::HookScript, volume)).into_iter().collect(),
        _ if is_volume_slot(key) => {
            let drive = Drive::parse(key, text).ok();
            let named = drive.as_ref().and_then(|drive| Some((drive.is_cdrom(), drive.volume()?)));
            let used = named.map(|(is_cdrom, volume)| {
                let is_iso = is_cdrom && volume.name().starts_with("iso/");
                (if is_iso { Use::Iso } else { Use::Disk }, volume.clone())
            });
            used.into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Tells whether PVE would hide the volume from these credentials. Where there is SSH, root looked.
// PVE: pve-storage src/PVE/Storage.pm check_volume_access: snippets are shown to those with Datastore.Allocate only.
fn is_hidden(input: &PlanInput<'_>, used_as: Use, volume: &VolumeId) -> bool {
    let path = format!("/storage/{}", volume.storage());
    let hides = |rights: &Rights| !rights.holds(Privilege::DatastoreAllocate, &path);
    matches!(used_as, Use::CloudInit | Use::HookScript)
        && !input.transports.ssh_available
        && input.observed.rights.as_ref().is_some_and(hides)
}
