//! Decides what is done next. Pure: no clock, no I/O, no chance; [`Scheduler::on`] takes what happened and returns what
//! to do. So order, limits, cancellation and revert are tested without a cluster, all interleavings of small plans included.
//!
//! The rules:
//! - A step begins when all steps before it are done, those that it follows have ended in whatever way, no other step writes
//!   to its guest, and node, storage and clone
//!   source have room. Of a node, commands over SSH and calls of the API are counted apart: calls hardly load it, and
//!   need not wait for commands that do. Among those that may begin, the one with the longest chain behind it goes first.
//! - A step that certainly changed nothing is tried again, a bounded number of times; one that may have taken effect is
//!   probed first.
//! - When a step fails, what depends on it is skipped, and other VMs go on. If the VM's rule is to revert, its steps are
//!   rolled back in reverse order once nothing of it is on the wire; so are those of VMs that depend on it.
//! - An revert that fails stops the reverting of what it depends on.

mod graph;
mod ideal;
#[cfg(test)]
mod plain_tests;
mod ready;
#[cfg(test)]
mod rollout_tests;
mod task;
#[cfg(test)]
mod tests;

mod usage;

pub use ideal::ideal_ms;
pub(crate) use task::tasks_of;
pub use task::{Claims, Past, Task, claims_of};

use crate::{Stop, TookEffect};
use pve_types::GuestName;
use ready::Ready;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use usage::Usage;
use vmdeploy_planner::plan::{Limits, OnFailure, StepId};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The run begins, or goes on.
    Begin,
    /// A step is done; `changed` tells whether there is something to revert.
    Succeeded {
        /// The step.
        step: StepId,
        /// Whether it changed something.
        changed: bool,
    },
    /// A step failed.
    Failed {
        /// The step.
        step: StepId,
        /// What may be done about it.
        verdict: Verdict,
    },
    /// The wait before another attempt is over.
    Waited {
        /// The step.
        step: StepId,
    },
    /// A step is rolled back.
    RevertFinished {
        /// The step.
        step: StepId,
    },
    /// A step could not be rolled back.
    RevertFailed {
        /// The step.
        step: StepId,
    },
    /// The user wants it to stop.
    Stop(Stop),
}

/// What may be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing can have happened, and another attempt may succeed.
    Again,
    /// It may have taken effect; the cluster is asked before it is tried again.
    AgainAfterProbe,
    /// It is not tried again.
    Final(TookEffect),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Send the step out; with `probe`, ask first whether it took effect.
    Start {
        /// The step.
        step: StepId,
        /// 1 for the first time.
        attempt: u32,
        /// Whether it had begun before.
        probe: bool,
    },
    /// Wait, then say [`Input::Waited`].
    Wait {
        /// The step.
        step: StepId,
        /// The attempt that failed.
        attempt: u32,
    },
    /// Revert the step.
    Revert {
        /// The step.
        step: StepId,
    },
    /// Give up everything on the wire.
    GiveUp,
    /// Nothing more is to be done, and nothing is on the wire.
    Finish {
        /// Whether the user stopped it before its end.
        stopped: bool,
    },
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not begun in this process.
    Ready { probe: bool },
    /// On the wire.
    Running,
    /// Waiting for another attempt.
    Sleeping { probe: bool },
    /// Done; `changed` tells whether there is something to revert.
    Done { changed: bool },
    /// Failed for good.
    Failed { effect: TookEffect },
    /// Not done, because another failed.
    Skipped { begun: bool },
    /// To be rolled back, because an earlier process had begun to.
    RevertDue,
    /// Being rolled back.
    Reverting,
    /// RolledBack.
    RolledBack,
    /// Not revertible.
    RevertFailed,
}

/// A step with its place among the others.
#[derive(Debug, Clone)]
struct Node {
    task: Task,
    before: Vec<usize>,
    behind: Vec<usize>,
    /// The steps that must have ended before, and those that wait for the end of this one.
    follows: Vec<usize>,
    followed_by: Vec<usize>,
    /// Whether nothing more happens to it, and to what it stands for.
    has_ended: bool,
    /// The length of the longest chain behind it.
    height: usize,
    /// The VMs that need it, for a shared step.
    needed_by: BTreeSet<GuestName>,
    /// How many of the steps before it are not done, and of those that it follows have not ended.
    waits_for: usize,
    state: State,
    attempts: u32,
}

