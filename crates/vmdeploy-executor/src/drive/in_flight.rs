//! Requests that a dead process has sent and that were not answered: how long they are waited for, and why.
//!
//! Nothing of PVE tells whether a request is still in the queue of a daemon. What it made is seen by asking: a task that
//! runs, a lock, a command in the node's list of processes. While nothing is seen, the wait lasts as long as PVE's daemons
//! allow each other, or much shorter where they answer our own questions at once.

use crate::journal::{StepHistory, remaining};
use crate::options::RunOptions;
use crate::runs::StoredRun;
use crate::{Connections, Failure};
use jiff::Timestamp;
use pve_types::{NodeName, Upid, Vmid};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;
use vmdeploy_planner::plan::Step;

/// How many answers in a row show that the cluster answers promptly.
const PROMPT_ANSWERS: u32 = 3;
/// An answer of the API that takes longer than this is not prompt.
const PROMPT: Duration = Duration::from_secs(1);
/// The same for questions that are commands on a node: starting one takes up to three seconds.
const PROMPT_BY_COMMAND: Duration = Duration::from_secs(10);

/// The wait for a request that was not answered.
#[derive(Debug, Clone)]
pub(crate) struct LateWait {
    since: Option<Timestamp>,
    longest: Duration,
    shortest: Duration,
    prompt: Duration,
    answers: u32,
    was_slow: bool,
    said: bool,
}

impl LateWait {
    /// Begins to wait for a request that was sent out at `since`; without it nothing is waited for.
    pub(crate) fn new(since: Option<Timestamp>, options: &RunOptions, by_command: bool) -> Self {
        Self {
            since,
            longest: options.settle,
            shortest: options.settle_when_prompt.min(options.settle),
            prompt: if by_command { PROMPT_BY_COMMAND } else { PROMPT },
            answers: 0,
            was_slow: false,
            said: false,
        }
    }
    /// Says that the cluster is asked now.
    pub(crate) fn ask(&self) -> Instant {
        Instant::now()
    }
    /// Says that what was asked then is answered.
    pub(crate) fn answered(&mut self, asked: Instant) {
        self.answers += 1;
        self.was_slow |= asked.elapsed() > self.prompt;
    }
    /// Tells whether the request can be on its way no more.
    pub(crate) fn is_over(&self) -> bool {
        let is_prompt = self.answers >= PROMPT_ANSWERS && !self.was_slow;
        let limit = if is_prompt { self.shortest } else { self.longest };
        remaining(self.since, limit, Timestamp::now()).is_zero()
    }
    /// Returns for how long, in words, the first time that it is asked.
    pub(crate) fn say_once(&mut self) -> Option<String> {
        if std::mem::replace(&mut self.said, true) {
            return None;
        }
        let seconds = |limit| {
            let left = remaining(self.since, limit, Timestamp::now());
            left.as_secs() + u64::from(left.subsec_nanos() > 0)
        };
        let (shortest, longest) = (seconds(self.shortest), seconds(self.longest));
        Some(if shortest == longest {
            format!("for up to {longest} s")
        } else if shortest == 0 {
            format!("until the cluster has answered promptly, or for up to {longest} s")
        } else {
            format!("for {shortest} s, and for up to {longest} s if the cluster answers slowly")
        })
    }
}

/// What a run of the project left behind when its process died.
#[derive(Debug, Clone, Default)]
pub(crate) struct CutOff {
    /// The runs, the one that sent something last at the end.
    pub(crate) runs: Vec<String>,
    /// When a request was sent out last that was not answered.
    pub(crate) since: Option<Timestamp>,
    /// The times that the project's lock on the cluster bore when those runs touched it last.
    pub(crate) locked_s: Vec<i64>,
    /// Their tasks whose end their journals do not have.
    tasks: BTreeSet<Upid>,
    /// The guests that their open steps write to, by node as planned.
    guests: BTreeMap<Vmid, NodeName>,
    /// Steps that may have left volumes that nothing uses.
    pub(crate) abandoned: Vec<Abandoned>,
}

/// A step of a run that did not come to its end, which made a volume for a guest, or may have.
#[derive(Debug, Clone)]
pub(crate) struct Abandoned {
    pub(crate) run: String,
    pub(crate) step: Step,
    pub(crate) history: StepHistory,
}

