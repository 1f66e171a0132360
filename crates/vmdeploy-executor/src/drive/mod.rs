//! Carries steps out: the loop that obeys the scheduler, and the one `match` that runs an action by its road.

mod actions;
mod carry;
mod engine;
mod job;
mod lock;
mod places;
mod sight;

pub(crate) use engine::{Begin, drive};
pub(crate) use job::Shared;
