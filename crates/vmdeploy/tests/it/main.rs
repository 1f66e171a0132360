//! Integration tests of the program: the house rules, the documents, and whole transcripts of commands.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics when something is not as expected, and explains it on the terminal"
)]

mod commands;
mod deploying;
mod documents;
mod lab_run;
mod readme;
mod tidy;
mod transcript;
