//! From groups to VMs: a group is expanded before anything is merged or typed.

use super::{Top, name_hint};
use crate::plan::RolloutFailure;
use crate::spec::diagnostic::Span;
use crate::spec::faults::{Faults, Path};
use crate::spec::group::{NamePattern, Rollout, Unavailable};
use crate::spec::model::{Group, Spanned, Vm};
use crate::spec::scalar::parse_number;
use crate::spec::schema::ROLLOUT;
use crate::spec::tree::{MAX_NODES, Node};
use crate::spec::view::View;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// A VM to be read: an entry of `vms`, or a member of a group.
pub(super) struct Entry<'a> {
    pub(super) name: Cow<'a, str>,
    /// Where its name stands; for a counted member, where the group's name does.
    pub(super) span: Span,
    /// Its own keys, the uppermost layer first, without profiles and defaults.
    pub(super) layers: Vec<Node<'a>>,
    pub(super) group: Option<&'a str>,
}

/// Returns all VMs of the spec: those of `vms`, then the members of each group. `None` where they are too many.
pub(super) fn expand<'a>(top: &Top<'a>, faults: &mut Faults) -> Option<Vec<Entry<'a>>> {
    let of_vm = |(name, span, own): &(&'a str, Span, Node<'a>)| Entry {
        name: Cow::Borrowed(*name),
        span: *span,
        layers: vec![*own],
        group: None,
    };
    let mut entries: Vec<Entry<'a>> = top.vms.list.iter().map(of_vm).collect();
    let mut places: HashMap<String, String> =
        entries.iter().map(|entry| (entry.name.to_string(), "in `vms`".to_owned())).collect();
    for (name, span, node) in &top.groups.list {
        let groups = Path::TOP.key("groups");
        let path = groups.key(name);
        if top.vms.at.contains_key(name) {
            let message = format!("`{name}` is the name of a VM, too");
            let hint = "give the group another name: `--target` and `after` take both";
            faults.error_hint(*span, path, message, hint);
        }
        if !is_whole(*node, path, faults) {
            continue;
        }
        let members = members_of(name, *span, *node, path, faults);
        if entries.len() + members.len() > MAX_NODES {
            faults.error_hint(*span, path, "the spec has too many VMs", "write smaller groups");
            return None;
        }
        refuse_strangers(*node, &members, path, faults);
        for (member, member_span) in members {
            if let Some(place) = places.insert(member.to_string(), format!("in group `{name}`")) {
                let message = format!("the member `{member}` of group `{name}` is {place} already");
                faults.error_hint(member_span, path, message, "give the group another `name` pattern");
                continue;
            }
            let own = node.get("overrides").and_then(|overrides| overrides.get(&member));
            let layers = own.into_iter().chain(node.get("vm")).filter(|layer| !layer.is_null()).collect();
            entries.push(Entry { name: member, span: member_span, layers, group: Some(*name) });
        }
    }
    Some(entries)
}

/// Tells whether a group has the keys that it needs; says which it lacks.
fn is_whole(node: Node<'_>, path: Path<'_>, faults: &mut Faults) -> bool {
    let has = |key: &str| node.get(key).is_some_and(|value| !value.is_null());
    let mut refuse = |message: &str, hint: &str| faults.error_hint(node.span(), path, message, hint);
    match (has("count"), has("members")) {
        (false, false) => refuse(
            "one of the keys `count`, `members` is missing",
            "add `count: 3`, or the names: `members: [a, b]`",
        ),
        (true, true) => refuse("only one of the keys `count`, `members` may be there", "remove one of them"),
        _ if !has("vm") => refuse("the key `vm` is missing", "add `vm: {…}` with the keys of all members"),
        _ => return true,
    }
    false
}

/// Returns the names of a group's members, each with its place.
fn members_of<'a>(
    name: &str,
    span: Span,
    node: Node<'a>,
    path: Path<'_>,
    faults: &mut Faults,
) -> Vec<(Cow<'a, str>, Span)> {
    let pattern = node.get("name").and_then(Node::text);
    if let Some(members) = node.get("members") {
        if let Some(pattern) = node.get("name") {
            let message = "a group with `members` has no pattern of names";
            faults.error_hint(pattern.span(), path.key("name"), message, "take `name` out, or write `count`");
        }
        let named = members.items().filter_map(|item| Some((Cow::Borrowed(item.text()?), item.span())));
        return named.collect();
    }
    let count = node.get("count").and_then(Node::text).and_then(parse_count);
    let pattern = match pattern {
        Some(text) => NamePattern::parse(text),
        None => Some(NamePattern::of_group(name)),
    };
    // What is wrong with either is told by the check of the keys.
    let (Some(count), Some(pattern)) = (count, pattern) else { return Vec::new() };
    let last = pattern.name(count);
    if count > 0 && last.parse::<pve_types::GuestName>().is_err() {
        let message = format!("`{last}`, the name of the last member, is not a VM name");
        faults.error_hint(span, path, message, "write a shorter `name`");
        return Vec::new();
    }
    (1..=count).map(|number| (Cow::Owned(pattern.name(number)), span)).collect()
}

fn parse_count(text: &str) -> Option<u32> {
    parse_number(text)?;
    text.parse().ok().filter(|count| *count <= 10_000)
}

/// Refuses overrides of VMs that are no members.
fn refuse_strangers(node: Node<'_>, members: &[(Cow<'_, str>, Span)], path: Path<'_>, faults: &mut Faults) {
    let Some(overrides) = node.get("overrides") else { return };
    let names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
    let mut known: Vec<&str> = names.clone();
    known.sort_unstable();
    for (key, _) in overrides.entries() {
        let Some(name) = key.text().filter(|name| known.binary_search(name).is_err()) else { continue };
        let message = format!("the group has no member `{}`", name.escape_debug());
        faults.error_hint(key.span(), path.key("overrides"), message, name_hint(name, "member", &names));
    }
}

/// Reads a rollout; nothing for `null`.
pub(super) fn read_rollout(node: Node<'_>) -> Option<Rollout> {
    let view = View::of(vec![node]).filter(|view| !view.is_null())?;
    let word = |key| view.some(&ROLLOUT, key).and_then(|value| value.text());
    let number = |text: &str| match text.strip_suffix('%') {
        Some(percent) => percent.parse().ok().map(Unavailable::Percent),
        None => text.parse().ok().map(Unavailable::Count),
    };
    let max_unavailable = word("max_unavailable").and_then(|text| number(text.value)).unwrap_or_default();
    let on_failure = match word("on_failure") {
        Some(word) if word.value == "continue" => RolloutFailure::Continue,
        _ => RolloutFailure::Stop,
    };
    Some(Rollout { max_unavailable, on_failure })
}

/// Returns the groups with the members that could be read.
pub(super) fn read(top: &Top<'_>, vms: &[Vm]) -> BTreeMap<String, Group> {
    let group = |(name, span, node): &(&str, Span, Node<'_>)| {
        let is_member = |vm: &&Vm| vm.group.as_deref() == Some(*name);
        let members = vms.iter().filter(is_member).map(|vm| vm.name.value.clone()).collect();
        let rollout = node.get("rollout").and_then(read_rollout);
        let group = Group { name: Spanned::new((*name).to_owned(), *span), members, rollout };
        ((*name).to_owned(), group)
    };
    top.groups.list.iter().map(group).collect()
}