/// Decides what is done next.
#[derive(Debug, Clone)]
pub struct Scheduler {
    nodes: Vec<Node>,
    index: BTreeMap<StepId, usize>,
    ready: Ready,
    usage: Usage,
    sleeping: usize,
    limits: Limits,
    attempts: u32,
    rules: BTreeMap<GuestName, OnFailure>,
    doomed: BTreeSet<GuestName>,
    doomed_alone: BTreeSet<usize>,
    rollback_all: bool,
    stop: Stop,
    finished: bool,
}

/// Parameters of a scheduler, in addition to the tasks.
#[derive(Debug, Clone)]
pub struct Rules {
    /// How many steps may run at once.
    pub limits: Limits,
    /// How often a step is tried in all.
    pub attempts: u32,
    /// What follows a failure, per VM; VMs that are not named are kept.
    pub on_failure: BTreeMap<GuestName, OnFailure>,
    /// Whether nothing is done any more and everything is rolled back.
    pub rollback_all: bool,
}

impl Scheduler {
    /// Makes a scheduler. Tasks must come in an order that respects `after`, as a checked plan's do.
    pub fn new(tasks: Vec<Task>, rules: Rules) -> Self {
        let index: BTreeMap<StepId, usize> =
            tasks.iter().enumerate().map(|(place, task)| (task.id.clone(), place)).collect();
        let nodes = graph::linked(tasks, &index);
        let mut scheduler = Self {
            ready: Ready::of(&nodes),
            nodes,
            index,
            usage: Usage::default(),
            sleeping: 0,
            limits: rules.limits,
            attempts: rules.attempts.max(1),
            rules: rules.on_failure,
            doomed: BTreeSet::new(),
            doomed_alone: BTreeSet::new(),
            rollback_all: rules.rollback_all,
            stop: Stop::No,
            finished: false,
        };
        (0..scheduler.nodes.len()).for_each(|place| scheduler.note_ready(place));
        scheduler
    }

    /// Takes what happened, and returns what to do now.
    pub fn on(&mut self, input: Input) -> Vec<Command> {
        let mut commands = self.take(input);
        commands.extend(self.next());
        commands
    }

    /// Takes what happened, and begins nothing yet.
    fn take(&mut self, input: Input) -> Vec<Command> {
        let mut commands = Vec::new();
        match input {
            Input::Begin => self.begin(),
            Input::Succeeded { step, changed } => self.set(&step, State::Done { changed }),
            Input::Failed { step, verdict } => commands.extend(self.failed(&step, verdict)),
            Input::Waited { step } => self.waited(&step),
            Input::RevertFinished { step } => self.set(&step, State::RolledBack),
            Input::RevertFailed { step } => self.set(&step, State::RevertFailed),
            Input::Stop(stop) => commands.extend(self.stopped(stop)),
        }
        commands
    }

    /// Finds the VMs whose revert an earlier process had begun; everything of them is rolled back.
    fn begin(&mut self) {
        let is_doomed =
            |node: &Node| self.rollback_all || matches!(node.task.past, Past::Reverting | Past::RolledBack);
        let places: Vec<usize> =
            (0..self.nodes.len()).filter(|place| is_doomed(&self.nodes[*place])).collect();
        for place in places {
            match self.nodes[place].task.vm.clone() {
                Some(vm) => drop(self.doomed.insert(vm)),
                None => drop(self.doomed_alone.insert(place)),
            }
        }
        self.skip_doomed();
    }

    fn set(&mut self, step: &StepId, state: State) {
        if let Some(place) = self.index.get(step).copied() {
            self.change(place, state);
        }
    }

    /// Changes a step's state, and everything that is counted by it.
    fn change(&mut self, place: usize, state: State) {
        let was = std::mem::replace(&mut self.nodes[place].state, state);
        let node = &self.nodes[place];
        if let Some(claims) = node.claims_in(was) {
            self.usage.release(claims, node.task.vm.as_ref());
        }
        if let Some(claims) = node.claims_in(state) {
            self.usage.take(claims, node.task.vm.as_ref());
        }
        self.sleeping -= usize::from(matches!(was, State::Sleeping { .. }));
        self.sleeping += usize::from(matches!(state, State::Sleeping { .. }));
        let change: isize = isize::from(is_done(was)) - isize::from(is_done(state));
        for behind in node.behind.clone() {
            self.change_waits(behind, change);
        }
        self.note_ready(place);
        self.note_ended(place);
    }

    fn change_waits(&mut self, place: usize, by: isize) {
        let waits = &mut self.nodes[place].waits_for;
        *waits = waits.saturating_add_signed(by);
        self.note_ready(place);
    }

