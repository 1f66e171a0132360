//! Rollouts in virtual time: real plans, the real scheduler and the real journal; only the cluster is a model.
//!
//! The run is killed after every tenth record and resumed. At no moment are more VMs interrupted than the rollout allows.

#[path = "../../../vmdeploy-planner/tests/it/pve.rs"]
#[expect(dead_code, reason = "the planner's own tests use more of it")]
mod pve;

use super::{Command, Input, Rules, Scheduler, Verdict, tasks_of};
use crate::journal::{Entry, Record, RunHistory};
use crate::{Failure, FailureKind, Outcome, ResumeMode, TookEffect};
use jiff::Timestamp;
use proptest::prelude::*;
use pve_types::GuestName;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;
use vmdeploy_planner::make_plan;
use vmdeploy_planner::plan::{Action, Plan, PlanContext, StepId};
use vmdeploy_planner::spec::{LoadOptions, SourceFile, load};

/// How many records a process writes before it is killed.
const LIFE: usize = 10;

fn spec(members: u32, at_once: u32, on_failure: &str, memory: u32) -> String {
    format!(
        "version: 1
project: fleet
groups:
  worker:
    count: {members}
    name: \"worker{{:03}}\"
    rollout: {{max_unavailable: {at_once}, on_failure: {on_failure}}}
    vm:
      node: pve1
      vmid: {{range: [300, 999]}}
      agent: true
      memory: {memory}GiB
      lifecycle: {{restart: if-needed}}
      ready: {{agent: 5m}}
      disks: {{scsi0: {{storage: fast, size: 1GiB}}}}
"
    )
}

/// Returns the plan that changes the memory of every member, and restarts it.
fn plan(members: u32, at_once: u32, on_failure: &str) -> Plan {
    let mut pve = pve::Pve::new();
    let mut planned = |memory| {
        let files = [SourceFile::new("fleet.yaml", spec(members, at_once, on_failure, memory))];
        let deployment = load(&files, &LoadOptions::default()).expect("it is sound").deployment;
        let observed = pve.observed();
        let plan = make_plan(&deployment, &PlanContext::new("run-1", &observed)).expect("it can be planned");
        pve.apply(&plan);
        plan
    };
    planned(1);
    planned(2)
}

/// The cluster, the clock and the journal, which outlive a killed process.
struct World<'p> {
    plan: &'p Plan,
    now_ms: i64,
    records: Vec<Record>,
    /// VMs from the moment a restart is sent out until they are ready again.
    interrupted: BTreeSet<GuestName>,
    reboots: BTreeMap<GuestName, u32>,
    /// VMs whose restart fails, and how often.
    failing: BTreeMap<GuestName, u32>,
    failed: BTreeSet<GuestName>,
    kills: usize,
}

/// What the process ended with.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Killed,
    Finished,
}

impl<'p> World<'p> {
    fn new(plan: &'p Plan, failing: BTreeMap<GuestName, u32>) -> Self {
        Self {
            plan,
            now_ms: 0,
            records: Vec::new(),
            interrupted: BTreeSet::new(),
            reboots: BTreeMap::new(),
            failing,
            failed: BTreeSet::new(),
            kills: 0,
        }
    }

    fn write(&mut self, entry: Entry) {
        let at = Timestamp::from_millisecond(self.now_ms).expect("it is after 1970");
        self.records.push(Record { at, entry });
    }

    /// Runs a process until it is killed after `life` records, or the run is over.
    fn process(&mut self, life: usize, took_ms: impl Fn(&StepId) -> i64, effect_of_killed: bool) -> End {
        if !self.records.is_empty() {
            self.write(Entry::Resumed { mode: ResumeMode::Finish });
        }
        let until = self.records.len() + life;
        let history = RunHistory::of(&self.records, Duration::ZERO);
        let on_failure =
            self.plan.changes.iter().map(|change| (change.vm.clone(), change.on_failure)).collect();
        let rules = Rules { limits: self.plan.limits, attempts: 1, on_failure, rollback_all: false };
        let mut scheduler = Scheduler::new(tasks_of(self.plan, &history), rules);
        let mut on_the_wire: BinaryHeap<Reverse<(i64, StepId, bool)>> = BinaryHeap::new();
        let mut commands = scheduler.on(Input::Begin);
        loop {
            for command in commands {
                match command {
                    Command::Start { step, attempt, probe } => {
                        self.write(Entry::Started { step: step.clone(), attempt });
                        self.sent(&step);
                        on_the_wire.push(Reverse((self.now_ms + took_ms(&step), step, probe)));
                    }
                    Command::Finish { .. } => return End::Finished,
                    other => panic!("{other:?}"),
                }
                if self.records.len() >= until {
                    self.kills += 1;
                    // What was on the wire may come to its end all the same.
                    for Reverse((_, step, probe)) in on_the_wire.into_iter().filter(|_| effect_of_killed) {
                        self.take_effect(&step, probe);
                    }
                    return End::Killed;
                }
            }
            let Reverse((end, step, probe)) = on_the_wire.pop().expect("the run ends by a command");
            self.now_ms = end;
            let input = self.ended(&step, probe);
            commands = scheduler.on(input);
        }
    }

