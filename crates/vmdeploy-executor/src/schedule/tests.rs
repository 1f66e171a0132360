use super::*;
use proptest::prelude::*;

fn id(name: &str) -> StepId {
    StepId(name.to_owned())
}

/// A small plan: each entry is `name`, `vm` (or `-`), the names before it, and whether it can be rolled back.
fn tasks(rows: &[(&str, &str, &[&str], bool)]) -> Vec<Task> {
    let vmid = |vm: &str| Vmid::new(100 + u32::from(vm.as_bytes()[0])).unwrap();
    rows.iter()
        .map(|(name, vm, after, revert)| {
            let writes: BTreeSet<Vmid> = (*vm != "-").then(|| vmid(vm)).into_iter().collect();
            let claims = Claims { writes, ..Claims::default() };
            Task {
                id: id(name),
                vm: (*vm != "-").then(|| vm.parse().unwrap()),
                after: after.iter().map(|name| id(name)).collect(),
                follows: BTreeSet::new(),
                revert: revert.then(|| claims.clone()),
                claims,
                is_wait: false,
                past: Past::None,
            }
        })
        .collect()
}

use pve_types::Vmid;

fn rules(tasks: &[Task], on_failure: OnFailure) -> Rules {
    Rules {
        limits: Limits { per_node: 2, per_storage: 1, per_source: 1 },
        attempts: 2,
        on_failure: tasks.iter().filter_map(|task| task.vm.clone()).map(|vm| (vm, on_failure)).collect(),
        rollback_all: false,
    }
}

/// A world in which steps end when it is told to, and which checks every rule at every moment.
#[derive(Clone)]
struct Play {
    scheduler: Scheduler,
    tasks: Vec<Task>,
    limits: Limits,
    running: BTreeSet<StepId>,
    reverting: BTreeSet<StepId>,
    waiting: BTreeSet<StepId>,
    there: BTreeSet<StepId>,
    was_done: BTreeSet<StepId>,
    revert_failed: BTreeSet<StepId>,
    failed: BTreeSet<StepId>,
    maybe: BTreeSet<StepId>,
    starts: BTreeMap<StepId, u32>,
    end: Option<bool>,
    stopped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Success,
    Again,
    Probe,
    No,
    Maybe,
}

impl Play {
    fn new(tasks: Vec<Task>, rules: Rules) -> Self {
        let mut play = Self {
            scheduler: Scheduler::new(tasks.clone(), rules.clone()),
            there: tasks
                .iter()
                .filter(|t| t.past == Past::Done { changed: true })
                .map(|t| t.id.clone())
                .collect(),
            was_done: tasks
                .iter()
                .filter(|t| matches!(t.past, Past::Done { .. }))
                .map(|t| t.id.clone())
                .collect(),
            maybe: tasks
                .iter()
                .filter(|t| matches!(t.past, Past::Begun | Past::Reverting))
                .map(|t| t.id.clone())
                .collect(),
            tasks,
            limits: rules.limits,
            running: BTreeSet::new(),
            reverting: BTreeSet::new(),
            waiting: BTreeSet::new(),
            revert_failed: BTreeSet::new(),
            failed: BTreeSet::new(),
            starts: BTreeMap::new(),
            end: None,
            stopped: false,
        };
        play.tell(Input::Begin);
        play
    }

    fn task(&self, step: &StepId) -> &Task {
        self.tasks.iter().find(|task| task.id == *step).unwrap()
    }

    fn tell(&mut self, input: Input) {
        let commands = self.scheduler.on(input);
        for command in commands {
            self.obey(command);
        }
        self.check_limits();
    }

