//! Bringing a guest that exists to what the spec says, in place.

mod slots;

use super::availability::{foreign_place, merged_ha, own_ha, push_ha, same_ha, shown_ha};
use super::boot::{BOOT_WHY, Before, order_set_last};
use super::chain::{Chain, Link};
use super::create::{push_snippets, refuse_root_only};
use super::desired::{Base, KeyChange, Part, desired};
use super::disks::push_growth;
use super::existing_disks::{DiskChanges, DiskMove, OptionFields, existing_disks};
use super::hotplug;
use super::images::Shared;
use super::input::{Current, Findings, PlanInput, Resolved, reason};
use super::marker;
use super::outdated::{self, outdated_disks};
use super::ready;
use crate::identity;
use crate::plan::{
    Action, ConfigPatch, DesiredHa, GuestRef, ImportAction, MoveAction, NoteTopic, OutdatedDisk, PatchValue,
    Reason, Revert, Slot, Step, Transport, TransportChoice, Verb,
};
use crate::spec::{Desired, Ha, Permission, PowerState, Spanned, Vm};
use pve_config::Bus;
use pve_types::{HaState, PoolId};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What is done to a guest that exists.
pub(crate) struct Update {
    pub(crate) verb: Verb,
    pub(crate) reasons: Vec<Reason>,
    pub(crate) steps: Vec<Step>,
    /// Why it cannot be done in place; then there are no steps.
    pub(crate) replace: Vec<ReplaceReason>,
    /// The images whose change replaces the VM, where that is allowed; then there are no steps either.
    pub(crate) replace_outdated: Vec<Reason>,
    /// The disks whose image has changed, whatever follows.
    pub(crate) outdated: Vec<OutdatedDisk>,
}

impl Update {
    /// Returns why the VM is replaced; nothing where it is changed in place.
    pub(crate) fn why_replaced(&self) -> Vec<Reason> {
        let replace = self.replace.iter().map(|why| &why.reason);
        self.replace_outdated.iter().chain(replace).cloned().collect()
    }
}

/// A difference that cannot be removed in place.
#[derive(Debug)]
pub(crate) struct ReplaceReason {
    pub(crate) cause: ReplaceCause,
    /// The difference, as the plan shows it.
    pub(crate) reason: Reason,
}

/// What keeps a VM from being changed in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplaceCause {
    /// It is cloned from another source, and a VM is cloned once.
    CloneSource,
    /// It is a template, and a template does not become a VM again.
    Template,
}

/// Plans the changes of one guest.
pub(crate) fn plan_update(
    input: &PlanInput<'_>,
    shared: &mut Shared,
    findings: &mut Findings,
    resolved: &Resolved<'_>,
    current: &Current<'_>,
) -> Update {
    let mut updating = Updating {
        input,
        shared,
        findings,
        vm: resolved.vm,
        guest: &resolved.guest,
        current,
        chain: Chain::new(&resolved.guest.name),
        reasons: Vec::new(),
        replace: Vec::new(),
        replace_outdated: Vec::new(),
        outdated: Vec::new(),
        waits_for_restart: Vec::new(),
        stops: false,
    };
    updating.plan();
    updating.finish()
}

struct Updating<'u, 'a> {
    input: &'u PlanInput<'a>,
    shared: &'u mut Shared,
    findings: &'u mut Findings,
    vm: &'u Vm,
    guest: &'u GuestRef,
    current: &'u Current<'a>,
    chain: Chain,
    reasons: Vec<Reason>,
    replace: Vec<ReplaceReason>,
    replace_outdated: Vec<Reason>,
    outdated: Vec<OutdatedDisk>,
    /// The keys whose new values a running guest takes only at its restart.
    waits_for_restart: Vec<String>,
    /// Whether it is shut down before it is changed, and started again afterwards.
    stops: bool,
}

