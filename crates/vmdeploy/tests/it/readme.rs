//! The terminal picture in README.md is what `vmdeploy demo` prints.

use crate::tidy::{assert_none, read};
use crate::transcript::Session;

const BEGIN: &str = "<!-- demo: begin (printed by `make demo`; a test compares it) -->";
const END: &str = "<!-- demo: end -->";

/// Returns the line without what differs between runs: numbers, and the width of columns.
fn stable(line: &str) -> String {
    // The demo's spec is a temporary file where the repository is not the working folder.
    let line = if line.starts_with("$ ") {
        line.rsplit_once(' ').map_or(line, |(command, _)| command)
    } else {
        line
    };
    let masked: String = line.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
    let words = masked.split_whitespace().map(|word| {
        let mut word = word.replace('.', "#");
        while word.contains("##") {
            word = word.replace("##", "#");
        }
        // A step that takes longer than a second is shown in seconds.
        word.replace("#ms", "#s")
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_terminal_picture_in_the_readme_is_printed_by_the_demo() {
    let readme = read("README.md");
    let block = readme
        .split(BEGIN)
        .nth(1)
        .and_then(|rest| rest.split(END).next())
        .expect("README.md has the picture");
    let output = Session::new().output(&["demo"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = [output.stdout, output.stderr].concat();
    let printed: Vec<String> = String::from_utf8_lossy(&printed).lines().map(stable).collect();
    let shown = block
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with("```") && line.trim() != "…");
    let missing: Vec<String> =
        shown.filter(|line| !printed.contains(&stable(line))).map(str::to_owned).collect();
    assert_none("`vmdeploy demo` does not print", &missing);
    assert!(block.lines().count() > 20, "the picture is there");
}
