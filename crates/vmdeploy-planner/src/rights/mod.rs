//! Which privileges a step needs, on which paths, on which version; and whether they are held.
//!
//! Only steps by API need privileges: a command on the node runs as root.
//! What a change needs depends on what the guest has at that moment, so that [`Requirements`] follows the steps in order.

mod actions;
mod options;
mod root_only;
#[cfg(test)]
mod tests;

pub use root_only::{is_root_only, is_root_only_while_set};

pub(crate) use options::bridge_path;

use crate::observed::{Observed, Rights};
use crate::plan::{
    Action, CloneAction, ConfigPatch, ImportAction, MoveAction, PatchValue, Ref, Step, StepId, Transport,
};
use pve_types::{PoolId, Privilege, Vmid};
use std::collections::{BTreeMap, BTreeSet};

/// A privilege on a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// The privilege.
    pub privilege: Privilege,
    /// The ACL path.
    pub path: String,
}

impl std::fmt::Display for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.privilege, self.path)
    }
}

/// What a call needs: all the grants of any one of these alternatives. The first is the one to give.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The alternatives.
    pub any: Vec<Vec<Grant>>,
    /// The paths that must not shut the credentials out, whatever else is granted: those of a pool's member.
    pub open: BTreeSet<String>,
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, all) in self.any.iter().enumerate() {
            if index > 0 {
                f.write_str(", or ")?;
            }
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            f.write_str(&all.join(" and "))?;
        }
        Ok(())
    }
}

impl Need {
    fn one(privilege: Privilege, path: impl Into<String>) -> Self {
        Self::all([(privilege, path.into())])
    }
    fn all<const N: usize>(grants: [(Privilege, String); N]) -> Self {
        let grants = grants.into_iter().map(|(privilege, path)| Grant { privilege, path });
        Self { any: vec![grants.collect()], open: BTreeSet::new() }
    }
    fn or(mut self, other: Self) -> Self {
        self.any.extend(other.any);
        self.open.extend(other.open);
        self
    }
    /// Tells whether these privileges are enough.
    pub fn is_met(&self, rights: &Rights) -> bool {
        let held = |all: &Vec<Grant>| all.iter().all(|grant| rights.holds(grant.privilege, &grant.path));
        self.any.iter().any(held) && !self.open.iter().any(|path| rights.is_shut_out_of(path))
    }
    /// Returns the grants that are missing of the alternative that comes first; all of them where a path is shut.
    pub fn missing<'n>(&'n self, rights: &Rights) -> Vec<&'n Grant> {
        let first = self.any.first().map_or(&[][..], Vec::as_slice);
        let missing: Vec<&Grant> =
            first.iter().filter(|grant| !rights.holds(grant.privilege, &grant.path)).collect();
        if missing.is_empty() { first.iter().collect() } else { missing }
    }
    /// Returns the alternative to give: the first of those that need nothing beyond `given`, else the first.
    pub fn cheapest(&self, given: impl Fn(&Grant) -> bool) -> &[Grant] {
        let of_pool = |all: &[Grant]| all.iter().any(|grant| grant.path.starts_with("/pool/"));
        let own = self.any.iter().filter(|all| !of_pool(all));
        let found = own.into_iter().find(|all| all.iter().all(&given)).or(self.any.first());
        found.map_or(&[], Vec::as_slice)
    }
    /// Tells whether there is no choice of privileges, though maybe of the path to give them on.
    pub fn is_definite(&self) -> bool {
        let privileges = |all: &Vec<Grant>| all.iter().map(|grant| grant.privilege).collect::<Vec<_>>();
        self.any.windows(2).all(|pair| privileges(&pair[0]) == privileges(&pair[1]))
    }
    /// Returns the pool on which a grant of the first alternative would do as well.
    pub fn pool_of(&self, grant: &Grant) -> Option<&str> {
        let others = self.any.iter().skip(1).flatten();
        let mut pools = others.filter_map(|other| {
            other.path.strip_prefix("/pool/").filter(|_| other.privilege == grant.privilege)
        });
        pools.next().filter(|_| grant.path.starts_with("/vms/"))
    }
}

