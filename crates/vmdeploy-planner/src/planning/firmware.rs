//! The firmware's disks, EFI variables and TPM state, which PVE treats otherwise than other disks.
//!
//! What is in them is made for their type, version and keys when they are made; PVE changes none of these later.

use super::input::{Current, Findings, PlanInput};
use crate::spec::{Disk, Span, Vm};
use pve_config::{Bus, PropertyString, same_field};

/// The options of a firmware disk that say what was written into it when it was made.
// PVE: qemu-server src/PVE/API2/Qemu.pm prohibit_tpm_version_change; src/PVE/QemuServer/OVMF.pm: the variables and their
// keys are copied into the volume when it is made, and the type decides its size.
fn fixed_options(bus: Bus) -> &'static [(&'static str, &'static str)] {
    match bus {
        Bus::Tpmstate => &[("version", "version")],
        Bus::Efidisk => &[("efitype", "type"), ("pre-enrolled-keys", "secure_boot_keys")],
        _ => &[],
    }
}

/// Returns the name of the firmware's disk, and its key in the spec.
fn names(bus: Bus) -> Option<(&'static str, &'static str)> {
    match bus {
        Bus::Tpmstate => Some(("the TPM state", "tpm")),
        Bus::Efidisk => Some(("the EFI disk", "bios.efi")),
        _ => None,
    }
}

/// Refuses to change what was written into a firmware disk when it was made, and tells whether it did; `there` is the
/// value that its slot has, or that a clone begins with.
pub(crate) fn refuse_remaking(
    input: &PlanInput<'_>,
    findings: &mut Findings,
    vm: &Vm,
    disk: &Disk,
    there: &str,
) -> bool {
    let bus = disk.slot.bus();
    let Some((what, key)) = names(bus) else { return false };
    let slot = disk.slot.to_string();
    let there = PropertyString::parse(&slot, there).unwrap_or_default();
    let before = findings.refusals();
    for (field, spelled) in fixed_options(bus) {
        let Some(desired) = disk.options.get(*field) else { continue };
        if same_field(&slot, field, there.get(field), desired.value.as_deref())
            || super::desired::is_ignored(vm, &desired.path)
        {
            continue;
        }
        let from = there.get(field).unwrap_or("PVE's default").escape_debug().to_string();
        let message = format!(
            "{what} was created with `{spelled}` {from}, which cannot be changed in an existing disk"
        );
        let hint = match bus {
            Bus::Tpmstate => format!(
                "write the existing value; a new TPM (`{key}: null`, deploy, then the other version) has none of the guest's keys"
            ),
            _ => format!(
                "write the existing value; a new EFI disk (`{key}: null`, deploy, then the other one) has none of the guest's boot entries"
            ),
        };
        findings.refuse(input.deployment, (desired.span, vm.path(&desired.path)), message, hint);
    }
    findings.refusals() > before
}

/// Refuses to move the TPM state of a running guest.
// PVE: qemu-server src/PVE/QemuServer.pm clone_disk: "cannot move TPM state while VM is running".
pub(crate) fn refuse_live_move(
    input: &PlanInput<'_>,
    findings: &mut Findings,
    vm: &Vm,
    current: &Current<'_>,
    disk: &Disk,
    span: Span,
) -> bool {
    if disk.slot.bus() != Bus::Tpmstate || !current.is_running() {
        return false;
    }
    let name = &vm.name.value;
    let message = format!("the TPM state can be moved only while the VM is stopped, and `{name}` is running");
    let hint = format!("`vmdeploy shutdown {name}` first, then deploy, then `vmdeploy start {name}`");
    findings.refuse(input.deployment, (span, vm.path("tpm.storage")), message, hint);
    true
}
