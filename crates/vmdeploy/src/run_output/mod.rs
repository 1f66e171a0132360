//! What a run shows while it resumed: bars on a terminal, lines without one, or JSON events one a line.

mod bars;
mod lines;
mod summary;

pub use summary::summary;

use crate::output;
use bars::Bars;
use lines::Lines;
use vmdeploy_executor::Event;

/// How a run is shown.
#[derive(Debug)]
pub enum RunOutput {
    /// Bars, one per running VM, and a line for each VM that is through.
    Bars(Box<Bars>),
    /// A line for each step that ends.
    Lines(Lines),
    /// Each event as a JSON object on a line of stdout.
    Json,
}

impl RunOutput {
    /// Chooses: JSON where it is asked for, else bars where a person sees them, else lines.
    pub fn choose(json: bool) -> Self {
        if json {
            Self::Json
        } else if output::stderr_is_terminal() {
            Self::Bars(Box::default())
        } else {
            Self::Lines(Lines::default())
        }
    }
    /// Shows an event.
    pub fn show(&mut self, event: &Event) {
        match self {
            Self::Bars(bars) => bars.show(event),
            Self::Lines(lines) => lines.line(event).iter().for_each(|line| output::say(line)),
            Self::Json => output::print_event(&json_line(event)),
        }
    }
    /// Takes the bars away, so that what follows is not drawn over.
    pub fn finish(self) {
        if let Self::Bars(bars) = self {
            bars.finish();
        }
    }
}

/// Returns the event as one line of JSON, known secrets cut out.
fn json_line(event: &Event) -> String {
    let text = serde_json::to_string(event).expect("an event is made of texts and numbers");
    pve_types::escape_json(&crate::redact::redact(&text))
}

/// Returns a time as people read it: `0.4s`, `12s`, `3m05s`.
pub fn duration(milliseconds: u64) -> String {
    match milliseconds / 1000 {
        0..=9 => format!("{}.{}s", milliseconds / 1000, milliseconds % 1000 / 100),
        seconds @ 10..=99 => format!("{seconds}s"),
        seconds => format!("{}m{:02}s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!([0, 449, 9_999, 10_000, 185_000].map(duration), ["0.0s", "0.4s", "9.9s", "10s", "3m05s"]);
    }
}
