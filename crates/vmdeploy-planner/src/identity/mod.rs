//! Which guests are ours, and which VM of a spec each of them is.
//!
//! A guest is ours if its description has one ownership marker, the marker's VMID is the guest's own, and its `smbios1`
//! UUID is the one that the marker names, or else the one that cluster, project and name give. Anything less is foreign
//! and never touched. The marker keeps us from touching what is not ours; it is no defence against a person who may edit
//! the guest.
//!
//! [`Owners::find`] is the one rule that says which guest a VM of a spec is; every command uses it.

mod facts;
mod owners;

pub use facts::facts_of;
pub use owners::{DEFAULT_CLUSTER, Found, IdentityFault, Owners, is_same_cluster};

use crate::observed::{ObservedConfig, ObservedGuest, Query};
use crate::plan::Slot;
use pve_types::{GuestName, Vmid, VolumeId};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The name space of our UUIDs; chosen once, at random.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_7c0e_52a4_4c8b_9b39_0d5e_8a7c_41f2);
const MARK_START: &str = "<!-- vmdeploy ";
const MARK_END: &str = " -->";

/// Returns the UUID of a VM that we make: version 5 of cluster, project and name; lower-case with dashes.
pub fn guest_uuid(cluster: &str, project: &str, name: &GuestName) -> String {
    // None of the three can hold a `/`, so that no two triples give one text.
    Uuid::new_v5(&NAMESPACE, format!("{cluster}/{project}/{name}").as_bytes()).to_string()
}

/// Returns another UUID for such a VM, for when a guest has the first one.
fn numbered_uuid(cluster: &str, project: &str, name: &GuestName, number: u32) -> String {
    Uuid::new_v5(&NAMESPACE, format!("{cluster}/{project}/{name}/{number}").as_bytes()).to_string()
}

/// Returns a UUID for a guest that has none of its own and is to be adopted.
pub(crate) fn uuid_for_adopted(project: &str, vmid: Vmid) -> String {
    Uuid::new_v5(&NAMESPACE, format!("adopted/{project}/{vmid}").as_bytes()).to_string()
}

/// How many characters a description may have, the marker included.
// PVE: qemu-server src/PVE/QemuServer.pm: maxLength of `description`.
pub const MAX_DESCRIPTION: usize = 8192;

/// The line in a guest's description that names its owner; an HTML comment, which the web interface hides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// The cluster, as the spec names it.
    pub cluster: String,
    /// The project.
    pub project: String,
    /// The VM's name in the spec.
    pub name: GuestName,
    /// The guest's own number; a copy made by hand carries another guest's.
    pub vmid: Vmid,
    /// The run that made or adopted it.
    pub run: String,
    /// The UUID of a guest that keeps the one that it had: it was adopted, renamed or moved to another project. `None`
    /// where it is [`guest_uuid`] of the other fields.
    pub uuid: Option<String>,
    /// A short digest of the image, or clone source, that each disk was made from.
    pub sources: BTreeMap<Slot, String>,
    /// The disks that survive the guest, each with its holder: so that a VM that is gone from the spec keeps them too.
    pub keep: BTreeMap<Slot, Option<Vmid>>,
    /// The slots that the spec has disks in. Of one that survives the guest also the volume, once it is known: it is
    /// kept in whatever slot it is.
    pub disks: BTreeMap<Slot, Option<VolumeId>>,
}

impl std::fmt::Display for Marker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cluster, project, name, vmid, run, uuid, sources, keep, disks } = self;
        write!(f, "{MARK_START}cluster={cluster} project={project} name={name} vmid={vmid} run={run}")?;
        if let Some(uuid) = uuid {
            write!(f, " uuid={uuid}")?;
        }
        for (slot, digest) in sources {
            write!(f, " {slot}={digest}")?;
        }
        for (slot, holder) in keep {
            match holder {
                Some(holder) => write!(f, " keep:{slot}={holder}")?,
                None => write!(f, " keep:{slot}=-")?,
            }
        }
        for (slot, volume) in disks {
            match volume {
                Some(volume) => write!(f, " disk:{slot}={volume}")?,
                None => write!(f, " disk:{slot}=-")?,
            }
        }
        f.write_str(MARK_END)
    }
}