impl Rights {
    /// Tells whether every guest is seen: the cluster's list leaves out those without VM.Audit.
    // PVE: pve-manager PVE/API2/Cluster.pm resources.
    pub fn sees_every_guest(&self) -> bool {
        let propagates = |path: &&str| {
            let held = self.paths.get(*path).and_then(|held| held.get(&Privilege::VmAudit));
            held.is_some_and(|propagates| *propagates)
        };
        self.is_root || ["/vms", "/"].iter().any(propagates)
    }
    /// Tells whether the privilege is held on the path: by an entry for the path itself, or by one above it that
    /// propagates.
    // PVE: pve-access-control src/PVE/RPCEnvironment.pm permissions: the nearest path decides.
    pub fn holds(&self, privilege: Privilege, path: &str) -> bool {
        if self.is_root {
            return true;
        }
        match self.nearest(path) {
            Some((at, held)) => held.get(&privilege).is_some_and(|propagates| at == path || *propagates),
            None => false,
        }
    }
    /// Tells whether PVE answered that nothing is held on this path although what is above it propagates: an entry for the
    /// path takes that away, as the role `NoAccess` does.
    pub fn is_shut_out_of(&self, path: &str) -> bool {
        let nothing = self.paths.get(path).is_some_and(BTreeMap::is_empty);
        let inherits = || {
            let above = above(path).and_then(|above| self.nearest(above));
            above.is_some_and(|(_, held)| held.values().any(|propagates| *propagates))
        };
        nothing && !self.is_root && inherits()
    }
    /// Returns the paths that must be asked about one by one before these needs can be judged.
    ///
    /// PVE's list of what is held leaves out a path on which nothing is held, such as one that the role `NoAccess` shuts:
    /// it looks as if it inherited. What is not held by inheritance is certain.
    // PVE: pve-access-control src/PVE/RPCEnvironment.pm get_effective_permissions.
    pub fn uncertain<'n>(&self, needs: impl IntoIterator<Item = &'n Need>) -> BTreeSet<&'n str> {
        let mut paths = BTreeSet::new();
        for need in needs {
            let grants = need.any.iter().flatten();
            let held = grants.filter(|grant| self.holds(grant.privilege, &grant.path));
            paths.extend(held.map(|grant| grant.path.as_str()));
            paths.extend(need.open.iter().map(String::as_str));
        }
        paths.retain(|path| !self.is_root && !self.paths.contains_key(*path) && *path != "/");
        paths
    }
    /// Returns the nearest path at or above this one that PVE answered about, and what is held there.
    fn nearest<'p>(&self, path: &'p str) -> Option<(&'p str, &BTreeMap<Privilege, bool>)> {
        let mut at = Some(path);
        while let Some(here) = at {
            if let Some(held) = self.paths.get(here) {
                return Some((here, held));
            }
            at = above(here);
        }
        None
    }
}

/// Returns the path above; nothing above `/`.
fn above(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 if path == "/" => None,
        0 => Some("/"),
        end => Some(&path[..end]),
    }
}

/// Follows a plan's steps in order, and tells what each of them needs.
#[derive(Debug)]
pub struct Requirements<'o> {
    observed: &'o Observed,
    /// The pools that guests are in, or are being made in.
    pools: BTreeMap<Vmid, PoolId>,
    /// What the steps so far have made of the guests' configurations.
    configs: BTreeMap<Vmid, BTreeMap<String, String>>,
}

