//! How old a ticket is, and what to do about it.

use super::ticket::Ticket;
use std::time::{Duration, Instant};

/// Tells the time that passes. Tests bring their own.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Returns the time since some fixed moment.
    fn elapsed(&self) -> Duration;
}

/// The machine's own monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A ticket is taken for two hours.
// PVE: pve-access-control src/PVE/AccessControl.pm, ticket lifetime 7200 s.
const LIFETIME: Duration = Duration::from_secs(2 * 60 * 60);
/// Official clients renew after one.
const RENEW_AFTER: Duration = Duration::from_secs(60 * 60);
/// After a renewal that failed, the old ticket is used this long before the next attempt.
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);

/// What must happen before the next call.
#[derive(Debug)]
pub(crate) enum Next {
    /// The ticket is good.
    Use(Ticket),
    /// The ticket is good, and old enough to be renewed with itself as the password.
    Renew(Ticket),
    /// There is none, or it is too old: log in.
    LogIn,
}

/// The ticket that a client holds, if any.
#[derive(Debug, Default)]
pub(crate) struct Session {
    ticket: Option<Ticket>,
    /// When it was *asked for*, so that its age is never taken as less than it is.
    asked_at: Duration,
    pause_until: Duration,
    generation: u64,
}

impl Session {
    pub fn next(&self, now: Duration) -> Next {
        let age = now.saturating_sub(self.asked_at);
        match &self.ticket {
            Some(ticket) if age < RENEW_AFTER => Next::Use(ticket.clone()),
            Some(ticket) if age < LIFETIME && now < self.pause_until => Next::Use(ticket.clone()),
            Some(ticket) if age < LIFETIME => Next::Renew(ticket.clone()),
            _ => Next::LogIn,
        }
    }
    /// Takes a new ticket, asked for at `asked_at`.
    pub fn take(&mut self, ticket: Ticket, asked_at: Duration) {
        self.ticket = Some(ticket);
        self.asked_at = asked_at;
        self.generation += 1;
    }
    /// Forgets the ticket if it is still the one of `generation`: another call may have replaced it meanwhile.
    pub fn refuse(&mut self, generation: u64) {
        if self.generation == generation {
            self.ticket = None;
        }
    }
    /// Goes on with the old ticket for a while.
    pub fn pause_renewal(&mut self, now: Duration) {
        self.pause_until = now + RENEWAL_PAUSE;
    }
    /// Forgets the ticket.
    pub fn clear(&mut self) {
        self.ticket = None;
        self.generation += 1;
    }
    pub fn generation(&self) -> u64 {
        self.generation
    }
    /// Tells whether there is a ticket that PVE still takes.
    pub fn is_live(&self, now: Duration) -> bool {
        !matches!(self.next(now), Next::LogIn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pve_types::Secret;

    fn ticket(text: &str) -> Ticket {
        Ticket { ticket: Secret::new(text), csrf: Secret::new("c") }
    }

    #[test]
    fn a_ticket_is_used_renewed_and_given_up_by_its_age() {
        let mut session = Session::default();
        assert!(matches!(session.next(Duration::ZERO), Next::LogIn));
        session.take(ticket("a"), Duration::from_secs(1000));
        let check = |age: u64, expect: &str| {
            let next = match session.next(Duration::from_secs(1000 + age)) {
                Next::Use(_) => "use",
                Next::Renew(_) => "renew",
                Next::LogIn => "log in",
            };
            assert_eq!(next, expect, "after {age} s");
        };
        check(0, "use");
        check(3599, "use");
        check(3600, "renew");
        check(7199, "renew");
        check(7200, "log in");
    }

    #[test]
    fn a_refused_ticket_is_forgotten_once() {
        let mut session = Session::default();
        session.take(ticket("a"), Duration::ZERO);
        let old = session.generation();
        session.refuse(old);
        assert!(!session.is_live(Duration::ZERO));
        session.take(ticket("b"), Duration::ZERO);
        // A second call that was refused with the old ticket must not throw the new one away.
        session.refuse(old);
        assert!(session.is_live(Duration::ZERO));
    }
}
