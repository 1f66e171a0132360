//! Taking over guests that were made by hand: YAML such that the next plan adds the ownership mark and nothing else.

mod devices;

use crate::identity::{self, MarkerSearch};
use crate::observed::{ObservedConfig, ObservedGuest};
use crate::spec::raise::{DISK, NIC, Raised, quoted, raised};
use crate::spec::{self, LoadOptions, Severity, SourceFile};
use pve_config::{Bus, DeviceSlot, Drive, DriveSource, PropertyString};
use pve_types::Vmid;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Why a guest cannot be adopted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// There is no such guest.
    #[error("there is no guest {0}")]
    Missing(Vmid),
    /// It is a container.
    #[error("{0} is a container, and only VMs can be adopted")]
    NotAVm(Vmid),
    /// Its configuration was not observed.
    #[error("the configuration of VM {0} was not read")]
    NoConfig(Vmid),
    /// It bears a mark already.
    #[error("VM {vmid} bears an ownership mark already (of `{owner}`)")]
    Marked {
        /// The VM.
        vmid: Vmid,
        /// Project and name of its owner.
        owner: String,
    },
    /// Two of them have one name, and a spec names each VM once.
    #[error("VMs {one} and {other} are both called `{name}`")]
    SameName {
        /// The first.
        one: Vmid,
        /// The second.
        other: Vmid,
        /// Their name.
        name: String,
    },
    /// It has no UUID that could tell it from others.
    #[error("VM {0} has no UUID")]
    NoUuid(Vmid),
}

impl AdoptError {
    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing(_) => "see `qm list` on the nodes".to_owned(),
            Self::NotAVm(_) => "leave it as it is".to_owned(),
            Self::NoConfig(vmid) => format!("the credentials need VM.Audit on /vms/{vmid}"),
            Self::Marked { .. } => "take the lines `<!-- vmdeploy … -->` out of its notes first".to_owned(),
            Self::SameName { other, .. } => {
                format!("adopt them into two projects, or rename one: `qm set {other} --name NEW`")
            }
            Self::NoUuid(vmid) => format!("`qm set {vmid} --smbios1 uuid=$(uuidgen)` gives it one"),
        }
    }
}

/// Returns a spec of the project with these guests.
///
/// What a spec can say of them is written; the rest stands in comments, is not managed, and so stays as it is.
///
/// # Errors
/// See [`AdoptError`].
pub fn adopt(project: &str, guests: &[(Vmid, Option<&ObservedGuest>)]) -> Result<String, AdoptError> {
    let mut out = format!("version: 1\nproject: {project}\nvms:\n");
    let mut names: BTreeMap<String, Vmid> = BTreeMap::new();
    for (vmid, guest) in guests {
        let guest = guest.ok_or(AdoptError::Missing(*vmid))?;
        write_guest(&mut out, guest)?;
        let name = name_of(guest).to_ascii_lowercase();
        if let Some(one) = names.insert(name.clone(), *vmid).filter(|one| one != vmid) {
            return Err(AdoptError::SameName { one, other: *vmid, name });
        }
    }
    Ok(without_what_is_refused(out))
}

/// Takes out what the spec's own rules refuse, line by line: PVE holds much that nobody would write, and what a spec does
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

