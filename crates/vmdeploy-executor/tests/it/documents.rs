//! The documents say what the code does.

use std::path::PathBuf;

fn document(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// Returns the names that an enum of the source serializes its variants as.
fn variants(source: &str, name: &str) -> Vec<String> {
    let body = source.split(&format!("pub enum {name} {{\n")).nth(1).unwrap();
    let body = body.split("\n}\n").next().unwrap();
    let is_variant = |line: &&str| line.starts_with("    ") && line.as_bytes()[4].is_ascii_uppercase();
    let snake = |line: &str| {
        let name: String = line.trim().chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        let mut out = String::new();
        for c in name.chars() {
            if c.is_ascii_uppercase() && !out.is_empty() {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        }
        out
    };
    body.lines().filter(is_variant).map(snake).collect()
}

#[test]
fn every_event_is_documented_and_no_other() {
    let document = document("events.md");
    let names = variants(include_str!("../../src/event.rs"), "EventKind");
    assert!(names.len() >= 13, "{names:?}");
    for name in &names {
        assert!(document.contains(&format!("### `{name}`")), "docs/events.md says nothing of `{name}`");
    }
    let headings = document.lines().filter(|line| line.starts_with("### `")).count();
    assert_eq!(headings, names.len(), "docs/events.md has a heading for an event that there is not");
}

#[test]
fn every_journal_record_is_documented_and_no_other() {
    let document = document("journal.md");
    let names = variants(include_str!("../../src/journal/record.rs"), "Entry");
    for name in &names {
        assert!(document.contains(&format!("| `{name}` |")), "docs/journal.md says nothing of `{name}`");
    }
    assert_eq!(document.matches("\n| `").count(), names.len());
}

#[test]
fn every_transient_error_of_pve_is_documented_as_the_table_has_it() {
    use pve_types::{Reaction, STATUSES, TEXTS, TookEffect};
    let document = document("failures.md");
    let word = |reaction: Reaction| match reaction {
        Reaction::Retry => "retry",
        Reaction::Probe => "probe",
        Reaction::Stop => "stop",
    };
    let changed = |effect: TookEffect| match effect {
        TookEffect::No => "no",
        TookEffect::Maybe => "maybe",
        TookEffect::Yes => "yes",
    };
    let assert_row = |text: String, source: &str, effect: TookEffect, reaction: Reaction| {
        let row = format!("| {text} | {source} | {} | {} |", changed(effect), word(reaction));
        assert!(document.lines().any(|line| line == row), "docs/failures.md has no row {row}");
    };
    for row in TEXTS.iter().filter(|row| row.reaction != Reaction::Stop) {
        let text = row.parts.join("…");
        assert_row(format!("`{}`", text.trim()), row.source, row.effect, row.reaction);
    }
    for (status, _, effect, reaction, source) in STATUSES {
        assert_row(format!("HTTP {status}"), source, *effect, *reaction);
    }
}
