//! The Gantt chart: one row for each step, by VM, colored by transport.

use super::escape::Escaped;
use super::{duration, state_words};
use crate::report::{RunReport, Span, SpanKind, StepReport, StepState};
use std::fmt::Write as _;
use vmdeploy_planner::plan::Transport;

/// Up to this many VMs the chart is unfolded.
const UNFOLDED: usize = 40;

/// The width of the duration next to a bar, in percent of the chart.
const ROOM_FOR_A_TIME: f64 = 9.0;

/// The time that the chart covers.
struct Axis {
    start: i64,
    length: i64,
}

impl Axis {
    fn of(report: &RunReport) -> Self {
        let start = report.started.as_millisecond();
        Self { start, length: (report.ended.as_millisecond() - start).max(1) }
    }
    /// Returns a moment's place in per cent.
    fn place(&self, millisecond: i64) -> f64 {
        ((millisecond - self.start) as f64 * 100.0 / self.length as f64).clamp(0.0, 100.0)
    }
}

/// Returns the chart of a run.
pub(super) fn chart(report: &RunReport) -> String {
    let axis = Axis::of(report);
    let mut text = "<section id=\"chart\">\n<h2>Time</h2>\n".to_owned();
    text.push_str(LEGEND);
    text.push_str(&ruler(&axis));
    let open = if report.vms.len() <= UNFOLDED { " open" } else { "" };
    let mut groups: Vec<(String, Vec<&StepReport>)> = Vec::new();
    for step in &report.steps {
        let name = step.vm.as_ref().map_or_else(|| "for several VMs".to_owned(), ToString::to_string);
        match groups.iter_mut().find(|(group, _)| *group == name) {
            Some((_, steps)) => steps.push(step),
            None => groups.push((name, vec![step])),
        }
    }
    for (name, steps) in groups {
        let _ = writeln!(text, "<details class=\"vm\"{open}>\n<summary>{}</summary>", Escaped(&name));
        steps.into_iter().for_each(|step| text.push_str(&row(&axis, report, step)));
        text.push_str("</details>\n");
    }
    text + "</section>\n"
}

const LEGEND: &str = "<p class=\"legend\"><span class=\"key api\"></span>API <span class=\"key ssh\"></span>SSH \
<span class=\"key local\"></span>local <span class=\"key wait\"></span>wait (paler) <span class=\"key retried\"></span>tried again \
<span class=\"key revert\"></span>revert <span class=\"key failed\"></span>failed</p>\n";

/// The times above the rows.
fn ruler(axis: &Axis) -> String {
    let mut text = "<div class=\"row ruler\"><span class=\"label\"></span><span class=\"track\">".to_owned();
    for quarter in 0..=4 {
        let at = axis.length * quarter / 4;
        let _ = write!(text, "<span class=\"tick\" style=\"left:{}%\">{}</span>", quarter * 25, duration(at));
    }
    text + "</span></div>\n"
}

fn row(axis: &Axis, report: &RunReport, step: &StepReport) -> String {
    let mut text = format!(
        "<div class=\"row\"><span class=\"label\" title=\"{0}\">{1}</span><span class=\"track\">",
        Escaped(&step.step.0),
        Escaped(&step.title)
    );
    for place in 0..step.spans.len() {
        text.push_str(&bar(axis, report, step, place));
    }
    if step.spans.is_empty() {
        let _ = write!(text, "<span class=\"none\">{}</span>", state_words(&step.state));
    }
    text + "</span></div>\n"
}

/// Tells whether the step came to grief in that span: its revert, or the last attempt of a step that is not done.
fn has_failed(step: &StepReport, place: usize) -> bool {
    let is_revert = |span: &Span| span.kind == SpanKind::Revert;
    match step.state {
        StepState::RevertFailed => place + 1 == step.spans.len(),
        StepState::Failed | StepState::RolledBack => {
            step.failure.is_some() && step.spans.iter().rposition(|span| !is_revert(span)) == Some(place)
        }
        _ => false,
    }
}

fn bar(axis: &Axis, report: &RunReport, step: &StepReport, place: usize) -> String {
    let span = &step.spans[place];
    let end = span.end.unwrap_or(report.ended).as_millisecond();
    let left = axis.place(span.start.as_millisecond());
    let width = (axis.place(end) - left).max(0.25);
    let took = duration(end - span.start.as_millisecond());
    let mut class = transport_class(step.transport).to_owned();
    match span.kind {
        SpanKind::Work => {}
        SpanKind::Retried => class.push_str(" retried"),
        SpanKind::Wait => class.push_str(" wait"),
        SpanKind::Revert => class.push_str(" revert"),
    }
    if has_failed(step, place) {
        class.push_str(" failed");
    }
    let mut text = format!(
        "<span class=\"bar {class}\" style=\"left:{left:.2}%;width:{width:.2}%\" title=\"{} {took}\"></span>",
        Escaped(&step.step.0),
    );
    let next = step.spans.get(place + 1).map_or(200.0, |next| axis.place(next.start.as_millisecond()));
    let end = (left + width).min(100.0);
    if next - end > ROOM_FOR_A_TIME {
        let _ = write!(text, "<span class=\"took\" style=\"left:{end:.2}%\">{took}</span>");
    }
    text
}

fn transport_class(transport: Transport) -> &'static str {
    match transport {
        Transport::Api => "api",
        Transport::Ssh => "ssh",
        Transport::Local => "local",
    }
}