    /// Keeps which steps have ended, from this one on, and lets those that follow them begin.
    fn note_ended(&mut self, place: usize) {
        let mut open = vec![place];
        while let Some(place) = open.pop() {
            let has_ended = graph::has_ended(&self.nodes, place);
            if has_ended == self.nodes[place].has_ended {
                continue;
            }
            self.nodes[place].has_ended = has_ended;
            for follower in self.nodes[place].followed_by.clone() {
                self.change_waits(follower, if has_ended { -1 } else { 1 });
            }
            let later = self.nodes[place].behind.iter().chain(&self.nodes[place].followed_by).copied();
            let is_skipped = |later: &usize| matches!(self.nodes[*later].state, State::Skipped { .. });
            open.extend(later.filter(is_skipped).collect::<Vec<_>>());
        }
    }

    /// Keeps the set of steps that may begin.
    fn note_ready(&mut self, place: usize) {
        let node = &self.nodes[place];
        let is_ready = matches!(node.state, State::Ready { .. }) && node.waits_for == 0;
        self.ready.note((Reverse(node.height), place), is_ready);
    }

    fn failed(&mut self, step: &StepId, verdict: Verdict) -> Option<Command> {
        let place = *self.index.get(step)?;
        let attempt = self.nodes[place].attempts;
        let (probe, effect) = match verdict {
            Verdict::Again => (false, TookEffect::No),
            Verdict::AgainAfterProbe => (true, TookEffect::Maybe),
            Verdict::Final(effect) => {
                self.give_up_on(place, effect);
                return None;
            }
        };
        if attempt >= self.attempts || self.stop != Stop::No || self.is_doomed(place) {
            self.give_up_on(place, effect);
            return None;
        }
        self.change(place, State::Sleeping { probe });
        Some(Command::Wait { step: step.clone(), attempt })
    }

    /// Notes that a step failed for good: what depends on it is skipped, and its VM is rolled back where the rule says so.
    fn give_up_on(&mut self, place: usize, effect: TookEffect) {
        self.change(place, State::Failed { effect });
        if self.stop == Stop::No {
            self.doom(place);
        }
        for behind in graph::all_behind(&self.nodes, place) {
            self.skip(behind);
        }
        self.skip_doomed();
    }

    /// Marks the failed step's VM for reverting, and every VM that depends on one so marked.
    fn doom(&mut self, place: usize) {
        let of_wait = self.nodes[place].task.is_wait;
        let mut open: Vec<(GuestName, bool)> = match &self.nodes[place].task.vm {
            Some(vm) => vec![(vm.clone(), of_wait)],
            None => self.nodes[place].needed_by.iter().map(|vm| (vm.clone(), false)).collect(),
        };
        while let Some((vm, of_wait)) = open.pop() {
            let rolls_back = self.rules.get(&vm).is_some_and(|rule| rule.rolls_back(of_wait));
            if !rolls_back || !self.doomed.insert(vm.clone()) {
                continue;
            }
            let own = self.nodes.iter().filter(|node| node.task.vm.as_ref() == Some(&vm));
            let behind =
                own.flat_map(|node| &node.behind).filter_map(|behind| self.nodes[*behind].task.vm.clone());
            open.extend(behind.map(|vm| (vm, false)));
        }
    }

    /// Tells whether what was made for the step's VM is going to be rolled back.
    pub fn will_revert(&self, step: &StepId) -> bool {
        self.index.get(step).is_some_and(|place| self.is_doomed(*place))
    }

    /// Tells whether the step is to be rolled back: its VM is, or all VMs that need it are.
    fn is_doomed(&self, place: usize) -> bool {
        let node = &self.nodes[place];
        match &node.task.vm {
            Some(vm) => self.doomed.contains(vm),
            None if node.needed_by.is_empty() => self.doomed_alone.contains(&place),
            None => node.needed_by.is_subset(&self.doomed),
        }
    }

    /// Skips every step that is to be rolled back.
    fn skip_doomed(&mut self) {
        if self.doomed.is_empty() && self.doomed_alone.is_empty() {
            return;
        }
        for place in 0..self.nodes.len() {
            if self.is_doomed(place) {
                self.skip(place);
            }
        }
    }

    fn skip(&mut self, place: usize) {
        if let State::Ready { probe } | State::Sleeping { probe } = self.nodes[place].state {
            self.change(place, State::Skipped { begun: probe });
        }
    }

    fn waited(&mut self, step: &StepId) {
        if let Some(place) = self.index.get(step).copied()
            && let State::Sleeping { probe } = self.nodes[place].state
        {
            self.change(place, State::Ready { probe });
        }
    }

    fn stopped(&mut self, stop: Stop) -> Option<Command> {
        let is_new = stop > self.stop;
        self.stop = self.stop.max(stop);
        (is_new && stop == Stop::Now).then_some(Command::GiveUp)
    }

