//! Runs against the lab: HTTPS with a pinned certificate, SSH with a verified host key.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics when something is not as expected, and explains it on the terminal"
)]

mod actions_on_lab;
mod after_kill;
mod deploy;
mod disks;
mod documents;
mod draw;
mod ends;
mod failures;
mod fixture;
mod journal;
mod kept;
mod killed;
mod late;
mod loaded;
mod locks;
mod machine;
mod media;
mod nodes;
mod recovery;
mod rich;
mod safety;
mod spec;
mod surroundings;
mod waits;
