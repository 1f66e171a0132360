//! A state machine of the whole product: specs by chance are deployed, changed and destroyed by all four transports, while
//! people work on the same cluster, answers get lost, tasks fail and processes are killed. After each run it is checked
//! that nothing of others changed, that every volume is accounted for, that the report is true, and that the next plan is
//! empty or says why not.
//!
//! One seed gives one history of spec, people and faults; which of two concurrent steps comes first is the machine's to
//! say. `VMDEPLOY_TEST_SEED=N` plays one, `VMDEPLOY_TEST_RUNS=N` says how many runs there are at least, and
//! `VMDEPLOY_TEST_ALL` means 10,000.

mod desired;
mod faults;
mod people;
mod verdict;
mod world;

use crate::draw::Draw;
use crate::fixture::{Fixture, Transports};
use crate::spec::Passwords;
use desired::Spec;
use futures::StreamExt as _;
use people::Moment;
use pve_lab::WorldSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::unbounded_channel;
use verdict::Known;
use vmdeploy_executor::{
    Canceller, Event, EventKind, ResumeMode, Resuming, RunError, RunOptions, RunReport, RunResult,
    cancellation, execute, observe, resume,
};
use vmdeploy_planner::plan::{CheckedPlan, LocalFileFacts, Plan, PlanContext, PlanMode, Verb};
use vmdeploy_planner::{AskContext, ask, make_plan};
use world::State;

const TRANSPORTS: [(&str, Transports); 4] = [
    ("hybrid", Transports::Both),
    ("auto", Transports::Both),
    ("api", Transports::Api),
    ("ssh", Transports::Ssh),
];

const VENDOR: &str = "#cloud-config\nruncmd: [true]\n";

/// The longest that one history may take.
const LONGEST: Duration = Duration::from_secs(120);

/// What is done with a plan: the first time, or after a kill.
enum Carry {
    Execute(Box<Plan>),
    Resume(ResumeMode),
}

/// What happens during a run, by the number of the event at which it does.
#[derive(Default)]
struct Meanwhile {
    kill_after_records: Option<usize>,
    person_at: Option<usize>,
    stop_at: Option<usize>,
}

struct Machine {
    fixture: Fixture,
    draw: Draw,
    spec: Spec,
    known: Known,
    /// What there was before the run, with what people did since.
    expected: State,
    plans: usize,
    runs: usize,
    /// What happened so far, for the reader of a failure.
    log: String,
    /// What was said of leftovers since they were made.
    said: String,
    seen: BTreeMap<String, usize>,
}

impl Machine {
    async fn start(seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let (transport, transports) = TRANSPORTS[usize::try_from(seed % 4).unwrap()];
        let fixture = Fixture::of(WorldSpec::from_yaml(world::WORLD).unwrap(), "[]", transports).await;
        std::fs::write(fixture.folder.path().join("vendor.yaml"), VENDOR).unwrap();
        let spec = Spec::new(transport, &mut draw);
        let expected = State::of(&fixture);
        Self {
            fixture,
            draw,
            spec,
            known: Known::default(),
            expected,
            plans: 0,
            runs: 0,
            log: format!("seed {seed}, transport {transport}\n"),
            said: String::new(),
            seen: BTreeMap::new(),
        }
    }

    fn note(&mut self, text: impl std::fmt::Display) {
        let _ = writeln!(self.log, "- {text}");
    }
    fn count(&mut self, what: &str) {
        *self.seen.entry(what.to_owned()).or_default() += 1;
    }
    fn options(&self) -> RunOptions {
        RunOptions {
            secrets: Arc::new(Passwords),
            settle: Duration::from_millis(400),
            settle_when_prompt: Duration::from_millis(60),
            attempts: 5,
            poll: Duration::from_millis(10),
            first_wait: Duration::from_millis(5),
            ..self.fixture.options()
        }
    }

    /// Lets a person do something, and expects it from now on.
    fn person(&mut self, moment: Moment) {
        let (draw, expected) = (&mut self.draw, &mut self.expected);
        let did = self.fixture.lab.world().with(|world| {
            let before = State::read(world);
            let did = people::act(world, draw, moment);
            world.settle();
            expected.also(&before, &State::read(world));
            did
        });
        if let Some(did) = did {
            self.note(did);
            self.count("person");
        }
    }

