//! The boot order of a guest that exists, which PVE changes when a CD drive is set.
//!
//! PVE appends each CD drive that is set and not in the order to the order that the guest had before the call, and
//! stores that over whatever order the same call sets. So an order that goes with a CD drive is set last, in a call of
//! its own, and an order that the spec does not manage is set back to what it was.
// PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api: "append new CD drives to bootorder to mark them bootable".

use crate::plan::{ConfigPatch, PatchValue};
use pve_config::{Boot, Bus, Drive};
use std::collections::BTreeMap;

/// Why the boot order has a call of its own.
pub(crate) const BOOT_WHY: &str =
    "set last, because PVE appends each CD drive that is added to the boot order";

/// The configuration of the guest before the calls.
#[derive(Clone, Copy)]
pub(crate) enum Before<'b> {
    /// The guest is being made: its order is PVE's own choice.
    Unknown,
    /// It is this.
    Known {
        /// The values that hold now.
        values: &'b BTreeMap<String, String>,
        /// The boot order that holds after the next restart.
        boot: Option<&'b str>,
    },
}

/// Returns the change of the boot order that follows the patches, and takes it out of them; empty where none is needed.
pub(crate) fn order_set_last(before: Before<'_>, patches: &mut [&mut ConfigPatch]) -> ConfigPatch {
    let mut last = ConfigPatch::default();
    let is_cd = |(key, value): &(&String, &PatchValue)| sets_cd(before, key, value);
    let set: Vec<String> = patches
        .iter()
        .flat_map(|patch| patch.set.iter().filter(is_cd).map(|(key, _)| key.clone()).collect::<Vec<_>>())
        .collect();
    let order_before = match before {
        Before::Unknown => None,
        Before::Known { values, .. } => Some(order_of(values.get("boot").map(String::as_str))),
    };
    // The legacy form, and no order at all, include every CD drive: PVE appends nothing.
    if set.is_empty() || order_before.as_ref().is_some_and(Vec::is_empty) {
        return last;
    }
    let said = patches.iter_mut().filter_map(|patch| patch.set.remove("boot")).next_back();
    let mut removed = false;
    for patch in patches.iter_mut() {
        removed |= patch.delete.remove("boot");
    }
    if let Some(order) = said {
        last.set.insert("boot".to_owned(), order);
    } else if removed {
        last.delete.insert("boot".to_owned());
    } else if let (Some(order), Before::Known { boot, .. }) = (order_before, before) {
        let stays = |slot: &String| !patches.iter().any(|patch| patch.delete.contains(slot));
        let mut appended: Vec<String> = order.into_iter().filter(stays).collect();
        let wanted: Vec<String> = order_of(boot).into_iter().filter(stays).collect();
        for slot in set {
            if !appended.contains(&slot) {
                appended.push(slot);
            }
        }
        if appended != wanted && !wanted.is_empty() {
            last.set.insert("boot".to_owned(), PatchValue::Text(Boot { order: wanted }.print()));
        }
    }
    last
}

fn order_of(boot: Option<&str>) -> Vec<String> {
    boot.and_then(|text| Boot::parse(text).ok()).map_or_else(Vec::new, |boot| boot.order)
}

/// Tells whether the value makes its slot a CD drive, other than cloud-init's.
fn sets_cd(before: Before<'_>, key: &str, value: &PatchValue) -> bool {
    if !Bus::of_key(key).is_some_and(Bus::is_drive) {
        return false;
    }
    let text = match (value, before) {
        (PatchValue::Text(text), _) => text,
        // Options are laid over what is there.
        (PatchValue::Options { .. }, Before::Known { values, .. }) => match values.get(key) {
            Some(text) => text,
            None => return false,
        },
        _ => return false,
    };
    Drive::parse(key, text).is_ok_and(|drive| drive.is_cdrom() && !drive.is_cloud_init())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(set: &[(&str, &str)], delete: &[&str]) -> ConfigPatch {
        let set = set.iter().map(|(key, text)| ((*key).to_owned(), PatchValue::Text((*text).to_owned())));
        ConfigPatch { set: set.collect(), delete: delete.iter().map(|key| (*key).to_owned()).collect() }
    }

    #[track_caller]
    fn check(boot: Option<&str>, mut change: ConfigPatch, last: &[(&str, &str)]) {
        let values: BTreeMap<String, String> =
            boot.iter().map(|boot| ("boot".to_owned(), (*boot).to_owned())).collect();
        let before = Before::Known { values: &values, boot };
        let found = order_set_last(before, &mut [&mut change]);
        assert_eq!(found, patch(last, &[]), "{boot:?}");
        assert!(last.is_empty() || !change.set.contains_key("boot"));
    }

    const CD: (&str, &str) = ("sata1", "local:iso/x.iso,media=cdrom");

    #[test]
    fn an_order_is_set_after_the_cd_that_would_change_it() {
        check(Some("order=scsi0;sata0"), patch(&[CD], &[]), &[("boot", "order=scsi0;sata0")]);
        check(
            Some("order=scsi0"),
            patch(&[CD, ("boot", "order=sata1;scsi0")], &[]),
            &[("boot", "order=sata1;scsi0")],
        );
        check(Some("order=scsi0;sata0"), patch(&[CD], &["sata0"]), &[("boot", "order=scsi0")]);
    }

    #[test]
    fn nothing_follows_where_pve_appends_nothing() {
        check(Some("order=scsi0;sata1"), patch(&[CD], &[]), &[]);
        check(Some("cdn"), patch(&[CD], &[]), &[]);
        check(None, patch(&[CD], &[]), &[]);
        check(Some("order=scsi0"), patch(&[("scsi1", "local:4"), ("boot", "order=scsi1")], &[]), &[]);
        check(Some("order=scsi0"), patch(&[("ide2", "local:cloudinit,media=cdrom")], &[]), &[]);
        check(Some("order=scsi0"), patch(&[("description", "media=cdrom")], &[]), &[]);
    }

    #[test]
    fn a_guest_that_is_being_made_gets_the_order_last() {
        let mut change = patch(&[CD, ("boot", "order=scsi0")], &[]);
        let last = order_set_last(Before::Unknown, &mut [&mut change]);
        assert_eq!(last, patch(&[("boot", "order=scsi0")], &[]));
        assert_eq!(change, patch(&[CD], &[]));
    }
}
