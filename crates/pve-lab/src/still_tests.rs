//! For tests: worlds whose time goes on only when everything waits for it. What they show is exact on any machine.

use std::future::Future;
use std::time::Duration;

use crate::world::{Delays, World, WorldHandle, WorldSpec};

/// The demo's world with the delays of a real node.
pub(crate) fn world() -> WorldHandle {
    let mut world = World::new(&WorldSpec { delays: Delays::real(), ..WorldSpec::demo() }, 1);
    world.clock.stand_still();
    WorldHandle::new(world)
}

/// Begins all of these at once; returns what each gives, and how many milliseconds of the world's time it took.
pub(crate) fn run<T, W>(world: &WorldHandle, works: Vec<W>) -> Vec<(u64, T)>
where
    T: Send + 'static,
    W: Future<Output = T> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let now = |world: &WorldHandle| world.with(|world| world.now()) / 1000;
    let began = now(world);
    runtime.block_on(async {
        let timed = works.into_iter().map(|work| {
            let world = world.clone();
            tokio::spawn(async move {
                let result = work.await;
                (now(&world) - began, result)
            })
        });
        let timed: Vec<_> = timed.collect();
        while !timed.iter().all(tokio::task::JoinHandle::is_finished) {
            // Whatever can continue on its own does so first.
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            world.with(|world| {
                if let Some(due) = world.next_due() {
                    let wait = due.saturating_sub(world.now());
                    world.clock.skip(Duration::from_micros(wait));
                }
            });
        }
        futures::future::join_all(timed).await.into_iter().map(Result::unwrap).collect()
    })
}