/// What a description says about its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkerSearch {
    /// There is no marker line.
    Absent,
    /// There is one.
    Found(Marker),
    /// There is one that cannot be read, or there are several.
    Damaged,
}

impl Marker {
    /// Looks for the marker line in a (decoded) description.
    pub fn find(description: &str) -> MarkerSearch {
        let mut lines = description.lines().filter(|line| is_marker_line(line));
        match (lines.next(), lines.next()) {
            (None, _) => MarkerSearch::Absent,
            (Some(line), None) => Self::parse(line).map_or(MarkerSearch::Damaged, MarkerSearch::Found),
            (Some(_), Some(_)) => MarkerSearch::Damaged,
        }
    }
    fn parse(line: &str) -> Option<Self> {
        let inner = line.trim().strip_prefix(MARK_START)?.strip_suffix(MARK_END)?;
        let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
        for field in inner.split_whitespace() {
            let (key, value) = field.split_once('=')?;
            if fields.insert(key, value).is_some() {
                return None;
            }
        }
        let keep = fields
            .iter()
            .filter_map(|(key, holder)| Some((key.strip_prefix("keep:")?, *holder)))
            .map(|(slot, holder)| Some((slot.to_owned(), holder_of(holder)?)))
            .collect::<Option<_>>()?;
        let disks = fields
            .iter()
            .filter_map(|(key, volume)| Some((key.strip_prefix("disk:")?, *volume)))
            .map(|(slot, volume)| Some((slot.to_owned(), volume_of(volume)?)))
            .collect::<Option<_>>()?;
        fields.retain(|key, _| !key.starts_with("keep:") && !key.starts_with("disk:"));
        let mut take = |key: &str| fields.remove(key);
        Some(Self {
            keep,
            disks,
            cluster: take("cluster")?.to_owned(),
            project: take("project")?.to_owned(),
            name: take("name")?.parse().ok()?,
            vmid: take("vmid")?.parse().ok()?,
            run: take("run")?.to_owned(),
            uuid: take("uuid").map(str::to_owned),
            sources: fields.into_iter().map(|(slot, digest)| (slot.to_owned(), digest.to_owned())).collect(),
        })
    }
    /// Returns the UUID that the guest with this marker has.
    pub fn expected_uuid(&self) -> String {
        let derived = || guest_uuid(&self.cluster, &self.project, &self.name);
        self.uuid.clone().unwrap_or_else(derived)
    }
}

/// Reads the holder of a kept disk: a VMID, or `-` for none.
fn holder_of(text: &str) -> Option<Option<Vmid>> {
    if text == "-" { Some(None) } else { text.parse().ok().map(Some) }
}

/// Reads the volume of a disk, or `-` where it is not remembered.
fn volume_of(text: &str) -> Option<Option<VolumeId>> {
    if text == "-" { Some(None) } else { text.parse().ok().map(Some) }
}

fn is_marker_line(line: &str) -> bool {
    line.trim_start().starts_with(MARK_START)
}

/// Returns the description without marker lines and without blank lines at its end: what people wrote.
pub fn description_text(description: &str) -> String {
    let lines: Vec<&str> = description.lines().filter(|line| !is_marker_line(line)).collect();
    lines.join("\n").trim_end().to_owned()
}

/// Returns the description of people's text and the marker line below it.
pub fn marked_description(text: &str, marker: &Marker) -> String {
    let text = description_text(text);
    if text.is_empty() { marker.to_string() } else { format!("{text}\n\n{marker}") }
}

/// Returns the `uuid=` of an `smbios1` value, lower-case with dashes.
pub fn smbios_uuid(smbios1: &str) -> Option<String> {
    let value = smbios1.split(',').find_map(|part| part.trim().strip_prefix("uuid="))?;
    Some(value.parse::<Uuid>().ok()?.to_string())
}

