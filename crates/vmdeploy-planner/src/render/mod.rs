//! A plan for people, for merge requests and as a graph. JSON is the plan's own `serde` form.
//!
//! Nothing that is printed can hold a control character, whatever the cluster or the spec says.

mod alike;
mod brief;
mod describe;
mod dot;
mod markdown;
mod text;

pub use brief::{brief, consequences};
pub use describe::{awaited, describe_revert, describe_value, summary};
pub use dot::dot;
pub use markdown::markdown;
pub use text::{text, timing_text};

/// How a plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenderOptions {
    /// Whether ANSI colors are used.
    pub color: bool,
    /// Whether the steps are listed, each with its transport, the reason and what revert would do.
    pub steps: bool,
    /// Whether VMs with nothing to do are listed one by one.
    pub unchanged: bool,
    /// Whether equal changes of several VMs are shown once, with the members' names and what differs.
    pub equal_once: bool,
    /// Whether checks that passed are listed one by one.
    pub passed_checks: bool,
    /// The width of the terminal, if lines are wrapped.
    pub width: Option<usize>,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self {
            color: false,
            steps: true,
            unchanged: false,
            equal_once: true,
            passed_checks: false,
            width: None,
        }
    }
}

impl RenderOptions {
    /// Returns the options of a plan that lists everything.
    pub fn verbose() -> Self {
        Self { unchanged: true, equal_once: false, passed_checks: true, ..Self::default() }
    }
}

/// Returns the text on one line, without control characters, cut to `width` characters.
pub(crate) fn clean(text: &str, width: usize) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or("");
    let more = lines.any(|line| !line.trim().is_empty());
    let mut shown: String =
        first.chars().map(|c| if pve_types::is_unprintable(c) { '\u{fffd}' } else { c }).collect();
    if shown.chars().count() > width {
        shown = shown.chars().take(width.saturating_sub(1)).collect();
        shown.push('…');
    } else if more {
        shown.push_str(" …");
    }
    shown
}

/// Returns how long something takes, for people: `800 ms`, `12 s`, `4 min`.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..=999 => format!("{ms} ms"),
        1_000..=119_999 => format!("{} s", ms.div_ceil(1_000)),
        _ => format!("{} min", ms.div_ceil(60_000)),
    }
}

/// Returns a size for people, to a tenth of the largest fitting unit.
pub(crate) fn rounded(bytes: pve_types::Bytes) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let Some((unit, shift)) = units.into_iter().find(|(_, shift)| bytes.get() >> shift > 0) else {
        return bytes.to_string();
    };
    let tenths = (u128::from(bytes.get()) * 10) >> shift;
    if tenths % 10 == 0 {
        format!("{}{unit}", tenths / 10)
    } else {
        format!("{}.{}{unit}", tenths / 10, tenths % 10)
    }
}

/// Returns `1 step`, `2 steps`.
pub fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_on_its_line() {
        assert_eq!(clean("a\u{1b}[31mred\tx", 80), "a\u{fffd}[31mred\u{fffd}x");
        assert_eq!(clean("one\ntwo", 80), "one …");
        assert_eq!(clean("one\n", 80), "one");
        assert_eq!(clean("abcdef", 4), "abc…");
        assert_eq!(clean("a\u{202e}b", 9), "a\u{fffd}b");
    }
}
