//! What a version of PVE does not know of disks.

use super::diagnostic::Diagnostic;
use super::model::{Deployment, Vm};
use pve_config::find_key;
use pve_types::PveVersion;

/// Returns a refusal for every disk option of the VM that this version of PVE does not know.
///
/// Reading a spec refuses what no version knows; this is asked when planning, when the version is known.
pub fn check_disk_version(deployment: &Deployment, vm: &Vm, version: PveVersion) -> Vec<Diagnostic> {
    let mut refusals = Vec::new();
    for (slot, disk) in vm.disks.iter().filter_map(|(slot, disk)| Some((slot, disk.set()?))) {
        let Some(key) = find_key(&slot.to_string()) else { continue };
        for (name, desired) in disk.options.iter().filter(|(_, desired)| desired.value.is_some()) {
            let Some((major, minor)) = key.field(name).map(|field| field.since.max(key.since)) else {
                continue;
            };
            if !version.at_least(major, minor) {
                let message = format!("PVE {version} does not support this; it requires {major}.{minor}");
                let refusal = deployment.refusal(desired.span, vm.path(&desired.path), message);
                refusals.push(refusal.with_hint("remove it, or deploy to a newer PVE"));
            }
        }
    }
    refusals
}

#[cfg(test)]
mod tests {
    use super::super::{LoadOptions, SourceFile, load};
    use super::*;

    #[test]
    fn an_option_that_is_too_new_is_refused_at_its_line() {
        let text = "version: 1\nproject: p\nvms:\n  a:\n    bios: {type: ovmf, efi: {storage: local, ms_cert: 2023}}\n";
        let deployment =
            load(&[SourceFile::new("a.yaml", text)], &LoadOptions::default()).unwrap().deployment;
        let check = |version| check_disk_version(&deployment, &deployment.vms[0], version);
        assert!(check(PveVersion::new(8, 4, 0)).is_empty());
        let refusals = check(PveVersion::new(8, 3, 0));
        assert_eq!(refusals.len(), 1);
        assert_eq!((refusals[0].span.line, refusals[0].path.as_str()), (5, "vms.a.bios.efi.ms_cert"));
    }
}