/// Tells whether a configuration may be kept: it has a marker of one of the query's projects, has one of its UUIDs, or
/// its VMID was asked for. The observer must drop every other guest's configuration.
pub fn may_be_ours(query: &Query, vmid: Vmid, description: Option<&str>, smbios1: Option<&str>) -> bool {
    let Query::Configs { projects, uuids, also } = query else { return false };
    let marked = || {
        let marks = description.unwrap_or("").lines().filter(|line| is_marker_line(line));
        let project =
            |field: &str| field.strip_prefix("project=").is_some_and(|name| projects.contains(name));
        marks.into_iter().any(|line: &str| line.split_whitespace().any(project))
    };
    also.contains(&vmid)
        || smbios1.and_then(smbios_uuid).is_some_and(|uuid| uuids.contains(&uuid))
        || marked()
}

/// Whose a guest is, as far as its configuration tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    /// Ours: UUID, marker and the marker's VMID agree.
    Ours(Marker),
    /// A copy of one of ours, made by hand: the marker names another VMID.
    Copy(Marker),
    /// Marker and VMID are right and the UUID is not: a clone whose run was killed before the UUID was written, or a guest
    /// whose UUID was changed by hand.
    Unfinished(Marker),
    /// It has this UUID, and no readable marker.
    Unmarked {
        /// The UUID.
        uuid: Option<String>,
    },
}

/// Returns whose the guest is. A guest whose configuration could not be read is [`Ownership::Unmarked`].
pub fn ownership(guest: &ObservedGuest) -> Ownership {
    let (search, uuid) = match &guest.config {
        Some(config) => (Marker::find(config_description(config)), config_uuid(config)),
        None => (Marker::find(&guest.facts.markers.join("\n")), guest.facts.uuid.clone()),
    };
    let MarkerSearch::Found(marker) = search else { return Ownership::Unmarked { uuid } };
    if marker.vmid != guest.vmid {
        Ownership::Copy(marker)
    } else if uuid.as_deref() == Some(marker.expected_uuid().as_str()) {
        Ownership::Ours(marker)
    } else {
        Ownership::Unfinished(marker)
    }
}

/// Returns the UUID of a guest of any owner.
pub fn uuid_of(guest: &ObservedGuest) -> Option<String> {
    guest.config.as_ref().map_or_else(|| guest.facts.uuid.clone(), config_uuid)
}

/// Returns the description of a configuration, decoded; empty where there is none.
pub fn config_description(config: &ObservedConfig) -> &str {
    config.values.get("description").map_or("", String::as_str)
}