    fn vm(&self, step: &StepId) -> GuestName {
        self.plan.step(step).and_then(|step| step.vm.clone()).expect("every step of this plan has a VM")
    }

    fn is_reboot(&self, step: &StepId) -> bool {
        matches!(self.plan.step(step).map(|step| &step.action), Some(Action::RebootVm { .. }))
    }

    fn sent(&mut self, step: &StepId) {
        if self.is_reboot(step) {
            let vm = self.vm(step);
            self.interrupted.insert(vm);
            let limit = self.plan.rollouts[0].max_unavailable;
            let at_once = self.interrupted.difference(&self.failed).count();
            assert!(at_once <= limit, "{at_once} VMs are interrupted, and {limit} may be");
        }
    }

    /// Restarts the guest, unless a probe finds that an earlier attempt did.
    fn take_effect(&mut self, step: &StepId, probe: bool) {
        let vm = self.vm(step);
        if self.is_reboot(step) && !(probe && self.reboots.contains_key(&vm)) {
            *self.reboots.entry(vm).or_default() += 1;
        }
    }

    fn ended(&mut self, step: &StepId, probe: bool) -> Input {
        let vm = self.vm(step);
        let is_wait = step.0.ends_with("await-agent");
        if is_wait && let Some(left) = self.failing.get_mut(&vm).filter(|left| **left > 0) {
            *left -= 1;
            self.failed.insert(vm);
            let failure = Failure::new(FailureKind::AgentNotRunning, "the agent does not answer")
                .effect(TookEffect::No);
            self.write(Entry::Failed { step: step.clone(), failure, again: false });
            return Input::Failed { step: step.clone(), verdict: Verdict::Final(TookEffect::No) };
        }
        self.take_effect(step, probe);
        if is_wait {
            self.interrupted.remove(&vm);
            self.failed.remove(&vm);
        }
        self.write(Entry::Succeeded { step: step.clone(), outcome: Outcome::Done, warnings: Vec::new() });
        Input::Succeeded { step: step.clone(), changed: true }
    }

    /// Tells which VMs have a step that was ever begun.
    fn begun(&self) -> BTreeSet<GuestName> {
        let started = self.records.iter().filter_map(|record| match &record.entry {
            Entry::Started { step, .. } => Some(self.vm(step)),
            _ => None,
        });
        started.collect()
    }
}

fn any_took(seed: u64) -> impl Fn(&StepId) -> i64 {
    move |step: &StepId| {
        let sum = step.0.bytes().fold(seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        i64::try_from(1 + sum % 60_000).expect("it is small")
    }
}

#[test]
fn a_rollout_of_a_hundred_vms_that_is_killed_at_each_tenth_record_ends_right() {
    let plan = plan(100, 3, "stop");
    assert_eq!(plan.rollouts[0].batches.len(), 34);
    for effect_of_killed in [false, true] {
        let mut world = World::new(&plan, BTreeMap::new());
        while world.process(LIFE, any_took(7), effect_of_killed) == End::Killed {}
        assert!(world.kills > 40, "{}", world.kills);
        assert_eq!(world.reboots.len(), 100);
        assert!(world.reboots.values().all(|count| *count == 1), "each guest is restarted once");
        assert!(world.interrupted.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_failed_member_stops_later_batches_and_resume_goes_on_inside_its_batch(
        members in 2_u32..30,
        at_once in 1_u32..6,
        failing in 1_u32..30,
        stops in any::<bool>(),
        life in 4_usize..40,
        seed in any::<u64>(),
        effect_of_killed in any::<bool>(),
    ) {
        let plan = plan(members, at_once, if stops { "stop" } else { "continue" });
        let failing = format!("worker{:03}", (failing - 1) % members + 1).parse::<GuestName>().unwrap();
        let mut world = World::new(&plan, BTreeMap::from([(failing.clone(), 1)]));
        // Killed until the member has failed, and the process came to its end.
        while world.process(life, any_took(seed), effect_of_killed) == End::Killed {}
        let rollout = &plan.rollouts[0];
        if world.failed.contains(&failing) {
            let batch = rollout.batch_of(&failing).unwrap();
            let later: BTreeSet<GuestName> = rollout.batches[batch + 1..].iter().flatten().cloned().collect();
            let begun = world.begun();
            let goes_on = later.iter().all(|vm| begun.contains(vm));
            let is_right = if stops { later.is_disjoint(&begun) } else { goes_on };
            prop_assert!(is_right, "{later:?} {begun:?}");
            while world.process(life, any_took(seed), effect_of_killed) == End::Killed {}
        }
        prop_assert!(world.failed.is_empty() && world.interrupted.is_empty());
        prop_assert_eq!(world.reboots.len(), members as usize);
        prop_assert!(world.reboots.values().all(|count| *count == 1));
    }
}
