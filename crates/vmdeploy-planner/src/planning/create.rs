//! Making a VM: created or cloned, configured, started, waited for.

use super::boot::{BOOT_WHY, Before, order_set_last};
use super::chain::{Chain, Link, delete_guest};
use super::desired::{Base, DesiredConfig, KeyChange, Part, Snippet, desired};
use super::disks::{DiskPlanner, NewDisk, default_boot_order, push_new_growth};
use super::images::is_on_node;
use super::input::{Findings, PlanInput, reason};
use super::making::Making;
use super::marker;
use super::transports::{Shape, TransportWithWhy};
use super::{cloning, ready};
use crate::observed::Rights;
use crate::plan::{Action, ConfigPatch, GuestRef, PatchValue, Ref, Slot, Transport, TransportChoice};
use crate::spec::{Desired, DiskContent, PowerState, Vm};
use pve_config::PropertyString;
use pve_types::{Bytes, Privilege};
use std::collections::BTreeMap;

/// The configuration of a new VM, by the call that sets it.
#[derive(Default)]
struct Split {
    /// Goes with the create call.
    base: ConfigPatch,
    /// Goes with the one `qm set` after the disks are imported.
    attach: ConfigPatch,
    /// Goes with a call of its own right after the create: what a pool's privileges allow only then.
    in_pool: ConfigPatch,
    /// The password, where it needs a call of its own.
    password: ConfigPatch,
    /// `protection`, which would keep an revert from removing the VM.
    protect: ConfigPatch,
}

/// Takes out of the changes what removes a clone's cloud-init drive for which another is made.
fn cloud_drive_removal(split: &mut Split, there: &BTreeMap<String, String>) -> ConfigPatch {
    let mut removal = ConfigPatch::default();
    let is_drive = |slot: &String| {
        let drive = there.get(slot).and_then(|text| pve_config::Drive::parse(slot, text).ok());
        drive.is_some_and(|drive| drive.is_cloud_init())
    };
    for patch in [&mut split.base, &mut split.attach] {
        let gone: Vec<Slot> = patch.delete.iter().filter(|slot| is_drive(slot)).cloned().collect();
        for slot in gone {
            patch.delete.remove(&slot);
            removal.delete.insert(slot);
        }
    }
    removal
}

impl Making<'_, '_> {
    /// Plans everything from nothing to a running VM.
    pub(crate) fn make(&mut self) {
        match &self.vm.clone {
            Some(clone) => self.make_by_clone(clone),
            None => self.make_new(),
        }
        self.finish();
        self.chain.wait_for_shared_first();
    }

    fn make_new(&mut self) {
        let nothing = BTreeMap::new();
        let base = Base { values: &nothing, exists: false };
        let DesiredConfig { mut changes, snippets } =
            desired(self.input, self.findings, self.vm, &self.guest.uuid, &self.guest.node, &base);
        self.keep_macs(&mut changes);
        let shape = self.input.transports.shape(self.needs_node(&changes, &snippets));
        self.refuse_root_only(&changes, shape);
        self.place_snippets(&snippets);
        let create_transport = match shape {
            Shape::Classic => {
                self.input.transports.api_first("one call creates the VM with its ownership marker")
            }
            Shape::Single(Transport::Ssh) if self.input.transports.choice == TransportChoice::Ssh => {
                self.input.transports.api_first("")
            }
            Shape::Single(Transport::Ssh) => (
                Transport::Ssh,
                "`qm create` imports the image from its path, which the API allows only root@pam to use"
                    .to_owned(),
            ),
            Shape::Single(_) => {
                self.input.transports.api_first("one call creates the VM with its disks and ownership marker")
            }
        };
        let mut split = self.split(changes, shape, create_transport.0);
        let boot_of_kept = self.boot_of_kept(&mut split);
        self.describe_mark(&mut split.base);
        // An import needs the VM to be there, and a single create needs the images: so the disks of the single shape
        // are planned before the create is pushed, those of the classic one after it.
        let mut growth = Vec::new();
        if shape == Shape::Classic {
            self.push_create(std::mem::take(&mut split.base), create_transport);
            self.add_disks(shape, &mut split.attach, &mut growth);
        } else {
            let attach = std::mem::take(&mut split.attach);
            split.base.set.extend(attach.set);
            self.add_disks(shape, &mut split.base, &mut growth);
            self.push_create(std::mem::take(&mut split.base), create_transport);
        }
        self.push_set(
            "tags",
            split.in_pool,
            self.input.transports.api_first("the pool's privileges reach the VM once it is there"),
        );
        let boot = order_set_last(Before::Unknown, &mut [&mut split.attach]);
        self.push_set(
            "attach",
            split.attach,
            self.input.transports.node_first(
                "disks, cloud-init drive, boot order and addresses in one `qm set`",
                "one call sets disks, cloud-init drive, boot order and addresses",
            ),
        );
        self.push_set("boot", boot, self.input.transports.api_first(BOOT_WHY));
        push_new_growth(self.input, &mut self.chain, self.guest, growth);
        self.take_kept_disks(boot_of_kept);
        self.remember_kept();
        self.push_password(split.password);
        self.push_protection(split.protect);
    }

