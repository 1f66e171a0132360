//! Equal changes of several VMs, which a plan shows once.
//!
//! Changes are equal when they have the same verb, differ in the same keys and have the same steps; their own VMID and
//! name in a text do not count. The values of the keys may differ: the most frequent is shown, with who deviates from it.

use super::summary;
use crate::plan::{Change, Note, Plan, PlannedRollout, Reason, RolloutFailure, Step, Verb};
use pve_types::GuestName;
use std::collections::{BTreeMap, HashMap};

/// How many equal changes are shown once. Fewer are shown one by one.
const AT_LEAST: usize = 3;
/// What stands for a VM's own number in a text that several VMs share.
const VMID: &str = "<VMID>";
/// What stands for a VM's own name in a text that several VMs share.
const NAME: &str = "NAME";

/// The steps of each VM.
pub(super) type ByVm<'p> = BTreeMap<Option<&'p GuestName>, Vec<&'p Step>>;

/// Changes that are shown together: one, or several equal ones.
pub(super) struct Block<'p> {
    pub(super) changes: Vec<&'p Change>,
}

/// One difference of several VMs.
pub(super) struct SharedReason {
    /// The value that most of them have; `None` where each has another.
    pub(super) reason: Option<Reason>,
    pub(super) path: String,
    /// The values of those that have another, by the place of the VM in the block.
    pub(super) others: BTreeMap<usize, String>,
}

/// Returns the changes in the plan's order, equal ones together at the first one's place.
pub(super) fn blocks<'p>(
    plan: &'p Plan,
    by_vm: &ByVm<'p>,
    unchanged: bool,
    equal_once: bool,
) -> Vec<Block<'p>> {
    let has_steps = |change: &Change| by_vm.contains_key(&Some(&change.vm));
    let is_shown = |change: &&Change| change.verb != Verb::NoOp || unchanged || has_steps(change);
    let shown = plan.changes.iter().filter(is_shown);
    let mut blocks: Vec<Block<'p>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for change in shown {
        let signature = signature(change, by_vm);
        match places.get(&signature).filter(|_| equal_once) {
            Some(place) => blocks[*place].changes.push(change),
            None => {
                places.insert(signature, blocks.len());
                blocks.push(Block { changes: vec![change] });
            }
        }
    }
    let few = |block: Block<'p>| match block.changes.len() {
        count if count >= AT_LEAST => vec![block],
        _ => block.changes.into_iter().map(|change| Block { changes: vec![change] }).collect(),
    };
    let place_of: HashMap<&GuestName, usize> =
        plan.changes.iter().enumerate().map(|(place, change)| (&change.vm, place)).collect();
    let mut blocks: Vec<Block<'p>> = blocks.into_iter().flat_map(few).collect();
    blocks.sort_by_key(|block| place_of.get(&block.changes[0].vm).copied());
    blocks
}

fn signature(change: &Change, by_vm: &ByVm<'_>) -> String {
    let mut text = format!("{:?} {:?}\n", change.verb, change.group);
    for reason in shown_reasons(change) {
        let Reason { path, from, to, note } = reason;
        text.push_str(&format!("{path} {} {} {}\n", from.is_some(), to.is_some(), note.is_some()));
    }
    for step in by_vm.get(&Some(&change.vm)).into_iter().flatten() {
        let name = step.id.0.split_once('/').map_or(step.id.0.as_str(), |(_, name)| name);
        let does = neutral(&summary(&step.action), change);
        text.push_str(&format!("{name} {} {does}\n", step.transport));
    }
    text
}

/// Returns the differences that a block shows: a UUID is each VM's own.
fn shown_reasons(change: &Change) -> impl Iterator<Item = &Reason> {
    change.reasons.iter().filter(|reason| reason.path != "uuid")
}

/// Returns a text of one VM as it is for each VM of a block.
pub(super) fn neutral(text: &str, change: &Change) -> String {
    let with_number = replaced(text, &change.guest.vmid.to_string(), VMID);
    replaced(&with_number, change.vm.as_str(), NAME)
}

/// Replaces a word wherever no letter or digit stands next to it.
fn replaced(text: &str, word: &str, by: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let touches = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric());
        let is_inside = touches(before.chars().next_back()) || touches(after.chars().next());
        out.push_str(before);
        out.push_str(if is_inside { word } else { by });
        rest = after;
    }
    out.push_str(rest);
    out
}

