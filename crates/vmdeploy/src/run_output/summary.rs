//! How a run ended, for people: what was done, what went wrong, what is left, and what to do next.

use super::duration;
use crate::escape;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use vmdeploy_executor::{
    Failure, Leftover, Outcome, Resuming, RunReport, RunResult, StepReport, StepState, VmReport, VmState,
};
use vmdeploy_planner::plan::Verb;
use vmdeploy_planner::render::count;

/// How many steps that failed alike are shown in full.
const SHOWN_ALIKE: usize = 3;
/// How many more are named.
const NAMED_ALIKE: usize = 20;

/// Returns a failed step as it is shown: what, to which VM and step, whether it took effect, what to do next.
fn failure_text(failure: &Failure, effect: &str) -> String {
    let place = failure.step.as_ref().map_or_else(String::new, |step| format!("{step}: "));
    let mut text = format!("error: {place}{}\n", failure.message);
    for cause in &failure.causes {
        let _ = writeln!(text, "  caused by: {cause}");
    }
    let _ = writeln!(text, "  effect: {effect}");
    if let Some(upid) = &failure.upid {
        let _ = writeln!(text, "  task: {upid}");
    }
    for line in &failure.log {
        let _ = writeln!(text, "  log: {line}");
    }
    if let Some(hint) = &failure.hint {
        let _ = writeln!(text, "hint: {hint}");
    }
    escape::lines(&text)
}

/// Returns the end of a run: failures, leftovers, the count of VMs, and the next command.
pub fn summary(report: &RunReport) -> String {
    let mut text = String::new();
    text.push_str(&failures(report));
    report.left.iter().for_each(|left| text.push_str(&leftover(left)));
    let _ = writeln!(text, "{}", last_line(report));
    let run = &report.run;
    let hints = match report.result {
        RunResult::Unfinished => {
            vec![format!("`vmdeploy resume {run}` goes on, and with `--rollback` takes back what was done")]
        }
        RunResult::Left => displaced_hint(report).into_iter().chain(left_hint(report)).collect(),
        _ => Vec::new(),
    };
    for hint in hints {
        let _ = writeln!(text, "hint: {hint}");
    }
    escape::lines(&text)
}

/// Returns the failed steps; of many that failed alike, some are shown and the others named.
fn failures(report: &RunReport) -> String {
    let mut alike: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut order = Vec::new();
    for (step, failure) in report.failed_steps() {
        let what = step.step.0.rsplit('/').next().unwrap_or_default();
        let key = (what, step.state == StepState::RevertFailed, failure.kind, &failure.hint);
        let group = alike.entry(key).or_default();
        if group.is_empty() {
            order.push(key);
        }
        group.push((step, failure));
    }
    let mut text = String::new();
    for group in order.iter().filter_map(|key| alike.get(key)) {
        // One more line names as many as it takes the place of.
        let shown = if group.len() == SHOWN_ALIKE + 1 { group.len() } else { group.len().min(SHOWN_ALIKE) };
        for (step, failure) in &group[..shown] {
            text.push_str(&failure_text(failure, &step.effect_now()));
        }
        let others: Vec<&str> = group[shown..].iter().map(|(step, _)| step.step.0.as_str()).collect();
        if !others.is_empty() {
            let named = others[..others.len().min(NAMED_ALIKE)].join(", ");
            let more = if others.len() > NAMED_ALIKE { ", …" } else { "" };
            let _ = writeln!(
                text,
                "error: {} failed in the same way: {named}{more}",
                count(others.len(), "more step")
            );
        }
    }
    text
}

/// Returns what to do about VMs whose number is not this run's: `resume` would find it so again.
fn displaced_hint(report: &RunReport) -> Option<String> {
    let displaced = report.displaced();
    let vms = listed(displaced.iter().map(|vm| vm.vm.to_string()).collect());
    let vmids = listed(displaced.iter().map(|vm| vm.vmid.to_string()).collect());
    match displaced.len() {
        0 => None,
        1 => Some(format!(
            "VM {vmids} is not this run's, so `vmdeploy resume` cannot go on with {vms}: deploy again, after giving {vms} \
             another `vmid:` if the spec says {vmids}"
        )),
        _ => Some(format!(
            "VMs {vmids} are not this run's, so `vmdeploy resume` cannot go on with {vms}: deploy again, after giving them \
             another `vmid:` where the spec says these"
        )),
    }
}