    fn make_by_clone(&mut self, clone: &crate::spec::CloneFrom) {
        let Some(source) = cloning::source(self.input, self.findings, self.vm, self.guest, clone) else {
            return;
        };
        let whole = cloning::laid_over(self.input, self.vm, self.guest, source.config.clone(), false);
        super::together::refuse_conflicts(self.input, self.findings, self.vm, &whole, None);
        let base = Base { values: &source.config, exists: false };
        let DesiredConfig { mut changes, snippets } =
            desired(self.input, self.findings, self.vm, &self.guest.uuid, &self.guest.node, &base);
        self.keep_macs(&mut changes);
        let needs_node = self.needs_node(&changes, &snippets);
        let shape = self.input.transports.shape(needs_node);
        self.refuse_root_only(&changes, shape);
        self.place_snippets(&snippets);
        let marker = marker::desired_marker(self.input, self.vm, self.guest, None);
        let description = marker::desired_description(self.vm, &marker, "");
        marker::refuse_long_description(self.input, self.findings, self.vm, &description);
        cloning::push_clone(self, &source, clone, description);
        let mut split = self.split(changes, shape, Transport::Api);
        let boot_of_kept = self.boot_of_kept(&mut split);
        let mut growth = Vec::new();
        let first = cloud_drive_removal(&mut split, &source.config);
        self.push_set(
            "remove-cloud-init",
            first,
            self.input.transports.api_first("a VM has one cloud-init drive: the clone's is removed first"),
        );
        self.change_cloned_disks(&source, shape, &mut split.attach, &mut growth);
        split.base.set.extend(std::mem::take(&mut split.password.set));
        let boot = source.config.get("boot").map(String::as_str);
        let before = Before::Known { values: &source.config, boot };
        let boot = order_set_last(before, &mut [&mut split.base, &mut split.attach]);
        let plain = std::mem::take(&mut split.base);
        self.push_set(
            "configure",
            plain,
            self.input.transports.api_first("sets the UUID right after the clone, before any other change"),
        );
        self.push_set(
            "attach",
            split.attach,
            self.input.transports.node_first(
                "disks, cloud-init and boot order in one `qm set`",
                "one call sets disks, cloud-init and boot order",
            ),
        );
        self.push_set("boot", boot, self.input.transports.api_first(BOOT_WHY));
        push_new_growth(self.input, &mut self.chain, self.guest, growth);
        self.take_kept_disks(boot_of_kept);
        self.remember_kept();
        self.push_protection(split.protect);
    }

    /// Lets NICs keep the MAC addresses that they had in the VM that is replaced, where the spec does not say others.
    fn keep_macs(&self, changes: &mut [KeyChange]) {
        for change in changes {
            let (Some(mac), Some(PatchValue::Text(text))) = (self.keeping.mac(&change.key), &mut change.to)
            else {
                continue;
            };
            let Ok(mut net) = PropertyString::parse(&change.key, text) else { continue };
            if net.get("macaddr").is_none() {
                net.set("macaddr", mac.to_string());
                *text = net.print(&change.key);
            }
        }
    }

