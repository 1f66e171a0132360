//! How long to wait before another attempt.

use std::time::Duration;

/// How often and for how long something is tried again: pauses double from `first` to `longest`, spread by chance.
///
/// ```
/// use pve_types::Backoff;
/// use std::time::Duration;
/// let pause = Backoff::READS.pause(1, Duration::ZERO, 1.0);
/// assert_eq!(pause, Some(Backoff::READS.first));
/// assert_eq!(Backoff::READS.pause(Backoff::READS.attempts, Duration::ZERO, 1.0), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first attempt, before chance makes it up to half as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// How many attempts there are in all, the first one included.
    pub attempts: u32,
    /// No attempt begins later than this after the first one.
    pub within: Duration,
}

impl Backoff {
    /// Of reads, which change nothing: ten attempts within 45 s, pauses from 0.2 s to 3 s.
    pub const READS: Self = Self {
        first: Duration::from_millis(200),
        longest: Duration::from_secs(3),
        attempts: 10,
        within: Duration::from_secs(45),
    };

    /// Of writes that certainly changed nothing: four attempts, pauses from 0.2 s to 0.8 s.
    pub const WRITES: Self = Self { longest: Duration::from_millis(800), attempts: 4, ..Self::READS };

    /// Returns the same with at most so many attempts.
    #[must_use]
    pub fn at_most(self, attempts: u32) -> Self {
        Self { attempts: attempts.min(self.attempts), ..self }
    }

    /// Returns how long to wait after `failed` attempts, the first of which began `elapsed` ago; `None` when there is no
    /// further attempt. `chance` lies between 0 and 1.
    pub fn pause(&self, failed: u32, elapsed: Duration, chance: f64) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let doubled = self.first.saturating_mul(1 << failed.saturating_sub(1).min(16)).min(self.longest);
        let pause = doubled.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0));
        (elapsed + pause <= self.within).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end_with_the_attempts_or_the_time() {
        let backoff = Backoff {
            first: Duration::from_millis(100),
            longest: Duration::from_millis(300),
            attempts: 5,
            within: Duration::from_secs(10),
        };
        let pauses: Vec<Option<u128>> =
            (1..=5).map(|failed| Some(backoff.pause(failed, Duration::ZERO, 1.0)?.as_millis())).collect();
        assert_eq!(pauses, [Some(100), Some(200), Some(300), Some(300), None]);
        assert_eq!(backoff.pause(1, Duration::ZERO, 0.0), Some(Duration::from_millis(50)));
        assert_eq!(backoff.pause(1, Duration::from_secs(10), 0.5), None);
        assert_eq!(backoff.at_most(1).pause(1, Duration::ZERO, 1.0), None);
    }
}