impl Updating<'_, '_> {
    fn plan(&mut self) {
        self.look_for_replacement();
        if !self.replace.is_empty() || !self.replace_outdated.is_empty() {
            return;
        }
        let values = self.current.effective_config();
        let base = Base { values: &values, exists: true };
        let mut plain =
            desired(self.input, self.findings, self.vm, &self.guest.uuid, &self.current.guest.node, &base);
        // A list with accounts in it is compared by what the marker remembers of it.
        if !marker::keys_changed(self.vm, self.current.marker.as_ref()) {
            let cloud = self.vm.cloud_init.as_ref();
            if cloud.and_then(super::desired::keys_digest).is_some() {
                plain.changes.retain(|change| change.key != "sshkeys");
            }
        } else if let Some(change) = self.forced_keys(&plain.changes) {
            plain.changes.push(change);
        }
        self.refuse_conflicts(&plain.changes, &values);
        if self.input.transports.choice == TransportChoice::Api
            && !self.input.transports.api_may_set_root_only()
        {
            refuse_root_only(self.input, self.findings, self.vm, &plain.changes);
        }
        if self.input.transports.choice == TransportChoice::Ssh
            && plain.changes.iter().any(|change| change.part == Part::Password)
        {
            super::wanted_password_by_ssh(self.input, self.findings, self.vm);
        }
        let disks = existing_disks(
            self.input,
            self.shared,
            self.findings,
            self.vm,
            self.guest,
            self.current,
            &mut self.chain,
        );
        self.stop_for_slots(&plain.changes, &disks);
        self.refuse_growth_that_waits(&disks);
        push_snippets(self.input, &mut self.chain, self.guest, &plain.snippets);
        let touches_cloud_init = plain.changes.iter().any(|change| is_cloud_init_data(&change.key));
        let plugs_drive = self.plugs_cloud_drive(&plain.changes);
        self.push_config(plain.changes, &disks);
        self.push_disk_work(disks);
        self.push_cloud_init(touches_cloud_init, plugs_drive);
        self.pool();
        self.high_availability();
        self.template();
        self.power();
        self.say_where_it_is();
    }

    fn refuse_conflicts(&mut self, changes: &[KeyChange], values: &BTreeMap<String, String>) {
        let mut config = values.clone();
        for change in changes {
            match &change.to {
                Some(PatchValue::Text(text)) => drop(config.insert(change.key.clone(), text.clone())),
                Some(_) => {}
                None => drop(config.remove(&change.key)),
            }
        }
        let changed = changes.iter().map(|change| change.key.clone()).collect();
        super::together::refuse_conflicts(self.input, self.findings, self.vm, &config, Some(&changed));
    }

    fn look_for_replacement(&mut self) {
        let remembered = self.current.marker.as_ref();
        self.outdated = outdated_disks(self.input, self.vm, self.current);
        if super::may_replace_outdated(self.input, self.vm) {
            self.replace_outdated.extend(self.outdated.iter().map(outdated::reason_of));
        } else {
            outdated::note(self.findings, &self.guest.name, &self.outdated);
        }
        if let (Some(clone), Some(marker)) = (&self.vm.clone, remembered)
            && marker::is_other_source(self.input, marker, clone)
            && !super::desired::is_ignored(self.vm, "clone")
        {
            let mut why = reason("clone", Some("another source".to_owned()), Some("this one".to_owned()));
            why.note = Some("the clone source cannot be changed afterwards".to_owned());
            self.replace.push(ReplaceReason { cause: ReplaceCause::CloneSource, reason: why });
        }
        if self.current.guest.template && !self.vm.template {
            let why = reason("template", Some("true".to_owned()), Some("false".to_owned()));
            self.replace.push(ReplaceReason { cause: ReplaceCause::Template, reason: why });
        }
    }

    /// A disk that a running guest gets only at its restart is no disk yet that could be grown.
    fn refuse_growth_that_waits(&mut self, disks: &DiskChanges) {
        let hotplug = self.current.config.values.get("hotplug").map(String::as_str);
        for (slot, size, _) in disks.growth.iter().filter(|(slot, ..)| disks.new_slots.contains(slot)) {
            if !self.runs() || hotplug::is_hot(slot, None, Some("new:volume"), hotplug) {
                continue;
            }
            let desired = slot.parse().ok().and_then(|slot| self.vm.disks.get(&slot)).and_then(Desired::set);
            let span = desired.map_or(self.vm.name.span, |disk| disk.span);
            let message = format!(
                "`{slot}` is attached at the next restart and can be grown to {size} only afterwards"
            );
            let hint = format!(
                "use a `scsi` slot, remove `size` for now, or run `vmdeploy shutdown {}` first",
                self.guest.name
            );
            let at = (span, self.vm.path(&format!("disks.{slot}.size")));
            self.findings.refuse(self.input.deployment, at, message, hint);
        }
    }

