//! What the spec wants of a guest's plain keys, compared by meaning with what is there.
//!
//! Disks are not here: they need volumes. The mark and the description are in `marker`.

use super::input::{Findings, PlanInput, reason};
use crate::digest;
use crate::plan::{LocalFileFacts, PatchValue, Reason, SecretForm, Slot};
use crate::rights;
use crate::spec::{
    CloudInit, Delivery, Desired, DesiredField, DesiredFields, DesiredOption, Nic, OptionValue, Password,
    SnippetSource, Span, SshKey, Vm, password_form_fault,
};
use pve_config::{Drive, GuestTraits, NewVolume, PropertyString, Smbios1};
use pve_types::{Bytes, NodeName, StorageId, VolumeId};
use std::collections::BTreeMap;

/// Which part of a configuration a key belongs to; it decides the call that sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// A plain option, a NIC, the name.
    Plain,
    /// An option that the API lets only root@pam with a password set.
    RootOnly,
    /// Cloud-init's options and addresses.
    CloudInit,
    /// The cloud-init drive.
    CloudDrive,
    /// The boot order, which needs the disks to be there.
    Boot,
    /// The password.
    Password,
}

/// One key that is set or removed.
#[derive(Debug, Clone)]
pub(crate) struct KeyChange {
    pub(crate) key: Slot,
    /// `None` removes it.
    pub(crate) to: Option<PatchValue>,
    pub(crate) part: Part,
    pub(crate) reasons: Vec<Reason>,
    pub(crate) span: Span,
}

/// A cloud-init file that has to be written to a storage.
#[derive(Debug, Clone)]
pub(crate) struct Snippet {
    pub(crate) part: String,
    pub(crate) volume: VolumeId,
    pub(crate) source: String,
    pub(crate) sha256: String,
}

/// The plain keys of one VM.
pub(crate) struct DesiredConfig {
    pub(crate) changes: Vec<KeyChange>,
    pub(crate) snippets: Vec<Snippet>,
}

/// What the keys are compared with.
pub(crate) struct Base<'b> {
    /// The configuration that is there, or that a clone begins with; empty for a new VM.
    pub(crate) values: &'b BTreeMap<String, String>,
    /// Whether the guest exists: then a path in `lifecycle.ignore` is not looked at, and passwords are not set again.
    pub(crate) exists: bool,
}

impl Base<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }
}

/// Returns the plain keys in which the spec and the base differ.
pub(crate) fn desired(
    input: &PlanInput<'_>,
    findings: &mut Findings,
    vm: &Vm,
    uuid: &str,
    node: &NodeName,
    base: &Base<'_>,
) -> DesiredConfig {
    let traits = traits_of(vm, base.get("ostype"));
    let mut collector =
        Collector { input, findings, vm, base, traits, changes: Vec::new(), snippets: Vec::new() };
    collector.name_and_tags();
    collector.options(uuid);
    collector.defaults();
    collector.nics();
    if let Some(cloud) = &vm.cloud_init {
        collector.cloud_init(cloud, node);
    }
    let (changes, mut snippets) = (collector.changes, collector.snippets);
    // A snippet that the guest names already was written when that was set: its name is that of its content.
    let named = base.get("cicustom").unwrap_or("");
    snippets.retain(|snippet| !named.split([',', '=']).any(|part| part == snippet.volume.as_str()));
    DesiredConfig { changes, snippets }
}

