//! A plan in a few lines, and what it does to guests that run.

use super::{clean, count};
use crate::plan::{Action, Change, NoteTopic, Plan, Step, Verb};
use pve_types::GuestName;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Returns one line per VM that something happens to, with whether its guest is restarted.
pub fn brief(plan: &Plan) -> String {
    let by_vm = plan.steps_by_vm();
    let mut out = String::new();
    for change in plan.changes.iter().filter(|change| change.verb != Verb::NoOp) {
        let own = by_vm.get(&Some(&change.vm)).map_or(&[][..], Vec::as_slice);
        let note = interruption(change, own).map(|what| format!("  {what}")).unwrap_or_default();
        // Writing to a String does not fail.
        let _ = writeln!(out, "{} {} ({}){note}", change.verb.sign(), change.vm, change.guest.vmid);
    }
    for rollout in &plan.rollouts {
        let batches = match rollout.batches.len() {
            1 => "1 batch".to_owned(),
            batches => format!("{batches} batches"),
        };
        let _ = writeln!(
            out,
            "rollout of {}: {batches}, {}",
            rollout.scope(),
            super::alike::rollout_rules(rollout)
        );
    }
    let names: BTreeSet<&GuestName> = plan.changes.iter().map(|change| &change.vm).collect();
    let about_restarts = plan.notes.iter().filter(|note| note.topic == NoteTopic::Restart);
    for note in about_restarts {
        let vm = note.vm.as_ref().filter(|vm| names.contains(vm));
        let vm = vm.map(|vm| format!("{vm}: ")).unwrap_or_default();
        let _ = writeln!(out, "note: {vm}{}", clean(&note.text, 200));
    }
    match plan.steps.len() {
        0 => out.push_str("nothing to do\n"),
        steps => drop(writeln!(out, "{}", count(steps, "step"))),
    }
    out
}

/// What a change does to a guest that exists, beyond changing it while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interruption {
    Restart,
    ShutDown,
    Remake,
    Destroy,
}

impl std::fmt::Display for Interruption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Restart => "restarts the guest",
            Self::ShutDown => "shuts the guest down",
            Self::Remake => "destroys and remakes the guest",
            Self::Destroy => "destroys the guest",
        })
    }
}

/// Returns how a change interrupts a guest that exists; `None` where it runs on as it is.
pub(super) fn interruption(change: &Change, steps: &[&Step]) -> Option<Interruption> {
    let any = |is: fn(&Action) -> bool| steps.iter().any(|step| is(&step.action));
    let shuts_down = any(|action| matches!(action, Action::ShutdownVm { .. } | Action::StopVm { .. }));
    let starts = any(|action| matches!(action, Action::StartVm { .. }));
    match change.verb {
        Verb::Update | Verb::UpdatePending => {
            if any(|action| matches!(action, Action::RebootVm { .. })) || (shuts_down && starts) {
                Some(Interruption::Restart)
            } else {
                shuts_down.then_some(Interruption::ShutDown)
            }
        }
        Verb::Replace => Some(Interruption::Remake),
        Verb::Delete => Some(Interruption::Destroy),
        Verb::Create | Verb::NoOp => None,
    }
}

/// Returns what the plan does, with its numbers: `create 3, change 5 (restarting 4), DESTROY AND REMAKE 1 VMs`.
pub fn consequences(plan: &Plan) -> String {
    let by_vm = plan.steps_by_vm();
    let of = |verbs: &[Verb]| plan.changes.iter().filter(|change| verbs.contains(&change.verb)).count();
    let interrupted = |what: Interruption| {
        let own = |change: &Change| by_vm.get(&Some(&change.vm)).cloned().unwrap_or_default();
        plan.changes.iter().filter(|change| interruption(change, &own(change)) == Some(what)).count()
    };
    let (restarts, stops) = (interrupted(Interruption::Restart), interrupted(Interruption::ShutDown));
    let mut of_changes = Vec::new();
    if restarts > 0 {
        of_changes.push(format!("RESTARTING {restarts}"));
    }
    if stops > 0 {
        of_changes.push(format!("SHUTTING DOWN {stops}"));
    }
    let changes = of(&[Verb::Update, Verb::UpdatePending]);
    let parts = [
        (of(&[Verb::Create]), "create", String::new()),
        (changes, "change", of_changes.join(", ")),
        (of(&[Verb::Replace]), "DESTROY AND REMAKE", String::new()),
        (of(&[Verb::Delete]), "DESTROY", String::new()),
    ];
    let total: usize = parts.iter().map(|(number, ..)| number).sum();
    let part = |(number, verb, more): &(usize, &str, String)| match more.is_empty() {
        true => format!("{verb} {number}"),
        false => format!("{verb} {number} ({more})"),
    };
    let parts: Vec<String> = parts.iter().filter(|(number, ..)| *number > 0).map(part).collect();
    match total {
        0 => format!("run {}", count(plan.steps.len(), "step")),
        1 => format!("{} VM", parts.join(", ")),
        _ => format!("{} VMs", parts.join(", ")),
    }
}
