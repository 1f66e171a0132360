//! Observes a cluster and carries out a plan: scheduler, journal, revert, events.
//!
//! A run is recorded before it does anything: each step stands in the journal, on the disk, before it is sent out. So
//! whatever happens to the process, [`resume`] finds out what took effect, and finishes the run or takes it back.
//! [`execute`] and [`resume`] tell what they do as [`Event`]s and end with a [`RunReport`].
//!
//! ```no_run
//! # async fn example(
//! #     plan: vmdeploy_planner::plan::Plan,
//! #     config: vmdeploy_executor::ConnectionsConfig,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use vmdeploy_executor::{Connections, NoSecrets, RunOptions, RunResult, RunsFolder, cancellation, execute};
//! use vmdeploy_planner::plan::CheckedPlan;
//!
//! let connections = Connections::open(config).await.map_err(|failure| failure.message)?;
//! let options = RunOptions::new(RunsFolder::new(".vmdeploy/runs"), ".", Arc::new(NoSecrets));
//! let (events, _told) = tokio::sync::mpsc::unbounded_channel();
//! let (_canceller, cancellation) = cancellation();
//! let report = execute(CheckedPlan::new(plan)?, &connections, &options, events, cancellation).await?;
//! assert_eq!(report.result, RunResult::Done, "{}", report.headline());
//! # Ok(())
//! # }
//! ```
//!
//! What is absent here: nothing decides *what* is done. That is the plan's, and it is complete.

mod cancel;
mod connections;
mod describe;
mod drive;
mod error;
mod event;
mod failure;
mod journal;
mod local_files;
mod observe;
mod options;
mod outcome;
pub mod power;
mod report;
mod run;
mod runs;
mod schedule;
mod secrets;
mod summarize;
mod unpack;

pub use cancel::{Cancellation, Canceller, Stop, cancellation};
pub use connections::{ApiAccess, Connections, ConnectionsConfig, SshAccess};
pub use error::RunError;
pub use event::{EVENT_FORMAT_VERSION, Event, EventKind, Found, StepHead};
pub use failure::{Failure, FailureKind, TookEffect, is_passing, kind_of, printable};
pub use journal::{Entry, JOURNAL_FORMAT_VERSION, JournalError, JournalWriter, Record, ResumeMode, read};
pub use local_files::{LocalFileError, LocalFiles, Reach};
pub use observe::{NamedVm, check_cluster, identify, observe, only_node, vm_lists, vms_named};
pub use options::RunOptions;
pub use outcome::{Outcome, RevertNote};
pub use report::{
    Leftover, OpenRollout, REPORT_FORMAT_VERSION, Resuming, RunReport, RunResult, Span, SpanKind, StepReport,
    StepState, VmReport, VmState, html_page,
};
pub use run::{drain_in_flight, execute, resume};
pub use runs::{ProjectLock, RunSummary, RunsError, RunsFolder, StoredRun};
pub use schedule::ideal_ms;
pub use secrets::{NoSecrets, SecretError, SecretResolver, in_form};
pub use summarize::report_of;
pub use unpack::{UnpackError, Unpacked, unpack_into, unpacked_digest};
