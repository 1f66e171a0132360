//! A plan as people read it on a terminal.

use super::alike::{self, Block, ByVm, neutral};
use super::brief::{Interruption, interruption};
use super::describe::describe_revert_of;
use super::{RenderOptions, clean, count, duration, summary};
use crate::plan::{Change, Check, CheckOutcome, Plan, PlannedRollout, Reason, Step, Transport, Verb};
use crate::timing::timing;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Colors, or nothing.
struct Paint {
    color: bool,
    /// The width of the terminal.
    width: usize,
}

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
    /// Writes `text` after `head`, whose width is `column`, its further lines below its beginning.
    fn hang(&self, out: &mut String, head: &str, column: usize, text: &str, style: impl Fn(&str) -> String) {
        for (at, piece) in pieces(text, self.width.saturating_sub(column)).into_iter().enumerate() {
            let head = if at == 0 { head.to_owned() } else { " ".repeat(column) };
            line(out, &format!("{head}{}", style(piece)));
        }
    }
    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }
    fn dim(&self, text: &str) -> String {
        self.with("2", text)
    }
    fn bad(&self, text: &str) -> String {
        self.with("31", text)
    }
    fn verb(&self, verb: Verb, text: &str) -> String {
        let code = match verb {
            Verb::NoOp => "2",
            Verb::Create => "32",
            Verb::Update | Verb::UpdatePending => "33",
            Verb::Replace => "35",
            Verb::Delete => "31",
        };
        self.with(code, text)
    }
}

/// Returns the plan for people.
pub fn text(plan: &Plan, options: RenderOptions) -> String {
    let paint = Paint { color: options.color, width: options.width.unwrap_or(usize::MAX) };
    let mut out = String::new();
    let transport =
        serde_json::to_value(plan.transport).ok().and_then(|transport| transport.as_str().map(str::to_owned));
    let title = format!("Plan for project {} on cluster {}", plan.project, plan.cluster);
    let at = plan.answered_by.as_ref().map(|cluster| format!("at {cluster}, ")).unwrap_or_default();
    let rest = format!("  {at}PVE {}, transport {}", plan.pve_version, transport.unwrap_or_default());
    line(&mut out, &format!("{}{}", paint.bold(&title), paint.dim(&rest)));
    let by_vm = plan.steps_by_vm();
    if let Some(shared) = by_vm.get(&None).filter(|_| options.steps) {
        line(&mut out, "");
        line(&mut out, &paint.bold("  for all VMs"));
        steps(&mut out, &paint, shared, None);
    }
    for block in alike::blocks(plan, &by_vm, options.unchanged, options.equal_once) {
        match block.only() {
            Some(change) => change_block(&mut out, &paint, change, &steps_of(&by_vm, change), options.steps),
            None => equal_changes(&mut out, &paint, &block, &by_vm, options.steps),
        }
    }
    plan.rollouts.iter().for_each(|rollout| rollout_block(&mut out, &paint, rollout, options.equal_once));
    notes(&mut out, &paint, plan, options);
    checks(&mut out, &paint, plan, options);
    line(&mut out, "");
    line(&mut out, &paint.bold(&totals(plan)));
    out
}