    /// Takes a boot order out of the changes that names a disk which is only taken over later.
    // PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api refuses an order with a device that is not there.
    fn boot_of_kept(&self, split: &mut Split) -> ConfigPatch {
        let mut late = ConfigPatch::default();
        for patch in [&mut split.base, &mut split.attach] {
            let Some(PatchValue::Text(order)) = patch.set.get("boot") else { continue };
            let order = order.clone();
            if order.trim_start_matches("order=").split(';').any(|slot| self.keeping.has(slot)) {
                patch.set.remove("boot");
                late.set.insert("boot".to_owned(), PatchValue::Text(order));
            }
        }
        late
    }

    fn take_kept_disks(&mut self, boot: ConfigPatch) {
        let reasons = self.keeping.push_back(self.input, &mut self.chain, self.guest);
        self.reasons.extend(reasons);
        self.push_set("boot-kept", boot, self.input.transports.api_first(BOOT_WHY));
    }

    fn remember_kept(&mut self) {
        let slots = self.vm.disks.keys().map(ToString::to_string).collect();
        marker::push_kept_volumes(self.input, &mut self.chain, self.vm, self.guest, slots);
    }

    /// Tells whether something needs a command on the node.
    fn needs_node(&self, changes: &[KeyChange], snippets: &[Snippet]) -> bool {
        let images = self.vm.disks.values().filter_map(Desired::set).filter_map(|disk| match &disk.content {
            DiskContent::Image(name) => self.input.deployment.images.get(&name.value),
            _ => None,
        });
        images.into_iter().any(is_on_node)
            || changes.iter().any(|change| change.part == Part::RootOnly)
            || !snippets.is_empty()
    }

    fn refuse_root_only(&mut self, changes: &[KeyChange], shape: Shape) {
        if shape != Shape::Single(Transport::Api) || self.input.transports.api_may_set_root_only() {
            return;
        }
        refuse_root_only(self.input, self.findings, self.vm, changes);
    }

    fn place_snippets(&mut self, snippets: &[Snippet]) {
        push_snippets(self.input, &mut self.chain, self.guest, snippets);
    }

    fn split(&mut self, changes: Vec<KeyChange>, shape: Shape, create_transport: Transport) -> Split {
        let mut split = Split::default();
        for change in changes {
            // A new VM's name stands above its list already.
            if change.key != "name" {
                self.reasons.extend(change.reasons);
            }
            let classic = shape == Shape::Classic;
            let target = match change.part {
                Part::Password if create_transport == Transport::Ssh => &mut split.password,
                Part::Password => &mut split.base,
                _ if change.key == "protection" => &mut split.protect,
                Part::Plain if change.key == "tags" && self.tags_wait_for_pool(create_transport) => {
                    &mut split.in_pool
                }
                Part::Plain => &mut split.base,
                _ if classic => &mut split.attach,
                _ => &mut split.base,
            };
            match change.to {
                Some(value) => drop(target.set.insert(change.key, value)),
                None => drop(target.delete.insert(change.key)),
            }
        }
        let is_boot_said = self.vm.options.contains_key("boot");
        if !is_boot_said && let Some(order) = default_boot_order(self.vm, self.vm.clone.is_some()) {
            split.attach.set.insert("boot".to_owned(), PatchValue::Text(order));
        }
        split
    }

    /// Tells whether the tags are allowed by the VM's pool alone, in which it is only once it is made.
    // PVE: qemu-server src/PVE/API2/Qemu.pm create_vm: the worker asks about the tags with no regard to the pool.
    fn tags_wait_for_pool(&self, create_transport: Transport) -> bool {
        let path = format!("/vms/{}", self.guest.vmid);
        let lacks = |rights: &Rights| !rights.holds(Privilege::VmConfigOptions, &path);
        create_transport == Transport::Api
            && self.vm.clone.is_none()
            && self.vm.pool.set().is_some()
            && self.input.observed.rights.as_ref().is_some_and(lacks)
    }