    /// Plans; the words of who refuses where it is refused.
    async fn plan(&mut self, mode: PlanMode, prunes: bool) -> Result<Plan, String> {
        let text = self.spec.yaml();
        let file =
            vmdeploy_planner::spec::SourceFile { name: "m.yaml".to_owned(), text: text.clone().into() };
        let loaded = vmdeploy_planner::spec::load(&[file], &Default::default());
        let told = |faults: Vec<vmdeploy_planner::spec::Diagnostic>| {
            faults.iter().map(ToString::to_string).collect::<String>()
        };
        let deployment = loaded.map_err(told)?.deployment;
        let (options, connections) = (self.options(), &self.fixture.connections);
        let drained = vmdeploy_executor::drain_in_flight(world::PROJECT, connections, &options, |_| {});
        drained.await.map_err(|failure| failure.to_string())?;
        let asked = AskContext { cluster: "default".to_owned(), default_node: None };
        let observed = observe(&self.fixture.connections, &ask(&deployment, &asked)).await;
        let observed = observed.map_err(|failure| failure.to_string())?;
        self.plans += 1;
        let mut context = PlanContext::new(format!("r{}", self.plans), &observed);
        context.mode = mode;
        let is_dropped = |vmid: u32| !self.spec.vms.values().any(|vm| vm.vmid == vmid);
        let ours = State::of(&self.fixture).guests.into_iter().filter(|(_, guest)| guest.is_ours);
        let dropped = ours.filter(|(vmid, _)| is_dropped(*vmid)).count();
        context.prune = (prunes && dropped > 0).then_some(dropped);
        context.ssh_available = self.fixture.connections.has_ssh();
        context.unfinished_creates = self.fixture.runs().unfinished_creates(world::PROJECT).unwrap();
        let facts = LocalFileFacts::Content {
            sha256: vmdeploy_planner::digest::of_bytes(VENDOR.as_bytes()),
            size: pve_types::Bytes::new(VENDOR.len() as u64),
            compression: None,
        };
        context.local_files.insert("vendor.yaml".to_owned(), facts);
        let plan = make_plan(&deployment, &context).map_err(told)?;
        match CheckedPlan::new(plan.clone()) {
            Ok(_) => Ok(plan),
            Err(refusal) => Err(format!("{refusal}: {:?}", plan.refusals().collect::<Vec<_>>())),
        }
    }

    /// Carries out, or goes on with, the run, while something happens.
    async fn carry(&mut self, run: &str, carry: Carry, meanwhile: Meanwhile) -> Result<RunReport, RunError> {
        self.runs += 1;
        let options = RunOptions { die_after_records: meanwhile.kill_after_records, ..self.options() };
        let (switch, stop): (Canceller, _) = cancellation();
        let (sender, mut receiver) = unbounded_channel();
        let connections = self.fixture.connections.clone();
        let stored = match carry {
            Carry::Resume(_) => Some(self.fixture.runs().open(run)?),
            Carry::Execute(_) => None,
        };
        let running = async {
            match (carry, stored) {
                (Carry::Execute(plan), _) => {
                    execute(CheckedPlan::new(*plan).unwrap(), &connections, &options, sender, stop).await
                }
                (Carry::Resume(mode), Some(stored)) => {
                    resume(stored, mode, &connections, &options, sender, stop).await
                }
                (Carry::Resume(_), None) => unreachable!("it is opened above"),
            }
        };
        let listen = async {
            let mut count = 0;
            while let Some(event) = receiver.recv().await {
                count += 1;
                self.heard(&event);
                if meanwhile.person_at == Some(count) {
                    self.person(Moment::During);
                }
                if meanwhile.stop_at == Some(count) {
                    switch.stop_when_idle();
                }
            }
        };
        let (result, ()) = futures::join!(running, listen);
        result
    }

    fn heard(&mut self, event: &Event) {
        match &event.event {
            EventKind::Note { text, .. } => {
                self.said.push_str(text);
                self.note(text);
            }
            EventKind::StepFailed { step, failure, .. } | EventKind::RevertFailed { step, failure } => {
                self.note(format!("{}: {failure} [{:?}] {:?}", step.0, failure.kind, failure.causes));
            }
            EventKind::StepRetrying { step, failure, .. } => {
                self.note(format!("again {}: {failure}", step.0))
            }
            EventKind::RevertFinished { step, note } => self.note(format!("reverted {}: {note:?}", step.0)),
            EventKind::StepProbed { step, found } => self.note(format!("probed {}: {found:?}", step.0)),
            EventKind::StepSucceeded { step, outcome, .. } => {
                self.note(format!("done {}: {outcome:?}", step.0))
            }
            _ => {}
        }
    }