impl<'p> Block<'p> {
    /// Returns the only change of a block that is no collection.
    pub(super) fn only(&self) -> Option<&'p Change> {
        match self.changes[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Returns the differences, each once.
    pub(super) fn reasons(&self) -> Vec<SharedReason> {
        let first: Vec<&Reason> = shown_reasons(self.changes[0]).collect();
        let all: Vec<Vec<Reason>> = self
            .changes
            .iter()
            .map(|change| shown_reasons(change).map(|reason| neutral_reason(reason, change)).collect())
            .collect();
        let shared =
            |place: usize| shared(first[place].path.clone(), all.iter().map(|own| &own[place]).collect());
        (0..first.len()).map(shared).collect()
    }
}

fn neutral_reason(reason: &Reason, change: &Change) -> Reason {
    let text = |text: &Option<String>| text.as_ref().map(|text| neutral(text, change));
    Reason {
        path: reason.path.clone(),
        from: text(&reason.from),
        to: text(&reason.to),
        note: text(&reason.note),
    }
}

fn shared(path: String, own: Vec<&Reason>) -> SharedReason {
    let usual = majority(&own).cloned();
    let deviates = |(place, reason): (usize, &&Reason)| {
        let value = value(reason);
        (usual.as_ref() != Some(*reason)).then_some((place, value))
    };
    let others = own.iter().enumerate().filter_map(deviates).collect();
    SharedReason { reason: usual, path, others }
}

/// Returns the difference that more than half of the VMs have, if there is one.
fn majority<'r>(own: &[&'r Reason]) -> Option<&'r Reason> {
    let mut candidate: (Option<&Reason>, usize) = (None, 0);
    for reason in own {
        candidate = match candidate {
            (_, 0) => (Some(*reason), 1),
            (Some(usual), count) if usual == *reason => (Some(usual), count + 1),
            (usual, count) => (usual, count - 1),
        };
    }
    candidate.0.filter(|usual| 2 * own.iter().filter(|reason| *reason == usual).count() > own.len())
}

/// Returns a difference's value on one line.
pub(super) fn value(reason: &Reason) -> String {
    match (&reason.from, &reason.to) {
        (Some(from), Some(to)) => format!("{from} -> {to}"),
        (Some(from), None) => format!("{from} removed"),
        (None, Some(to)) => to.clone(),
        (None, None) => reason.note.clone().unwrap_or_default(),
    }
}

/// Returns the notes, equal ones of several VMs once, each with the VMs that it concerns.
pub(super) fn notes(plan: &Plan, equal_once: bool) -> Vec<(Vec<&GuestName>, Note)> {
    let changes: HashMap<&GuestName, &Change> =
        plan.changes.iter().map(|change| (&change.vm, change)).collect();
    let mut notes: Vec<(Vec<&GuestName>, &Note, Option<Note>)> = Vec::new();
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    for note in &plan.notes {
        let Some(change) = note.vm.as_ref().and_then(|vm| changes.get(vm)).filter(|_| equal_once) else {
            notes.push((note.vm.iter().collect(), note, None));
            continue;
        };
        let text = neutral(&note.text, change);
        let hint = note.hint.as_ref().map(|hint| neutral(hint, change));
        match places.get(&(text.clone(), hint.clone().unwrap_or_default())) {
            Some(place) => notes[*place].0.push(&change.vm),
            None => {
                places.insert((text.clone(), hint.clone().unwrap_or_default()), notes.len());
                notes.push((vec![&change.vm], note, Some(Note { vm: None, text, hint, topic: note.topic })));
            }
        }
    }
    let own = |(vms, first, neutral): (Vec<_>, &Note, Option<Note>)| match neutral.filter(|_| vms.len() > 1) {
        Some(neutral) => (vms, neutral),
        None => (vms, first.clone()),
    };
    notes.into_iter().map(own).collect()
}

/// Returns how a rollout resumed: `at most 2 at a time, stops at a failure`.
pub(super) fn rollout_rules(rollout: &PlannedRollout) -> String {
    let after = match rollout.on_failure {
        RolloutFailure::Stop => "stops at a failure",
        RolloutFailure::Continue => "goes on after a failure",
    };
    format!("at most {} at a time, the next batch when these are ready, {after}", rollout.max_unavailable)
}

/// Returns names for a line: all of a few, the first and their number of many.
pub(super) fn names(vms: &[&GuestName]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<&str> = vms.iter().take(SHOWN).map(|vm| vm.as_str()).collect();
    match vms.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Returns names with their VMIDs; a long row of consecutive ones as its ends.
pub(super) fn numbered(changes: &[&Change]) -> Vec<String> {
    const LONG: usize = 13;
    let mut parts = Vec::new();
    let mut at = 0;
    while at < changes.len() {
        let row = 1 + changes[at..].windows(2).take_while(|pair| follows(pair[0], pair[1])).count();
        let (first, last) = (changes[at], changes[at + row - 1]);
        if row >= LONG {
            parts.push(format!("{} to {} ({} to {})", first.vm, last.vm, first.guest.vmid, last.guest.vmid));
        } else {
            let one = |change: &&Change| format!("{} ({})", change.vm, change.guest.vmid);
            parts.extend(changes[at..at + row].iter().map(one));
        }
        at += row;
    }
    parts
}

/// Tells whether a VM's name and VMID follow another's.
fn follows(one: &Change, next: &Change) -> bool {
    let split = |name: &GuestName| {
        let text = name.as_str();
        let digits = text.len() - text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (stem, number) = text.split_at(text.len() - digits);
        number.parse::<u64>().ok().map(|number| (stem.to_owned(), number))
    };
    let number = |name| split(name).map(|(stem, number)| (stem, number + 1));
    number(&one.vm).is_some_and(|expected| split(&next.vm) == Some(expected))
        && one.guest.vmid.get() + 1 == next.guest.vmid.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_are_replaced() {
        let check = |text: &str, expect: &str| assert_eq!(replaced(text, "310", VMID), expect);
        check("create VM 310 (12 options)", "create VM <VMID> (12 options)");
        check("local-lvm:vm-310-disk-0", "local-lvm:vm-<VMID>-disk-0");
        check("3100 and 1310", "3100 and 1310");
        check("310", "<VMID>");
    }
}