    fn forced_keys(&self, changes: &[KeyChange]) -> Option<KeyChange> {
        if changes.iter().any(|change| change.key == "sshkeys") {
            return None;
        }
        let nothing = std::collections::BTreeMap::new();
        let base = Base { values: &nothing, exists: false };
        let mut ignored = Findings::default();
        let all = desired(self.input, &mut ignored, self.vm, &self.guest.uuid, &self.guest.node, &base);
        all.changes.into_iter().find(|change| change.key == "sshkeys")
    }

    fn push_config(&mut self, mut changes: Vec<KeyChange>, disks: &DiskChanges) {
        let mut by_api = ConfigPatch::default();
        let mut on_node = ConfigPatch::default();
        let removal = self.cloud_drive_removal(&mut changes);
        let has_node_work = !disks.new_slots.is_empty()
            || changes.iter().any(|change| matches!(change.part, Part::RootOnly | Part::CloudDrive));
        for change in changes {
            self.reasons.extend(change.reasons.iter().cloned());
            let to = change.to.as_ref().map(text_of);
            self.note_restart(&change.key, to.as_deref());
            let target = match self.transport_of(change.part, has_node_work) {
                Transport::Ssh => &mut on_node,
                Transport::Api | Transport::Local => &mut by_api,
            };
            match change.to {
                Some(value) => drop(target.set.insert(change.key, value)),
                None => drop(target.delete.insert(change.key)),
            }
        }
        for (slot, value) in &disks.set {
            let is_new = disks.new_slots.contains(slot);
            self.note_restart(slot, Some(&text_of(value)));
            let part = if is_new { Part::CloudDrive } else { Part::Plain };
            let target = if self.transport_of(part, has_node_work) == Transport::Ssh {
                &mut on_node
            } else {
                &mut by_api
            };
            target.set.insert(slot.clone(), value.clone());
        }
        for slot in &disks.delete {
            self.note_restart(slot, None);
            if self.runs() && self.is_in_boot_order(slot) {
                self.waits_for_restart.push("boot".to_owned());
            }
            by_api.delete.insert(slot.clone());
        }
        self.boot_of_renamed(disks, &mut by_api);
        self.describe_mark(disks, &mut by_api);
        if self.input.transports.choice == TransportChoice::Ssh {
            on_node.set.extend(std::mem::take(&mut by_api.set));
            on_node.delete.extend(std::mem::take(&mut by_api.delete));
        }
        let before =
            Before::Known { values: &self.current.config.values, boot: self.current.effective("boot") };
        let boot = order_set_last(before, &mut [&mut by_api, &mut on_node]);
        // PVE refuses an order that names a device which is not there yet.
        // PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api: `invalid bootorder: device 'scsi0' does not exist`.
        if on_node.set.keys().any(|key| Bus::of_key(key).is_some())
            && let Some(order) = by_api.set.remove("boot")
        {
            on_node.set.insert("boot".to_owned(), order);
        }
        let mut digest = self.current.config.digest.clone();
        // Only the first change can name the digest that was observed: each changes the file itself.
        if let Some(of_import) = self.chain.steps.iter_mut().find_map(|step| match &mut step.action {
            Action::ImportDisk(ImportAction { digest, .. }) => Some(digest),
            _ => None,
        }) {
            *of_import = digest.take();
        }
        let api_transport =
            self.input.transports.api_first("a change by API takes 28 ms, `qm set` 800 ms of the node's CPU");
        let first =
            self.input.transports.api_first("a VM has one cloud-init drive: the old one is removed first");
        self.push_patch("remove-cloud-init", removal, first, &mut digest);
        self.push_patch("configure", by_api, api_transport, &mut digest);
        let why = "new disks, cloud-init drive and root-only options in one `qm set`";
        let node_transport = self.input.transports.node_only(why).unwrap_or((Transport::Api, why.to_owned()));
        self.push_patch("attach", on_node, node_transport, &mut digest);
        self.push_patch("boot", boot, self.input.transports.api_first(BOOT_WHY), &mut digest);
    }