/// Prints the batches of a rollout; of many, the first ones and the last.
fn rollout_block(out: &mut String, paint: &Paint, rollout: &PlannedRollout, shortened: bool) {
    const SHOWN: usize = 6;
    line(out, "");
    let rest = format!("  {}", alike::rollout_rules(rollout));
    line(out, &format!("{}{rest}", paint.bold(&format!("rollout of {}", rollout.scope()))));
    let total = rollout.batches.len();
    for (at, batch) in rollout.batches.iter().enumerate() {
        if shortened && total > SHOWN + 1 && (SHOWN - 1..total - 1).contains(&at) {
            if at == SHOWN - 1 {
                line(out, &format!("    … {} more batches …", total - SHOWN));
            }
            continue;
        }
        let names: Vec<&str> = batch.iter().map(|vm| vm.as_str()).collect();
        let head = format!("    batch {} of {total}: ", at + 1);
        let column = head.chars().count();
        paint.hang(out, &head, column, &names.join(", "), str::to_owned);
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

/// Cuts a text at its blanks into pieces of at most `width` characters. A long word stays whole.
fn pieces(text: &str, width: usize) -> Vec<&str> {
    const NARROWEST: usize = 24;
    let width = width.max(NARROWEST);
    let mut pieces = Vec::new();
    let mut rest = text;
    while rest.chars().count() > width {
        let reach = rest.char_indices().nth(width).map_or(rest.len(), |(at, _)| at);
        // A blank right behind the last character that fits is as good.
        let within = &rest[..reach + usize::from(rest[reach..].starts_with(' '))];
        let Some(cut) = within.rfind(' ').filter(|cut| *cut > 0).or_else(|| rest.find(' ')) else { break };
        pieces.push(rest[..cut].trim_end());
        rest = rest[cut..].trim_start();
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(rest);
    }
    pieces
}

fn steps_of<'p>(by_vm: &ByVm<'p>, change: &'p Change) -> Vec<&'p Step> {
    by_vm.get(&Some(&change.vm)).cloned().unwrap_or_default()
}

/// Returns what happens to a VM, as its headline says it.
fn headline(change: &Change, own: &[&Step]) -> &'static str {
    match change.verb {
        Verb::NoOp if own.is_empty() => "nothing to do for",
        Verb::NoOp => "wait until it is ready:",
        Verb::Create => "create",
        Verb::Update | Verb::UpdatePending => match (interruption(change, own), change.verb) {
            (Some(Interruption::Restart), _) => "update and RESTART",
            (Some(_), _) => "update and SHUT DOWN",
            (None, Verb::UpdatePending) => "update, pending until restart:",
            (None, _) => "update in place",
        },
        Verb::Replace => "destroy and recreate",
        Verb::Delete => "delete",
    }
}

fn change_block(out: &mut String, paint: &Paint, change: &Change, own: &[&Step], with_steps: bool) {
    let guest = &change.guest;
    let what = headline(change, own);
    line(out, "");
    let head = format!("{} {}", change.verb.sign(), change.vm);
    let rest = format!("  {what} VM {} on {}", guest.vmid, guest.node);
    line(out, &format!("{}{}", paint.verb(change.verb, &paint_bold(paint, &head)), rest));
    reasons(out, paint, &change.reasons);
    if with_steps {
        steps(out, paint, own, Some(change.verb));
    }
}

/// Prints what several VMs have in common, then which VMs these are and how they differ.
fn equal_changes(out: &mut String, paint: &Paint, block: &Block<'_>, by_vm: &ByVm<'_>, with_steps: bool) {
    let (first, changes) = (block.changes[0], &block.changes);
    let own = steps_of(by_vm, first);
    let of_group = first.group.as_ref().map(|group| format!(" of group {group}")).unwrap_or_default();
    line(out, "");
    let head = format!(
        "{} {}",
        first.verb.sign(),
        alike::names(&changes.iter().map(|one| &one.vm).collect::<Vec<_>>())
    );
    let what = match headline(first, &own) {
        "update, pending until restart:" => "update (pending until restart)",
        what => what,
    };
    let rest = format!("  {what} {}{of_group}", count(changes.len(), "VM"));
    line(out, &format!("{}{rest}", paint.verb(first.verb, &paint_bold(paint, &head))));
    let shared = block.reasons();
    let shown: Vec<Reason> = shared
        .iter()
        .map(|one| {
            one.reason.clone().unwrap_or_else(|| Reason {
                path: one.path.clone(),
                from: None,
                to: None,
                note: Some("each VM its own, see below".to_owned()),
            })
        })
        .collect();
    reasons(out, paint, &shown);
    if with_steps {
        for step in &own {
            let name = step.id.0.split_once('/').map_or(step.id.0.as_str(), |(_, name)| name);
            let width =
                own.iter().map(|step| step.id.0.len() - first.vm.as_str().len() - 1).max().unwrap_or(0);
            let head = format!("    > {name:<width$}  {}  ", transport(paint, step));
            let does = neutral(&summary(&step.action), first);
            paint.hang(out, &head, 15 + width.max(name.len()), &does, str::to_owned);
        }
    }
    members(out, paint, block, &shared);
}

/// Prints the VMs of equal changes: those without a value of their own in a row per node, then one line for each other.
fn members(out: &mut String, paint: &Paint, block: &Block<'_>, shared: &[alike::SharedReason]) {
    const WIDTH: usize = 100;
    let own_values = |place: usize| -> Vec<String> {
        let own = shared.iter().filter_map(|one| Some(format!("{} {}", one.path, one.others.get(&place)?)));
        own.map(|text| clean(&text, 80)).collect()
    };
    let mut rows: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
    let mut others = Vec::new();
    for (place, change) in block.changes.iter().enumerate() {
        match own_values(place) {
            own if own.is_empty() => rows.entry(change.guest.node.as_str()).or_default().push(change),
            own => others.push((change, own.join(", "))),
        }
    }
    let wrapped = Paint { color: paint.color, width: paint.width.min(WIDTH) };
    for (node, changes) in rows {
        let head = format!("    on {node}: ");
        let column = head.chars().count();
        wrapped.hang(out, &head, column, &alike::numbered(&changes).join(", "), str::to_owned);
    }
    for (change, own) in others {
        let head = format!("    {} ({}) on {}: ", change.vm, change.guest.vmid, change.guest.node);
        let column = head.chars().count();
        wrapped.hang(out, &head, column, &own, str::to_owned);
    }
}

fn transport(paint: &Paint, step: &Step) -> String {
    match step.transport {
        Transport::Api => paint.with("36", "API  "),
        Transport::Ssh => paint.with("34", "SSH  "),
        Transport::Local => "local".to_owned(),
    }
}

fn paint_bold(paint: &Paint, text: &str) -> String {
    if paint.color { format!("\u{1b}[1m{text}") } else { text.to_owned() }
}

fn reasons(out: &mut String, paint: &Paint, reasons: &[Reason]) {
    let width = reasons.iter().map(|reason| reason.path.chars().count()).max().unwrap_or(0).min(32);
    for reason in reasons {
        let path = clean(&reason.path, 60);
        let value = match (&reason.from, &reason.to) {
            (None, Some(to)) => clean(to, 100),
            (Some(from), None) => format!("{} {}", clean(from, 60), paint.bad("removed")),
            (Some(from), Some(to)) => format!("{} {} {}", clean(from, 60), paint.dim("->"), clean(to, 60)),
            (None, None) => String::new(),
        };
        let note = reason.note.as_ref().map(|note| clean(note, 120)).unwrap_or_default();
        let plain = match (&reason.from, &reason.to) {
            (None, Some(to)) => clean(to, 100),
            (Some(from), None) => format!("{} removed", clean(from, 60)),
            (Some(from), Some(to)) => format!("{} -> {}", clean(from, 60), clean(to, 60)),
            (None, None) => String::new(),
        };
        let plain = [plain.as_str(), note.as_str()].join("  ").trim().to_owned();
        let gap = if value.is_empty() || note.is_empty() { "" } else { "  " };
        let (head, column) = (format!("      {path:<width$}  "), 8 + width.max(path.chars().count()));
        if column + plain.chars().count() <= paint.width {
            line(out, &format!("{head}{value}{gap}{}", paint.dim(&note)));
        } else {
            paint.hang(out, &head, column, &plain, str::to_owned);
        }
    }
}

fn steps(out: &mut String, paint: &Paint, steps: &[&Step], verb: Option<Verb>) {
    let name = |step: &Step| {
        step.id.0.split_once('/').map_or_else(|| step.id.0.clone(), |(_, what)| what.to_owned())
    };
    let width = steps.iter().map(|step| name(step).chars().count()).max().unwrap_or(0).min(28);
    for step in steps {
        let transport = transport(paint, step);
        let (name, revert) = (name(step), describe_revert_of(step, verb));
        let column = 15 + width.max(name.chars().count());
        let head = format!("    > {name:<width$}  {transport}  ");
        paint.hang(out, &head, column, &summary(&step.action), str::to_owned);
        let why = format!("{}; revert: {revert}", clean(&step.why, 140));
        paint.hang(out, &" ".repeat(15 + width), 15 + width, &why, |piece| paint.dim(piece));
    }
}

fn notes(out: &mut String, paint: &Paint, plan: &Plan, options: RenderOptions) {
    if plan.notes.is_empty() {
        return;
    }
    line(out, "");
    for (vms, note) in alike::notes(plan, options.equal_once) {
        let vm = if vms.is_empty() { String::new() } else { format!("{}: ", alike::names(&vms)) };
        let head = format!("{} ", paint.with("33", "note:"));
        paint.hang(out, &head, 6, &format!("{vm}{}", clean(&note.text, 200)), str::to_owned);
        if let Some(hint) = &note.hint {
            let hint = format!("hint: {}", clean(hint, 200));
            paint.hang(out, "      ", 6, &hint, |piece| paint.dim(piece));
        }
    }
}

fn checks(out: &mut String, paint: &Paint, plan: &Plan, options: RenderOptions) {
    let of = |outcome| plan.checks.iter().filter(move |check| check.outcome == outcome);
    if plan.checks.is_empty() {
        return;
    }
    line(out, "");
    let numbers = [
        (of(CheckOutcome::Passed).count(), "passed"),
        (of(CheckOutcome::Unknown).count(), "unknown"),
        (of(CheckOutcome::Refused).count(), "missing"),
    ];
    let parts =
        numbers.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}"));
    line(out, &format!("{} {}", paint.bold("checks:"), parts.collect::<Vec<_>>().join(", ")));
    for check in of(CheckOutcome::Refused) {
        check_line(out, paint, &paint.bad("missing"), check);
    }
    for check in of(CheckOutcome::Unknown) {
        check_line(out, paint, &paint.with("33", "unknown"), check);
    }
    if options.passed_checks {
        for check in of(CheckOutcome::Passed) {
            check_line(out, paint, &paint.with("32", "passed "), check);
        }
    }
}

