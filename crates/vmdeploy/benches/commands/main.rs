//! How long whole commands take: the program against the embedded PVE, compared with other tools.
//!
//! `make bench` runs it with optimization; `cargo bench --package vmdeploy --bench commands -- deploy idle` runs parts.
//! Each part's tables go to stdout, and into docs/benchmarks.md between that part's markers. Every figure of a table is
//! of one run. What this machine lacks is said and left out.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its results")]

mod addresses;
mod baselines;
mod deploy;
mod document;
mod floor;
mod ground;
mod idle;
mod measure;
mod planning;
mod scale;
mod start_up;
mod uploads;

use document::{Document, Table};

/// A part of the document: its name, and what measures it.
type Part = (&'static str, fn() -> Vec<Table>);

const PARTS: [Part; 7] = [
    ("deploy", deploy::tables),
    ("idle", idle::tables),
    ("planning", planning::tables),
    ("addresses", addresses::tables),
    ("uploads", uploads::tables),
    ("start-up", start_up::tables),
    ("scale", scale::tables),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let unknown = words.iter().find(|word| !PARTS.iter().any(|(name, _)| name == word));
    if let Some(word) = unknown {
        let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
        eprintln!("bench: there is no part `{word}`; there are {}", names.join(", "));
        std::process::exit(2);
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut document = Document::open();
    for (name, measure) in
        PARTS.iter().filter(|(name, _)| words.is_empty() || words.iter().any(|w| w == name))
    {
        eprintln!("bench: {name} …");
        let text = document::text_of(&measure());
        print!("{text}");
        document.replace(name, &text);
    }
    document.replace("machine", &document::machine());
    document.write();
}
