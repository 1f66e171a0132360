//! When waits look again where each look is a command that takes a second of the node's processors.
//!
//! Many VMs that wait must not keep the node from what they wait for. One of them, the scout, looks again and again;
//! what it took is what the others take, too, so that each of them looks once, when its time has come and the node has
//! nothing else to do for the run.

use pve_types::NodeName;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The longest pause between two looks.
const LONGEST: Duration = Duration::from_secs(15);

/// What is waited for, as far as it decides how long it takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    /// The node whose guests are alike.
    pub(crate) node: NodeName,
    /// The name of the condition.
    pub(crate) condition: &'static str,
}

/// What the waits of a run know of each other.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// How many steps that are no waits each node works at.
    works: BTreeMap<NodeName, usize>,
    /// How long the quickest guest took.
    took: BTreeMap<Kind, Duration>,
    scouts: BTreeSet<Kind>,
}

/// One wait among the others. Dropped, it makes room for another scout.
#[derive(Debug)]
pub(crate) struct Waiter<'a> {
    pace: &'a Pace,
    kind: Kind,
    began: Instant,
    next: Instant,
    /// Until when it lets what the node does go first.
    patient_until: Instant,
    is_scout: bool,
}

/// A step that is no wait, while a node works at it.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    pace: &'a Pace,
    node: NodeName,
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        let mut state = self.pace.lock();
        let left = state.works.get_mut(&self.node).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            state.works.remove(&self.node);
            drop(state);
            self.pace.news.notify_waiters();
        }
    }
}

impl Pace {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a step that is no wait.
    pub(crate) fn work(&self, node: NodeName) -> Work<'_> {
        *self.lock().works.entry(node.clone()).or_default() += 1;
        Work { pace: self, node }
    }

    /// Begins a wait that lets what the node does go first, for so long.
    pub(crate) fn begin(&self, kind: Kind, patience: Duration) -> Waiter<'_> {
        let began = Instant::now();
        let patient_until = began + patience;
        Waiter { pace: self, kind, began, next: began, patient_until, is_scout: false }
    }
}

impl Waiter<'_> {
    /// Waits until it is this one's turn to look, at the latest until `until`.
    pub(crate) async fn turn(&mut self, until: Instant) {
        loop {
            let news = self.pace.news.notified();
            tokio::pin!(news);
            // From here on nothing that is told is missed.
            news.as_mut().enable();
            let at = self.next_look().min(until);
            if at <= Instant::now() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(at) => return,
                () = news => {}
            }
        }
    }

    /// Returns when to look, from what is known now.
    fn next_look(&mut self) -> Instant {
        let mut state = self.pace.lock();
        match state.took.get(&self.kind) {
            Some(took) => {
                let at = self.next.max(self.began + *took);
                let is_busy = state.works.contains_key(&self.kind.node);
                if is_busy { at.max(self.patient_until) } else { at }
            }
            None => {
                self.is_scout = self.is_scout || state.scouts.insert(self.kind.clone());
                if self.is_scout { self.next } else { self.next.max(self.began + LONGEST) }
            }
        }
    }

    /// Notes a look that found nothing yet.
    pub(crate) fn not_yet(&mut self, asked: Instant, answered: Instant) {
        self.next = answered + (answered.saturating_duration_since(asked) * 4).min(LONGEST);
    }

    /// Notes a look that found it.
    pub(crate) fn found(&self, asked: Instant) {
        let took = asked.saturating_duration_since(self.began);
        let mut state = self.pace.lock();
        let known = state.took.entry(self.kind.clone()).or_insert(took);
        *known = took.min(*known);
        drop(state);
        self.pace.news.notify_waiters();
    }
}