fn check_line(out: &mut String, paint: &Paint, word: &str, check: &Check) {
    let detail = check.detail.as_ref().map(|detail| format!(": {}", clean(detail, 240))).unwrap_or_default();
    let text = format!("{}{detail}", clean(&check.need, 160));
    paint.hang(out, &format!("  {word}  "), 11, &text, str::to_owned);
}

/// Returns the last line of a plan: how many VMs are changed in which way, and how long it takes.
pub(super) fn totals(plan: &Plan) -> String {
    let of = |verbs: &[Verb]| plan.changes.iter().filter(|change| verbs.contains(&change.verb)).count();
    if plan.is_empty() {
        return format!("Nothing to do: {} up to date.", are(plan.changes.len()));
    }
    let parts = [
        (of(&[Verb::Create]), "to create"),
        (of(&[Verb::Update, Verb::UpdatePending]), "to update"),
        (of(&[Verb::Replace]), "to replace"),
        (of(&[Verb::Delete]), "to delete"),
        (of(&[Verb::NoOp]), "unchanged"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    let by = |transport| plan.steps.iter().filter(|step| step.transport == transport).count();
    let transports =
        [(by(Transport::Api), "API"), (by(Transport::Ssh), "SSH"), (by(Transport::Local), "local")];
    let transports: Vec<String> = transports
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, transport)| format!("{number} {transport}"))
        .collect();
    let time = duration(timing(plan).least_ms());
    let steps =
        format!("{} ({}), estimated time {time}.", count(plan.steps.len(), "step"), transports.join(", "));
    if parts.is_empty() { steps } else { format!("{}; {steps}", parts.join(", ")) }
}

