//! Disks that survive the replacement of their VM.
//!
//! Before the old VM is destroyed each such disk is handed to a holder: the VM that the spec names, or one that the plan
//! makes for the time being. When the new VM is there it takes the disk back, into the same slot with the same options.
//! The holder that the plan made is removed at the end. So the disk always belongs to a VM that the journal names.

use super::chain::{Chain, Link, output_of};
use super::disks::options_of;
use super::input::{Current, Findings, PlanInput, reason};
use super::removal::{Removal, kept_disks};
use crate::identity::{self, Marker};
use crate::observed::ObservedGuest;
use crate::plan::{Action, ConfigPatch, GuestRef, PatchValue, Reason, Slot, StepId};
use crate::spec::{CloneSource, Disk, Vm};
use pve_config::{Drive, PropertyString};
use pve_types::{Bytes, GuestName, MacAddr, Vmid, VolumeId};
use std::collections::{BTreeMap, BTreeSet};

/// How much of a VM's name a holder's name has: a name has at most 63 characters.
const STEM: usize = 55;

/// What a VM that replaces another takes over. Empty for every other VM.
#[derive(Default)]
pub(crate) struct Keeping {
    disks: Vec<KeptDisk>,
    /// The holder that this plan makes.
    pub(crate) made: Option<GuestRef>,
    /// The MAC addresses of the old VM's NICs.
    macs: BTreeMap<Slot, MacAddr>,
}

/// A disk that the new VM takes over.
struct KeptDisk {
    slot: Slot,
    volume: VolumeId,
    /// The VM that holds it meanwhile.
    holder: GuestRef,
    options: String,
    /// The size that it is grown to afterwards.
    grow_to: Option<Bytes>,
}

impl Keeping {
    /// Finds what survives the replacement of a guest; `None` where something refuses it.
    pub(crate) fn of(
        input: &PlanInput<'_>,
        findings: &mut Findings,
        vm: &Vm,
        guest: &GuestRef,
        current: &Current<'_>,
        taken: &BTreeSet<Vmid>,
    ) -> Option<Self> {
        let found = kept_disks(&Removal { guest, current, vm: Some(vm), holder: None });
        let needs_holder = found.values().any(Option::is_none);
        let made = if needs_holder { Some(holder_of(input, vm, guest, taken)?) } else { None };
        let mut keeping = Self { disks: Vec::new(), made, macs: macs(current) };
        let before = findings.refusals();
        for (slot, named) in found {
            let holder = match named {
                Some(vmid) => GuestRef { vmid, uuid: String::new(), ..guest.clone() },
                None => keeping.made.clone()?,
            };
            keeping.disks.extend(kept_disk(input, findings, vm, current, slot, holder));
        }
        (findings.refusals() == before).then_some(keeping)
    }

    /// Tells whether any disk is taken over.
    pub(crate) fn keeps_disks(&self) -> bool {
        !self.disks.is_empty()
    }

    /// Tells whether the new VM takes the disk of this slot over.
    pub(crate) fn has(&self, slot: &str) -> bool {
        self.disks.iter().any(|disk| disk.slot == slot)
    }

    /// Returns the MAC address that the NIC of this slot had.
    pub(crate) fn mac(&self, slot: &str) -> Option<MacAddr> {
        self.macs.get(slot).copied()
    }

    /// Appends the step that makes the holder. It is never reverted: it may hold the disks.
    pub(crate) fn push_holder(&self, input: &PlanInput<'_>, chain: &mut Chain) {
        let Some(holder) = &self.made else { return };
        // The marker names the disks as ones that survive: no `--prune` removes a holder that has them.
        let slots = (0..self.disks.len()).map(|number| (format!("unused{number}"), None));
        let marker = Marker {
            cluster: input.cluster.clone(),
            project: input.deployment.project.value.clone(),
            name: holder.name.clone(),
            vmid: holder.vmid,
            run: input.context.run_id.clone(),
            uuid: None,
            sources: BTreeMap::new(),
            keep: slots.collect(),
            disks: BTreeMap::new(),
        };
        let text = "Holds disks while their VM is replaced.";
        let mut config = ConfigPatch::default();
        let mut set = |key: &str, value: String| config.set.insert(key.to_owned(), PatchValue::Text(value));
        set("name", holder.name.to_string());
        set("description", identity::marked_description(text, &marker));
        set("smbios1", format!("uuid={}", holder.uuid));
        set("memory", "128".to_owned());
        let action = Action::CreateVm { guest: holder.clone(), config, pool: None };
        let transport = input.transports.api_first("a VM without disks of its own holds those that are kept");
        let why = "it may hold the kept disks";
        chain.push(Link::new("holder", action, transport, 120).cannot_revert(why));
    }

