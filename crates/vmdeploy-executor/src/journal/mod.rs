//! The journal of a run.

mod file;
mod history;
mod record;

pub use file::{JournalError, JournalWriter, read};
pub(crate) use history::{RunHistory, StepHistory, remaining};
pub use record::{Entry, JOURNAL_FORMAT_VERSION, Record, ResumeMode};