    fn meanwhile(&mut self) -> Meanwhile {
        let draw = &mut self.draw;
        let by_chance = |draw: &mut Draw, percent, end| draw.percent(percent).then(|| 1 + draw.below(end));
        Meanwhile {
            kill_after_records: by_chance(draw, 40, 24),
            person_at: by_chance(draw, 20, 30),
            stop_at: by_chance(draw, 5, 40),
        }
    }

    /// One deployment with everything that comes of it.
    async fn round(&mut self, mode: PlanMode) -> Result<(), String> {
        if self.draw.percent(20) {
            self.person(Moment::Between);
        }
        let old = self.spec.clone();
        let now = State::of(&self.fixture);
        if self.plans > 0 && mode == PlanMode::Deploy {
            self.spec.change(&mut self.draw, &now);
        }
        let prune = self.draw.percent(15);
        self.expected = now;
        let early = self.draw.percent(15);
        if early {
            self.trouble();
        }
        let plan = match self.plan(mode, prune).await {
            Ok(plan) => plan,
            Err(refused) => {
                self.refused(&refused);
                self.check_refused()?;
                self.spec = old;
                return Ok(());
            }
        };
        if plan.is_empty() {
            self.count("empty plan");
            return Ok(());
        }
        let text = self.spec.yaml();
        self.note(format!("{mode:?} as {}\n{text}{}", plan.run_id, listed(&plan)));
        self.said = format!("{:?}", plan.notes);
        if self.draw.percent(15) {
            self.person(Moment::Between);
        }
        if !early {
            self.trouble();
        }
        let meanwhile = self.meanwhile();
        let result = self.carry(&plan.run_id, Carry::Execute(Box::new(plan.clone())), meanwhile).await;
        let result = self.until_it_ends(&plan, result).await?;
        self.clear_faults();
        self.judge(&plan, result, mode).await
    }

    fn trouble(&mut self) {
        let faults = faults::some(&mut self.draw, self.spec.transport);
        if faults != "[]" {
            self.note(format!("faults:\n{faults}"));
            self.fixture.add_faults(&faults);
        }
    }
    fn clear_faults(&self) {
        self.fixture.lab.world().with(|world| world.faults.clear());
    }

    fn refused(&mut self, why: &str) {
        self.count("plan refused");
        self.note(format!("refused: {why}"));
    }

    /// A plan that is refused changes nothing, and says why.
    fn check_refused(&mut self) -> Result<(), String> {
        self.clear_faults();
        let now = State::of(&self.fixture);
        if now != self.expected {
            return Err("the plan was refused, and something changed".to_owned());
        }
        Ok(())
    }

    /// Goes on with a run that was killed, by whatever people do then; `None` where it is left for the next deployment.
    async fn until_it_ends(
        &mut self,
        plan: &Plan,
        mut result: Result<RunReport, RunError>,
    ) -> Result<Option<RunReport>, String> {
        let mut resumed = false;
        for _ in 0..4 {
            match &result {
                Err(RunError::Died) => {
                    self.count("killed");
                    self.note("killed");
                    if self.draw.percent(25) {
                        self.person(Moment::Between);
                    }
                    if self.draw.percent(50) {
                        self.clear_faults();
                    }
                }
                Ok(report) if !resumed && report.resume != Resuming::Nothing && self.draw.percent(40) => {
                    self.note(format!("ended {:?}, to be resumed", report.result));
                    self.clear_faults();
                }
                Ok(report) => return Ok(Some(report.clone())),
                Err(RunError::NothingToResume { .. }) => {
                    let stored = self.fixture.runs().open(&plan.run_id).unwrap();
                    return Ok(Some(stored.report()));
                }
                Err(RunError::ClusterLock { .. } | RunError::OtherCluster(_)) => {
                    self.note(format!("not begun: {result:?}"));
                    self.clear_faults();
                    self.count("not started");
                    // As the hint says, where the process that held it is dead.
                    self.fixture.lab.world().with(|world| {
                        let _ = world.cluster_files.remove_dir(world::LOCK);
                    });
                    if !resumed {
                        return Ok(None);
                    }
                }
                Err(other) => return Err(format!("{other:?}")),
            }
            let mode = match self.draw.below(5) {
                0 | 1 => ResumeMode::Finish,
                2 | 3 => ResumeMode::Rollback,
                _ => {
                    self.count("left for the next deployment");
                    return Ok(None);
                }
            };
            resumed = true;
            self.count("resumed");
            self.note(format!("resume {mode:?}"));
            let meanwhile = Meanwhile { stop_at: None, ..self.meanwhile() };
            result = self.carry(&plan.run_id, Carry::Resume(mode), meanwhile).await;
        }
        Ok(None)
    }

