//! The plain rule, which the lanes must not differ from: walk all steps that may begin, the longest chain first, then in
//! the plan's order, and start each that has room. Everything is counted again each time.

use super::*;
use proptest::prelude::*;
use pve_types::Vmid;

impl Scheduler {
    /// Takes what happened as [`Scheduler::on`] does, and starts steps by the plain rule.
    fn on_plainly(&mut self, input: Input) -> Vec<Command> {
        let mut commands = self.take(input);
        commands.extend(self.next_by(Self::start_plainly));
        commands
    }

    fn start_plainly(&mut self, commands: &mut Vec<Command>) {
        let is_open = |place: &usize| !is_done(self.nodes[*place].state);
        let ended = self.ended_plainly();
        let may_begin = |place: &usize| {
            let node = &self.nodes[*place];
            let follows_nothing_open = node.follows.iter().all(|before| ended[*before]);
            matches!(node.state, State::Ready { .. })
                && !node.before.iter().any(is_open)
                && follows_nothing_open
        };
        let mut places: Vec<usize> = (0..self.nodes.len()).filter(may_begin).collect();
        places.sort_by_key(|place| (Reverse(self.nodes[*place].height), *place));
        for place in places {
            let State::Ready { probe } = self.nodes[place].state else { unreachable!() };
            if !self.has_room_plainly(&self.nodes[place].task.claims) {
                continue;
            }
            commands.push(self.started(place, probe));
        }
    }

    /// Tells of each step whether it has ended, in the plan's order, in which all that counts stands before.
    fn ended_plainly(&self) -> Vec<bool> {
        let mut ended = vec![false; self.nodes.len()];
        for (place, node) in self.nodes.iter().enumerate() {
            ended[place] = match node.state {
                State::Done { .. } | State::Failed { .. } | State::RolledBack | State::RevertFailed => true,
                State::Skipped { .. } => node.before.iter().chain(&node.follows).all(|before| ended[*before]),
                _ => false,
            };
        }
        ended
    }

    fn has_room_plainly(&self, desired: &Claims) -> bool {
        let taken: Vec<&Claims> = self.nodes.iter().filter_map(|node| node.claims_in(node.state)).collect();
        let count =
            |is_alike: &dyn Fn(&Claims) -> bool| taken.iter().filter(|claims| is_alike(claims)).count();
        let is_below = |count: usize, limit: u32| count < limit.max(1) as usize;
        let on_node = |claims: &Claims| (&claims.node, claims.by_ssh) == (&desired.node, desired.by_ssh);
        desired.writes.iter().all(|vmid| count(&|claims| touches(claims, *vmid)) == 0)
            && desired.copies.is_none_or(|source| {
                count(&|claims| claims.writes.contains(&source)) == 0
                    && is_below(count(&|claims| claims.copies == Some(source)), self.limits.per_source)
            })
            && (desired.node.is_none() || is_below(count(&on_node), self.limits.per_node))
            && desired.storages.iter().all(|storage| {
                is_below(count(&|claims| claims.storages.contains(storage)), self.limits.per_storage)
            })
    }
}

fn touches(claims: &Claims, vmid: Vmid) -> bool {
    claims.writes.contains(&vmid) || claims.copies == Some(vmid)
}

/// Claims of few nodes, storages and guests, so that they meet.
fn any_claims() -> impl Strategy<Value = Claims> {
    let vmid = |number: u32| Vmid::new(200 + number).unwrap();
    let parts = (
        prop::collection::btree_set(0_u32..5, 0..3),
        prop::option::of(0_u32..5),
        prop::option::of(0_u8..2),
        any::<bool>(),
        prop::collection::btree_set(0_u8..3, 0..3),
    );
    parts.prop_map(move |(writes, copies, node, by_ssh, storages)| Claims {
        // No step copies what it writes to.
        copies: copies.filter(|copied| !writes.contains(copied)).map(vmid),
        writes: writes.into_iter().map(vmid).collect(),
        node: node.map(|node| format!("pve{node}").parse().unwrap()),
        by_ssh,
        storages: storages.into_iter().map(|storage| format!("st{storage}").parse().unwrap()).collect(),
    })
}

