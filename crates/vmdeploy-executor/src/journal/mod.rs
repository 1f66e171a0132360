//! The journal of a run, and the folder that keeps it with its plan.

mod file;
mod history;
mod record;
mod runs;

pub use file::{JournalError, JournalWriter, read};
pub(crate) use history::{RunHistory, StepHistory, remaining};
pub use record::{Entry, JOURNAL_FORMAT_VERSION, Record, ResumeMode};
pub use runs::{ProjectLock, RunSummary, RunsError, RunsFolder, StoredRun};
