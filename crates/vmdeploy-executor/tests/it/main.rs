//! Runs over the lab's real doors: HTTPS with a pinned certificate, SSH with a checked host key.

mod after_kill;
mod deploy;
mod disks;
mod documents;
mod doors;
mod draw;
mod ends;
mod failures;
mod fixture;
mod journal;
mod killed;
mod late;
mod loaded;
mod locks;
mod machine;
mod media;
mod nodes;
mod recovery;
mod rich;
mod spec;
mod surroundings;
mod waits;
