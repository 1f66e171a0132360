//! How a run ended, for people: what was done, what went wrong, what is left, and what to do next.

use super::duration;
use crate::escape;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use vmdeploy_executor::{
    Failure, Leftover, OpenRollout, Resuming, RunReport, RunResult, StepState, VmReport, VmState,
};
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

/// Returns the end of a run: failures, what remains, the count of VMs, and the next command.
pub fn summary(report: &RunReport) -> String {
    let mut text = String::new();
    text.push_str(&failures(report));
    report.vms.iter().for_each(|vm| text.push_str(&remaining(vm)));
    report.left.iter().for_each(|left| text.push_str(&leftover(left)));
    report.open_rollouts.iter().for_each(|rollout| text.push_str(&open_rollout(rollout)));
    let took = report.ended.as_millisecond() - report.started.as_millisecond();
    let took = duration(u64::try_from(took).unwrap_or(0));
    let _ = match report.result {
        RunResult::Done => writeln!(text, "{} in {took}", report.headline()),
        _ => writeln!(text, "{} ({took})", report.headline()),
    };
    let displaced = displaced_hint(report).filter(|_| report.result == RunResult::Left);
    for hint in displaced.into_iter().chain(next_hint(report)) {
        let _ = writeln!(text, "hint: {hint}");
    }
    escape::lines(&text)
}

/// Returns the line of a VM of which something remains although it is not done.
fn remaining(vm: &VmReport) -> String {
    if vm.remains.is_empty() {
        return String::new();
    }
    let steps = vm.remains.join(", ");
    match vm.state {
        VmState::NotReady => format!("kept: {} (VM {} on {}), which is not ready\n", vm.vm, vm.vmid, vm.node),
        _ => format!("remains: {} (VM {} on {}): {steps}\n", vm.vm, vm.vmid, vm.node),
    }
}

/// Says where a rollout stopped.
fn open_rollout(rollout: &OpenRollout) -> String {
    let of = rollout.group.as_ref().map(|group| format!(" of group {group}")).unwrap_or_default();
    let names = listed(rollout.not_begun.iter().map(ToString::to_string).collect());
    format!("rollout{of}: stopped at batch {} of {}; not started: {names}\n", rollout.batch, rollout.batches)
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
                "error: {} failed with the same error: {named}{more}",
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
            "VM {vmids} does not belong to this run, so `vmdeploy resume` cannot continue {vms}: deploy again, with \
             another `vmid:` for {vms} if the spec has {vmids}"
        )),
        _ => Some(format!(
            "VMs {vmids} do not belong to this run, so `vmdeploy resume` cannot continue {vms}: deploy again, with \
             another `vmid:` for those whose VMID the spec sets"
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

/// Returns what to do about a run that is not at its end: what `resume` does with it, if it does anything.
fn next_hint(report: &RunReport) -> Option<String> {
    let run = &report.run;
    let hint = match (report.result, report.resume) {
        (RunResult::Unfinished, _) => {
            format!(
                "`vmdeploy resume {run}` continues the run, and `vmdeploy resume {run} --rollback` reverts it"
            )
        }
        (RunResult::PartlyDone, Resuming::Nothing) => {
            "deploy again for the failed VMs; finished VMs stay as they are".to_owned()
        }
        (_, Resuming::Nothing) => return None,
        (_, Resuming::Finish) => format!(
            "`vmdeploy resume {run}` retries what is missing, and `vmdeploy resume {run} --rollback` reverts what remains"
        ),
        (_, Resuming::Revert) => {
            format!(
                "fix the cause, then run `vmdeploy resume {run}` to revert what remains, and deploy again"
            )
        }
        (_, Resuming::Both) => format!(
            "fix the cause, then run `vmdeploy resume {run}` to revert what could not be rolled back and finish the rest; \
             `vmdeploy resume {run} --rollback` reverts all"
        ),
    };
    Some(hint)
}

fn leftover(left: &Leftover) -> String {
    format!("left: {}, because {}\nhint: on the node, `{}` removes it\n", left.what, left.why, left.command)
}