fn any_past() -> impl Strategy<Value = Past> {
    let begun = [Past::Begun, Past::Done { changed: true }, Past::Done { changed: false }, Past::Reverting];
    prop_oneof![12 => Just(Past::None), 1 => prop::sample::select(begun.to_vec())]
}

/// Up to forty steps of six VMs, the last of which stands for what several share.
fn any_tasks() -> impl Strategy<Value = Vec<Task>> {
    let befores = || prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    let row = (0_u8..6, any_claims(), prop::option::of(any_claims()), any_past(), befores(), befores());
    prop::collection::vec(row, 1..40).prop_map(|rows| {
        let id = |place: usize| StepId(format!("s{place}"));
        let task = |(place, (vm, claims, revert, past, befores, follows)): (
            usize,
            (_, _, _, _, Vec<prop::sample::Index>, Vec<prop::sample::Index>),
        )| {
            let ids = |befores: Vec<prop::sample::Index>| {
                befores.iter().filter(|_| place > 0).map(|before| id(before.index(place))).collect()
            };
            let (after, follows) = (ids(befores), ids(follows));
            let vm = Some(vm).filter(|vm: &u8| *vm < 5).map(|vm| format!("vm{vm}").parse().unwrap());
            Task { id: id(place), vm, after, follows, claims, revert, is_wait: false, past }
        };
        rows.into_iter().enumerate().map(task).collect()
    })
}

/// What may happen to a step that is on the wire, waits or is being rolled back.
fn any_end(command: &Command, way: u8) -> Option<Input> {
    Some(match command {
        Command::Start { step, .. } => {
            let verdict = match way {
                0 => Verdict::Again,
                1 => Verdict::AgainAfterProbe,
                2 => Verdict::Final(TookEffect::No),
                3 => Verdict::Final(TookEffect::Maybe),
                _ => return Some(Input::Succeeded { step: step.clone(), changed: way.is_multiple_of(2) }),
            };
            Input::Failed { step: step.clone(), verdict }
        }
        Command::Wait { step, .. } => Input::Waited { step: step.clone() },
        Command::Revert { step } if way == 0 => Input::RevertFailed { step: step.clone() },
        Command::Revert { step } => Input::RevertFinished { step: step.clone() },
        Command::GiveUp | Command::Finish { .. } => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lanes_start_what_the_plain_rule_starts(
        tasks in any_tasks(),
        limits in (0_u32..4, 0_u32..4, 0_u32..3),
        revert in any::<bool>(),
        ends in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..24), 160),
        stop_at in prop::option::of(0_usize..80),
    ) {
        let (per_node, per_storage, per_source) = limits;
        let on_failure = if revert { OnFailure::Rollback } else { OnFailure::Keep };
        let vms = tasks.iter().filter_map(|task| task.vm.clone());
        let rules = Rules {
            limits: Limits { per_node, per_storage, per_source },
            attempts: 3,
            on_failure: vms.map(|vm| (vm, on_failure)).collect(),
            rollback_all: false,
        };
        let mut lanes = Scheduler::new(tasks, rules);
        let mut plain = lanes.clone();
        let mut open: Vec<Command> = Vec::new();
        let mut input = Input::Begin;
        for (turn, (pick, way)) in ends.iter().enumerate() {
            let commands = lanes.on(input.clone());
            prop_assert_eq!(&commands, &plain.on_plainly(input), "turn {}", turn);
            open.extend(commands.into_iter().filter(|command| any_end(command, *way).is_some()));
            if open.is_empty() {
                break;
            }
            input = match stop_at {
                Some(at) if at == turn => Input::Stop(Stop::WhenIdle),
                _ => any_end(&open.remove(pick.index(open.len())), *way).unwrap(),
            };
        }
    }
}
