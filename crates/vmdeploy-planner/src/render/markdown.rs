//! A plan as a merge request shows it.

use super::alike::Block;
use super::describe::describe_revert_of;
use super::text::totals;
use super::{clean, summary};
use crate::plan::{Change, CheckOutcome, Plan, Reason, Step, Verb};
use pve_types::GuestName;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Returns the plan in Markdown: a table of VMs, and per VM its differences and steps folded away.
pub fn markdown(plan: &Plan) -> String {
    let mut out = format!(
        "## Plan for project `{}` on cluster `{}`{}\n\n{}\n",
        plan.project,
        plan.cluster,
        plan.answered_by.as_ref().map(|cluster| format!(" at `{cluster}`")).unwrap_or_default(),
        totals(plan)
    );
    let by_vm = plan.steps_by_vm();
    if plan.changes.iter().any(|change| change.verb != Verb::NoOp) {
        out.push_str("\n| | VM | VMID | node | steps |\n|---|---|---|---|---|\n");
        for change in plan.changes.iter().filter(|change| change.verb != Verb::NoOp) {
            let steps = own_steps(&by_vm, change).len();
            let guest = &change.guest;
            let _ = writeln!(
                out,
                "| `{}` | {} | {} | {} | {steps} |",
                change.verb.sign(),
                change.vm,
                guest.vmid,
                guest.node
            );
        }
    }
    refusals(plan, &mut out);
    for rollout in &plan.rollouts {
        let batch = |(at, batch): (usize, &Vec<GuestName>)| {
            let names: Vec<&str> = batch.iter().map(|vm| vm.as_str()).collect();
            format!("{}. {}", at + 1, names.join(", "))
        };
        let batches: Vec<String> = rollout.batches.iter().enumerate().map(batch).collect();
        let (scope, rules) = (rollout.scope(), super::alike::rollout_rules(rollout));
        let _ = writeln!(out, "\nRollout of {scope}, {rules}:\n\n{}", batches.join("\n"));
    }
    for (vms, note) in super::alike::notes(plan, true) {
        let vm = if vms.is_empty() { String::new() } else { format!("**{}**: ", super::alike::names(&vms)) };
        let hint = note.hint.as_ref().map(|hint| format!(" ({})", escaped(hint))).unwrap_or_default();
        let _ = writeln!(out, "\n> {vm}{}{hint}", escaped(&note.text));
    }
    if let Some(shared) = by_vm.get(&None) {
        out.push_str("\nFor all VMs:\n\n");
        step_table(shared, None, &mut out);
    }
    for block in super::alike::blocks(plan, &by_vm, false, true) {
        match block.only() {
            Some(change) => details(change, &own_steps(&by_vm, change), &mut out),
            None => equal_details(&block, &own_steps(&by_vm, block.changes[0]), &mut out),
        }
    }
    out
}

fn own_steps<'p>(
    by_vm: &BTreeMap<Option<&'p GuestName>, Vec<&'p Step>>,
    change: &'p Change,
) -> Vec<&'p Step> {
    by_vm.get(&Some(&change.vm)).cloned().unwrap_or_default()
}

fn refusals(plan: &Plan, out: &mut String) {
    for check in plan.checks.iter().filter(|check| check.outcome == CheckOutcome::Refused) {
        let detail = check.detail.as_ref().map(|detail| format!(": {}", escaped(detail))).unwrap_or_default();
        let _ = writeln!(out, "\n> **missing**: {}{detail}", escaped(&check.need));
    }
}

fn details(change: &Change, own: &[&Step], out: &mut String) {
    let _ =
        writeln!(out, "\n<details><summary><code>{} {}</code></summary>\n", change.verb.sign(), change.vm);
    out.push_str("| key | now | then |\n|---|---|---|\n");
    change.reasons.iter().for_each(|reason| reason_row(reason, out));
    out.push('\n');
    step_table(own, Some(change.verb), out);
    out.push_str("\n</details>\n");
}

fn reason_row(reason: &Reason, out: &mut String) {
    let shown = |value: &Option<String>| {
        value.as_ref().map(|value| format!("`{}`", in_code(value))).unwrap_or_default()
    };
    let note = reason.note.as_ref().map(|note| format!(" {}", escaped(note))).unwrap_or_default();
    let _ = writeln!(
        out,
        "| {} | {} | {}{note} |",
        escaped(&reason.path),
        shown(&reason.from),
        shown(&reason.to)
    );
}

/// Shows equal changes of several VMs once, with what differs.
fn equal_details(block: &Block<'_>, own: &[&Step], out: &mut String) {
    let first = block.changes[0];
    let names: Vec<&GuestName> = block.changes.iter().map(|change| &change.vm).collect();
    let (sign, names) = (first.verb.sign(), super::alike::names(&names));
    let _ = writeln!(out, "\n<details><summary><code>{sign} {names}</code></summary>\n");
    out.push_str("| key | now | then |\n|---|---|---|\n");
    let shared = block.reasons();
    for one in &shared {
        match &one.reason {
            Some(reason) => reason_row(reason, out),
            None => drop(writeln!(out, "| {} | | each VM its own |", escaped(&one.path))),
        }
    }
    let deviating = block.changes.iter().enumerate().filter_map(|(place, change)| {
        let own = shared
            .iter()
            .filter_map(|one| Some(format!("{} `{}`", escaped(&one.path), in_code(one.others.get(&place)?))));
        let own = own.collect::<Vec<_>>().join(", ");
        (!own.is_empty()).then_some((change, own))
    });
    for (at, (change, own)) in deviating.enumerate() {
        let head = if at == 0 { "\nWhat differs:\n\n" } else { "" };
        let _ = writeln!(out, "{head}- {}: {own}", change.vm);
    }
    out.push('\n');
    steps_with(own, Some(first.verb), |text| super::alike::neutral(text, first), out);
    out.push_str("\n</details>\n");
}

fn step_table(steps: &[&Step], verb: Option<Verb>, out: &mut String) {
    steps_with(steps, verb, str::to_owned, out);
}

fn steps_with(steps: &[&Step], verb: Option<Verb>, worded: impl Fn(&str) -> String, out: &mut String) {
    out.push_str("| step | transport | what | why | revert |\n|---|---|---|---|---|\n");
    for step in steps {
        let what = escaped(&worded(&summary(&step.action)));
        let revert = escaped(&worded(&describe_revert_of(step, verb)));
        let _ = writeln!(
            out,
            "| {} | {} | {what} | {} | {revert} |",
            escaped(&worded(&step.id.0)),
            step.transport,
            escaped(&step.why)
        );
    }
}

/// Returns text that Markdown and HTML show as it is.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in clean(text, 240).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '|' | '*' | '_' | '[' | ']' | '\\' | '#' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

/// Returns text for a code span in a table.
fn in_code(text: &str) -> String {
    clean(text, 100).replace('`', "'").replace('|', "\\|")
}
