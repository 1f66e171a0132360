//! The `pvesh` transport: the same calls as command lines on a node.
//!
//! Everybody on a node can read a process's arguments, so a call that carries a secret is refused here.
//! `pvesh` waits for a task to end before it prints the UPID; so that a long task can be followed, its UPID is
//! looked up in the node's task list while `pvesh` still runs. What the node's files tell as well is read from them.

mod files;
mod output;
mod qm;
mod transport;

pub use output::{PveshFailure, PveshOutput};
pub use transport::{PveshRunner, PveshTransport, pvesh_argv};
