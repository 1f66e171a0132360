//! Carries steps out: the loop that obeys the scheduler, and the one `match` that runs an action by its transport.

mod actions;
mod carry;
mod engine;
mod in_flight;
mod job;
mod lock;
mod pace;
mod places;
mod scan;
mod since;

pub(crate) use engine::{Begin, drive};
pub(crate) use in_flight::CutOff;
pub(crate) use job::Shared;