impl Waiter<'_> {
    /// Leaves the scout's place to another.
    fn retire(&mut self) {
        if std::mem::take(&mut self.is_scout) {
            self.pace.lock().scouts.remove(&self.kind);
            self.pace.news.notify_waiters();
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.retire();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind() -> Kind {
        Kind { node: "pve1".parse().unwrap(), condition: "address" }
    }

    fn begin(pace: &Pace) -> Waiter<'_> {
        pace.begin(kind(), Duration::from_secs(50_000))
    }

    const LOOK: Duration = Duration::from_millis(850);

    /// Lets guests be waited for that are ready after so long, in the order of their turns, without waiting; returns
    /// how often each was looked at, and after how long it was seen.
    fn wait_for(pace: &Pace, ready: &[Duration]) -> Vec<(u32, Duration)> {
        let mut waiters: Vec<_> = ready.iter().map(|_| begin(pace)).collect();
        let began = waiters[0].began;
        waiters.iter_mut().for_each(|waiter| (waiter.began, waiter.next) = (began, began));
        let mut seen = vec![(0, None); ready.len()];
        while seen.iter().any(|(_, at): &(u32, Option<Duration>)| at.is_none()) {
            let waiting = (0..ready.len()).filter(|index| seen[*index].1.is_none());
            let (at, index) = waiting.map(|index| (waiters[index].next_look(), index)).min().unwrap();
            seen[index].0 += 1;
            if at >= began + ready[index] {
                waiters[index].found(at);
                seen[index].1 = Some(at + LOOK - began);
                waiters[index].retire();
            } else {
                waiters[index].not_yet(at, at + LOOK);
            }
        }
        seen.into_iter().map(|(looks, at)| (looks, at.unwrap())).collect()
    }

    #[test]
    fn one_looks_again_and_again_and_the_others_once() {
        let all = wait_for(&Pace::default(), &[Duration::from_secs(12); 10]);
        let looks: Vec<u32> = all.iter().map(|(looks, _)| *looks).collect();
        assert_eq!(looks.iter().filter(|looks| **looks == 1).count(), 9, "{looks:?}");
        assert!(looks.iter().sum::<u32>() <= 14, "{looks:?}");
        assert!(all.iter().all(|(_, took)| *took < Duration::from_secs(17)), "{all:?}");
    }

    #[test]
    fn a_guest_that_takes_longer_is_looked_at_again() {
        let all = wait_for(&Pace::default(), &[Duration::from_secs(12), Duration::from_secs(30)]);
        assert!((2..=8).contains(&all[1].0) && all[1].1 < Duration::from_secs(36), "{all:?}");
    }

    #[test]
    fn a_scout_that_never_sees_it_keeps_nobody_waiting() {
        let all = wait_for(&Pace::default(), &[Duration::from_secs(10_000), Duration::from_secs(12)]);
        assert!(all[1].0 == 1 && all[1].1 < Duration::from_secs(17), "{all:?}");
    }

    #[test]
    fn a_scout_that_gives_up_is_followed_by_another() {
        let pace = Pace::default();
        let mut first = begin(&pace);
        assert_eq!(first.next_look(), first.began);
        let mut second = begin(&pace);
        assert_eq!(second.next_look(), second.began + LONGEST);
        drop(first);
        assert_eq!(second.next_look(), second.began);
    }

    #[test]
    fn what_the_node_works_at_goes_first() {
        let pace = Pace::default();
        let scout = begin(&pace);
        scout.found(scout.began + Duration::from_secs(12));
        let mut waiter = pace.begin(kind(), Duration::from_secs(150));
        let in_time = waiter.began + Duration::from_secs(12);
        let (first, second) = (pace.work(kind().node), pace.work(kind().node));
        let elsewhere = pace.work("pve2".parse().unwrap());
        assert_eq!(waiter.next_look(), waiter.patient_until);
        assert!(waiter.patient_until < waiter.began + Duration::from_secs(151));
        drop(first);
        assert_eq!(waiter.next_look(), waiter.patient_until, "the other one still goes on");
        drop(second);
        assert_eq!(waiter.next_look(), in_time);
        drop(elsewhere);
    }

    #[tokio::test]
    async fn a_turn_comes_when_somebody_else_has_seen_it() {
        let pace = Pace::default();
        let (mut scout, mut other) = (begin(&pace), begin(&pace));
        let until = scout.began + Duration::from_secs(3600);
        scout.turn(until).await;
        let (asked, _) = (scout.began, scout.found(scout.began));
        // What took no time at all is there at once; without the news it were 15 s.
        other.turn(until).await;
        assert!(asked.elapsed() < LONGEST);
    }
}
