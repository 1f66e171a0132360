//! The report as one page: nothing is loaded from anywhere, nothing runs, and every text is escaped.

mod chart;
mod escape;

use super::{Leftover, RunReport, RunResult, StepReport, StepState, VmReport, VmState};
use crate::{Failure, Outcome};
use escape::Escaped;
use std::fmt::Write as _;
use vmdeploy_planner::plan::{Change, Plan};
use vmdeploy_planner::render::count;

const STYLE: &str = include_str!("report.css");

/// Returns the report of a run as a self-contained page, light or dark as the reader's system is.
pub fn html_page(plan: &Plan, report: &RunReport) -> String {
    let mut page = String::new();
    let title = format!("{}: run {}", report.project, report.run);
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        Escaped(&title)
    );
    page.push_str(&head(report));
    page.push_str(&failures(report));
    page.push_str(&leftovers(&report.left));
    page.push_str(&machines(plan, report));
    page.push_str(&chart::chart(report));
    page.push_str(&waits(report));
    page.push_str(&steps(report));
    page.push_str(&notes(plan));
    page.push_str("</body>\n</html>\n");
    page
}

fn head(report: &RunReport) -> String {
    let (class, words) = (verdict_class(report.result), Escaped(&report.headline()).to_string());
    let done = report.steps.iter().filter(|step| step.state == StepState::Succeeded).count();
    let retries: usize = report.steps.iter().map(retries).sum();
    format!(
        "<header>\n<h1>{} <span class=\"verdict {class}\">{words}</span></h1>\n<p class=\"facts\">run <code>{}</code> \
         · began {} · took {} · {} · {done} of {} done · {}</p>\n</header>\n",
        Escaped(&report.project),
        Escaped(&report.run),
        Escaped(&report.started.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()),
        duration(report.ended.as_millisecond() - report.started.as_millisecond()),
        count(report.vms.len(), "VM"),
        count(report.steps.len(), "step"),
        count(retries, "repeated attempt"),
    )
}

fn verdict_class(result: RunResult) -> &'static str {
    match result {
        RunResult::Done => "good",
        RunResult::RolledBack | RunResult::PartlyDone | RunResult::Unfinished => "warn",
        RunResult::Left | RunResult::Credentials | RunResult::Refused => "bad",
    }
}

fn retries(step: &StepReport) -> usize {
    step.spans.iter().filter(|span| span.kind == super::SpanKind::Retried).count()
}

fn failures(report: &RunReport) -> String {
    let failures: Vec<(&StepReport, &Failure)> = report.failed_steps().collect();
    if failures.is_empty() {
        return String::new();
    }
    let mut text = "<section id=\"failures\">\n<h2>Failures</h2>\n".to_owned();
    for (step, failure) in failures {
        let _ =
            write!(text, "<article class=\"failure\">\n<h3><code>{}</code></h3>\n", Escaped(&step.step.0));
        let _ = write!(text, "<p>{}; {}</p>\n<ul>\n", Escaped(&failure.message), Escaped(&step.effect_now()));
        for cause in &failure.causes {
            let _ = writeln!(text, "<li>{}</li>", Escaped(cause));
        }
        if let Some(node) = &failure.node {
            let _ = writeln!(text, "<li>node <code>{}</code></li>", Escaped(node.as_str()));
        }
        if let Some(upid) = &failure.upid {
            let _ = writeln!(text, "<li>task <code>{}</code></li>", Escaped(upid.as_str()));
        }
        text.push_str("</ul>\n");
        if !failure.log.is_empty() {
            let _ = writeln!(text, "<pre>{}</pre>", Escaped(&failure.log.join("\n")));
        }
        if let Some(hint) = &failure.hint {
            let _ = writeln!(text, "<p class=\"hint\">{}</p>", Escaped(hint));
        }
        text.push_str("</article>\n");
    }
    text + "</section>\n"
}

fn leftovers(left: &[Leftover]) -> String {
    if left.is_empty() {
        return String::new();
    }
    let mut text =
        "<section id=\"left\">\n<h2>What remains</h2>\n<table>\n<thead><tr><th>What</th><th>Why</th>\
                    <th>Removed by</th></tr></thead>\n<tbody>\n"
            .to_owned();
    for item in left {
        let _ = writeln!(
            text,
            "<tr><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
            Escaped(&item.what),
            Escaped(&item.why),
            Escaped(&item.command)
        );
    }
    text + "</tbody>\n</table>\n</section>\n"
}

/// The plan: what was to be done to each VM, and what became of it.
fn machines(plan: &Plan, report: &RunReport) -> String {
    let mut text =
        "<section id=\"plan\">\n<h2>Plan</h2>\n<table>\n<thead><tr><th></th><th>VM</th><th>VMID</th>\
                    <th>Node</th><th>Why</th><th>State</th><th>Addresses</th></tr></thead>\n<tbody>\n"
            .to_owned();
    for (change, vm) in plan.changes.iter().zip(&report.vms) {
        let addresses: Vec<String> = vm.addresses.iter().map(ToString::to_string).collect();
        let (class, state) = machine_state(vm);
        let _ = writeln!(
            text,
            "<tr><td class=\"sign\">{}</td><td><strong>{}</strong></td><td>{}</td><td>{}</td><td>{}</td>\
             <td class=\"{class}\">{state}</td><td>{}</td></tr>",
            Escaped(change.verb.sign()),
            Escaped(vm.vm.as_ref()),
            vm.vmid,
            Escaped(vm.node.as_str()),
            Escaped(&reasons(change)),
            Escaped(&addresses.join(", "))
        );
    }
    text + "</tbody>\n</table>\n</section>\n"
}