    fn describe_mark(&mut self, patch: &mut ConfigPatch) {
        let marker = marker::desired_marker(self.input, self.vm, self.guest, None);
        let description = marker::desired_description(self.vm, &marker, "");
        marker::refuse_long_description(self.input, self.findings, self.vm, &description);
        if let Some(text) = self.vm.description.set() {
            self.reasons.push(reason("description", None, Some(text.clone())));
        }
        patch.set.insert("description".to_owned(), PatchValue::Text(description));
    }

    fn push_create(&mut self, config: ConfigPatch, transport: TransportWithWhy) {
        let pool = self.vm.pool.set().cloned();
        if let Some(pool) = &pool {
            self.reasons.push(reason("pool", None, Some(pool.to_string())));
        }
        let copies = config.set.values().any(|value| matches!(value, PatchValue::ImportFrom { .. }));
        let deadline = if copies { 3_600 } else { 120 };
        let action = Action::CreateVm { guest: self.guest.clone(), config, pool };
        self.chain.push(Link::new("create", action, transport, deadline).revert(delete_guest(self.guest)));
    }

    fn add_disks(&mut self, shape: Shape, patch: &mut ConfigPatch, growth: &mut Vec<(Slot, Bytes)>) {
        let vm = self.vm;
        for disk in vm.disks.values().filter_map(Desired::set) {
            if self.keeping.has(&disk.slot.to_string()) {
                continue;
            }
            self.add_disk(shape, disk, patch, growth);
        }
    }

    fn add_disk(
        &mut self,
        shape: Shape,
        disk: &crate::spec::Disk,
        patch: &mut ConfigPatch,
        growth: &mut Vec<(Slot, Bytes)>,
    ) {
        let mut planner = DiskPlanner {
            input: self.input,
            shared: self.shared,
            findings: self.findings,
            vm: self.vm,
            guest: self.guest,
            shape,
        };
        let Some(NewDisk { value, grow_to, reason }) = planner.new_disk(&mut self.chain, disk) else {
            return;
        };
        let slot = disk.slot.to_string();
        growth.extend(grow_to.map(|size| (slot.clone(), size)));
        self.reasons.push(reason);
        patch.set.insert(slot, value);
    }

    /// A clone has its source's disks: they can grow and change options; others are added.
    fn change_cloned_disks(
        &mut self,
        source: &cloning::Source,
        shape: Shape,
        patch: &mut ConfigPatch,
        growth: &mut Vec<(Slot, Bytes)>,
    ) {
        let vm = self.vm;
        for (slot, desired) in &vm.disks {
            let name = slot.to_string();
            let there = source.config.get(&name);
            if self.keeping.has(&name) {
                continue;
            }
            match (desired, there) {
                (Desired::Set(disk), None) => self.add_disk(shape, &disk.value, patch, growth),
                (Desired::Set(disk), Some(text)) => {
                    cloning::check(self.input, self.findings, vm, &disk.value, text);
                    cloning::grow(self, &disk.value, text, growth);
                    if let Some(value) = cloning::options(&disk.value, text) {
                        patch.set.insert(name.clone(), value);
                    }
                    let desired = disk.value.size.as_ref().map(|size| size.value.to_string());
                    let to = joined_reason(desired, &super::disks::options_of(&disk.value));
                    self.reasons.push(reason(format!("disks.{name}"), None, Some(to)));
                }
                (Desired::Remove(_), Some(text)) => {
                    patch.delete.insert(name.clone());
                    self.reasons.push(reason(format!("disks.{name}"), Some(text.clone()), None));
                }
                (Desired::Remove(_), None) | (Desired::Unmanaged, _) => {}
            }
        }
    }

    /// Pushes a configuration change, if there is one.
    pub(crate) fn push_set(&mut self, what: &str, patch: ConfigPatch, transport: TransportWithWhy) {
        if patch.is_empty() {
            return;
        }
        let action = Action::SetConfig { guest: self.guest.clone(), patch, digest: None };
        self.chain.push(Link::new(what, action, transport, 300));
    }

