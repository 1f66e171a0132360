//! Carries steps out: the loop that obeys the scheduler, and the one `match` that runs an action by its transport.

mod actions;
mod carry;
mod engine;
mod history;
mod job;
mod lock;
mod places;

pub(crate) use engine::{Begin, drive};
pub(crate) use job::Shared;