/// Tells whether `lifecycle.ignore` names the path or something above it.
pub(crate) fn is_ignored(vm: &Vm, path: &str) -> bool {
    vm.lifecycle.ignore.iter().any(|ignored| {
        path.strip_prefix(ignored.value.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// Returns what kind of guest the VM is once the plan is carried out; `there` is the `ostype` that it has, or that a
/// clone begins with.
pub(crate) fn traits_of(vm: &Vm, there: Option<&str>) -> GuestTraits {
    match vm.options.get("ostype").map(|desired| &desired.value) {
        Some(OptionValue::Whole(ostype)) => GuestTraits::of_ostype(Some(ostype)),
        Some(OptionValue::Remove) => GuestTraits::default(),
        Some(OptionValue::Fields(_)) | None => GuestTraits::of_ostype(there),
    }
}

struct Collector<'c, 'a> {
    input: &'c PlanInput<'a>,
    findings: &'c mut Findings,
    vm: &'c Vm,
    base: &'c Base<'c>,
    traits: GuestTraits,
    changes: Vec<KeyChange>,
    snippets: Vec<Snippet>,
}

impl Collector<'_, '_> {
    fn skips(&self, path: &str) -> bool {
        self.base.exists && is_ignored(self.vm, path)
    }

    fn name_and_tags(&mut self) {
        let name = self.vm.name.value.to_string();
        // An adopted guest without a name stays without one: adopting only adds the ownership marker.
        let stays_nameless = self.base.exists && self.vm.uuid.is_some() && self.base.get("name").is_none();
        if !stays_nameless {
            self.whole(("name", "name"), self.vm.name.span, &name, Part::Plain);
        }
        match &self.vm.tags {
            Desired::Unmanaged => {}
            Desired::Remove(span) => self.remove(("tags", "tags"), *span, Part::Plain),
            Desired::Set(tags) => {
                let joined = tags.value.iter().map(String::as_str).collect::<Vec<_>>().join(";");
                if joined.is_empty() {
                    self.remove(("tags", "tags"), tags.span, Part::Plain);
                } else {
                    self.whole(("tags", "tags"), tags.span, &joined, Part::Plain);
                }
            }
        }
    }

    fn options(&mut self, uuid: &str) {
        for (key, desired) in &self.vm.options {
            if key != "smbios1" {
                self.option(key, desired);
            }
        }
        self.smbios(uuid);
    }

    /// Adds what a new VM gets where its spec says nothing.
    fn defaults(&mut self) {
        if self.base.exists {
            return;
        }
        for (key, text) in super::defaults::of_new_vm(self.vm, self.traits) {
            self.changes.push(KeyChange {
                key: key.to_owned(),
                to: Some(PatchValue::Text(text.to_owned())),
                part: Part::Plain,
                reasons: Vec::new(),
                span: self.vm.name.span,
            });
        }
    }

    /// The UUID stands in one property string with whatever the spec says of the machine's maker.
    fn smbios(&mut self, uuid: &str) {
        let desired = self.vm.options.get("smbios1");
        let span = desired.map_or(self.vm.name.span, |desired| desired.span);
        let said = desired.map(|desired| &desired.value);
        let is_whole = matches!(said, Some(OptionValue::Remove | OptionValue::Whole(_)));
        let there = self.base.get("smbios1").filter(|_| !is_whole).unwrap_or_default();
        let Ok(mut value) = Smbios1::parse(there) else { return self.coded_smbios(uuid, span) };
        match said {
            Some(OptionValue::Whole(text)) => value = Smbios1::parse(text).unwrap_or_default(),
            Some(OptionValue::Fields(fields)) => {
                let said = Smbios1::parse(&printed("smbios1", fields)).unwrap_or_default().fields;
                for name in fields.keys().filter(|name| *name != "base64") {
                    match said.get(name) {
                        Some(text) => value.fields.set(name.clone(), text),
                        None => drop(value.fields.remove(name)),
                    }
                }
            }
            Some(OptionValue::Remove) | None => {}
        }
        value.fields.set("uuid", uuid);
        self.whole(("smbios1", "uuid"), span, &value.print(), Part::Plain);
    }

    /// Sets the UUID, and what the spec says, in a value whose texts are coded and no UTF-8: the others stay as they are.
    fn coded_smbios(&mut self, uuid: &str, span: Span) {
        let fields = match self.vm.options.get("smbios1").map(|desired| &desired.value) {
            Some(OptionValue::Fields(fields)) => fields.clone(),
            _ => DesiredFields::new(),
        };
        let said = fields.iter().map(|(name, desired)| (name.as_str(), desired.value.as_deref()));
        let desired = said.chain([("uuid", Some(uuid))]).collect();
        self.set_fields(("smbios1", "smbios"), span, desired, Part::Plain, Some(&fields));
    }

    /// Refuses what this version of PVE does not know, at its line.
    fn check_version(&mut self, key: &str, path: &str, span: Span, text: &str) {
        let version = self.input.transports.version;
        if let Err(error) = pve_config::check_value(key, text, Some(version)) {
            let at = (span, self.vm.path(path));
            let hint = format!(
                "the cluster has PVE {version}: remove it, or use a value that this version supports"
            );
            self.findings.refuse(self.input.deployment, at, error.to_string(), hint);
        }
    }

    fn option(&mut self, key: &str, desired: &DesiredOption) {
        match &desired.value {
            OptionValue::Remove => {}
            OptionValue::Whole(text) => self.check_version(key, &desired.path, desired.span, text),
            OptionValue::Fields(fields) => {
                self.check_version(key, &desired.path, desired.span, &printed(key, fields))
            }
        }
        let part = match key {
            "boot" => Part::Boot,
            _ if self.needs_root(key, desired) => Part::RootOnly,
            _ => Part::Plain,
        };
        match &desired.value {
            OptionValue::Remove => self.remove((key, &desired.path), desired.span, part),
            OptionValue::Whole(text) => self.whole((key, &desired.path), desired.span, text, part),
            OptionValue::Fields(fields) => self.fields((key, &desired.path), desired.span, fields, part),
        }
    }

    /// Tells whether the API lets only root@pam with a password make the change, for what it sets or for what is there.
    fn needs_root(&self, key: &str, desired: &DesiredOption) -> bool {
        let text = desired.value.text(key).unwrap_or_default();
        let version = self.input.transports.version;
        let guards = |there: &str| rights::is_root_only_while_set(key, there, version);
        rights::is_root_only(key, &text, version) || self.base.get(key).is_some_and(guards)
    }

    fn nics(&mut self) {
        for (slot, desired) in &self.vm.nics {
            let (net, ipconfig) = (slot.to_string(), format!("ipconfig{}", slot.index()));
            let path = format!("nics.{net}");
            match desired {
                Desired::Unmanaged => {}
                Desired::Remove(span) => {
                    self.remove((&net, &path), *span, Part::Plain);
                    self.remove((&ipconfig, &path), *span, Part::CloudInit);
                }
                Desired::Set(nic) => self.nic((&net, &ipconfig, &path), &nic.value),
            }
        }
    }

    fn nic(&mut self, (net, ipconfig, path): (&str, &str, &str), nic: &Nic) {
        let mut options = nic.options.clone();
        if self.base.get(net).is_none() {
            let path = format!("{path}.model");
            let virtio = DesiredField { path, span: nic.span, value: Some("virtio".to_owned()) };
            options.entry("model".to_owned()).or_insert(virtio);
        }
        self.check_version(net, path, nic.span, &printed(net, &options));
        self.fields((net, path), nic.span, &options, Part::Plain);
        let mut addresses: BTreeMap<&str, Option<&str>> =
            nic.ipconfig.iter().map(|(name, desired)| (name.as_str(), desired.value.as_deref())).collect();
        // An address and its gateway are one desired: a gateway of the old network would not fit the new address.
        for (address, gateway) in [("ip", "gw"), ("ip6", "gw6")] {
            if addresses.contains_key(address) {
                addresses.entry(gateway).or_insert(None);
            }
        }
        if !addresses.is_empty() && !self.skips(&format!("{path}.ip")) {
            let desired = addresses.into_iter().collect();
            let path = format!("{path}.ip");
            self.set_fields((ipconfig, &path), nic.span, desired, Part::CloudInit, Some(&nic.ipconfig));
        }
    }

    fn cloud_init(&mut self, cloud: &CloudInit, node: &NodeName) {
        self.cloud_drive(cloud);
        for (key, desired) in &cloud.options {
            let path = format!("cloud_init.{}", desired.path.trim_start_matches("cloud_init."));
            match &desired.value {
                OptionValue::Remove => self.remove((key, &path), desired.span, Part::CloudInit),
                OptionValue::Whole(text) => self.whole((key, &path), desired.span, text, Part::CloudInit),
                OptionValue::Fields(fields) => {
                    self.fields((key, &path), desired.span, fields, Part::CloudInit)
                }
            }
        }
        self.public_keys(cloud);
        self.custom(cloud, node);
        if let Some(password) = &cloud.password
            && (!self.base.exists || self.input.context.set_passwords)
        {
            self.check_password_form(password);
            let form = if password.clear { SecretForm::Clear } else { SecretForm::Sha512Crypt };
            let mut why = reason("cloud_init.password", None, Some("<secret>".to_owned()));
            why.note = Some("set, and never compared".to_owned());
            self.changes.push(KeyChange {
                key: "cipassword".to_owned(),
                to: Some(PatchValue::Secret { source: password.source.value.clone(), form }),
                part: Part::Password,
                reasons: vec![why],
                span: password.source.span,
            });
        }
    }

    /// Notes that the guest cannot use a password in this form, where only what is there says what the guest is.
    fn check_password_form(&mut self, password: &Password) {
        let is_checked_already =
            self.vm.options.contains_key("ostype") || (self.vm.clone.is_none() && self.vm.uuid.is_none());
        if is_checked_already {
            return;
        }
        if let Some((message, hint)) = password_form_fault(self.traits.windows, password.clear) {
            self.findings.note(&self.vm.name.value, message, Some(hint));
        }
    }

    fn cloud_drive(&mut self, cloud: &CloudInit) {
        let path = "cloud_init.slot";
        let is_cloud = |key: &str, text: &str| {
            slot_of_drive(key) && Drive::parse(key, text).is_ok_and(|drive| drive.is_cloud_init())
        };
        let there =
            self.base.values.iter().find(|(key, text)| is_cloud(key, text)).map(|(key, _)| key.clone());
        let slot = match (&cloud.slot, &there) {
            (Some(slot), _) => slot.value,
            // A drive that is there stays where it is.
            (None, Some(_)) => return,
            (None, None) => super::defaults::cloud_slot(self.vm, self.traits, self.base.values),
        };
        let slot = slot.to_string();
        if there.as_deref() == Some(slot.as_str()) || self.skips(path) {
            return;
        }
        let storage =
            cloud.storage.as_ref().map(|storage| storage.value.clone()).or_else(|| boot_storage(self.vm));
        let storage =
            storage.or_else(|| self.base.values.iter().find_map(|(key, text)| storage_of(key, text)));
        let Some(storage) = storage else {
            let at = (cloud.span, self.vm.path("cloud_init"));
            let message = "no storage is set for the cloud-init drive";
            self.findings.refuse(self.input.deployment, at, message, "write `cloud_init: {storage: …}`");
            return;
        };
        if let Some(old) = &there {
            self.remove((old, path), cloud.span, Part::CloudDrive);
        }
        let options =
            cloud.format.as_ref().map(|format| format!("format={}", format.value)).unwrap_or_default();
        let to = Some(format!("{slot} on {storage}"));
        let new = NewVolume { options, ..NewVolume::cloud_init(storage) };
        self.changes.push(KeyChange {
            key: slot,
            to: Some(PatchValue::NewVolume(new)),
            part: Part::CloudDrive,
            reasons: vec![reason(path, there, to)],
            span: cloud.span,
        });
    }

    fn public_keys(&mut self, cloud: &CloudInit) {
        let path = "cloud_init.ssh_keys";
        let (desired, span) = match &cloud.ssh_keys {
            Desired::Unmanaged => return,
            Desired::Remove(span) => return self.remove(("sshkeys", path), *span, Part::CloudInit),
            Desired::Set(keys) => (&keys.value, keys.span),
        };
        let (mut keys, mut fetch) = (Vec::new(), Vec::new());
        for key in desired {
            match &key.value {
                SshKey::Literal(text) => keys.push(text.trim().to_owned()),
                SshKey::Account(account) => fetch.push(account.clone()),
                SshKey::File(file) => match self.input.context.local_files.get(file) {
                    Some(LocalFileFacts::PublicKeys(read)) => keys.extend(read.iter().cloned()),
                    _ => {
                        let at = (key.span, self.vm.path(path));
                        let message =
                            format!("the public keys in `{}` could not be read", file.escape_debug());
                        let hint = "the file must exist and contain public keys, one per line";
                        self.findings.refuse(self.input.deployment, at, message, hint);
                    }
                },
            }
        }
        if self.skips(path) || (self.base.exists && same_keys(self.base.get("sshkeys"), &keys, &fetch)) {
            return;
        }
        let count =
            |text: Option<&str>| text.map(|text| crate::render::count(decoded_lines(text).len(), "key"));
        let own = crate::render::count(keys.len(), "key");
        let to = if fetch.is_empty() { own } else { format!("{own} and those of {}", fetch.join(", ")) };
        self.changes.push(KeyChange {
            key: "sshkeys".to_owned(),
            reasons: vec![reason(path, count(self.base.get("sshkeys")), Some(to))],
            to: Some(PatchValue::PublicKeys { keys, fetch }),
            part: Part::CloudInit,
            span,
        });
    }

    fn custom(&mut self, cloud: &CloudInit, node: &NodeName) {
        let mut parts: Vec<(String, Option<String>)> = Vec::new();
        for (part, desired) in &cloud.custom {
            match desired {
                Desired::Unmanaged => {}
                Desired::Remove(_) => parts.push((part.clone(), None)),
                Desired::Set(source) => {
                    let volume = match &source.value {
                        SnippetSource::Volume(volume) => Some(volume.clone()),
                        SnippetSource::File(file) => self.snippet(cloud, node, part, file, source.span),
                    };
                    parts.extend(volume.map(|volume| (part.clone(), Some(volume.to_string()))));
                }
            }
        }
        let desired: Vec<_> = parts.iter().map(|(part, volume)| (part.as_str(), volume.as_deref())).collect();
        if !desired.is_empty() && !self.skips("cloud_init.custom") {
            let path = "cloud_init.custom";
            self.set_fields(("cicustom", path), cloud.span, desired, Part::CloudInit, None);
        }
    }

    /// A snippet's name carries a piece of its digest: a changed file is another volume, and so a difference.
    fn snippet(
        &mut self,
        cloud: &CloudInit,
        node: &NodeName,
        part: &str,
        file: &str,
        span: Span,
    ) -> Option<VolumeId> {
        let at = (span, self.vm.path(&format!("cloud_init.{part}")));
        let by_ssh = self.input.transports.node_only("");
        if by_ssh.is_none() {
            let message = format!(
                "the cloud-init file `{}` must be written to the node, which the API cannot do",
                file.escape_debug()
            );
            let hint = match cloud.delivery {
                Delivery::Auto | Delivery::Snippet => {
                    "use `transport: hybrid`, or copy the file to the node and use its volume: `local:snippets/…`"
                }
            };
            self.findings.refuse(self.input.deployment, at, message, hint);
            return None;
        }
        let Some(LocalFileFacts::Content { sha256, .. }) = self.input.context.local_files.get(file) else {
            let message = format!("the file `{}` could not be read", file.escape_debug());
            self.findings.refuse(
                self.input.deployment,
                at,
                message,
                "its path is relative to the spec's folder",
            );
            return None;
        };
        let storage = cloud.snippets.as_ref().map(|storage| storage.value.clone());
        let storage: Option<StorageId> =
            storage.or_else(|| self.input.storage_for(node, "snippets").map(|seen| seen.storage.clone()));
        let Some(storage) = storage else {
            let message = format!("no storage of {node} allows `snippets` content");
            let hint = "`pvesm set local --content …,snippets` on the node enables it, or set another storage: `cloud_init: {snippets: …}`";
            self.findings.refuse(self.input.deployment, at, message, hint);
            return None;
        };
        let digits: String = sha256.chars().take(12).collect();
        let volume: VolumeId =
            format!("{storage}:snippets/vmdeploy-{}-{part}-{digits}.yaml", self.vm.name.value)
                .parse()
                .ok()?;
        self.snippets.push(Snippet {
            part: part.to_owned(),
            volume: volume.clone(),
            source: file.to_owned(),
            sha256: sha256.clone(),
        });
        Some(volume)
    }

    fn remove(&mut self, (key, path): (&str, &str), span: Span, part: Part) {
        let Some(from) = self.base.get(key).filter(|_| !self.skips(path)) else { return };
        // What means the same as nothing is no difference, such as the machine version that PVE pins for Windows.
        if self.base.exists && self.traits.same_config_value(key, Some(from), None) {
            return;
        }
        self.changes.push(KeyChange {
            key: key.to_owned(),
            to: None,
            part,
            reasons: vec![reason(path, Some(from.to_owned()), None)],
            span,
        });
    }

    fn whole(&mut self, (key, path): (&str, &str), span: Span, text: &str, part: Part) {
        let from = self.base.get(key);
        if self.skips(path) || (self.base.exists && self.traits.same_config_value(key, from, Some(text))) {
            return;
        }
        if !self.base.exists && from.is_some_and(|from| self.traits.same_value(key, from, text)) {
            return;
        }
        self.changes.push(KeyChange {
            key: key.to_owned(),
            to: Some(PatchValue::Text(text.to_owned())),
            part,
            reasons: vec![reason(path, from.map(|from| shown(key, from)), Some(shown(key, text)))],
            span,
        });
    }

    fn fields(&mut self, (key, path): (&str, &str), span: Span, fields: &DesiredFields, part: Part) {
        let looked_at = fields.iter().filter(|(_, desired)| !self.skips(&desired.path));
        let desired: Vec<_> =
            looked_at.map(|(name, desired)| (name.as_str(), desired.value.as_deref())).collect();
        self.set_fields((key, path), span, desired, part, Some(fields));
    }

    fn set_fields(
        &mut self,
        (key, path): (&str, &str),
        span: Span,
        desired: Vec<(&str, Option<&str>)>,
        part: Part,
        places: Option<&DesiredFields>,
    ) {
        let from = self.base.get(key);
        let Ok(to) = self.traits.overlay(key, from, desired.iter().copied()) else {
            let at = (span, self.vm.path(path));
            let message = format!(
                "the current value of `{key}` cannot be parsed: `{}`",
                from.unwrap_or("").escape_debug()
            );
            let hint =
                format!("check `qm config` on the node, or ignore it: `lifecycle: {{ignore: [{path}]}}`");
            self.findings.refuse(self.input.deployment, at, message, hint);
            return;
        };
        let is_same =
            || self.traits.same_config_value(key, from, Some(&to)) && !fills_in(key, from, &desired);
        if desired.is_empty() || is_same() && (self.base.exists || from.is_some()) {
            return;
        }
        if to.is_empty() {
            return self.remove((key, path), span, part);
        }
        let reasons = field_reasons(self.traits, (key, path), from, &to, &desired, places);
        let value = Some(PatchValue::Text(to));
        self.changes.push(KeyChange { key: key.to_owned(), to: value, part, reasons, span });
    }
}

/// Tells whether something is wished for that PVE would otherwise draw itself, such as the MAC of a clone's NIC.
fn fills_in(key: &str, from: Option<&str>, desired: &[(&str, Option<&str>)]) -> bool {
    let fields = pve_config::find_key(key).map_or(&[][..], pve_config::Key::fields);
    let drawn = |name: &str| fields.iter().any(|field| field.name == name && field.filled_in);
    let mut wished = desired.iter().filter(|(name, desired)| desired.is_some() && drawn(name)).peekable();
    if wished.peek().is_none() {
        return false;
    }
    let there = from.and_then(|text| PropertyString::parse(key, text).ok()).unwrap_or_default();
    wished.any(|(name, _)| there.get(name).is_none())
}

fn field_reasons(
    traits: GuestTraits,
    (key, path): (&str, &str),
    from: Option<&str>,
    to: &str,
    desired: &[(&str, Option<&str>)],
    places: Option<&DesiredFields>,
) -> Vec<Reason> {
    let Some(from) = from else { return vec![reason(path, None, Some(shown(key, to)))] };
    let old = PropertyString::parse(key, from).unwrap_or_default();
    let differs = |name: &str, desired: Option<&str>| {
        !traits.same_field(key, name, old.get(name), desired) && old.get(name) != desired
    };
    desired
        .iter()
        .filter(|(name, desired)| differs(name, *desired))
        .map(|(name, desired)| {
            let place = places.and_then(|places| places.get(*name)).map(|desired| desired.path.clone());
            let place = place.unwrap_or_else(|| format!("{path}.{name}"));
            let shown = |text: &str| if *name == "current" { shown(key, text) } else { text.to_owned() };
            reason(place, old.get(name).map(shown), desired.map(shown))
        })
        .collect()
}

/// Returns a value as people write it: PVE's mebibytes with their unit, a UUID without its field.
fn shown(key: &str, text: &str) -> String {
    match key {
        "memory" | "balloon" => match text.trim_start_matches("current=").parse() {
            Ok(mib) if mib > 0 => Bytes::from_mib(mib).to_string(),
            _ => text.to_owned(),
        },
        "smbios1" => text.strip_prefix("uuid=").filter(|rest| !rest.contains(',')).unwrap_or(text).to_owned(),
        _ => text.to_owned(),
    }
}

/// Returns the fields that are set, as a property string.
fn printed(key: &str, fields: &DesiredFields) -> String {
    let fields = fields.iter().filter_map(|(name, desired)| Some((name.as_str(), desired.value.as_deref()?)));
    fields.collect::<PropertyString>().print(key)
}

fn slot_of_drive(key: &str) -> bool {
    pve_config::Bus::of_key(key).is_some_and(pve_config::Bus::is_drive)
}

/// Returns the storage of the VM's first disk, as the spec names it.
fn boot_storage(vm: &Vm) -> Option<StorageId> {
    let disks = vm.disks.iter().filter(|(slot, _)| slot.bus().is_drive());
    let storages =
        disks.filter_map(|(_, desired)| desired.set()?.storage.as_ref().map(|storage| storage.value.clone()));
    let of_clone =
        || vm.clone.as_ref().and_then(|clone| clone.storage.as_ref()).map(|storage| storage.value.clone());
    storages.into_iter().next().or_else(of_clone)
}

fn storage_of(key: &str, text: &str) -> Option<StorageId> {
    let drive = Drive::parse(key, text).ok().filter(|drive| slot_of_drive(key) && !drive.is_cdrom())?;
    drive.volume().map(|volume| volume.storage().clone())
}

/// Tells whether the keys that are set are those that are wished for. Keys of accounts are fetched only when
/// deploying: where there are any, the others must be there, and their list must be what the marker remembers.
fn same_keys(current: Option<&str>, keys: &[String], fetch: &[String]) -> bool {
    let current = decoded_lines(current.unwrap_or(""));
    let all_there = keys.iter().all(|key| current.contains(key));
    all_there && if fetch.is_empty() { current.len() == keys.len() } else { !current.is_empty() }
}

fn decoded_lines(text: &str) -> Vec<String> {
    let text = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// Returns the digest of a list of keys with accounts in it, for the marker.
pub(crate) fn keys_digest(cloud: &CloudInit) -> Option<String> {
    let keys = cloud.ssh_keys.set()?;
    let has_accounts = keys.iter().any(|key| matches!(key.value, SshKey::Account(_)));
    let text: Vec<String> = keys.iter().map(|key| format!("{:?}", key.value)).collect();
    has_accounts.then(|| digest::short(&text.join("\n")))
}
