//! What all guests had for disks a moment ago.

use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use vmdeploy_planner::observed::Observed;

/// How long a look at all configurations serves steps that come after it, at least. It only ever allows: before a step is
/// refused, the cluster is asked once more.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// What all guests had for disks, and when that was asked.
#[derive(Debug, Default)]
pub(crate) struct LastScan(pub(super) tokio::sync::Mutex<Option<Scan>>);

#[derive(Debug, Clone)]
pub(super) struct Scan {
    pub(super) at: Instant,
    pub(super) took: Duration,
    pub(super) seen: Arc<Observed>,
}

impl Scan {
    /// Where it takes long to ask every guest, the answer serves longer, so that steps wait for their own work.
    pub(super) fn is_fresh(&self) -> bool {
        self.at.elapsed() < SHARED_FOR.max(self.took * 4)
    }
}