    /// Judges what there is after a run.
    async fn judge(&mut self, plan: &Plan, report: Option<RunReport>, mode: PlanMode) -> Result<(), String> {
        let now = State::of(&self.fixture);
        verdict::others_are_untouched(&self.expected, &now)?;
        verdict::nothing_is_lost(plan, &self.known, &self.expected, &now)?;
        let Some(report) = report else {
            self.of_a_failed_run(&now);
            return Ok(());
        };
        self.count(&format!("{:?}", report.result));
        let states: Vec<String> = report.vms.iter().map(|vm| format!("{} {:?}", vm.vm, vm.state)).collect();
        self.note(format!("ended {:?}: {}", report.result, states.join(", ")));
        self.said.push_str(&format!("{:?} {:?}", report.left, report.failures().collect::<Vec<_>>()));
        verdict::the_report_is_true(plan, &report, &self.expected, &now)?;
        verdict::no_name_is_dangling(&self.expected, &now)?;
        if report.result != RunResult::Done {
            self.of_a_failed_run(&now);
        } else {
            self.known.kept = verdict::kept_volumes(&now).into_keys().collect();
        }
        self.check_next_plan(plan, &report, &now, mode).await
    }

    /// What a run made that did not come to a good end may be removed by the next one.
    fn of_a_failed_run(&mut self, now: &State) {
        let made = now.volumes.keys().filter(|volume| !self.expected.volumes.contains_key(*volume)).cloned();
        self.known.of_failed_runs.extend(made.collect::<BTreeSet<_>>());
    }

    /// The next plan is empty or says why not, and names what is left over.
    async fn check_next_plan(
        &mut self,
        plan: &Plan,
        report: &RunReport,
        now: &State,
        mode: PlanMode,
    ) -> Result<(), String> {
        let is_disturbed =
            self.log.rsplit("- Deploy as").next().is_some_and(|since| since.contains("a person"));
        let next = self.plan(mode, false).await;
        let next = match next {
            Ok(next) => next,
            Err(refused) => {
                self.said.push_str(&refused);
                self.note(format!("the next plan is refused: {refused}"));
                return match report.result == RunResult::Done && !is_disturbed {
                    true => Err(format!("the run is done, and the same again is refused: {refused}")),
                    false => verdict::all_is_accounted_for(&self.expected, now, &self.said),
                };
            }
        };
        self.said.push_str(&format!("{:?}{:?}{:?}", next.notes, next.steps, next.changes));
        verdict::all_is_accounted_for(&self.expected, now, &self.said)?;
        let is_pending = report.vms.iter().any(|vm| vm.verb == Verb::UpdatePending);
        if report.result == RunResult::Done && !is_disturbed && !next.is_empty() && !is_pending {
            return Err(format!("the run is done, and the next plan is not empty:\n{}", listed(&next)));
        }
        let silent = next.changes.iter().find(|change| {
            change.verb != Verb::NoOp && change.reasons.is_empty() && mode == PlanMode::Deploy
        });
        match silent {
            Some(change) => {
                Err(format!("{:?} {} without a reason after {}", change.verb, change.vm, plan.run_id))
            }
            None => Ok(()),
        }
    }

