//! When waits look again.
//!
//! What one guest took is what the others of its node take, too. The one that waits longest, the scout, looks often; the
//! others poll rarely until one has seen it. From then on each looks when its time has come, and what those looks
//! find says more exactly when that is.
//!
//! Where a look is a command that takes a second of the node's processors, many VMs that wait must not keep the node
//! from what they wait for: then none of them polls while the node is busy with other steps of the run.

use pve_types::NodeName;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

#[cfg(test)]
mod tests;

/// The delay of a poll that is a command if the expected time is unknown.
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
        /// How long it yields to other steps on the node.
        patience: Duration,
    },
}

/// What the waits of a run know of each other.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many steps that are no waits each node works at.
    works: BTreeMap<NodeName, usize>,
    kinds: BTreeMap<Kind, Alike>,
    begun: u64,
}

/// The waits of one kind. Those of another learn nothing from what they find, and are not woken by it.
#[derive(Debug, Default)]
struct Alike {
    span: Option<Span>,
    /// Who waits, those first that began first. The first is the scout.
    waiting: BTreeSet<Place>,
    /// Whether one of them yields to other steps on the node.
    has_patience: bool,
    news: Arc<Notify>,
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
    news: Arc<Notify>,
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

/// A step that is not a wait, while a node works at it.
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
            let here =
                state.kinds.iter().filter(|(kind, alike)| kind.node == self.node && alike.has_patience);
            here.for_each(|(_, alike)| alike.news.notify_waiters());
        }
    }
}

impl Pace {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a step that is not a wait.
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
        let alike = state.kinds.entry(kind.clone()).or_default();
        alike.waiting.insert((began, number));
        alike.has_patience |= matches!(looks, Looks::Commands { .. });
        let news = alike.news.clone();
        drop(state);
        Waiter { pace: self, kind, looks, news, began, number, last: None }
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
    /// The pause of those whose time has come, which are overdue for that long.
    fn soon(&self, overdue: Duration, cost: Duration) -> Duration {
        match self {
            // One that answers late has much to do, and is left as much time as it takes.
            Self::Requests { poll } => (overdue / 8).max(cost).clamp(*poll / 5, *poll * 4),
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
            let news = self.news.notified();
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
        let alike = state.kinds.get(&self.kind);
        let first = alike.and_then(|alike| alike.waiting.first());
        let is_scout = first.is_some_and(|(_, number)| *number == self.number);
        let at = match alike.and_then(|alike| alike.span) {
            Some(span) => {
                // Where looks cost nothing, all whose time may have come find out whether it has.
                let tries = is_scout || matches!(self.looks, Looks::Requests { .. });
                let guess = if tries { span.guess(self.looks.grain(self.last)) } else { span.there };
                let overdue = waited.saturating_sub(guess);
                let soon = answered + self.looks.soon(overdue, cost);
                match self.last {
                    Some(last) if last.asked >= self.began + guess => soon,
                    // Its time may have come while it was asked.
                    Some(_) => seldom.min((self.began + guess).max(soon)),
                    None => seldom.min(self.began + guess),
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
        let span = state.kinds.get_mut(&self.kind).and_then(|alike| alike.span.as_mut());
        let Some(span) = span else { return };
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
        let alike = state.kinds.entry(self.kind.clone()).or_default();
        let before = alike.span.map(|span| span.guess(grain));
        let span = alike.span.get_or_insert(Span { not_yet, there });
        span.there(not_yet, there);
        if before.is_none_or(|before| span.guess(grain) + grain < before) {
            self.news.notify_waiters();
        }
    }

    /// Leaves the scout's place to another.
    fn retire(&self, mut state: MutexGuard<'_, State>) {
        let Some(alike) = state.kinds.get_mut(&self.kind) else { return };
        let was_first = alike.waiting.first() == Some(&(self.began, self.number));
        alike.waiting.remove(&(self.began, self.number));
        // Once it is known how long it takes, a scout is of use to commands alone.
        let is_of_use = alike.span.is_none() || matches!(self.looks, Looks::Commands { .. });
        if was_first && is_of_use {
            self.news.notify_waiters();
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.retire(self.pace.lock());
    }
}