    fn obey(&mut self, command: Command) {
        assert!(self.end.is_none(), "something follows the end: {command:?}");
        match command {
            Command::Start { step, probe, .. } => {
                assert!(!self.stopped, "{step} begins after the stop");
                let task = self.task(&step).clone();
                assert!(task.after.is_subset(&self.was_done), "{step} begins too early");
                assert!(!self.was_done.contains(&step), "{step} is done twice");
                assert!(probe || !self.maybe.contains(&step), "{step} is repeated blindly");
                *self.starts.entry(step.clone()).or_default() += 1;
                assert!(self.running.insert(step));
            }
            Command::Wait { step, .. } => assert!(self.waiting.insert(step)),
            Command::Revert { step } => {
                assert!(!self.stopped);
                assert!(
                    self.there.contains(&step) || self.maybe.contains(&step),
                    "{step} is rolled back, but was not done"
                );
                for task in &self.tasks {
                    let is_later = task.after.contains(&step) && task.revert.is_some();
                    let is_there = self.there.contains(&task.id) || self.running.contains(&task.id);
                    assert!(!(is_later && is_there), "{step} is rolled back before {}", task.id);
                }
                assert!(self.reverting.insert(step));
            }
            Command::GiveUp => {}
            Command::Finish { stopped } => {
                assert!(self.running.is_empty() && self.reverting.is_empty(), "ended with work on the wire");
                self.end = Some(stopped);
            }
        }
    }

    fn check_limits(&self) {
        let claims: Vec<&Claims> = self
            .running
            .iter()
            .map(|step| &self.task(step).claims)
            .chain(self.reverting.iter().map(|step| self.task(step).revert.as_ref().unwrap()))
            .collect();
        let mut writers: BTreeMap<Vmid, u32> = BTreeMap::new();
        claims.iter().flat_map(|c| &c.writes).for_each(|vmid| *writers.entry(*vmid).or_default() += 1);
        assert!(writers.values().all(|count| *count == 1), "two writers at once");
        let sources: Vec<Vmid> = claims.iter().filter_map(|c| c.copies).collect();
        for source in &sources {
            assert!(!writers.contains_key(source), "a source is written to while it is copied");
            let count = sources.iter().filter(|other| *other == source).count();
            assert!(count <= self.limits.per_source as usize);
        }
        for claim in &claims {
            let parallel =
                |c: &&&Claims| c.node.is_some() && c.node == claim.node && c.by_ssh == claim.by_ssh;
            let nodes = claims.iter().filter(parallel).count();
            assert!(nodes <= self.limits.per_node as usize, "too many on one node");
            for storage in &claim.storages {
                let count = claims.iter().filter(|c| c.storages.contains(storage)).count();
                assert!(count <= self.limits.per_storage as usize, "too many on one storage");
            }
        }
    }

    fn finish_step(&mut self, step: &StepId, end: End) {
        assert!(self.running.remove(step));
        self.maybe.remove(step);
        let input = match end {
            End::Success => {
                self.there.insert(step.clone());
                self.was_done.insert(step.clone());
                Input::Succeeded { step: step.clone(), changed: true }
            }
            End::Again => Input::Failed { step: step.clone(), verdict: Verdict::Again },
            End::Probe => {
                self.maybe.insert(step.clone());
                Input::Failed { step: step.clone(), verdict: Verdict::AgainAfterProbe }
            }
            End::No => Input::Failed { step: step.clone(), verdict: Verdict::Final(TookEffect::No) },
            End::Maybe => {
                self.maybe.insert(step.clone());
                Input::Failed { step: step.clone(), verdict: Verdict::Final(TookEffect::Maybe) }
            }
        };
        if end != End::Success {
            self.failed.insert(step.clone());
        }
        self.tell(input);
    }

    fn finish_revert(&mut self, step: &StepId, works: bool) {
        assert!(self.reverting.remove(step));
        if works {
            self.there.remove(step);
            self.maybe.remove(step);
            self.was_done.remove(step);
            self.tell(Input::RevertFinished { step: step.clone() });
        } else {
            self.revert_failed.insert(step.clone());
            self.tell(Input::RevertFailed { step: step.clone() });
        }
    }