fn reasons(change: &Change) -> String {
    let reason = |reason: &vmdeploy_planner::plan::Reason| match (&reason.from, &reason.to) {
        (Some(from), Some(to)) => format!("{}: {from} → {to}", reason.path),
        (None, Some(to)) => format!("{}: {to}", reason.path),
        (Some(from), None) => format!("{}: {from} removed", reason.path),
        (None, None) => reason.path.clone(),
    };
    let all: Vec<String> = change.reasons.iter().take(8).map(reason).collect();
    match change.reasons.len().saturating_sub(all.len()) {
        0 => all.join("; "),
        more => format!("{}; and {more} more", all.join("; ")),
    }
}

fn machine_state(vm: &VmReport) -> (&'static str, &'static str) {
    match vm.state {
        VmState::Done => ("good", "done"),
        VmState::Untouched => ("quiet", "untouched"),
        VmState::RolledBack => ("warn", "rolled back"),
        VmState::NotReady => ("warn", "not ready"),
        VmState::Failed => ("bad", "failed"),
        VmState::Unfinished => ("warn", "unfinished"),
    }
}

fn waits(report: &RunReport) -> String {
    let waits: Vec<&StepReport> = report
        .steps
        .iter()
        .filter(|step| step.spans.iter().any(|span| span.kind == super::SpanKind::Wait))
        .collect();
    if waits.is_empty() {
        return String::new();
    }
    let mut text = "<section id=\"waits\">\n<h2>Waits</h2>\n<table>\n<thead><tr><th>VM</th><th>Step</th>\
                    <th>How long</th><th>State</th></tr></thead>\n<tbody>\n"
        .to_owned();
    for step in waits {
        let vm = step.vm.as_ref().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(
            text,
            "<tr><td>{}</td><td>{}</td><td class=\"number\">{}</td><td>{}</td></tr>",
            Escaped(&vm),
            Escaped(&step.title),
            duration(spent(step)),
            state_words(&step.state)
        );
    }
    text + "</tbody>\n</table>\n</section>\n"
}

fn steps(report: &RunReport) -> String {
    let mut text =
        "<section id=\"steps\">\n<details>\n<summary><h2>Every step</h2></summary>\n<table>\n<thead><tr>\
                    <th>Step</th><th>What</th><th>Transport</th><th>Why that transport</th><th>Took</th><th>State</th>\
                    <th>Outcome</th></tr></thead>\n<tbody>\n"
            .to_owned();
    for step in &report.steps {
        let _ = writeln!(
            text,
            "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td><td class=\"number\">{}</td><td>{}</td>\
             <td>{}</td></tr>",
            Escaped(&step.step.0),
            Escaped(&step.title),
            step.transport,
            Escaped(&step.why),
            duration(spent(step)),
            state_words(&step.state),
            Escaped(&outcome(step))
        );
    }
    text + "</tbody>\n</table>\n</details>\n</section>\n"
}

fn outcome(step: &StepReport) -> String {
    let mut parts: Vec<String> = match &step.outcome {
        None | Some(Outcome::Done) => Vec::new(),
        Some(Outcome::AlreadyDone) => vec!["unchanged".to_owned()],
        Some(Outcome::Volume { volume }) => vec![volume.to_string()],
        Some(Outcome::Addresses { addresses, source }) => {
            let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            vec![format!("{} (from the {source})", list.join(", "))]
        }
        Some(Outcome::Pending { keys }) => vec![format!("pending until restart: {}", keys.join(", "))],
    };
    parts.extend(step.warnings.iter().cloned());
    parts.join("; ")
}

fn notes(plan: &Plan) -> String {
    if plan.notes.is_empty() {
        return String::new();
    }
    let mut text = "<section id=\"notes\">\n<h2>Notes of the plan</h2>\n<ul>\n".to_owned();
    for note in &plan.notes {
        let vm = note.vm.as_ref().map(|vm| format!("{vm}: ")).unwrap_or_default();
        let _ = writeln!(text, "<li>{}{}</li>", Escaped(&vm), Escaped(&note.text));
    }
    text + "</ul>\n</section>\n"
}

fn state_words(state: &StepState) -> String {
    match state {
        StepState::NotStarted => "not started".to_owned(),
        StepState::Skipped { because } => format!("skipped because of <code>{}</code>", Escaped(&because.0)),
        StepState::Started => "begun".to_owned(),
        StepState::Succeeded => "done".to_owned(),
        StepState::Failed => "<span class=\"bad\">failed</span>".to_owned(),
        StepState::RolledBack => "rolled back".to_owned(),
        StepState::RevertFailed => "<span class=\"bad\">revert failed</span>".to_owned(),
    }
}

/// Returns the milliseconds that a step took, all attempts together.
fn spent(step: &StepReport) -> i64 {
    let span = |span: &super::Span| Some(span.end?.as_millisecond() - span.start.as_millisecond());
    step.spans.iter().filter_map(span).sum()
}

/// Returns a duration as a person says it.
fn duration(milliseconds: i64) -> String {
    match milliseconds {
        ..1000 => format!("{milliseconds} ms"),
        1000..60_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        60_000..3_600_000 => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1000),
        _ => format!("{} h {} min", milliseconds / 3_600_000, milliseconds % 3_600_000 / 60_000),
    }
}

#[cfg(test)]
mod tests;