    fn transport_of(&self, part: Part, has_node_work: bool) -> Transport {
        let on_node = match (self.input.transports.choice, part) {
            (TransportChoice::Api, _) => false,
            (TransportChoice::Ssh, _) => true,
            (_, Part::Password) => false,
            (TransportChoice::Hybrid, Part::RootOnly | Part::CloudDrive) => true,
            (TransportChoice::Hybrid, Part::Boot) => has_node_work,
            (TransportChoice::Auto, Part::RootOnly) => !self.input.transports.api_may_set_root_only(),
            (TransportChoice::Hybrid | TransportChoice::Auto, _) => false,
        };
        if on_node { Transport::Ssh } else { Transport::Api }
    }

    fn note_restart(&mut self, key: &str, to: Option<&str>) {
        let from = self.current.effective(key);
        // What it runs with decides, not what waits.
        let hotplug = self.current.config.values.get("hotplug").map(String::as_str);
        if self.runs() && !hotplug::is_hot(key, from, to, hotplug) {
            self.waits_for_restart.push(key.to_owned());
        }
    }

    fn describe_mark(&mut self, disks: &DiskChanges, patch: &mut ConfigPatch) {
        let description = identity::config_description(self.current.config);
        let marker =
            marker::marker_after(self.input, self.vm, self.guest, Some(self.current), &disks.renamed);
        let desired = marker::desired_description(self.vm, &marker, description);
        if desired.trim_end() == description.trim_end() {
            return;
        }
        marker::refuse_long_description(self.input, self.findings, self.vm, &desired);
        let (from, to) = (identity::description_text(description), identity::description_text(&desired));
        if from != to {
            let shown = |text: String| (!text.is_empty()).then_some(text);
            self.reasons.push(reason("description", shown(from), shown(to)));
        }
        if self.current.marker.as_ref() != Some(&marker) {
            let mut why = reason("(ownership marker)", None, None);
            why.note = Some(match &self.current.marker {
                None => "the VM is adopted: the ownership marker is added, the UUID is kept".to_owned(),
                Some(old) if (&old.project, &old.name) != (&marker.project, &marker.name) => format!(
                    "it was `{}` of project `{}`; the UUID is kept",
                    old.name,
                    old.project.escape_debug()
                ),
                Some(old) if old.cluster != marker.cluster => {
                    format!("its cluster was called `{}`", old.cluster.escape_debug())
                }
                Some(_) => "the marker remembers images and kept disks".to_owned(),
            });
            self.reasons.push(why);
        }
        patch.set.insert("description".to_owned(), PatchValue::Text(desired));
    }

    fn push_patch(
        &mut self,
        what: &str,
        patch: ConfigPatch,
        transport: super::transports::TransportWithWhy,
        digest: &mut Option<String>,
    ) {
        if patch.is_empty() {
            return;
        }
        let revert = self.reverse(&patch);
        let action = Action::SetConfig { guest: self.guest.clone(), patch, digest: digest.take() };
        let mut link = Link::new(what, action, transport, 300);
        link.revert = revert;
        self.chain.push(link);
    }

    fn reverse(&self, patch: &ConfigPatch) -> Revert {
        let mut back = ConfigPatch::default();
        for key in patch.set.keys().chain(&patch.delete).filter(|key| *key != "cipassword") {
            match self.current.effective(key) {
                // PVE freed it: it is made again.
                Some(text) if let Some(drive) = slots::cloud_drive_again(key, text) => {
                    drop(back.set.insert(key.clone(), PatchValue::NewVolume(drive)));
                }
                Some(text) => drop(back.set.insert(key.clone(), PatchValue::Text(text.to_owned()))),
                None => drop(back.delete.insert(key.clone())),
            }
        }
        let boot = self
            .current
            .effective("boot")
            .filter(|_| patch.delete.iter().any(|slot| self.is_in_boot_order(slot)));
        if let Some(boot) = boot {
            back.set.entry("boot".to_owned()).or_insert_with(|| PatchValue::Text(boot.to_owned()));
        }
        if back.is_empty() {
            return Revert::CannotRevert { why: "the old password cannot be read".to_owned() };
        }
        let action = Action::SetConfig { guest: self.guest.clone(), patch: back, digest: None };
        Revert::Run { action: Box::new(action) }
    }

