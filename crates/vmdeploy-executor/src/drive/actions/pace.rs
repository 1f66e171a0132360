//! When waits look again.
//!
//! What one guest took is what the others of its node take, too. The one that waits longest, the scout, looks often; the
//! others look seldom until somebody has seen it. From then on each looks when its time has come, and what those looks
//! find says more exactly when that is.
//!
//! Where a look is a command that takes a second of the node's processors, many VMs that wait must not keep the node
//! from what they wait for: then nobody looks while the node works at something else for the run.

use pve_types::NodeName;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a look that is a command is put off where nobody knows when to look.
const SELDOM: Duration = Duration::from_secs(15);
/// The longest pause between two looks that are commands.
const LONGEST: Duration = Duration::from_secs(60);

/// What is waited for, as far as it decides how long it takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    /// The node whose guests are alike.
    pub(crate) node: NodeName,
    /// The name of the condition.
    pub(crate) condition: &'static str,
}

/// What a look is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Looks {
    /// A request, which takes next to nothing.
    Requests {
        /// The usual time between two.
        poll: Duration,
    },
    /// A command on the node, which takes a second of its processors.
    Commands {
        /// So long it lets what the node does for the run go first.
        patience: Duration,
    },
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
    spans: BTreeMap<Kind, Span>,
    /// Who waits, those first that began first. The first is the scout.
    waiting: BTreeMap<Kind, BTreeSet<Place>>,
    begun: u64,
}

/// When a wait began, and a number that no other has.
type Place = (Instant, u64);

/// When the quickest guest was ready, counted from the beginning of its wait.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// Then it was not yet.
    not_yet: Duration,
    /// Then it was.
    there: Duration,
}

/// One wait among the others. Dropped, it makes room for another scout.
#[derive(Debug)]
pub(crate) struct Waiter<'a> {
    pace: &'a Pace,
    kind: Kind,
    looks: Looks,
    began: Instant,
    number: u64,
    last: Option<Last>,
}

/// The last look, which found nothing yet.
#[derive(Debug, Clone, Copy)]
struct Last {
    asked: Instant,
    answered: Instant,
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

    /// Begins a wait.
    pub(crate) fn begin(&self, kind: Kind, looks: Looks) -> Waiter<'_> {
        let began = Instant::now();
        let mut state = self.lock();
        state.begun += 1;
        let number = state.begun;
        state.waiting.entry(kind.clone()).or_default().insert((began, number));
        drop(state);
        Waiter { pace: self, kind, looks, began, number, last: None }
    }
}

impl Span {
    /// Returns when to look next at a guest that is like it: in the middle, until that says nothing more.
    fn guess(&self, grain: Duration) -> Duration {
        let open = self.there.saturating_sub(self.not_yet);
        if open <= grain { self.there } else { self.not_yet + open / 2 }
    }
    /// Learns that a guest was not ready then.
    fn not_yet(&mut self, then: Duration) {
        if then < self.there {
            self.not_yet = self.not_yet.max(then);
        }
    }
    /// Learns of a guest that was ready then, and not yet before.
    fn there(&mut self, not_yet: Duration, there: Duration) {
        self.there = self.there.min(there);
        if self.not_yet >= self.there {
            self.not_yet = Duration::ZERO;
        }
        self.not_yet(not_yet);
    }
}

impl Looks {
    /// How much of a second does not matter.
    fn grain(&self, last: Option<Last>) -> Duration {
        match self {
            Self::Requests { poll } => *poll / 5,
            Self::Commands { .. } => last.map_or(Duration::from_secs(1), |last| last.cost()),
        }
    }
    /// The scout's pause.
    fn often(&self, waited: Duration, cost: Duration) -> Duration {
        match self {
            Self::Requests { poll } => (waited / 16).clamp(*poll / 2, *poll * 4),
            Self::Commands { .. } => (waited / 16).max(cost * 2).min(LONGEST),
        }
    }
    /// The pause of those that know nothing, or whose time has not come.
    fn seldom(&self, waited: Duration) -> Duration {
        match self {
            Self::Requests { poll } => (waited / 2).clamp(*poll * 2, *poll * 8),
            Self::Commands { .. } => waited.clamp(SELDOM, LONGEST),
        }
    }
    /// The pause of those whose time has come, which are overdue for so long.
    fn soon(&self, overdue: Duration, cost: Duration) -> Duration {
        match self {
            Self::Requests { poll } => (overdue / 8).clamp(*poll / 5, *poll * 4),
            Self::Commands { .. } => (overdue / 8).max(cost).min(LONGEST),
        }
    }
}

impl Last {
    fn cost(&self) -> Duration {
        self.answered.saturating_duration_since(self.asked)
    }
}