    fn push_password(&mut self, patch: ConfigPatch) {
        if patch.is_empty() {
            return;
        }
        let transport = match self.input.transports.choice {
            TransportChoice::Ssh => {
                super::wanted_password_by_ssh(self.input, self.findings, self.vm);
                (
                    Transport::Ssh,
                    "the `ssh` transport cannot use the API; the password is sent as a hash".to_owned(),
                )
            }
            _ => (Transport::Api, "a password is never passed on a command line".to_owned()),
        };
        self.push_set("password", patch, transport);
    }

    fn push_protection(&mut self, patch: ConfigPatch) {
        if patch.is_empty() {
            return;
        }
        let transport = self.input.transports.api_first("set last, so that a revert can still remove the VM");
        let unprotect = ConfigPatch { delete: ["protection".to_owned()].into(), ..ConfigPatch::default() };
        let revert = Action::SetConfig { guest: self.guest.clone(), patch: unprotect, digest: None };
        let action = Action::SetConfig { guest: self.guest.clone(), patch, digest: None };
        self.chain.push(Link::new("protect", action, transport, 60).revert(revert));
    }

    /// Plans what follows when the configuration stands: template or HA, start, readiness.
    fn finish(&mut self) {
        if self.vm.template {
            let transport = self.input.transports.api_first("one call makes its disks read-only");
            let action = Action::ConvertToTemplate { guest: self.guest.clone() };
            self.chain.push(Link::new("template", action, transport, 600));
            self.reasons.push(reason("template", None, Some("true".to_owned())));
            return;
        }
        let ha = self.vm.ha.set();
        if let Some(ha) = ha {
            super::availability::push_ha(
                self.input,
                &mut self.chain,
                self.guest,
                Some(super::availability::desired_ha(ha)),
            );
            self.reasons.push(reason("ha", None, Some(ha.state.to_string())));
        }
        let starts = match self.vm.lifecycle.state.as_ref().map(|state| state.value) {
            None | Some(PowerState::Running) => ha.is_none_or(|ha| ha.state.is_started()),
            Some(PowerState::Stopped | PowerState::Unmanaged) => false,
        };
        if starts {
            ready::push_start(self.input, &mut self.chain, self.guest, ha.is_some());
            ready::push_conditions(self.input, &mut self.chain, self.vm, self.guest, None);
        }
    }
}

fn joined_reason(size: Option<String>, options: &str) -> String {
    let parts: Vec<String> =
        size.into_iter().chain((!options.is_empty()).then(|| options.to_owned())).collect();
    if parts.is_empty() { "as cloned".to_owned() } else { parts.join(", ") }
}

/// Refuses options that no token may set, at their lines.
pub(crate) fn refuse_root_only(
    input: &PlanInput<'_>,
    findings: &mut Findings,
    vm: &Vm,
    changes: &[KeyChange],
) {
    for change in changes.iter().filter(|change| change.part == Part::RootOnly) {
        let path = change.reasons.first().map_or(change.key.as_str(), |reason| reason.path.as_str());
        let message =
            format!("the API allows only root@pam with a password to set `{}`, not a token", change.key);
        let hint = "use `transport: hybrid`, or remove it";
        findings.refuse(input.deployment, (change.span, vm.path(path)), message, hint);
    }
}

/// Appends the steps that write cloud-init data to a storage.
pub(crate) fn push_snippets(
    input: &PlanInput<'_>,
    chain: &mut Chain,
    guest: &GuestRef,
    snippets: &[Snippet],
) {
    for snippet in snippets {
        let Some(transport) =
            input.transports.node_only("PVE's API cannot upload snippets; SFTP writes the file")
        else {
            continue;
        };
        let action = Action::PlaceSnippet {
            node: guest.node.clone(),
            volume: snippet.volume.clone(),
            source: snippet.source.clone(),
            sha256: snippet.sha256.clone(),
        };
        let volume = Ref::Known(snippet.volume.clone());
        let revert = Action::FreeVolume { node: guest.node.clone(), volume };
        chain.push(Link::new(format!("snippet-{}", snippet.part), action, transport, 120).revert(revert));
    }
}