    /// Deploys undisturbed until nothing is left to do, then destroys everything.
    async fn finish(&mut self) -> Result<(), String> {
        self.clear_faults();
        for mode in [PlanMode::Deploy, PlanMode::Destroy] {
            let mut was_done = true;
            for turn in 0.. {
                self.expected = State::of(&self.fixture);
                let plan = match self.plan(mode, false).await {
                    Ok(plan) => plan,
                    Err(refused) => {
                        self.refused(&refused);
                        self.check_refused()?;
                        break;
                    }
                };
                if plan.is_empty() {
                    self.count("came to rest");
                    break;
                }
                let text = self.spec.yaml();
                self.note(format!("{mode:?} as {} at the end\n{text}{}", plan.run_id, listed(&plan)));
                if turn > 4 && was_done {
                    return Err("it does not come to rest".to_owned());
                }
                // What is refused each time, and says why, waits for a person.
                if turn > 4 {
                    self.count("waits for a person");
                    break;
                }
                self.said = format!("{:?}", plan.notes);
                let run = plan.run_id.clone();
                let report =
                    self.carry(&run, Carry::Execute(Box::new(plan.clone())), Meanwhile::default()).await;
                let report = report.map_err(|error| format!("{error:?}"))?;
                was_done = report.result == RunResult::Done;
                self.judge(&plan, Some(report), mode).await?;
            }
        }
        Ok(())
    }

    async fn history(&mut self) -> Result<(), String> {
        for _ in 0..2 + self.draw.below(5) {
            let mode = if self.draw.percent(10) { PlanMode::Destroy } else { PlanMode::Deploy };
            self.round(mode).await?;
        }
        self.finish().await
    }
}

fn listed(plan: &Plan) -> String {
    let step = |step: &vmdeploy_planner::plan::Step| {
        format!(
            "    {} ({:?}): {}\n",
            step.id.0,
            step.transport,
            vmdeploy_planner::render::summary(&step.action)
        )
    };
    plan.steps.iter().map(step).collect()
}

/// What came of one history.
struct Played {
    runs: usize,
    seen: BTreeMap<String, usize>,
    failure: Option<String>,
}

async fn play(seed: u64) -> Played {
    let mut machine = Machine::start(seed).await;
    let result = tokio::time::timeout(LONGEST, machine.history()).await;
    let result = result.unwrap_or_else(|_| Err(format!("it is not over after {LONGEST:?}")));
    let log = std::mem::take(&mut machine.log);
    let failure = result.err().map(|why| format!("{log}\nseed {seed}: {why}\n"));
    Played { runs: machine.runs, seen: std::mem::take(&mut machine.seen), failure }
}

/// How many runs there are at least.
fn wanted() -> usize {
    match std::env::var("VMDEPLOY_TEST_RUNS") {
        Ok(number) => number.parse().expect("VMDEPLOY_TEST_RUNS is a number"),
        Err(_) if std::env::var_os("VMDEPLOY_TEST_ALL").is_some() => 10_000,
        Err(_) => 100,
    }
}

/// The first seed: always the same, unless property tests draw new cases, too.
fn first_seed() -> u64 {
    let drawn = || jiff::Timestamp::now().as_second().unsigned_abs() * 10_000;
    let number = |text: String| text.parse().expect("a seed is a number");
    let seed = std::env::var("VMDEPLOY_TEST_SEED").or_else(|_| std::env::var("PROPTEST_RNG_SEED"));
    seed.map_or_else(|_| drawn(), number)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_nothing_of_others_is_touched_and_every_word_is_true() {
    let (first, wanted) = (first_seed(), wanted());
    let only_one =
        std::env::var_os("VMDEPLOY_TEST_SEED").is_some() && std::env::var_os("VMDEPLOY_TEST_RUNS").is_none();
    let mut histories =
        futures::stream::iter(first..).map(|seed| tokio::spawn(play(seed))).buffer_unordered(4);
    let (mut runs, mut seen, mut failures) = (0, BTreeMap::<String, usize>::new(), Vec::new());
    while let Some(played) = histories.next().await {
        let played = played.unwrap();
        runs += played.runs;
        played.seen.into_iter().for_each(|(what, count)| *seen.entry(what).or_default() += count);
        failures.extend(played.failure);
        if runs >= wanted || only_one || failures.len() >= 5 {
            break;
        }
    }
    println!("{runs} runs from seed {first}: {seen:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n----\n"));
    for what in ["Done", "RolledBack", "plan refused", "killed", "resumed", "person", "came to rest"] {
        assert!(only_one || seen.contains_key(what), "nothing ended as `{what}`: {seen:?}");
    }
}