impl Waiter<'_> {
    /// Waits until it is this one's turn to look, at the latest until `until`.
    pub(crate) async fn turn(&self, until: Instant) {
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
    fn next_look(&self) -> Instant {
        let state = self.pace.lock();
        let (waited, cost) = match self.last {
            Some(last) => (last.answered.saturating_duration_since(self.began), last.cost()),
            None => (Duration::ZERO, Duration::ZERO),
        };
        let answered = self.began + waited;
        // A first look that takes nothing is made at once.
        let seldom = match (self.last, self.looks) {
            (None, Looks::Requests { .. }) => self.began,
            _ => answered + self.looks.seldom(waited),
        };
        let first = state.waiting.get(&self.kind).and_then(|all| all.first());
        let is_scout = first.is_some_and(|(_, number)| *number == self.number);
        let at = match state.spans.get(&self.kind) {
            Some(span) => {
                // Where looks cost nothing, all whose time may have come find out whether it has.
                let tries = is_scout || matches!(self.looks, Looks::Requests { .. });
                let guess = if tries { span.guess(self.looks.grain(self.last)) } else { span.there };
                let is_overdue = self.last.is_some_and(|last| last.asked >= self.began + guess);
                if is_overdue {
                    answered + self.looks.soon(waited.saturating_sub(guess), cost)
                } else {
                    seldom.min(self.began + guess)
                }
            }
            None => match (is_scout, self.last) {
                (true, None) => self.began,
                (true, Some(_)) => answered + self.looks.often(waited, cost),
                (false, _) => seldom,
            },
        };
        match self.looks {
            Looks::Commands { patience } if state.works.contains_key(&self.kind.node) => {
                at.max(self.began + patience)
            }
            _ => at,
        }
    }

    /// Notes a look that found nothing yet.
    pub(crate) fn not_yet(&mut self, asked: Instant, answered: Instant) {
        self.last = Some(Last { asked, answered });
        let waited = asked.saturating_duration_since(self.began);
        let mut state = self.pace.lock();
        let Some(span) = state.spans.get_mut(&self.kind) else { return };
        span.not_yet(waited);
        // One that takes longer than others has nothing to tell them.
        if waited >= span.there {
            self.retire(state);
        }
    }

    /// Notes a look that found it.
    pub(crate) fn found(&self, asked: Instant) {
        let since = |then: Instant| then.saturating_duration_since(self.began);
        let (not_yet, there) = (self.last.map_or(Duration::ZERO, |last| since(last.asked)), since(asked));
        let grain = self.looks.grain(self.last);
        let mut state = self.pace.lock();
        let before = state.spans.get(&self.kind).map(|span| span.guess(grain));
        let span = state.spans.entry(self.kind.clone()).or_insert(Span { not_yet, there });
        span.there(not_yet, there);
        let is_sooner = before.is_none_or(|before| span.guess(grain) + grain < before);
        drop(state);
        if is_sooner {
            self.pace.news.notify_waiters();
        }
    }

    /// Leaves the scout's place to another.
    fn retire(&self, mut state: MutexGuard<'_, State>) {
        let Some(waiting) = state.waiting.get_mut(&self.kind) else { return };
        let was_first = waiting.first() == Some(&(self.began, self.number));
        waiting.remove(&(self.began, self.number));
        drop(state);
        if was_first {
            self.pace.news.notify_waiters();
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.retire(self.pace.lock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMANDS: Looks = Looks::Commands { patience: Duration::from_secs(50_000) };
    const REQUESTS: Looks = Looks::Requests { poll: Duration::from_millis(500) };
    /// What a look takes.
    const LOOK: Duration = Duration::from_millis(850);

    fn kind() -> Kind {
        Kind { node: "pve1".parse().unwrap(), condition: "address" }
    }

    fn seconds(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    /// A guest: when its wait begins, and how long it takes from then on.
    type Guest = (f64, f64);

    /// How often a guest was looked at, and how long after it was ready it was seen, in seconds.
    #[derive(Debug, PartialEq)]
    struct Seen {
        looks: u32,
        late: f64,
    }

    /// Lets guests be waited for, look after look, without waiting. Only one look is made at a time.
    fn wait_for(looks: Looks, guests: &[Guest]) -> Vec<Seen> {
        let pace = Pace::default();
        let cost = if looks == REQUESTS { LOOK / 50 } else { LOOK };
        let zero = Instant::now();
        let begin = |guest: &Guest| {
            let mut waiter = pace.begin(kind(), looks);
            let mut state = pace.lock();
            let waiting = state.waiting.get_mut(&kind()).unwrap();
            waiting.remove(&(waiter.began, waiter.number));
            waiter.began = zero + seconds(guest.0);
            waiting.insert((waiter.began, waiter.number));
            drop(state);
            waiter
        };
        let mut waiters: Vec<_> = guests.iter().map(begin).collect();
        let mut seen: Vec<(u32, Option<Instant>)> = vec![(0, None); guests.len()];
        let mut now = zero;
        while seen.iter().any(|(_, at)| at.is_none()) {
            let waiting = (0..guests.len()).filter(|index| seen[*index].1.is_none());
            let (at, index) = waiting.map(|index| (waiters[index].next_look(), index)).min().unwrap();
            now = now.max(at);
            seen[index].0 += 1;
            let asked = now;
            if asked >= waiters[index].began + seconds(guests[index].1) {
                waiters[index].found(asked);
                seen[index].1 = Some(asked);
                waiters[index].retire(pace.lock());
            } else {
                waiters[index].not_yet(asked, asked + cost);
            }
            now += cost;
        }
        let late = |at: Instant, guest: &Guest| (at - zero).as_secs_f64() - guest.0 - guest.1;
        seen.into_iter()
            .zip(guests)
            .map(|((looks, at), guest)| Seen { looks, late: late(at.unwrap(), guest) })
            .collect()
    }

    /// One after the other, as a node makes them.
    fn staggered(count: u32, apart: f64, takes: f64) -> Vec<Guest> {
        (0..count).map(|number| (f64::from(number) * apart, takes)).collect()
    }

    #[test]
    fn what_one_guest_took_the_others_take_too() {
        let all = wait_for(COMMANDS, &staggered(12, 4.0, 12.0));
        assert!(all.iter().map(|seen| seen.looks).sum::<u32>() < 26, "{all:?}");
        assert!(all[11].looks <= 2 && all[11].late < 1.1, "{all:?}");
        let all = wait_for(REQUESTS, &staggered(20, 1.0, 12.0));
        assert!(all.iter().map(|seen| seen.looks).sum::<u32>() < 20 * 14, "{all:?}");
        assert!(all[19].late < 0.25, "{all:?}");
    }

    #[test]
    fn guests_that_come_up_together_are_looked_at_once_by_command() {
        let all = wait_for(COMMANDS, &[(0.0, 12.0); 10]);
        assert_eq!(all.iter().filter(|seen| seen.looks == 1).count(), 9, "{all:?}");
        assert!(all.iter().all(|seen| seen.late < 12.0), "ten looks take 8.5 s: {all:?}");
    }

    #[test]
    fn a_guest_that_takes_longer_is_looked_at_again() {
        for looks in [COMMANDS, REQUESTS] {
            let all = wait_for(looks, &[(0.0, 12.0), (0.0, 60.0)]);
            assert!((2..70).contains(&all[1].looks) && all[1].late < 8.0, "{all:?}");
        }
    }

    #[test]
    fn a_quick_guest_after_a_slow_one_is_seen_in_time() {
        let all = wait_for(REQUESTS, &[(0.0, 60.0), (61.0, 12.0), (80.0, 12.0)]);
        assert!(all[1].late < 4.1, "{all:?}");
        assert!(all[2].late < all[1].late + 0.1, "{all:?}");
        let all = wait_for(COMMANDS, &[(0.0, 60.0), (61.0, 12.0)]);
        assert!(all[1].late < 16.0, "{all:?}");
    }

    #[test]
    fn a_scout_that_never_sees_it_keeps_nobody_waiting() {
        let all = wait_for(COMMANDS, &[(0.0, 1000.0), (0.0, 12.0)]);
        assert!(all[1].late < 5.0, "{all:?}");
        let all = wait_for(REQUESTS, &[(0.0, 1000.0), (0.0, 12.0)]);
        assert!(all[1].late < 4.1, "{all:?}");
    }

    #[test]
    fn a_scout_that_gives_up_is_followed_by_another() {
        let pace = Pace::default();
        let first = pace.begin(kind(), COMMANDS);
        assert_eq!(first.next_look(), first.began);
        let second = pace.begin(kind(), COMMANDS);
        assert_eq!(second.next_look(), second.began + SELDOM);
        drop(first);
        assert_eq!(second.next_look(), second.began);
    }

    #[test]
    fn what_the_node_works_at_goes_before_commands_and_not_before_requests() {
        let pace = Pace::default();
        let patience = Duration::from_secs(150);
        let waiter = pace.begin(kind(), Looks::Commands { patience });
        let light = pace.begin(Kind { condition: "agent", ..kind() }, REQUESTS);
        let (first, second) = (pace.work(kind().node), pace.work(kind().node));
        let elsewhere = pace.work("pve2".parse().unwrap());
        assert_eq!(waiter.next_look(), waiter.began + patience, "though it is the scout");
        assert_eq!(light.next_look(), light.began);
        drop(first);
        assert_eq!(waiter.next_look(), waiter.began + patience, "the other one still goes on");
        drop(second);
        assert_eq!(waiter.next_look(), waiter.began);
        drop(elsewhere);
    }

    #[tokio::test]
    async fn a_turn_comes_when_somebody_else_has_seen_it() {
        let pace = Pace::default();
        let (scout, other) = (pace.begin(kind(), COMMANDS), pace.begin(kind(), COMMANDS));
        let until = scout.began + Duration::from_secs(3600);
        scout.turn(until).await;
        let (asked, _) = (scout.began, scout.found(scout.began));
        // What took no time at all is there at once; without the news it were 15 s.
        other.turn(until).await;
        assert!(asked.elapsed() < SELDOM);
    }
}
