//! A plan as a merge request shows it.

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
    for note in &plan.notes {
        let vm = note.vm.as_ref().map(|vm| format!("**{vm}**: ")).unwrap_or_default();
        let hint = note.hint.as_ref().map(|hint| format!(" ({})", escaped(hint))).unwrap_or_default();
        let _ = writeln!(out, "\n> {vm}{}{hint}", escaped(&note.text));
    }
    if let Some(shared) = by_vm.get(&None) {
        out.push_str("\nFirst, for all:\n\n");
        step_table(shared, None, &mut out);
    }
    for change in plan.changes.iter().filter(|change| change.verb != Verb::NoOp) {
        details(change, &own_steps(&by_vm, change), &mut out);
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
    for Reason { path, from, to, note } in &change.reasons {
        let shown = |value: &Option<String>| {
            value.as_ref().map(|value| format!("`{}`", in_code(value))).unwrap_or_default()
        };
        let note = note.as_ref().map(|note| format!(" {}", escaped(note))).unwrap_or_default();
        let _ = writeln!(out, "| {} | {} | {}{note} |", escaped(path), shown(from), shown(to));
    }
    out.push('\n');
    step_table(own, Some(change.verb), out);
    out.push_str("\n</details>\n");
}

fn step_table(steps: &[&Step], verb: Option<Verb>, out: &mut String) {
    out.push_str("| step | transport | what | why | revert |\n|---|---|---|---|---|\n");
    for step in steps {
        let what = escaped(&summary(&step.action));
        let revert = escaped(&describe_revert_of(step, verb));
        let _ = writeln!(
            out,
            "| {} | {} | {what} | {} | {revert} |",
            escaped(&step.id.0),
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
