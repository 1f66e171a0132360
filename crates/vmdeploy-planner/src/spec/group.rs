//! What a group of similar VMs says beyond its VMs: how it names them, and how changes go through it.
//!
//! A group is expanded right after parsing. Every member is an ordinary [`super::Vm`] that remembers its group's name.

/// How work that interrupts existing VMs is spread over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rollout {
    /// How many VMs are interrupted at the same time.
    pub max_unavailable: Unavailable,
    /// What happens to later batches when a VM fails.
    pub on_failure: crate::plan::RolloutFailure,
}

/// A number of VMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// As it is; at least 1.
    Count(u32),
    /// A percentage, 1 to 100.
    Percent(u32),
}

impl Default for Unavailable {
    fn default() -> Self {
        Self::Count(1)
    }
}

impl Unavailable {
    /// Returns the number for so many VMs: a percentage is rounded down; at least 1.
    pub fn of(self, vms: usize) -> usize {
        let number = match self {
            Self::Count(count) => count as usize,
            Self::Percent(percent) => vms * percent as usize / 100,
        };
        number.max(1)
    }
}

/// How a group names its counted members: `worker{:02}` gives `worker01`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    before: String,
    /// The least number of digits.
    digits: usize,
    after: String,
}

impl NamePattern {
    /// Returns the pattern of a group that does not say its own: `GROUP{:02}`.
    pub fn of_group(name: &str) -> Self {
        Self { before: name.to_owned(), digits: 2, after: String::new() }
    }
    /// Reads a pattern: exactly one `{}` or `{:0N}`, with `N` from 1 to 9.
    pub fn parse(text: &str) -> Option<Self> {
        let (before, rest) = text.split_once('{')?;
        let (format, after) = rest.split_once('}')?;
        let digits = match format.strip_prefix(":0") {
            Some(digits) => digits.parse().ok().filter(|digits| digits_fit(*digits))?,
            None if format.is_empty() => 1,
            None => return None,
        };
        let is_plain = |text: &str| !text.contains(['{', '}']);
        let pattern = Self { before: before.to_owned(), digits, after: after.to_owned() };
        (is_plain(before) && is_plain(after)).then_some(pattern)
    }
    /// Returns the name of a member by its number.
    pub fn name(&self, number: u32) -> String {
        format!("{}{number:0digits$}{}", self.before, self.after, digits = self.digits)
    }
}

fn digits_fit(digits: usize) -> bool {
    (1..=9).contains(&digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_one_number() {
        let name = |pattern: &str, number| NamePattern::parse(pattern).map(|pattern| pattern.name(number));
        assert_eq!(name("worker{:02}", 3).as_deref(), Some("worker03"));
        assert_eq!(name("worker{:02}", 120).as_deref(), Some("worker120"));
        assert_eq!(name("{}.lab", 7).as_deref(), Some("7.lab"));
        for wrong in ["worker", "a{}{}", "a{:2}", "a{:0}", "a{x}", "a}{", "a{:0123456789}", "a{"] {
            assert_eq!(name(wrong, 1), None, "{wrong}");
        }
        assert_eq!(NamePattern::of_group("db").name(1), "db01");
    }

    #[test]
    fn a_percentage_is_rounded_down_to_at_least_one() {
        let of = |percent, vms| Unavailable::Percent(percent).of(vms);
        assert_eq!([of(25, 10), of(25, 3), of(100, 7), of(1, 0)], [2, 1, 7, 1]);
        assert_eq!(Unavailable::Count(0).of(5), 1);
    }
}
