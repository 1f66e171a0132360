//! Adopting existing guests: writes YAML whose plan only adds the ownership marker.

mod devices;
mod error;
mod writer;

pub use error::AdoptError;

use crate::identity::{self, Marker, Ownership};
use crate::observed::{Observed, ObservedGuest};
use crate::spec::{self, LoadOptions, Severity, SourceFile};
use pve_types::{GuestKind, Vmid};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use writer::Writer;

/// What came of adopting guests.
#[derive(Debug, Clone, Default)]
pub struct Adopted {
    /// The spec of those that can be adopted; `None` where there are none.
    pub spec: Option<String>,
    /// What is worth knowing of them, each a sentence without a final period.
    pub notes: Vec<String>,
    /// Why the others cannot.
    pub refused: Vec<AdoptError>,
}

/// Returns a spec of the project with these guests, and why it lacks some of them.
///
/// What a spec can say of them is written; the rest stands in comments, is not managed, and so stays as it is.
pub fn adopt(project: &str, vmids: &[Vmid], observed: &Observed) -> Adopted {
    let mut adopted = Adopted::default();
    let mut out = format!("version: 1\nproject: {project}\nvms:\n");
    let mut names: BTreeMap<String, Vmid> = BTreeMap::new();
    for vmid in vmids {
        match adoptable(project, *vmid, observed) {
            Ok((guest, uuid)) => {
                let name = name_of(guest);
                if let Some(one) = names.get(&name.to_ascii_lowercase()).copied() {
                    if one != *vmid {
                        adopted.refused.push(AdoptError::SameName { one, other: *vmid, name });
                    }
                    continue;
                }
                names.insert(name.to_ascii_lowercase(), *vmid);
                write_guest(&mut out, guest, &uuid, &mut adopted.notes);
            }
            Err(refused) => adopted.refused.push(refused),
        }
    }
    if !names.is_empty() {
        adopted.spec = Some(without_what_is_refused(out));
    }
    adopted
}

/// Returns the guest and its UUID, if it can be adopted.
fn adoptable<'o>(
    project: &str,
    vmid: Vmid,
    observed: &'o Observed,
) -> Result<(&'o ObservedGuest, String), AdoptError> {
    let guest = observed.guests.get(&vmid).ok_or(AdoptError::Missing(vmid))?;
    if guest.kind == GuestKind::Container {
        return Err(AdoptError::NotAVm(vmid));
    }
    let config = guest.config.as_ref().ok_or(AdoptError::NoConfig(vmid))?;
    if let Ownership::Ours(marker) = identity::ownership(guest) {
        return Err(AdoptError::Owned { wanted: project.to_owned(), marker: Box::new(marker) });
    }
    let smbios1 = config.values.get("smbios1").map_or("", String::as_str);
    let fresh = || error::smbios_with(smbios1, &identity::uuid_for_adopted(project, vmid));
    let Some(uuid) = identity::config_uuid(config) else {
        return Err(AdoptError::NoUuid { vmid, smbios1: fresh() });
    };
    let others = observed.guests.values().filter(|other| other.vmid != vmid);
    if let Some(other) = others.into_iter().find(|other| identity::uuid_of(other).as_deref() == Some(&uuid)) {
        return Err(AdoptError::SharedUuid { vmid, other: other.vmid, smbios1: fresh() });
    }
    let over = over_the_limit(project, guest, &uuid, identity::config_description(config));
    if over > 0 {
        return Err(AdoptError::LongDescription { vmid, over });
    }
    Ok((guest, uuid))
}

/// Returns how many characters of the description have to go before an ownership marker fits below it.
fn over_the_limit(project: &str, guest: &ObservedGuest, uuid: &str, description: &str) -> usize {
    let Ok(name) = name_of(guest).parse() else { return 0 };
    let marker = Marker {
        cluster: identity::DEFAULT_CLUSTER.to_owned(),
        project: project.to_owned(),
        name,
        vmid: guest.vmid,
        run: "00000000T000000-xxxxxx".to_owned(),
        uuid: Some(uuid.to_owned()),
        sources: BTreeMap::new(),
        keep: BTreeMap::new(),
        disks: BTreeMap::new(),
    };
    let whole = identity::marked_description(description, &marker);
    whole.chars().count().saturating_sub(identity::MAX_DESCRIPTION)
}

/// Takes out what the spec's own rules refuse, line by line: PVE holds values that no spec can say, and what a spec does
/// not say stays as it is.
fn without_what_is_refused(mut text: String) -> String {
    // Each turn takes a line out at least; a line may be wrong only once another is gone.
    for _ in 0..text.lines().count() {
        let files = [SourceFile::new("adopted.yaml", text.clone())];
        let Err(faults) = spec::load(&files, &LoadOptions::default()) else { break };
        let wrong: BTreeMap<usize, String> = faults
            .into_iter()
            .filter(|fault| fault.severity == Severity::Error)
            .map(|fault| (fault.span.line as usize, fault.message))
            .collect();
        let lines = text.lines().enumerate().map(|(at, line)| {
            let is_key = line.starts_with("    ") && !line.trim_start().starts_with('#');
            match wrong.get(&(at + 1)).filter(|_| is_key) {
                // Everything below it was taken out.
                Some(_) if line.ends_with(':') => String::new(),
                Some(why) => format!("    # not managed ({}): {}\n", one_line(why), line.trim_start()),
                None => format!("{line}\n"),
            }
        });
        let left: String = lines.collect();
        if left == text {
            break;
        }
        text = left;
    }
    text
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if pve_types::is_unprintable(c) { ' ' } else { c }).collect()
}

fn name_of(guest: &ObservedGuest) -> String {
    let name = guest.config.as_ref().and_then(|config| config.values.get("name"));
    name.cloned().unwrap_or_else(|| format!("vm-{}", guest.vmid))
}

/// Returns a name as YAML takes it for a key: what means "nothing" to YAML stands in quotes.
fn as_key(name: &str) -> String {
    let is_nothing = matches!(name.to_ascii_lowercase().as_str(), "null" | "~" | "");
    if is_nothing { format!("\"{name}\"") } else { name.to_owned() }
}

fn write_guest(out: &mut String, guest: &ObservedGuest, uuid: &str, notes: &mut Vec<String>) {
    let Some(config) = guest.config.as_ref() else { return };
    let mut writer = Writer::new(pve_config::after_restart(config.values.clone(), &config.pending));
    writer.guest(guest, uuid);
    let _ = writeln!(out, "  {}:", as_key(&name_of(guest)));
    for line in &writer.lines {
        let _ = writeln!(out, "    {line}");
    }
    for unsaid in &writer.unsaid {
        let _ = writeln!(out, "    # not managed: {}", one_line(unsaid));
    }
    notes.append(&mut writer.notes);
}
