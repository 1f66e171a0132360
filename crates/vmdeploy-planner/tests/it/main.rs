//! What the planner does as a whole, by public interfaces only; plans against a small pure model of PVE.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test panics when something is not as expected, and explains it on the terminal"
)]

mod adopting;
mod deploy;
mod deployments;
mod documents;
mod draft;
mod forms;
mod generator;
mod groups;
mod identities;
mod images;
mod keeping;
mod mappings;
mod nasty;
mod order;
mod outdated;
mod pools;
mod properties;
mod pve;
mod semantics;
mod spec_faults;
mod spec_files;
mod spec_import;
mod spec_schema;
mod specs;
mod volumes;
