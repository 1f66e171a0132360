//! How a run ended, for people: what was done, what went wrong, what is left, and what to do next.

use super::duration;
use crate::escape;
use std::fmt::Write as _;
use vmdeploy_executor::{Failure, Leftover, RunReport, RunResult, VmReport, VmState};
use vmdeploy_planner::plan::Verb;

/// Returns a failed step as it is shown: what, to which VM and step, whether it took effect, what to do next.
pub fn failure_text(failure: &Failure, effect: &str) -> String {
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
    let failed = report.failed_steps();
    failed.for_each(|(step, failure)| text.push_str(&failure_text(failure, &step.effect_now())));
    report.left.iter().for_each(|left| text.push_str(&leftover(left)));
    let _ = writeln!(text, "{}", last_line(report));
    let run = &report.run;
    let hint = match report.result {
        RunResult::Unfinished => {
            format!("`vmdeploy resume {run}` goes on, and with `--undo` takes back what was done")
        }
        RunResult::Left => {
            format!(
                "`vmdeploy resume {run}` tries again what is missing, and with `--undo` takes back what is left"
            )
        }
        _ => return escape::lines(&text),
    };
    let _ = writeln!(text, "hint: {hint}");
    escape::lines(&text)
}

fn leftover(left: &Leftover) -> String {
    format!("left: {}, because {}\nhint: on the node, `{}` removes it\n", left.what, left.why, left.command)
}

fn last_line(report: &RunReport) -> String {
    let took = report.ended.as_millisecond() - report.started.as_millisecond();
    let took = duration(u64::try_from(took).unwrap_or(0));
    let how = match report.result {
        RunResult::Done => format!("done in {took}"),
        RunResult::Undone => format!("failed after {took}; what had been made is gone again"),
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
        (count(&|vm| vm.state == VmState::Undone), "undone"),
        (count(&|vm| vm.state == VmState::Failed), "failed"),
        (count(&|vm| vm.state == VmState::Unfinished), "unfinished"),
        (count(&|vm| vm.state == VmState::Untouched && vm.verb != Verb::NoOp), "not begun"),
    ];
    let shown: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}
