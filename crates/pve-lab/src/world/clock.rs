//! The world's time and its agenda.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::World;

/// Something that happens to the world at a given time.
pub type Event = Box<dyn FnOnce(&mut World) + Send>;

/// The time of a world, in microseconds of the Unix epoch, running with the machine's monotonic clock.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: Instant,
    epoch_micros: u64,
    skipped_micros: u64,
    stands_still: bool,
}

impl Default for Clock {
    fn default() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { origin: Instant::now(), epoch_micros: micros(epoch), skipped_micros: 0, stands_still: false }
    }
}

impl Clock {
    /// Microseconds of the Unix epoch.
    pub fn now(&self) -> u64 {
        let elapsed = if self.stands_still { 0 } else { micros(self.origin.elapsed()) };
        self.epoch_micros + self.skipped_micros + elapsed
    }
    /// Stops the clock: from now on only [`Clock::skip`] moves it, so that a test is exact on any machine.
    pub fn stand_still(&mut self) {
        self.skipped_micros += micros(self.origin.elapsed());
        self.stands_still = true;
    }
    /// Moves the clock forward, so that a test need not wait.
    pub fn skip(&mut self, by: Duration) {
        self.skipped_micros += micros(by);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What is going to happen, ordered by time and then by when it was written down.
#[derive(Default)]
pub struct Agenda {
    entries: BTreeMap<(u64, u64), Event>,
    next_number: u64,
}

impl Agenda {
    /// Puts `event` down for `time`; returns a key with which it can be struck off.
    pub fn put(&mut self, time: u64, event: Event) -> (u64, u64) {
        self.next_number += 1;
        let key = (time, self.next_number);
        self.entries.insert(key, event);
        key
    }
    /// Strikes an entry off; nothing happens when it has happened already.
    pub fn strike(&mut self, key: (u64, u64)) {
        self.entries.remove(&key);
    }
    /// When the next entry is due.
    pub fn next_due(&self) -> Option<u64> {
        self.entries.keys().next().map(|(time, _)| *time)
    }
    /// Takes the next entry that is due at `now`.
    pub fn take_due(&mut self, now: u64) -> Option<Event> {
        let entry = self.entries.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }
}