    fn push_disk_work(&mut self, disks: DiskChanges) {
        self.reasons.extend(disks.reasons);
        let made = disks
            .moves
            .iter()
            .map(|moved| moved.slot.to_string())
            .chain(disks.new_slots.iter().cloned())
            .collect();
        for DiskMove { slot, volume, storage, format } in disks.moves {
            let what = format!("move-{slot}");
            let action =
                Action::MoveDisk(MoveAction { guest: self.guest.clone(), slot, volume, storage, format });
            let transport =
                self.input.transports.api_first("one call moves the disk, also while the guest runs");
            let link = Link::new(what, action, transport, 14_400);
            self.chain.push(link.cannot_revert("the old volume is deleted; reverting moves the disk back"));
        }
        push_growth(self.input, &mut self.chain, self.guest, disks.growth);
        self.push_late(disks.late);
        marker::push_kept_volumes(self.input, &mut self.chain, self.vm, self.guest, made);
    }

    fn push_late(&mut self, late: BTreeMap<Slot, OptionFields>) {
        let (mut patch, mut back) = (ConfigPatch::default(), ConfigPatch::default());
        for (slot, fields) in late {
            let to = fields.iter().filter_map(|(name, (_, to))| Some((name.as_str(), Some(to.as_deref()?))));
            let text = pve_config::overlay(&slot, self.current.effective(&slot), to);
            self.note_restart(&slot, text.ok().as_deref());
            let (old, new) =
                fields.into_iter().map(|(name, (old, new))| ((name.clone(), old), (name, new))).unzip();
            back.set.insert(slot.clone(), PatchValue::Options { fields: old });
            patch.set.insert(slot, PatchValue::Options { fields: new });
        }
        if patch.is_empty() {
            return;
        }
        let revert = Action::SetConfig { guest: self.guest.clone(), patch: back, digest: None };
        let action = Action::SetConfig { guest: self.guest.clone(), patch, digest: None };
        let transport = self.input.transports.api_first("set after the disk was moved or grown");
        self.chain.push(Link::new("options", action, transport, 300).revert(revert));
    }

    fn push_cloud_init(&mut self, touched: bool, plugs_drive: bool) {
        let stale = !self.current.config.cloud_init_stale.is_empty();
        let has_drive =
            self.current.config.values.iter().any(|(key, text)| {
                pve_config::Drive::parse(key, text).is_ok_and(|drive| drive.is_cloud_init())
            });
        if !(has_drive || plugs_drive) || !self.runs() || !(touched || stale) {
            return;
        }
        if !touched {
            self.reasons.push(reason(
                "cloud_init",
                Some("an outdated drive".to_owned()),
                Some("regenerated".to_owned()),
            ));
        }
        let action = Action::RegenerateCloudInit { guest: self.guest.clone() };
        let transport = self.input.transports.api_first("one call regenerates the drive");
        self.chain.push(Link::new("cloud-init", action, transport, 120));
        self.findings.note(
            &self.guest.name,
            "the guest reads the new cloud-init data at its next boot",
            None,
        );
    }

    fn pool(&mut self) {
        let there = self.current.guest.pool.as_ref();
        let desired: Option<Option<&PoolId>> = match &self.vm.pool {
            Desired::Unmanaged => None,
            Desired::Remove(_) => Some(None),
            Desired::Set(pool) => Some(Some(&pool.value)),
        };
        let Some(desired) = desired.filter(|desired| *desired != there) else { return };
        if let (Some(pool), None) = (desired, there)
            && !self.input.observed.shows_members_of(pool)
        {
            let hint = format!(
                "Pool.Audit on /pool/{pool} is needed: `pveum acl modify /pool/{pool} --roles PVEAuditor …`"
            );
            let text = format!(
                "these credentials cannot read whether it is in pool `{pool}`; its pool is left unchanged"
            );
            self.findings.note(&self.guest.name, &text, Some(hint.as_str()));
            return;
        }
        let shown = |pool: Option<&PoolId>| pool.map(ToString::to_string);
        self.reasons.push(reason("pool", shown(there), shown(desired)));
        let set = |pool: Option<&PoolId>| Action::SetPool { guest: self.guest.clone(), pool: pool.cloned() };
        let transport = self.input.transports.api_first("one call changes the pool");
        self.chain.push(Link::new("pool", set(desired), transport, 60).revert(set(there)));
    }