/// Returns the names as they are read: `a, b and c`, the first few of many.
fn listed(mut names: Vec<String>) -> String {
    if names.len() > NAMED_ALIKE {
        let more = format!("{} more", names.len() - NAMED_ALIKE);
        names.truncate(NAMED_ALIKE);
        names.push(more);
    }
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
        None => String::new(),
    }
}

/// Returns what to do about a run that left something: what `resume` does with it, if it does anything.
fn left_hint(report: &RunReport) -> Option<String> {
    let run = &report.run;
    Some(match report.resume_would() {
        Resuming::Nothing => return None,
        Resuming::Finish => {
            format!(
                "`vmdeploy resume {run}` tries again what is missing, and with `--rollback` takes back what is left"
            )
        }
        Resuming::TakeBack => {
            format!(
                "remove the cause, then `vmdeploy resume {run}` takes back what is left; deploy again afterwards"
            )
        }
        Resuming::Both => format!(
            "remove the cause, then `vmdeploy resume {run}` takes back what could not be rolled back and finishes the rest; \
             with `--rollback` it takes back all"
        ),
    })
}

fn leftover(left: &Leftover) -> String {
    format!("left: {}, because {}\nhint: on the node, `{}` removes it\n", left.what, left.why, left.command)
}

fn last_line(report: &RunReport) -> String {
    let took = report.ended.as_millisecond() - report.started.as_millisecond();
    let took = duration(u64::try_from(took).unwrap_or(0));
    let how = match report.result {
        RunResult::Done => format!("done in {took}"),
        RunResult::RolledBack => format!("failed after {took}; {}", what_became(&report.steps)),
        RunResult::Left if report.left.is_empty() && !report.displaced().is_empty() => {
            format!("failed after {took}; somebody has to look, see above")
        }
        RunResult::Left => format!("failed after {took}; something is left, see above"),
        RunResult::Credentials | RunResult::Refused => "refused; nothing was changed".to_owned(),
        RunResult::Unfinished => match &report.stopped_because {
            Some(why) => format!("stopped after {took}, because {why}"),
            None => format!("stopped after {took}"),
        },
    };
    match counts(&report.vms) {
        Some(counts) => format!("{counts}: {how}"),
        None => how,
    }
}

/// Says of a run that left nothing behind what there is of it.
fn what_became(steps: &[StepReport]) -> &'static str {
    let is_change = |step: &StepReport| {
        step.state == StepState::Succeeded
            && step.outcome.as_ref().is_some_and(|it| *it != Outcome::AlreadyDone)
    };
    match () {
        () if steps.iter().any(|step| step.state == StepState::RolledBack) => {
            "what had been made is gone again"
        }
        () if steps.iter().any(is_change) => "nothing is left of what failed",
        () => "nothing was changed",
    }
}

/// Returns e.g. `3 created, 1 changed`; `None` for a run that is about no VM.
fn counts(vms: &[VmReport]) -> Option<String> {
    let count = |wanted: &dyn Fn(&VmReport) -> bool| vms.iter().filter(|vm| wanted(vm)).count();
    let done =
        |verb: &'static [Verb]| count(&|vm: &VmReport| vm.state == VmState::Done && verb.contains(&vm.verb));
    let parts = [
        (done(&[Verb::Create]), "created"),
        (done(&[Verb::Update, Verb::UpdatePending]), "changed"),
        (done(&[Verb::Replace]), "replaced"),
        (done(&[Verb::Delete]), "destroyed"),
        (count(&|vm| vm.verb == Verb::NoOp), "as they were"),
        (count(&|vm| vm.state == VmState::RolledBack), "rolled back"),
        (count(&|vm| vm.state == VmState::Failed), "failed"),
        (count(&|vm| vm.state == VmState::Unfinished), "unfinished"),
        (count(&|vm| vm.state == VmState::Untouched && vm.verb != Verb::NoOp), "not begun"),
    ];
    let shown: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}
