//! What actions, reverts and values are, in words.

use super::{clean, count, rounded};
use crate::plan::{
    Action, CloneAction, Condition, ConfigPatch, DiskSource, ImageOrigin, ImportAction, IpFamily, MoveAction,
    PatchValue, Ref, Revert, SecretForm, SecretRef, Step, Verb,
};
use pve_types::{Bytes, StorageId};

/// Returns what the action does: a verb phrase without the VM's name, on one line and free of control characters.
///
/// This is the only wording of a step: plan, progress, journal, failures and report all show it.
pub fn summary(action: &Action) -> String {
    match action {
        Action::ProbeStorage { node, needed } => {
            let part = |(storage, bytes): (&StorageId, &Bytes)| match bytes.get() {
                0 => storage.to_string(),
                _ => format!("{} on {storage}", rounded(*bytes)),
            };
            let parts: Vec<String> = needed.iter().map(part).collect();
            format!("check free space on {node}: {}", parts.join(", "))
        }
        Action::PlaceImage { image, node, volume, origin, .. } => {
            let (verb, from) = match origin {
                ImageOrigin::Url { url } => ("download", url.clone()),
                ImageOrigin::File { path, unpack: Some(_) } => ("unpack and upload", path.clone()),
                ImageOrigin::File { path, unpack: None } => ("upload", path.clone()),
            };
            clean(&format!("{verb} image {image} to {node} as {volume}, from {from}"), 160)
        }
        Action::VerifyImage { image, node, path, .. } => {
            clean(&format!("verify checksum of image {image} on {node} ({path})"), 120)
        }
        Action::PlaceSnippet { volume, source, .. } => {
            clean(&format!("write snippet {volume} from {source}"), 120)
        }
        Action::CreateVm { guest, config, pool } => {
            let pool = pool.as_ref().map(|pool| format!(" in pool {pool}")).unwrap_or_default();
            let disks = imports(config);
            let disks =
                if disks.is_empty() { String::new() } else { format!(", importing {}", disks.join(", ")) };
            format!("create VM {} ({}){disks}{pool}", guest.vmid, count(config.set.len(), "option"))
        }
        Action::CloneVm(CloneAction { source, guest, full, storage, .. }) => {
            let kind = if *full { "full" } else { "linked" };
            let to = storage.as_ref().map(|storage| format!(" on {storage}")).unwrap_or_default();
            format!("clone VM {} to VM {} ({kind}){to}", source.vmid, guest.vmid)
        }
        Action::ImportDisk(ImportAction { slot, source, storage, .. }) => {
            clean(&format!("import {slot} from {} to {storage}", source_name(source)), 120)
        }
        Action::SetConfig { patch, .. } => patch_summary(patch),
        Action::ResizeDisk { slot, size, .. } => format!("resize {slot} to {size}"),
        Action::MoveDisk(MoveAction { slot, storage, .. }) => format!("move {slot} to {storage}"),
        Action::ReassignDisk { slot, holder, .. } => format!("reassign {slot} to VM {holder}"),
        Action::TakeDisk { holder, volume: Ref::OutputOf(step), .. } => {
            let slot = step.0.rsplit('-').next().unwrap_or_default();
            clean(&format!("take the disk of {slot} back from VM {}", holder.vmid), 120)
        }
        Action::TakeDisk { holder, volume: Ref::Known(volume), .. } => {
            clean(&format!("take {volume} back from VM {}", holder.vmid), 120)
        }
        Action::ConvertToTemplate { .. } => "convert to a template".to_owned(),
        Action::RegenerateCloudInit { .. } => "regenerate the cloud-init drive".to_owned(),
        Action::SetHa { ha: Some(ha), .. } => clean(&format!("add to HA (state {})", ha.state), 80),
        Action::SetHa { ha: None, .. } => "remove from HA".to_owned(),
        Action::SetPool { pool: Some(pool), .. } => format!("add to pool {pool}"),
        Action::SetPool { pool: None, .. } => "remove from its pool".to_owned(),
        Action::StartVm { .. } => "start".to_owned(),
        Action::ShutdownVm { timeout_s, force, .. } => {
            let force = if *force { ", then stop" } else { "" };
            format!("shut down (timeout {timeout_s} s{force})")
        }
        Action::StopVm { .. } => "stop".to_owned(),
        Action::RebootVm { .. } => "reboot".to_owned(),
        Action::DeleteVm { guest, stop } => {
            let stop = if *stop { "stop and delete" } else { "delete" };
            format!("{stop} VM {} and its disks", guest.vmid)
        }
        Action::FreeVolume { volume, .. } => match volume {
            Ref::Known(volume) => format!("delete volume {volume}"),
            Ref::OutputOf(step) => format!("delete the volume of {step}"),
        },
        Action::Await { condition, .. } => format!("wait for {}", awaited(condition)),
    }
}

/// Returns what reverting a step means.
pub fn describe_revert(revert: &Revert) -> String {
    match revert {
        Revert::Nothing => "nothing".to_owned(),
        Revert::Run { action } => summary(action),
        Revert::CannotRevert { why } => format!("none: {}", clean(why, 100)),
    }
}