    fn wake(&mut self, step: &StepId) {
        assert!(self.waiting.remove(step));
        self.tell(Input::Waited { step: step.clone() });
    }

    /// All things that may happen next.
    fn choices(&self) -> Vec<(StepId, u8)> {
        let ends = |step: &StepId| (0..5).map(|end| (step.clone(), end)).collect::<Vec<_>>();
        let reverts = |step: &StepId| vec![(step.clone(), 5), (step.clone(), 6)];
        let mut choices: Vec<_> = self.running.iter().flat_map(ends).collect();
        choices.extend(self.reverting.iter().flat_map(reverts));
        choices.extend(self.waiting.iter().map(|step| (step.clone(), 7)));
        choices
    }

    fn choose(&mut self, (step, what): &(StepId, u8)) {
        match what {
            0 => self.finish_step(step, End::Success),
            1 => self.finish_step(step, End::Again),
            2 => self.finish_step(step, End::Probe),
            3 => self.finish_step(step, End::No),
            4 => self.finish_step(step, End::Maybe),
            5 => self.finish_revert(step, true),
            6 => self.finish_revert(step, false),
            _ => self.wake(step),
        }
    }

    /// What must hold at the end of a run that was not stopped.
    fn check_end(&self, on_failure: OnFailure) {
        assert!(self.end.is_some(), "the run does not end");
        let all_done = self.was_done.len() == self.tasks.len();
        assert!(all_done || !self.failed.is_empty() || !self.revert_failed.is_empty());
        assert!(self.starts.values().all(|count| *count <= 2), "tried more often than allowed");
        if on_failure == OnFailure::Keep {
            assert!(self.revert_failed.is_empty() && self.there == self.was_done);
            return;
        }
        let failed_for_good =
            |task: &&Task| self.failed.contains(&task.id) && !self.was_done.contains(&task.id);
        for failed in self.tasks.iter().filter(failed_for_good) {
            for task in self.tasks.iter().filter(|task| task.vm.is_some() && task.vm == failed.vm) {
                let is_left = self.there.contains(&task.id) || self.maybe.contains(&task.id);
                let excused = task.revert.is_none() || !self.revert_failed.is_empty();
                assert!(!is_left || excused, "{} is left", task.id);
            }
        }
    }
}

/// Walks every order in which steps may end, and every way. Orders that lead to the same state are walked on from once.
fn walk(play: &Play, on_failure: OnFailure, seen: &mut BTreeSet<String>) {
    let sets = (&play.there, &play.maybe, &play.failed, &play.revert_failed, &play.starts, play.end);
    if !seen.insert(format!("{:?} {sets:?}", play.scheduler)) {
        return;
    }
    let choices = play.choices();
    if play.end.is_some() || choices.is_empty() {
        play.check_end(on_failure);
        return;
    }
    for choice in choices {
        let mut next = play.clone();
        next.choose(&choice);
        walk(&next, on_failure, seen);
    }
}

fn walk_all(rows: &[(&str, &str, &[&str], bool)]) -> usize {
    let mut count = 0;
    for on_failure in [OnFailure::Rollback, OnFailure::Keep] {
        let tasks = tasks(rows);
        let play = Play::new(tasks.clone(), rules(&tasks, on_failure));
        let mut seen = BTreeSet::new();
        walk(&play, on_failure, &mut seen);
        count += seen.len();
    }
    count
}

