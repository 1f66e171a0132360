//! Why a run could not begin, or could not be followed to its end.

use crate::failure::Failure;
use crate::journal::JournalError;
use crate::runs::RunsError;

/// Why a run could not begin, or could not be followed to its end. Steps that fail are in the report instead.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The folder of runs refused, or another run of the project is going on on this machine.
    #[error("the run could not be recorded")]
    Runs(#[from] RunsError),
    /// The journal could not be written; nothing is sent out that is not written down.
    #[error("the run was stopped because its journal could not be written")]
    Journal(#[from] JournalError),
    /// The cluster refused the project's lock.
    #[error("project `{project}` could not be locked on the cluster")]
    ClusterLock {
        /// The project.
        project: String,
        /// Why, and what to do.
        source: Box<Failure>,
    },
    /// The connections lead to another cluster than the run's, or it could not be asked which it is.
    #[error("the run was not resumed; nothing was changed")]
    OtherCluster(#[source] Box<Failure>),
    /// The stored run is at its end.
    #[error("run `{run}` is finished; nothing to resume")]
    NothingToResume {
        /// The run.
        run: String,
    },
    /// The run was made to end as if it had been killed. Only tests ask for that.
    #[doc(hidden)]
    #[error("the run was stopped after the requested number of records")]
    Died,
}