    /// Returns everything that may begin now, or the end.
    fn next(&mut self) -> Vec<Command> {
        self.next_by(Self::start_steps)
    }

    /// Returns the same, with the steps that `start_steps` starts.
    fn next_by(&mut self, start_steps: fn(&mut Self, &mut Vec<Command>)) -> Vec<Command> {
        let mut commands = Vec::new();
        if self.finished {
            return commands;
        }
        if self.stop == Stop::No {
            self.start_reverts(&mut commands);
            start_steps(self, &mut commands);
        }
        commands.extend(self.finish());
        commands
    }

    /// Says the end when nothing is on the wire and nothing is waited for.
    fn finish(&mut self) -> Option<Command> {
        if self.usage.on_the_wire > 0 || (self.sleeping > 0 && self.stop == Stop::No) {
            return None;
        }
        self.finished = true;
        Some(Command::Finish { stopped: self.stop != Stop::No && self.has_more() })
    }

    fn start_steps(&mut self, commands: &mut Vec<Command>) {
        let mut turns = self.ready.heads();
        while let Some(turn) = turns.pop_first() {
            let place = turn.1;
            let claims = &self.nodes[place].task.claims;
            if !self.usage.has_place(claims, self.limits) {
                // Nor has it for those behind it in its lane.
                continue;
            }
            turns.extend(self.ready.behind(turn));
            let State::Ready { probe } = self.nodes[place].state else { continue };
            if !self.usage.is_free(claims) {
                continue;
            }
            commands.push(self.started(place, probe));
        }
    }

    /// Puts a step on the wire.
    fn started(&mut self, place: usize, probe: bool) -> Command {
        self.change(place, State::Running);
        let node = &mut self.nodes[place];
        node.attempts += 1;
        Command::Start { step: node.task.id.clone(), attempt: node.attempts, probe }
    }

    fn start_reverts(&mut self, commands: &mut Vec<Command>) {
        if self.doomed.is_empty() && self.doomed_alone.is_empty() {
            return;
        }
        let settled = self.settled();
        for place in (0..self.nodes.len()).rev() {
            let node = &self.nodes[place];
            let Some(claims) = node.task.revert.as_ref().filter(|_| node.has_touched()) else { continue };
            let is_free = node.task.vm.as_ref().is_none_or(|vm| !self.usage.has_steps_of(vm));
            let behind_settled = node.behind.iter().all(|behind| settled[*behind]);
            if self.is_doomed(place) && is_free && behind_settled && self.usage.has_room(claims, self.limits)
            {
                commands.push(Command::Revert { step: node.task.id.clone() });
                self.change(place, State::Reverting);
            }
        }
    }

    /// Tells for each step whether it, and everything behind it, leaves the way free to revert what is before it.
    fn settled(&self) -> Vec<bool> {
        let mut settled = vec![false; self.nodes.len()];
        for place in (0..self.nodes.len()).rev() {
            let node = &self.nodes[place];
            let own = match node.state {
                State::Running | State::Sleeping { .. } | State::Reverting | State::RevertFailed => false,
                State::RolledBack => true,
                _ => !node.has_touched() || (node.task.revert.is_none() && self.is_doomed(place)),
            };
            settled[place] = own && node.behind.iter().all(|behind| settled[*behind]);
        }
        settled
    }

    /// Tells whether there is more to do for another process.
    fn has_more(&self) -> bool {
        self.nodes.iter().enumerate().any(|(place, node)| match node.state {
            State::Ready { .. } | State::Sleeping { .. } | State::RevertDue | State::Failed { .. } => true,
            State::RevertFailed => false,
            _ => self.is_doomed(place) && node.task.revert.is_some() && node.has_touched(),
        })
    }
}

fn is_done(state: State) -> bool {
    matches!(state, State::Done { .. })
}

impl Node {
    /// Tells whether the step may have changed something that is still there.
    fn has_touched(&self) -> bool {
        match self.state {
            State::Done { changed } => changed,
            State::Failed { effect } => effect != TookEffect::No,
            State::Skipped { begun } => begun,
            State::RevertDue => true,
            State::Ready { .. }
            | State::Running
            | State::Sleeping { .. }
            | State::Reverting
            | State::RolledBack
            | State::RevertFailed => false,
        }
    }

    /// Returns what the step occupies in that state.
    fn claims_in(&self, state: State) -> Option<&Claims> {
        match state {
            State::Running => Some(&self.task.claims),
            State::Reverting => self.task.revert.as_ref(),
            _ => None,
        }
    }
}
