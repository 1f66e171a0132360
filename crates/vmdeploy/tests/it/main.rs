//! Integration tests of the program: the house rules, the documents, and whole transcripts of commands.

mod commands;
mod deploying;
mod documents;
mod lab_run;
mod tidy;
mod transcript;
