//! A run as bars: one for each VM that has a running step, and one for the whole run.

use super::duration;
use super::lines::{batch_line, cancelling, gave, vm_of};
use crate::{escape, output};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use owo_colors::OwoColorize as _;
use std::collections::BTreeMap;
use std::time::Duration;
use vmdeploy_executor::{Event, EventKind, Outcome, StepHead};
use vmdeploy_planner::plan::StepId;

/// More bars than this do not fit below each other; the whole run's bar counts the rest.
const MOST_BARS: usize = 16;

/// The bars.
#[derive(Debug)]
pub struct Bars {
    multi: MultiProgress,
    all: Option<ProgressBar>,
    heads: BTreeMap<StepId, StepHead>,
    vms: BTreeMap<String, VmBar>,
    width: usize,
}

impl Default for Bars {
    fn default() -> Self {
        Self {
            multi: MultiProgress::with_draw_target(output::bars_target()),
            all: None,
            heads: BTreeMap::new(),
            vms: BTreeMap::new(),
            width: 0,
        }
    }
}

/// What is known of one VM's way.
#[derive(Debug, Default)]
struct VmBar {
    bar: Option<ProgressBar>,
    steps: u64,
    done: u64,
    failed: bool,
    took_ms: u64,
    address: String,
    running: Vec<StepId>,
}

impl Bars {
    /// Shows an event.
    pub fn show(&mut self, event: &Event) {
        match &event.event {
            EventKind::RunStarted { steps, .. } => self.begin(steps),
            EventKind::BatchStarted { group, batch, batches, vms } => {
                self.line(&batch_line(group.as_deref(), (*batch, *batches), vms));
            }
            EventKind::StepStarted { step, attempt } => {
                let again = if *attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
                self.working(step, &again);
            }
            EventKind::StepProgress { step, percent, text } => self.progress(step, *percent, text),
            EventKind::StepRetrying { step, wait_ms, failure, .. } => {
                self.message(step, &format!("retrying in {}: {}", duration(*wait_ms), failure.message));
            }
            EventKind::StepSucceeded { step, outcome, warnings, took_ms } => {
                for warning in warnings {
                    self.line(&format!("{} {step}: {warning}", "warning:".yellow()));
                }
                self.succeeded(step, outcome, *took_ms);
            }
            // Why is said once, at the end of the run.
            EventKind::StepFailed { step, failure, .. } => {
                self.line(&format!("{} {step}: {}", "failed:".red().bold(), failure.took_effect));
                self.ended(step, false);
            }
            EventKind::StepSkipped { step, .. } => self.ended(step, false),
            EventKind::RevertStarted { step } => self.message(step, "reverting"),
            EventKind::RevertFailed { step, .. } => {
                self.line(&format!("{} revert of {step}", "failed:".red().bold()));
            }
            EventKind::Cancelling { now } => self.line(cancelling(*now)),
            EventKind::Note { vm, text } => {
                let of = vm.as_ref().map_or_else(String::new, |vm| format!("{vm}: "));
                self.line(&format!("{} {of}{text}", "note:".cyan()));
            }
            _ => {}
        }
    }

    /// Takes the bars away.
    pub fn finish(self) {
        let _ = self.multi.clear();
        output::set_bars(None);
    }

    fn begin(&mut self, steps: &[StepHead]) {
        output::set_bars(Some(self.multi.clone()));
        self.heads = steps.iter().map(|head| (head.id.clone(), head.clone())).collect();
        self.width = steps.iter().map(|head| vm_of(head).len()).max().unwrap_or(1).min(24);
        for head in steps {
            self.vms.entry(vm_of(head).to_owned()).or_default().steps += 1;
        }
        let all = self.multi.add(ProgressBar::new(steps.len() as u64));
        all.set_style(style("  {bar:30.cyan/bright.black} {pos}/{len} steps  {elapsed}"));
        all.enable_steady_tick(Duration::from_millis(100));
        self.all = Some(all);
    }

