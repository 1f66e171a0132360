//! Which host keys are believed: OpenSSH's `known_hosts`, by rules of our own that are at least as strict.
//!
//! russh's reader accepts a revoked key, passes wildcards and authorities over, and takes a key of a new type for
//! an unknown host. So the files are read and judged here: [`entry`] reads lines, [`judge`] decides.

mod entry;
mod judge;
mod verifier;

pub use judge::{ChangedHostKey, HostKeyError, UnknownHostKey, Verdict};
pub(crate) use verifier::Verifier;

pub use entry::{Entry, HostName, Marker, Patterns, parse};
pub use judge::judge;