fn are(number: usize) -> String {
    match number {
        0 => "all VMs are".to_owned(),
        1 => "1 VM is".to_owned(),
        _ => format!("{number} VMs are"),
    }
}

/// Returns how long the plan takes and which steps decide that.
pub fn timing_text(plan: &Plan) -> String {
    let timing = timing(plan);
    let mut out = String::new();
    let (least, total) = (duration(timing.least_ms()), duration(timing.total_ms));
    let _ = writeln!(out, "estimated time {least}; running the steps one after another would take {total}");
    if let Some(busiest) = &timing.busiest {
        let (work, critical) = (duration(busiest.work_ms), duration(timing.critical_ms));
        let _ = writeln!(out, "busiest: {}: {work}", busiest.what);
        let _ = writeln!(out, "the longest chain of dependent steps takes {critical}:");
    }
    let width = timing.critical_path.iter().map(|id| id.0.chars().count()).max().unwrap_or(0);
    for id in &timing.critical_path {
        let step = plan.step(id);
        let ms = step.map_or(0, |step| step.estimate_ms);
        let what = step.map(|step| summary(&step.action)).unwrap_or_default();
        let _ = writeln!(out, "  {:<width$}  {:>8}  {what}", id.0, duration(ms));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_its_blanks_and_a_long_word_stays_whole() {
        let check = |text: &str, width: usize, expect: &[&str]| assert_eq!(pieces(text, width), expect);
        check("one two three four five six", 24, &["one two three four five", "six"]);
        check("one two three four fives six", 24, &["one two three four fives", "six"]);
        check(
            "local:import/debian-13-a24f9a4db310.raw from there",
            24,
            &["local:import/debian-13-a24f9a4db310.raw", "from there"],
        );
        check("", 24, &[""]);
        check("short", usize::MAX, &["short"]);
    }
}