fn write_guest(out: &mut String, guest: &ObservedGuest) -> Result<(), AdoptError> {
    let vmid = guest.vmid;
    if guest.kind != "qemu" {
        return Err(AdoptError::NotAVm(vmid));
    }
    let config = guest.config.as_ref().ok_or(AdoptError::NoConfig(vmid))?;
    match identity::Marker::find(identity::config_description(config)) {
        MarkerSearch::Found(marker) => {
            return Err(AdoptError::Marked { vmid, owner: format!("{}/{}", marker.project, marker.name) });
        }
        MarkerSearch::Damaged => return Err(AdoptError::Marked { vmid, owner: "?".to_owned() }),
        MarkerSearch::Absent => {}
    }
    let uuid = identity::config_uuid(config).ok_or(AdoptError::NoUuid(vmid))?;
    let name = name_of(guest);
    let mut writer = Writer { values: effective(config), lines: Vec::new(), unsaid: Vec::new() };
    writer.head(guest, &uuid);
    writer.hardware();
    writer.chipset();
    writer.firmware();
    writer.devices();
    writer.disks();
    writer.nics();
    writer.cloud_init();
    let _ = writeln!(out, "  {name}:");
    for line in &writer.lines {
        let _ = writeln!(out, "    {line}");
    }
    writer.values.retain(|key, _| !is_of_pve(key));
    let raw: Vec<(&String, &String)> =
        writer.values.iter().filter(|(key, value)| fits_raw(key, value)).collect();
    if !raw.is_empty() {
        let _ = writeln!(out, "    raw:");
    }
    for (key, value) in raw {
        let _ = writeln!(out, "      {key}: {}", quoted(value));
    }
    let left = writer.values.iter().filter(|(key, value)| !fits_raw(key, value));
    for text in left.map(|(key, value)| format!("{key}: {value}")).chain(writer.unsaid) {
        let _ = writeln!(out, "    # not managed: {}", one_line(&text));
    }
    Ok(())
}

/// What PVE writes by itself, and what is no setting.
fn is_of_pve(key: &str) -> bool {
    pve_config::is_generated(key)
        || key.starts_with("unused")
        || matches!(key, "lock" | "cipassword" | "sshkeys" | "smbios1")
}

/// Tells whether the spec's `raw:` takes the key: a known option that has no place of its own, and no disk or NIC.
fn fits_raw(key: &str, value: &str) -> bool {
    let elsewhere = [
        "tags",
        "description",
        "citype",
        "ciuser",
        "ciupgrade",
        "cicustom",
        "nameserver",
        "searchdomain",
        "template",
    ];
    let is_elsewhere = |slot: DeviceSlot| {
        !matches!(
            slot.bus(),
            Bus::Hostpci | Bus::Usb | Bus::Virtiofs | Bus::Numa | Bus::Serial | Bus::Parallel
        )
    };
    !elsewhere.contains(&key)
        && !key.parse::<DeviceSlot>().is_ok_and(is_elsewhere)
        && !value.chars().any(char::is_control)
        && pve_config::check_value(key, value, None).is_ok()
}

fn effective(config: &ObservedConfig) -> BTreeMap<String, String> {
    let mut values = config.values.clone();
    for (key, value) in &config.pending {
        match value {
            Some(value) => drop(values.insert(key.clone(), value.clone())),
            None => drop(values.remove(key)),
        }
    }
    values
}

/// Writes a guest's keys and takes each from `values` as soon as it is said.
struct Writer {
    values: BTreeMap<String, String>,
    lines: Vec<String>,
    /// Parts of values that the spec has no word for.
    unsaid: Vec<String>,
}

impl Writer {
    fn line(&mut self, text: impl Into<String>) {
        self.lines.push(text.into());
    }
    fn take(&mut self, key: &str) -> Option<String> {
        self.values.remove(key)
    }
    /// Writes a truth under the spec's name.
    fn flag(&mut self, key: &str, name: &str) {
        let value = match self.values.get(key).map(String::as_str) {
            Some("1") => true,
            Some("0") => false,
            _ => return,
        };
        self.take(key);
        self.line(format!("{name}: {value}"));
    }
    fn text(&mut self, key: &str, name: &str) {
        if let Some(value) = self.take(key) {
            self.line(format!("{name}: {}", quoted(&value)));
        }
    }
    fn block(&mut self, name: &str, lines: Vec<String>) {
        if !lines.is_empty() {
            self.line(format!("{name}:"));
            self.lines.extend(lines);
        }
    }
    fn property(&self, key: &str) -> Option<PropertyString> {
        PropertyString::parse(key, self.values.get(key)?).ok()
    }
    fn map(&mut self, name: &str, fields: Vec<String>) {
        if !fields.is_empty() {
            self.line(format!("{name}: {{{}}}", fields.join(", ")));
        }
    }