/// Returns what reverting a step means within what happens to its VM (`None` for a step that several VMs share).
pub(super) fn describe_revert_of(step: &Step, verb: Option<Verb>) -> String {
    match &step.revert {
        // What is done to a VM that is being made goes when that is rolled back.
        Revert::Nothing if verb == Some(Verb::Create) && !step.action.only_reads() => {
            "deleted with the VM".to_owned()
        }
        revert => describe_revert(revert),
    }
}

/// Returns a value as a plan may show it; a secret is shown by where it comes from, never by what it is.
pub fn describe_value(value: &PatchValue) -> String {
    match value {
        PatchValue::Text(text) => clean(text, 100),
        PatchValue::NewVolume(new) => clean(&new.to_string(), 100),
        PatchValue::Drive { volume, options } => {
            let volume = match volume {
                Ref::Known(volume) => volume.to_string(),
                Ref::OutputOf(step) => format!("<volume of {step}>"),
            };
            if options.is_empty() { volume } else { clean(&format!("{volume},{options}"), 100) }
        }
        PatchValue::KeptVolumes { slots } => {
            let slots: Vec<&str> = slots.iter().map(String::as_str).collect();
            format!("the ownership marker with the volumes of {}", slots.join(", "))
        }
        PatchValue::Options { fields } => {
            let field = |(name, value): (&String, &Option<String>)| match value {
                Some(value) => format!("{name}={value}"),
                None => format!("{name} removed"),
            };
            clean(&format!("…,{}", fields.iter().map(field).collect::<Vec<_>>().join(",")), 100)
        }
        PatchValue::ImportFrom { storage, source, options } => {
            let options = if options.is_empty() { String::new() } else { format!(",{options}") };
            clean(&format!("{storage}:0,import-from={}{options}", source_name(source)), 120)
        }
        PatchValue::Secret { source, form } => {
            let source = match source {
                SecretRef::Env(name) => format!("from ${name}"),
                SecretRef::File(path) => format!("from the file {path}"),
                SecretRef::Command(argv) => format!("from `{}`", argv.join(" ")),
            };
            let form = match form {
                SecretForm::Sha512Crypt => "as a hash",
                SecretForm::Clear => "in clear",
            };
            clean(&format!("<secret {source}, {form}>"), 120)
        }
        PatchValue::PublicKeys { keys, fetch } => {
            let keys = count(keys.len(), "public key");
            if fetch.is_empty() {
                keys
            } else {
                clean(&format!("{keys} and those of {}", fetch.join(", ")), 100)
            }
        }
    }
}

fn imports(config: &ConfigPatch) -> Vec<String> {
    let imports = config.set.iter().filter_map(|(slot, value)| match value {
        PatchValue::ImportFrom { source, .. } => Some(format!("{slot} from {}", source_name(source))),
        _ => None,
    });
    imports.map(|text| clean(&text, 100)).collect()
}

fn source_name(source: &DiskSource) -> String {
    match source {
        DiskSource::Path(path) => path.clone(),
        DiskSource::Volume(Ref::Known(volume)) => volume.to_string(),
        DiskSource::Volume(Ref::OutputOf(step)) => format!("<volume of {step}>"),
    }
}

fn patch_summary(patch: &ConfigPatch) -> String {
    let list = |keys: Vec<&str>| {
        let shown = keys.iter().take(8).copied().collect::<Vec<_>>().join(", ");
        if keys.len() > 8 { format!("{shown} and {} more", keys.len() - 8) } else { shown }
    };
    let set: Vec<&str> = patch.set.keys().map(String::as_str).collect();
    let removed: Vec<&str> = patch.delete.iter().map(String::as_str).collect();
    match (set.is_empty(), removed.is_empty()) {
        (false, true) => format!("set {}", list(set)),
        (true, false) => format!("remove {}", list(removed)),
        _ => format!("set {}, remove {}", list(set), list(removed)),
    }
}

/// Returns what a step waits for.
pub fn awaited(condition: &Condition) -> String {
    match condition {
        Condition::Running => "the VM to run".to_owned(),
        Condition::Stopped => "the VM to stop".to_owned(),
        Condition::Agent => "the guest agent".to_owned(),
        Condition::Address { nic, family, within, .. } => {
            let family = match family {
                IpFamily::V4 => "an IPv4 address",
                IpFamily::V6 => "an IPv6 address",
                IpFamily::Any => "an address",
            };
            let nic = nic.as_ref().map(|nic| format!(" of {nic}")).unwrap_or_default();
            let within = within.as_ref().map(|within| format!(" in {within}")).unwrap_or_default();
            clean(&format!("{family}{nic}{within}"), 100)
        }
        Condition::CloudInit => "cloud-init to finish".to_owned(),
        Condition::Tcp { port } => format!("TCP port {port}"),
        Condition::Command { argv } => clean(&format!("`{}` to succeed", argv.join(" ")), 100),
    }
}