    /// Refuses nodes other than those of a rule that vmdeploy does not manage: PVE allows one rule per resource.
    // PVE: pve-ha-manager src/PVE/HA/Rules/NodeAffinity.pm check_single_resource_reference.
    fn refuse_second_rule(&mut self, there: Option<&DesiredHa>, ha: &Spanned<Ha>) -> bool {
        let desired = &ha.value;
        let same =
            there.is_some_and(|there| there.on_nodes == desired.on_nodes && there.strict == desired.strict);
        let rule =
            foreign_place(self.input, self.guest).filter(|_| self.input.transports.version.at_least(9, 0));
        let Some(rule) = rule.filter(|_| !desired.on_nodes.is_empty() && !same) else { return false };
        let rule = rule.escape_debug();
        let message = format!(
            "the HA rule `{rule}` contains VM {} already, and PVE allows one rule per VM",
            self.guest.vmid
        );
        let hint = format!("remove `vm:{}` from `{rule}`, or remove `on_nodes`", self.guest.vmid);
        self.findings.refuse(self.input.deployment, (ha.span, self.vm.path("ha.on_nodes")), message, hint);
        true
    }

    fn high_availability(&mut self) {
        let Some(seen) = &self.input.observed.ha else { return };
        let there = seen.resources.get(&self.guest.vmid);
        match (&self.vm.ha, there) {
            (Desired::Unmanaged, _) | (Desired::Remove(_), None) => {}
            (Desired::Remove(_), Some(there)) => {
                self.reasons.push(reason("ha", Some(there.state.to_string()), None));
                push_ha(self.input, &mut self.chain, self.guest, None);
            }
            (Desired::Set(ha), there) => {
                if there.is_some_and(|there| same_ha(there, &ha.value)) {
                    return;
                }
                if self.refuse_second_rule(there, ha) {
                    return;
                }
                let from = there.map(shown_ha);
                let there = own_ha(self.input, self.guest);
                let desired = merged_ha(there.as_ref(), &ha.value);
                self.reasons.push(reason("ha", from, Some(shown_ha(&desired))));
                push_ha(self.input, &mut self.chain, self.guest, Some(desired));
            }
        }
    }

    fn template(&mut self) {
        if !self.vm.template || self.current.guest.template {
            return;
        }
        if self.runs() {
            let at = (self.vm.name.span, self.vm.path("template"));
            let message =
                format!("`{}` is running, and a running VM cannot become a template", self.vm.name.value);
            let hint = format!("`vmdeploy shutdown {}` first", self.vm.name.value);
            self.findings.refuse(self.input.deployment, at, message, hint);
            return;
        }
        self.reasons.push(reason("template", Some("false".to_owned()), Some("true".to_owned())));
        let action = Action::ConvertToTemplate { guest: self.guest.clone() };
        let transport = self.input.transports.api_first("one call makes its disks read-only");
        self.chain.push(
            Link::new("template", action, transport, 600)
                .cannot_revert("a template cannot become a VM again"),
        );
    }

    fn power(&mut self) {
        let of_spec = self.vm.lifecycle.state.as_ref().map(|state| state.value);
        let is_unfinished = self.input.context.unfinished_creates.contains(&self.vm.name.value);
        // What its creation would have done is done now.
        let desired = of_spec.or(is_unfinished.then_some(PowerState::Running));
        let running = self.current.is_running();
        if self.vm.template || self.current.guest.template {
            return;
        }
        let by_ha = self.vm.ha.set().is_some_and(|ha| ha.state != HaState::Ignored);
        if self.stops {
            if desired != Some(PowerState::Stopped) {
                ready::push_start(self.input, &mut self.chain, self.guest, false);
                ready::push_conditions(self.input, &mut self.chain, self.vm, self.guest, Some(self.current));
            }
            return;
        }
        match desired {
            _ if by_ha && !running => {}
            Some(PowerState::Running) if !running => {
                let status = self.current.guest.status.to_string();
                let mut why = reason("lifecycle.state", Some(status), Some("running".to_owned()));
                why.note = is_unfinished.then(|| "its creation was not finished".to_owned());
                self.reasons.push(why);
                ready::push_start(self.input, &mut self.chain, self.guest, false);
                ready::push_conditions(self.input, &mut self.chain, self.vm, self.guest, Some(self.current));
            }
            Some(PowerState::Stopped) if running => {
                self.reasons.push(reason(
                    "lifecycle.state",
                    Some("running".to_owned()),
                    Some("stopped".to_owned()),
                ));
                self.push_shutdown();
            }
            _ if running => self.restart(),
            None if self.current.guest.status == pve_types::PowerState::Stopped => self.findings.note(
                &self.guest.name,
                "it is stopped and stays stopped",
                Some("`lifecycle: {state: running}` starts it"),
            ),
            _ => {}
        }
    }