    /// Appends the steps that give the new VM its disks, and remove the holder that the plan made.
    pub(crate) fn push_back(
        &self,
        input: &PlanInput<'_>,
        chain: &mut Chain,
        guest: &GuestRef,
    ) -> Vec<Reason> {
        let mut patch = ConfigPatch::default();
        for disk in &self.disks {
            let handed = StepId(format!("{}/keep-{}", guest.name, disk.slot));
            let action = Action::TakeDisk {
                guest: guest.clone(),
                holder: disk.holder.clone(),
                volume: output_of(&handed),
            };
            let transport =
                input.transports.api_first("one call hands the disk back, and it is read back there");
            let why = "the disk stays with the VM";
            let link = Link::new(format!("take-{}", disk.slot), action, transport, 300).cannot_revert(why);
            let taken = chain.push(link);
            let value = PatchValue::Drive { volume: output_of(&taken), options: disk.options.clone() };
            patch.set.insert(disk.slot.clone(), value);
        }
        if !patch.is_empty() {
            let action = Action::SetConfig { guest: guest.clone(), patch, digest: None };
            let transport = input.transports.api_first("one call puts the kept disks into their slots");
            chain.push(Link::new("attach-kept", action, transport, 300));
        }
        for disk in &self.disks {
            let Some(size) = disk.grow_to else { continue };
            let Ok(slot) = disk.slot.parse() else { continue };
            let guest = guest.clone();
            let action = Action::ResizeDisk { guest, slot, size, volume: None };
            let transport = input.transports.api_first("one call grows the disk, at any time");
            chain.push(Link::new(format!("resize-{}", disk.slot), action, transport, 600));
        }
        if let Some(holder) = &self.made {
            let action = Action::DeleteVm { guest: holder.clone(), stop: false };
            let transport = input.transports.api_first("it holds nothing any more");
            let why = "the holder is not needed any more";
            chain.push(Link::new("remove-holder", action, transport, 300).cannot_revert(why));
        }
        let kept = |disk: &KeptDisk| {
            let mut why = reason(format!("disks.{}", disk.slot), Some(disk.volume.to_string()), None);
            why.to = Some("the same disk, kept".to_owned());
            why
        };
        self.disks.iter().map(kept).collect()
    }
}

fn kept_disk(
    input: &PlanInput<'_>,
    findings: &mut Findings,
    vm: &Vm,
    current: &Current<'_>,
    slot: Slot,
    holder: GuestRef,
) -> Option<KeptDisk> {
    let text = current.effective(&slot).or_else(|| current.config.values.get(&slot).map(String::as_str))?;
    let drive = Drive::parse(&slot, text).ok()?;
    let volume = drive.volume()?.clone();
    let disk = slot.parse().ok().and_then(|slot| vm.disks.get(&slot)).and_then(|desired| desired.set());
    let Some(disk) = disk else {
        let message = format!(
            "`{}` would be remade, and its kept disk `{slot}` ({volume}) has no slot in the spec",
            vm.name.value
        );
        let hint = format!("write `disks: {{{slot}: {{keep: true}}}}`, or `keep: false` there to lose it");
        findings.refuse(input.deployment, (vm.name.span, vm.path("disks")), message, hint);
        return None;
    };
    let at = (disk.span, vm.path(&format!("disks.{slot}")));
    if let Some(message) = refusal(vm, current, disk, &slot, &volume) {
        let hint = "deploy that change first, without the replacement";
        findings.refuse(input.deployment, at, message, hint);
        return None;
    }
    let (desired, there) = (disk.size.as_ref().map(|size| size.value), drive.size());
    let grow_to = desired.filter(|desired| there.is_none_or(|there| *desired > there));
    Some(KeptDisk { slot, volume, holder, options: options_of(disk), grow_to })
}

