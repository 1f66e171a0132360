use super::*;
use proptest::prelude::*;

const COMMANDS: Looks = Looks::Commands { patience: Duration::from_secs(50_000) };
const REQUESTS: Looks = Looks::Requests { poll: Duration::from_millis(500) };
/// What a look takes.
const LOOK: Duration = Duration::from_millis(850);

fn kind() -> Kind {
    Kind { node: "pve1".parse().unwrap(), condition: "address" }
}

fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

/// A guest: when its wait begins, and how long it takes from then on.
type Guest = (f64, f64);

/// How often a guest was looked at, and how long after it was ready it was seen, in seconds.
#[derive(Debug, PartialEq)]
struct Seen {
    looks: u32,
    late: f64,
}

/// Lets guests be waited for, look after look, without waiting. Only one look is made at a time.
fn wait_for(looks: Looks, guests: &[Guest]) -> Vec<Seen> {
    let pace = Pace::default();
    let cost = if looks == REQUESTS { LOOK / 50 } else { LOOK };
    let zero = Instant::now();
    let begin = |guest: &Guest| begin_at(&pace, looks, zero + seconds(guest.0));
    let mut waiters: Vec<_> = guests.iter().map(begin).collect();
    let mut seen: Vec<(u32, Option<Instant>)> = vec![(0, None); guests.len()];
    let mut now = zero;
    while seen.iter().any(|(_, at)| at.is_none()) {
        let waiting = (0..guests.len()).filter(|index| seen[*index].1.is_none());
        let (at, index) = waiting.map(|index| (waiters[index].next_look(), index)).min().unwrap();
        now = now.max(at);
        seen[index].0 += 1;
        let asked = now;
        if asked >= waiters[index].began + seconds(guests[index].1) {
            waiters[index].found(asked);
            seen[index].1 = Some(asked);
            waiters[index].retire(pace.lock());
        } else {
            waiters[index].not_yet(asked, asked + cost);
        }
        now += cost;
    }
    let late = |at: Instant, guest: &Guest| (at - zero).as_secs_f64() - guest.0 - guest.1;
    seen.into_iter()
        .zip(guests)
        .map(|((looks, at), guest)| Seen { looks, late: late(at.unwrap(), guest) })
        .collect()
}

/// One after the other, as a node makes them.
fn staggered(count: u32, apart: f64, takes: f64) -> Vec<Guest> {
    (0..count).map(|number| (f64::from(number) * apart, takes)).collect()
}

#[test]
fn what_one_guest_took_the_others_take_too() {
    let all = wait_for(COMMANDS, &staggered(12, 4.0, 12.0));
    assert!(all.iter().map(|seen| seen.looks).sum::<u32>() < 26, "{all:?}");
    assert!(all[11].looks <= 2 && all[11].late < 1.1, "{all:?}");
    let all = wait_for(REQUESTS, &staggered(20, 1.0, 12.0));
    assert!(all.iter().map(|seen| seen.looks).sum::<u32>() < 20 * 14, "{all:?}");
    assert!(all[19].late < 0.25, "{all:?}");
}

#[test]
fn guests_that_come_up_together_are_looked_at_once_by_command() {
    let all = wait_for(COMMANDS, &[(0.0, 12.0); 10]);
    assert_eq!(all.iter().filter(|seen| seen.looks == 1).count(), 9, "{all:?}");
    assert!(all.iter().all(|seen| seen.late < 12.0), "ten looks take 8.5 s: {all:?}");
}

#[test]
fn a_guest_that_takes_longer_is_looked_at_again() {
    for looks in [COMMANDS, REQUESTS] {
        let all = wait_for(looks, &[(0.0, 12.0), (0.0, 60.0)]);
        assert!((2..70).contains(&all[1].looks) && all[1].late < 8.0, "{all:?}");
    }
}

#[test]
fn a_quick_guest_after_a_slow_one_is_seen_in_time() {
    let all = wait_for(REQUESTS, &[(0.0, 60.0), (61.0, 12.0), (80.0, 12.0)]);
    assert!(all[1].late < 4.1, "{all:?}");
    assert!(all[2].late < all[1].late + 0.1, "{all:?}");
    let all = wait_for(COMMANDS, &[(0.0, 60.0), (61.0, 12.0)]);
    assert!(all[1].late < 16.0, "{all:?}");
}