#[test]
fn every_interleaving_of_failures_of_small_plans_keeps_the_rules() {
    let chain = walk_all(&[("a1", "a", &[], true), ("a2", "a", &["a1"], true), ("a3", "a", &["a2"], false)]);
    assert!(chain > 50, "{chain}");
    let two = walk_all(&[("a1", "a", &[], true), ("a2", "a", &["a1"], true), ("b1", "b", &[], true)]);
    assert!(two > 500, "{two}");
    let shared = walk_all(&[("s", "-", &[], true), ("a1", "a", &["s"], true), ("b1", "b", &["s"], true)]);
    assert!(shared > 100, "{shared}");
    let wide = walk_all(&[
        ("s", "-", &[], true),
        ("a1", "a", &["s"], true),
        ("a2", "a", &["a1"], true),
        ("b1", "b", &["s"], true),
    ]);
    assert!(wide > 1000, "{wide}");
    let clone = walk_all(&[("t1", "t", &[], true), ("c1", "c", &["t1"], true), ("t2", "t", &["t1"], false)]);
    assert!(clone > 100, "{clone}");
}

#[test]
fn what_an_earlier_process_left_unclear_is_probed() {
    let mut tasks = tasks(&[("a1", "a", &[], true), ("a2", "a", &["a1"], true)]);
    tasks[0].past = Past::Done { changed: true };
    tasks[1].past = Past::Begun;
    let rules = rules(&tasks, OnFailure::Rollback);
    let commands = Scheduler::new(tasks, rules).on(Input::Begin);
    assert_eq!(commands, [Command::Start { step: id("a2"), attempt: 1, probe: true }]);
}

#[test]
fn an_revert_that_was_begun_is_finished_by_the_next_process() {
    let mut tasks = tasks(&[("a1", "a", &[], true), ("a2", "a", &["a1"], true), ("b1", "b", &[], true)]);
    tasks[0].past = Past::Done { changed: true };
    tasks[1].past = Past::Reverting;
    let rules = rules(&tasks, OnFailure::Rollback);
    let commands = Scheduler::new(tasks, rules).on(Input::Begin);
    let expect =
        [Command::Revert { step: id("a2") }, Command::Start { step: id("b1"), attempt: 1, probe: false }];
    assert_eq!(commands, expect);
}

#[test]
fn reverting_all_touches_only_what_was_begun() {
    let mut tasks = tasks(&[
        ("a1", "a", &[], true),
        ("a2", "a", &["a1"], true),
        ("b1", "b", &[], true),
        ("s", "-", &[], true),
    ]);
    tasks[0].past = Past::Done { changed: true };
    tasks[3].past = Past::Done { changed: false };
    let rules = Rules { rollback_all: true, ..rules(&tasks, OnFailure::Keep) };
    let mut scheduler = Scheduler::new(tasks, rules);
    assert_eq!(scheduler.on(Input::Begin), [Command::Revert { step: id("a1") }]);
    assert_eq!(scheduler.on(Input::RevertFinished { step: id("a1") }), [Command::Finish { stopped: false }]);
}

#[test]
fn one_stop_finishes_what_is_on_the_wire_and_two_give_it_up() {
    let tasks = tasks(&[("a1", "a", &[], true), ("a2", "a", &["a1"], true)]);
    let rules = rules(&tasks, OnFailure::Rollback);
    let mut scheduler = Scheduler::new(tasks, rules);
    scheduler.on(Input::Begin);
    assert_eq!(scheduler.on(Input::Stop(Stop::WhenIdle)), []);
    let mut twice = scheduler.clone();
    assert_eq!(twice.on(Input::Stop(Stop::Now)), [Command::GiveUp]);
    let done = Input::Succeeded { step: id("a1"), changed: true };
    assert_eq!(scheduler.on(done), [Command::Finish { stopped: true }]);
}

#[test]
fn the_longest_chain_goes_first() {
    let mut tasks = tasks(&[("a", "a", &[], false), ("b", "b", &[], false), ("b2", "b", &["b"], false)]);
    for task in &mut tasks {
        task.claims.storages.insert("local".parse().unwrap());
    }
    let rules = rules(&tasks, OnFailure::Keep);
    let commands = Scheduler::new(tasks, rules).on(Input::Begin);
    assert_eq!(commands, [Command::Start { step: id("b"), attempt: 1, probe: false }]);
}