    /// Says in a comment what the spec has no word for, and so leaves as it is.
    fn leave(&mut self, key: &str, rest: Vec<String>) {
        if !rest.is_empty() {
            self.unsaid.push(format!("{key}: {}", rest.join(",")));
        }
    }

    fn head(&mut self, guest: &ObservedGuest, uuid: &str) {
        self.take("name");
        self.line(format!("vmid: {}", guest.vmid));
        self.line(format!("uuid: {uuid}"));
        if let Some(mut smbios) = self.property("smbios1") {
            smbios.remove("uuid");
            self.leave("smbios1", smbios.iter().map(|(name, text)| format!("{name}={text}")).collect());
        }
        self.line(format!("node: {}", guest.node));
        if let Some(pool) = &guest.pool {
            self.line(format!("pool: {}", quoted(pool.as_str())));
        }
        if let Some(text) = self.take("description").map(|text| identity::description_text(&text))
            && !text.is_empty()
        {
            self.line(format!("description: {}", quoted(&text)));
        }
        if let Some(tags) = self.take("tags") {
            let tags: Vec<String> =
                tags.split([';', ',', ' ']).filter(|tag| !tag.is_empty()).map(quoted).collect();
            self.line(format!("tags: [{}]", tags.join(", ")));
        }
        self.take("template");
        if guest.template {
            self.line("template: true");
        }
        self.flag("protection", "protection");
        self.flag("onboot", "onboot");
        self.text("ostype", "ostype");
        self.text("scsihw", "scsihw");
    }

    fn hardware(&mut self) {
        let mut cpu = Vec::new();
        for (key, name) in [
            ("cores", "cores"),
            ("sockets", "sockets"),
            ("vcpus", "vcpus"),
            ("cpulimit", "limit"),
            ("cpuunits", "units"),
        ] {
            if let Some(value) = self.values.get(key).filter(|value| value.parse::<f64>().is_ok()).cloned() {
                self.take(key);
                cpu.push(format!("{name}: {value}"));
            }
        }
        if let Some(truth) =
            self.values.get("numa").filter(|value| matches!(value.as_str(), "0" | "1")).cloned()
        {
            self.take("numa");
            cpu.push(format!("numa: {}", truth == "1"));
        }
        if let Some(kind) = self.only_field("cpu", "cputype") {
            cpu.push(format!("type: {}", quoted(&kind)));
        }
        self.map("cpu", cpu);
        let mut memory = Vec::new();
        if let Some(size) = self.only_field("memory", "current") {
            memory.push(format!("size: {size}MiB"));
        }
        match self.values.get("balloon").map(String::as_str) {
            Some("0") => {
                self.take("balloon");
                memory.push("balloon: false".to_owned());
            }
            Some(size) if size.parse::<u64>().is_ok() => {
                memory.push(format!("balloon: {size}MiB"));
                self.take("balloon");
            }
            _ => {}
        }
        self.map("memory", memory);
        let order = self.only_field("boot", "order");
        if let Some(order) = order {
            let devices: Vec<&str> = order.split(';').filter(|device| !device.is_empty()).collect();
            self.line(format!("boot: [{}]", devices.join(", ")));
        }
    }

    /// Takes a property string that says nothing but this field; any other stays, in a comment.
    fn only_field(&mut self, key: &str, field: &str) -> Option<String> {
        let parsed = PropertyString::parse(key, self.values.get(key)?).ok()?;
        let value = parsed.get(field).filter(|_| parsed.iter().count() == 1)?.to_owned();
        self.take(key);
        Some(value)
    }