/// Returns the UUID of a configuration, with one that waits for a restart taken first.
pub fn config_uuid(config: &ObservedConfig) -> Option<String> {
    let pending = config.pending.get("smbios1").cloned().flatten();
    smbios_uuid(pending.as_deref().or(config.values.get("smbios1").map(String::as_str))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn marker() -> Marker {
        Marker {
            cluster: "default".to_owned(),
            project: "web".to_owned(),
            name: "web01".parse().unwrap(),
            vmid: "201".parse().unwrap(),
            run: "20261121-abc".to_owned(),
            uuid: None,
            sources: BTreeMap::from([("scsi0".to_owned(), "1a2b3c4d".to_owned())]),
            keep: BTreeMap::from([("scsi1".to_owned(), None), ("scsi2".to_owned(), "999".parse().ok())]),
            disks: BTreeMap::from([
                ("scsi0".to_owned(), None),
                ("scsi1".to_owned(), "local-lvm:vm-201-disk-1".parse().ok()),
            ]),
        }
    }

    #[test]
    fn a_uuid_depends_on_all_three_names_and_on_nothing_else() {
        let uuid = |cluster, project, name: &str| guest_uuid(cluster, project, &name.parse().unwrap());
        let one = uuid("default", "web", "web01");
        // A changed value here would make every deployed VM foreign.
        assert_eq!(one, "66bcbd3e-c6dd-5680-a75c-0ade06c1c56c");
        for other in
            [uuid("lab", "web", "web01"), uuid("default", "db", "web01"), uuid("default", "web", "web02")]
        {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_marker_is_read_back_from_a_description() {
        let text = marked_description("Web server\nsecond line\n\n", &marker());
        assert_eq!(Marker::find(&text), MarkerSearch::Found(marker()));
        // PVE gives the description back with a line feed at its end.
        assert_eq!(Marker::find(&format!("{text}\n")), MarkerSearch::Found(marker()));
        assert_eq!(description_text(&text), "Web server\nsecond line");
        assert_eq!(marked_description("", &marker()), marker().to_string());
        let adopted = Marker { uuid: Some("2b2b2b2b-0000-4000-8000-000000000001".to_owned()), ..marker() };
        assert_eq!(Marker::find(&adopted.to_string()), MarkerSearch::Found(adopted));
    }

    #[test]
    fn a_damaged_or_doubled_marker_owns_nothing() {
        let line = marker().to_string();
        for text in [
            line.replace("vmid=201", "vmid=20x"),
            line.replace(" run=20261121-abc", ""),
            line.replace("project=web", "project=web project=db"),
            line.replace(" -->", ""),
            format!("{line}\n{line}"),
        ] {
            assert_eq!(Marker::find(&text), MarkerSearch::Damaged, "{text}");
        }
        assert_eq!(Marker::find("just a note"), MarkerSearch::Absent);
    }

    fn guest(vmid: u32, uuid: &str, description: &str) -> ObservedGuest {
        let values = BTreeMap::from([
            ("description".to_owned(), description.to_owned()),
            ("smbios1".to_owned(), format!("uuid={},manufacturer=x", uuid.to_uppercase())),
        ]);
        let config = ObservedConfig {
            values,
            pending: BTreeMap::new(),
            digest: None,
            lock: None,
            snapshots: false,
            cloud_init_stale: BTreeSet::new(),
        };
        ObservedGuest {
            vmid: Vmid::new(vmid).unwrap(),
            node: "pve1".parse().unwrap(),
            name: None,
            kind: pve_types::GuestKind::Vm,
            status: pve_types::PowerState::Stopped,
            template: false,
            pool: None,
            volumes: None,
            facts: crate::observed::GuestFacts::default(),
            config: Some(config),
        }
    }

    #[test]
    fn anything_less_than_uuid_marker_and_own_vmid_is_foreign() {
        let (line, uuid) = (marker().to_string(), marker().expected_uuid());
        let other = "11111111-1111-4111-8111-111111111111";
        assert_eq!(ownership(&guest(201, &uuid, &line)), Ownership::Ours(marker()));
        assert_eq!(ownership(&guest(202, &uuid, &line)), Ownership::Copy(marker()));
        assert_eq!(ownership(&guest(201, other, &line)), Ownership::Unfinished(marker()));
        assert_eq!(ownership(&guest(201, &uuid, "note")), Ownership::Unmarked { uuid: Some(uuid) });
        let adopted = Marker { uuid: Some(other.to_owned()), ..marker() };
        assert_eq!(ownership(&guest(201, other, &adopted.to_string())), Ownership::Ours(adopted));
    }

    #[test]
    fn only_configurations_that_may_be_ours_are_kept() {
        let (line, uuid) = (marker().to_string(), marker().expected_uuid());
        let query = Query::Configs {
            projects: BTreeSet::from(["web".to_owned()]),
            uuids: BTreeSet::from([uuid.clone()]),
            also: BTreeSet::from([Vmid::new(999).unwrap()]),
        };
        let kept = |vmid, description: &str, smbios1: &str| {
            may_be_ours(&query, Vmid::new(vmid).unwrap(), Some(description), Some(smbios1))
        };
        assert!(kept(201, &line, ""), "marked");
        assert!(kept(201, "", &format!("uuid={uuid}")), "our UUID");
        assert!(kept(999, "", ""), "asked for");
        assert!(!kept(300, &line.replace("project=web", "project=webshop"), "uuid=x"), "another project's");
        assert!(!kept(300, "project=web", ""), "a note is no mark");
    }
}