/// Returns why a disk cannot be taken over as the spec wants it.
fn refusal(vm: &Vm, current: &Current<'_>, disk: &Disk, slot: &str, volume: &VolumeId) -> Option<String> {
    let storage = disk.storage.as_ref().map(|storage| &storage.value);
    if let Some(storage) = storage.filter(|storage| *storage != volume.storage()) {
        return Some(format!("`{slot}` is kept, and would move from {} to {storage}", volume.storage()));
    }
    let is_cloned = vm.clone.as_ref().is_some_and(|clone| match &clone.from.value {
        CloneSource::Vm(_) | CloneSource::Vmid(_) => clone.mode == crate::spec::CloneMode::Linked,
    });
    let is_made_by_clone = is_cloned && matches!(disk.content, crate::spec::DiskContent::Image(_));
    if is_made_by_clone {
        return Some(format!("`{slot}` is kept, and the clone's source has a disk for that slot"));
    }
    let snapshots = current.guest.volumes.as_ref().is_some_and(|seen| seen.in_snapshots.contains(volume));
    snapshots.then(|| format!("`{slot}` is kept, and a snapshot uses it, so that it cannot change hands"))
}

fn macs(current: &Current<'_>) -> BTreeMap<Slot, MacAddr> {
    let nets = current.config.values.iter().filter(|(key, _)| key.starts_with("net"));
    let mac = |(key, text): (&String, &String)| {
        let net = PropertyString::parse(key, text).ok()?;
        Some((key.clone(), net.get("macaddr")?.parse().ok()?))
    };
    nets.filter_map(mac).collect()
}

/// Returns the name of the holder that is made for a VM.
fn holder_name(vm: &GuestName) -> Option<GuestName> {
    let stem: String = vm.as_str().chars().take(STEM).collect();
    format!("{}-disks", stem.trim_end_matches(['-', '.'])).parse().ok()
}

fn holder_of(input: &PlanInput<'_>, vm: &Vm, guest: &GuestRef, taken: &BTreeSet<Vmid>) -> Option<GuestRef> {
    let name = holder_name(&vm.name.value)?;
    let pinned = input.deployment.pins.values().map(|pin| pin.vmid);
    let planned = input.guests.values().map(|resolved| resolved.guest.vmid);
    let used: BTreeSet<Vmid> = pinned.chain(planned).chain(taken.iter().copied()).collect();
    let is_free = |vmid: &Vmid| !used.contains(vmid) && !input.observed.guests.contains_key(vmid);
    let vmid = (Vmid::MIN..=999_999).filter_map(|number| Vmid::new(number).ok()).find(is_free)?;
    let uuid = identity::guest_uuid(&input.cluster, &input.deployment.project, &name);
    Some(GuestRef { name, vmid, node: guest.node.clone(), uuid })
}

/// A holder that a replacement left behind, with the run that made it.
pub(crate) struct Held {
    vmid: Vmid,
    run: String,
}

/// Returns the holders among guests of ours that the spec does not name, by the VM whose disks they hold.
pub(crate) fn held_disks(gone: &[(&ObservedGuest, &Marker)]) -> BTreeMap<GuestName, Held> {
    let held = gone.iter().filter_map(|(guest, marker)| {
        let vm = marker.name.as_str().strip_suffix("-disks")?.parse().ok()?;
        let has_disk = guest.config.as_ref()?.values.keys().any(|key| key.starts_with("unused"));
        let is_holder = has_disk && marker.keep.keys().any(|slot| slot.starts_with("unused"));
        is_holder.then(|| (vm, Held { vmid: guest.vmid, run: marker.run.clone() }))
    });
    held.collect()
}

/// Refuses to create a VM with empty disks while a holder has its disks.
pub(crate) fn refuse_new(input: &PlanInput<'_>, findings: &mut Findings, vm: &Vm, held: &Held) {
    let Held { vmid, run } = held;
    let message = format!(
        "the disks of `{}` are with VM {vmid}, since its replacement was not finished",
        vm.name.value
    );
    let hint = format!("`vmdeploy resume {run}` finishes it and gives the disks back");
    findings.refuse(input.deployment, (vm.name.span, vm.path("disks")), message, hint);
}