    fn disks(&mut self) {
        let slots: Vec<(DeviceSlot, String)> = self
            .values
            .iter()
            .filter_map(|(key, text)| Some((key.parse::<DeviceSlot>().ok()?, text.clone())))
            .filter(|(slot, _)| slot.bus().is_drive())
            .collect();
        let mut lines = Vec::new();
        for (slot, text) in slots {
            let key = slot.to_string();
            let Ok(drive) = Drive::parse(&key, &text) else { continue };
            let Some(Raised { fields, rest }) = disk(&drive).filter(|_| !drive.is_cloud_init()) else {
                continue;
            };
            lines.push(format!("  {key}: {{{}}}", fields.join(", ")));
            self.take(&key);
            self.leave(&key, rest);
        }
        self.block("disks", lines);
    }

    fn nics(&mut self) {
        let mut lines = Vec::new();
        let has_cloud_init = self
            .values
            .iter()
            .any(|(key, text)| Drive::parse(key, text).is_ok_and(|drive| drive.is_cloud_init()));
        let slots = self.values.keys().filter_map(|key| key.parse::<DeviceSlot>().ok());
        let nets: Vec<DeviceSlot> = slots.filter(|slot| slot.bus() == Bus::Net).collect();
        for slot in nets {
            let key = slot.to_string();
            let Some(Raised { mut fields, rest }) = self.property(&key).and_then(|nic| raised(&NIC, &nic))
            else {
                continue;
            };
            if has_cloud_init {
                fields.extend(self.address(&format!("ipconfig{}", slot.index())));
            }
            lines.push(format!("  {key}: {{{}}}", fields.join(", ")));
            self.take(&key);
            self.leave(&key, rest);
        }
        self.block("nics", lines);
    }

    fn address(&mut self, key: &str) -> Vec<String> {
        let Some(Ok(config)) = self.values.get(key).map(|text| PropertyString::parse(key, text)) else {
            return Vec::new();
        };
        self.take(key);
        let names = [("ip", "ip"), ("gw", "gateway"), ("ip6", "ip6"), ("gw6", "gateway6")];
        names
            .into_iter()
            .filter_map(|(part, name)| Some(format!("{name}: {}", quoted(config.get(part)?))))
            .collect()
    }

    fn cloud_init(&mut self) {
        let drive = self.values.iter().find_map(|(key, text)| {
            let drive = Drive::parse(key, text).ok().filter(Drive::is_cloud_init)?;
            Some((key.clone(), drive.volume()?.storage().clone()))
        });
        let Some((slot, storage)) = drive else { return };
        self.take(&slot);
        let mut fields = vec![format!("slot: {slot}"), format!("storage: {storage}")];
        if let Some(user) = self.take("ciuser") {
            fields.push(format!("user: {}", quoted(&user)));
        }
        if let Some(kind) = self.take("citype") {
            fields.push(format!("type: {kind}"));
        }
        self.map("cloud_init", fields);
    }
}

fn disk(drive: &Drive) -> Option<Raised> {
    let mut fields = match &drive.source {
        DriveSource::Empty => vec!["iso: none".to_owned()],
        DriveSource::Physical => vec!["iso: cdrom".to_owned()],
        DriveSource::Volume(volume) if drive.is_cdrom() => vec![format!("iso: {}", quoted(volume.as_str()))],
        DriveSource::Volume(volume) => {
            // A disk whose size a spec could not say is left as it is.
            let size = drive.size().filter(|size| size.as_whole_mib().is_some())?;
            vec![format!("storage: {}", volume.storage()), format!("size: {size}")]
        }
        DriveSource::New { .. } | DriveSource::Path(_) => return None,
    };
    let mut raised = raised(&DISK, &without_what_pve_notes(&drive.options))?;
    fields.append(&mut raised.fields);
    Some(Raised { fields, ..raised })
}

/// Returns a drive's options without what PVE notes of it by itself.
fn without_what_pve_notes(options: &PropertyString) -> PropertyString {
    let mut options = options.clone();
    for noted in ["size", "format", "media"] {
        options.remove(noted);
    }
    options
}