    fn push_shutdown(&mut self) {
        let lifecycle = &self.vm.lifecycle;
        let timeout_s = lifecycle.shutdown_timeout.as_secs();
        let action = Action::ShutdownVm { guest: self.guest.clone(), timeout_s, force: lifecycle.force_stop };
        let transport = self.input.transports.api_first("one call; its task ends when the VM is stopped");
        let link = Link::new("shutdown", action, transport, timeout_s + 60);
        self.chain.push(link.revert(Action::StartVm { guest: self.guest.clone() }));
    }

    /// Restarts the guest where changes wait for that and the spec allows it; else says what waits.
    fn restart(&mut self) {
        let before: Vec<&str> = self.current.config.pending.keys().map(String::as_str).collect();
        let waits: Vec<&str> = self.waits_for_restart.iter().map(String::as_str).chain(before).collect();
        if waits.is_empty() {
            return;
        }
        let waits = waits.into_iter().collect::<std::collections::BTreeSet<_>>();
        let list = waits.into_iter().collect::<Vec<_>>().join(", ");
        if self.vm.lifecycle.restart == Permission::IfNeeded {
            let mut why = reason("lifecycle.restart", None, None);
            why.note = Some(format!("the guest is restarted to apply {list}, as the spec allows"));
            self.reasons.push(why);
            let action = Action::RebootVm { guest: self.guest.clone() };
            let timeout_s = self.vm.lifecycle.shutdown_timeout.as_secs();
            let transport = self
                .input
                .transports
                .api_first("one call shuts the guest down, applies pending changes, and starts it");
            self.chain.push(
                Link::new("reboot", action, transport, timeout_s + 300).cannot_revert("it was restarted"),
            );
            ready::push_conditions(self.input, &mut self.chain, self.vm, self.guest, Some(self.current));
            self.waits_for_restart.clear();
        } else {
            let text = format!("takes effect when the guest is restarted: {list}");
            let name = &self.guest.name;
            let hint = format!("`vmdeploy reboot {name}`, or `lifecycle: {{restart: if-needed}}`");
            self.findings.note_about(NoteTopic::Restart, name, text, Some(&hint));
        }
    }

    fn say_where_it_is(&mut self) {
        let Some(desired) = &self.vm.node else { return };
        let actual = &self.current.guest.node;
        let by_ha =
            self.input.observed.ha.as_ref().is_some_and(|ha| ha.resources.contains_key(&self.guest.vmid));
        if desired.value == *actual || by_ha {
            return;
        }
        let text = format!(
            "it is on {actual}, but the spec has {}; a deployment does not migrate VMs",
            desired.value
        );
        let (name, to) = (&self.guest.name, &desired.value);
        let hint = format!("`vmdeploy migrate {name} {to}` migrates it, or write `node: {actual}`");
        self.findings.note(&self.guest.name, text, Some(&hint));
    }

    fn finish(self) -> Update {
        let verb = if self.chain.steps.is_empty() {
            Verb::NoOp
        } else if self.waits_for_restart.is_empty() {
            Verb::Update
        } else {
            Verb::UpdatePending
        };
        Update {
            verb,
            reasons: self.reasons,
            steps: self.chain.steps,
            replace: self.replace,
            replace_outdated: self.replace_outdated,
            outdated: self.outdated,
        }
    }
}

/// Tells whether the data on the cloud-init drive is made of this key.
// PVE: qemu-server src/PVE/QemuServer.pm cloudinit_pending_properties: cloud-init's own options, `name` and every NIC.
fn is_cloud_init_data(key: &str) -> bool {
    let own =
        ["cicustom", "cipassword", "citype", "ciupgrade", "ciuser", "nameserver", "searchdomain", "sshkeys"];
    key == "name" || own.contains(&key) || matches!(Bus::of_key(key), Some(Bus::Net | Bus::Ipconfig))
}

/// Returns the value's text, or something in its place: for the question whether a device is plugged or unplugged.
fn text_of(value: &PatchValue) -> Cow<'_, str> {
    value.text().unwrap_or(Cow::Borrowed("new:volume"))
}