#[test]
fn a_scout_that_never_sees_it_delays_no_other_wait() {
    let all = wait_for(COMMANDS, &[(0.0, 1000.0), (0.0, 12.0)]);
    assert!(all[1].late < 5.0, "{all:?}");
    let all = wait_for(REQUESTS, &[(0.0, 1000.0), (0.0, 12.0)]);
    assert!(all[1].late < 4.1, "{all:?}");
}

#[test]
fn a_scout_that_gives_up_is_followed_by_another() {
    let pace = Pace::default();
    let first = pace.begin(kind(), COMMANDS);
    assert_eq!(first.next_look(), first.began);
    let second = pace.begin(kind(), COMMANDS);
    assert_eq!(second.next_look(), second.began + SELDOM);
    drop(first);
    assert_eq!(second.next_look(), second.began);
}

#[test]
fn what_the_node_works_at_goes_before_commands_and_not_before_requests() {
    let pace = Pace::default();
    let patience = Duration::from_secs(150);
    let waiter = pace.begin(kind(), Looks::Commands { patience });
    let light = pace.begin(Kind { condition: "agent", ..kind() }, REQUESTS);
    let (first, second) = (pace.work(kind().node), pace.work(kind().node));
    let elsewhere = pace.work("pve2".parse().unwrap());
    assert_eq!(waiter.next_look(), waiter.began + patience, "though it is the scout");
    assert_eq!(light.next_look(), light.began);
    drop(first);
    assert_eq!(waiter.next_look(), waiter.began + patience, "the other one still goes on");
    drop(second);
    assert_eq!(waiter.next_look(), waiter.began);
    drop(elsewhere);
}

#[tokio::test]
async fn a_turn_comes_when_another_wait_has_seen_it() {
    let pace = Pace::default();
    let (scout, other) = (pace.begin(kind(), COMMANDS), pace.begin(kind(), COMMANDS));
    let until = scout.began + Duration::from_secs(3600);
    scout.turn(until).await;
    let (asked, _) = (scout.began, scout.found(scout.began));
    // What took no time at all is there at once; without the news it were 15 s.
    other.turn(until).await;
    assert!(asked.elapsed() < SELDOM);
}

/// What became of a guest: when it was looked at, counted from the beginning of its wait, and whether it was found.
#[derive(Debug)]
struct Story {
    asked: Vec<Duration>,
    found: bool,
}

const DEADLINE: Duration = Duration::from_secs(600);

/// What a wait does next.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    Begin,
    Ask,
    Answer,
}

/// A wait by a clock of its own.
struct Actor<'a> {
    waiter: Option<Waiter<'a>>,
    news: Option<std::pin::Pin<Box<tokio::sync::futures::OwnedNotified>>>,
    next: Option<(Instant, Next)>,
    began: Instant,
    story: Story,
}

impl Actor<'_> {
    /// Does what [`Waiter::turn`] does, but for the waiting.
    fn turn(&mut self, now: Instant) {
        let Some(waiter) = &self.waiter else { return };
        let mut news = Box::pin(waiter.news.clone().notified_owned());
        news.as_mut().enable();
        self.news = Some(news);
        self.next = Some((waiter.next_look().min(self.began + DEADLINE).max(now), Next::Ask));
    }
    fn is_told(&mut self) -> bool {
        let waits = matches!(self.next, Some((_, Next::Ask)));
        waits && self.news.as_mut().is_some_and(|news| news.as_mut().enable())
    }
}

/// Lets guests be waited for as steps do it, all looks at the same time, without waiting.
fn stories(looks: Looks, guests: &[(Duration, Duration)], cost: Duration) -> Vec<Story> {
    let pace = Pace::default();
    let zero = Instant::now();
    let actor = |(begins, _): &(Duration, Duration)| Actor {
        waiter: None,
        news: None,
        next: Some((zero + *begins, Next::Begin)),
        began: zero + *begins,
        story: Story { asked: Vec::new(), found: false },
    };
    let mut actors: Vec<Actor<'_>> = guests.iter().map(actor).collect();
    while let Some((now, index)) =
        actors.iter().enumerate().filter_map(|(index, actor)| Some((actor.next?.0, index))).min()
    {
        let actor = &mut actors[index];
        match actor.next.take().map(|(_, next)| next) {
            Some(Next::Begin) => {
                actor.waiter = Some(begin_at(&pace, looks, now));
                actor.turn(now);
            }
            Some(Next::Ask) => {
                actor.story.asked.push(now - actor.began);
                actor.next = Some((now + cost, Next::Answer));
            }
            _ => {
                let asked = now - cost;
                actor.story.found = asked >= actor.began + guests[index].1;
                match &mut actor.waiter {
                    Some(waiter) if actor.story.found => waiter.found(asked),
                    Some(waiter) => waiter.not_yet(asked, now),
                    None => {}
                }
                if actor.story.found || now >= actor.began + DEADLINE {
                    actor.waiter = None;
                }
                actor.turn(now);
            }
        }
        for actor in &mut actors {
            if actor.is_told() {
                actor.turn(now);
            }
        }
    }
    actors.into_iter().map(|actor| actor.story).collect()
}

