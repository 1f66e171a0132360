//! `raw:`: options of PVE by their own names, for options without a key.

use crate::spec::faults::{Faults, Path};
use crate::spec::hints::closest;
use crate::spec::lower::Options;
use crate::spec::model::{DesiredOption, OptionValue};
use crate::spec::view::View;
use pve_config::{DeviceSlot, check_value, find_key};

/// Options that have a place of their own, because more than their text belongs to them.
const ELSEWHERE: &[(&str, &str)] = &[
    ("name", "the VM's key is its name"),
    ("description", "write `description:`"),
    ("tags", "write `tags: [...]`"),
    ("template", "write `template: true`"),
    ("smbios1", "write `smbios: {…}`, and `uuid:` for an adopted guest"),
    ("cipassword", "write `cloud_init: {password: {env: NAME}}`"),
    ("ciuser", "write `cloud_init: {user: …}`"),
    ("sshkeys", "write `cloud_init: {ssh_keys: [...]}`"),
    ("citype", "write `cloud_init: {type: …}`"),
    ("ciupgrade", "write `cloud_init: {upgrade: …}`"),
    ("cicustom", "write `cloud_init: {user_data: …}`"),
    ("nameserver", "write `cloud_init: {dns: {servers: [...]}}`"),
    ("searchdomain", "write `cloud_init: {dns: {search: …}}`"),
    ("lock", "PVE sets it"),
    ("meta", "PVE sets it"),
    ("digest", "PVE sets it"),
];

/// Adds the raw options to the others.
pub(super) fn read_raw(view: &View<'_>, path: Path<'_>, options: &mut Options, faults: &mut Faults) {
    for (key, span, value) in view.entries() {
        let path = path.key(key);
        if let Some((_, hint)) = ELSEWHERE.iter().find(|(name, _)| *name == key) {
            if key == "cipassword" {
                faults.conceal(value.span());
            }
            faults.error_hint(span, path, format!("`{key}` cannot be set by `raw`"), *hint);
            continue;
        }
        if let Some(hint) = device_hint(key, &value) {
            faults.error_hint(span, path, format!("`{key}` cannot be set by `raw`"), hint);
            continue;
        }
        let Some(text) = raw_text(&value) else {
            if value.is_null() && find_key(key).is_some() {
                let desired = DesiredOption { path: format!("raw.{key}"), span, value: OptionValue::Remove };
                options.insert(key.to_owned(), desired);
            }
            continue;
        };
        if find_key(key).is_none() {
            unknown_option(key, span, path, faults);
        } else if let Err(error) = check_value(key, &text, None) {
            let hint = format!("write it on one line, as for `qm set VMID --{key}`");
            faults.error_hint(value.span(), path, error.to_string(), hint);
        } else if let Some(other) = options.get(key) {
            let message = format!("`{}` sets it already", other.path);
            faults.error_hint(span, path, message, "set it only once");
        } else {
            let desired = DesiredOption { path: format!("raw.{key}"), span, value: OptionValue::Whole(text) };
            options.insert(key.to_owned(), desired);
        }
    }
}

fn raw_text(value: &View<'_>) -> Option<String> {
    let text = value.top().text()?;
    Some(match text {
        "true" => "1".to_owned(),
        "false" => "0".to_owned(),
        text => text.to_owned(),
    })
}

/// Returns where a device is written; a device file of the node may be given raw.
fn device_hint(key: &str, value: &View<'_>) -> Option<&'static str> {
    use pve_config::Bus;
    let slot: DeviceSlot = key.parse().ok()?;
    let is_path = value.top().text().is_some_and(|text| text.starts_with('/'));
    match slot.bus() {
        bus if bus.is_drive() && !is_path => {
            Some("write it below `disks:`; `raw` is only for a device of the node (`/dev/…`)")
        }
        Bus::Efidisk => Some("write `bios: {type: ovmf, efi: {storage: …}}`"),
        Bus::Tpmstate => Some("write `tpm: {storage: …}`"),
        Bus::Unused => Some("PVE sets it"),
        Bus::Net | Bus::Ipconfig => Some("write it below `nics:`"),
        _ => None,
    }
}

fn unknown_option(key: &str, span: crate::spec::Span, path: Path<'_>, faults: &mut Faults) {
    let message = format!("PVE has no option `{}`", key.escape_debug());
    match closest(key, pve_config::all_keys().iter().map(|key| key.name)) {
        Some(close) => faults.error_hint(span, path, message, format!("did you mean `{close}`?")),
        None => faults.error_hint(span, path, message, "the manual page of `qm` lists the options"),
    }
}
