//! `after`: names that exist, and an order that there is.

use crate::spec::diagnostic::Span;
use crate::spec::faults::Faults;
use crate::spec::hints::name_hint;
use crate::spec::model::{CloneSource, Deployment, Spanned, Vm};
use pve_types::GuestName;
use std::collections::{BTreeMap, HashMap};

/// Checks that every `after` names VMs or groups of the VM's cluster, and that nothing comes after itself.
pub(super) fn check_order(deployment: &Deployment, faults: &mut Faults) {
    for vm in &deployment.vms {
        vm.after.iter().for_each(|name| check_name(deployment, vm, name, faults));
    }
    if !faults.has_errors() {
        check_cycles(deployment, faults);
    }
}

fn check_name(deployment: &Deployment, vm: &Vm, name: &Spanned<GuestName>, faults: &mut Faults) {
    let path = vm.path("after");
    let group = deployment.groups.get(name.as_str());
    if name.value == vm.name.value || group.is_some_and(|_| vm.group.as_deref() == Some(name.as_str())) {
        let what = if group.is_some() { "the group that it is a member of" } else { "itself" };
        let message = format!("`{}` cannot come after {what}", vm.name.value);
        let hint = "take the name out; over `defaults`, write `after: []` at this VM";
        return faults.error_hint(name.span, path, message, hint);
    }
    let members = deployment.named(&name.value);
    if members.is_empty() && group.is_none() {
        let vms = deployment.vms.iter().map(|vm| vm.name.value.as_str());
        let known: Vec<&str> = deployment.groups.keys().map(String::as_str).chain(vms).collect();
        let message = format!("there is no VM or group `{}`", name.value);
        return faults.error_hint(name.span, path, message, name_hint(name.as_str(), "VM", &known));
    }
    let elsewhere = members.iter().filter_map(|member| deployment.vm(member));
    if let Some(other) = elsewhere.into_iter().find(|other| other.cluster != vm.cluster) {
        let message = format!(
            "`{}` is in cluster `{}`, and a plan is for one cluster",
            other.name.value, other.cluster
        );
        faults.error_hint(name.span, path, message, "name VMs of the same cluster");
    }
}

/// A VM or a group, with what it comes after and where the spec says so.
type Edges<'d> = HashMap<&'d str, Vec<(&'d str, Span)>>;

fn edges(deployment: &Deployment) -> Edges<'_> {
    let mut edges: Edges<'_> = HashMap::new();
    for vm in &deployment.vms {
        let own = edges.entry(vm.name.value.as_str()).or_default();
        own.extend(vm.after.iter().map(|name| (name.as_str(), name.span)));
        if let Some(clone) = &vm.clone
            && let CloneSource::Vm(source) = &clone.from.value
        {
            own.push((source.as_str(), clone.from.span));
        }
    }
    for (name, group) in &deployment.groups {
        let members = group.members.iter().map(|member| (member.as_str(), group.name.span)).collect();
        edges.insert(name, members);
    }
    edges
}

/// Refuses each cycle once, with all its lines.
fn check_cycles(deployment: &Deployment, faults: &mut Faults) {
    let edges = edges(deployment);
    let mut done: BTreeMap<&str, bool> = BTreeMap::new();
    for vm in &deployment.vms {
        // The way from the VM, with the next edge to look at.
        let mut way: Vec<(&str, usize)> = vec![(vm.name.value.as_str(), 0)];
        while let Some((name, next)) = way.last_mut() {
            let own = edges.get(*name).map_or(&[][..], Vec::as_slice);
            let Some((target, _)) = own.get(*next) else {
                done.insert(name, true);
                way.pop();
                continue;
            };
            *next += 1;
            if done.contains_key(target) {
                continue;
            }
            if let Some(start) = way.iter().position(|(name, _)| name == target) {
                refuse(deployment, &edges, &way[start..], faults);
                return;
            }
            way.push((target, 0));
        }
    }
}

/// Refuses a cycle: at its first line, with the others named.
fn refuse(deployment: &Deployment, edges: &Edges<'_>, cycle: &[(&str, usize)], faults: &mut Faults) {
    let is_vm = |name: &str| !deployment.groups.contains_key(name);
    // A group comes after its members: of a cycle through one, only what VMs say is worth telling.
    let said: Vec<(&str, &str, Span)> = cycle
        .iter()
        .filter(|(name, _)| is_vm(name))
        .filter_map(|(name, next)| {
            let (target, span) = edges.get(name)?.get(next.checked_sub(1)?)?;
            Some((*name, *target, *span))
        })
        .collect();
    let Some((first, _, span)) = said.first() else { return };
    let line = |span: Span| {
        let file = deployment.files.get(usize::from(span.file)).map_or("", |file| file.name.as_str());
        format!("{}:{}", file.escape_debug(), span.line)
    };
    let told: Vec<String> = said
        .iter()
        .map(|(name, target, span)| format!("`{name}` after `{target}` ({})", line(*span)))
        .collect();
    let path = first
        .parse()
        .ok()
        .and_then(|name| deployment.vm(&name))
        .map_or_else(String::new, |vm| vm.path("after"));
    let message = format!("these wait for each other: {}", told.join(", "));
    faults.error_hint(*span, path, message, "take one of them out of `after`, or clone from another VM");
}