    fn working(&mut self, step: &StepId, note: &str) {
        let Some(head) = self.heads.get(step) else { return };
        let (name, text) = (vm_of(head).to_owned(), format!("{} ({}){note}", head.title, head.transport));
        let shown = self.vms.values().filter(|vm| vm.bar.is_some()).count();
        let Some(vm) = self.vms.get_mut(&name) else { return };
        if !vm.running.contains(step) {
            vm.running.push(step.clone());
        }
        if vm.bar.is_none() && shown < MOST_BARS {
            let bar = ProgressBar::new(vm.steps.max(1) * 100);
            bar.set_style(style("  {prefix} {bar:20.green/bright.black} {msg}"));
            let bar = self.all.as_ref().map_or_else(
                || self.multi.add(bar.clone()),
                |all| self.multi.insert_before(all, bar.clone()),
            );
            bar.set_prefix(format!("{name:<width$}", width = self.width));
            vm.bar = Some(bar);
        }
        if let Some(bar) = &vm.bar {
            bar.set_position(vm.done * 100);
            bar.set_message(escape::one_line(&text));
        }
    }

    fn progress(&mut self, step: &StepId, percent: Option<f64>, text: &str) {
        let Some(head) = self.heads.get(step) else { return };
        let title = format!("{} ({})", head.title, head.transport);
        let Some(vm) = self.vms.get(vm_of(head)) else { return };
        let Some(bar) = &vm.bar else { return };
        match percent {
            Some(percent) => {
                bar.set_position(vm.done * 100 + percent.clamp(0.0, 100.0) as u64);
                bar.set_message(escape::one_line(&format!("{title} {percent:.0} %")));
            }
            None => bar.set_message(escape::one_line(&format!("{title}: {text}"))),
        }
    }

    fn message(&self, step: &StepId, text: &str) {
        let Some(head) = self.heads.get(step) else { return };
        if let Some(bar) = self.vms.get(vm_of(head)).and_then(|vm| vm.bar.as_ref()) {
            bar.set_message(escape::one_line(&format!("{}: {text}", head.title)));
        }
    }

    fn succeeded(&mut self, step: &StepId, outcome: &Outcome, took_ms: u64) {
        if let (Some(head), Outcome::Addresses { .. }) = (self.heads.get(step), outcome)
            && let Some(vm) = self.vms.get_mut(vm_of(head))
        {
            vm.address = gave(outcome);
        }
        if let Some(vm) = self.heads.get(step).and_then(|head| self.vms.get_mut(vm_of(head))) {
            vm.took_ms += took_ms;
        }
        self.ended(step, true);
    }

    fn ended(&mut self, step: &StepId, well: bool) {
        if let Some(all) = &self.all {
            all.inc(1);
        }
        let Some(name) = self.heads.get(step).map(|head| vm_of(head).to_owned()) else { return };
        let Some(vm) = self.vms.get_mut(&name) else { return };
        vm.done += 1;
        vm.failed |= !well;
        vm.running.retain(|running| running != step);
        let next = vm.running.first().cloned();
        if vm.done == vm.steps || next.is_none() {
            if let Some(bar) = vm.bar.take() {
                bar.finish_and_clear();
                self.multi.remove(&bar);
            }
        } else if let Some(next) = next {
            self.working(&next, "");
        }
        self.through(&name);
    }

    /// Says that a VM is through, once.
    fn through(&self, name: &str) {
        let Some(vm) = self.vms.get(name).filter(|vm| vm.done == vm.steps && !vm.failed && name != "-")
        else {
            return;
        };
        let mark = "done".green();
        self.line(&format!(
            "  {name:<width$} {mark} in {}  {}",
            duration(vm.took_ms),
            vm.address,
            width = self.width
        ));
    }

    fn line(&self, text: &str) {
        // `println` of a bar prints nothing where the bars are hidden; this goes around them.
        output::write_stderr(&format!("{}\n", text.trim_end()));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the template is a constant that a test draws")
        .progress_chars("━━─")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_understood() {
        for template in [
            "  {bar:30.cyan/bright.black} {pos}/{len} steps  {elapsed}",
            "  {prefix} {bar:20.green/bright.black} {msg}",
        ] {
            style(template);
        }
    }
}