/// Begins a wait at a moment of the test's.
fn begin_at(pace: &Pace, looks: Looks, now: Instant) -> Waiter<'_> {
    let mut waiter = pace.begin(kind(), looks);
    let mut state = pace.lock();
    let waiting = &mut state.kinds.get_mut(&kind()).unwrap().waiting;
    waiting.remove(&(waiter.began, waiter.number));
    waiter.began = now;
    waiting.insert((waiter.began, waiter.number));
    drop(state);
    waiter
}

/// Guests that begin at any time and take any time; some never come up.
fn any_guests() -> impl Strategy<Value = Vec<(Duration, Duration)>> {
    let takes = prop_oneof![8 => 0_u64..120_000, 2 => 11_000_u64..13_000, 1 => 0_u64..900_000];
    let guest = (0_u64..90_000, takes);
    let millis = Duration::from_millis;
    prop::collection::vec(guest.prop_map(move |(begins, takes)| (millis(begins), millis(takes))), 1..24)
}

/// The longest and the least pause, and how many looks a wait of that length may take.
fn promised(looks: Looks, cost: Duration, waited: Duration) -> (Duration, Duration, u128) {
    let (longest, least, usual) = match looks {
        Looks::Requests { poll } => (poll * 8, poll / 5, poll * 4),
        Looks::Commands { .. } => (LONGEST, cost, LONGEST),
    };
    (longest, least, 90 + waited.as_millis() / usual.as_millis())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_guest_is_found_in_time_by_few_looks(
        guests in any_guests(),
        cost in 100_u64..900,
        looks in prop_oneof![Just(COMMANDS), Just(REQUESTS)],
    ) {
        let cost = Duration::from_millis(cost);
        for (story, (_, takes)) in stories(looks, &guests, cost).iter().zip(&guests) {
            let last = *story.asked.last().unwrap();
            let (longest, least, most) = promised(looks, cost, last);
            prop_assert!(story.found || *takes + cost > DEADLINE, "{takes:?} is missed: {story:?}");
            prop_assert!(last <= DEADLINE, "a look after the end: {story:?}");
            if story.found {
                prop_assert!(last - *takes <= longest + cost, "{takes:?} is seen late: {story:?}");
            }
            prop_assert!(story.asked.len() as u128 <= most, "{takes:?}: {} looks", story.asked.len());
            for pair in story.asked.windows(2) {
                let is_kept = pair[1] - pair[0] >= cost + least || pair[1] == DEADLINE;
                prop_assert!(is_kept, "{takes:?} is asked without a pause: {story:?}");
            }
        }
    }
}

/// Counts how often a task is woken.
#[derive(Default)]
struct Woken(std::sync::atomic::AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[tokio::test]
async fn no_wait_is_woken_by_an_unrelated_event() {
    let pace = Pace::default();
    let far: NodeName = "pve2".parse().unwrap();
    let scout = pace.begin(kind(), COMMANDS);
    let elsewhere = pace.begin(Kind { node: far.clone(), ..kind() }, COMMANDS);
    let (waiter, woken) = (pace.begin(kind(), COMMANDS), Arc::new(Woken::default()));
    let mut turn = std::pin::pin!(waiter.turn(waiter.began + Duration::from_secs(3600)));
    let waker = std::task::Waker::from(woken.clone());
    let mut context = std::task::Context::from_waker(&waker);
    let count = || woken.0.load(std::sync::atomic::Ordering::Relaxed);
    assert!(turn.as_mut().poll(&mut context).is_pending());
    drop(pace.work(far));
    elsewhere.found(elsewhere.began);
    drop(elsewhere);
    assert_eq!(count(), 0, "that was another node's");
    drop(scout);
    assert_eq!(count(), 1, "it is the scout now");
}
