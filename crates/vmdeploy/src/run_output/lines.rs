//! A run as lines: what a CI log keeps.

use super::duration;
use crate::escape;
use jiff::Timestamp;
use pve_types::GuestName;
use std::collections::BTreeMap;
use vmdeploy_executor::{Event, EventKind, Failure, Outcome, RevertNote, StepHead};
use vmdeploy_planner::plan::StepId;
use vmdeploy_planner::render::count;

/// How long a step is silent before its progress is worth a line, in milliseconds.
const SILENCE_MS: i64 = 10_000;

/// What has been said so far.
#[derive(Debug, Default)]
pub struct Lines {
    heads: BTreeMap<StepId, StepHead>,
    vm_width: usize,
    title_width: usize,
    ended: usize,
    last_word: BTreeMap<StepId, Timestamp>,
}

impl Lines {
    /// Returns the line for an event, if it is worth one.
    pub fn line(&mut self, event: &Event) -> Option<String> {
        match &event.event {
            EventKind::RunStarted { steps, resumed, .. } => {
                self.learn(steps);
                let verb = if *resumed { "resumed" } else { "started" };
                Some(format!("run {} {verb}: {}", event.run, count(steps.len(), "step")))
            }
            EventKind::BatchStarted { group, batch, batches, vms } => {
                Some(batch_line(group.as_deref(), (*batch, *batches), vms))
            }
            EventKind::StepStarted { step, .. } | EventKind::RevertStarted { step } => {
                self.last_word.insert(step.clone(), event.at);
                None
            }
            EventKind::StepProgress { step, percent, text } => self.progress(event, step, *percent, text),
            EventKind::StepRetrying { step, wait_ms, failure, .. } => Some(
                self.step_line(step, &format!("retrying in {}: {}", duration(*wait_ms), failure.message)),
            ),
            EventKind::StepSucceeded { step, outcome, warnings, took_ms } => {
                Some(self.succeeded(step, outcome, warnings, *took_ms))
            }
            EventKind::StepFailed { step, failure, revert, .. } => {
                self.ended += 1;
                Some(self.step_line(step, &failed(failure, *revert)))
            }
            // The failed step has a line; those that waited for it would only repeat it.
            EventKind::StepSkipped { .. } => {
                self.ended += 1;
                None
            }
            EventKind::RevertFinished { step, note } => Some(self.step_line(step, &rolled_back(note))),
            EventKind::RevertFailed { step, .. } => Some(self.step_line(step, "REVERT FAILED")),
            EventKind::Cancelling { now } => Some(cancelling(*now).to_owned()),
            EventKind::Note { vm, text } => {
                Some(vm.as_ref().map_or_else(|| format!("note: {text}"), |vm| format!("note: {vm}: {text}")))
            }
            _ => None,
        }
        .map(|line| escape::one_line(&line))
    }

    fn learn(&mut self, steps: &[StepHead]) {
        let longest = |lengths: &mut dyn Iterator<Item = usize>, limit| lengths.max().unwrap_or(0).min(limit);
        self.vm_width = longest(&mut steps.iter().map(|head| vm_of(head).len()), 24);
        self.title_width = longest(&mut steps.iter().map(|head| head.title.chars().count()), 46);
        self.heads = steps.iter().map(|head| (head.id.clone(), head.clone())).collect();
    }

    fn progress(&mut self, event: &Event, step: &StepId, percent: Option<f64>, text: &str) -> Option<String> {
        let last = *self.last_word.get(step)?;
        if event.at.as_millisecond() - last.as_millisecond() < SILENCE_MS {
            return None;
        }
        self.last_word.insert(step.clone(), event.at);
        let percent = percent.map_or_else(String::new, |percent| format!("{percent:.0} % "));
        Some(self.step_line(step, &format!("{percent}{text}")))
    }

    fn succeeded(&mut self, step: &StepId, outcome: &Outcome, warnings: &[String], took_ms: u64) -> String {
        self.ended += 1;
        let only_reads = self.heads.get(step).is_some_and(|head| head.only_reads && head.vm.is_none());
        let gave = if only_reads { String::new() } else { gave(outcome) };
        let warned: String = warnings.iter().map(|warning| format!("; warning: {warning}")).collect();
        self.step_line(step, format!("{:>5}  {gave}{warned}", duration(took_ms)).trim_end())
    }

    fn step_line(&self, step: &StepId, what: &str) -> String {
        let total = self.heads.len();
        let width = total.to_string().len();
        let (vm, title, transport) =
            self.heads.get(step).map_or(("-", step.0.as_str(), String::new()), |head| {
                (vm_of(head), head.title.as_str(), head.transport.to_string())
            });
        format!(
            "[{:>width$}/{total}] {vm:<vm_width$}  {title:<title_width$}  {transport:<5}  {what}",
            self.ended,
            vm_width = self.vm_width,
            title_width = self.title_width,
        )
    }
}

/// Says that a batch of a rollout begins.
pub(super) fn batch_line(group: Option<&str>, (batch, batches): (usize, usize), vms: &[GuestName]) -> String {
    let of = group.map(|group| format!(" of group {group}")).unwrap_or_default();
    let names: Vec<&str> = vms.iter().map(|vm| vm.as_str()).collect();
    format!("batch {batch} of {batches}{of}: {}", names.join(", "))
}

/// Returns the name a step stands under.
pub(super) fn vm_of(head: &StepHead) -> &str {
    head.vm.as_ref().map_or("-", |vm| vm.as_str())
}

/// Returns what a step gave, where that is worth a word.
pub(super) fn gave(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => String::new(),
        Outcome::AlreadyDone => "unchanged".to_owned(),
        Outcome::Volume { volume } => volume.to_string(),
        Outcome::Addresses { addresses, .. } => {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
        Outcome::Pending { keys } => format!("pending until restart: {}", keys.join(", ")),
    }
}

/// Says that a step failed. Why is said once, at the end of the run.
fn failed(failure: &Failure, revert: bool) -> String {
    let then = if revert { "; rolling back this VM" } else { "" };
    format!("FAILED: {}{then}", failure.took_effect)
}

fn rolled_back(note: &RevertNote) -> String {
    match note {
        RevertNote::Removed { what } => format!("rolled back: {what}"),
        RevertNote::NothingThere => "rolled back: nothing to revert".to_owned(),
    }
}

/// Returns what is said when a run is asked to stop.
pub(super) fn cancelling(now: bool) -> &'static str {
    if now {
        "stopping now; `resume` finds out what requests in flight have done"
    } else {
        "stopping after the running steps, without waiting for guests; press Ctrl-C again to stop now"
    }
}