impl CutOff {
    /// Returns what runs that are dead may still have on their way, or at work on the cluster; `runs` are ordered by their
    /// last record. Call it while holding the project's lock: else a run may be alive.
    pub(crate) fn of(runs: &[StoredRun]) -> Self {
        let mut cut_off = Self::default();
        runs.iter().for_each(|run| cut_off.add(run));
        cut_off
    }
    /// Takes what this run left; does nothing for a run whose process came to its end. Runs are added in the order in
    /// which they were written to last: one that brought a VM to its end has removed what earlier ones left for it, and
    /// what the VM has since is its own, whatever became of it.
    fn add(&mut self, stored: &StoredRun) {
        let history = stored.history();
        let since = history.unanswered_since();
        let report = stored.report();
        let is_done = report.result == crate::RunResult::Done;
        let done = report.vms.iter().filter(|vm| vm.state == crate::VmState::Done);
        let done: BTreeSet<Vmid> = done.map(|vm| vm.vmid).collect();
        let is_over =
            |left: &Abandoned| left.step.action.guest().is_some_and(|guest| done.contains(&guest.vmid));
        self.abandoned.retain(|left| !is_over(left));
        let mut is_open = since.is_some();
        for step in &stored.plan.steps {
            let Some(of_step) = history.step(&step.id) else { continue };
            let is_rolled_back = of_step.state == crate::StepState::RolledBack;
            let is_of_done = step.action.guest().is_some_and(|guest| done.contains(&guest.vmid));
            if !is_done
                && !is_of_done
                && !is_rolled_back
                && of_step.volumes_before.is_some()
                && step.action.guest().is_some()
            {
                let (run, step, history) = (stored.run.clone(), step.clone(), of_step.clone());
                self.abandoned.push(Abandoned { run, step, history });
            }
            if !of_step.is_open() {
                continue;
            }
            is_open = true;
            self.tasks.extend(of_step.upid.clone());
            if let Some(guest) = step.action.guest().filter(|_| !step.action.only_reads()) {
                self.guests.insert(guest.vmid, guest.node.clone());
            }
        }
        self.locked_s.extend(history.locked_s.filter(|_| !history.is_at_end));
        if is_open {
            self.runs.push(stored.run.clone());
            self.since = self.since.max(since);
        }
    }
    /// Tells whether anything may still be on its way, or at work on the node.
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
    /// Waits until nothing that these runs sent out works any more, and no request of them can be on its way; calls
    /// `note` with the reason of the wait.
    pub(crate) async fn drain(
        &self,
        connections: &Connections,
        options: &RunOptions,
        mut note: impl FnMut(String),
    ) -> Result<(), Failure> {
        let Some(run) = self.runs.last() else { return Ok(()) };
        let mut wait = LateWait::new(self.since, options, connections.is_pvesh());
        let until = Instant::now() + LONGEST_TASK;
        loop {
            let asked = wait.ask();
            let busy = self.busy(connections).await?;
            wait.answered(asked);
            if busy.is_none() && wait.is_over() {
                return Ok(());
            }
            if let Some(busy) = busy.as_ref().filter(|_| Instant::now() >= until) {
                let text = format!("{busy} of the interrupted run `{run}` is still running");
                return Err(Failure::new(crate::FailureKind::Deadline, text));
            }
            match busy {
                Some(busy) => {
                    if wait.say_once().is_some() {
                        note(format!(
                            "run `{run}` was interrupted and {busy} is still running: waiting for it to end"
                        ));
                    }
                }
                None => {
                    if let Some(how_long) = wait.say_once() {
                        note(format!(
                            "run `{run}` was interrupted moments ago and its requests may still take effect: waiting {how_long}"
                        ));
                    }
                }
            }
            tokio::time::sleep(options.poll).await;
        }
    }

    /// Returns a task or a lock that shows that something still works, in words.
    async fn busy(&self, connections: &Connections) -> Result<Option<String>, Failure> {
        for upid in &self.tasks {
            match connections.api().task(upid).status().await {
                Ok(state) if state.status == "running" => {
                    return Ok(Some(format!("the {} task", upid.task_type())));
                }
                Ok(_) => {}
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let nodes: BTreeSet<&NodeName> = self.guests.values().collect();
        for node in nodes {
            let filter = pve_api::TaskFilter {
                source: Some(pve_api::TaskSource::Active),
                limit: Some(500),
                ..pve_api::TaskFilter::default()
            };
            let tasks = connections.api().node(node).tasks(&filter).await?;
            let running = tasks.iter().filter(|task| task.endtime.is_none());
            let upids = running.filter_map(|task| task.upid.parse::<Upid>().ok());
            let is_ours = |upid: &Upid| self.guests.keys().any(|vmid| super::job::is_about(upid.id(), *vmid));
            let is_work = |upid: &Upid| !matches!(upid.task_type(), "vncproxy" | "spiceproxy" | "qmterminal");
            if let Some(upid) = upids.filter(is_work).find(is_ours) {
                return Ok(Some(format!("the {} task on VM {}", upid.task_type(), upid.id())));
            }
        }
        Ok(None)
    }
}

/// The longest time that a task of a dead run is waited for.
const LONGEST_TASK: Duration = Duration::from_secs(3600);

impl StepHistory {
    /// Tells whether something of the step may still work on the cluster.
    fn is_open(&self) -> bool {
        matches!(self.state, crate::StepState::Started) || self.unsure || self.is_reverting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NoSecrets, RunsFolder};
    use std::sync::Arc;

    fn waiting(for_s: i64) -> LateWait {
        let options = RunOptions::new(RunsFolder::new("runs"), ".", Arc::new(NoSecrets));
        LateWait::new(
            Timestamp::now().checked_sub(jiff::SignedDuration::from_secs(for_s)).ok(),
            &options,
            false,
        )
    }

    #[test]
    fn a_cluster_that_answers_promptly_shortens_the_wait() {
        for (for_s, prompt, expect) in
            [(1, true, false), (6, true, true), (6, false, false), (31, false, true)]
        {
            let mut wait = waiting(for_s);
            assert_eq!(wait.is_over(), for_s > 30, "nothing was asked yet");
            for _ in 0..PROMPT_ANSWERS {
                wait.answered(Instant::now());
            }
            wait.was_slow = !prompt;
            assert_eq!(wait.is_over(), expect, "{for_s} s, prompt: {prompt}");
        }
    }

    #[test]
    fn nothing_is_waited_for_where_every_request_was_answered() {
        let options = RunOptions::new(RunsFolder::new("runs"), ".", Arc::new(NoSecrets));
        assert!(LateWait::new(None, &options, false).is_over());
    }
}