impl<'o> Requirements<'o> {
    /// Begins with the first of a plan's steps.
    pub fn new<'s>(observed: &'o Observed, steps: impl IntoIterator<Item = &'s Step>) -> Self {
        let there = observed.guests.values().filter_map(|seen| Some((seen.vmid, seen.pool.clone()?)));
        let mut pools: BTreeMap<Vmid, PoolId> = there.collect();
        // A VM that does not exist yet has no privileges of its own, and those of its pool from then on.
        pools.extend(steps.into_iter().filter_map(|step| match &step.action {
            Action::CreateVm { guest, pool: Some(pool), .. }
            | Action::CloneVm(CloneAction { guest, pool: Some(pool), .. }) => {
                Some((guest.vmid, pool.clone()))
            }
            _ => None,
        }));
        Self { observed, pools, configs: BTreeMap::new() }
    }
    /// Returns what the next step needs if it goes by API, and goes past it.
    pub fn next_by_api(&mut self, step: &Step) -> Vec<Need> {
        let mut needs = self.of_action(&step.action);
        needs.sort();
        needs.dedup();
        self.go_past(&step.action);
        needs
    }
    /// Returns what the next step needs, which is nothing where it goes by SSH or stays on this machine; goes past it.
    pub fn next(&mut self, step: &Step) -> Vec<Need> {
        let needs = self.next_by_api(step);
        if step.transport == Transport::Api { needs } else { Vec::new() }
    }

    /// A privilege on a guest, or on the pool that it is in. A path that shuts the credentials out does so whatever the
    /// other grants.
    // PVE: pve-access-control src/PVE/RPCEnvironment.pm compile_acl_path: a pool's roles hold on its members.
    fn on_guest(&self, privilege: Privilege, vmid: Vmid) -> Need {
        let own = format!("/vms/{vmid}");
        let Some(pool) = self.pools.get(&vmid) else { return Need::one(privilege, own) };
        let pool = format!("/pool/{pool}");
        let mut need = Need::one(privilege, own.clone()).or(Need::one(privilege, pool.clone()));
        need.open = BTreeSet::from([own, pool]);
        need
    }

    /// Returns what an option of the guest is at this point of the plan.
    fn there(&self, vmid: Vmid, key: &str) -> Option<&str> {
        let value = match self.configs.get(&vmid) {
            Some(config) => config.get(key),
            None => self.observed.guests.get(&vmid)?.config.as_ref()?.values.get(key),
        };
        value.map(String::as_str)
    }

    fn config_of(&mut self, vmid: Vmid) -> &mut BTreeMap<String, String> {
        let observed = self.observed;
        self.configs.entry(vmid).or_insert_with(|| {
            let seen = observed.guests.get(&vmid).and_then(|seen| seen.config.as_ref());
            seen.map(|config| config.values.clone()).unwrap_or_default()
        })
    }

    fn go_past(&mut self, action: &Action) {
        match action {
            Action::CreateVm { guest, config, .. } => {
                self.configs.insert(guest.vmid, BTreeMap::new());
                patch(self.config_of(guest.vmid), config);
            }
            Action::CloneVm(CloneAction { source, guest, storage, .. }) => {
                let mut config = self.config_of(source.vmid).clone();
                if let Some(storage) = storage {
                    config.iter_mut().for_each(|(key, value)| options::put_on(key, value, storage));
                }
                self.configs.insert(guest.vmid, config);
            }
            Action::SetConfig { guest, patch: changes, .. } => patch(self.config_of(guest.vmid), changes),
            Action::ImportDisk(ImportAction { guest, slot, storage, .. }) => {
                self.config_of(guest.vmid).insert(slot.to_string(), format!("{storage}:0"));
            }
            Action::MoveDisk(MoveAction { guest, slot, storage, .. }) => {
                let slot = slot.to_string();
                if let Some(value) = self.config_of(guest.vmid).get_mut(&slot) {
                    options::put_on(&slot, value, storage);
                }
            }
            Action::ReassignDisk { guest, slot, .. } => {
                self.config_of(guest.vmid).remove(&slot.to_string());
            }
            _ => {}
        }
    }
}

/// Lays a change over a configuration. A value that is known only when its step runs stays what it was.
fn patch(config: &mut BTreeMap<String, String>, changes: &ConfigPatch) {
    for key in &changes.delete {
        config.remove(key);
    }
    for (key, value) in &changes.set {
        let text = match value {
            PatchValue::Text(text) => text.clone(),
            PatchValue::NewVolume(new) => new.to_string(),
            PatchValue::Drive { volume: Ref::Known(volume), options } => format!("{volume},{options}"),
            PatchValue::ImportFrom { storage, options, .. } => format!("{storage}:0,{options}"),
            _ => continue,
        };
        config.insert(key.clone(), text.trim_end_matches(',').to_owned());
    }
}

/// Returns what it takes to see and clone a guest that is not there, or hidden.
pub fn needs_of_hidden_source(vmid: Vmid) -> [Need; 2] {
    [Privilege::VmAudit, Privilege::VmClone].map(|privilege| Need::one(privilege, format!("/vms/{vmid}")))
}

/// Returns what steps need together, each with those that need it.
///
/// Where some go by API, so do growing new disks and revert: they need the storages that the others write to by SSH.
pub fn needs_of_steps(steps: &[Step], observed: &Observed) -> BTreeMap<Need, Vec<StepId>> {
    let by_api = steps.iter().any(|step| step.transport == Transport::Api);
    let mut requirements = Requirements::new(observed, steps);
    let mut needs: BTreeMap<Need, Vec<StepId>> = BTreeMap::new();
    for step in steps {
        let mut own = requirements.next(step);
        if let (true, Action::ProbeStorage { needed, .. }) = (by_api, &step.action) {
            own.extend(needed.keys().map(options::space));
        }
        for need in own {
            needs.entry(need).or_default().push(step.id.clone());
        }
    }
    needs
}