/// Any plan of up to twelve steps on four VMs, three nodes, two storages and two clone sources.
fn any_tasks() -> impl Strategy<Value = Vec<Task>> {
    let step = (0_u8..5, 0_u8..4, 0_u8..3, 0_u8..3, any::<bool>(), any::<u16>());
    prop::collection::vec(step, 1..12).prop_map(|rows| {
        let mut tasks: Vec<Task> = Vec::new();
        for (place, (vm, node, storage, source, revert, links)) in rows.into_iter().enumerate() {
            let name: Option<GuestName> = (vm < 4).then(|| format!("vm{vm}").parse().unwrap());
            let vmid = Vmid::new(200 + u32::from(vm)).unwrap();
            let claims = Claims {
                writes: name.iter().map(|_| vmid).collect(),
                copies: (source < 2).then(|| Vmid::new(300 + u32::from(source)).unwrap()),
                by_ssh: links & 1 == 1,
                node: (node < 3).then(|| format!("pve{node}").parse().unwrap()),
                storages: (storage < 2)
                    .then(|| format!("st{storage}").parse().unwrap())
                    .into_iter()
                    .collect(),
            };
            // A shared step depends on shared steps only, as in every plan.
            let may_be_before = |before: &usize| name.is_some() || tasks[*before].vm.is_none();
            let after: Vec<usize> =
                (0..place).filter(|before| links >> (before % 16) & 3 == 1).filter(may_be_before).collect();
            tasks.push(Task {
                id: id(&format!("s{place}")),
                vm: name,
                after: after.iter().map(|before| id(&format!("s{before}"))).collect(),
                follows: BTreeSet::new(),
                revert: revert.then(|| claims.clone()),
                claims,
                is_wait: false,
                past: Past::None,
            });
        }
        tasks
    })
}

/// At least 400 cases, and as many as `PROPTEST_CASES` says where that is more.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.max(400), failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_plan_with_any_failures_keeps_the_rules(
        tasks in any_tasks(),
        picks in prop::collection::vec((any::<u16>(), 0_u8..20), 200),
        keep in any::<bool>(),
        stop_at in prop::option::of(0_usize..30),
    ) {
        let on_failure = if keep { OnFailure::Keep } else { OnFailure::Rollback };
        let mut play = Play::new(tasks.clone(), rules(&tasks, on_failure));
        for (turn, (pick, way)) in picks.iter().enumerate() {
            if play.end.is_some() {
                break;
            }
            if stop_at == Some(turn) {
                play.stopped = true;
                play.tell(Input::Stop(Stop::WhenIdle));
                continue;
            }
            // Most steps succeed, so that deep plans are reached.
            let way = match way { 0 => 1, 1 => 2, 2 => 3, 3 => 4, _ => 0 };
            let choices: Vec<_> = play
                .choices()
                .into_iter()
                .filter(|(_, what)| *what >= 5 || *what == way)
                .collect();
            let choices = if choices.is_empty() { play.choices() } else { choices };
            let choice = choices[usize::from(*pick) % choices.len()].clone();
            play.choose(&choice);
        }
        if play.stopped {
            prop_assert!(play.end.is_some() || !play.running.is_empty() || !play.reverting.is_empty());
        } else {
            play.check_end(on_failure);
        }
    }

    #[test]
    fn a_run_without_failures_does_every_step_once(tasks in any_tasks(), picks in prop::collection::vec(any::<u16>(), 64)) {
        let mut play = Play::new(tasks.clone(), rules(&tasks, OnFailure::Rollback));
        let mut picks = picks.into_iter().cycle();
        while play.end.is_none() {
            let running: Vec<StepId> = play.running.iter().cloned().collect();
            let step = running[usize::from(picks.next().unwrap()) % running.len()].clone();
            play.finish_step(&step, End::Success);
        }
        prop_assert_eq!(play.was_done.len(), tasks.len());
        prop_assert_eq!(play.end, Some(false));
    }
}
